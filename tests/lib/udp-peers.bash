# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# udp-peers - the relay between unmodified programs: what tests/relay-udp-peers.bats and `make soak-udp` share.

load lib/udp

SCALE=${PEERS_SCALE:-1}

setup() {
	lab_up
	intercept 1-65535 -t -u
	bg relay proxy tproxy-relay -t -u "$RELAY_PORT" -o event,proto,client,origdst,packets_up,packets_down,reason
	wait_listen proxy "$RELAY_PORT" udp
}

teardown() { lab_down; }

# need PROGRAM PACKAGE
need() {
	type -P "$1" >/dev/null || skip "$1 is not installed (package $2)"
}

# relayed PORT: flows to that port of the server were carried, in both families.
relayed() {
	assert_line_in relay.out "^open udp 192.0.2.2:[0-9]+ 198.51.100.2:$1 "
	assert_line_in relay.out "^open udp \[2001:db8:1::2\]:[0-9]+ \[2001:db8:2::2\]:$1 "
}

# names COUNT: so many names with an address each, as /etc/hosts has them.
names() {
	awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "10.%d.%d.%d n%d.test\n", i / 65536, i / 256 % 256, i % 256, i }'
}

# ask_all ADDRESS: all the names, one after the other, each from a port of its own; every answer must be its
# own name's.
ask_all() {
	awk '{ print $2 }' "$OUT/names" >"$OUT/questions"
	on client timeout --foreground $((120 * SCALE)) dig "@$1" +noall +answer +tries=3 +time=2 -f "$OUT/questions" >"$OUT/answers"
	diff <(awk '{ sub(/\.$/, "", $1); print $5, $1 }' "$OUT/answers") "$OUT/names"
}

# certificate: $OUT/key.pem and $OUT/cert.pem.
certificate() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server.test -days 2 \
		-keyout "$OUT/key.pem" -out "$OUT/cert.pem" 2>/dev/null
}
