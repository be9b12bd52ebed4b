#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u: floods, forgeries, and less room than there are flows.
#
#   client 192.0.2.2 ------\
#                           proxy: port 5300 to tproxy-relay 3129 --- server 198.51.100.2
#   bystander 203.0.113.2 -/

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
	dgram server server serve 5300
}

teardown() { lab_down; }

# memory NAME: of a process, in KB.
memory() { awk '/^RssAnon/ { print $2 }' "/proc/$(pid_of "$1")/status"; }

@test "UDP hostile: floods from forged addresses: the cap holds, established flows survive, TCP is served" {
	start_nginx 8080
	intercept 5300,8080 -t -u
	bg relay proxy tproxy-relay -t -u "$RELAY_PORT" --max-flows 500 -o event,proto,client,reason \
		--control "$OUT/control"
	wait_listen proxy "$RELAY_PORT" udp
	bg steady bystander "$DGRAM" stream $V4 5300 1 30 "$OUT/end"
	wait_until 10 eval 'ask connections | grep -q "203.0.113.2.*established"'
	bg flood4 client "$DGRAM" flood $V4 5300 15000
	bg flood6 client "$DGRAM" flood $V6 5300 15000
	for _ in 1 2 3 4 5 6 7 8; do
		run -0 on client curl -sS --max-time 10 "http://$V4:8080/who"
		assert_output --regexp '^192\.0\.2\.2 '
		(($(counter flows) <= 500))
		(($(descriptors relay) < 1200))
	done
	run -0 wait_exit flood4 40
	run -0 wait_exit flood6 40
	touch "$OUT/end"
	run -0 wait_exit steady 40
	assert_line_in steady.out '^[0-9]{2,} answers$'
	(($(memory relay) < 40000))
	(($(counter evicted) > 1000))
	# One flow from its beginning to now.
	assert_equal "$(grep -c '^open udp 203.0.113.2:43000' "$OUT/relay.out")" 1
	refute_line_in relay.out '^close udp 203.0.113.2:43000 .*evicted'
	stop relay
}

@test "UDP hostile: more flows than descriptors: each is answered, and nothing fails" {
	intercept_udp 5300
	bg relay proxy prlimit --nofile=64:64 tproxy-relay -u "$RELAY_PORT" -o event,client,reason
	wait_listen proxy "$RELAY_PORT" udp
	run -0 on client timeout --foreground 60 "$DGRAM" flows $V4 5300 400 1
	assert_output '400 flows, 400 answers'
	# And promoted ones, which have two each.
	for port in 41001 41002 41003 41004 41005 41006 41007 41008; do
		run -0 ask_from client $port $V6 5300 30
	done
	(($(descriptors relay) <= 66)) # with what it has inherited
	(($(grep -c 'evicted$' "$OUT/relay.out") >= 300))
	refute_line_in relay.out descriptors
	stop relay
}

@test "UDP hostile: a datagram from a third address to a flow's port is not an answer" {
	intercept_udp 5300
	udp_relay -o event,client,packets_down,reason --control "$OUT/control"
	on server ip addr add 198.51.100.77/24 dev toproxy
	# third PORT: to that port of the client, from another address and from another port of the server's.
	third() {
		on server python3 -c '
import socket, sys
for own in (("198.51.100.77", 5398), ("198.51.100.2", 5399)):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(own)
    for _ in range(5):
        s.sendto(b"forged", (sys.argv[1], int(sys.argv[2])))' "$@"
	}
	for port in 41001 41002; do
		count=$((port == 41001 ? 2 : 40))
		bg asking client "$DGRAM" ask $port $V4 5300 $count 20 50
		wait_line relay.out "^open 192.0.2.2:$port"
		third 192.0.2.2 $port
		# It compares each answer with what it asked, and hears nobody but the server's port.
		run -0 wait_exit asking 20
		assert_equal "$(ask connections | jq "select(.client.port == $port) | .packets_down")" $count
	done
	stop relay
	# Of a relay with an address of its own not even the packet gets through.
	bg relay proxy tproxy-relay -u "$RELAY_PORT" --source own -o event,upstream_local --control "$OUT/control"
	wait_listen proxy "$RELAY_PORT" udp
	sniff near client toproxy 41003
	bg asking client "$DGRAM" ask 41003 $V4 5300 40 20 50
	wait_line relay.out '^open 198.51.100.1:'
	third 198.51.100.1 "$(sed -n 's/^open .*://p' "$OUT/relay.out")"
	run -0 wait_exit asking 20
	# What was seen of others came before the last of them.
	wait_until 10 eval '(($(grep -c "^udp IN" "$OUT/near.out") >= 40))'
	assert_equal "$(grep -c '^udp IN' "$OUT/near.out")" 40
	stop relay
}

@test "UDP hostile: a datagram with truncated control messages is refused" {
	intercept_udp 5300
	# A listener whose owner has asked for the destination options of each datagram: they come before the
	# original destination, and this one's leave it no room.
	cat >"$OUT/inherit" <<-'END'
		import os, socket, sys
		s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
		s.setsockopt(41, 75, 1)  # IPV6_TRANSPARENT
		s.setsockopt(41, 58, 1)  # IPV6_RECVDSTOPTS
		s.bind(("::1", 3129))
		os.dup2(s.fileno(), 3)
		os.set_inheritable(3, True)
		os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
		os.execvp(sys.argv[1], sys.argv[1:])
	END
	bg relay proxy python3 "$OUT/inherit" tproxy-relay -u -6 -o event,client,reason --control "$OUT/control"
	wait_listen proxy "$RELAY_PORT" udp
	# Few of them are no harm.
	on client "$DGRAM" wide 41001 $V6 5300 64
	wait_line relay.out '^open \[2001:db8:1::2\]:41001'
	on client "$DGRAM" wide 41002 $V6 5300 560
	wait_line relay.out '^refused \[2001:db8:1::2\]:41002 no-destination$'
	refute_line_in relay.out '^open .*:41002'
	assert_equal "$(counter no-destination)" 1
	run -0 ask_from client 41003 $V6 5300 30
	stop relay
}
