#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup plan --format systemd: units that systemd takes, and under whose restrictions our programs do
# their work. systemd is not process 1 here: what a unit says is done by tests/lib/as-unit, all but
# IPAddressDeny, PrivateTmp and restarts.
#
#   client 192.0.2.2 --- proxy: the unit --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

setup() {
	lab_up
}

teardown() {
	lab_down
	[[ ! ${WRITABLE-} ]] || rm -r "$WRITABLE"
}

S4=198.51.100.2 S6='[2001:db8:2::2]'

# unit NAME ARG...: the unit of these arguments is $OUT/NAME.service.
unit() {
	on proxy tproxy-setup plan -q --format systemd "${@:2}" >"$OUT/$1.service"
}

start_unit() {
	bg "$1" proxy "$TOP/tests/lib/as-unit" "$OUT/$1.service"
	poll 20 has_line "$OUT/$1.out" started || {
		show "$1"
		fail "the unit did not start"
	}
}

installed() {
	on proxy "$TOP/tests/lib/intact" >/dev/null
}

# The process of the unit that listens at 127.0.0.1:3129, and a line of its status.
main_process() {
	on proxy ss -Htlnp 'src 127.0.0.1:3129' | sed 's/.*pid=\([0-9]*\).*/\1/'
}

@test "units of our programs: systemd-analyze accepts them, with a score of 1.5 at most" {
	unit up --to 3129 --port 80,443 --iif 'eth*'
	unit relay --to 3129 --port 80 -- tproxy-relay --log '100% errors' --control /run/tproxy-web/control \
		--metrics-file=/var/lib/node_exporter/tproxy.prom 3129
	unit listen --to 3129 --port 80 -- /usr/bin/tproxy-listen --reply hello 3129
	unit relay-udp -u --to 3129 --port 53 -- tproxy-relay -u 3129
	unit listen-udp -u --to 3129 --port 53 -- tproxy-listen -u --echo 3129
	for name in up relay listen relay-udp listen-udp; do
		run systemd-analyze verify --man=no "$OUT/$name.service"
		refute_output --partial "$OUT"
		run systemd-analyze security --offline=yes --threshold=15 --no-pager "$OUT/$name.service"
		echo "$name: ${lines[-1]}"
		assert_success
	done
	run cat "$OUT/up.service"
	assert_line --regexp "^ExecStart=/.*tproxy-setup up --to 3129 --iif 'eth\*' --port 80,443$"
	assert_line --regexp "^ExecStop=/.*tproxy-setup down --name default --drain 30s$"
	run cat "$OUT/relay.service"
	assert_line "ExecStart=$TPROXY_BIN/tproxy-relay"' --log "100%% errors" --control /run/tproxy-web/control --metrics-file=/var/lib/node_exporter/tproxy.prom 3129'
	assert_line --regexp '^ExecStartPost=\+/.*tproxy-setup up --to 3129 --port 80$'
	assert_line --regexp '^ExecStop=\+/.*tproxy-setup down --name default --drain 30s$'
	assert_line RuntimeDirectory=tproxy-web
	assert_line WatchdogSec=30
	assert_line ReadWritePaths=/var/lib/node_exporter
}

@test "other programs run without a sandbox: it would break them" {
	for command in 'nginx -g "daemon off;"' 'squid -N' 'node proxy.js' 'tproxy-listen 3129 -- cat'; do
		eval "unit other --to 3129 --port 80 -- $command"
		run systemd-analyze verify --man=no "$OUT/other.service"
		refute_output --partial "$OUT"
		run cat "$OUT/other.service"
		refute_line --regexp '^(SystemCall|Restrict|Protect|Private|MemoryDeny|Capability|Ambient|DynamicUser|NoNew|Watchdog)'
		assert_line --regexp '^ExecStart=/.*tproxy-setup run --to 3129 --port 80 -- '
	done
}

@test "an option that a unit cannot express is refused by name; a namespace works" {
	refuses() {
		run -2 on proxy tproxy-setup plan --to 3129 --format systemd "${@:2}"
		assert_output --partial "$1"
	}
	refuses '--control: a unit needs an absolute path' -- tproxy-relay --control here 3129
	refuses '--metrics-file: a unit needs an absolute path' -- tproxy-relay --metrics-file=here 3129
	refuses '--user: the unit has a user of its own' -- tproxy-relay --user nobody 3129
	refuses '--takeover: the unit' -- tproxy-relay --takeover 3129
	refuses '--netns '"$LAB_proxy"': a process does not last for ever' --netns "$LAB_proxy"
	root_only "named network namespaces are root's"
	ip netns add "tproxy-$$"
	run tproxy-setup plan --to 3129 --format systemd --netns "tproxy-$$"
	ip netns del "tproxy-$$"
	assert_success
	assert_line "NetworkNamespacePath=/run/netns/tproxy-$$"
}

@test "the unit of a relay: as its user, with its capabilities and system calls" {
	root_only "units are started by root"
	start_nginx
	# Not below bats' own directory, which is root's alone.
	WRITABLE=$(mktemp -d /var/tmp/tproxy-test.XXXXXX)
	chown 61234 "$WRITABLE"
	unit relay --to 3129 --port 80 -- tproxy-relay --log events --control /run/tproxy-web/control \
		--metrics-file "$WRITABLE/relay.prom" 3129
	start_unit relay
	installed
	for to in $S4 $S6; do
		# A client's port below 1024 as well.
		run on client curl -sS --max-time 20 --local-port 900-950 "http://$to/who"
		assert_output --regexp '^(192\.0\.2\.2|2001:db8:1::2) 9[0-9][0-9]$'
	done
	wait_lines 2 relay.out ' close .* addr[+]port .* done$'
	pid=$(main_process)
	run cat "/proc/$pid/status"
	assert_line --regexp '^Uid:	61234	61234	61234	61234$'
	assert_line --regexp '^CapBnd:	0*2400$'
	assert_line --regexp '^Seccomp:	2$'
	run on proxy tproxy-relay --ask counters "/proc/$pid/root/run/tproxy-web/control"
	assert_success
	wait_line "$WRITABLE/relay.prom" 'EOF'
	# It is drained, and all is gone.
	bg long client "$TOP/tests/lib/peer" connect $S4 80 touch:"$OUT/open" await:"$OUT/go" 'send:GET /who HTTP/1.0\r\n\r\n' keep:"$OUT/kept"
	wait_until 10 test -e "$OUT/open"
	wait_until 10 eval '(($(grep -c " open " "$OUT/relay.out") == 3))'
	signal relay TERM
	wait_until 10 eval '! installed'
	touch "$OUT/go"
	wait_exit long
	assert_line_in kept '^192\.0\.2\.2 '
	wait_exit relay
	run on proxy nft list ruleset
	assert_output ""
}

@test "the unit of a relay that is killed leaves nothing" {
	root_only "units are started by root"
	unit relay -4 --to 3129 --port 80 -- tproxy-relay -4 3129
	start_unit relay
	installed
	kill -KILL "$(main_process)"
	run wait_exit relay
	assert_equal "$status" 247 # what systemd would call a failure: signal 9
	run on proxy nft list ruleset
	assert_output ""
}

@test "the unit of tproxy-listen" {
	root_only "units are started by root"
	unit listen --to 3129 --port 80 -- tproxy-listen --reply 'hello\n' 3129
	start_unit listen
	for to in $S4 $S6; do
		run on client timeout --foreground 30 socat -u "TCP:$to:80" STDOUT
		assert_output hello
	done
	stop listen
	run on proxy nft list ruleset
	assert_output ""
}

@test "the unit of up: as its user, with its capabilities and system calls; connection tracking is seen" {
	root_only "units are started by root"
	start_nginx
	start_relay
	unit up --to 3129 --port 80 --iif toclient --src 192.0.2.0/24,2001:db8:1::/48
	for rules in '' 'add table inet fw; add chain inet fw c { type filter hook forward priority 0; }; add rule inet fw c ct state invalid drop'; do
		on proxy nft "$rules"
		start_unit up
		installed
		run on client curl -sS --max-time 20 "http://$S4/who"
		assert_output --regexp '^192\.0\.2\.2 '
		zone=$(on proxy nft list chain inet tproxy_default spec | grep -oE '[ "]zone=[a-z-]+' | tr -d ' "')
		[[ $rules ]] && want=zone || want=off
		assert_equal "$zone" "zone=$want"
		stop up
		run installed
		assert_failure
	done
	on proxy nft flush ruleset
	# The list of iptables-legacy's tables is for root's group.
	on proxy iptables-legacy -A FORWARD -m conntrack --ctstate INVALID -j DROP
	unit up --to 3129 --port 80
	assert_line_in up.service '^SupplementaryGroups=root$'
	start_unit up
	run on proxy tproxy-setup status -v
	assert_success
	assert_line --regexp '^default +conntrack +present .*iptables-legacy'
	stop up
}
