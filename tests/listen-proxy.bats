#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-listen --accept-proxy: a load balancer in front says who the client is.
#
#   somebody ----> load balancer (host client, 192.0.2.2, 2001:db8:1::2) ----> proxy, listener at 3129
#                  bystander (203.0.113.2) may not send headers

bats_require_minimum_version 1.5.0
load lib/lab
load lib/see

setup() {
	lab_up
}

teardown() {
	lab_down
}

listen() {
	bg listen proxy tproxy-listen --redirect --accept-proxy 192.0.2.2,2001:db8:1::/64 \
		-o event,client,origdst,origdst_by,reason "$@"
	wait_listen proxy '[::]:3129'
}

# send BYTES [ADDRESS [HOST]]: bytes (as printf has them), then the end; prints the answer.
send() {
	# shellcheck disable=SC2059
	printf "$1" | on "${3:-client}" timeout --foreground 10 socat -t 5 - "TCP:${2:-192.0.2.1}:3129"
}

@test "versions 1 and 2, both families: client and original destination are the header's" {
	listen 3129
	send 'PROXY TCP4 203.0.113.7 198.51.100.9 1234 80\r\n'
	wait_line listen.out '^open 203\.0\.113\.7:1234 198\.51\.100\.9:80 proxy-protocol -$'
	send 'PROXY TCP6 2001:db8:7::7 2001:db8:9::9 1234 443\r\n' '[2001:db8:1::1]'
	wait_line listen.out '^open \[2001:db8:7::7\]:1234 \[2001:db8:9::9\]:443 proxy-protocol -$'
	send '\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x08\xc6\x33\x64\x0a\x04\xd2\x00\x50'
	wait_line listen.out '^open 203\.0\.113\.8:1234 198\.51\.100\.10:80 proxy-protocol -$'
}

@test "a header without addresses leaves the connection's own" {
	listen 3129
	send 'PROXY UNKNOWN\r\n'
	wait_line listen.out '^open 192\.0\.2\.2:[0-9]+ - none -$'
	send '\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00' '[2001:db8:1::1]'
	wait_line listen.out '^open \[2001:db8:1::2\]:[0-9]+ - none -$'
}

@test "the header is taken off, and not a byte more" {
	listen --log 3129 -- sh -c 'read -r x; echo "$x $TCPREMOTEIP $TCPLOCALIP $TPROXY_ORIGDST_BY"'
	run send 'PROXY TCP4 203.0.113.7 198.51.100.9 1234 80\r\nhello\n'
	assert_output 'hello 203.0.113.7 198.51.100.9 proxy-protocol'
}

@test "headers are read from listed peers only: from others they are payload" {
	listen --log 3129 --allow-direct -- sh -c 'read -r x y; echo "$x $TCPREMOTEIP $TPROXY_ORIGDST_BY"'
	run send 'PROXY TCP4 203.0.113.7 198.51.100.9 1234 80\r\n' 203.0.113.1 bystander
	assert_output 'PROXY 203.0.113.2 none'
}

@test "a header that leads to the listener itself is a direct connection" {
	bg listen proxy tproxy-listen --accept-proxy 192.0.2.2 --log -o event,reason '*:3130' -- echo hello
	wait_listen proxy '[::]:3130'
	run on client bash -c 'exec 3<>/dev/tcp/192.0.2.1/3130
		printf "PROXY TCP4 192.0.2.2 192.0.2.1 4000 3130\r\n" >&3; timeout 5 cat <&3'
	refute_output --partial hello
	wait_line listen.out '^refused direct$'
}

@test "a header may come byte by byte" {
	listen 3129
	on client timeout --foreground 10 python3 -c '
import socket, time
s = socket.create_connection(("192.0.2.1", 3129))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for c in b"PROXY TCP4 203.0.113.7 198.51.100.9 1234 80\r\n":
    s.send(bytes([c]))
    time.sleep(0.005)
s.recv(1)'
	wait_line listen.out '^open 203\.0\.113\.7:1234 198\.51\.100\.9:80 proxy-protocol -$'
}

@test "no header, an invalid or partial one, or none within 3 s: refused, nothing is run" {
	listen --log 3129 -- sh -c 'echo served'
	local bytes
	for bytes in 'GET / HTTP/1.0\r\n\r\n' 'PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n' 'PROXY TCP4 1.2.3' \
		'\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff' '\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x0c111122221122' '' \
		'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12111122221122\x02\0\0\x02\0\0'; do
		run send "$bytes"
		refute_output --partial served
	done
	wait_until 5 sh -c "[ \$(grep -c '^refused 192.0.2.2:.* proxy-header$' '$OUT/listen.out') = 7 ]"
	run read_from client 192.0.2.1 3129
	refute_output --partial served
	wait_until 5 sh -c "[ \$(grep -c '^refused 192.0.2.2:.* proxy-header$' '$OUT/listen.out') = 8 ]"
	refute_line_in listen.out '^open'
}

@test "waiting for headers costs no time: thousands of partial ones do not spin" {
	listen 3129
	# All are there before it looks: the three seconds of each begin then.
	signal listen STOP
	bg half client python3 -c '
import socket, sys
held = [socket.create_connection(("192.0.2.1", 3129)) for i in range(200)]
for s in held: s.send(b"PROXY TCP4 ")
print("sent", flush=True)
for s in held: s.settimeout(60); s.recv(1)'
	wait_line half.out sent
	signal listen CONT
	local pid before after
	pid=$(pid_of listen)
	# It has accepted them, and looked.
	wait_until 10 eval '(($(compgen -G "/proc/$pid/fd/*" | wc -l) >= 200))'
	before=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	on proxy sleep 0.5
	after=$(awk '{ print $14 + $15 }' "/proc/$pid/stat")
	((after - before < 15)) || fail "$((after - before)) ticks of CPU while nothing came"
	wait_until 10 sh -c "[ \$(grep -c '^refused' '$OUT/listen.out') = 200 ]"
}

@test "HAProxy's headers are understood: version 1, and 2 with checksum and unique id" {
	listen --log 3129 -- sh -c 'echo "$TCPREMOTEIP $TCPLOCALIP $TCPLOCALPORT $TPROXY_ORIGDST_BY"'
	start_header_sender 192.0.2.1:3129 '%[uuid()]'
	run connect_from bystander 192.0.2.2:8001
	assert_output '203.0.113.2 192.0.2.2 8001 proxy-protocol'
	run connect_from bystander 192.0.2.2:8002
	assert_output '203.0.113.2 192.0.2.2 8002 proxy-protocol'
}
