#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016,SC2034 # eval expands and uses them
#
# What a connection costs tproxy-relay in system calls. One connection with one round trip:
#
#	accept4 getsockname recvfrom	the client, and what it has said already
#	socket setsockopt*5 bind	urgent data in its place (from the first byte on, or one may be
#	connect				lost), mark, transparent, port shared, and either no early ACK or,
#					when nothing had been said yet, one more recvfrom instead
#	epoll_ctl*2			one for each side, for good
#	sendto recvfrom sendto		the round trip
#	recvfrom shutdown recvfrom	both ends; one recvfrom less where FIN came with the answer
#	close*2
#
# That is 21, beside the waits, which many connections share.

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80
	start_nginx
	# LeakSanitizer, in a sanitizer build, cannot work while it is traced.
	bg relay proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -D -f -o "$OUT/calls" tproxy-relay --log off "$RELAY_PORT"
	wait_until 10 is_idle
	closed=$(grep -c ' close(' "$OUT/calls")
	served=0
	fetch 1
}

teardown() { lab_down; }

# It listens before it is done with starting; strace shows a call when it begins.
is_idle() { [[ $(tail -n 1 "$OUT/calls") == *' epoll_wait('* ]]; }

# fetch N [REQUESTS]: N connections more, one after the other, or REQUESTS on each and N at once; until
# the relay has closed both of its sockets for each.
fetch() {
	if (($# == 1)); then
		seq "$1" | on client xargs -I{} curl -sS --max-time 10 -o /dev/null "http://$V4/who"
	else
		printf "url=http://$V4/who\noutput=/dev/null\n%.0s" $(seq "$2") >"$OUT/requests"
		seq "$1" | on client xargs -P "$1" -I{} curl -sS --max-time 60 -K "$OUT/requests"
	fi
	((served += $1))
	wait_until 10 eval '(($(grep -c " close(" "$OUT/calls") == closed + 2 * served))'
}

# calls: how many of the relay's own so far, but for waits, and looks whether somebody else is waiting.
calls() {
	grep -Ev 'epoll_wait|accept4.*EAGAIN' "$OUT/calls" | grep -c "^$(pid_of relay) *[a-z0-9_]*("
}

@test "at most 21 system calls for a connection with one round trip" {
	local before after start=$SECONDS
	before=$(calls)
	fetch 20
	after=$(calls)
	# Four times a second it asks a helper whether there are rules now that translate sources: two calls.
	((after - before >= 15 * 20)) # they are seen
	((after - before <= 21 * 20 + 8 * (SECONDS - start + 1))) || {
		sed -E 's/^[0-9]+ +//; s/\(.*//' "$OUT/calls" | sort | uniq -c | sort -rn >&2
		fail "$((after - before)) calls for 20 connections"
	}
	stop relay
}

@test "at most 4.5 system calls for a further round trip, waits included, with 50 connections busy" {
	local before after
	before=$(grep -c . "$OUT/calls")
	fetch 50 41
	after=$(grep -c . "$OUT/calls")
	wait_until 10 eval '[[ $(grep -c " GET /who " "$OUT/access.log") == $((50 * 41 + 1)) ]]'
	# 40 further round trips each; 23 calls are the first one's, with its TCP_NODELAY and a wait.
	((after - before - 50 * 23 <= 50 * 40 * 45 / 10)) ||
		fail "$((after - before)) calls for 50 connections of 41 round trips"
	stop relay
}
