#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The unit tests in tests/unit/*.c, a test each. They need no network and no privilege.

bats_require_minimum_version 1.5.0

setup() {
	bats_load_library bats-support
	bats_load_library bats-assert
	UNIT=${TPROXY_BIN:-$BATS_TEST_DIRNAME/../build}/unit
}

unit_test() {
	run timeout --kill-after=5 60 "$UNIT/$1" "${@:2}"
	assert_success
	assert_output --regexp '[0-9]+ checks, 0 failed'
}

@test "endpoint: addresses, prefixes, port lists" { unit_test endpoint; }
@test "quantity: durations, sizes, marks" { unit_test quantity; }
@test "options: one table, every usage error" { unit_test options; }
@test "conf: /etc/tproxy/NAME.conf, its words and their lines" { unit_test conf; }
@test "plain: what may be shown on a terminal" { unit_test plain; }
@test "record: text, NDJSON" { unit_test record; }
@test "record_parse: a line is a record again" { unit_test record_parse; }
@test "record_stream: a writer that never blocks" { unit_test record_stream; }
@test "slab: objects of one size" { unit_test slab; }
@test "recent: known until a time, as often as noted" { unit_test recent; }
@test "shell: words that stay words, commands whole or not at all" { unit_test shell; }
@test "match: CIDR[:PORTS]" { unit_test match; }
@test "intercept: overlap, predicate, canonical text" { unit_test intercept; }
@test "field: each entry is typed, written, read back, compared, and changes the rules that it names" { unit_test field; }
@test "nft_text: the rules of each specification in tests/golden" { unit_test nft_text "$BATS_TEST_DIRNAME"/golden/*.nft; }

@test "nft_scan: what moves by itself changes no digest, whatever else does" { unit_test nft_scan; }
@test "first_match: what a rule asks first, if that is one address or port" { unit_test first_match; }
@test "rule_wire: rules as the kernel tells them, in the words of nft" { unit_test rule_wire; }
@test "rule_eval: what a match comes to, and what is certain" { unit_test rule_eval; }

@test "xtables: extensions, and whole tables of iptables-legacy" {
	tables=()
	for t in mangle4 mangle6 raw4 filter4; do
		tables+=("$BATS_TEST_DIRNAME/fuzz/corpus/xtables/$t" "$BATS_TEST_DIRNAME/golden/xtables-$t.json")
	done
	unit_test xtables "${tables[@]}"
}

@test "loop: events, deadlines, and what is released after the batch" { unit_test loop; }
@test "tcpinfo: who opened it, and how much is payload" { unit_test tcpinfo; }
@test "sockowner: one socket with many descriptors costs what they cost" { unit_test sockowner; }
@test "netgroup: a queue that overflows is told, and reading goes on" { unit_test netgroup; }
@test "sockevents: datagrams that are whole, cut short, or somebody else's" { unit_test sockevents; }
@test "condition: what --until understands, refuses, and when it holds" { unit_test condition; }
@test "sandbox: what is not needed kills" { unit_test sandbox; }
@test "confine: no path leads anywhere" { unit_test confine; }
@test "helper: requests, refusals, and the end" { unit_test helper; }
@test "relay_stats: names, buckets, the samples of two relays" { unit_test relay_stats; }
@test "udp_table: found, aged, and who makes room" { unit_test udp_table; }
@test "udp_reuse: no flow gets what another one has left in a socket" { unit_test udp_reuse; }
@test "datagram_batch: many read and sent at once" { unit_test datagram_batch; }
@test "proxyproto: PROXY protocol v1 and v2" { unit_test proxyproto; }
@test "trace_message: what nftrace reports, and what becomes of packets" { unit_test trace_message; }
@test "departure: VRFs, lost reports, redirections, and what packets say about the server" { unit_test departure; }
@test "kernel_counters: which have grown" { unit_test kernel_counters; }
@test "drop_reasons: the format of the tracepoint" { unit_test drop_reasons; }

@test "every unit test is run by this file" {
	for source in "$BATS_TEST_DIRNAME"/unit/*.c; do
		run grep -q "unit_test $(basename "$source" .c)[; ]" "$BATS_TEST_FILENAME"
		assert_success
	done
}
