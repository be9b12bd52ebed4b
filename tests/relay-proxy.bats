#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval and the programs that are started expand them
#
# tproxy-relay and the PROXY protocol: accepted from a load balancer in front, sent to the upstream.
#
#   somebody ---> load balancer (host client, 192.0.2.2,   ---> proxy, relay at *:3129 ---> server
#   192.0.2.20    2001:db8:1::2) tells who it was                                           198.51.100.2
#                 bystander (203.0.113.2) is not trusted

bats_require_minimum_version 1.5.0
load lib/relay

setup() { lab_up; }

teardown() { lab_down; }

LB=192.0.2.2,2001:db8:1::2
P4=192.0.2.1
P6=2001:db8:1::1

# From 192.0.2.20 port 1234 and its like in IPv6, to the server's port 8000.
V1_4='PROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\r\n'
V1_6='PROXY TCP6 2001:db8:1::20 2001:db8:2::2 1234 8000\r\n'
SIGNATURE='\r\n\r\n\0\r\nQUIT\n'
ENDS_4='\xc0\0\x02\x14\xc6\x33\x64\x02\x04\xd2\x1f\x40'
V2_4=$SIGNATURE'\x21\x11\0\x0c'$ENDS_4
V2_6=$SIGNATURE'\x21\x21\0\x24\x20\x01\r\xb8\0\x01\0\0\0\0\0\0\0\0\0\x20\x20\x01\r\xb8\0\x02\0\0\0\0\0\0\0\0\0\x02\x04\xd2\x1f\x40'

# header_relay OPTION...: a relay at any address that accepts headers from the load balancer.
header_relay() {
	on proxy tproxy-setup up -q --divert-only
	bg relay proxy tproxy-relay --accept-proxy "$LB" --control "$OUT/control" "$@" "*:$RELAY_PORT"
	serves relay
}

# say HEADER STEP...: the load balancer connects, says that, and acts.
say() {
	on client "$PEER" connect "$P4" "$RELAY_PORT" "send:$1" "${@:2}"
}

say6() {
	on client "$PEER" connect "$P6" "$RELAY_PORT" "send:$1" "${@:2}"
}

# refusals REASON: how many connections were refused for it, as the counters say.
refusals() {
	counter "$1"
}

# ---------------------------------------------------------------- accepted

@test "versions 1 and 2, both families: the server sees the client of the header" {
	local header
	header_relay
	for header in "$V1_4" "$V2_4" "$V1_6" "$V2_6"; do
		peer server server listen 8000 who recv:hello eof send:world close
		case $header in
		"$V1_6" | "$V2_6") run -0 say6 "${header}hello" fin recv:world eof ;;
		*) run -0 say "${header}hello" fin recv:world eof ;;
		esac
		run -0 wait_exit server
		run cat "$OUT/server.out"
		case $header in
		"$V1_6" | "$V2_6") assert_output '2001:db8:1::20 1234' ;;
		*) assert_output '192.0.2.20 1234' ;;
		esac
	done
	stop relay
	assert_equal "$(grep -c ' close [0-9] tcp 192\.0\.2\.20:1234 198\.51\.100\.2:8000 proxy-protocol 192\.0\.2\.20:1234 198\.51\.100\.2:8000 addr+port 5 5 [0-9.]* done$' "$OUT/relay.out")" 2
	assert_equal "$(grep -c ' close [0-9] tcp \[2001:db8:1::20\]:1234 \[2001:db8:2::2\]:8000 proxy-protocol ' "$OUT/relay.out")" 2
}

@test "the bytes after the header go upstream unchanged, though they come with it or look like one" {
	local big
	big=$(random_file 3M)
	header_relay --source own
	printf '%b' "$V2_4$V1_4" >"$OUT/stream"
	cat "$big" >>"$OUT/stream"
	printf '%b' "$V1_4" | cat - "$big" >"$OUT/expected"
	peer server server listen 8000 "keep:$OUT/got" send:bye close
	run -0 on client "$PEER" connect "$P4" "$RELAY_PORT" "file:$OUT/stream" fin recv:bye eof
	run -0 wait_exit server
	cmp "$OUT/got" "$OUT/expected"
	stop relay
	assert_line_in relay.out " $(stat -c %s "$OUT/expected") 3 [0-9.]+ done$"
}

@test "a header may come byte by byte, and a server may speak first" {
	local i steps=()
	header_relay
	peer server server listen 8000 send:220 who recv:x close
	for ((i = 0; i < ${#V1_4} - 4; i++)); do
		steps+=("send:${V1_4:i:1}")
	done
	run -0 on client "$PEER" connect "$P4" "$RELAY_PORT" "${steps[@]}" 'send:\r' 'send:\n' recv:220 send:x eof
	run -0 wait_exit server
	assert_line_in server.out '^192.0.2.20 1234$'
	stop relay
}

@test "headers of HAProxy and curl are understood" {
	start_nginx
	header_relay --upstream "$V4:80" --upstream "[$V6]:80" -o +unique_id
	start_header_sender "$P4:$RELAY_PORT" 'some-%[src]'
	run -0 on bystander curl -sS --max-time 10 --local-port 40001 http://192.0.2.2:8001/who
	assert_output '203.0.113.2 40001'
	run -0 on bystander curl -sS --max-time 10 --local-port 40002 http://192.0.2.2:8002/who
	assert_output '203.0.113.2 40002'
	run -0 on client curl -sS --max-time 10 --haproxy-protocol --local-port 40003 "http://$P4:$RELAY_PORT/who"
	assert_output '192.0.2.2 40003'
	run -0 on client curl -sS --max-time 10 --haproxy-protocol --local-port 40004 "http://[$P6]:$RELAY_PORT/who"
	assert_output '2001:db8:1::2 40004'
	stop relay
	assert_line_in relay.out ' close 1 tcp 203\.0\.113\.2:40001 192\.0\.2\.2:8001 proxy-protocol .* done -$'
	assert_line_in relay.out ' close 2 tcp 203\.0\.113\.2:40002 192\.0\.2\.2:8002 proxy-protocol .* done some-203\.0\.113\.2$'
	assert_line_in relay.out ' close 4 tcp \[2001:db8:1::2\]:40004 \[2001:db8:1::1\]:3129 proxy-protocol '
}

@test "a header without addresses leaves the connection's own ends" {
	local header
	header_relay --upstream "$V4:8000" -4
	for header in 'PROXY UNKNOWN\r\n' 'PROXY UNKNOWN ff:: 1 2 3 garbage\r\n' "$SIGNATURE\\x20\\0\\0\\0" \
		"$SIGNATURE\\x21\\0\\0\\x03abc" "$SIGNATURE\\x20\\x11\\0\\x0c$ENDS_4" "$SIGNATURE\\x21\\x12\\0\\x0c$ENDS_4"; do
		[[ $header != *abc ]] || header=${header/x03abc/x04\\x04\\0\\x01z}
		peer server server listen 8000 who recv:hello eof close
		run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$P4" "$RELAY_PORT" "send:${header}hello" fin eof
		run -0 wait_exit server
		assert_line_in server.out '^192.0.2.2 40001$'
	done
	stop relay
	assert_equal "$(grep -c ' close [0-9] tcp 192\.0\.2\.2:40001 - none .* 5 0 [0-9.]* done$' "$OUT/relay.out")" 6
}

@test "without an upstream such a connection is direct, and refused" {
	header_relay
	run -0 say "$SIGNATURE\\x20\\0\\0\\0" gone
	wait_line relay.out ' refused - tcp 192\.0\.2\.2:[0-9]+ - none .* direct$'
	stop relay
}

@test "headers are read from listed peers only: from others they are data" {
	header_relay --upstream "$V4:8000" -4
	peer server server listen 8000 who "recv:$V1_4" eof close
	run -0 on bystander "$PEER" -b 203.0.113.2:40001 connect 203.0.113.1 "$RELAY_PORT" "send:$V1_4" fin eof
	run -0 wait_exit server
	assert_line_in server.out '^203.0.113.2 40001$'
	stop relay
	assert_line_in relay.out ' close 1 tcp 203\.0\.113\.2:40001 - none .* done$'
}

@test "an intercepted connection may begin with a header, too" {
	intercept 80
	bg relay proxy tproxy-relay --accept-proxy "$LB" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	peer server server listen 8000 who recv:hello eof close
	run -0 on client "$PEER" connect "$V4" 80 "send:${V2_4}hello" fin eof
	run -0 wait_exit server
	assert_line_in server.out '^192.0.2.20 1234$'
	stop relay
}

# ---------------------------------------------------------------- refused

@test "no header, a bad, oversized or partial one: reset, recorded, counted, and no effect on others" {
	local header count=0 checksum='\x03\0\x04'
	header_relay --source own
	peer other server listen 8001 echo
	bg steady client "$PEER" connect "$P4" "$RELAY_PORT" 'send:PROXY TCP4 192.0.2.20 198.51.100.2 1 8001\r\n' \
		send:a recv:a "touch:$OUT/open" "await:$OUT/over" send:b recv:b fin eof
	wait_until 10 test -e "$OUT/open"
	while read -r header; do
		run -0 say "$header" gone
		((++count))
	done <<-END
		GET / HTTP/1.0\r\n\r\n
		\x16\x03\x01
		PROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\n
		PROXY TCP4 192.0.2.20 198.51.100.2 1234\r\n
		PROXY TCP4 192.0.2.20 198.51.100.2 1234 80000\r\n
		PROXY TCP4 2001:db8::1 198.51.100.2 1234 8000\r\n
		PROXY TCP6 192.0.2.20 198.51.100.2 1234 8000\r\n
		PROXY UDP4 192.0.2.20 198.51.100.2 1234 8000\r\n
		PROXY UNKNOWN $(printf 'x%.0s' {1..120})
		PROXY TCP4 192.0.2.20 0.0.0.0 1234 8000\r\n
		PROXY TCP4 0.0.0.0 198.51.100.2 1234 8000\r\n
		PROXY TCP4 192.0.2.20 198.51.100.2 1234 0\r\n
		PROXY TCP4 192.0.2.20 224.0.0.1 1234 8000\r\n
		PROXY TCP6 :: 2001:db8:2::2 1234 8000\r\n
		$SIGNATURE\\x11\\x11\\0\\x0c$ENDS_4
		$SIGNATURE\\x22\\x11\\0\\x0c$ENDS_4
		$SIGNATURE\\x21\\x41\\0\\x0c$ENDS_4
		$SIGNATURE\\x21\\x11\\0\\x0b$ENDS_4
		$SIGNATURE\\x21\\x11\\xff\\xff$ENDS_4
		$SIGNATURE\\x21\\x11\\0\\x0f$ENDS_4\\x05\\0\\x20
		$SIGNATURE\\x21\\x11\\0\\x13$ENDS_4${checksum}aaaa
		$SIGNATURE\\x21\\x11\\0\\x1a$ENDS_4\\x05\\0\\x04once\\x05\\0\\x04more
		$SIGNATURE\\x21\\x11\\x07\\xf1$ENDS_4
	END
	# Truncated: the peer ends, or resets.
	run -0 say "${V2_4:0:30}" fin gone
	run -0 say "${V1_4:0:30}" fin gone
	run -0 on client "$PEER" connect "$P4" "$RELAY_PORT" fin gone
	run -0 say "${V1_4:0:30}" rst
	((count += 4))
	wait_until 10 eval '[[ $(refusals proxy-header) == "$count" ]]'
	touch "$OUT/over"
	run -0 wait_exit steady
	signal relay USR1
	wait_line relay.err "counters: .*accepted=$((count + 1)) .* proxy-header=$count"
	stop relay
	assert_equal "$(grep -c ' refused - tcp 192\.0\.2\.2:[0-9]* - none .* proxy-header$' "$OUT/relay.out")" "$count"
	assert_line_in relay.out ' close 1 tcp 192\.0\.2\.20:1 198\.51\.100\.2:8001 proxy-protocol .* 2 2 [0-9.]+ done$'
	assert_equal "$(grep -c 'PROXY header' "$OUT/relay.err")" 1
	assert_line_in relay.err '^tproxy-relay: warning: 192\.0\.2\.2:[0-9]+: PROXY header: no PROXY protocol header \(proxy-header; more'
}

@test "hundreds of slow headers cost no time, are seen waiting, and are reset after three seconds" {
	local before after
	header_relay --threads 2
	peer server server serve 8000 echo
	# All are there before it looks: the three seconds of each begin then.
	signal relay STOP
	bg slow client python3 -c '
import select, socket, sys
held = [socket.create_connection(("192.0.2.1", 3129)) for i in range(300)]
for s in held[:200]: s.send(b"PROXY TCP4 ")
for s in held[200:]: s.send(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x07\xf0" + bytes(1500))
print("sent", flush=True)
for s in held:
    s.settimeout(30)
    try:
        s.recv(1)
        sys.exit("no reset")
    except ConnectionResetError:
        pass'
	wait_line slow.out sent
	signal relay CONT
	wait_until 10 eval '[[ $(ask connections | grep -c "\"state\":\"proxy-header\"") == 300 ]]'
	before=$(cpu_ticks relay)
	run -0 say "${V1_4}hello" recv:hello fin eof
	after=$(cpu_ticks relay)
	((after - before < 20 * TIME_SCALE)) || fail "$((after - before)) ticks of CPU while nothing came"
	run -0 wait_exit slow 20
	assert_equal "$(refusals proxy-header)" 300
	# (Another thread than the one that answers may have the last of them still.)
	wait_until 10 eval '[[ $(counter connections) == 0 ]]'
	stop relay
	awk '/ refused / { n++ } END { exit n != 300 }' "$OUT/relay.out"
}

@test "a destination from a header is judged like one from the kernel: ACL, own listeners, families" {
	header_relay --deny-dst 127.0.0.0/8 --deny-dst '*:22'
	run -0 say 'PROXY TCP4 192.0.2.20 127.0.0.1 1 80\r\n' gone
	run -0 say 'PROXY TCP4 192.0.2.20 198.51.100.2 1 22\r\n' gone
	run -0 say "PROXY TCP4 192.0.2.20 $P4 1 $RELAY_PORT\\r\\n" gone
	run -0 say "PROXY TCP6 2001:db8:1::20 $P6 1 $RELAY_PORT\\r\\n" gone
	assert_equal "$(refusals denied)" 2
	assert_equal "$(refusals loop)" 2
	stop relay
	assert_line_in relay.out ' refused - tcp 192\.0\.2\.20:1 127\.0\.0\.1:80 proxy-protocol .* denied$'
	assert_line_in relay.out ' refused - tcp \[2001:db8:1::20\]:1 \[2001:db8:1::1\]:3129 proxy-protocol .* loop$'
	bg relay proxy tproxy-relay --accept-proxy "$LB" --upstream "[$V6]:8000" -4 --control "$OUT/control" "*:$RELAY_PORT"
	run -2 wait_exit relay
	bg relay proxy tproxy-relay --accept-proxy "$LB" --upstream "[$V6]:8000" --source client --control "$OUT/control" -6 "*:$RELAY_PORT"
	serves relay
	run -0 say6 "$V1_4" gone
	stop relay
	assert_line_in relay.out ' refused 1 tcp 192\.0\.2\.20:1234 198\.51\.100\.2:8000 proxy-protocol .* source$'
	assert_line_in relay.err ': 192\.0\.2\.20:1234: bind: \[2001:db8:2::2\]:8000 is of the other address family'
}

# own_services: one on the proxy itself, at every address of both families, that says so.
own_services() {
	peer own proxy serve 8001 send:own close
}

@test "a header cannot name this host, its loopback or its link, in any notation" {
	local to own_anycast=2001:db8:1::
	own_services
	on proxy sysctl -qw net.ipv6.conf.all.forwarding=1
	header_relay --source own -v
	for to in 127.0.0.1 127.8.8.8 169.254.9.9 192.0.2.1 198.51.100.1 192.0.2.255; do
		run -0 say "PROXY TCP4 192.0.2.20 $to 1234 8001\\r\\n" gone
		wait_line relay.out " refused - tcp 192\\.0\\.2\\.20:1234 ${to//./\\.}:8001 proxy-protocol .* proxy-address\$"
	done
	for to in ::1 fe80::1 febf::1 2001:db8:1::1 2001:db8:2::1 $own_anycast; do
		run -0 say6 "PROXY TCP6 2001:db8:1::20 $to 1234 8001\\r\\n" gone
		wait_line relay.out " refused - tcp \\[2001:db8:1::20\\]:1234 \\[$to\\]:8001 proxy-protocol .* proxy-address\$"
	done
	# An IPv4 address in IPv6's clothes is that address.
	run -0 say 'PROXY TCP6 ::ffff:192.0.2.20 ::ffff:127.0.0.1 7 8001\r\n' gone
	wait_line relay.out ' refused - tcp 192\.0\.2\.20:7 127\.0\.0\.1:8001 proxy-protocol .* proxy-address$'
	assert_equal "$(refusals proxy-address)" 13
	stop relay
	assert_line_in relay.err ': 192\.0\.2\.20:1234: PROXY header: its destination 127\.0\.0\.1:8001 is a loopback address, and no --allow-dst names it \(proxy-address'
	assert_line_in relay.err ': its destination 169\.254\.9\.9:8001 is a link-local address, and no '
	assert_line_in relay.err ': its destination 198\.51\.100\.1:8001 is an address of this host, and no '
	assert_line_in relay.err ': its destination \[::1\]:8001 is a loopback address, and no '
	assert_line_in relay.err ': its destination \[fe80::1\]:8001 is a link-local address, and no '
	assert_line_in relay.err ': its destination \[2001:db8:2::1\]:8001 is an address of this host, and no '
	refute_line_in relay.out ' open '
}

@test "an address added while the relay runs counts as its own at once" {
	own_services
	header_relay
	peer server server serve 8001 send:there close
	run -0 say 'PROXY TCP4 192.0.2.20 198.51.100.2 1234 8001\r\n' recv:there eof
	on proxy ip address add 203.0.113.77/32 dev lo
	run -0 say 'PROXY TCP4 192.0.2.20 203.0.113.77 1234 8001\r\n' gone
	on proxy ip address add 2001:db8:77::7/128 dev lo nodad
	run -0 say6 'PROXY TCP6 2001:db8:1::20 2001:db8:77::7 1234 8001\r\n' gone
	assert_equal "$(refusals proxy-address)" 2
	# What policy routing keeps here is ours as well.
	on proxy ip rule add pref 50 to 203.0.113.128/25 lookup 77
	on proxy ip route add local 203.0.113.128/25 dev lo table 77
	run -0 say 'PROXY TCP4 192.0.2.20 203.0.113.200 1234 8001\r\n' gone
	assert_equal "$(refusals proxy-address)" 3
	stop relay
}

@test "--allow-dst lets headers name what it names itself, and not what it merely includes" {
	own_services
	header_relay --source own --allow-dst 0.0.0.0/0 --allow-dst ::/0 --allow-dst '*:8001' --allow-dst 127.0.0.1:8001 \
		--allow-dst '[::1]:8001' --allow-dst 198.51.100.1 --allow-dst 2001:db8:2::1/128:8001 --allow-dst 192.0.2.0/24
	for to in 127.0.0.1 198.51.100.1; do
		run -0 say "PROXY TCP4 192.0.2.20 $to 1 8001\\r\\n" recv:own eof
	done
	for to in ::1 2001:db8:2::1; do
		run -0 say6 "PROXY TCP6 2001:db8:1::20 $to 1 8001\\r\\n" recv:own eof
	done
	for to in '127.0.0.1 1 8002' '127.0.0.2 1 8001' '192.0.2.1 1 8001' '169.254.0.1 1 8001'; do
		run -0 say "PROXY TCP4 192.0.2.20 $to\\r\\n" gone
	done
	run -0 say6 'PROXY TCP6 2001:db8:1::20 2001:db8:1::1 1 8001\r\n' gone
	run -0 say6 'PROXY TCP6 2001:db8:1::20 ::1 1 8002\r\n' gone
	assert_equal "$(refusals proxy-address)" 6
	stop relay
}

@test "a loopback source from a header is refused if the upstream would see it" {
	own_services
	header_relay --allow-dst 127.0.0.0/8 --allow-dst ::1 --allow-dst 198.51.100.0/24 -v
	run -0 say 'PROXY TCP4 127.0.0.1 127.0.0.1 1234 8001\r\n' gone
	run -0 say 'PROXY TCP4 127.1.2.3 198.51.100.2 1234 8000\r\n' gone
	run -0 say6 'PROXY TCP6 ::1 ::1 1234 8001\r\n' gone
	assert_equal "$(refusals proxy-address)" 3
	stop relay
	assert_line_in relay.out ' refused - tcp 127\.0\.0\.1:1234 127\.0\.0\.1:8001 proxy-protocol .* proxy-address$'
	assert_line_in relay.err ': 127\.1\.2\.3:1234: PROXY header: its source is a loopback address, .*--source own'
	# Where it is not seen it does no harm: a load balancer passes its own host's clients on.
	header_relay --source own
	peer server server listen 8000 who recv:hello eof close
	run -0 say 'PROXY TCP4 127.0.0.1 198.51.100.2 1234 8000\r\nhello' fin eof
	run -0 wait_exit server
	assert_line_in server.out '^198\.51\.100\.1 '
	stop relay
	# With a fixed upstream the header leads nowhere.
	header_relay --upstream "$V4:8000" --upstream "[$V6]:8000"
	peer server server listen 8000 who recv:hello eof close
	run -0 say 'PROXY TCP4 192.0.2.20 127.0.0.1 1234 80\r\nhello' fin eof
	run -0 wait_exit server
	stop relay
}

@test "--inetd: a header's destination from the environment is judged in the same way" {
	own_services
	bg listen proxy tproxy-listen --accept-proxy 192.0.2.2 --log -o event,client "*:$RELAY_PORT" -- \
		tproxy-relay --inetd --source own -o event,client,reason
	wait_listen proxy "$RELAY_PORT"
	run -0 say 'PROXY TCP4 192.0.2.20 198.51.100.1 1 8001\r\n' gone
	run -0 say 'PROXY TCP4 192.0.2.20 127.0.0.1 1 8001\r\n' gone
	wait_line listen.err 'its destination 127\.0\.0\.1:8001 is a loopback address'
	assert_line_in listen.err 'its destination 198\.51\.100\.1:8001 is an address of this host'
	stop listen
}

@test "a leg that comes back as a header's destination is a loop, however many times" {
	header_relay --source own --upstream-mark 0
	# The relay's own connections to the server's port 8000 come back to its listener.
	redirect_own 8000 "$RELAY_PORT"
	run -0 say "$V1_4" gone
	wait_line relay.out ' refused .* loop$'
	assert_equal "$(refusals loop)" 1
	assert_equal "$(counter connections)" 0
	stop relay
	(($(grep -c . "$OUT/relay.out") <= 4)) || fail "$(<"$OUT/relay.out")"
}

@test "a header still awaited when the relay ends: the drain waits for it, but not longer" {
	# (A header has three seconds, which begin when it goes on: no more than signals is waited for in them.)
	header_relay
	signal relay STOP
	bg half client "$PEER" connect "$P4" "$RELAY_PORT" 'send:PROXY TCP4 ' "touch:$OUT/sent" gone
	wait_until 10 test -e "$OUT/sent"
	signal relay TERM
	signal relay CONT
	wait_until 10 has_heard "$(pid_of relay)"
	signal relay TERM
	run -0 wait_exit relay
	run -0 wait_exit half
	assert_line_in relay.out ' refused .* drained$'

	header_relay
	peer server server listen 8000 who recv:hello eof close
	signal relay STOP
	bg late client "$PEER" connect "$P4" "$RELAY_PORT" 'send:PROXY TCP4 ' "touch:$OUT/half" "await:$OUT/go" \
		'send:192.0.2.20 198.51.100.2 1234 8000\r\nhello' fin eof
	wait_until 10 test -e "$OUT/half"
	signal relay TERM
	signal relay CONT
	wait_until 10 has_heard "$(pid_of relay)"
	touch "$OUT/go"
	run -0 wait_exit late
	run -0 wait_exit relay
	assert_line_in relay.out ' close 1 .* done$'
}

@test "--accept-proxy and --send-proxy name invalid values" {
	run -2 tproxy-relay --accept-proxy 192.0.2.1/24 3129
	assert_output --partial '--accept-proxy 192.0.2.1/24: '
	run -2 tproxy-relay --accept-proxy '' 3129
	run -2 tproxy-relay --send-proxy 3 3129
	assert_output 'tproxy-relay: --send-proxy 3: must be one of 1|2'
}

# ---------------------------------------------------------------- said

@test "nginx gets the client and its destination, in both versions and families" {
	local version
	cat >"$OUT/nginx.conf" <<-END
		user root root; daemon off; master_process off; pid $OUT/nginx.pid; error_log $OUT/nginx.log;
		events { }
		http {
			access_log off;
			client_body_temp_path $OUT/tmp; proxy_temp_path $OUT/tmp; fastcgi_temp_path $OUT/tmp;
			uwsgi_temp_path $OUT/tmp; scgi_temp_path $OUT/tmp;
			server {
				listen *:8000 proxy_protocol;
				listen [::]:8000 ipv6only=on proxy_protocol;
				return 200 "\$proxy_protocol_addr \$proxy_protocol_port \$proxy_protocol_server_addr \$proxy_protocol_server_port \$remote_addr\n";
			}
		}
	END
	bg nginx server nginx -p "$OUT" -c "$OUT/nginx.conf" -e "$OUT/nginx.log"
	wait_listen server 8000
	intercept 8000
	for version in 1 2; do
		relay --source own --send-proxy "$version"
		run -0 on client curl -sS --max-time 10 --local-port "4000$version" "http://$V4:8000/"
		assert_output "192.0.2.2 4000$version 198.51.100.2 8000 198.51.100.1"
		run -0 on client curl -sS --max-time 10 --local-port "4010$version" "http://[$V6]:8000/"
		assert_output "2001:db8:1::2 4010$version 2001:db8:2::2 8000 2001:db8:2::1"
		stop relay
		# The header is no byte of the client's.
		assert_line_in relay.out " close 1 .* $(printf 'GET / HTTP/1.1\r\nHost: %s:8000\r\nUser-Agent: %s\r\nAccept: */*\r\n\r\n' \
			"$V4" "$(curl --version | sed -n 's/^curl \([0-9.]*\).*/curl\/\1/p')" | wc -c) [0-9]+ [0-9.]+ done$"
	done
}

@test "HAProxy accepts the header of version 2, with the UNIQUE_ID of the record" {
	local id
	cat >"$OUT/haproxy.cfg" <<-'END'
		defaults
			mode http
			timeout connect 5s
			timeout client 5s
			timeout server 5s
		frontend strict
			bind :8000 accept-proxy
			bind :::8000 v6only accept-proxy
			http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_unique_id]"
	END
	bg haproxy server haproxy -db -f "$OUT/haproxy.cfg"
	wait_listen server 8000
	intercept 8000
	relay --send-proxy 2 -o id,event,unique_id
	run -0 on client curl -sS --max-time 10 --local-port 40001 "http://$V4:8000/"
	assert_output --regexp '^192\.0\.2\.2 40001 198\.51\.100\.2 8000 [0-9a-f]{16}-1$'
	id=${output##* }
	run -0 on client curl -sS --max-time 10 --local-port 40002 "http://[$V6]:8000/"
	assert_output "2001:db8:1::2 40002 2001:db8:2::2 8000 ${id%-1}-2"
	stop relay
	assert_line_in relay.out "^1 open $id$"
	assert_line_in relay.out "^1 close $id$"
	assert_line_in relay.out "^2 close ${id%-1}-2$"
	relay --send-proxy 1 -o id,event,unique_id
	run -0 on client curl -sS --max-time 10 --local-port 40003 "http://$V4:8000/"
	assert_output '192.0.2.2 40003 198.51.100.2 8000 '
	stop relay
	assert_line_in relay.out "^1 close -$"
}

@test "the destination of a direct connection is the address that it connected to" {
	bg relay proxy tproxy-relay --upstream "$V4:8000" --upstream "[$V6]:8000" --source own --send-proxy 1 "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	peer server server listen 8000 "recv:PROXY TCP4 192.0.2.2 192.0.2.1 40001 $RELAY_PORT\\r\\n" eof close
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$P4" "$RELAY_PORT" fin eof
	run -0 wait_exit server
	stop relay
}

@test "the header leaves in one write with the client's data, and at once if there is none" {
	local listening
	intercept 8000
	bg relay proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -D -f -xx -s 200 -e trace=sendto,setsockopt -o "$OUT/calls" tproxy-relay --send-proxy 1 "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	listening=$(grep -c TCP_NODELAY "$OUT/calls")
	# The data is there before the server answers: its SYN is held up until the client has spoken.
	on server nft -f - <<-'END'
		table inet hold {
			chain input {
				type filter hook input priority 0
				tcp dport 8000 drop
			}
		}
	END
	peer server server listen 8000 'recv:PROXY TCP4 192.0.2.2 198.51.100.2 40001 8000\r\nhello' send:x eof close
	bg client client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 send:hello "touch:$OUT/spoken" recv:x fin eof
	wait_until 10 test -e "$OUT/spoken"
	on server nft delete table inet hold
	run -0 wait_exit client
	run -0 wait_exit server
	hex() { printf '%b' "$1" | od -An -v -tx1 | tr -d '\n' | sed 's/ /\\\\x/g'; }
	assert_line_in calls "\"$(hex 'PROXY TCP4 192.0.2.2 198.51.100.2 40001 8000\r\nhello')\""
	assert_equal "$(grep -c TCP_NODELAY "$OUT/calls")" "$listening"
	# Alone it must not keep what follows waiting until it is acknowledged (Nagle's algorithm).
	peer server server listen 8000 'recv:PROXY TCP4 192.0.2.2 198.51.100.2 40002 8000\r\n' send:220 recv:x eof close
	run -0 on client "$PEER" -b 192.0.2.2:40002 connect "$V4" 8000 recv:220 send:x fin eof
	run -0 wait_exit server
	wait_until 5 eval '[[ $(grep -c TCP_NODELAY "$OUT/calls") == $((listening + 1)) ]]'
	stop relay
}

# client -> first relay (proxy, TPROXY) -> second relay (server) -> bystander, where the client was going
@test "relay to relay: the second knows the client and its destination, and both records the same id" {
	local id
	intercept 8000 --iif toclient
	bg second server tproxy-relay --accept-proxy 198.51.100.1,2001:db8:2::1 --source own --upstream-mark 0 \
		-o event,client,origdst,origdst_by,upstream,unique_id,reason '*:3130'
	wait_listen server 3130
	relay --upstream 198.51.100.2:3130 --upstream '[2001:db8:2::2]:3130' --source own --send-proxy 2 -o event,unique_id
	peer far bystander serve 8000 echo
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect 203.0.113.2 8000 send:hello recv:hello fin eof
	run -0 on client "$PEER" -b '[2001:db8:1::2]:40002' connect 2001:db8:3::2 8000 send:hello recv:hello fin eof
	stop relay
	stop second
	id=$(awk '/^close/ { print $2; exit }' "$OUT/relay.out")
	assert_line_in second.out "^close 192\.0\.2\.2:40001 203\.0\.113\.2:8000 proxy-protocol 203\.0\.113\.2:8000 $id done$"
	assert_line_in second.out "^close \[2001:db8:1::2\]:40002 \[2001:db8:3::2\]:8000 proxy-protocol \[2001:db8:3::2\]:8000 ${id%-1}-2 done$"
}

@test "a received UNIQUE_ID is passed on, and shown in hexadecimal if it is not a word" {
	header_relay --source own --send-proxy 2 -o event,unique_id
	peer server server listen 8000 skip:28 'recv:\x05\0\x04a b\x01' skip:7 recv:hello eof close
	run -0 say "$SIGNATURE\\x21\\x11\\0\\x13${ENDS_4}\\x05\\0\\x04a b\\x01hello" fin eof
	run -0 wait_exit server
	stop relay
	assert_line_in relay.out '^close 0x61206201$'
}
