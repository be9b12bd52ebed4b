# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034 # what is set here is for the tests
#
# udp - what the tests of the relay's UDP share: interception, relays, peers, captures.

load lib/relay

DGRAM=$TOP/tests/lib/dgram

# intercept_udp PORTS [OPTION...]: on the proxy, hand UDP to these ports to the relay's listeners.
intercept_udp() {
	intercept "$1" -u "${@:2}"
}

# udp_relay OPTION...: start one, as `relay`, and wait until it serves.
udp_relay() {
	bg relay proxy tproxy-relay -u "$RELAY_PORT" "$@"
	serves relay "$@"
}

# dgram NAME HOST ROLE ARG...: a server in the background; see tests/lib/dgram.
dgram() {
	bg "$1" "$2" "$DGRAM" "${@:3}"
	wait_listen "$2" "$4" udp
}

# reuses_ports HOST: can its kernel release a port that it was told to choose (IP_LOCAL_PORT_RANGE)?
reuses_ports() {
	on "$1" python3 -c '
import socket, struct
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(socket.IPPROTO_IP, 51, struct.pack("I", 40000 << 16 | 40000))' 2>/dev/null
}

# ask_from HOST ARG...: see `ask' of tests/lib/dgram.
ask_from() {
	on "$1" timeout --foreground $((60 * TIME_SCALE)) "$DGRAM" ask "${@:2}"
}

# sniff NAME HOST INTERFACE [PORT...]: what passes there from now on, in $OUT/NAME.out; see tests/lib/sniff.
sniff() {
	bg "$1" "$2" "$TOP/tests/lib/sniff" "${@:3}"
	wait_line "$1.err" ready
}

# ends_in NAME: which pairs of ends the UDP packets had, in both directions, each once.
ends_in() {
	awk '$1 == "udp" { print $2, $3, $4 }' "$OUT/$1.out" | sort -u
}
