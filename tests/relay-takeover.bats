#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# One tproxy-relay replaces another, and no client notices.
#
#   client 192.0.2.2 ------------- proxy: 80 to tproxy-relay 3129 --- server 198.51.100.2
#     loses two segments of 20     relay0 -> relay1 -> relay2 ...

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80
	start_nginx
	on proxy sysctl -qw net.ipv4.tcp_migrate_req=0
}

teardown() { lab_down; }

# lossy: some connections stay half open for 200 ms: the handshake's last segment is lost, and the request
# right behind it.
lossy() {
	on client nft -f - <<-END
		table inet loss {
			chain output {
				type filter hook output priority 0
				tcp dport 80 tcp flags & (syn | fin | rst) == 0 numgen inc mod 20 < 2 drop
			}
		}
	END
}

# successor NAME [OPTION...]: take over, and serve.
successor() {
	bg "$1" proxy tproxy-relay --takeover -v --log off "$RELAY_PORT" "${@:2}"
	wait_line "$1.err" 'listening on .*\[::1\]'
}

# sockets: listening sockets of any relay, both families.
sockets() {
	on proxy ss -Hnlt "src = :$RELAY_PORT" | wc -l
}

# reign N OPTION...: relay0 to relayN under load, each for a moment; the options are the successors'.
reign() {
	local i last=$1
	shift
	lossy
	bg relay0 proxy tproxy-relay --log off --threads 2 "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	bg steady client "$TOP/tests/lib/steady" "$V4,$V6" 80 64 "$OUT/end"
	for ((i = 1; i <= last; i++)); do
		# Some connections are begun in each reign.
		wait_until 10 eval '(($(wc -l <"$OUT/access.log") > 200 * i))'
		successor "relay$i" "$@"
		signal "relay$((i - 1))" TERM
	done
	touch "$OUT/end"
	wait_exit steady 40 || show steady
	tail -n 1 "$OUT/steady.out"
}

@test "under load: no connection is refused, reset or broken, over IPv4 and IPv6" {
	run -0 reign 4
	assert_line --regexp '^[1-9][0-9]{2,} answered, 0 failed$'
	for i in {0..3}; do
		run -0 wait_exit "relay$i"
		refute_line_in "relay$i.err" warning
	done
	run -0 stop relay4
	refute_line_in access.log '^(198\.51\.100\.1|2001:db8:2::1) '
}

@test "the same with SYN cookies, and from two threads to one and to three" {
	on proxy sysctl -qw net.ipv4.tcp_syncookies=2
	run -0 reign 2
	assert_line --regexp ' answered, 0 failed$'
	assert_equal "$(sockets)" 4
	rm "$OUT/end"
	successor relay3 --threads 3
	run -0 stop relay2
	assert_equal "$(sockets)" 4
	run -0 on client bash -c "seq 60 | xargs -P 20 -I{} curl -sS --max-time 20 -o $OUT/{} http://$V4/who"
	run -0 stop relay3
}

@test "if listeners can only be joined it says so; no connection is lost if tcp_migrate_req=1" {
	# One that may change other things than its predecessor may not look into it.
	bg first proxy tproxy-relay --log off "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	bg second proxy setpriv --bounding-set=-all,+net_raw tproxy-relay --takeover -v "$RELAY_PORT"
	wait_line second.err 'listening on .*\[::1\]'
	assert_line_in second.err "^tproxy-relay: warning: the listener at .*:3129: pidfd_getfd: Operation not permitted; needs CAP_SYS_PTRACE: joined instead: .* net\.ipv4\.tcp_migrate_req=1"
	assert_equal "$(sockets)" 4
	run -0 stop first
	run -0 stop second
	on proxy sysctl -qw net.ipv4.tcp_migrate_req=1
	lossy
	bg first proxy tproxy-relay --log off "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	bg steady client "$TOP/tests/lib/steady" "$V4,$V6" 80 64 "$OUT/end"
	wait_until 10 eval '(($(wc -l <"$OUT/access.log") > 200))'
	bg second proxy setpriv --bounding-set=-all,+net_raw tproxy-relay --takeover -v "$RELAY_PORT"
	wait_line second.err 'listening on .*\[::1\]'
	refute_line_in second.err warning
	signal first TERM
	wait_until 10 eval '(($(wc -l <"$OUT/access.log") > 600))'
	touch "$OUT/end"
	run -0 wait_exit steady 40
	run -0 stop second
}

@test "connections in the queue survive the end of the relay, however it ends" {
	for end in TERM KILL; do
		bg old proxy tproxy-relay "$RELAY_PORT"
		wait_listen proxy "$RELAY_PORT"
		signal old STOP
		for i in 1 2 3 4; do
			bg "client$i" client curl -sS --max-time 60 "http://$V4/who"
		done
		# Four connections in the queue, which nobody accepts.
		wait_until 10 eval '[[ $(on proxy ss -Hnlt "src 127.0.0.1:$RELAY_PORT" | awk "{ print \$2 }") == 4 ]]'
		successor new
		signal old $end
		[[ $end == KILL ]] || signal old CONT
		for i in 1 2 3 4; do
			run -0 wait_exit "client$i"
			assert_line_in "client$i.out" '^192\.0\.2\.2 '
		done
		[[ $end == KILL ]] || run -0 wait_exit old
		run -0 on client curl -sS --max-time 10 "http://[$V6]/who"
		run -0 stop new
	done
}

@test "listeners from a service manager, without SO_REUSEPORT, are taken over, too" {
	bg old proxy tproxy-listen --pass 127.0.0.1:3129 '[::1]:3129' -- tproxy-relay
	wait_until 10 eval '[[ $(cat /proc/$(pid_of old)/comm) == tproxy-relay ]]'
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	successor new
	run -0 stop old
	assert_equal "$(sockets)" 2
	run -0 on client curl -sS --max-time 10 "http://[$V6]/who"
	run -0 stop new
}

@test "without a predecessor --takeover opens listeners; it takes nothing from another program" {
	successor first
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop first
	bg other proxy tproxy-listen --takeover 3129
	wait_listen proxy "$RELAY_PORT"
	successor second
	assert_equal "$(sockets)" 4
	run -0 stop other
	assert_equal "$(sockets)" 2
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop second
}

# impostor [COMMAND...]: a program that calls itself tproxy-relay, listens where the relay would, ready to
# share, and answers each client by itself; run by COMMAND.
impostor() {
	bg impostor proxy "$@" /usr/bin/python3 -c '
import selectors, socket
open("/proc/self/comm", "w").write("tproxy-relay")
listeners = selectors.DefaultSelector()
for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind((address, 3129))
    s.listen()
    listeners.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in listeners.select():
        client, _ = key.fileobj.accept()
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\nimpostor\n")
        client.close()
        print("answered", flush=True)'
	wait_line impostor.out ready
}

# nobody_is_let_in: the impostor has not got one client, and its sockets are what they were.
nobody_is_let_in() {
	local i
	for i in 1 2 3 4 5 6; do
		run on client curl -sS --max-time 10 "http://$V4/who"
		refute_output --partial impostor
		run on client curl -sS --max-time 10 "http://[$V6]/who"
		refute_output --partial impostor
	done
	refute_line_in impostor.out answered
	run -0 on proxy tproxy-inspect sockets -H -a --state listening --local '*:3129' -o transparent
	assert_output $'no\nno'
}

@test "a socket of another uid, whatever its program's name, is neither taken nor joined nor recommended" {
	local program
	root_only "another uid is needed"
	impostor setpriv --reuid 65534 --regid 65534 --clear-groups
	for program in tproxy-relay tproxy-listen; do
		run -3 on proxy timeout --foreground 10 "$program" --takeover 3129
		assert_output --regexp "^$program: --takeover 127\.0\.0\.1:3129: tproxy-relay \(pid $(pid_of impostor)\) listens there with a socket of uid 65534: only those of uid 0"
		run -3 on proxy timeout --foreground 10 "$program" 3129
		assert_output --regexp "^$program: 127\.0\.0\.1:3129: bind: tproxy-relay \(pid $(pid_of impostor)\) listens there: Address already in use$"
	done
	nobody_is_let_in
	stop impostor || :
	# The other way round it is the kernel that keeps the group of one user.
	bg relay proxy tproxy-relay --log off 3129
	wait_listen proxy 3129
	run -1 on proxy setpriv --reuid 65534 --regid 65534 --clear-groups /usr/bin/python3 -c '
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
s.bind(("127.0.0.1", 3129))'
	assert_output --partial 'Address already in use'
}

@test "a socket that is not transparent is neither taken nor joined: its share would bypass the proxy" {
	local program
	impostor
	for program in tproxy-relay tproxy-listen; do
		run -3 on proxy timeout --foreground 10 "$program" --takeover 3129
		assert_output --regexp "^$program: --takeover 127\.0\.0\.1:3129: tproxy-relay \(pid $(pid_of impostor)\) listens there with a socket that is not transparent"
		run -3 on proxy timeout --foreground 10 "$program" 3129
		refute_output --partial --takeover
	done
	nobody_is_let_in
}

@test "a relay that has become another user is taken over: its sockets belong to the user who opened them" {
	root_only "--user needs another uid"
	bg old proxy tproxy-relay --log off --user nobody "$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	wait_until 10 eval '[[ $(stat -c %U /proc/$(pid_of old)) == nobody ]]'
	run -0 on proxy tproxy-inspect sockets -H -a --state listening --local 127.0.0.1:3129 -o pid
	assert_output "$(pid_of old)"
	successor new
	refute_line_in new.err warning
	assert_equal "$(sockets)" 2
	run -0 stop old
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop new
}
