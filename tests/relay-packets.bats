#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The packets of a connection through tproxy-relay, on each leg: none carries only what another
# could have carried.
#
#   client 192.0.2.2 ---- toclient [ proxy: 8000 to tproxy-relay 3129 ] toserver ---- server 198.51.100.2
#
# Counted is what the proxy itself sends. The budget: no avoidable pure ACK, FIN with the last data, no
# reset. A pure ACK is avoidable if data or FIN follows soon enough; what remains are
#
#	the ACK of the last FIN on a leg, after which nothing can follow
#	where the client has not spoken before the upstream leg is made: the handshake's, because a server
#	that speaks first waits for it, and that of what the server says first, which the kernel sends at
#	once (one system call more would keep it back, and 20 is the most: relay-cost.bats)
#
# How soon is a matter of milliseconds, and a machine that is busy with other things is late now and then:
# what is judged is the least that each leg can do, in as many tries as that takes, up to TRIES.

bats_require_minimum_version 1.5.0
load lib/relay

TRIES=80 # at load 17 on two CPUs it took eight
TEXT=$(printf '%0100d' 0) # no segment without data is as long

setup() {
	lab_up
	intercept 8000
	relay --log off
	count_packets
}

teardown() { lab_down; }

# One counter a leg and kind.
count_packets() {
	local leg kind
	{
		echo 'table inet packets {'
		for leg in toclient toserver; do
			for kind in reset syn ack data fin last; do echo "counter $leg-$kind { }"; done
		done
		for leg in toclient toserver; do
			echo "chain $leg {
				type filter hook output priority 0; oifname != $leg return
				tcp flags & rst == rst counter name $leg-reset return
				tcp flags & syn == syn counter name $leg-syn return
				tcp flags & fin == fin meta length > 100 counter name $leg-last return
				tcp flags & fin == fin counter name $leg-fin return
				meta length > 100 counter name $leg-data return
				tcp flags & ack == ack counter name $leg-ack
			}"
		done
		echo '}'
	} | on proxy nft -f -
}

# packets: what has been sent since it was asked last: `toclient: syn 1 data 2 ...; toserver: ...`
packets() {
	on proxy nft reset counters table inet packets | awk '
		$1 == "counter" { split($2, name, "-") }
		$1 == "packets" { count[name[1], name[2]] = $2 }
		function leg(l,    n, i, kind, text) {
			n = split("syn ack data last fin reset", kind, " ")
			for (i = 1; i <= n; i++)
				if (count[l, kind[i]])
					text = text " " kind[i] " " count[l, kind[i]]
			return l ":" text
		}
		END { print leg("toclient") "; " leg("toserver") }'
}

over() { [[ ! $(on proxy ss -Htn state connected exclude time-wait) ]]; }

# budget TOCLIENT TOSERVER CLIENT...: the exchange costs exactly those on each leg.
budget() {
	local missing=("toclient: $1" "toserver: $2") seen=() leg try
	shift 2
	packets >/dev/null
	for ((try = 1; try <= TRIES; try++)); do
		on client "$PEER" "$@"
		wait_until 10 over
		seen+=("$(packets)")
		for leg in "${!missing[@]}"; do
			[[ "${seen[-1]};" != *"${missing[leg]};"* ]] || unset "missing[leg]"
		done
		((${#missing[@]})) || break
	done
	((${#missing[@]} == 0)) && return
	printf '%s\n' "${seen[@]}" | sort | uniq -c >&2
	fail "never: ${missing[*]}"
}

# acks N: how many more there are where the kernel cannot let the ACK of a client's first data wait for a
# time as short as ours (TCP_DELACK_MAX_US, Linux 6.15): there the relay does not ask for it.
acks() {
	python3 -c 'import socket; socket.socket().setsockopt(socket.IPPROTO_TCP, 46, 8000)' 2>/dev/null || echo "ack $1 "
}

@test "a request, an answer with its end: three packets per leg" {
	peer server server serve 8000 "recv:$TEXT" "last:$TEXT" eof
	budget "syn 1 ack $((1 + $(acks 1 | grep -c .))) last 1" "syn 1 data 1 fin 1" \
		-q connect "$V4" 8000 "send:$TEXT" "recv:$TEXT" eof close
}

@test "a request with its end, an answer with its end" {
	peer server server serve 8000 "recv:$TEXT" eof "last:$TEXT"
	budget "syn 1 $(acks 1)last 1" "syn 1 ack 1 last 1" \
		-q connect "$V4" 8000 "last:$TEXT" "recv:$TEXT" eof
}

@test "each further round trip: one packet per leg" {
	local script=()
	peer server server serve 8000 echo
	for _ in {1..4}; do script+=("send:$TEXT" "recv:$TEXT"); done
	budget "syn 1 $(acks 1)data 4 fin 1" "syn 1 ack 1 data 4 fin 1" \
		-q connect "$V4" 8000 "${script[@]}" close
}

@test "a server that speaks first gets the connection at once" {
	peer server server serve 8000 "send:$TEXT" "recv:$TEXT" eof close
	budget "syn 1 data 1 fin 1" "syn 1 ack 3 last 1" \
		connect "$V4" 8000 "recv:$TEXT" "last:$TEXT" eof
}

# Nagle's algorithm keeps its second piece back until the first is acknowledged: 40 ms, if that were left
# to the kernel; relayed, it is a few.
@test "a client that writes twice before it reads does not wait for long" {
	peer server server serve 8000 recv:ab send:c eof
	run -0 on client python3 -c '
import socket, sys, time
def exchange():
    with socket.create_connection(sys.argv[1:]) as s:
        begin = time.monotonic()
        s.send(b"a")
        s.send(b"b")
        assert s.recv(1) == b"c"
        return 1000 * (time.monotonic() - begin)
sys.exit(not any(exchange() < 30 for n in range(int(sys.argv.pop()))))' "$V4" 8000 $TRIES
}
