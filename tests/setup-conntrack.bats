#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup --conntrack: a relay that keeps the client's address and port has the same addresses and
# ports on both legs; connection tracking on the proxy must not take them for one.
#
#   client 192.0.2.2 ==relay on proxy, conntrack, firewall==> nginx on server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	lab_up
	start_nginx
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
	BODY=$(random_file 4M)
	cp "$BODY" "$WWW/body"
	SUM=$(sum_of "$BODY")
}

teardown() {
	lab_down
}

# A firewall as many have it: what connection tracking calls invalid is dropped, and counted.
add_firewall() {
	on proxy nft -f - <<-'END'
		table inet firewall {
			counter invalid { }
			chain incoming { type filter hook input priority filter; ct state invalid counter name invalid drop; }
			chain outgoing { type filter hook output priority filter; ct state invalid counter name invalid drop; }
			chain forwarded { type filter hook forward priority filter; ct state invalid counter name invalid drop; }
		}
	END
}

add_masquerade() {
	on proxy nft -f - <<-'END'
		table inet translate {
			chain post { type nat hook postrouting priority srcnat; oifname "toserver" masquerade; }
		}
	END
}

invalid() {
	packets_of proxy firewall invalid
}

# Bodies both ways, several times, with what the server saw.
transfer() {
	local host=$1 i
	for i in 1 2 3 4 5; do
		run on client bash -c "curl -sS --max-time 20 http://$host/body | sha256sum"
		assert_output "$SUM"
		run on client curl -sS --max-time 20 -T "$BODY" "http://$host/put$i"
		assert_success
		wait_until 5 test -s "$WWW/put$i"
		assert_equal "$(sum_of "$WWW/put$i")" "$SUM"
		rm "$WWW/put$i"
	done
}

decided() {
	on proxy nft list chain inet tproxy_default spec | grep -oE '[ "]zone=[a-z-]+' | tr -d ' "'
}

@test "auto is off if nothing tracks connections: conntrack stays off" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=off
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	run on proxy nft list ruleset
	refute_output --regexp '\bct (zone|state|direction)'
}

# auto_is MODE WHY [ADDRESS]: what --conntrack auto comes to beside the rules that are there, and whether the
# kernel tracks what is forwarded to that address.
auto_is() {
	local tracked family=ipv4
	[[ ${3-} != *:* ]] || family=ipv6
	on proxy conntrack -F 2>/dev/null
	on client curl -sS --max-time 5 "http://${3-198.51.100.2}/who" >/dev/null
	[[ $(on proxy conntrack -L -f "$family" 2>/dev/null) ]] && tracked=zone || tracked=off
	assert_equal "$tracked" "$1" "the kernel: $2"
	on proxy tproxy-setup up -q --to 3129 --port 80
	assert_equal "$(decided)" "zone=$1" "$2"
	on proxy tproxy-setup down
}

@test "auto looks at rules: words, names and tables without rules do not count" {
	local rule
	for rule in 'type nat hook postrouting priority srcnat' 'iifname "ct" accept' 'ip dscp cs1 accept' \
		'counter comment "ct state masquerade"' 'notrack'; do
		on proxy nft "add table ip x"
		if [[ $rule == type* ]]; then
			on proxy nft "add chain ip x c { $rule; }"
		else
			on proxy nft "add chain ip x c; add rule ip x c $rule"
		fi
		auto_is off "$rule"
		on proxy nft delete table ip x
	done
	for rule in 'ct mark 1 accept' 'ct state vmap { invalid : drop }' 'tcp dport 1 synproxy mss 1460' 'tcp dport 99 dnat to 192.0.2.9' \
		'ip saddr 10.0.0.0/8 masquerade'; do
		on proxy nft 'add table ip x; add chain ip x c { type nat hook prerouting priority dstnat; }; add chain ip x s { type filter hook input priority 0; }; add chain ip x p { type nat hook postrouting priority srcnat; }'
		case $rule in
		*synproxy*) on proxy nft "add rule ip x s $rule" ;;
		*masquerade*) on proxy nft "add rule ip x p $rule" ;;
		*) on proxy nft "add rule ip x c $rule" ;;
		esac
		auto_is zone "$rule"
		on proxy nft delete table ip x
	done
}

legacy_rules() {
	local ip to
	for ip in iptables-$1 ip6tables-$1; do
		[[ $ip == iptables* ]] && to=198.51.100.2 || to='[2001:db8:2::2]'
		on proxy "$ip" -t nat -L -n >"$OUT/nothing"
		on proxy "$ip" -A INPUT -p tcp --dport 22 -j ACCEPT
		on proxy "$ip" -A FORWARD -m mark --mark 7 -j DROP
		on proxy "$ip" -t nat -A POSTROUTING -o lo -j ACCEPT
		on proxy "$ip" -N ct
		on proxy "$ip" -A INPUT -j ct
		auto_is off "$ip: no rule tracks" "$to"
		for rule in 'INPUT -m conntrack --ctstate NEW -j ACCEPT' 'FORWARD -p tcp -m state --state RELATED -j ACCEPT' \
			'INPUT -p tcp --syn -m connlimit --connlimit-above 9 -j DROP'; do
			# shellcheck disable=SC2086 # words of a rule
			on proxy "$ip" -A $rule
			auto_is zone "$ip -A $rule" "$to"
			# shellcheck disable=SC2086
			on proxy "$ip" -D $rule
		done
		for rule in 'nat -A POSTROUTING -o eth9 -j MASQUERADE' 'nat -A PREROUTING -p tcp --dport 99 -j REDIRECT' \
			'mangle -A PREROUTING -j CONNMARK --restore-mark'; do
			# shellcheck disable=SC2086
			on proxy "$ip" -t $rule
			auto_is zone "$ip -t $rule" "$to"
			# shellcheck disable=SC2086
			on proxy "$ip" -t ${rule/-A/-D}
		done
		auto_is off "$ip: none does any more" "$to"
	done
}

@test "the same with rules of iptables-nft" {
	legacy_rules nft
}

@test "the same with iptables-legacy, whose tables nft does not see" {
	root_only "the list of iptables-legacy's tables is for the initial user namespace's root"
	legacy_rules legacy
}

@test "auto is zone beside a firewall that drops invalid packets: none is invalid, everything arrives" {
	add_firewall
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=zone
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	assert_equal "$(invalid)" 0
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
}

@test "the same with all ports, where ports do not distinguish the legs" {
	add_firewall
	on proxy tproxy-setup up -q --to 3129
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	# A packet of a connection that is over may be invalid; one of a transfer may not.
	assert [ "$(invalid)" -le 20 ]
}

@test "without the zone the upstream leg is not a connection of its own" {
	on proxy nft -f - <<-'END'
		table inet watch {
			counter fresh { }
			chain outgoing {
				type filter hook output priority filter
				tcp flags & (syn | ack) == syn tcp dport 80 ct state new counter name fresh
			}
		}
	END
	fresh() {
		packets_of proxy watch fresh
	}
	on proxy tproxy-setup up -q --to 3129 --port 80 --conntrack off
	run on client curl -sS --max-time 5 -o /dev/null http://198.51.100.2/who
	assert_equal "$(fresh)" 0
	on proxy tproxy-setup up -q --to 3129 --port 80 --conntrack zone
	run on client curl -sS --max-time 5 -o /dev/null http://198.51.100.2/who
	assert_equal "$(fresh)" 1
}

@test "the upstream leg is masqueraded like any connection, and everything arrives" {
	add_firewall
	add_masquerade
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=zone
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_output --regexp '^198\.51\.100\.1 '
}

@test "source translation for some sources only is not taken for the upstream leg's" {
	on proxy nft 'add table ip docker; add chain ip docker p { type nat hook postrouting priority srcnat; }; add rule ip docker p ip saddr 172.17.0.0/16 oifname != "docker0" masquerade'
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=zone
	transfer 198.51.100.2
	run on client curl -sS --max-time 20 --local-port 40000 http://198.51.100.2/who
	assert_output "192.0.2.2 40000"
}

@test "tracking that appears later is drift that status shows and up fixes; words in comments do not count" {
	on proxy nft 'add table ip other; add chain ip other c; add rule ip other c accept comment "ct state masquerade"'
	on proxy tproxy-setup up -q --to 3129 --port 80
	run on proxy "$TOP/tests/lib/intact"
	assert_success
	add_firewall
	run on proxy tproxy-setup status -o check,state,evidence
	assert_equal "$status" 1
	assert_line --regexp '^conntrack +changed +auto: connection tracking in inet firewall chain incoming'
	on proxy tproxy-setup up -q --to 3129 --port 80
	run on proxy "$TOP/tests/lib/intact"
	assert_success
	run decided
	assert_output zone=zone
}

@test "zone-snat is another name for zone" {
	add_masquerade
	on proxy tproxy-setup up -q --to 3129 --port 80 --conntrack zone-snat
	run decided
	assert_output zone=zone
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_output --regexp '^198\.51\.100\.1 '
}

# Whether --not-mark excludes a packet, and whether somebody listens, is known after connection tracking.
@test "auto is off if a zone could be wrong; up, status and doctor say so" {
	add_firewall
	run on proxy tproxy-setup up --to 3129 --port 80 --not-mark 0x100/0x100
	assert_success
	assert_output --partial 'conntrack auto is taken for off, because of --not-mark'
	run decided
	assert_output zone=off
	run on proxy tproxy-setup status -o check,state,evidence
	assert_success
	assert_line --regexp '^conntrack +present .*off because of --not-mark'
	run on proxy tproxy-setup doctor -o check,severity,evidence
	assert_line --regexp '^conntrack +warn .*because of --not-mark'
	run on proxy tproxy-setup up --to 3129 --port 80 --no-listener pass
	assert_output --partial 'because of --no-listener pass'
	run on proxy tproxy-setup up --to 3129 --port 80 --no-listener pass --conntrack zone
	assert_equal "$status" 2
	assert_output --partial '--conntrack zone and --no-listener pass'
}

@test "zones do not disturb a masqueraded connection that --not-mark leaves alone" {
	add_firewall
	add_masquerade
	on proxy nft 'add chain inet translate first { type filter hook prerouting priority raw - 1; }; add rule inet translate first ip saddr 192.0.2.2 meta mark set 0x100'
	on proxy tproxy-setup up -q --to 3129 --port 80 --not-mark 0x100/0x100 --conntrack zone
	transfer 198.51.100.2
	refute_line_in relay.out '192\.0\.2\.2:'
	run on client curl -sS --max-time 20 --interface 192.0.2.10 http://198.51.100.2/who
	assert_output --regexp '^198\.51\.100\.1 '
	assert_line_in relay.out 'open .*192\.0\.2\.10:'
}

# excluding WHO WHEN: 0x200 on what goes to port 80, by nft at that priority or by iptables in that table.
excluding() {
	local ip
	if [[ $1 == nft ]]; then
		on proxy nft "table inet others { chain c { type filter hook prerouting priority $2; ip daddr 203.0.113.9 meta mark set 0x900; jump d; }; chain d { tcp dport 80 meta mark set meta mark & 0xffff00ff | 0x200; }; }"
		return
	fi
	for ip in iptables-nft ip6tables-nft; do
		on proxy "$ip" -t "$2" -N d
		on proxy "$ip" -t "$2" -A d -p tcp --dport 80 -j MARK --set-mark 0x200/0xff00
		on proxy "$ip" -t "$2" -A PREROUTING -j d
	done
}
excluding_no_more() {
	local ip
	on proxy nft 'table inet others; delete table inet others'
	for ip in iptables-nft ip6tables-nft; do
		on proxy "$ip" -t "$1" -F
		on proxy "$ip" -t "$1" -X d || :
	done
}
excluded_passes() {
	local host
	for host in 198.51.100.2 '[2001:db8:2::2]'; do
		run on client curl -sS --max-time 5 -o /dev/null "http://$host/body"
		assert_success
	done
	refute_line_in relay.out 'open '
}
up_zone() { on proxy tproxy-setup up --to 3129 --port 80 --not-mark 0x200/0xff00 --conntrack zone 2>"$OUT/up"; }

@test "a mark of priority raw excludes in time, whoever came first; a later one is told, with a remedy" {
	local who order
	for who in nft iptables; do
		for order in before after; do
			[[ $order == after ]] || excluding $who raw
			up_zone
			[[ $order == before ]] || excluding $who raw
			excluded_passes
			refute_line_in up 'marks packets'
			run on proxy tproxy-setup doctor -H -o check,evidence
			refute_line --partial 'marks packets'
			on proxy tproxy-setup down -q
			excluding_no_more raw
		done
		excluding $who mangle
		up_zone
		run on client curl -sS --max-time 2 -o /dev/null http://198.51.100.2/body
		assert_failure
		assert_line_in up "0x(0{5})?200.* marks packets after their zone is chosen"
		run on proxy tproxy-setup status -H -o check,state,evidence
		assert_line --regexp '^conntrack +present .* marks packets after their zone is chosen'
		run on proxy tproxy-setup doctor -H -o check,severity,evidence
		assert_line --regexp '^conntrack +warn .* marks packets after that'
		on proxy tproxy-setup up -q --to 3129 --port 80 --not-mark 0x200/0xff00
		excluded_passes
		run on proxy tproxy-setup doctor -H -o check,evidence
		refute_line --partial 'marks packets'
		on proxy tproxy-setup down -q
		excluding_no_more mangle
	done
	# Not this mark; or bits of it that say another.
	on proxy nft 'table inet others { chain c { type filter hook prerouting priority mangle; meta mark set meta mark | 0x80; meta mark set 0x300; meta mark set ct mark; }; chain o { type filter hook output priority mangle; meta mark set 0x200; }; }'
	up_zone
	refute_line_in up 'marks packets'
}

@test "down: connections that begin while others drain are tracked as before" {
	add_firewall
	add_masquerade
	on proxy tproxy-setup up -q --to 3129 --port 80
	bg slow client curl -sS --max-time 60 --limit-rate 2M http://198.51.100.2/body -o "$OUT/slow.body"
	wait_line relay.out '^open|open '
	bg down proxy tproxy-setup down --drain 30s
	wait_until 10 eval '[[ $(on proxy nft list chain inet tproxy_default zone-new) != *"zone set"* ]]'
	transfer 198.51.100.2
	wait_exit slow 60
	assert_equal "$(sum_of "$OUT/slow.body")" "$SUM"
	wait_exit down 30
	assert_equal "$(invalid)" 0
}

@test "a foreign proxy, whose sockets have no mark, all ports, one client masqueraded" {
	add_firewall
	on proxy nft 'add table inet translate; add chain inet translate post { type nat hook postrouting priority srcnat; }; add rule inet translate post ip saddr 192.0.2.2 oifname "toserver" masquerade; add rule inet translate post ip6 saddr 2001:db8:1::2 oifname "toserver" masquerade'
	stop relay
	start_haproxy proxy <<-'END'
		listen intercepted
			bind 127.0.0.1:3129 transparent
			bind [::1]:3129 transparent
			source 0.0.0.0 usesrc client
			server origdst *
	END
	wait_listen proxy '[::1]:3129'
	on proxy tproxy-setup up -q --to 3129
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_output --regexp '^198\.51\.100\.1 '
	run on client curl -sS --max-time 20 --interface 192.0.2.10 --local-port 40000 http://198.51.100.2/who
	assert_output "192.0.2.10 40000"
	run on client curl -sS --max-time 20 --interface 2001:db8:1::10 --local-port 40000 'http://[2001:db8:2::2]/who'
	assert_output "2001:db8:1::10 40000"
	assert [ "$(invalid)" -le 20 ]
}

# lose WHAT THIS THAT: packets to the server are lost, after file THIS is there, until each connection has lost
# one; then file THAT.
lose() {
	on server nft "add table inet loss; add set inet loss hit { type inet_service; flags dynamic; size 1000; }; add chain inet loss c { type filter hook prerouting priority raw; }; add rule inet loss c tcp dport 81 $1 update @hit { tcp sport } drop"
	touch "$2"
	wait_until 10 eval '(($(on server nft -j list set inet loss hit | jq ".nftables[1].set.elem | length") == SERVERS))'
	on server nft delete table inet loss
	touch "$3"
}

# A relay that resets has no socket any more. What the server says then, because the reset did not reach it
# or was not at the sequence number it expects (RFC 5961, 3.2), is forwarded to the client, whose own reset
# ends the connection. The firewall must see an answer in it, not an invalid packet. (Both legs' sequence
# numbers begin with the same number and a clock here: what the server acknowledges is always a little more
# than the client has sent.)
@test "servers that missed the relay's reset, or data before it, are reset despite the firewall" {
	SERVERS=8
	add_firewall
	on server sysctl -qw net.ipv4.tcp_rmem='4096 16384 16384'
	# It says so each time, not twice a second at most.
	on server sysctl -qw net.ipv4.tcp_invalid_ratelimit=0
	on proxy tproxy-setup up -q --to 3129 --port 80,81
	for lost in reset data; do
		rm -f "$OUT"/{full*,more,read,reset}
		bg slow$lost server "$TOP/tests/lib/peer" serve 81 fin await:"$OUT/read" skip:9000 gone
		wait_listen server 81
		for ((i = 0; i < SERVERS; i++)); do
			bg hasty$i client "$TOP/tests/lib/peer" connect 198.51.100.2 81 eof zeros:9000 touch:"$OUT/full$i" await:"$OUT/more" zeros:100 await:"$OUT/reset" rst
		done
		wait_until 20 eval '(($(find "$OUT" -name "full*" | wc -l) == SERVERS))'
		if [[ $lost == reset ]]; then
			touch "$OUT/more"
			lose 'tcp flags & rst == rst' "$OUT/reset" "$OUT/read"
		else
			lose 'meta length > 100' "$OUT/more" "$OUT/reset"
			touch "$OUT/read"
		fi
		for ((i = 0; i < SERVERS; i++)); do
			wait_exit hasty$i
		done
		wait_until 10 eval '[[ ! $(on server ss -Htn "sport = :81") ]]'
		stop slow$lost || :
	done
	assert_equal "$(invalid)" 0
}
