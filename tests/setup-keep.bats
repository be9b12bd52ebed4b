#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup keep: what others remove from, or change in, an instance is there again at once. Everything happens
# on host proxy of a lab.
#
#   client 192.0.2.2 --- proxy: keep, relay --- server 198.51.100.2: port 80

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
}

start_keep() {
	bg keep proxy env NOTIFY_SOCKET= tproxy-setup keep -v "$@"
}

told() {
	grep -Ec "$1" "$OUT/keep.err"
}

told_more() {
	(($(told "$1") > $2))
}

# after COMMAND MESSAGE: keep says that (or just `changed`, if it was looking at that moment), and all is in place as
# it was.
after() {
	local message="^tproxy-setup: default: ($2|changed \(nft\); installed again)\$" before
	before=$(told "$message") || :
	on proxy sh -c "$1"
	wait_until 10 told_more "$message" "$before"
	wait_until 10 intact
}

@test "rules that are flushed, a chain, a rule, a set, the table asleep, a policy rule, a route: installed again, and it is told whose doing" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	after 'nft flush ruleset' 'its rules were gone \(nft\); installed again'
	after 'nft flush chain inet tproxy_default divert' 'chain:divert changed \(nft\); installed again'
	after 'nft insert rule inet tproxy_default take accept' 'chain:take changed \(nft\); installed again'
	after 'nft add element inet tproxy_default port { 99 }' '.*set:port changed.* \(nft\); installed again'
	after 'ip rule del pref 100' 'its routing had changed; installed again'
	after 'ip -6 route flush table 100' 'its routing had changed; installed again'
	after 'ip link set lo down; ip link set lo up' '.*installed again.*'
	stop keep
	run intact
	assert_success
}

@test "rules that track connections come and go: the conntrack zone follows them" {
	zoned() { on proxy nft list chain inet tproxy_default spec | grep -q zone=zone; }
	start_keep --to 3129 --port 80
	wait_until 10 intact
	refute zoned
	on proxy nft -f - <<-'END'
		table ip x {
			chain c {
				type filter hook input priority 0
				ct state invalid drop
			}
		}
	END
	wait_line keep.err 'adapted to rules of others \(nft\)'
	wait_until 10 zoned
	on proxy nft delete table ip x
	wait_until 10 eval '! zoned'
	run intact
	assert_success
}

@test "what tproxy-setup does is accepted: another up is kept, down ends it; confirm and a drain are left alone" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	on proxy tproxy-setup up -q --to 3129 --port 443
	wait_line keep.err 'another `up`, which is kept now'
	on proxy nft flush ruleset
	wait_line keep.err 'gone'
	wait_until 10 intact
	run on proxy tproxy-setup status -q
	assert_output --partial ' 443 '
	on proxy tproxy-setup up -q --to 3129 --port 444 --confirm-within 1h
	probe_nft
	run on proxy nft list set inet tproxy_default armed
	assert_output --partial expires
	on proxy tproxy-setup confirm
	on proxy tproxy-setup down
	wait_exit keep
	assert_line_in keep.err 'default: was removed by tproxy-setup, and is kept no longer'
	run on proxy tproxy-setup status
	assert_output --partial 'nothing is installed'
}

@test "rules that are flushed again and again, also while they are installed, and an up that fails in a gap: no removal" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	for i in {1..8}; do
		on proxy sh -c 'for j in 1 2 3 4 5 6; do nft flush ruleset; done'
		wait_until 10 intact
	done
	# What an up does that cannot finish, and takes its rules back.
	on proxy sh -c 'cp -s "$(command -v nft)" "$0/tproxy-setup"; exec "$0/tproxy-setup" delete table inet tproxy_default' \
		"$BATS_TEST_TMPDIR"
	wait_until 10 intact
	refute_line_in keep.err 'kept no longer'
}

@test "down counts while keep looks at rules of others by the thousand" {
	on proxy nft 'add table ip big; add chain ip big c'
	# In pieces, as a user's socket has less room.
	for i in {1..16}; do
		for j in {1..500}; do
			echo "add rule ip big c ip saddr 10.0.$i.$((j / 2)) tcp dport 80 counter"
		done | on proxy nft -f -
	done
	for i in 1 2 3; do
		start_keep --to 3129 --port 80
		wait_line keep.err installed
		on proxy nft add table ip "other$i"
		on proxy tproxy-setup down
		wait_exit keep
		run on proxy nft list table inet tproxy_default
		assert_failure
	done
}

@test "who holds the lock is killed, of which the kernel tells nobody: keep goes on" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	mkfifo "$OUT/holder.in"
	bg holder proxy bash -c 'exec nft -i <>"$0"' "$OUT/holder.in"
	echo 'create table inet tproxy-lock { flags owner; }' >"$OUT/holder.in"
	wait_until 10 on proxy nft list table inet tproxy-lock
	on proxy nft flush chain inet tproxy_default divert
	# It does not work meanwhile.
	wait_until 10 eval '[[ $(cat "/proc/$(pid_of keep)/wchan") == *poll* ]]'
	run intact
	assert_failure
	stop holder KILL || :
	wait_until 10 intact
}

@test "what waits for confirmation, or did in vain, is not installed again, whoever deletes it; an up is kept again" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	for time in 1h 1s; do
		left=$(told 'left to .confirm.') gone=$(told 'gone before it was confirmed') || :
		on proxy tproxy-setup up -q --to 3129 --port 443 --confirm-within $time
		wait_until 10 told_more 'left to .confirm.' "${left:-0}"
		[[ $time == 1h ]] || wait_until 10 eval '! on proxy tproxy-setup status -q'
		on proxy nft flush ruleset
		wait_until 10 told_more 'gone before it was confirmed' "${gone:-0}"
		run on proxy nft list table inet tproxy_default
		assert_failure
	done
	on proxy tproxy-setup up -q --to 3129 --port 443
	wait_line keep.err 'another .up., which is kept now'
	on proxy nft flush ruleset
	wait_until 10 intact
	stop keep
	on proxy tproxy-setup down
	on proxy tproxy-setup up -q --to 3129 --port 80 --confirm-within 1h
	run on proxy tproxy-setup keep
	assert_equal "$status" 1
	assert_output --partial 'default: not confirmed'
}

@test "IPv6 that is lost is left out, which is said, and intercepted again when it is back; also if it was not there at first" {
	ipv6() { on proxy sysctl -qw "net.ipv6.conf.lo.disable_ipv6=$((1 - $1))"; }
	kept() { on proxy nft list chain inet tproxy_default spec | grep -q "family=$1 "; }
	start_keep --to 3129 --port 80
	wait_until 10 intact
	for i in 1 2; do
		ipv6 0
		wait_until 10 kept 4
		ipv6 1
		probe_nft
		wait_until 10 kept 46
	done
	assert_equal "$(grep -c 'IPv6 is not available' "$OUT/keep.err")" 2
	ipv6 0
	wait_until 10 kept 4
	stop keep
	start_keep --to 3129 --port 80
	wait_line keep.err 'already in place'
	ipv6 1
	probe_nft
	wait_until 10 kept 46
	run intact
	assert_success
}

@test "without options it keeps what is installed, and puts that right; nothing installed is said" {
	run on proxy tproxy-setup keep
	assert_equal "$status" 1
	assert_output --partial 'default: not installed; what is to be kept?'
	on proxy tproxy-setup up -q --to 3129 --port 80 --src 192.0.2.0/24
	on proxy nft flush chain inet tproxy_default divert
	start_keep
	wait_until 10 intact
	on proxy nft flush ruleset
	wait_until 10 intact
	run on proxy tproxy-setup status -q
	assert_output --partial 'from 192.0.2.0/24'
}

@test "what cannot be installed again is said once, and tried until it can" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	on proxy ip route add 203.0.113.0/24 dev lo table 100
	on proxy nft flush ruleset
	wait_line keep.err 'not installed again: --table 100: it holds a route that is not ours'
	probe_nft
	probe_nft
	on proxy ip route del 203.0.113.0/24 table 100
	probe_nft
	wait_until 15 intact
	assert_equal "$(grep -c 'not installed' "$OUT/keep.err")" 1
}

@test "what it does itself does not wake it; in a fight it gets slower, and says so" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	on proxy ip -6 route add 2001:db8:77::/64 dev lo table 100
	on proxy nft flush ruleset
	wait_line keep.err 'not installed again: --table 100'
	before=$SECONDS
	bg monitor proxy stdbuf -oL nft monitor
	locks() { (($(grep -Ec '^(add|create) table inet tproxy-lock' "$OUT/monitor.out") >= $1)); }
	wait_until 30 locks 2
	((SECONDS - before >= 3))
	on proxy ip -6 route del 2001:db8:77::/64 dev lo table 100
	wait_until 15 intact
	wait_until 30 eval 'on proxy nft flush ruleset; told "changed again and again"'
	wait_until 10 intact
}

@test "what cannot be installed at first is tried, too" {
	on proxy ip route add 203.0.113.0/24 dev lo table 100
	start_keep --to 3129 --port 80
	wait_line keep.err 'default: not installed: --table 100: it holds a route that is not ours'
	on proxy ip route del 203.0.113.0/24 table 100
	wait_until 15 intact
	wait_line keep.err 'default: installed$'
}

@test "the elements of sets, and routes, of others cost nothing" {
	start_keep --to 3129 --port 80
	wait_until 10 intact
	on proxy nft 'add table ip ban; add set ip ban s { type ipv4_addr; }'
	# It has looked at that.
	wait_until 10 eval '[[ $(cat "/proc/$(pid_of keep)/wchan") == *poll* ]]'
	on proxy nft delete table ip ban
	on proxy nft 'add table ip ban; add set ip ban s { type ipv4_addr; }'
	on proxy strace -f -qq -e trace=socket -o "$OUT/sockets" -p "$(pid_of keep)" 3>&- &
	wait_until 10 eval 'grep -q "TracerPid:	[1-9]" "/proc/$(pid_of keep)/status"'
	quiet() { # it has done what it would
		local had
		had=$(wc -l <"$OUT/sockets")
		sleep 1
		(($(wc -l <"$OUT/sockets") == had))
	}
	wait_until 10 quiet
	: >"$OUT/sockets"
	for i in {1..20}; do
		on proxy nft add element ip ban s "{ 192.0.2.$i }"
		on proxy ip route add 203.0.113.$i dev lo table 9
	done
	assert_equal "$(wc -l <"$OUT/sockets")" 0
	on proxy nft add chain ip ban c
	wait_until 10 test -s "$OUT/sockets"
}
