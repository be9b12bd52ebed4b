#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-scale(7): four relays between two routers, set up by the files that it prints, with real BIRD. The tests share
# one lab, and but for the last one leave it as they found it.
#
#   client --- west --+-- r1 --+-- east --- server
#   192.0.2.2         +-- r2 --+            198.51.100.2
#   2001:db8:1::2     +-- r3 --+            2001:db8:2::2
#                     +-- r4 --+

bats_require_minimum_version 1.5.0
load lib/lab
load lib/examples
load lib/scale

export BATS_NO_PARALLELIZE_WITHIN_FILE=true
BOTH=$V4,$V6

setup_file() {
	lab_up
	scale_up 4
	for k in 1 2 3 4; do serve $k; done
	echo_serves
	served 1 2 3 4
}
teardown_file() { lab_down; }

beats() { on client "$TOP/tests/lib/beats" "$@"; }
echo_serves() {
	bg echo server "$TOP/tests/lib/beats" serve 80
	wait_listen server 80
}

# hold: 200 connections that say something ten times a second; until finish, which says how many are lost.
hold() {
	rm -f "$OUT/end"
	bg hold client "$TOP/tests/lib/beats" hold "$BOTH" 80 200 "$OUT/end"
	wait_line hold.out '^held'
	refute_line_in hold.out '^lost'
	wait_until 10 all_told
}
finish() {
	touch "$OUT/end"
	wait_exit hold 30
	tail -n 1 "$OUT/hold.out"
}

# those_of K: the clients' ends of the connections that relay K has. (What it was the last to open: ports come again; and
# what the client knows of: a relay may have one that has moved away.)
those_of() {
	comm -12 <(for k in 1 2 3 4; do awk -v k=$k '$2 == "open" { print $1, k, $5 }' "$OUT/relay$k.out"; done | sort |
		awk -v k="$1" '{ last[$3] = $2 } END { for (c in last) if (last[c] == k) print c }' | sort) \
		<(on client ss -Htn state established 'dport = :80' | awk '{ print $3 }' | sort)
}
all_told() { (($(for k in 1 2 3 4; do those_of $k; done | wc -l) == 200)); }
those_lost() {
	awk '$1 == "lost" { print ($2 ~ /:/ ? "[" $2 "]" : $2) ":" $3 }' "$OUT/hold.out" | sort
}

# first_reset, last_reset: seconds after the time in $OUT/when.
resets() {
	awk -v when="$(<"$OUT/when")" '$1 == "lost" { t = $4 - when; if (!n++ || t < first) first = t; if (t > last) last = t }
		END { printf "%.2f to %.2f s\n", first, last }' "$OUT/hold.out"
}
# reset_within SECONDS: all of them.
reset_within() {
	resets | awk -v limit="$(($1 * TIME_SCALE))" '{ exit !($3 < limit) }' || fail "reset within $(resets), not $1 s"
}
now() { echo "$EPOCHREALTIME" >"$OUT/when"; }

# ask COUNT: connections in both families, all of which work.
ask() {
	run -0 beats ask "$BOTH" 80 "$1"
	refute_line --partial failed
}

seed() { on "$1" sysctl -qw net.ipv4.fib_multipath_hash_seed="$2"; }
policy() {
	for host in west east; do
		on $host sysctl -qw net.ipv4.fib_multipath_hash_policy="$1" net.ipv6.fib_multipath_hash_policy="$1"
	done
}

@test "systemd accepts the units" {
	block r1 'cat >relay-slots.service'
	mkdir -p "$OUT/units"
	cp "$OUT/r1"/{relay-slots,relay-rules}.service "$OUT/r1/announce@.service" "$OUT/units/"
	# What it names is not installed here.
	sed -i -e "s,=relay-slots,=$OUT/r1/relay-slots," -e "s,=announce %i,=$OUT/r1/announce %i," "$OUT/units"/*
	printf '#!/bin/sh\n' >"$OUT/r1/relay-slots"
	chmod 755 "$OUT/r1/relay-slots" "$OUT/r1/announce"
	for unit in relay-slots relay-rules announce@; do
		run systemd-analyze verify --man=no "$OUT/units/$unit.service"
		refute_output --partial "$unit"
	done
}

@test "100,000 flows of both families meet the same relay in both directions, a quarter each" {
	"$TOP/tests/lib/route-flows" make 50000 >"$OUT/flows"
	flows_sent "$OUT/flows"
	for k in 1 2 3 4; do
		run comm -3 "$OUT/there.$k" "$OUT/back.$k"
		assert_output ''
		((share = $(wc -l <"$OUT/there.$k")))
		((share > 24000 && share < 26000)) || fail "relay $k has $share of 100000"
		echo "# relay $k: $share of 100,000 flows, the same ones in both directions" >&3
	done
	assert_equal "$(cat "$OUT"/there.? | wc -l)" "$(sort -u "$OUT/flows" | wc -l)"
}

@test "2,000 connections work, and come through the relays that the routing table says" {
	ask 2000
	echo "$output" >"$OUT/real"
	run -0 flows_disagree "$OUT/real"
	assert_output 0
	# (What it says of IPv6 is not what becomes of packets: see lib/route-flows.)
	paste -d ' ' "$OUT/real" "$OUT/real.west" | awk '$1 !~ /:/ { print $1 ":" $2, $5 }' | sort >"$OUT/predicted"
	for k in 1 2 3 4; do
		wait_until 10 eval '(($(grep -c " open " "$OUT/relay$k.out") > 400))'
		awk -v k=$k '$2 == "open" { print $5, k }' "$OUT/relay$k.out"
	done | sort >"$OUT/seen"
	run comm -23 "$OUT/predicted" "$OUT/seen"
	assert_output ''
	assert_equal "$(wc -l <"$OUT/predicted")" 1000
	for k in 1 2 3 4; do
		run -0 on r$k tproxy-setup doctor --name web
		refute_output --partial one-way
	done
}

# How many of 16: a SYN that is sent again has another hash.
failures() {
	local i pids=() failed=0
	for i in {1..16}; do
		on client timeout 1 bash -c "exec 5<>/dev/tcp/$V4/80; echo . >&5; read -r -N 1 -u 5" 2>/dev/null &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || failed=$((failed + 1))
	done
	echo "$failed"
}

# heals ROUTER DESTINATIONS: what the doctor prints there is done, as printed; then it finds nothing.
multipath_fixes() {
	on "$1" tproxy-setup doctor -q --json --to 3129 -p 80 --dst "$2" | jq -r 'select(.check == "multipath").fix // empty'
}
heals() {
	multipath_fixes "$@" >"$OUT/fix"
	assert_equal "$(wc -l <"$OUT/fix")" 2
	on "$1" sh -e "$OUT/fix" >/dev/null
	run multipath_fixes "$@"
	assert_output ''
}

@test "what breaks it: another seed; policy 1, whose packets bring a hash along" {
	"$TOP/tests/lib/route-flows" make 5000 >"$OUT/some"
	assert_equal "$(failures)" 0
	seed east 4712
	disagree=$(flows_disagree "$OUT/some")
	echo "# with another seed $disagree of 10,000 flows disagree" >&3
	((disagree > 7000 && disagree < 8000))
	(($(failures) > 0))
	seed east 4711
	# By the routing table alone it is symmetric.
	policy 1
	run -0 flows_disagree "$OUT/some"
	assert_output 0
	(($(failures) > 0))
	# The doctor is not deceived.
	heals west 198.51.100.0/24,2001:db8:2::/64
	heals east 192.0.2.0/24,2001:db8:1::/64
	ask 100
}

@test "where it cannot be had: --source own with --send-proxy 2" {
	local IT
	seed east 4712
	printed "$SCALE_PAGE" 'tproxy-relay --source own'
	for k in 1 2 3 4; do
		# (It would withdraw the relay for a moment.)
		signal announce$k KILL
		stop relay$k KILL || :
		bg relay$k r$k bash -c "exec $IT"
		wait_listen r$k 3129
	done
	stop echo || :
	printf '%s\n' "user root root; daemon off; master_process off; pid $OUT/ngx.pid; error_log $OUT/ngx.log;" \
		'events { worker_connections 4000; }' "http { client_body_temp_path $OUT; proxy_temp_path $OUT; fastcgi_temp_path $OUT;" \
		"uwsgi_temp_path $OUT; scgi_temp_path $OUT; access_log off; server { listen *:80 proxy_protocol;" \
		'listen [::]:80 ipv6only=on proxy_protocol; location = /who { default_type text/plain;' \
		'return 200 "$proxy_protocol_addr $proxy_protocol_port\n"; } } }' >"$OUT/ngx.conf"
	bg ngx server nginx -p "$OUT" -c "$OUT/ngx.conf" -e "$OUT/ngx.log"
	wait_listen server 80
	rm -f "$OUT/end"
	bg steady client "$TOP/tests/lib/steady" "$BOTH" 80 4 "$OUT/end"
	for k in 1 2 3 4; do
		wait_until 20 eval '(($(grep -c " open " "$OUT/relay$k.out") > 50))'
	done
	touch "$OUT/end"
	run -0 wait_exit steady 30
	run tail -n 1 "$OUT/steady.out"
	assert_output --regexp '^[0-9]{3,} answered, 0 failed$'
	echo "# other seeds, --source own --send-proxy 2: $output" >&3
	stop ngx || :
	seed east 4711
	for k in 1 2 3 4; do
		stop relay$k || :
		bg relay$k r$k tproxy-setup exec --conf "$OUT/r$k/web.conf"
		wait_listen r$k 3129
		announce $k
	done
	echo_serves
	ask 100
}

@test "one of four is drained under load: no error, and it ends with its last connection" {
	hold
	share=$(those_of 3 | wc -l)
	((share > 20))
	rm -f "$OUT/enough"
	bg load client "$TOP/tests/lib/beats" ask "$BOTH" 80 2000 "$OUT/enough"
	drain 3
	for host in west east; do
		wait_until 20 leads $host '1 1 1 2 2 2 4 1 2 4 4 4'
	done
	touch "$OUT/enough"
	wait_exit load 60
	refute_line_in load.out failed
	# Its connections are still its own.
	wait_line relay3.err "$share connections may finish"
	ask 100
	run -0 finish
	assert_output '200 held, 0 lost'
	wait_exit relay3 20
	stopped 3
	echo "# drained: $share connections of 200 were relay 3's; 0 lost, and 0 of $(wc -l <"$OUT/load.out") new ones failed" >&3
	serve 3
	served 1 2 3 4
}

@test "one of four is killed: its share is lost and reset, nothing else; when it is back, its share moves, at most" {
	hold
	those_of 4 >"$OUT/share"
	now
	die 4
	for host in west east; do
		wait_until 20 leads $host '1 1 1 2 2 2 3 3 3 1 2 3'
	done
	wait_until 10 eval '[[ $(those_lost | wc -l) == $(wc -l <"$OUT/share") ]]'
	ask 100
	run -0 finish
	run diff "$OUT/share" <(those_lost)
	assert_output ''
	echo "# killed: its $(wc -l <"$OUT/share") of 200 were reset within $(resets), none of the others" >&3
	reset_within 3
	hold
	revive 4
	served 1 2 3 4
	ask 100
	run -0 finish
	moved=$(those_lost | wc -l)
	echo "# added: $moved of 200 moved" >&3
	((moved > 20 && moved < 80))
	# They are those whose slots are relay 4's own.
	those_lost | awk -F : -v to="$V4" '!/\[/ { print $1, $2, to, 80 }' >"$OUT/moved"
	run -0 flows_disagree "$OUT/moved"
	assert_output 0
	assert_equal "$(sort -u "$OUT/moved.west")" 4
}

@test "one leg of a relay is lost: both routers leave it" {
	hold
	those_of 2 >"$OUT/share"
	now
	on r2 ip link set east down
	for host in west east; do
		wait_until 20 leads $host '1 1 1 3 4 1 3 3 3 4 4 4'
	done
	wait_until 10 eval '[[ $(those_lost | wc -l) == $(wc -l <"$OUT/share") ]]'
	run -0 finish
	run diff "$OUT/share" <(those_lost)
	assert_output ''
	echo "# one leg lost: its $(wc -l <"$OUT/share") of 200 were reset within $(resets), none of the others" >&3
	on r2 ip -batch - <<-END
		link set east up
		address add fd00:2::2/64 dev east nodad
		route add 198.51.100.0/24 via 10.2.255.254
		route add 2001:db8:2::/64 via fd00:2::ffff
	END
	served 1 2 3 4
}


# forwarded K: packets of what is to be relayed that relay K has forwarded since watch K.
watch() {
	on "r$1" nft -f - <<-END
		table inet watch
		delete table inet watch
		table inet watch {
			counter forwarded { }
			chain post {
				type filter hook postrouting priority 300
				iifname west tcp dport 80 meta mark & 0xff00 != 0x200 counter name forwarded
				iifname east tcp sport 80 meta mark & 0xff00 != 0x200 counter name forwarded
			}
		}
	END
}
forwarded() { on "r$1" nft list counter inet watch forwarded | awk '$1 == "packets" { print $2 }'; }
rules() {
	local family
	for family in -4 -6; do
		on "r$2" ip $family -batch - < <(sed "s/^rule add/rule $1/" "$OUT/r$2/relay.rules")
	done
}

@test "rules of nftables are gone on a relay, or those of routing: nothing gets past it, and it is left" {
	signal announce2 KILL
	on r2 nft flush ruleset
	watch 2
	run beats ask "$BOTH" 80 100
	assert_line --partial failed
	assert_equal "$(forwarded 2)" 0
	# Without what the page says, it would. (Not what meets a socket that the relay still has.)
	rules del 2
	run beats ask "$BOTH" 80 100
	(($(forwarded 2) > 0))
	rules add 2
	wait_exit announce2 || :
	announce 2
	# The other layer.
	watch 3
	rules del 3
	on r3 nft delete table inet tproxy_web
	run beats ask "$BOTH" 80 100
	assert_equal "$(forwarded 3)" 0
	for host in west east; do
		wait_until 20 leads $host '1 1 1 4 4 1 4 1 4 4 4 4'
	done
	ask 100
	rules add 3
	for k in 2 3; do
		on r$k nft -f "$OUT/r$k/relay.nft"
		on r$k tproxy-setup up -q --conf "$OUT/r$k/web.conf"
	done
	served 1 2 3 4
	ask 100
}

# refuses HOST ADDRESS...: what comes for them is.
refuses() {
	local host=$1 to
	shift
	for to; do
		[[ $(on "$host" ip route get "$to" 2>&1) == *@(unreachable|No route to host)* ]] || return
	done
}

@test "all relays are stopped, or a router has no carrier: nothing passes" {
	on west ip -batch - <<-END
		route add default via 192.0.2.2
		route add default via 2001:db8:1::2
	END
	for k in 1 2 3 4; do on west ip link set to$k down; done
	wait_until 10 refuses west "$V4" "$V6"
	for k in 1 2 3 4; do on west ip link set to$k up; done
	served 1 2 3 4
	ask 100
	for k in 1 2 3 4; do signal announce$k TERM; done
	for k in 1 2 3 4; do
		wait_exit announce$k
		# (It would wait for connections that other tests have left it.)
		stop relay$k KILL || :
		on r$k tproxy-setup down --name web
		stopped $k
		watch $k
	done
	run beats ask "$BOTH" 80 40
	assert_equal "$(grep -c ^failed <<<"$output")" 40
	wait_until 20 refuses west "$V4" "$V6"
	wait_until 20 refuses east 192.0.2.2 2001:db8:1::2
	run beats ask "$BOTH" 80 40
	assert_equal "$(grep -c ^failed <<<"$output")" 40
	for k in 1 2 3 4; do
		assert_equal "$(forwarded $k)" 0
		serve $k
	done
	served 1 2 3 4
	on west ip route del default
	on west ip -6 route del default
	ask 100
}

@test "a relay and one router do not hear each other, the other way works: both leave it" {
	on r2 nft -f - <<-END
		table inet deaf {
			chain in {
				type filter hook prerouting priority -400
				iifname west tcp dport 179 drop
				iifname west tcp sport 179 drop
				iifname west udp dport 3784 drop
			}
		}
	END
	for host in west east; do
		wait_until 30 leads $host '1 1 1 3 4 1 3 3 3 4 4 4'
	done
	ask 100
	on r2 nft delete table inet deaf
	served 1 2 3 4
}

# knows_all HOST: BIRD there has the routes of all relays.
knows_all() { [[ $(on "$1" ip -6 route show table 40 2>/dev/null | wc -l) == "${2-4}" ]]; }

same_slots() {
	assert leads west '1 1 1 2 2 2 3 3 3 4 4 4'
	assert leads east '1 1 1 2 2 2 3 3 3 4 4 4'
}

@test "BIRD is restarted on a router, killed or stopped: nothing is lost; a router that was rebooted agrees with the other one" {
	hold
	kill -KILL "$(<"$OUT/east/bird.ctl.pid")"
	bird_again east
	wait_until 20 knows_all east
	same_slots
	local pid # BIRD removes its file
	pid=$(<"$OUT/east/bird.ctl.pid")
	bird_of east down
	wait_until 20 knows_all east 0
	wait_until 10 gone "$pid"
	bird_again east
	wait_until 20 knows_all east
	wait_until 20 eval 'bird_of r1 show protocols | grep -c Established | grep -qx 2'
	same_slots
	run -0 finish
	assert_output '200 held, 0 lost'
	# It comes up without one of the relays, which the other router knew when it came up.
	die 1
	wait_until 20 leads east '2 3 4 2 2 2 3 3 3 4 4 4'
	kill -KILL "$(<"$OUT/east/bird.ctl.pid")" "$(<"$OUT/east/slots.pid")"
	on east ip nexthop flush
	on east ip -6 route flush table 40
	router east
	for host in west east; do
		wait_until 20 leads $host '2 3 4 2 2 2 3 3 3 4 4 4'
	done
	run -0 flows_disagree "$OUT/some"
	assert_output 0
	ask 100
	revive 1
	served 1 2 3 4
}

forgotten() { ! on "$1" ip -6 route show table 40 | grep -qE "^fd00:a:.::($2|$3) "; }
without() { [[ " $(slots_of "$1") " != *" $2 "* && " $(slots_of "$1") " != *" $3 "* ]]; }

@test "two relays die at once while another one comes and goes: both routers have left them after three seconds" {
	signal announce3 KILL
	rm -f "$OUT/end"
	bg flaps r3 env -C "$OUT/r3" PATH="$OUT/bin:$PATH" BIRD_SOCKET="$OUT/r3/bird.ctl" bash -c \
		'while [[ ! -e $1 ]]; do birdc disable serving; sleep 0.4; birdc enable serving; sleep 0.4; done' - "$OUT/end"
	wait_until 10 without east 3 3
	# Both are gone when the routers look next.
	for host in west east; do kill -STOP "$(<"$OUT/$host/slots.pid")"; done
	die 1
	die 2
	for host in west east; do wait_until 10 forgotten $host 1 2; done
	begin=$SECONDS
	for host in west east; do kill -CONT "$(<"$OUT/$host/slots.pid")"; done
	for host in west east; do
		wait_until 20 without $host 1 2
	done
	echo "# two died, one flapped: left within $((SECONDS - begin)) s" >&3
	((SECONDS - begin >= 2 && SECONDS - begin <= 5 * TIME_SCALE))
	touch "$OUT/end"
	wait_exit flaps
	# The last one of the lab: they stay dead.
}

@test "demo-scale: nothing disagrees, nothing is lost by draining, and by killing the relay's share" {
	run "$TOP/tests/demo-scale"
	assert_success
	assert_line --regexp '^0 of 10,000 flows disagree; drained: 0 lost; killed: [0-9]+ lost, which was its share\.$'
	run awk 'length > 120' <<<"$output"
	assert_output ""
}
