# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2016 # SPEC, RELAY; what is run later
#
# doctor-matrix - the set-ups of tests/doctor-matrix: what is done to the proxy, and what the doctor is to say.

# in_chain HOOK PRIORITY RULE...: a chain of nft's with these rules (POLICY: accept).
in_chain() {
	local hook=$1 priority=$2 rule
	shift 2
	{
		echo "table inet other { chain c { type ${TYPE:-filter} hook $hook priority $priority; policy ${POLICY:-accept};"
		for rule; do echo "$rule"; done
		echo '}; }'
	} | on proxy nft -f -
}
# both ARG...: iptables-nft and ip6tables-nft.
both() { on proxy iptables-nft "$@" && on proxy ip6tables-nft "$@"; }
legacy() { on proxy iptables-legacy "$@" && on proxy ip6tables-legacy "$@"; }

relay_uid() { awk '/^Uid:/ { print $5 }' "/proc/$(pid_of relay)/status"; }
# held: one client has a connection, and another one waits.
held() {
	bg held client bash -c 'exec 5<>/dev/tcp/198.51.100.2/80; exec sleep 1000'
	poll 10 grep -q ' open ' "$OUT/relay.out"
	bg waits client bash -c 'exec 5<>/dev/tcp/198.51.100.2/80; exec sleep 1000'
	poll 10 queued
}
queued() { (($(on proxy ss -Hnlt 'sport = 3129' | awk '{ n += $2 } END { print n }') > 0)); }

# --- INPUT
case_ input-policy input ab 'POLICY=drop in_chain input 0 "ct state established,related accept" "iifname lo accept" "meta l4proto ipv6-icmp accept"'
case_ input-port input ab 'in_chain input 0 "tcp dport 80 drop"'
case_ input-reject input ab 'in_chain input 0 "tcp dport { 80, 443 } reject with tcp reset"'
case_ input-nonlocal input ab 'in_chain input 0 "meta l4proto tcp fib daddr type != local drop"'
case_ input-new input ab 'in_chain input 0 "ct state new iifname toclient drop"'
case_ input-established input ab 'in_chain input 0 "iifname toclient ct state established drop"'
case_ input-limit input ab 'in_chain input 0 "tcp dport 80 limit rate over 1000/second drop" "tcp dport 80 drop"'
case_ input-goto input ab 'n -f - <<<"table inet other { chain g { tcp dport 80 drop; }; chain c { type filter hook input priority 0; goto g; }; }"'
case_ input-vmap input ab 'n -f - <<<"table inet other { chain c { type filter hook input priority 0; tcp dport vmap { 80 : drop, 81 : accept }; }; }"'
case_ input-set input ab 'n -f - <<<"table inet other { set s { type inet_service; elements = { 80 }; }; chain c { type filter hook input priority 0; tcp dport @s drop; }; }"'
case_ input-iptables input ab 'both -A INPUT -p tcp --dport 80 -j DROP'
case_ input-iptables-goto input ab 'both -N g; both -A g -j DROP; both -A INPUT -p tcp --dport 80 -g g'
case_ input-iptables-policy input ab 'both -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; p ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT; both -P INPUT DROP'
case_ input-legacy input ab 'legacy -A INPUT -p tcp --dport 80 -j DROP'
case_ input-legacy-goto input ab 'legacy -N g; legacy -A g -j DROP; legacy -A INPUT -p tcp --dport 80 -g g'
case_ input-ufw6 input ab 'p ip6tables-nft -A INPUT -m rt --rt-type 0 -j DROP; p ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT; p ip6tables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; p ip6tables-nft -P INPUT DROP'
case_ input-rt-type input ab 'POLICY=drop in_chain input 0 "rt type 0 drop" "meta l4proto ipv6-icmp accept" "ct state established accept"'
case_ input-queue input ab 'in_chain input 0 "tcp dport 80 queue num 3"'
case_ input-nfqueue input ab 'both -A INPUT -p tcp --dport 80 -j NFQUEUE --queue-num 3'
case_ input-mark input ab 'in_chain input 0 "meta mark != 0 drop"'
# --- PREROUTING
case_ prerouting-raw prerouting ab 'in_chain prerouting -300 "tcp dport 80 drop"'
case_ prerouting-iptables prerouting ab 'both -t mangle -A PREROUTING -p tcp --dport 80 -j DROP'
case_ prerouting-legacy prerouting ab 'legacy -t mangle -A PREROUTING -p tcp --dport 443 -j DROP; legacy -t mangle -A PREROUTING -p tcp --dport 80 -i toclient -j DROP; legacy -t mangle -A PREROUTING -p tcp --dport 80 -j DROP'
case_ prerouting-two prerouting ab 'both -t raw -A PREROUTING -p tcp --dport 443 -j DROP; both -t raw -A PREROUTING -p tcp --dport 80 -i toclient -j DROP; both -t raw -A PREROUTING -p tcp --dport 80 -j DROP'
case_ prerouting-after prerouting ab 'in_chain prerouting 10 "tcp dport 80 drop"'
case_ prerouting-rpfilter prerouting ab 'in_chain prerouting 10 "meta nfproto ipv6 fib saddr . mark . iif oif missing drop"'
case_ prerouting-queue prerouting ab 'in_chain prerouting -200 "tcp dport 80 queue num 1-4"'
case_ ingress-netdev prerouting ab 'n -f - <<<"table netdev other { chain c { type filter hook ingress device toclient priority 0; tcp dport 80 drop; }; }"'
case_ ingress-inet prerouting ab 'n -f - <<<"table inet other { chain c { type filter hook ingress device toclient priority 0; tcp dport 80 drop; }; }"'
case_ ingress-answers prerouting ab 'n -f - <<<"table netdev other { chain c { type filter hook ingress device toserver priority 0; tcp sport 80 drop; }; }"'
case_ egress-netdev output ab 'n -f - <<<"table netdev other { chain c { type filter hook egress device toserver priority 0; tcp dport 80 drop; }; }"'
case_ tc-drop tc ab 'p tc qdisc add dev toclient clsact; p tc filter add dev toclient ingress matchall action drop'
case_ tc-egress-drop tc ab 'p tc qdisc add dev toclient clsact; p tc filter add dev toclient egress matchall action drop'
case_ xfrm-in xfrm ab 'p ip xfrm policy add dir in src 192.0.2.0/24 dst 198.51.100.0/24 action block'
case_ xfrm-out xfrm ab 'p ip xfrm policy add dir out src 2001:db8:1::/64 dst 2001:db8:2::/64 proto tcp action block'
# --- marks
case_ mark-overwritten mark ab 'in_chain prerouting "mangle + 10" "tcp dport 80 meta mark set 0x500"'
case_ mark-nat mark ab 'both -t nat -A PREROUTING -p tcp --dport 80 -j MARK --set-mark 0x500; both -t nat -A POSTROUTING -o tobystander -j MASQUERADE'
case_ mark-ours mark ab 'in_chain prerouting "mangle - 10" "tcp dport 80 meta mark set 0x1"'
case_ mark-upstream mark ab 'in_chain prerouting "mangle - 10" "tcp dport 80 meta mark set 0x2"'
case_ connmark-multiwan mark ab 'both -t mangle -A PREROUTING -j CONNMARK --restore-mark; both -t mangle -A PREROUTING -i toserver -m mark --mark 0 -j MARK --set-mark 0x100; both -t mangle -A POSTROUTING -j CONNMARK --save-mark'
case_ connmark-whole mark ab 'both -t mangle -A INPUT -j CONNMARK --save-mark; both -t mangle -A OUTPUT -j CONNMARK --restore-mark'
case_ connmark-nft mark ab 'n -f - <<<"table inet other { chain i { type filter hook input priority 0; ct mark set meta mark; }; chain o { type route hook output priority -150; meta mark set ct mark; }; }"'
# --- others that take the packets
case_ tproxy-nft tproxy ab 'bg other proxy tproxy-listen --discard "*:9998"; poll 10 listens proxy 9998; in_chain prerouting "mangle + 20" "tcp dport 80 meta l4proto tcp tproxy to :9998 meta mark set 1 accept"'
case_ redirect-nft tproxy ab 'TYPE=nat in_chain prerouting dstnat "tcp dport 80 redirect to :9998"'
case_ redirect-iptables tproxy ab 'both -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 9998'
case_ redirect-legacy tproxy ab 'legacy -t nat -A PREROUTING -p tcp --dport 443 -j REDIRECT --to-ports 9997; legacy -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 9998; legacy -t nat -A PREROUTING -p tcp -i toclient -j REDIRECT --to-ports 9998'
# --- OUTPUT, POSTROUTING
case_ output-servers output ab 'in_chain output 0 "oifname toserver tcp dport 80 drop"'
case_ output-foreign output ab 'in_chain output 0 "fib saddr type != local drop"'
case_ output-iptables output ab 'both -A OUTPUT -o toserver -p tcp --dport 80 -j DROP'
case_ output-replies output ab 'in_chain output 0 "oifname toclient tcp sport 80 drop"'
case_ output-established output ab 'in_chain output 0 "oifname toserver ct state established tcp dport 80 drop"'
case_ output-uid output ab 'in_chain output 0 "meta skuid $(relay_uid) drop"'
case_ output-owner output ab 'both -A OUTPUT -m owner --uid-owner "$(relay_uid)" -j DROP'
case_ postrouting-nft output ab 'in_chain postrouting 0 "oifname toserver tcp dport 80 drop"'
case_ postrouting-iptables output ab 'both -t mangle -A POSTROUTING -o toserver -p tcp --dport 80 -j DROP'
# --- routing
case_ rule-table delivery ab 'for f in -4 -6; do p ip $f rule add pref 50 iif toclient lookup 50; done; p ip route add default via 198.51.100.2 table 50; p ip -6 route add default via 2001:db8:2::2 table 50'
case_ rule-blackhole delivery ab 'p ip rule add pref 50 from 192.0.2.0/24 blackhole'
case_ rule-prohibit delivery ab 'p ip -6 rule add pref 50 from 2001:db8:1::/64 prohibit'
case_ rule-unreachable delivery ab 'p ip rule add pref 50 iif toclient unreachable'
case_ rule-mark routing ab 'p ip route add default via 198.51.100.2 table 200; p ip rule add pref 90 fwmark 0x1 lookup 200'
case_ rule-gone routing a 'p ip rule del pref 100'
case_ route-gone routing a 'p ip -6 route flush table 100'
case_ reply-blackhole replies ab 'p ip route add blackhole 192.0.2.2/32'
case_ reply-unreachable replies ab 'p ip -6 route add unreachable 2001:db8:1::2/128'
# --- settings
case_ src-valid-mark src-valid-mark ab 'p sysctl -qw net.ipv4.conf.all.src_valid_mark=1'
case_ src-valid-mark-one src-valid-mark ab 'p sysctl -qw net.ipv4.conf.toserver.src_valid_mark=1'
case_ fwmark-accept fwmark-accept ab 'p sysctl -qw net.ipv4.tcp_fwmark_accept=1'
case_ lo-down 'lo|routing' a 'p ip link set lo down'
# --- the listener
RELAY=none case_ listener-none listener ab ':'
RELAY='-4 127.0.0.1:3129' case_ listener-one-family listener ab ':'
RELAY='192.0.2.1:3129 [2001:db8:1::1]:3129' case_ listener-elsewhere listener ab ':'
RELAY='tproxy-listen --bind-device tobystander --pass 3129 -- tproxy-relay --log events' case_ listener-device listener ab ':'
RELAY='--upstream-mark 0x1/0xff 3129' case_ listener-upstream-mark listener-mark ab ':'
case_ listener-stopped listener-queue ab 'kill -STOP "$(pid_of relay)"'
RELAY='--max 1 3129' case_ listener-max listener-queue a 'held'
RELAY='tproxy-listen --listener-mark 0x1 --pass 3129 -- tproxy-relay --log events' case_ listener-mark listener-mark ab ':'
# --- our own table
case_ own-flush installed a 'n flush chain inet tproxy_default prerouting'
case_ own-return installed a 'n insert rule inet tproxy_default prerouting return'
case_ own-drop installed a 'n insert rule inet tproxy_default prerouting tcp dport 80 drop'
case_ own-deleted installed a 'n delete chain inet tproxy_default prerouting'
case_ own-dormant installed a 'n add table inet tproxy_default "{ flags dormant; }"'
# --- what works, and is nothing to complain of
case_ works-nothing - ab ':'
case_ works-firewall - ab 'POLICY=drop in_chain input 0 "ct state established,related accept" "iifname lo accept" "meta l4proto ipv6-icmp accept" "meta mark & 0xff == 1 accept"'
case_ works-forward - ab 'POLICY=drop in_chain forward 0 "ct state established accept" "iifname tobystander accept"'
case_ works-other-port - ab 'in_chain input 0 "tcp dport 443 drop" "udp dport 53 drop"'
case_ works-other-client - ab 'in_chain input 0 "ip saddr 10.0.0.0/8 drop" "ip6 saddr 2001:db8:99::/48 drop"'
case_ works-firewalld6 - ab 'in_chain input 0 "ip6 daddr { ::ffff:0.0.0.0/96, ::/96 } drop" "ip6 saddr ::ffff:0.0.0.0/96 drop"'
case_ works-masked-mark - ab 'in_chain prerouting "mangle + 10" "tcp dport 80 meta mark set meta mark & 0xffff00ff | 0x500"'
case_ works-earlier-mark - ab 'in_chain prerouting "mangle - 10" "tcp dport 80 meta mark set 0x500"'
case_ works-rpfilter - ab 'in_chain prerouting 10 "fib saddr . iif oif missing drop"'
case_ works-rpfilter-raw - ab 'p ip6tables-nft -t raw -A PREROUTING -m rpfilter --validmark --invert -j DROP'
case_ works-redirect-other - ab 'TYPE=nat in_chain prerouting dstnat "tcp dport 8080 redirect to :9998"'
case_ works-tproxy-idle - ab 'in_chain prerouting "mangle + 20" "tcp dport 80 meta l4proto tcp tproxy to :9998 meta mark set 1 accept"'
case_ works-tproxy-other - ab 'in_chain prerouting "mangle + 20" "tcp dport 8080 meta l4proto tcp tproxy to :9998 meta mark set 1 accept"'
case_ rule-wg 'delivery|answers' ab 'p ip rule add not fwmark 0xca6c lookup 51820; p ip rule add lookup main suppress_prefixlength 0'
case_ works-tailscale - ab 'p ip rule add pref 5210 fwmark 0x80000/0xff0000 lookup main'
case_ works-queue-bypass - ab 'in_chain input 0 "tcp dport 80 queue num 3 bypass"'
case_ works-uid - ab 'in_chain output 0 "meta skuid 12345 drop"'
case_ works-owner - ab 'both -A OUTPUT -m owner --uid-owner 12345 -j DROP'
case_ works-tc - ab 'p tc qdisc add dev toclient clsact; p tc filter add dev toclient ingress matchall action ok'
case_ works-netdev - ab 'n -f - <<<"table netdev other { chain c { type filter hook ingress device toclient priority 0; tcp dport 443 drop; }; chain d { type filter hook ingress device tobystander priority 0; tcp dport 81 drop; }; }"'
case_ works-xfrm-allowed - ab 'p ip xfrm policy add dir in src 192.0.2.0/24 dst 198.51.100.0/24 priority 10; p ip xfrm policy add dir in src 0.0.0.0/0 dst 198.51.100.0/24 priority 20 action block'
case_ works-xfrm - ab 'p ip xfrm policy add dir in src 10.0.0.0/8 dst 198.51.100.0/24 action block'
case_ works-masquerade - ab 'both -t nat -A POSTROUTING -o tobystander -j MASQUERADE'
case_ works-connmark-masked - ab 'both -t mangle -A INPUT -j CONNMARK --save-mark --mask 0xff00; both -t mangle -A OUTPUT -j CONNMARK --restore-mark --mask 0xff00'
case_ works-invalid invalid-drop ab 'in_chain input 0 "ct state invalid drop"'
case_ works-loose - ab 'p sysctl -qw net.ipv4.conf.all.rp_filter=2'
case_ works-strict - ab 'p sysctl -qw net.ipv4.conf.all.rp_filter=1'
case_ works-forwarding-each - ab 'p sysctl -qw net.ipv4.ip_forward=0; for link in toclient toserver tobystander; do p sysctl -qw net.ipv4.conf.$link.forwarding=1; done'
case_ works-rule-after - ab 'p ip rule add pref 200 from 10.0.0.0/8 blackhole; p ip rule add pref 201 from 192.0.2.0/24 lookup main'
case_ works-goto - ab 'n -f - <<<"table inet other { chain g { tcp dport 443 drop; }; chain c { type filter hook input priority 0; policy accept; goto g; tcp dport 80 drop; }; }"'
case_ works-legacy - ab 'legacy -A INPUT -p tcp --dport 443 -j DROP; legacy -t mangle -A PREROUTING -p tcp --dport 443 -j MARK --set-mark 1'
case_ works-other-table - ab 'p ip route add default via 198.51.100.2 table 77; p ip rule add pref 300 iif tobystander lookup 77'
SPEC='--src 192.0.2.0/24 --src 2001:db8:1::/64' case_ works-src - ab ':'
SPEC='--iif toclient' case_ works-iif - ab ':'
SPEC='--conntrack zone' case_ works-zone - ab 'in_chain input 0 "ct state invalid drop"'
# --- --local
SPEC='--local' RELAY='--source client-addr --upstream-mark 0x8/0xff 3129' case_ local-mark listener-mark ab ':'
SPEC='--local' RELAY='--source client-addr 3129' case_ works-local - ab ':'
