#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# tproxy-relay as a service: the rights it keeps, the system calls it may make, what it tells of itself.
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
	# CAP_NET_ADMIN (1 << 12) for IP_TRANSPARENT and TIME_WAITs in the way, CAP_NET_BIND_SERVICE (1 << 10)
	# for a client's low port; where no port is kept CAP_NET_RAW (1 << 13) will do.
	relay --threads 2
	for set in CapEff CapPrm; do
		assert_equal "$(status_of relay $set)" 0000000000001400
	done
	assert_equal "$(status_of relay CapInh)" 0000000000000000
	# Every thread, also those that started later.
	assert_equal "$(awk '$1 == "CapEff:" { print $2 }' "/proc/$(pid_of relay)/task/"*/status | uniq -c |
		tr -s ' ')" ' 2 0000000000001400'
	run -0 on client curl -sS --max-time 10 --local-port 1000-1020 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 10[0-2][0-9]$'
	stop relay
	relay --source client-addr
	assert_equal "$(status_of relay CapEff)" 0000000000002000
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 '
	stop relay
	bg relay proxy tproxy-relay -4 --upstream "$V4:80" --source own --upstream-mark 0 '*:3130'
	wait_listen proxy 3130
	assert_equal "$(status_of relay CapEff)" 0000000000000000
	run -0 on client curl -sS --max-time 10 "http://192.0.2.1:3130/who"
	assert_output --regexp '^198\.51\.100\.1 '
	stop relay
	refute_line_in relay.err .
}

@test "where only one of CAP_NET_ADMIN and CAP_NET_RAW is there, that one is kept" {
	start_nginx
	for one in net_admin=0000000000001000 net_raw=0000000000002000; do
		bg relay proxy setpriv --bounding-set=-all,+"${one%=*}" tproxy-relay "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
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
	assert_equal "$(awk '$1 == "Uid:" { print $2, $3, $4, $5 }' "/proc/$(pid_of relay)/status")" \
		"$nobody $nobody $nobody $nobody"
	assert_equal "$(awk '$1 == "Gid:" { print $2, $3, $4, $5 }' "/proc/$(pid_of relay)/status")" \
		"$nogroup $nogroup $nogroup $nogroup"
	assert_equal "$(status_of relay Groups)" "$nogroup"
	assert_equal "$(status_of relay CapEff)" 0000000000001400
	assert_equal "$(status_of relay CapPrm)" 0000000000001400
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
	run -2 on proxy strace -f -e trace=socket,bind -o "$OUT/calls" tproxy-relay --user nosuch "$RELAY_PORT"
	assert_output --regexp '^tproxy-relay: --user nosuch: no such user: nosuch'
	run ! grep -E 'bind\(|AF_INET' "$OUT/calls"
	run -2 on proxy tproxy-relay --user root:nosuch "$RELAY_PORT"
	assert_output --partial '--user root:nosuch: no such group: nosuch'
}

@test "--user without the right to change users is refused with what is missing" {
	run -3 on proxy setpriv --bounding-set=-all,+net_raw tproxy-relay --user root "$RELAY_PORT"
	assert_output --regexp 'tproxy-relay: --user root: setgroups: Operation not permitted; .*CAP_SETGID'
}

# ---------------------------------------------------------------- start

@test "a descriptor limit that cannot be read is what is complained of; one that cannot be raised is kept" {
	FAULT=$TPROXY_BIN/fault
	[[ -x $FAULT/tproxy-relay ]] || fail "no $FAULT: run make fault"
	run -3 on proxy env TPROXY_FAULT=getrlimit:1:EFAULT "$FAULT/tproxy-relay" "$RELAY_PORT"
	assert_output 'tproxy-relay: open files: getrlimit: Bad address'
	start_nginx
	bg relay proxy prlimit --nofile=200:400 env TPROXY_FAULT=setrlimit:1:EPERM "$FAULT/tproxy-relay" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	signal relay USR1
	wait_line relay.err '\(at most (7|8)[0-9]\)'
	stop relay
}
