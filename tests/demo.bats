#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `make demo`: shows the main job, in time, and fails when the main job does.

bats_require_minimum_version 1.5.0
load lib/lab

@test "the demo shows both families and ends within 15 seconds" {
	local start=$SECONDS
	run "$TOP/tests/demo"
	assert_success
	assert_line --regexp '^what the server saw  192\.0\.2\.2 port [0-9]+$'
	assert_line --regexp '^what the server saw  2001:db8:1::2 port [0-9]+$'
	assert_line "The server saw the client's own address and port, over IPv4 and over IPv6."
	[[ $((SECONDS - start)) -le $((15 * TIME_SCALE)) ]]
	run awk 'length > 100' <<<"$output"
	assert_output ""
}

@test "the demo fails when the server sees another port than the client's" {
	mkdir "$BATS_TEST_TMPDIR/bin"
	ln -s "$TPROXY_BIN"/tproxy-{lab,setup,inspect} "$BATS_TEST_TMPDIR/bin"
	printf '#!/bin/sh\nexec %s/tproxy-relay --source client-addr "$@"\n' "$TPROXY_BIN" \
		>"$BATS_TEST_TMPDIR/bin/tproxy-relay"
	chmod 755 "$BATS_TEST_TMPDIR/bin/tproxy-relay"
	TPROXY_BIN=$BATS_TEST_TMPDIR/bin run "$TOP/tests/demo"
	assert_failure 1
	assert_output --partial "demo: the server did not see the client's own address and port"
}

@test "an interrupted demo leaves nothing behind" {
	export TMPDIR=$BATS_TEST_TMPDIR/tmp
	mkdir "$TMPDIR"
	"$TOP/tests/demo" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
	wait_line "$BATS_TEST_TMPDIR/out" '^2  IPv4'
	kill -TERM $!
	wait $! || status=$?
	assert_equal "$status" 143
	run ls -A "$TMPDIR"
	assert_output ""
}
