#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# Forty connections in a row, each with a body up and a body down, IPv4 and IPv6 in turn, in
# situations that are known to break transparent proxies. Each must be byte-exact and come from the
# client's own address and port.
#
#   client 192.0.2.2 --- proxy: port 80 to tproxy-relay 3129 --- server 198.51.100.2 (nginx)
#
#   The server can tell what was relayed by the hop limit: 64 from the relay, 63 forwarded.

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	start_nginx
	BODY=$(random_file 300K)
	cp "$BODY" "$WWW/body"
}

teardown() { lab_down; }

# transfers [FIRST LAST [OPTION...]]: one after the other; the connection of number N has local port
# 20000+N.
transfers() {
	local i host first=${1-1} last=${2-40}
	for ((i = first; i <= last; i++)); do
		host=$V4
		((i % 2)) || host="[$V6]"
		on client curl -sS --max-time 60 --local-port $((20000 + i)) -T "$BODY" -o /dev/null \
			"http://$host/up.$i" --next -sS --max-time 60 -o "$OUT/down.$i" "http://$host/body" ||
			fail "transfer $i: curl's status $?"
		cmp "$BODY" "$WWW/up.$i" && cmp "$BODY" "$OUT/down.$i"
		rm "$WWW/up.$i" "$OUT/down.$i"
	done
}

# came_from ADDRESS ADDRESS6: that is what the server saw of all forty, with their own ports unless
# the addresses are not the client's.
came_from() {
	local i address port
	# (nginx logs a request after its answer.)
	wait_until 10 eval '[[ $(grep -c " PUT /up\." "$OUT/access.log") == 40 ]]'
	for ((i = 1; i <= 40; i++)); do
		address=$1
		((i % 2)) || address=$2
		port=$((20000 + i))
		[[ $1 == 192.0.2.2 ]] || port='[0-9]+'
		assert_line_in access.log "^$address $port PUT /up\\.$i "
	done
}

relayed_all() {
	wait_until 10 eval '[[ $(grep -c " done$" "$OUT/relay.out") == 40 ]]'
	stop relay
	refute_line_in relay.out ' refused '
}

# forty [ADDRESS ADDRESS6]: in the circumstances that the test has made, all forty; the server sees them
# come from there (the client).
forty() {
	intercept 80
	relay
	transfers
	came_from "${1-192.0.2.2}" "${2-2001:db8:1::2}"
	relayed_all
}

@test "forty in a row: plain" {
	forty
}

@test "forty in a row: with a firewall that drops ct state invalid" {
	on proxy nft -f - <<-'END'
		table inet firewall {
			chain input { type filter hook input priority 0; ct state invalid drop; }
			chain forward { type filter hook forward priority 0; ct state invalid drop; }
			chain output { type filter hook output priority 0; ct state invalid drop; }
		}
	END
	forty
}

@test "forty in a row: with the upstream leg masqueraded" {
	on proxy nft -f - <<-'END'
		table inet nat {
			chain postrouting {
				type nat hook postrouting priority srcnat
				oifname toserver masquerade
			}
		}
	END
	forty 198.51.100.1 2001:db8:2::1
}

@test "forty in a row: with 1 % of all packets lost" {
	on proxy nft -f - <<-'END'
		table inet loss {
			chain prerouting {
				type filter hook prerouting priority -500
				meta l4proto tcp numgen random mod 100 < 1 drop
			}
		}
	END
	forty
}

@test "forty in a row: with SYN cookies forced" {
	on proxy sysctl -qw net.ipv4.tcp_syncookies=2
	forty
}

@test "forty in a row: with up of another instance in the middle" {
	intercept 80
	relay
	transfers 1 15
	bg other proxy bash -c "for i in 1 2 3 4 5; do tproxy-setup up -q --name other --port 90\$i --to 3130; done"
	transfers 16 40
	run -0 wait_exit other
	came_from 192.0.2.2 2001:db8:1::2
	relayed_all
}

@test "forty in a row: with down --drain in the middle" {
	intercept 80
	relay
	transfers 1 15
	# One that is under way then, and goes on after it.
	on client curl -sS --max-time 60 --limit-rate 3M -T "$(random_file 4M)" "http://$V4/slow" 3>&- &
	local slow=$!
	wait_line relay.out ' open 16 '
	bg down proxy tproxy-setup down --drain 30s
	transfers 16 40
	wait "$slow"
	cmp "$(random_file 4M)" "$WWW/slow"
	run -0 wait_exit down
	came_from 192.0.2.2 2001:db8:1::2
	stop relay
	assert_line_in relay.out ' close 16 .* done$'
}

# But for bare resets, which end connections that a server may still hold open: see tests/setup-traffic.bats.
@test "after SIGKILL of the relay not one byte of its clients bypasses it" {
	local host n=0
	intercept 80
	relay
	# Forwarded packets have lost a hop, the relay's own have not.
	on server nft -f - <<-'END'
		table inet count {
			counter relayed { }
			counter passed_by { }
			chain input {
				type filter hook input priority -400
				tcp flags == rst meta length { 40, 60 } return
				tcp dport 80 ip ttl 64 counter name relayed
				tcp dport 80 ip ttl != 64 counter name passed_by
				tcp dport 80 ip6 hoplimit 64 counter name relayed
				tcp dport 80 ip6 hoplimit != 64 counter name passed_by
			}
		}
	END
	counted() {
		packets_of server count "$1"
	}
	for host in "$V4" "[$V6]"; do
		bg "up$((++n))" client curl -sS --max-time 60 --limit-rate 1M -T "$(random_file 30M)" "http://$host/up"
	done
	wait_line relay.out ' open 2 '
	wait_until 10 eval '[[ $(counted relayed) -gt 20 ]]'
	signal relay KILL
	# Both are reset, and new connections are, too.
	run ! wait_exit up1
	run ! wait_exit up2
	for host in "$V4" "[$V6]"; do
		run ! on client curl -sS --max-time 10 "http://$host/who"
		refute_output --partial 'timed out'
	done
	assert_equal "$(counted passed_by)" 0
	# It would have been seen: without interception packets do pass by.
	on proxy tproxy-setup down -q
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	assert [ "$(counted passed_by)" -gt 0 ]
}

@test "a service of the proxy itself stays reachable when all ports are relayed" {
	intercept 1-65535
	relay
	peer ssh proxy serve 22 send:SSH-2.0 recv:hello send:bye
	for host in 192.0.2.1 2001:db8:1::1; do
		run -0 on client "$PEER" connect "$host" 22 recv:SSH-2.0 send:hello recv:bye eof
	done
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	stop relay
	assert_equal "$(grep -c ' open ' "$OUT/relay.out")" 1
}
