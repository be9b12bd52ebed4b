#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup up --divert-only --local: a proxy that connects to a server on this very host from a
# client's address. The server's answers stay here, because packets from the loopback addresses are
# routed to lo.
#
#   client 192.0.2.2 --- proxy *:8080: tproxy-relay ==as the client==> 127.0.0.1:80, [::1]:80 nginx, on proxy

bats_require_minimum_version 1.5.0
load lib/relay
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
}

front() {
	bg front proxy tproxy-relay --upstream 127.0.0.1:80 --upstream '[::1]:80' '*:8080'
	wait_listen proxy 8080
}

# sees ADDRESS PORT FROM: the server sees the client, by its own port.
sees() {
	run -0 on client curl -sS --max-time 20 --interface "$3" --local-port "$2" "http://$1:8080/"
	assert_output "$3 $2"
}

@test "a server on a loopback address sees the clients, both families; down leaves nothing" {
	local before
	before=$(snapshot)
	start_who proxy
	on proxy tproxy-setup up -q --divert-only --local
	front
	sees 192.0.2.1 20001 192.0.2.2
	sees '[2001:db8:1::1]' 20002 2001:db8:1::2
	sees 192.0.2.1 20003 192.0.2.10
	# With rp_filter, which looks at other hosts' packets alone.
	on proxy sysctl -qw net.ipv4.conf.all.rp_filter=1
	sees 192.0.2.1 20004 192.0.2.2
	on proxy sysctl -qw net.ipv4.conf.all.rp_filter=0
	run -0 on proxy tproxy-setup status --divert-only --local
	assert_output --partial 'divert-only tcp, and answers of this host'
	run on proxy tproxy-setup status -v
	assert_line --regexp 'answers:ipv4 +present'
	assert_line --regexp 'answers:ipv6 +present'
	run on proxy tproxy-setup doctor
	assert_success
	refute_line --regexp '^fail'
	# This host's own business on loopback is as ever.
	run -0 on proxy curl -sS --max-time 20 --interface 127.0.0.1 http://127.0.0.1/
	assert_output --regexp '^127\.0\.0\.1 '
	on proxy tproxy-setup down -q
	assert_equal "$(snapshot)" "$before"
}

@test "a large body, half-closed and reset connections" {
	local body
	body=$(random_file 20M)
	on proxy tproxy-setup up -q --divert-only --local
	bg sink proxy socat -u TCP4-LISTEN:80,bind=127.0.0.1,reuseaddr "CREATE:$OUT/got"
	wait_listen proxy 127.0.0.1:80
	front
	on client socat -u "FILE:$body" TCP:192.0.2.1:8080
	wait_exit sink
	assert_equal "$(sum_of "$OUT/got")" "$(sum_of "$body")"
	# Nobody listens there any more: that comes back, too.
	run on client curl -sS --max-time 5 http://192.0.2.1:8080/
	assert_failure
	wait_line front.out ' upstream-refused$'
}

@test "without --divert-only --local the relay refuses such an upstream, and names it" {
	on proxy tproxy-setup up -q --divert-only
	run -3 on proxy tproxy-relay --upstream 127.0.0.1:80 -4 '*:8080'
	assert_output --partial 'tproxy-setup up --divert-only --local'
	on proxy tproxy-setup up -q --divert-only --local
	run -3 on proxy tproxy-relay --upstream 198.51.100.1:80 -4 '*:8080'
	assert_output --partial 'or 127.0.0.1 and ::1 with'
}

@test "drift is reported and fixed; one instance of two keeps its rules; plan prints everything" {
	local plan rule
	on proxy tproxy-setup up -q --divert-only --local
	on proxy ip rule del from 127.0.0.0/8 iif lo
	run on proxy tproxy-setup status -v
	assert_failure
	assert_line --regexp 'answers:ipv4 +missing'
	run on proxy tproxy-setup doctor
	assert_failure
	assert_line --regexp '^fail +routing .*what 127\.0\.0\.1 sends to .* is not kept on this host'
	on proxy sh -c "$(on proxy tproxy-setup doctor --json | jq -r 'select(.check == "routing" and .severity == "fail").fix')"
	run -0 on proxy ip rule
	assert_line --regexp 'from 127\.0\.0\.0/8 iif lo lookup 100 proto 116'
	# Another one with the same numbers.
	on proxy tproxy-setup up -q --name other --divert-only --local
	on proxy tproxy-setup down -q
	run -0 on proxy ip -6 rule
	assert_line --regexp 'from ::1 iif lo lookup 100 proto 116'
	on proxy tproxy-setup up -q --name other --divert-only
	for rule in 'ip rule' 'ip -6 rule'; do
		run -0 on proxy $rule
		refute_output --partial 'iif lo'
	done
	on proxy tproxy-setup down -q --all
	plan=$(on proxy tproxy-setup plan --format ip --divert-only --local)
	on proxy sh <<<"$plan"
	run -0 on proxy ip rule
	assert_line --regexp 'from 127\.0\.0\.0/8 iif lo lookup 100'
	start_who proxy
	front
	sees 192.0.2.1 20001 192.0.2.2
	run on proxy tproxy-setup plan --divert-only --local --uid 0
	assert_failure 2
	assert_output --partial 'divert-only and --uid'
}

@test "sslh before a server on this host: it sees the clients" {
	root_only "sslh becomes another user"
	start_who proxy
	on proxy tproxy-setup up -q --divert-only --local
	bg sslh4 proxy sslh -f -n --transparent -u root -p 192.0.2.1:8080 --http 127.0.0.1:80
	bg sslh6 proxy sslh -f -n --transparent -u root -p '[2001:db8:1::1]:8080' --http '[::1]:80'
	wait_listen proxy 192.0.2.1:8080
	wait_listen proxy '[2001:db8:1::1]:8080'
	run -0 on client curl -sS --max-time 20 --interface 192.0.2.2 http://192.0.2.1:8080/
	assert_output --regexp '^192\.0\.2\.2 '
	run -0 on client curl -sS --max-time 20 --interface 2001:db8:1::2 'http://[2001:db8:1::1]:8080/'
	assert_output --regexp '^2001:db8:1::2 '
}
