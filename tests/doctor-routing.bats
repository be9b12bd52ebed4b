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

@test "a foreign rule for our mark whose table delivers here, too: nothing is lost, before our rule and after it" {
	healthy_proxy
	on proxy ip rule add pref 90 fwmark 0x1 lookup 110
	on proxy ip route add local default dev lo table 110
	on proxy ip -6 rule add pref 200 fwmark 0x1 lookup 110
	on proxy ip -6 route add local default dev lo table 110
	works
	works "$WEB6"
	finds warn routing '`ip rule: 90: fwmark 0x1 lookup 110` is not ours and matches our mark 0x1/0xff'
	finds warn routing '`ip -6 rule: 200: fwmark 0x1 lookup 110`'
	run -0 on proxy tproxy-inspect explain 192.0.2.2 198.51.100.2:80
	on proxy ip route add 198.51.100.0/24 via 203.0.113.2 table 110
	fails
	finds fail routing '`ip rule: 90: fwmark 0x1 lookup 110`'
	run -1 on proxy tproxy-inspect explain 192.0.2.2 198.51.100.2:80
	cured
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

# several_hops: the proxy is a router, and chooses one of two relays for the packets of client and server. It has one seed.
#
#   client --- proxy --- server: eight addresses
#               / \
#             r1   r2
several_hops() {
	local k
	for k in 1 2; do
		namespace r$k
		local pid=LAB_r$k
		on r$k sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
		on proxy ip link add tor$k type veth peer name router netns "${!pid}"
		on proxy ip -batch - <<-END
			address add 10.0.$k.1/24 dev tor$k
			address add fd00:$k::1/64 dev tor$k nodad
			link set tor$k up
		END
		on r$k ip -batch - <<-END
			address add 10.0.$k.2/24 dev router
			address add fd00:$k::2/64 dev router nodad
			link set router up
			route add default via 10.0.$k.1
			route add default via fd00:$k::1
		END
		on r$k tproxy-setup up -q --to 3129 -p 80
		bg relay$k r$k tproxy-relay --log events 3129
		wait_listen r$k 127.0.0.1:3129
		wait_listen r$k '[::1]:3129'
	done
	for k in {3..9}; do
		on server ip address add 198.51.100.$k/24 dev toproxy
		on server ip address add 2001:db8:2::$k/64 dev toproxy nodad
	done
	bg echo server "$TOP/tests/lib/beats" serve 80
	wait_listen server 0.0.0.0:80
	wait_listen server '[::]:80'
	on proxy ip -batch - <<-END
		route add default table 50 nexthop via 10.0.1.2 nexthop via 10.0.2.2
		route add ::/0 table 50 nexthop via fd00:1::2 nexthop via fd00:2::2
	END
	for k in toclient toserver; do
		on proxy ip rule add pref 100 iif $k lookup 50
		on proxy ip -6 rule add pref 100 iif $k lookup 50
	done
	SPEC=(--to 3129 -p 80)
}

# unanswered PREFIX SECONDS: so many of 32 connections to the server's addresses are, for that long.
unanswered() {
	on client python3 -c '
import concurrent.futures, socket, sys
def answered(n):
    try:
        with socket.create_connection((sys.argv[1] + str(2 + n % 8), 80), int(sys.argv[2])) as s:
            s.send(b".")
            return s.recv(1) == b"."
    except OSError:
        return False
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(list(pool.map(answered, range(32))).count(False))' "$1" "$2"
}

hash_by() { # POLICY FIELDS
	on proxy sysctl -qw net.ipv{4,6}.fib_multipath_hash_policy="$1" net.ipv{4,6}.fib_multipath_hash_fields="$2"
}

# same_way IP, parts IP REGEXP: connections are answered, and the doctor is content; or not, and it says why.
prefix_of() { [[ $1 == ipv4 ]] && echo 198.51.100. || echo 2001:db8:2::; }
same_way() {
	assert_equal "$(unanswered "$(prefix_of "$1")" $((10 * TIME_SCALE)))" 0
	run doctor "${SPEC[@]}"
	refute_line --regexp "^warn +multipath .*net\.$1"
}
# (One second, however slow the machine is: a SYN that is sent again has another hash.)
parts() {
	(($(unanswered "$(prefix_of "$1")" 1) > 0)) || fail "all connections are answered"
	finds warn multipath "a route with 2 next hops, and net\.$1\.fib_multipath_hash_policy=$2"
}

# (The fields: Linux 5.13.)
needs_fields() {
	on proxy test -e /proc/sys/net/ipv6/fib_multipath_hash_fields || skip "no fib_multipath_hash_fields"
}

@test "several next hops: what the doctor says of a hash is what becomes of connections" {
	needs_fields
	several_hops
	hash_by 0 0x7
	same_way ipv4
	parts ipv6 '0: .* it has the flow label, which each end chooses'
	hash_by 2 0x7
	same_way ipv4
	parts ipv6 '2: .* it has the flow label, which each end chooses'
	hash_by 1 0x37
	parts ipv4 '1: .* the one that a packet brings along, from the network card or the sender.s socket'
	parts ipv6 '1: .* the one that a packet brings along'
	local fields ip
	for fields in 0x37 0x7 0x3 0x30; do
		hash_by 3 $fields
		same_way ipv4
		same_way ipv6
	done
	for ip in ipv4 ipv6; do
		hash_by 3 0x17
		parts $ip '3 with fib_multipath_hash_fields=0x17: .* it has one port, not both'
		hash_by 3 0x36
		parts $ip '3 with fib_multipath_hash_fields=0x36: .* it has one address, not both'
	done
	hash_by 3 0x3f
	same_way ipv4
	parts ipv6 '3 with fib_multipath_hash_fields=0x3f: .* it has the flow label'
}

remedies_of() {
	on proxy tproxy-setup doctor -q --json "${SPEC[@]}" | jq -r "select(.check == \"$1\").fix // empty"
}

@test "several next hops: connections part by policy 1, though ip route get says the same for both; by the remedy they do not" {
	needs_fields
	several_hops
	hash_by 1 0x7
	# One flow, both directions.
	there='198.51.100.2 from 192.0.2.2 iif toclient ipproto tcp sport 4000 dport 80'
	back='192.0.2.2 from 198.51.100.2 iif toserver ipproto tcp sport 80 dport 4000'
	# shellcheck disable=SC2086 # words
	assert_equal "$(on proxy ip route get $there | grep -o 'via [^ ]*')" "$(on proxy ip route get $back | grep -o 'via [^ ]*')"
	parts ipv4 1
	parts ipv6 1
	run remedies_of multipath
	assert_output "$(printf 'sysctl -w net.%s.fib_multipath_hash_fields=0x37 net.%s.fib_multipath_hash_policy=3\n' ipv4 ipv4 ipv6 ipv6)"
	on proxy sh -c "$output" >/dev/null
	same_way ipv4
	same_way ipv6
	run remedies_of multipath
	assert_output ''
	# Both relays have their share of one client's connections with one server.
	for k in 1 2; do
		for ip in '198\.51\.100\.2:80' '\[2001:db8:2::2\]:80'; do
			assert_line_in relay$k.out "open .*$ip"
		done
	done
}

@test "several next hops and a kernel without policy 3: IPv4 gets the addresses alone, IPv6 has no remedy" {
	several_hops
	on proxy sysctl -qw net.ipv{4,6}.fib_multipath_hash_policy=1
	# What it has not is nothing to read.
	old() {
		on proxy unshare --mount sh -c 'for ip in ipv4 ipv6; do
			[ ! -e /proc/sys/net/$ip/fib_multipath_hash_fields ] || mount --bind /dev/null /proc/sys/net/$ip/fib_multipath_hash_fields
		done; exec "$@"' - tproxy-setup doctor -q -H "$@" "${SPEC[@]}"
	}
	run old -o severity,check,fix
	assert_line --regexp '^warn +multipath +sysctl -w net.ipv4.fib_multipath_hash_policy=0$'
	assert_line --regexp '^warn +multipath +-$'
	old -o check,fix >"$OUT/old" || :
	on proxy sh -c "$(sed -n 's/^multipath *\(sysctl .*\)/\1/p' "$OUT/old")" >/dev/null
	run old -o severity,check,evidence,why
	refute_line --partial 'net.ipv4.fib_multipath'
	assert_line --regexp 'multipath .* needs policy 3, which this kernel does not have'
	assert_equal "$(unanswered 198.51.100. $((10 * TIME_SCALE)))" 0
}

@test "several next hops: by a routing rule for a protocol and a port, or for an interface" {
	local rule
	healthy_proxy
	on proxy ip -6 route add default table 50 nexthop via 2001:db8:2::2 nexthop via 2001:db8:3::2
	healthy
	for rule in 'ipproto tcp dport 80' 'ipproto tcp sport 80' 'iif toclient' 'from 2001:db8:1::/64'; do
		# shellcheck disable=SC2086 # words
		on proxy ip -6 rule add pref 20000 $rule lookup 50
		finds warn multipath 'a route with 2 next hops, and net.ipv6.fib_multipath_hash_policy=0: '
		on proxy ip -6 rule del pref 20000
	done
	on proxy ip -6 rule add pref 20000 ipproto tcp dport 81 lookup 50
	healthy
}

@test "several next hops: more than the kernel's answer has room for are many" {
	local i
	healthy_proxy
	hash_by 1 0x7
	healthy
	for i in {1..120}; do
		echo "nexthop add id $i via 2001:db8:2::$((1000 + i)) dev toserver"
	done >"$OUT/batch"
	on proxy ip -batch "$OUT/batch"
	on proxy ip nexthop add id 1000 group "$(seq -s / 1 120)"
	on proxy ip route add default nhid 1000
	finds warn multipath 'a route with many next hops, and net.ipv4.fib_multipath_hash_policy=1: '
}

@test "several next hops: of the default route, of a prefix, and of nexthop objects" {
	healthy_proxy
	on proxy ip route add default nexthop via 198.51.100.2 nexthop via 203.0.113.2
	on proxy ip -6 route add fd01::/64 nexthop via 2001:db8:2::2 nexthop via 2001:db8:3::2
	healthy
	on proxy ip -6 route add default nexthop via 2001:db8:2::2 nexthop via 2001:db8:3::2
	finds warn multipath 'a route with 2 next hops, and net.ipv6.fib_multipath_hash_policy=0: '
	on proxy ip -6 route del default
	healthy
	SPEC=(--to 3129 -p 80 --dst fd01::/64)
	finds warn multipath 'a route with 2 next hops, and net.ipv6.fib_multipath_hash_policy=0: '
	SPEC=()
	on proxy ip nexthop add id 1 via 2001:db8:2::2 dev toserver
	on proxy ip nexthop add id 2 via 2001:db8:3::2 dev tobystander
	on proxy ip nexthop add id 3 group 1/2 type resilient buckets 64
	on proxy ip -6 route add default nhid 3
	finds warn multipath 'a route with 2 next hops, and net.ipv6.fib_multipath_hash_policy=0: '
	needs_fields
	cure
	healthy
	works
	works "$WEB6"
}
