#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# Relays that connect to each other: each round costs a connection one hop, like a packet in a
# routing loop, until it ends; a distant host is served as before.
#
#   client 192.0.2.2 --- proxy: tproxy-relay *:3129 --- server 198.51.100.2: another one

bats_require_minimum_version 1.5.0
load lib/udp

setup() { lab_up; }

teardown() { lab_down; }

# circle OPTION...: the proxy's relay leads to the server's, and that one back.
circle() {
	bg there server tproxy-relay "$@" --source own -o event,proto,client,reason \
		--upstream 198.51.100.1:3129 --upstream '[2001:db8:2::1]:3129' '*:3129'
	bg relay proxy tproxy-relay "$@" --source own -o event,proto,client,reason \
		--upstream "$V4:3129" --upstream "[$V6]:3129" '*:3129'
}

# records PATTERN: of both relays.
records() { cat "$OUT/relay.out" "$OUT/there.out" | grep -c "$1" || true; }

connections() { on "$1" ss -Htn state connected exclude time-wait '( sport = :3129 or dport = :3129 )' | wc -l; }

@test "two relays that connect to each other: a connection loops until no hop is left" {
	local address
	circle
	wait_listen proxy 3129
	wait_listen server 3129
	for address in 192.0.2.1 2001:db8:1::1; do
		run -0 on client "$PEER" connect "$address" 3129 send:hello gone
	done
	# 64 hops from the client: that is how often it was accepted, and the last one was refused.
	wait_until 20 eval '[[ $(records "^close tcp ") == 126 ]]'
	assert_equal "$(records '^open tcp ')" 126
	assert_equal "$(records '^refused tcp .* hop-limit$')" 2
	wait_until 20 eval '[[ $(connections proxy) == 0 && $(connections server) == 0 ]]'
	cat "$OUT/relay.err" "$OUT/there.err" >"$OUT/both"
	assert_line_in both '^tproxy-relay: warning: [^ ]*: came with its last hop \(TTL 1\): proxies that lead to each other'
	stop relay
	stop there
}

@test "the same with PROXY headers, and with any source address" {
	local how
	for how in '--send-proxy 2 --accept-proxy 198.51.100.0/24' '--source client-addr'; do
		# shellcheck disable=SC2086 # words
		circle $how
		wait_listen proxy 3129
		wait_listen server 3129
		on client timeout --foreground 20 "$PEER" connect 192.0.2.1 3129 send:hello gone
		wait_until 20 eval '[[ $(records " \(hop-limit\|loop\)$") == 1 ]]'
		(($(records '^open ') < 64)) || fail "$(records '^open ') connections of one"
		stop relay
		stop there
	done
}

@test "hops are counted as a router counts them, and only if loops are possible" {
	local hops
	intercept 8000
	on server nft -f - <<-'END'
		table inet seen {
			counter other { }
			chain input {
				type filter hook input priority 0
				tcp dport 8000 tcp flags syn / syn,ack ip ttl { 63, 41, 1 } accept
				tcp dport 8000 tcp flags syn / syn,ack ip6 hoplimit { 63, 41, 1 } accept
				tcp dport 8000 tcp flags syn / syn,ack counter name other drop
			}
		}
	END
	peer server server serve 8000 send:ok close
	relay --source own -o event,client,reason
	for hops in 64 42 2; do
		on client sysctl -qw "net.ipv4.ip_default_ttl=$hops" "net.ipv6.conf.all.hop_limit=$hops" \
			"net.ipv6.conf.toproxy.hop_limit=$hops"
		run -0 on client "$PEER" connect "$V4" 8000 recv:ok eof
		run -0 on client "$PEER" connect "$V6" 8000 recv:ok eof
	done
	on client sysctl -qw net.ipv4.ip_default_ttl=1 net.ipv6.conf.all.hop_limit=1 net.ipv6.conf.toproxy.hop_limit=1
	run -0 on client "$PEER" connect "$V4" 8000 gone
	run -0 on client "$PEER" connect "$V6" 8000 gone
	wait_until 10 eval '[[ $(grep -c "^refused .* hop-limit$" "$OUT/relay.out") == 2 ]]'
	stop relay
	run -0 on server nft list counter inet seen other
	assert_output --partial 'packets 0'
	on server nft delete table inet seen
	on server nft -f - <<-'END'
		table inet seen {
			chain input {
				type filter hook input priority 0
				tcp dport 8000 tcp flags syn / syn,ack ip ttl != 64 drop
			}
		}
	END
	# With the client's own address and port nothing can come round: two such connections cannot be.
	relay -o event,client,reason
	run -0 on client "$PEER" connect "$V4" 8000 recv:ok eof
	stop relay
}

@test "UDP: loops between two relays end, too" {
	circle -u
	wait_listen proxy 3129 udp
	wait_listen server 3129 udp
	on client "$DGRAM" tell 41000 192.0.2.1 3129 1 || true
	wait_until 20 eval '[[ $(records "^open udp ") -ge 60 ]]'
	(($(records '^open udp ') <= 64)) || fail "$(records '^open udp ') flows of one"
	signal relay TERM
	signal there TERM
	wait_until 10 has_heard "$(pid_of relay)"
	wait_until 10 has_heard "$(pid_of there)"
	signal relay TERM
	signal there TERM
	run -0 wait_exit relay
	run -0 wait_exit there
	(($(records '^open udp ') <= 64)) || fail "$(records '^open udp ') flows of one"
}
