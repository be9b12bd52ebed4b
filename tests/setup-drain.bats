#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup down: whose connections it waits for and ends, and whose not.
#
#   client 192.0.2.2 --- proxy --- server 198.51.100.2      an echo server on each side
#                          |
#                      bystander 203.0.113.2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
}

PEER=$TOP/tests/lib/peer
C4=192.0.2.2 S4=198.51.100.2 B4=203.0.113.2
C6=2001:db8:1::2 S6=2001:db8:2::2

# echo_on HOST PORT: says again what it hears, both families.
echo_on() {
	bg "echo-$1-$2" "$1" "$PEER" serve "$2" echo
	wait_listen "$1" "$2"
}

relay_on() {
	bg "relay$1" proxy tproxy-relay --log events --drain-timeout 60s "${@:2}" "$1"
	wait_serving "relay$1"
}

# line NAME HOST FROM ADDRESS PORT: a connection from that address and port, that has been heard once, and
# waits for NAME.go to be heard again and end in order.
line() {
	rm -f "$OUT/$1".{up,go}
	bg "$1" "$2" "$PEER" -b "$3" connect "$4" "$5" send:one recv:one touch:"$OUT/$1.up" \
		await:"$OUT/$1.go" send:two recv:two fin eof
	wait_until 10 test -e "$OUT/$1.up"
}

# lives NAME: it goes on to its orderly end.
lives() {
	touch "$OUT/$1.go"
	wait_exit "$1" || fail "$1: $(cat "$OUT/$1.err")"
}

# dies NAME: it was reset, without our doing anything.
dies() {
	touch "$OUT/$1.go"
	run wait_exit "$1"
	assert_equal "$status" 1
	assert_line_in "$1.err" 'reset|Reset|ECONNRESET|broken pipe|Broken pipe'
}

up() {
	on proxy tproxy-setup up -q "$@"
}

# down_says NAME TEXT: `down --name NAME` says exactly that.
down_says() {
	run on proxy tproxy-setup down --name "$1"
	assert_success
	assert_output "$2"
}

@test "an instance whose ports are another one's source ports ends none of its connections" {
	echo_on server 80
	echo_on server 41001
	relay_on 3129
	up --name web --to 3129 --port 80
	up --name media --to 3129 --port 40000-50000
	for f in 4 6; do
		from=C$f to=S$f
		[[ $f == 4 ]] && from=$C4 || from=[$C6]
		line web$f client "$from:41000" "${!to}" 80
		line media$f client "$from:42000" "${!to}" 41001
	done
	down_says media 'tproxy-setup: media: 2 connections were reset'
	dies media4
	dies media6
	up --name media --to 3129 --port 40000-50000
	down_says media ''
	lives web4
	line last client $C4:41000 $S4 80
	down_says web 'tproxy-setup: web: 2 connections were reset'
	dies last
	dies web6
}

@test "two mirrored instances: each ends its own connections" {
	echo_on server 80
	echo_on client 80
	relay_on 3129
	up --name out --to 3129 --dst 198.51.100.0/24,2001:db8:2::/48
	up --name back --to 3129 --dst 192.0.2.0/24,2001:db8:1::/48
	line out1 client $C4:41000 $S4 80
	line out2 client $C4:41001 $S4 80
	line out6 client "[$C6]:41000" $S6 80
	line back1 server $S4:42000 $C4 80
	line back6 server "[$S6]:42000" $C6 80
	down_says back 'tproxy-setup: back: 2 connections were reset'
	dies back1
	dies back6
	lives out6
	down_says out 'tproxy-setup: out: 2 connections were reset'
	dies out1
	dies out2
}

@test "a fixed upstream on another instance's port: the client leg shows the owner" {
	echo_on server 80
	echo_on server 8080
	relay_on 3129
	relay_on 3130 -4 --upstream $S4:8080
	up -4 --name plain --to 3129 --port 8080
	up -4 --name fixed --to 3130 --port 80
	line plain client $C4:41000 $S4 8080
	line fixed client $C4:41001 $B4 80
	line fixed2 client $C4:41002 $S4 80
	down_says plain 'tproxy-setup: plain: 1 connection was reset'
	dies plain
	lives fixed
	up -4 --name plain --to 3129 --port 8080
	line plain client $C4:41000 $S4 8080
	down_says fixed 'tproxy-setup: fixed: 1 connection was reset'
	dies fixed2
	lives plain
}

@test "--source client-addr: a connection is counted once, for the right instance" {
	on client sysctl -qw net.ipv4.ip_local_port_range='40000 50000'
	on proxy sysctl -qw net.ipv4.ip_local_port_range='40000 50000'
	echo_on server 80
	relay_on 3129 --source client-addr
	up -4 --name web --to 3129 --port 80
	up -4 --name media --to 3129 --port 40000-50000
	line one client $C4:41000 $S4 80
	line two client $C4:41001 $S4 80
	down_says media ''
	lives one
	down_says web 'tproxy-setup: web: 1 connection was reset'
	dies two
}

@test "the same ports on two interfaces: the client's interface shows the owner" {
	echo_on server 80
	relay_on 3129
	relay_on 3130
	up -4 --name left --to 3129 --port 80 --iif toclient
	up -4 --name right --to 3130 --port 80 --iif tobystander
	line left client $C4:41000 $S4 80
	line right bystander $B4:41000 $S4 80
	down_says right 'tproxy-setup: right: 1 connection was reset'
	dies right
	lives left
}

@test "a proxy without marks: the kernel distinguishes its two legs" {
	echo_on server 80
	start_haproxy proxy <<-END
		listen all
			bind 127.0.0.1:3129 transparent
			source 0.0.0.0 usesrc client
			server s $S4:80
	END
	wait_listen proxy 127.0.0.1:3129
	up -4 --name web --to 3129 --port 80
	up -4 --name media --to 3129 --port 40000-50000
	line one client $C4:41000 $S4 80
	line two client $C4:41001 $S4 80
	down_says media ''
	lives one
	down_says web 'tproxy-setup: web: 1 connection was reset'
	dies two
}

@test "--divert-only beside others: each ends its own connections, the others' survive" {
	echo_on server 80
	relay_on 3129
	start_haproxy proxy <<-END
		listen direct
			bind 192.0.2.1:8000
			source 0.0.0.0 usesrc clientip
			server s $S4:80
	END
	wait_listen proxy 192.0.2.1:8000
	up -4 --name web --to 3129 --port 80
	up -4 --name divert --divert-only
	line direct client $C4:41000 192.0.2.1 8000
	line web client $C4:41001 $S4 80
	down_says web 'tproxy-setup: web: 1 connection was reset'
	dies web
	up -4 --name web --to 3129 --port 80
	line web client $C4:41001 $S4 80
	down_says divert ''
	lives web
	lives direct
	# The last one that serves a connection ends it.
	up -4 --name divert --divert-only
	line direct client $C4:41000 192.0.2.1 8000
	down_says web ''
	down_says divert 'tproxy-setup: divert: 1 connection was reset'
	# HAProxy tells its client by FIN.
	touch "$OUT/direct.go"
	run wait_exit direct
	assert_line_in direct.err 'FIN after'
}

@test "connections of an earlier specification are ended with the instance" {
	echo_on server 80
	echo_on server 443
	relay_on 3129
	up -4 --to 3129 --port 80,443
	line one client $C4:41000 $S4 443
	up -4 --to 3129 --port 80
	down_says default 'tproxy-setup: default: 1 connection was reset'
	dies one
}

# Have the states of the relay's sockets been the same twice, and is there nothing that it would do yet?
settled() {
	[[ $(cut -d ' ' -f 3 "/proc/$(pid_of relay3129)/stat") == S ]] || return
	on proxy ss -Htn | awk '{ print $1, $3, $4, $5 }' | sort >"$OUT/states"
	cmp -s "$OUT/states" "$OUT/states.before" || ! mv "$OUT/states" "$OUT/states.before"
}

# both_sides ADDRESS: connections in every state that two sides can bring one to, relayed.
both_sides() {
	local host phase
	for host in client server; do
		# What is not read stays in the relay's sockets.
		on $host sysctl -qw net.ipv4.tcp_rmem='4096 16384 16384'
	done
	relay_on 3129
	up --to 3129 --port 80
	bg serve server "$TOP/tests/lib/sides" serve 80 "$OUT"
	wait_listen server 80
	bg connect client "$TOP/tests/lib/sides" connect "$1" 80 "$OUT"
	for phase in 0 1 2 3; do
		touch "$OUT/$phase"
		wait_until 30 test -e "$OUT/$phase.serve" -a -e "$OUT/$phase.connect"
		wait_until 10 settled
	done
}

# all_told: neither side has a connection that is open in any way; those that were to end in order have,
# with all data, and the others were reset.
all_told() {
	local host
	for host in client server; do
		wait_until 20 eval "[[ -z \$(on $host ss -Htn state connected exclude time-wait) ]]"
	done
	touch "$OUT/end"
	wait_exit connect 30
	wait_exit serve 30
	# A side whose peer ended may have read that, after all its data; the others are reset, whatever they
	# read before.
	for host in connect serve; do
		run awk -v host=$host '{
			client = substr($1, 1, 1)
			server = substr($1, 3, 1)
			other = host == "serve" ? client : server
			whole = other == "e" ? 30000 : 0
			fine = $2 == "reset" || other ~ /[fe]/ && $2 == "eof" && $3 == whole
			count[$2]++
		}
		!fine
		END { print count["eof"] + count["reset"]; exit count["eof"] < 24 }' "$OUT/$host.out"
		assert_success
		assert_output 128
	done
}

@test "down leaves no side hanging, whatever the state of its connection" {
	both_sides $S4
	for state in ESTAB CLOSE-WAIT FIN-WAIT-1 FIN-WAIT-2 LAST-ACK CLOSING; do
		assert_line_in states "^$state "
	done
	run on proxy tproxy-setup down
	assert_success
	assert_output --regexp '^tproxy-setup: default: [0-9]+ connections were reset$'
	all_told
	assert_equal "$(on proxy ss -Htn)" ""
}

@test "the same with IPv6, and a firewall that drops ct state invalid" {
	on proxy nft 'add table inet fw; add chain inet fw i { type filter hook input priority 0; }; add rule inet fw i ct state invalid drop; add chain inet fw f { type filter hook forward priority 0; }; add rule inet fw f ct state invalid drop'
	both_sides $S6
	run on proxy tproxy-setup down
	assert_success
	assert_output --regexp '^tproxy-setup: default: [0-9]+ connections were reset$'
	all_told
	assert_equal "$(on proxy ss -Htn)" ""
}

# Has the relay closed a connection that has data left? (It is in CLOSING if the server's FIN came before
# the client's.)
finishing() {
	[[ $(on proxy ss -Htn state last-ack; on proxy ss -Htn state closing) ]]
}

@test "closed connections deliver their last data, if they can, although nobody waits for them" {
	on client sysctl -qw net.ipv4.tcp_rmem='4096 16384 16384'
	relay_on 3129
	up -4 --to 3129 --port 80
	bg serve server "$PEER" listen 80 zeros:30000 fin eof
	wait_listen server 80
	bg reads client "$PEER" connect $S4 80 fin await:"$OUT/read" slow:30000 eof
	wait_until 10 finishing
	wait_line relay3129.out ' close .* done$'
	touch "$OUT/read"
	down_says default ''
	wait_exit reads
	assert_equal "$(on proxy ss -Htn)" ""
}

@test "down waits some seconds for peers that do not answer, and reports that they were not reset" {
	on client sysctl -qw net.ipv4.tcp_rmem='4096 16384 16384'
	relay_on 3129
	up -4 --to 3129 --port 80
	bg serve server "$PEER" listen 80 zeros:30000 fin eof
	wait_listen server 80
	bg deaf client "$PEER" connect $S4 80 fin await:"$OUT/never"
	wait_until 10 finishing
	on client nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c tcp sport 80 drop'
	run on proxy tproxy-setup down
	assert_success
	assert_output --regexp '1 socket could not be reset \(.*their peers do not answer\)'
	run on proxy nft list ruleset
	assert_output ""
}
