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

@test "sockets: both ends, flag, mark, owner of transparent sockets, and of no others" {
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

@test "sockets --json: one object a line; what is not known is absent" {
	hold
	run bash -c "$(declare -f on)"'; on proxy tproxy-inspect --json | jq -ce "
		select(.state == \"ESTAB\" and .local.port == 80 and .local.addr == \"198.51.100.2\") |
		[.v, .type, .proto, .local, .peer, .mark, .transparent, .prog, (.pid > 0), (.fd > 2), .cookie[0:2]]"'
	assert_output '[1,"socket","tcp",{"addr":"198.51.100.2","port":80},{"addr":"192.0.2.2","port":40001},"0x30",true,"tproxy-listen",true,true,"0x"]'
	run bash -c "$(declare -f on)"'; on proxy tproxy-inspect --json --state LISTEN | jq -ce "has(\"peer\")" | sort -u'
	assert_output false
}

@test "a TIME-WAIT socket: the kernel does not tell whether it is transparent" {
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

@test "fd: an inherited socket, as a command of tproxy-listen has it" {
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

@test "fd: what is no socket, not open, or not ours is said" {
	run --separate-stderr -3 on proxy tproxy-inspect fd 0 </dev/null
	assert_regex "$stderr" '^tproxy-inspect: fd 0: '
	run --separate-stderr -3 on proxy tproxy-inspect fd 77
	assert_regex "$stderr" '^tproxy-inspect: fd 77: .*Bad file descriptor'
	hold
	# pid 1 is not ours without CAP_SYS_PTRACE, nor is anybody's with another set of capabilities
	run --separate-stderr -3 on proxy setpriv --bounding-set=-all --inh-caps=-all \
		tproxy-inspect fd "$(pid_of listen):3"
	assert_regex "$stderr" '^tproxy-inspect: fd 3 of process [0-9]+: pidfd_getfd: .*CAP_SYS_PTRACE'
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

@test "origdst: the upstream leg of a relay was opened here, and has none" {
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

@test "origdst: a connection that is not here is status 1; - answers pair by pair" {
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
	run --separate-stderr -2 on proxy tproxy-inspect origdst -H - <<<$'198.51.100.2:80\n'
	assert_equal "$stderr" "tproxy-inspect: line 1: needs two endpoints, LOCAL and PEER"
}

@test "without capabilities: no wrong answer, but the one that is missing is named" {
	hold
	hold_redirected
	local none=(setpriv --bounding-set=-all --inh-caps=-all)
	run on proxy "${none[@]}" tproxy-inspect -H -o local,transparent,mark --state LISTEN -4
	assert_output --regexp '^127\.0\.0\.1:3129 +yes +-$'
	run --separate-stderr -3 on proxy "${none[@]}" tproxy-inspect --mark 0x30
	assert_regex "$stderr" CAP_NET_ADMIN
	run on proxy "${none[@]}" tproxy-inspect origdst -H -o origdst,origdst_by 198.51.100.2:80 192.0.2.2:40001
	assert_output --regexp '^198\.51\.100\.2:80 +tproxy$'
	run --separate-stderr -3 on proxy "${none[@]}" tproxy-inspect origdst -H -o origdst,origdst_by \
		192.0.2.1:3130 192.0.2.2:40003
	assert_regex "$stderr" 'IPCTNL_MSG_CT_GET.*CAP_NET_ADMIN'
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
