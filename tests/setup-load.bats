#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup up over an installed instance, while connections come as fast as eight clients can open
# them: none is lost, and none leaks.
#
#   conngen on client (or on proxy) ==listener on proxy, up, up, up==/ nobody on server 198.51.100.2:80
#
# Nobody serves there: what leaks is refused, and the server counts every packet that reaches it. The
# listener's own count of connections that were answered and ended by their client is the third.

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	[[ -x $TPROXY_BIN/tests/conngen ]] || fail "no $TPROXY_BIN/tests/conngen: run make check"
	lab_up
	COUNT=$((10000 / TIME_SCALE))
	on server nft -f - <<-'END'
		table inet watch {
			counter leaked { }
			chain in { type filter hook prerouting priority raw; meta l4proto tcp counter name leaked; }
		}
	END
	bg listener proxy tproxy-listen --log --reply hello 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
}

teardown() {
	lab_down
}

leaked() {
	packets_of server watch leaked
}

# replace_under_load HOST SERVER SPEC...: with N in place of a word %, another one each time; UPS is how
# often: twice at least, for which the load of COUNT connections is repeated if need be. CONNECTIONS is how many
# connections there were.
replace_under_load() {
	local host=$1 server=$2
	shift 2
	on proxy tproxy-setup up -q --to 3129 "${@/\%/1000}"
	UPS=0 CONNECTIONS=0
	while ((UPS < 2)); do
		bg conngen "$host" "$TPROXY_BIN/tests/conngen" "$server:80" "$COUNT" 8
		CONNECTIONS=$((CONNECTIONS + COUNT))
		until [[ -e $OUT/conngen.status ]]; do
			UPS=$((UPS + 1))
			on proxy tproxy-setup up -q --to 3129 "${@/\%/$((1000 + UPS))}"
		done
		wait_exit conngen || fail "$(cat "$OUT/conngen.err")"
	done
	on proxy "$TOP/tests/lib/intact" >/dev/null
	echo "# $CONNECTIONS connections, the last $COUNT in $(cut -d' ' -f2 "$OUT/conngen.out") ms, $UPS replacements"
}

assert_none_lost() {
	wait_until 10 eval "((\$(grep -c ' close .* client\$' $OUT/listener.out) == CONNECTIONS))"
	assert_equal "$(grep -c ' open ' "$OUT/listener.out")" "$CONNECTIONS"
	assert_equal "$(leaked)" 0
}

@test "forwarded connections: replacing under load loses none, and none leaks" {
	replace_under_load client 198.51.100.2 --port 80,% --src 192.0.2.0/24,2001:db8:1::/48 --not-dst 10.0.0.0/8
	assert_none_lost
}

@test "the same with IPv6, --midstream pass and a conntrack zone" {
	replace_under_load client '[2001:db8:2::2]' --port 80,% --midstream pass --conntrack zone
	assert_none_lost
}

@test "this host's own connections: replacing under load loses none, and none leaks" {
	replace_under_load proxy 198.51.100.2 --port 80,% --local
	assert_none_lost
}

# Only what the server itself opens is taken. Its answers to others fit that, too: such flows are known by
# their SYN-ACK, and what is known must outlive the replacement.
@test "flows that are left alone: replacing under load loses none, and takes none" {
	bg web server tproxy-listen --log --redirect --reply direct '*:80'
	wait_listen server 80
	replace_under_load client 198.51.100.2 --src 198.51.100.0/24 --not-port %
	wait_until 10 eval "((\$(grep -c ' close .* client\$' $OUT/web.out) == CONNECTIONS))"
	refute_line_in listener.out .
}
