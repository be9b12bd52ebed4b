#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval and jq expand them
#
# tproxy-inspect export: /metrics and /healthz.
#
#   client 192.0.2.2 --- proxy: 80 to tproxy-relay 3129 --- server 198.51.100.2
#                               export 9469, Prometheus 9090

bats_require_minimum_version 1.5.0
load lib/relay

PROMETHEUS=$TOP/.packaging/prometheus
AT=http://127.0.0.1:9469

setup() {
	lab_up
	start_nginx
	intercept 80
	relay --log off --lame-duck 1h
	exporter
}

teardown() { lab_down; }

exporter() {
	bg export proxy tproxy-inspect export --listen 9469 "$@"
	wait_line export.err 'SIGTERM or Ctrl-C ends it'
}

get() {
	on proxy curl -sS --max-time 10 "$@"
}

# answers_at_once URL: with a state that it has to read first, within a second. (What is judged is the least: if it
# waits for somebody each takes longer, and on a busy machine one may.)
answers_at_once() {
	sleep 1 # the state is read once a second
	[[ $(get -o "$OUT/text" -w '%{http_code} %{time_total}' "$1") == '200 0.'* ]]
}

# healthz: its status and body.
healthz() {
	get -w ' %{http_code}' $AT/healthz
}

# is_sick JQ: it is unhealthy, and the filter holds for a reason.
is_sick() {
	[[ $(healthz) == *' 503' ]] && healthz | sed 's/ 503$//' | jq -e "any(.reasons[]; $1)" >/dev/null
}

is_well() { [[ $(healthz) == '{"healthy":true,"reasons":[]} 200' ]]; }

# metric NAME{LABELS}: its value.
metric() {
	get $AT/metrics | sed -n "s/^$1 //p"
}

carry() {
	for _ in $(seq "$1"); do
		on client curl -sS -o "$OUT/who" --max-time 10 "http://$V4/who"
	done
}

@test "health: 200 while all is well, else 503 with what is wrong" {
	assert is_well
	run -0 on proxy nft flush chain inet tproxy_default prerouting
	wait_until 10 is_sick '.type == "instance" and .instance == "default" and .check == "chain:prerouting" and .state == "changed"'
	intercept 80
	wait_until 10 is_well
	signal relay STOP
	wait_until 10 is_sick ".type == \"relay\" and .relay == \"$(pid_of relay)\" and (.evidence | test(\"timed out\"))"
	assert_equal "$(metric "tproxy_relay_up{relay=\"$(pid_of relay)\"}")" 0
	signal relay CONT
	wait_until 10 is_well
	# It is taken over: the old one's end is no reason, the new one's lame duck is.
	peer held client connect "$V4" 80 gone
	wait_until 10 eval '[[ $(metric "tproxy_relay_connections{relay=\"$(pid_of relay)\"}") == 1 ]]'
	bg new proxy tproxy-relay --takeover --log off --lame-duck 1h --drain-timeout 1h "$RELAY_PORT"
	wait_line new.err 'listening on '
	signal relay TERM
	wait_until 10 eval '[[ $(metric "tproxy_relay_replaced{relay=\"$(pid_of relay)\"}") == 1 ]]'
	assert is_well
	signal new TERM
	wait_until 10 is_sick ".relay == \"$(pid_of new)\" and .state == \"lame-duck\""
	signal new TERM
	wait_until 10 is_sick '.check == "listener:tcp" and .state == "missing"'
	kill "$(pid_of held)"
	wait_exit relay || :
	wait_exit new || :
	on proxy tproxy-setup down --all
	wait_until 10 is_sick '.type == "nothing"'
	run -0 stop export
}

@test "the metrics: promtool and a strict parser accept them, and they are what the relays say" {
	carry 3
	bg other proxy tproxy-relay --log off 3130
	wait_line other.err 'listening on '
	local one other
	one=$(pid_of relay) other=$(pid_of other)
	wait_until 10 eval '[[ $(metric "tproxy_relay_closed_total{relay=\"$(pid_of relay)\"}") == 3 ]]'
	get $AT/metrics >"$OUT/text"
	run -0 promtool check metrics <"$OUT/text"
	assert_output ""
	get -D "$OUT/head" -H 'Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5' $AT/metrics >"$OUT/openmetrics"
	assert_line_in head '^Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8'
	# (Debian's python, whichever other there is.)
	run -0 /usr/bin/python3 -c '
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = {f.name: f for f in text_string_to_metric_families(open(sys.argv[1]).read())}
assert families["tproxy_relay_connect_seconds"].type == "histogram"
assert families["tproxy_relay_accepted"].type == "counter"
assert all(f.documentation for f in families.values())' "$OUT/openmetrics"
	for line in "tproxy_relay_accepted_total{relay=\"$one\"} 3" "tproxy_relay_accepted_total{relay=\"$other\"} 0" \
		"tproxy_relay_finished_total{relay=\"$one\",reason=\"done\"} 3" "tproxy_relay_up{relay=\"$other\"} 1" \
		"tproxy_relay_connect_seconds_bucket{relay=\"$one\",le=\"+Inf\"} 3" \
		"tproxy_relay_duration_seconds_count{relay=\"$one\"} 3" \
		'tproxy_instance_intact{name="default"} 1' 'tproxy_instance_served{name="default"} 1' \
		'tproxy_instances 1' 'tproxy_relays 2' 'tproxy_healthy 1'; do
		run -0 grep -Fx "$line" "$OUT/text"
		run -0 grep -Fx "$line" "$OUT/openmetrics"
	done
	# Every counter that a relay knows is there, by its value.
	run -0 on proxy tproxy-relay --ask counters -H "$one"
	assert_equal "$(awk '$1 == "bytes-down" { print $2 }' <<<"$output")" \
		"$(sed -n "s/^tproxy_relay_bytes_total{relay=\"$one\",direction=\"down\"} //p" "$OUT/text")"
	(($(metric 'tproxy_instance_packets_total{name="default",counter="intercepted"}') >= 3))
	# A failure has a name.
	on proxy nft flush chain inet tproxy_default prerouting
	wait_until 10 eval '[[ $(metric "tproxy_instance_failure{name=\"default\",check=\"chain:prerouting\",state=\"changed\"}") == 1 ]]'
	assert_equal "$(metric 'tproxy_instance_intact{name="default"}') $(metric tproxy_healthy)" '0 0'
}

# The doctor looks when somebody has asked, so its answer is another request's.
@test "the doctor's findings: one instance's, the other's, what is new; where it cannot look, or hangs" {
	run -0 stop export
	exporter --doctor-interval 1s
	on proxy tproxy-setup up -q --name other --to 3131 --port 81
	wait_until 20 eval '[[ $(metric "tproxy_doctor_findings{name=\"other\",check=\"listener\",severity=\"fail\"}") == 2 ]]'
	run -0 get $AT/metrics
	assert_line 'tproxy_doctor_up{name="default"} 1'
	assert_line 'tproxy_doctor_up{name="other"} 1'
	refute_line --partial 'tproxy_doctor_findings{name="default"'
	assert_line --regexp '^tproxy_doctor_age_seconds [0-9]\.[0-9]{3}$'
	assert_line --regexp '^tproxy_doctor_duration_seconds [0-9]\.[0-9]{3}$'
	on proxy tproxy-setup down -q --name other
	on proxy nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in tcp dport 80 drop'
	wait_until 20 eval '[[ $(metric "tproxy_doctor_findings{name=\"default\",check=\"input\",severity=\"fail\"}") == 1 ]]'
	assert_equal "$(metric 'tproxy_doctor_up{name="other"}')" ''
	on proxy nft delete table inet fw
	wait_until 20 eval '[[ ! $(metric "tproxy_doctor_findings{name=\"default\",check=\"input\",severity=\"fail\"}") ]]'
	# It hangs: nobody waits for it, and its last answer grows old. It dies: that is no answer.
	run -0 stop export
	mkdir "$OUT/bin"
	printf '#!/bin/sh\n[ -e %s ] || exec tproxy-setup.real "$@"\nexec sleep 600\n' "$OUT/hangs" >"$OUT/bin/tproxy-setup"
	chmod 755 "$OUT/bin/tproxy-setup"
	ln -s "$TPROXY_BIN/tproxy-setup" "$OUT/bin/tproxy-setup.real"
	PATH=$OUT/bin:$PATH exporter --doctor-interval 100ms
	wait_until 20 eval '[[ $(metric "tproxy_doctor_up{name=\"default\"}") == 1 ]]'
	touch "$OUT/hangs"
	wait_until 20 eval 'get $AT/metrics >"$OUT/text"; examiner=$(descendant tproxy-examine) && sleeping=$(pgrep --parent "$examiner" -x sleep)'
	wait_until 10 answers_at_once $AT/metrics
	wait_until 10 eval '(($(metric tproxy_doctor_age_seconds | cut -d. -f1) > 1))'
	assert_equal "$(metric 'tproxy_doctor_up{name="default"}')" 1
	kill "$sleeping"
	wait_until 20 eval '[[ $(metric "tproxy_doctor_up{name=\"default\"}") == 0 ]]'
	# The exporter ends, and does not leave it behind.
	wait_until 20 eval 'get $AT/metrics >"$OUT/text"; sleeping=$(pgrep --parent "$examiner" -x sleep)'
	run -0 stop export
	wait_until 5 gone "$sleeping"
	wait_until 5 gone "$examiner"
	# Who examines has ended; the rest is still told.
	rm "$OUT/hangs"
	PATH=$OUT/bin:$PATH exporter --doctor-interval 100ms
	wait_until 20 eval '[[ $(metric "tproxy_doctor_up{name=\"default\"}") == 1 ]]'
	kill -KILL "$(descendant tproxy-examine)"
	wait_until 10 eval '(($(metric tproxy_doctor_age_seconds | cut -d. -f1) > 1))'
	assert is_well
	run -0 stop export
	# Not wanted; not there.
	exporter --doctor-interval 0s
	get $AT/metrics >"$OUT/text"
	sleep 1.5
	run -0 get $AT/metrics
	refute_line --regexp '^tproxy_doctor_'
	run -1 descendant tproxy-examine
	run -0 stop export
	ln -s "$TPROXY_BIN/tproxy-inspect" "$OUT/only"
	PATH=/usr/bin:/bin bg export proxy "$OUT/only" export --listen 9469
	wait_line export.err "tproxy-setup: command not found: the doctor's findings are not exported"
	wait_line export.err 'SIGTERM or Ctrl-C ends it'
	assert is_well
}

# What it reads must be within its sandbox, which would kill it: whatever there is.
@test "the collector in its sandbox: rules, routes, listeners and relays of every kind, whole and broken" {
	local collector change
	collector=$(helper_of export tproxy-collect)
	while IFS= read -r change; do
		on proxy bash -c "$change" >"$OUT/change" 2>&1 || [[ $change == *legacy* ]] || fail "$change: $(cat "$OUT/change")"
		sleep 1 # the state is read once a second
		run -0 get -o "$OUT/text" -w '%{http_code}' $AT/metrics
		gone "$collector" && fail "it died of: $change"
		run get $AT/healthz
		assert_output --partial '"reasons":['
	done <<-'END'
		tproxy-setup up -q --name other -t -u --to 3131 --port 81,5000-5010 --iif 'to*' --src 192.0.2.0/24 --not-dst 198.51.100.7
		tproxy-setup up -q --name host --to 3132 --port 82 --local --uid 1000 --gid 1000 --no-listener reject --table 101 --pref 101 --mark 0x11/0xff --upstream-mark 0x12/0xff
		tproxy-setup up -q --name divert --divert-only --table 102 --pref 102 --mark 0x21/0xff --upstream-mark 0x22/0xff
		iptables-legacy -t mangle -A PREROUTING -p tcp -j ACCEPT; ip6tables-legacy -t raw -A PREROUTING -j ACCEPT
		iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP; ip6tables-nft -t nat -A POSTROUTING -j MASQUERADE
		nft 'table inet t { set s { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 }; }; chain c { type filter hook prerouting priority 0; ip saddr @s tcp dport { 1, 2 } counter; meta mark 7 limit rate 1/second accept; }; }'
		ip rule add pref 50 fwmark 0x1 iif toclient uidrange 5-9 lookup 77; ip -6 rule add pref 51 blackhole; ip route add 203.0.113.99 dev toserver table 77
		ip rule del pref 100; ip route flush table 100; ip link add v type veth peer name w; ip link set v up
		nft flush chain inet tproxy_other prerouting; nft delete table inet tproxy_divert; ip rule add pref 100 fwmark 0x1/0xff lookup 1000
		nft flush chain inet tproxy_host spec
		sysctl -qw net.ipv6.conf.lo.disable_ipv6=1
		tproxy-setup down -q --all
	END
	signal relay KILL
	sleep 1
	run get $AT/healthz
	assert_output --partial '"type":"nothing"'
	assert_equal "$(helper_of export tproxy-collect)" "$collector"
}

# descendant COMM: the pid of that process of the exporter.
descendant() {
	local pid
	for pid in $(pgrep --parent "$(helper_of export tproxy-collect)"); do
		[[ $(cat "/proc/$pid/comm") != "$1" ]] || echo "$pid"
	done | grep .
}

@test "Prometheus scrapes them; the alert rules and the dashboard ask for what is there" {
	run -0 promtool check rules "$PROMETHEUS/tproxy.rules.yml"
	cat >"$OUT/prometheus.yml" <<-END
		global: { scrape_interval: 1s }
		rule_files: [ $PROMETHEUS/tproxy.rules.yml ]
		scrape_configs:
		  - { job_name: tproxy, static_configs: [ { targets: [ 127.0.0.1:9469 ] } ] }
	END
	bg prometheus proxy prometheus --config.file="$OUT/prometheus.yml" --storage.tsdb.path="$OUT/tsdb" \
		--web.listen-address=127.0.0.1:9090
	carry 2
	value() { get -G http://127.0.0.1:9090/api/v1/query --data-urlencode "query=$1" | jq -r '.data.result[0].value[1]'; }
	wait_until 20 eval '[[ $(value "up{job=\"tproxy\"}") == 1 ]]'
	wait_until 10 eval '[[ $(value "sum(tproxy_relay_connect_seconds_count)") == 2 ]]'
	assert_equal "$(value tproxy_healthy)" 1
	assert_equal "$(get http://127.0.0.1:9090/api/v1/targets | jq -r '.data.activeTargets[].lastError')" ''
	get http://127.0.0.1:9090/api/v1/rules >"$OUT/rules"
	assert_equal "$(grep -o '"type":"alerting"' "$OUT/rules" | wc -l)" "$(grep -c 'alert:' "$PROMETHEUS/tproxy.rules.yml")"
	run -0 jq -e '.panels | length > 8' "$PROMETHEUS/tproxy-dashboard.json"
	# (Samples that nothing has, as of failures, have their HELP.)
	get $AT/metrics | grep -oE '^(# HELP )?tproxy_[a-z_]+' | sed 's/^# HELP //' | sort -u >"$OUT/names"
	{
		jq -r '.panels[].targets[].expr' "$PROMETHEUS/tproxy-dashboard.json"
		cat "$PROMETHEUS/tproxy.rules.yml"
	} | grep -oE '\btproxy_[a-z_]+' | sort -u >"$OUT/asked"
	(($(wc -l <"$OUT/asked") > 12))
	run comm -13 "$OUT/names" "$OUT/asked"
	assert_output ""
	# The alerts: a relay that hangs, changed rules, and none while down drains.
	cat >"$OUT/test.yml" <<-END
		rule_files: [ $PROMETHEUS/tproxy.rules.yml ]
		evaluation_interval: 30s
		tests:
		  - interval: 30s
		    input_series:
		      - { series: 'tproxy_relay_up{instance="a:1",relay="7"}', values: '0x10' }
		      - { series: 'tproxy_instance_intact{instance="a:1",name="web"}', values: '0x10' }
		      - { series: 'tproxy_instance_ending{instance="a:1",name="web"}', values: '0x10' }
		      - { series: 'tproxy_instance_intact{instance="a:1",name="old"}', values: '0x10' }
		      - { series: 'tproxy_instance_ending{instance="a:1",name="old"}', values: '1x10' }
		      - { series: 'tproxy_doctor_findings{instance="a:1",name="web",check="input",severity="fail"}', values: '_x12 2x20' }
		      - { series: 'tproxy_doctor_findings{instance="a:1",name="web",check="forward",severity="warn"}', values: '_x12 1x20' }
		      - { series: 'tproxy_doctor_age_seconds{instance="a:1"}', values: '0+30x60' }
		      - { series: 'tproxy_doctor_up{instance="a:1",name="old"}', values: '_x12 0x20' }
		      - { series: 'tproxy_relay_refused_total{instance="a:1",relay="7"}', values: '0+1x60' }
		      - { series: 'tproxy_relay_accepted_total{instance="a:1",relay="7"}', values: '0+10x60' }
		    promql_expr_test:
		      - expr: count by (alertname) (ALERTS{alertstate="firing"})
		        eval_time: 4m
		        exp_samples:
		          - { labels: '{alertname="TproxyRelaySilent"}', value: 1 }
		          - { labels: '{alertname="TproxyChanged"}', value: 1 }
		      - expr: count(ALERTS{alertname="TproxyRefused",alertstate="firing"})
		        eval_time: 15m
		        exp_samples: [ { value: 1 } ]
		      - expr: count by (alertname, name, check) (ALERTS{alertname=~"TproxyDoctor.*",alertstate="firing"})
		        eval_time: 13m
		        exp_samples:
		          - { labels: '{alertname="TproxyDoctor",name="web",check="input"}', value: 1 }
		          - { labels: '{alertname="TproxyDoctorSilent",name="old"}', value: 1 }
		      - expr: count(ALERTS{alertname="TproxyDoctorSilent",name="",alertstate="firing"})
		        eval_time: 25m
		        exp_samples: [ { value: 1 } ]
	END
	run -0 promtool test rules "$OUT/test.yml"
	stop prometheus || :
}

@test "requests: HEAD, other paths and methods, long ones, many at once, a port in use" {
	run -0 get -I $AT/metrics
	assert_line --regexp '^HTTP/1.1 200 '
	assert_line --regexp '^Content-Type: text/plain; version=0.0.4; charset=utf-8'
	assert_line --regexp '^Content-Length: [1-9][0-9]{3}'
	run -0 get -w '%{http_code}' "$AT/"
	assert_output $'there are /metrics and /healthz\n404'
	run -0 get -w '%{http_code}' -o "$OUT/body" "http://[::1]:9469/healthz?x=y"
	assert_output 200
	run -0 get -w '%{http_code}' -o "$OUT/body" -D "$OUT/head" --data-binary "@$(random_file 64K)" $AT/metrics
	assert_output 405
	assert_line_in head '^Allow: GET, HEAD'
	run -0 get -w '%{http_code}' -o "$OUT/body" -H "X: $(printf '%09000d' 0)" $AT/metrics
	assert_output 431
	# Sixty at once, while a relay hangs for the second that it is given: one question for many, not sixty seconds.
	signal relay STOP
	sleep 1
	local from=$EPOCHREALTIME
	run -0 on proxy timeout --foreground 20 bash -c 'for n in $(seq 30); do
		curl -sS -o /dev/null -w "%{http_code}\n" --max-time 10 http://127.0.0.1:9469/healthz &
		curl -sS -o /dev/null -w "%{http_code}\n" --max-time 10 "http://[::1]:9469/metrics" & done; wait'
	assert_equal "$(sort <<<"$output" | uniq -c | tr -s ' \n' ' ')" ' 30 200 30 503 '
	local took=$(((${EPOCHREALTIME/./} - ${from/./}) / 1000))
	((took < 15000 * TIME_SCALE)) || fail "$took ms"
	signal relay CONT
	run -3 on proxy tproxy-inspect export --listen 9469
	assert_output --regexp "^tproxy-inspect: 127\.0\.0\.1:9469: .*tproxy-inspect \(pid [0-9]+\) listens there.*; choose another port for --listen, or end what listens there$"
	run -2 on proxy tproxy-inspect export
	assert_line --index 0 --partial 'tproxy-inspect: export: where? --listen PORT or ADDRESS:PORT'
	run -2 on proxy tproxy-inspect export --listen nowhere
	assert_output --partial '--listen nowhere'
	run -2 on proxy tproxy-inspect sockets --listen 1
}

@test "slow clients cost ten seconds each, and lock out nobody but their own address" {
	bg slow proxy python3 -c '
import socket, time
socks = []
for n in range(120):
    s = socket.socket()
    s.bind(("127.0.0.%d" % (2 + n // 40), 0))
    s.connect(("127.0.0.1", 9469))
    s.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    socks.append((s, time.monotonic()))
print("connected", flush=True)
while socks:
    time.sleep(0.5)
    for s, since in list(socks):
        try:
            s.sendall(b"x")
            s.settimeout(0.001)
            if s.recv(100) == b"":
                raise OSError
        except socket.timeout:
            continue
        except OSError:
            print("%.0f" % (time.monotonic() - since), flush=True)
            socks.remove((s, since))'
	wait_line slow.out connected
	assert is_well
	# 40 of an address: 32 are served. The others end long before the ten seconds, which no byte prolongs.
	wait_until 8 eval '[[ $(grep -cx "[0-7]" "$OUT/slow.out") == 24 ]]'
	run -0 wait_exit slow 30
	assert_equal "$(grep -cE '^(9|[12][0-9])$' "$OUT/slow.out")" 96
	assert is_well
}

# impostor NAME UNSHARE...: somebody who answers at a relay's name with the lines of $OUT/lines; an empty
# file: who ends instead.
impostor() {
	bg "$1" proxy "${@:2}" /usr/bin/python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("\0tproxy-relay/" + sys.argv[1])
s.listen()
print("bound", flush=True)
lines = sys.argv[2]
while True:
    c = s.accept()[0]
    c.recv(100)
    if not lines:
        os._exit(0)
    c.sendall(lines.encode() + b"\n")
    c.close()' "$1" "$(cat "$OUT/lines")"
	wait_line "$1.out" bound
}

@test "relays of other versions, and one that ends while it is asked" {
	local head='{"v":1,"type":"relay","pid":1,"state":"serving","version":"9.9\"}\n","new":[1,{"a":"b"}]}'
	printf '%s\n' "$head" '{"v":1,"type":"counter","check":"accepted","count":7}' \
		'{"v":1,"type":"counter","check":"of-tomorrow","count":8}' '{"v":1,"type":"end","count":2}' >"$OUT/lines"
	impostor 70001
	wait_until 10 eval '[[ $(metric "tproxy_relay_accepted_total{relay=\"70001\"}") == 7 ]]'
	assert is_well
	# What it says of itself cannot break a line.
	assert_equal "$(metric 'tproxy_relay_build_info{relay="70001",version="9.9"}')" 1
	run -0 get $AT/metrics
	refute_output --partial tomorrow
	stop 70001 || :
	echo '{"v":2,"type":"relay","pid":1,"state":"serving"}' >"$OUT/lines"
	impostor 70002
	wait_until 10 is_sick '.relay == "70002" and (.evidence | test("a record of version 2; only version 1 is supported"))'
	assert_equal "$(metric 'tproxy_relay_up{relay="70002"}')" 0
	stop 70002 || :
	wait_until 10 is_well
	# Older ones: one that does not know the command, and one that knows fewer numbers and no version.
	echo '{"v":1,"type":"error","evidence":"counters: no such command"}' >"$OUT/lines"
	impostor 70005
	wait_until 10 is_sick '.relay == "70005" and (.evidence | test("counters: no such command"))'
	assert_equal "$(metric 'tproxy_relay_up{relay="70005"}')" 0
	stop 70005 || :
	wait_until 10 is_well
	printf '%s\n' '{"v":1,"type":"relay","pid":1,"state":"serving"}' '{"v":1,"type":"counter","check":"accepted","count":7}' \
		'{"v":1,"type":"end","count":1}' >"$OUT/lines"
	impostor 70006
	wait_until 10 eval '[[ $(metric "tproxy_relay_accepted_total{relay=\"70006\"}") == 7 ]]'
	get $AT/metrics >"$OUT/text"
	run -0 promtool check metrics <"$OUT/text"
	assert is_well
	stop 70006 || :
	: >"$OUT/lines"
	impostor 70003
	wait_until 10 eval 'get $AT/metrics >"$OUT/text"; gone $(pid_of 70003)'
	run ! grep -F 'relay="70003"' "$OUT/text"
	assert is_well
}

@test "a user's sockets with full queues beside a relay cost the health check nothing" {
	root_only "needs a second user id"
	impostors full full
	wait_until 3 eval '[[ $(metric tproxy_relays_untrusted) == 30 ]]'
	wait_until 10 answers_at_once $AT/healthz
	assert is_well
	assert_equal "$(metric tproxy_relays)" 1
	assert_equal "$(metric "tproxy_relay_up{relay=\"$(pid_of relay)\"}")" 1
	# Our own relay's queue is waited for: that it stands still is told.
	signal relay STOP
	run -0 on proxy python3 -c '
import os, socket, sys
kept = []
while True:
    c = socket.socket(socket.AF_UNIX)
    c.setblocking(False)
    try:
        c.connect("\0tproxy-relay/" + sys.argv[1])
    except BlockingIOError:
        break
    kept.append(c)' "$(pid_of relay)"
	wait_until 10 is_sick ".relay == \"$(pid_of relay)\" and (.evidence | test(\"timed out\"))"
	signal relay CONT
	wait_until 10 is_well
}

@test "it answers without rights, in a sandbox; another user's process is not asked" {
	root_only "needs a second user id"
	local pid
	pid=$(pid_of export)
	assert_equal "$(awk '/^(CapEff|CapPrm|Seccomp|NoNewPrivs):/ { print $2 }' "/proc/$pid/status" | tr '\n' ' ')" \
		'0000000000000000 0000000000000000 1 2 '
	[[ $(stat -c %U "/proc/$pid") != root ]]
	# CAP_NET_ADMIN, CAP_NET_RAW
	assert_equal "$(awk '$1 == "CapEff:" { print $2 }' "/proc/$(helper_of export tproxy-collect)/status")" 0000000000003000
	assert_equal "$(awk '$1 == "Seccomp:" { print $2 }' "/proc/$(helper_of export tproxy-collect)/status")" 2
	echo '{"v":1,"type":"relay","pid":1,"state":"ending"}' >"$OUT/lines"
	impostor 70004 setpriv --reuid=nobody --clear-groups
	wait_until 10 eval '[[ $(metric tproxy_relays_untrusted) == 1 ]]'
	assert is_well
	# Without the right to read rules it is not healthy.
	run -0 stop export
	exporter --user root --no-sandbox
	assert_equal "$(awk '$1 == "Seccomp:" { print $2 }' "/proc/$(helper_of export tproxy-collect)/status")" 0
	assert is_well
	run -0 stop export
	bg export proxy setpriv --bounding-set=-net_admin --inh-caps=-net_admin tproxy-inspect export --listen 9469
	wait_line export.err 'without CAP_NET_ADMIN instances cannot be read: /healthz will say so'
	wait_line export.err 'SIGTERM or Ctrl-C ends it'
	assert is_sick '.type == "instances"'
	# Its collector has ended: so does it.
	kill -KILL "$(helper_of export tproxy-collect)"
	run -3 wait_exit export
	assert_line_in export.err '^tproxy-inspect: tproxy-collect: it has ended$'
}
