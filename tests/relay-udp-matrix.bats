#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u: {IPv4, IPv6} x {forwarded, local} x {target, bystander} x {short, promoted}; in each case
# the packets are captured on both sides, and have exactly the ends that they would have without a relay.
#
#   client 192.0.2.2 ------\
#                           proxy: UDP port 5300 of the clients' net  --- server 198.51.100.2
#   bystander 203.0.113.2 -/       (forwarded) or its own (local)
#                                  to tproxy-relay 3129
#
# Targets are port 5300, bystanders' other ports and the host bystander. A relayed flow is known by the
# relay's record of it, a bystander's by that there is none.

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
	dgram server server serve 5300 5301
}

teardown() { lab_down; }

# How many datagrams each kind of flow has.
declare -gA COUNT=([short]=2 [promoted]=30)

endpoint() { [[ $1 == *:* ]] && echo "[$1]:$2" || echo "$1:$2"; }

# conversation HOST OWN-ADDRESS OWN-PORT SERVER-PORT KIND FAMILY: talks, and checks every packet on both
# sides: at HOST's own interface and at the server's.
conversation() {
	local host=$1 own=$2 port=$3 to_port=$4 count=${COUNT[$5]} to=$V4 near far
	[[ $6 == 4 ]] || to=$V6
	near=$([[ $host == proxy ]] && echo toserver || echo toproxy)
	sniff near "$host" "$near" "$port"
	sniff far server toproxy "$port"
	run ask_from "$host" "$port" "$to" "$to_port" "$count"
	assert_success
	own=$(endpoint "$own" "$port")
	far=$(endpoint "$to" "$to_port")
	wait_until 10 eval "((\$(grep -c '^udp' '$OUT/near.out') >= 2 * $count && \$(grep -c '^udp' '$OUT/far.out') >= 2 * $count))"
	assert_equal "$(ends_in near)" "$(printf '%s\n' "IN $far $own" "OUT $own $far" | LC_ALL=C sort)"
	assert_equal "$(ends_in far)" "$(printf '%s\n' "IN $own $far" "OUT $far $own" | LC_ALL=C sort)"
	assert_equal "$(grep -c '^udp' "$OUT/near.out")" $((2 * count))
	assert_equal "$(grep -c '^udp' "$OUT/far.out")" $((2 * count))
	stop near || :
	stop far || :
}

# relayed OWN-ADDRESS OWN-PORT: the connection that the relay has of it, or nothing.
relayed() {
	ask connections | jq -c "select(.client.addr == \"$1\" and .client.port == $2)"
}

# is_promoted OWN-ADDRESS OWN-PORT: has it a socket of its own, bound to the destination and connected
# to the client?
is_promoted() {
	relayed "$@" | jq -e '.cookie' >/dev/null &&
		on proxy ss -Hnu state connected "dst $(endpoint "$@")" | grep -q .
}

@test "UDP matrix: forwarded" {
	intercept_udp 5300 --iif toclient
	udp_relay --log off --control "$OUT/control"
	port=41000
	for family in 4 6; do
		[[ $family == 4 ]] && own=192.0.2.2 other=203.0.113.2 || own=2001:db8:1::2 other=2001:db8:3::2
		for kind in short promoted; do
			# A target, a bystander by its port, with the same port of the client, and by its host.
			conversation client $own $((++port)) 5300 $kind $family
			assert_equal "$(relayed $own $port | jq .packets_down)" ${COUNT[$kind]}
			[[ $kind == short ]] || run -0 is_promoted $own $port
			[[ $kind == promoted ]] || run ! is_promoted $own $port
			conversation client $own $port 5301 $kind $family
			assert_equal "$(relayed $own $port | jq -s length)" 1
			assert_equal "$(relayed $own $port | jq .packets_up)" ${COUNT[$kind]}
			conversation bystander $other $port 5300 $kind $family
			assert_equal "$(relayed $other $port)" ''
		done
	done
	stop relay
}

@test "UDP matrix: local" {
	intercept_udp 5300 --local
	udp_relay --log off --control "$OUT/control"
	port=42000
	for family in 4 6; do
		[[ $family == 4 ]] && own=198.51.100.1 || own=2001:db8:2::1
		for kind in short promoted; do
			conversation proxy $own $((++port)) 5300 $kind $family
			assert_equal "$(relayed $own $port | jq .packets_up)" ${COUNT[$kind]}
			[[ $kind == short ]] || run -0 is_promoted $own $port
			conversation proxy $own $port 5301 $kind $family
			assert_equal "$(relayed $own $port | jq .packets_up)" ${COUNT[$kind]}
		done
	done
	stop relay
}

@test "UDP matrix: local, with any port of the client's address: answers come through the relay" {
	intercept_udp 5300 --local
	udp_relay --source client-addr -o event,client,source_kept,upstream_local,packets_up,packets_down,reason
	for count in 2 30; do
		run -0 ask_from proxy $((43000 + count)) $V4 5300 $count
		run -0 ask_from proxy $((43000 + count)) $V6 5300 $count
	done
	stop relay
	assert_line_in relay.out '^close 198.51.100.1:43002 addr 198.51.100.1:[0-9]+ 2 2 '
	assert_line_in relay.out '^close 198.51.100.1:43030 addr 198.51.100.1:[0-9]+ 30 30 '
	assert_line_in relay.out '^close \[2001:db8:2::1\]:43002 addr \[2001:db8:2::1\]:[0-9]+ 2 2 '
	assert_line_in relay.out '^close \[2001:db8:2::1\]:43030 addr \[2001:db8:2::1\]:[0-9]+ 30 30 '
	refute_line_in relay.out '43002 addr .*:43002 '
}

@test "UDP matrix: programs of this host keep their ports, as clients and as servers of any address" {
	# A name server on this very host, and one that wants a client's port while the relay uses it.
	dgram own proxy sink 5300
	intercept_udp 5300 --local
	udp_relay --log off
	run -0 on client timeout --foreground 60 "$DGRAM" ask-open 41000 $V4 5300 30
	assert_output "30 answers $V4 5300"
	run -0 on client timeout --foreground 60 "$DGRAM" ask-open 41001 $V6 5300 2
	assert_output "2 answers $V6 5300"
	run -0 on proxy timeout --foreground 60 "$DGRAM" ask-open 41001 $V4 5300 30
	assert_output "30 answers $V4 5300"
	run -0 on proxy timeout --foreground 60 "$DGRAM" ask-open 41002 $V6 5300 2
	assert_output "2 answers $V6 5300"
	dgram other proxy sink 41002
	stop own || :
	dgram own proxy sink 5300
	stop relay
}

@test "UDP matrix: 5000 flows that share ports on purpose: each gets its own answers, in both families" {
	intercept_udp 5300-5301
	udp_relay --log off --threads 2
	for to in $V4 $V6; do
		run -0 on client timeout --foreground 120 "$DGRAM" shared $to 5300,5301 2500
		assert_output '5000 flows, 15000 answers'
	done
	# Each flow goes when it has been idle for a while.
	signal relay TERM
	run -0 wait_exit relay 40
}
