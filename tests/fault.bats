#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every system call and every allocation of ours fails once, in turn: nothing crashes, nothing is
# silent, and what could not be done is not half-done. The programs are those of `make fault`. Here every
# fifth call is tried, by `make soak` every one.

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	[[ -x $TPROXY_BIN/fault/tproxy-setup ]] || fail "no $TPROXY_BIN/fault: run make fault"
	FAULT=$TPROXY_BIN/fault
	lab_up
}

teardown() { lab_down; }

sweep() {
	run timeout --foreground $((150 * PATIENCE)) nsenter ${LAB_ENTER:+"$LAB_ENTER" --preserve-credentials} \
		--net="/proc/$LAB_proxy/ns/net" -- "$TOP/tests/fault/sweep" "$@"
	assert_success
}

# What must be true of a host on which nothing is installed; also said as text for sweep.
nothing='[[ ! $(nft list ruleset; ip rule show table 100; ip -6 rule show table 100
	ip route show table 100; ip -6 route show table 100) ]] 2>/dev/null'

@test "the seam fails what it is told to" {
	run on proxy env TPROXY_FAULT=listen:1+:EMFILE "$FAULT/tproxy-listen" --timeout 1 3129
	assert_failure 3
	assert_output --partial "Too many open files"
	run on proxy env TPROXY_FAULT=bind:1:ENONSENSE "$FAULT/tproxy-listen" --timeout 1 3129
	assert_failure 125
	run on proxy env TPROXY_FAULT=call:1:SIGKILL "$FAULT/tproxy-listen" --timeout 1 3129
	assert_failure 137
	on proxy env TPROXY_FAULT_COUNT="$OUT/count" "$FAULT/tproxy-inspect"
	assert_line_in count '^nl_connect 1$'
}

@test "setup up: memory; it is installed whole or not at all" {
	sweep memory "if ((status)); then $nothing; else tproxy-setup status -q && tproxy-setup down; fi" \
		"$FAULT/tproxy-setup" up -q --to 3129 --port 80,443 --src 192.0.2.0/24
}

@test "setup up: calls; it is installed whole or not at all" {
	sweep call "if ((status)); then $nothing; else tproxy-setup status -q && tproxy-setup down; fi" \
		"$FAULT/tproxy-setup" up -q --to 3129 --port 80,443 --src 192.0.2.0/24
}

@test "setup up over an instance: the new one or the old one" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	sweep call 'if ((status)); then tproxy-setup status -q --to 3129 --port 80
		else tproxy-setup status -q --to 3130 --port 81 && tproxy-setup up -q --to 3129 --port 80; fi' \
		"$FAULT/tproxy-setup" up -q --to 3130 --port 81
}

@test "setup down: what fails can be repeated" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	sweep call "((status)) || { $nothing; } && tproxy-setup down && $nothing && tproxy-setup up -q --to 3129 --port 80" \
		"$FAULT/tproxy-setup" down
}

@test "setup status and plan say why they cannot tell" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	for group in memory call; do
		sweep $group : "$FAULT/tproxy-setup" status
		for format in nft ip iptables json; do
			sweep $group : "$FAULT/tproxy-setup" plan --format $format --to 3129 --port 80
		done
	done
}

@test "inspect says why it cannot tell" {
	bg listener proxy tproxy-listen 3129
	wait_listen proxy 3129
	for group in memory call; do
		sweep $group : "$FAULT/tproxy-inspect" sockets --all
		sweep $group : "$FAULT/tproxy-inspect" --json --pid "$(pid_of listener)"
		sweep $group : "$FAULT/tproxy-inspect" origdst 192.0.2.1:80 192.0.2.2:1000
	done
}

@test "listen starts whole or not at all" {
	for group in memory call; do
		sweep $group '((status == 3 || status <= 1))' \
			"$FAULT/tproxy-listen" --timeout 50ms 3129
	done
}

# A connection through a relay whose call number $1 of group $2 fails, and then one more: that must
# work, unless the relay ended and said why. Sets FIRED, empty when the first needs fewer calls.
relay_with_fault() {
	local who status=0
	rm -f "$OUT/fired" "$OUT/relay.status"
	bg relay proxy env TPROXY_FAULT="$2:$1" TPROXY_FAULT_LOG="$OUT/fired" "$FAULT/tproxy-relay" 3129
	wait_until 10 relay_is_decided
	who=$(on client curl -s --max-time 5 http://198.51.100.2/who) || who=failed
	[[ $who =~ ^192\.0\.2\.2\ [0-9]+$ || $who == failed ]] || fail "$2:$1: the client got '$who'"
	FIRED=$([[ ! -e $OUT/fired ]] || cat "$OUT/fired")
	if [[ ! $FIRED ]] || on client curl -s -o "$OUT/second" --max-time 5 http://198.51.100.2/who; then
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
	on proxy tproxy-setup up -q --to 3129 --port 80
	for ((n = 1; n < 500; n += ${TPROXY_FAULT_STEP:-5})); do
		relay_with_fault $n "$1"
		[[ $FIRED ]] || break
	done
	((n > 1 && n < 500))
}

@test "relay: any one call fails: it says so or lives, and never shows its own address" {
	relay_sweep call
}

@test "relay: any one allocation fails: it says so or lives" {
	relay_sweep memory
}
