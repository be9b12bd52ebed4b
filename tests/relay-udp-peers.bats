#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u between programs as Debian has them, of which neither knows of it. Each answer must be right,
# and each server must have seen the client's own address.
#
#   client 192.0.2.2, 2001:db8:1::2 --- proxy: every port to tproxy-relay 3129 --- server 198.51.100.2,
#                                                                                  2001:db8:2::2
#
# More programs, and the same with more of everything, by `make soak-udp`: tests/soak/udp-peers.bats.

bats_require_minimum_version 1.5.0
load lib/udp-peers

@test "UDP peers: dig asks dnsmasq for names, each from a new port" {
	need dnsmasq dnsmasq-base
	names $((100 * SCALE)) >"$OUT/names"
	bg dns server dnsmasq -d -R -h -C /dev/null --log-queries --log-facility=- --addn-hosts="$OUT/names"
	wait_listen server 53 udp
	run -0 ask_all $V4
	run -0 ask_all $V6
	relayed 53
	assert_line_in dns.err 'query\[A\] n99.test from 192.0.2.2'
	assert_line_in dns.err 'query\[A\] n99.test from 2001:db8:1::2'
	stop relay
	(($(grep -c '^close udp .*:53 1 1 done' "$OUT/relay.out") >= 180 * SCALE))
}

@test "UDP peers: iperf3 loses nothing, in both directions" {
	need iperf3 iperf3
	bg iperf server iperf3 -s
	wait_listen server 5201
	for way in "-c $V4" "-R -c $V6"; do
		# shellcheck disable=SC2086 # options
		run -0 on client timeout --foreground 60 iperf3 -u -b 5M -t "$SCALE" -l 1200 $way --json
		assert_equal "$(jq -r '.end.sum | "\(.lost_packets) lost, \(.packets > 400)"' <<<"$output")" '0 lost, true'
	done
	relayed 5201
}

@test "UDP peers: TFTP: curl and tftp get a file from a server that answers from other ports" {
	root_only 'in.tftpd becomes another user'
	need in.tftpd tftpd-hpa
	need tftp tftp-hpa
	file=$(random_file 64K)
	mkdir "$OUT/root"
	cp "$file" "$OUT/root/file"
	chmod -R a+rX "$OUT/root"
	bg tftp server in.tftpd -L -s -u "$(id -un)" -a :69 "$OUT/root"
	wait_listen server 69 udp
	for to in "$V4" "[$V6]"; do
		run -0 on client curl -sS --max-time 30 "tftp://$to/file" -o "$OUT/got"
		cmp "$OUT/got" "$file"
	done
	run -0 on client timeout 30 tftp -m binary $V4 -c get file "$OUT/got2"
	cmp "$OUT/got2" "$file"
	relayed 69
}

@test "UDP peers: QUIC: ngtcp2 fetches a file over HTTP/3" {
	need gtlsclient ngtcp2-client
	need gtlsserver ngtcp2-server
	certificate
	file=$(random_file 1M)
	mkdir "$OUT/root" "$OUT/got"
	cp "$file" "$OUT/root/file"
	bg quic server gtlsserver -q -d "$OUT/root" '*' 4433 "$OUT/key.pem" "$OUT/cert.pem"
	wait_listen server 4433 udp
	for to in $V4 $V6; do
		[[ $to == *:* ]] && at="[$to]" || at=$to
		rm -f "$OUT/got/file"
		run -0 on client timeout --foreground 30 gtlsclient -q --exit-on-all-streams-close \
			--download "$OUT/got" "$to" 4433 "https://$at:4433/file"
		cmp "$OUT/got/file" "$file"
	done
	relayed 4433
	stop relay
	assert_line_in relay.out '^close udp 192.0.2.2:[0-9]+ 198.51.100.2:4433 [0-9]+ [0-9]{3,} '
}

@test "UDP peers: SIP: sipp calls sipp" {
	need sipp sip-tester
	cd "$OUT"
	bg uas server sipp -sn uas -i 198.51.100.2 -p 5060 -nostdin
	bg uas6 server sipp -sn uas -i "[$V6]" -p 5060 -nostdin
	wait_listen server 5060 udp
	for side in "$V4 192.0.2.2" "[$V6] [2001:db8:1::2]"; do
		read -r to own <<<"$side"
		run -0 on client timeout --foreground 60 sipp -sn uac "$to:5060" -i "$own" -m $((50 * SCALE)) -r 50 -d 10 -nostdin
		assert_output --regexp "Successful call +\| +[0-9]+ +\| +$((50 * SCALE)) "
	done
	relayed 5060
}
