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

@test "auto is off where nothing tracks connections: conntrack stays off" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=off
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	run on proxy nft list ruleset
	refute_output --regexp '\bct (zone|state|direction)'
}

@test "auto is zone beside a firewall that drops invalid packets: none is, all arrives" {
	add_firewall
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=zone
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	assert_equal "$(invalid)" 0
	run on client curl -sS --max-time 5 http://198.51.100.2/who
	assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
}

@test "the same with all ports, where only the relay's mark tells its leg" {
	add_firewall
	on proxy tproxy-setup up -q --to 3129
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	# A packet of a connection that is over may be invalid; one of a transfer may not.
	assert [ "$(invalid)" -le 20 ]
}

@test "what the zone is for: without it the upstream leg is no connection of its own" {
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

@test "auto is zone-snat where the upstream leg is masqueraded, and everything arrives" {
	add_firewall
	add_masquerade
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=zone-snat
	transfer 198.51.100.2
	transfer '[2001:db8:2::2]'
	run on client curl -sS --max-time 5 http://198.51.100.2/who
	assert_output --regexp '^198\.51\.100\.1 '
}

@test "source translation for some sources alone is not taken for the upstream leg's" {
	on proxy nft 'add table ip docker; add chain ip docker p { type nat hook postrouting priority srcnat; }; add rule ip docker p ip saddr 172.17.0.0/16 oifname != "docker0" masquerade'
	on proxy tproxy-setup up -q --to 3129 --port 80
	run decided
	assert_output zone=zone
	transfer 198.51.100.2
	run on client curl -sS --max-time 5 --local-port 40000 http://198.51.100.2/who
	assert_output "192.0.2.2 40000"
}

@test "tracking that appears later is drift that status shows and up mends; words in comments are none" {
	on proxy nft 'add table ip other; add chain ip other c; add rule ip other c accept comment "ct state masquerade"'
	on proxy tproxy-setup up -q --to 3129 --port 80
	run on proxy tproxy-setup status
	assert_success
	add_firewall
	run on proxy tproxy-setup status -o check,state,evidence
	assert_equal "$status" 1
	assert_line --regexp '^conntrack +changed +auto: connection tracking in inet firewall chain incoming'
	on proxy tproxy-setup up -q --to 3129 --port 80
	run on proxy tproxy-setup status
	assert_success
	run decided
	assert_output zone=zone
}
