#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u: flows of datagrams, their records, limits and refusals.
#
#   client 192.0.2.2 --- proxy: UDP port 5300 to tproxy-relay 3129 --- server 198.51.100.2
#   client 2001:db8:1::2                                               server 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
}

teardown() { lab_down; }

# holds COUNT: so many descriptors are open in the relay.
holds() {
	(($(descriptors relay) == $1))
}

@test "UDP: answers, records with both legs, counts, and done after a short time" {
	dgram server server serve 5300
	intercept_udp 5300
	udp_relay -o event,proto,client,origdst,origdst_by,upstream_local,upstream,source_kept,packets_up,packets_down,bytes_up,bytes_down,reason
	local before
	before=$(descriptors relay)
	run -0 ask_from client 40001 $V4 5300 1
	run -0 ask_from client 40002 $V6 5300 1
	wait_line relay.out '^close udp \[2001:db8:1::2\]:40002 \[2001:db8:2::2\]:5300 tproxy \[2001:db8:1::2\]:40002 \[2001:db8:2::2\]:5300 addr\+port 1 1 20 20 done$'
	wait_line relay.out '^close udp 192.0.2.2:40001 198.51.100.2:5300 tproxy 192.0.2.2:40001 198.51.100.2:5300 addr\+port 1 1 20 20 done$'
	assert_line_in relay.out '^open udp 192.0.2.2:40001 198.51.100.2:5300 tproxy 192.0.2.2:40001 198.51.100.2:5300 addr\+port 0 0 0 0 -$'
	assert_line_in server.out '^192.0.2.2 40001 20 63 0$'
	assert_line_in server.out '^2001:db8:1::2 40002 20 63 0$'
	wait_until 10 holds "$before"
	stop relay
}

@test "UDP: --udp-timeout ends unanswered flows, and later established ones" {
	dgram sink server sink 5301
	dgram server server serve 5300
	intercept_udp 5300,5301
	udp_relay --udp-timeout 1s,5s -o event,client,packets_up,packets_down,duration_ms,reason
	on client "$DGRAM" tell 40001 $V4 5301 1
	ask_from client 40002 $V4 5300 2
	# And what a busy machine adds: the one is over long before it would be if it were taken for the other.
	wait_line relay.out '^close 192.0.2.2:40001 1 0 ([789][0-9]{2}|[123][0-9]{3})\.[0-9]+ upstream-timeout$'
	wait_line relay.out '^close 192.0.2.2:40002 2 2 (4[789][0-9]{2}|[5-9][0-9]{3})\.[0-9]+ idle$'
	stop relay
}

@test "UDP: TCP and UDP at the same endpoint" {
	start_nginx 5300
	dgram server server serve 5300
	intercept 5300 -t -u
	bg relay proxy tproxy-relay -t -u "$RELAY_PORT" -o event,proto,client
	wait_listen proxy "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT" udp
	run -0 on client curl -sS --max-time 20 --local-port 40001 "http://$V4:5300/who"
	assert_output '192.0.2.2 40001'
	run -0 ask_from client 40001 $V4 5300 3
	wait_line relay.out '^open tcp 192.0.2.2:40001$'
	wait_line relay.out '^open udp 192.0.2.2:40001$'
	stop relay
}

@test "UDP: a datagram to the listener itself is refused once, and counted" {
	intercept_udp 5300
	bg relay proxy tproxy-relay -u '127.0.0.1:3129' '[::1]:3129' 192.0.2.1:3130 -o event,client,origdst_by,reason --control "$OUT/control"
	wait_listen proxy 3130 udp
	on client "$DGRAM" tell 40001 192.0.2.1 3130 5
	on proxy "$DGRAM" tell 40002 127.0.0.1 3129 5
	wait_line relay.out '^refused 127.0.0.1:40002 none direct$'
	wait_line relay.out '^refused 192.0.2.2:40001 none direct$' # another listener's queue
	assert_equal "$(grep -c refused "$OUT/relay.out")" 2
	assert_equal "$(counter direct)" 2
	assert_equal "$(counter refused)" 2
	stop relay
}

@test "UDP: --allow-dst and --deny-dst" {
	dgram server server serve 5300
	intercept_udp 5300
	udp_relay --deny-dst 2001:db8:2::/48 --allow-dst '*:5300' -o event,client,reason
	run -0 ask_from client 40001 $V4 5300 1
	on client "$DGRAM" tell 40002 $V6 5300 3
	wait_line relay.out '^refused \[2001:db8:1::2\]:40002 denied$'
	refute_line_in server.out 2001
	stop relay
}

@test "UDP: inherited listeners, of both protocols" {
	dgram server server serve 5300
	start_nginx 5300
	intercept 5300 -t -u
	bg relay proxy tproxy-listen -t -u --pass "$RELAY_PORT" -- tproxy-relay --threads 2 -o event,proto,client
	wait_listen proxy "$RELAY_PORT"
	run -0 ask_from client 40001 $V4 5300 20
	run -0 ask_from client 40002 $V6 5300 20
	run -0 on client curl -sS --max-time 20 --local-port 40001 "http://$V4:5300/who"
	assert_output '192.0.2.2 40001'
	wait_line relay.out '^open udp \[2001:db8:1::2\]:40002$'
	stop relay
	run on proxy tproxy-listen -t -u --pass "$RELAY_PORT" -- tproxy-relay -t
	assert_failure 2
	assert_output --partial 'is a UDP socket, and only TCP is served'
}

@test "UDP: many flows at once, in one thread and in two; each gets its own answers" {
	dgram server server serve 5300
	intercept_udp 5300
	for threads in 1 2; do
		udp_relay --threads $threads --log off
		run -0 on client timeout --foreground 120 "$DGRAM" flows $V4 5300 1000 3
		assert_output '1000 flows, 3000 answers'
		run -0 on client timeout --foreground 120 "$DGRAM" flows $V6 5300 500 12
		assert_output '500 flows, 6000 answers'
		stop relay
	done
}

@test "UDP: a new flow gets the socket of one that is over, and only its own answers" {
	reuses_ports proxy || skip "this kernel cannot release a port (IP_LOCAL_PORT_RANGE, Linux 6.3)"
	dgram server server serve 5300
	intercept_udp 5300
	for to in $V4 $V6; do
		udp_relay -o event,client,upstream_cookie,packets_down,duration_ms,reason
		run -0 on client timeout --foreground 30 "$DGRAM" flows $to 5300 50 1
		assert_output '50 flows, 50 answers'
		# Meanwhile they become silent for long enough, and this flow stays.
		run -0 ask_from client 41000 $to 5300 3 20 450
		# These end the first ones, and those after them get their sockets.
		for _ in 1 2; do
			run -0 on client timeout --foreground 30 "$DGRAM" flows $to 5300 50 1
			assert_output '50 flows, 50 answers'
		done
		stop relay
		run -0 awk '$1 == "close" { sockets[$3]++; flows++ } END { for (s in sockets) n++; print flows, n }' "$OUT/relay.out"
		# All but those whose port came up a second time; fifty flows at once, and that one, have a socket each. (The
		# second fifty get some of the first ones' sockets, too, if the machine is so busy that they do not come at once.)
		assert_output --regexp '^1(4[5-9]|5[01]) (5[1-9]|[6-9][0-9]|10[0-9])$'
		(($(grep -cE '^close .* 1 [0-9]{3,4}\.[0-9]+ done$' "$OUT/relay.out") >= 40))
	done
}

@test "UDP: unused sockets of past flows make room for connections" {
	reuses_ports proxy || skip "this kernel cannot release a port (IP_LOCAL_PORT_RANGE, Linux 6.3)"
	local pid fd=0 as_relay=()
	((EUID)) || as_relay=(setpriv --reuid "$(id -u nobody)" --regid "$(id -g nobody)" --clear-groups)
	start_nginx 5300
	dgram server server serve 5300
	intercept 5300 -t -u
	bg relay proxy tproxy-relay -t -u "$RELAY_PORT" -o event,client
	wait_listen proxy "$RELAY_PORT" udp
	# The sockets are kept for as long as there is any flow.
	bg steady client "$DGRAM" ask 41000 $V4 5300 1000 20 100
	run -0 on client timeout --foreground 30 "$DGRAM" flows $V4 5300 50 1
	wait_until 10 eval '(($(grep -c ^close "$OUT/relay.out") >= 50))'
	# Not one more can be opened. As its own user, which needs no capability.
	pid=$(pid_of relay)
	while [[ -e /proc/$pid/fd/$fd ]]; do ((++fd)); done
	on proxy "${as_relay[@]}" prlimit --pid "$pid" --nofile="$fd"
	run -0 on client curl -sS --max-time 20 --local-port 40001 "http://$V4:5300/who"
	assert_output '192.0.2.2 40001'
	stop steady || :
	stop relay
}

@test "UDP: an answered flow does not end early for one that cannot use its socket" {
	dgram server server serve 5300
	intercept_udp 5300
	udp_relay --source own -o event,client,duration_ms,reason
	for port in 41000 41001 41002; do
		run -0 ask_from client $port $V4 5300 1
		# It has been silent for long enough.
		sleep 1
	done
	wait_line relay.out '^close 192.0.2.2:41000 [0-9.]+ done$'
	assert_line_in relay.out '^close 192.0.2.2:41000 (2[6-9]|[3-9][0-9]|[1-9][0-9]{2})[0-9]{2}\.[0-9]+ done$'
	stop relay
}

@test "UDP: at --max-flows a client loses its own flows, and others keep theirs" {
	dgram server server serve 5300
	intercept_udp 5300
	udp_relay --max-flows 64 -o event,client,reason --control "$OUT/control"
	# One flow of another client, which goes both ways and lasts as long as theirs.
	bg steady bystander "$DGRAM" stream $V4 5300 1 20 "$OUT/end"
	wait_line relay.out '^open 203.0.113.2:43000 -$'
	wait_until 10 eval 'ask connections | grep -q "203.0.113.2.*established"'
	run -0 on client timeout --foreground 60 "$DGRAM" flows $V4 5300 500 1
	assert_output '500 flows, 500 answers'
	touch "$OUT/end"
	run -0 wait_exit steady 30
	refute_line_in relay.out 'close 203.0.113.2:43000 evicted'
	assert_equal "$(grep -c '^open 203.0.113.2' "$OUT/relay.out")" 1
	(($(grep -c '^close 192.0.2.2:[0-9]* evicted' "$OUT/relay.out") >= 436))
	stop relay
}

@test "UDP: mistakes" {
	run tproxy-relay -u --inetd
	assert_failure 2
	run tproxy-relay -u --send-proxy 1 3129
	assert_failure 2
	assert_output --partial '--send-proxy 2 goes with --udp'
	run tproxy-relay -u --udp-timeout 1s,x 3129
	assert_failure 2
	run tproxy-relay -u --udp-timeout 0 3129
	assert_failure 2
	run tproxy-relay -u --udp-timeout 1s,2s,3s 3129
	assert_failure 2
}
