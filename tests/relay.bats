#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2016 # eval expands them
#
# tproxy-relay carries TCP: bytes, ends and resets as they are, with the client's own address.
#
#   client 192.0.2.2 --- proxy ------------------ server 198.51.100.2
#                        ports 80,8000-8100 go    bystander 203.0.113.2
#                        to tproxy-relay 3129

bats_require_minimum_version 1.5.0
load lib/relay

setup() {
	lab_up
	intercept 80,8000-8100
}

teardown() { lab_down; }

# ---------------------------------------------------------------- bytes and addresses

@test "the server sees the client's address and port, over IPv4 and IPv6" {
	start_nginx
	relay
	run -0 on client curl -sS --max-time 10 --local-port 40001 "http://$V4/who"
	assert_output "192.0.2.2 40001"
	run -0 on client curl -sS --max-time 10 --local-port 40002 "http://[$V6]/who"
	assert_output "2001:db8:1::2 40002"
	wait_line relay.out ' close 1 tcp 192\.0\.2\.2:40001 198\.51\.100\.2:80 tproxy 192\.0\.2\.2:40001 198\.51\.100\.2:80 addr\+port [1-9][0-9]* [1-9][0-9]* [0-9.]+ done$'
	wait_line relay.out ' close 2 tcp \[2001:db8:1::2\]:40002 \[2001:db8:2::2\]:80 tproxy '
	stop relay
}

@test "100 MB each way arrive as they were sent, over both families" {
	local big sum
	big=$(random_file 100M)
	sum=$(sum_of "$big")
	start_nginx
	ln "$big" "$WWW/big" 2>/dev/null || cp "$big" "$WWW/big"
	relay
	for host in "$V4" "[$V6]"; do
		run -0 on client curl -sS --max-time 60 -o "$OUT/down" "http://$host/big"
		assert_equal "$(sum_of "$OUT/down")" "$sum"
		run -0 on client curl -sS --max-time 60 -T "$big" "http://$host/up"
		assert_equal "$(sum_of "$WWW/up")" "$sum"
		rm "$WWW/up" "$OUT/down"
	done
	stop relay
	assert_line_in relay.out ' 10485[0-9]{4} [0-9]+ [0-9.]+ done$'
}

@test "many connections at once, each its own bytes" {
	start_nginx
	relay --threads 2
	random_file 64K >/dev/null
	cp "$(random_file 64K)" "$WWW/small"
	on client bash -c "seq 200 | xargs -P 20 -I{} curl -sS --max-time 20 -o $OUT/got.{} http://$V4/small"
	for i in {1..200}; do
		cmp "$OUT/got.$i" "$WWW/small"
	done
	wait_line relay.out ' close '
	stop relay
	assert_equal "$(grep -c ' done$' "$OUT/relay.out")" 200
}

@test "many echoes, fast and slow, large and small: every byte comes back, and every end" {
	relay --threads 2
	peer server server serve 8000 echo
	run -0 on client "$TOP/tests/lib/echo-clients" "$V4" 8000 60 1
	assert_output 60
	run -0 on client "$TOP/tests/lib/echo-clients" "$V6" 8000 60 2
	assert_output 60
	wait_until 10 eval '[[ $(grep -c " done$" "$OUT/relay.out") == 120 ]]'
	stop relay
}

@test "connections to other ports, or to the proxy itself, are not relayed" {
	start_nginx 80 81
	relay
	run -0 on client curl -sS --max-time 10 "http://$V4:81/who"
	peer direct proxy listen 8080 send:direct who
	run -0 on client "$PEER" connect 192.0.2.1 8080 recv:direct
	stop relay
	run ! test -s "$OUT/relay.out"
}

@test "a server that speaks first, bytes one by one, and an empty connection" {
	relay
	peer server server listen 8000 send:220\ hello\\r\\n recv:HELO recv:Q close
	run -0 on client "$PEER" connect "$V4" 8000 "recv:220 hello\\r\\n" send:H send:E send:L send:O send:Q eof
	wait_exit server
	peer server server listen 8001 eof close
	run -0 on client "$PEER" connect "$V6" 8001 fin eof
	wait_exit server
	stop relay
	assert_line_in relay.out ' close 1 .* 5 11 [0-9.]+ done$'
	assert_line_in relay.out ' close 2 .* 0 0 [0-9.]+ done$'
}

@test "urgent data arrives as ordinary data, in its place" {
	relay
	peer server server listen 8000 recv:aXb send:c urgent:Y send:d eof close
	run -0 on client "$PEER" connect "$V4" 8000 send:a urgent:X send:b skip:3 fin eof
	run -0 wait_exit server
	stop relay
	assert_line_in relay.out ' 3 3 [0-9.]+ done$'
}

# ends_wait N: so many of the relay's sockets hold an end of data that it has not read.
ends_wait() { (($(on proxy ss -Htn state close-wait | grep -c '^[1-9]') == $1)); }

@test "urgent data that arrives together with FIN loses nothing" {
	relay
	peer server server listen 8000 recv:aXb eof await:"$OUT/go" send:c urgent:Y last:d
	signal relay STOP # the kernel accepts: all of it is there before the relay looks
	peer client client connect "$V4" 8000 send:a urgent:X last:b recv:cYd eof
	wait_until 10 ends_wait 1
	signal relay CONT
	wait_until 10 eval '[[ $(on server ss -Htn state close-wait) ]]'
	signal relay STOP
	touch "$OUT/go"
	run -0 wait_exit server
	wait_until 10 eval '[[ ! $(on proxy ss -Htn state fin-wait-2) ]]'
	signal relay CONT
	run -0 wait_exit client
	stop relay
	assert_line_in relay.out ' 3 3 [0-9.]+ done$'
}

# ---------------------------------------------------------------- half-close and reset

@test "half-close by the client: the server goes on sending" {
	relay
	for host in "$V4" "$V6"; do
		peer server server listen 8000 recv:request eof zeros:3000000 close
		run -0 on client "$PEER" connect "$host" 8000 send:request fin skip:3000000 eof
		run -0 wait_exit server
	done
	stop relay
	assert_equal "$(grep -c ' 7 3000000 [0-9.]* done$' "$OUT/relay.out")" 2
}

@test "half-close by the server: the client goes on sending" {
	relay
	for host in "$V4" "$V6"; do
		peer server server listen 8000 send:hello fin skip:3000000 eof
		run -0 on client "$PEER" connect "$host" 8000 recv:hello eof zeros:3000000 close
		run -0 wait_exit server
	done
	stop relay
	assert_equal "$(grep -c ' 3000000 5 [0-9.]* done$' "$OUT/relay.out")" 2
}

@test "a FIN waits until everything before it is delivered" {
	relay
	peer server server listen 8000 "await:$OUT/sent" slow:300000 eof send:thanks close
	bg client client "$PEER" connect "$V4" 8000 zeros:300000 fin "touch:$OUT/sent" recv:thanks eof
	run -0 wait_exit client 30
	run -0 wait_exit server
	stop relay
}

@test "a reset by the client resets the server, even after half-close" {
	relay
	peer server server listen 8000 recv:x "touch:$OUT/got" gone
	run -0 on client "$PEER" connect "$V4" 8000 send:x "await:$OUT/got" rst
	run -0 wait_exit server
	wait_line relay.out ' client-reset$'
	peer server server listen 8000 recv:x send:y fin "touch:$OUT/half" gone
	run -0 on client "$PEER" connect "$V6" 8000 send:x recv:y eof "await:$OUT/half" rst
	run -0 wait_exit server
	stop relay
	assert_equal "$(grep -c ' client-reset$' "$OUT/relay.out")" 2
}

@test "a reset by the server resets the client, even after half-close" {
	relay
	peer server server listen 8000 recv:x rst
	run -0 on client "$PEER" connect "$V4" 8000 send:x gone
	wait_line relay.out ' upstream-reset$'
	peer server server listen 8000 recv:x eof "touch:$OUT/half" "await:$OUT/go" rst
	bg client client "$PEER" connect "$V6" 8000 send:x fin "await:$OUT/half" "touch:$OUT/go" gone
	run -0 wait_exit client
	stop relay
	assert_equal "$(grep -c ' upstream-reset$' "$OUT/relay.out")" 2
}

@test "what a server sent before its reset still reaches the client" {
	relay
	# The server closes with data unread, which makes its kernel send a reset after the answer.
	peer server server listen 8000 recv:POST "await:$OUT/more" send:413 close
	bg client client "$PEER" connect "$V4" 8000 send:POST zeros:20000 "touch:$OUT/more" recv:413 gone
	run -0 wait_exit client
	stop relay
}

# ---------------------------------------------------------------- upstreams that fail

@test "a refusing upstream becomes a reset within the second" {
	relay
	for host in "$V4" "$V6"; do
		run -0 on client "$PEER" connect "$host" 8000 gone
	done
	stop relay
	assert_equal "$(grep -c ' refused .* upstream-refused$' "$OUT/relay.out")" 2
	refute_line_in relay.out ' open '
}

@test "an unreachable upstream becomes a reset" {
	relay
	on proxy ip route add unreachable 198.51.100.77
	on server ip route add unreachable 203.0.113.99 2>/dev/null || :
	run -0 on client "$PEER" connect 198.51.100.77 8000 gone
	stop relay
	assert_line_in relay.out ' refused .* upstream-unreachable$'
}

@test "an ICMP error for the spoofed leg is noticed" {
	relay
	on server nft -f - <<-'END'
		table inet refuse {
			chain input {
				type filter hook input priority 0
				tcp dport 8000 reject with icmpx admin-prohibited
			}
		}
	END
	run -0 on client "$PEER" connect "$V4" 8000 gone
	run -0 on client "$PEER" connect "$V6" 8000 gone
	stop relay
	assert_equal "$(grep -c ' upstream-unreachable$' "$OUT/relay.out")" 2
}

@test "a silent upstream becomes a reset at the connect timeout" {
	relay --connect-timeout 1s
	on server nft -f - <<-'END'
		table inet silence {
			chain input {
				type filter hook input priority 0
				tcp dport 8000 drop
			}
		}
	END
	SECONDS=0
	run -0 on client "$PEER" connect "$V4" 8000 gone
	((SECONDS <= 3 * TIME_SCALE))
	stop relay
	assert_line_in relay.out ' refused .* upstream-timeout$'
}

@test "a client that gives up while the upstream is silent ends the attempt" {
	relay --connect-timeout 60s --control "$OUT/control"
	on server nft add table inet silence
	on server nft add chain inet silence input '{ type filter hook input priority 0; }'
	on server nft add rule inet silence input tcp dport 8000 drop
	run -0 on client "$PEER" connect "$V4" 8000 send:x rst
	wait_line relay.out ' refused .* client-gone$'
	assert_equal "$(counter connections)" 0
	stop relay
}

@test "data and FIN that come before the upstream has answered are delivered" {
	relay
	on server nft add table inet silence
	on server nft add chain inet silence input '{ type filter hook input priority 0; }'
	on server nft add rule inet silence input tcp dport 8000 drop
	peer server server listen 8000 recv:early skip:200000 eof send:late close
	bg client client "$PEER" connect "$V4" 8000 send:early zeros:200000 fin "touch:$OUT/sent" recv:late eof
	wait_until 10 test -e "$OUT/sent"
	on server nft delete table inet silence
	run -0 wait_exit client
	run -0 wait_exit server
	stop relay
	assert_line_in relay.out ' 200005 4 [0-9.]+ done$'
}

# ---------------------------------------------------------------- whose address

@test "--source client-addr keeps the address, own and ADDR use theirs" {
	local port=40000 source
	start_nginx
	for source in client-addr own 198.51.100.1; do
		relay --source "$source" -4
		run -0 on client curl -sS --max-time 10 --local-port $((++port)) "http://$V4/who"
		case $source in
		client-addr) assert_output --regexp '^192\.0\.2\.2 [0-9]+$' ;;
		*) assert_output --regexp '^198\.51\.100\.1 [0-9]+$' ;;
		esac
		refute_output "192.0.2.2 $port"
		stop relay
		case $source in
		client-addr) assert_line_in relay.out ' 192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:80 addr ' ;;
		*) assert_line_in relay.out ' 198\.51\.100\.1:[0-9]+ 198\.51\.100\.2:80 no ' ;;
		esac
	done
}

@test "a clash of the client's port: refused, or another port, never the proxy's address" {
	start_nginx
	# Somebody on the proxy holds the client's address and port.
	bg holder proxy python3 -c '
import socket, time
s = socket.socket()
s.setsockopt(socket.SOL_IP, 19, 1)
s.bind(("192.0.2.2", 40001))
s.listen()
print("held", flush=True)
time.sleep(600)'
	wait_line holder.out held
	relay -4
	run ! on client curl -sS --max-time 10 --local-port 40001 "http://$V4/who"
	stop relay
	assert_line_in relay.out ' refused .* clash$'
	assert_line_in relay.err '192\.0\.2\.2:40001: bind: Address already in use \(clash'
	relay -4 --on-clash new-port
	run -0 on client curl -sS --max-time 10 --local-port 40001 "http://$V4/who"
	assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
	refute_output "192.0.2.2 40001"
	stop relay
	assert_line_in relay.out ' addr [0-9]+ '
	wait_until 10 eval '[[ $(grep -c . "$OUT/access.log") == 1 ]]'
}

@test "one client port to two servers, and a client port that is the listener's" {
	start_nginx
	relay
	on server ip addr add 198.51.100.3/24 dev toproxy
	peer one server serve 8000 who echo
	bg first client "$PEER" -b 192.0.2.2:40001 connect "$V4" 8000 send:a recv:a "touch:$OUT/up" "await:$OUT/go" fin eof
	wait_until 10 test -e "$OUT/up"
	run -0 on client "$PEER" -b 192.0.2.2:40001 connect 198.51.100.3 8000 send:b recv:b fin eof
	touch "$OUT/go"
	run -0 wait_exit first
	wait_line one.out '192.0.2.2 40001'
	assert_equal "$(grep -c '^192.0.2.2 40001$' "$OUT/one.out")" 2
	run -0 on client curl -sS --max-time 10 --local-port "$RELAY_PORT" "http://$V4/who"
	assert_output "192.0.2.2 $RELAY_PORT"
	stop relay
}

@test "--upstream: a reverse proxy that keeps the client's address" {
	start_nginx
	bg relay proxy tproxy-relay "*:8080" --upstream "$V4:80" --upstream "[$V6]:80"
	wait_listen proxy 8080
	run -0 on client curl -sS --max-time 10 --local-port 40001 http://192.0.2.1:8080/who
	assert_output "192.0.2.2 40001"
	run -0 on client curl -sS --max-time 10 --local-port 40002 "http://[2001:db8:1::1]:8080/who"
	assert_output "2001:db8:1::2 40002"
	stop relay
	assert_line_in relay.out ' close 1 tcp 192\.0\.2\.2:40001 - none 192\.0\.2\.2:40001 198\.51\.100\.2:80 addr\+port '
}

@test "no privilege is needed if nothing is intercepted and nothing spoofed" {
	start_nginx
	bg relay proxy setpriv --bounding-set -all --inh-caps -all --ambient-caps -all \
		unshare -U tproxy-relay -4 8080 --source own --upstream "$V4:80" --upstream-mark 0
	wait_listen proxy 8080
	run -0 on client curl -sS --max-time 10 http://192.0.2.1:8080/who
	assert_output --regexp '^198\.51\.100\.1 '
	stop relay
}

# ---------------------------------------------------------------- what is refused

@test "direct connections are refused without --upstream" {
	bg relay proxy tproxy-relay "*:$RELAY_PORT"
	wait_listen proxy "$RELAY_PORT"
	run -0 on client "$PEER" connect 192.0.2.1 "$RELAY_PORT" gone
	run -0 on client "$PEER" connect 2001:db8:1::1 "$RELAY_PORT" gone
	stop relay
	assert_equal "$(grep -c ' refused - tcp .* none .* direct$' "$OUT/relay.out")" 2
}

@test "a connection to a listener of the relay is a loop" {
	bg relay proxy tproxy-relay "*:$RELAY_PORT" --upstream 198.51.100.1:"$RELAY_PORT" --source own
	run ! wait_exit relay
	assert_line_in relay.err 'is a listener of this relay'
	# The original destination is another of its listeners.
	on proxy tproxy-setup up -q --name own --port 9999 --to "$RELAY_PORT" --include-own
	bg relay proxy tproxy-relay "$RELAY_PORT" 192.0.2.1:9999 -4
	wait_listen proxy 9999
	run -0 on client "$PEER" connect 192.0.2.1 9999 gone
	stop relay
	assert_line_in relay.out ' refused .* loop$'
}

@test "our own upstream leg that comes back is a loop, and only that connection is refused" {
	start_nginx
	# The server sends everything for port 8000 back to where it came from, as a hairpin route would.
	on server ip addr del 198.51.100.2/24 dev toproxy
	on server ip addr add 198.51.100.3/24 dev toproxy
	on server sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 \
		net.ipv4.conf.toproxy.send_redirects=0 net.ipv4.conf.all.rp_filter=0 \
		net.ipv4.conf.toproxy.rp_filter=0
	on server ip route add 198.51.100.2 via 198.51.100.1
	on server ip route add default via 198.51.100.1 2>/dev/null || :
	on proxy ip route add 198.51.100.2 via 198.51.100.3
	on proxy sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.toserver.rp_filter=0 \
		net.ipv4.conf.all.accept_local=1
	relay -4 --source own
	run -0 on client "$PEER" connect 198.51.100.2 8000 gone
	run -0 on client curl -sS --max-time 10 http://198.51.100.3/who
	stop relay
	# Ended at the first turn, and with it the connection that it came from: no avalanche.
	run grep -c '198\.51\.100\.2:8000 ' "$OUT/relay.out"
	assert_output 3
	assert_line_in relay.out ' open 1 tcp 192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:8000 '
	assert_line_in relay.out ' refused [-0-9]+ tcp 198\.51\.100\.1:[0-9]+ 198\.51\.100\.2:8000 .* loop$'
	assert_line_in relay.out ' close 1 tcp 192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:8000 .* upstream-reset$'
}

@test "--allow-dst and --deny-dst decide by address and port, deny first" {
	start_nginx 80 8000 8001
	relay --allow-dst 198.51.100.0/24:80,8000-8001 --allow-dst "[2001:db8:2::/64]:80" --deny-dst "$V4:8001"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 on client curl -sS --max-time 10 "http://$V4:8000/who"
	run -0 on client curl -sS --max-time 10 "http://[$V6]/who"
	run ! on client curl -sS --max-time 10 "http://[$V6]:8000/who"
	run ! on client curl -sS --max-time 10 "http://$V4:8001/who"
	run ! on client curl -sS --max-time 10 http://203.0.113.2:8000/who
	stop relay
	assert_equal "$(grep -c ' refused .* denied$' "$OUT/relay.out")" 3
	wait_until 10 eval '[[ $(grep -c . "$OUT/access.log") == 3 ]]'
}

@test "a client on the proxy itself keeps its address, and the message says why not its port" {
	start_nginx
	on proxy nft -f - <<-END
		table inet local_clients {
			chain output {
				type route hook output priority mangle
				meta mark & 0xff != 0 return
				tcp dport 80 ip daddr $V4 meta mark set 1
			}
			chain prerouting {
				type filter hook prerouting priority mangle
				iifname lo meta mark 1 tcp dport 80 ip daddr $V4 \
					tproxy ip to 127.0.0.1:$RELAY_PORT accept
			}
		}
	END
	relay -4
	run ! on proxy curl -sS --max-time 10 "http://$V4/who"
	stop relay
	assert_line_in relay.out ' refused .* clash$'
	assert_line_in relay.err 'the client is on this host.*--source client-addr'
	relay -4 --source client-addr
	run -0 on proxy curl -sS --max-time 10 "http://$V4/who"
	assert_output --regexp '^198\.51\.100\.1 '
	stop relay
}
