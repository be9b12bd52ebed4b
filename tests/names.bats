#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # commands that must not run
#
# Hostile names of processes, interfaces, chains and arguments. In a printed command each stays one
# word, and a terminal only shows it.
#
#   client 192.0.2.2 --- proxy, with hostile names --- server 198.51.100.2

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	lab_up
	# What would be run, if it were.
	HOSTILE="x;touch $OUT/H"
	TERMINAL=$'a\e[31m\xc2\x9bm\xff\n'
}

teardown() {
	[[ ! -e $OUT/H ]] || fail "$OUT/H: a name was run"
	lab_down
}

# named NAME LISTENER...: a program that is called so listens there, and is not transparent.
named() {
	local name=$1
	shift
	bg named proxy /usr/bin/python3 -c '
import os, socket, sys, time
with open("/proc/self/comm", "wb", buffering=0) as comm:
    comm.write(os.fsencode(sys.argv[1])[:15])
held = []
for address in sys.argv[2:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((address, 3129))
    s.listen()
    held.append(s)
print("ready", flush=True)
time.sleep(1000)' "$name" "$@"
	wait_line named.out ready
}

# interface NAME: the proxy has one more that is called so.
interface() {
	on proxy ip link add name "$1" type veth peer name peer
	on proxy ip link set dev "$1" up
}

# harmless: what is on standard input may be sent to a terminal, and is text.
harmless() {
	/usr/bin/python3 -c '
import sys, unicodedata
for line in sys.stdin.buffer.read().decode().split("\n"):
    for c in line:
        if unicodedata.category(c) in ("Cc", "Cf"):
            sys.exit(f"{c!r} in {line!r}")'
}

# fixes: run every command that the doctor prints, as root does that pipes them to sh.
fixes() {
	local fix
	on proxy tproxy-setup doctor -q --json >"$OUT/findings" || :
	while IFS= read -r fix; do
		echo "fix: $fix" >&2
		(cd "$OUT" && on proxy timeout --foreground 5 sh -c "$fix") >/dev/null 2>&1 || :
	done < <(jq -r '.fix // empty' "$OUT/findings")
}

@test "doctor: no process name gets into a command, and none controls the terminal" {
	local name
	for name in "$HOSTILE" '$(touch H)' "';touch H;'" "$TERMINAL" reboot; do
		named "$name" 127.0.0.1 ::1
		on proxy tproxy-setup up -q --to 3129 --port 80
		fixes
		assert [ -s "$OUT/findings" ]
		# The listener's: other findings have commands.
		run jq -r 'select(.check == "listener-group") | .fix // empty' "$OUT/findings"
		refute_output
		on proxy tproxy-setup doctor -v >"$OUT/text" 2>&1 || :
		harmless <"$OUT/text"
		harmless <"$OUT/findings"
		stop named KILL || :
		on proxy tproxy-setup down -q
	done
	# The control is a name with nothing in it.
	assert_line_in text 'reboot \(pid [0-9]+\), one of 1 listeners at'
}

@test "every table, message and JSON record shows hostile names without sending them to the terminal" {
	local program name=$TERMINAL
	named "$name" 127.0.0.1 ::1
	interface $'b\e[7m'
	for program in 'tproxy-inspect sockets -a -o +prog,pid' 'tproxy-inspect sockets -a --json' 'tproxy-relay 3129' \
		'tproxy-listen 3129' 'tproxy-relay --takeover 3129' 'tproxy-setup status --to 3129 --port 80' \
		'tproxy-setup doctor --to 3129 --port 80' 'tproxy-setup doctor --to 3129 --port 80 --json' \
		'tproxy-inspect explain 192.0.2.2:4000 198.51.100.2:80' "tproxy-inspect fd $(pid_of named):3"; do
		# shellcheck disable=SC2086 # words
		on proxy timeout --foreground 10 $program >"$OUT/said" 2>&1 || :
		assert [ -s "$OUT/said" ]
		harmless <"$OUT/said"
	done
	# It is there, as four digits for each byte that may not be shown.
	run on proxy tproxy-relay 3129
	assert_output --partial 'a\033[31m\302\233m\377\012 (pid'
	run on proxy tproxy-inspect sockets -aH -o prog --local 127.0.0.1:3129
	assert_output 'a\033[31m\302\233m\377\012'
	run on proxy tproxy-inspect sockets -a --json --local 127.0.0.1:3129
	assert_output --partial '"prog":"a\u001b[31m\u009bm\ufffd\u000a"'
}

@test "errors about an argument show it sanitised" {
	local program
	for program in tproxy-setup tproxy-listen tproxy-relay tproxy-inspect tproxy-lab; do
		for argument in "$TERMINAL" "--$TERMINAL" "--port=$TERMINAL" "--user=$TERMINAL" "-o$TERMINAL" \
			"--control=$TERMINAL" "--netns=$TERMINAL" "--name=$TERMINAL" "--iif=$TERMINAL"; do
			run "$program" "$argument"
			assert_failure
			assert_output
			harmless <<<"$output"
		done
	done
	run -2 tproxy-setup up --to 3129 --port $'\e[2J'
	assert_output --partial '--port \033[2J:'
	run -127 tproxy-listen 3129 -- $'./no\e[2J'
	assert_output --partial './no\033[2J:'
}

@test "plan: the name of an interface stays one word for sh and nft" {
	local name="x';id;'\$H"
	interface "$name"
	plan() { on proxy tproxy-setup plan -q --to 3129 --port 80 --iif "$name" --iif 'eth*' --format "$1"; }
	plan nft >"$OUT/nft"
	plan iptables >"$OUT/iptables"
	on proxy nft -f "$OUT/nft"
	run on proxy nft list table inet tproxy_default
	assert_output --partial "iifname \"$name\" goto take"
	on proxy nft delete table inet tproxy_default
	run -0 on proxy sh "$OUT/iptables"
	refute_output
	run on proxy iptables -t mangle -S tproxy_default
	assert_line --partial "-i $name -g tproxy_default_port"
	assert_line --partial '-i eth+ -g tproxy_default_port'
	# What cannot be written so is refused.
	run -2 on proxy tproxy-setup plan --to 3129 --port 80 --iif eth+ --format iptables
	assert_output --partial 'a name that ends with + is a wildcard there'
}

@test "the command that status prints names the same interface" {
	local name="x';id;'\$H" line
	interface "$name"
	on proxy tproxy-setup up -q --to 3129 --port 80 --iif "$name"
	on proxy ip -4 rule del pref 100
	run -1 on proxy tproxy-setup status
	line=$(grep -o 'tproxy-setup up .*' <<<"$output")
	(cd "$OUT" && on proxy sh -c "$line -q")
	run -0 on proxy "$TOP/tests/lib/intact" --to 3129 --port 80 --iif "$name"
	refute [ -e "$OUT/H" ]
}

# parsed UNIT: the command lines that systemd reads in it, one a line.
parsed() {
	mkdir -p "$OUT/units" "$OUT/run"
	cp "$1" "$OUT/units/tried.service"
	printf '[Unit]\nWants=tried.service\n' >"$OUT/units/default.target"
	env -i HOME="$OUT" PATH="$PATH" XDG_RUNTIME_DIR="$OUT/run" SYSTEMD_LOG_TARGET=console \
		SYSTEMD_UNIT_PATH="$OUT/units" unshare --user --map-user=1000 timeout 20 \
		/usr/lib/systemd/systemd --user --test 2>/dev/null |
		sed -n 's/^[[:blank:]]*Command Line: //p'
}

@test "plan --format systemd: systemd reads the words that were given" {
	local name="x';\$H;'"
	setup_unit() { tproxy-setup plan -q --to 3129 --port 80 --iif "$name" --format systemd "$@" >"$OUT/unit"; }
	setup_unit -- /usr/bin/printf '%s|' 'a b' $'n\nExecStartPre=/bin/false' '$HOME' "q'\"\\" ';' bücher ''
	run parsed "$OUT/unit"
	# systemd writes what it has read in quotes as a shell has them, $ as \$; $$ becomes $ when it runs it.
	assert_output "$TPROXY_BIN/tproxy-setup run --to 3129 --iif \"x';\\\$\\\$H;'\" --port 80 -- /usr/bin/printf \"%s|\" \"a b\" \"n\\nExecStartPre=/bin/false\" \"\\\$\\\$HOME\" \"q'\\\"\\\\\" \";\" bücher \"\""
	setup_unit
	run parsed "$OUT/unit"
	assert_line --index 0 "$TPROXY_BIN/tproxy-setup up --to 3129 --iif \"x';\\\$\\\$H;'\" --port 80"
	assert_line --index 1 "$TPROXY_BIN/tproxy-setup up --to 3129 --iif \"x';\\\$\\\$H;'\" --port 80"
	assert_line --index 2 "$TPROXY_BIN/tproxy-setup down --name default --drain 30s"
}

@test "doctor: a fix that names a chain of others names that chain and runs nothing" {
	on proxy tproxy-setup up -q --to 3129 --port 80
	on proxy iptables -N 'a;touch${IFS}H'
	on proxy iptables -A 'a;touch${IFS}H' -j DROP
	on proxy iptables -I INPUT -p tcp -j 'a;touch${IFS}H'
	on proxy iptables -t mangle -N "t';touch\${IFS}H;'"
	on proxy iptables -t mangle -A "t';touch\${IFS}H;'" -p tcp --dport 80 -j TPROXY --on-port 3130 --tproxy-mark 0x40/0x40
	on proxy iptables -t mangle -A PREROUTING -j "t';touch\${IFS}H;'"
	# A table has the commands as they are, to be copied.
	run on proxy tproxy-setup doctor -q -H -o check,fix
	assert_output --partial "iptables-nft -t mangle -R 't'\\'';touch\${IFS}H;'\\''' 1 "
	fixes
	run jq -r '.fix // empty' "$OUT/findings"
	assert_output --partial "iptables-nft -t mangle -R 't'\\'';touch\${IFS}H;'\\''' 1 "
	run on proxy iptables -t mangle -S "t';touch\${IFS}H;'"
	assert_line "-N t';touch\${IFS}H;'"
	refute_output --partial TPROXY # in its place is a rule that does nothing
}

@test "interfaces may have any name that the kernel allows, except those that nft cannot quote" {
	on proxy ip link add name old type veth peer name peer
	# The kernel's answer for each byte between an a and a z: 1 or 0.
	on proxy /usr/bin/python3 -c '
import fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
now = b"old"
for byte in range(1, 256):
    new = b"a" + bytes([byte]) + b"z"
    try:
        fcntl.ioctl(s, 0x8923, struct.pack("16s16s", now, new)) # SIOCSIFNAME
        now = new
        print(byte, 1)
    except OSError:
        print(byte, 0)' >"$OUT/kernel"
	local byte allowed name differs=''
	while read -r byte allowed; do
		# shellcheck disable=SC2059
		name=a$(printf "\\x$(printf %x "$byte").")
		name=${name%.}z
		! tproxy-setup plan -q --to 3129 --port 80 --iif "$name" >"$OUT/plan" 2>"$OUT/said" || allowed=$((!allowed))
		((!allowed)) || differs+=" $byte"
		harmless <"$OUT/said"
	done <"$OUT/kernel"
	# Control characters, the quote, the comma (a list?), * (a pattern, and not in the middle), the
	# backslash, and bytes that are no UTF-8; of these 0xa0 the kernel takes for a blank.
	assert_equal "$differs" "$(printf ' %s' {1..8} {14..31} 34 42 44 92 {127..159} {161..255})"
	for name in . .. '' 'a b' a/b a:b a%d 0123456789abcdef; do
		run -2 tproxy-setup plan --to 3129 --port 80 --iif "$name"
		assert_output --partial 'no interface can be called that'
	done
	tproxy-setup plan -q --to 3129 --port 80 --iif bücher --iif 'z;*' >"$OUT/plan"
}
