#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup when the system fails it in the middle of a replacement, or when it is killed there (what
# fails elsewhere is in fault.bats). The machine is as before the call, or as asked for, or the next call
# makes it so; and what is said is one line.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
	FAULTY=$TPROXY_BIN/fault/tproxy-setup
}

teardown() {
	lab_down
}

# each_fault KIND STEP ERROR CHECK COMMAND...: COMMAND with one call of that kind failing, a STEP further
# each time until none is left, from the FIRST on; CHECK is called after each failure. prepare() makes the
# state before each.
each_fault() {
	local kind=$1 step=$2 error=$3 check=$4 n
	shift 4
	for ((n = ${FIRST-1}; n < 400; n += step)); do
		prepare
		rm -f "$OUT/happened"
		run on proxy env TPROXY_FAULT="$kind:$n$error" TPROXY_FAULT_LOG="$OUT/happened" "$FAULTY" "$@"
		[[ -s $OUT/happened ]] || break
		((status == 0 || status == 3)) || fail "$kind:$n: $*: status $status: $output"
		((status == 0 || ${#lines[@]} == 1)) || fail "$kind:$n: $*: $output"
		$check "$kind:$n"
	done
	((n > 3 && n < 400)) || fail "$kind: $n faults"
	assert_success
}

is_before_or_done() {
	snapshot >"$OUT/after"
	if ((status == 0)); then
		on proxy "$TOP/tests/lib/intact" >/dev/null 2>&1 || fail "$1: said to be done, but is not intact"
	else
		diff "$OUT/before" "$OUT/after" || fail "$1: $output: not as before"
	fi
}

over_instance() {
	prepare() {
		on proxy tproxy-setup down -q
		on proxy tproxy-setup up -q --to 3128 --port 81 --table 110 --mark 0x3/0xff
	}
	prepare
	snapshot >"$OUT/before"
	each_fault "$@" is_before_or_done up -q --to 3129 --port 80 --table 111
}

@test "up over an instance: calls 1, 3, 5 ... fail in turn, and the old instance is as before" {
	FIRST=1 over_instance call 2 :EIO
}

@test "up over an instance: calls 2, 4, 6 ... fail in turn, and the old instance is as before" {
	FIRST=2 over_instance call 2 :EIO
}

@test "up over an instance: every seventh allocation fails in turn" {
	over_instance memory 7 ""
}

# What was cut short can be repeated, and then nothing is left.
is_removable() {
	((status != 0)) || snapshot | diff "$OUT/before" - || fail "$1: said to be done"
	on proxy tproxy-setup down || fail "$1: cannot be repeated"
	snapshot | diff "$OUT/before" - || fail "$1: not all is gone after the second time"
}

@test "down: killed before each call; the second down removes what is left" {
	prepare() {
		on proxy tproxy-setup up -q --to 3129 --port 80
	}
	snapshot >"$OUT/before"
	for ((n = 1; n < 200; n += 4)); do
		prepare
		rm -f "$OUT/happened"
		run on proxy env TPROXY_FAULT="call:$n:SIGKILL" TPROXY_FAULT_LOG="$OUT/happened" "$FAULTY" down
		[[ -s $OUT/happened || $status != 0 ]] || break
		is_removable "call:$n"
	done
	((n < 200)) || fail "no end"
}

@test "up: killed before each call; up again completes it, or down leaves nothing" {
	snapshot >"$OUT/before"
	for ((n = 1; n < 200; n += 4)); do
		rm -f "$OUT/happened"
		run on proxy env TPROXY_FAULT="call:$n:SIGKILL" TPROXY_FAULT_LOG="$OUT/happened" "$FAULTY" up -q --to 3129
		[[ -s $OUT/happened || $status != 0 ]] || break
		if ((n % 8 == 1)); then
			on proxy tproxy-setup up -q --to 3129
			on proxy "$TOP/tests/lib/intact" >/dev/null || fail "call:$n: not fixed"
		fi
		on proxy tproxy-setup down
		snapshot | diff "$OUT/before" - || fail "call:$n: something is left"
	done
	((n < 200)) || fail "no end"
}
