#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup: {forwarded, local} x {IPv4, IPv6} x {TCP, UDP} x {target, bystander}.
#
#   client --- proxy (listener, and clients of its own) --- server
#                |
#            bystander
#
# Everybody writes down what reaches him: a word that a client sends is in the file of the listener
# (taken) or of the server (passed).

bats_require_minimum_version 1.5.0
load lib/lab

S4=198.51.100.2 S6='[2001:db8:2::2]'
B4=203.0.113.2 B6='[2001:db8:3::2]'

setup() {
	lab_up
}

teardown() {
	lab_down
	[[ ! ${GROUP-} ]] || groups_down
}

# Processes of the lab are gone by now, so the groups are empty.
groups_down() {
	unshare --mount sh -c 'mount -t cgroup2 none /sys/fs/cgroup && cd /sys/fs/cgroup &&
		rmdir "$1/inner" "$1" "$1.other"' sh "$GROUP"
}

# receiver NAME HOST SOCAT-ADDRESS: writes what it hears into NAME.out
receiver() {
	bg "$1" "$2" socat -u "$3,reuseaddr,fork" OPEN:"$OUT/$1.heard",creat,append
}

start_listener() {
	receiver taken-t4 proxy TCP4-LISTEN:3129,bind=127.0.0.1,ip-transparent
	receiver taken-t6 proxy TCP6-LISTEN:3129,bind=[::1],ip-transparent
	bg taken-u4 proxy socat -u UDP4-RECV:3129,bind=127.0.0.1,ip-transparent OPEN:"$OUT/taken-u4.heard",creat,append
	bg taken-u6 proxy socat -u UDP6-RECV:3129,bind=[::1],ip-transparent OPEN:"$OUT/taken-u6.heard",creat,append
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
	wait_listen proxy 127.0.0.1:3129 udp
	wait_listen proxy '[::1]:3129' udp
}

start_servers() {
	local host
	for host in server bystander; do
		receiver passed-$host-t4 $host TCP4-LISTEN:80
		receiver passed-$host-t6 $host TCP6-LISTEN:80,ipv6-v6only
		bg passed-$host-u4 $host socat -u UDP4-RECV:80 OPEN:"$OUT/passed-$host-u4.heard",creat,append
		bg passed-$host-u6 $host socat -u UDP6-RECV:80,ipv6-v6only OPEN:"$OUT/passed-$host-u6.heard",creat,append
		wait_listen $host 0.0.0.0:80
		wait_listen $host '[::]:80'
		wait_listen $host 0.0.0.0:80 udp
		wait_listen $host '[::]:80' udp
	done
}

# send HOST PROTOCOL ADDRESS WORD [SETPRIV-OPTION...]
send() {
	local host=$1 protocol=$2 to=$3 word=$4
	shift 4
	on "$host" setpriv "$@" -- timeout --foreground 30 \
		bash -c 'echo "$2" | socat -u - "$0:$1:80"' "$protocol" "$to" "$word" 2>/dev/null || :
}

heard_by() {
	local file
	for file in "$OUT/$1"*.heard; do
		[[ -e $file ]] && grep -qx "$2" "$file" && return
	done
	return 1
}

# goes HOST PROTOCOL ADDRESS taken|passed [SETPRIV-OPTION...]
goes() {
	COUNT=$((COUNT + 1))
	WORD=word$COUNT
	send "$1" "$2" "$3" "$WORD" "${@:5}"
	poll 10 heard_by "$4" "$WORD" || fail "$1 -> $2 $3 ${*:5}: not $4 ($(grep -lx "$WORD" "$OUT"/*.heard))"
}
COUNT=0

@test "forwarded: TCP only, UDP only, both; in both families; the bystander is never taken" {
	start_listener
	start_servers
	for protocols in -t -u "-t -u"; do
		on proxy tproxy-setup up -q --to 3129 --port 80 $protocols --src 192.0.2.0/24,2001:db8:1::/48
		for to in $S4 $S6; do
			[[ $protocols == *-t* ]] && tcp=taken || tcp=passed
			[[ $protocols == *-u* ]] && udp=taken || udp=passed
			goes client TCP $to $tcp
			goes client UDP $to $udp
			goes bystander TCP $to passed
			goes bystander UDP $to passed
			goes proxy TCP $to passed
			goes proxy UDP $to passed
		done
	done
}

@test "--local: the proxy's own connections, to targets and not to bystanders" {
	start_listener
	start_servers
	for protocols in -t -u "-t -u"; do
		on proxy tproxy-setup up -q --to 3129 --local --port 80 $protocols --dst 198.51.100.0/24,2001:db8:2::/48
		[[ $protocols == *-t* ]] && tcp=taken || tcp=passed
		[[ $protocols == *-u* ]] && udp=taken || udp=passed
		for to in $S4 $S6; do
			goes proxy TCP $to $tcp
			goes proxy UDP $to $udp
			goes client TCP $to $tcp
			goes client UDP $to $udp
		done
		for to in $B4 $B6; do
			goes proxy TCP $to passed
			goes proxy UDP $to passed
		done
	done
	on proxy tproxy-setup down
	goes proxy TCP $S4 passed
}

# Conversations, by who answers: for TCP a command for each connection, for UDP a connected socket for
# each flow, to which divert must lead all but the first datagram. Servers answer with `passed`.
start_conversations() {
	local host
	bg taken-tcp proxy tproxy-listen 3129 -- sh -c 'n=0; while read -r word; do echo $((n += 1)) flow; done'
	bg taken-udp proxy "$TOP/tests/lib/flows" 3129
	wait_listen proxy '[::1]:3129'
	wait_listen proxy '[::1]:3129' udp
	for host in server bystander; do
		bg passed-$host $host tproxy-listen -t -u --redirect --allow-direct '*:80' -- \
			python3 -c 'import socket; s = socket.socket(fileno=0)
while s.recv(100): s.send(b"passed")'
		wait_listen $host '[::]:80' udp
	done
}

# converses HOST PROTOCOL ADDRESS taken|passed: three words and their answers. A connected socket hears
# nobody but the address and port that it sent to.
converses() {
	local expected=$'1 flow\n2 flow\n3 flow'
	[[ $2 == TCP ]] || expected=${expected/flow/listener}
	[[ $4 == taken ]] || expected=$'passed\npassed\npassed'
	run on "$1" timeout --foreground 60 python3 -c '
import socket, sys
host = sys.argv[2].strip("[]")
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET,
                  socket.SOCK_DGRAM if sys.argv[1] == "UDP" else socket.SOCK_STREAM)
s.settimeout(20)
s.connect((host, 80))
for n in range(3):
    s.send(b"word\n")
    print(s.recv(100).decode().strip())' "$2" "$3"
	assert_output "$expected" || fail "$*"
}

@test "conversations, forwarded: each has a connected socket, the bystander's are not taken" {
	start_conversations
	on proxy tproxy-setup up -q --to 3129 --port 80 -t -u --src 192.0.2.0/24,2001:db8:1::/48
	for to in $S4 $S6; do
		for protocol in TCP UDP; do
			converses client $protocol $to taken
			converses bystander $protocol $to passed
		done
	done
}

@test "conversations, local: each has a connected socket, those with the bystander are not taken" {
	start_conversations
	on proxy tproxy-setup up -q --to 3129 --local --port 80 -t -u --dst 198.51.100.0/24,2001:db8:2::/48
	for protocol in TCP UDP; do
		for to in $S4 $S6; do
			converses proxy $protocol $to taken
		done
		for to in $B4 $B6; do
			converses proxy $protocol $to passed
		done
	done
}

@test "--local with conntrack in use" {
	start_listener
	start_servers
	on proxy nft 'add table inet fw; add chain inet fw o { type filter hook output priority 0; }; add rule inet fw o ct state invalid drop; add chain inet fw i { type filter hook input priority 0; }; add rule inet fw i ct state invalid drop'
	on proxy tproxy-setup up -q --to 3129 --local --port 80 -t -u
	for to in $S4 $S6; do
		goes proxy TCP $to taken
		goes proxy UDP $to taken
		goes client TCP $to taken
		goes client UDP $to taken
	done
}

@test "--local leaves the host's own addresses alone, with --include-own it takes them, 127.0.0.1 too" {
	start_listener
	receiver passed-own-t4 proxy TCP4-LISTEN:80
	receiver passed-own-t6 proxy TCP6-LISTEN:80,ipv6-v6only
	wait_listen proxy 0.0.0.0:80
	wait_listen proxy '[::]:80'
	on proxy tproxy-setup up -q --to 3129 --local --port 80
	for to in 127.0.0.1 192.0.2.1 '[::1]' '[2001:db8:1::1]'; do
		goes proxy TCP $to passed
	done
	on proxy tproxy-setup up -q --to 3129 --local --include-own --port 80
	for to in 127.0.0.1 192.0.2.1 '[::1]' '[2001:db8:1::1]'; do
		goes proxy TCP $to taken
	done
}

@test "--uid, --gid and their --not- forms: whose connections are taken" {
	root_only "other users' connections"
	start_listener
	start_servers
	nobody=(--reuid=65534 --regid=65534 --clear-groups)
	for which in "--uid nobody" "--gid nogroup"; do
		on proxy tproxy-setup up -q --to 3129 --local --port 80 -t -u $which
		for to in $S4 $S6; do
			goes proxy TCP $to taken "${nobody[@]}"
			goes proxy UDP $to taken "${nobody[@]}"
			goes proxy TCP $to passed
			goes proxy UDP $to passed
			goes client TCP $to taken
		done
	done
	for which in "--not-uid nobody" "--not-gid nogroup"; do
		on proxy tproxy-setup up -q --to 3129 --local --port 80 -t -u $which
		for to in $S4 $S6; do
			goes proxy TCP $to passed "${nobody[@]}"
			goes proxy UDP $to passed "${nobody[@]}"
			goes proxy TCP $to taken
			goes proxy UDP $to taken
		done
	done
}

@test "--uid of this user, in a user namespace, too" {
	start_listener
	start_servers
	on proxy tproxy-setup up -q --to 3129 --local --port 80 --uid 0
	goes proxy TCP $S4 taken
	goes proxy TCP $S6 taken
	on proxy tproxy-setup up -q --to 3129 --local --port 80 --uid 1
	goes proxy TCP $S4 passed
	on proxy tproxy-setup up -q --to 3129 --local --port 80 --not-uid 0
	goes proxy TCP $S6 passed
}

# Control groups are the whole machine's: these are made for one test and removed after it. A mount
# namespace of its own shows them as LAYOUT says: version 2 alone, or systemd's hybrid one.
in_layout() {
	local at=/sys/fs/cgroup
	[[ $1 == pure ]] || at+=/unified
	on proxy unshare --mount sh -ec 'mount -t tmpfs none /sys/fs/cgroup; mkdir -p "$1"
		mount -t cgroup2 none "$1"; shift; exec "$@"' sh $at "${@:2}"
}

# The same, from within GROUP.
in_group() {
	in_layout pure sh -ec 'echo $$ >"/sys/fs/cgroup/$1/cgroup.procs"; shift; exec "$@"' sh "$@"
}

groups_up() {
	root_only "control groups are root's"
	GROUP=tproxy-test-$$
	in_layout pure mkdir -p /sys/fs/cgroup/$GROUP/inner /sys/fs/cgroup/$GROUP.other ||
		skip "control groups of version 2 cannot be mounted here"
	on proxy nft 'add table ip probe; add chain ip probe c { type filter hook output priority 0; }'
	in_layout pure nft "add rule ip probe c socket cgroupv2 level 1 \"$GROUP\"" ||
		skip "this kernel cannot match control groups (CONFIG_NFT_SOCKET, CONFIG_CGROUPS)"
	on proxy nft delete table ip probe
}

# grouped GROUP PROTOCOL ADDRESS taken|passed
grouped() {
	local word=word$((COUNT += 1))
	in_group "$1" timeout --foreground 30 \
		bash -c 'echo "$2" | socat -u - "$0:$1:80"' "$2" "$3" $word 2>/dev/null || :
	poll 10 heard_by "$4" $word || fail "$1 -> $2 $3: not $4 ($(grep -lx $word "$OUT"/*.heard))"
}

@test "--cgroup and --not-cgroup: a control group's connections, and those of its descendants" {
	groups_up
	start_listener
	start_servers
	for layout in pure hybrid; do
		in_layout $layout tproxy-setup up -q --to 3129 --local --port 80 -t -u --cgroup $GROUP
		for to in $S4 $S6; do
			for protocol in TCP UDP; do
				grouped $GROUP $protocol $to taken
				grouped $GROUP/inner $protocol $to taken
				grouped $GROUP.other $protocol $to passed
				goes proxy $protocol $to passed
				goes client $protocol $to taken
			done
		done
		in_layout $layout tproxy-setup up -q --to 3129 --local --port 80 -t -u --not-cgroup /$GROUP/inner/
		for to in $S4 $S6; do
			grouped $GROUP/inner TCP $to passed
			grouped $GROUP/inner UDP $to passed
			grouped $GROUP TCP $to taken
			grouped $GROUP.other UDP $to taken
		done
	done
}

@test "--cgroup: a missing one is refused; one that was recreated is drift that up fixes" {
	groups_up
	for layout in pure hybrid; do
		while IFS='|' read -r path expected; do
			run -2 in_layout $layout tproxy-setup up --to 3129 --local --cgroup $path
			assert_output --partial "--cgroup $path: $expected"
		done <<-END
			no/such/group|no such control group: /sys/fs/cgroup
			/|the control group \`/\` cannot be matched
			/sys/fs/cgroup|the control group \`/\` cannot be matched
		END
		in_layout $layout tproxy-setup up -q --to 3129 --local --cgroup /sys/fs/cgroup/$GROUP
		in_layout $layout "$TOP/tests/lib/intact"
		in_layout pure rmdir /sys/fs/cgroup/$GROUP/inner /sys/fs/cgroup/$GROUP
		in_layout pure mkdir -p /sys/fs/cgroup/$GROUP/inner
		run -1 in_layout $layout tproxy-setup status -H -o check,state,fix
		assert_line --regexp '^chain:local +changed'
		in_layout $layout tproxy-setup up -q --to 3129 --local --cgroup $GROUP
		in_layout $layout "$TOP/tests/lib/intact" --to 3129 --local --cgroup $GROUP
	done
	run -2 on proxy unshare --mount sh -c 'mount -t tmpfs none /sys/fs/cgroup
		exec tproxy-setup up --to 3129 --local --cgroup a'
	assert_output --partial "no control groups of version 2 are mounted at /sys/fs/cgroup"
}

@test "local connections established before up are left alone; new ones survive a replacement" {
	start_servers
	bg relay proxy tproxy-relay --source own --log events 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
	mkfifo "$OUT/old" "$OUT/new"
	bg old proxy bash -c 'exec socat -u - TCP:198.51.100.2:80 <>"$0"' "$OUT/old"
	wait_until 10 eval '[ -n "$(on proxy ss -Htn state established dst 198.51.100.2)" ]'
	on proxy tproxy-setup up -q --to 3129 --local --port 80
	echo before >"$OUT/old"
	poll 10 heard_by passed before
	bg new proxy bash -c 'exec socat -u - TCP:198.51.100.2:80 <>"$0"' "$OUT/new"
	echo first >"$OUT/new"
	poll 10 heard_by passed first
	wait_line relay.out ' open '
	on proxy tproxy-setup up -q --to 3129 --local --port 80,81
	echo second >"$OUT/new"
	poll 10 heard_by passed second
	on proxy tproxy-setup down -q
	run wait_exit new 10
}

@test "UDP without a listener: port unreachable at once, dropped, or passed" {
	start_servers
	on proxy tproxy-setup up -q -u --to 3129 --port 80
	for to in $S4 $S6; do
		run on client timeout --foreground 5 bash -c "exec 3<>/dev/udp/$(tr -d '[]' <<<$to)/80; echo x >&3; sleep 0.3; echo y >&3"
		assert_output --partial "refused"
	done
	on proxy tproxy-setup up -q -u --to 3129 --port 80 --no-listener pass
	for to in $S4 $S6; do
		goes client UDP $to passed
	done
}

@test "invalid combinations with UDP and --local: owners without --local, iptables, divert-only" {
	while IFS='|' read -r arguments expected; do
		run on proxy tproxy-setup $arguments
		[ "$status" -eq 2 ] || fail "$arguments: status $status: $output"
		[[ $output == *"$expected"* ]] || fail "$arguments: $output"
	done <<-'END'
		up --to 3129 --uid 0|--uid: only connections that this host itself opens
		up --to 3129 --not-cgroup /|--not-cgroup
		up --to 3129 --local --uid nobody-of-that-name|--uid nobody-of-that-name
		up --to 3129 --local --gid nobody-of-that-name|no such group
		up --to 3129 --local --cgroup no/such/group|--cgroup no/such/group: no 
		up --divert-only -u|--divert-only and --udp
		plan --format iptables --to 3129 -u|--udp
		plan --format iptables --to 3129 --local|--local
	END
}
