#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# tproxy-relay as a service: the rights it keeps, the system calls it may make, what it reports.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to tproxy-relay 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# status_of NAME FIELD: from /proc/PID/status.
status_of() {
	awk -v field="$2:" '$1 == field { print $2; exit }' "/proc/$(pid_of "$1")/status"
}

# ---------------------------------------------------------------- rights

@test "it keeps only the capabilities that connections need" {
	local set
	start_nginx
	# CAP_NET_RAW (1 << 13) for IP_TRANSPARENT, CAP_NET_BIND_SERVICE (1 << 10) for a client's low port.
	relay --threads 2
	for set in CapEff CapPrm; do
		assert_equal "$(status_of relay $set)" 0000000000002400
	done
	assert_equal "$(status_of relay CapInh)" 0000000000000000
	# Every thread, also those that started later.
	assert_equal "$(awk '$1 == "CapEff:" { print $2 }' "/proc/$(pid_of relay)/task/"*/status | uniq -c |
		tr -s ' ')" ' 2 0000000000002400'
	run -0 on client curl -sS --max-time 10 --local-port 1000-1020 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 10[0-2][0-9]$'
	stop relay
	relay --source client-addr
	assert_equal "$(status_of relay CapEff)" 0000000000002000
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 '
	stop relay
	bg relay proxy tproxy-relay -4 --upstream "$V4:80" --source own --upstream-mark 0 '*:3130'
	serves relay
	assert_equal "$(status_of relay CapEff)" 0000000000000000
	run -0 on client curl -sS --max-time 10 "http://192.0.2.1:3130/who"
	assert_output --regexp '^198\.51\.100\.1 '
	stop relay
	assert_equal "$(sed -E '/^tproxy-relay: (listening on|ended:) /d' "$OUT/relay.err")" ''
}

@test "with only one of CAP_NET_ADMIN and CAP_NET_RAW, it keeps that one" {
	start_nginx
	for one in net_admin=0000000000001000 net_raw=0000000000002000; do
		bg relay proxy setpriv --bounding-set=-all,+"${one%=*}" tproxy-relay "$RELAY_PORT"
		serves relay
		assert_equal "$(status_of relay CapEff)" "${one#*=}"
		run -0 on client curl -sS --max-time 10 "http://$V4/who"
		assert_output --regexp '^192\.0\.2\.2 '
		stop relay
	done
}

@test "--user: another user and group, and nothing but the capabilities needed" {
	root_only "needs a second user id"
	local nobody nogroup
	nobody=$(id -u nobody) nogroup=$(id -g nobody)
	start_nginx
	relay --user nobody --control "$OUT/control"
	wait_until 10 eval '[[ $(status_of relay Seccomp) == 2 ]]'
	assert_equal "$(awk '$1 == "Uid:" { print $2, $3, $4, $5 }' "/proc/$(pid_of relay)/status")" \
		"$nobody $nobody $nobody $nobody"
	assert_equal "$(awk '$1 == "Gid:" { print $2, $3, $4, $5 }' "/proc/$(pid_of relay)/status")" \
		"$nogroup $nogroup $nogroup $nogroup"
	assert_equal "$(status_of relay Groups)" "$nogroup"
	assert_equal "$(status_of relay CapEff)" 0000000000002400
	assert_equal "$(status_of relay CapPrm)" 0000000000002400
	run -0 on client curl -sS --max-time 10 --local-port 1000-1020 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 10[0-2][0-9]$'
	assert_equal "$(counter opened)" 1
	stop relay
	relay --user nobody:daemon
	assert_equal "$(status_of relay Gid)" "$(getent group daemon | cut -d: -f3)"
	stop relay
	relay --user 12345:54321
	assert_equal "$(status_of relay Uid)" 12345
	assert_equal "$(status_of relay Gid)" 54321
	assert_equal "$(status_of relay Groups)" ""
	stop relay
}

@test "an unknown --user is misuse that names it, before anything is opened" {
	# LeakSanitizer, in a sanitizer build, cannot work while it is traced.
	run -2 on proxy env ASAN_OPTIONS="${ASAN_OPTIONS-}:detect_leaks=0" \
		strace -f -e trace=socket,bind -o "$OUT/calls" tproxy-relay --user nosuch "$RELAY_PORT"
	assert_output --regexp '^tproxy-relay: --user nosuch: no such user: nosuch'
	run ! grep -E 'bind\(|AF_INET' "$OUT/calls"
	run -2 on proxy tproxy-relay --user root:nosuch "$RELAY_PORT"
	assert_output --partial '--user root:nosuch: no such group: nosuch'
}

@test "--user without the right to change users is refused, with the missing capability" {
	run -3 on proxy setpriv --bounding-set=-all,+net_raw tproxy-relay --user root "$RELAY_PORT"
	assert_output --regexp 'tproxy-relay: --user root: setgroups: Operation not permitted; .*CAP_SETGID'
}

# ---------------------------------------------------------------- seccomp

@test "every thread is in a sandbox, and none with --no-sandbox" {
	start_nginx
	relay --threads 3 --metrics-file "$OUT/relay.prom" --control "$OUT/control"
	wait_until 10 eval '[[ $(cat "/proc/$(pid_of relay)/task/"*/status | grep -c "^Seccomp:.*2$") == 3 ]]'
	assert_equal "$(status_of relay NoNewPrivs)" 1
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 ask connections
	signal relay USR1
	wait_line relay.err counters
	run -0 stop relay
	run ! test -e "$OUT/control"
	relay --no-sandbox
	assert_equal "$(status_of relay Seccomp)" "$(awk '$1 == "Seccomp:" { print $2 }' /proc/self/status)"
	run -0 stop relay
}

@test "a call that the relay never makes kills it, visibly" {
	FAULT=$TPROXY_BIN/fault
	start_nginx
	# As if who has taken it over ran a program where it should take a connection.
	bg relay proxy env TPROXY_FAULT=accept4:1:EXEC "$FAULT/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run on client curl -sS --max-time 10 "http://$V4/who"
	run -159 wait_exit relay # SIGSYS
	bg relay proxy env TPROXY_FAULT=accept4:1:EXEC "$FAULT/tproxy-relay" --no-sandbox "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run on client curl -sS --max-time 10 "http://$V4/who"
	run -0 wait_exit relay # /bin/true's
}

@test "without seccomp it does not start, and says what to do" {
	run -3 on proxy env TPROXY_FAULT=seccomp_load:1:EINVAL "$TPROXY_BIN/fault/tproxy-relay" --threads 2 "$RELAY_PORT"
	assert_output 'tproxy-relay: sandbox: seccomp: Invalid argument; --no-sandbox runs without it'
}

# ---------------------------------------------------------------- numbers

# metric NAME: its value in the file, the name with its labels.
metric() {
	awk -v name="tproxy_relay_$1" '$1 == name { print $2; found = 1 } END { exit !found }' "$OUT/relay.prom"
}

# accepted_by_parsers: Prometheus' own text parser and linter, and OpenMetrics' reference parser.
accepted_by_parsers() {
	promtool check metrics <"$OUT/relay.prom"
	/usr/bin/python3 - "$OUT/relay.prom" <<-END
		import sys
		from prometheus_client.openmetrics.parser import text_string_to_metric_families
		families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
		assert len(families) > 10, families
		assert all(f.documentation for f in families), families
	END
}

@test "--metrics-file: parsers of both formats accept it, and it agrees with SIGUSR1 and the control socket" {
	start_nginx
	relay --threads 2 --metrics-file "$OUT/relay.prom" --control "$OUT/control" --deny-dst "$V4:8000"
	wait_until 10 test -s "$OUT/relay.prom"
	run -0 accepted_by_parsers
	assert_output ""
	assert_equal "$(metric accepted_total)" 0
	assert_equal "$(stat -c '%a %F' "$OUT/relay.prom")" '644 regular file'
	assert_equal "$(metric "build_info{version=\"$(tproxy-relay --version | grep -oE '[0-9.]+$')\"}")" 1
	for _ in 1 2 3; do
		run -0 on client curl -sS --max-time 10 -o /dev/null "http://$V4/who"
	done
	run -0 on client "$PEER" connect "$V4" 8000 gone
	run -0 on client "$PEER" connect "$V6" 8001 gone
	wait_until 10 eval '[[ $(counter closed) == 3 && $(counter refused) == 2 && $(counter connections) == 0 ]]'
	# The same numbers everywhere.
	ask counters >"$OUT/counters"
	signal relay USR1
	wait_line relay.err '^tproxy-relay: counters: accepted=5 opened=3 refused=2 closed=3 .* denied=1 upstream-refused=1 done=3$'
	run -0 stop relay
	run -0 accepted_by_parsers
	for one in accepted:accepted_total=5 opened:opened_total=3 refused:refused_total=2 closed:closed_total=3 \
		'denied:finished_total{reason="denied"}=1' 'done:finished_total{reason="done"}=3' \
		'upstream-refused:finished_total{reason="upstream-refused"}=1' \
		'loop:finished_total{reason="loop"}=0' records-lost:records_lost_total=0 \
		'paused-max:pauses_total{cause="max"}=0' connections:connections=0; do
		local metric=${one#*:}
		assert_equal "$(metric "${metric%=*}")" "${metric##*=}"
		assert_line_in counters "\"check\":\"${one%%:*}\",\"count\":${metric##*=}}"
	done
	assert_equal "$(metric connect_seconds_count) $(metric 'duration_seconds_bucket{le="+Inf"}')" '3 3'
	assert_line_in counters '"check":"connect-us","count":[1-9]'
	assert_line_in counters "\"check\":\"bytes-down\",\"count\":$(metric 'bytes_total{direction="down"}')}"
	(($(metric 'bytes_total{direction="up"}') > 100 && $(metric 'bytes_total{direction="down"}') > 300))
	# Every reason of the manual is there, and no other.
	diff <(sed -n 's/.*reason="\(.*\)"} .*/\1/p' "$OUT/relay.prom" | sort) \
		<(sed -n '/^.Sh RECORDS/,/^.Sh ONE/s/^\.It Sy //p' "$TOP/man/tproxy-relay.8" | tr -s ', ' '\n' | sort -u)
	run ! compgen -G "$OUT/relay.prom.*"
}

@test "each reason to refuse a connection has its counter" {
	start_nginx
	relay --connect-timeout 1s --deny-dst "$V4:8001" --metrics-file "$OUT/relay.prom" --control "$OUT/control"
	on server nft -f - <<-END
		table inet t { chain input { type filter hook input priority 0; tcp dport 8003 drop; }; }
	END
	on proxy ip route add unreachable 203.0.113.77
	run -0 on proxy "$PEER" connect 127.0.0.1 "$RELAY_PORT" gone # direct: nobody redirected it
	run -0 on client "$PEER" connect "$V4" 8001 gone
	run -0 on client "$PEER" connect "$V4" 8002 gone
	run -0 on client "$PEER" connect "$V4" 8003 gone
	run -0 on client "$PEER" connect 203.0.113.77 80 gone
	for one in direct denied upstream-refused upstream-timeout upstream-unreachable; do
		assert_equal "$one $(counter "$one")" "$one 1"
	done
	run -0 stop relay
	for one in direct denied upstream-refused upstream-timeout upstream-unreachable; do
		assert_equal "$one $(metric "finished_total{reason=\"$one\"}")" "$one 1"
	done
	assert_equal "$(metric refused_total)" 5
	assert_equal "$(metric opened_total)" 0
	# A port that somebody has, and no descriptor for the upstream socket, twice.
	relay --metrics-file "$OUT/relay.prom"
	bg taken proxy python3 -c "
import socket, time
s = socket.socket()
s.setsockopt(socket.SOL_IP, 19, 1)
s.bind(('192.0.2.2', 40000))
print('bound', flush=True)
time.sleep(600)"
	wait_line taken.out bound
	run on client curl -sS --max-time 10 --local-port 40000 "http://$V4/who"
	wait_line relay.out ' clash$'
	run -0 stop relay
	assert_equal "$(metric 'finished_total{reason="clash"}')" 1
	bg relay proxy env TPROXY_FAULT=connect:1:EMFILE,connect:2:EMFILE,connect:3:ENOMEM "$TPROXY_BIN/fault/tproxy-relay" \
		--metrics-file "$OUT/relay.prom" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run on client curl -sS --max-time 10 "http://$V4/who"
	run on client curl -sS --max-time 10 "http://$V4/who"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop relay
	assert_equal "$(metric 'finished_total{reason="descriptors"}')" 1
	assert_equal "$(metric 'finished_total{reason="memory"}')" 1
	assert_equal "$(metric 'finished_total{reason="done"}')" 1
}

@test "the metrics file is replaced while connections last, and readers never see a part" {
	relay --metrics-file "$OUT/relay.prom"
	peer server server serve 8000 echo
	bg client client "$PEER" connect "$V4" 8000 send:12345 recv:12345 "await:$OUT/go" fin eof
	ln "$OUT/relay.prom" "$OUT/first" # so that no later one gets its inode
	# A reader that is always there.
	bg reader proxy bash -c "
		while [[ ! -e $OUT/go ]]; do
			[[ \$(tail -n 1 '$OUT/relay.prom') == '# EOF' ]] || echo torn
			sleep 0.01
		done"
	# (A file may be of the moment between the connection and its bytes.)
	wait_until 20 eval '[[ $(metric "bytes_total{direction=\"down\"}") == 5 ]]'
	assert_equal "$(metric connections) $(metric 'bytes_total{direction="up"}')" '1 5'
	assert_equal "$(metric closed_total)" 0
	[[ ! $OUT/relay.prom -ef $OUT/first ]]
	touch "$OUT/go"
	run -0 wait_exit client
	run -0 wait_exit reader
	assert_equal "$(cat "$OUT/reader.out")" ""
	run -0 stop relay
	assert_equal "$(metric closed_total)" 1
	assert_equal "$(metric 'bytes_total{direction="up"}')" 5
}

@test "a metrics file that cannot be written is reported once, and again when it can be" {
	start_nginx
	relay --metrics-file "$OUT/missing/relay.prom" -v
	assert_line_in relay.err "^tproxy-relay: warning: --metrics-file $OUT/missing/relay\.prom: open: No such file or directory; "
	run -0 on client curl -sS --max-time 10 -o /dev/null "http://$V4/who"
	mkdir "$OUT/missing"
	wait_line relay.err "^tproxy-relay: --metrics-file $OUT/missing/relay\.prom: written again"
	run -0 on client curl -sS --max-time 10 -o /dev/null "http://$V4/who"
	run -0 stop relay
	assert_equal "$(grep -c warning "$OUT/relay.err")" 1
	assert_equal "$(tail -n 1 "$OUT/missing/relay.prom")" '# EOF'
	# What a rename would replace without a word.
	mkfifo "$OUT/fifo"
	for path in "$OUT/fifo" "$OUT/missing" /dev/null; do
		run -3 on proxy tproxy-relay --metrics-file "$path" 3130
		assert_output "tproxy-relay: --metrics-file $path: exists and is not a regular file"
	done
}

@test "in a takeover the new relay writes the metrics file at once" {
	relay --metrics-file "$OUT/relay.prom"
	peer server server serve 8000 echo
	bg client client "$PEER" connect "$V4" 8000 send:1 recv:1 "await:$OUT/go" fin eof
	wait_line relay.out ' open '
	bg new proxy tproxy-relay --takeover -v "$RELAY_PORT" --metrics-file "$OUT/relay.prom"
	wait_line new.err 'listening on .*\[::1\]'
	signal relay TERM
	touch "$OUT/go"
	run -0 wait_exit client
	run -0 wait_exit relay
	assert_equal "$(metric accepted_total)" 0
	run -0 stop new
}

# ---------------------------------------------------------------- the end

@test "while one thread of eight drains, the relay answers, and a second SIGTERM ends it at once" {
	relay --threads 8 --drain-timeout 1h --control "$OUT/control"
	peer server server listen 8000 recv:x send:y gone
	bg client client "$PEER" connect "$V4" 8000 send:x recv:y "touch:$OUT/open" gone
	wait_until 10 test -e "$OUT/open"
	signal relay TERM
	wait_until 10 eval '! listens proxy $RELAY_PORT'
	assert_equal "$(counter connections)" 1
	assert_equal "$(counter bytes-up)" 1
	run -0 ask connections
	assert_line --index 1 --partial '"state":"open"'
	signal relay USR1
	wait_line relay.err '1 connection now .*, 0 of 8 threads accept'
	signal relay TERM
	run -0 wait_exit relay
	run -0 wait_exit client
	run -0 wait_exit server
	assert_line_in relay.out ' drained$'
}

# ---------------------------------------------------------------- a service manager

@test "NOTIFY_SOCKET: ready, stopping; after a takeover the new pid, and nothing about the old relay's end" {
	bg notify proxy socat -u UNIX-RECV:"$OUT/notify" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify"
	bg old proxy env NOTIFY_SOCKET="$OUT/notify" tproxy-relay -v "$RELAY_PORT"
	wait_line notified '^READY=1$'
	assert listens proxy "$RELAY_PORT"
	bg new proxy env NOTIFY_SOCKET="$OUT/notify" tproxy-relay --takeover "$RELAY_PORT"
	wait_line notified "MAINPID=$(pid_of new)\$"
	run -0 stop old
	assert_line_in old.err "taken over by pid $(pid_of new)"
	refute_line_in notified STOPPING
	run -0 stop new
	wait_line notified 'STOPPING=1$'
	assert_equal "$(tr -d '\n' <"$OUT/notified")" "READY=1MAINPID=$(pid_of new)READY=1STOPPING=1"
	# The one that should have taken over has ended: then it is the old one's end after all.
	rm "$OUT/notified"
	bg notify proxy socat -u UNIX-RECV:"$OUT/notify2" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify2"
	bg old proxy env NOTIFY_SOCKET="$OUT/notify2" tproxy-relay "$RELAY_PORT"
	wait_line notified READY=1
	bg new proxy tproxy-relay --takeover -v "$RELAY_PORT"
	wait_line new.err 'listening on .*\[::1\]'
	run -0 stop new
	run -0 stop old
	wait_line notified STOPPING=1
}

@test "watchdog: signs of life while every worker runs, none while one of them hangs" {
	local task tid
	bg notify proxy socat -u UNIX-RECV:"$OUT/notify" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify"
	bg relay proxy env NOTIFY_SOCKET="$OUT/notify" WATCHDOG_USEC=600000 tproxy-relay --threads 3 "$RELAY_PORT"
	wait_line notified READY=1
	for task in "/proc/$(pid_of relay)/task/"*; do
		tid=${task##*/}
		wait_until 10 more_signs "$OUT/notified" "$(signs "$OUT/notified")"
		bg hang proxy strace -q -e inject=all:delay_enter=60s -o "$OUT/hang.calls" -p "$tid"
		# It is held before its next call.
		wait_until 10 eval '[[ $(cut -d " " -f 3 "$task/stat") == t ]]'
		wait_until 2 no_signs "$OUT/notified"
		stop hang KILL || :
	done
	wait_until 10 more_signs "$OUT/notified" "$(signs "$OUT/notified")"
	run -0 stop relay
	assert_line_in notified 'STOPPING=1$'
}

# ready_again N: READY=1 has come more often than that.
ready_again() { (($(grep -o READY=1 "$OUT/notified" | wc -l) > $1)); }

@test "watchdog: what is meant for another process, or is no number, is no wish" {
	bg notify proxy socat -u UNIX-RECV:"$OUT/notify" CREATE:"$OUT/notified"
	wait_until 10 test -S "$OUT/notify"
	for wish in '1 WATCHDOG_USEC=3000' '1 WATCHDOG_USEC=0' "0 WATCHDOG_USEC=" '0 WATCHDOG_USEC=0' '0 WATCHDOG_USEC=-5' \
		'0 WATCHDOG_USEC=3000x' '0 WATCHDOG_USEC=99999999999999999999'; do
		had=$(grep -o READY=1 "$OUT/notified" | wc -l)
		((${wish%% *})) && pid=WATCHDOG_PID=1 || pid=
		bg relay proxy env NOTIFY_SOCKET="$OUT/notify" ${wish#* } $pid tproxy-relay "$RELAY_PORT"
		wait_until 10 ready_again "$had"
		sleep 0.3
		run -0 stop relay
	done
	assert_equal "$(signs "$OUT/notified")" 0
}

# A manager that does not read must not stop the relay.
@test "watchdog: a manager whose queue is full, and one that is gone" {
	bg manager proxy /usr/bin/python3 -c '
import signal, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("bound", flush=True)
print(s.recv(100), flush=True)
c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
c.connect(sys.argv[1])
c.setblocking(False)
try:
    while True:
        c.send(b"full")
except BlockingIOError:
    print("full", flush=True)
signal.pause()' "$OUT/notify"
	wait_line manager.out bound
	start_nginx
	intercept 80
	bg relay proxy env NOTIFY_SOCKET="$OUT/notify" WATCHDOG_USEC=600000 tproxy-relay "$RELAY_PORT"
	wait_line manager.out full
	sleep 1
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	stop manager KILL || :
	sleep 0.5
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	signal relay KILL
}

# ---------------------------------------------------------------- start

@test "a descriptor limit that cannot be read is an error; one that cannot be raised is kept" {
	FAULT=$TPROXY_BIN/fault
	[[ -x $FAULT/tproxy-relay ]] || fail "no $FAULT: run make fault"
	run -3 on proxy env TPROXY_FAULT=getrlimit:1:EFAULT "$FAULT/tproxy-relay" "$RELAY_PORT"
	assert_output 'tproxy-relay: open files: getrlimit: Bad address'
	start_nginx
	bg relay proxy prlimit --nofile=200:400 env TPROXY_FAULT=setrlimit:1:EPERM "$FAULT/tproxy-relay" "$RELAY_PORT"
	serves relay
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	signal relay USR1
	wait_line relay.err '\(at most (7|8)[0-9]\)'
	stop relay
}

@test "it reports where it listens and how to end it, how long it drains, and what it has done" {
	start_nginx
	intercept 80,8000
	relay
	assert_line_in relay.err '^tproxy-relay: listening on 127\.0\.0\.1:3129, \[::1\]:3129; SIGTERM or Ctrl-C ends it$'
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run on client "$PEER" connect "$V4" 8000 gone
	peer held client connect "$V4" 80 gone
	wait_until 10 eval '[[ $(grep -c " open " "$OUT/relay.out") -eq 2 ]]'
	signal relay TERM
	wait_line relay.err '^tproxy-relay: 1 connection may finish within 30 s; a second signal ends them$'
	run -0 stop relay
	assert_line_in relay.err '^tproxy-relay: ended: 2 connections carried, 1 refused; [1-9][0-9]* bytes up, [1-9][0-9]* down$'
	assert_equal "$(wc -l <"$OUT/relay.err")" 3
	relay -q
	run -0 stop relay
	assert_equal "$(cat "$OUT/relay.err")" ''
}

@test "--ready-fd: a newline and EOF when connections are accepted; an unusable descriptor is named" {
	mkfifo "$OUT/ready"
	bg reader proxy cat "$OUT/ready"
	bg relay proxy bash -c "exec tproxy-relay --ready-fd 7 $RELAY_PORT 7>'$OUT/ready'"
	run -0 wait_exit reader
	assert_equal "$(wc -l <"$OUT/reader.out")" 1
	listens proxy "127.0.0.1:$RELAY_PORT"
	for fd in 2 7; do
		run -2 on proxy tproxy-relay --ready-fd $fd "$RELAY_PORT"
		assert_output --partial "--ready-fd $fd: is "
	done
	run -2 on proxy bash -c "tproxy-relay --ready-fd 7 $RELAY_PORT 7</dev/null"
	assert_output --partial '--ready-fd 7: is not open for writing'
}
