#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u: flows outlive the relay: --takeover, and SIGTERM.
#
#   client 192.0.2.2 --- proxy: UDP port 5300 to tproxy-relay 3129, one after the other --- server

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
	dgram server server serve 5300
	intercept_udp 5300
}

teardown() { lab_down; }

# next_relay NUMBER OPTION...: it takes over from the one before, which then ends.
next_relay() {
	local n=$1
	shift
	bg "relay$n" proxy tproxy-relay -u "$RELAY_PORT" --takeover -v "$@"
	wait_line "relay$n.err" "listening on .*.::1.:$RELAY_PORT .UDP"
	signal "relay$((n - 1))" TERM
}

# streams_begin: a stream of datagrams in each family.
streams_begin() {
	bg stream4 client "$DGRAM" stream $V4 5300 3 200 "$OUT/stop"
	bg stream6 client "$DGRAM" stream $V6 5300 3 200 "$OUT/stop"
}

# streams_end: and none was lost or overtaken. (A stream waits for what is due for ten seconds.)
streams_end() {
	touch "$OUT/stop"
	for n in 4 6; do
		run wait_exit stream$n 40
		show stream$n
		assert_success
		assert_line_in stream$n.out '^[0-9]+ answers$'
	done
}

# ten_takeovers [OPTION...]: of streams.
ten_takeovers() {
	bg relay0 proxy tproxy-relay -u "$RELAY_PORT" "$@"
	wait_listen proxy "$RELAY_PORT" udp
	streams_begin
	for n in 1 2 3 4 5 6 7 8 9 10; do
		next_relay $n "$@"
		# One that never ends itself is at its end now, and its flows with another relay.
		[[ $* != *drain-timeout\ 0* ]] || { run wait_exit "relay$((n - 1))" 20; assert_success; }
	done
	streams_end
}

@test "UDP takeover: ten, with streams of datagrams that stay with their relay" {
	ten_takeovers --log off --drain-timeout 5m
	# Each is still there as long as its flows are.
	for n in 0 1 2 3 4 5 6 7 8 9; do
		run -0 wait_exit "relay$n" 40
	done
	stop relay10
}

@test "UDP takeover: ten, with streams that change over each time" {
	ten_takeovers --log off --drain-timeout 0
	stop relay10
}

@test "UDP takeover: ten, with two threads each" {
	ten_takeovers --log off --drain-timeout 0 --threads 2
	stop relay10
}

# The new relay reads nothing while the old one hands its flows back, however long that takes. It takes
# long: strace holds each connect(2) up, so also the one that disconnects a flow's socket.
@test "UDP takeover: nothing is overtaken when the old relay is slow to hand its flows back" {
	# The leak detector does not run under strace.
	bg relay0 proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" strace -D -f -o "$OUT/calls" \
		-e trace=connect -e inject=connect:delay_exit=20000 \
		tproxy-relay -u "$RELAY_PORT" --log off --drain-timeout 0 --threads 2
	wait_listen proxy "$RELAY_PORT" udp
	streams_begin
	# Each flow has its own socket on the client's side.
	wait_until 20 eval '(($(grep -c "connect(.*sin6\?_port=htons(4300[0-2])" "$OUT/calls") >= 6))'
	next_relay 1 --log off --threads 2
	run -0 wait_exit relay0 20
	assert_file_contains "$OUT/calls" AF_UNSPEC
	streams_end
	stop relay1
}

@test "UDP takeover: new flows wait until the old relay lets go, and none for long" {
	bg relay0 proxy tproxy-relay -u "$RELAY_PORT" --log events -o event,client
	wait_listen proxy "$RELAY_PORT" udp
	bg relay1 proxy tproxy-relay -u "$RELAY_PORT" --takeover -v --log events -o event,client
	wait_line relay1.err "listening on .*.::1.:$RELAY_PORT .UDP"
	# As long as the old one is not told to end, it serves.
	run -0 ask_from client 41000 $V4 5300 3
	run -0 ask_from client 41001 $V4 5300 3
	assert_line_in relay0.out '^open 192.0.2.2:41000$'
	assert_line_in relay0.out '^open 192.0.2.2:41001$'
	refute_line_in relay1.out open
	signal relay0 KILL
	wait_exit relay0 || :
	run -0 ask_from client 41002 $V4 5300 3
	run -0 ask_from client 41000 $V6 5300 20
	assert_line_in relay1.out '^open 192.0.2.2:41002$'
	stop relay1
}

@test "UDP takeover: SIGTERM without a successor: due answers still come, and it ends when flows are silent" {
	stop server || :
	dgram server server serve-slowly 5300 1500
	udp_relay -o event,client,packets_up,packets_down,reason
	bg late client "$DGRAM" ask 41000 $V4 5300 1
	wait_line relay.out '^open 192.0.2.2:41000'
	signal relay TERM; date +%T.%N
	run -0 wait_exit late
	run -0 wait_exit relay 10
	assert_line_in relay.out '^close 192.0.2.2:41000 1 1 done$'
}

@test "UDP takeover: SIGTERM: thousands of answered exchanges do not delay it, and each has its record" {
	udp_relay -o event,reason
	run -0 on client timeout --foreground 60 "$DGRAM" flows $V4 5300 5000 1
	signal relay TERM; date +%T.%N
	run -0 wait_exit relay 3
	assert_equal "$(grep -c '^close done$' "$OUT/relay.out")" 5000
}

@test "UDP takeover: SIGTERM ends a relay without flows at once, a second one any" {
	udp_relay --log off
	signal relay TERM; date +%T.%N
	run -0 wait_exit relay 2
	udp_relay -o event,client,reason
	bg stream client "$DGRAM" stream $V4 5300 1 100 "$OUT/stop"
	wait_line relay.out '^open'
	signal relay TERM; date +%T.%N
	wait_until 10 eval '! listens proxy "$RELAY_PORT" udp'
	signal relay TERM; date +%T.%N
	run -0 wait_exit relay 2
	wait_line relay.out '^close 192.0.2.2:43000 drained$'
}

# A flow makes room for another in the middle of a batch of datagrams, and its socket is read for the last time.
# The relay is stopped, by its first connect(2) after SIGTERM, until its listener and all flows have datagrams.
@test "UDP takeover: SIGTERM: a flow that makes room for another leaves the datagrams of that one as they are" {
	stop server || :
	dgram server server serve-once 5300 "$OUT/answer"
	# The leak detector does not run under strace.
	bg relay proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" tproxy-relay -u "$RELAY_PORT" --max-flows 20 \
		--drain-timeout 5s -o event,client,origdst,reason
	serves relay
	on client "$DGRAM" tell-many 40100 $V4 5300 20 1
	wait_until 10 eval '(($(grep -c "^open" "$OUT/relay.out") == 20))'
	bg tracer proxy strace -f -o "$OUT/calls" -e trace=connect -e inject=connect:signal=STOP:when=1 -p "$(pid_of relay)"
	wait_line tracer.err attached
	on client "$DGRAM" tell-many 40100 $V4 5300 20 1 # silent for two seconds, they would end
	wait_until 10 eval '(($(wc -l <"$OUT/server.out") == 40))'
	signal relay TERM; date +%T.%N
	wait_line calls 'stopped by SIGSTOP'
	on client "$DGRAM" tell-many 40200 $V4 5300 20 3
	touch "$OUT/answer"
	wait_line server.out answered
	signal relay CONT
	run -0 wait_exit relay 20
	# Each datagram came once, from its own flow's port.
	wait_until 10 eval '(($(grep -c "^192" "$OUT/server.out") == 100))'
	run awk '$1 ~ /^192/ && $2 - 40000 != $3' "$OUT/server.out"
	refute_output
	refute_line_in relay.out '^refused'
}

# With NAT in a zone of its own, the kernel goes on delivering to a socket that is no longer connected, if it
# has its port still: as that of a client's port below 1024 (udp_reuse.c). The old relay is stopped when it has
# given its flow up, and closes its listeners.
@test "UDP takeover: an answer that comes while the old relay gives up its listeners reaches the client" {
	stop server || :
	on proxy tproxy-setup down
	on proxy nft -f - <<-END
		table inet other {
			chain post { type nat hook postrouting priority srcnat; oifname toserver masquerade; }
		}
	END
	intercept_udp 5300 --conntrack zone
	dgram server server serve-once 5300 "$OUT/answer"
	bg relay0 proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" tproxy-relay -u "$RELAY_PORT" \
		--drain-timeout 0 -o event
	wait_listen proxy "$RELAY_PORT" udp
	bg late client "$DGRAM" ask 900 $V4 5300 1
	wait_line relay0.out open
	wait_line server.out ' 20 63 '
	bg relay1 proxy tproxy-relay -u "$RELAY_PORT" --takeover -v --log off
	wait_line relay1.err "listening on .*.::1.:$RELAY_PORT .UDP"
	bg tracer proxy strace -f -o "$OUT/calls" -e trace=connect,close -e inject=close:signal=STOP:when=1 \
		-p "$(pid_of relay0)"
	wait_line tracer.err attached
	signal relay0 TERM
	wait_line calls 'stopped by SIGSTOP'
	assert_file_contains "$OUT/calls" AF_UNSPEC
	touch "$OUT/answer"
	wait_line server.out answered
	signal relay0 CONT
	run -0 wait_exit relay0 20
	run -0 wait_exit late 20
	assert_line_in late.out '^1 answers$'
	stop relay1
}

# ---------------------------------------------------------------- what is on its way to a socket

# The kernel finds a packet's socket first, and puts the packet into it later: it takes time in between, for
# rules that go through some millions of others, on a processor that the relay does not use (if there are two).

# processor min|max
processor() {
	python3 -c "import os; print($1(os.sched_getaffinity(0)))"
}

# hold_packets MATCH: these, for some tenths of a second; from now on.
hold_packets() {
	{
		echo "table inet slow {"
		echo "	counter held { }"
		echo "	chain rules {"
		for _ in {1..200}; do echo "		ip daddr 203.0.113.1 drop"; done
		echo "	}"
		echo "	chain more {"
		for _ in {1..200}; do echo "		jump rules"; done
		echo "	}"
		echo "	chain most {"
		for _ in {1..1000}; do echo "		jump more"; done
		echo "	}"
		echo "	chain input {"
		echo "		type filter hook input priority filter;"
		echo "		$1 counter name held jump most"
		echo "	}"
		echo "}"
	} | on proxy nft -f -
}

holds_one() {
	(($(on proxy nft -j list counter inet slow held | jq '.nftables[] | .counter? // empty | .packets') == 1))
}

# told COUNT: the server has got so many datagrams.
told() {
	(($(wc -l <"$OUT/server.out") == $1))
}

# relay_on_its_own OPTION...: on its processor; and another one, that is to take over.
relay_on_its_own() {
	bg relay proxy taskset -c "$(processor min)" tproxy-relay -u "$@"
	wait_serving relay
	bg relay1 proxy tproxy-relay -u "$@" --takeover
	wait_serving relay1
}

# one_held COMMAND...: it sends a datagram that is held, and the relay is told to end meanwhile.
one_held() {
	bg late client taskset -c "$(processor max)" "$@"
	wait_until 10 holds_one
	run signal relay TERM # on a busy machine one that was told to end may have ended
	run -0 wait_exit relay 20
	run -0 wait_exit late 20
}

@test "UDP takeover: what is on its way to a flow's socket when the old relay gives it up is not lost" {
	hold_packets 'udp dport 5300 meta length > 100'
	relay_on_its_own "$RELAY_PORT" --log off --drain-timeout 0
	on client "$DGRAM" tell 40000 $V4 5300 20
	wait_until 10 told 20
	one_held "$DGRAM" tell 40000 $V4 5300 1 200
	wait_until 10 told 21
	stop relay1
}

@test "UDP takeover: nor is what is on its way to a flow that is over" {
	hold_packets 'udp dport 5300 meta length > 100'
	relay_on_its_own "$RELAY_PORT" --log off
	on client "$DGRAM" tell 40000 $V4 5300 20
	on client "$DGRAM" tell 40000 $V4 5300 1 20 2200 # and two seconds of silence
	wait_until 10 told 21
	one_held "$DGRAM" tell 40000 $V4 5300 1 200
	wait_until 10 told 22
	stop relay1
}

@test "UDP takeover: nor is what is on its way to a flow that is given up when the time is over" {
	local before
	hold_packets 'udp dport 5300 meta length > 100'
	relay_on_its_own "$RELAY_PORT" --log off
	on client "$DGRAM" tell 40000 $V6 5300 20
	wait_until 10 told 20
	before=$(descriptors relay)
	signal relay TERM # closes both listeners; the second one ends the flow, if two seconds have not
	wait_until 10 eval "((\$(descriptors relay) <= $before - 2))"
	one_held "$DGRAM" tell 40000 $V6 5300 1 200
	wait_until 10 told 21
	stop relay1
}

@test "UDP takeover: nor is what is on its way to a flow to the proxy's own address" {
	# Its socket shares the listener's port if both are the same user's.
	local user=()
	((EUID)) || user=(--user root)
	hold_packets 'udp dport 5310 meta length > 100'
	relay_on_its_own -4 --upstream $V4:5300 --source own '*:5310' "${user[@]}" --log off --drain-timeout 0
	run -0 ask_from client 40000 192.0.2.1 5310 20
	one_held "$DGRAM" tell 40000 192.0.2.1 5310 1 200
	wait_until 10 told 21
	stop relay1
}

@test "UDP takeover: nor is an answer that is on its way" {
	stop server || :
	bg server server taskset -c "$(processor max)" "$DGRAM" serve-once 5300 "$OUT/answer"
	wait_listen server 5300 udp
	hold_packets 'udp sport 5300'
	relay_on_its_own "$RELAY_PORT" --log off --drain-timeout 0
	bg asker client "$DGRAM" ask 40000 $V6 5300 1
	wait_until 10 told 1
	one_held touch "$OUT/answer"
	run -0 wait_exit asker 20
	assert_line_in asker.out '^1 answers$'
	stop relay1
}
