#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval and bash -c expand them
#
# The records of services: none is lost while the reader is ready, and losses are reported and
# counted.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to tproxy-relay or -listen 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

HOLD=$TOP/tests/lib/hold

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# hold N: so many connections that stay, relayed or not.
hold() {
	bg held client "$HOLD" connect "$V4" 8000 "$1"
	poll 30 has_line "$OUT/held.out" "^$1 open" || { show held; fail "no $1 connections"; }
}

# opens N: the relay has opened so many, too: the kernel accepts for it.
opens() {
	poll 30 has_opened "$1" || fail "not $1 connections have been opened"
}
has_opened() { [[ $(on proxy tproxy-relay --ask counters -H | awk '$1 == "opened" { print $2 }') == "$1" ]]; }

# in_records WHAT: how many lines of the records have it.
in_records() { grep -c -- "$1" "$OUT/records"; }

# all_are_lines: every line of the records is a whole object.
all_are_lines() { jq -es 'all(.type == "connection")' "$OUT/records"; }

# ---------------------------------------------------------------- none is lost

# relay_to SHELL...: a relay whose records go on as the shell says.
relay_to() {
	bg relay proxy bash -c "exec tproxy-relay --json ${*:2} $RELAY_PORT $1"
	wait_listen proxy "$RELAY_PORT"
}

serve_many() {
	bg server server "$HOLD" serve 8000
	wait_listen server 8000
}

@test "4,000 connections that are reset at the end of the drain: each has its close record, in a file" {
	serve_many
	relay_to ">'$OUT/records'" --drain-timeout 1s
	hold 4000
	opens 4000
	run -0 stop relay
	assert_equal "$(in_records '"event":"open"')" 4000
	assert_equal "$(in_records '"event":"close".*"reason":"drained"')" 4000
	run -0 all_are_lines
	refute_line_in relay.err lost
}

@test "the same with several threads and a pipe whose reader takes its time" {
	serve_many
	mkfifo "$OUT/pipe"
	# Slower than the relay: 4,000 records of some 600 bytes are ten times what a pipe holds.
	bg reader proxy python3 -c '
import sys, time
out = open(sys.argv[2], "w")
for number, line in enumerate(open(sys.argv[1])):
    out.write(line)
    if number % 500 == 0:
        time.sleep(0.02)' "$OUT/pipe" "$OUT/records"
	# So long the reader has at the end, too.
	relay_to ">'$OUT/pipe'" --drain-timeout "$((2 + 3 * TIME_SCALE))s" --threads 3
	hold 4000
	opens 4000
	signal relay TERM
	run -0 wait_exit relay 30
	run -0 wait_exit reader
	assert_equal "$(in_records '"event":"close".*"reason":"drained"')" 4000
	run -0 all_are_lines
	refute_line_in relay.err lost
}

@test "3,000 SYNs to a black hole, which end in one tick: each has its record, in a file and in a pipe" {
	on server nft -f - <<-END
		table inet t { chain input { type filter hook input priority 0; tcp dport 8000 drop; }; }
	END
	for to in ">'$OUT/records'" "> >(exec cat >'$OUT/records')"; do
		relay_to "$to" --connect-timeout 3s --control "$OUT/control"
		bg held client "$HOLD" begin "$V4" 8000 3000
		poll 30 has_line "$OUT/held.out" begun
		poll 30 eval '[[ $(counter refused) == 3000 ]]'
		run -0 stop relay
		wait_until 10 eval '[[ $(in_records "\"event\":\"refused\".*\"reason\":\"upstream-timeout\"") == 3000 ]]'
		run -0 all_are_lines
		refute_line_in relay.err lost
		kill "$(pid_of held)"
		run wait_exit held
	done
}

@test "listen: 6,000 connections that end with it: each has its close record, in a pipe" {
	bg listen proxy bash -c "exec tproxy-listen --json --log --hold 1h $RELAY_PORT > >(exec cat >'$OUT/records')"
	wait_listen proxy "$RELAY_PORT"
	hold 6000
	run -0 stop listen
	wait_until 10 eval '[[ $(in_records "\"event\":\"close\".*\"reason\":\"stopped\"") == 6000 ]]'
	assert_equal "$(in_records '"event":"open"')" 6000
	run -0 all_are_lines
	refute_line_in listen.err lost
}

@test "listen: clients that the kernel has let in before SIGTERM are accepted and recorded, not reset" {
	bg listen proxy bash -c "exec tproxy-listen --json --log --hold 1h $RELAY_PORT >'$OUT/records'"
	wait_listen proxy "$RELAY_PORT"
	signal listen STOP
	hold 600
	signal listen TERM
	signal listen CONT
	run -0 wait_exit listen
	assert_equal "$(in_records '"event":"open"')" 600
	assert_equal "$(in_records '"event":"close".*"reason":"stopped"')" 600
}

# ---------------------------------------------------------------- a reader that has stopped

# stopped_reader: a pipe that is open for reading, and never read.
stopped_reader() {
	mkfifo "$OUT/pipe"
	bg reader proxy bash -c "exec sleep 1000 <'$OUT/pipe'"
}

# milliseconds COMMAND...: how long it took.
milliseconds() {
	local start=${EPOCHREALTIME/./}
	"$@" || return
	echo $(((${EPOCHREALTIME/./} - start) / 1000))
}

@test "at the end a reader that has stopped is waited for, within --drain-timeout; what it loses is counted" {
	serve_many
	stopped_reader
	relay_to ">'$OUT/pipe'" --drain-timeout 2s
	hold 300
	run -0 milliseconds stop relay
	((output >= 4000)) # the connections have the same time before
	assert_line_in relay.err '^tproxy-relay: [0-9]+ records wait for their reader, at most 1 s; a signal ends the wait$'
	# 600 records; a pipe holds some of them.
	local lost
	lost=$(sed -n 's/.*warning: \([0-9]*\) records were lost: their reader was too slow$/\1/p' "$OUT/relay.err")
	((lost > 300 && lost < 600))
}

@test "listen does so too, without a command; a second signal ends the wait" {
	stopped_reader
	bg listen proxy bash -c "exec tproxy-listen --json --drain-timeout 1h $RELAY_PORT >'$OUT/pipe'"
	wait_listen proxy "$RELAY_PORT"
	run -0 on client "$HOLD" count "$V4" 8000 1000
	signal listen TERM
	wait_line listen.err '^tproxy-listen: [0-9]+ records wait for their reader, at most 3599 s; a signal ends the wait$'
	run -0 stop listen
	assert_line_in listen.err ' records were lost: their reader was too slow$'
}

@test "a second signal: the reader is waited for while it takes some, then no more" {
	serve_many
	mkfifo "$OUT/pipe"
	# What a pipe cannot hold, slowly, is more than two seconds' work.
	bg reader proxy python3 -c '
import os, sys, time
source, out = os.open(sys.argv[1], os.O_RDONLY), open(sys.argv[2], "wb")
while not os.path.exists(sys.argv[3]):
    time.sleep(0.01)
while piece := os.read(source, 4096):
    out.write(piece)
    time.sleep(0.05)' "$OUT/pipe" "$OUT/records" "$OUT/go"
	relay_to ">'$OUT/pipe'" --drain-timeout 1h
	hold 400
	opens 400
	signal relay TERM
	wait_until 10 eval '! listens proxy $RELAY_PORT'
	local from=${EPOCHREALTIME/./}
	touch "$OUT/go"
	run -0 stop relay
	((${EPOCHREALTIME/./} - from > 2000000))
	run -0 wait_exit reader
	assert_equal "$(in_records '"event":"close".*"reason":"drained"')" 400
	run -0 all_are_lines
	refute_line_in relay.err lost
}

@test "a signal ends the relay's wait as well, and the reader may come back in time" {
	serve_many
	stopped_reader
	relay_to ">'$OUT/pipe'" --drain-timeout 1h
	hold 300
	kill "$(pid_of held)" # so that nothing is left but records
	signal relay TERM
	wait_line relay.err ' records wait for their reader'
	run -0 stop relay
	assert_line_in relay.err ' records were lost: their reader was too slow$'
	bg reader2 proxy bash -c "exec cat <'$OUT/pipe' >'$OUT/records'"
	relay_to ">'$OUT/pipe'" --drain-timeout 1h
	kill "$(pid_of reader)"
	signal reader2 STOP
	hold 300
	kill "$(pid_of held)"
	signal relay TERM
	wait_line relay.err ' records wait for their reader'
	signal reader2 CONT
	run -0 wait_exit relay
	refute_line_in relay.err lost
}

# ---------------------------------------------------------------- a disk that is full

@test "a full disk is told once, with its name; what is lost is counted, and connections are served" {
	serve_many
	relay_to ">/dev/full" --control "$OUT/control"
	hold 1
	wait_line relay.err \
		'^tproxy-relay: warning: records: standard output \(/dev/full\): write: No space left on device; they wait for room, up to 4 MiB of them$'
	bg held2 client "$HOLD" connect "$V4" 8000 100
	wait_line held2.out '100 open'
	assert_equal "$(counter records-lost)" 0
	kill "$(pid_of held)" "$(pid_of held2)"
	wait_until 10 eval '[[ $(counter closed) == 101 ]]'
	run -0 milliseconds stop relay # a disk is not waited for
	((output < 5000 * TIME_SCALE))
	assert_equal "$(grep -c 'No space' "$OUT/relay.err")" 1
	assert_line_in relay.err '^tproxy-relay: warning: 202 records were lost: they could not be written$'
}

@test "records wait for room on a full disk, and are written whole when there is some" {
	serve_many
	mkdir "$OUT/disk"
	bg relay proxy unshare -m bash -c "
		mount -t tmpfs -o size=64k none '$OUT/disk' && cd '$OUT/disk' &&
		dd if=/dev/zero of=filler bs=1k count=60 2>/dev/null
		exec tproxy-relay --json --control '$OUT/control' $RELAY_PORT >records"
	wait_listen proxy "$RELAY_PORT"
	hold 50
	wait_line relay.err "records: standard output \($OUT/disk/records\): write: No space left on device"
	rm "/proc/$(pid_of relay)/root/$OUT/disk/filler"
	kill "$(pid_of held)"
	wait_until 10 eval '[[ $(counter closed) == 50 ]]'
	cat "/proc/$(pid_of relay)/root/$OUT/disk/records" >"$OUT/records"
	run -0 all_are_lines
	assert_equal "$(in_records '"event":"open"') $(in_records '"event":"close"')" '50 50'
	run -0 stop relay
	refute_line_in relay.err lost
}

@test "no standard output, no records: said, not ignored; --log off needs none" {
	run -3 on proxy timeout 10 sh -c "exec tproxy-relay $RELAY_PORT >&-"
	assert_output 'tproxy-relay: standard output is closed: there is nowhere to write records to; --log off does without them'
	bg relay proxy sh -c "exec tproxy-relay --log off $RELAY_PORT >&-"
	wait_listen proxy "$RELAY_PORT"
	run -0 stop relay
}

# ---------------------------------------------------------------- what a record says of an end

# has_moved UP DOWN: so much the relay has taken off one side and given to the other's socket.
has_moved() {
	[[ $(ask connections | jq -r 'select(.type == "connection") | [.bytes_up, .bytes_down] | join(" ")') == "$*" ]]
}

@test "an aborted connection: bytes_down and bytes_up are what the receiver has acknowledged" {
	relay --json --send-proxy 2 --control "$OUT/control"
	# The first byte each way arrives, of the others no packet does.
	bg server server python3 -c '
import os, socket, struct, sys, time
def await_file(name):
    while not os.path.exists(sys.argv[1] + name):
        time.sleep(0.01)
l = socket.create_server(("", 8000))
s, _ = l.accept()
head = s.recv(16, socket.MSG_WAITALL)
s.recv(struct.unpack(">H", head[14:])[0], socket.MSG_WAITALL)
assert s.recv(1) == b"a"
s.sendall(b"b")
await_file("/blocked")
s.sendall(bytes(5000))
await_file("/moved")
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))' "$OUT"
	wait_listen server 8000
	peer client client connect "$V4" 8000 send:a recv:b "touch:$OUT/there" "await:$OUT/blocked" zeros:7000 "await:$OUT/over"
	wait_until 10 test -e "$OUT/there"
	on client nft -f - <<-'END'
		table ip t { chain input { type filter hook input priority 0; tcp sport 8000 drop; }; }
	END
	on server nft -f - <<-'END'
		table ip t { chain input { type filter hook input priority 0; tcp dport 8000 drop; }; }
	END
	touch "$OUT/blocked"
	wait_until 10 has_moved 7001 5001
	touch "$OUT/moved"
	wait_line relay.out '"event":"close"'
	run -0 jq -r 'select(.event == "close") | [.reason, .bytes_up, .bytes_down] | @tsv' "$OUT/relay.out"
	assert_output $'upstream-reset\t1\t1'
}

@test "a connection that tproxy-setup down has ended is destroyed, in both families" {
	serve_many
	for to in "$V4" "$V6"; do
		relay --log events
		bg held client "$HOLD" connect "$to" 8000 1
		wait_line held.out '^1 open' # or it may find its connection reset before it has one
		wait_line relay.out ' open '
		run -0 on proxy tproxy-setup down
		wait_line relay.out ' destroyed$'
		run -0 stop relay
		assert_equal "$(grep -c ' destroyed$' "$OUT/relay.out")" 1
		kill "$(pid_of held)"
		run wait_exit held
		intercept 80,8000-8100
	done
}

@test "listen --log: a connection that is closed or reset at once has its close record" {
	for how in '' --reset; do
		# shellcheck disable=SC2086 # words
		bg listen proxy tproxy-listen $how --log --count 3 -o event,id,bytes_up,bytes_down,reason "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		run on client "$HOLD" count "$V4" 80 3
		run -0 wait_exit listen
		run -0 cat "$OUT/listen.out"
		for id in 1 2 3; do
			assert_line --index $((2 * id - 2)) "open $id - - -"
			assert_line --index $((2 * id - 1)) "close $id 0 0 done"
		done
	done
}

# ---------------------------------------------------------------- on a terminal

# in_terminal PATTERN CMD...: run it in a terminal of 80 columns, in the background as `terminal`, and end it
# by Ctrl-C when the pattern has come.
in_terminal() {
	printf '%s\n' "? $1" '+ \x03' '? ended:|^[^:]*\^C' . >"$OUT/typed"
	bg terminal proxy bash -c "TERMINAL_TIMEOUT=$((30 * TIME_SCALE)) exec '$TOP/tests/lib/terminal' ${*:2} <'$OUT/typed'"
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
}

# terminal_ends: what it has shown; no line is wider than the screen.
terminal_ends() {
	run wait_exit terminal
	run -0 cat "$OUT/terminal.out"
	echo "$output" >&2
	run -0 awk 'length > 80 { exit 1 }' "$OUT/terminal.out"
	run -0 cat "$OUT/terminal.out"
}

@test "on a terminal: a header, lines of 80 columns, and the upstream leg where it is another" {
	local clock='[0-2][0-9]:[0-5][0-9]:[0-6][0-9]'
	start_nginx
	in_terminal 'close .* done' tproxy-relay 3129
	run -0 on client curl -sS --max-time 10 --local-port 40001 "http://$V4/who"
	terminal_ends
	assert_line 'TIME     EVENT   CLIENT          ORIGDST         REASON      BYTES_UP BYTES_DOWN'
	assert_line --regexp "^$clock open    192\.0\.2\.2:40001 198\.51\.100\.2:80 -           0        0\$"
	assert_line --regexp "^$clock close   192\.0\.2\.2:40001 198\.51\.100\.2:80 done        [0-9]+ +[0-9]+\$"
	assert_line --partial 'listening on 127.0.0.1:3129'
	refute_line --partial upstream
	in_terminal 'close .* done' tproxy-relay --source own -H 3129
	run -0 on client curl -sS --max-time 10 --local-port 40002 "http://[$V6]/who"
	terminal_ends
	refute_line --partial EVENT
	assert_line --regexp "^$clock close   \[2001:db8:1::2\]:40002 \[2001:db8:2::2\]:80 done "
	assert_line --regexp '^    .*upstream_local=\[2001:db8:2::1\]:[0-9]+$'
	in_terminal '^192' tproxy-relay -o client,time 3129
	run -0 on client curl -sS --max-time 10 --local-port 40003 "http://$V4/who"
	terminal_ends
	assert_line --regexp '^CLIENT +TIME$'
	assert_line --regexp '^192\.0\.2\.2:40003 [0-9-]{10}T[0-9:.]{15}Z$'
	in_terminal 'type' tproxy-relay -j 3129
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run wait_exit terminal
	run -0 cat "$OUT/terminal.out"
	refute_line --partial TIME
}

@test "listen on a terminal: a header, and lines of 80 columns" {
	in_terminal '198' tproxy-listen 3129
	run on client "$HOLD" count "$V4" 80 1
	terminal_ends
	assert_line --regexp '^TIME +EVENT +CLIENT +ORIGDST +ORIGDST_BY REASON$'
	assert_line --regexp '^[0-9:]{8} open    192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:80 tproxy     -$'
}
