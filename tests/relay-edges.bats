#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# Edge cases of tproxy-relay: connections that begin or end at a bad moment, hosts that answer
# wrongly or not at all, resources that run out. Another connection runs beside each, and must not
# be affected.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# ---------------------------------------------------------------- a port used again
#
# TIME_WAIT stays with the side that ended first. Of the client's two legs that is the proxy's socket
# toward the server when the client ended first, and the one toward the client when the server did. The
# client itself keeps none here: it is one that may use its port again, as other systems' clients and
# those behind NAT do.

timestamps() {
	local host
	for host in client proxy server; do
		on "$host" sysctl -qw "net.ipv4.tcp_timestamps=$1"
	done
}

time_waits() { on proxy ss -Htan state time-wait "src $1"; }

# exchange ADDRESS PORT SCRIPT...: one connection from the client's port 40001.
exchange() {
	local source=192.0.2.2:40001
	[[ $1 != *:* ]] || source='[2001:db8:1::2]:40001'
	on client "$PEER" -b "$source" connect "$@"
}

# again ADDRESS: twice, with who ends first in turn; a port of the server's for each.
again() {
	for _ in 1 2; do
		exchange "$1" 8001 send:x recv:y fin eof
		exchange "$1" 8002 send:x recv:y eof close
	done
}

@test "a client reuses its port at once: with timestamps and without, whoever ended first" {
	local on
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y eof close
	peer two server serve 8002 recv:x send:y fin eof
	for on in 1 0; do
		timestamps $on
		relay
		again "$V4"
		again "$V6"
		# It was what it says it is.
		assert [ "$(time_waits 192.0.2.2:40001)" ]
		assert [ "$(time_waits "$V4:8002")" ]
		stop relay
		assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 8
		refute_line_in relay.out ' refused '
		assert_equal "$(grep -c ' addr+port 1 1 ' "$OUT/relay.out")" 8
	done
}

@test "a port in TIME_WAIT here, without the right to clear it: a clash whose message says what helps" {
	timestamps 0
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y eof close
	bg relay proxy setpriv --bounding-set=-net_admin tproxy-relay "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	exchange "$V4" 8001 send:x recv:y fin eof
	exchange "$V4" 8001 gone
	# Another port is no clash.
	run -0 on client "$PEER" connect "$V4" 8001 send:x recv:y fin eof
	stop relay
	assert_line_in relay.err 'connect: the last connection from the client.s port is in TIME_WAIT here: .*CAP_NET_ADMIN'
	assert_equal "$(grep -c ' clash$' "$OUT/relay.out")" 1
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 2
}

@test "a client reuses its port before the server has acknowledged the last end: it waits" {
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y fin eof
	relay --connect-timeout 5s
	# The server does not hear that the client has ended, too.
	on server nft -f - <<-'END'
		table inet deaf {
			chain input {
				type filter hook input priority 0
				tcp dport 8001 tcp flags & fin == fin drop
			}
		}
	END
	exchange "$V4" 8001 send:x recv:y eof close
	wait_until 5 eval '[[ $(on proxy ss -Htn state last-ack "src 192.0.2.2:40001") ]]'
	bg again client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8001 send:x recv:y eof close
	run -0 on client "$PEER" connect "$V4" 8001 send:x recv:y eof close
	run ! test -e "$OUT/again.status"
	on server nft delete table inet deaf
	run -0 wait_exit again
	stop relay
	refute_line_in relay.out ' refused '
}

@test "a client's port whose last end is never acknowledged is a clash at the connect timeout" {
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	peer one server serve 8001 recv:x send:y fin eof
	relay --connect-timeout 1s
	on server nft add table inet deaf
	on server nft add chain inet deaf input '{ type filter hook input priority 0; }'
	on server nft add rule inet deaf input tcp dport 8001 tcp flags '&' fin == fin drop
	exchange "$V4" 8001 send:x recv:y eof close
	exchange "$V4" 8001 gone
	stop relay
	assert_line_in relay.out ' refused 2 .* clash$'
	assert_line_in relay.err 'connect: the server has not confirmed the end of the last connection from there: .*\(clash'
}

@test "a client resets and reuses its port at once, whichever thread gets it" {
	peer echo server serve 8001 echo
	bg relay proxy tproxy-listen --pass "$RELAY_PORT" -- tproxy-relay --threads 2
	wait_listen proxy "$RELAY_PORT"
	# The threads share the listeners: the new connection may be accepted before the other one ends the
	# old one.
	run -0 on client python3 -c "
import socket, struct
for i in range(30):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('192.0.2.2', 40001))
    s.connect(('$V4', 8001))
    s.settimeout(30)
    s.sendall(b'x')
    assert s.recv(1) == b'x'
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()"
	stop relay
	refute_line_in relay.out ' refused '
	assert_equal "$(grep -c ' client-reset$' "$OUT/relay.out")" 30
}

@test "a client that has crashed and lost its connection reuses its port: the old one is reset" {
	local there=$OUT/there
	peer echo server serve 8001 echo
	relay
	bg first client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8001 send:x recv:x "touch:$there" "await:$OUT/never"
	wait_until 10 test -e "$there"
	on client nft -f - <<-'END'
		table inet mute {
			chain output {
				type filter hook output priority 0
				tcp sport 40001 drop
			}
		}
	END
	signal first KILL
	wait_exit first || :
	on client ss -KHtn "sport = :40001"
	assert_equal "$(on client ss -Htan "sport = :40001")" ""
	on client nft delete table inet mute
	# The SYN meets the old connection; the answer to that tells the client, whose reset ends it.
	run -0 exchange "$V4" 8001 send:y recv:y fin eof
	stop relay
	assert_line_in relay.out ' close 1 .* client-reset$'
	assert_line_in relay.out ' close 2 .* 1 1 [0-9.]+ done$'
}

# ---------------------------------------------------------------- an upstream on this very host

@test "an upstream on the proxy itself is refused at once, with the reason; with --source own it is not" {
	local host
	on proxy tproxy-setup up -q --name own --port 9000 --to "$RELAY_PORT" --include-own
	peer service proxy serve 9000 who recv:x send:y close
	relay --connect-timeout 60s
	SECONDS=0
	for host in 192.0.2.1 2001:db8:1::1 198.51.100.1; do
		run -0 on client "$PEER" connect "$host" 9000 gone
	done
	((SECONDS < 30))
	stop relay
	assert_equal "$(grep -c ' refused .* source$' "$OUT/relay.out")" 3
	assert_line_in relay.err '192\.0\.2\.1:9000: is on this host, .*: use --source own, .* \(source'
	relay --source own
	for host in 192.0.2.1 2001:db8:1::1; do
		run -0 on client "$PEER" connect "$host" 9000 send:x recv:y eof
	done
	stop relay
	refute_line_in service.out '^192\.0\.2\.2 '
}

@test "the relay notices addresses that the proxy gains and loses" {
	local address
	on server ip addr add 203.0.113.130/32 dev lo
	on server ip addr add 2001:db8:9::5/128 dev lo nodad
	on proxy ip route add 203.0.113.128/25 via "$V4"
	on proxy ip route add 2001:db8:9::/64 via "$V6"
	on proxy tproxy-setup up -q --name own --port 9000 --to "$RELAY_PORT" --include-own
	peer far server serve 9000 recv:x send:y close
	relay
	for address in 203.0.113.130/32 2001:db8:9::5/128; do
		run -0 on client "$PEER" connect "${address%/*}" 9000 send:x recv:y eof
		on proxy ip addr add "$address" dev lo
		run -0 on client "$PEER" connect "${address%/*}" 9000 gone
		on proxy ip addr del "$address" dev lo
		run -0 on client "$PEER" connect "${address%/*}" 9000 send:x recv:y eof
	done
	# A whole prefix that it answers for goes with its link, though nobody says so of the route.
	on proxy ip link add pair9 type veth peer name pair9peer
	on proxy ip link set pair9 up
	on proxy ip route add local 203.0.113.128/26 dev pair9
	run -0 on client "$PEER" connect 203.0.113.130 9000 gone
	on proxy ip link del pair9
	run -0 on client "$PEER" connect 203.0.113.130 9000 send:x recv:y eof
	stop relay
	assert_equal "$(grep -c ' refused .* source$' "$OUT/relay.out")" 3
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 5
}

@test "changes of a router's other routes, however many, do not wake the relay" {
	local before
	woken() { awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$(pid_of relay)/status"; }
	relay
	before=$(woken)
	printf "route add %s via $V4\n" 198.18.{0..3}.{0..249} >"$OUT/routes"
	on proxy ip -batch "$OUT/routes"
	sed -i s/add/del/ "$OUT/routes"
	on proxy ip -batch "$OUT/routes"
	# One that it must know of.
	on proxy ip addr add 203.0.113.130/32 dev lo
	wait_until 10 eval '(($(woken) > before))'
	(($(woken) - before < 10)) || fail "woken $(($(woken) - before)) times"
	stop relay
}

@test "--upstream on this host: refused at the start, unless policy routing keeps its answers here" {
	peer service proxy serve 9000 who recv:x send:y eof close
	run -3 on proxy tproxy-relay -4 "*:8200" --upstream 127.0.0.1:9000
	assert_output --regexp '^tproxy-relay: --upstream 127\.0\.0\.1:9000: is on this host, .*: use --source own, or 127.0.0.1 and ::1 with .tproxy-setup up --divert-only --local.$'
	on proxy ip rule add from 127.0.0.1 iif lo lookup 123
	on proxy ip route add local default dev lo table 123
	bg relay proxy tproxy-relay -4 "*:8200" --upstream 127.0.0.1:9000
	wait_listen proxy 8200
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect 192.0.2.1 8200 send:x recv:y fin eof
	stop relay
	assert_line_in service.out '^192\.0\.2\.2 40001$'
}

# ---------------------------------------------------------------- mistakes on the command line

@test "limits of zero, and rules that leave nothing to relay, are mistakes with a message" {
	local option
	for option in "--max 0" "--threads 0"; do
		run -2 on proxy tproxy-relay $option "$RELAY_PORT"
		assert_output --regexp "^tproxy-relay: $option: must be from 1 to [0-9]+"
	done
	for option in --connect-timeout --idle-timeout --half-closed-timeout; do
		run -2 on proxy tproxy-relay $option 0 "$RELAY_PORT"
		assert_output --regexp "^tproxy-relay: $option 0: must be longer than 0"
	done
	for option in "--deny-dst *" "--deny-dst 0.0.0.0/0 --deny-dst ::/0" "-4 --deny-dst 0.0.0.0/0" \
		"--allow-dst 192.0.2.0/24:80,443 --deny-dst *:1-1023"; do
		set -f
		run -2 on proxy tproxy-relay $option "$RELAY_PORT"
		set +f
		assert_output --regexp '^tproxy-relay: --deny-dst: leaves nothing to relay'
	done
	run -2 on proxy tproxy-relay -6 --allow-dst 192.0.2.0/24 "$RELAY_PORT"
	assert_output --regexp '^tproxy-relay: --allow-dst: allows nothing in the address family'
	run -2 on proxy tproxy-relay --upstream "$V4:80" --deny-dst "$V4" -4 "$RELAY_PORT"
	assert_output --regexp "^tproxy-relay: --upstream $V4:80: is what --deny-dst excludes"
	run -2 on proxy tproxy-relay --upstream "$V4:80" --allow-dst "$V4:81" -4 "$RELAY_PORT"
	assert_output --regexp "^tproxy-relay: --upstream $V4:80: is what --allow-dst excludes"
	# What leaves something is none.
	relay --deny-dst 0.0.0.0/0 --allow-dst "[2001:db8::/32]:80,8000" --drain-timeout 0
	peer server server serve 8000 send:x close
	run -0 on client "$PEER" connect "$V6" 8000 recv:x eof
	stop relay
}

# PASSING WHAT OPTION...: a relay whose descriptor 3 is WHAT, a Python expression, with LISTEN_FDS=1.
PASSING='
import os, sys
from socket import *
def listen(family, address):
    s = socket(family)
    s.bind(address)
    s.listen()
    return s
s = eval(sys.argv[1])
if s is None:
    os.closerange(3, 10)
else:
    os.dup2(s.fileno(), 3)
    os.set_inheritable(3, True) # dup2() does not, where it is 3 already
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp("tproxy-relay", ["tproxy-relay", *sys.argv[2:]])'

passing() { on proxy timeout --foreground $((10 * TIME_SCALE)) python3 -c "$PASSING" "$@"; }

@test "LISTEN_FDS that are not listeners, or cannot be served, are refused with the reason" {
	run -2 passing None
	assert_output --regexp '^tproxy-relay: LISTEN_FDS=1: fd 3: fcntl: Bad file descriptor'
	run -3 passing 'open("/dev/null")'
	assert_output 'tproxy-relay: inherited descriptor 3: is not a socket'
	run -3 passing 'socket(AF_INET)'
	assert_output 'tproxy-relay: inherited descriptor 3: is not a listening socket'
	run -3 passing 'socket(AF_INET6, SOCK_DGRAM)'
	assert_output 'tproxy-relay: inherited descriptor 3: is not bound to a port'
	run -3 passing 'socket(AF_INET, SOCK_RAW, IPPROTO_ICMP)'
	assert_output --regexp '^tproxy-relay: inherited descriptor 3: is not a '
	run -3 passing 'listen(AF_UNIX, "\0edges")'
	assert_output --regexp '^tproxy-relay: inherited descriptor 3: is a socket of another family'
	run -3 passing 'listen(AF_INET6, ("::1", 3129))' -4
	assert_output 'tproxy-relay: inherited descriptor 3: listens at [::1]:3129, and only IPv4 is served'
	run -3 passing 'listen(AF_INET, ("127.0.0.1", 3129))' --source 2001:db8:2::1
	assert_line 'tproxy-relay: inherited descriptor 3: listens at 127.0.0.1:3129, and only IPv6 is served'
}

@test "a passed listener that is not transparent is made so, or the message says what is missing" {
	bg relay proxy python3 -c "$PASSING" 'listen(AF_INET, ("127.0.0.1", 3129))'
	wait_listen proxy 127.0.0.1:3129
	peer server server serve 8000 who send:x close
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 recv:x eof
	wait_line server.out '^192\.0\.2\.2 40001$'
	stop relay
	run -3 on proxy setpriv --bounding-set=-net_admin,-net_raw python3 -c "$PASSING" \
		'listen(AF_INET, ("127.0.0.1", 3129))'
	assert_output --regexp '^tproxy-relay: 127\.0\.0\.1:3129: setsockopt\(IP_TRANSPARENT\): Operation not permitted; .*CAP_NET'
}

@test "a passed listener of both families serves both, each with the client's own address" {
	bg relay proxy python3 -c "$PASSING" 'create_server(("::", 3129), family=AF_INET6, dualstack_ipv6=True)'
	wait_listen proxy 3129
	peer server server serve 8000 who send:x close
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 recv:x eof
	run -0 on client "$PEER" -b '[2001:db8:1::2]:40002' connect "$V6" 8000 recv:x eof
	# And knows those that nobody redirected.
	run -0 on client "$PEER" connect 192.0.2.1 3129 gone
	stop relay
	assert_line_in server.out '^192\.0\.2\.2 40001$'
	assert_line_in server.out '^2001:db8:1::2 40002$'
	assert_line_in relay.out ' open 1 tcp 192\.0\.2\.2:40001 198\.51\.100\.2:8000 tproxy '
	assert_line_in relay.out ' refused - tcp 192\.0\.2\.2:[0-9]+ - none .* direct$'
}

# ---------------------------------------------------------------- resets

# A connection that was there before, and must be there after whatever happens to others.
neighbour() {
	peer echo server serve 8099 echo
	bg neighbour client "$PEER" connect "$V4" 8099 send:a recv:a "touch:$OUT/there" "await:$OUT/over" send:b recv:b fin eof
	wait_until 10 test -e "$OUT/there"
}

neighbour_is_well() {
	touch "$OUT/over"
	run -0 wait_exit neighbour
}

# host_for PORT: the server's address that goes with it, of the two families in turn.
host_for() { (($1 % 2)) && echo "$V4" || echo "$V6"; }

# meeting REASON CLIENT_SCRIPT / SERVER_SCRIPT: one connection, both of whose scripts must come true.
# F in a script is a file by which one side tells the other that a point is reached.
meeting() {
	local reason=$1 file=$OUT/meeting.$((++MEETINGS)) port=$((8000 + MEETINGS)) host client=() server=()
	shift
	while [[ $1 != / ]]; do
		client+=("${1/:F/:$file}")
		shift
	done
	server=("${@:2}")
	host=$(host_for $port)
	peer server server listen $port "${server[@]/:F/:$file}"
	bg meeting client "$PEER" connect "$host" $port "${client[@]}"
	# The server may accept before the relay hears of it; a client that resets by then is refused instead.
	wait_line relay.out " (open|refused) [0-9]+ .*:$port "
	touch "$file.open"
	run -0 wait_exit meeting
	run -0 wait_exit server
	wait_line relay.out " (close|refused) [0-9]+ .*:$port .* $reason\$"
}

@test "a reset from either side, in every state, resets the other side, and nobody else" {
	local before
	MEETINGS=0
	relay --control "$OUT/control"
	neighbour
	before=$(descriptors relay)
	# open
	meeting client-reset send:x await:F rst / recv:x touch:F gone
	meeting upstream-reset send:x gone / recv:x rst
	# with nothing said yet
	meeting client-reset await:F.open rst / gone
	meeting upstream-reset gone / rst
	# half-closed by the other side, and by the one that resets
	meeting client-reset recv:y eof await:F rst / send:y fin touch:F gone
	meeting client-reset send:x fin await:F rst / recv:x eof touch:F gone
	meeting upstream-reset send:x fin gone / recv:x eof rst
	meeting upstream-reset recv:y eof touch:F gone / send:y fin await:F rst
	# while the relay holds what the other side does not read
	meeting client-reset fill touch:F rst / await:F gone
	meeting upstream-reset await:F gone / fill touch:F rst
	# while the relay holds what this side does not read
	meeting client-reset await:F rst / fill touch:F gone
	meeting upstream-reset fill touch:F gone / await:F rst
	# while both sides hold back
	meeting client-reset fill touch:F await:F.2 rst / fill await:F touch:F.2 gone
	assert_equal "$(counter connections)" 1
	# Pipes are kept for later, two descriptors each.
	(($(descriptors relay) <= before + 16))
	neighbour_is_well
	stop relay
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 1
}

@test "a reset while the client waits to be accepted, or while the upstream is silent" {
	peer server server serve 8000 who echo
	relay --max 1 --control "$OUT/control" --connect-timeout 60s
	neighbour
	# In the queue of the listener: the upstream never hears of it.
	on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 send:x rst
	on client "$PEER" -b 192.0.2.2:40002 connect "$V4" 8000 send:x fin rst
	wait_until 10 eval '[[ $(counter paused-max) -gt 0 ]]'
	neighbour_is_well
	wait_until 10 eval '[[ $(counter client-gone) == 2 ]]'
	# It has sent data and FIN already.
	on server nft add table inet silence
	on server nft add chain inet silence input '{ type filter hook input priority 0; }'
	on server nft add rule inet silence input tcp dport 8000 drop
	on client "$PEER" connect "$V4" 8000 send:x fin rst
	wait_until 10 eval '[[ $(counter client-gone) == 3 ]]'
	assert_equal "$(counter connections)" 0
	stop relay
	assert_equal "$(cat "$OUT/server.out")" ""
}

# lost_reset PORT: the relay's reset toward the server is lost, and the server speaks again.
lost_reset() {
	local port=$1 host
	host=$(host_for "$port")
	peer server server listen "$port" recv:x "touch:$OUT/open" "await:$OUT/lost$port" send:y gone
	run -0 on client "$PEER" connect "$host" "$port" send:x "await:$OUT/open" rst
	wait_line relay.out " close [0-9]+ .*:$port .* client-reset\$"
	touch "$OUT/lost$port"
	run -0 wait_exit server
	rm "$OUT/open"
}

@test "if the reset to the server is lost, its next segment is answered with one" {
	local options port=8000
	relay
	neighbour
	on proxy nft 'table inet lossy {
		chain out { type filter hook output priority 0; tcp dport 8000-8098 tcp flags rst counter drop; }; }'
	for options in "" "--midstream pass" "--conntrack zone" "--conntrack zone --midstream pass"; do
		intercept 80,8000-8100 $options
		lost_reset $((++port))
		lost_reset $((++port))
	done
	run on proxy nft list table inet lossy
	assert_output --partial "counter packets $((port - 8000)) "
	neighbour_is_well
}

# The client's reset must then carry the address and port that the server knows the relay by.
@test "the same with NAT on the upstream leg" {
	local port=8000
	relay
	on proxy nft 'table inet lossy {
		chain out { type filter hook output priority 0; tcp dport 8000-8098 tcp flags rst counter drop; }; }
		table inet nat { chain out { type nat hook postrouting priority 100; oifname toserver masquerade; }; }
		table inet filter { chain f { type filter hook forward priority 0; ct state invalid drop; }; }'
	intercept 80,8000-8100 --conntrack zone
	lost_reset $((++port))
	lost_reset $((++port))
	run on proxy nft list table inet lossy
	assert_output --partial "counter packets $((port - 8000)) "
}

# The server takes a word, answers with one that is as long, resets, and tells how many connections
# began within two seconds, and with what.
cookie_server='
import socket, struct, sys, time
listener = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], 8090)); listener.listen(8); listener.settimeout(10)
def serve():
    conn, _ = listener.accept()
    word = conn.recv(5)
    if word == b"begin":
        conn.send(b"hello"); time.sleep(0.2)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()
        open(sys.argv[2], "w")
    return word.decode()
words = [serve(), serve()]; listener.settimeout(0.3)
try:
    while True: words.append(serve())
except TimeoutError: pass
print(*words)'

# check_tcp_syn_cookie() of net/ipv4/syncookies.c tells a cookie by a difference in which what the client
# and the server have sent cancel out: a segment that follows an equal exchange passes for a handshake.
@test "SYN cookies accept a segment after a lost reset as a connection, with the relay and without" {
	local host spec
	for host in proxy server; do
		on "$host" sysctl -qw net.ipv4.tcp_syncookies=2
	done
	relay
	for spec in 8090 80; do
		intercept "$spec"
		for host in "$V4" "$V6"; do
			bg server server python3 -c "$cookie_server" "$host" "$OUT/reset"
			wait_listen server 8090
			on client nft 'table inet lossy { chain in { type filter hook prerouting priority -400;
				tcp flags & rst == rst quota until 100 bytes drop; }; }'
			run -0 on client "$PEER" connect "$host" 8090 send:begin recv:hello "await:$OUT/reset" send:stray close
			rm "$OUT/reset"
			run -0 wait_exit server
			assert_equal "$(cat "$OUT/server.out")" "begin stray"
			on client nft delete table inet lossy
		done
	done
}

# SYNs toward the server: dropped until they are let through.
hold_syns() { on proxy nft 'table inet held { chain out { type filter hook output priority 0; tcp flags & (syn | ack) == syn drop; }; }'; }
syn_sent() { [[ $(on proxy ss -Htn state syn-sent) ]]; }
release_syns() { on proxy nft delete table inet held; }

# quick_reset PORT STEPS CLIENT_SCRIPT...: while the relay sleeps, its connect() succeeds and the server
# does STEPS, the last of which is a reset.
quick_reset() {
	local port=$1 host
	host=$(host_for "$port")
	hold_syns
	peer server server listen "$port" $2
	bg client client "$PEER" connect "$host" "$port" "${@:3}"
	wait_until 10 syn_sent
	signal relay STOP
	release_syns
	run -0 wait_exit server
	signal relay CONT
	run -0 wait_exit client
	wait_line relay.out " close [0-9]+ .*:$port .* upstream-reset\$"
}

@test "a server that answers and resets at once: open, then closed, with its data" {
	relay
	neighbour
	quick_reset 8001 "rst" gone
	quick_reset 8002 "rst" gone
	quick_reset 8003 "send:bye rst" recv:bye gone
	quick_reset 8004 "send:bye fin rst" recv:bye gone
	neighbour_is_well
	stop relay
	assert_equal "$(grep -c ' open ' "$OUT/relay.out")" 5
	assert_equal "$(grep -c ' refused ' "$OUT/relay.out")" 0
}

@test "a reset during the drain ends the relay" {
	relay --drain-timeout 1h
	peer server server listen 8000 recv:x "touch:$OUT/open" gone
	bg client client "$PEER" connect "$V4" 8000 send:x "await:$OUT/go" rst
	wait_until 10 test -e "$OUT/open"
	signal relay TERM
	wait_until 10 eval '! listens proxy $RELAY_PORT'
	touch "$OUT/go"
	run -0 wait_exit relay
	run -0 wait_exit server
	assert_line_in relay.out ' client-reset$'
}

# ---------------------------------------------------------------- upstreams that cannot be reached

@test "unreachable, prohibit and blackhole routes: refused at once, each with a message" {
	local host
	relay -v --connect-timeout 60s
	neighbour
	on proxy ip route add blackhole 198.51.100.71
	on proxy ip route add prohibit 198.51.100.72
	on proxy ip route add unreachable 198.51.100.73
	on proxy ip -6 route add blackhole 2001:db8:2::71
	on proxy ip -6 route add prohibit 2001:db8:2::72
	on proxy ip -6 route add unreachable 2001:db8:2::73
	SECONDS=0
	for host in 198.51.100. 2001:db8:2::; do
		run -0 on client "$PEER" connect "${host}71" 8000 gone
		run -0 on client "$PEER" connect "${host}72" 8000 gone
		run -0 on client "$PEER" connect "${host}73" 8000 gone
	done
	((SECONDS < 30))
	neighbour_is_well
	stop relay
	assert_equal "$(grep -c ' refused .* upstream-unreachable$' "$OUT/relay.out")" 6
	assert_equal "$(grep -c '71\]*:8000: connect: a blackhole route leads there: ' "$OUT/relay.err")" 2
	assert_equal "$(grep -c '72\]*:8000: connect: a prohibit route leads there, ' "$OUT/relay.err")" 2
	assert_equal "$(grep -c '73\]*:8000: connect: No route to host ' "$OUT/relay.err")" 2
}

# ---------------------------------------------------------------- writes, ports, stalls

@test "hundreds of one-byte writes, in each direction" {
	local text
	printf -v text '%0300d' 0
	relay
	peer server server listen 8000 "bytes:$text" "recv:$text" "bytes:$text" eof close
	run -0 on client "$PEER" connect "$V4" 8000 "recv:$text" "bytes:$text" "recv:$text" fin eof
	run -0 wait_exit server
	stop relay
	assert_line_in relay.out ' 300 600 [0-9.]+ done$'
}

@test "a client port that is the listener's: works on loopback, a clash with a message on a wildcard" {
	peer server server serve 8000 who recv:x send:y close
	relay
	run -0 on client "$PEER" -b "192.0.2.2:$RELAY_PORT" connect "$V4" 8000 send:x recv:y eof
	run -0 on client "$PEER" -b "[2001:db8:1::2]:$RELAY_PORT" connect "$V6" 8000 send:x recv:y eof
	stop relay
	assert_line_in server.out "^192\\.0\\.2\\.2 $RELAY_PORT\$"
	assert_line_in server.out "^2001:db8:1::2 $RELAY_PORT\$"
	bg relay proxy tproxy-relay "*:$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	run -0 on client "$PEER" -b "192.0.2.2:$RELAY_PORT" connect "$V4" 8000 gone
	run -0 on client "$PEER" connect "$V4" 8000 send:x recv:y eof
	stop relay
	assert_line_in relay.out ' refused .* clash$'
	assert_line_in relay.err "192\.0\.2\.2:$RELAY_PORT: bind: .*; a listener of this relay on any address has that port"
}

anonymous() { awk '/^RssAnon/ { print $2 }' "/proc/$(pid_of relay)/status"; }

# What the proxy's sockets hold, in bytes: received and not read, to be sent and not acknowledged.
socket_memory() {
	on proxy ss -Htnm state established |
		awk 'match($0, /skmem:\(r[0-9]+/) { r += substr($0, RSTART + 8, RLENGTH - 8) }
			match($0, /,w[0-9]+/) { w += substr($0, RSTART + 2, RLENGTH - 2) }
			END { print r + w }'
}

@test "connections that stall, in either direction: memory is bounded and does not grow" {
	local before after held
	# To what the buffers of sockets may grow (bytes: least, first, most).
	on proxy sysctl -qw net.ipv4.tcp_rmem='4096 131072 262144' net.ipv4.tcp_wmem='4096 16384 262144'
	relay
	neighbour
	before=$(anonymous)
	peer up server serve 8001 "await:$OUT/never"
	peer down server serve 8002 fill "await:$OUT/never"
	bg clients client python3 -c "
import socket, time
clients = [socket.create_connection(('$V4', port)) for port in (8001, 8002) for _ in range(10)]
quiet = 0
while True:
    sent = 0
    for s in clients[:10]:
        s.setblocking(False)
        try:
            sent += s.send(bytes(65536))
        except BlockingIOError:
            pass
    quiet = 0 if sent else quiet + 1
    if quiet == 20:
        print('stalled', flush=True)
    time.sleep(0.02 if quiet else 0)"
	wait_line clients.out stalled
	after=$(anonymous)
	held=$(socket_memory)
	# At most 64 KiB for each, where its bytes are copied (a sanitizer's allocator takes twice that):
	# pipes and sockets are the kernel's memory.
	((after - before <= 20 * 128)) || fail "$before KiB before, $after KiB with 20 stalled"
	# One full buffer at each side of the relay.
	((held > 20 * 65536 && held <= 20 * 2 * 262144 * 3 / 2)) || fail "$held bytes in sockets"
	# As it is a second later.
	sleep 1
	(($(anonymous) <= after + 64 && $(socket_memory) <= held + held / 8))
	neighbour_is_well
	signal relay TERM
	stop relay
}

# 20 clients that fill their connections, or only let them be filled: prints `stalled'.
CLIENTS='
import socket, sys, time
clients = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(20)]
quiet = 20 if sys.argv[3] == "wait" else 0
while quiet < 20:
    quiet += 1
    for s in clients:
        s.setblocking(False)
        try:
            s.send(bytes(65536))
            quiet = 0
        except BlockingIOError:
            pass
    time.sleep(0.02 if quiet else 0)
print("stalled", flush=True)
time.sleep(600)'

@test "little is read in advance for a receiver that reads nothing, however large buffers may grow" {
	local held
	on proxy sysctl -qw net.ipv4.tcp_rmem='4096 131072 33554432' net.ipv4.tcp_wmem='4096 16384 4194304'
	relay
	peer down server serve 8002 fill who "await:$OUT/never"
	bg down-clients client python3 -c "$CLIENTS" "$V4" 8002 wait
	wait_until 20 eval '(($(wc -l <"$OUT/down.out") == 20))'
	held=$(socket_memory)
	# A window of 128 KiB, and 256 KiB that are not sent yet, make about 8 MB; it was 200 MB.
	((held > 2000000 && held <= 25000000)) || fail "$held bytes for 20 clients that do not read"
	stop down-clients TERM || :
	stop down TERM || :
	wait_until 10 eval '[[ ! $(on proxy ss -Htn state established) ]]'
	peer up server serve 8001 "await:$OUT/never"
	bg up-clients client python3 -c "$CLIENTS" "$V6" 8001 fill
	wait_line up-clients.out stalled
	held=$(socket_memory)
	((held > 2000000 && held <= 25000000)) || fail "$held bytes for 20 servers that do not read"
}

# ---------------------------------------------------------------- what the kernel refuses

# A transfer each way that is bulk, and what it must be.
bulk_arrives() {
	local file
	file=$(random_file 30M)
	peer sink server listen 8000 "keep:$OUT/up" close
	run -0 on client "$PEER" connect "$V4" 8000 "file:$file" fin eof
	run -0 wait_exit sink
	cmp "$file" "$OUT/up"
	peer source server listen 8001 "file:$file" fin eof
	run -0 on client "$PEER" connect "$V6" 8001 "keep:$OUT/down" close
	run -0 wait_exit source
	cmp "$file" "$OUT/down"
	rm "$OUT/up" "$OUT/down"
}

pipes_of() { find "/proc/$(pid_of "$1")/fd" -lname 'pipe:*' | wc -l; }

# relay_as PROGRAM...: unprivileged toward the kernel's limits; by root as a user who is nobody else.
relay_as() {
	local user=() keep=-all,+net_admin,+net_raw uid=$((61000 + BASHPID % 4000))
	((EUID)) || user=(setpriv "--reuid=$uid" "--regid=$uid" --clear-groups --inh-caps="$keep" --ambient-caps="$keep")
	bg relay proxy ${user[@]+"${user[@]}"} "$@"
	wait_listen proxy "$RELAY_PORT"
}

# Pipes of 1 MiB as that user, until the kernel gives no more, and many small ones, so that it stays so
# when others of that user close theirs.
HOARD='
import fcntl, os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
try:
    while True:
        held += os.pipe()
        fcntl.fcntl(held[-1], 1031, 1 << 20)
except PermissionError:
    held += [os.pipe() for _ in range(3000)]
    print("refused", flush=True)
time.sleep(600)'

@test "the kernel refuses more pipes: bulk data is copied, and arrives" {
	local before
	relay_as tproxy-relay "$RELAY_PORT"
	before=$(pipes_of relay)
	bulk_arrives
	# Spliced, otherwise this shows nothing; but a user may have too many pipes already.
	((EUID)) || (($(pipes_of relay) > before))
	stop relay
	relay_as bash -c 'python3 -c "$0" & exec tproxy-relay "$@"' "$HOARD" "$RELAY_PORT"
	wait_line relay.out '^refused$'
	before=$(pipes_of relay)
	bulk_arrives
	# The kernel counts the pipes of a user, and rootless every test is the same one: another's end lets some in.
	((EUID)) || assert_equal "$(pipes_of relay)" "$before"
	stop relay
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 2
}

# ---------------------------------------------------------------- the limit on descriptors

# MANY ADDRESS PORT COUNT FILE: fill up with COUNT connections, each answered; 20 more, which are not;
# once the file is there end 20, which lets those in; then end all.
MANY='
import os, resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def open_some(n):
    some = [socket.create_connection((address, port), 60) for _ in range(n)]
    for s in some:
        s.sendall(b"x")
    return some
def answered(sockets, seconds):
    wait, got = select.poll(), 0
    for s in sockets:
        wait.register(s, select.POLLIN)
    while got < len(sockets):
        events = wait.poll(seconds * 1000)
        if not events:
            break
        for fd, _ in events:
            wait.unregister(fd)
        got += len(events)
    return got
held = []
while len(held) < count:
    some = open_some(min(500, count - len(held)))
    assert answered(some, 60) == len(some)
    held += some
print("full", flush=True)
more = open_some(20)
print("beyond it", answered(more, 0.5), flush=True)
while not os.path.exists(sys.argv[4]):
    time.sleep(0.01)
for s in held[:20]:
    s.close()
print("after that", answered(more, 60), flush=True)'

# A server of many: says one byte to each.
TELL='
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
listener = socket.socket()
listener.bind(("", 8000))
listener.listen(4096)
held = []
while True:
    s = listener.accept()[0]
    s.send(b"y")
    held.append(s)'

# relay_with FAULT: one of whose calls fails so.
relay_with() {
	rm -f "$OUT/fired"
	bg relay proxy env TPROXY_FAULT="$1" TPROXY_FAULT_LOG="$OUT/fired" "$TPROXY_BIN/fault/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
}

# all_done N: the fault has happened, and N connections ended well.
all_done() {
	stop relay
	assert_file_exist "$OUT/fired"
	assert_equal "$(grep -cE ' close .* done$' "$OUT/relay.out")" "$1"
}

@test "splice() refused, at either end, does not end a connection: bulk data is copied" {
	# The first splice of a transfer fills the pipe, the second empties it.
	for fault in splice:1+:EINVAL splice:2:EINVAL splice:4+:EINVAL splice:1:ENOSYS splice:2:EOPNOTSUPP \
		splice:3:ENOMEM; do
		relay_with "$fault"
		bulk_arrives
		all_done 2
	done
}

@test "an interrupted call is repeated" {
	for fault in splice:1:EINTR splice:2:EINTR; do
		relay_with "$fault"
		bulk_arrives
		all_done 2
	done
	peer server server serve 8002 recv:a send:b recv:c send:d recv:e send:f eof close
	for fault in accept4:1 recv:1 recv:2 recv:3 recv:4 recv:5 recv:6 send:1 send:2 send:3 send:4; do
		relay_with "$fault:EINTR"
		run -0 on client "$PEER" connect "$V4" 8002 send:a recv:b send:c recv:d send:e recv:f fin eof
		all_done 1
	done
}

# idle NAME: it uses no processor time to speak of.
idle() {
	local before after
	before=$(cpu_ticks "$1")
	sleep 1 # is the subject
	after=$(cpu_ticks "$1")
	((after - before < 20)) || fail "$((after - before)) ticks in a second"
}

@test "a destroyed listener is reported by name, and nothing spins; without any the program ends" {
	peer server server serve 8000 echo close
	for program in tproxy-relay "tproxy-listen --echo" "tproxy-relay --threads 2"; do
		# shellcheck disable=SC2086 # words
		bg relay proxy $program "$RELAY_PORT"
		wait_listen proxy "127.0.0.1:$RELAY_PORT"
		wait_listen proxy "\[::1\]:$RELAY_PORT"
		peer client client connect "$V6" 8000 send:a recv:a "await:$OUT/go" send:b recv:b fin eof
		wait_line relay.out ' open '
		while on proxy ss -HltnK src "127.0.0.1:$RELAY_PORT" | grep -q .; do :; done
		wait_line relay.err "^${program%% *}: warning: 127.0.0.1:$RELAY_PORT: accept4: Invalid argument; no longer a listening"
		idle relay
		run -0 on client "$PEER" connect "$V6" 8000 send:a recv:a fin eof
		while on proxy ss -HltnK src "[::1]:$RELAY_PORT" | grep -q .; do :; done
		wait_line relay.err 'no longer a listening socket: ending|no listener is left'
		touch "$OUT/go"
		run -3 wait_exit relay
		assert_line_in relay.err ' no listener is left'
		[[ $program == *listen* ]] || run -0 wait_exit client
		rm "$OUT/go"
	done
}

@test "an accept that fails, as with a security module, is retried each second; nothing spins" {
	bg relay proxy env TPROXY_FAULT=accept4:1:EACCES,accept4:2:EACCES "$TPROXY_BIN/fault/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	peer server server serve 8000 echo close
	run -0 on client "$PEER" connect "$V4" 8000 send:a recv:a fin eof
	assert_equal "$(grep -c 'accept4: Permission denied' "$OUT/relay.err")" 1
	stop relay
	bg relay proxy env TPROXY_FAULT=accept4:1+:EACCES "$TPROXY_BIN/fault/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	peer client client connect "$V4" 8000 send:a recv:a fin eof
	wait_line relay.err 'accept4: Permission denied'
	idle relay
	signal relay TERM
	run -0 wait_exit relay
}

@test "as many connections as 20,000 descriptors allow: further ones wait, none is lost" {
	local most used
	bg server server python3 -c "$TELL"
	wait_listen server 8000
	bg relay proxy prlimit --nofile=20000 tproxy-relay "$RELAY_PORT" --max 10000 --log off --control "$OUT/control"
	wait_listen proxy "$RELAY_PORT"
	most=$(sed -n 's/.*open files.* allows \([0-9]*\) connections.*/\1/p' "$OUT/relay.err")
	((most > 9500))
	neighbour
	bg many client python3 -c "$MANY" "$V4" 8000 $((most - 1)) "$OUT/counted"
	poll 30 has_line "$OUT/many.out" full || fail "only $(counter connections) of $most connections"
	wait_line many.out '^beyond it 0$'
	used=$(descriptors relay)
	((used >= 2 * most)) || fail "only $used descriptors of $most connections"
	touch "$OUT/counted"
	run -0 wait_exit many 30
	assert_line_in many.out '^after that 20$'
	((1 <= $(counter paused-max)))
	wait_until 30 eval '[[ $(counter connections) == 1 ]]'
	run -0 on client "$PEER" connect "$V4" 8000 send:x recv:y rst
	assert_equal "$(counter refused)" 0
	neighbour_is_well
	stop relay
}

# ---------------------------------------------------------------- clients on the proxy itself

# The server's reset frees the port of the upstream leg before the relay hears of it.
@test "a client on the proxy that gets the port of an upstream leg which was just reset is no loop" {
	local host own port
	on proxy tproxy-setup up -q --name own --local --port 9000 --to "$RELAY_PORT"
	relay --source client-addr --log events
	for host in "$V4" "$V6"; do
		own=198.51.100.1
		[[ $host == "$V4" ]] || own='[2001:db8:2::1]'
		peer server server listen 9000 recv:x "touch:$OUT/heard" "await:$OUT/stopped" rst
		bg client proxy "$PEER" -b "$own:41001" connect "$host" 9000 send:x gone
		wait_line relay.out " open .* ${own//[][]/.}:41001 "
		port=$(sed -nE "s/.* open .*:41001 .*:9000 tproxy .*:([0-9]+) [^ ]+:9000 addr .*/\1/p" "$OUT/relay.out" | tail -n 1)
		# What the client said has passed, or it would not before the relay goes on.
		wait_until 10 test -e "$OUT/heard"
		signal relay STOP
		# It hears of a connection first, then of the reset, and accepts both that wait by then.
		bg first client "$PEER" connect "$host" 8000 gone
		wait_until 10 eval '[[ $(on proxy ss -Htn state established "sport = :8000") ]]'
		touch "$OUT/stopped"
		run -0 wait_exit server
		peer server server listen 9000 recv:z send:w close
		bg second proxy "$PEER" -b "$own:$port" connect "$host" 9000 send:z recv:w eof
		wait_until 10 eval '[[ $(on proxy ss -Htn state established "sport = :9000 and dport = :$port") ]]'
		signal relay CONT
		run -0 wait_exit second
		run -0 wait_exit server
		run wait_exit first
		run -0 wait_exit client
		rm "$OUT/stopped" "$OUT/heard"
	done
	run grep -c ' loop$' "$OUT/relay.out"
	assert_output 0
}

@test "clients on the proxy itself: they hold their port, their address can be kept, in both families" {
	local host
	peer server server serve 9000 who recv:x send:y close
	on proxy tproxy-setup up -q --name own --local --port 9000 --to "$RELAY_PORT"
	relay
	for host in "$V4" "$V6"; do
		run -0 on proxy "$PEER" connect "$host" 9000 gone
	done
	stop relay
	assert_equal "$(grep -c ' refused .* clash$' "$OUT/relay.out")" 2
	relay --on-clash new-port
	for host in "$V4" "$V6"; do
		run -0 on proxy "$PEER" connect "$host" 9000 send:x recv:y eof
	done
	# Nobody else's port is changed.
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 9000 send:x recv:y eof
	stop relay
	assert_equal "$(grep -c ' addr 1 1 .* done$' "$OUT/relay.out")" 2
	assert_equal "$(grep -c ' addr+port 1 1 .* done$' "$OUT/relay.out")" 1
	assert_line_in server.out '^198\.51\.100\.1 [0-9]+$'
	assert_line_in server.out '^2001:db8:2::1 [0-9]+$'
	assert_line_in server.out '^192\.0\.2\.2 40001$'
}
