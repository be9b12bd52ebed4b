#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval and the programs that are started expand them
#
# tproxy-relay --inetd: one connection, accepted by another program, on fd 0.
#
#   client 192.0.2.2 --- proxy ---------------------------------- server 198.51.100.2
#   2001:db8:1::2        tproxy-listen, tcpserver, systemd,       2001:db8:2::2
#                        or accept (below) -> tproxy-relay

bats_require_minimum_version 1.5.0
load lib/relay

setup() { lab_up; }

teardown() { lab_down; }

# listen OPTION... -- CMD...: tproxy-listen with that command.
listen() {
	bg listen proxy tproxy-listen "$@"
	wait_listen proxy "$RELAY_PORT"
}

# accept WHERE CMD...: accept one connection at port 3129, make it CMD's fds 0 and 1, and 2 if WHERE is
# `all' (as inetd does), or 0 alone if it is `stdin' (as a service manager does), and become CMD.
accept() {
	bg relay proxy python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 3129))
s.listen()
c = s.accept()[0]
s.close()
for fd in {"all": (0, 1, 2), "both": (0, 1), "stdin": (0,)}[sys.argv[1]]:
    os.dup2(c.fileno(), fd)
c.close()
os.execvp(sys.argv[2], sys.argv[2:])' "$@"
	wait_listen proxy 3129
}

# on_fd_0 KIND CMD...: CMD with such a thing on fd 0.
on_fd_0() {
	on proxy python3 -c '
import os, socket, sys
kind = sys.argv[1]
if kind == "listener":
    s = socket.create_server(("127.0.0.1", 0))
elif kind == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
elif kind == "unix":
    s = socket.socketpair()[0]
elif kind == "unconnected":
    s = socket.socket()
os.dup2(s.fileno(), 0)
os.execvp(sys.argv[2], sys.argv[2:])' "$@"
}

# ---------------------------------------------------------------- carried

@test "tproxy-listen -- tproxy-relay --inetd: the server sees the client's address and port, both families" {
	local big
	big=$(random_file 3M)
	start_nginx
	cp "$big" "$WWW/big"
	intercept 80
	listen --log "$RELAY_PORT" -- tproxy-relay --inetd
	run -0 on client curl -sS --max-time 10 --local-port 40001 "http://$V4/who"
	assert_output '192.0.2.2 40001'
	run -0 on client curl -sS --max-time 10 --local-port 40002 "http://[$V6]/who"
	assert_output '2001:db8:1::2 40002'
	on client curl -sS --max-time 20 -o "$OUT/got" "http://$V4/big"
	cmp "$OUT/got" "$big"
	on client curl -sS --max-time 20 -T "$big" "http://[$V6]/up"
	cmp "$WWW/up" "$big"
	wait_until 10 eval '[[ $(grep -c " close tcp .* tproxy done$" "$OUT/listen.out") == 4 ]]'
	stop listen
	# Nothing but the server's words went to the client, and nothing was worth a message.
	run ! test -s "$OUT/listen.err"
}

@test "it ends as the connection ends: half-close, reset, refusal; the status says how" {
	intercept 8000
	listen --log -v "$RELAY_PORT" -- tproxy-relay --inetd -v
	peer server server listen 8000 recv:request eof zeros:300000 close
	run -0 on client "$PEER" connect "$V4" 8000 send:request fin skip:300000 eof
	run -0 wait_exit server
	wait_line listen.out ' close .* done$'
	assert_line_in listen.err '^tproxy-relay: 192\.0\.2\.2:[0-9]+: done$'
	peer server server listen 8000 recv:x rst
	run -0 on client "$PEER" connect "$V4" 8000 send:x gone
	wait_line listen.err '^tproxy-relay: 192\.0\.2\.2:[0-9]+: upstream-reset$'
	peer server server listen 8000 recv:x "touch:$OUT/got" gone
	run -0 on client "$PEER" connect "$V4" 8000 send:x "await:$OUT/got" rst
	run -0 wait_exit server
	wait_line listen.err '^tproxy-relay: 192\.0\.2\.2:[0-9]+: client-reset$'
	run -0 on client "$PEER" connect "$V4" 8000 gone
	wait_line listen.err '^tproxy-relay: warning: 192\.0\.2\.2:[0-9]+: refused: upstream-refused$'
	wait_until 10 eval '[[ $(grep -c " close tcp .* failed$" "$OUT/listen.out") == 3 ]]'
	assert_equal "$(grep -c 'exit status 1' "$OUT/listen.err")" 3
	stop listen
}

@test "REDIRECT is found in conntrack; a direct connection is refused, or goes to --upstream" {
	redirect_to 8000 "$RELAY_PORT"
	listen --redirect --allow-direct "$RELAY_PORT" -- tproxy-relay --inetd --source own
	peer server server listen 8000 recv:x send:y close
	run -0 on client "$PEER" connect "$V4" 8000 send:x recv:y eof
	run -0 wait_exit server
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" gone
	wait_line listen.err '^tproxy-relay: warning: 192\.0\.2\.2:[0-9]+: refused: direct$'
	stop listen
	on proxy tproxy-setup up -q --divert-only
	listen --redirect --allow-direct "$RELAY_PORT" -- tproxy-relay --inetd --upstream "$V4:8000"
	peer server server listen 8000 who recv:x send:y close
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect 192.0.2.1 "$RELAY_PORT" send:x recv:y eof
	run -0 wait_exit server
	assert_line_in server.out '^192.0.2.2 40001$'
	stop listen
}

@test "what tproxy-listen read in a PROXY header is used; --send-proxy passes it on" {
	on proxy tproxy-setup up -q --divert-only
	listen --redirect --accept-proxy 192.0.2.2,2001:db8:1::2 "$RELAY_PORT" -- tproxy-relay --inetd --send-proxy 1
	peer server server listen 8000 who 'recv:PROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\r\nhello' eof close
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" \
		'send:PROXY TCP4 192.0.2.20 198.51.100.2 1234 8000\r\nhello' fin eof
	run -0 wait_exit server
	assert_line_in server.out '^192.0.2.20 1234$'
	peer server server listen 8000 who 'recv:PROXY TCP6 2001:db8:1::20 2001:db8:2::2 1234 8000\r\nhello' eof close
	run -0 on client "$PEER" connect 2001:db8:1::1 "$RELAY_PORT" \
		'send:PROXY TCP6 2001:db8:1::20 2001:db8:2::2 1234 8000\r\nhello' fin eof
	run -0 wait_exit server
	assert_line_in server.out '^2001:db8:1::20 1234$'
	stop listen
	# A header that leads to the listener itself: no destination, but still the client.
	listen --redirect --allow-direct --accept-proxy 192.0.2.2 "$RELAY_PORT" -- tproxy-relay --inetd --upstream "$V4:8000"
	peer server server listen 8000 who recv:hello eof close
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" \
		"send:PROXY TCP4 192.0.2.20 192.0.2.1 1235 $RELAY_PORT\\r\\nhello" fin eof
	run -0 wait_exit server
	assert_line_in server.out '^192.0.2.20 1235$'
	stop listen
}

@test "--accept-proxy reads the header itself" {
	on proxy tproxy-setup up -q --divert-only
	listen --redirect --allow-direct --log "$RELAY_PORT" -- tproxy-relay --inetd --accept-proxy 192.0.2.2
	peer server server listen 8000 who recv:hello eof close
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" 'send:PROXY TCP4 192.0.2.20 ' \
		'send:198.51.100.2 1234 8000\r\nhello' fin eof
	run -0 wait_exit server
	assert_line_in server.out '^192.0.2.20 1234$'
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" 'send:hello' gone
	wait_line listen.err '^tproxy-relay: warning: 192\.0\.2\.2:[0-9]+: refused: proxy-header$'
	stop listen
}

@test "tcpserver and systemd's socket activation can pass a connection, too" {
	start_nginx
	on proxy tproxy-setup up -q --divert-only
	bg other proxy tcpserver -HRl0 0 8080 tproxy-relay --inetd --upstream "$V4:80"
	wait_listen proxy 8080
	run -0 on client curl -sS --max-time 10 --local-port 40001 http://192.0.2.1:8080/who
	assert_output '192.0.2.2 40001'
	bg unit proxy systemd-socket-activate --accept --inetd -l 8081 \
		"$(command -v tproxy-relay)" --inetd --upstream "$V4:80" --upstream "[$V6]:80"
	wait_listen proxy 8081
	run -0 on client curl -sS --max-time 10 --local-port 40002 'http://[2001:db8:1::1]:8081/who'
	assert_output '2001:db8:1::2 40002'
	run -0 on client curl -sS --max-time 10 --local-port 40003 http://192.0.2.1:8081/who
	assert_output '192.0.2.2 40003'
}

@test "SIGTERM drains: the connection may finish; a second one resets it" {
	intercept 8000
	listen "$RELAY_PORT" -- sh -c 'echo $$ >>'"$OUT/pids"'; exec tproxy-relay --inetd -v'
	peer server server serve 8000 echo
	bg client client "$PEER" connect "$V4" 8000 send:x recv:x "touch:$OUT/1" "await:$OUT/go" send:y recv:y fin eof
	wait_until 10 test -e "$OUT/1"
	kill -TERM "$(tail -n 1 "$OUT/pids")"
	touch "$OUT/go"
	run -0 wait_exit client
	wait_until 10 gone "$(tail -n 1 "$OUT/pids")"
	bg client client "$PEER" connect "$V4" 8000 send:x recv:x "touch:$OUT/2" gone
	wait_until 10 test -e "$OUT/2"
	kill -TERM "$(tail -n 1 "$OUT/pids")"
	wait_until 10 has_heard "$(tail -n 1 "$OUT/pids")"
	kill -TERM "$(tail -n 1 "$OUT/pids")"
	run -0 wait_exit client
	wait_line listen.err '^tproxy-relay: 192\.0\.2\.2:[0-9]+: drained$'
	stop listen
}

# ---------------------------------------------------------------- records and messages

@test "a client on fd 1 and 2 gets no record and no message, not even about wrong options" {
	on proxy tproxy-setup up -q --divert-only
	accept all tproxy-relay --inetd -vv --upstream "$V4:8000"
	run -0 on client "$PEER" connect 192.0.2.1 3129 gone
	run -1 wait_exit relay
	accept all tproxy-relay --max 5 --inetd
	run -0 on client "$PEER" connect 192.0.2.1 3129 eof
	run -2 wait_exit relay
	accept all tproxy-relay --ine --nonsense
	run -0 on client "$PEER" connect 192.0.2.1 3129 eof
	run -2 wait_exit relay
	assert_equal "$(cat "$OUT/relay.out" "$OUT/relay.err")" ''
}

@test "an fd 1 that is not the client's gets the records" {
	on proxy tproxy-setup up -q --divert-only
	accept stdin tproxy-relay --inetd --upstream "$V4:8000"
	peer server server listen 8000 recv:hello send:x close
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect 192.0.2.1 3129 send:hello recv:x eof
	run -0 wait_exit relay
	assert_line_in relay.out ' open 1 tcp 192\.0\.2\.2:40001 - none 192\.0\.2\.2:40001 198\.51\.100\.2:8000 addr\+port 0 0 '
	assert_line_in relay.out ' close 1 tcp 192\.0\.2\.2:40001 - none .* 5 1 [0-9.]+ done$'
	assert_equal "$(cat "$OUT/relay.err")" ''
}

# ---------------------------------------------------------------- refused

@test "an fd 0 that is not a connection: the message says what it is" {
	run -2 on proxy tproxy-relay --inetd </dev/null
	assert_output 'tproxy-relay: --inetd: fd 0: is not a socket'
	run -2 on proxy sh -c 'exec tproxy-relay --inetd <&-'
	assert_output 'tproxy-relay: --inetd: fd 0: is not open'
	run -2 on_fd_0 udp tproxy-relay --inetd
	assert_output 'tproxy-relay: --inetd: fd 0: is not a TCP socket'
	run -2 on_fd_0 unix tproxy-relay --inetd
	assert_output 'tproxy-relay: --inetd: fd 0: is a socket of another family than IPv4 and IPv6'
	run -2 on_fd_0 listener tproxy-relay --inetd
	assert_output 'tproxy-relay: --inetd: fd 0: is a listening socket, not a connection'
	run -3 on_fd_0 unconnected tproxy-relay --inetd
	assert_output 'tproxy-relay: --inetd: fd 0: getpeername: Transport endpoint is not connected'
}

@test "options that need listeners contradict --inetd, and both are named" {
	local option
	for option in '--threads 2' '--max 5' --takeover "--control $OUT/control" "--metrics-file $OUT/metrics" -4 -6; do
		run -2 tproxy-relay --inetd $option
		assert_output --regexp '^tproxy-relay: --inetd and --[a-z0-9-]+ contradict each other; see'
	done
	run -2 tproxy-relay 3129 --inetd
	assert_output --regexp '^tproxy-relay: --inetd and the ENDPOINT 3129 contradict each other: '
	run -2 tproxy-relay --inetd -- cat
	assert_output --regexp '^tproxy-relay: --: runs no command'
}

@test "an environment about another connection is refused, and so is an invalid one" {
	on proxy tproxy-setup up -q --divert-only
	TPROXY_ORIGDST_BY=proxy-protocol TPROXY_COOKIE=0x1 TPROXY_CLIENT=192.0.2.20:1 TPROXY_ORIGDST="$V4:8000" \
		accept both tproxy-relay --inetd --upstream "$V4:8000"
	peer server server listen 8000 eof
	run -0 on client "$PEER" connect 192.0.2.1 3129 gone
	run -3 wait_exit relay
	assert_line_in relay.err '^tproxy-relay: TPROXY_ORIGDST_BY=proxy-protocol: TPROXY_COOKIE=0x1: is not that of the socket on fd 0$'
	# Without that claim the variables of an ancestor mean nothing.
	TPROXY_ORIGDST_BY=tproxy TPROXY_COOKIE=0x1 TPROXY_CLIENT=192.0.2.20:1 TPROXY_ORIGDST="$V4:8000" \
		accept both tproxy-relay --inetd
	run -0 on client "$PEER" connect 192.0.2.1 3129 gone
	run -1 wait_exit relay
	assert_line_in relay.err 'refused: direct$'
	[[ ! -e $OUT/server.status ]]
}

@test "no loops: to the listener that we came from, through our own leg; rules apply" {
	on proxy tproxy-setup up -q --divert-only
	listen --redirect --allow-direct "$RELAY_PORT" -- tproxy-relay --inetd --accept-proxy 192.0.2.2 --source own --deny-dst '*:22'
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" "send:PROXY TCP4 192.0.2.20 198.51.100.1 1 $RELAY_PORT\\r\\n" gone
	wait_line listen.err '^tproxy-relay: warning: 192\.0\.2\.2:[0-9]+: refused: loop$'
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" 'send:PROXY TCP4 192.0.2.20 198.51.100.2 1 22\r\n' gone
	wait_line listen.err '^tproxy-relay: warning: 192\.0\.2\.2:[0-9]+: refused: denied$'
	stop listen
	# The relay's leg to the server comes back to the listener, and so to another process.
	redirect_own 8000 "$RELAY_PORT"
	# A leg's mark is seen with CAP_NET_ADMIN only; its owner is by whoever may look into it.
	for without in '' -net_admin; do
		listen --max 20 --log --redirect --accept-proxy 192.0.2.2 "$RELAY_PORT" -- \
			setpriv ${without:+--bounding-set="$without"} tproxy-relay --inetd --source own
		run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" \
			'send:PROXY TCP4 192.0.2.20 198.51.100.2 1 8000\r\n' gone
		wait_line listen.err '^tproxy-relay: warning: .*: refused: loop$'
		wait_until 10 eval '[[ $(grep -c " close " "$OUT/listen.out") == 2 ]]'
		stop listen
		assert_equal "$(grep -c ' open ' "$OUT/listen.out")" 2
	done
}

@test "without the privilege to keep the client's address the connection is refused, never our own" {
	intercept 8000
	listen "$RELAY_PORT" -- setpriv --bounding-set=-all --inh-caps=-all tproxy-relay --inetd
	peer server server listen 8000 eof
	run -0 on client "$PEER" connect "$V4" 8000 gone
	wait_line listen.err '^tproxy-relay: upstream socket: setsockopt\(SO_MARK\): Operation not permitted; .*CAP_NET'
	[[ ! -e $OUT/server.status ]]
	stop listen
}
