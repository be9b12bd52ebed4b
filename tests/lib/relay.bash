# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# relay - what the relay's tests share: interception, a relay in front of it, peers that act.

load lib/lab

PEER=$TOP/tests/lib/peer
RELAY_PORT=3129
V4=198.51.100.2
V6=2001:db8:2::2

# intercept PORTS: on the proxy, hand TCP to these ports to the relay's listeners.
intercept() {
	on proxy ip rule add fwmark 0x1/0xff lookup 100 pref 100
	on proxy ip -6 rule add fwmark 0x1/0xff lookup 100 pref 100
	on proxy ip route add local default dev lo table 100
	on proxy ip -6 route add local default dev lo table 100
	on proxy nft -f - <<-END
		table inet intercept {
			chain prerouting {
				type filter hook prerouting priority mangle
				meta l4proto { icmp, ipv6-icmp } socket transparent 1 meta mark set 1 accept
				meta l4proto != tcp return
				tcp flags & (syn | ack) != syn socket wildcard 1 return
				tcp flags & (syn | ack) != syn socket transparent 1 meta mark set 1 accept
				fib daddr type { local, broadcast, multicast, anycast } return
				tcp dport { $1 } meta nfproto ipv4 tproxy ip to 127.0.0.1:$RELAY_PORT meta mark set 1 accept
				tcp dport { $1 } meta nfproto ipv6 tproxy ip6 to [::1]:$RELAY_PORT meta mark set 1 accept
				tcp dport { $1 } reject with tcp reset
			}
		}
	END
}

# relay OPTION...: start one, as `relay`, and wait until it listens.
relay() {
	bg relay proxy tproxy-relay "$RELAY_PORT" "$@"
	wait_listen proxy "$RELAY_PORT"
}

# peer NAME HOST ARG...: one end of a connection in the background; see tests/lib/peer.
peer() {
	local name=$1 host=$2
	shift 2
	bg "$name" "$host" "$PEER" "$@"
	case $1 in listen | serve) wait_listen "$host" "$2" ;; esac
}

# counter NAME: what the relay says at its control socket.
counter() {
	ask counters | sed -n "s/.*\"check\":\"$1\",\"count\":\([0-9]*\)}/\1/p"
}

# ask COMMAND: the control socket's answer.
ask() {
	socat -t5 - "UNIX-CONNECT:$OUT/control" <<<"$1"
}

# cpu_ticks NAME: what a background process has used, in clock ticks.
cpu_ticks() {
	awk '{ print $14 + $15 }' "/proc/$(pid_of "$1")/stat"
}

# descriptors NAME
descriptors() {
	local fds=("/proc/$(pid_of "$1")/fd/"*)
	echo ${#fds[@]}
}
