#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2034 # SPEC is for lib/doctor.bash
#
# tproxy-setup doctor: FORWARD rules, which do not apply to intercepted connections. Each test shows
# first that the rule stops forwarded connections, then that the proxy bypasses it, then that the
# doctor names it, and that a relay with the printed options stops them, too.
#
#   client ==relay on proxy, somebody's rules==> nginx on server 198.51.100.2, .200, 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
	on server ip addr add 198.51.100.200/24 dev toproxy
	on server ip addr add 2001:db8:2::200/64 dev toproxy nodad
}

teardown() {
	lab_down
}

FAR4=198.51.100.200
FAR6='[2001:db8:2::200]'

rules() {
	on proxy nft -f -
}

# stopped ADDRESS...: none of them is reached, for as long as nothing is intercepted.
stopped() {
	local to
	start_nginx
	for to; do fails "$to"; done
}

# why: of the first finding.
why() {
	on proxy tproxy-setup doctor -q -H -o severity,check,why "${SPEC[@]}" | sed -nE '/^warn +forward /{s/^[^ ]+ +[^ ]+ +//;p;q}'
}

# unfixed REGEXP: that is found, and no option of the relay is named for it.
unfixed() {
	finds warn forward "$1"
	run why
	refute_output --partial deny-dst
	assert_output --partial 'if this is to keep clients from going past the proxy, all is well'
}

# proposed OPTION...: these are the options of the relay that are named, and with them it stops ADDRESSES, an
# array.
proposed() {
	local command to
	command=$(why)
	command=${command##*as well: }
	assert_equal "$command" "tproxy-relay $*"
	stop relay
	bg relay proxy bash -c "exec $command 3129"
	wait_listen proxy '[::1]:3129'
	for to in "${ADDRESSES[@]}"; do fails "$to"; done
}

@test "FORWARD rules by destination (nft), installed before up: options for each family's relay" {
	rules <<-'END'
		table inet filter {
			set inner { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 198.51.100.192/26 } }
			chain forward {
				type filter hook forward priority filter; policy accept;
				ct state established accept
				ip daddr @inner counter reject
			}
		}
	END
	stopped $FAR4
	healthy_proxy
	works
	works $FAR4
	finds warn forward 'inet filter, chain forward: `ip daddr @inner .*` \(handle [0-9]+\) would drop what clients send, if it were forwarded'
	ADDRESSES=("$FAR4")
	proposed "--deny-dst '10.0.0.0/8' --deny-dst '198.51.100.192/26'"
	works
	works "$FAR6"
	on proxy nft flush ruleset
	rules <<-'END'
		table ip6 filter {
			chain forward {
				type filter hook forward priority filter; policy accept;
				ip6 daddr 2001:db8:2::200 tcp dport { 25, 80-90 } drop
			}
		}
	END
	on proxy tproxy-setup up -q --to 3129 -p 80
	works "$FAR6" || :
	finds warn forward 'ip6 filter, chain forward: `.*drop`'
	ADDRESSES=("$FAR6")
	proposed "--deny-dst '[2001:db8:2::200/128]:25,80-90'"
	works "$WEB6"
	works $FAR4
}

@test "FORWARD rules and chains of iptables-nft, added after up" {
	healthy_proxy
	for ip in iptables-nft ip6tables-nft; do
		on proxy $ip -N blocked
		on proxy $ip -A blocked -j REJECT
	done
	on proxy iptables-nft -A FORWARD -d $FAR4 -j blocked
	on proxy ip6tables-nft -A FORWARD -d 2001:db8:2::200 -p tcp -m multiport --dports 25,80 -j blocked
	on proxy tproxy-setup down -q
	stopped $FAR4 "$FAR6"
	on proxy tproxy-setup up -q --to 3129 -p 80
	works $FAR4
	works "$FAR6"
	finds warn forward 'ip filter, chain blocked: `.*` \(handle [0-9]+\) would drop'
	finds warn forward 'ip6 filter, chain blocked: `.*` \(handle [0-9]+\) would drop'
	# The newest first.
	ADDRESSES=("$FAR6")
	proposed "--deny-dst '[2001:db8:2::200/128]:25,80'"
	works $FAR4
}

@test "FORWARD rules of iptables-legacy" {
	root_only "which of its tables are in use is told to the machine's root alone"
	on proxy iptables-legacy -A FORWARD -d 198.51.100.192/26 -p tcp --dport 80 -j DROP
	stopped $FAR4
	healthy_proxy
	works $FAR4
	finds warn forward 'iptables-legacy filter, chain FORWARD: `rule 1` would drop'
	ADDRESSES=("$FAR4")
	proposed "--deny-dst '198.51.100.192/26:80'"
	works
}

@test "a policy, and rules for intercepted ports, may be meant to stop clients from bypassing the proxy" {
	rules <<-'END'
		table inet filter {
			chain forward {
				type filter hook forward priority filter; policy drop;
				ct state established,related accept
				tcp dport 22 accept
			}
		}
	END
	stopped "$WEB4" "$WEB6"
	healthy_proxy
	works
	unfixed 'inet filter, chain forward: policy drop would drop'
	on proxy nft flush table inet filter
	on proxy nft add chain inet filter forward '{ policy accept; }'
	on proxy nft add rule inet filter forward tcp dport '{ 80, 443 }' drop
	unfixed '`tcp dport \{ 80, 443 \} drop` \(handle [0-9]+\) would drop'
	# By port among others that are intercepted it names destinations.
	stop relay
	on proxy tproxy-setup up -q --to 3129 -p 80,8000-8100
	relay
	finds warn forward '`tcp dport \{ 80, 443 \} drop` \(handle [0-9]+\) would drop'
	ADDRESSES=("$WEB4" "$WEB6")
	proposed "--deny-dst '*:80,443'"
}

@test "rules for some clients, and rate limits, are reported without a command" {
	rules <<-'END'
		table inet filter {
			chain forward {
				type filter hook forward priority filter; policy accept;
				ip saddr 192.0.2.0/30 ip daddr 198.51.100.0/24 reject
				ip6 daddr 2001:db8:2::/64 limit rate over 1/second drop
			}
		}
	END
	stopped "$WEB4"
	healthy_proxy
	works
	unfixed '`ip saddr 192.0.2.0/30 ip daddr 198.51.100.0/24 reject.*` \(handle [0-9]+\) would drop'
	finds warn forward '`ip6 daddr 2001:db8:2::/64 limit rate over 1/second .*drop` \(handle [0-9]+\) might drop'
}

@test "no false alarm: rules for others, and rules that accept intercepted packets, like Docker's and firewalld's" {
	rules <<-'END'
		table ip filter {
			chain DOCKER-USER { ip daddr 10.0.0.0/8 oifname "docker0" drop; return; }
			chain DOCKER { iifname != "docker0" oifname "docker0" drop; }
			chain FORWARD {
				type filter hook forward priority filter; policy drop;
				jump DOCKER-USER
				oifname "docker0" ct state related,established accept
				oifname "docker0" jump DOCKER
				iifname "docker0" oifname != "docker0" accept
				iifname "toclient" oifname "toserver" accept
				ct state established accept
			}
		}
		table inet firewalld {
			chain filter_FORWARD {
				type filter hook forward priority filter + 10; policy accept;
				ct state { established, related } accept
				ct status dnat accept
				iifname "lo" accept
				ct state { invalid } drop
				ip6 daddr { ::/96, ::ffff:0.0.0.0/96, 2002::/24 } reject with icmpv6 type addr-unreachable
				jump filter_FORWARD_POLICIES
				reject with icmpx type admin-prohibited
			}
			chain filter_FORWARD_POLICIES {
				iifname "toclient" oifname "toserver" jump filter_FWD_trusted
				iifname "toclient" reject with icmpx type admin-prohibited
			}
			chain filter_FWD_trusted { accept; }
		}
		table inet others {
			chain forward {
				type filter hook forward priority filter; policy accept;
				tcp dport { 25, 445 } drop
				ip saddr 203.0.113.0/24 drop
				iifname "tobystander" drop
				udp dport 80 drop
				ct state invalid drop
			}
			chain input {
				type filter hook input priority filter; policy accept;
				ip daddr 198.51.100.192/26 tcp dport 81 drop
			}
		}
	END
	healthy_proxy --iif toclient
	works
	works "$WEB6"
	healthy
	run doctor
	assert_line --regexp '^ok +forward +no FORWARD rule would drop what is intercepted$'
	# The rule is about other destinations, ports and clients than the specification.
	rules <<<'table inet more { chain f { type filter hook forward priority 0; ip daddr 198.51.100.192/26 drop; }; }'
	finds warn forward 'inet more, chain f'
	on proxy tproxy-setup up -q --to 3129 -p 80 --iif toclient --not-dst 198.51.100.192/26
	healthy
	on proxy tproxy-setup up -q --to 3129 -p 80 --iif toclient --dst 198.51.100.2,2001:db8:2::/64
	healthy
	on proxy tproxy-setup up -q --to 3129 -p 80 --iif toclient --dst 198.51.100.0/26,198.51.100.201,2001:db8:2::/64
	finds warn forward 'inet more, chain f'
}

@test "only the first elements of a set of a thousand are tried, and not all of a thousand rules" {
	# In pieces: without root there is a limit to what is said to the kernel at once.
	{
		echo 'table inet filter {'
		echo 'set bad { type ipv4_addr; flags interval; elements = { 198.51.100.200 }'
		echo '}'
		echo 'chain forward { type filter hook forward priority 0; ip daddr @bad drop'
		echo '}'
		echo '}'
	} | rules
	for i in {0..7}; do
		{
			for j in {0..254..2}; do echo "add element inet filter bad { 10.$i.$j.0/24 }"; done
			for j in {0..127}; do echo "add rule inet filter forward ip daddr 10.99.$i.$j drop"; done
		} | rules
	done
	healthy_proxy
	works $FAR4
	# The set names the first of its elements, and 10.0.0.0/8 is not routed: an example is what it has in common
	# with the routes.
	on proxy ip route add 10.0.0.0/8 via 198.51.100.2
	finds warn forward '`ip daddr @bad drop` \(handle [0-9]+\) would drop'
	run why
	refute_output --partial deny-dst
}
