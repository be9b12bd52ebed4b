#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The pipelines of tproxy-tools(7), each run as it is printed there.
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | port 80: TPROXY to 3129, port 81: REDIRECT to 3130

bats_require_minimum_version 1.5.0
load lib/lab
load lib/see

setup() {
	lab_up
	tproxy_to 80 3129
	cd "$OUT" || return # where connections.log goes
}

teardown() {
	lab_down
}

# printed REGEXP: the displayed text of section PIPELINES that matches.
printed() {
	awk -v want="$1" '
		/^\.Sh/ { on = /PIPELINES/ }
		/^\.Ed/ { if (text ~ want) printf "%s", text; inside = 0 }
		inside { text = text $0 "\n" }
		/^\.Bd/ { inside = on; text = "" }' "$TOP/man/tproxy-tools.7" | sed 's/\\e/\\/g'
}

# pipeline REGEXP: run that one on the proxy, as NAME pipe.
pipeline() {
	local text
	text=$(printed "$1")
	[[ $text ]] || fail "no pipeline like $1"
	# Two seconds are for somebody who watches; here all must have come by then.
	text=${text/timeout 2 /timeout 8 }
	bg pipe proxy bash -o pipefail -c "$text"
}

# Three connections: two destinations, both families.
three_connections() {
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
	run connect_from client 198.51.100.2:80 sourceport=40001
	run connect_from client '[2001:db8:2::2]:80' sourceport=40002
	run connect_from client 198.51.100.2:80 sourceport=40003
}

@test "every pipeline of the man page has its test here" {
	local tests
	tests=$(grep -c '^	pipeline ' "$BATS_TEST_FILENAME")
	assert_equal "$(awk '/^\.Sh/ { on = /PIPELINES/ } on && /^\.Bd/' "$TOP/man/tproxy-tools.7" | wc -l)" "$tests"
}

@test "into jq" {
	pipeline 'client.addr'
	three_connections
	run wait_exit pipe
	assert_success
	assert_equal "$(cat pipe.out)" "$(printf '%s\t%s\t80\n' 192.0.2.2 198.51.100.2 2001:db8:1::2 \
		2001:db8:2::2 192.0.2.2 198.51.100.2)"
}

@test "into awk" {
	pipeline 'awk '
	three_connections
	run wait_exit pipe
	assert_success
	assert_equal "$(cat pipe.out)" $'2 198.51.100.2:80\n1 [2001:db8:2::2]:80'
}

@test "into while read" {
	pipeline 'while read'
	three_connections
	run wait_exit pipe
	assert_success
	run cat pipe.out
	assert_line --index 0 '192.0.2.2:40001 wanted 198.51.100.2:80'
	assert_line --index 1 '[2001:db8:1::2]:40002 wanted [2001:db8:2::2]:80'
}

@test "under timeout, into tee" {
	pipeline 'timeout 2'
	three_connections
	run wait_exit pipe
	assert_equal "$status" 124 # timeout's own
	assert_equal "$(wc -l <pipe.out)" 3
	run diff pipe.out connections.log
	assert_success
}

@test "into xargs" {
	pipeline 'xargs'
	three_connections
	run wait_exit pipe
	assert_success
	assert_line_in pipe.out '^198\.51\.100\.2 dev toserver '
	assert_line_in pipe.out '^2001:db8:2::2 .*dev toserver '
}

@test "from tproxy-inspect into tproxy-inspect origdst -" {
	redirect_to 81 3130
	bg foreign proxy socat TCP6-LISTEN:3130,ipv6only=0,fork PIPE
	wait_listen proxy 3130
	bg one client socat -u TCP:198.51.100.2:81,sourceport=40001 -
	bg two client socat -u 'TCP:[2001:db8:2::2]:81,sourceport=40002' -
	wait_until 5 on proxy sh -c '[ "$(ss -Htn state established "sport = :3130" | wc -l)" = 2 ]'
	pipeline 'origdst -'
	run wait_exit pipe
	assert_success
	assert_line_in pipe.out '^192\.0\.2\.1:3130 +192\.0\.2\.2:40001 +198\.51\.100\.2:81 +conntrack$'
	assert_line_in pipe.out '3130 +\[2001:db8:1::2\]:40002 +\[2001:db8:2::2\]:81 +conntrack$'
}

@test "from tproxy-inspect into jq, sort and uniq" {
	bg listen proxy tproxy-listen --hold 0 3129
	wait_listen proxy '[::1]:3129'
	bg one client socat -u TCP:198.51.100.2:80 -
	bg two client socat -u 'TCP:[2001:db8:2::2]:80' -
	wait_until 5 sh -c "[ \$(wc -l <'$OUT/listen.out') = 2 ]"
	pipeline 'uniq -c'
	run wait_exit pipe
	assert_success
	assert_equal "$(cat pipe.out)" "      2 tproxy-listen"
}

@test "from tproxy-relay into jq" {
	start_nginx
	head -c 5000 /dev/zero >"$WWW/file"
	pipeline 'tproxy-relay'
	wait_listen proxy '[::1]:3129'
	run on client curl -sS --max-time 10 -o /dev/null http://198.51.100.2/file
	wait_line pipe.out $'^5[0-9]{3}\t198\\.51\\.100\\.2$'
}
