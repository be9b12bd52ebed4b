#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# tproxy-relay --keep-dscp: each side's packets carry the DSCP of the other side's.
#
#   client 192.0.2.2 (DSCP ef) --- proxy --- server 198.51.100.2 (DSCP af41)

bats_require_minimum_version 1.5.0
load lib/relay

setup() { lab_up; }
teardown() { lab_down; }

# Each host marks what it sends, ECN bits included, and counts what comes with data or FIN, with each DSCP.
mark_and_count() {
	local host dscp out in
	for host in client:ef:dport:sport server:af41:sport:dport; do
		IFS=: read -r host dscp out in <<<"$host"
		on "$host" nft -f - <<-END
			table inet dscp {
				counter ef { }
				counter af41 { }
				counter cs0 { }
				counter ect { }
				chain out {
					type filter hook output priority mangle
					tcp $out 8000 ip dscp set $dscp
					tcp $out 8000 ip6 dscp set $dscp
				}
				chain in {
					type filter hook input priority 0
					tcp $in 8000 ip ecn != not-ect counter name ect
					tcp $in 8000 ip6 ecn != not-ect counter name ect
					tcp $in 8000 tcp flags & (syn | ack) == syn jump count
					tcp $in 8000 tcp flags & (syn | fin) == fin jump count
					tcp $in 8000 meta length > 300 jump count
				}
				chain count {
					ip dscp ef counter name ef return
					ip6 dscp ef counter name ef return
					ip dscp af41 counter name af41 return
					ip6 dscp af41 counter name af41 return
					counter name cs0
				}
			}
		END
	done
}

# carry TO: a connection with data both ways, in the middle of which the proxy has something to say of its own.
carry() {
	peer server server listen 8000 skip:20000 zeros:20000 close
	run -0 on client "$PEER" connect "$1" 8000 zeros:20000 skip:20000 eof
	run -0 wait_exit server
}

# seen HOST: how many packets came there with each, as `ef af41 cs0'.
seen() {
	echo "$(packets_of "$1" dscp ef) $(packets_of "$1" dscp af41) $(packets_of "$1" dscp cs0)"
}

assert_kept() {
	run seen server
	assert_output --regexp '^[1-9][0-9]* 0 0$'
	run seen client
	assert_output --regexp '^0 [1-9][0-9]* 0$'
	on client nft reset counters table inet dscp
	on server nft reset counters table inet dscp
}

@test "--keep-dscp keeps DSCP in both directions and families; without it DSCP is not kept" {
	mark_and_count
	intercept 8000
	relay
	carry $V4
	run seen server
	assert_output --regexp '^0 0 [1-9][0-9]*$'
	run seen client
	assert_output --regexp '^0 0 [1-9][0-9]*$'
	stop relay
	on client nft reset counters table inet dscp
	on server nft reset counters table inet dscp
	for threads in 1 4; do
		relay --keep-dscp --threads $threads
		for to in $V4 $V6 $V4 $V6; do
			carry $to
			assert_kept
		done
		stop relay
		refute_line_in relay.err 'DSCP'
	done
}

@test "--keep-dscp works with --source, --upstream and --inetd" {
	mark_and_count
	intercept 8000
	for more in '--source client-addr' '--source own --on-clash new-port' "--upstream [$V6]:8000 --upstream $V4:8000"; do
		# shellcheck disable=SC2086 # options and their arguments
		relay --keep-dscp $more
		for to in $V4 $V6; do
			carry $to
			assert_kept
		done
		stop relay
	done
	bg listen proxy tproxy-listen "$RELAY_PORT" -- tproxy-relay --inetd --keep-dscp --log off
	wait_listen proxy "$RELAY_PORT"
	for to in $V4 $V6; do
		carry $to
		assert_kept
	done
	stop listen
}

@test "each leg has its own ECN" {
	mark_and_count
	# A client that sets the bits in its SYN by hand: they are not a part of DSCP.
	on client nft insert rule inet dscp out tcp dport 8000 ip ecn set ce
	on client nft insert rule inet dscp out tcp dport 8000 ip6 ecn set ce
	intercept 8000
	relay --keep-dscp
	for to in $V4 $V6; do
		on proxy sysctl -qw net.ipv4.tcp_ecn=0
		carry $to
		assert_equal "$(packets_of server dscp ect)" 0
		assert_kept
		on proxy sysctl -qw net.ipv4.tcp_ecn=1
		carry $to
		assert [ "$(packets_of server dscp ect)" -gt 0 ]
		assert_kept
	done
	stop relay
}

@test "DSCP of IPv4 servers needs CAP_NET_RAW, and other answers to the host do not disturb it" {
	mark_and_count
	intercept 8000
	bg relay proxy setpriv --bounding-set=-net_raw --inh-caps=-net_raw \
		tproxy-relay --keep-dscp "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	wait_line relay.err 'socket\(SOCK_RAW\): Operation not permitted: clients do not get the DSCP of IPv4 servers$'
	carry $V4
	run seen server
	assert_output --regexp '^[1-9][0-9]* 0 0$'
	run seen client
	assert_output --regexp '^0 0 [1-9][0-9]*$'
	on client nft reset counters table inet dscp
	on server nft reset counters table inet dscp
	carry $V6
	assert_kept
	stop relay
	# More answers than the queue has room for, none of them the relay's.
	relay --keep-dscp
	peer server server serve 8001 close
	run -0 on proxy "$TOP/tests/lib/hold" count $V4 8001 3000
	carry $V4
	assert_kept
	stop relay
}

@test "the kernel does not report the DSCP of an outgoing IPv4 connection" {
	run -0 on client python3 - <<'END'
import socket
def received(s, level, option):
    data = s.getsockopt(level, option, 256)
    return data[16] if data else None  # the only control message
for family, level, recv, tos, options, at in (
        (socket.AF_INET, 0, socket.IP_RECVTOS, socket.IP_TOS, 9, "127.0.0.1"),
        (socket.AF_INET6, 41, 66, 67, 6, "::1")):
    for early in 0, 1:
        l, c = socket.socket(family), socket.socket(family)
        l.setsockopt(level, tos, 0x28)
        c.setsockopt(level, tos, 0xb9)
        if early:
            c.setsockopt(level, recv, 1)
        l.bind((at, 0))
        l.listen()
        c.connect(l.getsockname())
        a = l.accept()[0]
        for s in a, c:
            s.setsockopt(level, recv, 1)
        told = [received(a, level, options), received(c, level, options)]
        c.setsockopt(level, tos, 0x48)
        c.send(b"x")
        a.recv(1)
        told.append(received(a, level, options))
        print(at, "early" if early else "late", *("%02x" % t for t in told))
END
	assert_output - <<'END'
127.0.0.1 late b8 00 b8
127.0.0.1 early b8 00 b8
::1 late b8 00 48
::1 early b8 28 48
END
}
