#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup: what is put in place, what is left alone, what is taken away again, and what it says.
# Everything happens on host proxy of a lab; no packet is sent here (see setup-traffic.bats).

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
}

setup_on() {
	on proxy tproxy-setup "$@"
}

# What others have: must be there, and the same, whatever we do.
add_foreign() {
	on proxy nft -f - <<-'END'
		table inet tproxyish {
			chain c { type filter hook prerouting priority mangle; meta mark 0x100 accept; }
		}
		table ip filter {
			chain input { type filter hook input priority filter; tcp dport 22 accept; }
		}
	END
	for f in -4 -6; do
		on proxy ip $f rule add pref 99 fwmark 0x500/0xff00 lookup 150 proto static
		on proxy ip $f rule add pref 100 fwmark 0x600/0xff00 lookup 150 proto static
		on proxy ip $f route add local default dev lo table 150 proto static
	done
}

@test "up installs table, rules and routes, down leaves everything byte-identical to before" {
	add_foreign
	snapshot >"$OUT/before"
	run setup_on up -q --to 3129 --port 80,443
	assert_success
	assert_output ""
	run on proxy ip -4 rule
	assert_line "100:	from all fwmark 0x1/0xff lookup 100 proto 116"
	run on proxy ip -6 rule
	assert_line "100:	from all fwmark 0x1/0xff lookup 100 proto 116"
	run on proxy ip -4 route show table 100
	assert_output --regexp '^local default dev lo proto 116 '
	run on proxy ip -6 route show table 100
	assert_output --regexp '^local default dev lo proto 116 '
	run intact
	assert_success
	run setup_on down
	assert_success
	assert_output ""
	snapshot | diff "$OUT/before" -
}

@test "the second up is silent on nft monitor and ip monitor, and keeps handles and counters" {
	setup_on up -q --to 3129 --port 80 --src 192.0.2.0/24,2001:db8:1::/48 --midstream pass
	on proxy nft -a list ruleset >"$OUT/before"
	bg nft proxy nft monitor
	bg ip proxy ip monitor rule route
	# Monitors say nothing when they begin; what they see of another change shows that they have.
	wait_until 10 eval 'probe_nft; [ -s $OUT/nft.out ]'
	wait_until 10 eval 'probe_route; [ -s $OUT/ip.out ]'
	on proxy ip route flush table 9
	wait_line nft.out 'delete table'
	wait_line ip.out 'Deleted'
	cp "$OUT/nft.out" "$OUT/nft.was"
	cp "$OUT/ip.out" "$OUT/ip.was"
	run setup_on up -v --to 3129 --port 80 --src 192.0.2.0/24,2001:db8:1::/48 --midstream pass
	assert_success
	assert_line "tproxy-setup: default: already in place"
	on proxy nft add table ip probe
	on proxy ip route add 203.0.113.201 dev lo table 9
	wait_until 10 eval 'tail -n +$(($(wc -l <$OUT/nft.was) + 1)) $OUT/nft.out | grep -q .'
	wait_until 10 eval 'tail -n +$(($(wc -l <$OUT/ip.was) + 1)) $OUT/ip.out | grep -q .'
	run diff <(sed 's/# .*//' "$OUT/nft.was") <(sed 's/# .*//' "$OUT/nft.out")
	assert_output --regexp '^[0-9a,]+
> add table ip probe *(
> *)?$'
	run diff "$OUT/ip.was" "$OUT/ip.out"
	assert_output --regexp '^[0-9a,]+
> 203.0.113.201 [^
]*$'
	on proxy nft delete table ip probe
	on proxy nft -a list ruleset | diff "$OUT/before" -
}

@test "up with another specification replaces the instance, and its old routing goes" {
	snapshot >"$OUT/before"
	setup_on up -q --to 3129 --port 80 --mark 0x10/0xf0 --table 110 --pref 90
	run setup_on up -v --to 3130 --port 443 --mark 0x20/0xf0 --table 120 --pref 91 -4
	assert_success
	assert_line "tproxy-setup: default: replaced"
	run on proxy ip rule
	assert_line "91:	from all fwmark 0x20/0xf0 lookup 120 proto 116"
	refute_output --partial "lookup 110"
	run on proxy ip -6 rule
	refute_output --partial "proto 116"
	run on proxy ip route show table 110
	assert_output ""
	run on proxy nft list table inet tproxy_default
	assert_output --partial "127.0.0.1:3130"
	refute_output --partial "3129"
	setup_on down
	snapshot | diff "$OUT/before" -
}

@test "instances that differ only in preference: replaced without losing the route" {
	setup_on up -q -4 --to 3129 --pref 90
	setup_on up -q -4 --to 3129 --pref 91
	run on proxy ip -4 route show table 100
	assert_output --partial "local default dev lo"
	run on proxy ip rule
	refute_output --partial "90:"
	run intact
	assert_success
}

@test "foreign rules, routes and tables are never touched" {
	add_foreign
	foreign() {
		on proxy nft list table inet tproxyish
		on proxy nft list table ip filter
		on proxy ip rule show table 150
		on proxy ip route show table 150
	}
	foreign >"$OUT/foreign"
	setup_on up -q --to 3129
	foreign | diff "$OUT/foreign" -
	setup_on up -q --to 3129 --port 80
	foreign | diff "$OUT/foreign" -
	setup_on down --all
	foreign | diff "$OUT/foreign" -
}

@test "a routing table with foreign entries is refused, a free one is proposed, nothing is touched" {
	on proxy ip route add 203.0.113.77/32 dev lo table 100
	on proxy ip rule add pref 20 lookup 101
	snapshot >"$OUT/before"
	run setup_on up --to 3129
	assert_equal "$status" 3
	assert_output "tproxy-setup: --table 100: it holds a route that is not ours: 203.0.113.77/32; --table 102 is free"
	snapshot | diff "$OUT/before" -
	run setup_on up --to 3129 --table 101
	assert_equal "$status" 3
	assert_output --partial "a rule that is not ours leads to it"
	snapshot | diff "$OUT/before" -
}

@test "the rule and route of the classic script in our table are not taken for ours" {
	on proxy ip rule add fwmark 1 lookup 100
	on proxy ip route add local 0.0.0.0/0 dev lo table 100
	snapshot >"$OUT/before"
	run setup_on up --to 3129
	assert_equal "$status" 3
	assert_output --partial "not ours"
	setup_on down
	snapshot | diff "$OUT/before" -
}

@test "a failure to install the rules removes the routes" {
	# A table of that name that belongs to somebody else's socket: the kernel refuses the transaction.
	mkfifo "$OUT/fifo"
	bg owner proxy bash -c 'exec nft -i <>"$0"' "$OUT/fifo"
	echo 'add table inet tproxy_default { flags owner; }' >"$OUT/fifo"
	wait_until 10 eval 'on proxy nft list tables | grep -q tproxy_default'
	snapshot >"$OUT/before"
	run setup_on up --to 3129
	assert_equal "$status" 3
	assert_output --partial "Operation not permitted"
	assert_equal "${#lines[@]}" 1
	snapshot | diff "$OUT/before" -
}

@test "a failure to install the routes leaves nothing: lo is down" {
	on proxy ip link set lo down
	snapshot >"$OUT/before"
	run setup_on up --to 3129
	assert_equal "$status" 3
	assert_output --regexp "RTM_NEWROUTE.*; lo is down: ip link set lo up"
	assert_equal "${#lines[@]}" 1
	snapshot | diff "$OUT/before" -
}

@test "a failed replacement leaves the old instance as it was" {
	setup_on up -q --to 3129 --port 80
	snapshot >"$OUT/before"
	on proxy ip route add 203.0.113.77/32 dev lo table 130
	run setup_on up --to 3129 --port 81 --table 130 --mark 0x3/0xff
	assert_equal "$status" 3
	on proxy ip route flush table 130
	snapshot | diff "$OUT/before" -
	run intact
	assert_success
}

@test "without CAP_NET_ADMIN: status 3, one line that names it, nothing half-done" {
	for command in "up --to 3129" "down" "status"; do
		run on proxy setpriv --bounding-set=-net_admin --inh-caps=-net_admin \
			tproxy-setup $command
		assert_equal "$status" 3
		assert_output --partial "needs CAP_NET_ADMIN"
		assert_equal "${#lines[@]}" 1
	done
}

@test "a plan needs no privilege: without it auto is off, and plan says so" {
	run on proxy setpriv --bounding-set=-net_admin --inh-caps=-net_admin \
		tproxy-setup plan --to 3129 --port 80 --format ip
	assert_success
	assert_line --partial "--conntrack auto is taken for off"
	assert_line --partial "rule add pref 100 fwmark 0x1/0xff lookup 100 protocol 116"
}

@test "bad input is a usage error that names the offending word, before anything is touched" {
	snapshot >"$OUT/before"
	while IFS='|' read -r arguments expected; do
		run setup_on $arguments
		[ "$status" -eq 2 ] || fail "$arguments: status $status: $output"
		[[ $output == *"$expected"* ]] || fail "$arguments: $output"
		[ "${#lines[@]}" -eq 1 ] || fail "$arguments: $output"
	done <<-'END'
		|
		up|--to PORT
		up --to 0|--to 0
		up --to 65536|--to 65536
		up --to 192.0.2.1|--to 192.0.2.1
		up --to 127.0.0.1:3129|add -4
		up --to [::1]:3129|add -6
		up --to 127.0.0.1:3129 --to 127.0.0.2:3129|already given
		up --to [fe80::1%lo]:3129|scope
		up -4 --to [::1]:3129|--to
		up --to 3129 extra|extra
		up --to 3129 -- true|--
		up --to 3129 --port 80-|--port 80-
		up --to 3129 --port 0|--port 0
		up --to 3129 --port 90-80|--port 90-80
		up --to 3129 --src 192.0.2.1/24|--src 192.0.2.1/24
		up --to 3129 --src 192.0.2.0/33|--src 192.0.2.0/33
		up --to 3129 --dst 2001:db8::/129|--dst 2001:db8::/129
		up --to 3129 -4 --dst 2001:db8::/32|-4: --src or --dst has only IPv6 addresses
		up --to 3129 --src 192.0.2.0/24 --dst 2001:db8::/32|no address family in common
		up --to 3129 --mark 0x300/0xff|bits outside its mask
		up --to 3129 --mark 0|--mark 0
		up --to 3129 --mark 2/0xff|--upstream-mark
		up --to 3129 --table 254|--table 254
		up --to 3129 --table 0|--table 0
		up --to 3129 --pref 32766|--pref 32766
		up --to 3129 --ct-zone 65536|--ct-zone 65536
		up --to 3129 --name a/b|--name a/b
		up --to 3129 --name -x|--name -x
		up --to 3129 --name abcdefghijklmnopqrstuvwxyz0123456|--name
		up --to 3129 --iif an-interface-name|--iif an-interface-name
		up --to 3129 --iif e*0|--iif e*0
		up --to 3129 --no-listener perhaps|--no-listener perhaps
		up --to 3129 --midstream maybe|--midstream maybe
		up --to 3129 --divert-only|--divert-only and --to
		up --divert-only --port 80|--divert-only and --port
		up --to 3129 --drain 5s|--drain
		down --drain 5x|--drain 5x
		down --name x --all|--all
		run --to 3129|command after --
		plan --to 3129 --format xml|--format xml
		plan --format iptables --to 3129 --no-listener pass|--no-listener pass
		plan --format iptables --to 3129 --midstream pass|--midstream pass
		plan --format iptables --to 3129 --no-listener reject|--no-listener reject
		plan --format iptables --to 3129 --confirm-within 9|--confirm-within
		plan --format ip --to 3129 --confirm-within 9|--confirm-within
		plan --format systemd --to 3129 --confirm-within 9|--confirm-within
		plan --format firewalld --to 3129|without --port every port of an IPv6 address
		plan --format firewalld --to 3129 --udp --not-port 22|name the --port, or use -4
		plan --format firewalld --to 3129 --port 22 --include-own --iif lan0 --src 2001:db8:9::/48|--include-own would open
		plan --format firewalld --to 3129 --port 22 --iif lan0|name the clients with --src instead
		up --to 3129 --confirm-within 0|--confirm-within 0
		plan --to 3129 --confirm-within 0s|--confirm-within 0
		frobnicate|frobnicate
	END
	snapshot | diff "$OUT/before" -
}

@test "one-family addresses match nothing in the other family, and up says so" {
	run -0 setup_on up --to 3129 --dst 198.51.100.0/24
	assert_line "tproxy-setup: IPv6 is not intercepted: --src or --dst has no address of that family"
	run -0 setup_on up -4 --to 3129 --dst 198.51.100.0/24
	refute_output --partial "is not intercepted"
	run on proxy ip -6 rule
	refute_output --partial "proto 116"
	run on proxy nft list chain inet tproxy_default prerouting
	assert_output --partial "meta nfproto != ipv4 return"
	setup_on up -q -6 --to '[::1]:3129'
	run on proxy ip -4 rule
	refute_output --partial "proto 116"
	run intact
	assert_success
}

@test "a family that lo lacks is skipped with a notice; if it was requested that is an error" {
	on proxy sysctl -qw net.ipv6.conf.lo.disable_ipv6=1
	run setup_on up --to 3129
	assert_success
	assert_line "tproxy-setup: IPv6 is not available on lo here and is left out"
	run on proxy ip -6 rule
	refute_output --partial "proto 116"
	run intact
	assert_success
	run setup_on up -6 --to 3129
	assert_equal "$status" 3
	assert_output --partial "IPv6 is not available"
	# It comes back: up takes it in.
	on proxy sysctl -qw net.ipv6.conf.lo.disable_ipv6=0
	setup_on up -q --to 3129
	run on proxy ip -6 rule
	assert_output --partial "proto 116"
}

@test "a missing interface is a warning, a missing listener a notice" {
	run setup_on up --to 3129 --iif later0 --iif eth*
	assert_success
	assert_line "tproxy-setup: warning: --iif later0: no such interface yet"
	assert_line "tproxy-setup: 127.0.0.1:3129: nobody listens there yet; connections are rejected"
	assert_line "tproxy-setup: [::1]:3129: nobody listens there yet; connections are rejected"
}

# Each change by somebody else, what status calls it, and that up fixes it.
drift() {
	local part=$1 state=$2
	shift 2
	on proxy "$@"
	run setup_on status -o check,state
	assert_equal "$status" 1
	assert_line --regexp "^$part +$state"
	setup_on up -q --to 3129 --port 80,443 --src 192.0.2.0/24,198.51.100.7,2001:db8::/32
	run intact
	assert_success
}

@test "status shows each part that somebody removed or changed, and up fixes it" {
	setup_on up -q --to 3129 --port 80,443 --src 192.0.2.0/24,198.51.100.7,2001:db8::/32
	drift rule:ipv4 missing ip -4 rule del pref 100
	drift rule:ipv6 missing ip -6 rule del pref 100
	drift route:ipv4 missing ip -4 route flush table 100
	drift route:ipv6 missing ip -6 route flush table 100
	drift table missing nft flush ruleset
	drift chain:prerouting missing nft 'flush chain inet tproxy_default prerouting; delete chain inet tproxy_default prerouting'
	drift chain:divert changed nft flush chain inet tproxy_default divert
	drift chain:take changed nft insert rule inet tproxy_default take accept

	drift chain:extra changed nft add chain inet tproxy_default extra
	drift set:port changed nft delete element inet tproxy_default port '{ 443 }'
	drift set:src4 changed nft add element inet tproxy_default src4 '{ 203.0.113.0/24 }'
	drift set:src6 changed nft flush set inet tproxy_default src6
	drift counters changed nft add counter inet tproxy_default extra
	drift chain:spec changed nft flush chain inet tproxy_default spec
	drift checksum missing nft flush chain inet tproxy_default checksum
}

@test "fixing a part leaves the others alone: a foreign flush costs only what it flushed" {
	setup_on up -q --to 3129
	on proxy ip -4 rule del pref 100
	bg ip proxy ip monitor rule route
	wait_until 10 eval 'probe_route; [ -s $OUT/ip.out ]'
	setup_on up -q --to 3129
	on proxy ip route add 203.0.113.201 dev lo table 9
	wait_line ip.out '203.0.113.201'
	run grep -c "proto 116" "$OUT/ip.out"
	assert_output 1
}

@test "status with a specification shows how the installed one differs" {
	setup_on up -q --to 3129 --port 80
	run intact --to 3129 --port 80
	assert_success
	run setup_on status -o check,state,evidence --to 3130 --port 80
	assert_equal "$status" 1
	assert_line --regexp '^spec +changed +to 3130 \(was 3129\)$'
	run setup_on status -o check,state,evidence --to 3129 --port 443,8443 --src 192.0.2.0/24 --iif lan0
	assert_line --regexp '^spec +changed +family IPv4 \(was IPv4 and IPv6\), to 127.0.0.1:3129 \(was 3129\), iif lan0 \(was all\), port 443,8443 \(was 80\), src 192.0.2.0/24 \(was all\)'
}

@test "status: a line for each instance, 80 columns wide on a terminal, and coloured only there" {
	local line
	run -1 setup_on status
	assert_output "tproxy-setup: nothing is installed"
	setup_on up -q --name web --to 3129 --port 80,443 --src 192.0.2.0/24 --iif toclient --no-listener drop
	setup_on up -q --name dns -u -6 --to '[::1]:3130' --not-port 80-90 --mark 0x3/0xff --table 103
	run -1 setup_on status
	assert_output "\
web  tcp 80,443 from 192.0.2.0/24 via toclient -> 3129 nobody listens  intact  0 intercepted
dns  udp all ports not 80-90 IPv6 -> 3130 nobody listens  intact  0 intercepted"
	bg relay proxy tproxy-relay -4 3129
	wait_listen proxy 127.0.0.1:3129
	run -0 setup_on status --name web
	assert_output --regexp '^web  tcp 80,443 from 192.0.2.0/24 via toclient -> 3129 tproxy-relay\([0-9]+\)  intact  0 intercepted$'
	run -1 setup_on status --name dns
	run -0 setup_on up -q --name both --to 3129 --port 81
	run -1 setup_on status --name both
	assert_output --regexp '^both  tcp 81 -> 3129 tproxy-relay\([0-9]+\), nobody at \[::1\]:3129  intact  0 intercepted$'
	on proxy ip -4 rule del pref 100 fwmark 0x1/0xff
	run -1 --separate-stderr setup_on status --name web
	assert_output --regexp '  changed: rule:ipv4 missing  0 intercepted$'
	run on proxy env -u NO_COLOR TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-setup status
	echo "$output" >"$OUT/screen"
	run sed $'s/\e\\[[0-9]*m//g' "$OUT/screen"
	assert_line --regexp '^web  tcp 80,443 from 192.0.2.0/24 via toclient -> 3129 tproxy-relay\([0-9]+\)$'
	assert_line "     changed: rule:ipv4 missing  0 intercepted"
	for line in "${lines[@]}"; do [[ $line == tproxy-setup:* ]] || ((${#line} <= 80)); done
	grep -q $'\e\\[31mchanged: rule:ipv4 missing\e\\[0m' "$OUT/screen"
	run on proxy env NO_COLOR=1 TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-setup status
	refute_output --partial $'\e'
}

@test "an unknown instance: status and down list those that are installed" {
	setup_on up -q --name web --to 3129 --port 80
	setup_on up -q --name mail --to 3130 --port 25
	run -1 setup_on status --name wbe
	assert_output "tproxy-setup: wbe: not installed; installed: web, mail"
	run -0 setup_on down --name wbe
	assert_output "tproxy-setup: wbe: was not installed; installed: web, mail"
	run -1 setup_on status --name wbe -q -o check,state -H
	assert_output --regexp '^table +missing$'
}

@test "a table with a name that no instance can have is somebody else's, and its name reaches no terminal" {
	setup_on up -q --to 3129 --port 80
	on proxy nft -j -f - <<-'END'
		{"nftables": [{"add": {"table": {"family": "inet", "name": "tproxy_\u001b[43mt"}}},
			{"add": {"chain": {"family": "inet", "table": "tproxy_\u001b[43mt", "name": "in", "type": "filter", "hook": "input",
				"prio": 0, "policy": "drop"}}}]}
	END
	run on proxy env TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-setup status
	refute_output --partial '[43m'
	assert_equal "$(grep -c tcp <<<"$output")" 1
	run on proxy env TERM=xterm "$TOP/tests/lib/on-terminal" 80 tproxy-setup doctor
	refute_output --partial $'\e[43m'
	assert_output --partial '\033[43mt'
	assert_output --partial 'policy drop'
	setup_on down --all
	run on proxy nft list tables
	assert_output --partial 'inet tproxy_'
}

@test "status --json: the whole specification, as in plan" {
	local spec=(--to 3129 --port '80,8000-8100' --src '192.0.2.0/24,2001:db8::/32' --iif toclient --not-mark 0x8 --no-listener pass)
	setup_on up -q "${spec[@]}"
	setup_on status -j | jq -S 'select(.type == "instance").spec' >"$OUT/status.json"
	setup_on plan --format json "${spec[@]}" | jq -S .spec | diff - "$OUT/status.json"
	run setup_on status -j
	assert_line --index 0 --regexp '"state": ?"intact".*"served": ?false'
}

@test "evidence is text, whatever the position of its column" {
	setup_on up -q --to 3129 --port 80
	on proxy ip -4 rule del pref 100
	run setup_on status -q -H -o evidence,fix,state
	assert_line --regexp $'^pref 100 fwmark 0x1/0xff lookup 100 *\ttproxy-setup up --to 3129 --port 80 *\tmissing$'
	refute_output --partial '\040'
}

@test "status of an instance that is not installed: missing, exit 1" {
	run setup_on status -q -H -o check,state
	assert_equal "$status" 1
	assert_output --regexp '^table +missing$'
}

@test "status --json: one object per line, with the counters" {
	setup_on up -q --to 3129
	run bash -c "$(declare -f on setup_on); setup_on status -j | jq -se 'map(select(.type == \"counter\").check) | sort == [\"diverted\",\"excluded\",\"intercepted\",\"local\",\"no-listener\",\"own-mark\"]'"
	assert_success
	run bash -c "$(declare -f on setup_on); setup_on status -j | jq -se 'map(select(.type == \"part\" and .state != \"present\" and .check != \"listener:tcp\")) | length'"
	assert_output 0
}

@test "down removes what is left after somebody removed a part" {
	snapshot >"$OUT/before"
	for harm in "ip -4 rule del pref 100" "ip -6 route flush table 100" "nft flush ruleset" \
		"nft flush chain inet tproxy_default spec" \
		"nft flush chain inet tproxy_default take"; do
		setup_on up -q --to 3129 --port 80
		on proxy $harm
		setup_on down
		snapshot | diff "$OUT/before" -
	done
}

@test "down of an absent instance is success and touches nothing" {
	add_foreign
	snapshot >"$OUT/before"
	run setup_on down -v
	assert_success
	assert_output "tproxy-setup: default: was not installed"
	setup_on down --all
	snapshot | diff "$OUT/before" -
}

@test "instances side by side share equal parts, and each is removed on its own" {
	snapshot >"$OUT/before"
	setup_on up -q --name one --to 3129 --port 80
	snapshot >"$OUT/one"
	setup_on up -q --name two --to 3130 --port 81
	setup_on up -q --name three --to 3131 --port 82 --mark 0x3/0xff --table 103
	run on proxy ip rule
	assert_equal "$(grep -c 'proto 116' <<<"$output")" 2
	for n in one two three; do
		run intact --name $n
		assert_success
	done
	setup_on down --name two
	run intact --name one
	assert_success
	setup_on down --name three
	snapshot | diff "$OUT/one" -
	setup_on up -q --name two --to 3130 --port 81
	setup_on down --all
	snapshot | diff "$OUT/before" -
}

@test "an instance that would take another one's packets is refused, and the other one is named" {
	setup_on up -q --name web --to 3129 --port 80,443 --dst 198.51.100.0/24
	snapshot >"$OUT/before"
	for spec in "" "--port 443-500" "--dst 198.51.100.7" "--src 192.0.2.0/24" "-4"; do
		run setup_on up --name other --to 3130 $spec
		assert_equal "$status" 3
		assert_output --partial 'instance `web` intercepts some of these packets already'
	done
	snapshot | diff "$OUT/before" -
	for spec in "--port 8080" "--dst 203.0.113.0/24" "--not-dst 198.51.100.0/24" "--not-port 80,443" "-6"; do
		run setup_on up -q --name other --to 3130 $spec
		assert_success
		setup_on down --name other
	done
}

@test "marks that would misroute another instance's packets are refused, free ones are proposed" {
	setup_on up -q --name one --to 3129 --port 80
	for marks in "--mark 0x2/0xff --upstream-mark 0x3/0xff" "--mark 0x1/0xf" "--upstream-mark 0x1/0xff --mark 0x3/0xff" "--table 101"; do
		run setup_on up --name two --to 3130 --port 81 $marks
		assert_equal "$status" 3
		assert_output --partial 'instance `one`'
		assert_output --partial "free"
	done
}

# What `up` proposes for marks that clash, as printed, and with it up succeeds.
takes_proposal() {
	local free
	run setup_on up --name "$@"
	assert_equal "$status" 3
	free=$(sed -nE 's|.*; free: (--[^,]*).*|\1|p' <<<"$output")
	assert [ -n "$free" ]
	run setup_on up --name "$@" $free
	assert_success
	setup_on down --name "$1"
}

@test "proposed marks clash with no instance, whatever the bits of the mask" {
	setup_on up -q --name one --to 3129 --port 80 --mark 0x10000/0xff0000 --upstream-mark 0x20000/0xff0000
	takes_proposal two --to 3130 --port 81 --mark 0x10000/0xff0000 --upstream-mark 0x30000/0xff0000 --table 200
	takes_proposal two --to 3130 --port 81 --mark 0x40000/0xff0000 --upstream-mark 0x10000/0xff0000 --table 200
	takes_proposal two --to 3130 --port 81
	setup_on up -q --name three --to 3131 --port 82 --mark 0x40000/0xff0000 --upstream-mark 0x50000/0xff0000 --table 300
	takes_proposal two --to 3130 --port 81 --mark 0x10000/0xff0000 --upstream-mark 0x30000/0xff0000 --table 200
}

@test "two concurrent up end in one of the two states" {
	for _ in 1 2 3 4 5; do
		bg one proxy tproxy-setup up -q --to 3129 --port 80 --table 101 --mark 0x3/0xff
		bg two proxy tproxy-setup up -q --to 3130 --port 81 --table 102 --mark 0x4/0xff
		wait_exit one
		wait_exit two
		run intact
		assert_success
		one=$(intact --to 3129 --port 80 --table 101 --mark 0x3/0xff >/dev/null && echo yes || echo no)
		two=$(intact --to 3130 --port 81 --table 102 --mark 0x4/0xff >/dev/null && echo yes || echo no)
		assert [ "$one" != "$two" ]
		run on proxy ip rule
		assert_equal "$(grep -c 'proto 116' <<<"$output")" 1
	done
}

@test "up waits for a lock and names its holder; a stale one is removed" {
	mkfifo "$OUT/fifo"
	bg holder proxy bash -c 'exec nft -i <>"$0"' "$OUT/fifo"
	printf '%s\n' 'add table inet tproxy-lock { flags owner; }' \
		'add chain inet tproxy-lock pid-4711' >"$OUT/fifo"
	wait_until 10 eval 'on proxy nft list ruleset | grep -q pid-4711'
	bg up proxy tproxy-setup up -q --to 3129
	wait_until 10 eval '[ -e /proc/$(pid_of up)/fd ]'
	run intact
	assert_equal "$status" 1
	signal holder KILL
	run wait_exit up
	assert_success
	on proxy nft add table inet tproxy-lock
	setup_on up -q --to 3130
	run intact
	assert_success
	run on proxy nft list tables
	refute_output --partial "tproxy-lock"
}

@test "--netns acts in that namespace, by process id, and in no other" {
	snapshot >"$OUT/before"
	run on client tproxy-setup up -q --netns "$LAB_server" --to 3129
	assert_success
	run on server "$TOP/tests/lib/intact"
	assert_success
	snapshot | diff "$OUT/before" -
	run on client "$TOP/tests/lib/intact"
	assert_equal "$status" 1
	run on server tproxy-setup down --netns nonesuch
	assert_equal "$status" 3
	assert_output --partial "nonesuch"
}

@test "--netns by name, as in ip netns" {
	in_named() {
		on client unshare --mount sh -ec 'mount -t tmpfs none /run; mkdir /run/netns; touch /run/netns/web
			mount --bind "/proc/$1/ns/net" /run/netns/web; shift; exec "$@"' sh "$LAB_server" "$@"
	}
	in_named tproxy-setup up -q --netns web --to 3129
	on server "$TOP/tests/lib/intact"
	run -1 on client "$TOP/tests/lib/intact"
	in_named "$TOP/tests/lib/intact" --netns web
	in_named tproxy-setup down --netns web
	run -1 on server "$TOP/tests/lib/intact"
}

@test "overlapping prefixes and ports are merged: the same specification, the same sets" {
	setup_on up -q --to 3129 --port 80,80-90,85-100 --src 10.1.0.0/16,10.0.0.0/8,10.2.3.4 --dst 192.0.2.0/25,192.0.2.128/25
	run on proxy nft list table inet tproxy_default
	assert_line --regexp 'elements = \{ 10.0.0.0/8 \}'
	assert_line --regexp 'elements = \{ 192.0.2.0/24 \}'
	assert_line --regexp 'elements = \{ 80-100 \}'
	run setup_on up -v --to 3129 --port 80-100 --src 10.0.0.0/8 --dst 192.0.2.0/24
	assert_line "tproxy-setup: default: already in place"
}

@test "a table that nft saved and loaded again counts as installed" {
	while read -r spec; do
		setup_on up -q --to 3129 $spec
		{
			echo 'table inet tproxy_default; delete table inet tproxy_default'
			on proxy nft list table inet tproxy_default
		} >"$OUT/saved"
		on proxy nft -f - <"$OUT/saved"
		run intact --to 3129 $spec
		assert_success
		setup_on down
	done <<-'END'
		-p 80
		-p 80,443,8000-8100 --src 192.0.2.0/24,2001:db8:1::/48 --not-dst 198.51.100.7 --not-port 8080 --not-mark 0x40/0xf0
		-t -u --local --uid 0 --not-gid 1 --iif wg* --iif toclient --no-listener drop
		--midstream pass --conntrack zone-snat --include-own --mark 0x1000/0xf000 --upstream-mark 0x2000/0xf000
		-6 --conntrack zone -p 53 -u
	END
}

@test "plan --format nft is what up loads; ip is what it routes: fed to nft and sh they give the same" {
	spec="--to 3129 --port 80,443,8000-8100 --src 192.0.2.0/24,2001:db8:1::/48 --not-dst 198.51.100.7 --iif toclient --iif wg* --not-mark 0x40/0xf0 --midstream pass --conntrack zone"
	snapshot >"$OUT/before"
	setup_on plan -q $spec >"$OUT/plan.nft"
	setup_on plan -q $spec --format ip >"$OUT/plan.sh"
	snapshot | diff "$OUT/before" -
	on proxy nft -f - <"$OUT/plan.nft"
	on proxy sh -e "$OUT/plan.sh"
	snapshot >"$OUT/planned"
	on proxy nft delete table inet tproxy_default
	setup_on down
	setup_on up -q $spec
	# The checksum is what up adds after reading back.
	on proxy nft delete chain inet tproxy_default checksum 2>/dev/null ||
		on proxy nft 'flush chain inet tproxy_default checksum; delete chain inet tproxy_default checksum'
	snapshot | diff "$OUT/planned" -
}

@test "plan --format json is one object with everything" {
	run bash -c "$(declare -f on setup_on); setup_on plan -q --to 3129 --port 80 --src 192.0.2.0/24 -4 --format json | jq -e '.type == \"plan\" and .spec.port == [\"80\"] and .spec.src == [\"192.0.2.0/24\"] and .spec.to4 == \"127.0.0.1:3129\" and (.routing | length) == 1 and (.nft | startswith(\"table inet tproxy_default\"))'"
	assert_success
}

@test "plan --format iptables --divert-only is the classic rule set: sh accepts it, nothing is flushed" {
	run setup_on plan --divert-only --format iptables
	assert_success
	refute_line --regexp '^[^#].*(-F|--flush|flush)'
	assert_output --partial "-m socket --transparent"
	setup_on plan --divert-only --format iptables | on proxy sh
	run on proxy iptables -t mangle -S
	assert_output --partial "-m socket --transparent"
	run on proxy ip rule
	assert_output --partial "fwmark 0x1/0xff lookup 100"
}

@test "sh accepts plan --format iptables of a full specification" {
	setup_on plan -q --to 3129 --port 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33-40 \
		--src 192.0.2.0/24,2001:db8:1::/48 --not-port 22 --iif toclient --format iptables |
		on proxy sh
	run on proxy iptables -t mangle -S
	assert_output --partial "-j TPROXY --on-port 3129 --on-ip 127.0.0.1 --tproxy-mark 0x1/0xff"
	run on proxy ip6tables -t mangle -S
	assert_output --partial "-j TPROXY --on-port 3129 --on-ip ::1 --tproxy-mark 0x1/0xff"
}

@test "plan --format iptables, ip: the printed undo commands leave nothing; down says that it leaves the rules" {
	local spec
	for spec in "--divert-only --format iptables" "--to 3129 --port 80 --iif toclient --format iptables" \
		"--to 3129 -4 --name a.b --table 101 --format iptables" "--to 3129 --format ip"; do
		setup_on plan -q $spec >"$OUT/plan"
		# Once used, iptables keeps its table.
		on proxy sh -c 'for i in iptables ip6tables; do $i -t mangle -A PREROUTING -j RETURN; $i -t mangle -D PREROUTING 1; done'
		snapshot >"$OUT/before"
		on proxy sh "$OUT/plan"
		if [[ $spec == *iptables ]]; then
			snapshot >"$OUT/planned"
			[[ $spec == *a.b* ]] && run -0 setup_on down --name a.b || run -0 setup_on down
			assert_output --regexp 'rules of a plan for iptables are left \(iptables -t mangle, tproxy_[a-z.]*_div\)'
			snapshot | diff "$OUT/planned" -
		fi
		sed -n 's/^#undo //p' "$OUT/plan" | on proxy sh -e
		snapshot | diff "$OUT/before" -
	done
}

@test "after plan | nft -f - status has no checksums, and does not report everything as changed" {
	setup_on plan --to 3129 --port 80 | on proxy nft -f -
	setup_on plan --to 3129 --port 80 --format ip | on proxy sh
	run -1 setup_on status -q
	assert_output "default  tcp 80 -> 3129 nobody listens  changed: checksum missing  0 intercepted"
	run -1 setup_on status -q -H -o state,check
	refute_line --regexp '^changed'
	setup_on up -q --to 3129 --port 80
	run -0 intact
}

@test "plan needs a rule set that can be read, but changes nothing at all" {
	bg nft proxy nft monitor
	wait_until 10 eval 'probe_nft; [ -s $OUT/nft.out ]'
	wait_line nft.out 'delete table'
	wc -l <"$OUT/nft.out" >"$OUT/lines"
	for f in nft ip iptables json; do
		setup_on plan -q --to 3129 --format $f >/dev/null
	done
	on proxy nft add table ip probe
	wait_until 10 eval '[ $(wc -l <$OUT/nft.out) -gt $(<$OUT/lines) ]'
	run tail -n +$(($(<"$OUT/lines") + 1)) "$OUT/nft.out"
	assert_output --partial "add table ip probe"
	refute_output --partial "tproxy"
}

@test "status names the command that fixes it, which is the specification" {
	setup_on up -q --to 3129 --port 80,443 --src 192.0.2.0/24 --not-dst 198.51.100.7 --iif 'wg*' \
		--mark 0x3/0xff --local --uid 0 -t -u
	on proxy nft flush chain inet tproxy_default divert
	run setup_on status -H -o fix
	assert_equal "$status" 1
	fix=$(grep -m1 '^tproxy-setup up ' <<<"$output")
	on proxy bash -c "${fix/up/up -q}"
	run intact --to 3129 --port 80,443 --src 192.0.2.0/24 --not-dst 198.51.100.7 \
		--iif 'wg*' --mark 0x3/0xff --local --uid 0 -t -u
	assert_success
}

@test "status names the listener that would get the connections" {
	setup_on up -q --to 3129
	run setup_on status -H -o check,state,evidence
	assert_failure 1
	assert_line --regexp '^listener:tcp +missing +127.0.0.1:3129: nobody listens'
	bg listener proxy socat TCP4-LISTEN:3129,bind=127.0.0.1 -
	wait_listen proxy 127.0.0.1:3129
	run setup_on status -H -o check,state,evidence
	assert_line --regexp '^listener:tcp +changed +127.0.0.1:3129: socat .*, not transparent'
}

@test "--confirm-within: without confirm interception ends by itself, in the kernel" {
	run setup_on up -q --to 3129 --port 80 --confirm-within 1m
	assert_success
	run setup_on status -H -o check,state,evidence
	assert_failure 1
	assert_line --regexp '^lease +present +interception ends in [1-9][0-9]* s unless'
	run setup_on up -q --to 3129 --port 80 --confirm-within 1s
	assert_success
	wait_until 10 eval '! intact >/dev/null 2>&1'
	run setup_on status -H -o check,state,evidence
	assert_line --regexp '^lease +missing +nobody confirmed'
	run setup_on confirm
	assert_equal "$status" 1
	assert_output --partial "too late"
	setup_on up -q --to 3129 --port 80
	run intact
	assert_success
}

@test "confirm in time keeps the instance; with nothing pending it says so" {
	run setup_on confirm
	assert_equal "$status" 1
	assert_output "tproxy-setup: default: nothing waits for confirmation"
	setup_on up -q --to 3129 --confirm-within 1m
	on proxy nft -a list chains >"$OUT/before"
	setup_on confirm
	run on proxy nft list set inet tproxy_default armed
	refute_output --partial "expires"
	assert_output --partial "tcp"
	run intact
	assert_success
	run setup_on confirm
	assert_equal "$status" 1
	# And it is what up would make it: nothing to do.
	run setup_on up -v --to 3129
	assert_line "tproxy-setup: default: already in place"
}

@test "status looks for each listener once, and for its owner" {
	bg relay proxy tproxy-relay --log off 3129
	wait_listen proxy 3129
	on proxy tproxy-setup up -q --to 3129 --port 80
	# The leak detector does not run under strace.
	run -0 on proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -e trace=sendmsg,openat -o "$OUT/calls" tproxy-setup status -v
	# Two listeners; the kernel has a list of sockets for each family.
	assert_equal "$(grep -c SOCK_DIAG_BY_FAMILY "$OUT/calls")" 4
	assert_equal "$(grep -c "openat([0-9]*, .$(pid_of relay).," "$OUT/calls")" 1
}
