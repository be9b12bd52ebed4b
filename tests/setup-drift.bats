#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What somebody else makes of our routing and our table: status, up and down agree about it. Everything
# happens on host proxy of a lab; no packet is sent here.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
}

setup_on() {
	on proxy tproxy-setup "$@"
}

# seen CHECK STATE COMMAND...: after it status sees that and is 1, the command that status prints fixes it, and
# after it again `down` leaves what was there before `up`.
seen() {
	local check=$1 state=$2 fix
	shift 2
	on proxy sh -c "$*"
	run --separate-stderr setup_on status -v
	assert_equal "$status" 1
	assert_line --regexp "^default +$check +$state"
	fix=$(setup_on status -qj | jq -rs 'map(select(.fix).fix)[0]')
	on proxy sh -c "$fix -q"
	snapshot | diff "$OUT/up" -
	on proxy sh -c "$*"
	setup_on down -q
	snapshot | diff "$OUT/before" -
	setup_on up -q --to 3129 --port 80
	snapshot | diff "$OUT/up" -
}

# Handles tell how often something was installed.
begin() {
	snapshot >"$OUT/before"
	setup_on up -q --to 3129 --port 80
	snapshot >"$OUT/up"
}

@test "our rule with a foreign condition: missing and changed, fixed, removed" {
	local condition
	begin
	for condition in 'iif lo' 'from 203.0.113.0/24' 'to 203.0.113.0/24' 'tos 0x10' 'ipproto tcp' \
		'suppress_prefixlength 0' 'oif lo' 'sport 1-9' 'uidrange 0-0'; do
		seen rule:ipv4 'missing +- +pref 100' "ip rule del pref 100; ip rule add $condition fwmark 0x1/0xff lookup 100 pref 100 proto 116"
	done
	seen rule:ipv4 'changed +- +ip rule: 100: not from all fwmark 0x1/0xff lookup 100' \
		'ip rule del pref 100; ip rule add not fwmark 0x1/0xff lookup 100 pref 100 proto 116'
	seen rule:ipv6 'changed +- +ip -6 rule: 100: from 2001:db8::/32 fwmark 0x1/0xff iif lo lookup 100' \
		'ip -6 rule del pref 100; ip -6 rule add from 2001:db8::/32 iif lo fwmark 0x1/0xff lookup 100 pref 100 proto 116'
}

@test "another rule with our tag, in any table and with any action" {
	begin
	seen rule:ipv4 'changed +- +ip rule: 50: from all lookup 200' 'ip rule add pref 50 lookup 200 proto 116'
	seen rule:ipv4 'changed +- +ip rule: 100: from all fwmark 0x1/0xff iif lo lookup 100' \
		'ip rule add pref 100 fwmark 0x1/0xff iif lo lookup 100 proto 116'
	seen rule:ipv6 'changed +- +ip -6 rule: 101: from all fwmark 0x1/0xff lookup 100' \
		'ip -6 rule add pref 101 fwmark 0x1/0xff lookup 100 proto 116'
	seen rule:ipv4 'changed +- +ip rule: 7: from 203.0.113.0/24 blackhole' \
		'ip rule add pref 7 from 203.0.113.0/24 blackhole proto 116'
}

@test "another route with our tag in our table or another, and ours changed" {
	begin
	seen route:ipv4 'changed +- +ip route: unicast 203.0.113.0/24 dev lo table 100' \
		'ip route add 203.0.113.0/24 dev lo table 100 proto 116'
	seen route:ipv4 'changed +- +ip route: local default dev lo table 130' \
		'ip route add local default dev lo table 130 proto 116'
	seen route:ipv4 'changed +- +ip route: blackhole default table 100' \
		'ip route flush table 100; ip route add blackhole default table 100 proto 116'
	seen route:ipv4 'missing' 'ip route flush table 100; ip route add local default dev lo table 100 metric 5 proto 116'
	seen route:ipv6 'changed +- +ip -6 route: unicast 2001:db8:9::/48 dev lo table 100 metric 1024' \
		'ip -6 route add 2001:db8:9::/48 dev lo table 100 proto 116'
}

@test "flags dormant: the kernel skips the rules, status says so and up wakes them" {
	begin
	seen table 'changed +- +inet tproxy_default, flags dormant' 'nft "add table inet tproxy_default { flags dormant; }"'
}

@test "a foreign route in our table: up refuses and touches nothing, status names the fix, down leaves it" {
	local fix
	snapshot >"$OUT/before"
	setup_on up -q --to 3129 --port 80
	on proxy ip route add 203.0.113.0/24 dev lo table 100 proto static
	snapshot >"$OUT/up"
	run setup_on up --to 3129 --port 80
	assert_equal "$status" 3
	assert_output --partial "--table 100: it holds a route that is not ours: 203.0.113.0/24; --table 101 is free"
	snapshot | diff "$OUT/up" -
	run setup_on status -v
	assert_equal "$status" 1
	assert_line --regexp "^default +route:ipv4 +changed"
	fix=$(setup_on status -qj | jq -rs 'map(select(.fix).fix)[0]')
	on proxy sh -c "$fix -q"
	run intact
	assert_success
	run on proxy ip route show table 100
	assert_output --regexp '^203.0.113.0/24 dev lo proto static scope link *$'
	setup_on down
	on proxy ip route del 203.0.113.0/24 table 100
	snapshot | diff "$OUT/before" -
}

@test "removing strays keeps another instance's routing, even if the kernel cannot distinguish them" {
	snapshot >"$OUT/before"
	setup_on up -q --name one --to 3129 --port 80
	setup_on up -q --name two --to 3130 --port 81 --mark 0x3/0xff --table 103
	snapshot >"$OUT/up"
	on proxy ip rule add pref 100 fwmark 0x3/0xff iif lo lookup 103 proto 116
	on proxy ip rule add pref 100 fwmark 0x1/0xff ipproto udp lookup 100 proto 116
	setup_on down --name one
	run intact --name two
	assert_success
	setup_on up -q --name one --to 3129 --port 80
	snapshot | diff <(sort "$OUT/up") <(sort)
	# One that cannot be read: nobody knows what is its own.
	on proxy nft flush chain inet tproxy_two spec
	setup_on down --name one
	run on proxy ip rule
	assert_output --regexp 'fwmark 0x3/0xff lookup 103 proto 116'
	refute_output --partial 'lookup 100'
	setup_on down --name two
	snapshot | diff "$OUT/before" -
}

@test "a failed up puts strays back" {
	setup_on up -q --to 3129 --port 80
	on proxy ip rule add pref 100 fwmark 0x1/0xff iif lo lookup 100 proto 116
	on proxy ip route add 203.0.113.0/24 dev lo table 100 proto 116
	on proxy ip -6 route add 2001:db8:9::/48 dev lo table 100 proto 116
	on proxy ip route add 203.0.113.77/32 dev lo table 130
	snapshot >"$OUT/up"
	run setup_on up --to 3129 --port 81 --table 130
	assert_equal "$status" 3
	snapshot | diff "$OUT/up" -
}
