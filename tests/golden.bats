#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The rules in tests/golden, one specification per file: the code generates them, `tproxy-setup
# plan` prints them, and nft accepts them. `make golden` rewrites them.

bats_require_minimum_version 1.5.0
load lib/lab

setup() { lab_up; }
teardown() { lab_down; }

GOLDEN=$BATS_TEST_DIRNAME/golden

# What is in a control group is matched by the group's number: it would have to be there.
without_groups() {
	grep -L -e --cgroup "$GOLDEN"/*.nft
}

@test "a rule that differs from the generated one is found, with its line" {
	sed 's/counter name intercepted accept/accept/' "$GOLDEN/default.nft" >"$OUT/wrong.nft"
	run "$TPROXY_BIN/unit/nft_text" "$OUT/wrong.nft"
	assert_failure
	assert_output --regexp 'wrong.nft:[0-9]+: expected .* accept'
}

@test "plan prints it, and nft accepts it" {
	local file options
	for file in $(without_groups); do
		options=$(sed -n '1s/^# tproxy-setup plan //p' "$file")
		tail -n +2 "$file" >"$OUT/rules"
		if [[ $options != *--ending* ]]; then
			on proxy tproxy-setup plan $options >"$OUT/plan" 2>"$OUT/plan.err"
			diff "$OUT/rules" "$OUT/plan"
			on proxy nft -c -f "$OUT/rules"
		fi
	done
}

@test "nft accepts the commands that remove it" {
	local file name
	for file in "$GOLDEN"/ending*.nft; do
		name=$(sed -n '1s/^# tproxy-setup plan \(.*\) --ending.*/\1/p' "$file")
		on proxy tproxy-setup up -q $name
		tail -n +2 "$file" | on proxy nft -c -f -
		on proxy tproxy-setup down -q
	done
}
