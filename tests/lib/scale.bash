# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# scale - a row of relays between two routers, set up by the files of tproxy-scale(7) as they are printed there.
#
#   client --- west --+-- r1 --+-- east --- server
#                     +-- .. --+
#                     +-- r4 --+
#
# After lib/lab and lib/examples; west is the lab's proxy:
#
#	scale_up RELAYS			in a lab that is up: links, routers, relays' hosts; all but the relays' programs
#	serve K [COMMAND...]		BIRD and the relay of host rK (by COMMAND), announced; its records: $OUT/relayK.out
#	served K...			wait until both routers lead each relay's slots to it
#	drain K				what `systemctl stop tproxy@web` does, up to SIGTERM; then wait_exit relayK, and stopped K
#	die K, revive K			the machine is gone, from one moment to the next; it is started again, empty
#	bird_again HOST [CONF]		BIRD begins there, as at first
#	announce K			its announce begins (serve does that)
#	router west|east, slots_of	begin BIRD and relay-slots there; the relays that its slots lead to
#	bird_of HOST COMMAND...		birdc there
#	flows_sent FILE			a packet of each of these flows goes each way; $OUT/there.K and back.K: flows of relay K
#	flows_disagree FILE		of the flows in that file so many get different relays from the routers; each flow's
#					relay, on the way there, in FILE.west

SCALE_PAGE=$TOP/man/tproxy-scale.7

# in_dir HOST: an environment in which bird(8) and birdc(8) are that host's.
in_dir() { echo env -C "$OUT/$1" BIRD_SOCKET="$OUT/$1/bird.ctl" PATH="$OUT/bin:$PATH"; }

# block HOST FIRST [MORE]: run that block of the page there, in the host's directory.
block() {
	local IT
	printed "$SCALE_PAGE" "$2" || return
	# shellcheck disable=SC2046 # words
	on "$1" $(in_dir "$1") bash -c "$IT${3-}" </dev/null
}

bird_of() {
	local host=$1
	shift
	# shellcheck disable=SC2046
	on "$host" $(in_dir "$host") birdc "$@"
}

scale_up() {
	local k host
	SCALE_RELAYS=$1
	export SCALE_RELAYS LAB_west=$LAB_proxy
	mkdir -p "$OUT/bin"
	# BFD's 0.3 seconds are less than what a busy machine of two processors may let a process wait for.
	cat >"$OUT/bin/bird" <<-'END'
		#!/bin/sh
		first='chrt -f 1'
		$first true 2>/dev/null || first=
		exec $first /usr/sbin/bird -s "$BIRD_SOCKET" -P "$BIRD_SOCKET.pid" "$@"
	END
	cat >"$OUT/bin/birdc" <<-'END'
		#!/bin/sh
		exec /usr/sbin/birdc -s "$BIRD_SOCKET" "$@"
	END
	chmod 755 "$OUT/bin"/*
	namespace east
	on west ip link set toserver netns "$LAB_east"
	on east ip -batch - <<-END
		address add 198.51.100.1/24 dev toserver
		address add 2001:db8:2::1/64 dev toserver nodad
		link set toserver up
	END
	router_link west 1
	router_link east 2
	for host in west east; do
		block $host 'cat >router.sysctl' && block $host 'cat >router.conf' && block $host 'cat >relay-slots' || return
	done
	for ((k = 1; k <= SCALE_RELAYS; k++)); do relay_host $k || return; done
	# BIRD and relay-slots are nobody's children: they end with the lab, however that ends. Until then the
	# namespaces are held open: the inode that they are known by must not be another lab's.
	(
		exec 3>&- 4>&- </dev/null >/dev/null 2>&1
		for host in client proxy server bystander east $(seq -f 'r%g' "$SCALE_RELAYS"); do
			pid=LAB_$host
			exec {_}<"/proc/${!pid}/ns/net"
		done
		tail -s 0.1 --pid="$LAB_GUARD" -f /dev/null
		lab_processes "$LAB_NETS" | xargs -r kill -KILL
	) &
	router west && router east
}

no_dad() { on "$1" sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; }

# router_link HOST NET: its interface to the relays.
router_link() {
	mkdir "$OUT/$1"
	no_dad "$1"
	on "$1" ip -batch - <<-END
		link add relays type bridge
		link set relays up
		address add 10.$2.255.254/16 dev relays
		address add fd00:$2::ffff/64 dev relays nodad
	END
}

# relay_host K: links, addresses, routes and files of host rK.
relay_host() {
	local IT k=$1 side pid=LAB_r$1
	namespace "r$k"
	mkdir "$OUT/r$k"
	no_dad "r$k"
	for side in west east; do
		on $side ip link add "to$k" type veth peer name $side netns "${!pid}"
		on $side ip link set "to$k" master relays up
		on "r$k" ip link set $side up
	done
	printed "$SCALE_PAGE" 'cat >relay.links' || return
	IT=${IT//0.1\/16/0.$k\/16}
	on "r$k" env -C "$OUT/r$k" bash -c "${IT//::1\/64/::$k\/64}" || return
	for side in relay.sysctl relay.conf web.conf relay.nft announce announce@.service; do
		block "r$k" "cat >$side" || return
	done
	sed -i "1,3s/0\.1;/0.$k;/; 1,3s/::1\//::$k\//" "$OUT/r$k/relay.conf"
}

router() {
	local first='ip route replace unreachable 198.51.100.0/24'
	[[ $1 == west ]] || first='sed -e'
	# What stays in the background tells its number.
	# shellcheck disable=SC2016
	block "$1" "$first" 'echo $! >slots.pid' >"$OUT/$1/out" 2>&1 3>&-
}

serve() {
	local k=$1
	shift
	(($#)) || set -- tproxy-setup exec --conf "$OUT/r$k/web.conf"
	[[ -e $OUT/r$k/relay.rules ]] || block "r$k" 'cat >relay.rules' 3>&- || return
	on "r$k" tproxy-setup up -q --conf "$OUT/r$k/web.conf" || return
	bg "relay$k" "r$k" "$@"
	wait_listen "r$k" 3129
	announce "$k"
}

announce() {
	# shellcheck disable=SC2046
	bg "announce$1" "r$1" $(in_dir "r$1") bash announce web
}

drain() {
	stop "announce$1" && signal "relay$1" TERM
}

stopped() {
	local command
	sed -n 's/^ExecStopPost=-+//p' "$OUT/r$1/announce.conf" | while read -r command; do
		# shellcheck disable=SC2046
		on "r$1" $(in_dir "r$1") sh -c "$command" >>"$OUT/r$1/unit" || return
	done
}

bird_again() {
	# shellcheck disable=SC2046
	on "$1" $(in_dir "$1") bird -c "${2-$1.conf}" 3>&- 4>&-
}

die() {
	on "r$1" nft -f - <<-END
		table inet dead {
			chain in { type filter hook prerouting priority -400; policy drop; }
			chain out { type filter hook output priority -400; policy drop; }
		}
	END
	signal "relay$1" KILL
	signal "announce$1" KILL
	kill -KILL "$(<"$OUT/r$1/bird.ctl.pid")"
}

revive() {
	wait_exit "relay$1" || :
	on "r$1" nft delete table inet dead
	bird_again "r$1" relay.conf
	serve "$1"
}

slots_of() {
	on "$1" ip nexthop show protocol 40 | sort -k 2n | sed -n 's/.* via fd00:.::\([0-9]*\) .*/\1/p' | xargs
}

served() {
	local k want=''
	for k; do want+=" $k $k $k"; done
	for k in west east; do
		wait_until 20 leads $k "${want# }"
		wait_until 20 routed $k
	done
}
# (The last route that relay-slots makes.)
routed() { on "$1" ip -6 route show | grep -q ' nhid 1 '; }
leads() { [[ $(slots_of "$1") == "$2" ]]; }

flows_disagree() {
	on west "$TOP/tests/lib/route-flows" ask toclient <"$1" >"$1.west"
	on east "$TOP/tests/lib/route-flows" ask-back toserver <"$1" >"$1.east"
	paste "$1.west" "$1.east" | awk '$1 != $2 || $1 == "-"' | wc -l
}

flows_sent() {
	local k
	for ((k = 1; k <= SCALE_RELAYS; k++)); do
		on "r$k" nft -f - <<-END
			table inet seen {
				set there4 { typeof ip saddr . tcp sport . ip daddr . tcp dport; flags dynamic; size 500000; }
				set back4 { typeof ip saddr . tcp sport . ip daddr . tcp dport; flags dynamic; size 500000; }
				set there6 { typeof ip6 saddr . tcp sport . ip6 daddr . tcp dport; flags dynamic; size 500000; }
				set back6 { typeof ip6 saddr . tcp sport . ip6 daddr . tcp dport; flags dynamic; size 500000; }
				chain seen {
					type filter hook prerouting priority -400
					tcp dport 80 add @there4 { ip saddr . tcp sport . ip daddr . tcp dport } drop
					tcp sport 80 add @back4 { ip daddr . tcp dport . ip saddr . tcp sport } drop
					tcp dport 80 add @there6 { ip6 saddr . tcp sport . ip6 daddr . tcp dport } drop
					tcp sport 80 add @back6 { ip6 daddr . tcp dport . ip6 saddr . tcp sport } drop
				}
			}
		END
	done
	on client "$TOP/tests/lib/route-flows" send toproxy "$(mac_of west toclient)" <"$1"
	on server "$TOP/tests/lib/route-flows" send-back toproxy "$(mac_of east toserver)" <"$1"
	for ((k = 1; k <= SCALE_RELAYS; k++)); do
		flows_in "$k" there >"$OUT/there.$k"
		flows_in "$k" back >"$OUT/back.$k"
		on "r$k" nft delete table inet seen
	done
}
mac_of() { on "$1" ip -br link show "$2" | awk '{ print $3 }'; }
# flows_in K there|back: the flows whose packets relay K has seen.
flows_in() {
	for set in "${2}4" "${2}6"; do
		on "r$1" nft -n list set inet seen "$set"
	done | sed 's/[,{}]/\n/g' | sed -n 's/^[[:blank:]]*//; s/[[:blank:]]*$//; / \. .* \. 80$/p' | sort
}
