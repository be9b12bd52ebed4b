#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2034 # SPEC is for lib/doctor.bash
#
# tproxy-setup doctor: foreign routing rules and routes, and the path of the servers' answers.
#
#   client ==relay on proxy, somebody's routing==> nginx on server 198.51.100.2, 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
}

teardown() {
	lab_down
}

@test "a foreign rule before ours routes intercepted packets elsewhere" {
	healthy_proxy
	on proxy ip route add default via 198.51.100.2 table 50
	on proxy ip rule add pref 50 iif toclient lookup 50
	fails
	works "$WEB6"
	finds fail delivery 'mark 0x1, from toclient: table 50, by the rule with preference 50, which is not ours'
	apply_fix delivery
	works
	healthy
}

@test "the same before up, for one family only" {
	start_nginx
	relay
	on proxy ip -6 route add default via 2001:db8:2::2 table 50
	on proxy ip -6 rule add pref 50 iif toclient lookup 50
	on proxy tproxy-setup up -q --to 3129 -p 80
	works
	fails "$WEB6"
	on proxy tproxy-setup down
	SPEC=(--to 3129 -p 80)
	finds fail delivery 'from toclient: table 50'
	apply_fix delivery
	SPEC=()
	works "$WEB6"
	healthy
}

# A program on the proxy that marks what it wants routed by its own table, to the bystander's host.
@test "a foreign rule for our mark: its packets are delivered here, and lost" {
	start_nginx
	relay
	on bystander ip address add 198.18.0.1/32 dev lo
	bg web bystander tproxy-listen --redirect --reply elsewhere 198.18.0.1:8080 -4
	wait_listen bystander 8080
	on proxy ip route add default via 203.0.113.2 table 200
	on proxy ip rule add pref 300 fwmark 0x1 lookup 200
	on proxy nft -f - <<-'END'
		table inet other {
			chain pre { type filter hook prerouting priority mangle; tcp dport 8080 meta mark set 0x1; }
		}
	END
	other() { on client timeout "${LIMIT:-30}" nc -w "${LIMIT:-20}" 198.18.0.1 8080; }
	run other
	assert_output --partial elsewhere
	on proxy tproxy-setup up -q --to 3129 -p 80
	LIMIT=3 run other
	refute_output --partial elsewhere
	finds fail routing '`ip rule: 300: fwmark 0x1 lookup 200` is not ours and matches our mark 0x1/0xff'
	apply_fix routing
	works
	run other
	assert_output --partial elsewhere
	run doctor
	refute_line --regexp '^fail'
}

@test "foreign rules with their own mark (wg-quick's, Tailscale's) are fine" {
	healthy_proxy
	on proxy ip rule add not fwmark 0xca6c lookup 51820
	on proxy ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main
	works
	healthy
}

@test "up refuses a table with foreign routes, and prints a free one" {
	start_nginx
	relay
	on proxy ip route add 10.1.0.0/16 via 198.51.100.2 table 100
	run on proxy tproxy-setup up -q --to 3129 -p 80
	assert_failure 3
	SPEC=(--to 3129 -p 80)
	finds fail routing 'routing table 100: it holds a route that is not ours: 10.1.0.0/16'
	apply_fix routing
	SPEC=()
	works
	healthy
	assert_equal "$(on proxy ip route show table 100)" "10.1.0.0/16 via 198.51.100.2 dev toserver "
}

# For settings its name and its rights are what counts; what it does with them is in the test after
# these. start_networkd HOST [COMMAND...]: run by COMMAND.
start_networkd() {
	mkdir -p "$OUT/bin"
	cp -n "$(type -P sleep)" "$OUT/bin/systemd-networkd"
	bg networkd "$1" "${@:2}" "$OUT/bin/systemd-networkd" infinity
	wait_until 10 eval '[[ $(cat "/proc/$(pid_of networkd)/comm") == systemd-network ]]'
}

# The doctor with these lines as networkd's configuration.
doctor_with_networkd_conf() {
	on proxy unshare --mount bash -c '
		mount -t tmpfs none /etc
		mkdir -p /etc/systemd/networkd.conf.d
		printf "%b" "$1" >/etc/systemd/networkd.conf.d/a.conf
		exec tproxy-setup doctor -v -H -o severity,check,evidence 2>/dev/null' sh "$1"
}

@test "systemd-networkd is reported, unless it leaves foreign rules alone, or runs elsewhere" {
	healthy_proxy
	start_networkd client
	healthy
	start_networkd proxy
	run doctor_with_networkd_conf '[Network]\nManageForeignRoutes=no\n[Other]\nManageForeignRoutingPolicyRules=no\n'
	assert_line --regexp '^warn +networkd .*systemd-networkd \(pid [0-9]+\) runs with ManageForeignRoutingPolicyRules=yes \(the default\)'
	run doctor_with_networkd_conf '[Network]\nManageForeignRoutingPolicyRules = false\n'
	assert_line --regexp '^ok +networkd .*leaves foreign rules alone \(/etc/systemd/networkd.conf.d/a.conf\)'
}

@test "a process named systemd-networkd that may not change rules is ignored" {
	healthy_proxy
	start_networkd proxy setpriv --bounding-set=-net_admin
	healthy
	refute_line --partial "pid $(pid_of networkd)"
	stop networkd KILL || :
	start_networkd proxy unshare --user --map-root-user
	healthy
	refute_line --partial "pid $(pid_of networkd)"
}

# The real one, with directories of its own. It takes a read-only /sys for a container's, where it does
# not wait for udev. It is to configure interface NAME, which comes later.
real_networkd() {
	bg networkd proxy unshare --mount bash -ec '
		mount -t sysfs -o ro none /sys
		mount -t tmpfs none /run
		mkdir -p /run/systemd/{netif/{links,leases,lldp},network} /run/dbus
		chown -R systemd-network: /run/systemd/netif
		mkdir -p "$2"
		mount --bind "$2" /etc/systemd
		mkdir -p /etc/systemd/network
		printf "[Match]\nName=%s\n[Network]\nLinkLocalAddressing=no\n" "$1" >/etc/systemd/network/a.network
		SYSTEMD_LOG_LEVEL=debug exec /lib/systemd/systemd-networkd' sh "$1" "$OUT/etc"
	wait_line networkd.err '^Enumeration completed'
}

has_rules() {
	(($(on proxy sh -c 'ip rule; ip -6 rule' | grep -c 'proto 116') == $1))
}

# new_interface NAME: and networkd has configured it.
new_interface() {
	on proxy ip link add "$1" type veth peer name "$1-peer"
	on proxy ip link set "$1-peer" up
	wait_line networkd.err "^$1: State changed: configuring -> configured"
}

@test "systemd-networkd removes our rules when it configures an interface, until it is configured not to" {
	root_only "it changes to a user of its own"
	[[ -x /lib/systemd/systemd-networkd ]] || skip "no systemd-networkd"
	healthy_proxy
	works
	real_networkd later0
	finds warn networkd 'systemd-networkd \(pid [0-9]+\) runs with ManageForeignRoutingPolicyRules=yes'
	has_rules 2
	new_interface later0
	wait_until 10 has_rules 0
	fails
	finds fail routing 'our rule is missing in `ip rule`'
	refute_output --partial "route is missing"
	apply_fix routing
	works
	works "$WEB6"
	stop networkd
	# What the doctor prints, but for the restart.
	real_networkd later1
	command=$(fix_of networkd)
	assert_regex "$command" ' && systemctl restart systemd-networkd$'
	on proxy nsenter --mount="/proc/$(pid_of networkd)/ns/mnt" bash -c "${command% && systemctl*}"
	stop networkd
	real_networkd later1
	new_interface later1
	has_rules 2
	works
	run on proxy nsenter --mount="/proc/$(pid_of networkd)/ns/mnt" tproxy-setup doctor -v -H -o severity,check,evidence
	assert_line --regexp '^ok +networkd '
}

# The server has a way of its own to the client's network, as with two gateways on one segment:
#   client <------------------------- server
#   client ==relay on proxy=========> server
@test "servers' answers that bypass the proxy: found by the connects that hang" {
	healthy_proxy
	works
	on server ip link add direct type veth peer name direct netns "$LAB_client"
	on server ip link set direct up
	on client ip link set direct up
	on server ip route add 192.0.2.2/32 dev direct
	on server ip neigh add 192.0.2.2 lladdr "$(on client ip -j link show direct | jq -r '.[0].address')" dev direct
	bg slow client curl -sS --max-time 20 -o /dev/null "http://$WEB4/who"
	wait_until 15 waits
	run jq -r 'select(.check == "answers").evidence' "$OUT/findings"
	assert_output --regexp '^[0-9]+ connections? as 192.0.2.2 to 198.51.100.2:80: sent again and again'
	# What is to be done elsewhere is no command: run here it would do harm.
	run jq -r '.fix // empty' "$OUT/findings"
	assert_output ''
	jq -r 'select(.check == "answers").why' "$OUT/findings" >"$OUT/why"
	assert_line_in why 'on 198.51.100.2 it takes `ip route add 192.0.2.2 via 198.51.100.1`'
	on server ip route del 192.0.2.2/32 dev direct
	on server sh -c "$(sed 's/.*`\(.*\)`.*/\1/' "$OUT/why")"
	fresh_relay
	works
	healthy
}

waits() {
	doctor --json >"$OUT/findings"
	grep -q '"check":"answers","severity":"warn"' "$OUT/findings"
}

@test "no interface on which packets could arrive: nothing would be intercepted" {
	SPEC=(--to 3129 -p 80 --iif wlan9)
	finds warn delivery 'no interface on which intercepted packets could come in'
}

# The proxy's own programs, relayed by the proxy itself: with their address, and a port of its own.
own_proxy() {
	start_nginx
	bg relay proxy tproxy-relay --log events --source client-addr 3129
	wait_listen proxy 127.0.0.1:3129
	on proxy tproxy-setup up -q --to 3129 -p 80 --local
}

own() {
	on proxy curl -sS --max-time "${LIMIT-20}" "http://$WEB4/who"
}

relayed() {
	grep -c ' open .* 198.51.100.1:[0-9]* 198.51.100.2:80' "$OUT/relay.out" || :
}

@test "--local: a foreign rule before ours routes this host's connections elsewhere" {
	own_proxy
	run own
	assert_success
	assert_equal "$(relayed)" 1
	healthy
	on proxy ip route add default via 198.51.100.2 table 50
	on proxy ip rule add pref 50 iif lo lookup 50
	LIMIT=2 run own
	assert_equal "$(relayed)" 1 # no more
	finds fail delivery 'mark 0x1, from this host: table 50, by the rule with preference 50'
	apply_fix delivery
	run own
	assert_success
	assert_equal "$(relayed)" 2
	healthy
}

@test "--local and an INPUT rule that drops packets on lo with a foreign destination" {
	on proxy nft -f - <<-'END'
		table inet filter {
			chain input { type filter hook input priority filter; ct state established accept; iifname lo fib daddr type != local drop; }
		}
	END
	own_proxy
	LIMIT=2 run own
	assert_failure
	finds fail input 'inet filter, chain input: `iifname "lo" fib daddr type != local drop`'
	apply_fix input
	run own
	assert_success
	assert_equal "$(relayed)" 1
	healthy
}

@test "IPsec policies: the first one by priority decides" {
	healthy_proxy
	on proxy ip xfrm policy add dir in src 192.0.2.0/24 dst 198.51.100.0/24 priority 10
	on proxy ip xfrm policy add dir in src 0.0.0.0/0 dst 198.51.100.0/24 priority 20 action block
	works
	healthy
	on proxy ip xfrm policy delete dir in src 192.0.2.0/24 dst 198.51.100.0/24
	fails
	finds fail xfrm 'blocks what is delivered from 0.0.0.0/0 to 198.51.100.0/24'
	# Of two that are equal the older one does.
	on proxy ip xfrm policy add dir in src 192.0.2.0/24 dst 198.51.100.0/24 priority 20
	fails
	finds fail xfrm 'blocks what is delivered from 0.0.0.0/0 to 198.51.100.0/24'
	apply_fix xfrm
	fresh_relay
	works
	healthy
}

# spread ADDRESS: by how many of the next hops twenty connections of one client to one address leave.
spread() {
	on proxy nft 'add table inet hops; flush table inet hops; delete table inet hops; table inet hops {
		chain f { type filter hook forward priority 0; oifname toserver counter; oifname tobystander counter; }; }'
	on client python3 -c '
import socket, sys
for n in range(20):
    s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
    s.setblocking(False)
    s.connect_ex((sys.argv[1], 8080))
    s.close()' "$1"
	on proxy nft list table inet hops | grep -c 'packets [1-9]'
	on proxy nft delete table inet hops
}

@test "several next hops: the directions of an IPv6 connection part by their flow labels, unless ports are hashed" {
	healthy_proxy
	on proxy ip route add 10.1.0.0/16 nexthop via 198.51.100.2 nexthop via 203.0.113.2
	on proxy ip route add default nexthop via 198.51.100.2 nexthop via 203.0.113.2
	on proxy ip -6 route add fd01::/64 nexthop via 2001:db8:2::2 nexthop via 2001:db8:3::2
	# IPv4's default has both addresses, in either direction the same: one path; IPv6's has the label.
	assert_equal "$(spread 10.1.0.1) $(spread fd01::1)" '1 2'
	healthy
	on proxy ip -6 route add default nexthop via 2001:db8:2::2 nexthop via 2001:db8:3::2
	finds warn multipath 'a route with 2 next hops, and net.ipv6.fib_multipath_hash_policy=0: .* the flow label, which each end chooses'
	apply_fix multipath
	healthy
	# Nexthop objects; fields of one's own.
	on proxy ip -6 route del default
	on proxy ip nexthop add id 1 via 2001:db8:2::2 dev toserver
	on proxy ip nexthop add id 2 via 2001:db8:3::2 dev tobystander
	on proxy ip nexthop add id 3 group 1/2 type resilient buckets 64
	on proxy ip -6 route add default nhid 3
	healthy
	if on proxy test -e /proc/sys/net/ipv6/fib_multipath_hash_fields; then
		on proxy sysctl -qw net.ipv6.fib_multipath_hash_policy=3 net.ipv6.fib_multipath_hash_fields=0x33
		healthy
		on proxy sysctl -qw net.ipv6.fib_multipath_hash_fields=0x13
		finds warn multipath 'fib_multipath_hash_policy=3: .* it has one port, not both'
		on proxy sysctl -qw net.ipv4.fib_multipath_hash_policy=3 net.ipv4.fib_multipath_hash_fields=0x1
		finds warn multipath 'net.ipv4.fib_multipath_hash_policy=3: .* it has one address, not both'
		cure
	else
		on proxy sysctl -qw net.ipv6.fib_multipath_hash_policy=0
		finds warn multipath 'a route with 2 next hops'
		cure
	fi
	healthy
	works
	works "$WEB6"
}
