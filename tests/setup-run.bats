#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup run: rules that live exactly as long as a command, however it ends.
#
#   client 192.0.2.2 --- proxy: tproxy-setup run -- COMMAND --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
	snapshot >"$OUT/before"
}

teardown() {
	lab_down
}

assert_nothing_left() {
	snapshot | diff "$OUT/before" -
}

installed() {
	on proxy "$TOP/tests/lib/intact" >/dev/null
}

not_installed() {
	snapshot | diff -q "$OUT/before" - >/dev/null
}

# From start_monitor to refute_installed_meanwhile no table of ours came or went.
start_monitor() {
	bg monitor proxy nft monitor tables
	wait_until 10 eval 'probe_nft; [ -s $OUT/monitor.out ]'
}

refute_installed_meanwhile() {
	on proxy nft add table ip last
	wait_line monitor.out 'add table ip last'
	on proxy nft delete table ip last
	refute_line_in monitor.out 'tproxy_'
}

# A command that listens (IPv4) and does with each signal what it is told: a relay.
run_relay() {
	bg run proxy tproxy-setup run -v -4 --to 3129 --port 80 "$@" -- tproxy-relay -4 --log events 3129
	wait_until 10 installed
}

@test "the command's exit status is passed through, and nothing is left" {
	for want in 0 1 42; do
		bg run proxy tproxy-setup run -q -4 --to 3129 -- \
			sh -c 'tproxy-relay -4 3129 & until tproxy-setup status >/dev/null; do sleep 0.05; done; kill $!; wait $!; exit '$want
		run wait_exit run
		assert_equal "$status" "$want"
		assert_nothing_left
	done
}

@test "a command that cannot be run: 127, 126, and nothing is ever installed" {
	start_monitor
	run -127 on proxy tproxy-setup run --to 3129 -- /nonesuch
	assert_output "tproxy-setup: /nonesuch: No such file or directory"
	run -126 on proxy tproxy-setup run --to 3129 -- "$OUT"
	assert_nothing_left
	refute_installed_meanwhile
}

@test "a command that ends before it listens: its status, and nothing is ever installed" {
	start_monitor
	run on proxy tproxy-setup run --to 3129 -- sh -c 'exit 5'
	assert_equal "$status" 5
	run on proxy tproxy-setup run --to 3129 -- sh -c 'kill -9 $$'
	assert_equal "$status" 137
	refute_installed_meanwhile
}

@test "interception begins when the listener is open, not before" {
	start_nginx
	bg run proxy tproxy-setup run -q -4 --to 3129 --port 80 -- \
		sh -c 'until [ -e "$0" ]; do sleep 0.05; done; exec tproxy-relay -4 3129' "$OUT/go"
	wait_until 10 eval '[ -n "$(on proxy sh -c "pgrep -P $(pid_of run)")" ]'
	assert not_installed
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_success
	touch "$OUT/go"
	wait_until 10 installed
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_output --regexp '^192\.0\.2\.2 '
	wait_line run.out 'open'
	run stop run
	assert_success
	assert_nothing_left
}

@test "interception begins at READY=1, too" {
	bg run proxy tproxy-setup run -q --to 3129 -- \
		bash -c 'printf READY=1 | socat - "ABSTRACT-SENDTO:${NOTIFY_SOCKET#@}"; exec sleep 60'
	wait_until 10 installed
	run stop run
	assert_equal "$status" 143
	assert_nothing_left
}

@test "READY=1 from a foreign process does not count; from the command as another user it does" {
	root_only "other users are needed"
	say='printf READY=1 | socat - "ABSTRACT-SENDTO:${NOTIFY_SOCKET#@}"'
	bg run proxy tproxy-setup run --to 3129 -- bash -c 'echo "$NOTIFY_SOCKET"; exec sleep 60'
	wait_line run.out '^@'
	NOTIFY_SOCKET=$(cat "$OUT/run.out") on proxy setpriv --reuid 65534 --clear-groups setsid bash -c "$say"
	wait_line run.err 'READY=1 from process [0-9]+ of uid 65534 is ignored'
	not_installed
	# Nor READY=10, from whomever.
	NOTIFY_SOCKET=$(cat "$OUT/run.out") on proxy bash -c "${say/READY=1/READY=10}"
	not_installed
	stop run || :
	bg run proxy tproxy-setup run -q --to 3129 -- \
		setpriv --reuid 65534 --clear-groups bash -c "$say; exec sleep 60"
	wait_until 10 installed
	stop run || :
	assert_nothing_left
}

@test "signals are forwarded; on SIGTERM and SIGINT interception ends first" {
	for sig in TERM INT HUP; do
		bg run proxy tproxy-setup run -q -4 --to 3129 -- \
			bash -c 'trap "echo got '$sig'; exit 3" '$sig'; tproxy-relay -4 -q --log off 3129 & while :; do sleep 0.05; done'
		wait_until 10 installed
		run stop run $sig
		assert_equal "$status" 3
		assert_line_in run.out "got $sig"
		assert_nothing_left
		on proxy sh -c 'kill $(ss -Hltnp "src :3129" | grep -o "pid=[0-9]*" | cut -d= -f2)'
		wait_until 10 eval '[ -z "$(on proxy ss -Hltn "src :3129")" ]'
	done
}

@test "SIGTERM drains: relayed connections finish, new ones pass" {
	bg echo server socat TCP4-LISTEN:80,reuseaddr,fork SYSTEM:'while read x; do echo $x; done'
	wait_listen server 0.0.0.0:80
	run_relay
	mkfifo "$OUT/in"
	bg line client bash -c 'exec socat -T60 - TCP:198.51.100.2:80 <>"$0"' "$OUT/in"
	echo one >"$OUT/in"
	wait_line line.out one
	signal run TERM
	wait_until 10 eval 'on proxy nft list chains inet | grep -q ending'
	echo two >"$OUT/in"
	wait_line line.out two
	run bash -c "$(declare -f on); echo hello | on client socat -T30 - TCP:198.51.100.2:80"
	assert_output hello
	stop line || :
	wait_exit run
	assert_nothing_left
	assert_equal "$(grep -c open "$OUT/run.out")" 1
}

@test "--drain bounds it: the rest are reset, the command's status still counts" {
	bg echo server socat TCP4-LISTEN:80,reuseaddr,fork SYSTEM:'while read x; do echo $x; done'
	wait_listen server 0.0.0.0:80
	run_relay --drain 200ms
	mkfifo "$OUT/in"
	bg line client bash -c 'exec socat -T60 - TCP:198.51.100.2:80 <>"$0"' "$OUT/in"
	echo one >"$OUT/in"
	wait_line line.out one
	run stop run
	assert_success
	run wait_exit line
	assert_line_in run.err 'reset'
	assert_nothing_left
}

@test "SIGKILL of the wrapper: the command ends and nothing is left" {
	run_relay
	command=$(on proxy pgrep -P "$(pid_of run)" tproxy-relay)
	signal run KILL
	wait_until 10 not_installed
	wait_until 10 gone "$command"
	assert_nothing_left
}

@test "SIGKILL of the wrapper: a command that does not end is killed after the drain" {
	bg run proxy tproxy-setup run -q -4 --to 3129 --drain 100ms -- \
		bash -c 'trap "" TERM; tproxy-relay -4 -q --log off 3129 & while :; do sleep 0.05; done'
	wait_until 10 installed
	command=$(on proxy pgrep -P "$(pid_of run)" bash)
	signal run KILL
	wait_until 10 not_installed
	wait_until 10 gone "$command"
}

@test "SIGKILL of the supervisor: it is replaced, and the rules still go with the command" {
	run_relay
	supervisor=$(on proxy pgrep -P "$(pid_of run)" tproxy-setup)
	kill -KILL "$supervisor"
	wait_until 10 gone "$supervisor"
	wait_until 10 eval 'on proxy pgrep -P $(pid_of run) tproxy-setup'
	assert installed
	run stop run
	assert_success
	assert_nothing_left
}

@test "SIGKILL of the command: 137, and nothing is left" {
	run_relay
	kill -KILL "$(on proxy pgrep -P "$(pid_of run)" tproxy-relay)"
	run wait_exit run
	assert_equal "$status" 137
	assert_nothing_left
}

@test "a failure to install is found before the command is started, or ends it: 125" {
	on proxy ip route add 203.0.113.77/32 dev lo table 100
	snapshot >"$OUT/before"
	bg run proxy tproxy-setup run -4 --to 3129 -- tproxy-relay -4 3129
	run wait_exit run
	assert_equal "$status" 125
	assert_line_in run.err 'not ours'
	assert_nothing_left
	on proxy ip route flush table 100
	on proxy tproxy-setup up -q --to 3129
	run on proxy tproxy-setup run --to 3129 -- touch "$OUT/started"
	assert_equal "$status" 125
	assert_output --partial "installed already"
	assert_not_exists "$OUT/started"
}

@test "a service manager's NOTIFY_SOCKET gets READY=1 when everything is installed; the command has its own" {
	bg manager proxy socat -u "UNIX-RECVFROM:$OUT/notify,fork" STDOUT
	wait_until 10 test -S "$OUT/notify"
	bg run proxy env NOTIFY_SOCKET="$OUT/notify" tproxy-setup run -q -4 --to 3129 -- tproxy-relay -4 3129
	wait_line manager.out 'READY=1'
	assert installed
	stop run
}

@test "READY=1 of the command as another user counts in a pid namespace, too, where its group has no number" {
	root_only "other users are needed"
	bg run proxy unshare --pid --fork --kill-child --mount-proc tproxy-setup run --to 3129 --port 80 -- tproxy-relay --log off 3129
	wait_until 10 installed
	wait_line run.err 'listening on '
	refute_line_in run.err 'is ignored'
	run stop run KILL
	on proxy tproxy-setup down -q --all
	assert_nothing_left
}

# What systemd does with a service: the limit is the wrapper's, the signs of life are the command's.
@test "watchdog: the command's signs of life reach the service manager; after its end the wrapper gives them" {
	local notified=$OUT/notified had
	bg manager proxy socat -u UNIX-RECV:"$OUT/notify" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify"
	bg run proxy env NOTIFY_SOCKET="$OUT/notify" WATCHDOG_USEC=600000 bash -c 'export WATCHDOG_PID=$$
		exec tproxy-setup run -q -4 --to 3129 --port 80 -- tproxy-relay -q --log off -4 3129'
	wait_line notified 'READY=1'
	wait_until 10 more_signs "$notified" 2
	relay=$(pgrep --parent "$(pid_of run)" -x tproxy-relay)
	kill -STOP "$relay"
	wait_until 10 eval '[[ $(cut -d " " -f 3 "/proc/$relay/stat") == T ]]'
	wait_until 2 no_signs "$notified"
	had=$(signs "$notified")
	# Those of strangers are not passed on.
	if ((EUID == 0)); then
		address=$(tr '\0' '\n' <"/proc/$relay/environ" | sed -n 's/^NOTIFY_SOCKET=@//p')
		for _ in 1 2 3 4; do
			printf WATCHDOG=1 | on proxy setpriv --reuid 65534 --clear-groups setsid socat - "ABSTRACT-SENDTO:$address"
		done
	fi
	no_signs "$notified"
	assert_equal "$(signs "$notified")" "$had"
	kill -CONT "$relay"
	wait_until 10 more_signs "$notified" "$had"
	run -0 stop run
	# The command has ended, and a connection that it left is drained.
	bg run proxy env NOTIFY_SOCKET="$OUT/notify" WATCHDOG_USEC=600000 bash -c 'export WATCHDOG_PID=$$
		exec tproxy-setup run -q -4 --to 3129 --port 80 -- tproxy-listen -q -4 3129 -- sleep 60'
	wait_until 10 installed
	bg slow client socat -u TCP:198.51.100.2:80 -
	wait_until 10 eval 'sleeping=$(pgrep -f "^sleep 60$" --ns "$(pid_of run)" --nslist net)'
	kill -KILL "$(pgrep --parent "$(pid_of run)" -x tproxy-listen)"
	wait_until 10 eval '! pgrep --parent "$(pid_of run)" -x tproxy-listen'
	wait_until 10 more_signs "$notified" $(($(signs "$notified") + 2))
	assert_not_exists "$OUT/run.status"
	kill "$sleeping"
	run wait_exit run
	assert_equal "$status" 137
	assert_nothing_left
}

# What is said after two seconds of waiting.
@test "run never waits silently: it reports what it waits for, and what it found instead" {
	bg run proxy tproxy-setup run -4 --to 3129 --port 80 -- sleep 60
	wait_line run.err 'waiting for sleep: nobody listens at 127.0.0.1:3129 yet; nothing is intercepted until then'
	run stop run
	assert_equal "$status" 143
	bg run proxy tproxy-setup run -4 --to 3130 --port 80 -- socat TCP4-LISTEN:3129,ip-transparent -
	wait_line run.err 'waiting for socat: socat listens at \*:3129, not 127.0.0.1:3130;'
	stop run || :
	bg run proxy tproxy-setup run --to 3130 --port 80 -- tproxy-relay -q --log off 3129
	wait_line run.err 'warning: tproxy-relay says that it is ready, but tproxy-relay listens at (127.0.0.1|\[::1\]):3129, not 3130'
	run -0 stop run
	bg run proxy tproxy-setup run -4 --to 3129 --port 80 -- socat TCP4-LISTEN:3129 -
	wait_line run.err 'waiting for socat: socat listens at \*:3129, but is not transparent: it needs REDIRECT, or'
	stop run || :
	bg run proxy tproxy-setup run --to 3129 --port 80 -- env -u NOTIFY_SOCKET tproxy-relay -q --log off -4 3129
	wait_line run.err 'waiting for env: tproxy-relay listens at 127.0.0.1:3129, nobody at \[::1\]:3129;'
	stop run || :
	bg run proxy tproxy-setup run -t -u -4 --to 3129 --port 80 -- env -u NOTIFY_SOCKET tproxy-relay -q --log off -4 3129
	wait_line run.err 'waiting for env: tproxy-relay listens at 127.0.0.1:3129, nobody at UDP 127.0.0.1:3129;'
	stop run || :
	assert_nothing_left
}

@test "a command that puts itself in the background is reported, and a failure" {
	run -125 on proxy tproxy-setup run --to 3129 --port 80 -- true
	assert_output "tproxy-setup: true ended before anybody listened: keep it in the foreground"
	run -125 on proxy tproxy-setup run -4 --to 3129 --port 80 -- \
		bash -c 'setsid tproxy-relay -q --log off -4 3129 >/dev/null 2>&1 & echo $! >"$0"; until tproxy-setup status -q; do sleep 0.05; done' "$OUT/left"
	assert_line "tproxy-setup: bash ended, and left a listener behind: keep it in the foreground, interception ends with it"
	on proxy kill "$(cat "$OUT/left")"
	assert_nothing_left
}

@test "a drain reports how many connections it waits for, how long, and how to end it" {
	start_echo
	bg run proxy tproxy-setup run --to 3129 --port 80 --drain 50s -- tproxy-relay -q --log off --drain-timeout 50s 3129
	wait_until 10 installed
	open_line one 198.51.100.2:80
	say one hello
	wait_until 10 heard one hello
	signal run TERM
	wait_line run.err 'default: draining 1 connection, at most 50 s; again to end now'
	signal run TERM
	run wait_exit run
	assert_nothing_left
}
