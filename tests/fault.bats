#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every system call and every allocation of ours fails once, in turn: nothing crashes, every failure
# is reported, and nothing is left half-done. The programs are those of `make fault`. This file
# tries every fifth call (and each allocation of the relay), `make soak-fault` every one.

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	[[ -x $TPROXY_BIN/fault/tproxy-setup ]] || fail "no $TPROXY_BIN/fault: run make fault"
	FAULT=$TPROXY_BIN/fault INTACT=$TOP/tests/lib/intact
	lab_up
}

teardown() { lab_down; }

sweep() {
	run timeout --foreground $((150 * TIME_SCALE)) nsenter ${LAB_ENTER:+"$LAB_ENTER" --preserve-credentials} \
		--net="/proc/$LAB_proxy/ns/net" -- "$TOP/tests/fault/sweep" "$@"
	assert_success
}

# What must be true of a host on which nothing is installed; also said as text for sweep.
nothing='[[ ! $(nft list ruleset; ip rule show table 100; ip -6 rule show table 100
	ip route show table 100; ip -6 route show table 100) ]] 2>/dev/null'

@test "fault injection fails the calls that it is told to" {
	run on proxy env TPROXY_FAULT=listen:1+:EMFILE "$FAULT/tproxy-listen" --timeout 1 3129
	assert_failure 3
	assert_output --partial "Too many open files"
	run on proxy env TPROXY_FAULT=bind:1:ENONSENSE "$FAULT/tproxy-listen" --timeout 1 3129
	assert_failure 125
	run on proxy env TPROXY_FAULT=call:1:SIGKILL "$FAULT/tproxy-listen" --timeout 1 3129
	assert_failure 137
	run -1 on proxy env TPROXY_FAULT_COUNT="$OUT/count" "$FAULT/tproxy-inspect"
	assert_line_in count '^nl_connect 1$'
}

@test "setup up: allocations fail; it installs everything or nothing" {
	sweep memory "if ((status)); then $nothing; else $INTACT && tproxy-setup down; fi" \
		"$FAULT/tproxy-setup" up -q --to 3129 --port 80,443 --src 192.0.2.0/24
}

@test "setup up: calls fail; it installs everything or nothing" {
	sweep call "if ((status)); then $nothing; else $INTACT && tproxy-setup down; fi" \
		"$FAULT/tproxy-setup" up -q --to 3129 --port 80,443 --src 192.0.2.0/24
}

@test "setup up over an instance leaves the new one or the old one" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	sweep call "if ((status)); then $INTACT --to 3129 --port 80
		else $INTACT --to 3130 --port 81 && tproxy-setup up -q --to 3129 --port 80; fi" \
		"$FAULT/tproxy-setup" up -q --to 3130 --port 81
}

@test "setup down: after a failure it can be repeated" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	sweep call "((status)) || { $nothing; } && tproxy-setup down && $nothing && tproxy-setup up -q --to 3129 --port 80" \
		"$FAULT/tproxy-setup" down
}

@test "setup status and plan report why they cannot answer" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	for group in memory call; do
		sweep $group : "$FAULT/tproxy-setup" status
		for format in nft ip iptables json; do
			sweep $group : "$FAULT/tproxy-setup" plan --format $format --to 3129 --port 80
		done
	done
}

@test "inspect reports why it cannot answer" {
	bg listener proxy tproxy-listen 3129
	wait_listen proxy 3129
	for group in memory call; do
		sweep $group : "$FAULT/tproxy-inspect" sockets --all
		sweep $group : "$FAULT/tproxy-inspect" --json --pid "$(pid_of listener)"
		sweep $group : "$FAULT/tproxy-inspect" origdst 192.0.2.1:80 192.0.2.2:1000
	done
}

@test "listen starts completely or not at all" {
	for group in memory call; do
		sweep $group '((status == 3 || status <= 1))' \
			"$FAULT/tproxy-listen" --timeout 50ms 3129
	done
}

# carry: 1 MB each way over one connection, so that it is copied, held and spliced. Its status is
# curl's; what arrived whole must be what was sent.
carry() {
	on client curl --fail-early -s -f --max-time $((5 * TIME_SCALE)) -T "$BODY" -o "$OUT/put" http://198.51.100.2/up \
		--next -s -f --max-time $((5 * TIME_SCALE)) -o "$OUT/back" http://198.51.100.2/body &&
		cmp "$BODY" "$WWW/up" && cmp "$BODY" "$OUT/back"
}

# A connection through a relay whose call number $1 of group $2 fails, and then one more: that must
# work, unless the relay ended and said why. Sets FIRED, empty when the first needs fewer calls.
relay_with_fault() {
	local status=0 carried=0
	rm -f "$OUT/fired" "$OUT/relay.status"
	bg relay proxy env TPROXY_FAULT="$2:$1" TPROXY_FAULT_LOG="$OUT/fired" "$FAULT/tproxy-relay" 3129
	wait_until 10 relay_is_decided
	[[ -e $OUT/relay.status ]] || carry &>"$OUT/cmp" || carried=$?
	[[ ! -s $OUT/cmp ]] || fail "$2:$1: other bytes than were sent: $(cat "$OUT/cmp")"
	((carried != 28)) || fail "$2:$1: it hangs"
	FIRED=$([[ ! -e $OUT/fired ]] || cat "$OUT/fired")
	if [[ ! $FIRED ]] || carry; then
		stop relay || status=$?
	else
		wait_exit relay || status=$?
		assert_line_in relay.err '^tproxy-relay: .*: '
	fi
	[[ $status == [013] ]] || fail "$2:$1 ($FIRED): status $status: $(cat "$OUT/relay.err")"
	refute_line_in access.log '^198\.51\.100\.1 '
}

relay_is_decided() { [[ -e $OUT/relay.status ]] || { listens proxy 127.0.0.1:3129 && listens proxy '[::1]:3129'; }; }

relay_sweep() {
	local n
	start_nginx
	BODY=$(random_file 1M)
	ln -s "$BODY" "$WWW/body"
	: >"$OUT/cmp"
	on proxy tproxy-setup up -q --to 3129 --port 80
	for ((n = 1; n < 500; n += $2)); do
		relay_with_fault $n "$1"
		[[ $FIRED ]] || break
	done
	((n > 1 && n < 500))
}

@test "relay: any one call fails: it reports that or continues, and never uses its own address" {
	relay_sweep call "${TPROXY_FAULT_STEP:-5}"
}

@test "relay: any one allocation fails: it reports that or continues, and complete transfers are correct" {
	relay_sweep memory 1 # most are at the start: each of a connection's life is among the others
}

# fault_relay VARIABLE=VALUE...: a relay with those, and a connection through it that lasts until
# $OUT/over is there.
fault_relay() {
	rm -f "$OUT/opened" "$OUT/there" "$OUT/over"
	bg relay proxy env "$@" "$FAULT/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	bg neighbour client "$PEER" connect "$V4" 8000 "await:$OUT/opened" send:a recv:a "touch:$OUT/there" "await:$OUT/over" send:b recv:b fin eof
	wait_line relay.out ' open ' # what comes earlier would take memory
	touch "$OUT/opened"
	wait_until 10 test -e "$OUT/there"
}

@test "relay: no memory from some moment on: connections that need some are reset, others continue" {
	local calls
	intercept 80,8000-8100
	peer echo server serve 8000 echo
	peer deaf server serve 8001 "await:$OUT/never"
	fault_relay TPROXY_FAULT_COUNT="$OUT/count"
	touch "$OUT/over"
	run -0 wait_exit neighbour
	stop relay
	calls=$(sed -n 's/^memory //p' "$OUT/count")
	fault_relay TPROXY_FAULT="memory:$((calls + 1))+"
	# What its server does not read has nowhere to go.
	run -1 on client "$PEER" connect "$V4" 8001 fill
	assert_output --regexp 'fill: .*(Connection reset|Broken pipe)'
	run -0 on client "$PEER" connect "$V4" 8000 "await:$OUT/opened" fin eof
	touch "$OUT/over"
	run -0 wait_exit neighbour
	stop relay
	assert_equal "$(grep -c ' memory$' "$OUT/relay.out")" 1
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 2
}

@test "relay: no pipes, or not of that size: bulk data is copied, and arrives" {
	local fault
	start_nginx
	BODY=$(random_file 1M)
	ln -s "$BODY" "$WWW/body"
	intercept 80
	for fault in pipe2:1+:ENFILE pipe2:1+:EMFILE; do
		bg relay proxy env TPROXY_FAULT=$fault TPROXY_FAULT_LOG="$OUT/fired" "$FAULT/tproxy-relay" "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		carry
		stop relay
		assert_line_in fired "^${fault%%:*} 1\$"
		rm "$OUT/fired"
	done
}

# count_memory CMD...: how many allocations a relay makes until it has ended, with CMD in between.
count_memory() {
	rm -f "$OUT/count"
	bg relay proxy env TPROXY_FAULT_COUNT="$OUT/count" "$FAULT/tproxy-relay" "${proxied[@]}"
	wait_listen proxy "$RELAY_PORT"
	"$@"
	stop relay
	sed -n 's/^memory //p' "$OUT/count"
}

@test "relay: any one allocation of a connection with PROXY headers fails: it is reset, the next one is relayed" {
	local first last n
	local proxied=(--accept-proxy 192.0.2.2 --send-proxy 2 --source own "*:$RELAY_PORT")
	local id='\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x14\xc6\x33\x64\x02\x04\xd2\x1f\x40\x05\0\x02id'
	peer server server serve 8000 'recv:\r\n\r\n\0\r\nQUIT\n' skip:17 'recv:\0\x02id' skip:7 recv:hello send:world
	say() { on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" "send:${id}hello" "$@"; }
	first=$(count_memory :)
	last=$(count_memory say recv:world eof)
	((last > first + 2)) || fail "$first allocations without a connection, $last with one"
	for ((n = first; n < last; n++)); do
		bg relay proxy env TPROXY_FAULT="memory:$((n + 1))" TPROXY_FAULT_LOG="$OUT/fired" \
			"$FAULT/tproxy-relay" "${proxied[@]}"
		wait_listen proxy "$RELAY_PORT"
		run -0 say gone
		run -0 say recv:world eof
		stop relay
		assert_equal "$(grep -c ' refused .* memory$\| close .* memory$' "$OUT/relay.out")" 1
		assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 1
	done
	assert_equal "$(grep -c . "$OUT/fired")" $((last - first))
}

@test "relay: a change of addresses that could not be read is retried" {
	on proxy tproxy-setup up -q --port 9000 --to "$RELAY_PORT" --include-own
	# The first two questions are those at the start, one for each family.
	bg relay proxy env TPROXY_FAULT=nl_send_auto:3:ENOBUFS TPROXY_FAULT_LOG="$OUT/fired" \
		"$FAULT/tproxy-relay" "$RELAY_PORT" --connect-timeout 1s
	wait_listen proxy "$RELAY_PORT"
	on proxy ip addr add 203.0.113.130/32 dev lo
	wait_line fired 'nl_send_auto 3'
	refused_for_its_source() {
		on client "$PEER" connect 203.0.113.130 9000 gone
		has_line "$OUT/relay.out" ' refused .* source$'
	}
	wait_until 10 refused_for_its_source
	stop relay
}

@test "relay: the cause of a port clash cannot be determined: that connection fails, others continue" {
	local host
	for host in client proxy server; do
		on "$host" sysctl -qw net.ipv4.tcp_timestamps=0
	done
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	intercept 8000
	peer server server serve 8000 recv:x send:y eof close
	# The helper, which counts for itself, sends two for a port that is used again.
	bg relay proxy env TPROXY_FAULT=nl_send_auto:3+:ENOBUFS "$FAULT/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 send:x recv:y fin eof
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 send:x recv:y fin eof
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 gone
	run -0 on client "$PEER" connect "$V4" 8000 send:x recv:y fin eof
	stop relay
	assert_equal "$(grep -c ' refused .* clash$' "$OUT/relay.out")" 1
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 3
}

# still_listen ARGS...: a tproxy-listen whose clock stands: nothing that is to be tried again later is.
still_listen() {
	intercept 80
	bg listen proxy "$@"
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
}

# each_echoes N: so many clients, one after the other, get back what they say.
each_echoes() {
	run -0 timeout --foreground $((60 * TIME_SCALE)) nsenter ${LAB_ENTER:+"$LAB_ENTER" --preserve-credentials} \
		--net="/proc/$LAB_client/ns/net" -- python3 -c '
import socket, sys
for i in range(int(sys.argv[1])):
    with socket.create_connection(("198.51.100.2", 80), timeout=20) as s:
        s.sendall(b"a")
        assert s.recv(1) == b"a", i' "$1"
}

@test "listen: out of descriptors, the next client is served as soon as one has gone, not after a pause" {
	still_listen env TPROXY_FAULT_CLOCK=still prlimit --nofile=16:16 "$FAULT/tproxy-listen" --echo 3129
	run -0 on client "$TOP/tests/lib/hold" count 198.51.100.2 80 300
	each_echoes 3
	run grep -c 'Too many open files: clients wait' "$OUT/listen.err"
	assert_output 1
}

# tells_once: of the shortage it has warned once, and of nothing else.
tells_once() {
	assert_line_in listen.err 'clone or execve: Resource temporarily unavailable; .*: clients wait'
	assert_equal "$(wc -l <"$OUT/listen.err")" 1
	refute_line_in listen.out refused
}

@test "listen: no process for a command: the client waits until another command has ended" {
	still_listen env TPROXY_FAULT_CLOCK=still TPROXY_FAULT=clone:2:EAGAIN TPROXY_FAULT_LOG="$OUT/fired" \
		"$FAULT/tproxy-listen" --log -o event,client,reason 3129 -- cat
	peer first client -b 192.0.2.2:40001 connect "$V4" 80 send:a recv:a "await:$OUT/one" fin eof
	wait_line listen.out '^open 192.0.2.2:40001 '
	peer second client -b 192.0.2.2:40002 connect "$V4" 80 send:b recv:b fin eof
	wait_line fired '^clone 2'
	peer third client -b 192.0.2.2:40003 connect "$V4" 80 send:c recv:c fin eof
	touch "$OUT/one"
	for name in first second third; do run -0 wait_exit $name; done
	tells_once
	assert_line_in listen.out '^open 192.0.2.2:40002 '
}

@test "listen: no process for a command, and no command running: it tries again; --count waits, too" {
	still_listen env TPROXY_FAULT=clone:1:EAGAIN,clone:2:EAGAIN "$FAULT/tproxy-listen" --count 1 --log 3129 -- cat
	each_echoes 1
	run -0 wait_exit listen
	tells_once
}

@test "listen: connections that wait for a process are reset at the end" {
	still_listen env TPROXY_FAULT=clone:1+:EAGAIN "$FAULT/tproxy-listen" --log -o event,client,reason 3129 -- cat
	peer first client -b 192.0.2.2:40001 connect "$V4" 80 send:a reset
	wait_line listen.err 'clients wait'
	run -0 stop listen
	run -0 wait_exit first
	assert_line_in listen.out '^refused 192.0.2.2:40001 stopped'
}

@test "listen: a command that cannot be run is reported once, not for each client" {
	cp /bin/cat "$OUT/cat"
	still_listen "$FAULT/tproxy-listen" --log -o event,reason 3129 -- "$OUT/cat"
	rm "$OUT/cat"
	for _ in 1 2 3; do run -0 on client "$PEER" connect "$V4" 80 reset; done
	wait_until 10 eval '[[ $(grep -c "^refused resources" "$OUT/listen.out") -eq 3 ]]'
	assert_equal "$(grep -c 'No such file' "$OUT/listen.err")" 1
}
