#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect watch: connections as they open and close.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | TCP port 80 goes to the relay, 3129

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
}

teardown() {
	lab_down
}

# watch OPTION...: in the background, as `watch`; it has seen what is there.
watch() {
	bg watch proxy tproxy-inspect watch "$@"
	wait_line watch.err 'open connections: '
}

# connection FAMILY_ADDRESS SOURCE: through the relay, 5 bytes each way; it stays until $OUT/end is there.
connection() {
	peer "$3" client -b "$2" connect "$1" 80 send:hello recv:world "touch:$OUT/$3" "await:$OUT/end"
	wait_until 5 test -e "$OUT/$3"
}

serve() {
	peer server server serve 80 recv:hello send:world eof
}

@test "watch: opens and closes through tproxy-relay, both ends of both halves, both families" {
	intercept 80
	relay
	serve
	watch --json
	connection "$V4" 192.0.2.2:40001 four
	connection "$V6" '[2001:db8:1::2]:40002' six
	wait_line watch.out '"open".*40002'
	wait_line watch.out '"open".*40001'
	run jq -ce 'select(.event == "open") | [.type, .proto, .client.addr, .client.port, .origdst.addr, .origdst.port,
		.upstream_local, .upstream, .paired_by, .prog]' "$OUT/watch.out"
	assert_line '["connection","tcp","192.0.2.2",40001,"198.51.100.2",80,{"addr":"192.0.2.2","port":40001},{"addr":"198.51.100.2","port":80},"relay","tproxy-relay"]'
	assert_line '["connection","tcp","2001:db8:1::2",40002,"2001:db8:2::2",80,{"addr":"2001:db8:1::2","port":40002},{"addr":"2001:db8:2::2","port":80},"relay","tproxy-relay"]'
	assert_equal "${#lines[@]}" 2
	touch "$OUT/end"
	wait_line watch.out '"close".*40001'
	wait_line watch.out '"close".*40002'
	run jq -ce 'select(.event == "close") | [.client.port, .upstream.addr, .bytes_up, .bytes_down, .duration_ms > 0, .paired_by]' "$OUT/watch.out"
	assert_line '[40001,"198.51.100.2",5,5,true,"relay"]'
	assert_line '[40002,"2001:db8:2::2",5,5,true,"relay"]'
	# The cookie of an open is that of its close.
	run jq -r '[.client.port, .cookie, .upstream_cookie] | @tsv' "$OUT/watch.out"
	assert_equal "$(printf '%s\n' "${lines[@]}" | sort -u | wc -l)" 2
	run -143 stop watch
}

@test "watch: through HAProxy, by the reversed ends; of older connections only the end is reported" {
	on proxy tproxy-setup up -q --port 80 --to '*:3129'
	serve
	start_haproxy proxy <<-END
		listen one
			bind :3129 transparent
			source 0.0.0.0 usesrc client
			server server 198.51.100.2:80
	END
	wait_listen proxy 3129
	connection "$V4" 192.0.2.2:40001 before
	watch -H -o event,client,origdst,upstream_local,upstream,bytes_up,bytes_down,paired_by
	connection "$V4" 192.0.2.2:40002 after
	wait_line watch.out 'open.*40002'
	touch "$OUT/end"
	wait_line watch.out 'close.*40001'
	wait_line watch.out 'close.*40002'
	run cat "$OUT/watch.out"
	assert_line --regexp "^open +192\.0\.2\.2:40002 +$V4:80 +192\.0\.2\.2:40002 +$V4:80 +[05] +[05] +guessed\$"
	assert_line --regexp "^close +192\.0\.2\.2:40002 +$V4:80 +192\.0\.2\.2:40002 +$V4:80 +5 +5 +guessed\$"
	assert_line --regexp "^close +192\.0\.2\.2:40001 +$V4:80 +192\.0\.2\.2:40001 +$V4:80 +5 +5 +guessed\$"
	assert_equal "${#lines[@]}" 3
}

@test "watch: a connection shorter than the polling interval opens and closes at once; filters" {
	intercept 80
	relay
	peer server server serve 80 recv:hello send:world eof
	watch -H -o event,client,upstream_local,bytes_up,bytes_down --peer 192.0.2.10
	# Stopped, it cannot have seen them alive.
	signal watch STOP
	on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 80 send:hello recv:world fin eof
	on client "$PEER" -b 192.0.2.10:40002 connect "$V4" 80 send:hello recv:world fin eof
	wait_until 5 not_there 192.0.2.10
	signal watch CONT
	wait_line watch.out close
	run cat "$OUT/watch.out"
	assert_line --index 0 --regexp '^open +192\.0\.2\.10:40002 +192\.0\.2\.10:40002 +5 +5$'
	assert_line --index 1 --regexp '^close +192\.0\.2\.10:40002 +192\.0\.2\.10:40002 +5 +5$'
	assert_equal "${#lines[@]}" 2
}

not_there() {
	! on proxy tproxy-inspect -qaH --peer "$1" --state ESTAB,CLOSE-WAIT,LAST-ACK,FIN-WAIT-1,FIN-WAIT-2
}

@test "watch --until, --timeout: statuses, and invalid conditions" {
	intercept 80
	relay
	serve
	watch --json --until 'event=close client=192.0.2.0/24:40001 bytes_up>=5 bytes_down<1K' --timeout 30s
	connection "$V4" 192.0.2.2:40002 other
	connection "$V4" 192.0.2.2:40001 one
	touch "$OUT/end"
	run wait_exit watch
	assert_success
	run tail -n 1 "$OUT/watch.out"
	assert_output --partial '"event":"close"'
	assert_output --partial '"port":40001'
	run --separate-stderr -1 on proxy tproxy-inspect watch --until event=open --timeout 300ms
	assert_regex "$stderr" 'open connections: 0;.*--until did not come'
	run -0 on proxy tproxy-inspect watch -q --timeout 300ms
	assert_output ""
	local bad
	for bad in 'evnt=open' 'event' 'event>open' 'bytes_up=many' 'client=192.0.2.300'; do
		run --separate-stderr -2 on proxy tproxy-inspect watch --until "event=open $bad" --timeout 100ms
		assert_regex "$stderr" "${bad%%[=>]*}"
	done
}

# The kernel drops what the queue of a netlink socket (4: NETLINK_SOCK_DIAG) does not hold.
events_are_lost() {
	on proxy awk '$2 == 4 && $9 > 0 { found = 1 } END { exit !found }' /proc/self/net/netlink
}

@test "watch: lost events are reported, and connections that ended meanwhile are still found" {
	intercept 80
	relay
	serve
	connection "$V4" 192.0.2.2:40001 early
	watch --json
	signal watch STOP
	# More than its queue holds, of which it need not tell: none of them is transparent.
	on proxy /usr/bin/python3 -c 'import socket
l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(64)
for i in range(6000):
    c = socket.create_connection(l.getsockname()); c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"); s = l.accept()[0]; c.close(); s.close()'
	wait_until 10 events_are_lost
	touch "$OUT/end"
	wait_until 5 not_there 192.0.2.2
	signal watch CONT
	wait_line watch.out '"close".*40001'
	wait_line watch.err 'events came faster than they were read'
	run jq -c '[.event, .client.port]' "$OUT/watch.out"
	assert_line '["resync",null]'
	assert_equal "$(grep -v resync <<<"$output")" '["close",40001]'
	# It goes on as before.
	rm "$OUT/end" "$OUT/early"
	connection "$V4" 192.0.2.2:40002 late
	touch "$OUT/end"
	wait_line watch.out '"close".*40002'
	run jq -c 'select(.client.port == 40002) | [.event, .bytes_up]' "$OUT/watch.out"
	assert_line '["close",5]'
}

@test "watch: a reader that goes away ends it; it hides other users' connections, and says so" {
	intercept 80
	relay
	serve
	bg short proxy bash -c 'tproxy-inspect watch -H -o event 2>"$0" | head -n 1' "$OUT/watch.err"
	wait_line watch.err 'open connections: '
	connection "$V4" 192.0.2.2:40001 one
	touch "$OUT/end"
	run wait_exit short
	assert_success
	assert_equal "$(cat "$OUT/short.out")" open
	run --separate-stderr on proxy setpriv --bounding-set=-all --inh-caps=-all tproxy-inspect watch --mark 1 --timeout 500ms -o +prog
	assert_success
	run --separate-stderr -2 on proxy tproxy-inspect watch -o fd
	assert_regex "$stderr" "'fd' is not a column here"
}

@test "watch -u: UDP flows of tproxy-relay, as it lists them; TCP only if asked for, too" {
	dgram server server serve 5300
	intercept 80
	on proxy tproxy-setup up -q --name udp -u --port 5300 --to "$RELAY_PORT"
	bg relay proxy tproxy-relay -t -u "$RELAY_PORT" -o event,client,reason
	wait_listen proxy "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT" udp
	serve
	watch -uH -o event,proto,client,origdst,upstream,packets_up,packets_down,bytes_up,bytes_down,paired_by,prog
	bg both proxy tproxy-inspect watch -tuj
	wait_line both.err 'open connections: '
	# They use one socket to the upstream, one after the other, and are two all the same.
	ask_from client 40002 "$V4" 5300 1
	wait_line relay.out '^close 192.0.2.2:40002 done$'
	ask_from client 40002 "$V4" 5300 1
	connection "$V4" 192.0.2.2:40001 tcp
	wait_line both.out '"open".*"tcp".*40001'
	ask_from client 40003 "$V6" 5300 3
	wait_line watch.out 'open .*40003'
	wait_until 15 closed_twice
	run cat "$OUT/watch.out"
	assert_line --regexp "^open +udp +192\.0\.2\.2:40002 +$V4:5300 +$V4:5300 +1 +[01] +20 +(0|20) +relay +tproxy-relay\$"
	assert_line --regexp "^close +udp +192\.0\.2\.2:40002 +$V4:5300 +$V4:5300 +1 +1 +20 +20 +relay +tproxy-relay\$"
	assert_line --regexp "^open +udp +\[2001:db8:1::2\]:40003 "
	assert_equal "$(grep -c '^open .*40002' "$OUT/watch.out")" 2
	refute_output --partial 40001
	touch "$OUT/end"
}

# two_udp_relays: one for port 5300, whose flows are soon over, and `other` for port 5301.
two_udp_relays() {
	dgram server server serve 5300
	dgram far server serve 5301
	intercept_udp 5300
	on proxy tproxy-setup up -q --name other -u --port 5301 --to 3130
	udp_relay --udp-timeout 1s -o event,client
	bg other proxy tproxy-relay -u 3130 -o event,client
	wait_listen proxy 3130 udp
}

# sees_flow PORT: a flow from there through the first relay opens and closes.
sees_flow() {
	ask_from client "$1" "$V4" 5300 1
	wait_line watch.out "^open +192\.0\.2\.2:$1\$"
	wait_line watch.out "^close +192\.0\.2\.2:$1\$"
}

@test "watch -u: a relay that stands still hides no other relay's flows, and its own stay open" {
	two_udp_relays
	watch -uH -o event,client
	ask_from client 40003 "$V4" 5301 3 # a flow of one answer would be over a second later
	wait_line watch.out '^open +192\.0\.2\.2:40003$'
	signal other STOP
	wait_line watch.err "$(pid_of other).*: its flows are missing\$"
	sees_flow 40004
	sees_flow 40005
	signal other CONT
	run -1 grep 'close.*40003' "$OUT/watch.out"
	assert_equal "$(grep -c missing "$OUT/watch.err")" 1
}

@test "watch -u: other users at relays' names, silent, hide no flow" {
	root_only "needs a second user id"
	two_udp_relays
	impostors liars silent
	watch -uH -o event,client
	sees_flow 40004
	sees_flow 40005
	assert_line_in watch.err "not asked: other users' have taken too long: its flows are missing"
	assert_equal "$(grep -c missing "$OUT/watch.err")" 1
}

@test "watch -u: relays whose pids cannot be seen have flows of their own" {
	two_udp_relays
	bg watch proxy unshare --mount --pid --fork --kill-child --mount-proc tproxy-inspect watch -uH -o event,client
	wait_line watch.err 'open connections: '
	ask_from client 40002 "$V4" 5300 1
	ask_from client 40003 "$V4" 5301 1
	wait_line watch.out '^open +192\.0\.2\.2:40002$'
	wait_line watch.out '^open +192\.0\.2\.2:40003$'
}

closed_twice() {
	(($(grep -c '^close .*40002' "$OUT/watch.out") == 2))
}

# In a sanitizer build: ncurses keeps memory on purpose (curs_memleaks(3)).
ncurses_leaks() {
	echo leak:libtinfo >"$BATS_TEST_TMPDIR/leaks"
	export LSAN_OPTIONS=suppressions=$BATS_TEST_TMPDIR/leaks:print_suppressions=0
}

one_connection() {
	intercept 80
	relay
	serve
	connection "$V4" 192.0.2.2:40001 one
}

# (ncurses sends what has changed only: words that come upon blanks are whole.)
@test "watch on a terminal: the screen, its views, freeze, reset, quit; a terminal too small, resized" {
	ncurses_leaks
	intercept 80
	relay
	serve
	peer four client -b 192.0.2.2:40001 connect "$V4" 80 send:hello recv:world "touch:$OUT/four" gone
	wait_until 5 test -e "$OUT/four"
	run on proxy env TERM=xterm "$TOP/tests/lib/terminal" tproxy-inspect watch <<-END
		? CLIENT
		? 192\.0\.2\.2:40001
		? TAB view
		+ 2
		? CONNS
		+ \x20
		? FROZEN
		+ \x20
		+ k
		+ n
		+ 1
		+ k
		+ y
		? no connection is open
		+ q
		.
	END
	assert_success
	run wait_exit four
	assert_success # it saw the reset
	run on proxy env TERM=xterm "$TOP/tests/lib/terminal" sh -c 'stty rows 8 cols 40; exec tproxy-inspect watch' <<-'END'
		? terminal too small
		= 24 80
		? CLIENT
		+ q
		.
	END
	assert_success
	# What can show no screen gets records.
	run on proxy env TERM=dumb-nothing "$TOP/tests/lib/terminal" tproxy-inspect watch --timeout 1s <<<.
	assert_success
	assert_output --partial 'open connections: 0'
}

@test "watch on a terminal: a filter is typed, and a wrong one is named; colours unless NO_COLOR" {
	ncurses_leaks
	one_connection
	run on proxy env TERM=xterm "$TOP/tests/lib/terminal" tproxy-inspect watch <<-'END'
		? 192\.0\.2\.2:40001
		+ /
		? filter: _
		> client=192.0.2.99
		? no connection matches the filter
		+ /
		+ \x15
		> client=192.0.2.2
		? 192\.0\.2\.2:40001
		+ /
		+ \x15
		> nonsense=1
		? 'nonsense
		+ q
		.
	END
	assert_success
	run on proxy env -u NO_COLOR TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-inspect watch --timeout 3s
	assert_output --partial $'\e[32m'
	run on proxy env NO_COLOR=1 TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-inspect watch --timeout 3s
	assert_output --partial 40001
	refute_output --regexp $'\e\\[[0-9;]*3[0-7]m'
	touch "$OUT/end"
}

@test "watch on a terminal: resized in steps, to too small and back, whatever is shown or typed" {
	ncurses_leaks
	one_connection
	run on proxy env TERM=xterm "$TOP/tests/lib/terminal" tproxy-inspect watch <<-'END'
		? 192\.0\.2\.2:40001
		= 18 70
		? q quit
		= 10 60
		? q quit
		= 10 59
		? needs 60x10, has 59x10
		= 9 60
		? 60x9
		= 3 20
		? too small
		= 1 1
		= 2 10
		= 1 200
		= 200 1
		= 50 200
		? CLIENT
		? 192\.0\.2\.2:40001
		= 10 60
		+ ?
		? reverse
		= 9 60
		? too small
		= 24 80
		? reverse
		+ ?
		? 192\.0\.2\.2:40001
		+ /
		= 5 60
		? too small
		+ prog=tproxy-relay
		= 24 80
		? filter: prog=tproxy-relay_
		+ \r
		? filter prog=tproxy-relay
		+ k
		= 9 60
		? too small
		+ n
		= 24 80
		? 192\.0\.2\.2:40001
		+ q
		.
	END
	assert_success
	touch "$OUT/end"
	run -0 wait_exit one # nobody has reset it
}

@test "watch on a terminal: names of processes and interfaces never reach it raw; colours stay what they were" {
	ncurses_leaks
	local prog=$'\e]0;own\a\e[45mX' device=$'\e[46m\b'
	intercept 80
	serve
	cp "$(type -P tproxy-relay)" "$BATS_TEST_TMPDIR/$prog"
	bg relay proxy "$BATS_TEST_TMPDIR/$prog" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	connection "$V4" 192.0.2.2:40001 one
	# A connection of link-local addresses has the interface in its ends.
	on proxy sh -c 'ip link set toclient down; ip link set toclient name "$1"; ip link set "$1" up
		ip addr add fe80::1/64 dev "$1" nodad' sh "$device"
	on client ip addr add fe80::2/64 dev toproxy nodad
	bg direct proxy tproxy-listen --hold 0 --redirect -6 '[::]:3131'
	wait_listen proxy 3131
	bg far client python3 -c 'import socket, sys
s = socket.create_connection(("fe80::1%toproxy", 3131)); print("ready", flush=True); s.recv(1)'
	wait_line far.out ready
	run on proxy env -u NO_COLOR TERM=xterm "$TOP/tests/lib/terminal" tproxy-inspect watch -a <<-'END'
		? 192\.0\.2\.2:40001
		? fe80
		+ 3
		? ORIGDST
		+ 1
		+ s
		+ s
		+ s
		+ s
		+ /
		> prog~
		+ \x15
		> prog=\033]0;own\007\033[45mX
		+ j
		+ k
		? reset 1 connection
		+ n
		+ q
		X \x1b\[4[56]m
		X \x1b\]
		X \x07
		.
	END
	assert_success
	assert_output --partial '\033]0;own\007'
	assert_output --partial '[46m'
	run on proxy env -u NO_COLOR TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-inspect -a
	assert_output --partial $'\e[32mESTAB' # in colour, and yet
	refute_output --regexp $'\e\\[4|\e\\]|\a|\b'
	touch "$OUT/end"
}
