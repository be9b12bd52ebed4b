#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# The edges of tproxy-relay: connections that begin or end at a bad moment, hosts that answer wrongly or
# not at all, resources that run out. Beside each stands one that must not suffer.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# ---------------------------------------------------------------- a port used again
#
# TIME_WAIT stays with the side that ended first. Of the client's two legs that is the proxy's socket
# toward the server when the client ended first, and the one toward the client when the server did. The
# client itself keeps none here: it is one that may use its port again, as other systems' clients and
# those behind NAT do.

timestamps() {
	local host
	for host in client proxy server; do
		on "$host" sysctl -qw "net.ipv4.tcp_timestamps=$1"
	done
}

time_waits() { on proxy ss -Htan state time-wait "src $1"; }

# exchange ADDRESS PORT SCRIPT...: one connection from the client's port 40001.
exchange() {
	local source=192.0.2.2:40001
	[[ $1 != *:* ]] || source='[2001:db8:1::2]:40001'
	on client "$PEER" -b "$source" connect "$@"
}

# again ADDRESS: four times in a row, with who ends first in turn; a port of the server's for each.
again() {

	for _ in 1 2 3 4; do
		exchange "$1" 8001 send:x recv:y fin eof
		exchange "$1" 8002 send:x recv:y eof close
	done
}

@test "a client uses its port again at once: with timestamps and without, whoever ended first" {
	local on
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y eof close
	peer two server serve 8002 recv:x send:y fin eof
	for on in 1 0; do
		timestamps $on
		relay
		again "$V4"
		again "$V6"
		# It was what it says it is.
		assert [ "$(time_waits 192.0.2.2:40001)" ]
		assert [ "$(time_waits "$V4:8002")" ]
		stop relay
		assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 16
		refute_line_in relay.out ' refused '
		assert_equal "$(grep -c ' addr+port 1 1 ' "$OUT/relay.out")" 16
	done
}

@test "a port in TIME_WAIT here, without the right to clear it: a clash that says what would help" {
	timestamps 0
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y eof close
	bg relay proxy setpriv --bounding-set=-net_admin tproxy-relay "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	exchange "$V4" 8001 send:x recv:y fin eof
	exchange "$V4" 8001 gone
	# Another port is no clash.
	run -0 on client "$PEER" connect "$V4" 8001 send:x recv:y fin eof
	stop relay
	assert_line_in relay.err 'connect: the last connection from the client.s port is in TIME_WAIT here: .*CAP_NET_ADMIN'
	assert_equal "$(grep -c ' clash$' "$OUT/relay.out")" 1
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 2
}

@test "a client uses its port again while the server has not confirmed the last end: it waits" {
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y fin eof
	relay --connect-timeout 5s
	# The server does not hear that the client has ended, too.
	on server nft -f - <<-'END'
		table inet deaf {
			chain input {
				type filter hook input priority 0
				tcp dport 8001 tcp flags & fin == fin drop
			}
		}
	END
	exchange "$V4" 8001 send:x recv:y eof close
	wait_until 5 eval '[[ $(on proxy ss -Htn state last-ack "src 192.0.2.2:40001") ]]'
	bg again client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8001 send:x recv:y eof close
	run -0 on client "$PEER" connect "$V4" 8001 send:x recv:y eof close
	run ! test -e "$OUT/again.status"
	on server nft delete table inet deaf
	run -0 wait_exit again
	stop relay
	refute_line_in relay.out ' refused '
}

@test "a client's port whose last end is never confirmed is a clash at the connect timeout" {
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y fin eof
	relay --connect-timeout 1s
	on server nft add table inet deaf
	on server nft add chain inet deaf input '{ type filter hook input priority 0; }'
	on server nft add rule inet deaf input tcp dport 8001 tcp flags '&' fin == fin drop
	exchange "$V4" 8001 send:x recv:y eof close
	exchange "$V4" 8001 gone
	stop relay
	assert_line_in relay.out ' refused 2 .* clash$'
	assert_line_in relay.err 'connect: the server has not confirmed the end of the last connection from there: .*\(clash'
}
