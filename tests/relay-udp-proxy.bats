#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u: the PROXY protocol in datagrams, and whose address the upstream sees.
#
#   client 192.0.2.2 --- proxy: UDP ports 5300, 5301 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/udp

PROXY=$TOP/tests/lib/dgram-proxy

setup() {
	lab_up
	intercept_udp 5300,5301
}

teardown() { lab_down; }

@test "UDP PROXY: --send-proxy 2: a header in every datagram, with the UNIQUE_ID of the records" {
	bg server server "$PROXY" serve 5300
	wait_listen server 5300 udp
	udp_relay --send-proxy 2 --json
	run -0 ask_from client 41000 $V4 5300 2
	run -0 ask_from client 41001 $V4 5300 30 1400
	run -0 ask_from client 41002 $V6 5300 30 0
	stop relay
	id=$(jq -r 'select(.event == "close" and .client.port == 41001) | .unique_id' "$OUT/relay.out")
	assert_regex "$id" '^[0-9a-f]{16}-2$'
	assert_equal "$(grep -c "^192.0.2.2:41001 198.51.100.2:5300 $id 1400\$" "$OUT/server.out")" 30
	assert_equal "$(grep -c '^.2001:db8:1::2.:41002 .2001:db8:2::2.:5300 [0-9a-f]*-3 0$' "$OUT/server.out")" 30
	assert_equal "$(wc -l <"$OUT/server.out")" 62
	# Headers do not count.
	assert_equal "$(jq 'select(.event == "close" and .client.port == 41001) | .bytes_up' "$OUT/relay.out")" 42000
}

@test "UDP PROXY: a datagram that does not fit with its header is reported to the client, which then sends less" {
	bg server server "$PROXY" serve 5300
	wait_listen server 5300 udp
	udp_relay --send-proxy 2 --log off
	for to in $V4 $V6; do
		run -0 on client "$DGRAM" probe 41000 $to 5300 1440
		(($(tail -1 <<<"$output") < 1480 && $(tail -1 <<<"$output") > 1380))
		run -0 ask_from client 41001 $to 5300 2 1440
	done
	stop relay
}

@test "UDP PROXY: --accept-proxy: many clients through one socket, each a flow of its own, answered to the proxy" {
	dgram server server serve 5300
	bg relay proxy tproxy-relay -u --accept-proxy 192.0.2.0/24,2001:db8:1::/64 '*:3129' \
		-o event,client,origdst,origdst_by,upstream_local,packets_up,packets_down,unique_id,reason
	wait_listen proxy 3129 udp
	run -0 on client "$PROXY" speak 42000 192.0.2.1 3129 \
		192.0.2.10:1001 198.51.100.2:5300 one-one \
		192.0.2.11:1001 198.51.100.2:5300 - \
		'[2001:db8:1::2]:1001' '[2001:db8:2::2]:5300' six
	assert_output '9 answers'
	run -0 on client "$PROXY" speak 42000 2001:db8:1::1 3129 192.0.2.12:1001 198.51.100.2:5300 -
	assert_output '3 answers'
	# Also where the load balancer's own datagrams are intercepted.
	run -0 on client "$PROXY" speak 42001 198.51.100.2 5301 192.0.2.13:1001 198.51.100.2:5300 -
	assert_output '3 answers'
	stop relay
	assert_line_in relay.out '^close 192.0.2.10:1001 198.51.100.2:5300 proxy-protocol 192.0.2.10:1001 3 3 one-one '
	assert_line_in relay.out '^close 192.0.2.11:1001 198.51.100.2:5300 proxy-protocol 192.0.2.11:1001 3 3 - '
	assert_line_in relay.out '^close .2001:db8:1::2.:1001 .2001:db8:2::2.:5300 proxy-protocol .2001:db8:1::2.:1001 3 3 six '
	assert_line_in relay.out '^close 192.0.2.12:1001 '
	assert_line_in relay.out '^close 192.0.2.13:1001 198.51.100.2:5300 proxy-protocol 192.0.2.13:1001 3 3 '
	assert_equal "$(grep -c ^open "$OUT/relay.out")" 5
	assert_line_in server.out '^192.0.2.11 1001 '
}

@test "UDP PROXY: from one relay to the next, the UNIQUE_ID and the client stay" {
	bg server server "$PROXY" serve 5300
	wait_listen server 5300 udp
	udp_relay --accept-proxy 192.0.2.0/24 --send-proxy 2 --log off
	run -0 on client "$PROXY" speak 42000 198.51.100.2 5301 192.0.2.10:1001 198.51.100.2:5300 my-id
	stop relay
	assert_equal "$(cut -d' ' -f1-3 "$OUT/server.out" | sort -u)" '192.0.2.10:1001 198.51.100.2:5300 my-id'
}

@test "UDP PROXY: an invalid header is refused, counted, and reaches nobody" {
	dgram server server serve 5300
	intercept 5300,5301 -u
	udp_relay --accept-proxy 192.0.2.0/24 -o event,client,reason --control "$OUT/control"
	run -0 on client "$PROXY" bad 42000 198.51.100.2 5300
	assert_line_in relay.out '^refused 192.0.2.2:42000 proxy-header$'
	assert_equal "$(counter proxy-header)" 1
	refute_line_in server.out .
	# Nor are headers accepted from others.
	run -0 on client "$PROXY" speak 42001 198.51.100.2 5300 192.0.2.10:1001 198.51.100.2:5300 -
	stop relay
	udp_relay --accept-proxy 203.0.113.0/24 --log off
	run on client timeout 60 "$PROXY" speak 42001 198.51.100.2 5300 192.0.2.10:1001 198.51.100.2:5300 -
	assert_failure
	assert_output --partial 'answer to'
	stop relay
}

@test "UDP PROXY: a header names neither this host nor its link, unless --allow-dst does" {
	local to four=(127.0.0.1 127.9.9.9 169.254.9.9 192.0.2.1 198.51.100.1 192.0.2.255)
	local six=(::1 fe80::1 2001:db8:1::1 2001:db8:2::1 2001:db8:1::)
	dgram own proxy serve 5302
	on proxy sysctl -qw net.ipv6.conf.all.forwarding=1
	udp_relay --accept-proxy 192.0.2.0/24,2001:db8:1::/64 --source own -v -o event,client,origdst,reason
	run -0 on client "$PROXY" name 42000 198.51.100.2 5300 192.0.2.10:1001 "${four[@]/%/:5302}" \
		0.1.2.3:5302 224.0.0.1:5302 198.51.100.2:0
	for to in "${four[@]}"; do
		wait_line relay.out "^refused 192\\.0\\.2\\.10:1001 ${to//./\\.}:5302 proxy-address\$"
	done
	wait_line relay.out '^refused 192\.0\.2\.2:42000 .*proxy-header$'
	six=("${six[@]/#/[}")
	run -0 on client "$PROXY" name 42000 2001:db8:2::2 5300 '[2001:db8:1::10]:1001' "${six[@]/%/]:5302}"
	for to in "${six[@]}"; do
		wait_line relay.out "^refused \\[2001:db8:1::10\\]:1001 \\$to\\]:5302 proxy-address\$"
	done
	stop relay
	assert_line_in relay.err ' its destination 127\.0\.0\.1:5302 is a loopback address, and no --allow-dst names it'
	refute_line_in relay.out '^open'
	refute_line_in own.out .

	udp_relay --accept-proxy 192.0.2.0/24 --source client -o event,client,origdst,reason
	run -0 on client "$PROXY" name 42001 198.51.100.2 5300 127.0.0.1:1001 198.51.100.2:5300
	wait_line relay.out '^refused 127\.0\.0\.1:1001 198\.51\.100\.2:5300 proxy-address$'
	stop relay
	bg named proxy "$PROXY" serve 5303
	wait_listen proxy 5303 udp
	udp_relay --accept-proxy 192.0.2.0/24 --source own --allow-dst 127.0.0.1:5303 --send-proxy 2 --log off
	run -0 on client "$PROXY" speak 42002 198.51.100.2 5300 192.0.2.10:1001 127.0.0.1:5303 -
	assert_output '3 answers'
	stop relay
}

# seen COUNT: from whom the last so many datagrams were that the server saw, each once.
seen() { tail -n "$1" "$OUT/server.out" | cut -d' ' -f1 | sort -u; }

@test "UDP source: client-addr, own, an address; short and promoted" {
	dgram server server serve 5300
	for source in client-addr own 198.51.100.77; do
		on proxy ip address replace 198.51.100.77/24 dev toserver
		bg relay proxy tproxy-relay -u -4 --source "$source" 127.0.0.1:3129 -o event,upstream_local,source_kept,packets_down
		wait_listen proxy 3129 udp
		run -0 ask_from client 41000 $V4 5300 2
		run -0 ask_from client 41001 $V4 5300 30
		stop relay
		case $source in
		client-addr) address=192.0.2.2 kept=addr ;;
		own) address=198.51.100.1 kept=no ;;
		*) address=$source kept=no ;;
		esac
		assert_equal "$(seen 32)" "$address"
		assert_line_in relay.out "^close $address:[0-9]+ $kept 2\$"
		assert_line_in relay.out "^close $address:[0-9]+ $kept 30\$"
	done
}

@test "UDP source: a port in use by a program of this host is a clash: refused, or another port" {
	dgram server server serve 5300
	# Whoever has the client's own address and port here.
	bg holder proxy python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(0, 19, 1)
s.bind(("192.0.2.2", 41000)); time.sleep(600)'
	wait_listen proxy 192.0.2.2:41000 udp
	udp_relay --upstream $V4:5300 -4 --on-clash fail -o event,client,reason
	on client "$DGRAM" tell 41000 $V4 5300 1
	wait_line relay.out '^refused 192.0.2.2:41000 clash$'
	stop relay
	udp_relay --upstream $V4:5300 -4 --on-clash new-port -o event,client,source_kept,packets_down
	run -0 ask_from client 41000 $V4 5300 20
	stop relay
	assert_line_in relay.out '^close 192.0.2.2:41000 addr 20$'
}

@test "UDP source: a fixed upstream, even of the other family, and direct clients" {
	dgram server server serve 5300
	bg relay proxy tproxy-relay -u --upstream "[$V6]:5300" --source own '*:5310' -o event,client,origdst_by,upstream,packets_down
	wait_listen proxy 5310 udp
	run -0 ask_from client 41000 192.0.2.1 5310 2
	run -0 ask_from client 41001 192.0.2.1 5310 30
	run -0 ask_from client 41002 2001:db8:1::1 5310 30
	stop relay
	assert_line_in relay.out '^close 192.0.2.2:41000 none .2001:db8:2::2.:5300 2$'
	assert_line_in relay.out '^close 192.0.2.2:41001 none .2001:db8:2::2.:5300 30$'
	assert_line_in relay.out '^close .2001:db8:1::2.:41002 none .2001:db8:2::2.:5300 30$'
}

@test "UDP source: direct clients of one listener, promoted at once: none gets another's datagram" {
	dgram server server serve 5300
	for threads in 1 2; do
		bg relay proxy tproxy-relay -u --upstream $V4:5300 --upstream "[$V6]:5300" --threads $threads '*:5310' --log off
		wait_listen proxy 5310 udp
		run -0 on client timeout --foreground 120 "$DGRAM" flows 192.0.2.1 5310 300 20
		assert_output '300 flows, 6000 answers'
		run -0 on client timeout --foreground 120 "$DGRAM" flows 2001:db8:1::1 5310 300 20
		stop relay
	done
}

@test "UDP source: without privilege, as a reverse proxy from this host's own address" {
	dgram server server serve 5300
	bg relay proxy setpriv --bounding-set=-all --inh-caps=-all tproxy-relay -u --upstream $V4:5300 --upstream "[$V6]:5300" \
		--source own --upstream-mark 0 '*:5310' --log off
	wait_listen proxy 5310 udp
	for count in 2 30; do
		run -0 ask_from client 41000 192.0.2.1 5310 $count
		run -0 ask_from client 41001 2001:db8:1::1 5310 $count
	done
	stop relay
}

@test "UDP source: an upstream that is the relay itself is a loop" {
	run on proxy tproxy-relay -u -4 --upstream 127.0.0.1:5310 127.0.0.1:5310
	assert_failure 3
	assert_output --partial 'listener of this relay'
	# Two relays that are each other's upstream: the legs come back, and each datagram has its last hop.
	intercept_udp 5310
	bg one proxy tproxy-relay -u -4 --upstream 198.51.100.1:5312 '*:5311' --source own -o event,client,packets_up,reason
	bg two proxy tproxy-relay -u -4 --upstream 198.51.100.1:5311 '*:5312' --source own -o event,client,packets_up,reason
	wait_listen proxy 5311 udp
	wait_listen proxy 5312 udp
	on client "$DGRAM" tell 41000 192.0.2.1 5311 1
	stop one
	stop two
	assert_line_in one.out '^close 192.0.2.2:41000 1 '
	(($(awk '{ sum += $3 } END { print sum }' <(grep ^close "$OUT/one.out" "$OUT/two.out")) <= 70))
}
