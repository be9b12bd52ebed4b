#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect: the sockets of this machine, one socket, and original destinations.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | port 80: TPROXY to 3129, port 81: REDIRECT to 3130

bats_require_minimum_version 1.5.0
load lib/lab
load lib/see

setup() {
	lab_up
}

teardown() {
	lab_down
}

# hold: a listener that keeps intercepted connections, and one connection of each family.
hold() {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen --hold 0 --listener-mark 0x30 3129
	wait_listen proxy '[::1]:3129'
	bg four client socat -u TCP:198.51.100.2:80,sourceport=40001 -
	bg six client socat -u 'TCP:[2001:db8:2::2]:80,sourceport=40002' -
	wait_line listen.out :40001
	wait_line listen.out :40002
}

# hold_redirected: the same by REDIRECT.
hold_redirected() {
	redirect_to 81 3130
	bg redirected proxy tproxy-listen --hold 0 --redirect 3130
	wait_listen proxy '[::]:3130'
	bg four_redirected client socat -u TCP:198.51.100.2:81,sourceport=40003 -
	bg six_redirected client socat -u 'TCP:[2001:db8:2::2]:81,sourceport=40004' -
	wait_line redirected.out :40003
	wait_line redirected.out :40004
}

@test "sockets: both ends, flag, mark, owner of transparent sockets only" {
	hold
	hold_redirected
	local pid
	pid=$(pid_of listen)
	run on proxy tproxy-inspect
	assert_success
	assert_line --index 0 --regexp '^PROTO +STATE +LOCAL +PEER +TRANSPARENT +MARK +PID +PROG +FD$'
	assert_line --regexp "^tcp +LISTEN +127\.0\.0\.1:3129 +- +yes +0x30 +$pid +tproxy-listen +[0-9]+\$"
	assert_line --regexp "^tcp +LISTEN +\[::1\]:3129 +- +yes +0x30 +$pid +tproxy-listen +[0-9]+\$"
	assert_line --regexp \
		"^tcp +ESTAB +198\.51\.100\.2:80 +192\.0\.2\.2:40001 +yes +0x30 +$pid +tproxy-listen +[0-9]+\$"
	assert_line --regexp \
		"^tcp +ESTAB +\[2001:db8:2::2\]:80 +\[2001:db8:1::2\]:40002 +yes +0x30 +$pid +tproxy-listen +[0-9]+\$"
	assert_equal "${#lines[@]}" 5
}

@test "sockets -a shows the others, too, and says which are transparent" {
	hold
	hold_redirected
	run on proxy tproxy-inspect sockets -a -H -o state,local,peer,transparent
	assert_line --regexp '^LISTEN +0\.0\.0\.0:3130 +- +no$'
	assert_line --regexp '^LISTEN +\[::\]:3130 +- +no$'
	assert_line --regexp '^LISTEN +127\.0\.0\.1:3129 +- +yes$'
	assert_line --regexp '^ESTAB +192\.0\.2\.1:3130 +192\.0\.2\.2:40003 +no$'
}

@test "the filters select" {
	hold
	hold_redirected
	local pid
	pid=$(pid_of redirected)
	bg udp proxy socat -u UDP-RECV:5353,bind=192.0.2.1 -
	wait_listen proxy 5353 udp
	count() { # how many sockets these options leave
		on proxy tproxy-inspect -aH -o local,peer "$@" | wc -l
	}
	assert_equal "$(count)" 8
	assert_equal "$(count -4)" 4
	assert_equal "$(count -6)" 4
	assert_equal "$(count -u)" 1
	assert_equal "$(count -t -u)" 9
	assert_equal "$(count --state LISTEN)" 4
	assert_equal "$(count --state estab,listening)" 8
	assert_equal "$(count --state TIME-WAIT)" 0
	assert_equal "$(count --local 198.51.100.0/24)" 1
	assert_equal "$(count --local '*:80')" 2
	assert_equal "$(count --peer '[2001:db8:1::/64]:40000-40010')" 2
	assert_equal "$(count --peer 192.0.2.2:40001 --peer 192.0.2.2:40003)" 2
	assert_equal "$(count --mark 0x30)" 4
	assert_equal "$(count --mark 0x0/0xff)" 4
	assert_equal "$(count --pid "$pid")" 4
	assert_equal "$(count --prog tproxy-listen)" 8
	assert_equal "$(count --prog nobody)" 0
	run on proxy tproxy-inspect -H --transparent --prog tproxy-listen
	assert_equal "${#lines[@]}" 4
}

@test "sockets --json: one object per line; unknown fields are absent" {
	hold
	run bash -c "$(declare -f on)"'; on proxy tproxy-inspect --json | jq -ce "
		select(.state == \"ESTAB\" and .local.port == 80 and .local.addr == \"198.51.100.2\") |
		[.v, .type, .proto, .local, .peer, .mark, .transparent, .prog, (.pid > 0), (.fd > 2), .cookie[0:2]]"'
	assert_output '[1,"socket","tcp",{"addr":"198.51.100.2","port":80},{"addr":"192.0.2.2","port":40001},"0x30",true,"tproxy-listen",true,true,"0x"]'
	run bash -c "$(declare -f on)"'; on proxy tproxy-inspect --json --state LISTEN | jq -ce "has(\"peer\")" | sort -u'
	assert_output false
}

@test "a TIME-WAIT socket: the kernel does not report whether it is transparent" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen 3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80 sourceport=40001
	assert_success
	wait_until 5 on proxy sh -c 'ss -Htn state time-wait | grep -q 40001'
	run on proxy tproxy-inspect -aH --state time-wait -o local,peer,transparent,pid
	assert_output --regexp '^198\.51\.100\.2:80 +192\.0\.2\.2:40001 +unknown +-$'
	run bash -c "$(declare -f on)"'; on proxy tproxy-inspect -a --json --state time-wait | jq -c "has(\"transparent\")"'
	assert_output false
}

@test "--netns: in another network namespace" {
	hold
	run tproxy-inspect --netns "$LAB_proxy" -H -o local,peer --state ESTAB -4
	if ((EUID != 0)); then # the lab's user namespace must be entered, too, which netns does
		assert_success
	fi
	assert_output --regexp '^198\.51\.100\.2:80 +192\.0\.2\.2:40001$'
	run -3 tproxy-inspect --netns no-such-namespace
	assert_output --partial 'no-such-namespace'
}

@test "fd: an inherited socket, as in a command of tproxy-listen" {
	tproxy_to 80 3129
	redirect_to 81 3130
	bg listen proxy tproxy-listen 3129 -- sh -c 'tproxy-inspect fd -H -o local,peer,origdst,origdst_by,transparent,fd 0 >&2'
	bg redirected proxy tproxy-listen --redirect 3130 -- sh -c 'tproxy-inspect fd --json 0 >&2'
	wait_listen proxy '[::1]:3129'
	wait_listen proxy '[::]:3130'
	run connect_from client 198.51.100.2:80 sourceport=40001
	wait_line listen.err '^198.51.100.2:80 +192.0.2.2:40001 +198.51.100.2:80 +tproxy +yes +0$'
	run connect_from client '[2001:db8:2::2]:80' sourceport=40002
	wait_line listen.err '^\[2001:db8:2::2\]:80 +\[2001:db8:1::2\]:40002 +\[2001:db8:2::2\]:80 +tproxy +yes +0$'
	run connect_from client '[2001:db8:2::2]:81' sourceport=40003
	wait_line redirected.err 40003
	run jq -ce '[.local, .peer.port, .origdst, .origdst_by, .transparent]' "$OUT/redirected.err"
	assert_output '[{"addr":"2001:db8:1::1","port":3130},40003,{"addr":"2001:db8:2::2","port":81},"redirect",false]'
}

@test "fd PID:FD: a socket of another process" {
	hold
	local pid fd
	pid=$(pid_of listen)
	fd=$(on proxy tproxy-inspect -H -o fd --state ESTAB -4)
	run on proxy tproxy-inspect fd -H -o state,local,origdst,origdst_by,pid,prog,fd "$pid:${fd// /}"
	assert_output --regexp "^ESTAB +198\.51\.100\.2:80 +198\.51\.100\.2:80 +tproxy +$pid +tproxy-listen +${fd// /}\$"
	fd=$(on proxy tproxy-inspect -H -o fd --state LISTEN -4)
	run on proxy tproxy-inspect fd -H -o state,local,peer,origdst,origdst_by "$pid:${fd// /}"
	assert_output --regexp '^LISTEN +127\.0\.0\.1:3129 +- +- +-$'
}

@test "fd: a descriptor that is not a socket, not open, or not ours is reported" {
	run --separate-stderr -3 on proxy tproxy-inspect fd 0 </dev/null
	assert_regex "$stderr" '^tproxy-inspect: fd 0: '
	run --separate-stderr -3 on proxy tproxy-inspect fd 77
	assert_regex "$stderr" '^tproxy-inspect: fd 77: .*Bad file descriptor'
	hold
	# Rootless it is the same user, and has no capability either.
	if ((EUID == 0)); then
		run --separate-stderr -3 on proxy setpriv --bounding-set=-all --inh-caps=-all \
			tproxy-inspect fd "$(pid_of listen):3"
		assert_regex "$stderr" '^tproxy-inspect: fd 3 of process [0-9]+: pidfd_getfd: .*CAP_SYS_PTRACE'
	fi
	run -2 on proxy tproxy-inspect fd
	run -2 on proxy tproxy-inspect fd x
	run -2 on proxy tproxy-inspect fd 1:x
	run -2 on proxy tproxy-inspect fd 1 2
}

@test "origdst: tproxy, conntrack (after REDIRECT) and none, both families" {
	hold
	hold_redirected
	bg direct proxy tproxy-listen --hold 0 '*:3131'
	wait_listen proxy '[::]:3131'
	bg client3 client socat -u TCP:192.0.2.1:3131,sourceport=40005 -
	bg client4 client socat -u 'TCP:[2001:db8:1::1]:3131,sourceport=40006' -
	wait_line direct.out :40005
	wait_line direct.out :40006
	origdst() {
		run on proxy tproxy-inspect origdst -H -o origdst,origdst_by "$@"
		assert_success
	}
	origdst 198.51.100.2:80 192.0.2.2:40001
	assert_output --regexp '^198\.51\.100\.2:80 +tproxy$'
	origdst '[2001:db8:2::2]:80' '[2001:db8:1::2]:40002'
	assert_output --regexp '^\[2001:db8:2::2\]:80 +tproxy$'
	origdst 192.0.2.1:3130 192.0.2.2:40003
	assert_output --regexp '^198\.51\.100\.2:81 +conntrack$'
	origdst '[2001:db8:1::1]:3130' '[2001:db8:1::2]:40004'
	assert_output --regexp '^\[2001:db8:2::2\]:81 +conntrack$'
	origdst 192.0.2.1:3131 192.0.2.2:40005
	assert_output --regexp '^- +none$'
	origdst '[2001:db8:1::1]:3131' '[2001:db8:1::2]:40006'
	assert_output --regexp '^- +none$'
}

@test "origdst: the upstream leg of a relay has none, as it was opened here" {
	bg server server tproxy-listen --hold 0 --redirect -4 80
	wait_listen server 80
	tproxy_to 80 3129
	bg relay proxy tproxy-relay 3129
	wait_listen proxy '[::1]:3129'
	bg one client socat -u TCP:198.51.100.2:80,sourceport=40001 -
	wait_line server.out :40001
	run on proxy tproxy-inspect origdst -H -o origdst,origdst_by 198.51.100.2:80 192.0.2.2:40001
	assert_output --regexp '^198\.51\.100\.2:80 +tproxy$'
	run on proxy tproxy-inspect origdst -H -o origdst,origdst_by 192.0.2.2:40001 198.51.100.2:80
	assert_output --regexp '^- +none$'
}

@test "origdst: an unknown connection is status 1; - answers pair by pair" {
	hold
	run -1 on proxy tproxy-inspect origdst 198.51.100.2:80 192.0.2.2:50000
	assert_line --partial 'no such connection here'
	run --separate-stderr -1 on proxy tproxy-inspect origdst -H -o peer,origdst,origdst_by - <<-'END'
		198.51.100.2:80 192.0.2.2:40001

		198.51.100.2:80 192.0.2.2:50000
		[2001:db8:2::2]:80 [2001:db8:1::2]:40002
	END
	assert_line --index 0 --regexp '^192\.0\.2\.2:40001 +198\.51\.100\.2:80 +tproxy$'
	assert_line --index 1 --regexp '^192\.0\.2\.2:50000 +- +-$'
	assert_line --index 2 --regexp '^\[2001:db8:1::2\]:40002 +\[2001:db8:2::2\]:80 +tproxy$'
	assert_equal "$stderr" "tproxy-inspect: 192.0.2.2:50000 -> 198.51.100.2:80: no such connection here"
}

@test "origdst -: an invalid line is reported by number, the others are answered, status 1" {
	hold
	run --separate-stderr -1 on proxy tproxy-inspect origdst -H -o peer,origdst,origdst_by - <<-'END'
		198.51.100.2:80
		198.51.100.2:80 nonsense
		198.51.100.2:80 192.0.2.2:40001 more
		198.51.100.2:80 192.0.2.2:40001
		198.51.100.2:80 [2001:db8:1::2]:40002
		[2001:db8:2::2]:80 [2001:db8:1::2]:40002
	END
	assert_equal "${#lines[@]}" 2
	assert_line --index 0 --regexp '^192\.0\.2\.2:40001 +198\.51\.100\.2:80 +tproxy$'
	assert_line --index 1 --regexp '^\[2001:db8:1::2\]:40002 +\[2001:db8:2::2\]:80 +tproxy$'
	# shellcheck disable=SC2154 # run sets it
	mapfile -t said <<<"$stderr"
	assert_equal "${#said[@]}" 4
	assert_equal "${said[0]}" "tproxy-inspect: line 1: needs two endpoints, LOCAL and PEER"
	assert_regex "${said[1]}" '^tproxy-inspect: line 2: nonsense: '
	assert_equal "${said[2]}" "tproxy-inspect: line 3: needs two endpoints, LOCAL and PEER"
	assert_regex "${said[3]}" '^tproxy-inspect: line 5: .*address families'
}

@test "without capabilities: no wrong answer, and the missing capability is named" {
	hold
	hold_redirected
	local none=(setpriv --bounding-set=-all --inh-caps=-all)
	run --separate-stderr on proxy "${none[@]}" tproxy-inspect -H -o local,transparent,mark --state LISTEN
	assert_line --index 0 --regexp '^127\.0\.0\.1:3129 +yes +-$'
	assert_equal "$stderr" "tproxy-inspect: mark: the kernel shows marks of sockets only with CAP_NET_ADMIN"
	run --separate-stderr -3 on proxy "${none[@]}" tproxy-inspect --mark 0x30
	assert_regex "$stderr" CAP_NET_ADMIN
	run on proxy "${none[@]}" tproxy-inspect origdst -H -o origdst,origdst_by 198.51.100.2:80 192.0.2.2:40001
	assert_output --regexp '^198\.51\.100\.2:80 +tproxy$'
	run --separate-stderr -3 on proxy "${none[@]}" tproxy-inspect origdst -H -o origdst,origdst_by \
		192.0.2.1:3130 192.0.2.2:40003
	assert_regex "$stderr" 'IPCTNL_MSG_CT_GET.*CAP_NET_ADMIN'
}

@test "missing rights are reported once, whatever they hide" {
	root_only "the listener is another user then"
	hold
	local none=(setpriv --bounding-set=-all --inh-caps=-all)
	run --separate-stderr on proxy "${none[@]}" tproxy-inspect -H
	assert_equal "${#lines[@]}" 4
	[[ $(grep -c CAP_NET_ADMIN <<<"$stderr") == 1 ]]
	run --separate-stderr on proxy "${none[@]}" tproxy-inspect -Hq
	assert_equal "$stderr" ""
	# The listener is a process of another user.
	run --separate-stderr on proxy "${none[@]}" tproxy-inspect -H -o local,pid
	assert_line --regexp '^198\.51\.100\.2:80 +-$'
	assert_equal "$stderr" "tproxy-inspect: pid, prog and fd of other users' processes are not shown: needs CAP_SYS_PTRACE"
	run --separate-stderr on proxy "${none[@]}" tproxy-inspect -H -o local
	assert_equal "$stderr" ""
	run --separate-stderr -3 on proxy "${none[@]}" tproxy-inspect --pid "$(pid_of listen)"
	assert_regex "$stderr" "process $(pid_of listen): .*CAP_SYS_PTRACE"
	run --separate-stderr on proxy "${none[@]}" tproxy-inspect -aH -o origdst --peer 192.0.2.2:40001
	assert_output 198.51.100.2:80
}

@test "no match is status 1, and reported" {
	run --separate-stderr -1 on proxy tproxy-inspect
	assert_output ""
	assert_equal "$stderr" "tproxy-inspect: no transparent socket matches; -a shows others"
	run --separate-stderr -1 on proxy tproxy-inspect -a --peer 203.0.113.9
	assert_equal "$stderr" "tproxy-inspect: no socket matches"
	run --separate-stderr -1 on proxy tproxy-inspect -aj --prog nobody
	assert_output ""
	run --separate-stderr -1 on proxy tproxy-inspect -a --pid 4194304 # above any
	assert_regex "$stderr" '^tproxy-inspect: process 4194304: No such process'
	run --separate-stderr -1 on proxy tproxy-inspect fd 4194304:3
	assert_regex "$stderr" '^tproxy-inspect: process 4194304: '
}

@test "sockets: a kernel that refuses the list of listeners is no empty list" {
	bg listen proxy tproxy-listen --hold 0 3131
	wait_listen proxy 127.0.0.1:3131
	# The leak detector does not run under strace.
	run --separate-stderr -3 on proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -o "$OUT/calls" -e inject=sendto,sendmsg:error=ENOBUFS:when=1 tproxy-inspect -aH --state LISTEN
	assert_output ""
	assert_regex "$stderr" 'list of TCP sockets: .*No buffer space'
}

@test "sockets: who holds one: this network namespace's processes first, then those of others" {
	# (It leaves the lab, whose end would not end it.)
	bg holders proxy /usr/bin/python3 -c 'import ctypes, os, signal, socket
signal.alarm(60)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
s = socket.create_server(("127.0.0.1", 3132))
child = os.fork() or signal.pause()
ctypes.CDLL(None, use_errno=True).unshare(0x40000000) and os._exit(1)
print(os.getpid(), child, flush=True)
signal.sigwait([signal.SIGUSR1])
os.kill(child, 9)
os.wait()
print("alone", flush=True)
signal.pause()'
	wait_line holders.out ' '
	local far near
	read -r far near <"$OUT/holders.out"
	on proxy tproxy-inspect -aH -o pid --state LISTEN >"$OUT/both"
	signal holders USR1
	wait_line holders.out alone
	on proxy tproxy-inspect -aH -o pid --state LISTEN >"$OUT/one"
	stop holders || :
	assert_equal "$(cat "$OUT/both" "$OUT/one")" "$near"$'\n'"$far"
}

@test "a column that a command cannot fill is refused, and the valid ones are named" {
	run --separate-stderr -2 on proxy tproxy-inspect -o +bytes_up
	assert_output ""
	assert_regex "$stderr" "'bytes_up' is not a column here; there are .*origdst"
	run --separate-stderr -2 on proxy tproxy-inspect fd -o reason 0
	assert_regex "$stderr" "'reason' is not a column here"
	run --separate-stderr -2 on proxy tproxy-inspect origdst -o pid 192.0.2.1:1 192.0.2.2:2
	assert_regex "$stderr" "'pid' is not a column here"
	run --separate-stderr -2 on proxy tproxy-setup status -o client
	assert_regex "$stderr" "'client' is not a column here"
	run --separate-stderr -2 on proxy tproxy-setup doctor -o client --to 3129
	assert_regex "$stderr" "'client' is not a column here"
}

@test "sockets -o +origdst: of every connection, however it was redirected" {
	hold
	hold_redirected
	bg direct proxy tproxy-listen --hold 0 '*:3131'
	wait_listen proxy '[::]:3131'
	bg client3 client socat -u TCP:192.0.2.1:3131,sourceport=40005 -
	wait_line direct.out :40005
	run on proxy tproxy-inspect -aH -o local,peer,origdst,origdst_by
	assert_line --regexp '^198\.51\.100\.2:80 +192\.0\.2\.2:40001 +198\.51\.100\.2:80 +tproxy$'
	assert_line --regexp '^\[2001:db8:2::2\]:80 +\[2001:db8:1::2\]:40002 +\[2001:db8:2::2\]:80 +tproxy$'
	assert_line --regexp '^192\.0\.2\.1:3130 +192\.0\.2\.2:40003 +198\.51\.100\.2:81 +conntrack$'
	assert_line --regexp '^\[2001:db8:1::1\]:3130 +\[2001:db8:1::2\]:40004 +\[2001:db8:2::2\]:81 +conntrack$'
	assert_line --regexp '^192\.0\.2\.1:3131 +192\.0\.2\.2:40005 +- +none$'
	assert_line --regexp '^127\.0\.0\.1:3129 +- +- +-$' # a listener has none
}

@test "REDIRECT inside a conntrack zone: origdst, fd and sockets find it" {
	on proxy nft -f - <<-'END'
		table inet zoned {
			chain raw { type filter hook prerouting priority raw; tcp dport 81 ct zone set 5; }
			chain out { type filter hook output priority raw; tcp sport 3130 ct zone set 5; }
		}
	END
	hold_redirected
	local pid fd
	pid=$(pid_of redirected)
	on proxy conntrack -L --zone 5 2>/dev/null | grep -q 40003 # it is in that zone
	run on proxy tproxy-inspect origdst -H -o origdst,origdst_by 192.0.2.1:3130 192.0.2.2:40003
	assert_output --regexp '^198\.51\.100\.2:81 +conntrack$'
	run on proxy tproxy-inspect origdst -H -o origdst,origdst_by '[2001:db8:1::1]:3130' '[2001:db8:1::2]:40004'
	assert_output --regexp '^\[2001:db8:2::2\]:81 +conntrack$'
	fd=$(on proxy tproxy-inspect -aH -o fd --peer 192.0.2.2:40003)
	run on proxy tproxy-inspect fd -H -o origdst,origdst_by "$pid:${fd// /}"
	assert_output --regexp '^198\.51\.100\.2:81 +conntrack$'
	run on proxy tproxy-inspect -aH -o origdst,origdst_by --peer 192.0.2.2:40003
	assert_output --regexp '^198\.51\.100\.2:81 +conntrack$'
}

@test "UDP: sockets, fd and origdst, intercepted and redirected" {
	tproxy_udp_to 53 3129
	on proxy nft -f - <<-'END'
		table inet to_udp {
			chain pre { type nat hook prerouting priority dstnat; udp dport 54 redirect to :3130; }
		}
	END
	bg listen proxy tproxy-listen -u 3129 -- sh -c 'tproxy-inspect fd -H -o proto,local,peer,origdst,origdst_by,transparent 0 >&2; exec cat'
	bg redirected proxy socat UDP4-LISTEN:3130,fork,reuseaddr PIPE
	wait_listen proxy '127.0.0.1:3129' udp
	wait_listen proxy '0.0.0.0:3130' udp
	local pid fd
	# cat sends it back
	run on client socat -T$((2 * TIME_SCALE)) - UDP:198.51.100.2:53,sourceport=40011 <<<one
	assert_output one
	run on client socat -T$((2 * TIME_SCALE)) - 'UDP:[2001:db8:2::2]:53,sourceport=40012' <<<two
	assert_output two
	run on client socat -T$((2 * TIME_SCALE)) - UDP:198.51.100.2:54,sourceport=40013 <<<three
	assert_output three
	wait_line listen.err '^udp +198\.51\.100\.2:53 +192\.0\.2\.2:40011 +198\.51\.100\.2:53 +tproxy +yes$'
	wait_line listen.err '^udp +\[2001:db8:2::2\]:53 +\[2001:db8:1::2\]:40012 +\[2001:db8:2::2\]:53 +tproxy +yes$'
	read -r pid fd < <(on proxy tproxy-inspect -auH -o pid,fd --peer 192.0.2.2:40013)
	run on proxy tproxy-inspect fd -H -o proto,local,peer,origdst,origdst_by,transparent "$pid:$fd"
	assert_output --regexp '^udp +192\.0\.2\.1:3130 +192\.0\.2\.2:40013 +198\.51\.100\.2:54 +conntrack +no$'
	run on proxy tproxy-inspect origdst -u -H -o proto,origdst,origdst_by 198.51.100.2:53 192.0.2.2:40011
	assert_output --regexp '^udp +198\.51\.100\.2:53 +tproxy$'
	run on proxy tproxy-inspect origdst -t -u -H -o proto,origdst,origdst_by 192.0.2.1:3130 192.0.2.2:40013
	assert_output --regexp '^udp +198\.51\.100\.2:54 +conntrack$'
	run on proxy tproxy-inspect -uH -o proto,state,local,peer,origdst,origdst_by --peer 192.0.2.2
	assert_output --regexp '^udp +ESTAB +198\.51\.100\.2:53 +192\.0\.2\.2:40011 +198\.51\.100\.2:53 +tproxy$'
	run -1 on proxy tproxy-inspect origdst -H 198.51.100.2:53 192.0.2.2:40011 # no such TCP connection
}

@test "UDP: neither half of a relayed flow is taken for the other" {
	# What a relay of UDP opens: both transparent, both with a foreign address, ends reversed.
	bg relay proxy python3 -c '
import socket, time
def half(here, there):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_IP, 19, 1)
    s.bind(here)
    s.connect(there)
    return s
client, server = ("192.0.2.2", 40011), ("198.51.100.2", 53)
a = half(server, client)
b = half(client, server)
print("ready", flush=True)
time.sleep(1000)'
	wait_line relay.out ready
	run --separate-stderr -1 on proxy tproxy-inspect origdst -u -H -o origdst,origdst_by 198.51.100.2:53 192.0.2.2:40011
	assert_output --regexp '^- +-$'
	assert_regex "$stderr" 'both halves of a relayed UDP flow'
	run on proxy tproxy-inspect -uH -o origdst,origdst_by
	assert_output "$(printf -- '%-22s %s\n%-22s %s' - - - -)"
}

@test "fd PID:FD in another network namespace: that one is asked" {
	bg direct proxy tproxy-listen --hold 0 --bind-device toclient '*:3131'
	wait_listen proxy 3131
	bg client3 client socat -u TCP:192.0.2.1:3131,sourceport=40005 -
	wait_line direct.out :40005
	local fd pid
	pid=$(pid_of direct)
	fd=$(on proxy tproxy-inspect -aH -o fd --peer 192.0.2.2:40005)
	# Not entered: the test is in another one, and rootless in another user namespace, too.
	run tproxy-inspect fd -H -o local,origdst,origdst_by,iif "$pid:${fd// /}"
	assert_success
	assert_output --regexp '^192\.0\.2\.1:3131 +- +none +toclient$'
	run on proxy tproxy-inspect fd -H -o origdst_by --netns "$LAB_proxy" "$pid:${fd// /}"
	assert_success
	assert_output none
	run --separate-stderr -1 on server tproxy-inspect fd --netns "$LAB_server" "$pid:${fd// /}"
	assert_regex "$stderr" 'its socket is not in network namespace'
	# A socket that is bound to an interface is found by its ends, too.
	run on proxy tproxy-inspect origdst -H -o origdst_by 192.0.2.1:3131 192.0.2.2:40005
	assert_output none
}

@test "dual-stack sockets: IPv4 connections are IPv4, and * is neither 0.0.0.0 nor [::]" {
	bg dual proxy socat -u TCP6-LISTEN:8001,ipv6only=0,fork,reuseaddr -
	bg four proxy socat -u TCP4-LISTEN:8002,fork,reuseaddr -
	bg six proxy socat -u TCP6-LISTEN:8003,ipv6only=1,fork,reuseaddr -
	wait_listen proxy 8001
	wait_listen proxy 8002
	wait_listen proxy 8003
	bg one client socat -u TCP:192.0.2.1:8001,sourceport=40001 -
	bg two client socat -u 'TCP:[2001:db8:1::1]:8001,sourceport=40002' -
	wait_until 5 eval '[ "$(on proxy tproxy-inspect -aH --state ESTAB -o local | wc -l)" == 2 ]'
	run on proxy tproxy-inspect -aH -4 -o state,local,peer
	assert_line --regexp '^ESTAB +192\.0\.2\.1:8001 +192\.0\.2\.2:40001$'
	assert_line --regexp '^LISTEN +\*:8001 +-$'
	assert_line --regexp '^LISTEN +0\.0\.0\.0:8002 +-$'
	assert_equal "${#lines[@]}" 3
	run on proxy tproxy-inspect -aH -6 -o state,local,peer
	assert_line --regexp '^ESTAB +\[2001:db8:1::1\]:8001 +\[2001:db8:1::2\]:40002$'
	assert_line --regexp '^LISTEN +\*:8001 +-$'
	assert_line --regexp '^LISTEN +\[::\]:8003 +-$'
	assert_equal "${#lines[@]}" 3
	run bash -c "$(declare -f on)"'; on proxy tproxy-inspect -aj --local "*:8001-8003" --state LISTEN | jq -r .local.addr | sort | tr "\n" " "'
	assert_output '* 0.0.0.0 :: '
	run on proxy tproxy-inspect -aH -o local --peer 192.0.2.0/24 # the kernel's filter knows them, too
	assert_output 192.0.2.1:8001
}

@test "--state UNCONN: everything that is listed as such" {
	bg bound proxy python3 -c '
import socket, time
t = socket.socket(); t.bind(("192.0.2.1", 8004))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("192.0.2.1", 8005))
print("ready", flush=True); time.sleep(1000)'
	wait_line bound.out ready
	local all unconn
	all=$(on proxy tproxy-inspect -aH -t -u -o proto,state,local | grep UNCONN)
	unconn=$(on proxy tproxy-inspect -aH -t -u -o proto,state,local --state UNCONN)
	assert_equal "$unconn" "$all"
	assert_regex "$unconn" 'udp +UNCONN +192\.0\.2\.1:8005'
	assert_regex "$unconn" 'tcp +UNCONN +192\.0\.2\.1:8004' # since Linux 6.8
}

@test "a terminal of 80 columns: everything is shown, no line is longer, colours unless NO_COLOR" {
	hold
	hold_redirected
	export TERM=xterm
	local plain
	run on proxy env NO_COLOR=1 "$TOP/tests/lib/on-terminal" 80 tproxy-inspect -a
	assert_success
	refute_output --partial $'\e'
	local line
	for line in "${lines[@]}"; do
		((${#line} <= 80)) || fail "${#line}: $line"
	done
	assert_output --partial '[2001:db8:2::2]:80'
	plain=$(tr -s ' \n' ' ' <<<"$output")
	# The same words as in a pipe.
	run on proxy tproxy-inspect -a
	assert_equal "$plain" "$(tr -s ' \n' ' ' <<<"$output")"
	run on proxy "$TOP/tests/lib/on-terminal" 80 tproxy-inspect -a
	assert_output --partial $'\e[32mESTAB\e[0m'
	run on proxy env TERM=dumb "$TOP/tests/lib/on-terminal" 200 tproxy-inspect -4
	refute_output --partial $'\e'
	assert_equal "${#lines[@]}" 3 # nothing is folded where there is room
}

@test "hostile names of programs and interfaces do not control the terminal" {
	local name=$'\e[2J\u9b' # ESC, and CSI in UTF-8
	cp "$(type -P socat)" "$BATS_TEST_TMPDIR/$name"
	bg hostile proxy "$BATS_TEST_TMPDIR/$name" -u TCP-LISTEN:8006 -
	wait_listen proxy 8006
	run on proxy tproxy-inspect -aH -o local,prog --local '*:8006'
	assert_output --regexp '8006 +\\033\[2J\\302\\233$'
	run on proxy tproxy-inspect -aj --local '*:8006'
	refute_output --partial $'\e'
	assert_equal "$(jq -r .prog <<<"$output")" "$name"
	on proxy ip link add name $'a"\eb' type veth peer name other
	on proxy ip addr add fe80::77/64 dev $'a"\eb' nodad
	on proxy ip link set $'a"\eb' up
	on proxy ip link set other up
	bg linklocal proxy python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_INET6)
s.bind(("fe80::77", 8007, 0, socket.if_nametoindex(sys.argv[1]))); s.listen()
print("ready", flush=True); time.sleep(1000)' $'a"\eb'
	wait_line linklocal.out ready
	run on proxy tproxy-inspect -aH -o local --local '*:8007'
	assert_output '[fe80::77%a"\033b]:8007'
	run on proxy tproxy-inspect -aj --local '*:8007'
	refute_output --partial $'\e'
	assert_equal "$(jq -r .local.addr <<<"$output")" $'fe80::77%a"\eb'
}

@test "the kernel's filter selects the same as ours" {
	hold
	hold_redirected
	bg dual proxy socat -u TCP6-LISTEN:8001,ipv6only=0,fork,reuseaddr -
	wait_listen proxy 8001
	local filter
	# With many entries (beyond 64 KB of the kernel's program) only ours is left.
	local many=()
	for ((n = 0; n < 3000; n++)); do
		many+=(--peer "203.0.113.$((n % 256)):$((1 + n))")
	done
	for filter in '192.0.2.2' '192.0.2.0/24:40001-40002,40003' '[2001:db8:1::2]:40002' '[2001:db8::/32]' '*:40004' \
		'*:1-39999,40001-65535' '0.0.0.0/0' '[::/0]:40002-40004' '203.0.113.0/24'; do
		run on proxy tproxy-inspect -aH -o local,peer --peer "$filter"
		local kernel=$output
		run on proxy tproxy-inspect -aH -o local,peer --peer "$filter" "${many[@]}"
		assert_equal "$filter: $kernel" "$filter: $output"
	done
	run on proxy tproxy-inspect -aH -o local,peer --local '[::]' --local 198.51.100.0/24:80 --peer 192.0.2.2 --mark 0x30
	assert_output --regexp '^198\.51\.100\.2:80 +192\.0\.2\.2:40001$'
	# A port range in the middle, several entries, both ends.
	run on proxy tproxy-inspect -aH -o peer --local '*:1-79,81-3000,3130' --peer '*:40003' --peer 203.0.113.1:1-5 --peer '[2001:db8:1::/64]:40004'
	# Both families are in one list of the kernel's, by their hash.
	assert_equal "$(LC_ALL=C sort <<<"$output")" "$(printf '%s\n%s' 192.0.2.2:40003 '[2001:db8:1::2]:40004')"
}

@test "mistakes on the command line: status 2, the word is named" {
	local -a wrong=(
		"nonsense" "nonsense"
		"--state nonsense" "nonsense"
		"--local 300.1.1.1" "300.1.1.1"
		"--peer 192.0.2.2:0" "--peer"
		"--mark 0x100/0xff" "0x100/0xff"
		"--pid 0" "--pid 0"
		"--all --transparent" "--all"
		"fd --all 0" "--all"
		"origdst 1.2.3.4:5" "LOCAL"
		"origdst 1.2.3.4:5 x" "x"
		"origdst 1.2.3.4:5 [::1]:5" "famil"
		"-o nonsense" "nonsense"
		"sockets -- true" "--"
	)
	local n # not i: run uses that one itself
	for ((n = 0; n < ${#wrong[@]}; n += 2)); do
		# shellcheck disable=SC2086
		run --separate-stderr on proxy tproxy-inspect ${wrong[n]}
		assert_equal "${wrong[n]}: $status" "${wrong[n]}: 2"
		assert_output ""
		[[ $stderr == "tproxy-inspect: "*"${wrong[n + 1]}"* ]] || fail "${wrong[n]}: $stderr"
	done
}
