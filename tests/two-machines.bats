#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-failover(7): two relays with keepalived, configured exactly as printed there. The lab's proxy is
# only the switch between them:
#
#   client 192.0.2.2 ---- lan -+- a, .251 -+- wan ---- server 198.51.100.2, port 80
#   2001:db8:1::2              +- b, .252 -+           2001:db8:2::2
#
# One of them is the gateway, 192.0.2.1 and 198.51.100.1, ::1 of both networks.

export BATS_NO_PARALLELIZE_WITHIN_FILE=true
bats_require_minimum_version 1.5.0
load lib/lab
load lib/examples

PAGE=$TOP/man/tproxy-failover.7

# block FIRST: the block of the page that begins so, as a shell has it.
block() {
	local i number=''
	for i in "${!COMMANDS[@]}"; do
		[[ ! $number && ${COMMANDS[i]} == $1* ]] && number=${BLOCKS[i]}
		[[ ! $number || ${BLOCKS[i]} != "$number" ]] || echo "${COMMANDS[i]}"
	done
	[[ $number ]] || fail "no block begins with $1"
}

# at MACHINE COMMAND...: there, with its own /etc and /run.
at() {
	on "$1" unshare --mount sh -c 'mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && exec "$@"' \
		"$OUT/$1" "${@:2}"
}

bg_at() {
	bg "$1" "$2" unshare --mount sh -c 'mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && exec "$@"' \
		"$OUT/$2" "${@:3}"
}

# switch: instead of the lab's proxy.
switch() {
	on proxy ip -batch - <<-END
		link add lan type bridge forward_delay 0 mcast_snooping 0
		link add wan type bridge forward_delay 0 mcast_snooping 0
		address flush dev toclient
		address flush dev toserver
		link set toclient master lan
		link set toserver master wan
		link set lan up
		link set wan up
	END
}

# machine NAME NUMBER: with the files of the page, and all that they start.
machine() {
	local net file
	namespace "$1"
	for net in lan wan; do
		on proxy ip link add "$1-$net" type veth peer name "${net}0" netns "$(pid_of "$1")"
		on proxy ip link set "$1-$net" master "$net" up
	done
	on "$1" sh -c "$(block 'sysctl -w' | head -n 1)" >&2
	mkdir -p "$OUT/$1/etc/keepalived" "$OUT/$1/etc/tproxy" "$OUT/$1/run/tproxy/web"
	cp /etc/{passwd,group,nsswitch.conf,ld.so.cache} "$OUT/$1/etc"
	echo "$2" >"$OUT/$1/number"
	switch_on "$1"
	for file in web.conf failover.nft tproxy-serves keepalived.conf; do
		at "$1" bash -ec "$(block "cat >/etc/*/$file ")"
	done
	at "$1" tproxy-setup up -q --conf /etc/tproxy/web.conf
	start_relay "$1"
	start_vrrp "$1"
}

# switch_on MACHINE: its addresses go when the links do.
switch_on() {
	local number
	number=$(<"$OUT/$1/number")
	on "$1" ip -batch - <<-END
		address replace 192.0.2.$number/24 dev lan0
		address replace 198.51.100.$number/24 dev wan0
		address replace 2001:db8:1::$1/64 dev lan0 nodad
		address replace 2001:db8:2::$1/64 dev wan0 nodad
		link set lan0 up
		link set wan0 up
	END
}

start_relay() {
	bg_at "relay-$1" "$1" tproxy-setup exec --conf /etc/tproxy/web.conf
	wait_listen "$1" 3129
}

# The one before was killed, and the number in its file may be another process' by now, which keepalived takes
# for its own.
start_vrrp() {
	rm -f "$OUT/$1"/run/keepalived*.pid "$OUT/$1"/run/vrrp*.pid
	bg_at "vrrp-$1" "$1" keepalived --dont-fork --log-console --log-detail --no-syslog --vrrp --config-id "$1"
	wait_until 20 ready "$1"
}

# state MACHINE: what keepalived took its group to be last.
state() { sed -n 's/.*(lan4) Entering \(.*\) STATE.*/\1/p' "$OUT/vrrp-$1.err" | tail -n 1; }

ready() { [[ $(state "$1") == @(BACKUP|MASTER) ]]; }

# has_addresses MACHINE: all virtual ones.
has_addresses() {
	(($(on "$1" ip -o address show | grep -cE ' (192\.0\.2\.|198\.51\.100\.|2001:db8:[12]::)1/') == 4))
}

leads() { [[ $(state "$1") == MASTER ]] && has_addresses "$1"; }

# leader: OLD leads, and NEW is ready to.
leader() {
	OLD=a NEW=b
	leads a || OLD=b NEW=a
	leads "$OLD" && [[ $(state "$NEW") == BACKUP ]]
}

# watch_packets: the switch counts TCP packets whose addresses are not the client's and the server's, the hosts
# those that were forwarded rather than sent by a relay, but for SYN-ACKs, of which nobody takes anything.
watch_packets() {
	on proxy nft -f - <<-'END'
		table bridge see {
			counter wrong { }
			counter every { }
			chain c {
				type filter hook prerouting priority 0
				meta protocol ip ip protocol != tcp return
				meta protocol ip6 ip6 nexthdr != tcp return
				meta protocol != { ip, ip6 } return
				counter name every
				ip saddr . ip daddr { 192.0.2.2 . 198.51.100.2, 198.51.100.2 . 192.0.2.2 } return
				ip6 saddr . ip6 daddr { 2001:db8:1::2 . 2001:db8:2::2, 2001:db8:2::2 . 2001:db8:1::2 } return
				counter name wrong
			}
		}
	END
	for host in client server; do
		on "$host" nft -f - <<-'END'
			table inet see {
				counter forwarded { }
				chain c {
					type filter hook prerouting priority raw
					meta l4proto != tcp return
					tcp flags == (syn | ack) ip length < 84 return
					tcp flags == (syn | ack) ip6 length < 64 return
					ip ttl != 64 counter name forwarded
					ip6 hoplimit != 64 counter name forwarded
				}
			}
		END
	done
}

# seen HOST COUNTER
seen() {
	local family=inet
	[[ $1 != proxy ]] || family=bridge
	on "$1" nft -j list counter "$family" see "$2" | jq '.nftables[1].counter.packets'
}

# clean: nothing had a wrong source, and nothing went around a relay.
clean() {
	assert_equal "$(seen proxy wrong) $(seen client forwarded) $(seen server forwarded)" '0 0 0'
	(($(seen proxy every) > 100))
}

clock() { python3 -c 'import time; print("%.2f" % time.clock_gettime(time.CLOCK_BOOTTIME))'; }

# carries MACHINE: its relay has opened a hundred connections.
carries() {
	(($(at "$1" tproxy-relay --ask counters -H /run/tproxy/web/control | awk '$1 == "opened" { print $2 }') > 100))
}

setup_file() {
	((EUID == 0)) || return 0
	export BATS_TEST_TMPDIR=$BATS_FILE_TMPDIR
	lab_up
	commands_of "$PAGE"
	switch
	watch_packets
	machine a 251
	machine b 252
	bg ends server "$TOP/tests/lib/ends" serve 80 "$OUT/speak"
	wait_listen server 80
}

teardown_file() { lab_down; }

setup() {
	root_only "keepalived sets its scripts' groups, and trusts only root's files"
	commands_of "$PAGE"
	rm -f "$OUT/end" "$OUT/speak"
	wait_until 20 leader
	SERVER_LINES=$(wc -l <"$OUT/ends.out")
}

teardown() {
	((EUID == 0)) || return 0
	[[ ${BATS_TEST_COMPLETED-} ]] || tail -n 20 "$OUT"/{vrrp,relay}-?.err
	stop ends4 || :
	stop ends6 || :
}

# open_ends: one connection of each kind and family, which both ends watch. From ports of their own: one that
# was used a moment ago through the other machine would still have a socket there (TIME-WAIT).
open_ends() {
	local from=$((20000 + 10 * BATS_TEST_NUMBER))
	bg ends4 client "$TOP/tests/lib/ends" connect "$V4" 80 "$OUT/speak" "$from"
	bg ends6 client "$TOP/tests/lib/ends" connect "$V6" 80 "$OUT/speak" "$((from + 5))"
	wait_line ends4.out 'idle 4 open'
	wait_line ends6.out 'idle 6 open'
}

# ends_of client|server: what that side has said of them.
ends_of() {
	case $1 in
	client) cat "$OUT/ends4.out" "$OUT/ends6.out" ;;
	server) tail -n "+$((SERVER_LINES + 1))" "$OUT/ends.out" ;;
	esac
}

# over SIDE COUNT: so many have ended there.
over() { (($(ends_of "$1" | grep -cv ' open$') >= $2)); }

# numbers SIDE KINDS FROM: how these ended there, and after how many seconds the last one.
numbers() {
	ends_of "$1" | awk -v kinds="$2" -v from="$3" '
		index(kinds, $1) && $3 != "open" {
			how[$3]
			if ($4 - from > worst)
				worst = $4 - from
		}
		END {
			for (word in how)
				printf "%s ", word
			printf "%.2f", worst + 0
		}'
}

# within SECONDS HOW FIGURES: they ended so, in one of the ways that this matches, and not later.
within() {
	[[ $3 =~ ^(($2)\ )+[0-9.]+$ ]] &&
		awk -v limit="$1" -v scale="$TIME_SCALE" '{ exit !($NF <= limit * scale) }' <<<"$3"
}

# fails WAY [HOW]: it happens to OLD, which leads; new connections work soon, and old ones have ended on both sides
# (by a reset, unless HOW says otherwise).
fails() {
	local how=${2-reset} died spoke to client silent_client server silent_server
	bg outage client "$TOP/tests/lib/outage" "$V4,$V6" 80 "$OUT/end"
	open_ends
	wait_line outage.out "up $V4"
	wait_line outage.out "up $V6"
	died=$(clock)
	"$1" "$OLD"
	wait_until 10 leads "$NEW"
	# Both sides are reset when one of them says something. (One of the silent ones may answer to the old machine,
	# if that is still its gateway.)
	wait_until 20 over client 5
	wait_until 20 over server 5
	spoke=$(clock)
	touch "$OUT/speak"
	wait_until 10 over client 8
	wait_until 10 over server 8
	touch "$OUT/end"
	run -0 wait_exit outage
	client=$(numbers client 'up down both' "$died") silent_client=$(numbers client idle "$spoke")
	server=$(numbers server 'up down both' "$died") silent_server=$(numbers server idle "$spoke")
	echo "# $1: new connections after$(awk '/^[12]/ { printf " %s (%s)", $2, $1 }' "$OUT/outage.out");" \
		"client: $client, once an idle one talks: $silent_client; server: $server, $silent_server" >&3
	# Two seconds, and as long again on a busy machine; it says above how long it was.
	for to in "$V4" "$V6"; do
		assert within 4 after "after $(awk -v host="$to" '$1 == host { print $2 }' "$OUT/outage.out")"
	done
	assert within 6 "$how" "$client"
	assert within 6 "$how" "$server"
	assert within 3 "$how" "$silent_client"
	assert within 3 "$how" "$silent_server"
	clean
}

# kill_all NAME: its children first, or keepalived's takes leave.
kill_all() {
	# shellcheck disable=SC2046 # words
	kill -KILL $(pgrep --parent "$(pid_of "$1")") "$(pid_of "$1")"
	wait_exit "$1" || :
}

power_off() {
	on "$1" ip -batch - <<-END
		link set lan0 down
		link set wan0 down
	END
	kill_all "vrrp-$1"
	kill_all "relay-$1"
}

link_goes() { on "$1" ip link set lan0 down; }
relay_dies() { kill_all "relay-$1"; }
rules_vanish() { on "$1" nft flush ruleset; }
keepalived_dies() { kill_all "vrrp-$1"; }

@test "a planned change of machines loses no connection" {
	run -0 at "$OLD" tproxy-setup doctor --conf /etc/tproxy/web.conf
	assert_output --partial 'nothing breaks it'
	bg steady client "$TOP/tests/lib/steady" "$V4,$V6" 80 8 "$OUT/end"
	open_ends
	at "$NEW" bash -ec "$(block 'nft ?add')"
	signal "relay-$OLD" TERM
	wait_until 10 leads "$NEW"
	wait_until 20 carries "$NEW"
	touch "$OUT/end"
	run -0 wait_exit steady 20
	echo "# planned: $(tail -n 1 "$OUT/steady.out")" >&3
	# Those that were open go on as long as they want to, and then the old relay ends.
	run ends_of client
	refute_line --regexp ' [^o][a-z]+ [0-9]'
	stop ends4 || :
	stop ends6 || :
	run -0 wait_exit "relay-$OLD" 30
	start_relay "$OLD"
	at "$NEW" nft flush set inet tproxy_failover draining
	clean
}

@test "the machine dies" {
	fails power_off
	switch_on "$OLD"
	start_relay "$OLD"
	start_vrrp "$OLD"
}

@test "one link goes" {
	fails link_goes
	switch_on "$OLD"
}

@test "the relay dies" {
	# The kernel closes its sockets.
	fails relay_dies 'fin|reset'
	start_relay "$OLD"
}

@test "the rules vanish" {
	fails rules_vanish
	at "$OLD" tproxy-setup up -q --conf /etc/tproxy/web.conf
	at "$OLD" nft -f /etc/tproxy/failover.nft
}

@test "keepalived dies, and begins by removing the addresses that it has left behind" {
	fails keepalived_dies
	assert has_addresses "$OLD"
	start_vrrp "$OLD"
	wait_until 10 leads "$NEW"
	refute has_addresses "$OLD"
}
