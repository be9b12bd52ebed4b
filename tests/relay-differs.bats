#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# How a connection through tproxy-relay differs from plain forwarding: every statement of
# tproxy-relay(8), LIMITATIONS, each tried without the relay first. (Urgent data: relay-urgent.bats.
# Half-closed and idle timeouts: relay-limits.bats. A relay that is killed: relay-killed.bats. DSCP:
# relay-dscp.bats.)
#
#   client 192.0.2.2 --- proxy: 8000 to tproxy-relay 3129, anything else is forwarded --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

# 8000 is relayed and 8001 is not.
setup() {
	lab_up
	intercept 8000
}

teardown() { lab_down; }

# counted RULE...: on the server, a table of one counter (`seen') for what the rules match as it comes in.
counted() {
	on server nft -f - <<-END
		table inet t {
			counter seen { }
			chain c {
				type filter hook input priority 0
				$(printf '%s counter name seen\n' "$@")
			}
		}
	END
}

# seen: how many since the last time.
seen() {
	packets_of server t seen
	on server nft reset counters table inet t >/dev/null
}

# exchange PORT [TO]: a connection with a round trip.
exchange() {
	peer server server listen "$1" recv:x send:y eof close
	run -0 on client "$PEER" connect "${2-$V4}" "$1" send:x recv:y fin eof
	run -0 wait_exit server
}

# outcome PORT [TO]: what connect() or recv() says to the client. A reset after the handshake may be there
# before connect() has returned; of one that answers the SYN it says ECONNREFUSED.
outcome() {
	on client python3 - "${2-$V4}" "$1" <<'END'
import errno, socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.settimeout(20)
try:
    s.connect((sys.argv[1], int(sys.argv[2])))
    print(s.recv(1) or "end")
except OSError as e:
    print(errno.errorcode.get(e.errno, e))
END
}

@test "the client sees refused, unreachable and unanswered as a connection that is made, and then reset" {
	relay --connect-timeout 1s
	on proxy ip route add unreachable 198.51.100.99
	on proxy ip route add unreachable 2001:db8:2::99
	on server nft -f - <<<'table inet t { chain c { type filter hook input priority 0; tcp dport 8000 meta mark != 1 drop; }; }'
	assert_equal "$(outcome 8001)" ECONNREFUSED
	assert_equal "$(outcome 8001 198.51.100.99)" EHOSTUNREACH
	assert_equal "$(outcome 8001 2001:db8:2::99)" ENETUNREACH
	assert_equal "$(outcome 8000)" ECONNRESET
	assert_equal "$(outcome 8000 198.51.100.99)" ECONNRESET
	assert_equal "$(outcome 8000 2001:db8:2::99)" ECONNRESET
	on server nft delete table inet t
	assert_equal "$(outcome 8000)" ECONNRESET
	stop relay
	assert_line_in relay.out ' upstream-timeout$'
	assert_line_in relay.out ' upstream-unreachable$'
	assert_line_in relay.out ' upstream-refused$'
}

@test "FORWARD rules and ip rule iif do not apply; --deny-dst does" {
	relay
	on proxy nft -f - <<<'table inet f { chain c { type filter hook forward priority 0; tcp dport { 8000, 8001 } reject with tcp reset; }; }'
	assert_equal "$(outcome 8001)" ECONNREFUSED
	assert_equal "$(outcome 8001 $V6)" ECONNREFUSED
	exchange 8000
	exchange 8000 $V6
	on proxy nft delete table inet f
	for v in -4 -6; do on proxy ip $v rule add iif toclient ipproto tcp dport 8000-8001 prohibit pref 100; done
	assert_equal "$(outcome 8001)" EHOSTUNREACH
	assert_equal "$(outcome 8001 $V6)" EACCES
	exchange 8000
	exchange 8000 $V6
	stop relay
	relay --deny-dst '*:8000'
	assert_equal "$(outcome 8000)" ECONNRESET
	assert_equal "$(outcome 8000 $V6)" ECONNRESET
	stop relay
	assert_line_in relay.out ' denied$'
}

@test "TTL and hop limit start afresh" {
	counted 'ip ttl 64 tcp dport 8000-8001' 'ip6 hoplimit 64 tcp dport 8000-8001'
	relay
	on client nft -f - <<-'END'
		table inet t {
			chain c {
				type filter hook output priority 0
				tcp dport 8000-8001 ip ttl set 2
				tcp dport 8000-8001 ip6 hoplimit set 2
			}
		}
	END
	for to in $V4 $V6; do
		exchange 8001 $to
		assert_equal "$(seen)" 0
		exchange 8000 $to
		assert [ "$(seen)" -gt 2 ]
	done
	# It reaches a server with one hop less than that takes.
	on client nft flush chain inet t c
	on client nft add rule inet t c tcp dport 8000-8001 ip ttl set 1
	on client nft add rule inet t c tcp dport 8000-8001 ip6 hoplimit set 1
	for to in $V4 $V6; do
		run outcome 8001 $to
		assert_output EHOSTUNREACH
		exchange 8000 $to
	done
	stop relay
}

@test "ECN is negotiated on each leg, as this host's net.ipv4.tcp_ecn says" {
	counted 'tcp dport 8000-8001 tcp flags & (syn | ecn | cwr) == syn | ecn | cwr'
	for h in client server; do on $h sysctl -qw net.ipv4.tcp_ecn=1; done
	relay
	for to in $V4 $V6; do
		on proxy sysctl -qw net.ipv4.tcp_ecn=2
		exchange 8001 $to
		assert_equal "$(seen)" 1
		exchange 8000 $to
		assert_equal "$(seen)" 0
		on proxy sysctl -qw net.ipv4.tcp_ecn=1
		exchange 8000 $to
		assert_equal "$(seen)" 1
	done
	stop relay
}

@test "IP options, extension headers and flow labels are not passed on" {
	counted 'tcp dport 8000-8001 ip hdrlength > 5' 'tcp dport 8000-8001 exthdr dst exists' \
		'tcp dport 8000-8001 ip6 flowlabel 0x12345'
	relay
	with_options() {
		peer server server listen "$2" recv:x send:y eof close
		run -0 on client python3 - "$@" <<'END'
import socket, sys
v6 = ":" in sys.argv[1]
s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)
if v6:
    s.setsockopt(41, 59, bytes([0, 0, 1, 4, 0, 0, 0, 0]))  # IPV6_DSTOPTS: padding
else:
    s.setsockopt(0, 4, bytes([7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]))  # IP_OPTIONS: record route
s.settimeout(20)
s.connect((sys.argv[1], int(sys.argv[2])))
s.sendall(b"x")
assert s.recv(1) == b"y"
END
		run -0 wait_exit server
	}
	for to in $V4 $V6; do
		with_options $to 8001
		assert [ "$(seen)" -gt 2 ]
		with_options $to 8000
		assert_equal "$(seen)" 0
	done
	stop relay
}

@test "each leg has the MSS of its own path" {
	counted 'tcp dport 8000-8001 tcp flags syn tcp option maxseg size 1000-1300'
	on client ip link set toproxy mtu 1340
	relay
	for to in $V4 $V6; do
		exchange 8001 $to
		assert_equal "$(seen)" 1
		exchange 8000 $to
		assert_equal "$(seen)" 0
	done
	# And what is clamped in FORWARD is not.
	on client ip link set toproxy mtu 1500
	on proxy nft -f - <<<'table inet f { chain c { type filter hook forward priority mangle; tcp flags syn tcp option maxseg size set 1200; }; }'
	for to in $V4 $V6; do
		exchange 8001 $to
		assert_equal "$(seen)" 1
		exchange 8000 $to
		assert_equal "$(seen)" 0
	done
	stop relay
}

@test "MPTCP becomes TCP" {
	relay
	# What a server says of an accepted connection: is it MPTCP still?
	multipath() {
		bg server server python3 -c "
import socket
l = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(('', $1))
l.listen()
c = l.accept()[0]
c.sendall(b'y')
try:
    c.getsockopt(284, 1, 8)  # MPTCP_INFO
    print('mptcp')
except OSError:
    print('tcp')"
		wait_listen server "$1" || fail "$(cat "$OUT/server.err")"
		run -0 on client python3 -c "
import socket
s = socket.socket(socket.AF_INET6 if ':' in '$2' else socket.AF_INET, socket.SOCK_STREAM, 262)
s.settimeout(20)
s.connect(('$2', $1))
assert s.recv(1) == b'y'"
		run -0 wait_exit server
		run cat "$OUT/server.out"
	}
	for to in $V4 $V6; do
		multipath 8001 $to
		assert_output mptcp
		multipath 8000 $to
		assert_output tcp
	done
	stop relay
}

@test "TCP Fast Open: data in the SYN waits for the handshake" {
	relay
	for h in client server proxy; do on $h sysctl -qw net.ipv4.tcp_fastopen=3; done
	fast() {
		bg server server python3 -c "
import socket
l = socket.socket(socket.AF_INET6 if ':' in '$2' else socket.AF_INET)
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
l.bind(('', $1))
l.listen()
for i in range(2):
    c = l.accept()[0]
    assert c.recv(1) == b'x'
    c.sendall(b'y')
    c.recv(1)
    c.close()"
		wait_listen server "$1" || fail "$(cat "$OUT/server.err")"
		run -0 on client timeout 30 python3 -c "
import socket
for i in range(2):
    s = socket.socket(socket.AF_INET6 if ':' in '$2' else socket.AF_INET)
    s.sendto(b'x', socket.MSG_FASTOPEN, ('$2', $1))
    assert s.recv(1) == b'y'
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
    s.close()"
		run -0 wait_exit server
	}
	passive() { on "$1" nstat -asz TcpExtTCPFastOpenPassive | awk '/Passive/ { print $2 }'; }
	for to in $V4 $V6; do
		before=$(passive server)
		fast 8001 $to
		assert_equal $(($(passive server) - before)) 1
		fast 8000 $to
		assert_equal $(($(passive server) - before)) 1
	done
	assert_equal "$(passive proxy)" 0
	stop relay
}

@test "TCP MD5 signatures: such a connection is not accepted" {
	relay
	signed() {
		bg server server python3 -c "
import socket, struct
l = socket.socket()
k = struct.pack('=HH4s120sBBHi80s', 2, 0, socket.inet_aton('192.0.2.2'), b'', 0, 0, 3, 0, b'abc')
l.setsockopt(6, 14, k)
l.setsockopt(1, 2, 1)
l.bind(('', $1))
l.listen()
c = l.accept()[0]
c.sendall(b'y')"
		wait_listen server "$1" || fail "$(cat "$OUT/server.err")"
		on client python3 -c "
import socket, struct
s = socket.socket()
s.setsockopt(6, 14, struct.pack('=HH4s120sBBHi80s', 2, 0, socket.inet_aton('$V4'), b'', 0, 0, 3, 0, b'abc'))
s.settimeout($2)
s.connect(('$V4', $1))
print(s.recv(1))"
	}
	run -0 signed 8001 20
	assert_output "b'y'"
	run ! signed 8000 2
	assert_output --partial 'timed out'
	refute_line_in relay.out ' open '
	stop relay
}

@test "clients with a link-local IPv6 address, which no router forwards: refused, except with --source own" {
	on client ip addr add fe80::77/64 dev toproxy nodad
	on client ip -6 route add $V6 via fe80::1 dev toproxy src fe80::77
	on proxy ip addr add fe80::1/64 dev toclient nodad
	relay
	assert_equal "$(outcome 8001 $V6)" EHOSTUNREACH
	assert_equal "$(outcome 8000 $V6)" ECONNRESET
	stop relay
	assert_line_in relay.out ' refused .*\[fe80::77%toclient\].* upstream-unreachable$'
	relay --source own
	exchange 8000 $V6
	stop relay
}
