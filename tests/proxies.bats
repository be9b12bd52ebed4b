#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-proxies(7): other transparent proxies, configured exactly as printed there, relay
# connections of both families, with the source that its table says.
#
#   client 192.0.2.2 --- proxy: theirs --- server 198.51.100.2 with nginx
#   2001:db8:1::2                          2001:db8:2::2

bats_require_minimum_version 1.5.0
load lib/lab
load lib/examples

CLIENT='^(192\.0\.2\.2|2001:db8:1::2) [0-9]+$'
PROXY='^(198\.51\.100\.1|2001:db8:2::1) [0-9]+$'
SERVER='^(198\.51\.100\.2|2001:db8:2::2) [0-9]+$'

setup() {
	lab_up
	mkdir "$BATS_TEST_TMPDIR/cwd"
	cd "$BATS_TEST_TMPDIR/cwd" || return
	HOME=$PWD
	start_nginx
}

teardown() {
	cd "$TOP" || return
	lab_down
}

needs() {
	local program
	for program; do
		command -v "$program" >/dev/null || skip "$program is not installed"
	done
}

# start_printed FIRST [DIRECTORY...]: run the block of tproxy-proxies(7) that begins so; it may write into
# these directories of the system, of which it has empty ones of its own.
start_printed() {
	# shellcheck disable=SC2034 # of `after`, for it_stays
	local BY
	printed "$TOP/man/tproxy-proxies.7" "$1"
	shift
	# shellcheck disable=SC2016 # $0 and $@ are the inner one's
	after unshare --mount bash -c \
		'for dir in $0; do mkdir -p $dir && mount -t tmpfs -o mode=777 none $dir || exit; done; exec "$@"' "/run $*"
	it_stays
}

served() {
	poll 20 on proxy tproxy-setup status -q && return
	show it
	fail "no interception, or nobody listens"
}

# server_sees REGEXP [PORT [ADDRESS...]]: requests of the client to these come from there.
server_sees() {
	local seen=$1 port=${2:-80} to curl=(curl -sSk --max-time 10 --retry 9 --retry-all-errors --retry-delay 1)
	shift
	(($# > 1)) || set -- "$port" "$V4" "[$V6]"
	for to in "${@:2}"; do
		run on client "${curl[@]}" "${SCHEME:-http}://$to:$port/who"
		[[ $output =~ $seen ]] || show it
		assert_output --regexp "$seen"
	done
}

# REDIRECT's table is there before the program listens.
redirected_to() {
	wait_listen proxy "$1"
	server_sees "${@:2}"
}

@test "HAProxy" {
	printed "$TOP/README" 'cat >haproxy.cfg'
	readme=$IT
	start_printed 'cat >haproxy.cfg'
	assert_equal "$readme" "$IT"
	served
	server_sees "$CLIENT"
	run on client curl -s --max-time 10 --local-port 40001 "http://$V4/who"
	assert_output '192.0.2.2 40001'
}

@test "nginx, which is not its own upstream" {
	start_printed 'cat >nginx.conf' /var/log/nginx
	served
	server_sees "$CLIENT"
	run on client curl -s --max-time 10 --local-port 40001 "http://[$V6]/who"
	assert_output '2001:db8:1::2 40001'
	for to in 192.0.2.1 '[2001:db8:1::1]'; do
		run ! on client curl -s --max-time 10 "http://$to:3129/who"
		refute_output
	done
	assert_equal "$(grep -c 'invalid host in upstream ""\|no host in upstream ""' "$OUT/it.err")" 2
}

@test "Squid" {
	root_only "squid becomes another user"
	needs squid
	start_printed 'cat >squid.conf' /var/log/squid
	served
	server_sees "$CLIENT"
}

@test "Traffic Server" {
	root_only "traffic_server becomes another user"
	needs traffic_server
	start_printed 'ports=' /run/trafficserver /var/log/trafficserver \
		/var/cache/trafficserver
	served
	server_sees "$CLIENT"
}

@test "V2Ray" {
	needs v2ray
	start_printed 'cat >v2ray.json'
	served
	server_sees "$PROXY"
}

@test "ss-redir" {
	needs ss-redir
	bg ss server ss-server -s 0.0.0.0 -p 8388 -m aes-256-gcm -k secret
	wait_listen server 8388
	start_printed $'tproxy-setup run --to \'*:3129\' --port 80 -- \\\n      ss-redir'
	served
	server_sees "$SERVER"
}

@test "sslh" {
	root_only "sslh becomes another user"
	needs sslh
	start_printed 'sslh '
	wait_listen proxy 0.0.0.0:443
	wait_listen proxy '[::]:443'
	server_sees "$CLIENT" 443 192.0.2.1 '[2001:db8:1::1]'
}

@test "stunnel" {
	needs stunnel
	openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=proxy
	cat key.pem cert.pem >proxy.pem
	start_printed 'cat >stunnel.conf'
	served
	SCHEME=https server_sees "$CLIENT" 443 192.0.2.1 '[2001:db8:1::1]'
}

@test "redsocks, which does not support IPv6" {
	needs redsocks ss-local
	bg ss server ss-server -s 127.0.0.1 -p 8388 -m aes-256-gcm -k secret
	bg socks server ss-local -s 127.0.0.1 -p 8388 -m aes-256-gcm -k secret -b 0.0.0.0 -l 1080
	wait_listen server 1080
	start_printed 'cat >redsocks.conf'
	redirected_to 3129 "$SERVER" 80 "$V4"
	server_sees "$CLIENT" 80 "[$V6]"
}

@test "mitmproxy" {
	needs mitmdump
	start_printed "nft 'table inet mitmproxy"
	redirected_to 8081 "$PROXY"
}
