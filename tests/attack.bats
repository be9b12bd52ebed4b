#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What an attacker could do who has taken over a service or one of its helpers:
# tests/attack/attack.c tries it from inside, once the sandbox is up.
#
#   client 192.0.2.2 --- proxy: 80 to 3129 --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/relay

ATTACK=$TPROXY_BIN/attack

setup() {
	lab_up
	chmod 711 "$BATS_RUN_TMPDIR" "${BATS_TEST_TMPDIR%/*}" "$BATS_TEST_TMPDIR" "$OUT"
	# What is attacked: files, local sockets and a process of who started the service.
	PREY=$OUT/prey
	mkdir -m 755 "$PREY"
	echo kept >"$PREY/precious"
	bg victim proxy sleep infinity
	bg prey proxy python3 -c 'if True:
		import os, signal, socket, sys
		os.umask(0o177)
		held = []
		for name, kind in ("socket", socket.SOCK_STREAM), ("datagrams", socket.SOCK_DGRAM):
			s = socket.socket(socket.AF_UNIX, kind)
			s.bind(sys.argv[1] + "/" + name)
			held.append(s)
		signal.pause()' "$PREY"
	wait_until 10 test -S "$PREY/datagrams"
	export TPROXY_ATTACK=$PREY TPROXY_VICTIM
	TPROXY_VICTIM=$(pid_of victim)
}

teardown() { lab_down; }

# outcomes PROCESS: `ACT RESULT` lines of what was tried in that process of `attacked`.
outcomes() {
	sed -n "s/^attack $1 //p" "$OUT/attacked.err" | sort -u
}

# outcome RESULT ACT...
outcome() { printf "%s $1\n" "${@:2}"; }

# The outcomes of each kind of process, by act. Calls that nobody makes, and files that nobody opens.
never() {
	outcome SIGSYS bpf exec fork io-uring listen local-pair make-setuid mount namespace read-memory become-root signal \
		take-descriptor trace
	outcome EPERM map-code signal-to-thread
}
no_files() {
	outcome EACCES open-shadow open-own-memory plant-file
	outcome SIGSYS remove-file rename-file
}

# What has sockets has none but its own kinds, and sets nothing else.
sockets() {
	outcome EPERM local-socket route-by-new-socket iptables packet-socket raw-socket interface terminal
}
no_sockets() {
	outcome SIGSYS local-socket local-open-socket route-by-open-socket route-by-new-socket iptables packet-socket \
		raw-socket interface terminal signal-by-owner
}

# held PROCESS <EXPECTED: each act ended so; else the process' rights are shown.
held() {
	local expected
	expected=$(sort -u)
	wait_line attacked.err "^attack $1 io-uring " # the last one
	[[ $(outcomes "$1") != "$expected" ]] || return 0
	grep -hE '^(Name|Uid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/[0-9]*/status 2>/dev/null |
		awk -v name="$1" '$1 == "Name:" { on = $2 == name } on'
	diff <(echo "$expected") <(outcomes "$1")
	fail "$1: not every act was prevented as it should be"
}

# Nothing has happened.
unharmed() {
	kill -0 "$TPROXY_VICTIM"
	assert_equal "$(cat "$PREY/precious")" kept
	assert_file_not_exist "$PREY/planted"
	run on proxy ip -4 route show table all 192.88.99.1
	assert_output ""
	run -0 on proxy ip link show lo
	assert_output --partial ,UP,
}

held_by_relay() {
	{ never && no_files && sockets && outcome none local-open-socket &&
		outcome EPERM route-by-open-socket signal-by-owner; } | held tproxy-relay
}
held_by_listen() {
	{ never && no_files && sockets && outcome none local-open-socket route-by-open-socket &&
		outcome SIGSYS signal-by-owner; } | held tproxy-listen
}
held_by_helper() { { never && no_files && no_sockets; } | held "$1"; }

@test "a compromised relay can do nothing but its work: TCP, UDP, every kind of source" {
	intercept 80
	start_nginx
	local options
	for options in '--source client' '-tu --source client-addr' '--source own --upstream-mark 0' '--threads 2'; do
		bg attacked proxy "$ATTACK/tproxy-relay" $options "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		if [[ $options == *own* ]]; then
			{ never && no_files && sockets && outcome none local-open-socket route-by-open-socket &&
				outcome EPERM signal-by-owner; } | held tproxy-relay
		else
			held_by_relay
		fi
		[[ $options != '--source client' ]] || held_by_helper tproxy-timewait
		held_by_helper tproxy-nat
		run -0 on client curl -sS --max-time 10 "http://$V4/who"
		run -0 stop attacked
		unharmed
	done
}

@test "a compromised tproxy-listen can do nothing but its work" {
	local options
	for options in '' '-tu --echo'; do
		bg attacked proxy "$ATTACK/tproxy-listen" $options "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		held_by_listen
		[[ ! $options ]] || held_by_helper tproxy-origdst
		stop attacked
		unharmed
	done
	bg attacked proxy "$ATTACK/tproxy-listen" "$RELAY_PORT" -- cat
	wait_listen proxy "$RELAY_PORT"
	held_by_listen
	stop attacked
	unharmed
}

@test "with the rights of the packaged unit, too, a compromised program can do nothing but its work" {
	root_only "units are started by root"
	local program options
	for program in relay listen; do
		for options in '' -u; do
			on proxy tproxy-setup plan -q --format systemd --to 3129 --port 80 $options -- \
				"$ATTACK/tproxy-$program" $options 3129 >"$OUT/attacked.service"
			bg attacked proxy "$TOP/tests/lib/as-unit" "$OUT/attacked.service"
			wait_until 20 eval 'grep -q started "$OUT/attacked.out"'
			{ never && no_files && sockets && outcome EACCES local-open-socket &&
				case $program in
				relay) outcome EPERM route-by-open-socket ;;
				*) outcome none route-by-open-socket ;;
				esac &&
				case $program$options in # by a pipe, which bulk TCP alone needs
				relay) outcome EPERM signal-by-owner ;;
				*) outcome SIGSYS signal-by-owner ;;
				esac; } | held "tproxy-$program"
			stop attacked
			unharmed
		done
	done
}

# ---------------------------------------------------------------- files, and each layer alone

# The kernel's Landlock, at least of Linux 6.12; where it lacks there is less to hold.
has_landlock() { tproxy-relay --version | grep -q 'signals.*Landlock'; }

@test "a file helper, even as root, can access its directory and no other" {
	has_landlock || skip "this kernel has no Landlock"
	intercept 80
	start_nginx
	mkdir "$OUT/own"
	bg attacked proxy "$ATTACK/tproxy-relay" --control "$OUT/own/control" --metrics-file "$OUT/own/relay.prom" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	{ never && no_sockets && outcome EPERM open-shadow open-own-memory &&
		outcome EACCES plant-file remove-file rename-file; } | held tproxy-file
	held_by_relay
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	wait_line "$OUT/own/relay.prom" EOF
	run -0 stop attacked
	assert_file_not_exist "$OUT/own/control"
	unharmed
}

@test "files, signals and programs are out of reach even without the system call filter" {
	has_landlock || skip "this kernel has no Landlock"
	local program
	for program in relay listen; do
		bg attacked proxy env TPROXY_ATTACK_BARE=tproxy-$program "$ATTACK/tproxy-$program" "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		wait_line attacked.err "^attack tproxy-$program io-uring "
		run outcomes "tproxy-$program"
		for line in open-shadow open-own-memory plant-file remove-file rename-file exec; do
			assert_line "$line EACCES"
		done
		for line in signal signal-to-thread trace take-descriptor read-memory mount iptables route-by-new-socket interface; do
			assert_line "$line EPERM"
		done
		((EUID)) || assert_line 'become-root EPERM'
		((EUID)) || assert_line 'local-socket EACCES'
		stop attacked
		unharmed
	done
}

# Whether it makes a mount namespace then.
hides_files() { on proxy "$TOP/tests/lib/without-landlock" tproxy-relay --version | grep -q namespace; }

@test "without Landlock an empty mount namespace hides files, even without the system call filter" {
	local old=$TOP/tests/lib/without-landlock program line
	hides_files || skip "a sanitizer build needs files"
	for program in relay listen; do
		bg attacked proxy env TPROXY_ATTACK_BARE=tproxy-$program "$old" "$ATTACK/tproxy-$program" "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		wait_line attacked.err "^attack tproxy-$program io-uring "
		run outcomes "tproxy-$program"
		for line in open-shadow plant-file remove-file rename-file exec; do
			assert_line "$line ENOENT"
		done
		stop attacked
		assert_equal "$(cat "$PREY/precious")" kept
		# Nothing keeps signals from processes of the same user here.
		((EUID)) || unharmed
	done
	# A file helper has its directory as its root, and cannot leave it.
	intercept 80
	start_nginx
	mkdir -m 777 "$OUT/own"
	bg attacked proxy env TPROXY_ATTACK_BARE=tproxy-file "$old" "$ATTACK/tproxy-relay" \
		--metrics-file "$OUT/own/relay.prom" "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	wait_line attacked.err "^attack tproxy-file io-uring "
	run outcomes tproxy-file
	for line in open-shadow plant-file remove-file rename-file exec; do
		assert_line "$line ENOENT"
	done
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	wait_line own/relay.prom EOF
	run -0 grep CapEff "/proc/$(pid_of attacked)/status"
	assert_output --regexp '0000000000002400$'
	stop attacked
	((EUID)) || unharmed
}

@test "-v and --version report a kernel without Landlock, and the rest of the sandbox holds" {
	local old=$TOP/tests/lib/without-landlock
	local poor=() files=', files \(mount namespace\)'
	((EUID)) || poor=(setpriv --inh-caps=-all --bounding-set=-sys_admin)
	hides_files || files=
	run -0 "${poor[@]}" "$old" tproxy-listen --version
	assert_line 'sandbox: system calls (seccomp); no Landlock here'
	intercept 80
	start_nginx
	bg attacked proxy "$old" "$ATTACK/tproxy-relay" -v "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	held_by_relay
	wait_line attacked.err "sandbox: system calls \\(seccomp\\)$files; no Landlock here\$"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop attacked
	bg listen proxy tproxy-listen -v "$RELAY_PORT"
	wait_line listen.err 'sandbox: system calls'
	stop listen
	bg relay proxy tproxy-relay -v --no-sandbox "$RELAY_PORT"
	wait_line relay.err 'sandbox: none$'
	stop relay
	unharmed
}
