#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-listen -u: flows of datagrams.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | UDP port 5300: TPROXY to the listener at 3129
#                           | other ports: forwarded, as ever

bats_require_minimum_version 1.5.0
load lib/lab
load lib/see

setup() {
	lab_up
	tproxy_udp_to 5300 3129
}

teardown() {
	lab_down
}

listen() {
	bg listen proxy tproxy-listen -u "$@"
	wait_listen proxy 127.0.0.1:3129 udp
	wait_listen proxy '[::1]:3129' udp
}

# ask ADDRESS SOURCE_PORT WORD...: send each word as a datagram, wait for the answer to each, print them.
ask() {
	on client timeout --foreground 60 python3 -c '
import socket, sys
to, port, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", port))
s.connect((to, 5300)) # answers from anywhere else are not seen
s.settimeout(15)
for w in words:
    s.send(w.encode())
    print(s.recv(65536).decode().strip())' "$@"
}

# tell ADDRESS SOURCE_PORT WORD...: only send.
tell() {
	on client python3 -c '
import socket, sys
to, port, words = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", port))
for w in words: s.sendto(w.encode(), (to, 5300))' "$@"
}

@test "a record for each flow, both families; other ports are left alone" {
	bg other server socat -u UDP6-RECV:5301,ipv6only=0 -
	wait_listen server 5301 udp
	listen -o event,proto,client,origdst,origdst_by 3129
	tell 198.51.100.2 40001 one two three
	wait_line listen.out :40001 # each family has a queue of its own
	tell 2001:db8:2::2 40002 one two
	wait_line listen.out :40002
	tell 198.51.100.2 40003 one
	on client bash -c 'echo hello >/dev/udp/198.51.100.2/5301'
	wait_line listen.out :40003
	wait_line other.out hello
	run cat "$OUT/listen.out"
	assert_line --index 0 'open udp 192.0.2.2:40001 198.51.100.2:5300 tproxy'
	assert_line --index 1 'open udp [2001:db8:1::2]:40002 [2001:db8:2::2]:5300 tproxy'
	assert_line --index 2 'open udp 192.0.2.2:40003 198.51.100.2:5300 tproxy'
	assert_equal "${#lines[@]}" 3
}

@test "--datagrams: a record for each, with its length" {
	listen --datagrams -o event,client,origdst,bytes_up 3129
	tell 198.51.100.2 40001 one three
	wait_line listen.out ' 5$'
	run cat "$OUT/listen.out"
	assert_line --index 0 'datagram 192.0.2.2:40001 198.51.100.2:5300 3'
	assert_line --index 1 'datagram 192.0.2.2:40001 198.51.100.2:5300 5'
}

@test "--count N ends after N flows, or datagrams" {
	listen --count 2 --log -o event,client,packets_up,reason 3129
	tell 198.51.100.2 40001 one two
	tell 198.51.100.2 40002 one
	run wait_exit listen
	assert_success
	assert_line_in listen.out '^close 192.0.2.2:40001 2 stopped$'
	listen --count 2 --datagrams 3129
	tell 198.51.100.2 40001 one two three
	run wait_exit listen
	assert_success
	assert_equal "$(wc -l <"$OUT/listen.out")" 2
}

@test "TCP and UDP in one listener" {
	tproxy_to 80 3129
	listen -t -o event,proto,client 3129
	wait_listen proxy 127.0.0.1:3129
	tell 198.51.100.2 40001 one
	run connect_from client 198.51.100.2:80 sourceport=40002
	wait_line listen.out '^open udp 192.0.2.2:40001$'
	wait_line listen.out '^open tcp 192.0.2.2:40002$'
}

@test "--echo and --reply answer as the original destination, and count" {
	listen --log --echo -o event,client,packets_up,packets_down,bytes_up,reason 3129
	run ask 198.51.100.2 40001 one two three
	assert_output $'one\ntwo\nthree'
	run ask 2001:db8:2::2 40002 six
	assert_output six
	stop listen
	assert_line_in listen.out '^close 192.0.2.2:40001 3 3 11 stopped$'
	assert_line_in listen.out '^close \[2001:db8:1::2\]:40002 1 1 3 stopped$'
	listen --reply 'pong\n' 3129
	run ask 198.51.100.2 40001 one two
	assert_output $'pong\npong'
}

@test "CMD gets a connected socket, from the first datagram on, and the UCSPI environment" {
	listen --log -o event,client,reason 3129 -- python3 -c '
import os, socket
s = socket.socket(fileno=0)
peer, own = s.getpeername()[:2], s.getsockname()[:2]
for n in range(3):
    text = s.recv(2000).decode()
    s.send(("%s %s %s %s" % (text, peer, own, [os.environ[v] for v in ("PROTO", "UDPREMOTEIP",
        "UDPREMOTEPORT", "UDPLOCALIP", "UDPLOCALPORT", "TPROXY_ORIGDST", "TPROXY_ORIGDST_BY")])).encode())'
	run ask 198.51.100.2 40001 one two three
	assert_line --index 0 "one ('192.0.2.2', 40001) ('198.51.100.2', 5300) ['UDP', '192.0.2.2', '40001', '198.51.100.2', '5300', '198.51.100.2:5300', 'tproxy']"
	assert_line --index 1 --partial two
	assert_line --index 2 --partial three
	run ask 2001:db8:2::2 40002 one
	assert_output --partial "one ('2001:db8:1::2', 40002) ('2001:db8:2::2', 5300) ['UDP', '2001:db8:1::2'"
	wait_line listen.out '^close 192.0.2.2:40001 done$'
	# the flow has ended with its command: the next datagram begins another one
	run ask 198.51.100.2 40001 again
	assert_output --partial again
	assert_equal "$(grep -c '^open 192.0.2.2:40001' "$OUT/listen.out")" 2
}

@test "many clients of one destination at once: each command gets its own client's data only" {
	listen 3129 -- python3 -c '
import os, socket
s = socket.socket(fileno=0)
while True: s.send((s.recv(2000).decode() + " " + os.environ["UDPREMOTEPORT"]).encode())'
	run on client timeout --foreground 60 python3 -c '
import select, socket
socks = []
for port in range(42000, 42030):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", port)); s.connect(("198.51.100.2", 5300))
    socks.append((port, s))
for n in range(4):
    for port, s in socks: s.send(b"%d" % port)
wrong = heard = 0
while heard < 120:
    ready = select.select([s for p, s in socks], [], [], 15)[0]
    if not ready: break
    for port, s in socks:
        if s not in ready: continue
        got = s.recv(2000).decode()
        heard += 1
        wrong += got != "%d %d" % (port, port)
print("wrong", wrong, "heard", heard)'
	assert_output 'wrong 0 heard 120'
}

@test "a direct datagram is refused if there is a command, once per flow" {
	bg listen proxy tproxy-listen -u --log -o event,client,reason '*:3129' -- sleep 1000
	wait_listen proxy 3129 udp
	on client python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 40001))
for n in range(5): s.sendto(b"x", ("192.0.2.1", 3129))
s.sendto(b"x", ("198.51.100.2", 5300))'
	wait_line listen.out '^open 192.0.2.2:40001'
	assert_equal "$(grep -c '^refused 192.0.2.2:40001 direct$' "$OUT/listen.out")" 1
	signal listen TERM
	wait_until 5 on proxy sh -c '! ss -Hunl "sport = :3129" | grep -q UNCONN'
	signal listen TERM
	run wait_exit listen
	assert_success
}

# listen_redirected PORT OPTION...: what comes for that UDP port is REDIRECTed to the listener.
listen_redirected() {
	redirect_to "$1" 3130 udp
	bg redirected proxy "${@:2}"
	wait_listen proxy 3130 udp
}

# tell_port PORT ADDRESS SOURCE_PORT: one datagram.
tell_port() {
	on client python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", int(sys.argv[3])))
s.sendto(b"hello", (sys.argv[2], int(sys.argv[1])))' "$@"
}

@test "REDIRECTed flows: the original destination comes from conntrack, both families" {
	listen_redirected 5302 tproxy-listen -u --redirect -o event,client,origdst,origdst_by 3130
	tell_port 5302 198.51.100.2 40001
	wait_line redirected.out :40001 # each family has a queue of its own
	tell_port 5302 2001:db8:2::2 40002
	wait_line redirected.out :40002
	tell_port 3130 192.0.2.1 40003
	wait_line redirected.out :40003
	run cat "$OUT/redirected.out"
	assert_line --index 0 'open 192.0.2.2:40001 198.51.100.2:5302 conntrack'
	assert_line --index 1 'open [2001:db8:1::2]:40002 [2001:db8:2::2]:5302 conntrack'
	assert_line --index 2 'open 192.0.2.2:40003 - none'
}

@test "a REDIRECTed flow cannot be answered, and is refused; no datagram loops" {
	listen_redirected 5302 tproxy-listen -u --redirect --echo -o event,client,reason 3130
	tell_port 5302 198.51.100.2 40001
	wait_line redirected.out '^refused 192.0.2.2:40001 redirected$'
	stop redirected
	# who may not ask conntrack sends the datagram once more, and NAT makes it another connection's
	bg redirected proxy setpriv --bounding-set=-net_admin --inh-caps=-net_admin \
		tproxy-listen -u --redirect --echo -o event,client,reason 3130
	wait_listen proxy 3130 udp
	tell_port 5302 198.51.100.2 40002
	wait_line redirected.out '^refused 192.0.2.2:40002 resources$'
	tell_port 3130 192.0.2.1 40003 # a direct one: it comes after all that the first has caused
	wait_line redirected.out :40003
	run cat "$OUT/redirected.out"
	assert_line --index 1 'open 192.0.2.2:40003 -'
	assert_equal "${#lines[@]}" 2
}

@test "clients on this very host are answered as well, in both families" {
	on proxy tproxy-setup up -q -u --local --name local5304 --port 5304 --to 3131
	bg own proxy tproxy-listen -u --echo --log -o event,client,origdst,packets_up,packets_down,reason 3131
	wait_listen proxy 127.0.0.1:3131 udp
	wait_listen proxy '[::1]:3131' udp
	for to in 198.51.100.2 2001:db8:2::2; do
		run -0 on proxy timeout --foreground 60 "$TOP/tests/lib/dgram" ask-open 40001 $to 5304 20
		assert_output "20 answers $to 5304"
	done
	stop own
	assert_line_in own.out '^close 198.51.100.1:40001 198.51.100.2:5304 20 20 stopped$'
	assert_line_in own.out '^close \[2001:db8:2::1\]:40001 \[2001:db8:2::2\]:5304 20 20 stopped$'
}

@test "--allow-direct: direct flows are answered on their own port, beside the listener" {
	bg listen proxy tproxy-listen -u --allow-direct '*:3129' -- \
		python3 -c 'import socket; s = socket.socket(fileno=0); s.send(s.recv(99).upper())'
	wait_listen proxy 3129 udp
	for address in 192.0.2.1 2001:db8:1::1 192.0.2.1; do
		run on client python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 3129)); s.settimeout(15); s.send(b"hello"); print(s.recv(99).decode())' "$address"
		assert_output HELLO
	done
	run -3 on proxy tproxy-listen -u '*:3129' # sharing is for its own flows only
	assert_output --partial "Address already in use"
}

@test "--user: flows have sockets of that user" {
	root_only "needs a second user id"
	bg listen proxy tproxy-listen -u --user nobody --allow-direct '*:3129' -- sh -c 'id -un'
	wait_listen proxy 3129 udp
	for address in 192.0.2.1/3129 198.51.100.2/5300; do
		run on client timeout --foreground 30 bash -c 'exec 5<>"/dev/udp/$0"; echo hello >&5; head -n 1 <&5' "$address"
		assert_output nobody
	done
}

@test "--pass hands over tcp4 tcp6 udp4 udp6 in that order" {
	bg pass proxy tproxy-listen -t -u --pass 3129 -- python3 -c '
import os, socket
print(os.environ["LISTEN_FDNAMES"], *[socket.socket(fileno=fd).type.name for fd in range(3, 7)])'
	wait_exit pass
	assert_equal "$(cat "$OUT/pass.out")" \
		'tcp4:tcp6:udp4:udp6 SOCK_STREAM SOCK_STREAM SOCK_DGRAM SOCK_DGRAM'
}

@test "mistakes: options for TCP only, and --datagrams without --udp" {
	run -2 on proxy tproxy-listen -u --hold 5 3129
	assert_output --partial '--hold and --udp'
	run -2 on proxy tproxy-listen -u --accept-proxy 192.0.2.2 3129
	run -2 on proxy tproxy-listen --datagrams 3129
	assert_output --partial '--datagrams: needs --udp'
	bg first proxy tproxy-listen -u 3129
	wait_listen proxy 127.0.0.1:3129 udp
	run -3 on proxy tproxy-listen -u 3129
	assert_output --partial "tproxy-listen (pid $(pid_of first)) listens there"
}

# flows HOST ADDRESS PORT COUNT [answered]: so many flows, a datagram `x` each, from ports 20000 on; prints how
# many were answered.
flows() {
	on "$1" timeout --foreground 60 python3 -c '
import socket, sys, time
to, count, answered = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), 0
for port in range(20000, 20000 + count):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", port))
    s.connect(to)
    s.settimeout(15)
    try:
        s.send(b"x")
        if len(sys.argv) > 4: answered += s.recv(9) == b"x"
        else: time.sleep(0.002) # the queue of a listener is short
    except OSError:
        pass
print(answered)' "${@:2}"
}

# records FILE REGEXP: how many lines match.
records() {
	grep -Ec -- "$2" "$OUT/$1" || :
}

@test "refused flows take no place: TCP and other clients are served meanwhile" {
	tproxy_to 80 3129
	bg listen proxy tproxy-listen -t -u --log -c 2 -o event,proto,client,reason '*:3129' -- echo served
	wait_listen proxy 3129 udp
	wait_listen proxy '[::]:3129'
	flows client 192.0.2.1 3129 30
	wait_line listen.out '^refused udp 192.0.2.2:20029 direct$'
	run connect_from bystander 198.51.100.2:80
	assert_output served
	stop listen
	listen -C 1 -c 2 --echo --log -o event,client,reason 3129
	flows client 198.51.100.2 5300 12 >"$OUT/none"
	wait_line listen.out '^refused 192.0.2.2:20011 per-client$'
	run flows bystander 198.51.100.2 5300 1 answered
	assert_output 1
	assert_equal "$(records listen.out '^refused .* per-client$')" 11
}

@test "at the limit the longest idle flow makes room, even for TCP" {
	tproxy_to 80 3129
	listen -t -c 3 --echo --log -o event,proto,client,reason 3129
	wait_listen proxy '[::1]:3129'
	run flows client 198.51.100.2 5300 4 answered
	assert_output 4
	run ask 198.51.100.2 20001 again # 20000 has made room already, and now 20002 is the oldest
	assert_output again
	run on bystander sh -c 'echo hello | timeout 10 socat -t 5 - TCP:198.51.100.2:80'
	assert_output hello
	stop listen
	assert_equal "$(awk '/evicted/ { print $2, $3 }' "$OUT/listen.out")" \
		$'udp 192.0.2.2:20000\nudp 192.0.2.2:20002'
	assert_equal "$(records listen.err 'idle longest')" 1
}

@test "out of descriptors flows make room, and all are answered" {
	tproxy_to 80 3129
	bg listen proxy prlimit --nofile=24:24 tproxy-listen -t -u --echo --log -o event,reason 3129
	wait_listen proxy 127.0.0.1:3129 udp
	wait_listen proxy '[::1]:3129'
	run flows client 198.51.100.2 5300 40 answered
	assert_output 40
	run on bystander sh -c 'echo hello | timeout 10 socat -t 5 - TCP:198.51.100.2:80'
	assert_output hello
	refute_line_in listen.out '^refused'
	stop listen
}

# meet_neighbours: only so many packets wait for the address of a neighbour that was not yet spoken to.
meet_neighbours() {
	run -1 on client timeout --foreground 5 bash -c ': </dev/tcp/192.0.2.1/9'
	assert_output --partial refused
}

# lose_on_lo: what goes round by way of lo does not arrive; find_on_lo: it does again.
lose_on_lo() {
	on proxy nft 'add table inet lose; add chain inet lose in { type filter hook input priority 0; };
		add rule inet lose in iif lo udp dport 5300 drop'
}
find_on_lo() {
	on proxy nft delete table inet lose
}

@test "first datagrams lost on lo delay nobody, are reported once, and each flow is recorded" {
	tproxy_to 80 3129
	lose_on_lo
	listen -t --echo -o event,proto,reason 3129
	wait_listen proxy '[::1]:3129'
	meet_neighbours
	flows client 198.51.100.2 5300 250
	run on bystander timeout --foreground 10 python3 -c '
import socket, time
began = time.monotonic()
s = socket.create_connection(("198.51.100.2", 80))
s.send(b"hello"); s.recv(9)
print("at once" if time.monotonic() - began < 4 else "late")' # 250 times 20 ms would be 5 s
	assert_output 'at once'
	wait_until 30 eval '(($(records listen.out "^refused udp resources$") == 250))'
	stop listen
	assert_equal "$(records listen.err 'did not come back through lo')" 1
	assert_line_in listen.err '250 flows were refused because they could not be opened'
}

@test "--count counts served flows: not a lost one, and only one of two at once" {
	listen --count 1 --echo --log -o event,client,reason 3129
	lose_on_lo
	tell 198.51.100.2 40001 one
	tell 198.51.100.2 40002 two # waits for what becomes of the first
	wait_line listen.out '^refused 192.0.2.2:40001 resources$'
	wait_line listen.out '^refused 192.0.2.2:40002 resources$'
	find_on_lo
	run ask 198.51.100.2 40003 three
	assert_output three
	tell 198.51.100.2 40004 four
	stop listen
	assert_equal "$(records listen.out '^open')" 1
	assert_equal "$(records listen.out ':40004')" 0
}

@test "datagrams that arrive with their last hop are answered like any other" {
	listen --echo 3129
	run on client timeout --foreground 60 python3 -c '
import socket
for family, to in (socket.AF_INET, "198.51.100.2"), (socket.AF_INET6, "2001:db8:2::2"):
    for n in range(2): # the same once more, from another port
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
        s.connect((to, 5300)); s.settimeout(15)
        s.send(b"probe"); print(s.recv(99).decode())'
	assert_output $'probe\nprobe\nprobe\nprobe'
}

@test "empty datagrams, and the longest, come back intact" {
	listen --echo --log -o event,bytes_up,packets_up 3129
	run on client timeout --foreground 60 python3 -c '
import socket
for size in 0, 65507:
    for to in "198.51.100.2", "2001:db8:2::2":
        s = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
        s.connect((to, 5300)); s.settimeout(15)
        sent = bytes(n % 251 for n in range(size))
        for n in range(2):
            s.send(sent)
            print(size, s.recv(70000) == sent)'
	assert_output "$(printf '%s True\n' 0 0 0 0 65507 65507 65507 65507)"
	stop listen
	assert_equal "$(records listen.out '^close 0 2$') $(records listen.out '^close 131014 2$')" '2 2'
}

@test "--takeover: the next one shares the endpoint, and gets everything when the first has ended" {
	listen --echo 3129
	bg next proxy tproxy-listen -u --takeover --echo -o event,client 3129
	wait_until 10 eval '(($(on proxy ss -Hnlu "src 127.0.0.1:3129" | wc -l) == 2))'
	stop listen
	run flows client 198.51.100.2 5300 20 answered
	assert_output 20
	assert_equal "$(records next.out '^open')" 20
}

# memory_of NAME: the KiB that it has in memory.
memory_of() {
	awk '/VmRSS/ { print $2 }' "/proc/$(pid_of "$1")/status"
}

@test "thousands of flows: little memory, each has its end record, and SIGTERM works at once" {
	local before after n
	listen --log -o event,client,reason 3129
	meet_neighbours
	before=$(memory_of listen)
	for n in {1..10}; do # no more at once than its queue holds
		on client python3 -c '
import socket, sys
for port in range(10000 + 200 * int(sys.argv[1]), 10200 + 200 * int(sys.argv[1])):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", port)); s.sendto(b"x", ("198.51.100.2", 5300)); s.close()' "$n"
		wait_until 10 eval '(($(records listen.out "^open") == 200 * n))'
	done
	after=$(memory_of listen)
	assert [ $((after - before)) -lt 6000 ]
	signal listen TERM
	run wait_exit listen 5
	assert_success
	assert_equal "$(records listen.out '^close .* stopped$')" 2000
}
