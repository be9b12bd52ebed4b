#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval and bash -c expand them
#
# Asking a running relay: by its name in the network namespace, and on --control PATH.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

HOLD=$TOP/tests/lib/hold
ASKERS=$TOP/tests/lib/askers

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# ask_name COMMAND [NAME]: the same as ask, by the name.
ask_name() {
	on proxy socat -t$((5 * TIME_SCALE)) - "ABSTRACT-CONNECT:tproxy-relay/${2-$(pid_of relay)}" <<<"$1"
}

# of JQ: what a filter finds in an answer, on standard input.
of() { jq -c "$1"; }

serve_many() {
	bg server server "$HOLD" serve 8000
	wait_listen server 8000
}

# hold N: so many connections, which the relay has opened, too: the kernel accepts for it.
hold() {
	bg held client "$HOLD" connect "$V4" 8000 "$1"
	poll 30 has_line "$OUT/held.out" "^$1 open" || { show held; fail "no $1 connections"; }
	poll 30 has_opened "$1" || fail "not $1 connections have been opened"
}

has_opened() { [[ $(ask_name counters | of 'select(.check == "opened").count') == "$1" ]]; }

# ---------------------------------------------------------------- the answers

@test "every relay has a name to ask it by; an answer has head, records and count" {
	relay
	run -0 ask_name counters
	assert_equal "$(of 'select(.type == "relay") | {v, pid, prog, state}' <<<"$output")" \
		"{\"v\":1,\"pid\":$(pid_of relay),\"prog\":\"tproxy-relay\",\"state\":\"serving\"}"
	assert_equal "$(of 'select(.type == "relay").version' <<<"$output")" "\"$(tproxy-relay --version | grep -oE '[0-9.]+$')\""
	assert_equal "$(of '.type' <<<"${lines[0]}") $(of '.type' <<<"${lines[-1]}")" '"relay" "end"'
	assert_equal "$(of .count <<<"${lines[-1]}")" $((${#lines[@]} - 2))
	# Several commands on one connection; what is no command.
	run -0 ask_name $'nonsense\nconnections\r\n\ncounters'
	assert_equal "$(of 'select(.type == "error") | .evidence' <<<"$output" | sort | uniq -c | tr -s ' ')" \
		' 2 "unknown command: there are connections, counters, drain, lame-duck, policy"'
	assert_equal "$(of 'select(.type == "end") | .count' <<<"$output" | head -n 3 | tr '\n' ' ')" '0 0 0 '
	run -0 stop relay
	run ! ask_name counters
}

@test "connections: both cookies match the kernel's, age and idle time" {
	serve_many
	relay --threads 2
	hold 1
	run -0 ask_name connections
	assert_equal "$(of .type <<<"$output" | tr '\n' ' ')" '"relay" "connection" "end" '
	local record=${lines[1]}
	assert_equal "$(of '{proto, state, origdst_by, source_kept, bytes_up, bytes_down}' <<<"$record")" \
		'{"proto":"tcp","state":"open","origdst_by":"tproxy","source_kept":"addr+port","bytes_up":0,"bytes_down":0}'
	assert_equal "$(of '[.origdst, .upstream]' <<<"$record")" \
		"[{\"addr\":\"$V4\",\"port\":8000},{\"addr\":\"$V4\",\"port\":8000}]"
	assert_equal "$(of .client <<<"$record")" "$(of .upstream_local <<<"$record")"
	local cookies
	cookies=$(on proxy ss -Htne state established | grep -o 'sk:[0-9a-f]*' | sed 's/sk:/0x/' | sort | tr '\n' ' ')
	assert_equal "$(jq -r '.cookie, .upstream_cookie' <<<"$record" | sort | tr '\n' ' ')" "$cookies"
	wait_until 10 eval '(($(ask_name connections | jq "select(.type == \"connection\").idle_ms | floor") >= 1000))'
	run -0 ask_name connections
	[[ $(of 'select(.type == "connection") | .duration_ms >= .idle_ms' <<<"$output") == true ]]
	# Of a connection that is being opened the upstream half is not there yet, or has no answer.
	on server nft -f - <<-END
		table inet t { chain input { type filter hook input priority 0; tcp dport 8001 drop; }; }
	END
	bg begun client "$HOLD" begin "$V4" 8001 1
	wait_line begun.out begun
	wait_until 10 eval '[[ $(ask_name connections) == *connecting* ]]'
	kill "$(pid_of held)" "$(pid_of begun)"
	run -0 stop relay
}

@test "5,000 connections of three threads, to a client that reads slowly: complete, in little memory" {
	serve_many
	relay --threads 3 --log off
	hold 5000
	ask_name counters >/dev/null
	local before after
	before=$(awk '/VmRSS/ { print $2 }' "/proc/$(pid_of relay)/status")
	bg slow proxy python3 -c '
import socket, sys, time
sock = socket.socket(socket.AF_UNIX)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.connect("\0tproxy-relay/" + sys.argv[1])
sock.sendall(b"connections\n")
time.sleep(0.5)
sock.shutdown(socket.SHUT_WR)
while piece := sock.recv(65536):
    sys.stdout.buffer.write(piece)' "$(pid_of relay)"
	run -0 wait_exit slow 30
	after=$(awk '/VmRSS/ { print $2 }' "/proc/$(pid_of relay)/status")
	assert_equal "$(tail -n 1 "$OUT/slow.out" | of .count)" 5000
	assert_equal "$(jq 'select(.type == "connection").id' "$OUT/slow.out" | sort -nu | wc -l)" 5000
	# The answer has 2.5 MB.
	(($(stat -c %s "$OUT/slow.out") > 2000000 && after - before < 1500)) || fail "$before kB, then $after kB"
	kill "$(pid_of held)"
	run -0 stop relay
}

@test "drain: the same answer each time, and complete even if the relay ends at once" {
	serve_many
	relay --drain-timeout 1h
	hold 3
	for _ in 1 2; do
		run -0 ask_name drain
		assert_equal "$(of 'del(.pid, .version)' <<<"$output" | tr '\n' ' ')" \
			"$(printf '%s ' '{"v":1,"type":"relay","prog":"tproxy-relay","state":"draining"}' \
				'{"v":1,"type":"counter","check":"connections","count":3}' '{"v":1,"type":"end","count":1}')"
	done
	run ! listens proxy $RELAY_PORT
	kill "$(pid_of held)"
	run -0 wait_exit relay
	for _ in 1 2 3 4 5 6 7 8; do
		relay --threads 2
		run -0 ask_name drain
		assert_equal "$(of '.count // .state' <<<"$output" | tr '\n' ' ')" '"draining" 0 1 '
		run -0 wait_exit relay
	done
}

# ---------------------------------------------------------------- who may ask

@test "root and the relay's own user get answers, others a reason" {
	root_only "needs other users"
	relay --user daemon --control "$OUT/control"
	run -0 ask_name counters
	local name
	name=ABSTRACT-CONNECT:tproxy-relay/$(pid_of relay)
	run -0 on proxy setpriv --reuid=daemon --clear-groups socat -t5 - "$name" <<<counters
	assert_equal "$(of 'select(.type == "error")' <<<"$output")" ''
	for user in nobody games; do
		run -0 on proxy setpriv --reuid=$user --clear-groups socat -t5 - "$name" <<<drain
		assert_equal "$(of 'del(.pid, .version)' <<<"$output" | tr '\n' ' ')" \
			"$(printf '%s ' '{"v":1,"type":"relay","prog":"tproxy-relay","state":"serving"}' \
				"{\"v\":1,\"type\":\"error\",\"evidence\":\"only root and the relay's own user are answered here\"}" \
				'{"v":1,"type":"end","count":0}')"
	done
	run -0 stop relay
	# Whom the kernel cannot name is called nobody: a relay that is nobody does not take that for itself.
	relay --user nobody
	name=ABSTRACT-CONNECT:tproxy-relay/$(pid_of relay)
	run -0 on proxy setpriv --reuid=nobody --clear-groups socat -t5 - "$name" <<<counters
	assert_equal "$(of 'select(.type == "error").type' <<<"$output")" '"error"'
	run -0 stop relay
}

@test "a name that is taken already: the relay takes the next one" {
	bg relay proxy bash -c 'python3 -c "
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(\"\0tproxy-relay/\" + sys.argv[1])
s.listen()
print(\"bound\", flush=True)
time.sleep(1000)" $$ & until grep -q bound "$0"; do sleep 0.02; done; exec tproxy-relay --log off 3129' "$OUT/relay.out"
	wait_listen proxy "$RELAY_PORT"
	run -0 ask_name counters "$(pid_of relay).2"
	assert_equal "$(of .pid <<<"${lines[0]}")" "$(pid_of relay)"
	run -0 stop relay
}

# ---------------------------------------------------------------- clients that nobody wishes for

# askers KIND NUMBER: see tests/lib/askers; by name, then at the path.
askers() {
	local name
	for name in "@tproxy-relay/$(pid_of relay)" "$OUT/control"; do
		bg askers proxy "$ASKERS" "$name" "$1" "$2"
		poll 30 has_line "$OUT/askers.out" "done" || { show askers; fail "$1: not taken"; }
		# With them still there.
		run -0 ask counters
		assert_equal "$(of .type <<<"${lines[-1]}")" '"end"'
		run -0 ask_name counters
		assert_equal "$(of .type <<<"${lines[-1]}")" '"end"'
		signal askers TERM 2>/dev/null || :
	done
}

@test "200 clients that do not wait, never read, send nothing or nonsense cost almost nothing, and lock nobody out" {
	local kind before after
	relay --control "$OUT/control"
	for kind in gone shut silent garbage deaf half; do
		askers "$kind" 200
	done
	# The one that was seen to keep a processor busy for ever.
	for _ in 1 2 3; do
		run -0 on proxy socat -u - "UNIX-CONNECT:$OUT/control" <<<counters
	done
	# Those that are left do not cost anything either.
	bg deaf proxy "$ASKERS" "$OUT/control" deaf 10
	poll 10 has_line "$OUT/deaf.out" "done"
	ask counters >/dev/null
	before=$(cpu_ticks relay)
	wait_until 5 eval '((SECONDS > '"$SECONDS"' + 2))'
	after=$(cpu_ticks relay)
	((after - before <= 5 * TIME_SCALE)) || fail "$((after - before)) ticks in 2 s"
	assert [ "$(descriptors relay)" -lt 100 ]
	run -0 stop relay
}

@test "a client that sends nothing, or reads nothing, is closed after ten seconds" {
	relay
	bg silent proxy python3 -c '
import socket, sys, time
def client(text):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect("\0tproxy-relay/" + sys.argv[1])
    sock.sendall(text)
    return sock
silent, half, asks = client(b""), client(b"count"), client(b"counters\n")
start = time.monotonic()
assert asks.recv(100)
assert silent.recv(100) == b"" and half.recv(100) == b""
print(time.monotonic() - start)' "$(pid_of relay)"
	run -0 wait_exit silent 15
	run cut -d. -f1 "$OUT/silent.out"
	((output >= 9 && output <= 11 + 2 * TIME_SCALE)) || fail "after $output s"
	run -0 stop relay
}

@test "out of descriptors the relay cannot be asked, and does not spin" {
	serve_many
	bg relay proxy prlimit --nofile=40 tproxy-relay --control "$OUT/control" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	bg askers proxy "$ASKERS" "@tproxy-relay/$(pid_of relay)" silent 16
	wait_line askers.out "done"
	bg held client "$HOLD" begin "$V4" 8000 40
	wait_line held.out begun
	bg more proxy "$ASKERS" "$OUT/control" silent 4
	wait_line more.out "done"
	local before after
	before=$(cpu_ticks relay)
	wait_until 5 eval '((SECONDS > '"$SECONDS"' + 2))'
	after=$(cpu_ticks relay)
	((after - before <= 10)) || fail "$((after - before)) ticks in 2 s"
	kill "$(pid_of held)" "$(pid_of askers)" "$(pid_of more)"
	poll 10 eval '[[ $(ask counters) == *\"end\"* ]]'
	run -0 stop relay
}

# ---------------------------------------------------------------- tproxy-relay --ask

@test "--ask: the only relay, or by pid, @NAME or path; a table, or NDJSON" {
	serve_many
	run -1 on proxy tproxy-relay --ask counters
	assert_output 'tproxy-relay: no relay can be asked in this network namespace'
	relay --control "$OUT/control"
	hold 2
	run -0 on proxy tproxy-relay --ask counters
	assert_line --index 0 --regexp '^CHECK +COUNT$'
	assert_line --regexp '^connections +2$'
	run -0 on proxy tproxy-relay --ask connections -H -o state,origdst,cookie
	assert_equal "${#lines[@]}" 2
	assert_line --index 0 --regexp "^open +$V4:8000 +0x[0-9a-f]+\$"
	for who in '' "$(pid_of relay)" "@tproxy-relay/$(pid_of relay)" "$OUT/control"; do
		run -0 on proxy tproxy-relay --ask connections -j $who
		assert_equal "$(of .type <<<"$output" | sort | uniq -c | tr -s ' \n' ' ')" ' 2 "connection" 1 "relay" '
	done
	# On a terminal it fits.
	run -0 on proxy env NO_COLOR=1 "$TOP/tests/lib/on-terminal" 80 tproxy-relay --ask connections
	for line in "${lines[@]}"; do
		((${#line} <= 80)) || fail "${#line} columns: $line"
	done
	run -0 on proxy tproxy-relay --ask drain
	assert_line --regexp '^connections +2$'
	kill "$(pid_of held)"
	run -0 wait_exit relay
	run -1 on proxy tproxy-relay --ask drain "$(pid_of relay)"
	assert_output "tproxy-relay: @tproxy-relay/$(pid_of relay): connect: Connection refused"
	run -1 on proxy tproxy-relay --ask drain "$OUT/control"
}

@test "--ask: several relays need an operand; invalid options; a relay that refuses" {
	relay
	bg second proxy tproxy-relay 3130
	wait_listen proxy 3130
	run -2 on proxy tproxy-relay --ask counters
	assert_output --regexp '^tproxy-relay: --ask: 2 relays run here: which one\? @tproxy-relay/[0-9]+, @tproxy-relay/[0-9]+'
	run -0 on proxy tproxy-relay --ask counters "$(pid_of second)"
	run -2 on proxy tproxy-relay --ask counters --max 5
	assert_line --index 0 --partial 'tproxy-relay: --max and --ask contradict each other'
	run -2 on proxy tproxy-relay --ask counters elsewhere
	assert_line --index 0 --partial "tproxy-relay: --ask: 'elsewhere' is no pid, @NAME or path of a relay"
	run -2 on proxy tproxy-relay --ask counters 1 2
	run -2 on proxy tproxy-relay --ask nonsense
	run -2 on proxy tproxy-relay --ask counters -o client "$(pid_of relay)"
	assert_output --partial "'client' is not a column here; there are check,count"
	run -0 stop second
	run -0 stop relay
}

# answers NAME LINE...: somebody who has taken a relay's name, and answers so.
answers() {
	local name=$1
	shift
	bg impostor proxy python3 -c '
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind("\0" + sys.argv[1])
s.listen()
print("bound", flush=True)
while True:
    c = s.accept()[0]
    c.recv(100)
    c.sendall("".join(line + "\n" for line in sys.argv[2:]).encode())
    c.close()' "$name" "$@"
	wait_line impostor.out bound
}

@test "--ask: an impostor's answer is rejected, a later version's is understood or refused" {
	local head='{"v":1,"type":"relay","pid":1,"new":[1,{"a":"b"}]}' end='{"v":1,"type":"end","count":1}'
	answers tproxy-relay/1 "$head" '{"v":1,"type":"counter","check":"new\u001b[2J","count":7,"more":"x"}' "$end"
	run -0 on proxy tproxy-relay --ask counters -H
	assert_output --regexp '^new\\033\[2J +7$'
	stop impostor || :
	for line in 'nonsense' '{"v":2,"type":"counter"}' "$(printf '%3000d' 0)" "$(printf '%70000d' 0)" ''; do
		answers tproxy-relay/1 "$head" "$line"
		run -3 on proxy tproxy-relay --ask counters -H
		assert_output --regexp '^tproxy-relay: @tproxy-relay/1: counters: (byte 0 of a record is unexpected|a record of version 2; only version 1 is supported|a line that is longer than any record)$'
		stop impostor || :
	done
	answers tproxy-relay/1 "$head"
	run -3 on proxy tproxy-relay --ask counters -H
	assert_output 'tproxy-relay: @tproxy-relay/1: counters: the answer ended before its end'
	stop impostor || :
	# A name that would say more than a number: in /proc/net/unix, where it makes a line, it gets no further.
	answers $'tproxy-relay/1\n0000: 00000002 00000000 00010000 0001 01 1 @tproxy-relay/\e[2J' x
	run -1 on proxy tproxy-relay --ask counters
	assert_output --regexp '^tproxy-relay: (no relay can be asked in this network namespace|@tproxy-relay/1: connect: Connection refused)$'
}
