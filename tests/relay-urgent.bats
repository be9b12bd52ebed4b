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

@test "an urgent byte where a full buffer ends: it is not taken out" {
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
