#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u beside NAT: masquerade of the clients, and a firewall that drops what conntrack calls invalid.
#
#   client 192.0.2.2 --- proxy: UDP port 5300 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
	dgram server server serve 5300
}

teardown() { lab_down; }

# nat RULE...: in a chain of kind nat at postrouting.
nat() {
	on proxy nft -f - <<-END
		table inet other {
			chain post { type nat hook postrouting priority srcnat; $1; }
			chain forward { type filter hook forward priority filter; ct state invalid counter drop; }
			chain in { type filter hook input priority filter; ct state invalid counter drop; }
		}
	END
}

# talks: short flows and promoted ones of both families are answered; the server sees them from $1, $2.
talks() {
	for count in 2 30; do
		run -0 ask_from client $((41000 + count)) $V4 5300 $count
		run -0 ask_from client $((41000 + count)) $V6 5300 $count
	done
	assert_line_in server.out "^$1 [0-9]+ 20 "
	assert_line_in server.out "^$2 [0-9]+ 20 "
	assert_equal "$(awk '{ print $1 }' "$OUT/server.out" | sort -u)" "$(printf '%s\n' "$1" "$2" | sort)"
	assert_equal "$(wc -l <"$OUT/server.out")" 64
}

@test "UDP NAT: masquerade of all clients: the upstream leg is masqueraded, and answers come back" {
	nat 'oifname toserver masquerade'
	intercept_udp 5300
	udp_relay --log off
	talks 198.51.100.1 2001:db8:2::1
	stop relay
}

@test "UDP NAT: masquerade of others: clients keep their addresses, and nothing is invalid" {
	nat 'oifname tobystander masquerade'
	intercept_udp 5300
	udp_relay --log off
	talks 192.0.2.2 2001:db8:1::2
	assert_equal "$(on proxy nft list table inet other | grep -c 'packets 0')" 2
	stop relay
}

@test "UDP NAT: conntrack without NAT, in a zone of its own" {
	nat 'accept'
	intercept_udp 5300 --conntrack zone
	udp_relay --log off
	talks 192.0.2.2 2001:db8:1::2
	assert_equal "$(on proxy nft list table inet other | grep -c 'packets 0')" 2
	stop relay
}
