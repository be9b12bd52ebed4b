#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect explain --live: real packets, followed by nftrace, and where they depart from the walk.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#          .11              | port 80 goes to the relay, 3129

bats_require_minimum_version 1.5.0
load lib/lab
load lib/explain

teardown() {
	again
}

# live NAME QUESTION...: explain it while packets come; it waits for them when this returns.
live() {
	rm -f "$OUT/$1".{err,out}
	bg "$1" proxy tproxy-inspect explain --json --live 20s "${@:2}"
	wait_line "$1.err" ' waiting for packets of '
}

# ended NAME STATUS REASON [SIGNAL]: end it; what it said.
ended() {
	local status=0
	signal "$1" "${4-INT}"
	wait_exit "$1" || status=$?
	reason=$(jq -r 'select(.type == "verdict").reason' "$OUT/$1.out")
	said=$(jq -r 'select(.type == "verdict").evidence' "$OUT/$1.out")
	fix=$(jq -r 'select(.type == "verdict").fix // empty' "$OUT/$1.out")
	echo "$1: $status $reason: $said [$fix]" >&2
	assert_equal "$status $reason" "$2 $3"
	refute_traced "$1"
}

# saw NAME STEP REGEXP: a step of it.
saw() {
	jq -r 'select(.type == "step") | "\(.step) \(.severity) \(.where) \(.evidence)"' "$OUT/$1.out" >"$OUT/saw"
	has_line "$OUT/saw" "^$2 $3" || { cat "$OUT/saw" >&2 && fail "no $2 like '$3'"; }
}

refute_traced() { ! on proxy nft list tables | grep "tproxy-trace-$(pid_of "$1")\$" || fail "the rules are left"; }

# get PORT [CURL ARG...]: from the client, with that source port (0: any).
get() {
	on client curl -s --max-time "${LIMIT-5}" --local-port "$1" "${@:2}" "${URL-http://198.51.100.2/who}"
}

@test "packets that arrive: of the first connection that matches, in both families, and the way back" {
	live four 192.0.2.2 198.51.100.2:80
	live six --iif toclient any any:80
	live late any '[2001:db8:2::2]:any'
	get 0
	URL='http://[2001:db8:2::2]/who' get 0
	ended four 0 delivered
	[[ $said == *'to tproxy-relay (pid '*'; seen: packets of the client reach a socket here, and are answered' ]]
	saw four listener 'ok tproxy-look-up tproxy-relay'
	saw four seen-request 'ok input [0-9]+ packets \(1 SYN\) by toclient, taken by instance default \(mark 0x1\): pass input'
	saw four seen-upstream 'ok postrouting [0-9]+ packets \(1 SYN\): leave by toserver$'
	saw four seen-answer 'ok input [0-9]+ packets by toserver, taken by instance default'
	saw four seen-reply 'ok postrouting [0-9]+ packets: leave by toclient$'
	run -0 jq -es '[.[] | .time // empty] | length == 4 and . == sort' "$OUT/four.out"
	ended six 0 delivered
	saw six packet 'ok toclient TCP 192.0.2.2:[0-9]+ -> 198.51.100.2:80$'
	ended late 0 delivered TERM
	saw late watch 'ok nftrace TCP .2001:db8:1::2.:[0-9]+ -> .2001:db8:2::2.:80, both ways'
	assert_line_in late.err 'a packet came: TCP .2001:db8:1::2.:[0-9]+ -> '
}

@test "rules that came after the walk, and before it: where the packets end, and the fix" {
	live after 192.0.2.2:40001 198.51.100.2:80
	in_chain input 0 'ip saddr 192.0.2.11 drop' 'tcp dport 80 drop'
	! LIMIT=2.5 get 40001 || fail "it came through"
	ended after 1 dropped
	[[ $said == 'packets of the client end at inet other, chain c: `tcp dport 80 drop`'*', although the walk says: instance default delivers it to tproxy-relay'* ]]
	saw after seen-request 'fail input:0:inet:other:c [23] packets \([23] SYN, [12] sent again\) by toclient'
	# The kernel's own reasons need the first user namespace.
	if ((EUID == 0)); then
		saw after drop 'warn skb:kfree_skb .[0-9]+ meanwhile: NETFILTER_DROP, of all connections of this machine, [0-9]+ of them just when packets of this one ended$'
	else
		assert_line_in after.err 'not seen: the kernel.s own reasons for drops: tracefs: fsopen: .*CAP_SYS_ADMIN'
	fi
	saw after departure 'warn delivered the walk says: .*; but packets of the client end at inet other'
	on proxy sh -c "$fix"
	get 40002
	live before 192.0.2.2 198.51.100.2:80
	on proxy nft flush chain inet other c
	on proxy nft add rule inet other c tcp dport 80 reject with tcp reset
	! get 0 || fail "it came through"
	ended before 1 dropped
	[[ $said == *'tcp dport 80 reject with tcp reset'*'; seen: packets of the client end at inet other'* ]]
	saw before seen-reply 'warn postrouting 1 packet \(1 RST\): leave by toclient$'
	again
	# The walk says that it may be dropped, and the way back is.
	in_chain output 10 'tcp sport 80 numgen inc mod 1 == 0 drop'
	live back 192.0.2.2 198.51.100.2:80
	! LIMIT=0.9 get 0 || fail "it came through"
	ended back 1 dropped
	[[ $said == 'answers to the client end at inet other, chain c: '*', although the walk says'* ]]
}

@test "not intercepted, opened here, UDP; and what nf_tables does not say" {
	live other 192.0.2.2 198.51.100.2:8080
	URL=http://198.51.100.2:8080/who get 0
	ended other 1 excluded
	[[ $said == 'port 8080 is not among 80 '*'; seen: packets of the client leave by toserver, past the proxy' ]]
	saw other seen-answer 'ok postrouting [0-9]+ packets by toserver: leave by toclient$'
	live own 198.51.100.1 198.51.100.2:8080
	on proxy curl -s http://198.51.100.2:8080/who
	ended own 1 excluded
	saw own seen-output 'ok postrouting [0-9]+ packets \(1 SYN\): leave by toserver$'
	on proxy tproxy-setup up -q --to 3129 --port 80 --local -t -u
	live looped 198.51.100.1 198.51.100.2:80
	live datagrams -u 192.0.2.2 198.51.100.2:80
	on proxy curl -s --max-time 2 http://198.51.100.2/who || :
	on client bash -c 'echo >/dev/udp/198.51.100.2/80'
	wait_line looped.err 'a packet came'
	wait_line datagrams.err 'a packet came'
	ended datagrams 1 no-listener
	saw datagrams seen-request 'fail prerouting:inet:tproxy_default:.* 1 packet by toclient: end at a rule of instance default'
	signal looped INT
	wait_exit looped || :
	saw looped seen-output 'ok postrouting [0-9]+ packets \(1 SYN\): leave by lo$'
	saw looped seen-request '[a-z]+ input [0-9]+ packets \(1 SYN\) by lo, taken by instance default'
	again
	live lost 192.0.2.2:40003 198.51.100.2:80
	on proxy ip rule add pref 50 from 192.0.2.2 blackhole
	! LIMIT=0.9 get 40003 || fail "it came through"
	ended lost 1 lost
	[[ $said == 'packets of the client pass prerouting and come to no other hook: '*'although the walk says: instance default'* ]]
}

@test "no false alarm: a reset alone, a redirect, fragments, an address of this host from outside" {
	bg hold client socat TCP4:198.51.100.2:80,sourceport=40011,linger=0 PIPE
	wait_line relay.out ' open .*:40011 '
	live reset 192.0.2.2:40011 198.51.100.2:80
	stop hold KILL || :
	wait_line relay.out ' close .*:40011 '
	ended reset 0 delivered
	saw reset seen-request 'warn input 1 packet \(1 RST\) by toclient, .*: pass input, to a socket of this host$'
	TYPE=nat in_chain prerouting -100 'tcp dport 81 redirect to :3129'
	live redirected 192.0.2.2:40012 198.51.100.2:81
	! LIMIT=0.9 URL=http://198.51.100.2:81/who get 40012 || fail "it came through"
	ended redirected 1 excluded
	[[ $said == *'; seen: packets of the client are redirected to 192.0.2.1:3129 by inet other, chain c: '*', and pass input, to a socket of this host, under another address (NAT)' ]]
	live parts -u 192.0.2.2:40013 198.51.100.2:9
	live astray -u any 198.51.100.2:any
	on client ip address add 198.51.100.1/32 dev lo
	on client bash -c 'echo | socat -u - UDP4-SENDTO:198.51.100.2:9,bind=198.51.100.1:40014'
	on client ip address del 198.51.100.1/32 dev lo
	on client bash -c 'head -c 3000 /dev/zero | socat -u -b 3000 - UDP4-SENDTO:198.51.100.2:9,sourceport=40013'
	wait_line parts.err 'a packet came'
	wait_line astray.err 'a packet came: UDP 192.0.2.2:40013'
	ended parts 1 excluded
	[[ $said == *'; seen: packets of the client come; their end was not seen' ]]
	ended astray 1 excluded
	refute_line_in astray.err '198.51.100.1|--iif'
}

# elsewhere NAME PORT [HOST ADDRESS]: a request, of which it says that somebody else gets it. (With a port of its own: what
# still comes of an earlier connection would be taken for the first packet.)
elsewhere() {
	on "${3-client}" curl -s --max-time 0.9 --interface "${4-192.0.2.2}" --local-port "$2" http://198.51.100.2/who || :
	ended "$1" 1 taken-elsewhere
}

# The command that the verdict names helps, and then everything is as it was.
fix_helps() {
	on proxy sh -c "$fix"
	get 0
	again
}

@test "redirected packets are taken elsewhere, whether the rule is there before or after, or cannot be judged" {
	local to='packets of the client are redirected to 192.0.2.1:81 by inet other, chain c: '
	# After the walk.
	live after 192.0.2.2:40021 198.51.100.2:80
	TYPE=nat in_chain prerouting dstnat 'tcp dport 80 redirect to :81'
	! LIMIT=0.9 get 40021 || fail "it came through"
	ended after 1 taken-elsewhere
	[[ $said == "$to"*', and pass input, to a socket of this host, under another address (NAT), although the walk says: instance default delivers it '* ]]
	saw after departure 'warn delivered the walk says: .*; but packets of the client are redirected to 192.0.2.1:81 '
	fix_helps
	# Before it, and before our own rules.
	TYPE=nat in_chain prerouting dstnat 'tcp dport 80 redirect to :81'
	live before 192.0.2.2:40022 198.51.100.2:80
	elsewhere before 40022
	[[ $said == *'redirect to :81'*'; seen: '"$to"* ]]
	on proxy tproxy-setup down -q
	on proxy tproxy-setup up -q --to 3129 --port 80
	live older 192.0.2.2:40023 198.51.100.2:80
	elsewhere older 40023
	fix_helps
	# The walk cannot know.
	TYPE=nat in_chain prerouting dstnat 'tcp dport 80 numgen random mod 10 0-9 dnat ip to 203.0.113.2:80'
	live unknown 192.0.2.2:40024 198.51.100.2:80
	elsewhere unknown 40024
	[[ $said == *' redirected to 203.0.113.2:80 by '*'; what is not known here (see --live): inet other, chain c: '*' may redirect it' ]]
	fix_helps
	# What this host opens itself.
	no_relay
	explain_relay --source client-addr 3129
	on proxy tproxy-setup up -q --to 3129 --port 80 --local
	live own 192.0.2.1:40025 198.51.100.2:80
	TYPE=nat in_chain output -100 'tcp dport 80 redirect to :81'
	elsewhere own 40025 proxy 192.0.2.1
	[[ $said == 'what this host sends are redirected'* || $said == *'redirect to :81'* ]]
	no_relay
	explain_relay
}

@test "answers that leave and do not reach the client" {
	live unheard 192.0.2.2:40031 198.51.100.2:80
	on proxy ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:99 nud permanent dev toclient
	! LIMIT=2.5 get 40031 || fail "it came through"
	on proxy ip neigh delete 192.0.2.2 dev toclient
	ended unheard 1 unheard
	[[ $said == 'answers to the client leave by toclient, and it sends its SYN again: '*', although the walk says: instance default delivers it '* ]]
}

@test "no packet; it is killed: the kernel removes the rules" {
	live none 192.0.2.11 198.51.100.2:80
	live gone any any
	get 0
	on proxy nft list tables | grep -c tproxy-trace
	run -0 on proxy tproxy-inspect explain 192.0.2.2 198.51.100.2:80
	refute_output --partial tproxy-trace
	signal gone KILL
	wait_exit gone || :
	wait_until 10 eval '! on proxy nft list tables | grep -q "tproxy-trace-$(pid_of gone)\$"'
	ended none 1 no-packet
	[[ $said == 'no packet of TCP 192.0.2.11:any -> 198.51.100.2:80 came within '*': look before this machine, on 192.0.2.11 and'* ]]
	run -1 on proxy tproxy-inspect explain --live 100ms any any:81
	assert_line --regexp '^verdict +fail +no-packet +no packet of TCP any -> any:81 came within 0.1'
	# Before prerouting nothing is seen.
	on proxy nft -f - <<<'table netdev other { chain c { type filter hook ingress device toclient priority 0; tcp dport 80 drop; }; }'
	live early 192.0.2.2:40004 198.51.100.2:80
	! LIMIT=0.9 get 40004 || fail "it came through"
	ended early 1 dropped
	[[ $said == *'netdev other'*'(no packet came as far as prerouting, either)' ]]
}

@test "somebody else's nftrace goes on, and is not ours; other packets are not traced" {
	on proxy nft -f - <<<'table inet other { chain c { type filter hook prerouting priority -310; tcp dport 8080 meta nftrace set 1; }; }'
	bg monitor proxy nft monitor trace
	wait_until 10 eval 'URL=http://198.51.100.2:8080/who get 0; has_line "$OUT/monitor.out" "inet other c .*8080"'
	live four 192.0.2.2:40005 198.51.100.2:80
	URL=http://198.51.100.2:8080/who get 40006
	get 40007
	get 40005
	wait_line monitor.out 'tproxy-trace-.* tcp sport 40005'
	ended four 0 delivered
	URL=http://198.51.100.2:8080/who get 40008
	wait_line monitor.out 'inet other c .*tcp sport 40008'
	stop monitor || :
	assert_line_in monitor.out 'inet other c .*tcp sport 40006'
	refute_line_in monitor.out 'tcp [sd]port 40007'
	run -0 jq -r 'select(.step == "seen-request").evidence' "$OUT/four.out"
	assert_output --regexp '^[0-9]+ packets \(1 SYN\) by toclient.*: pass input, to a socket of this host$'
}

@test "a flood is counted; what is missing for want of rights; what is no question" {
	live flood -u 192.0.2.2:40009 198.51.100.2:9
	on client bash -c 'yes | head -c 200000 | socat -u -b 20 - UDP4-SENDTO:198.51.100.2:9,sourceport=40009'
	grep VmHWM "/proc/$(pid_of flood)/status" >"$OUT/memory"
	ended flood 1 excluded
	saw flood watch 'ok nftrace .*: followed [0-9]{2,3} packets .*; 9[0-9]{3} more were only counted$'
	(($(wc -l <"$OUT/flood.out") < 20))
	read -r _ kb _ <"$OUT/memory"
	echo "peak $kb KB" >&2
	((kb < 40000))
	run -3 on proxy setpriv --inh-caps=-net_admin --bounding-set=-net_admin tproxy-inspect explain --live 1s any any
	assert_output --partial CAP_NET_ADMIN
	run -2 on proxy tproxy-inspect explain any 198.51.100.2:80
	assert_output --partial 'only with --live T it may be any'
	run -2 on proxy tproxy-inspect explain --live 1s any:0 198.51.100.2:80
	run -2 on proxy tproxy-inspect explain --live 1s --iif nosuch any 198.51.100.2:80
	assert_output --partial '--iif nosuch: there is no such interface'
	run -2 on proxy tproxy-inspect explain --live 1s 192.0.2.2 '[2001:db8:2::2]:80'
	run -2 on proxy tproxy-inspect sockets --live 1s
}
