#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# tproxy-relay at its limits, and how it is operated: timeouts, --max, descriptors, memory, threads,
# takeover, drain, signals, control socket, records.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# hold N PORT: N connections of the client to the server, open until $OUT/release is there.
hold() {
	bg "hold$2" client python3 -c "
import os, socket, sys, time
open_ones = []
for i in range($1):
    s = socket.create_connection(('$V4', $2))
    s.settimeout(30)
    s.sendall(b'x')
    open_ones.append(s)
print('sent', flush=True)
answered = 0
for s in open_ones:
    if s.recv(1):
        answered += 1
        print('answered', answered, flush=True)
while not os.path.exists('$OUT/release'):
    time.sleep(0.01)
print('done', flush=True)"
}

# ---------------------------------------------------------------- timeouts

@test "an idle connection is reset after --idle-timeout, a busy one is not" {
	relay --idle-timeout 4s
	peer server server listen 8000 recv:x gone
	peer idle client connect "$V4" 8000 send:x gone
	# 20 bytes in five seconds, of which a busy machine may delay each by almost four.
	peer busy server listen 8001 skip:20 send:ok close
	run -0 on client bash -c "exec 3<>/dev/tcp/$V4/8001; for i in {1..20}; do printf x >&3; sleep 0.25; done; cat <&3"
	assert_output ok
	run -0 wait_exit idle
	run -0 wait_exit server
	stop relay
	assert_equal "$(grep -c ' idle$' "$OUT/relay.out")" 1
	assert_line_in relay.out ' 198\.51\.100\.2:8000 .* idle$'
}

# ended_after MS REASON: the last record says so, and not more than a quarter of a second later (and what a
# busy machine adds).
ended_after() {
	local ms
	ms=$(sed -nE "s/.* ([0-9]+)\.[0-9]+ $2\$/\1/p" "$OUT/relay.out" | tail -n 1)
	((ms >= $1 - 250 && ms <= $1 + 250 + 500 * TIME_SCALE)) || fail "$2 after ${ms:-?} ms instead of $1"
}

@test "each timeout works whatever the others are" {
	peer server server serve 8000 gone
	for t in 1 2 4; do
		relay --idle-timeout "${t}s"
		run -0 on client "$PEER" connect "$V4" 8000 gone
		stop relay
		ended_after "${t}000" idle
	done
	relay --half-closed-timeout 2s --connect-timeout 1m
	run -0 on client "$PEER" connect "$V4" 8000 fin gone
	stop relay
	ended_after 2000 half-closed
	# The end of data comes before the upstream's answer.
	relay --half-closed-timeout 2s --connect-timeout 1m
	on server nft -f - <<<'table inet late { chain in { type filter hook input priority 0; tcp dport 8000 drop; }; }'
	peer client client connect "$V4" 8000 fin gone
	wait_until 10 eval '[[ $(on proxy ss -Htn state syn-sent) ]]'
	on server nft delete table inet late
	run -0 wait_exit client
	stop relay
	wait_line relay.out 'half-closed$'
	# Longer ones that were set before do not hold up the end of the relay.
	relay --idle-timeout 1m --connect-timeout 1m --drain-timeout 1s
	peer client client connect "$V4" 8000 gone
	wait_line relay.out ' open '
	on server nft -f - <<<'table inet late { chain in { type filter hook input priority 0; tcp dport 8001 drop; }; }'
	peer silent client connect "$V4" 8001 gone
	wait_until 10 eval '[[ $(on proxy ss -Htn state syn-sent) ]]'
	local from=$EPOCHREALTIME
	signal relay TERM
	run -0 wait_exit relay
	(((${EPOCHREALTIME/./} - ${from/./}) / 1000 <= 1250 + 500 * TIME_SCALE))
	assert_equal "$(grep -c ' drained$' "$OUT/relay.out")" 2
}

@test "a half-closed connection ends --half-closed-timeout after its last byte" {
	relay --half-closed-timeout 1s
	peer server server listen 8000 eof gone
	run -0 on client "$PEER" connect "$V4" 8000 fin gone
	run -0 wait_exit server
	stop relay
	assert_line_in relay.out ' half-closed$'
}

# ---------------------------------------------------------------- limits

@test "at --max it stops accepting, and continues when one has ended" {
	relay --max 3 --threads 2 --control "$OUT/control"
	peer server server serve 8000 echo
	hold 3 8000
	wait_line hold8000.out 'answered 3'
	peer other server serve 8001 echo
	bg late client "$PEER" connect "$V4" 8001 send:late recv:late fin eof
	wait_until 10 eval '[[ $(counter paused-max) -gt 0 ]]'
	assert_equal "$(counter connections)" 3
	run ! test -e "$OUT/late.status"
	touch "$OUT/release"
	run -0 wait_exit late
	stop relay
	refute_line_in relay.out ' refused '
}

@test "out of descriptors connections wait: nothing fails, nothing spins" {
	local before after more as_relay=()
	((EUID)) || as_relay=(setpriv --reuid "$(id -u nobody)" --regid "$(id -g nobody)" --clear-groups)
	peer server server serve 8000 echo
	# With none left for accept(2), and with one, which leaves none for the upstream socket.
	for more in 0 1; do
		rm -f "$OUT/release"
		relay --control "$OUT/control"
		hold 10 8000
		wait_line hold8000.out 'answered 10'
		# As its own user, which needs no capability.
		on proxy "${as_relay[@]}" prlimit --pid "$(pid_of relay)" --nofile="$(($(descriptors relay) + more))"
		bg first client "$PEER" connect "$V4" 8000 send:1 recv:1 "await:$OUT/release" fin eof
		bg second client "$PEER" connect "$V4" 8000 send:2 recv:2 "await:$OUT/release" fin eof
		before=$(cpu_ticks relay)
		sleep 1
		after=$(cpu_ticks relay)
		((after - before <= 10))
		run ! test -e "$OUT/second.status"
		touch "$OUT/release"
		run -0 wait_exit first
		run -0 wait_exit second
		stop relay
		refute_line_in relay.out ' refused '
	done
}

@test "it starts with any descriptor limit and reports what that allows" {
	bg relay proxy prlimit --nofile=64 tproxy-relay "$RELAY_PORT" --max 1000
	serves relay
	assert_line_in relay.err '--max 1000: the limit on open files .* allows [0-9]+ connections'
	start_nginx
	run -0 on client bash -c "seq 100 | xargs -P 20 -I{} curl -sS --max-time 20 http://$V4/who"
	stop relay
	refute_line_in relay.out ' refused '
}

@test "a reader that stalls costs bounded memory" {
	relay --control "$OUT/control"
	peer server server listen 8000 "await:$OUT/go" skip:30000000 send:ok close
	local before after
	before=$(awk '/^RssAnon/ { print $2 }' "/proc/$(pid_of relay)/status")
	bg client client "$PEER" connect "$V4" 8000 zeros:30000000 recv:ok
	stalled() {
		local old=$bytes
		bytes=$(ask connections | sed -n 's/.*"bytes_up":\([0-9]*\).*/\1/p')
		[[ $bytes && $bytes == "$old" ]]
	}
	bytes=
	wait_until 20 stalled
	after=$(awk '/^RssAnon/ { print $2 }' "/proc/$(pid_of relay)/status")
	((after - before < 2048))
	touch "$OUT/go"
	run -0 wait_exit client 30
	stop relay
}

@test "thousands of idle connections cost a few hundred bytes each" {
	relay --log off --control "$OUT/control" --drain-timeout 1s
	peer server server serve 8000 "await:$OUT/release"
	local before after
	before=$(awk '/^RssAnon/ { print $2 }' "/proc/$(pid_of relay)/status")
	bg clients client python3 -c "
import socket, time
held = [socket.create_connection(('$V4', 8000)) for i in range(900)]
print('there', flush=True)
time.sleep(600)"
	wait_line clients.out there
	wait_until 10 eval '[[ $(counter opened) == 900 ]]'
	after=$(awk '/^RssAnon/ { print $2 }' "/proc/$(pid_of relay)/status")
	# 900 connections in less than 400 KiB.
	((after - before < 400))
	touch "$OUT/release"
	stop relay
}

# ---------------------------------------------------------------- how it is operated

@test "an endpoint in use is an error that names its owner; --takeover joins it" {
	start_nginx
	relay
	run -3 on proxy tproxy-relay "$RELAY_PORT"
	assert_output --regexp "^tproxy-relay: 127\.0\.0\.1:$RELAY_PORT: bind: .*tproxy-relay \(pid $(pid_of relay)\).*--takeover"
	bg new proxy tproxy-relay "$RELAY_PORT" --takeover -v
	wait_line new.err 'listening on .*\[::1\]'
	run -0 stop relay
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop new
	assert_line_in new.out ' done$'
}

@test "SIGTERM stops accepting, lets connections finish, and ends with 0" {
	relay
	peer server server listen 8000 recv:x send:y recv:z close
	bg client client "$PEER" connect "$V4" 8000 send:x recv:y "touch:$OUT/open" "await:$OUT/go" send:z eof
	wait_until 10 test -e "$OUT/open"
	signal relay TERM
	wait_until 10 eval '! listens proxy $RELAY_PORT'
	run -0 on client "$PEER" connect "$V4" 8000 gone || assert_equal "$status" 3
	run ! test -e "$OUT/relay.status"
	touch "$OUT/go"
	run -0 wait_exit client
	run -0 wait_exit relay
	assert_line_in relay.out ' done$'
}

@test "connections left at --drain-timeout, or at a second SIGTERM, are reset" {
	for how in timeout second; do
		relay --drain-timeout "$([[ $how == second ]] && echo 1h || echo 500ms)"
		peer server server listen 8000 recv:x send:y gone
		bg client client "$PEER" connect "$V4" 8000 send:x recv:y "touch:$OUT/open.$how" gone
		wait_until 10 test -e "$OUT/open.$how"
		signal relay TERM
		wait_until 10 eval '! listens proxy $RELAY_PORT'
		[[ $how == timeout ]] || signal relay TERM
		run -0 wait_exit relay
		run -0 wait_exit client
		run -0 wait_exit server
		assert_line_in relay.out ' drained$'
	done
}

@test "SIGHUP changes nothing, SIGUSR1 prints a summary on stderr" {
	start_nginx
	relay --deny-dst "$V4:8000"
	signal relay HUP
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 on client "$PEER" connect "$V4" 8000 gone
	wait_line relay.out ' done$'
	signal relay USR1
	wait_line relay.err 'accepted=2 opened=1 refused=1 closed=1 .* denied=1 done=1'
	assert_line_in relay.err '0 connections now \(at most [0-9]+\), 1 of 1 threads accept'
	stop relay
}

@test "the control socket: connections with both cookies, counters, drain" {
	relay --control "$OUT/control" --threads 2
	assert_equal "$(stat -c %a "$OUT/control")" 600
	peer server server serve 8000 echo
	hold 5 8000
	wait_line hold8000.out 'answered 5'
	run -0 ask connections
	assert_line --index 1 --regexp '^\{"v":1,"type":"connection","id":[0-9]+,"proto":"tcp","client":\{"addr":"192\.0\.2\.2","port":[0-9]+\},"origdst":\{"addr":"198\.51\.100\.2","port":8000\},"origdst_by":"tproxy",.*"cookie":"0x[0-9a-f]+","upstream_cookie":"0x[0-9a-f]+","state":"open",.*"source_kept":"addr\+port","bytes_up":1,"bytes_down":1,'
	assert_line --index 6 '{"v":1,"type":"end","count":5}'
	# The cookies are the kernel's own.
	local cookie
	cookie=$(ask connections | sed -n '2s/.*"upstream_cookie":"0x\([0-9a-f]*\)".*/\1/p')
	run -0 on proxy ss -Htne state established
	assert_output --partial "sk:$cookie"
	assert_equal "$(counter opened)" 5
	run -0 ask nonsense
	assert_line --index 1 --partial '"type":"error"'
	run -0 socat -t5 - "UNIX-CONNECT:$OUT/control" < <(printf 'counters\nconnections\n')
	assert_equal "$(grep -c '"type":"end"' <<<"$output")" 2
	# A second relay does not take the path away.
	run -3 on proxy tproxy-relay 3130 --control "$OUT/control"
	assert_output --partial 'another relay answers there'
	ask drain
	touch "$OUT/release"
	run -0 wait_exit relay
	run ! test -e "$OUT/control"
}

@test "if nobody reads the records they are lost, and the service continues" {
	start_nginx
	mkfifo "$OUT/fifo"
	bg reader proxy bash -c "exec sleep 1000 <'$OUT/fifo'"
	bg relay proxy bash -c "exec tproxy-relay --json --drain-timeout 1s --control '$OUT/control' $RELAY_PORT >'$OUT/fifo'"
	wait_listen proxy "$RELAY_PORT"
	# Two records of some 600 bytes each, and 4 MiB may wait.
	run -0 on client "$TOP/tests/lib/hold" count "$V4" 80 4500
	wait_until 10 eval '[[ $(counter closed) == 4500 ]]'
	assert [ "$(counter records-lost)" -gt 0 ]
	run -0 on client curl -sS --max-time 10 -o /dev/null "http://$V4/who"
	stop relay
}

@test "a reader of records that goes away ends nothing" {
	start_nginx
	on proxy bash -c "tproxy-relay $RELAY_PORT 2>$OUT/relay.err | head -n 1" >"$OUT/first" 3>&- &
	wait_listen proxy "$RELAY_PORT"
	for _ in 1 2 3 4; do
		run -0 on client curl -sS --max-time 10 "http://$V4/who"
	done
}

@test "--log errors omits successes, --log off everything" {
	start_nginx
	relay --log errors -j
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 on client "$PEER" connect "$V4" 8000 gone
	stop relay
	assert_equal "$(grep -c . "$OUT/relay.out")" 1
	assert_line_in relay.out '"event":"refused".*"reason":"upstream-refused"'
	relay --log off
	run -0 on client "$PEER" connect "$V4" 8000 gone
	stop relay
	assert_equal "$(cat "$OUT/relay.out")" ""
}

@test "threads share the load and the counters" {
	start_nginx
	relay --threads 4 --control "$OUT/control"
	run -0 on proxy ss -Htln "src 127.0.0.1:$RELAY_PORT"
	assert_equal "${#lines[@]}" 4
	run -0 on client bash -c "seq 200 | xargs -P 20 -I{} curl -sS --max-time 20 -o /dev/null http://$V4/who"
	assert_equal "$(counter opened)" 200
	stop relay
}

@test "READY=1 is sent once it listens" {
	bg notify proxy socat -u UNIX-RECV:"$OUT/notify" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify"
	bg relay proxy env NOTIFY_SOCKET="$OUT/notify" tproxy-relay "$RELAY_PORT"
	wait_line notified READY=1
	assert listens proxy "$RELAY_PORT"
	stop relay
}
