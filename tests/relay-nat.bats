#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# NAT of the upstream leg on this host, as the relay's records show it: the client's source as the
# server sees it (`upstream_source`), and whether that is the client (`source_kept`).
#
#   client 192.0.2.2 port P  ==  relay on proxy  ==  NAT on proxy  ==  server: sees whom?

bats_require_minimum_version 1.5.0
load lib/relay
load lib/udp

setup() {
	lab_up
}

teardown() {
	lab_down
}

nat_rule() {
	on proxy nft 'add table inet nat; add chain inet nat post { type nat hook postrouting priority srcnat; }'
	on proxy nft add rule inet nat post "$@"
}

# Rules count a quarter of a second later at most: twice that.
rules_count() {
	sleep 0.5
}

# kept FAMILY: whom the server saw, and what the relay's two records say of that.
kept() {
	local host=$V4 seen closed
	[[ $1 == 4 ]] || host="[$V6]"
	closed=$(grep -c '"close"' "$OUT/relay.out" || :)
	seen=$(on client curl -sS --max-time 10 "http://$host/who")
	wait_until 10 has_closed $((closed + 1))
	tail -n 2 "$OUT/relay.out" >"$OUT/records"
	jq -se --arg seen "$seen" 'map(
		(.upstream_source // .upstream_local) as $source |
		"\($source.addr) \($source.port)" == $seen) | all' "$OUT/records" >/dev/null ||
		fail "the server saw $seen, the relay: $(<"$OUT/records")"
	jq -sr 'map("\(.source_kept) \(.upstream_source.addr)") | unique | join(",")' "$OUT/records"
}

has_closed() {
	(($(grep -c '"close"' "$OUT/relay.out") == $1))
}

@test "masquerade, snat and none: the records say what the server sees" {
	root_only "rootless, iptables-legacy's tables cannot be seen: NAT stays possible"
	local zone
	start_nginx
	relay --json
	for zone in zone off; do
		intercept 80 --conntrack "$zone"
		rules_count
		run kept 4
		assert_output 'addr+port null'
		run kept 6
		assert_output 'addr+port null'
		# (Without a zone both legs are one entry, which was not translated.)
		nat_rule oifname toserver masquerade
		rules_count
		run kept 4
		[[ $zone == off ]] && assert_output 'addr+port null' || assert_output 'no 198.51.100.1'
		run kept 6
		[[ $zone == off ]] && assert_output 'addr+port null' || assert_output 'no 2001:db8:2::1'
		on proxy nft delete table inet nat
	done
	intercept 80 --conntrack zone --ct-zone 77
	on proxy ip addr add 198.51.100.77/32 dev lo
	on server ip route add 198.51.100.77 via 198.51.100.1
	nat_rule meta nfproto ipv4 oifname toserver snat ip to 198.51.100.77
	rules_count
	run kept 4
	assert_output 'no 198.51.100.77'
	run kept 6
	assert_output 'addr+port null'
	on proxy nft delete table inet nat
	# The address is kept, and the port is not.
	nat_rule ip saddr 192.0.2.2 tcp dport 80 oifname toserver snat ip to 192.0.2.2:50000-50999 random
	rules_count
	run kept 4
	assert_output 'addr 192.0.2.2'
	run kept 6
	assert_output 'addr+port null'
}

@test "iptables-legacy's masquerade, added before the relay or after it" {
	local order
	root_only "the kernel names the tables of iptables-legacy to the machine's root alone"
	start_nginx
	intercept 80 --conntrack zone
	for order in before after; do
		[[ $order == before ]] || relay --json
		on proxy ip6tables-legacy -t nat -A POSTROUTING -o toserver -j MASQUERADE
		[[ $order == after ]] || relay --json
		rules_count
		run kept 6
		assert_output 'no 2001:db8:2::1'
		run kept 4
		assert_output 'addr+port null'
		stop relay
		on proxy ip6tables-legacy -t nat -F POSTROUTING
	done
}

@test "UDP: the translated source is known when the server has answered, unknown before" {
	dgram server server serve 5300
	intercept_udp 5300 --conntrack zone
	nat_rule meta nfproto ipv4 oifname toserver masquerade
	udp_relay -o event,client,upstream_source,source_kept
	run -0 ask_from client 40001 $V4 5300 1
	run -0 ask_from client 40002 $V6 5300 1
	wait_line relay.out '^close 192.0.2.2:40001 198.51.100.1:[0-9]+ no$'
	wait_line relay.out '^close \[2001:db8:1::2\]:40002 - addr\+port$'
	assert_line_in relay.out '^open 192.0.2.2:40001 - unknown$'
	assert_line_in relay.out '^open \[2001:db8:1::2\]:40002 - unknown$'
	assert_equal "198.51.100.1:$(awk '$1 == "198.51.100.1" { print $2 }' "$OUT/server.out")" \
		"$(awk '$1 == "close" && $3 != "-" { print $3 }' "$OUT/relay.out")"
}

@test "without the right to ask conntrack it says so, unless nothing is tracked; --inetd and --source own" {
	start_nginx
	intercept 80 --conntrack off
	# (Without CAP_NET_ADMIN, for it or for its helper.)
	bg relay proxy setpriv --bounding-set=-net_admin --inh-caps=-net_admin tproxy-relay --json "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run kept 4
	assert_output 'addr+port null'
	intercept 80 --conntrack zone
	rules_count
	run kept 4
	assert_output 'unknown null'
	stop relay
	nat_rule oifname toserver masquerade
	relay --json --source own
	run kept 6
	assert_output 'no null'
	stop relay
	bg listen proxy tproxy-listen "$RELAY_PORT" -- sh -c 'tproxy-relay --inetd --json 3>&1 >>"$0" <&0' "$OUT/relay.out"
	wait_listen proxy "$RELAY_PORT"
	run kept 4
	assert_output 'no 198.51.100.1'
}

# How often the helper has been asked something, at least.
asked() {
	awk '/^voluntary/ { print $2 }' "/proc/$(helper_of relay tproxy-nat)/status"
}

@test "if connections are tracked and no rule translates, conntrack is not asked" {
	root_only "rootless, iptables-legacy's tables cannot be seen: NAT stays possible"
	local before start
	start_nginx
	intercept 80 --conntrack zone
	relay --log off
	nat_rule tcp dport 99 accept
	before=$(asked) start=$SECONDS
	on client bash -c 'for ((i = 0; i < 300; i++)); do exec 3<>/dev/tcp/198.51.100.2/80; exec 3>&-; done'
	# (It is asked for the rules four times a second.)
	(($(asked) - before < 60 + 8 * (SECONDS - start))) || fail "asked $(($(asked) - before)) times for 300 connections"
}

@test "a terminal shows the client's source as the server sees it" {
	start_nginx
	intercept 80 --conntrack zone
	nat_rule oifname toserver masquerade
	bg relay proxy "$TOP/tests/lib/on-terminal" 80 tproxy-relay "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	wait_line relay.out "^    .*upstream_source=${output/ /:}"
}
