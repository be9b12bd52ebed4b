#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect explain: the listener, the process behind it, and what a relay refuses; see inspect-explain.bats.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/explain

teardown() {
	no_relay
	explain_relay
}

# other_relay ARG...: another relay instead of the one that is there.
other_relay() {
	no_relay
	explain_relay "$@"
}

@test "nobody listens; somewhere else; for one family; not transparent" {
	no_relay
	lost no-listener '^nobody listens at 127.0.0.1:3129: it is met with a reset$'
	assert_equal "$fix" 'tproxy-relay 3129'
	fixed
	other_relay -4 127.0.0.1:3129
	lost no-listener '^nobody listens at \[::1\]:3129' "$Q6"
	fixed "$Q6"
	arrives "$Q6"
	other_relay 192.0.2.1:3129 '[2001:db8:1::1]:3129'
	lost no-listener '^tproxy-relay \(pid [0-9]+\) listens at 192.0.2.1:3129, not at 127.0.0.1:3129'
	fixed
	on proxy tproxy-setup up -q --to 3129 --port 80
	no_relay
	bg relay proxy socat TCP4-LISTEN:3129,bind=127.0.0.1,fork,reuseaddr /dev/null
	wait_listen proxy 127.0.0.1:3129
	lost not-transparent '^socat \(pid [0-9]+\) listens at 127.0.0.1:3129 without IP_TRANSPARENT'
}

@test "a stopped listener, and one that is bound to another interface" {
	signal relay STOP
	lost not-served 'is stopped: connections are set up and wait'
	fixed
	no_relay
	bg relay proxy tproxy-listen --bind-device tobystander --pass 3129 -- tproxy-relay --log events
	wait_until 10 relay_serves
	lost no-listener 'only for what comes in by tobystander .SO_BINDTODEVICE., and this came in by toclient'
}

@test "it asks for a relay's policy: --deny-dst and --allow-dst, with the entry that decides" {
	other_relay --deny-dst 198.51.100.0/24:80,443 3129
	lost denied 'does not carry connections to 198.51.100.2:80: denied by --deny-dst 198.51.100.0/24:80,443$'
	arrives "$Q6"
	other_relay --allow-dst 203.0.113.0/24 --allow-dst '2001:db8:2::/48' 3129
	lost denied 'no --allow-dst names it$'
	arrives "$Q6"
}

@test "a client that a relay expects a PROXY header of: delivered, and the verdict says so" {
	local words='; what is not known here .*: tproxy-relay \(pid [0-9]+\): refused unless it begins with a PROXY header \(--accept-proxy\)$'
	other_relay --accept-proxy 192.0.2.0/24 3129
	! comes_through "$Q4" || fail "it comes through"
	ask "$Q4"
	assert_equal "$verdict $reason" '0 delivered'
	[[ $said =~ $words ]]
	ask "$Q6"
	[[ ! $said =~ $words ]]
	arrives "$Q6"
}

@test "what this host opens; a relay's mark that our rules do not let pass" {
	on proxy tproxy-setup up -q --to 3129 --port 80 --local
	other_relay --source client-addr 3129
	ask '192.0.2.1 198.51.100.2:80'
	assert_equal "$verdict $reason" '0 delivered'
	run -0 on proxy curl -s --max-time 20 http://198.51.100.2/who
	other_relay 3129
	FROM=proxy lost refused '^tproxy-relay \(pid [0-9]+\) does not carry connections of this host: .* --source client-addr$' \
		'192.0.2.1 198.51.100.2:80'
	FROM=proxy lost refused 'start it with --source client-addr$' '2001:db8:2::1 [2001:db8:2::2]:80'
	arrives
	other_relay --source client-addr --upstream-mark 0x8/0xff 3129
	lost upstream-mark 'has --upstream-mark 0x8/0xff, and our rules let another one pass'
	fixed
	on proxy tproxy-setup up -q --to 3129 --port 80
	other_relay --upstream-mark 0x1/0xff 3129
	lost upstream-mark 'has --upstream-mark 0x1/0xff, which is the intercept mark'
	fixed
	on proxy tproxy-setup up -q --to 3129 --port 80
}

@test "a client with the listener's port is a clash" {
	other_relay '*:3129'
	arrives
	ask '192.0.2.2:3129 198.51.100.2:80'
	assert_equal "$reason" refused
	[[ $said == *"the client's port is the listener's"* ]]
}

@test "packets of an established connection go to its socket, whatever the specification is now" {
	local port
	bg held client bash -c 'exec 5<>/dev/tcp/198.51.100.2/80; exec sleep 1000'
	wait_line relay.out ' open '
	port=$(on client ss -Hnt state established dst 198.51.100.2 | awk '{ sub(/.*:/, "", $3); print $3 }')
	on proxy tproxy-setup up -q --to 3129 --port 81
	ask "192.0.2.2:$port 198.51.100.2:80"
	assert_equal "$verdict $reason" '0 delivered'
	run -0 jq -r 'select(.step == "established").evidence' "$OUT/steps"
	assert_output --regexp "^198.51.100.2:80 <-> 192.0.2.2:$port: ESTAB, of tproxy-relay \(pid $(pid_of relay)\)$"
	lost excluded 'port 80 is not among 81'
	on proxy tproxy-setup up -q --to 3129 --port 80
	stop held KILL || :
}

@test "invalid questions are reported; without CAP_NET_ADMIN nothing is claimed" {
	run -2 on proxy tproxy-inspect explain 192.0.2.2
	assert_output --partial 'explain: needs CLIENT and DESTINATION'
	run -2 on proxy tproxy-inspect explain 192.0.2.2 198.51.100.2
	assert_output --partial 'DESTINATION 198.51.100.2: '
	run -2 on proxy tproxy-inspect explain 192.0.2.2 '[2001:db8:2::2]:80'
	assert_output --partial 'of different families'
	run -2 on proxy tproxy-inspect explain 192.0.2.2 198.51.100.2:80 --iif eth9
	assert_output --partial '--iif eth9: there is no such interface'
	run -2 on proxy tproxy-inspect explain -t -u 192.0.2.2 198.51.100.2:80
	assert_output --partial 'a packet is of one protocol'
	run -2 on proxy tproxy-inspect explain -4 2001:db8:1::2 '[2001:db8:2::2]:80'
	run -3 on proxy setpriv --bounding-set=-net_admin --inh-caps=-net_admin tproxy-inspect explain $Q4
	assert_line --regexp '^verdict +warn +unknown +not known: rules are told to CAP_NET_ADMIN alone'
}
