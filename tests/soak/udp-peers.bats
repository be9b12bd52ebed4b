#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-relay -u between programs as Debian has them, of which neither knows of it. Each answer must be right,
# and each server must have seen the client's own address.
#
#   client 192.0.2.2, 2001:db8:1::2 --- proxy: every port to tproxy-relay 3129 --- server 198.51.100.2,
#                                                                                  2001:db8:2::2
#
# The quick ones are in tests/relay-udp-peers.bats; `make soak-udp` runs both.

bats_require_minimum_version 1.5.0
BATS_TEST_DIRNAME=${BATS_TEST_DIRNAME%/soak} # where `load' looks
load lib/udp-peers

@test "UDP peers: dig asks unbound for hundreds of names, each from a new port" {
	need unbound unbound
	names $((300 * SCALE)) >"$OUT/names"
	{
		echo 'server:'
		printf '  %s\n' "username: ''" "chroot: ''" "directory: $OUT" "pidfile: ''" 'use-syslog: no' \
			'interface: 198.51.100.2' 'interface: 2001:db8:2::2' 'access-control: 0.0.0.0/0 allow' \
			'access-control: ::/0 allow' 'do-daemonize: no' 'local-zone: test. static'
		awk '{ printf "  local-data: \"%s A %s\"\n", $2, $1 }' "$OUT/names"
	} >"$OUT/unbound.conf"
	bg dns server unbound -d -c "$OUT/unbound.conf"
	wait_listen server 53 udp
	run -0 ask_all $V4
	run -0 ask_all $V6
	relayed 53
}

@test "UDP peers: chronyd takes the time from chronyd" {
	need chronyd chrony
	bg ntp server chronyd -x -d -u "$(id -un)" 'local stratum 1' 'allow all' 'cmdport 0' "bindcmdaddress /" \
		"pidfile $OUT/chronyd.pid"
	wait_listen server 123 udp
	for to in $V4 $V6; do
		run -0 on client timeout --foreground 30 chronyd -x -Q -u "$(id -un)" -t 10 'cmdport 0' \
			"bindcmdaddress /" "pidfile $OUT/chronyd2.pid" "server $to iburst maxsamples 2"
		assert_output --regexp 'System clock wrong by -?[0-9.]+ seconds'
	done
	relayed 123
}

@test "UDP peers: DTLS of GnuTLS and of OpenSSL" {
	need gnutls-serv gnutls-bin
	certificate
	bg dtls server gnutls-serv --udp --echo --mtu 1200 --port 4433 --x509keyfile "$OUT/key.pem" --x509certfile "$OUT/cert.pem"
	wait_listen server 4433 udp
	for to in $V4 $V6; do
		[[ $to == *:* ]] && at="[$to]" || at=$to
		run on client bash -c '(echo "a word to GnuTLS"; sleep 1) |
			timeout 10 gnutls-cli --udp --insecure --port 4433 "$1"' cli "$to"
		assert_output --partial $'\na word to GnuTLS'
		# What it is told it prints; of one client until it is gone.
		bg dtls2 server bash -c 'sleep 60 | openssl s_server -dtls -quiet -port 4434 -key "$1" -cert "$2" -mtu 1200' \
			server "$OUT/key.pem" "$OUT/cert.pem"
		wait_listen server 4434 udp
		(echo "a word from $to"; sleep 1) | on client timeout 3 openssl s_client -dtls -quiet \
			-connect "$at:4434" >"$OUT/client.out" 2>&1 || :
		wait_line dtls2.out "a word from $to"
		stop dtls2 || :
	done
	relayed 4433
}

@test "UDP peers: OpenVPN: what goes through the tunnel goes through the relay" {
	need openvpn openvpn
	[[ -r /dev/net/tun ]] || skip "no /dev/net/tun"
	openvpn --genkey secret "$OUT/static" 2>/dev/null
	start_nginx 80
	for side in "udp4 $V4 10.8.0" "udp6 $V6 10.8.1"; do
		read -r proto to net <<<"$side"
		bg "vpn-$proto" server openvpn --dev-type tun --dev "s$proto" --secret "$OUT/static" --cipher AES-256-CBC --proto "$proto" \
			--port 1194 --ifconfig "$net.1" "$net.2"
		wait_listen server 1194 udp
		bg "cli-$proto" client openvpn --dev-type tun --dev "c$proto" --secret "$OUT/static" --cipher AES-256-CBC --proto "$proto" \
			--remote "$to" 1194 --nobind --ifconfig "$net.2" "$net.1"
		wait_until 20 eval "on client curl -sS --max-time 2 'http://$net.1/who' >'$OUT/who'"
		assert_equal "$(cut -d' ' -f1 "$OUT/who")" "$net.2"
		run -0 on client curl -sS --max-time 20 "http://$net.1/who"
		stop "vpn-$proto" || :
	done
	relayed 1194
}
