#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2034 # SPEC is for lib/doctor.bash
#
# tproxy-setup doctor: what it prints, when it fails, that it changes nothing, and what a kernel lacks.
#
# What users run into (the pain, and the test that shows it and its end):
#
#   bridges, Docker: nothing intercepted, no network	doctor-sysctl: a bridge with br_netfilter; --iif with a port
#   src_valid_mark=1 eats forwarded traffic		doctor-sysctl: src_valid_mark=1 (four tests)
#   rp_filter, all against interface			doctor-sysctl: rp_filter
#   systemd-networkd deletes our rules			doctor-routing: systemd-networkd removes foreign rules
#   duplicate rules after a re-run			setup.bats
#   rules left behind					setup-run.bats
#   a firewall reload flushes us			below: a foreign flush ruleset
#   the whole mark overwritten				doctor-rules: the whole mark overwritten (nft, iptables)
#   INPUT drops what TPROXY delivers			doctor-rules: INPUT with policy drop, ufw, iptables-legacy
#   missing kernel modules				below: a kernel without ...
#   IPv6 forgotten					doctor-sysctl: IPv6 disabled on lo; doctor-listener: one family
#   "it silently does nothing"				doctor-listener: nobody listens; doctor-routing: no interface
#   listener down: traffic passes by			doctor-listener: nobody listens and --no-listener pass
#   a listener that is not transparent			doctor-listener: not transparent, SO_REUSEPORT group
#   answers bypass the proxy				doctor-routing: servers' answers that bypass the proxy
#   another program's TPROXY or REDIRECT		doctor-rules: another tproxy rule, TPROXY, REDIRECT
#   conntrack, INVALID, masquerading			doctor-rules: --conntrack off, masquerading
#
#   client ==relay on proxy==> nginx on server 198.51.100.2, 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
}

teardown() {
	lab_down
}

@test "a healthy machine: every check is ok and says what it looked at, and the exit status is 0" {
	healthy_proxy
	works
	works "$WEB6"
	run --separate-stderr on proxy tproxy-setup doctor
	assert_success
	assert_output ""
	assert_equal "$stderr" "tproxy-setup: default: nothing breaks it, 0 things to know, 40 checks found nothing"
	run --separate-stderr on proxy tproxy-setup doctor -v
	assert_success
	assert_line --index 0 --regexp '^SEVERITY +CHECK +EVIDENCE$'
	for check in installed kernel lo ipv6 bridge src-valid-mark rp-filter route-localnet fwmark-accept \
		fwmark-reflect forwarding migrate-req routing networkd delivery answers replies vrf multipath one-way listener \
		listener-group listener-mark listener-source listener-queue loop iptables-legacy mark tproxy prerouting input output \
		forward source tc xfrm conntrack invalid-drop \
		flowtable older-flows; do
		assert_line --regexp "^ok +$check +[^ ]"
	done
	assert_equal "${#lines[@]}" 41
}

@test "the man page lists exactly the checks, in the order in which they run" {
	healthy_proxy
	on proxy tproxy-setup doctor -q --json | jq -r .check | uniq >"$OUT/made"
	# The table that begins after these words.
	sed -n '/^The checks, in the order/,/^\.TE/s/^\\fB\([a-z0-9-]*\)\\fR\t.*/\1/p' "$TOP/man/tproxy-setup.8" >"$OUT/listed"
	diff "$OUT/listed" "$OUT/made"
}

@test "a failure: exit 1, the reason and the command on stderr, unless -q" {
	healthy_proxy
	on proxy sysctl -qw net.ipv4.tcp_fwmark_accept=1
	run --separate-stderr on proxy tproxy-setup doctor
	assert_failure 1
	assert_regex "$stderr" $'tproxy-setup: fwmark-accept: accepted sockets take [^\n]*\ntproxy-setup: fwmark-accept: fix: sysctl -w net.ipv4.tcp_fwmark_accept=0\n'
	run --separate-stderr on proxy tproxy-setup doctor -q
	assert_failure 1
	assert_equal "$stderr" ""
}

@test "the common explanation of consecutive findings is printed once" {
	healthy_proxy
	on proxy sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	run --separate-stderr on proxy tproxy-setup doctor
	assert_failure 1
	assert_equal "$(grep -c '^fail ' <<<"$output")" 3 # the setting, and what the kernel says of both ways
	assert_equal "$(grep -c 'fix: sysctl -w .*src_valid_mark=0' <<<"$stderr")" 2
}

@test "--json: a record for each check, with why and fix if something is wrong" {
	healthy_proxy
	on proxy sysctl -qw net.ipv4.tcp_fwmark_accept=1
	run --separate-stderr on proxy tproxy-setup doctor --json
	assert_failure 1
	assert_equal "$stderr" ""
	run jq -es 'length == 40 and all(.[]; .v == 1 and .type == "check" and .instance == "default" and
		(.check | length) > 0 and (.evidence | length) > 0 and
		(if .severity == "ok" then (has("fix") or has("why")) | not
		 else (.fix | length) > 0 and (.why | length) > 0 end))' <<<"$output"
	assert_success
}

@test "columns: only the commands, for sh" {
	healthy_proxy
	on proxy sysctl -qw net.ipv4.tcp_fwmark_accept=1 net.ipv4.conf.all.src_valid_mark=1
	fails
	on proxy bash -c "tproxy-setup doctor -q -H -o severity,fix | sed -n 's/^fail *//p' | sh" >/dev/null
	works
	healthy
}

# Everything that a program could change in a network namespace.
state() {
	on proxy nft -a list ruleset | sed -E "s, expires [0-9a-z]+,,g"
	on proxy ip -details rule
	on proxy ip -6 -details rule
	on proxy ip -details route show table all
	on proxy ip -6 -details route show table all | sed -E 's/ expires [0-9]+sec//'
	on proxy sysctl -a 2>/dev/null | grep -E '^net\.' | grep -Ev 'nf_conntrack_count|random|tcp_mem|secret'
	on proxy cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || :
}

@test "the doctor changes nothing: with an instance, without, on a broken machine" {
	healthy_proxy
	on proxy sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	on proxy iptables-legacy -A INPUT -p udp -j ACCEPT
	bg monitor proxy nft monitor
	wait_until 10 eval 'probe_nft; [ -s $OUT/monitor.out ]'
	state >"$OUT/before"
	run doctor
	run doctor --to 4000 --name other -p 443 --conntrack zone
	state >"$OUT/after"
	diff "$OUT/before" "$OUT/after"
	on proxy nft add table inet end # what the monitor sees at last
	wait_line monitor.out 'add table inet end'
	run grep -vE 'table ip probe|^# new generation' "$OUT/monitor.out"
	assert_line --index 0 'add table inet end'
}

@test "the specification comes from the kernel, or from the command line" {
	start_nginx
	relay
	run on proxy tproxy-setup doctor
	assert_failure 1
	assert_output --partial 'instance `default` is not installed'
	assert_output --partial 'give a specification (tproxy-setup doctor --to PORT ...)'
	on proxy tproxy-setup up -q --name web --to 3129 -p 80,443,8000-8100 --iif toclient --not-dst 10.0.0.0/8 --mark 0x10/0xf0
	on proxy ip rule del pref 100
	run on proxy tproxy-setup doctor -q -H -o check,fix --name web
	assert_failure 1
	assert_line "routing              tproxy-setup up --name web --to 3129 --iif toclient --port 80,443,8000-8100 --not-dst 10.0.0.0/8 --mark 0x10/0xf0"
	on proxy bash -c "$(on proxy tproxy-setup doctor -q -H -o check,fix --name web | sed -n 's/^routing *tp/tp/p')"
	run on proxy "$TOP/tests/lib/intact" --name web
	assert_success
}

@test "an invalid specification is a usage error" {
	run on proxy tproxy-setup doctor --port 80
	assert_failure 2
	assert_output --partial "--to"
	run on proxy tproxy-setup doctor --drain 3s
	assert_failure 2
}

@test "--divert-only: checks for a foreign proxy, without a listener of ours" {
	start_nginx
	on proxy tproxy-setup up -q --divert-only
	healthy
}

@test "after a foreign flush ruleset the routing is left, and doctor needs the specification" {
	healthy_proxy
	on proxy nft flush ruleset
	bypasses
	run on proxy tproxy-setup doctor
	assert_failure 1
	SPEC=(--to 3129 -p 80)
	cured
}

@test "tables with an owner, which libnftables 1.0.6 cannot print as JSON, are read anyway" {
	healthy_proxy
	mkfifo "$OUT/commands"
	bg owner proxy bash -c 'exec nft -i <"$1"' sh "$OUT/commands"
	exec 9>"$OUT/commands"
	cat >&9 <<-'END'
		add table inet owned { flags owner; }
		add set inet owned clients { type ipv4_addr; elements = { 192.0.2.2 }; }
		add chain inet owned input { type filter hook input priority 0; policy accept; }
		add rule inet owned input ip saddr @clients tcp dport 80 drop
	END
	wait_until 5 in_input
	fails
	finds fail input 'inet owned, chain input: `ip saddr @clients tcp dport 80 drop`'
	exec 9>&-
	wait_exit owner || :
	works
	healthy
}

in_input() {
	on proxy nft list ruleset | grep -q 'clients.*drop'
}

# --- kernels that are not this one ---

other_kernel() {
	cc -shared -fPIC -o "$OUT/other-kernel.so" "$TOP/tests/lib/other-kernel.c" -ldl
	# A sanitizer build wants its own library to come first, and would not start.
	OTHER=(env "LD_PRELOAD=$OUT/other-kernel.so" "ASAN_OPTIONS=${ASAN_OPTIONS-}:verify_asan_link_order=0")
}

@test "a kernel without nft_tproxy, nft_socket, nft_fib_inet: named with module and option" {
	other_kernel
	run on proxy "${OTHER[@]}" LACKS='tproxy ip' tproxy-setup up -q --to 3129 -p 80
	assert_failure 3
	for each in 'tproxy ip to|nft_tproxy|CONFIG_NFT_TPROXY' 'tproxy ip6|nf_tproxy_ipv6|CONFIG_NF_TPROXY_IPV6' \
		'socket transparent|nft_socket|CONFIG_NFT_SOCKET' 'fib daddr|nft_fib_inet|CONFIG_NFT_FIB_INET'; do
		IFS='|' read -r word module config <<<"$each"
		run on proxy "${OTHER[@]}" LACKS="$word" tproxy-setup doctor -q -H -o severity,check,evidence --to 3129 -p 80
		assert_failure 1
		assert_line --regexp "^fail +kernel +this kernel has no $module \($config\): No such file or directory"
		run on proxy "${OTHER[@]}" LACKS="$word" tproxy-setup doctor -q -H -o check,fix --to 3129 -p 80
		assert_line --regexp "^kernel +modprobe $module$"
	done
	run on proxy "${OTHER[@]}" LACKS='tproxy ip6' tproxy-setup doctor -v -H -4 --to 127.0.0.1:3129 -p 80
	assert_line --regexp '^ok +kernel'
}

@test "a flowtable forwards older connections past every rule" {
	other_kernel
	healthy_proxy
	run on proxy "${OTHER[@]}" HAS='{"flowtable": {"family": "inet", "name": "fast", "table": "filter", "handle": 3, "hook": "ingress", "prio": 0, "dev": ["toclient", "toserver"]}}' \
		tproxy-setup doctor -q -H -o severity,check,evidence
	assert_line --regexp '^warn +flowtable +flowtable fast in table inet filter'
}

@test "without CAP_NET_ADMIN: the capability is named" {
	run on proxy capsh --drop=cap_net_admin -- -c 'tproxy-setup doctor --to 3129 -p 80'
	assert_failure
	assert_output --partial CAP_NET_ADMIN
}

# --- our own table ---

# What others did to it: everything passes by, or is lost; then the doctor's word and its remedy.
spoilt() {
	finds fail installed "$1"
	run on proxy tproxy-setup status
	assert_failure 1
	cured
	run on proxy "$TOP/tests/lib/intact"
	assert_success
}

@test "nothing installed: reported, and the printed command installs it" {
	start_nginx
	relay
	SPEC=(--to 3129 -p 80)
	bypasses
	finds fail installed 'instance `default` is not installed'
	assert_equal "$(fix_of installed)" 'tproxy-setup up --to 3129 --port 80'
	cured
}

@test "bare doctor without an instance examines what needs no specification" {
	on proxy sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	run --separate-stderr on proxy tproxy-setup doctor
	assert_failure 1
	assert_line --regexp '^fail +installed +instance `default` is not installed'
	assert_line --regexp '^fail +src-valid-mark '
	run on proxy tproxy-setup doctor -q --json
	run jq -r 'select(.check == "installed" and has("fix")).fix' <<<"$output"
	assert_output ''
	on proxy sysctl -qw net.ipv4.conf.all.src_valid_mark=0
	run doctor
	assert_failure 1
	assert_equal "$(grep -c '^fail' <<<"$output")" 1
}

@test "flushed chains of ours" {
	healthy_proxy
	on proxy nft flush chain inet tproxy_default prerouting
	bypasses
	spoilt 'table inet tproxy_default: chain:prerouting changed'
}

@test "return, drop inserted into a chain of ours" {
	healthy_proxy
	for verdict in return drop; do
		on proxy nft insert rule inet tproxy_default prerouting tcp dport 80 $verdict
		if [[ $verdict == drop ]]; then fails; else bypasses; fi
		spoilt 'chain:prerouting changed'
	done
}

@test "a table of ours with flags dormant: neither intact nor already in place" {
	healthy_proxy
	on proxy nft add table inet tproxy_default '{ flags dormant; }'
	bypasses
	run on proxy tproxy-setup up -v --to 3129 -p 80
	assert_success
	refute_output --partial 'already in place'
	works
	on proxy nft add table inet tproxy_default '{ flags dormant; }'
	bypasses
	run on proxy tproxy-setup status -o check,state,evidence
	assert_failure 1
	assert_line --regexp '^table +changed +inet tproxy_default, flags dormant'
	spoilt 'table inet tproxy_default has flags dormant'
}

@test "--confirm-within that has expired" {
	start_nginx
	relay
	on proxy tproxy-setup up -q --to 3129 -p 80 --confirm-within 1s
	wait_until 10 expired
	bypasses
	spoilt 'confirm-within of `default` has expired'
}

expired() {
	! on proxy "$TOP/tests/lib/intact" >/dev/null
}

@test "a drain that was killed" {
	healthy_proxy
	dd if=/dev/zero of="$WWW/big" bs=1M count=8 status=none
	bg slow client curl -sS --max-time 60 --limit-rate 1000 -o /dev/null "http://$WEB4/big"
	wait_line relay.out ' open '
	bg down proxy tproxy-setup down --drain 60s
	wait_until 10 expired
	stop down KILL || :
	bypasses
	spoilt 'the interception of `default` was ended by `down`'
}

@test "the installed instance differs from the specification" {
	healthy_proxy
	SPEC=(--to 3129 -p '80,8080')
	finds fail installed 'installed with other options: port 80,8080 \(was 80\)'
	cured
}

@test "a changed set: the specification is unknown, and no command is made from it" {
	healthy_proxy --dst 198.51.100.0/24 --dst 2001:db8:2::/64
	on proxy nft add element inet tproxy_default dst4 '{ 203.0.113.0/24 }'
	finds fail installed 'set:dst4 changed'
	run remedies
	assert_output ''
	SPEC=(--to 3129 -p 80 --dst 198.51.100.0/24 --dst 2001:db8:2::/64)
	cured
}

@test "problems come first; on a terminal in colour, unless NO_COLOR is set" {
	healthy_proxy
	on proxy iptables-nft -A INPUT -p tcp --dport 80 -j DROP
	on proxy sysctl -qw net.ipv4.ip_forward=0
	run doctor
	assert_line --index 0 --regexp '^fail +input '
	assert_line --index 1 --regexp '^warn +forwarding '
	assert_line --index 2 --regexp '^ok +installed '
	terminal() { on proxy env TERM=xterm "$@" "$TOP/tests/lib/on-terminal" 80 tproxy-setup doctor; }
	run terminal
	assert_output --partial $'\e[31mfail\e[0m'
	run terminal NO_COLOR=1
	refute_output --partial $'\e'
	assert_output --regexp 'fail +input'
}
