#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u: what datagrams can be, and what the network says of them, in both families, short and
# promoted.
#
#   client 192.0.2.2 --- proxy: UDP ports 5300-5309 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
	intercept_udp 5300-5309
}

teardown() { lab_down; }

# promoted PORT: has the flow from that client port a socket of its own on the client's side?
promoted() {
	ask connections | grep "\"port\":$1}" | grep -q '"cookie"'
}

@test "UDP edges: empty datagrams, and the longest, short and promoted" {
	local length
	dgram server server serve 5300
	udp_relay --log off --control "$OUT/control"
	for to in $V4 $V6; do
		for length in 0 1 1200 1472 1473 9000 65507; do
			run -0 ask_from client 40001 $to 5300 1 $length
			run -0 ask_from client 40002 $to 5300 30 $length
		done
		run -0 promoted 40002
		assert_equal "$(ask connections | jq -s 'map(.packets_up // 0) | add')" \
			"$(ask connections | jq -s 'map(.packets_down // 0) | add')"
	done
	# Nothing came twice or cut.
	assert_equal "$(grep -c ' 65507 63 0$' "$OUT/server.out")" 62
	assert_equal "$(grep -c '40002 0 63 0$' "$OUT/server.out")" 60
	stop relay
}

@test "UDP edges: DSCP and ECN bits, and the hop limit, are kept both ways, short and promoted" {
	dgram server server serve 5300
	udp_relay --log off
	for to in $V4 $V6; do
		run -0 on client "$DGRAM" mark 40001 $to 5300 0xb9 2
		assert_output '185 answers'
		run -0 on client "$DGRAM" mark 40002 $to 5300 0x02 40
		assert_output '2 answers'
	done
	assert_equal "$(grep -c '40001 20 63 185$' "$OUT/server.out")" 4
	assert_equal "$(grep -c '40002 20 63 2$' "$OUT/server.out")" 80
	stop relay
}

@test "UDP edges: a closed port is reported to the client, each time, and recorded" {
	udp_relay -o event,client,origdst,reason
	for to in $V4 $V6; do
		for _ in 1 2 3; do
			run -0 on client "$DGRAM" refused 40001 $to 5301
			assert_output ECONNREFUSED
		done
	done
	wait_line relay.out '^close 192.0.2.2:40001 198.51.100.2:5301 upstream-refused$'
	wait_line relay.out '^close \[2001:db8:1::2\]:40001 \[2001:db8:2::2\]:5301 upstream-refused$'
	stop relay
}

@test "UDP edges: a server that goes away during a promoted flow is reported, too" {
	dgram server server serve 5300
	udp_relay --log off --control "$OUT/control"
	for to in $V4 $V6; do
		run -0 ask_from client 40001 $to 5300 20
	done
	stop server || :
	for to in $V4 $V6; do
		run -0 on client "$DGRAM" refused 40001 $to 5300
		assert_output ECONNREFUSED
	done
	stop relay
}

@test "UDP edges: a client that is gone is reported to the server, short and promoted" {
	dgram server server serve-slowly 5300 500
	sniff errors server toproxy
	udp_relay --log off
	for to in $V4 $V6; do
		on client "$DGRAM" tell 40001 $to 5300 1
		on client "$DGRAM" tell 40002 $to 5300 20
	done
	for port in 40001 40002; do
		wait_line errors.out "^icmp IN 192.0.2.2 198.51.100.2 3/3 0 198.51.100.2:5300 192.0.2.2:$port\$"
		wait_line errors.out "^icmp IN 2001:db8:1::2 2001:db8:2::2 1/4 0 \[2001:db8:2::2\]:5300 \[2001:db8:1::2\]:$port\$"
	done
	stop relay
}

@test "UDP edges: denied and unreachable destinations are reported as such" {
	on proxy ip route add unreachable 198.51.100.64/26
	on proxy ip -6 route add unreachable 2001:db8:2:64::/64
	udp_relay --deny-dst 198.51.100.128/25 --deny-dst 2001:db8:2:128::/64 -o event,origdst,reason
	run -0 on client "$DGRAM" refused 40001 198.51.100.130 5300
	assert_output EHOSTUNREACH # ICMP 3/13
	run -0 on client "$DGRAM" refused 40002 2001:db8:2:128::1 5300
	assert_output EACCES
	run -0 on client "$DGRAM" refused 40003 198.51.100.65 5300
	assert_output EHOSTUNREACH
	run -0 on client "$DGRAM" refused 40004 2001:db8:2:64::1 5300
	assert_output EHOSTUNREACH
	wait_line relay.out '^refused 198.51.100.130:5300 denied$'
	wait_line relay.out '^refused 198.51.100.65:5300 upstream-unreachable$'
	stop relay
}

@test "UDP edges: a datagram on its last hop is not relayed, and the client learns by whom" {
	dgram server server serve 5300
	sniff errors client toproxy
	udp_relay --log off
	on client python3 -c '
import socket, sys
for address, level, option in (("198.51.100.2", 0, 2), ("2001:db8:2::2", 41, 16)):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(level, option, 1)
    s.sendto(b"x", (address, 5300))'
	wait_line errors.out '^icmp IN 192.0.2.1 192.0.2.2 11/0 0 192.0.2.2:[0-9]+ 198.51.100.2:5300$'
	wait_line errors.out '^icmp IN 2001:db8:1::1 2001:db8:1::2 3/0 0 .2001:db8:1::2.:[0-9]+ .2001:db8:2::2.:5300$'
	run -0 ask_from client 40001 $V4 5300 1
	assert_equal "$(wc -l <"$OUT/server.out")" 1
	stop relay
}

@test "UDP edges: a smaller MTU behind the proxy is reported to senders with DF; others get through" {
	dgram server server serve 5300
	udp_relay --log off
	on proxy ip link set toserver mtu 1300
	on server ip link set toproxy mtu 1300
	for to in $V4 $V6; do
		run -0 on client "$DGRAM" probe 40001 $to 5300 1400
		assert_output 1300
		# A sender that then keeps to that size is served.
		run -0 ask_from client 40002 $to 5300 3 1400
		run -0 ask_from client 40003 $to 5300 30 5000
	done
	stop relay
}

# ask_until_full ADDRESS COUNT: as a client, ask so often, once a second at most, until an answer of 1400 bytes comes.
ask_until_full() {
	on client timeout --foreground 60 python3 -c '
import socket, sys
to, count = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((to, 5300))
s.settimeout(1)
for i in range(30):
    for j in range(count): s.send(b"x")
    try:
        if len(s.recv(65535)) == 1400: sys.exit(0)
    except socket.timeout: pass
sys.exit("no answer of 1400 bytes")' "$@"
}

@test "UDP edges: a smaller MTU before the client is reported to the server, short and promoted" {
	dgram server server swell 5300 1400
	udp_relay --log off
	on proxy ip link set toclient mtu 1300
	on client ip link set toproxy mtu 1300
	sniff errors server toproxy
	# The first answers are lost, as long as the server has not learnt.
	ask_until_full $V4 1
	ask_until_full $V6 1
	assert_line_in errors.out '^icmp IN 198.51.100.1 198.51.100.2 3/4 1300 198.51.100.2:5300 192.0.2.2:[0-9]+$'
	assert_line_in errors.out '^icmp IN 2001:db8:2::1 2001:db8:2::2 2/0 1300 .2001:db8:2::2.:5300 .2001:db8:1::2.:[0-9]+$'
	on server ip route flush cache
	on server ip -6 route flush cache
	ask_until_full $V4 12
	ask_until_full $V6 12
	stop relay
}

@test "UDP edges: an MTU that a router further on reports reaches the client" {
	dgram server server serve 5300
	udp_relay --log off
	for to in $V4 $V6; do
		# The server plays that router: it reports datagrams that it has seen pass.
		bg router server "$TOP/tests/lib/pmtu" $to 1290
		wait_line router.out ready
		run -0 on client "$DGRAM" probe 40001 $to 5300 1400
		assert_output 1290
		stop router || :
	done
	stop relay
}
