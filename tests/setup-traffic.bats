#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup: whose packets are taken, whose are not, and what becomes of them.
#
#   client 192.0.2.2 --- proxy --- server 198.51.100.2      both answer `server` on their ports,
#                          |                                 the listener on proxy answers `taken`
#                      bystander 203.0.113.2
#
# IPv4 and IPv6 throughout.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
}

S4=198.51.100.2 S6='[2001:db8:2::2]'
B4=203.0.113.2 B6='[2001:db8:3::2]'

# answering NAME HOST WORD ADDRESS...: somebody there who answers every connection with the word.
answering() {
	local name=$1 host=$2 word=$3 i=0 at
	shift 3
	for at; do
		bg "$name$((i++))" "$host" socat "$at",reuseaddr,fork SYSTEM:"echo $word"
	done
}

start_listener() {
	answering listener proxy taken TCP4-LISTEN:3129,bind=127.0.0.1,ip-transparent \
		TCP6-LISTEN:3129,bind=[::1],ip-transparent
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy [::1]:3129
}

stop_listener() {
	stop listener0 || :
	stop listener1 || :
}

start_servers() {
	local host port
	for host in server bystander; do
		for port in 80 443 8080; do
			answering "$host$port" "$host" server TCP4-LISTEN:$port TCP6-LISTEN:$port,ipv6-v6only
		done
	done
	for host in server bystander; do
		for port in 80 443 8080; do
			wait_listen "$host" "0.0.0.0:$port"
			wait_listen "$host" "[::]:$port"
		done
	done
}

# ask HOST ADDRESS PORT SECONDS: what it hears when it connects; `refused`, or `silence` for so long.
ask() {
	local answer status=0
	answer=$(on "$1" timeout --foreground 60 socat -T"$4" -u "TCP:$2:$3,connect-timeout=$4" STDOUT 2>&1) || status=$?
	case $answer in
	taken | server | own) echo "$answer" ;;
	*refused* | *reset*) echo refused ;;
	*) echo silence ;;
	esac
}

# asks HOST ADDRESS PORT WORD
asks() {
	local heard seconds=20
	[[ $4 != silence ]] || seconds=2
	heard=$(ask "$1" "$2" "$3" "$seconds")
	[[ $heard == "$4" ]] || fail "$1 -> $2 port $3: $heard, not $4"
}

counter() {
	on proxy tproxy-setup status "${@:2}" -j | jq -r --arg c "$1" 'select(.check == $c and .type == "counter").count'
}

@test "without --port everything forwarded is intercepted, from any source, to any destination" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q --to 3129
	for to in $S4 $S6 $B4 $B6; do
		asks client $to 80 taken
		asks client $to 443 taken
	done
	asks server $B4 80 taken
	asks bystander $S6 80 taken
	on proxy tproxy-setup down
	for to in $S4 $S6 $B4 $B6; do
		asks client $to 80 server
	done
}

@test "--port, --not-port: those ports and no others" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q --to 3129 --port 80,400-500
	for to in $S4 $S6; do
		asks client $to 80 taken
		asks client $to 443 taken
		asks client $to 8080 server
	done
	on proxy tproxy-setup up -q --to 3129 --port 80,400-500 --not-port 443
	for to in $S4 $S6; do
		asks client $to 80 taken
		asks client $to 443 server
	done
	assert [ "$(counter excluded)" -ge 2 ]
}

@test "--src, --dst and their --not- forms: those addresses and no others" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q --to 3129 --src 192.0.2.0/24,2001:db8:1::/64
	for to in $S4 $S6; do
		asks client $to 80 taken
		asks bystander $to 80 server
	done
	on proxy tproxy-setup up -q --to 3129 --not-src 192.0.2.2,2001:db8:1::2
	for to in $S4 $S6; do
		asks client $to 80 server
		asks bystander $to 80 taken
	done
	on proxy tproxy-setup up -q --to 3129 --dst 203.0.113.0/24 --dst 2001:db8:3::/48
	asks client $S4 80 server
	asks client $S6 80 server
	asks client $B4 80 taken
	asks client $B6 80 taken
	on proxy tproxy-setup up -q --to 3129 --not-dst 203.0.113.2,2001:db8:3::2
	asks client $S4 80 taken
	asks client $S6 80 taken
	asks client $B4 80 server
	asks client $B6 80 server
}

@test "--iif: only packets from that interface, by name and by prefix of a name" {
	start_listener
	start_servers
	for device in toclient 'toc*'; do
		on proxy tproxy-setup up -q --to 3129 --iif "$device"
		for to in $S4 $S6; do
			asks client $to 80 taken
			asks bystander $to 80 server
		done
	done
}

@test "an all-ports instance leaves the answers of flows alone that it does not intercept" {
	start_listener
	start_servers
	answering lan client server TCP4-LISTEN:80 TCP6-LISTEN:80,ipv6-v6only
	wait_listen client 0.0.0.0:80
	wait_listen client '[::]:80'
	for conntrack in off zone; do
		# The client's side is intercepted; what others begin towards it is not.
		for spec in "--iif toclient" "--src 192.0.2.0/24,2001:db8:1::/64"; do
			on proxy tproxy-setup up -q --to 3129 --conntrack $conntrack $spec
			for from in server bystander; do
				asks $from 192.0.2.2 80 server
				asks $from '[2001:db8:1::2]' 80 server
			done
			asks client $S4 80 taken
			asks client $S6 80 taken
		done
	done
}

@test "flows that are left alone continue when the instance is replaced" {
	start_listener
	start_echo
	on proxy tproxy-setup up -q --to 3129 --not-src 192.0.2.2,2001:db8:1::2
	for n in 4 6; do
		to=S$n
		open_line line$n "${!to}:80"
		say line$n one
		wait_until 10 heard line$n one
	done
	on proxy tproxy-setup up -q --to 3129 --not-src 192.0.2.2,2001:db8:1::2 --not-port 22
	for n in 4 6; do
		say line$n two
		wait_until 10 heard line$n two
	done
	asks bystander $S4 80 taken
}

# Each rule that a packet meets costs everybody who is forwarded here (make bench-setup).
@test "a packet of another connection meets one chain of ours and leaves it at the ports" {
	start_servers
	on proxy tproxy-setup up -q --to 3129 --port 80,443
	on proxy nft 'add table ip t; add chain ip t c { type filter hook prerouting priority -400; }; add rule ip t c tcp dport 8080 meta nftrace set 1'
	bg trace proxy nft monitor trace
	# The monitor says nothing when it begins.
	wait_until 10 eval 'asks client $S4 8080 server; has_line "$OUT/trace.out" tproxy_default'
	sed -n 's/^trace id [0-9a-f]* inet tproxy_default //p' "$OUT/trace.out" |
		grep -Ev ' packet: |policy accept' | sort -u >"$OUT/rules"
	run cat "$OUT/rules"
	assert_output 'prerouting rule th dport != 80 th dport != 443 return (verdict return)'
}

# A chain at the same priority that is older runs later: what it does to marks would undo ours.
@test "a foreign rule that restores connections' marks may come before or after ours" {
	start_nginx
	start_relay
	restore='add table ip wan; add chain ip wan pre { type filter hook prerouting priority mangle; }; add rule ip wan pre meta mark set ct mark'
	on proxy nft "$restore"
	on proxy tproxy-setup up -q -4 --to 3129 --port 80
	run on client curl -sS --max-time 20 "http://$S4/who"
	assert_output --regexp '^192\.0\.2\.2 '
	on proxy nft delete table ip wan
	on proxy nft "$restore"
	run on client curl -sS --max-time 20 "http://$S4/who"
	assert_output --regexp '^192\.0\.2\.2 '
	wait_lines 2 relay.out ' close '
}

@test "--not-mark: packets with that mark are left alone" {
	start_listener
	start_servers
	on proxy nft 'add table inet other; add chain inet other c { type filter hook prerouting priority -200; }; add rule inet other c tcp dport 443 meta mark set 0x4000'
	on proxy tproxy-setup up -q --to 3129 --not-mark 0x4000/0xf000
	for to in $S4 $S6; do
		asks client $to 80 taken
		asks client $to 443 server
	done
}

@test "other programs' bits of the mark stay as they are" {
	start_listener
	on proxy nft 'add table inet other; add chain inet other c { type filter hook prerouting priority -200; }; add rule inet other c meta mark set 0xab00'
	on proxy nft 'add chain inet other in { type filter hook input priority 0; }; add counter inet other both; add rule inet other in meta mark 0xab01 counter name both'
	on proxy tproxy-setup up -q --to 3129 --port 80
	asks client $S4 80 taken
	asks client $S6 80 taken
	run bash -c "$(declare -f on); on proxy nft -j list counter inet other both | jq '.nftables[1].counter.packets > 5'"
	assert_output true
}

@test "-4, -6 and addresses of one family leave the other alone" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q -4 --to 3129
	asks client $S4 80 taken
	asks client $S6 80 server
	on proxy tproxy-setup up -q -6 --to '[::1]:3129'
	asks client $S4 80 server
	asks client $S6 80 taken
	on proxy tproxy-setup up -q --to 3129 --dst 198.51.100.0/24
	asks client $S4 80 taken
	asks client $S6 80 server
}

@test "a listener on any address, and one with an address of its own" {
	answering any proxy taken TCP4-LISTEN:3130,ip-transparent TCP6-LISTEN:3130,ipv6-v6only,ip-transparent
	answering own proxy taken TCP4-LISTEN:3131,bind=192.0.2.1,ip-transparent \
		TCP6-LISTEN:3131,bind=[2001:db8:1::1],ip-transparent
	wait_listen proxy 0.0.0.0:3130
	wait_listen proxy [::]:3130
	wait_listen proxy 192.0.2.1:3131
	wait_listen proxy [2001:db8:1::1]:3131
	on proxy tproxy-setup up -q --to '*:3130'
	asks client $S4 80 taken
	asks client $S6 80 taken
	on proxy tproxy-setup up -q --to 192.0.2.1:3131 --to '[2001:db8:1::1]:3131'
	asks client $S4 80 taken
	asks client $S6 80 taken
}

@test "the proxy's own service stays reachable under an all-ports up; --include-own takes it" {
	start_listener
	answering ssh proxy own TCP4-LISTEN:22 TCP6-LISTEN:22,ipv6-v6only
	wait_listen proxy 0.0.0.0:22
	wait_listen proxy [::]:22
	on proxy tproxy-setup up -q --to 3129
	for to in 192.0.2.1 198.51.100.1 '[2001:db8:1::1]' '[2001:db8:2::1]'; do
		asks client $to 22 own
	done
	assert [ "$(counter local)" -gt 0 ]
	on proxy tproxy-setup up -q --to 3129 --include-own
	for to in 192.0.2.1 '[2001:db8:2::1]'; do
		asks client $to 22 taken
	done
	# The host's own connections are nobody else's, and their answers are not taken.
	start_servers
	for to in $S4 $S6; do
		asks proxy $to 80 server
	done
	asks proxy 127.0.0.1 22 own
}

@test "the proxy's own connections are not taken, nor are the answers to them" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q --to 3129
	for to in $S4 $S6 $B4 $B6; do
		asks proxy $to 80 server
	done
}

@test "without a listener: rejected at once, dropped, or passed, as configured" {
	start_servers
	on proxy tproxy-setup up -q --to 3129 --port 80
	asks client $S4 80 refused
	asks client $S6 80 refused
	assert [ "$(counter no-listener)" -ge 2 ]
	on proxy tproxy-setup up -q --to 3129 --port 80 --no-listener drop
	asks client $S4 80 silence
	asks client $S6 80 silence
	on proxy tproxy-setup up -q --to 3129 --port 80 --no-listener pass
	asks client $S4 80 server
	asks client $S6 80 server
	# Nobody else is hit meanwhile.
	on proxy tproxy-setup up -q --to 3129 --port 80
	asks client $S4 8080 server
}

@test "a listener that is not transparent does not count: fail closed, and up says so" {
	start_servers
	answering plain proxy own TCP4-LISTEN:3129,bind=127.0.0.1
	wait_listen proxy 127.0.0.1:3129
	run on proxy tproxy-setup up -4 --to 3129 --port 80
	assert_output --partial "not transparent"
	asks client $S4 80 refused
}

@test "the counters tell what happened" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q --to 3129 --port 80 --not-dst $B4
	asks client $S4 80 taken
	asks client $B4 80 server
	assert_equal "$(counter intercepted)" 1
	assert [ "$(counter diverted)" -ge 3 ]
	assert [ "$(counter excluded)" -ge 3 ]
	assert_equal "$(counter no-listener)" 0
}

@test "with SYN cookies forced every connection is taken, in both --midstream modes" {
	start_listener
	start_servers
	on proxy sysctl -qw net.ipv4.tcp_syncookies=2
	for mode in reset pass; do
		on proxy tproxy-setup up -q --to 3129 --port 80 --midstream $mode
		for i in 1 2 3; do
			asks client $S4 80 taken
			asks client $S6 80 taken
		done
	done
}

@test "flows older than up: reset by default, left alone with --midstream pass" {
	start_listener
	start_echo
	for family in $S4 $S6; do
		for mode in pass reset; do
			open_line line-$mode "$family:80"
			say line-$mode one
			wait_until 10 heard line-$mode one
			on proxy tproxy-setup up -q --to 3129 --port 80 --midstream $mode
			asks client "$family" 80 taken
			say line-$mode two
			if [[ $mode == pass ]]; then
				wait_until 10 heard line-$mode two
				stop line-$mode || :
			else
				run wait_exit line-$mode
				refute_line_in line-$mode.out two
			fi
			on proxy tproxy-setup down
			rm "$OUT/line-$mode.in"
		done
	done
}

@test "flows orphaned by a killed relay are reset, in both --midstream modes: nothing passes it" {
	start_echo
	on server nft -f - <<-'END'
		table inet t {
			counter said { }
			chain c { type filter hook input priority 0; tcp dport 80 tcp flags & psh == psh counter name said; }
		}
	END
	said() { packets_of server t said; }
	for mode in reset pass; do
		start_relay
		on proxy tproxy-setup up -q --to 3129 --port 80 --midstream $mode
		# No reset of the dying relay reaches the client: it goes on speaking.
		on client nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c tcp sport 80 tcp flags & (fin | rst) != 0 drop'
		open_line $mode "$S4:80"
		say $mode one
		wait_until 10 heard $mode one
		before=$(said)
		signal relay KILL
		run wait_exit relay
		say $mode two
		wait_until 10 eval '(($(counter no-listener) > 0))'
		assert_equal "$(said)" "$before"
		# And now a reset is let through.
		on client nft delete table ip t
		say $mode three
		run wait_exit $mode 15
		refute_line_in $mode.out 'two|three'
		assert_equal "$(said)" "$before"
		on proxy tproxy-setup down -q
	done
}

# segments ADDRESS {FLAGS REST}...: lone ones to port 80, without a checksum; REST is options or data.
segments() {
	on client python3 - "$@" <<-'END'
		import socket, struct, sys
		to, words = sys.argv[1].strip("[]"), sys.argv[2:]
		family = socket.AF_INET6 if ":" in to else socket.AF_INET
		raw = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP)
		for flags, rest in zip((int(word, 0) for word in words[::2]), (word.encode() for word in words[1::2])):
		    length = 8 if rest.startswith(b"\1") else 5
		    header = struct.pack("!HHIIBBHHH", 40000, 80, 1, 0, length << 4, flags, 0, 0, 0)
		    raw.sendto(header + rest, (to, 0))
	END
}

# A client's answer to a segment of its server that found no socket here; see rulebook.c.
@test "without a socket only bare resets pass: no acknowledgement, and not one byte" {
	local plan to
	local fin=0x01 rst=0x04 psh=0x08 ack=0x10
	start_listener
	on server nft 'table inet seen { counter bare { }; counter other { }; chain c {
		type filter hook prerouting priority -400; tcp sport != 40000 return
		tcp dport 80 tcp flags == rst counter name bare return; tcp dport 80 counter name other; }; }'
	seen() { packets_of server seen "$1"; }
	for plan in "" "--conntrack zone" "--format iptables"; do
		on proxy tproxy-setup down -q
		if [[ $plan == *iptables ]]; then
			on proxy tproxy-setup plan --to 3129 --port 80 $plan | on proxy sh
		else
			on proxy tproxy-setup up -q --to 3129 --port 80 $plan
		fi
		for to in $S4 $S6; do
			on server nft reset counters >/dev/null
			# The one that passes comes last, so that the others would be there by then.
			segments "$to" $((rst | ack)) '' $((rst | fin)) '' $((rst | psh)) '' \
				$rst x $rst $'\1\1\1\1\1\1\1\1\1\1\1\1' $ack x $fin '' $rst ''
			wait_until 10 eval '(($(seen bare) > 0))'
			assert_equal "$(seen bare) $(seen other)" "1 0"
		done
	done
}

@test "down --drain: relayed connections continue, new ones pass, and everything is removed when they end" {
	start_echo
	start_relay
	on proxy nft list ruleset >"$OUT/before"
	on proxy tproxy-setup up -q --to 3129 --port 80
	for n in 4 6; do
		to=S$n
		open_line line$n "${!to}:80"
		say line$n one
		wait_until 10 heard line$n one
	done
	bg down proxy tproxy-setup down --drain 60s
	wait_until 10 eval 'on proxy nft list chains inet | grep -q ending'
	# What is relayed goes on.
	for n in 4 6; do
		say line$n two
		wait_until 10 heard line$n two
	done
	# What is new goes by: no record of it.
	open_line new4 "$S4:80"
	say new4 direct
	wait_until 10 heard new4 direct
	open_line new6 "$S6:80"
	say new6 direct
	wait_until 10 heard new6 direct
	run on proxy ss -Htn state established "( sport = :80 )"
	assert_equal "${#lines[@]}" 2
	run on proxy tproxy-setup status
	assert_equal "$status" 1
	assert_output --partial "ending: \`down\` has begun"
	run bash -c "$(declare -f on); on proxy tproxy-setup status --json | jq -r 'select(.type == \"instance\").state'"
	assert_output ending
	stop line4 || :
	stop line6 || :
	wait_exit down
	on proxy nft list ruleset | diff "$OUT/before" -
	# And what began meanwhile goes on.
	say new4 still
	wait_until 10 heard new4 still
	say new6 still
	wait_until 10 heard new6 still
}

@test "down without --drain, and at the end of a drain: both ends of the rest are reset" {
	start_echo
	start_relay
	on client nft -f - <<-'END'
		table inet t {
			chain c { type filter hook input priority 0; tcp flags rst tcp sport 80 counter; }
		}
	END
	for drain in 0 300ms; do
		on proxy tproxy-setup up -q --to 3129 --port 80
		for n in 4 6; do
			to=S$n
			open_line line$n$drain "${!to}:80"
			say line$n$drain one
			wait_until 10 heard line$n$drain one
		done
		run on proxy tproxy-setup down --drain $drain
		assert_success
		assert_line 'tproxy-setup: default: 2 connections were reset'
		for n in 4 6; do
			run wait_exit line$n$drain
		done
		run on client nft list table inet t
		assert_output --partial "counter packets 2 "
		on client nft reset rules 2>/dev/null || on client nft replace rule inet t c handle 2 tcp flags rst tcp sport 80 counter
		# Nothing hangs on the server either.
		wait_until 10 eval '[ -z "$(on server ss -Htn state established)" ]'
	done
}

# start_clients: many connections through the relay, some twenty at a time, each checking every byte.
start_clients() {
	bg echo server "$TOP/tests/lib/peer" serve 80 echo
	wait_listen server 80
	start_relay
	on proxy tproxy-setup up -q --to 3129 --port 80
	bg clients client "$TOP/tests/lib/echo-clients" $S4 80 60 1
	wait_until 10 eval '(($(on proxy ss -Htn state established "( sport = :80 )" | wc -l) > 8))'
}

@test "down --drain under load: every relayed connection finishes, with every byte" {
	start_clients
	on proxy tproxy-setup down -q --drain 60s
	wait_exit clients 60
	assert_line_in clients.out '^60$'
}

@test "down under load: every relayed connection is reset, at both ends, none hangs" {
	start_clients
	run on proxy tproxy-setup down
	assert_output --regexp '^tproxy-setup: default: [0-9]+ connections were reset$'
	# A client that hung would wait a minute for each of its sockets.
	run wait_exit clients 20
	assert_equal "$status" 1
	wait_until 10 eval '[ -z "$(on server ss -Htn state established)" ]'
	wait_until 10 eval '[ -z "$(on client ss -Htn state established)" ]'
}

@test "down leaves no TIME-WAIT that blocks a client that reuses its port" {
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0 # none of its own
	start_nginx
	start_relay
	on proxy tproxy-setup up -q --to 3129 --port 80
	# A client that waits for the server's FIN, which curl does not: else neither leg may have one here.
	ask=('send:GET /who HTTP/1.0\r\n\r\n' keep:/dev/null)
	on client "$TOP/tests/lib/peer" -b 192.0.2.2:20004 connect "$S4" 80 "${ask[@]}"
	on client "$TOP/tests/lib/peer" -b '[2001:db8:1::2]:20006' connect "${S6//[][]/}" 80 "${ask[@]}"
	wait_until 5 eval '[[ $(on proxy ss -Htan state time-wait | wc -l) == 2 ]]'
	run -0 on proxy tproxy-setup down
	assert_equal "$(on proxy ss -Htan state time-wait)" ""
	# What the client sends is forwarded now.
	for n in 4 6; do
		to=S$n
		wait_until 10 on client curl -sS --max-time 2 --local-port 2000$n "http://${!to}/who"
	done
}

@test "up during a drain keeps the instance, and down leaves it" {
	start_echo
	start_relay
	on proxy tproxy-setup up -q --to 3129 --port 80
	open_line line "$S4:80"
	say line one
	wait_until 10 heard line one
	bg down proxy tproxy-setup down --drain 60s
	wait_until 10 eval 'on proxy nft list chains inet | grep -q ending'
	on proxy tproxy-setup up -q --to 3129 --port 80
	say line two
	wait_until 10 heard line two
	stop line || :
	wait_exit down
	assert_line_in down.err 'was installed again in the meantime'
	run on proxy "$TOP/tests/lib/intact"
	assert_success
}

@test "a relay killed during the drain: its flows do not bypass it" {
	root_only "tcpdump cannot change its user in a user namespace"
	start_echo
	start_relay
	on proxy tproxy-setup up -q --to 3129 --port 80
	open_line line "$S4:80"
	say line one
	wait_until 10 heard line one
	bg down proxy tproxy-setup down --drain 60s
	wait_until 10 eval 'on proxy nft list chains inet | grep -q ending'
	bg capture server tcpdump -Z root -Unni toproxy -w "$OUT/cap" 'tcp dst port 80 and tcp[tcpflags] & tcp-push != 0'
	wait_line capture.err 'listening on'
	# No reset reaches the client: it goes on sending into the dead connection.
	on client nft 'add table ip t; add chain ip t c { type filter hook input priority 0; }; add rule ip t c tcp sport 80 drop'
	signal relay KILL
	say line bypass
	say line bypass
	wait_exit down 70
	stop capture INT || :
	run tcpdump -nnr "$OUT/cap" -A
	refute_output --partial bypass
}

@test "down ends only its own instance's connections" {
	start_echo
	bg echo8 server socat TCP4-LISTEN:8080,reuseaddr,fork SYSTEM:'while read x; do echo $x; done'
	wait_listen server 0.0.0.0:8080
	start_relay
	bg other proxy tproxy-relay -4 --log events 3130
	wait_listen proxy 127.0.0.1:3130
	on proxy tproxy-setup up -q --name one --to 3129 --port 80
	on proxy tproxy-setup up -q -4 --name two --to 3130 --port 8080
	open_line one "$S4:80"
	open_line two "$S4:8080"
	for n in one two; do
		say $n first
		wait_until 10 heard $n first
	done
	on proxy tproxy-setup down -q --name one
	run wait_exit one
	say two second
	wait_until 10 heard two second
	run on proxy "$TOP/tests/lib/intact" --name two
	assert_success
}

@test "--divert-only serves a proxy that has its own listener and spoofs its clients' addresses" {
	start_nginx
	start_haproxy proxy <<-END
		listen web
			bind 192.0.2.1:8000
			source 0.0.0.0 usesrc clientip
			server s 198.51.100.2:80
	END
	wait_listen proxy 192.0.2.1:8000
	run on client curl -sS --max-time 2 http://192.0.2.1:8000/who
	refute_output --regexp '^192\.0\.2\.2 '
	on proxy tproxy-setup up -q --divert-only
	run on client curl -sS --max-time 20 http://192.0.2.1:8000/who
	assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
	# The same rules as iptables has them.
	on proxy tproxy-setup down
	on proxy tproxy-setup plan --divert-only -4 --format iptables | on proxy sh
	run on client curl -sS --max-time 20 http://192.0.2.1:8000/who
	assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
}

@test "plan --format iptables intercepts like up" {
	start_listener
	start_servers
	on proxy tproxy-setup plan -q --to 3129 --port 80,443 --not-port 443 --src 192.0.2.0/24,2001:db8:1::/48 \
		--iif toc* --format iptables | on proxy sh
	for to in $S4 $S6; do
		asks client $to 80 taken
		asks client $to 443 server
		asks bystander $to 80 server
	done
	stop_listener
	asks client $S4 80 silence
}

@test "when a lease expires new connections pass, and relayed ones continue" {
	start_echo
	start_relay
	on proxy tproxy-setup up -q --to 3129 --port 80 --confirm-within 1h
	for n in 4 6; do
		to=S$n
		open_line old$n "${!to}:80"
		say old$n one
		wait_until 10 heard old$n one
	done
	assert_equal "$(grep -c ' open ' "$OUT/relay.out")" 2
	on proxy tproxy-setup up -q --to 3129 --port 80 --confirm-within 1s
	wait_until 10 eval '! on proxy "$TOP/tests/lib/intact" >/dev/null 2>&1'
	for n in 4 6; do
		to=S$n
		open_line new$n "${!to}:80"
		say new$n direct
		wait_until 10 heard new$n direct
		say old$n two
		wait_until 10 heard old$n two
	done
	assert_equal "$(grep -c ' open ' "$OUT/relay.out")" 2
}
