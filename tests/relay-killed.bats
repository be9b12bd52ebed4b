#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What clients and servers see when one of the three hosts disappears: the relay is killed, the
# server's or the client's machine falls silent.
#
#	client ---- proxy: TPROXY, tproxy-relay ---- server

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 8000-8100
}

teardown() { lab_down; }

# clients NAME N PORT STEP...: N clients, half of them over IPv6, each in its process; fails if one of them does.
clients() {
	local name=$1 n=$2 port=$3
	shift 3
	bg "$name" client bash -c 'set -o pipefail
		for ((i = 0; i < $2; i++)); do ((i % 2)) && echo "$3" || echo "$4"; done |
			xargs -P "$2" -I{} "$1" connect {} "${@:5}"' clients "$PEER" "$n" "$V4" "$V6" "$port" "$@"
}

# legs_with_timer N: so many idle upstream legs that have lived for a while, as their keepalive shows.
legs_with_timer() {
	(($(on proxy ss -Htno '( dport = :8000 or dport = :8003 )' | grep -c 'keepalive') == $1))
}

# all_say N FILE: as many lines as that.
all_say() { (($(wc -l <"$OUT/$2") == $1)); }

@test "after SIGKILL of the relay every connection is reset, at both ends: none looks complete" {
	for options in "" "--threads 2"; do
		# shellcheck disable=SC2086 # words
		relay $options
		peer idle server serve 8000 recv:a send:b reset
		peer down server serve 8001 fill who reset
		peer up server serve 8002 skip:1000000 who "await:$OUT/killed" reset
		peer half server serve 8003 recv:a eof send:b gone
		# Each says where it is when it has come there.
		clients idles 20 8000 send:a recv:b self reset
		clients downs 10 8001 skip:1000000 self "await:$OUT/killed" reset
		clients ups 10 8002 fill self reset
		clients halves 10 8003 send:a fin recv:b self reset
		wait_until 20 legs_with_timer 30
		for name in idles:20 downs:10 ups:10 halves:10 down:10 up:10; do
			wait_until 20 all_say "${name#*:}" "${name%:*}.out"
		done
		signal relay KILL
		run wait_exit relay
		touch "$OUT/killed"
		for name in idles downs ups halves; do
			run -0 wait_exit "$name"
		done
		for name in idle down up half; do
			assert_equal "$(<"$OUT/$name.err")" ''
			stop "$name" || :
		done
		rm "$OUT/killed"
	done
}

@test "an orderly end stays orderly after SIGKILL: data that waits here for the client arrives" {
	relay
	peer server server serve 8000 recv:a eof "await:$OUT/old" zeros:300000 close
	clients clients 20 8000 send:a fin "await:$OUT/go" skip:300000 eof close
	wait_until 20 legs_with_timer 20
	touch "$OUT/old"
	wait_until 20 eval '(($(grep -c " 1 300000 .* done$" "$OUT/relay.out") == 20))'
	touch "$OUT/go"
	run -0 wait_exit clients
	assert_equal "$(<"$OUT/server.err")" ''
	stop relay
}

# vanish HOST: it neither hears nor says anything any more.
vanish() {
	on "$1" nft -f - <<<'table inet gone { chain in { type filter hook input priority 0; policy drop; }
		chain out { type filter hook output priority 0; policy drop; }; }'
}

@test "a server whose host vanishes is noticed by --keepalive, in both families, and so is a client" {
	local ms lived=${EPOCHREALTIME/./}
	relay --keepalive 2s
	peer server server serve 8000 recv:a send:b reset
	clients clients 4 8000 send:a recv:b self reset
	wait_until 20 all_say 4 clients.out
	wait_until 20 legs_with_timer 4
	vanish server
	lived=$(((${EPOCHREALTIME/./} - lived) / 1000))
	run -0 wait_exit clients
	on server nft delete table inet gone
	wait_lines 4 relay.out ' upstream-lost$'
	# Two seconds and four probes, and what a connection had lived before.
	while read -r ms; do
		((ms >= 5500 && ms <= lived + 8000 + 1000 * TIME_SCALE)) || fail "$ms ms, $lived of them before"
	done < <(sed -nE 's/.* ([0-9]+)\.[0-9]+ upstream-lost$/\1/p' "$OUT/relay.out")
	stop server || :
	peer server server serve 8000 recv:a send:b reset
	clients clients 4 8000 send:a recv:b self "await:$OUT/never"
	wait_until 20 all_say 4 clients.out
	wait_until 20 legs_with_timer 4
	vanish client
	wait_until 20 eval '(($(grep -c " client-lost$" "$OUT/relay.out") == 4))'
	wait_until 10 eval '[[ ! $(on server ss -Htn state established) ]]'
	assert_equal "$(<"$OUT/server.err")" ''
	stop relay
}

@test "--keepalive 0 sends no probes; the default is five minutes, on both legs" {
	for given in "5min --log events" "none --keepalive 0"; do
		# shellcheck disable=SC2086 # words
		relay ${given#* }
		peer server server serve 8000 recv:a send:b "await:$OUT/go"
		peer client client connect "$V4" 8000 send:a recv:b "await:$OUT/go"
		wait_line relay.out ' open '
		if [[ $given == 5min* ]]; then
			# (Until what was sent last is acknowledged the timer is another one.)
			wait_until 10 eval '(($(on proxy ss -Htno state established | grep -cE "keepalive,4min[0-9.]+sec") == 2))'
		else
			run on proxy ss -Htno state established
			refute_output --partial keepalive
		fi
		touch "$OUT/go"
		run wait_exit client
		stop relay
		stop server || :
		rm "$OUT/go"
	done
	run -2 on proxy tproxy-relay --keepalive 500ms "$RELAY_PORT"
	assert_output --partial '--keepalive 500ms: must be 0, or from 1s to 9h'
}
