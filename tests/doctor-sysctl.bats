#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup doctor: kernel settings. Each test shows first that the setting breaks the
# interception, then that the doctor names it, then that the printed command fixes it.
#
#   client ==relay on proxy, a wrong setting==> nginx on server 198.51.100.2, 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
}

teardown() {
	lab_down
}

set_on_proxy() {
	on proxy sysctl -qw "$@"
}

# second_link ADDRESS: toclient2, with that address, leads to the client's toproxy2.
second_link() {
	on proxy ip link add toclient2 type veth peer name toproxy2 netns "$LAB_client"
	on proxy ip address add "$1" dev toclient2
	on proxy ip link set toclient2 up
	on client ip link set toproxy2 up
}

@test "src_valid_mark=1 silently drops intercepted packets, whatever rp_filter is" {
	healthy_proxy
	works
	set_on_proxy net.ipv4.conf.all.src_valid_mark=1
	fails
	works "$WEB6" # IPv6 knows no such setting
	finds fail src-valid-mark 'all.src_valid_mark=1, toclient.src_valid_mark=0, toserver.src_valid_mark=0, tobystander.src_valid_mark=0; RTM_GETROUTE refuses .* by toclient .*; this machine has dropped [0-9]+ packets? for the source \(in_martian_src\)'
	apply_fix src-valid-mark
	works
	healthy
}

@test "src_valid_mark=1 of one interface only is found, before up, too" {
	healthy_proxy
	set_on_proxy net.ipv4.conf.toclient.src_valid_mark=1
	fails
	on proxy tproxy-setup down
	SPEC=(--to 3129 -p 80)
	finds fail src-valid-mark 'all.src_valid_mark=0, toclient.src_valid_mark=1'
	apply_fix src-valid-mark
	on proxy tproxy-setup up -q --to 3129 -p 80
	works
}

@test "src_valid_mark=1 on the interface of the servers' answers breaks them, too" {
	healthy_proxy
	set_on_proxy net.ipv4.conf.toserver.src_valid_mark=1
	fails
	finds fail src-valid-mark 'toserver.src_valid_mark=1'
	apply_fix src-valid-mark
	fresh_relay
	works
	healthy
}

@test "src_valid_mark=1 with accept_local=1 works, and is fine, unless rp_filter is 1" {
	healthy_proxy
	set_on_proxy net.ipv4.conf.all.{src_valid_mark,accept_local}=1
	for rp_filter in 0 2; do
		set_on_proxy net.ipv4.conf.all.rp_filter=$rp_filter
		works
		healthy
	done
	set_on_proxy net.ipv4.conf.all.rp_filter=1
	fails
	finds fail src-valid-mark 'all.src_valid_mark=1'
	apply_fix src-valid-mark
	works
}

# A third link, to a client of its own, so that the setting is wrong on three interfaces.
@test "src_valid_mark=1 on three interfaces is said once, and one command fixes all" {
	healthy_proxy
	second_link 192.0.2.65/26
	set_on_proxy net.ipv4.conf.{toclient,toclient2,toserver}.src_valid_mark=1
	fails
	run doctor
	assert_failure 1
	assert_equal "$(grep -cE '^(fail|warn) +src-valid-mark ' <<<"$output")" 1
	for device in toclient toclient2 toserver; do
		assert_output --partial "$device.src_valid_mark=1"
	done
	apply_fix src-valid-mark
	assert_equal "$(on proxy sysctl -n net.ipv4.conf.{toclient,toclient2,toserver}.src_valid_mark | sort -u)" 0
	works
	healthy
}

# The client's second link: what it sends comes in by toclient, the way back to .30 is by toclient2.
@test "rp_filter: the greater of all and the interface counts, and 1 drops asymmetric clients" {
	healthy_proxy
	second_link 192.0.2.129/32
	on proxy ip route add 192.0.2.30/32 dev toclient2
	asymmetric() { on client curl -sS --max-time "${LIMIT:-20}" --interface 192.0.2.30 "http://$WEB4/who"; }
	run asymmetric
	assert_success
	set_on_proxy net.ipv4.conf.toclient.rp_filter=1
	LIMIT=2 run asymmetric
	assert_failure
	works # those whose way back is the way they came
	finds warn rp-filter 'all.rp_filter=0, toclient.rp_filter=1; it has dropped [0-9]+ packets'
	on proxy tproxy-setup up -q --to 3129 -p 80 --iif toclient --src 192.0.2.30
	finds fail rp-filter 'refuses a packet from 192.0.2.30'
	apply_fix rp-filter
	run asymmetric
	assert_success
	healthy
}

@test "tcp_fwmark_accept=1: the answers of accepted sockets loop to lo" {
	healthy_proxy
	set_on_proxy net.ipv4.tcp_fwmark_accept=1
	fails
	finds fail fwmark-accept 'tcp_fwmark_accept=1, intercepted packets carry 0x1/0xff'
	apply_fix fwmark-accept
	works
	healthy
}

@test "tcp_fwmark_accept=1 with a listener that has its own mark works, and is fine" {
	healthy_proxy
	set_on_proxy net.ipv4.tcp_fwmark_accept=1
	stop relay
	bg listener proxy tproxy-listen --listener-mark 0x10 --reply hello 3129
	wait_listen proxy 127.0.0.1:3129
	run on client nc -w 3 "$WEB4" 80
	assert_output --partial hello
	run doctor
	assert_line --regexp '^ok +fwmark-accept'
}

# A client with a connection that is older than the interception: its next packet belongs to no socket.
# Prints `reset` or `hangs`.
old_connection() {
	rm -f "$OUT/go"
	bg old client bash -c '
		trap "" PIPE
		exec 5<>/dev/tcp/198.51.100.2/80
		ask() { printf "GET /who HTTP/1.1\r\nHost: x\r\n\r\n" >&5; }
		ask; grep -m1 "^192" <&5
		while [ ! -e "$1" ]; do sleep 0.05; done
		ask 2>/dev/null
		read -r -t 2 line <&5
		(($? > 128)) && echo hangs || echo reset' sh "$OUT/go"
	wait_line old.out '^192'
	on proxy tproxy-setup up -q --to 3129 -p 80
	touch "$OUT/go"
	wait_exit old
}

@test "fwmark_reflect=1: resets get lost, and connections hang instead of ending" {
	start_nginx
	relay
	old_connection
	assert_line_in old.out '^reset'
	on proxy tproxy-setup down
	set_on_proxy net.ipv4.fwmark_reflect=1 net.ipv6.fwmark_reflect=1
	old_connection
	assert_line_in old.out '^hangs'
	finds fail fwmark-reflect 'fwmark_reflect=1'
	apply_fix fwmark-reflect
	on proxy tproxy-setup down
	old_connection
	assert_line_in old.out '^reset'
	healthy
}

@test "ip_forward=0: interception works, but nothing else is forwarded" {
	healthy_proxy
	stop nginx
	start_nginx 80 8080
	set_on_proxy net.ipv4.ip_forward=0
	works
	LIMIT=2 run fetch "$WEB4:8080"
	assert_failure
	finds warn forwarding 'net.ipv4.ip_forward=0'
	apply_fix forwarding
	run fetch "$WEB4:8080"
	assert_success
	healthy
}

# A handover from one relay to the next, without its queue: a relay that duplicates the other's sockets
# has it, one that may not do that joins with sockets of its own.
@test "tcp_migrate_req=0 is reported when two processes share a listener" {
	healthy_proxy
	healthy
	bg heir proxy tproxy-relay --takeover -v 3129
	wait_line heir.err listening
	healthy
	stop heir
	bg second proxy setpriv --bounding-set=-all,+net_raw tproxy-relay --takeover --log events 3129
	wait_until 10 has_two_owners
	finds warn migrate-req 'tcp_migrate_req=0, and 2 processes listen there'
	apply_fix migrate-req
	healthy
}

has_two_owners() {
	(($(on proxy ss -Hnlt 'src 127.0.0.1:3129' | wc -l) == 2))
}

@test "a destination in 127.0.0.0/8 needs route_localnet" {
	SPEC=(-4 --to 127.0.0.1:3129 -p 80 --include-own --dst 127.0.0.0/8 --iif toclient)
	relay
	on proxy tproxy-setup up -q "${SPEC[@]}"
	# A client that sends such packets at all.
	on client sysctl -qw net.ipv4.conf.all.route_localnet=1
	on client ip route del local 127.0.0.0/8 dev lo table local
	on client ip route add 127.0.0.9/32 via 192.0.2.1 src 192.0.2.2
	run on client curl -sS --max-time 1 http://127.0.0.9/
	assert_failure 28
	finds fail route-localnet 'toclient.route_localnet=0'
	apply_fix route-localnet
	run on client curl -sS --max-time 2 http://127.0.0.9/
	wait_line relay.out ' 127.0.0.9:80 ' # it is intercepted now, and refused upstream
	run doctor
	refute_line --regexp 'fail +route-localnet'
}

@test "lo down: packets routed to it are lost, and the IPv6 route does not come back with it" {
	healthy_proxy
	on proxy ip link set lo down
	fails "$WEB6"
	finds fail lo 'lo is down'
	finds fail routing 'our route is missing'
	apply_fix lo
	works "$WEB6"
	works
	healthy
}

@test "IPv6 disabled on lo: IPv6 bypasses the proxy unnoticed" {
	set_on_proxy net.ipv6.conf.lo.disable_ipv6=1
	start_nginx
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 127.0.0.1:3129
	on proxy tproxy-setup up -q --to 3129 -p 80
	works
	bypasses "$WEB6"
	finds fail ipv6 'lo.disable_ipv6=1, but IPv6 is in use on'
	apply_fix ipv6
	stop relay
	relay
	works "$WEB6"
	healthy
}

# Docker: the clients are behind a bridge, and br_netfilter runs the rules on its frames.
#   client --toclient [bridge br0 192.0.2.1] proxy --toserver server
bridge_clients() {
	on proxy ip link add br0 type bridge
	on proxy ip address flush dev toclient
	on proxy ip link set toclient master br0
	on proxy ip link set br0 up
	on proxy ip address add 192.0.2.1/24 dev br0
	on proxy ip address add 2001:db8:1::1/64 dev br0 nodad
	set_on_proxy net.bridge.bridge-nf-call-{iptables,ip6tables}=0
}

@test "a bridge with br_netfilter: the counters count, but connections are lost" {
	bridge_clients
	healthy_proxy
	works
	works "$WEB6"
	set_on_proxy net.bridge.bridge-nf-call-{iptables,ip6tables}=1
	fails
	fails "$WEB6"
	run on proxy tproxy-setup status -v
	assert_line --regexp 'intercepted +- +[1-9]'
	finds fail bridge 'br0 is a bridge and net.bridge.bridge-nf-call-iptables=1'
	apply_fix bridge
	works
	works "$WEB6"
	healthy
}

@test "--iif with a port of a bridge matches nothing: packets arrive on the bridge" {
	bridge_clients
	healthy_proxy --iif toclient
	bypasses
	finds fail bridge '--iif toclient is a port of bridge br0'
	apply_fix bridge
	works
	healthy
}
