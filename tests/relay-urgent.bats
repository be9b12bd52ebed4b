#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Urgent data (MSG_OOB) through tproxy-relay: it arrives in its place, as ordinary data, and costs
# nobody a byte. A mark splits reads, stops splice(), and, without SO_OOBINLINE, takes a byte out.
#
#	client ---- proxy: TPROXY, tproxy-relay ---- server

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 8000-8100
}

teardown() { lab_down; }

# all_exact DIRECTION ADDRESS PORT SIZE COUNT: every byte of each, and both ends in an orderly way.
all_exact() {
	run on client "$TOP/tests/lib/urgent" "$@"
	assert_success
	assert_line "$5 of $5 exact"
	run cat "$OUT/server.out"
	assert_output ''
}

serve() {
	bg server server "$TOP/tests/lib/urgent" serve 8000 "$1"
	wait_listen server 8000
}

# done N UP DOWN: so many records of connections that carried so many bytes each way and ended well.
done_with() {
	assert_equal "$(grep -cE " $2 $3 [0-9.]+ done\$" "$OUT/relay.out")" "$1"
}

@test "4 MB, an urgent byte, 2,000 bytes and the end: all of it arrives, in both directions" {
	relay
	serve 4000000
	all_exact down "$V4" 8000 4000000 150
	all_exact up "$V6" 8000 4000000 150
	stop relay
	done_with 150 1 4002001
	done_with 150 4002002 0
}

@test "an urgent byte at the end of a full buffer is not removed" {
	relay
	serve 131072
	all_exact down "$V4" 8000 131072 300
	all_exact up "$V4" 8000 131072 300
	stop relay
	done_with 300 1 133073
	done_with 300 133074 0
}

@test "a passed listener's connections keep urgent data in its place, too" {
	bg relay proxy tproxy-listen --pass "$RELAY_PORT" -- tproxy-relay
	wait_listen proxy "$RELAY_PORT"
	serve 100
	all_exact up "$V4" 8000 100 200
	stop relay
	done_with 200 2102 0
}

@test "--inetd: a client's urgent data stays in its place" {
	bg relay proxy tproxy-listen "$RELAY_PORT" -- tproxy-relay --inetd --log off
	wait_listen proxy "$RELAY_PORT"
	serve 65536
	all_exact up "$V4" 8000 65536 20
	all_exact down "$V4" 8000 65536 20
	stop relay
}

# ---------------------------------------------------------------- PROXY headers

# header_listener PROGRAM OPTION...: one that awaits headers; what it asks the kernel is in $OUT/calls.
header_listener() {
	bg listener proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -D -f -e trace=recvfrom,poll,epoll_wait,setsockopt -o "$OUT/calls" \
		"$1" --accept-proxy 192.0.2.0/24 "${@:2}" '*:3129'
	wait_listen proxy 3129
}

# hold_headers: halves of headers with an urgent byte at their beginning, in the middle, and at the end,
# each awaited for three seconds.
hold_headers() {
	local steps signature='\r\n\r\n\0\r\nQUIT\n' held=()
	while read -ra steps; do
		bg "held${#held[@]}" client "$PEER" connect 192.0.2.1 3129 "${steps[@]}" gone
		held+=("held${#held[@]}")
	done <<-END
		urgent:P send:ROXY\\x20
		send:PRO urgent:X send:Y\\x20TCP4\\x20192.
		send:PROXY\\x20TCP4\\x2019 urgent:2
		urgent:\\r send:${signature#\\r}\\x21\\x11\\0\\x0c
		send:$signature\\x21\\x11 urgent:\\0 send:\\x0c\\xc0\\0
		send:$signature\\x21\\x11\\0\\x0c\\xc0 urgent:\\0
		urgent:PRO urgent:XY urgent:\\x20
	END
	for steps in "${held[@]}"; do
		run -0 wait_exit "$steps"
	done
}

# calls_since LINE: made since then; the start is not counted.
calls_since() { tail -n "+$(($1 + 1))" "$OUT/calls" | grep -c '(' || true; }

# Seven connections, each in up to three pieces: a look, a read and a wait for each piece. One that spins
# makes thousands of calls in three seconds.
headers_cost_little() {
	local before start=$SECONDS
	before=$(wc -l <"$OUT/calls")
	hold_headers
	before=$(calls_since "$before")
	# (It waits for its next tick four times a second.)
	((before < 130 + 5 * (SECONDS - start))) || fail "$before system calls for seven halves of a header"
	before=$(wc -l <"$OUT/calls")
	# A line comes byte by byte: nobody knows how many bytes are worth a look.
	run -0 on client "$PEER" connect 192.0.2.1 3129 'bytes:PROXY UNKNOWN 12345678901234567890123456789' \
		urgent:0 'bytes:1234567890' rst
	before=$(calls_since "$before")
	((before < 400)) || fail "$before system calls for 55 bytes of a header"
}

@test "a partial PROXY header with an urgent byte costs its bytes, not a core for three seconds" {
	header_listener tproxy-relay
	headers_cost_little
	wait_until 10 eval '[[ $(grep -c " refused - .* proxy-header$" "$OUT/listener.out") == 8 ]]'
	stop listener
}

@test "tproxy-listen: a partial PROXY header with an urgent byte costs its bytes" {
	header_listener tproxy-listen
	headers_cost_little
	wait_until 10 eval '[[ $(grep -c " refused .* proxy-header$" "$OUT/listener.out") == 8 ]]'
	stop listener
}

@test "urgent bytes in a PROXY header and right after it are read in their place" {
	local steps ends='\xc0\0\x02\x14\xc6\x33\x64\x02\x04\xd2\x1f\x40'
	bg relay proxy tproxy-relay --accept-proxy 192.0.2.0/24 '*:3129'
	wait_listen proxy 3129
	while IFS='|' read -ra steps; do
		peer server server listen 8000 who recv:hello eof close
		run -0 on client "$PEER" connect 192.0.2.1 3129 "${steps[@]}" fin eof
		run -0 wait_exit server
		assert_line_in server.out '^192\.0\.2\.20 1234$'
	done <<-END
		urgent:P|send:ROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\\r\\nhello
		send:PROXY TCP4 192.0.|urgent:2|send:.20 198.51.100.2 1234 8000\\r\\nhello
		send:PROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\\r|urgent:\\n|send:hello
		send:PROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\\r\\n|urgent:h|send:ello
		bytes:PROXY TCP4 192.0.2.20 198.|urgent:5|bytes:1.100.2 1234 8000\\r\\nhel|urgent:l|send:o
		urgent:\\r|send:\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11\\0\\x0c${ends}hello
		send:\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21|urgent:\\x11|bytes:\\0\\x0c${ends}|send:hello
		send:\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11\\0\\x0c${ends%\\x40}|urgent:\\x40|urgent:hello
	END
	stop relay
	done_with 8 5 0
}
