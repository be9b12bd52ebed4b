# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# setup - what the tests of tproxy-setup share. After lib/lab:
#
#	snapshot	all that tproxy-setup could change on host proxy, as text
#	intact [OPTION...]	is all of it in place there, whoever listens (see lib/intact)
#	start_echo	servers on host server's port 80, both families, that say again each line they hear
#	start_relay	tproxy-relay on proxy, with records in $OUT/relay.out
#	open_line NAME ADDRESS:PORT	a client's connection that lives until it is stopped
#	say NAME WORD	a line into it
#	heard NAME WORD	has this line come back?

# The kernel adds link-local addresses, and their routes, when it has seen that nobody else has them.
has_link_locals() {
	(($(on proxy ip -6 route show table local type local | grep -c '^local fe80:') == 3))
}

snapshot() {
	wait_until 10 has_link_locals
	on proxy nft list ruleset
	echo "== rules"
	on proxy ip -4 rule
	on proxy ip -6 rule
	echo "== routes"
	on proxy ip -4 route show table all
	on proxy ip -6 route show table all
}

intact() {
	on proxy "$TOP/tests/lib/intact" "$@"
}

start_echo() {
	bg echo4 server socat TCP4-LISTEN:80,reuseaddr,fork SYSTEM:'while read x; do echo $x; done'
	bg echo6 server socat TCP6-LISTEN:80,ipv6-v6only,reuseaddr,fork SYSTEM:'while read x; do echo $x; done'
	wait_listen server 0.0.0.0:80
	wait_listen server '[::]:80'
}

start_relay() {
	bg relay proxy tproxy-relay --log events --drain-timeout 60s 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
}

open_line() {
	local name=$1 to=$2
	mkfifo "$OUT/$name.in"
	bg "$name" client bash -c 'exec socat -T60 - "$0" <>"$1"' "TCP:$to" "$OUT/$name.in"
}

say() {
	echo "$2" >"$OUT/$1.in"
}

heard() {
	grep -qx "$2" "$OUT/$1.out"
}
