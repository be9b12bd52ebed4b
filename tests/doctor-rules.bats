#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2034 # SPEC is for lib/doctor.bash
#
# tproxy-setup doctor: other programs' rules. Each test shows first that a typical firewall breaks
# the interception, then that the doctor names the rule, then that the printed command fixes it.
#
#   client ==relay on proxy, somebody's rules==> nginx on server 198.51.100.2, 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
}

teardown() {
	lab_down
}

rules() {
	on proxy nft -f -
}

@test "INPUT with policy drop (nft) drops intercepted packets" {
	rules <<-'END'
		table inet filter {
			chain input {
				type filter hook input priority filter; policy drop;
				ct state vmap { established : accept, related : accept, invalid : drop }
				iifname lo accept
				icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
				tcp dport { 22, 8000-8010 } accept
				ip saddr 203.0.113.0/24 accept
			}
		}
	END
	healthy_proxy
	fails
	fails "$WEB6"
	finds fail input 'inet filter, chain input: policy drop drops what is delivered'
	apply_fix input
	works
	works "$WEB6"
	healthy
}

@test "a drop in a nested chain is named by its rule; sets are evaluated" {
	rules <<-'END'
		table inet filter {
			set inside { type ipv4_addr; flags interval; elements = { 192.0.2.0-192.0.2.99 } }
			set bad { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
			chain input {
				type filter hook input priority filter; policy accept;
				ip saddr @bad drop
				meta l4proto vmap { tcp : jump tcps, udp : drop }
			}
			chain tcps { ip saddr @inside goto strict; }
			chain strict { tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset; }
		}
	END
	healthy_proxy
	fails
	works "$WEB6"
	finds fail input 'inet filter, chain strict: `tcp flags syn / fin,syn,rst,ack reject with tcp reset`'
	apply_fix input
	works
	healthy
}

# One table has its name from nft's grammar: `nft list chain ip x log` is a syntax error.
@test "the rule is named without reading all others once more" {
	rules <<-'END'
		table ip x {
			chain input { type filter hook input priority filter; ip saddr 10.0.0.1 drop; }
			chain strict { ip saddr 192.0.2.0/24 tcp dport 80 drop; }
		}
	END
	on proxy iptables-nft -N log
	on proxy iptables-nft -A log -s 192.0.2.0/24 -j DROP
	on proxy iptables-nft -A INPUT -p udp --dport 53 -j log
	on proxy nft add rule ip x input jump strict
	healthy_proxy
	fails
	run on proxy strace -e trace=sendto,sendmsg -o "$OUT/calls" tproxy-setup doctor
	assert_failure 1
	assert_output --partial 'ip x, chain strict: `ip saddr 192.0.2.0/24 tcp dport 80 drop`'
	# Asked for all rules: for what they do, and for connection tracking.
	assert_equal "$(grep -c 'nlmsg_len=20, nlmsg_type=NFNL_SUBSYS_NFTABLES<<8|NFT_MSG_GETRULE' "$OUT/calls")" 2
	apply_fix input
	works
	on proxy iptables-nft -A INPUT -p tcp -j log
	fails
	finds fail input 'ip filter, chain log: `ip saddr 192.0.2.0/24 counter .*drop`'
	apply_fix input
	works
}

@test "a rate limit is a warning, not a failure" {
	rules <<-'END'
		table inet filter {
			chain input {
				type filter hook input priority filter; policy accept;
				limit rate over 1000/second drop
			}
		}
	END
	healthy_proxy
	works
	finds warn input '`limit rate over 1000/second drop` .* may drop what is delivered'
	apply_fix input
	healthy
}

@test "ufw: ufw-not-local drops packets that are not addressed to this host (iptables-nft)" {
	for ip in iptables-nft ip6tables-nft; do
		on proxy $ip -N ufw-not-local
		on proxy $ip -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		on proxy $ip -A INPUT -i lo -j ACCEPT
		on proxy $ip -A INPUT -p tcp -m multiport --dports 80,443 -j ufw-not-local
		on proxy $ip -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
		on proxy $ip -A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
		on proxy $ip -A ufw-not-local -m limit --limit 3/min -j LOG
		on proxy $ip -A ufw-not-local -j DROP
	done
	healthy_proxy
	fails
	finds fail input 'ip filter, chain ufw-not-local: `.*drop` .* drops what is delivered'
	finds fail input 'ip6 filter, chain ufw-not-local'
	apply_fix input # IPv4,
	works
	apply_fix input # and IPv6
	works "$WEB6"
	healthy
}

@test "iptables-legacy, which nft does not see, drops in INPUT" {
	root_only "which of its tables are in use is told to the machine's root alone"
	on proxy iptables-legacy -N inside
	on proxy iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
	on proxy iptables-legacy -A INPUT -s 203.0.113.0/24 -j ACCEPT
	on proxy iptables-legacy -A INPUT -p tcp -m tcp --dport 80:90 -j inside
	on proxy iptables-legacy -A inside ! -i lo -m mark ! --mark 0x77 -j REJECT
	healthy_proxy
	fails
	works "$WEB6"
	run doctor
	assert_line --regexp '^ok +iptables-legacy .*: tables filter$'
	finds fail input 'iptables-legacy filter, chain inside: `rule 1` drops what is delivered'
	apply_fix input
	works
	healthy
}

@test "iptables-legacy with policy DROP" {
	root_only "which of its tables are in use is told to the machine's root alone"
	on proxy ip6tables-legacy -P INPUT DROP
	on proxy ip6tables-legacy -A INPUT -p ipv6-icmp -j ACCEPT
	healthy_proxy
	fails "$WEB6"
	finds fail input 'ip6tables-legacy filter, chain INPUT: policy drop'
	apply_fix input
	works "$WEB6"
	healthy
}

@test "firewalld's IPv6 reverse path filter looks up the route with our mark" {
	rules <<-'END'
		table inet firewalld {
			chain filter_PREROUTING {
				type filter hook prerouting priority filter + 10; policy accept;
				icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
				meta nfproto ipv6 fib saddr . mark . iif oif missing drop
			}
		}
	END
	healthy_proxy
	works
	fails "$WEB6"
	finds fail prerouting 'inet firewalld, chain filter_PREROUTING: `meta nfproto ipv6 fib saddr . mark . iif oif missing drop`'
	apply_fix prerouting
	works "$WEB6"
	healthy
}

@test "the same without the mark is fine" {
	rules <<-'END'
		table inet f {
			chain pre {
				type filter hook prerouting priority filter + 10; policy accept;
				fib saddr . iif oif missing drop
			}
		}
	END
	healthy_proxy
	works
	works "$WEB6"
	healthy
}

@test "iptables' rpfilter in table raw runs before any mark, and is fine" {
	on proxy ip6tables-nft -t raw -A PREROUTING -m rpfilter --validmark --invert -j DROP
	on proxy iptables-legacy -t raw -A PREROUTING -m rpfilter --validmark --invert -j DROP
	healthy_proxy
	works
	works "$WEB6"
	healthy
}

@test "the whole mark overwritten after our rules (nft): packets go to the original destination" {
	rules <<-'END'
		table inet qos {
			chain pre {
				type filter hook prerouting priority mangle + 10; policy accept;
				tcp dport 80 meta mark set 0x500
			}
		}
	END
	healthy_proxy
	fails
	finds fail mark 'inet qos, chain pre: `tcp dport 80 meta mark set 0x00000500` .* overwrites mark 0x1'
	apply_fix mark
	works
	healthy
}

@test "a mark that is set with its mask is fine, and kept" {
	rules <<-'END'
		table inet qos {
			chain pre {
				type filter hook prerouting priority mangle + 10; policy accept;
				tcp dport 80 meta mark set meta mark & 0xffff00ff | 0x500
			}
		}
	END
	healthy_proxy
	works
	healthy
}

@test "the whole mark overwritten by iptables -j MARK --set-mark" {
	on proxy iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 0x500
	# Without a rule that translates something, nat chains are not run at all.
	on proxy iptables-nft -t nat -A POSTROUTING -o tobystander -j MASQUERADE
	healthy_proxy --conntrack zone
	fails
	finds fail mark 'ip nat, chain PREROUTING: .* overwrites mark 0x1'
	apply_fix mark
	works
}

@test "packets that carry our mark already bypass the proxy" {
	rules <<-'END'
		table inet other {
			chain pre {
				type filter hook prerouting priority mangle - 10; policy accept;
				tcp dport 80 meta mark set 0x2
			}
		}
	END
	healthy_proxy
	bypasses
	finds fail mark 'inet other, chain pre: .* sets mark 0x2 before our rules run; 0x2/0xff is our --upstream-mark'
	apply_fix mark
	stop relay
	bg relay proxy tproxy-relay --log events --upstream-mark 0x3/0xff 3129
	wait_listen proxy 127.0.0.1:3129
	works
	healthy
}

@test "another tproxy rule (nft) takes the same packets; one for other packets is fine" {
	rules <<-'END'
		table inet other {
			chain pre {
				type filter hook prerouting priority mangle + 20; policy accept;
				meta l4proto tcp tcp dport 8080 tproxy to :9999 meta mark set 1 accept
			}
		}
	END
	healthy_proxy
	works
	healthy
	run doctor
	assert_line --regexp "^ok +tproxy +other programs' tproxy rules \(1\) take other packets"
	rules <<-'END'
		add rule inet other pre tcp dport 80 tproxy to :9998 meta mark set 0x1 accept
	END
	bg other proxy tproxy-listen --discard '*:9998'
	wait_listen proxy 9998
	fails
	finds fail tproxy 'inet other, chain pre: `tcp dport 80 tproxy to :9998'
	apply_fix tproxy
	works
	healthy
}

@test "another TPROXY by iptables-nft takes the same packets" {
	healthy_proxy
	on proxy iptables-nft -t mangle -A PREROUTING -p tcp -m tcp --dport 80 -j TPROXY --on-port 9998 --tproxy-mark 0x2/0xff
	fails
	finds fail tproxy 'ip mangle, chain PREROUTING: .*TPROXY'
	apply_fix tproxy
	works
	healthy
}

@test "another TPROXY by iptables-legacy takes the same packets" {
	root_only "which of its tables are in use is told to the machine's root alone"
	on proxy iptables-legacy -t mangle -A PREROUTING -p tcp -m tcp --dport 443 -j TPROXY --on-port 9998 --tproxy-mark 0x2/0xff
	healthy_proxy
	run doctor
	assert_line --regexp '^ok +tproxy'
	on proxy iptables-legacy -t mangle -A PREROUTING -p tcp -m tcp --dport 80 -j TPROXY --on-port 9998 --tproxy-mark 0x2/0xff
	fails
	finds fail tproxy 'iptables-legacy mangle, chain PREROUTING: `rule 2`'
	apply_fix tproxy
	works
}

@test "a REDIRECT of the same packets" {
	rules <<-'END'
		table ip nat {
			chain PREROUTING {
				type nat hook prerouting priority dstnat; policy accept;
				tcp dport 80 redirect to :9998
			}
		}
	END
	healthy_proxy
	fails
	works "$WEB6"
	finds fail tproxy 'ip nat, chain PREROUTING: `tcp dport 80 redirect to :9998`'
	apply_fix tproxy
	works
}

@test "OUTPUT drops packets with a foreign source" {
	rules <<-'END'
		table inet filter {
			chain output {
				type filter hook output priority filter; policy accept;
				oifname "toserver" ip saddr != 198.51.100.1 drop
			}
		}
	END
	healthy_proxy
	fails
	finds fail output 'inet filter, chain output: `oifname "toserver" ip saddr != 198.51.100.1 drop`.* drops what the proxy sends to servers'
	apply_fix output
	fresh_relay
	works
	healthy
}

@test "--conntrack off with a rule that drops INVALID: found, and the printed command sets a zone" {
	rules <<-'END'
		table inet filter {
			counter invalid { }
			chain input { type filter hook input priority filter; ct state invalid counter name invalid drop; }
			chain output { type filter hook output priority filter; ct state invalid counter name invalid drop; }
		}
	END
	healthy_proxy --conntrack off
	finds fail invalid-drop 'inet filter, chain input: `ct state invalid counter name "invalid" drop`'
	finds warn conntrack 'connection tracking in .* but --conntrack off is in effect'
	apply_fix invalid-drop
	works
	healthy
}

@test "--conntrack off with a rule in FORWARD that drops INVALID: no relayed packet meets it" {
	rules <<-'END'
		table inet filter {
			counter forwarded { }
			chain forward { type filter hook forward priority filter; counter name forwarded; ct state invalid drop; }
		}
	END
	healthy_proxy --conntrack off
	run doctor
	assert_line --regexp '^ok +invalid-drop +inet filter, chain forward: `ct state invalid drop` .* drops INVALID packets, but of these connections none goes through FORWARD$'
	works
	works "$WEB6"
	assert_equal "$(packets_of proxy filter forwarded)" 0
}

@test "rootless, iptables-legacy's rules cannot be seen: up, status and doctor say so" {
	rootless_only "root sees them"
	[[ -e /proc/net/ip_tables_names ]] || skip "the kernel has no iptables-legacy"
	start_nginx
	relay
	on proxy iptables-legacy -A FORWARD -m conntrack --ctstate INVALID -j ACCEPT
	run on proxy tproxy-setup up -v --to 3129 --port 80
	assert_success
	assert_output --partial 'iptables-legacy track connections cannot be seen here'
	run on proxy tproxy-setup status -v
	assert_output --partial 'that of iptables-legacy cannot be seen here'
	works
	finds warn conntrack 'connections are tracked by no rule that can be seen here'
	apply_fix conntrack
	works
	run doctor
	refute_line --regexp '^(warn|fail) +conntrack'
}

@test "masquerading of the upstream leg with --conntrack off: found and fixed" {
	rules <<-'END'
		table ip nat {
			chain post { type nat hook postrouting priority srcnat; oifname "toserver" masquerade; }
		}
	END
	# Servers know this host's address alone.
	on server ip route del default
	on server ip route add blackhole 192.0.2.0/24
	healthy_proxy --conntrack off
	fails
	finds fail conntrack 'source translation in ip nat chain post, but --conntrack off is in effect'
	apply_fix conntrack
	fresh_relay
	run fetch
	assert_output --regexp '^198\.51\.100\.1 '
	finds warn source 'ip nat, chain post: `oifname "toserver" masquerade` .* translates the source of what the proxy sends'
	refute_line --regexp '^fail'
}

@test "rules added after up: the same up again updates --conntrack auto" {
	healthy_proxy
	rules <<-'END'
		table ip nat {
			chain post { type nat hook postrouting priority srcnat; oifname "toserver" masquerade; }
		}
	END
	finds fail conntrack 'source translation in ip nat chain post'
	apply_fix conntrack
	run doctor
	assert_success
}

# A client that keeps its connection open, request after request.
@test "flows older than up are reported, and --midstream pass leaves them alone" {
	start_nginx
	relay
	rules <<-'END'
		table inet watch {
			chain f { type filter hook forward priority filter; ct state established accept; }
		}
	END
	bg old client bash -c '
		exec 5<>/dev/tcp/198.51.100.2/80
		ask() { printf "GET /who HTTP/1.1\r\nHost: x\r\n\r\n" >&5; grep -m1 "^192" <&5; }
		ask; while [ ! -e "$1" ]; do sleep 0.1; done; ask' sh "$OUT/go"
	wait_line old.out '^192'
	SPEC=(--to 3129 -p 80)
	finds warn older-flows '1 established connection forwarded .* 192.0.2.2:[0-9]+ -> 198.51.100.2:80'
	run remedies
	assert_equal "$output" "tproxy-setup up --to 3129 --port 80"
	on proxy tproxy-setup up -q "${SPEC[@]}" --midstream pass
	works
	touch "$OUT/go"
	wait_exit old
	assert_equal "$(grep -c '^192' "$OUT/old.out")" 2
}

@test "without connection tracking flows older than up are unknown, and the doctor says so" {
	healthy_proxy
	run doctor
	assert_line --regexp '^ok +older-flows +unknown'
}
