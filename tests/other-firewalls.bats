#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Interception beside Debian's real firewalld and ufw, and beside rules like those of OpenWrt's fw4, which
# drop what is intercepted: doctor names it, and what plan prints makes it accepted, for all reloads to come.
#
#   client 192.0.2.2 --- proxy: relay, and the firewall --- server 198.51.100.2: port 80 says who asks, port 7 says again
#
# Each firewall runs with files of its own (tests/lib/own-firewall). A rule counts new connections that are
# forwarded: none may be, while it reloads, too.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

S4=198.51.100.2 S6=2001:db8:2::2
# Each takes a processor for a second or more.
RELOADS=$((EUID ? 2 : 10))
SPEC=(--to 3129 --port '7,80' --tcp --udp)

setup() {
	lab_up
	on proxy nft 'add table inet past; add chain inet past f { type filter hook forward priority -200; }
		add rule inet past f tcp flags & (syn|ack) == syn counter; add rule inet past f udp dport 7 counter'
}

teardown() {
	lab_down
}

# firewall TOOL: it is there, and has its rules in the kernel. files TOOL: only its files are there.
firewall() {
	files "$1"
	case $1 in
	firewalld)
		rm "$OUT/$1/wait"
		wait_until 30 inside firewall-cmd -q --state
		;;
	ufw) inside ufw --force enable >/dev/null 2>&1 ;;
	fw4) inside fw4 ;;
	esac
}

files() {
	TOOL=$1
	[[ ! -d $OUT/$1 ]] || return 0
	mkdir "$OUT/$1"
	touch "$OUT/$1/wait"
	bg "$1" proxy "$TOP/tests/lib/own-firewall" "$1" "$OUT/$1"
	wait_line "$1.out" up
}

# inside CMD...: where the firewall and its files are.
inside() {
	DBUS_SYSTEM_BUS_ADDRESS=unix:path=$OUT/$TOOL/bus PATH=$OUT/$TOOL/bin:$PATH on proxy \
		nsenter --mount="/proc/$(pid_of "$TOOL")/ns/mnt" -- "$@"
}

reload() {
	case $TOOL in
	firewalld) inside firewall-cmd -q --reload ;;
	ufw) inside ufw reload >/dev/null 2>&1 ;;
	fw4) inside fw4 -q reload ;;
	esac
}

plan() {
	on proxy tproxy-setup plan -q --format "$TOOL" "${SPEC[@]}" "$@"
}

up() {
	on proxy tproxy-setup up -q "${SPEC[@]}"
}

# keep: the same, and again after changes; kept: all is in place again.
keep() {
	bg keep proxy tproxy-setup keep "${SPEC[@]}"
	wait_until 10 on proxy tproxy-setup status -q
}

kept() {
	wait_until 10 on proxy tproxy-setup status -q
}

serve() {
	start_nginx
	bg echo4 server socat TCP4-LISTEN:7,reuseaddr,fork EXEC:cat
	bg echo6 server socat TCP6-LISTEN:7,ipv6-v6only,reuseaddr,fork EXEC:cat
	bg datagrams4 server socat UDP4-LISTEN:7,reuseaddr,fork EXEC:cat
	bg datagrams6 server socat UDP6-LISTEN:7,ipv6-v6only,reuseaddr,fork EXEC:cat
	wait_listen server 0.0.0.0:7
	wait_listen server '[::]:7'
	wait_listen server 0.0.0.0:7 udp
	wait_listen server '[::]:7' udp
	bg relay proxy tproxy-relay -t -u ${RELAY[@]+"${RELAY[@]}"} 3129
	wait_listen proxy '[::1]:3129'
	wait_listen proxy '[::1]:3129' udp
	# On the host itself, for nobody else.
	bg own proxy socat TCP6-LISTEN:80,ipv6-v6only=0,reuseaddr,fork EXEC:cat
	wait_listen proxy 80
}

# asks ADDRESS: who the server sees, if it is reached.
asks() {
	on client curl -sS --max-time "${LIMIT-20}" "http://$1/who" 2>&1
}

# datagram ADDRESS: is a datagram answered?
datagram() {
	on client timeout --foreground 5 bash -c 'exec 5<>"/dev/udp/$0/7"; echo hello >&5; [[ $(head -c 5 <&5) == hello ]]' "$1"
}

# own_ports_are_closed: what is not intercepted is accepted no more than before.
own_ports_are_closed() {
	local address
	for address in 192.0.2.1 '[2001:db8:1::1]' '[2001:db8:2::1]' '[2001:db8:1::]'; do
		run on client timeout --foreground 1 socat -u OPEN:/dev/null "TCP:$address:80"
		assert_failure
	done
}

doctor() {
	on proxy tproxy-setup doctor "$@"
}

past() {
	on proxy nft -j list chain inet past f | jq '[.nftables[].rule.expr // [] | .[].counter.packets // 0] | add'
}

# drops RULE: doctor names that rule, as a failure, and the plan.
drops() {
	run doctor
	assert_equal "$status" 1
	assert_line --regexp "^fail +input .*$1"
	assert_line --partial "$TOOL loads its rules: tproxy-setup plan --format $TOOL --to 3129 --port 7,80 -t -u | sh"
}

accepted() {
	run asks $S4
	assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
	run asks "[$S6]"
	assert_output --regexp '^2001:db8:1::2 [0-9]+$'
	datagram $S4
	datagram $S6
	run doctor
	refute_line --regexp '^fail'
	assert_equal "$(past)" 0
}

rejected() {
	LIMIT=3 run asks $S4
	assert_failure
	LIMIT=3 run asks "[$S6]"
	assert_failure
	assert_equal "$(past)" 0
}

# under_load N: N reloads; new connections come all the time, and two last.
under_load() {
	local i
	open_line four $S4:7
	open_line six "[$S6]:7"
	bg steady client "$TOP/tests/lib/steady" $S4,$S6 80 2 "$OUT/enough" 0.02
	for ((i = 1; i <= $1; i++)); do
		reload
		say four $i
		say six $i
	done
	wait_until 10 heard four "$1"
	wait_until 10 heard six "$1"
	touch "$OUT/enough"
	run wait_exit steady 30
	assert_success
	assert_line_in steady.out '^[0-9]{2,} answered, 0 failed$'
	assert_equal "$(cat "$OUT/four.out" "$OUT/six.out" | wc -l)" $((2 * $1))
	assert_equal "$(past)" 0
}

@test "firewalld: what is intercepted is rejected; doctor's rule is lost by a reload, plan's is not; ten under load" {
	local fix
	firewall firewalld
	serve
	up
	rejected
	drops 'inet firewalld'
	fix=$(doctor -qj | jq -r 'select(.check == "input") | .fix' | head -n 1)
	on proxy sh -c "$fix"
	run asks $S4
	assert_success
	reload
	rejected
	# For other clients: IPv4 has the mark to tell, IPv6 has the source.
	plan --src 192.0.2.0/24,2001:db8:9::/48 | inside sh
	asks $S4
	LIMIT=3 run asks "[$S6]"
	assert_failure
	plan --src 192.0.2.0/24,2001:db8:1::/48 | inside sh
	asks "[$S6]"
	own_ports_are_closed
	plan | inside sh
	accepted
	own_ports_are_closed
	# Link-local addresses of interfaces that come later are closed, too.
	on proxy ip address add fe80::99/64 dev toclient nodad
	run on client timeout --foreground 1 socat -u OPEN:/dev/null 'TCP:[fe80::99%toproxy]:80'
	assert_failure
	under_load "$RELOADS"
	# Whatever zone it is.
	inside firewall-cmd -q --zone=drop --change-interface=toclient --permanent
	reload
	accepted
	plan | sed -n 's/^#undo //p' | inside sh
	rejected
	run inside find /etc/firewalld -name 'tproxy*.xml'
	assert_output ""
	run inside grep ^IPv6_rpfilter /etc/firewalld/firewalld.conf
	assert_output IPv6_rpfilter=yes
}

@test "firewalld that comes later: the plan is for one that does not run, too; keep adapts the rules" {
	serve
	keep
	files firewalld
	plan | inside sh
	run asks $S4
	assert_success
	firewall firewalld
	wait_line keep.err 'adapted to rules of others \(firewalld\)'
	kept
	accepted
	under_load 2
	kept
}

@test "ufw: what is intercepted is dropped; plan's rules stay; ten reloads under load" {
	local file
	firewall ufw
	serve
	up
	rejected
	drops 'ufw-not-local'
	plan | inside sh
	accepted
	own_ports_are_closed
	under_load "$RELOADS"
	plan | sed -n 's/^#undo //p' | inside sh
	rejected
	for file in before{,6}.rules; do
		inside cmp /usr/share/ufw/iptables/$file /etc/ufw/$file
	done
}

@test "ufw that comes later" {
	serve
	keep
	files ufw
	plan | inside sh
	run asks $S4
	assert_success
	firewall ufw
	wait_line keep.err 'adapted to rules of others \(ip6?tables'
	kept
	accepted
	under_load 2
	kept
}

@test "fw4: what is intercepted is rejected; plan's file is included in its chain, at every reload" {
	firewall fw4
	serve
	up
	rejected
	drops 'inet fw4'
	plan --name office | CHECK=-c inside sh
	plan --name office | inside sh
	accepted
	own_ports_are_closed
	reload
	accepted
	run inside cat /etc/tproxy/office.nft
	assert_output 'meta mark & 0xff == 0x1 counter accept comment "tproxy-setup: office"'
	plan --name office | sed -n 's/^#undo //p' | inside sh
	rejected
	run inside find /etc -type f -size +0
	assert_output ""
}

# words OPTION...: doctor's of INPUT; command_of: what they have for all reloads to come.
words() {
	doctor -q -j "$@" | jq -r 'select(.check == "input").why' | sort -u
}
command_of() { sed -n 's/.*loads its rules: \(tproxy-setup plan .* | sh\).*/\1/p'; }

# lasts FAMILIES OPTION...: so installed, that command is accepted as printed, and these families (46, 4) get through from
# then on, after a reload, too; for IPv6, if it is not one of them, doctor says that its rule is needed again, and that works.
lasts() {
	local families=$1 name=default command i
	shift
	for ((i = 1; i < $#; i++)); do
		[[ ${*:i:1} != --name ]] || name=${*:i+1:1}
	done
	on proxy tproxy-setup up -q --to 3129 "$@"
	words --name "$name" >"$OUT/words"
	command=$(command_of <"$OUT/words")
	echo "$TOOL, $*: $(<"$OUT/words")" >&2
	[[ $command == tproxy-setup\ plan\ --format\ $TOOL\ * && $command != *$'\n'* ]]
	inside bash -o pipefail -c "$command"
	reload
	asks $S4
	if [[ $families == 46 ]]; then
		asks "[$S6]"
		run doctor -q --name "$name"
		refute_line --regexp '^(fail|warn) +(input|prerouting)'
	else
		fixed6 "$name"
	fi
	inside sh -c "$(inside sh -c "${command% | sh}" | sed -n 's/^#undo //p')"
	on proxy tproxy-setup down -q --name "$name"
	reload
}

# fixed6 NAME: of IPv6 doctor prints rules alone.
fixed6() {
	assert_line_in words "of IPv6 it cannot be told \(.*\), so for that this fix is needed again each time"
	run asks "[$S6]"
	assert_failure
	by_fixes "$1"
	asks "[$S6]"
}
# (What is dropped in prerouting is not seen in INPUT yet.)
by_fixes() {
	local i
	for i in 1 2 3; do
		doctor -q -j --name "$1" | jq -r 'select(.check == "input" or .check == "prerouting").fix // empty' >"$OUT/fixes"
		[[ -s $OUT/fixes ]] || return 0
		on proxy sh -e "$OUT/fixes"
	done
	fail "three rounds of fixes, and still some"
}

@test "firewalld: what doctor prints to last is accepted for whatever instance, or it says what cannot be told" {
	firewall firewalld
	serve
	lasts 46 --port 80 --name twelve-chars
	lasts 46 --port 80 --name a.b
	lasts 46 --port 80 --mark 0x10/0xf0 --src '192.0.2.0/24,2001:db8:1::/64' --not-port 81
	lasts 4
	assert_line_in words 'without --port every port'
	lasts 4 --port 80 --iif toclient
	assert_line_in words '--iif: its rules for IPv6 do not match interfaces'
	lasts 4 --port 80 --include-own --name a.b
	assert_line_in words '--include-own would open'
}

@test "firewalld: where nothing is left that plan would take, doctor says what to set, and that its rule is needed again" {
	firewall firewalld
	serve
	on proxy tproxy-setup up -q --to 3129 -6
	run doctor -q -j
	assert_output --partial '(to keep it: IPv6_rpfilter=no in /etc/firewalld/firewalld.conf, and firewall-cmd --reload)'
	inside sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf
	inside firewall-cmd -q --reload
	for _ in 1 2; do
		run doctor -q
		refute_line --regexp '^fail +prerouting'
		run words
		assert_output --regexp 'firewalld cannot be told to accept it \(.*without --port.*\), so this fix is needed again each time'
		refute_output --partial 'tproxy-setup plan'
		run asks "[$S6]"
		assert_failure
		by_fixes default
		asks "[$S6]"
		reload
	done
}

@test "firewalld: with --divert-only doctor says that it cannot be told of IPv6" {
	firewall firewalld
	inside sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf
	reload
	on proxy tproxy-setup up -q --divert-only
	run words
	assert_output --regexp 'that of IPv4 each time .*plan --format firewalld -4 --divert-only \| sh; of IPv6 it cannot be told \(--divert-only: .*\), so for that this fix is needed again each time'
	on proxy tproxy-setup down -q
	on proxy tproxy-setup up -q --divert-only -6
	run words
	assert_output --regexp 'firewalld cannot be told to accept it \(--divert-only: .*\), so this fix is needed again each time'
	refute_output --partial 'tproxy-setup plan'
}

@test "ufw: what doctor prints to last is accepted for whatever instance" {
	firewall ufw
	serve
	lasts 46
	lasts 46 --iif toclient --name twelve-chars
	lasts 46 --include-own --port 80 --not-port 81 --name a.b
}

@test "ufw default deny outgoing: doctor names the plan for the relay's own connections, too" {
	local command machine
	firewall ufw
	machine=$(sha256sum /etc/default/ufw)
	inside ufw default deny outgoing >/dev/null
	inside grep -q '^DEFAULT_OUTPUT_POLICY="DROP"' /etc/default/ufw
	assert_equal "$(sha256sum /etc/default/ufw)" "$machine"
	serve
	up
	command=$(doctor -q -j | jq -r 'select(.check == "output").why // empty' | command_of | sort -u)
	assert_equal "$command" "tproxy-setup plan --format ufw --to 3129 --port 7,80 -t -u | sh"
	inside bash -o pipefail -c "$command"
	accepted
}

@test "ufw default deny outgoing: the plan is for a relay with another mark, too" {
	local command
	RELAY=(--upstream-mark 0x40/0xf0)
	firewall ufw
	inside ufw default deny outgoing >/dev/null
	serve
	up
	command=$(doctor -q -j | jq -r 'select(.check == "output").why // empty' | command_of | sort -u)
	inside bash -o pipefail -c "$command"
	reload
	accepted
	undo
	run inside cat /etc/ufw/before.rules /etc/ufw/before6.rules
	refute_output --partial tproxy
}

@test "what fw4 or ufw drops in prerouting their plans do not accept: doctor says that its rule is needed again" {
	on proxy nft 'add table inet fw4; add chain inet fw4 early { type filter hook prerouting priority -100; }
		add rule inet fw4 early meta mark & 0xff == 1 drop'
	up
	run eval 'doctor -q -j | jq -r "select(.check == \"prerouting\").why"'
	assert_output --partial 'this fix is needed again each time that fw4 loads its rules'
	refute_output --partial 'tproxy-setup plan'
	on proxy nft delete table inet fw4
	on proxy iptables -t mangle -N ufw-before-prerouting
	on proxy iptables -t mangle -A ufw-before-prerouting -p tcp -j DROP
	on proxy iptables -t mangle -A PREROUTING -j ufw-before-prerouting
	run eval 'doctor -q -j | jq -r "select(.check == \"prerouting\").why"'
	assert_output --partial 'this fix is needed again each time that ufw loads its rules'
	refute_output --partial 'tproxy-setup plan'
}

@test "a rule that somebody else put beside ufw's chains is not ufw's: its plan would not help, and is not named" {
	local chain
	up
	on proxy iptables -N ufw-before-input
	on proxy iptables -N others
	for chain in INPUT others ufw-before-input; do
		on proxy iptables -F INPUT
		[[ $chain == INPUT ]] || on proxy iptables -A INPUT -j "$chain"
		on proxy iptables -A "$chain" -p tcp -j DROP
		run eval 'doctor -q -j | jq -r "select(.check == \"input\").why"'
		if [[ $chain == ufw-* ]]; then
			assert_output --partial 'tproxy-setup plan --format ufw'
		else
			assert_output --partial 'where else these rules are from'
			refute_output --partial ufw
		fi
	done
}

@test "firewalld: where the options are too many for a line, doctor says what differs from them, and why" {
	local sources
	sources=$(printf '198.18.%d.0/24,' {0..100..2})
	firewall firewalld
	on proxy tproxy-setup up -q --to 3129 --name a.b --src "192.0.2.0/24,2001:db8:1::/64,${sources%,}"
	run words --name a.b
	assert_output --regexp 'to accept that of IPv4 each .*: tproxy-setup plan --format firewalld -4 --name a_b_[0-9a-f]{4}, and the instance.s other options; of IPv6 it cannot be told \(.*without --port .*\), so for that this fix is needed again'
}

@test "fw4: what doctor prints to last is accepted for whatever instance" {
	firewall fw4
	serve
	lasts 46
	lasts 46 --iif toclient --name twelve-chars
	lasts 46 --include-own --port 80 --name a.b
}

# both_last NAME OTHER FILES: two instances whose names do not fit, and that have one mark, have two plans: FILES of the
# first are as before after the other's is done and undone.
both_last() {
	local first other files=$3 before
	on proxy tproxy-setup up -q --to 3129 --port 80 --name "$1"
	on proxy tproxy-setup up -q --to 3129 --port 81 --name "$2"
	# (With one of them done, what is the other's is not dropped either, by its mark.)
	first=$(words --name "$1" | command_of)
	other=$(words --name "$2" | command_of)
	inside bash -o pipefail -c "$first"
	before=$(inside sh -c "grep . $files /dev/null")
	inside bash -o pipefail -c "$other"
	assert_equal "$(inside sh -c "ls $files" | wc -l)" 2
	inside sh -c "$(inside sh -c "${other% | sh}" | sed -n 's/^#undo //p')"
	assert_equal "$(inside sh -c "grep . $files /dev/null")" "$before"
	asks $S4
}

@test "firewalld: of two instances that have one mark, and names that do not fit, each has its own plan" {
	firewall firewalld
	serve
	both_last long.enough.a long.enough.b '/etc/firewalld/policies/tproxy-*'
}

@test "fw4: of two instances that have one mark, and names that do not fit, each has its own plan" {
	firewall fw4
	serve
	both_last a.b a-b '/etc/tproxy/*.nft'
}

@test "a plan replaces the former one; names that do not fit are refused; what is missing is told" {
	local before
	run on proxy tproxy-setup plan --format firewalld --to 3129 --name twelve-chars
	assert_equal "$status" 2
	assert_output --partial '--name twelve-chars: too long for the name of a policy'
	run on proxy tproxy-setup plan --format firewalld --to 3129 --name a.b
	assert_equal "$status" 2
	assert_output --partial '--name a.b: no policy there has a . in its name'
	run on proxy tproxy-setup plan --format fw4 --to 3129 --name a-b
	assert_equal "$status" 2
	assert_output --partial '--name a-b: a section of uci'
	run on proxy tproxy-setup plan --format ufw --to 3129 --name a.b
	assert_success
	assert_output --partial '/ --comment tproxy-a[.]b /d'
	files ufw
	plan | inside sh
	before=$(inside cat /etc/ufw/before.rules /etc/ufw/before6.rules)
	plan | inside sh
	assert_equal "$(inside cat /etc/ufw/before.rules /etc/ufw/before6.rules)" "$before"
	inside sed -i /before-input/d /etc/ufw/before6.rules
	run inside sh -c "$(on proxy tproxy-setup plan --format ufw --to 3129)"
	assert_failure
	files firewalld
	inside sh -c 'tproxy-setup plan --to 3129 --port 80 --format firewalld | sh'
	plan --not-port 7 | inside sh
	run inside sh -c 'cat /etc/firewalld/*/tproxy-default*.xml'
	assert_line --partial '<port port="80" protocol="udp"/><accept/></rule>'
	assert_equal "$(grep -c '<rule ' <<<"$output")" 5
	inside sed -i s/=nftables/=iptables/ /etc/firewalld/firewalld.conf
	run inside sh -c "$(on proxy tproxy-setup plan --format firewalld --to 3129 --port 80)"
	assert_failure
	assert_output --partial 'FirewallBackend=iptables'
}

undo() {
	plan "$@" | sed -n 's/^#undo //p' | inside sh
}

@test "firewalld: undone, its configuration is the former one, whatever it was; -4 takes back what IPv6 had" {
	local conf=/etc/firewalld/firewalld.conf line
	files firewalld
	for line in IPv6_rpfilter=yes IPv6_rpfilter=no 'IPv6_rpfilter = true' ''; do
		inside sh -c "printf '%s\n' FirewallBackend=nftables '$line' DefaultZone=public >$conf; cp $conf $conf.was"
		plan | inside sh
		plan --udp | inside sh
		run inside grep '^IPv6_rpfilter' $conf
		assert_output IPv6_rpfilter=no
		undo
		inside diff -B $conf.was $conf
		plan | inside sh
		plan -4 | inside sh
		inside diff -B $conf.was $conf
		run inside sh -c 'cd /etc/firewalld && ls */tproxy*'
		assert_output $'ipsets/tproxy-default.xml\npolicies/tproxy-default.xml'
		undo
	done
	# Another instance needs it still; what goes by the same name in other places is not ours.
	plan --name a | inside sh
	inside sh -c 'mkdir -p /etc/firewalld/zones; echo "<zone/>" >/etc/firewalld/zones/tproxy-b.xml'
	plan --name b | inside sh
	undo --name a
	inside grep -q '^IPv6_rpfilter=no' $conf
	undo --name b -4
	inside diff -B $conf.was $conf
	run inside find /etc/firewalld -name 'tproxy*.xml'
	assert_output /etc/firewalld/zones/tproxy-b.xml
}

@test "firewalld: where this host's addresses are not known, nothing is accepted, and nothing written" {
	local script
	files firewalld
	for script in 'exit 1' 'exit 0' 'echo Error >&2; exit 2'; do
		printf '%s\n' '#!/bin/sh' "$script" >"$OUT/firewalld/bin/ip"
		chmod +x "$OUT/firewalld/bin/ip"
		plan >"$OUT/plan"
		run inside sh "$OUT/plan"
		assert_failure
		run inside find /etc/firewalld -name 'tproxy*'
		assert_output ""
		inside grep -q '^IPv6_rpfilter=yes' /etc/firewalld/firewalld.conf
	done
	plan -4 --iif lan0 --include-own | inside sh
}

@test "ufw: -4 takes back what IPv6 had; a file without a chain's rules is told before anything is changed" {
	local dir=/etc/ufw file
	files ufw
	plan | inside sh
	plan -4 --mark 0x10/0xf0 | inside sh
	inside cmp /usr/share/ufw/iptables/before6.rules $dir/before6.rules
	run inside grep -c -e --comment $dir/before.rules
	assert_output 3
	plan | inside sh
	undo -6
	for file in before{,6}.rules; do
		inside cmp /usr/share/ufw/iptables/$file $dir/$file
	done
	plan | inside sh
	# Its own rules do not count as such.
	inside sed -i '/^-A ufw6-before-output /{/--comment/!d}' $dir/before6.rules
	inside sh -c "cat $dir/before.rules $dir/before6.rules" >"$OUT/was"
	plan --mark 0x10/0xf0 >"$OUT/plan"
	run inside sh "$OUT/plan"
	assert_failure
	assert_output "$dir/before6.rules: no rule of ufw6-before-output, before which others could be added"
	inside sh -c "cat $dir/before.rules $dir/before6.rules" | diff "$OUT/was" -
}
