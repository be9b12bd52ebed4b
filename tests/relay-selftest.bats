#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The scenario of the kernel's own tests of nft's tproxy (nft_tproxy_tcp.sh, nft_tproxy_udp.sh in
# tools/testing/selftests/net/netfilter), with our programs in the places of socat: the same hosts and
# addresses, the same rules and the same policies. Then with rules of tproxy-setup, and with tproxy-relay.
#
#	client (ns1)  10.0.1.99 ---------- .1 proxy .1 ---------- 10.0.2.99  server (ns2): taken
#	              dead:1::99        (nsrouter)  .1            dead:2::99
#	                                             \----------- 10.0.3.99  bystander (ns3): not taken
#	                                                          dead:3::99
#
# Who asks for 8080 of a host says I_M_PROXIED. Where it is taken it hears that from the proxy, which echoes;
# else the host says who it is.

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	# network HOST INTERFACE-OF-PROXY NUMBER: the addresses of the kernel's test instead of the lab's.
	network() {
		on "$1" ip addr flush dev toproxy scope global
		on proxy ip addr flush dev "$2" scope global
		on "$1" ip addr add "10.0.$3.99/24" dev toproxy
		on "$1" ip addr add "dead:$3::99/64" dev toproxy nodad
		on proxy ip addr add "10.0.$3.1/24" dev "$2"
		on proxy ip addr add "dead:$3::1/64" dev "$2" nodad
		on "$1" ip -4 route replace default via "10.0.$3.1"
		on "$1" ip -6 route replace default via "dead:$3::1"
	}
	network client toclient 1
	network server toserver 2
	network bystander tobystander 3
	for host in server bystander; do
		bg "$host" "$host" tproxy-listen -q -t -u --reply "PONG_$host" \
			-o proto,client '*:8080'
		wait_listen "$host" 8080
		wait_listen "$host" 8080 udp
	done
}

teardown() { lab_down; }

# address FAMILY NUMBER: of the host in that network.
address() { [[ $1 == ip ]] && echo "10.0.$2.99" || echo "dead:$2::99"; }

# says HOST PROTO ADDRESS...: what it hears when it asks port 8080 there, one after the other.
says() {
	on "$1" timeout --foreground 30 python3 -c '
import socket, sys
for to in sys.argv[2:]:
    kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
    s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, kind)
    s.settimeout(10)
    s.connect((to, 8080))
    s.send(b"I_M_PROXIED")
    print(s.recv(100).decode())' "${@:2}" | paste -s
}

# policy PROTO FAMILY CLIENT>SERVER CLIENT>BYSTANDER PROXY>SERVER PROXY>BYSTANDER
policy() {
	local server bystander
	server=$(address "$2" 2) bystander=$(address "$2" 3)
	assert_equal "$1 $2 client: $(says client "$1" "$server" "$bystander")" "$1 $2 client: $3	$4"
	assert_equal "$1 $2 proxy: $(says proxy "$1" "$server" "$bystander")" "$1 $2 proxy: $5	$6"
}

# kernel_rules PROTO FAMILY [local]: as the kernel's tests have them: of the server's port 8080.
kernel_rules() {
	local what flag=-4
	what="$2 daddr $(address "$2" 2) $1 dport 8080"
	[[ $2 == ip ]] || flag=-6
	on proxy nft "flush ruleset"
	on proxy ip $flag rule show | grep -q 'fwmark 0x1 lookup 100' || {
		on proxy ip $flag rule add fwmark 1 table 100
		on proxy ip $flag route add local "$(address "$2" 2)" dev lo table 100
	}
	{
		echo "add table inet selftest"
		echo "add chain inet selftest take { type filter hook prerouting priority 0; }"
		echo "add rule inet selftest take $what tproxy $2 to :12345 meta mark set 1 accept"
		[[ ! ${3-} ]] || {
			echo "add chain inet selftest own { type route hook output priority 0; }"
			echo "add rule inet selftest own $what meta mark set 1 accept"
		}
	} | on proxy nft -f -
}

@test "selftest: the kernel's rules, forwarded: tproxy-listen in socat's place" {
	bg listen proxy tproxy-listen -q -t -u --echo -o proto,client,origdst '*:12345'
	wait_listen proxy 12345
	wait_listen proxy 12345 udp
	for proto in tcp udp; do
		for family in ip ip6; do
			kernel_rules $proto $family
			policy $proto $family I_M_PROXIED PONG_bystander PONG_server PONG_bystander
		done
	done
	stop listen
	assert_equal "$(awk '{ sub(/:[0-9]*$/, "", $2); print $1, $2, $3 }' "$OUT/listen.out")" \
		"tcp 10.0.1.99 10.0.2.99:8080
tcp [dead:1::99] [dead:2::99]:8080
udp 10.0.1.99 10.0.2.99:8080
udp [dead:1::99] [dead:2::99]:8080"
}

@test "selftest: the kernel's rules, with connections of the router itself" {
	bg listen proxy tproxy-listen -q -t -u --echo -o proto,client,origdst '*:12345'
	wait_listen proxy 12345
	wait_listen proxy 12345 udp
	for proto in tcp udp; do
		for family in ip ip6; do
			kernel_rules $proto $family local
			policy $proto $family I_M_PROXIED PONG_bystander I_M_PROXIED PONG_bystander
		done
	done
	stop listen
	assert_equal "$(wc -l <"$OUT/listen.out")" 8
}

@test "selftest: rules of tproxy-setup, forwarded and local" {
	bg listen proxy tproxy-listen -q -t -u --echo 12345
	wait_listen proxy 12345 udp
	for own in '' --local; do
		on proxy tproxy-setup up -q -t -u --to 12345 --port 8080 --dst 10.0.2.99,dead:2::99 $own
		for proto in tcp udp; do
			for family in ip ip6; do
				policy $proto $family I_M_PROXIED PONG_bystander \
					"$([[ $own ]] && echo I_M_PROXIED || echo PONG_server)" PONG_bystander
			done
		done
	done
	stop listen
}

@test "selftest: tproxy-relay: each host sees the real client, and intercepted connections are recorded" {
	bg relay proxy tproxy-relay -q -t -u 12345 -o event,proto,client,origdst
	wait_listen proxy 12345 udp
	on proxy tproxy-setup up -q -t -u --to 12345 --port 8080 --dst 10.0.2.99,dead:2::99
	for family in ip ip6; do
		policy tcp $family PONG_server PONG_bystander PONG_server PONG_bystander
		policy udp $family PONG_server PONG_bystander PONG_server PONG_bystander
	done
	# (A TCP client on this very host would keep its address only: --source client-addr.)
	on proxy tproxy-setup up -q -u --to 12345 --port 8080 --dst 10.0.2.99,dead:2::99 --local
	for family in ip ip6; do
		policy udp $family PONG_server PONG_bystander PONG_server PONG_bystander
	done
	stop relay
	assert_equal "$(awk '$1 == "open" { sub(/:[0-9]*$/, "", $3); print $2, $3, $4 }' "$OUT/relay.out")" \
		"tcp 10.0.1.99 10.0.2.99:8080
udp 10.0.1.99 10.0.2.99:8080
tcp [dead:1::99] [dead:2::99]:8080
udp [dead:1::99] [dead:2::99]:8080
udp 10.0.1.99 10.0.2.99:8080
udp 10.0.2.1 10.0.2.99:8080
udp [dead:1::99] [dead:2::99]:8080
udp [dead:2::1] [dead:2::99]:8080"
	# The server has heard the client and the router, each as itself, and nobody else.
	assert_equal "$(awk '{ sub(/:[0-9]*$/, "", $2); print $1, $2 }' "$OUT/server.out" | sort -u)" \
		"tcp 10.0.1.99
tcp 10.0.2.1
tcp [dead:1::99]
tcp [dead:2::1]
udp 10.0.1.99
udp 10.0.2.1
udp [dead:1::99]
udp [dead:2::1]"
}
