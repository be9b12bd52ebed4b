#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect explain: its verdict on a packet, compared with the fate of a real one. More
# set-ups, each in a lab of its own: make explain-matrix.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#          .11              | port 80 goes to the relay, 3129

bats_require_minimum_version 1.5.0
load lib/lab
load lib/explain

teardown() {
	again
}

@test "packets that arrive: both families, to which process, by which rule" {
	arrives
	run -0 jq -r 'select(.type == "step") | [.step, .severity, .evidence] | join(" ")' "$OUT/steps"
	assert_line --regexp '^instance ok default takes it: port 80 is among 80; mark 0x1/0xff$'
	assert_line --regexp "^listener ok tproxy-relay \(pid $(pid_of relay)\) at 127.0.0.1:3129, transparent$"
	assert_line 'route ok local, table 100; ip rule 100: fwmark 0x1/0xff lookup 100'
	assert_line 'policy ok carries it to 198.51.100.2:80'
	refute_line --regexp ' (warn|fail) '
	arrives "$Q6"
	run -0 jq -r 'select(.type == "verdict") | "\(.pid) \(.listener.addr) \(.instance) \(.iif)"' "$OUT/steps"
	assert_output "$(pid_of relay) ::1 default toclient"
}

@test "the term of the specification that excludes the packet, and the command that includes it" {
	local other_port='192.0.2.2 198.51.100.2:8080'
	lost excluded '^port 8080 is not among 80 .*forwarded, past the proxy' "$other_port"
	fixed "$other_port"
	on proxy tproxy-setup up -q --to 3129 --port 80,8080 --not-port 8000-9000
	lost excluded '^port 8080 is excluded by --not-port 8000-9000' "$other_port"
	fixed "$other_port"
	on proxy tproxy-setup up -q --to 3129 --port 80 --iif tobystander
	lost excluded '^came in by toclient, --iif tobystander'
	fixed
	on proxy tproxy-setup up -q --to 3129 --port 80 --not-dst 198.51.100.0/24
	lost excluded '^destination 198.51.100.2 is excluded by --not-dst 198.51.100.0/24'
	arrives "$Q6"
	ask
	fixed
	on proxy tproxy-setup up -q --to 3129 --port 80 --src 192.0.2.11
	lost excluded '^client 192.0.2.2 is not in --src 192.0.2.11'
	fixed
	on proxy tproxy-setup up -q -4 --to 127.0.0.1:3129 --port 80
	lost excluded '^IPv6: it takes IPv4 alone' "$Q6"
	fixed "$Q6"
	in_chain prerouting -200 'tcp dport 80 meta mark set 0x500'
	on proxy tproxy-setup up -q --to 3129 --port 80 --not-mark 0x500
	lost excluded 'carries mark 0x500, which --not-mark 0x500 excludes'
	fixed
	# Of several terms each is changed.
	on proxy tproxy-setup up -q --to 3129 --port 81 --not-src 192.0.2.0/24 --iif tobystander
	lost excluded '^port 80 is not among 81'
	fixed
}

@test "nothing installed, no table as up left it, own addresses, the other protocol" {
	on proxy tproxy-setup down -q
	lost not-installed '^nothing is installed by tproxy-setup: forwarded, past the proxy$'
	assert_equal "$fix" 'tproxy-setup up --to 3129 --port 80'
	on proxy ip -6 route add local default dev lo table 100 # as the classic commands leave it
	lost not-installed '^nothing is installed by tproxy-setup: forwarded, past the proxy$'
	assert_equal "$fix" 'tproxy-setup up --to 3129 --port 80 --table 101'
	fixed
	on proxy ip -6 route flush table 100
	on proxy tproxy-setup down -q
	ask
	fixed
	on proxy nft flush chain inet tproxy_default take
	lost not-intact '^instance default: somebody changed its rules: chain:take changed'
	fixed
	on proxy nft add table inet tproxy_default '{ flags dormant; }'
	lost not-intact 'flags dormant'
	fixed
	ask '192.0.2.2 192.0.2.1:80'
	assert_equal "$reason" excluded
	[[ $said == *'addressed to this host, which takes --include-own'* ]]
	ask '-u 192.0.2.2 198.51.100.2:80'
	[[ $reason == excluded && $said == 'UDP: it takes TCP alone'* && $fix == *' -t -u' ]]
	ask '192.0.2.1 198.51.100.2:80'
	[[ $reason == excluded && $said == *'takes --local'* && $fix == *' --local' ]]
}

@test "other programs' rules, by hook, in the order in which they run" {
	in_chain prerouting raw 'ip saddr 192.0.2.11 drop' 'tcp dport 80 ip saddr 192.0.2.2 drop'
	lost dropped '^inet other, chain c: `tcp dport 80 ip saddr 192.0.2.2 drop` .*drops it$'
	fixed
	again
	in_chain prerouting 10 'tcp dport 80 drop'
	lost dropped 'chain c: .tcp dport 80 drop. .* drops it$'
	fixed
	again
	POLICY=drop in_chain input 0 'meta l4proto ipv6-icmp accept' 'ct state established accept'
	lost dropped 'policy drop drops it$' "$Q6"
	fixed "$Q6"
	arrives
	again
	in_chain input 0 'iifname toclient ct state established drop'
	lost dropped 'ct state established'
	fixed
	again
	in_chain output 0 'oifname toserver tcp dport 80 drop'
	lost dropped 'drops what the proxy sends to servers'
	fixed
	again
	in_chain output 0 'oifname toclient tcp sport 80 drop'
	lost dropped 'drops what the proxy sends to clients'
	fixed
	again
	in_chain prerouting -140 'tcp dport 80 meta mark set 0x500'
	lost mark-overwritten 'meta mark set'
	fixed
	again
	TYPE=nat in_chain prerouting dstnat 'tcp dport 80 redirect to :9'
	lost taken-elsewhere 'redirect to :9'
	fixed
	again
	on proxy nft -f - <<<'table netdev other { chain c { type filter hook ingress device toclient priority 0; tcp dport 80 drop; }; }'
	lost dropped 'table|netdev other, chain c'
	fixed
}

@test "a mark that conntrack keeps, and restores before our rules run" {
	# The relay's own mark comes back with the server's answers, as with several upstreams.
	on proxy nft -f - <<<'table ip other { chain s { type filter hook postrouting priority 0; ct mark set meta mark; }; chain r { type filter hook prerouting priority -150; meta mark set ct mark; }; }'
	lost mark-clash "puts mark 0x2 on servers' answers before our rules run: it is our --upstream-mark"
	fixed
	again
	# With a zone for the upstream leg, the client's own later packets.
	on proxy nft -f - <<<'table ip other { chain s { type filter hook postrouting priority 0; oifname "toclient" ct mark set 2; }; chain r { type filter hook prerouting priority -150; iifname "toclient" meta mark set ct mark; }; }'
	on proxy tproxy-setup up -q --to 3129 --port 80 --conntrack zone
	lost mark-clash 'puts mark 0x2 on the packets that follow it before our rules run'
	fixed
	again
	# The intercept mark delivers what has a socket here.
	on proxy nft -f - <<<'table ip other { chain s { type filter hook input priority 0; ct mark set meta mark; }; chain r { type filter hook prerouting priority -150; meta mark set ct mark; }; }'
	arrives
	run -0 on proxy tproxy-setup doctor -q
}

# dropper TABLE CHAIN: a chain that drops the packet at INPUT, priority 0; it counts as `CHAIN`.
dropper() {
	on proxy nft "table $1 { counter $2 { }; chain $2 { type filter hook input priority 0; tcp dport 80 counter name $2 drop; }; }"
}
# first_is TABLE CHAIN OTHER_TABLE OTHER: explain says that CHAIN drops it, and so do the counters.
first_is() {
	lost dropped "chain $2: "
	[[ $(on proxy nft -j list counters table "$1" | jq "[.nftables[].counter? | select(.name == \"$2\").packets] | add") != 0 ]]
	assert_equal "$(on proxy nft -j list counters table "$3" | jq "[.nftables[].counter? | select(.name == \"$4\").packets] | add")" 0
	again
}
other_order() { jq -r 'select(.step == "order").evidence' "$OUT/steps"; }

@test "chains of one priority: the newest runs first, in a table and among tables" {
	dropper 'inet other' one
	dropper 'inet other' two
	first_is 'inet other' two 'inet other' one
	dropper 'inet other' two
	dropper 'inet other' one
	first_is 'inet other' one 'inet other' two
	dropper 'inet other' one
	dropper 'ip another' two
	first_is 'ip another' two 'inet other' one
	dropper 'ip another' two
	dropper 'inet other' one
	first_is 'inet other' one 'ip another' two
}

# Then only the chains that the packet meets are read, one by one.
@test "beside many rules: other chains, sets, maps, extensions and comments of a rule all the same" {
	on proxy nft -f - < <(
		echo 'table inet many { chain big {'
		for i in {1..600}; do echo "ip saddr 10.0.$((i >> 8)).$((i & 255)) drop"; done
		echo '}; chain f { type filter hook forward priority 0; jump big; }; }'
	)
	on proxy nft -f - <<-END
		table inet other {
			set ports { type inet_service; elements = { 80, 443 }; }
			map where { type inet_service : verdict; elements = { 80 : jump second }; }
			chain second { ip saddr 192.0.2.11 drop; tcp dport @ports ip saddr 192.0.2.2 drop; }
			chain c { type filter hook input priority 0; tcp dport vmap @where; }
		}
	END
	lost dropped '^inet other, chain second: `tcp dport @ports ip saddr 192.0.2.2 drop` .* drops it$'
	on proxy nft delete rule inet other second handle "$(grep -oE 'handle [0-9]+' <<<"$said" | head -1 | awk '{ print $2 }')"
	arrives
	on proxy nft delete table inet other
	# A chain whose name is a word of nft's can be listed with all others alone.
	on proxy iptables-nft -N log
	on proxy iptables-nft -A log -m conntrack --ctstate NEW -p tcp --dport 80 -j DROP
	on proxy iptables-nft -A INPUT -m comment --comment here -j log
	lost dropped '^ip filter, chain log: .* drops it$'
	fixed
	again
	on proxy nft -f - <<<'table netdev other { chain c { type filter hook ingress device toclient priority 0; tcp dport 80 drop; }; }'
	lost dropped 'netdev other, chain c'
	fixed
}

# Beside many rules libnftables reads only those that are not plain; the others are read as the kernel tells them.
@test "beside many rules: what a rule of any kind does is what happens" {
	local does question rule i
	on proxy nft -f - < <(
		echo 'table inet many { chain big {'
		for i in {1..100}; do echo "ip saddr 10.0.0.$i drop"; done
		echo '}; }'
	)
	while read -r does question rule <&4; do
		on proxy nft -f - <<-END
			table inet other {
				set ports { type inet_service; elements = { 80, 443 }; }
				set hosts { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
				chain last { tcp dport 80 counter reject; }
				chain c { type filter hook input priority 0; $rule; }
			}
		END
		echo "$does $question: $rule" >&2
		if [[ $does == drops ]]; then
			LIMIT=0.3 lost dropped '^inet other, chain (c|last): ' "${!question}"
		else
			arrives "${!question}"
		fi
		on proxy nft delete table inet other
	done 4<<-END
		drops Q4 ip saddr 192.0.2.2 drop
		passes Q6 ip saddr 192.0.2.2 drop
		passes Q4 ip saddr 192.0.2.3 drop
		drops Q4 ip saddr != 192.0.2.3 tcp dport 80 drop
		passes Q4 ip saddr != 192.0.2.2 tcp dport 80 drop
		drops Q4 ip saddr 192.0.2.0/25 tcp dport 80 counter drop
		passes Q4 ip saddr 192.0.2.128/25 tcp dport 80 counter drop
		drops Q4 ip saddr 192.0.2.0/24 ip daddr 198.51.0.0/16 log prefix "x" drop
		drops Q4 ip saddr @hosts tcp dport @ports jump last
		passes Q4 ip saddr != @hosts tcp dport @ports jump last
		passes Q4 ip saddr 192.0.2.2 udp dport 80 drop
		drops Q4 ip protocol tcp tcp dport 80 drop
		passes Q6 ip protocol tcp tcp dport 80 drop
		drops Q6 ip6 saddr 2001:db8:1::/48 drop
		passes Q6 ip6 saddr 2001:db8:2::/48 tcp dport 80 drop
		drops Q6 ip6 daddr 2001:db8:2::2 ip6 nexthdr tcp goto last
		passes Q4 ip6 nexthdr tcp goto last
		passes Q4 meta nfproto ipv6 tcp dport 80 drop
		drops Q6 meta nfproto ipv6 tcp dport 80 drop
		passes Q4 meta l4proto udp drop
		drops Q4 meta l4proto tcp counter drop
		drops Q4 iifname "toclient" tcp dport 80 drop
		drops Q4 iifname "tocl*" drop
		passes Q4 iifname "toclien" drop
		drops Q4 iifname != "toclient" tcp sport 80 drop
		passes Q4 oifname "toserver" drop
		drops Q4 ct state new tcp dport 80 drop
		drops Q4 ct state established,related accept; tcp dport 80 drop
		passes Q4 ct state established,new accept; drop
		passes Q4 tcp dport 80 return; tcp dport 80 drop
		drops Q4 tcp sport 1024-65535 tcp dport 80 drop
		drops Q4 tcp dport { 80, 443 } drop
		drops Q4 tcp dport vmap { 80 : goto last }
		drops Q4 ip saddr . tcp dport { 192.0.2.2 . 80 } drop
		drops Q4 tcp flags syn / syn,ack drop
		drops Q4 meta mark and 0xff == 1 drop
		drops Q4 th dport 80 drop
	END
	for i in {1..100}; do echo "-A INPUT -s 10.0.0.$i -p tcp -m tcp --dport 80 -m comment --comment x -j DROP"; done |
		sed -e '1i *filter' -e '$a -A INPUT -p tcp -m conntrack --ctstate NEW -m multiport --dports 80,81 -j REJECT\nCOMMIT' |
		on proxy iptables-nft-restore
	lost dropped '^ip filter, chain INPUT: .* drops it$'
	fixed
}

# It holds each request of libnftables up, which uses sendto(2); the kernel's own list is asked for by sendmsg(2).
@test "rules that are replaced while they are read: it says so, and does not judge by half of them" {
	on proxy nft -f - < <(
		echo 'table inet many { chain big {'
		for i in {1..100}; do echo "ip saddr 10.0.0.$i drop"; done
		echo '}; }; table inet other { chain c { type filter hook input priority 0; ip saddr 10.0.0.1 drop; tcp dport { 80, 81 } drop; }; }'
	)
	bg slow proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" strace -q -s 200 -o "$OUT/calls" \
		-e trace=sendto,sendmsg -e inject=sendto:delay_enter=$((TIME_SCALE * 300))ms:when=12+ \
		tproxy-inspect explain 192.0.2.2 198.51.100.2:80
	# `other`
	wait_until 30 has_line "$OUT/calls" '^sendmsg.*NFT_MSG_GETRULE.*x6f.x74.x68.x65.x72'
	on proxy nft 'flush chain inet other c; add rule inet other c tcp dport 79-80 drop'
	run -3 wait_exit slow 60
	assert_line_in slow.err 'chain inet other c: changed while it was read'
	lost dropped '^inet other, chain c: .* drops it$'
}

@test "chains of one priority: what cannot be known is said when it decides" {
	local marks='{ chain m { type filter hook prerouting priority -200; tcp dport 80 meta mark set 0x500; }; }'
	local drops='{ chain d { type filter hook prerouting priority -200; meta mark 0x500 drop; }; }'
	on proxy nft "table ip one $marks"
	on proxy nft "table ip two $drops"
	arrives
	[[ $(other_order) == *'the other way round, which the kernel does not tell: dropped: ip two, chain d: '* ]]
	again
	on proxy nft "table ip one $drops"
	on proxy nft "table ip two $marks"
	lost dropped 'ip one, chain d: '
	[[ $(other_order) == *': delivered: '* ]]
	again
	# A chain that is newer than its table is the case that it cannot know.
	on proxy nft 'table ip one { }'
	on proxy nft "table ip two $marks"
	on proxy nft "table ip one $drops"
	LIMIT=5 comes_through
	ask
	[[ $(other_order) == *': delivered: '* ]]
	again
	# Where the order makes no difference, nothing is said.
	on proxy nft "table ip one $marks"
	on proxy nft "table ip two $marks"
	arrives
	refute [ "$(other_order)" ]
}

@test "chains of type nat run at the place of the kernel's NAT, whatever their priority" {
	on proxy nft 'table ip other { chain n { type nat hook prerouting priority 10; tcp dport 80 counter accept; }; chain f { type filter hook prerouting priority -50; tcp dport 80 counter accept; }; }'
	ask
	run -0 jq -r 'select(.step == "prerouting").where' "$OUT/steps"
	assert_output $'prerouting:10:ip:other:n\nprerouting:-50:ip:other:f'
}

@test "a rule that may drop the packet is a warning; rules for other packets are skipped" {
	in_chain input 0 'tcp dport 80 limit rate over 1000/second drop' 'tcp dport 443 drop' 'ip saddr 10.0.0.0/8 drop'
	arrives
	run -0 jq -r 'select(.severity == "warn").evidence' "$OUT/steps"
	assert_output --partial 'may drop it'
	again
	in_chain forward 0 'drop'
	TYPE=nat POLICY=accept on proxy nft 'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "tobystander" masquerade; }; }'
	arrives
	arrives "$Q6"
}

@test "a packet that is not intercepted is followed past the proxy" {
	local other_port='192.0.2.2 198.51.100.2:8080'
	in_chain forward 0 'tcp dport 8080 drop'
	lost excluded 'lost on its way: inet other, chain c: .*drops it' "$other_port"
	fixed "$other_port"
}

@test "routing: rules before ours, our own gone, sources refused, no route back" {
	on proxy ip rule add pref 50 iif toclient lookup 50
	on proxy ip route add default via 198.51.100.2 table 50
	lost misrouted '`ip rule 50: .and more. lookup 50` is asked before our rule 100'
	fixed
	on proxy ip route flush table 50
	again
	on proxy ip rule add pref 50 from 192.0.2.0/24 blackhole
	lost misrouted 'refuses` is asked before our rule 100, and drops'
	fixed
	again
	on proxy ip rule del pref 100
	lost misrouted 'our rule in table 100 is missing'
	fixed
	on proxy ip route flush table 100
	lost misrouted 'our route in table 100 is missing'
	fixed
	on proxy ip route add 198.51.100.0/24 via 203.0.113.2 table 100
	lost misrouted '^in our routing table 100: it holds a route that is not ours: 198.51.100.0/24$'
	fixed
	on proxy ip route del 198.51.100.0/24 table 100
	again
	on proxy ip route del local default dev lo table 100
	on proxy ip route add default via 198.51.100.2 table 100
	lost misrouted '^in our routing table 100: it holds a default route that is not ours$'
	fixed
	on proxy ip route flush table 100
	again
	on proxy sysctl -qw net.ipv4.conf.all.src_valid_mark=1
	lost source-refused 'finds our local route .*src_valid_mark=1'
	fixed
	on proxy ip route add blackhole 192.0.2.11/32
	lost no-way-back 'no way leads back to the client 192.0.2.11' '192.0.2.11 198.51.100.2:80'
	arrives
	ask '192.0.2.11 198.51.100.2:80'
	fixed '192.0.2.11 198.51.100.2:80'
	on proxy ip route del 192.0.2.11
	on proxy ip -6 route add blackhole 2001:db8:2::2/128
	lost no-route 'no way to \[2001:db8:2::2\]:80' "$Q6"
	on proxy ip -6 route del blackhole 2001:db8:2::2/128
	arrives "$Q6"
}
