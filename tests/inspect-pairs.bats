#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-inspect pairs and kill: the two halves of relayed connections.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | TCP ports 80 and 81, UDP ports 5300 and 5301 go to the relay, 3129

bats_require_minimum_version 1.5.0
load lib/udp

setup() {
	lab_up
}

teardown() {
	lab_down
}

# two_connections: one of each family through the relay, which stay open; the server holds its ends.
two_connections() {
	intercept 80
	relay "$@"
	peer server server serve 80 recv:hello send:world gone
	peer four client -b 192.0.2.2:40001 connect "$V4" 80 send:hello recv:world "touch:$OUT/four" gone
	peer six client -b '[2001:db8:1::2]:40002' connect "$V6" 80 send:hello recv:world "touch:$OUT/six" gone
	wait_until 5 test -e "$OUT/four" -a -e "$OUT/six"
}

pairs() {
	on proxy tproxy-inspect pairs "$@"
}

# is_stuck CLIENT_PORT WHY
is_stuck() {
	pairs --stuck -qH -o client,stuck | grep -qE ":$1 +$2\$"
}

@test "pairs: the halves of tproxy-relay's connections, with the kernel's data on both" {
	two_connections
	run pairs -H -o client,origdst,state,upstream_local,upstream,upstream_state,bytes_up,bytes_down
	assert_success
	assert_line --regexp "^192\.0\.2\.2:40001 +$V4:80 +ESTAB +192\.0\.2\.2:40001 +$V4:80 +ESTAB +5 +5\$"
	assert_line --regexp "^\[2001:db8:1::2\]:40002 +\[$V6\]:80 +ESTAB +\[2001:db8:1::2\]:40002 +\[$V6\]:80 +ESTAB +5 +5\$"
	assert_equal "${#lines[@]}" 2
	run pairs --json -4
	assert_equal "${#lines[@]}" 1
	run jq -ce '[.type, .proto, .client.port, .recv_q, .send_q, .upstream_recv_q, .upstream_send_q, .retrans, .upstream_retrans,
		(.rtt_ms > 0), (.upstream_rtt_ms > 0), (.idle_ms >= 0), .prog, .cookie[0:2], .upstream_cookie[0:2], has("stuck")]' <<<"$output"
	assert_output '["pair","tcp",40001,0,0,0,0,0,0,true,true,true,"tproxy-relay","0x","0x",false]'
	# The cookies are those of the two sockets.
	run bash -c "$(declare -f on)"'
		on proxy tproxy-inspect pairs --json -4 | jq -r ".cookie, .upstream_cookie" | sort
		on proxy tproxy-inspect --json -4 --state ESTAB | jq -r .cookie | sort'
	assert_equal "${lines[*]:0:2}" "${lines[*]:2:2}"
}

@test "pairs: the filters apply to either half; no match is status 1" {
	two_connections
	run pairs -H -o client --local "$V4:80"
	assert_output 192.0.2.2:40001
	run pairs -H -o client --local 192.0.2.2:40001 # the upstream leg's
	assert_output 192.0.2.2:40001
	run pairs -H -o client --peer '[2001:db8:1::/64]'
	assert_output '[2001:db8:1::2]:40002'
	run pairs -H -o client --prog tproxy-relay -6
	assert_output '[2001:db8:1::2]:40002'
	run --separate-stderr -1 pairs -H --prog nobody
	assert_output ""
	assert_equal "$stderr" "tproxy-inspect: no relayed connection matches"
	run --separate-stderr -1 pairs --stuck
	assert_equal "$stderr" "tproxy-inspect: no connection is stuck"
	run --separate-stderr -2 pairs nonsense
	assert_regex "$stderr" 'takes no operand'
}

@test "pairs: tproxy-relay reports its pairs, even if none could be guessed; not if its version differs" {
	intercept 80
	relay --source client-addr
	peer server server serve 80 recv:hello send:world gone
	peer a client -b 192.0.2.2:40001 connect "$V4" 80 send:hello recv:world "touch:$OUT/a" gone
	peer b client -b 192.0.2.2:40002 connect "$V4" 80 send:hello recv:world "touch:$OUT/b" gone
	wait_until 5 test -e "$OUT/a" -a -e "$OUT/b"
	run --separate-stderr pairs -H -o client,upstream,paired_by
	assert_line --regexp "^192\.0\.2\.2:40001 +$V4:80 +relay\$"
	assert_line --regexp "^192\.0\.2\.2:40002 +$V4:80 +relay\$"
	assert_equal "${#lines[@]}" 2
	assert_equal "$stderr" ""
	# The sockets that the kernel lists are those that the relay speaks of.
	run bash -c "$(declare -f on)"'
		on proxy tproxy-inspect pairs --json --peer 192.0.2.2:40001 | jq -r "[.cookie, .upstream_cookie] | @tsv"
		on proxy tproxy-relay --ask connections --json | jq -r "select(.client.port == 40001) | [.cookie, .upstream_cookie] | @tsv"'
	assert_equal "${lines[0]}" "${lines[1]}"
	# Somebody of another version answers at such a name; and ours stands still.
	bg other proxy python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.bind("\0tproxy-relay/1"); s.listen(); print("ready", flush=True)
while True:
	c = s.accept()[0]
	c.recv(100)
	c.send(b"{\"v\":2,\"type\":\"relay\"}\n")'
	wait_line other.out ready
	run --separate-stderr pairs -H -o client,paired_by
	assert_regex "$stderr" '@tproxy-relay/1: .*version 2.*guessed'
	assert_line --regexp '^192\.0\.2\.2:40001 +relay$'
	signal relay STOP
	run --separate-stderr pairs -H -o client,upstream,paired_by
	signal relay CONT
	assert_regex "$stderr" 'guessed'
	refute_output --partial relay
	assert_equal "${#lines[@]}" 4
}

@test "pairs: a stranger with a relay's name cannot join others' sockets" {
	root_only
	two_connections
	on proxy tproxy-inspect --json --state ESTAB >"$OUT/sockets"
	local cookies
	mapfile -t cookies < <(jq -r .cookie "$OUT/sockets")
	signal relay STOP
	bg liar proxy setpriv --reuid=65533 --regid=65533 --clear-groups /usr/bin/python3 -c 'import socket, sys, json
s = socket.socket(socket.AF_UNIX); s.bind("\0tproxy-relay/2"); s.listen(); print("ready", flush=True)
c = sys.argv[1:]
while True:
    a = s.accept()[0]
    for r in [dict(v=1, type="relay")] + [dict(v=1, type="connection", proto="tcp", cookie=x, upstream_cookie=y) for x in c for y in c if x != y] + [dict(v=1, type="end")]:
        a.send((json.dumps(r) + "\n").encode())' "${cookies[@]}"
	wait_line liar.out ready
	run pairs -H -o client,paired_by
	signal relay CONT
	refute_output --regexp ' relay$'
	assert_line --regexp '^192\.0\.2\.2:40001 +guessed$'
}

# takes MS COMMAND...: no more than that; its output goes to $OUT/took, its errors to $OUT/took.err. (To be waited for:
# what is judged is the least. One that waits for somebody always takes longer, and on a busy machine one may.)
takes() {
	local from=${EPOCHREALTIME/./} limit=$1
	"${@:2}" >"$OUT/took" 2>"$OUT/took.err" || :
	(((${EPOCHREALTIME/./} - from) / 1000 < limit))
}

@test "pairs: users who listen at relays' names hold nobody up, with full queues or without a word" {
	root_only "needs a second user id"
	two_connections
	impostors full full
	wait_until 10 takes 1000 pairs -H -o client,paired_by
	assert_line_in took '^192\.0\.2\.2:40001 +relay$'
	assert_line_in took.err '@tproxy-relay/42000000[0-9]+: its queue is full, and uid [0-9]+ is not waited for: what'
	wait_until 10 takes 1000 on proxy tproxy-relay --ask counters @tproxy-relay/4200000001
	assert_line_in took.err 'connect: @tproxy-relay/4200000001: its queue is full, and uid [0-9]+ is not waited for'
	stop full || :
	impostors silent silent
	wait_until 30 takes 6000 pairs -H -o client,paired_by
	assert_line_in took '^192\.0\.2\.2:40001 +relay$'
	assert_line_in took.err "not asked: other users' have taken too long"
}

@test "pairs: HAProxy's, by the reversed ends, or by the client's end with another upstream" {
	on proxy tproxy-setup up -q --port 80 --to '*:3129'
	on proxy tproxy-setup up -q --name other --port 81 --to '*:3130'
	peer server server serve 80 recv:hello send:world gone
	peer other server serve 90 recv:hello send:world gone
	start_haproxy proxy <<-END
		listen with_port
			bind :3129 transparent
			source 0.0.0.0 usesrc client
			server server 198.51.100.2:80
		listen other_port
			bind :3130 transparent
			source 0.0.0.0 usesrc client
			server server 198.51.100.2:90
	END
	wait_listen proxy 3129
	peer a client -b 192.0.2.2:40001 connect "$V4" 80 send:hello recv:world "touch:$OUT/a" gone
	peer b client -b 192.0.2.2:40002 connect "$V4" 81 send:hello recv:world "touch:$OUT/b" gone
	wait_until 5 test -e "$OUT/a" -a -e "$OUT/b"
	run pairs -H -o client,origdst,upstream_local,upstream,paired_by
	assert_line --regexp "^192\.0\.2\.2:40001 +$V4:80 +192\.0\.2\.2:40001 +$V4:80 +guessed\$"
	assert_line --regexp "^192\.0\.2\.2:40002 +$V4:81 +192\.0\.2\.2:40002 +$V4:90 +guessed\$"
	assert_equal "${#lines[@]}" 2
}

@test "pairs: by the client's address and the destination, if that is unambiguous" {
	on proxy tproxy-setup up -q --port 80 --to '*:3129'
	peer server server serve 80 recv:hello send:world gone
	start_haproxy proxy <<-END
		listen address
			bind :3129 transparent
			source 0.0.0.0 usesrc clientip
			server server 198.51.100.2:80
	END
	wait_listen proxy 3129
	peer a client -b 192.0.2.2:40001 connect "$V4" 80 send:hello recv:world "touch:$OUT/a" gone
	wait_until 5 test -e "$OUT/a"
	run pairs -H -o client,origdst,upstream,paired_by
	assert_output --regexp "^192\.0\.2\.2:40001 +$V4:80 +$V4:80 +guessed\$"
	refute_output --partial 'upstream'
	# A second one of the same client: which is whose cannot be told.
	peer b client -b 192.0.2.2:40002 connect "$V4" 80 send:hello recv:world "touch:$OUT/b" gone
	wait_until 5 test -e "$OUT/b"
	run pairs -H -o client,upstream,paired_by
	assert_equal "${#lines[@]}" 4
	refute_output --partial guessed
	# Another client's is joined all the same.
	peer c client -b 192.0.2.10:40001 connect "$V4" 80 send:hello recv:world "touch:$OUT/c" gone
	wait_until 5 test -e "$OUT/c"
	run pairs -H -o client,upstream,paired_by --peer 192.0.2.10
	assert_output --regexp "^192\.0\.2\.10:40001 +$V4:80 +guessed\$"
}

@test "pairs: the two ends of a connection within this host are not a pair" {
	bg direct proxy tproxy-listen --hold 0 '*:3131'
	wait_listen proxy 3131
	bg inside proxy socat -u TCP:127.0.0.1:3131,sourceport=40005 -
	wait_line direct.out :40005
	run -1 pairs -H --local 127.0.0.1:40005
	run pairs -H -o client,origdst,upstream,paired_by
	assert_output --regexp '^127\.0\.0\.1:40005 +127\.0\.0\.1:3131 +- +-$'
}

@test "pairs --stuck: which side holds a connection up" {
	intercept 80-86
	relay --idle-timeout 1h
	# the server does not read; the client does not read; the server has vanished; and all is well
	peer full server listen 80 "await:$OUT/end"
	peer flood server listen 81 fill "await:$OUT/end"
	peer vanish server listen 82 recv:hello "touch:$OUT/ready" "await:$OUT/end"
	peer well server listen 83 recv:hello "await:$OUT/end"
	peer cfull client -b 192.0.2.2:40080 connect "$V4" 80 fill "await:$OUT/end"
	peer cflood client -b 192.0.2.2:40081 connect "$V4" 81 "await:$OUT/end"
	peer cvanish client -b 192.0.2.2:40082 connect "$V4" 82 send:hello "await:$OUT/ready" zeros:1000 "await:$OUT/end"
	on server nft -f - <<-'END'
		table ip gone {
			chain in { type filter hook prerouting priority -400; tcp dport 82 meta length > 200 drop; }
		}
	END
	peer cwell client -b 192.0.2.2:40083 connect "$V4" 83 send:hello "await:$OUT/end"
	wait_until 30 is_stuck 40080 server-full
	wait_until 30 is_stuck 40081 client-full
	wait_until 30 is_stuck 40082 server-silent
	# Then the relay itself stops, and a client's data lie in its socket.
	signal relay STOP
	peer cproxy client -b 192.0.2.2:40084 connect "$V4" 83 send:hello "await:$OUT/end"
	wait_until 30 is_stuck 40084 proxy
	run pairs -q --stuck -H -o client
	refute_line --partial 40083
	assert_equal "${#lines[@]}" 4
	run pairs -q -H -o client,stuck --peer 192.0.2.2:40083
	assert_output --regexp '^192\.0\.2\.2:40083 +-$'
	signal relay CONT
}

@test "pairs --stuck: an end that the proxy does not pass on" {
	on proxy tproxy-setup up -q --port 80 --to 3129
	# A proxy that does not read on, once it has seen the end.
	bg bad proxy python3 -c '
import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_IP, 19, 1); s.bind(("127.0.0.1", 3129)); s.listen()
c, client = s.accept()
u = socket.socket(); u.setsockopt(socket.SOL_IP, 19, 1); u.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 2)
u.bind(client); u.connect(c.getsockname())
u.send(c.recv(100)); c.recv(100)
time.sleep(1000)'
	wait_listen proxy 3129
	peer server server listen 80 recv:hello gone
	peer client client -b 192.0.2.2:40001 connect "$V4" 80 send:hello fin gone
	wait_until 30 is_stuck 40001 end
}

@test "kill: refuses to run without a filter, --dry-run ends nothing, both halves are ended" {
	two_connections --log events
	run --separate-stderr -2 on proxy tproxy-inspect kill
	assert_output ""
	assert_regex "$stderr" 'needs at least one of .*--peer'
	run -2 on proxy tproxy-inspect kill -a -4
	run on proxy tproxy-inspect kill --dry-run -H -o event,local,peer --peer 192.0.2.2
	assert_success
	assert_line --regexp "^would-end +$V4:80 +192\.0\.2\.2:40001\$"
	assert_line --regexp "^would-end +192\.0\.2\.2:40001 +$V4:80\$"
	assert_equal "${#lines[@]}" 2
	run pairs -q -H
	assert_equal "${#lines[@]}" 2
	# A relay that stands still cannot end the other half by itself.
	signal relay STOP
	run on proxy tproxy-inspect kill -H -o event,local,peer,pid,prog --peer 192.0.2.2
	assert_success
	local pid
	pid=$(pid_of relay)
	assert_line --regexp "^ended +$V4:80 +192\.0\.2\.2:40001 +$pid +tproxy-relay\$"
	assert_line --regexp "^ended +192\.0\.2\.2:40001 +$V4:80 +$pid +tproxy-relay\$"
	run wait_exit four
	assert_success # it saw the reset
	run pairs -q -H -o client
	assert_output '[2001:db8:1::2]:40002'
	signal relay CONT
	wait_line relay.out 'close .*40001'
	run on proxy tproxy-inspect kill --json --local "[$V6]:80"
	assert_success
	run wait_exit six
	assert_success
}

@test "kill: listeners are spared unless requested, no match is status 1" {
	bg listen proxy tproxy-listen --hold 0 3131
	wait_listen proxy '[::1]:3131'
	run --separate-stderr -1 on proxy tproxy-inspect kill --local '*:3131'
	assert_equal "$stderr" "tproxy-inspect: no transparent connection matches; -a includes others"
	run --separate-stderr -1 on proxy tproxy-inspect kill -a --peer 203.0.113.9
	assert_equal "$stderr" "tproxy-inspect: no connection matches"
	run on proxy tproxy-inspect kill -H -o event,state,local --local '*:3131' --state LISTEN -4
	assert_output --regexp '^ended +LISTEN +127\.0\.0\.1:3131$'
	run -1 on proxy tproxy-inspect --state LISTEN -4
}

@test "kill: failures are reported, with the missing capability" {
	two_connections
	run --separate-stderr -3 on proxy setpriv --bounding-set=-all --inh-caps=-all \
		tproxy-inspect kill -H -o event,peer,reason --peer 192.0.2.0/24 --peer "$V4"
	assert_line --regexp '^failed +192\.0\.2\.2:40001 +EPERM$'
	assert_line --regexp "^failed +$V4:80 +EPERM\$"
	assert_equal "$(grep -c CAP_NET_ADMIN <<<"$stderr")" 1 # said once, not for each
	run pairs -q -H
	assert_equal "${#lines[@]}" 2
}

@test "kill: UDP, and sockets that are not transparent" {
	bg udp proxy socat -u UDP-RECVFROM:5353,bind=192.0.2.1 -
	bg direct proxy tproxy-listen --hold 0 --redirect 3131
	wait_listen proxy 5353 udp
	wait_listen proxy 3131
	peer client client -b 192.0.2.2:40001 connect 192.0.2.1 3131 "touch:$OUT/client" gone
	wait_until 5 on proxy sh -c 'tproxy-inspect -aH --peer 192.0.2.2 | grep -q ESTAB'
	run on proxy tproxy-inspect kill -aH -o event,proto,peer --peer 192.0.2.2:40001
	assert_output --regexp '^ended +tcp +192\.0\.2\.2:40001$'
	run wait_exit client
	run on proxy tproxy-inspect kill -auH -o event,proto,local --local '*:5353' --state UNCONN
	assert_output --regexp '^ended +udp +192\.0\.2\.1:5353$'
	run wait_exit udp 5
}

# udp_flows: two that are over when they have been silent for a while, of both families; one that was never
# answered; and one that goes on until $OUT/end is there, with sockets of its own on both sides.
udp_flows() {
	dgram server server serve 5300
	dgram sink server sink 5301
	intercept_udp 5300,5301
	udp_relay -o event,client,reason
	bg stream client "$DGRAM" stream "$V4" 5300 1 50 "$OUT/end"
	on client "$DGRAM" tell 40001 "$V4" 5301 2
	ask_from client 40003 "$V6" 5300 3
	wait_until 5 has_sockets
}

# has_sockets: the flow from port 43000 has two.
has_sockets() {
	(($(on proxy tproxy-inspect sockets -uqH --state ESTAB -o local,peer | grep -c ':43000') == 2))
}

@test "pairs -u: the flows of tproxy-relay, with and without a socket towards the client" {
	udp_flows
	run pairs -uH -o proto,client,origdst,state,upstream_local,upstream,upstream_state,bytes_up,bytes_down,packets_up,packets_down,prog,paired_by
	assert_line --regexp "^udp +192\.0\.2\.2:40001 +$V4:5301 +unanswered +192\.0\.2\.2:40001 +$V4:5301 +ESTAB +40 +0 +2 +0 +tproxy-relay +relay\$"
	assert_line --regexp "^udp +\[2001:db8:1::2\]:40003 +\[$V6\]:5300 +established +\[2001:db8:1::2\]:40003 +\[$V6\]:5300 +ESTAB +60 +60 +3 +3 +tproxy-relay +relay\$"
	assert_line --regexp "^udp +192\.0\.2\.2:43000 +$V4:5300 +established .* tproxy-relay +relay\$"
	assert_equal "${#lines[@]}" 3
	# The cookies are those of the sockets, where there are any.
	run bash -c "$(declare -f on)"'
		on proxy tproxy-inspect pairs -uj | jq -r ".cookie // empty, .upstream_cookie" | sort
		echo --
		on proxy tproxy-inspect sockets -uj --state ESTAB | jq -r .cookie | sort'
	assert_equal "${#lines[@]}" 9
	assert_equal "${lines[*]:0:4}" "${lines[*]:5:4}"
	run jq -ce '[.type, has("recv_q"), has("cookie"), .upstream_recv_q, .idle_ms >= 0, has("stuck"), has("rtt_ms")]' \
		<<<"$(pairs -uj --peer 192.0.2.2:40001)"
	assert_output '["pair",false,false,0,true,false,false]'
	# Selected by either end, by family, by holder; TCP is another list.
	run pairs -uH -o client --peer "$V4:5301"
	assert_output 192.0.2.2:40001
	run pairs -u6H -o client --prog tproxy-relay
	assert_output '[2001:db8:1::2]:40003'
	run --separate-stderr -1 pairs -uH --prog nobody
	assert_equal "$stderr" "tproxy-inspect: no relayed connection matches"
	run -1 pairs -uH --stuck
	run -1 pairs -H
	run pairs -tuH -o client --peer 192.0.2.2:40001
	assert_output 192.0.2.2:40001
	touch "$OUT/end"
	run -0 wait_exit stream
}

@test "pairs -u: one-way flows, which have no socket" {
	dgram server server sink 5300
	intercept_udp 5300
	udp_relay --one-way
	on client "$DGRAM" tell 40001 "$V4" 5300 3
	wait_line server.out '^192.0.2.2 40001'
	run pairs -uH -o client,origdst,upstream_local,upstream,upstream_state,packets_up,pid --peer 192.0.2.2
	assert_output --regexp "^192\.0\.2\.2:40001 +$V4:5300 +192\.0\.2\.2:40001 +$V4:5300 +- +3 +-\$"
	run --separate-stderr -1 on proxy tproxy-inspect kill -uH --peer 192.0.2.2
	assert_output ""
	assert_equal "$stderr" "tproxy-inspect: UDP flows without a socket of their own: 1; they end when they are silent for tproxy-relay's --udp-timeout"
}

@test "kill -u: a flow whose socket is in another network namespace; a relay that does not tell is no empty list" {
	dgram server server serve 5300
	intercept_udp 5300
	udp_relay --upstream-netns "$LAB_server" --source own -4
	on client "$DGRAM" tell 40001 "$V4" 5300 1
	run --separate-stderr pairs -uH -o client,upstream_netns
	assert_output --regexp "^192\.0\.2\.2:40001 +$LAB_server\$"
	run --separate-stderr -1 on proxy tproxy-inspect kill -uH --peer 192.0.2.2
	assert_output ""
	assert_equal "$stderr" "tproxy-inspect: UDP flows whose socket is in another network namespace: 1; \`tproxy-inspect kill -ua --netns $LAB_server\` ends it, by its own ends"
	run on proxy tproxy-inspect kill -uaH -o event --netns "$LAB_server" --peer "$V4:5300"
	assert_output ended
	signal relay STOP
	run --separate-stderr -3 on proxy tproxy-inspect kill -uH --peer 192.0.2.2
	signal relay CONT
	assert_output ""
	assert_equal "$stderr" "tproxy-inspect: @tproxy-relay/$(pid_of relay): recv: Connection timed out: its flows are missing"
}

@test "pairs -u: of another user's relay, flows that a socket proves, one for each, and how many are none" {
	root_only "needs a second user id"
	bg liar proxy setpriv --reuid=65533 --regid=65533 --clear-groups /usr/bin/python3 -c 'import socket, json
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(("192.0.2.2", 53))
cookie = hex(int.from_bytes(u.getsockopt(socket.SOL_SOCKET, 57, 8), "little"))
own = dict(zip(("addr", "port"), u.getsockname())); peer = dict(addr="192.0.2.2", port=53); other = dict(addr="192.0.2.3", port=53)
s = socket.socket(socket.AF_UNIX); s.bind("\0tproxy-relay/2"); s.listen(); print("ready", flush=True)
while True:
    a = s.accept()[0]
    for r in [dict(v=1, type="relay")] + [dict(v=1, type="connection", proto="udp", id=i, client=other, origdst=peer,
            upstream_local=own, state="\x1b[31m", **c) for i, c in enumerate((dict(upstream=peer), dict(upstream=other, upstream_cookie=cookie),
            dict(upstream=peer, upstream_cookie=cookie), dict(upstream=peer, upstream_cookie=cookie)))] + [dict(v=1, type="end")]:
        a.send((json.dumps(r) + "\n").encode())'
	wait_line liar.out ready
	run --separate-stderr pairs -uH -o client,upstream,state
	assert_output --regexp '^192\.0\.2\.3:53 +192\.0\.2\.2:53 +unknown$'
	assert_equal "$stderr" "tproxy-inspect: UDP flows of uid 65533 that are not shown, as nothing proves them: 3"
	stop liar || :
	# A relay that never was root, with an address of its own to the server.
	dgram server server serve 5300
	intercept_udp 5300
	local as=(setpriv --reuid=65533 --clear-groups "--inh-caps=+net_admin,+net_raw" "--ambient-caps=+net_admin,+net_raw")
	bg relay proxy "${as[@]}" tproxy-relay -u "$RELAY_PORT" --source own
	wait_listen proxy "$RELAY_PORT" udp
	ask_from client 40001 "$V4" 5300 1
	run --separate-stderr pairs -uH -o client,upstream_local,upstream,packets_up
	assert_output --regexp "^192\.0\.2\.2:40001 +198\.51\.100\.1:[0-9]+ +$V4:5300 +1\$"
	assert_equal "$stderr" ""
}

opened_twice() {
	(($(grep -c '^open 192\.0\.2\.2:43000 ' "$OUT/relay.out") == 2))
}

@test "kill -u: both sockets of a flow; the relay ends it, and the client's next datagram begins another" {
	udp_flows
	run on proxy tproxy-inspect kill -uH --dry-run -o event,local,peer --peer 192.0.2.2:43000
	assert_line --regexp "^would-end +192\.0\.2\.2:43000 +$V4:5300\$"
	assert_line --regexp "^would-end +$V4:5300 +192\.0\.2\.2:43000\$"
	assert_equal "${#lines[@]}" 2
	run on proxy tproxy-inspect kill -uH -o event,local --peer 192.0.2.2:43000
	assert_success
	assert_equal "${#lines[@]}" 2
	wait_line relay.out '^close 192.0.2.2:43000 destroyed$'
	wait_until 5 opened_twice
	# By the client's end alone, which is no socket's.
	run on proxy tproxy-inspect kill -uH -o event,local,prog --peer '[2001:db8:1::2]:40003'
	assert_output --regexp '^ended +\[2001:db8:1::2\]:40003 +tproxy-relay$'
	wait_line relay.out '^close \[2001:db8:1::2\]:40003 destroyed$'
	ask_from client 40003 "$V6" 5300 1
	touch "$OUT/end"
}
