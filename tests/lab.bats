#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-lab itself: the documented addresses and paths, and that it leaves nothing behind.
#
#	client --- toclient proxy toserver --- server
#	                tobystander --- bystander

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	OUT=$BATS_TEST_TMPDIR
	export XDG_RUNTIME_DIR=$BATS_TEST_TMPDIR # a lab without a name of our own
	MARK=lab-test-$BATS_SUITE_TEST_NUMBER-$$  # in the environment of all that this test starts
	export TPROXY_LAB_TEST=$MARK
}

teardown() {
	tproxy-lab down
	tproxy-lab down --name other
	wait_until 10 nothing_left
}

# Processes that this test has started and that are not part of bats: none of them may be in a
# network namespace other than the machine's.
nothing_left() {
	local pid
	for pid in $(cd /proc && grep -lsFz "TPROXY_LAB_TEST=$MARK" [1-9]*/environ | cut -d/ -f1); do
		[[ ! -e /proc/$pid/ns/net || /proc/$pid/ns/net -ef /proc/self/ns/net ]] || return
	done
}

# in_lab COMMANDS: run a piece of bash on the proxy of a lab that is gone afterwards.
in_lab() {
	run tproxy-lab run -- bash -euc "$1"
}

# start SIGNALS_OF_RUN...: a lab in the background that would live for ever; sets GUARD. What a shell
# starts with & ignores SIGINT unless told otherwise.
start() {
	env --default-signal=INT,QUIT tproxy-lab run -- bash -c 'sleep infinity & echo ready; wait' \
		</dev/null >"$OUT/run.out" 2>"$OUT/run.err" 3>&- &
	GUARD=$!
}

@test "interfaces and addresses are those of the contract" {
	in_lab '
		for host in client proxy server bystander; do
			tproxy-lab exec $host ip -brief address | grep -v ^lo |
				sed -E "s/@[^ ]*//; s/ fe80:[^ ]*//; s/^/$host /" | tr -s " "
		done'
	assert_success
	assert_line --regexp '^client toproxy UP 192.0.2.2/24 192.0.2.10/24 .*192.0.2.30/24 2001:db8:1::2/64 '
	assert_line --regexp '^client toproxy .* 2001:db8:1::30/64 .*2001:db8:1::10/64'
	assert_line 'proxy toclient UP 192.0.2.1/24 2001:db8:1::1/64 '
	assert_line 'proxy toserver UP 198.51.100.1/24 2001:db8:2::1/64 '
	assert_line 'proxy tobystander UP 203.0.113.1/24 2001:db8:3::1/64 '
	assert_line 'server toproxy UP 198.51.100.2/24 2001:db8:2::2/64 '
	assert_line 'bystander toproxy UP 203.0.113.2/24 2001:db8:3::2/64 '
	assert_equal "${#lines[@]}" 6
}

@test "addresses can be used at once, loopback is up, nothing is inherited from the machine" {
	in_lab '
		for host in client proxy server bystander; do
			tproxy-lab exec $host bash -euc "
				! ip -6 address show tentative | grep .
				ip -brief link show lo | grep -q LOWER_UP
				cat /proc/sys/net/ipv4/conf/{all,default,to*}/{rp_filter,src_valid_mark,accept_local}" | sort -u
		done | sort -u
		cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding'
	assert_success
	assert_output $'0\n1\n1'
}

@test "the client reaches server and bystander in both families, through the proxy only" {
	in_lab '
		for host in server bystander; do
			tproxy-lab exec $host socat -u TCP6-LISTEN:80,ipv6only=0,fork,reuseaddr SYSTEM:true &
		done
		reach() { tproxy-lab exec client timeout 2 bash -c "exec 8<>/dev/tcp/$1/80" 2>/dev/null; }
		for address in 198.51.100.2 203.0.113.2 2001:db8:2::2 2001:db8:3::2; do
			for i in {1..100}; do reach $address && break; sleep 0.02; done
			reach $address && echo "reached $address"
		done
		nft "table inet cut { chain c { type filter hook forward priority 0; policy drop; }; }"
		for address in 198.51.100.2 203.0.113.2 2001:db8:2::2 2001:db8:3::2; do
			tproxy-lab exec client timeout 0.2 bash -c "exec 8<>/dev/tcp/$address/80" 2>/dev/null || echo "cut $address"
		done'
	assert_success
	assert_output "reached 198.51.100.2
reached 203.0.113.2
reached 2001:db8:2::2
reached 2001:db8:3::2
cut 198.51.100.2
cut 203.0.113.2
cut 2001:db8:2::2
cut 2001:db8:3::2"
}

@test "the client's main addresses are its sources, and the others can be" {
	in_lab '
		tproxy-lab exec client ip route get 198.51.100.2
		tproxy-lab exec client ip route get 2001:db8:2::2
		tproxy-lab exec client ip route get 192.0.2.1
		tproxy-lab exec client ip route get 2001:db8:1::1
		tproxy-lab exec client ip route get 2001:db8:2::2 from 2001:db8:1::17'
	assert_success
	assert_line --regexp '^198.51.100.2 via 192.0.2.1 .* src 192.0.2.2 '
	assert_line --regexp '^2001:db8:2::2 .*via 2001:db8:1::1 .* src 2001:db8:1::2 '
	assert_line --regexp '^192.0.2.1 dev toproxy src 192.0.2.2 '
	assert_line --regexp '^2001:db8:1::1 .*dev toproxy .*src 2001:db8:1::2 '
	assert_line --regexp '^2001:db8:2::2 from 2001:db8:1::17 via '
}

@test "the user is root in the lab: rules, routes, low ports and spoofed sources work" {
	in_lab '
		id -u
		nft add table inet t
		ip rule add fwmark 1 lookup 100
		ip route add local default dev lo table 100
		timeout 1 socat -u /dev/null TCP-LISTEN:1,ip-transparent,bind=198.51.100.77 || [[ $? == 124 ]]'
	assert_success
	assert_output 0
}

@test "as root there is no user namespace: other users work" {
	root_only "rootless, there is one user"
	run tproxy-lab run -- setpriv --reuid 65534 --regid 65534 --clear-groups id -u
	assert_success
	assert_output 65534
}

@test "run passes the status, the descriptors and the arguments" {
	run tproxy-lab run -- bash -c 'exit 7'
	assert_equal "$status" 7
	run tproxy-lab run -- bash -c 'kill -KILL $$'
	assert_equal "$status" 137
	assert_output ""
	run tproxy-lab run -- bash -c 'kill -TERM $$'
	assert_equal "$status" 143
	run --separate-stderr bash -c 'echo in | tproxy-lab run -- bash -c "cat; echo err >&2; printf \"<%s>\" \"\$@\"" x "a b" "" -n'
	assert_success
	assert_output $'in\n<a b><><-n>'
	assert_equal "$stderr" err
	run bash -c 'tproxy-lab run -- ls -1 /proc/self/fd | sort -n | tail -n 1; ls -1 /proc/self/fd | sort -n | tail -n 1'
	assert_equal "${lines[0]}" "${lines[1]}" # no descriptor of the lab is left open in the command
}

@test "a command that cannot be run is 127 or 126" {
	run -127 tproxy-lab run -- no-such-command
	assert_output "tproxy-lab: no-such-command: no such command"
	run tproxy-lab run -- /etc/passwd
	assert_equal "$status" 126
	assert_output "tproxy-lab: /etc/passwd: cannot be executed"
}

@test "everything in the lab ends with the command, daemons too" {
	run tproxy-lab run -- bash -c 'setsid sleep infinity & tproxy-lab exec server setsid sleep infinity &'
	assert_success
	nothing_left
}

@test "SIGTERM, SIGINT and SIGHUP go to the command, and nothing is left" {
	local signal number
	for signal in TERM:143 INT:130 HUP:129; do
		start
		wait_line "$OUT/run.out" ready
		kill -s "${signal%:*}" "$GUARD"
		number=0
		wait "$GUARD" || number=$?
		assert_equal "$number" "${signal#*:}"
		nothing_left
	done
}

@test "a command has time to clean up after SIGTERM, and its status counts" {
	tproxy-lab run -- bash -c 'trap "echo tidy; exit 9" TERM; echo ready; while :; do sleep 0.05; done' \
		</dev/null >"$OUT/run.out" 3>&- &
	wait_line "$OUT/run.out" ready
	kill -TERM $!
	wait $! || number=$?
	assert_equal "$number" 9
	assert_line_in "$OUT/run.out" tidy
}

@test "a command that ignores SIGTERM is killed" {
	tproxy-lab run -- bash -c 'trap "" TERM; echo ready; while :; do sleep 1; done' \
		</dev/null >"$OUT/run.out" 2>"$OUT/run.err" 3>&- &
	wait_line "$OUT/run.out" ready
	kill -TERM $!
	wait $! || number=$?
	assert_equal "$number" 143
	assert_equal "$(cat "$OUT/run.err")" ""
	nothing_left
}

@test "SIGKILL of run, at any moment, leaves nothing" {
	local delay
	for delay in 0.00 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.1; do
		start
		sleep "$delay" # the moment is the point
		kill -KILL "$GUARD"
		wait "$GUARD" || :
		wait_until 5 nothing_left
	done
}

@test "SIGTERM to run, at any moment, leaves nothing" {
	local delay
	for delay in 0.00 0.01 0.02 0.03 0.04 0.05 0.06 0.08 0.1; do
		start
		sleep "$delay" # the moment is the point
		kill -TERM "$GUARD"
		wait "$GUARD" || number=$?
		assert_equal "$number" 143
		wait_until 5 nothing_left
	done
}

@test "labs live side by side and inside each other" {
	start
	first=$GUARD
	wait_line "$OUT/run.out" ready
	run tproxy-lab run -- tproxy-lab run -- tproxy-lab exec client ip -brief -4 address show toproxy
	assert_success
	assert_output --partial 192.0.2.2/24
	kill -TERM "$first"
	wait "$first" || :
}

@test "up, status, exec, down" {
	run tproxy-lab status
	assert_failure 1
	assert_output "tproxy-lab: status: no lab is up"
	run tproxy-lab exec client true
	assert_failure 125
	assert_output "tproxy-lab: exec: no lab is up; 'tproxy-lab up' makes one"
	run tproxy-lab down
	assert_success
	assert_output ""

	run tproxy-lab up
	assert_success
	run tproxy-lab up
	assert_success
	assert_output --regexp '^tproxy-lab: up: is up already \(pid [0-9]+\)$'
	run tproxy-lab up --name other --quiet
	assert_success
	assert_output ""

	run tproxy-lab status
	assert_success
	assert_line --regexp '^HOST +PID +INTERFACE +ADDRESSES$'
	assert_line --regexp '^client +[0-9]+ +toproxy +192.0.2.2/24,2001:db8:1::2/64,\+42$'
	assert_line --regexp '^proxy +[0-9]+ +tobystander +203.0.113.1/24,2001:db8:3::1/64$'
	run tproxy-lab status --no-header --verbose
	assert_equal "${#lines[@]}" 6
	assert_line --regexp '^client .*,2001:db8:1::17/64,'
	pid=$(awk '$1 == "server" { print $2 }' <<<"$output")
	[[ ! /proc/$pid/ns/net -ef /proc/self/ns/net ]]

	tproxy-lab exec proxy nft add table inet mine
	run tproxy-lab exec proxy nft list tables
	assert_output "table inet mine"
	run tproxy-lab exec --name other proxy nft list tables
	assert_output ""
	run tproxy-lab exec client bash -c 'exit 9'
	assert_failure 9
	run bash -c 'echo through | tproxy-lab exec server cat'
	assert_output through

	tproxy-lab exec server setsid --fork sleep infinity
	run tproxy-lab down
	assert_success
	nothing_left_but_other() { ! tproxy-lab status -q && tproxy-lab status -q --name other >/dev/null; }
	nothing_left_but_other
	tproxy-lab down --name other
	nothing_left
	run ls -A "$XDG_RUNTIME_DIR"
	refute_output --partial tproxy-lab
}

@test "the guard of a lab that is up is killed: up makes a new lab" {
	tproxy-lab up -q
	read -r guard _ <"$XDG_RUNTIME_DIR/tproxy-lab-$UID"
	kill -KILL "$guard"
	wait_until 5 nothing_left
	run tproxy-lab status
	assert_failure 1
	run tproxy-lab up -q
	assert_success
	run tproxy-lab exec client true
	assert_success
}

@test "up --foreground stays, prints the pids, and ends with a signal" {
	tproxy-lab up --foreground </dev/null >"$OUT/up.out" 2>"$OUT/up.err" 3>&- &
	wait_line "$OUT/up.out" '^up client=[0-9]+ proxy=[0-9]+ server=[0-9]+ bystander=[0-9]+$'
	run tproxy-lab exec bystander ip -brief -4 address show toproxy
	assert_output --partial 203.0.113.2/24
	kill -TERM $!
	wait $!
	nothing_left
	[[ ! -e $XDG_RUNTIME_DIR/tproxy-lab-$UID ]]
}

@test "two 'up' at the same moment make one lab" {
	tproxy-lab up -q 3>&- &
	first=$!
	tproxy-lab up -q 3>&- &
	second=$!
	wait "$first" && wait "$second"
	run tproxy-lab exec client true
	assert_success
	tproxy-lab down
	wait_until 5 nothing_left
}

@test "another user's state file is not trusted" {
	ln -s /etc/passwd "$XDG_RUNTIME_DIR/tproxy-lab-$UID"
	run tproxy-lab up
	assert_failure 3
	assert_output "tproxy-lab: $XDG_RUNTIME_DIR/tproxy-lab-$UID: not a file of this user; remove it"
	run tproxy-lab exec client true
	assert_failure 125
	rm "$XDG_RUNTIME_DIR/tproxy-lab-$UID"
}

@test "bad usage is 2 and names the word" {
	while IFS='|' read -r words message; do
		# shellcheck disable=SC2086
		run tproxy-lab $words
		assert_equal "$status" 2
		assert_output "tproxy-lab: $message; see 'tproxy-lab --help'"
	done <<-'END'
		--nonsense|--nonsense: no such option
		|a command is missing: run, up, exec, down or status
		start|start: no such command; there are run, up, exec, down and status
		up now|up: now: takes no operand
		up --name|--name: a name is missing
		up --name a/b|--name a/b: letters, digits, '.', '_' and '-' make a name
		run --name a -- true|run: --name: a lab of its own needs no name
		exec|exec: HOST and COMMAND are needed
		exec client|exec: HOST and COMMAND are needed
		exec router true|exec: router: no such host; there are client proxy server bystander
	END
}

# at_shell SHELL: type into the lab's shell, with a PATH that few users have less than. Ends with 3.
at_shell() {
	local lab
	lab=$(type -P tproxy-lab)
	printf '%s\n' 'PROMPT="mine # "' 'export PROBE=zshrc' >"$OUT/.zshrc"
	printf '%s\n' 'PS1="mine # "' >"$OUT/.bashrc"
	printf '%s\n' '? client 192\.0\.2\.2  server' '? \(lab\) ' '> tproxy-setup --version' \
		'? tproxy-tools' '> exit 3' . >"$OUT/typed"
	run env -i HOME="$OUT" TERM=dumb PATH=/usr/bin:/bin SHELL="$1" "${@:2}" TERMINAL_TIMEOUT=$((20 * TIME_SCALE)) \
		"$TOP/tests/lib/terminal" "$lab" run <"$OUT/typed"
	# As it ends, dash gives the terminal back to a process group that it cannot name in there.
	[[ $1 == */dash ]] || assert_equal "$status" 3
}

@test "its shell names the lab in its prompt, after the user's own, and finds the programs" {
	local shell
	for shell in bash zsh; do
		at_shell /usr/bin/$shell
		assert_output --partial '(lab) mine # '
	done
	at_shell /usr/bin/zsh ZDOTDIR="$OUT"
	assert_output --partial '(lab) mine # '
	at_shell /usr/bin/fish
	at_shell /bin/dash
	# Nothing for a script.
	run env SHELL=/bin/bash tproxy-lab run <<<'echo "$PS1"'
	assert_success
	assert_output ''
	[[ -z $(find /tmp -maxdepth 1 -name 'tmp.*' -user "$(id -u)" -newer "$OUT/typed" -exec test -e {}/.zshrc \; -print) ]]
}

@test "without ip(8) it reports what is missing" {
	mkdir "$OUT/bin"
	for tool in bash unshare nsenter setpriv mount; do
		ln -s "$(type -P "$tool")" "$OUT/bin"
	done
	sed 's,|| find_programs$,|| :,' "$(type -P tproxy-lab)" >"$OUT/lab"
	PATH=$OUT/bin run bash "$OUT/lab" run -- true
	assert_equal "$status" 125
	assert_output "tproxy-lab: ip: not found; it is in the package iproute2"
}
