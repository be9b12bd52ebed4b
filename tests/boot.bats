#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy@NAME.service as installed, under a systemd of its own as process 1 (tests/lib/systemd), in the network
# namespace of the lab's proxy. It boots once for the whole file; the tests follow one another.
#
#   client 192.0.2.2 --- proxy: systemd, tproxy@web --- server 198.51.100.2: port 80 says again what it hears
#
# A FORWARD rule counts what bypasses the proxy: nothing may, until the last test, which stops the
# unit.

bats_require_minimum_version 1.5.0
load lib/lab
load lib/setup

# The tests share a lab, one after another.
export BATS_NO_PARALLELIZE_WITHIN_FILE=true

setup_file() {
	((EUID == 0)) || return 0
	lab_up
	start_echo
	on proxy nft 'add table inet past; add chain inet past f { type filter hook forward priority 0; }
		add rule inet past f tcp dport 80 tcp flags & (syn|ack) == syn counter'
	make -s -C "$TOP" O="$TPROXY_BIN" -o all install DESTDIR="$OUT/systemd" PREFIX=/usr >/dev/null
	export CONF=$OUT/systemd/etc/tproxy/web.conf WANTS=$OUT/systemd/etc/systemd/system/multi-user.target.wants
	mkdir -p "${CONF%/*}" "$WANTS"
	conf '--to 3129 --port 80' '"tproxy-relay --log events --control /run/tproxy/web/control 3129"'
	ln -s /usr/lib/systemd/system/tproxy@.service "$WANTS/tproxy@web.service"
	bg systemd proxy "$TOP/tests/lib/systemd" "$OUT/systemd"
	# (Before it is that, its script has other children.)
	wait_until 20 eval 'SYSTEMD=$(pgrep -P "$(pid_of systemd)" -x systemd)'
	export SYSTEMD
	wait_until 30 eval 'inside systemctl -q is-active multi-user.target'
}

teardown_file() {
	((EUID != 0)) || lab_down
}

setup() {
	[[ $BATS_TEST_DESCRIPTION == *"systemd-analyze"* ]] || root_only "systemd is root's"
}

S4=198.51.100.2

inside() {
	nsenter -t "$SYSTEMD" -a -- "$@"
}

# conf SETUP COMMAND: web.conf, here before the boot, and there after it.
conf() {
	local text="# what is intercepted, and by whom it is served
SETUP = $1
COMMAND = $2"
	if [[ ${SYSTEMD-} ]]; then
		inside sh -c 'echo "$1" >/etc/tproxy/web.conf' - "$text"
	else
		echo "$text" >"$CONF"
	fi
}

property() {
	inside systemctl show -P "$2" "$1"
}

# Does a new connection get an answer?
answers() {
	[[ $(echo hello | on client timeout --foreground 20 socat -t15 - "TCP:$S4:80" 2>/dev/null) == hello ]]
}

past() {
	on proxy nft list chain inet past f | sed -n 's/.*counter packets \([0-9]*\).*/\1/p'
}

@test "units that are installed: systemd-analyze scores them 1.5 (the exporter 1.7), and they have the sandbox of those of plan" {
	local root=$BATS_TEST_TMPDIR/root unit threshold
	make -s -C "$TOP" O="$TPROXY_BIN" -o all install DESTDIR="$root" PREFIX="$BATS_TEST_TMPDIR" >/dev/null
	cd "$root$BATS_TEST_TMPDIR/lib/systemd/system"
	cp tproxy@.service tproxy@web.service
	cp tproxy-rules@.service tproxy-rules@web.service
	cp tproxy-keep@.service tproxy-keep@web.service
	mkdir -p "$BATS_TEST_TMPDIR/sbin"
	ln -s "$TPROXY_BIN/tproxy-setup" "$BATS_TEST_TMPDIR/sbin"
	mkdir -p "$BATS_TEST_TMPDIR/bin"
	ln -s "$TPROXY_BIN/tproxy-inspect" "$BATS_TEST_TMPDIR/bin"
	for unit in tproxy@web tproxy-rules@web tproxy-keep@web tproxy-export; do
		run systemd-analyze verify --man=no "./$unit.service"
		refute_output --partial "$unit"
		# For units of early boot four lines about files are in force, but are not rated: 1.6 with them.
		sed -i /^DefaultDependencies=no/d $unit.service
		# (The exporter has both CAP_NET_ADMIN and the call to give it up.)
		[[ $unit == tproxy-export ]] && threshold=17 || threshold=15
		run systemd-analyze security --offline=yes --threshold=$threshold --no-pager "./$unit.service"
		assert_success
	done
	# Line for line what plan prints, one for the relay, the other without a command.
	sandbox_of() { grep -E '^(DynamicUser|NoNew|Protect|Private|Device|Restrict|Lock|Memory|RemoveIPC|UMask|System|IPAddr|Capab|Ambient|LimitNO)'; }
	for unit in tproxy@ tproxy-rules@ tproxy-keep@; do
		[[ $unit == tproxy@ ]] && command='-- tproxy-relay 3129' || command=
		run diff <(tproxy-setup plan -q --format systemd --to 3129 $command | sandbox_of | sort) \
			<(sandbox_of <$unit.service | sort)
		assert_output ""
	done
}

@test "at boot the rules are installed before the network is up; the relay serves, in its sandbox" {
	wait_until 10 answers
	wait_until 10 inside systemctl -q is-active tproxy@web
	assert_equal "$(property network-pre.target ActiveState)" active
	(($(property tproxy-rules@web ActiveEnterTimestampMonotonic) <= \
		$(property network-pre.target ActiveEnterTimestampMonotonic)))
	run inside tproxy-setup plan --conf /etc/tproxy/web.conf
	assert_line --partial 'table inet tproxy_web'
	run inside tproxy-setup status --conf /etc/tproxy/web.conf
	assert_success
	run inside journalctl -u tproxy@web -u tproxy-rules@web
	assert_line --partial 'tproxy-setup: 127.0.0.1:3129: nobody listens there yet'
	assert_line --partial 'Started tproxy@web.service'
	pid=$(property tproxy@web MainPID)
	run inside cat "/proc/$pid/status"
	assert_line --regexp '^CapBnd:	0*2400$'
	assert_line --regexp '^NoNewPrivs:	1$'
	assert_line --regexp '^Seccomp:	2$'
	refute_line --regexp '^Uid:	0	'
	run inside tproxy-relay --ask counters /run/tproxy/web/control
	assert_success
	run inside journalctl -q -o cat -u tproxy@web
	assert_line --regexp ' open .* 198\.51\.100\.2:80'
	run inside journalctl -q -o cat -p notice _SYSTEMD_UNIT=tproxy@web.service
	assert_line --partial 'tproxy-relay: listening on'
	refute_line --regexp ' open '
	assert_equal "$(past)" 0
}

@test "what others remove is installed again by a unit, which ends with the others" {
	wait_until 10 inside systemctl -q is-active tproxy-keep@web
	run inside cat "/proc/$(property tproxy-keep@web MainPID)/status"
	assert_line --regexp '^NoNewPrivs:	1$'
	refute_line --regexp '^Uid:	0	'
	open_line lasting $S4:80
	say lasting one
	wait_until 5 heard lasting one
	on proxy nft delete table inet tproxy_web
	intact_again() { on proxy tproxy-setup status -q --name web; }
	wait_until 5 intact_again
	on proxy ip rule del pref 100
	wait_until 5 intact_again
	run inside journalctl -q -o cat -p notice -u tproxy-keep@web
	assert_line --partial 'web: its rules were gone (nft); installed again'
	assert_line --partial 'web: its routing had changed; installed again'
	say lasting two
	wait_until 5 heard lasting two
	stop lasting || :
	assert_equal "$(past)" 0
}

@test "the exporter's unit: it reads rules and relays, and what answers has no rights" {
	inside systemctl start tproxy-export
	export_says() { [[ $(on proxy curl -sS --max-time 5 -w ' %{http_code}' http://127.0.0.1:9469/healthz) == "$1" ]]; }
	wait_until 10 export_says '{"healthy":true,"reasons":[]} 200'
	run on proxy curl -sS --max-time 20 http://127.0.0.1:9469/metrics
	assert_line 'tproxy_instance_served{name="web"} 1'
	assert_line 'tproxy_relays 1'
	# The doctor sees as much as it does for root.
	exported() { on proxy curl -sS --max-time 5 http://127.0.0.1:9469/metrics | grep -qFx "$1"; }
	wait_until 20 exported 'tproxy_doctor_up{name="web"} 1'
	run on proxy curl -sS --max-time 5 http://127.0.0.1:9469/metrics
	assert_equal "$(grep -c '^tproxy_doctor_findings.*"fail"' <<<"$output")" 0
	findings() { sed -n 's/.*"check":"\([^"]*\)","severity":"warn".*/\1/p' | sort | uniq -c | tr -s ' '; }
	assert_equal "$(sed -n 's/^tproxy_doctor_findings{.*check="\(.*\)",severity="warn"} \(.*\)/ \2 \1/p' <<<"$output" | sort -k2)" \
		"$(inside tproxy-setup doctor --name web --json | findings | sort -k2)"
	run inside cat "/proc/$(property tproxy-export MainPID)/status"
	assert_line --regexp '^CapPrm:	0*$'
	assert_line --regexp '^Seccomp:	2$'
	refute_line --regexp '^Uid:	0	'
	inside systemctl stop tproxy-export
	assert_equal "$(property tproxy-export Result)" success
}

@test "reload reads the new file and loses no connection; a broken file leaves the old rules" {
	open_line kept $S4:80
	say kept one
	wait_until 5 heard kept one
	before=$(property tproxy@web MainPID)
	conf '--to 3129 --port 80,443' 'tproxy-relay --log events 3129'
	inside systemctl reload tproxy@web
	run on proxy tproxy-setup status
	assert_line --partial ' 80,443 '
	rules_text() { on proxy nft -t list table inet tproxy_web | sed 's/packets .*//'; }
	rules=$(rules_text)
	for broken in '--to 3129 --port 80x|3: --port 80x: ' '"--to 3129|3: "--to 3129: a quote is not closed' \
		'--to 3129 --prot 80|3: --prot: no such option' '| --to PORT: where the listener is'; do
		conf "${broken%|*}
" tproxy-relay
		inside sed -i '1a #' /etc/tproxy/web.conf
		run inside systemctl reload tproxy@web
		assert_failure
		run inside journalctl -q -o cat -p err -u tproxy@web
		assert_line --partial "/etc/tproxy/web.conf:${broken#*|}"
		assert_equal "$(rules_text)" "$rules"
	done
	conf '--to 3129 --port 80' 'tproxy-relay --log events 3129'
	inside systemctl reload tproxy@web
	say kept two
	wait_until 5 heard kept two
	assert_equal "$(property tproxy@web MainPID)" "$before"
	assert_equal "$(past)" 0
}

@test "a relay that is killed, cannot start, or is restarted: nothing bypasses it meanwhile" {
	rules=$(property tproxy-rules@web InvocationID)
	inside kill -KILL "$(property tproxy@web MainPID)"
	wait_until 5 eval '[[ $(property tproxy@web SubState) == auto-restart ]]'
	run answers
	assert_failure
	wait_until 10 answers
	inside systemctl restart tproxy@web
	answers
	for command in 'tproxy-relay --nonsense' 'tproxy-relya 3129' 'cat'; do
		conf '--to 3129 --port 80' "$command"
		run inside systemctl restart tproxy@web
		assert_failure
		# As often as it takes, and more often than systemd would by default.
		assert_equal "$(property tproxy@web SubState)" auto-restart
		run answers
		assert_failure
	done
	run inside journalctl -q -o cat -p err -u tproxy@web
	assert_line --partial 'tproxy-relay: --nonsense: no such option'
	assert_line --partial 'tproxy-relya: '
	assert_line --partial 'COMMAND: cat: not tproxy-relay'
	# What README says.
	inside sh -c 'cat >/etc/tproxy/web.conf' < <(grep -E '^ +(SETUP|COMMAND) = ' "$TOP/README")
	inside systemctl restart tproxy@web
	wait_until 10 answers
	# Without a command somebody else is to serve.
	conf '--to 3129 --port 80' ''
	inside systemctl restart tproxy@web
	bg other proxy tproxy-relay 3129
	wait_until 10 answers
	stop other
	assert_equal "$(property tproxy-rules@web InvocationID)" "$rules"
	assert_equal "$(past)" 0
}

@test "an interface that comes late, and a file that cannot be read: refused meanwhile, and then served" {
	# The rules name it, and the listener is bound to it.
	conf '--to 3129 --port 80 --iif late0' 'tproxy-listen --echo --bind-device late0 3129'
	inside systemctl restart tproxy-rules@web
	wait_until 20 eval '[[ $(property tproxy@web SubState) == auto-restart ]]'
	run inside journalctl -q -o cat -p err -u tproxy@web
	assert_line --regexp '^tproxy-listen: .*late0'
	on proxy sh -c 'ip link set toclient down; ip link set toclient name late0; ip link set late0 up'
	wait_until 20 answers
	run on proxy tproxy-setup status -q
	assert_success
	on proxy sh -c 'ip link set late0 down; ip link set late0 name toclient'
	# The file cannot be read by the command's user: the old rules stay.
	conf '--to 3129 --port 80' 'tproxy-relay 3129'
	inside systemctl restart tproxy-rules@web
	on proxy ip link set toclient up
	wait_until 20 answers
	inside chmod 700 /etc/tproxy
	run inside systemctl restart tproxy@web
	assert_failure
	run inside journalctl -q -o cat -p err -u tproxy@web
	assert_line --partial '/etc/tproxy/web.conf: open: Permission denied'
	run answers
	assert_failure
	inside chmod 755 /etc/tproxy
	wait_until 20 answers
	assert_equal "$(past)" 0
}

# A static user tproxy is no must: it is made with the unit; one that --user names is.
@test "a user that is missing: the units make their own; the relay says which one it lacks" {
	run inside getent passwd tproxy
	[[ $status != 0 || $output == *:/:* ]] # none, or the unit's own
	run inside ps -o user= -p "$(property tproxy@web MainPID)"
	assert_output tproxy
	conf '--to 3129 --port 80' 'tproxy-relay --user nosuch 3129'
	run inside systemctl restart tproxy@web
	assert_failure
	run inside journalctl -q -o cat -p err -u tproxy@web
	assert_line --partial 'tproxy-relay: --user nosuch: '
	run answers
	assert_failure
	conf '--to 3129 --port 80' 'tproxy-relay 3129'
	wait_until 20 answers
	assert_equal "$(past)" 0
}

# One thread is held, and no other part of the relay. (Of three seconds: systemd need not wait long, and a busy machine
# lets each thread have its turn.)
@test "watchdog: a relay one of whose threads hangs is started again, and nothing bypasses it meanwhile" {
	local before hung
	assert_equal "$(property tproxy@web WatchdogUSec)" 30s
	conf '--to 3129 --port 80' 'tproxy-relay --threads 2 3129'
	inside mkdir -p /run/systemd/system/tproxy@web.service.d
	inside sh -c 'printf "[Service]\nWatchdogSec=3\nRestartSec=5\n" >/run/systemd/system/tproxy@web.service.d/soon.conf'
	inside systemctl daemon-reload
	inside systemctl restart tproxy@web
	before=$(property tproxy@web NRestarts)
	hung=$(on proxy ss -Htlnp 'src 127.0.0.1:3129' | sed 's/.*pid=\([0-9]*\).*/\1/;q')
	sleep 4
	answers
	assert_equal "$(property tproxy@web NRestarts)" "$before"
	bg hang proxy strace -q -e inject=all:delay_enter=60s -o "$OUT/hang.calls" \
		-p "$(find "/proc/$hung/task" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | sed -n '$p')"
	logged() { inside journalctl -q -o cat -u tproxy@web | grep -qF "$1"; }
	wait_until 20 logged 'Watchdog timeout (limit 3s)!'
	stop hang KILL || : # a thread that is traced cannot end
	wait_until 20 eval '[[ $(property tproxy@web SubState) == auto-restart ]]'
	run answers
	assert_failure
	wait_until 20 answers
	logged "Failed with result 'watchdog'"
	assert_equal "$(property tproxy@web NRestarts)" $((before + 1))
	# Where another program serves, this unit's own process gives the signs.
	conf '--to 3129 --port 80' ''
	inside systemctl restart tproxy@web
	before=$(property tproxy@web NRestarts)
	sleep 4.5
	assert_equal "$(property tproxy@web NRestarts)" "$before"
	inside systemctl -q is-active tproxy@web
	inside rm -r /run/systemd/system/tproxy@web.service.d
	inside systemctl daemon-reload
	assert_equal "$(past)" 0
}

@test "stop removes everything, and connections pass; without its file it does not start" {
	inside systemctl stop tproxy@web
	wait_until 10 eval '[[ $(property tproxy-rules@web ActiveState) == inactive ]]'
	assert_equal "$(property tproxy-keep@web ActiveState)/$(property tproxy-keep@web Result)" inactive/success
	run on proxy nft list tables
	assert_output "table inet past"
	answers
	assert_not_equal "$(past)" 0
	inside rm /etc/tproxy/web.conf
	run inside systemctl start tproxy@web
	assert_failure
	# Nor is kept what was not installed; otherwise that never gives up, as the proxy does not.
	assert_equal "$(property tproxy-keep@web ActiveState)/$(property tproxy-keep@web StartLimitIntervalUSec)" inactive/0
	run inside journalctl -q -o cat -p err -u tproxy-rules@web
	assert_line --partial 'tproxy-setup: /etc/tproxy/web.conf: open: No such file or directory'
	run on proxy nft list tables
	assert_output "table inet past"
}
