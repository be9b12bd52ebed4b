#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u --one-way: the server answers the client directly (direct server return). What
# tproxy-relay(8) says to set up on the server is set up here, word for word.
#
#   client 192.0.2.2 --- proxy: tproxy-relay --one-way --- server 198.51.100.2
#        \_______________________ dsr ______________________/
#
#   Answers take the link dsr, and never pass the proxy.

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
	# A second way between server and client, for answers only.
	on server ip link add dsr type veth peer name dsr netns "$LAB_client"
	on server ip link set dsr up
	on client ip link set dsr up
	on server ip route replace 192.0.2.0/24 dev dsr scope link
	on server ip -6 route replace 2001:db8:1::/64 dev dsr
	# Nobody asks on that link who has the client's address: that is known.
	local mac
	mac=$(on client ip -j link show dsr | jq -r '.[0].address')
	on server ip neighbour replace 192.0.2.2 lladdr "$mac" dev dsr
	on server ip -6 neighbour replace 2001:db8:1::2 lladdr "$mac" dev dsr
	dgram server server serve 5300
}

teardown() { lab_down; }

# answered_directly: answers came by the link dsr, none by the proxy.
answered_directly() {
	sniff dsr client dsr 5300
	sniff passing proxy toserver 5300
	"$@"
	wait_line dsr.out '^udp IN '
	refute_line_in passing.out '^udp IN '
	stop dsr || :
	stop passing || :
}

ask_both() {
	run -0 ask_from client 41000 $V4 5300 3
	run -0 ask_from client 41001 $V6 5300 30
}

@test "UDP one-way: to the original destination, without any setup on the server" {
	intercept_udp 5300
	udp_relay --one-way -o event,client,origdst,upstream_local,packets_up,packets_down,reason
	answered_directly ask_both
	stop relay
	assert_line_in relay.out '^close 192.0.2.2:41000 198.51.100.2:5300 192.0.2.2:41000 3 0 idle$'
	assert_line_in relay.out '^close .2001:db8:1::2.:41001 .2001:db8:2::2.:5300 .2001:db8:1::2.:41001 30 0 idle$'
}

# example_of PAGE AWK-PATTERN: the literal block of a man page that matches.
example_of() {
	awk -v pattern="$2" '/^\.Bd/ { block = ""; on = 1; next }
		/^\.Ed/ { if (on && block ~ pattern) printf "%s", block; on = 0 }
		on { block = block $0 "\n" }' "$TOP/man/$1" | sed 's/^# //'
}

ask_virtual() {
	run -0 ask_from client 41000 192.0.2.1 5300 30
	run -0 ask_from client 41001 2001:db8:1::1 5300 2
}

@test "UDP one-way: as a reverse proxy: the server answers from the original address" {
	bg relay proxy tproxy-relay -u --one-way --upstream $V4:5300 --upstream "[$V6]:5300" \
		-o event,client,origdst_by,upstream,source_kept,packets_up,packets_down '*:5300'
	wait_listen proxy 5300 udp
	example_of tproxy-relay.8 'table inet dsr' >"$OUT/dsr.nft"
	assert_file_contains "$OUT/dsr.nft" 'saddr set 192.0.2.1'
	on server bash -e "$OUT/dsr.nft"
	answered_directly ask_virtual
	stop relay
	assert_line_in relay.out '^close 192.0.2.2:41000 none 198.51.100.2:5300 addr.port 30 0$'
	assert_line_in relay.out '^close .2001:db8:1::2.:41001 none .2001:db8:2::2.:5300 addr.port 2 0$'
}

@test "UDP one-way: mistakes" {
	run tproxy-relay -u --one-way --source own 3129
	assert_failure 2
	assert_output --partial 'contradict each other'
}
