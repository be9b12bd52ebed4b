#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay --upstream-netns: it listens in one network namespace and connects in another one.
#
#   client 192.0.2.2 --- proxy: tproxy-relay *:8080   - - in web - ->   web: 127.0.0.1 and [::1]
#   2001:db8:1::2          192.0.2.1, 2001:db8:1::1                     no link leads there
#
# web is as a container without a network of its own.

bats_require_minimum_version 1.5.0
load lib/udp
load lib/setup

export BATS_NO_PARALLELIZE_WITHIN_FILE=true

setup_file() {
	lab_up
	namespace web
	start_who web
	dgram dgram web serve 5300
}

teardown_file() {
	lab_down
}

teardown() {
	on proxy tproxy-setup down -q --all
	on web tproxy-setup down -q --all
	end relay other inner exit box bridged
}

# end NAME...: they are in namespaces that lab_down does not know.
end() {
	local name
	for name; do
		[[ ! -e $OUT/$name.pid ]] || stop "$name" || :
		rm -f "$OUT/$name.pid"
	done
}

# front NAME PORT OPTION...: a relay on proxy that connects in web.
front() {
	bg "$1" proxy tproxy-relay --upstream-netns "$LAB_web" --drain-timeout 0 "${@:3}" "$2"
	wait_line "$1.err" "connecting in network namespace $LAB_web$"
}

# answers_stay: what web's loopback addresses answer to clients comes back to the relay.
answers_stay() {
	on web tproxy-setup up -q --divert-only --local
}

# sees ADDRESS PORT FROM: the server sees the client, by its own port.
sees() {
	run -0 on client curl -sS --max-time 20 --interface "$3" --local-port "$2" "http://$1:8080/"
	assert_output "$3 $2"
}

@test "netns: a server in the other namespace sees the clients, both families; the records say so" {
	local helper near
	answers_stay
	front relay '*:8080' --upstream 127.0.0.1:80 --upstream '[::1]:80' \
		-o event,client,origdst_by,upstream_local,upstream,source_kept,reason
	sees 192.0.2.1 20001 192.0.2.2
	sees '[2001:db8:1::1]' 20002 2001:db8:1::2
	for helper in tproxy-timewait tproxy-nat; do
		assert [ "/proc/$(helper_of relay "$helper")/ns/net" -ef "/proc/$LAB_web/ns/net" ]
	done
	# Link-local addresses mean another link there.
	wait_until 10 has_link_locals
	near=$(on proxy ip -6 -j address show dev toclient scope link | jq -r '.[].addr_info[]?.local // empty')
	run on client socat -u "TCP:[$near%toproxy]:8080" -
	wait_line relay.out '^refused \[fe80::[^ ]+%toclient\]:[0-9]+ .* source$'
	wait_line relay.out '^close 192.0.2.2:20001 none 192.0.2.2:20001 127.0.0.1:80 addr\+port done$'
	wait_line relay.out '^close \[2001:db8:1::2\]:20002 none \[2001:db8:1::2\]:20002 \[::1\]:80 addr\+port done$'
}

@test "netns: UDP flows, short and long; answers come from the address and port that were asked" {
	answers_stay
	front relay '*:5300' -u --upstream 127.0.0.1:5300 --upstream '[::1]:5300' \
		-o event,client,upstream_local,packets_up,packets_down,source_kept
	run -0 ask_from client 40001 192.0.2.1 5300 200
	run -0 ask_from client 40002 2001:db8:1::1 5300 1
	# Each namespace has a loopback of its own: these clients are not at home in web.
	run -0 ask_from proxy 40003 127.0.0.1 5300 20
	run -0 ask_from proxy 40004 ::1 5300 20
	wait_line relay.out '^close \[2001:db8:1::2\]:40002 \[2001:db8:1::2\]:40002 1 1 addr\+port$'
	stop relay
	assert_line_in relay.out '^close 192.0.2.2:40001 192.0.2.2:40001 200 200 addr\+port$'
}

@test "netns: what is intercepted here connects there; without a way there it is refused, never here" {
	start_nginx
	intercept 80
	front relay "$RELAY_PORT" -o event,client,origdst,reason
	run ! on client curl -sS --max-time 5 "http://$V4/who"
	wait_line relay.out '^refused 192.0.2.2:[0-9]+ 198.51.100.2:80 upstream-unreachable$'
	# The listener's own address is one of this host, whatever web has.
	run ! on client curl -sS --max-time 5 "http://192.0.2.1:$RELAY_PORT/"
	# With an address there, it is web that answers, and its answers do not leave it.
	on web ip address add 198.51.100.2/32 dev lo
	run ! on client curl -sS --max-time 5 "http://$V4/who"
	wait_line relay.out '^refused 192.0.2.2:[0-9]+ 198.51.100.2:80 source$'
	assert_line_in relay.err 'tproxy-setup up --netns [0-9]+ --divert-only --local'
	on web ip address del 198.51.100.2/32 dev lo
	refute_line_in access.log .
}

@test "netns: pairs and explain know where the upstream half is; doctor and status blame nobody" {
	answers_stay
	intercept 8083
	front relay "$RELAY_PORT" --upstream 127.0.0.1:80 --upstream '[::1]:80'
	bg line client socat -u PTY "TCP:$V4:8083,bind=192.0.2.2:20010"
	wait_line relay.out 'open .*192.0.2.2:20010'
	run -0 on proxy tproxy-inspect pairs -H -o client,upstream_local,upstream,upstream_netns,paired_by
	assert_line --regexp "^192.0.2.2:20010 +192.0.2.2:20010 +127.0.0.1:80 +$LAB_web +relay$"
	assert_line --partial "of 1 connections the upstream half is in another network namespace: \`tproxy-inspect --netns $LAB_web\` shows it"
	run -0 on proxy tproxy-inspect --netns "$LAB_web" -H -o local,peer
	assert_line --regexp '^192.0.2.2:20010 +127.0.0.1:80$'
	run -0 on proxy tproxy-inspect explain 192.0.2.2 "$V4:8083"
	assert_line --regexp "^upstream +ok +control-socket +in network namespace $LAB_web, which is not looked at here"
	assert_line --regexp '^verdict +ok +delivered +instance default delivers it to tproxy-relay '
	run -0 on proxy tproxy-setup doctor
	refute_line --regexp '^(fail|warn) +(listener|routing|forward)'
	run -0 on proxy tproxy-setup status
	run -0 on web tproxy-setup doctor
	refute_line --regexp '^fail'
	run -0 on web tproxy-setup status --divert-only --local
	stop line || :
}

@test "netns: another relay takes over; a connection lives on" {
	answers_stay
	front relay 127.0.0.1:8081 -4 --upstream 127.0.0.1:80 --control "$OUT/control"
	front other 127.0.0.1:8081 -4 --upstream 127.0.0.1:80 --takeover -v
	refute_line_in other.err 'joined instead'
	stop relay
	run -0 on proxy curl -sS --max-time 20 http://127.0.0.1:8081/
	assert_output --regexp '^127\.0\.0\.1 [0-9]+$'
}

@test "netns: a name of ip netns; what is wrong with a name is said" {
	local pid
	run -3 on proxy tproxy-relay --upstream-netns ../web 3129
	assert_output --partial 'network namespace ../web: neither a process id nor a name under /run/netns'
	run -3 on proxy tproxy-relay --upstream-netns no-such-name 3129
	assert_output --partial '/run/netns/no-such-name: open: No such file or directory; `ip netns list` shows the names'
	true & pid=$!
	wait "$pid"
	run -3 on proxy tproxy-relay --upstream-netns "$pid" 3129
	assert_output --partial "/proc/$pid/ns/net: open: No such process"
	run -3 on proxy setpriv --bounding-set=-sys_admin tproxy-relay --upstream-netns "$LAB_web" --upstream 127.0.0.1:80 -4 8082
	assert_output --partial "network namespace $LAB_web: setns: Operation not permitted; needs CAP_SYS_ADMIN here and over it"
	run -2 on proxy tproxy-relay --upstream-netns "$LAB_web" --upstream '[fe80::1%lo]:80' -6 8082
	assert_output --partial '--upstream [fe80::1%lo]:80: is of a link of this network namespace'
	# An empty file is what ip-netns(8) leaves when the machine has been started again.
	run -3 on proxy unshare --mount sh -c 'mount -t tmpfs none /run; mkdir /run/netns; : >/run/netns/gone
		exec tproxy-relay --upstream-netns gone 3129'
	assert_output --partial '/run/netns/gone: is not a network namespace'
	answers_stay
	bg relay proxy unshare --mount sh -c 'mount -t tmpfs none /run; mkdir /run/netns; : >/run/netns/web
		mount --bind "/proc/$0/ns/net" /run/netns/web
		exec tproxy-relay --upstream-netns web --upstream 127.0.0.1:80 -4 "*:8080"' "$LAB_web"
	wait_line relay.err 'connecting in network namespace web$'
	sees 192.0.2.1 20005 192.0.2.2
}

@test "netns: its own namespace is no other one, and it says so" {
	bg relay proxy tproxy-relay --upstream-netns "$LAB_proxy" 3129
	wait_line relay.err 'listening on '
	assert_line_in relay.err "--upstream-netns $LAB_proxy: is the network namespace of this process"
}

# A way out through another namespace, as through that of a VPN:
#
#   client --- proxy: intercepted   - - ->  exit 10.0.0.1 --- 10.0.0.2 server
#                                           fd00::1           fd00::2
@test "netns: what is intercepted leaves through another namespace with the client's address" {
	start_nginx
	namespace exit
	on server ip link add toexit type veth peer name toserver netns "$LAB_exit"
	on server sh -c 'ip address add 10.0.0.2/24 dev toexit; ip address add fd00::2/64 dev toexit nodad
		ip link set toexit up
		ip rule add from 10.0.0.2 lookup 7; ip route add default via 10.0.0.1 table 7
		ip -6 rule add from fd00::2 lookup 7; ip -6 route add default via fd00::1 table 7'
	on exit sh -c 'ip address add 10.0.0.1/24 dev toserver; ip address add fd00::1/64 dev toserver nodad
		ip link set toserver up'
	on exit tproxy-setup up -q --divert-only
	intercept 80
	LAB_web=$LAB_exit front relay "$RELAY_PORT"
	run -0 on client curl -sS --max-time 20 --local-port 20006 http://10.0.0.2/who
	assert_output '192.0.2.2 20006'
	run -0 on client curl -sS --max-time 20 --local-port 20007 'http://[fd00::2]/who'
	assert_output '2001:db8:1::2 20007'
}

# A bridge, as of Docker:	client --- proxy: 172.17.0.1, fd17::1 --- 172.17.0.2, fd17::2 bridged
@test "netns: a container on a bridge needs no other namespace; the bridge's masquerading does no harm" {
	namespace bridged
	on proxy sh -c 'ip link add bridge type veth peer name eth0 netns "$0"
		ip address add 172.17.0.1/16 dev bridge; ip address add fd17::1/64 dev bridge nodad
		ip link set bridge up' "$LAB_bridged"
	on bridged sh -c 'ip address add 172.17.0.2/16 dev eth0; ip address add fd17::2/64 dev eth0 nodad
		ip link set eth0 up
		ip route add default via 172.17.0.1; ip -6 route add default via fd17::1'
	TYPE=nat in_chain postrouting 100 'ip saddr 172.17.0.0/16 oifname != "bridge" masquerade' \
		'ip6 saddr fd17::/64 oifname != "bridge" masquerade'
	peer inner bridged serve 80 who send:hello fin
	on proxy tproxy-setup up --divert-only
	bg relay proxy tproxy-relay --upstream 172.17.0.2:80 --upstream '[fd17::2]:80' '*:8080'
	wait_listen proxy 8080
	run -0 on client socat -u TCP:192.0.2.1:8080,bind=192.0.2.2:20011 -
	assert_output hello
	run -0 on client socat -u 'TCP:[2001:db8:1::1]:8080,bind=[2001:db8:1::2]:20012' -
	assert_output hello
	wait_line inner.out '^192.0.2.2 20011$'
	wait_line inner.out '^2001:db8:1::2 20012$'
	on proxy nft delete table inet other
}

# asks_with ENDS ADDRESS: a request in web whose PROXY header has these ends.
asks_with() {
	on web socat -t5 - "TCP:$2:8080" <<<"PROXY $1"$'\r\nGET / HTTP/1.0\r\n\r' | tail -n 1
}

@test "netns: a sidecar: the server sees whom the PROXY header names, both families" {
	answers_stay
	bg relay web tproxy-relay --accept-proxy 127.0.0.0/8,::1 --upstream 127.0.0.1:80 --upstream '[::1]:80' '*:8080'
	wait_listen web 8080
	run -0 asks_with 'TCP4 203.0.113.9 192.0.2.1 4711 80' 127.0.0.1
	assert_output '203.0.113.9 4711'
	run -0 asks_with 'TCP6 2001:db8:9::9 2001:db8::1 4712 80' '[::1]'
	assert_output '2001:db8:9::9 4712'
}

@test "netns: without any right, a port of the user's own rootless container" {
	root_only "a user namespace of a user's own"
	local user=(setpriv --reuid 12345 --regid 12345 --clear-groups)
	namespace box "${user[@]}" unshare --user --map-root-user
	on proxy "${user[@]}" tproxy-setup up -q --netns "$LAB_box" --divert-only --local
	start_who box inner
	bg relay proxy "${user[@]}" tproxy-relay --upstream-netns "$LAB_box" \
		--upstream 127.0.0.1:80 --upstream '[::1]:80' '*:8080'
	wait_line relay.err "connecting in network namespace $LAB_box"
	sees 192.0.2.1 20008 192.0.2.2
	sees '[2001:db8:1::1]' 20009 2001:db8:1::2
}
