#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-setup doctor: which process would get the connections.
#
#   client ==?==listener on proxy==> nginx on server 198.51.100.2, 2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/doctor

setup() {
	lab_up
}

teardown() {
	lab_down
}

# An ordinary listener, as any program has it; SO_REUSEPORT, so that it may join others.
nontransparent() {
	bg nontransparent proxy perl -MSocket -e '
		socket(my $s, AF_INET, SOCK_STREAM, 0) or die;
		setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1) or die;
		setsockopt($s, SOL_SOCKET, 15, 1) or die;	# SO_REUSEPORT
		bind($s, sockaddr_in(3129, inet_aton($ARGV[0]))) or die $!;
		listen($s, 10) or die;
		sleep 1000' "$1"
	wait_until 5 has_listeners "${2:-1}"
}

has_listeners() {
	(($(on proxy ss -4Hnlt 'sport = 3129' | wc -l) == $1))
}

@test "nobody listens: connections are reset, in each family" {
	start_nginx
	on proxy tproxy-setup up -q --to 3129 -p 80
	run fetch
	assert_failure 7
	finds fail listener 'nobody listens at 127.0.0.1:3129'
	finds fail listener 'nobody listens at \[::1\]:3129'
	assert_equal "$(fix_of listener)" 'tproxy-relay 3129'
	cured
}

@test "nobody listens for one family, one protocol: the printed command listens there, and nowhere else" {
	start_nginx
	bg relay4 proxy tproxy-relay -4 127.0.0.1:3129
	wait_listen proxy 127.0.0.1:3129
	on proxy tproxy-setup up -q --to 3129 -p 80
	assert_equal "$(fix_of listener)" "tproxy-relay -6 '[::1]:3129'"
	cured "$WEB6"
	on proxy tproxy-setup up -q -t -u --to 3129 -p 80
	assert_equal "$(fix_of listener)" 'tproxy-relay -u 3129'
	cure
	healthy
	on proxy tproxy-setup up -q -t -u --to 3130 -p 80
	assert_equal "$(fix_of listener)" 'tproxy-relay -t -u 3130'
	on proxy tproxy-setup up -q --to 192.0.2.1:3131 --to '[2001:db8:1::1]:3131' -p 80 --upstream-mark 0x8/0xff
	assert_equal "$(fix_of listener)" "tproxy-relay --upstream-mark 0x8/0xff 192.0.2.1:3131 '[2001:db8:1::1]:3131'"
}

@test "nobody listens and --no-listener pass: clients bypass the proxy" {
	start_nginx
	relay
	stop relay
	on proxy tproxy-setup up -q --to 3129 -p 80 --no-listener pass
	bypasses
	finds fail listener 'nobody listens at 127.0.0.1:3129'
	run on proxy tproxy-setup doctor -q -H -o check,why
	assert_line --regexp '^listener +connections pass by the proxy'
}

@test "nobody listens yet, before up: a warning" {
	SPEC=(--to 3129 -p 80)
	run doctor "${SPEC[@]}"
	assert_line --regexp '^warn +listener +nobody listens at 127.0.0.1:3129'
}

@test "the kernel does not find a listener on another address; the doctor does" {
	start_nginx
	bg relay proxy tproxy-relay --log events 192.0.2.1:3129 '[2001:db8:1::1]:3129'
	wait_listen proxy 192.0.2.1:3129
	on proxy tproxy-setup up -q --to 3129 -p 80
	fails
	finds fail listener 'tproxy-relay \(pid [0-9]+\) listens at 192.0.2.1:3129, not at 127.0.0.1:3129'
	assert_equal "$(fix_of listener)" "tproxy-setup up --to 192.0.2.1:3129 --to '[2001:db8:1::1]:3129' --port 80"
	cured
}

@test "a listener of one family only" {
	start_nginx
	bg relay proxy tproxy-relay -4 --log events 127.0.0.1:3129
	wait_listen proxy 127.0.0.1:3129
	on proxy tproxy-setup up -q --to 3129 -p 80
	works
	fails "$WEB6"
	finds fail listener 'nobody listens at \[::1\]:3129'
}

@test "a listener that is not transparent gets nothing" {
	start_nginx
	nontransparent 127.0.0.1
	on proxy tproxy-setup up -q -4 --to 127.0.0.1:3129 -p 80
	fails
	finds fail listener-group 'perl \(pid [0-9]+\), one of 1 listeners at 127.0.0.1:3129, is not transparent'
	assert_equal "$(fix_of listener-group)" -
	stop nontransparent KILL || :
	bg relay proxy tproxy-listen -4 --pass 127.0.0.1:3129 -- tproxy-relay -4 --log events
	wait_listen proxy 127.0.0.1:3129
	works
	healthy
}

# With nft alone its share would pass by the proxy; our rule rejects it.
@test "a member of a SO_REUSEPORT group that is not transparent loses its share of connections" {
	start_nginx
	bg relay proxy tproxy-relay --log events --threads 2 3129
	wait_listen proxy 127.0.0.1:3129
	on proxy tproxy-setup up -q --to 3129 -p 80
	nontransparent 127.0.0.1 3
	lost=0
	for _ in {1..30}; do
		fetch >/dev/null 2>&1 || lost=$((lost + 1))
	done
	assert [ "$lost" -gt 0 -a "$lost" -lt 30 ]
	finds fail listener-group 'perl \(pid [0-9]+\), one of 3 listeners at 127.0.0.1:3129, is not transparent'
	apply_fix listener-group
	wait_until 5 has_listeners 2
	for _ in {1..30}; do
		fetch >/dev/null
	done
	healthy
}

@test "a listener with the intercept mark: packets of its connections are routed to lo" {
	start_nginx
	on proxy tproxy-setup up -q --to 3129 -p 80
	bg listener proxy tproxy-listen --listener-mark 0x1 --reply hello 3129
	wait_listen proxy 127.0.0.1:3129
	run on client timeout 3 nc -w 2 "$WEB4" 80
	refute_output --partial hello
	finds fail listener-mark 'the listener of tproxy-listen \(pid [0-9]+\) has the intercept mark \(SO_MARK 0x1, 0x1/0xff\)'
	cure
	run on client timeout 30 nc -w 20 "$WEB4" 80
	assert_output --partial hello
	healthy
}

@test "--local and a relay that connects from its clients' ports: every connection of this host is refused" {
	healthy_proxy --local
	run on proxy curl -sS --max-time 20 "http://$WEB4/who"
	assert_failure
	wait_line relay.err 'its own socket holds the port: use --source client-addr'
	works
	finds fail listener-source "--local takes this host's connections, and tproxy-relay \(pid [0-9]+\) connects from their clients' ports$"
	stop relay KILL || :
	bg relay proxy tproxy-relay --log events --source=client-addr 3129
	wait_serving relay
	run -0 on proxy curl -sS --max-time 20 "http://$WEB4/who"
	healthy
}

@test "the kernel does not find a listener that is bound to another interface" {
	start_nginx
	on proxy tproxy-setup up -q --to 3129 -p 80
	bg relay proxy tproxy-listen --bind-device tobystander --pass 3129 -- tproxy-relay --log events
	wait_until 10 has_listeners 1
	fails
	finds fail listener 'tproxy-relay \(pid [0-9]+\) listens at 127.0.0.1:3129, but only for packets from tobystander'
	run remedies
	assert_output '' # --iif would let the clients pass by the proxy
}

@test "UDP: nobody listens, and a socket that is not transparent" {
	start_nginx
	relay
	on proxy tproxy-setup up -q -t -u --to 3129 -p 80
	finds fail listener 'nobody listens at 127.0.0.1:3129 \(UDP\)'
	bg nontransparent proxy socat -u UDP4-RECVFROM:3129,bind=127.0.0.1,fork,reuseaddr STDOUT
	wait_listen proxy 127.0.0.1:3129 udp
	finds fail listener-group 'socat \(pid [0-9]+\), one of 1 listeners at 127.0.0.1:3129, is not transparent'
	printf lost | on client socat -u - UDP4:198.51.100.2:80
	finds fail listener-group 'is not transparent'
	refute_line_in nontransparent.out lost
	stop nontransparent KILL || :
	bg udp proxy tproxy-listen -u --reply hello 3129
	wait_listen proxy 127.0.0.1:3129 udp
	run on client bash -c 'printf ping | timeout $((3 * TIME_SCALE)) socat -T$((2 * TIME_SCALE)) - UDP4:198.51.100.2:80'
	assert_output --partial hello
	healthy
}
