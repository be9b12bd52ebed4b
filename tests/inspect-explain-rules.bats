#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect explain: others' rules by what they look at, what this host opens itself (--local), and routing rules by
# ports, users and sources; see inspect-explain.bats.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/explain

OWN='192.0.2.1 198.51.100.2:80'
# shellcheck disable=SC2034 # lib/explain's
UP=--local

setup_file() {
	lab_up
	start_nginx 80 8080
	explain_relay --source client-addr 3129
	on proxy tproxy-setup up -q --to 3129 --port 80 --local
}

teardown() {
	again
}

# all_fixed: one command after the other, as printed.
all_fixed() {
	for _ in {1..4}; do
		on proxy sh -c "$fix" >/dev/null
		ask
		((verdict)) || break
	done
	arrives
}

# older: our rules are made anew, after those that are there.
older() {
	on proxy tproxy-setup down -q
	on proxy tproxy-setup up -q --to 3129 --port 80 --local
}

@test "--local: a chain beside ours that sets the whole mark, in both orders" {
	export FROM=proxy
	local how
	arrives "$OWN"
	for how in 'nft "table inet other { chain c { type route hook output priority -150; tcp dport 80 meta mark set 0x500; }; }"' \
		'nft "table inet other { chain c { type filter hook output priority -150; tcp dport 80 meta mark set 0x500; }; }"' \
		'iptables-nft -t mangle -A OUTPUT -p tcp --dport 80 -j MARK --set-mark 0x500'; do
		# Before ours, it is harmless to what this host opens, and takes the relay's own mark away.
		on proxy sh -c "$how"
		lost mark-overwritten 'meta mark set 0x0*500.*marks what the proxy sends to servers' "$OWN"
		fixed "$OWN"
		again
		# After ours, it takes the intercept mark away.
		on proxy sh -c "$how"
		older
		lost mark-overwritten 'meta mark set 0x0*500.*marks it 0x500 \(was 0x1\)$' "$OWN"
		fixed "$OWN"
		[[ $(jq -r 'select(.step == "output" and .severity == "ok").evidence' "$OUT/steps") == *'chains of other tables have the same priority'* ]]
		again
	done
	# Bits of its own do no harm in either order.
	on proxy iptables-nft -t mangle -A OUTPUT -p tcp --dport 80 -j MARK --set-xmark 0x500/0xff00
	arrives "$OWN"
	older
	arrives "$OWN"
}

@test "--local: what is dropped or redirected on its way to lo, there, and behind the proxy" {
	export FROM=proxy
	in_chain output 0 'oifname toserver tcp dport 80 meta mark & 0xff == 1 drop'
	lost dropped 'oifname "toserver".* drops it$' "$OWN"
	fixed "$OWN"
	again
	in_chain postrouting 0 'oifname lo tcp dport 80 drop'
	lost dropped 'oifname "lo".* drops it$' "$OWN"
	fixed "$OWN"
	again
	in_chain prerouting raw 'iifname lo tcp dport 80 drop'
	lost dropped 'iifname "lo".* drops it$' "$OWN"
	fixed "$OWN"
	again
	in_chain output 0 'meta mark 0x2 drop'
	lost dropped 'drops what the proxy sends to servers$' "$OWN"
	fixed "$OWN"
	again
	in_chain output raw 'tcp dport 80 drop'
	lost dropped 'drops it$' "$OWN"
	fixed "$OWN"
	again
	TYPE=nat in_chain output -100 'tcp dport 80 redirect to :9'
	lost taken-elsewhere 'redirect to :9. .*redirects it$' "$OWN"
	fixed "$OWN"
}

@test "verdict maps of several fields, intervals, what is not among the others, one of several" {
	on proxy nft 'table inet other { chain c { type filter hook input priority 0; iifname . ip saddr . tcp dport vmap { toclient . 192.0.2.2 . 80 : drop }; }; }'
	lost dropped 'vmap .* drops it$'
	fixed
	again
	on proxy nft 'table inet other { map m { type inet_service : verdict; flags interval; elements = { 1-79 : accept, 80-89 : jump low }; }; chain low { numgen random mod 2 vmap { 0 : goto end, 1 : goto end }; }; chain end { drop; }; chain c { type filter hook input priority 0; tcp dport vmap @m; }; }'
	lost dropped 'chain end: .drop. .*drops it$'
	fixed
	again
	on proxy nft 'table inet other { map m { type inet_service : verdict; }; set s { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/30 . 81-89, 192.0.2.4/30 . 80 }; }; chain c { type filter hook input priority 0; tcp dport vmap @m; ip saddr . tcp dport @s drop; }; }'
	arrives
	[[ $said != *'not known here'* ]]
	again
	on proxy nft 'table inet other { chain c { type filter hook prerouting priority -140; meta mark set tcp dport map { 80 : 0x500 }; }; }'
	lost mark-overwritten 'marks it 0x500 .was 0x1.$'
	fixed
	again
	# A map that has nothing for the packet ends the rule.
	on proxy nft 'table inet other { chain c { type filter hook prerouting priority -140; meta mark set tcp dport map { 443 : 0x500 }; }; chain n { type nat hook prerouting priority dstnat; dnat ip to tcp dport map { 443 : 203.0.113.2 }; }; }'
	arrives
}

@test "what conntrack knows of the first packet; rates; what is taken or changed on arrival" {
	in_chain input 0 'ct original ip saddr 192.0.2.2 drop'
	lost dropped 'ct original ip saddr 192.0.2.2 drop'
	fixed
	again
	# What is more than somebody allows is rare: it lets nothing past the next rule.
	in_chain input 0 'tcp dport 80 limit rate over 10000/second accept' 'tcp dport 80 drop'
	lost dropped 'chain c: .tcp dport 80 drop. .*drops it$'
	fixed
	again
	on proxy nft 'table inet other { set s { type ipv4_addr; size 100; flags dynamic; }; chain c { type filter hook input priority 0; ct state new tcp dport 80 update @s { ip saddr limit rate over 100/second } drop; }; }'
	arrives
	[[ $said == *'; what is not known here (see --live): inet other, chain c: '*' may drop it' ]]
	again
	in_chain prerouting raw 'ip daddr 198.51.100.2 tcp dport 80 ip daddr set 203.0.113.2'
	lost taken-elsewhere 'ip daddr set 203.0.113.2. .*redirects it$'
	fixed
	again
	on proxy nft 'table netdev other { chain c { type filter hook ingress device toclient priority 0; tcp dport 80 fwd to toserver; }; }'
	lost taken-elsewhere 'fwd to .* redirects it$'
	fixed
}

@test "iptables: ranges, packet types, directions, ports; limits that are not exceeded" {
	local match
	for match in '-m iprange --src-range 192.0.2.1-192.0.2.9' '-m pkttype --pkt-type unicast' \
		'-m conntrack --ctstate NEW --ctdir ORIGINAL' '-m conntrack --ctorigdstport 80'; do
		# shellcheck disable=SC2086 # words
		on proxy iptables-nft -A INPUT -p tcp --dport 80 $match -j DROP
		lost dropped 'ip filter, chain INPUT: .* drops it$'
		fixed
		again
	done
	on proxy iptables-nft -A INPUT -i toclient -p tcp -m iprange ! --src-range 192.0.2.0-192.0.2.255 -j DROP
	on proxy iptables-nft -A INPUT -p tcp --syn -m connlimit --connlimit-above 50 -j REJECT
	on proxy iptables-nft -A INPUT -p tcp -m conntrack --ctdir REPLY --ctorigdstport 81 -j DROP
	on proxy iptables-nft -A INPUT -p tcp -m hashlimit --hashlimit-above 1000/sec --hashlimit-name a -j DROP
	arrives
	again
	# One that nobody can judge from outside is named.
	on proxy iptables-nft -A INPUT -p tcp --dport 80 -m ttl --ttl-gt 1 -j DROP
	! comes_through || fail "it comes through"
	ask
	[[ $verdict == 0 && $said == *'; what is not known here (see --live): ip filter, chain INPUT: '*' may drop it' ]]
}

@test "routing rules by ports, users, sources and marks: the rule is named, and a command gets past it" {
	on proxy ip rule add pref 50 ipproto tcp sport 80 lookup 51
	on proxy ip route add blackhole default table 51
	lost no-way-back '`ip rule 50: .and more. lookup 51`'
	all_fixed
	again
	on proxy ip rule add pref 50 ipproto tcp dport 80 prohibit
	lost misrouted '`ip rule 50: .and more. refuses` is asked before our rule 100'
	all_fixed
	again
	on proxy ip rule add pref 50 iif lo to 198.51.100.2 blackhole
	lost no-route 'no way to 198.51.100.2:80: .*by `ip rule 50: '
	all_fixed
	again
	on proxy ip rule add pref 50 uidrange 0-0 iif lo ipproto tcp dport 80 blackhole
	((EUID)) || { lost no-route '`ip rule 50: ' && all_fixed; }
	again
	# Rules for other packets are not blamed.
	on proxy ip rule add pref 50 ipproto udp dport 80 blackhole
	on proxy ip rule add pref 51 ipproto tcp dport 443 blackhole
	on proxy ip rule add pref 52 from 192.0.2.99 blackhole
	arrives
}
