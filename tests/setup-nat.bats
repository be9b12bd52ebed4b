#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Other programs' source NAT beside an interception: whoever it translates is translated on the upstream
# leg as without a proxy, everybody else keeps address and port, and nothing stalls. Each rule is there
# before `up`, or comes after it (then the command that the doctor prints is run).
#
#   client 192.0.2.2  ==\                          /== masqueraded, or translated by some rules
#                        relay on proxy, firewall ==
#   client 192.0.2.10 ==/                          \== the same, or not

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	lab_up
	start_nginx 80 81
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
	BODY=$(random_file 20M)
	ln -s "$BODY" "$WWW/body"
	SUM=$(sum_of "$BODY")
}

teardown() {
	lab_down
}

# What conntrack calls invalid is dropped, wherever it goes, and counted.
drop_invalid() {
	on proxy nft -f - <<-'END'
		table inet firewall {
			counter invalid { }
			chain incoming { type filter hook input priority filter; ct state invalid counter name invalid drop; }
			chain outgoing { type filter hook output priority filter; ct state invalid counter name invalid drop; }
			chain forwarded { type filter hook forward priority filter; ct state invalid counter name invalid drop; }
		}
	END
}

nft_nat() {
	local rule
	on proxy nft 'add table inet nat; add chain inet nat post { type nat hook postrouting priority srcnat; }'
	for rule; do
		on proxy nft add rule inet nat post "$rule"
	done
}

# add_rule TOOL KIND: a NAT rule as people write them.
add_rule() {
	local ip host to
	case $1.$2 in
	*.none) return ;;
	nft.masquerade) nft_nat 'oifname "toserver" masquerade' ;;
	nft.snat) nft_nat 'oifname "toserver" snat ip to 198.51.100.1' 'oifname "toserver" snat ip6 to 2001:db8:2::1' ;;
	nft.some) nft_nat 'ip saddr 192.0.2.2 oifname "toserver" masquerade' 'ip6 saddr 2001:db8:1::2 oifname "toserver" masquerade' ;;
	nft.ipv4) nft_nat 'meta nfproto ipv4 oifname "toserver" masquerade' ;;
	nft.ipv6) nft_nat 'meta nfproto ipv6 oifname "toserver" masquerade' ;;
	*)
		for ip in iptables ip6tables; do
			host=192.0.2.2 to=198.51.100.1
			[[ $ip == iptables ]] || host=2001:db8:1::2 to=2001:db8:2::1
			case $2 in
			masquerade) set -- "$1" "$2" -o toserver -j MASQUERADE ;;
			snat) set -- "$1" "$2" -o toserver -j SNAT --to-source "$to" ;;
			some) set -- "$1" "$2" -s "$host" -o toserver -j MASQUERADE ;;
			ipv4 | ipv6)
				[[ $ip.$2 == iptables.ipv4 || $ip.$2 == ip6tables.ipv6 ]] || continue
				set -- "$1" "$2" -o toserver -j MASQUERADE
				;;
			esac
			on proxy "$ip-${1#iptables-}" -t nat -A POSTROUTING "${@:3}"
		done
		;;
	esac
}

# is_translated KIND FAMILY CLIENT: does the rule translate that client (2 or 10) in that family?
is_translated() {
	case $1 in
	masquerade | snat) true ;;
	some) [[ $3 == 2 ]] ;;
	ipv4 | ipv6) [[ $1 == "$2" ]] ;;
	*) false ;;
	esac
}

# Below the ports that the kernel chooses from, and each but once: none is in use, or in TIME_WAIT.
PORT=20000

# The server sees whom it should, and 20 MB arrive each way.
check_client() {
	local kind=$1 family=$2 client=$3 host source port=$((++PORT)) seen
	host=198.51.100.2 source=192.0.2.$client
	[[ $family == ipv4 ]] || host='[2001:db8:2::2]' source=2001:db8:1::$client
	seen=$(on client curl -sS --max-time 10 --interface "$source" --local-port "$port" "http://$host/who") ||
		fail "$TOOL $kind, $source: no answer"
	if is_translated "$@"; then
		[[ $seen == @(198.51.100.1|2001:db8:2::1)\ * ]] || fail "$TOOL $kind: $source is not translated: $seen"
	else
		assert_equal "$seen" "$source $port"
	fi
	seen=$(on client curl -sS --max-time 30 --interface "$source" "http://$host/body" | sha256sum)
	[[ $seen == "$SUM" ]] || fail "$TOOL $kind, $source: the body does not arrive"
	on client curl -sS --max-time 30 --interface "$source" -T "$BODY" "http://$host/put" ||
		fail "$TOOL $kind, $source: the body cannot be sent"
	wait_until 5 test -s "$WWW/put"
	assert_equal "$(sum_of "$WWW/put")" "$SUM"
	rm "$WWW/put"
}

check_clients() {
	local family client
	for family in ipv4 ipv6; do
		for client in 2 10; do
			check_client "$1" "$family" "$client"
		done
	done
}

# What the doctor says to do about the `conntrack` finding is done, as printed.
follow_doctor() {
	local fix
	fix=$(on proxy tproxy-setup doctor --json | jq -r 'select(.check == "conntrack" and .severity != "ok").fix')
	[[ ! $fix ]] || on proxy sh -c "$fix"
}

# matrix TOOL KIND...: each kind of rule, with and without a firewall that drops invalid packets, the rule
# before and after `up`.
matrix() {
	local kind firewall order
	TOOL=$1
	for kind in "${@:2}"; do
		for firewall in : drop_invalid; do
			for order in before after; do
				"$firewall"
				[[ $order == after ]] || add_rule "$TOOL" "$kind"
				on proxy tproxy-setup up -q --to 3129 --port 80,81
				if [[ $order == after ]]; then
					add_rule "$TOOL" "$kind"
					follow_doctor
				fi
				check_clients "$kind"
				on proxy tproxy-setup down -q
				[[ $firewall == : ]] || assert_equal "$(packets_of proxy firewall invalid)" 0
				on proxy nft flush ruleset
				for ip in iptables ip6tables; do
					on proxy "$ip-legacy" -t nat -F POSTROUTING
				done
			done
		done
	done
}

@test "no NAT: clients keep address and port" {
	matrix nft none
}

@test "nftables' masquerade and snat, of all sources, some sources, one family" {
	matrix nft masquerade snat some ipv4 ipv6
}

@test "the same with iptables-nft" {
	matrix iptables-nft masquerade snat some ipv4 ipv6
}

@test "the same with iptables-legacy" {
	root_only "the kernel names the tables of iptables-legacy to the machine's root alone"
	matrix legacy masquerade snat some ipv4 ipv6
}
