#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval and sh expand them
#
# The rights that the services drop, and those that they keep in a helper process: users,
# capabilities, files.
#
#   client 192.0.2.2 --- proxy: 80,8000-8100 to 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# status_of PID FIELD: from /proc/PID/status.
status_of() {
	awk -v field="$2:" '$1 == field { print $2; exit }' "/proc/$1/status"
}

# with_users USERS CMD...: become CMD where these lines are all of /etc/passwd, and no service knows more.
with_users() {
	printf '%s\n' "$1" >"$OUT/passwd"
	echo 'passwd: files' >"$OUT/nsswitch.conf"
	exec unshare --mount sh -c 'for f in passwd nsswitch.conf; do mount --bind "$0/$f" "/etc/$f"; done; exec "$@"' \
		"$OUT" "${@:2}"
}

# ---------------------------------------------------------------- users

# said NAME: what it said but for where it listens and what it has done.
said() { sed -E '/^tproxy-relay: (listening on|ended:) /d' "$OUT/$1.err"; }

@test "root becomes nobody, or the package's user, or --user; without such a user it says so" {
	root_only "needs other user ids"
	local root=root:x:0:0::/:/bin/sh
	relay
	assert_equal "$(status_of "$(pid_of relay)" Uid)" "$(id -u nobody)"
	assert_equal "$(status_of "$(pid_of relay)" NoNewPrivs)" 1
	stop relay
	relay --user root
	assert_equal "$(status_of "$(pid_of relay)" Uid)" 0
	stop relay
	bg relay proxy bash -c "$(declare -f with_users); OUT=$OUT with_users '$root
nobody:x:65534:65534::/:/bin/sh
tproxy:x:4242:4343::/:/bin/sh' tproxy-relay $RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	wait_until 10 eval '[[ $(status_of "$(pid_of relay)" Seccomp) == 2 ]]'
	assert_equal "$(status_of "$(pid_of relay)" Uid)" 4242
	assert_equal "$(status_of "$(pid_of relay)" Gid)" 4343
	stop relay
	assert_equal "$(said relay)" ""
	bg relay proxy bash -c "$(declare -f with_users); OUT=$OUT with_users '$root' tproxy-relay $RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	stop relay
	assert_equal "$(said relay)" \
		"tproxy-relay: stays root: there is neither a user tproxy nor nobody; --user names another"
}

@test "root without the right to become another user says so, and serves" {
	root_only "needs other user ids"
	start_nginx
	bg relay proxy setpriv --bounding-set=-all,+net_raw,+net_admin tproxy-relay "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 '
	stop relay
	assert_equal "$(said relay)" \
		"tproxy-relay: stays root: CAP_SETUID and CAP_SETGID are missing to become nobody"
}

@test "in a user namespace with uid 0 only it stays root, silently" {
	rootless_only "as root there are other users"
	relay
	wait_until 10 eval '[[ $(status_of "$(pid_of relay)" Seccomp) == 2 ]]'
	assert_equal "$(on proxy awk '$1 == "Uid:" { print $2 }' "/proc/$(pid_of relay)/status")" 0
	assert_equal "$(status_of "$(pid_of relay)" CapEff)" 0000000000002400
	stop relay
	assert_equal "$(said relay)" ""
}

# ---------------------------------------------------------------- TIME_WAIT

@test "only a helper has CAP_NET_ADMIN, and nothing else; without the helper there is a clash" {
	local helper host
	for host in client proxy server; do
		on "$host" sysctl -qw net.ipv4.tcp_timestamps=0
	done
	on client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
	relay
	helper=$(helper_of relay tproxy-timewait)
	assert_equal "$(status_of "$helper" CapEff) $(status_of "$helper" CapPrm) $(status_of "$helper" CapInh)" \
		"0000000000001000 0000000000001000 0000000000000000"
	assert_equal "$(status_of "$helper" Seccomp) $(status_of "$helper" NoNewPrivs)" "2 1"
	assert_equal "$(status_of "$helper" Uid)" "$(status_of "$(pid_of relay)" Uid)"
	# The client ends first, so that its port is in TIME_WAIT on the proxy, and opens it again.
	peer server server serve 8000 recv:x send:y eof close
	for _ in 1 2 3; do
		run -0 on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 send:x recv:y fin eof
	done
	refute_line_in relay.out ' refused '
	kill -KILL "$helper"
	wait_until 10 eval '[[ $(ps -o stat= '"$helper"') != [RS]* ]]'
	run on client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 gone
	wait_line relay.out ' refused .* clash$'
	run -0 on client "$PEER" connect "$V4" 8000 send:x recv:y fin eof
	run -0 stop relay
}

# ---------------------------------------------------------------- files

@test "--control is removed at the end, even after SIGKILL, where the relay itself could not" {
	local helper signal
	for signal in TERM KILL; do
		relay --control "$OUT/control"
		helper=$(helper_of relay tproxy-file)
		((EUID)) || assert_equal "$(status_of "$helper" Uid)" 0
		assert_equal "$(status_of "$helper" CapEff) $(status_of "$helper" CapPrm)" \
			"0000000000000000 0000000000000000"
		assert_equal "$(status_of "$helper" Seccomp)" 2
		# It is the relay's end that counts.
		kill -TERM "$helper"
		kill -INT "$helper"
		run -0 ask counters
		run stop relay "$signal"
		wait_until 10 eval '[[ ! -e $OUT/control && ! -e /proc/'"$helper"' ]]'
	done
	# It is left alone if it is somebody else's by then.
	relay --control "$OUT/control"
	rm "$OUT/control"
	touch "$OUT/control"
	stop relay
	assert_file_exist "$OUT/control"
}

@test "files in a directory of the relay's user are written as that user" {
	root_only "needs other user ids"
	local helper uid
	uid=$(id -u nobody)
	chmod 711 "$BATS_RUN_TMPDIR" "$BATS_TEST_TMPDIR" "$OUT"
	chmod 711 "${BATS_TEST_TMPDIR%/*}"
	mkdir "$OUT/own"
	chown nobody "$OUT/own"
	relay --metrics-file "$OUT/own/relay.prom"
	helper=$(helper_of relay tproxy-file)
	assert_equal "$(status_of "$helper" Uid) $(stat -c %u "$OUT/own/relay.prom")" "$uid $uid"
	stop relay
	relay --metrics-file "$OUT/relay.prom"
	helper=$(helper_of relay tproxy-file)
	assert_equal "$(status_of "$helper" Uid) $(stat -c %u "$OUT/relay.prom")" "0 0"
	assert_equal "$(status_of "$helper" CapEff)" 0000000000000000
	# It holds nothing of the relay's.
	run -0 ls -l "/proc/$helper/fd"
	refute_output --regexp 'eventpoll|eventfd|relay\.out'
	stop relay
}

@test "the relay reports a dead file helper and keeps running" {
	start_nginx
	relay --metrics-file "$OUT/relay.prom"
	kill -KILL "$(helper_of relay tproxy-file)"
	signal relay USR1
	wait_line relay.err counters
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop relay
}

# ---------------------------------------------------------------- tproxy-listen

# listen OPTION...: as `listen`, recording in listen.out.
listen() {
	bg listen proxy tproxy-listen "$@"
	wait_listen proxy "$RELAY_PORT"
	wait_until 10 eval '[[ $(status_of "$(pid_of listen)" Seccomp) == 2 ]]'
}

# rights PID: user, effective and permitted capabilities, no_new_privs, seccomp.
rights() {
	local field
	for field in Uid CapEff CapPrm NoNewPrivs Seccomp; do
		status_of "$1" $field
	done | paste -sd ' '
}

@test "tproxy-listen serves as nobody without capabilities, in a sandbox" {
	local uid
	uid=$(id -u nobody) # rootless: whom the tests run as
	listen "$RELAY_PORT"
	assert_equal "$(rights "$(pid_of listen)")" "$uid 0000000000000000 0000000000000000 1 2"
	run on client "$PEER" connect "$V4" 8000 eof
	wait_line listen.out ' 198\.51\.100\.2:8000 tproxy'
	stop listen
	# Sockets of flows are made while it serves: CAP_NET_RAW (1 << 13), CAP_NET_BIND_SERVICE (1 << 10).
	on proxy tproxy-setup up -q -u --name udp --port 5300 --to 3130
	bg listen proxy tproxy-listen -tu --echo "$RELAY_PORT" 3130
	wait_listen proxy 3130 udp
	wait_until 10 eval '[[ $(status_of "$(pid_of listen)" Seccomp) == 2 ]]'
	assert_equal "$(rights "$(pid_of listen)")" "$uid 0000000000002400 0000000000002400 1 2"
	run -0 on client timeout --foreground 30 bash -c 'exec 5<>"/dev/udp/$0/5300"; echo hello >&5; head -n 1 <&5' "$V4"
	assert_output hello
	# Who asks conntrack is a process of its own: CAP_NET_ADMIN (1 << 12).
	assert_equal "$(rights "$(helper_of listen tproxy-origdst)")" "$uid 0000000000001000 0000000000001000 1 2"
	stop listen
	bg listen proxy tproxy-listen --no-sandbox "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	assert_equal "$(status_of "$(pid_of listen)" Seccomp)" "$(awk '$1 == "Seccomp:" { print $2 }' /proc/self/status)"
}

@test "a command of tproxy-listen has the rights of the user who started it, and no sandbox" {
	local as_started uid
	uid=$(id -u nobody)
	listen "$RELAY_PORT" -- sh -c 'read -r x; id -u; grep -E "^(CapEff|CapPrm|CapAmb|NoNewPrivs|Seccomp):" /proc/self/status'
	assert_equal "$(rights "$(pid_of listen)")" "$uid 0000000000000000 0000000000000000 1 2"
	as_started=$(on proxy sh -c 'id -u; grep -E "^(CapEff|CapPrm|CapAmb|NoNewPrivs|Seccomp):" /proc/self/status')
	run -0 on client sh -c "echo x | timeout 60 socat -t 60 - TCP:$V4:80"
	assert_output "$as_started"
	stop listen
}

@test "tproxy-listen and its commands become --user, without capabilities" {
	root_only "needs other user ids"
	listen --user daemon "$RELAY_PORT" -- sh -c 'id -un; grep -E "^(CapEff|CapPrm)" /proc/self/status'
	run -0 on client timeout 60 socat -t 60 -u "TCP:$V4:80" -
	assert_line --index 0 daemon
	refute_line --regexp '^Cap[a-zA-Z]+:.*[1-9a-f]'
	assert_equal "$(status_of "$(pid_of listen)" Uid)" "$(id -u daemon)"
}

@test "tproxy-listen ends, and says so, if the helper that starts commands has died" {
	listen "$RELAY_PORT" -- cat
	kill -KILL "$(helper_of listen tproxy-spawner)"
	run -3 wait_exit listen
	assert_line_in listen.err '^tproxy-listen: the process that starts commands has ended$'
}
