# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2016 # SPEC, RELAY, ASK; what is run later
#
# explain-matrix - set-ups that only one connection shows; see lib/matrix. ASK: the packets, with | between them. CHECK: what
# the doctor knows of others: packets that come in elsewhere, an instance of the usual name, connections beside each other.

DIFFERENT_PORT='192.0.2.2 198.51.100.2:8080|2001:db8:1::2 [2001:db8:2::2]:8080'
OTHER_CLIENT='192.0.2.11 198.51.100.2:80'
EVERYTHING='192.0.2.2 198.51.100.2:80|192.0.2.11 198.51.100.2:80|2001:db8:1::2 [2001:db8:2::2]:80'

# --- what the predicate leaves out
ASK=$DIFFERENT_PORT case_ port-other - a ':'
SPEC='--not-port 8000-9000 --port 8080' ASK=$DIFFERENT_PORT case_ port-excluded - a ':'
SPEC='--iif tobystander' case_ iif-other - a ':'
SPEC='--iif to* --iif eth0' case_ iif-pattern - a ':'
SPEC='--not-dst 198.51.100.0/24' case_ dst-excluded - a ':'
SPEC='--dst 203.0.113.0/24 --dst 2001:db8:2::/48' case_ dst-other - a ':'
SPEC='--not-src 192.0.2.11' ASK=$EVERYTHING case_ src-excluded - a ':'
SPEC='--src 192.0.2.2' ASK=$EVERYTHING case_ src-other - a ':'
SPEC='-4' case_ family-4 - a ':'
SPEC='-6' case_ family-6 - a ':'
SPEC='--not-mark 0x500' case_ mark-excluded - a 'in_chain prerouting "mangle - 10" "tcp dport 80 meta mark set 0x500"'
SPEC='-u' case_ protocol-udp - a ':'
SPEC='--port 443 --not-dst 198.51.100.2' case_ two-terms - a ':'
SPEC=none case_ nothing-installed - a ':'
SPEC=none RELAY=none case_ nothing-at-all - a ':'
SPEC=none case_ nothing-forward-drop - a 'POLICY=drop in_chain forward 0 "ct state established accept"'
ASK='192.0.2.2 192.0.2.1:80' case_ own-address - a ':'
# --- two instances
case_ second-instance installed a 'p tproxy-setup down -q; p tproxy-setup up -q --name one --to 3129 --port 81 --mark 0x10/0xff --table 101 --pref 101; p tproxy-setup up -q --name two --to 3129 --port 80'
case_ no-instance - a 'p tproxy-setup down -q; p tproxy-setup up -q --name one --to 3129 --port 81 --mark 0x10/0xff --table 101 --pref 101; p tproxy-setup up -q --name two --to 3129 --port 82'
# --- what a relay refuses
RELAY='--deny-dst 198.51.100.0/24 3129' case_ denied - a ':'
RELAY='--deny-dst 198.51.100.0/24:81 --allow-dst 198.51.100.0/24 3129' case_ allowed-some - a ':'
RELAY='*:3129' ASK='192.0.2.2 198.51.100.2:80' case_ any-listener - a ':'
RELAY='--source own 3129' ASK='192.0.2.2 198.51.100.2:80' case_ source-own - a ':'
# --- one client
ASK=$EVERYTHING case_ client-blackhole replies a 'p ip route add blackhole 192.0.2.11/32'
ASK=$EVERYTHING case_ client-unreachable replies a 'p ip route add unreachable 192.0.2.11/32'
ASK=$EVERYTHING case_ client-dropped - a 'in_chain input 0 "ip saddr 192.0.2.11 drop"'
ASK=$EVERYTHING case_ client-raw - a 'in_chain prerouting raw "ip saddr 192.0.2.11 tcp dport 80 drop"'
ASK=$EVERYTHING case_ client-rule - a 'p ip rule add pref 50 from 192.0.2.11 lookup 51; p ip route add default via 198.51.100.2 table 51'
ASK=$EVERYTHING case_ client-wan - a 'p ip rule add pref 50 to 192.0.2.11 lookup 51; p ip route add default via 198.51.100.2 table 51; p sysctl -qw net.ipv4.conf.all.rp_filter=1'
case_ server-blackhole - a 'p ip route add blackhole 198.51.100.2/32; p ip -6 route add blackhole 2001:db8:2::2/128'
case_ server-dropped - a 'in_chain output 0 "ip daddr 198.51.100.2 drop"'
# --- Docker-, VPN-, ufw-, firewalld-, router-like rules that leave it alone
case_ works-docker - a 'p iptables-nft -t nat -N DOCKER; p iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER; p iptables-nft -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER; p iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80; p iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE; p iptables-nft -P FORWARD DROP; p iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT'
case_ works-wireguard - a 'p iptables-nft -t raw -A PREROUTING ! -i wg0 -d 10.9.0.2 -m addrtype ! --src-type LOCAL -j DROP; p iptables-nft -t mangle -A POSTROUTING -p udp -m mark --mark 0xca6c -j CONNMARK --save-mark; p iptables-nft -t mangle -A PREROUTING -p udp -j CONNMARK --restore-mark'
case_ works-ufw - a 'p iptables-nft -N ufw-not-local; p iptables-nft -A INPUT -i lo -j ACCEPT; p iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; p iptables-nft -A INPUT -m mark --mark 0x1/0xff -j ACCEPT; p iptables-nft -A INPUT -j ufw-not-local; p iptables-nft -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN; p iptables-nft -A ufw-not-local -j DROP'
case_ ufw-not-local input a 'p iptables-nft -N ufw-not-local; p iptables-nft -A INPUT -i lo -j ACCEPT; p iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; p iptables-nft -A INPUT -j ufw-not-local; p iptables-nft -A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN; p iptables-nft -A ufw-not-local -j DROP'
case_ works-firewalld input a 'n -f - <<<"table inet firewalld { chain filter_INPUT { type filter hook input priority 10; policy accept; ct state { established, related } accept; iifname lo accept; meta l4proto ipv6-icmp accept; iifname toclient goto filter_IN_public; reject with icmpx admin-prohibited; }; chain filter_IN_public { tcp dport 22 accept; meta mark & 0xff == 1 accept; reject with icmpx admin-prohibited; }; }"'
case_ firewalld-reject input a 'n -f - <<<"table inet firewalld { chain filter_INPUT { type filter hook input priority 10; policy accept; ct state { established, related } accept; iifname lo accept; meta l4proto ipv6-icmp accept; iifname toclient goto filter_IN_public; reject with icmpx admin-prohibited; }; chain filter_IN_public { tcp dport 22 accept; reject with icmpx admin-prohibited; }; }"'
case_ works-multiwan - a 'both -t mangle -A PREROUTING -j CONNMARK --restore-mark --mask 0xff00; both -t mangle -A PREROUTING -i toserver -m mark --mark 0/0xff00 -j MARK --set-xmark 0x100/0xff00; both -t mangle -A POSTROUTING -j CONNMARK --save-mark --mask 0xff00; p ip rule add pref 300 fwmark 0x100/0xff00 lookup main'
case_ works-masquerade-all "source|conntrack" a 'both -t nat -A POSTROUTING -o toserver -j MASQUERADE'
ASK=$DIFFERENT_PORT SPEC='--port 8080' case_ works-other-port-drop - a 'in_chain input 0 "tcp dport 81 drop"'
