#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup doctor over a sample of many set-ups (tests/doctor-matrix): it reports every broken
# one and no working one, and what it prints fixes what it names. All of them: make doctor-matrix.

bats_require_minimum_version 1.5.0
load lib/lab

sample() {
	[[ $EUID -eq 0 ]] || skip "root only: iptables-legacy's tables are told to the machine's root alone"
	run "$TOP/tests/doctor-matrix" -n "$1"
	echo "$output" >&2
	assert_success
	assert_line --regexp '^set-ups: [1-9]'
}

# (In two, for the limit of time that a test has.)
@test "every twentieth set-up: named and fixed, or left alone" { sample 20; }
@test "every twentieth set-up between them" { sample 20:10; }
