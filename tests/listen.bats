#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-listen: the original destination of every connection, as records.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | port 80: TPROXY to the listener at 3129
#                           | port 81: REDIRECT to the listener at 3130
#                           | other ports: forwarded, as ever

bats_require_minimum_version 1.5.0
load lib/lab
load lib/see

setup() {
	lab_up
}

teardown() {
	lab_down
}

@test "a record has client and original destination of each intercepted connection, both families" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80 sourceport=40001
	run connect_from client '[2001:db8:2::2]:80' sourceport=40002
	wait_line listen.out '\]:40002'
	stop listen
	run cat "$OUT/listen.out"
	local stamp='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z'
	assert_line --index 0 --regexp "^$stamp open tcp 192\.0\.2\.2:40001 198\.51\.100\.2:80 tproxy -\$"
	assert_line --index 1 --regexp \
		"^$stamp open tcp \[2001:db8:1::2\]:40002 \[2001:db8:2::2\]:80 tproxy -\$"
	assert_equal "${#lines[@]}" 2
	assert_equal "$(cat "$OUT/listen.err")" ""
}

@test "the listener gets only connections that were redirected to it" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen 3129
	bg server server socat TCP6-LISTEN:8080,ipv6only=0,reuseaddr,fork EXEC:'echo server'
	wait_listen proxy 127.0.0.1:3129
	wait_listen server 8080
	run connect_from client 198.51.100.2:8080
	assert_output server
	run connect_from bystander 198.51.100.2:8080
	assert_output server
	stop listen
	assert_equal "$(cat "$OUT/listen.out")" ""
}

@test "--json: one object per line, typed, with listener, interface, mark and cookie" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen --json --listener-mark 0x30 3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80 sourceport=40001
	run connect_from client '[2001:db8:2::2]:80' sourceport=40002
	wait_line listen.out 40002
	run jq -ce '[.v, .type, .event, .id, .proto, .client, .origdst, .origdst_by, .listener, .iif, .mark]' \
		"$OUT/listen.out"
	assert_line --index 0 '[1,"connection","open",1,"tcp",{"addr":"192.0.2.2","port":40001},'"$(
	)"'{"addr":"198.51.100.2","port":80},"tproxy",{"addr":"127.0.0.1","port":3129},"toclient","0x30"]'
	assert_line --index 1 '[1,"connection","open",2,"tcp",{"addr":"2001:db8:1::2","port":40002},'"$(
	)"'{"addr":"2001:db8:2::2","port":80},"tproxy",{"addr":"::1","port":3129},"toclient","0x30"]'
	run jq -e '.cookie | test("^0x[0-9a-f]+$")' "$OUT/listen.out"
	assert_success
}

@test "REDIRECT and DNAT: the original destination comes from conntrack, both families" {
	redirect_to 81 3130
	on proxy nft 'table ip see_dnat {
		chain prerouting { type nat hook prerouting priority dstnat; tcp dport 82 dnat to 192.0.2.1:3130; }
	}'
	bg listen proxy tproxy-listen --redirect -o client,origdst,origdst_by 3130
	wait_listen proxy '[::]:3130'
	run connect_from client 198.51.100.2:81 sourceport=40001
	run connect_from client '[2001:db8:2::2]:81' sourceport=40002
	run connect_from client 198.51.100.2:82 sourceport=40003
	wait_line listen.out 40003
	run cat "$OUT/listen.out"
	assert_line --index 0 '192.0.2.2:40001 198.51.100.2:81 redirect'
	assert_line --index 1 '[2001:db8:1::2]:40002 [2001:db8:2::2]:81 redirect'
	assert_line --index 2 '192.0.2.2:40003 198.51.100.2:82 redirect'
}

@test "TPROXY and REDIRECT are both recognised in one listener" {
	tproxy_to 80 3130
	redirect_to 81 3130
	# TPROXY wants the listener on loopback here, REDIRECT on the address of the interface: any.
	bg listen proxy tproxy-listen -o client,origdst,origdst_by '*:3130'
	wait_listen proxy '[::]:3130'
	run connect_from client 198.51.100.2:80 sourceport=40001
	run connect_from client 198.51.100.2:81 sourceport=40002
	run connect_from client '[2001:db8:2::2]:80' sourceport=40003
	run connect_from client '[2001:db8:2::2]:81' sourceport=40004
	wait_line listen.out 40004
	run cat "$OUT/listen.out"
	assert_line --index 0 '192.0.2.2:40001 198.51.100.2:80 tproxy'
	assert_line --index 1 '192.0.2.2:40002 198.51.100.2:81 redirect'
	assert_line --index 2 '[2001:db8:1::2]:40003 [2001:db8:2::2]:80 tproxy'
	assert_line --index 3 '[2001:db8:1::2]:40004 [2001:db8:2::2]:81 redirect'
}

@test "a port that equals the listener's is not a direct connection" {
	tproxy_to 3129 3129
	bg listen proxy tproxy-listen -o client,origdst,origdst_by '*:3129'
	wait_listen proxy '[::]:3129'
	run connect_from client 198.51.100.2:3129 sourceport=40001
	run connect_from client '[2001:db8:2::2]:3129' sourceport=40002
	wait_line listen.out 40002
	run cat "$OUT/listen.out"
	assert_line --index 0 '192.0.2.2:40001 198.51.100.2:3129 tproxy'
	assert_line --index 1 '[2001:db8:1::2]:40002 [2001:db8:2::2]:3129 tproxy'
}

@test "a direct connection has no original destination" {
	bg listen proxy tproxy-listen -o client,origdst,origdst_by '*:3129'
	wait_listen proxy '[::]:3129'
	run connect_from client 192.0.2.1:3129 sourceport=40001
	run connect_from client '[2001:db8:1::1]:3129' sourceport=40002
	wait_line listen.out 40002
	run cat "$OUT/listen.out"
	assert_line --index 0 '192.0.2.2:40001 - none'
	assert_line --index 1 '[2001:db8:1::2]:40002 - none'
}

@test "-4 and -6 open one family; a one-family address without them is refused" {
	bg listen proxy tproxy-listen -4 3129
	wait_listen proxy 127.0.0.1:3129
	run listens proxy '[::1]:3129'
	assert_failure
	stop listen
	run -2 on proxy tproxy-listen 127.0.0.1:3129
	assert_output --partial '-4'
	run -2 on proxy tproxy-listen -6 127.0.0.1:3129
	assert_output --partial 'tproxy-listen: 127.0.0.1:3129: '
}

@test "a family that this machine lacks is skipped with a notice" {
	on proxy sysctl -qw net.ipv6.conf.lo.disable_ipv6=1
	bg listen proxy tproxy-listen 3129
	wait_line listen.err '^tproxy-listen: \[::1\]:3129: left out: '
	wait_listen proxy 127.0.0.1:3129
}

@test "a port in use: the message names the port and who listens there" {
	bg first proxy tproxy-listen 3129
	wait_listen proxy '[::1]:3129'
	run --separate-stderr -3 on proxy tproxy-listen 3129
	assert_output ""
	assert_regex "$stderr" "127\.0\.0\.1:3129: .*tproxy-listen \(pid $(pid_of first)\).*--takeover"
	stop first
	bg other proxy socat TCP-LISTEN:3129,bind=127.0.0.1 -
	wait_listen proxy 127.0.0.1:3129
	run --separate-stderr -3 on proxy tproxy-listen 3129
	assert_regex "$stderr" "127\.0\.0\.1:3129: .*socat \(pid $(pid_of other)\)"
	run --separate-stderr -3 on proxy tproxy-listen --takeover 3129
	assert_regex "$stderr" "127\.0\.0\.1:3129: .*socat \(pid $(pid_of other)\)"
}

@test "--backlog N: N connections wait; ss shows it as Send-Q" {
	bg listen proxy tproxy-listen --backlog 7 3129
	wait_listen proxy 127.0.0.1:3129
	run on proxy ss -Hltn 'sport = :3129'
	assert_equal "$(awk '{ print $3 }' <<<"$output" | sort -u)" 7
}

@test "--bind-device: only connections on that interface, no others" {
	bg listen proxy tproxy-listen --redirect --bind-device toclient -o client '*:3129'
	wait_listen proxy 3129
	run on server timeout --foreground 5 bash -c 'exec 3<>/dev/tcp/198.51.100.1/3129'
	assert_failure
	assert_output --partial refused
	run connect_from client 192.0.2.1:3129 sourceport=40001
	wait_line listen.out '^192.0.2.2:40001$'
	assert_equal "$(wc -l <"$OUT/listen.out")" 1
	run -3 on proxy tproxy-listen --bind-device nonsense 3130
	assert_output --partial "nonsense"
}

@test "--listener-mark: answers carry it, so that rules can match them" {
	tproxy_to 80 3129
	on proxy nft -f - <<-END
		table inet marks {
			chain output {
				type filter hook output priority filter
				tcp sport 80 meta mark and 0xff0000 == 0x30000 counter
				tcp sport 80 meta mark and 0xff0000 != 0x30000 counter
			}
		}
	END
	bg listen proxy tproxy-listen --listener-mark 0x30000 --reply hello -o mark 3129
	wait_listen proxy 127.0.0.1:3129
	run connect_from client 198.51.100.2:80
	assert_output hello
	wait_line listen.out '^0x30000$'
	run on proxy nft list table inet marks
	assert_line --regexp '== 0x0*30000 counter packets [1-9]'
	assert_line --regexp '!= 0x0*30000 counter packets 0 '
}

@test "--takeover shares the endpoint; when the first process ends, the second gets everything" {
	tproxy_to 80 3129
	bg first proxy tproxy-listen 3129
	wait_listen proxy '[::1]:3129'
	bg second proxy tproxy-listen --takeover 3129
	wait_until 5 on proxy sh -c '[ "$(ss -Htnl "sport = :3129" | wc -l)" = 4 ]'
	local n
	for n in {1..20}; do
		run connect_from client 198.51.100.2:80
	done
	wait_until 5 sh -c "[ \$(cat '$OUT/first.out' '$OUT/second.out' | wc -l) = 20 ]"
	assert [ -s "$OUT/first.out" ]
	assert [ -s "$OUT/second.out" ]
	stop first
	for n in 40001 40002 40003 40004; do
		run connect_from client 198.51.100.2:80 "sourceport=$n"
		wait_line second.out ":$n "
	done
}

@test "without the capability the message names it" {
	run --separate-stderr -3 on proxy setpriv --bounding-set=-all --inh-caps=-all tproxy-listen 3129
	assert_output ""
	assert_regex "$stderr" '^tproxy-listen: 127\.0\.0\.1:3129: setsockopt\(IP_TRANSPARENT\): .*CAP_NET_RAW'
}

@test "mistakes on the command line: status 2, the word is named, nothing is opened" {
	local -a wrong=(
		"" "ENDPOINT"
		"3129:80" "3129:80"
		"127.0.0.1" "127.0.0.1"
		"0" "0"
		"70000" "70000"
		"example.org:80" "example.org:80"
		"--max 0 3129" "--max 0"
		"--count x 3129" "--count x"
		"--hold 3129 -x" "-x"
		"--echo --discard 3129" "--echo"
		"--echo 3129 -- true" "--echo"
		"--pass 3129" "--pass"
		"--allow-direct 3129" "--allow-direct"
		"--listener-mark 0x100/0xff 3129" "0x100/0xff"
		"-o nonsense 3129" "nonsense"
		"--ready-fd 1 3129" "--ready-fd 1"
		"--ready-fd 77 3129" "--ready-fd 77"
		"--pass --ready-fd 3 3129 -- true" "--ready-fd"
		"--json 3129 -- true" "--log"
		"-u --datagrams -C 3 3129" "--max-per-client"
		"-C 0 3129" "--max-per-client 0"
		"--count 0 3129" "--count 0"
		"--backlog 0 3129" "--backlog 0"
		"--reply \\q 3129" "\\q"
		"3129 --" "--"
	)
	local n # not i: `run` uses that one itself
	for ((n = 0; n < ${#wrong[@]}; n += 2)); do
		# shellcheck disable=SC2086
		run --separate-stderr on proxy timeout --foreground 5 tproxy-listen ${wrong[n]}
		assert_equal "${wrong[n]}: $status" "${wrong[n]}: 2"
		assert_output ""
		[[ $stderr == "tproxy-listen: "*"${wrong[n + 1]}"* ]] || fail "${wrong[n]}: $stderr"
	done
}

@test "--count ends after N connections; --timeout after that time, status 1 if too few came" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen --count 2 --timeout 30s 3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80
	run connect_from client '[2001:db8:2::2]:80'
	run wait_exit listen
	assert_success
	assert_equal "$(wc -l <"$OUT/listen.out")" 2
	run -1 on proxy tproxy-listen --count 1 --timeout 100ms 3129
	run -1 on proxy tproxy-listen --timeout 100ms 3129
}

@test "--reply sends its text, escapes included, whatever the client has sent" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen --log --reply 'HTTP/1.0 200 OK\r\nX: \x41\r\n\r\nhello\n' 3129
	wait_listen proxy '[::1]:3129'
	run on client curl -sS --max-time 20 -D - http://198.51.100.2/ --data-binary @"$(random_file 64K)"
	assert_success
	assert_line --index 1 $'X: A\r'
	assert_line hello
	wait_line listen.out ' close tcp .* client$'
}

@test "--hold keeps the connection open for that time, or until the client closes" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen --log --hold 300ms -o event,client,reason,duration_ms 3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80 sourceport=40001
	assert_success
	wait_line listen.out '^close 192.0.2.2:40001 done ([3-9]|[1-9][0-9])[0-9]{2}\.'
	stop listen
	bg listen proxy tproxy-listen --log --hold 1h -o event,client,reason 3129
	wait_listen proxy '[::1]:3129'
	run on client timeout --foreground 30 socat -T 0.1 - TCP:198.51.100.2:80,sourceport=40002
	wait_line listen.out '^close 192.0.2.2:40002 client'
}

@test "--echo sends back every byte, --discard reads all, --reset resets" {
	local file
	file=$(random_file 4M)
	tproxy_to 80 3129
	tproxy_to 81 3131
	tproxy_to 82 3132
	bg echo proxy tproxy-listen --log --echo -o event,bytes_up,bytes_down,reason 3129
	bg discard proxy tproxy-listen --log --discard -o event,bytes_up,bytes_down,reason 3131
	bg reset proxy tproxy-listen --reset 3132
	wait_listen proxy '[::1]:3129'
	wait_listen proxy '[::1]:3131'
	wait_listen proxy '[::1]:3132'
	assert_equal "$(on client timeout --foreground 20 socat -t 10 - TCP:198.51.100.2:80 <"$file" | sum_of /dev/stdin)" \
		"$(sum_of "$file")"
	wait_line echo.out '^close 4194304 4194304 client$'
	run on client timeout --foreground 20 socat -t 10 - 'TCP:[2001:db8:2::2]:81' <"$file"
	assert_output ""
	wait_line discard.out '^close 4194304 0 client$'
	run read_from client 198.51.100.2 82
	assert_output --partial 'Connection reset by peer'
}

@test "a client that resets at once is recorded with the data from accept" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen 3129
	wait_listen proxy '[::1]:3129'
	signal listen STOP
	on client python3 -c '
import socket, struct
s = socket.create_connection(("198.51.100.2", 80), source_address=("192.0.2.2", 40001))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()'
	signal listen CONT
	wait_line listen.out 'open tcp 192.0.2.2:40001 198.51.100.2:80 tproxy'
}

@test "records are written at once, even to a pipe; a reader that goes away ends it quietly" {
	tproxy_to 80 3129
	bg pipe proxy bash -c 'tproxy-listen 3129 | head -n 1; echo "${PIPESTATUS[@]}"'
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80 sourceport=40001
	wait_exit pipe
	run cat "$OUT/pipe.out"
	assert_line --index 0 --partial 'open tcp 192.0.2.2:40001 198.51.100.2:80 tproxy'
	assert_line --index 1 '0 0'
	assert_equal "$(cat "$OUT/pipe.err")" ""
}

@test "a slow reader neither stops accepting nor loses records silently" {
	tproxy_to 80 3129
	mkfifo "$OUT/slow"
	bg reader proxy bash -c 'exec 9<"$0"; read -r go <"$1"; cat <&9' "$OUT/slow" "$OUT/go"
	mkfifo "$OUT/go"
	bg listen proxy bash -c 'exec tproxy-listen --json 3129 >"$0"' "$OUT/slow"
	wait_listen proxy '[::1]:3129'
	# more than a pipe (64 KiB) and the queue (4 MiB) hold, in records of some 280 bytes
	run -0 on client "$TOP/tests/lib/hold" count 198.51.100.2 80 18000
	echo go >"$OUT/go"
	wait_until 10 has_line "$OUT/reader.out" .
	# While the backlog is full, SYNs are dropped.
	wait_until 60 connect_from client 198.51.100.2:80 sourceport=40001
	stop listen
	wait_exit reader
	run jq -s 'map(select(.type == "lost").count) | add' "$OUT/reader.out"
	local lost=$output
	run jq -s 'map(select(.type == "connection")) | length' "$OUT/reader.out"
	assert_equal "$((output + lost))" 18001
	assert_line_in listen.err "^tproxy-listen: .*$lost records were lost"
}

@test "at --max no more connections are accepted, and none is refused" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen -c 2 --hold 0 3129
	wait_listen proxy '[::1]:3129'
	bg one client socat -u TCP:198.51.100.2:80,sourceport=40001 -
	bg two client socat -u TCP:198.51.100.2:80,sourceport=40002 -
	wait_line listen.out :40001
	wait_line listen.out :40002
	bg three client socat -u TCP:198.51.100.2:80,sourceport=40003 -
	wait_until 5 on client sh -c 'ss -Htn "sport = :40003" | grep -q ESTAB'
	refute_line_in listen.out :40003
	stop one || :
	wait_line listen.out ' open tcp 192.0.2.2:40003 '
}

@test "--max-per-client counts IPv4 addresses and IPv6 /64s" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen -C 1 --hold 0 -o event,client,reason 3129
	wait_listen proxy '[::1]:3129'
	bg one client socat -u TCP:198.51.100.2:80,bind=192.0.2.2:40001 -
	bg six client socat -u 'TCP6:[2001:db8:2::2]:80,bind=[2001:db8:1::2]:40001' -
	wait_line listen.out '^open 192.0.2.2:40001 -'
	wait_line listen.out '^open \[2001:db8:1::2\]:40001 -'
	run connect_from client 198.51.100.2:80 bind=192.0.2.2:40002
	wait_line listen.out '^refused 192.0.2.2:40002 per-client'
	run connect_from client '[2001:db8:2::2]:80' 'bind=[2001:db8:1::10]:40002'
	wait_line listen.out '^refused \[2001:db8:1::10\]:40002 per-client'
	bg other client socat -u TCP:198.51.100.2:80,bind=192.0.2.10:40001 -
	wait_line listen.out '^open 192.0.2.10:40001 -'
	stop one || :
	wait_until 10 on proxy sh -c '! ss -Htn state connected exclude time-wait "dst 192.0.2.2:40001" | grep -q .'
	bg again client socat -u TCP:198.51.100.2:80,bind=192.0.2.2:40003 -
	wait_line listen.out '^open 192.0.2.2:40003 -'
}

@test "out of descriptors: it waits without spinning, and continues" {
	tproxy_to 80 3129
	bg listen proxy prlimit --nofile=24:24 tproxy-listen -v --hold 0 3129
	wait_listen proxy '[::1]:3129'
	bg clients client python3 -c '
import socket, time
s = [socket.create_connection(("198.51.100.2", 80)) for i in range(40)]
time.sleep(60)'
	wait_line listen.err 'Too many open files: clients wait'
	local pid before after
	pid=$(pid_of listen)
	before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	on proxy sleep 0.6
	after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	((after - before < 20)) || fail "$((after - before)) ticks of CPU while it had nothing to do"
	stop clients || :
	wait_until 5 on client sh -c '! ss -Htn "dport = :80" | grep -q ESTAB'
	run connect_from client 198.51.100.2:80 sourceport=40001
	wait_line listen.out :40001
}

@test "out of descriptors: a direct connection is not taken for an intercepted one" {
	bg listen proxy prlimit --nofile=24:24 tproxy-listen --hold 0 -o client,origdst_by '*:3129'
	wait_listen proxy '[::]:3129'
	bg clients client python3 -c '
import socket, time
s = [socket.create_connection(("192.0.2.1", 3129)) for i in range(40)]
time.sleep(60)'
	wait_line listen.err 'Too many open files'
	run awk '{ print $2 }' "$OUT/listen.out"
	assert_equal "$(sort -u <<<"$output")" none
}

@test "a full disk is reported at once, losses are counted, and the service continues" {
	tproxy_to 80 3129
	bg listen proxy sh -c 'exec tproxy-listen --reply hello 3129 >/dev/full'
	wait_listen proxy '[::1]:3129'
	for _ in 1 2 3; do
		run connect_from client 198.51.100.2:80
		assert_output hello
	done
	assert_line_in listen.err 'records: standard output \(/dev/full\): write: No space left on device'
	run stop listen
	assert_success
	assert_line_in listen.err '3 records were lost: they could not be written'
}

@test "records that a stopped reader did not read until the end are counted" {
	tproxy_to 80 3129
	bg listen proxy bash -c 'exec tproxy-listen --drain-timeout 1s 3129 > >(exec sleep 1000)'
	wait_listen proxy '[::1]:3129'
	on client python3 -c '
import socket
for n in range(1100):
    socket.create_connection(("198.51.100.2", 80)).close()'
	run stop listen
	assert_success
	assert_line_in listen.err '[0-9]+ records were lost'
}

@test "a link-local address without its interface: the message says what it needs" {
	run -3 on proxy tproxy-listen -6 '[fe80::1]:3129'
	assert_output --partial 'a link-local address needs its interface'
}

@test "no standard output, no records: said, not ignored" {
	run -3 on proxy sh -c 'exec tproxy-listen 3129 >&-'
	assert_output --partial 'standard output is closed'
}

@test "--reply to a client that does not read ends after two seconds" {
	tproxy_to 80 3129
	bg listen proxy sh -c 'exec tproxy-listen --log -o event,reason --reply "$(head -c 120000 /dev/zero | tr "\\0" x)" 3129'
	wait_listen proxy 127.0.0.1:3129
	bg client client python3 -c '
import socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
s.connect(("198.51.100.2", 80)); time.sleep(60)'
	wait_line listen.out '^close failed$'
}

@test "SIGHUP does not end it; SIGTERM does, with status 0" {
	bg listen proxy tproxy-listen 3129
	wait_listen proxy '[::1]:3129'
	signal listen HUP
	tproxy_to 80 3129
	run connect_from client 198.51.100.2:80
	wait_line listen.out 198.51.100.2:80
	run stop listen
	assert_success
}

@test "a signal that comes as soon as it listens is heard like any other" {
	local fault=$TPROXY_BIN/fault/tproxy-listen
	[[ -x $fault ]] || fail "no $fault: run make fault"
	run -0 on proxy env TPROXY_FAULT=listen:1:SIGTERM "$fault" --timeout 20s 3129
	bg listen proxy env TPROXY_FAULT=listen:2:SIGHUP "$fault" 3129
	tproxy_to 80 3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80
	wait_line listen.out 198.51.100.2:80
	run -0 stop listen
}

@test "readiness: --ready-fd gets a newline, NOTIFY_SOCKET READY=1" {
	bg notified proxy socat -u "UNIX-RECV:$OUT/notify" -
	wait_until 5 test -S "$OUT/notify"
	bg listen proxy bash -c 'NOTIFY_SOCKET=$0/notify exec tproxy-listen --ready-fd 7 3129 7>"$0/ready"' "$OUT"
	wait_until 5 test -s "$OUT/ready"
	run listens proxy '[::1]:3129'
	assert_success
	wait_line notified.out '^READY=1'
	assert_equal "$(od -An -tx1 "$OUT/ready")" " 0a"
}

@test "watchdog: signs of life while it runs, none while it hangs" {
	bg notified proxy socat -u "UNIX-RECV:$OUT/notify" -
	wait_until 5 test -S "$OUT/notify"
	bg listen proxy env NOTIFY_SOCKET="$OUT/notify" WATCHDOG_USEC=600000 tproxy-listen 3129
	wait_until 10 more_signs "$OUT/notified.out" 2
	signal listen STOP
	wait_until 10 eval '[[ $(cut -d " " -f 3 "/proc/$(pid_of listen)/stat") == T ]]'
	wait_until 2 no_signs "$OUT/notified.out"
	signal listen CONT
	wait_until 10 more_signs "$OUT/notified.out" "$(signs "$OUT/notified.out")"
	run -0 stop listen
}
