#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2034 # SPEC is for lib/doctor.bash
#
# tproxy-setup doctor: answers of servers that come to another relay than the one that asked, or to a relay that nobody
# asked through; and none where a router forwards answers, as routers do.
#
#   client ==relay on proxy==> server
#   client ==relay on other==> server

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
}

teardown() {
	lab_down
}

beside() {
	local side
	namespace other
	for side in client server; do
		on $side ip link add toother type veth peer name to$side netns "$LAB_other"
		on $side ip link set toother up
		on $side sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.toother.rp_filter=0
		on other ip link set to$side up
	done
	on other sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0
	on client ip -batch - <<-'END'
		address add 10.1.0.2/24 dev toother
		address add fd01::2/64 dev toother nodad
	END
	on server ip -batch - <<-'END'
		address add 10.2.0.2/24 dev toother
		address add fd02::2/64 dev toother nodad
	END
	on other ip -batch - <<-'END'
		address add 10.1.0.1/24 dev toclient
		address add fd01::1/64 dev toclient nodad
		address add 10.2.0.1/24 dev toserver
		address add fd02::1/64 dev toserver nodad
		route add 192.0.2.0/24 via 10.1.0.2
		route add 2001:db8:1::/64 via fd01::2
		route add 198.51.100.0/24 via 10.2.0.2
		route add 2001:db8:2::/64 via fd02::2
	END
}

# What the client asks goes through other (add), or no longer; the same for what the server answers.
client_by_other() {
	on client ip route "$1" 198.51.100.2/32 via 10.1.0.1 src 192.0.2.2
	on client ip -6 route "$1" 2001:db8:2::2/128 via fd01::1 src 2001:db8:1::2
}
server_by_other() {
	on server ip route "$1" 192.0.2.2/32 via 10.2.0.1
	on server ip -6 route "$1" 2001:db8:1::2/128 via fd02::1
}

relay_on_other() {
	bg relay2 other tproxy-relay --log events 3129
	wait_listen other 127.0.0.1:3129
	wait_listen other '[::1]:3129'
	on other tproxy-setup up -q --to 3129 -p 80
}

# eighths ...: see lib/eighths; answers N: so many requests were answered.
eighths() { on client "$TOP/tests/lib/eighths" "$@"; }
answers() {
	run -0 eighths "${@:2}"
	assert_output "$1 answered"
}

# What the rules of proxy have kept, a line each; what they remember of SYNs.
elements() {
	on proxy nft -j list set inet tproxy_default "$1" |
		jq -c '.nftables[] | select(.set).set.elem // [] | .[]'
}
astray() { elements astray4 && elements astray6; }
none_astray() {
	run astray
	assert_success
	assert_output ''
	healthy
}

other_waits() {
	on other tproxy-setup doctor -v -H -o severity,check,evidence >"$OUT/other" 2>/dev/null
	grep -qE '^warn +answers +[0-9]+ connections as 192.0.2.2 to 198.51.100.2:80: sent again and again' "$OUT/other"
}

# As if such answers had been seen: stray PORT EXPIRES... on proxy.
stray() {
	local seconds
	for seconds in "${@:2}"; do
		on proxy nft add element inet tproxy_default astray4 \
			"{ 198.51.100.2 . $1 . 192.0.2.2 . $((40000 + 16 * seconds)) timeout 300s expires ${seconds}s }"
	done
}
# The same for both families.
kept_for() {
	local seconds
	stray 80 "$@"
	for seconds; do
		on proxy nft add element inet tproxy_default astray6 \
			"{ 2001:db8:2::2 . 80 . 2001:db8:1::2 . $((40000 + 16 * seconds)) timeout 300s expires ${seconds}s }"
	done
}

finds_it() {
	doctor --json >"$OUT/findings"
	(($(grep -c '"check":"one-way","severity":"warn"' "$OUT/findings") == 2))
}

@test "the answers to another relay's SYNs come here: found if that goes on, not if it happens" {
	healthy_proxy
	beside
	relay_on_other
	# Both relays serve, and each gets both directions.
	answers '40 of 40' 20
	client_by_other add
	server_by_other add
	answers '40 of 40' 20 0 41600
	wait_line relay2.out ' open .*:41[0-9]* '
	none_astray
	run on other tproxy-setup doctor -v -H -o severity,check
	assert_line --regexp '^ok +one-way'
	# The server's router chooses another one.
	server_by_other del
	answers '0 of 20' 10 0 42000 1
	[[ $(astray) == *42[0-9][0-9][0-9]* ]]
	healthy
	# That goes on, as if it had begun two minutes ago.
	kept_for 210 250
	bg requests client "$TOP/tests/lib/eighths" 1000 0.2 43008
	wait_until 20 finds_it
	run jq -r 'select(.check == "one-way").evidence' "$OUT/findings"
	assert_line --regexp '^SYN-ACKs for connections that were not opened through this host, the last one [0-9]+ s ago, the first one [4-9][0-9] s before: as 198.51.100.2:80 -> 192.0.2.2:4[23][0-9]+$'
	assert_line --regexp ': as \[2001:db8:2::2\]:80 -> \[2001:db8:1::2\]:4[23][0-9]+[13579]$'
	# Nothing can be done here.
	run jq -r 'select(.check == "one-way").fix // empty' "$OUT/findings"
	assert_output ''
	jq -r 'select(.check == "one-way").why' "$OUT/findings" >"$OUT/why"
	assert_line_in why 'fib_multipath_hash_policy=3, fib_multipath_hash_fields=0x37.*tproxy-scale\(7\)'
	# The relay that asked, and waits.
	wait_until 60 other_waits
	run on other tproxy-setup doctor -v -H -o severity,check
	assert_line --regexp '^ok +one-way'
	stop requests || :
}

@test "clients have a way to servers around the relay" {
	healthy_proxy
	beside
	client_by_other add
	answers '40 of 40' 20
	[[ $(astray) == *198.51.100.2*192.0.2.2*2001:db8:2::2* ]]
	# What comes back through the relay, and was opened through it.
	client_by_other del
	on proxy nft 'flush set inet tproxy_default astray4; flush set inet tproxy_default astray6'
	answers '40 of 40' 20 0 41600
	none_astray
}

@test "few, or of one moment, of another specification, or beside more SYNs than are remembered: nothing is said" {
	healthy_proxy
	stray 80 290 200
	healthy
	# A third one, which the client has just refused.
	stray 80 1
	healthy
	# Two moments, whatever comes in each.
	stray 80 295 285 280 215 210
	healthy
	stray 80 160
	finds warn one-way 'the last one [0-9]+ s ago, the first one 13[0-9] s before: as 198.51.100.2:80 -> 192.0.2.2:44720'
	SPEC=(--to 3129 -p 443)
	run doctor "${SPEC[@]}"
	assert_line --regexp '^ok +one-way +no SYN-ACKs for connections that were opened elsewhere'
	SPEC=()
	on proxy nft add element inet tproxy_default unasked '{ tcp }'
	run doctor
	assert_line --regexp '^ok +one-way +unknown: more connections are opened than are remembered'
	on proxy nft flush set inet tproxy_default unasked
	# Without zones nothing is known of a translation, which may be the reason.
	on proxy tproxy-setup up -q --to 3129 -p 80 --conntrack off
	on proxy nft 'table ip others { chain c { type nat hook prerouting priority dstnat; ip daddr 198.51.100.9 dnat to 198.51.100.2; }; }'
	run doctor
	assert_line --regexp '^ok +one-way +unknown: addresses may be translated here'
	on proxy nft delete table ip others
	# Another `up` keeps it; one that replaces the rules, or comes after down, begins anew.
	on proxy tproxy-setup up -q --to 3129 -p 80,81
	finds warn one-way 'as 198.51.100.2:80 -> 192.0.2.2'
	on proxy nft add element inet tproxy_default asked4 '{ 192.0.2.2 . 40000 . 198.51.100.2 . 80 }'
	on proxy nft flush chain inet tproxy_default spec
	on proxy tproxy-setup up -q --to 3129 -p 80,81
	[[ $(elements asked4) == *40000* ]]
	none_astray
	# Rules of before there was this check.
	on proxy nft 'flush chain inet tproxy_default refused
		flush chain inet tproxy_default astray
		delete set inet tproxy_default astray4
		delete set inet tproxy_default astray6'
	run doctor
	assert_line --regexp '^ok +one-way +unknown: no rule of ours looks for stray SYN-ACKs \(rules of an older version: `down`, then `up`\)$'
	on proxy tproxy-setup down -q
	SPEC=(--to 3129 -p 80)
	run doctor "${SPEC[@]}"
	assert_line --regexp '^ok +one-way +unknown: no rule of ours looks for stray SYN-ACKs$'
}

@test "a router forwards answers of connections that it leaves alone, whatever the reason: none is astray" {
	local port=40000
	start_nginx
	relay
	on proxy nft 'table inet others { chain c { type filter hook prerouting priority raw - 10; tcp dport 80 meta mark set 0x200; }; }'
	for spec in '-p 80 --not-mark 0x200/0xff00' '-p 80 --not-dst 198.51.100.0/24,2001:db8:2::/64' \
		'-p 80 --iif tobystander' '-p 81' '--not-port 80' '-p 80 --src 203.0.113.0/24,2001:db8:3::/64' \
		'-p 80 --not-mark 0x200/0xff00 --midstream pass' '-p 80 --not-mark 0x200/0xff00 --conntrack zone'; do
		echo "$spec" >&2
		# shellcheck disable=SC2086 # words
		on proxy tproxy-setup up -q --to 3129 $spec
		answers '20 of 20' 10 0 $((port += 208))
		refute_line_in relay.out open
		none_astray
		on proxy tproxy-setup down -q
	done
}

@test "other interfaces' clients, and translated destinations" {
	start_nginx
	relay
	beside
	client_by_other add
	# They go around the relay, but the specification is not about them.
	on proxy tproxy-setup up -q --to 3129 -p 80 --iif tobystander
	answers '20 of 20' 10
	none_astray
	on proxy tproxy-setup up -q --to 3129 -p 80 --iif toclient --iif tobystander
	answers '20 of 20' 10 0 41600
	[[ $(astray) == *198.51.100.2*192.0.2.2*2001:db8:2::2* ]]
	on proxy tproxy-setup down -q
	client_by_other del
	on proxy nft 'table ip others { chain c { type nat hook prerouting priority dstnat; ip daddr 198.51.100.9 dnat to 198.51.100.2; }; }'
	on proxy tproxy-setup up -q --to 3129 -p 80 --not-dst 198.51.100.9
	for port in 42000 42001 42016; do
		run -0 on client curl -sS --max-time 5 --local-port $port http://198.51.100.9/who
		assert_output "192.0.2.2 $port"
	done
	none_astray
}

# What the server says is lost on proxy, before our rules; or counted there.
server_is() {
	local verdict='counter drop'
	[[ $1 == unheard ]] || verdict=counter
	on proxy nft "table inet heard; delete table inet heard; table inet heard { chain c {
		type filter hook prerouting priority -1000; tcp sport 80 tcp flags & (syn | ack) == (syn | ack) $verdict; }; }"
}
answered_late() {
	(($(on proxy nft -j list chain inet heard c | jq '[.nftables[].rule.expr[]?.counter.packets | numbers] | add') >= 2))
}
waiting_upstream() { (($(on proxy ss -Htn state syn-sent 'dport = :80' | wc -l) == $1)); }

# The client's resets do not tell that it did not ask.
silent_client() {
	on client nft 'table inet silent { chain c { type filter hook output priority 0; tcp flags & rst == rst drop; }; }'
}
both_astray() { [[ $(elements astray4) && $(elements astray6) ]]; }
refused() { [[ ! $(astray) ]]; }

# gives_up PORT COMMAND...: it ends two connections, of ports from PORT on, whose server has not answered yet; that answers
# then, and nobody takes it.
gives_up() {
	server_is unheard
	bg requests client "$TOP/tests/lib/eighths" 1 10 "$1"
	wait_until 10 waiting_upstream 2
	"${@:2}" || :
	wait_until 10 waiting_upstream 0
	server_is heard
	wait_until 20 answered_late
	run astray
	assert_output ''
}

@test "a server answers when the client, or the relay, is gone: it was asked through this host" {
	healthy_proxy
	silent_client
	gives_up 40000 stop requests KILL
	gives_up 41600 stop relay KILL
	stop requests KILL || :
}

@test "a proxy that keeps the client's address alone gives up: this host asked" {
	start_nginx
	on proxy tproxy-setup up -q --to 3129 -p 80
	silent_client
	server_is unheard
	bg own proxy "$TOP/tests/lib/impostor" 40000
	wait_until 10 waiting_upstream 2
	stop own KILL || :
	wait_until 10 waiting_upstream 0
	server_is heard
	wait_until 20 answered_late
	run astray
	assert_output ''
}

@test "somebody forges SYNs of clients, which refuse the answers" {
	start_nginx
	relay
	beside
	on proxy tproxy-setup up -q --to 3129 -p 80
	silent_client
	bg forger other "$TOP/tests/lib/impostor" 40000
	wait_until 10 both_astray
	on client nft delete table inet silent
	wait_until 20 refused
	stop forger KILL || :
}
