# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2016 # expanded when it runs
#
# What each displayed command needs, and how it is seen to work: see lib/examples.bash.

# ---------------------------------------------------------------- building, installing, testing

dry 'sudo make deps demo' 'installs packages; tests/fresh runs both in a fresh Debian'
dry 'sudo make deps check' 'installs packages; tests/fresh runs both in a fresh Debian'
dry 'make check' 'runs this test'
dry 'make check-fresh' 'downloads a Debian'
dry 'make lint fuzz bench' 'takes half an hour, and says so'
elsewhere 'make recipes' package.bats 'recipes for RPM, Arch and OpenWrt have the version, and are well-formed'
dry 'make deb deb-check' 'compiles all of it twice, and downloads a Debian'
elsewhere 'make help' build.bats 'help names every target that a user calls'
elsewhere 'make install PREFIX=/usr' build.bats 'install installs programs, man pages and completions, uninstall removes exactly these'

# ---------------------------------------------------------------- at boot

AT_BOOT='at boot the rules are installed before the network is up; the relay serves, in its sandbox'
drawing 'SETUP = --to 3129 --port 80'
drawing 'SETUP = --to 3129 --port 80,443 --iif lan0'
elsewhere 'tproxy-setup plan --conf /etc/tproxy/web.conf' boot.bats "$AT_BOOT"
elsewhere 'tproxy-setup status --conf /etc/tproxy/web.conf' boot.bats "$AT_BOOT"
elsewhere 'journalctl -u tproxy@web -u tproxy-rules@web' boot.bats "$AT_BOOT"

# ---------------------------------------------------------------- the lab

session 'make' '
	# What runs here is built already, by just that.
	run make -n -C "$TOP" O="$TPROXY_BIN"
	assert_success
	[[ $IT =~ build/(tproxy-lab run) ]] || return 0
	IT=${BASH_REMATCH[1]}
	mkdir tree
	ln -s "$(dirname "$(type -P tproxy-lab)")" tree/build
	cd tree
	printf "%s\n" "? \(lab\) " "> exit" . >"$OUT/typed"
	run env -u TPROXY_LAB SHELL=/bin/bash TERMINAL_TIMEOUT=$((20 * TIME_SCALE)) "$TOP/tests/lib/terminal" \
		build/$IT <"$OUT/typed"
	assert_success
	assert_output --partial "client 192.0.2.2  server 198.51.100.2  bystander 203.0.113.2"'
session 'tproxy-setup run --to 3129 --port 80 -- tproxy-listen 3129 &' '
	in_lab_shell " 192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:80 tproxy"'
session 'tproxy-lab run' '
	IT=${IT#*$'"'\n'"'}
	in_lab_shell "^hi"
	assert_output --regexp "open +192\.0\.2\.2:[0-9]+ - +none "'
session 'tproxy-lab up --name blue' '
	unset TPROXY_LAB
	export XDG_RUNTIME_DIR=$OUT
	run bash -c "$IT"
	assert_success
	assert_line --regexp "^toproxy.* 198\.51\.100\.2/24"
	refute [ -e "$OUT/tproxy-lab-$UID-blue" ]'
example 'tproxy-lab run -- tproxy-lab exec client ip route get 198.51.100.2' '
	unset TPROXY_LAB
	run bash -c "$IT"
	assert_success
	assert_output --partial "198.51.100.2 via 192.0.2.1 dev toproxy src 192.0.2.2"'
example "nft 'table inet loss { chain c { type filter hook forward priority 0; numgen random mod 100 == 0 drop; }; }'" '
	it
	assert_success
	run on proxy nft list table inet loss
	assert_output --partial "numgen random mod 100 0 drop"'
drawing 'client toproxy +-----------+ toproxy server'

# ---------------------------------------------------------------- tproxy-setup

# called NAME: the interface to the client has that name.
called() {
	on proxy sysctl -qw net.ipv6.conf.toclient.keep_addr_on_down=1
	on proxy ip link set toclient down
	on proxy ip link set toclient name "$1"
	on proxy ip link set "$1" up
	wait_until 10 eval "[[ \$(on proxy ip -6 route show dev $1) == *2001:db8:1::* ]]"
}

example 'tproxy-setup up --to 3129 --port 80,443' '
	start_nginx 80 443
	bg relay proxy tproxy-relay --log events 3129
	it
	assert_success
	client_gets 80
	client_gets 443
	wait_line relay.out " open .*:443 "'
example 'tproxy-setup up --to 3129 --port 443 --iif eth1 --src 192.0.2.0/24 --not-dst 198.51.100.7' '
	called eth1
	it
	assert_success
	start_nginx 443
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 3129
	client_gets 443 $V4
	wait_line relay.out " open .* 198.51.100.2:443 "
	run -0 on proxy tproxy-setup status'
example 'tproxy-setup plan --format nft --to 3129 --port 80' '
	it
	assert_success
	on proxy nft -f - <<<"$(grep -v "^tproxy-setup: " <<<"$output")" # rootless it has a notice
	run -0 on proxy nft list table inet tproxy_default'
for command in 'tproxy-setup run --to 3129 --port 80 -- tproxy-relay 3129' \
	'tproxy-setup run --port 80 --to 3129 -- tproxy-relay 3129'; do
	example "$command" '
		start_nginx
		it_stays
		wait_until 10 on proxy tproxy-setup status -q
		client_gets
		run -0 stop it
		run -1 on proxy tproxy-setup status -q'
done
example 'tproxy-setup doctor' '
	start_nginx
	intercepted
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	it
	assert_success
	refute_line --regexp "^(warn|fail) "'
example_root 'tproxy-setup up --to 3129 --port 443 --local --uid 1000' 'there are other users' '
	start_nginx 443
	it
	assert_success
	bg listen proxy tproxy-listen 3129
	wait_listen proxy 3129
	run on proxy setpriv --reuid 1000 --clear-groups curl -s --max-time 5 http://$V4:443/
	wait_line listen.out " $V4:443 tproxy"
	run -0 on proxy curl -s --max-time 5 http://$V4:443/who'
example 'tproxy-setup up --to 3129 --port 1-65535 --confirm-within 60s' '
	it
	assert_success
	run on proxy tproxy-setup status -v
	assert_line --regexp "interception ends in [0-9]+ s"'
for command in 'tproxy-setup confirm' 'tproxy-setup up --to 3129 --confirm-within 30s'; do
	session "$command" '
		[[ $IT == *--confirm-within* ]] || intercepted --confirm-within 60s
		it
		assert_success
		run on proxy tproxy-setup status -o check,evidence
		refute_output --partial "interception ends"'
done
session 'tproxy-setup up --to 3129 --port 80,443 --iif lan0' '
	called lan0
	start_nginx
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	it
	assert_success
	[[ $IT != *status* ]] || assert_output --regexp "default  tcp 80,443 via lan0 -> 3129 tproxy-relay\([0-9]+\)  intact  0 intercepted"
	client_gets'
example 'tproxy-setup run --to 3129 --port 80,443 --iif lan0 -- tproxy-relay 3129' '
	called lan0
	start_nginx 80 443
	it_stays
	wait_until 10 on proxy tproxy-setup status -q
	client_gets 80
	client_gets 443
	run -0 stop it'
example 'tproxy-setup status' '
	intercepted
	it
	assert_line "default  tcp 80 -> 3129 nobody listens  intact  0 intercepted"'
for command in 'tproxy-setup down' 'tproxy-setup down --drain 30s'; do
	example "$command" '
		intercepted
		it
		assert_success
		run -1 on proxy tproxy-setup status -q'
done
session 'tproxy-setup plan --to 3129 --port 80 --format systemd -- tproxy-relay 3129 >/etc/systemd/system/tproxy.service' '
	# There is no systemd in a lab to start it.
	IT="${IT%$'"'\n'"'*}; systemd-analyze verify --man=no /etc/systemd/system/tproxy.service; cat /etc/systemd/system/tproxy.service"
	after unshare --mount bash -c "mount -t tmpfs none /etc/systemd/system; exec \"\$@\"" sh
	it
	refute_output --partial "is not executable"
	assert_line --regexp "^ExecStart=/.*tproxy-relay 3129$"'
elsewhere 'tproxy-setup plan --to 3129 --port 80 --format firewalld | sh' other-firewalls.bats \
	'a plan replaces the former one; names that do not fit are refused; what is missing is told'
example 'tproxy-setup plan --divert-only --format iptables | sh' '
	it
	assert_success
	refute_output
	run on proxy iptables -t mangle -S
	assert_line --partial "-m socket --transparent"'
example "tproxy-setup status -H -o check,count | awk '\$1 == \"intercepted\"'" '
	start_nginx
	intercepted
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	client_gets
	it
	assert_output --regexp "^intercepted +[1-9]"'

# ---------------------------------------------------------------- tproxy-listen

# seen [PATTERN]: the listener has told of the client.
seen() { wait_line it.out "${1:- 192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:80 tproxy}"; }

# try: a client connects, and gets no answer.
try() { on client curl -s --max-time 5 "http://$V4/" || :; }

example 'tproxy-setup run --to 3129 --port 80,443 -- tproxy-listen 3129' '
	it_stays
	wait_until 10 on proxy tproxy-setup status -q
	try
	seen
	run -0 stop it'
example 'tproxy-listen 3129' '
	intercepted
	it_stays
	wait_listen proxy 3129
	try
	seen'
example 'tproxy-listen 3129 -- ./my-proxy.sh' '
	printf "%s\n" "#!/bin/sh" "echo \$TCPLOCALIP" >my-proxy.sh
	chmod 755 my-proxy.sh
	intercepted
	it_stays
	wait_listen proxy 3129
	run on client nc -dw 5 $V4 80
	assert_output $V4'
example 'tproxy-listen --count 10 -o origdst 3129 | sort | uniq -c' '
	intercepted
	it_stays
	wait_listen proxy 3129
	for n in 1 2 3 4 5 6 7 8 9 10; do try; done
	wait_exit it
	assert_line_in it.out "^ +10 198\.51\.100\.2:80$"'
example 'tproxy-listen 3129 -- busybox httpd -i -h /srv/www' '
	intercepted
	after unshare --mount bash -c "mount -t tmpfs none /srv; mkdir /srv/www; echo hello >/srv/www/index.html; exec \"\$@\"" sh
	it_stays
	wait_listen proxy 3129
	run on client curl -s --max-time 5 http://$V4/
	assert_output hello'
example 'tproxy-listen --count 1 --timeout 5s 3129 || echo "nothing came"' '
	it
	assert_output "nothing came"
	intercepted
	it_stays
	wait_listen proxy 3129
	try
	run -0 wait_exit it
	refute_line_in it.out nothing'
example 'tproxy-listen -u --datagrams -o client,origdst 5353' '
	on proxy tproxy-setup up -q -u --to 5353 --port 53
	it_stays
	wait_listen proxy 5353 udp
	on client bash -c "echo x >/dev/udp/$V4/53"
	wait_line it.out "^192\.0\.2\.2:[0-9]+ 198\.51\.100\.2:53$"'
example_root 'tproxy-listen --pass --user haproxy 3129 -- haproxy -db -f relay.cfg' 'haproxy is another user' '
	start_nginx
	intercepted
	printf "%s\n" defaults "mode tcp" "timeout connect 5s" "timeout client 5s" "timeout server 5s" \
		"frontend f" "bind fd@3" "bind fd@4" "default_backend b" "backend b" "server s $V4:80" >relay.cfg
	chmod go+x "$BATS_RUN_TMPDIR" "${BATS_TEST_TMPDIR%/*}"
	chmod -R go+rX "$BATS_TEST_TMPDIR"
	it_stays
	wait_listen proxy 3129
	run on client curl -sS --max-time 10 --retry 9 --retry-connrefused http://$V4/who
	assert_output --regexp "^198\.51\.100\.1 "'

# ---------------------------------------------------------------- tproxy-relay

# relays: what it_stays started does it.
relays() {
	start_nginx
	intercepted
	it_stays
	wait_listen proxy 3129
	client_gets
}

example 'tproxy-relay 3129' relays
example 'tproxy-relay --source client-addr 3129' relays
example 'tproxy-relay --deny-dst 10.0.0.0/8 3129' relays
example 'tproxy-listen 3129 -- tproxy-relay --inetd' relays
example_root 'tproxy-relay --takeover --user nobody 3129' 'nobody is another user' '
	start_nginx
	intercepted
	bg old proxy tproxy-relay 3129
	wait_listen proxy "[::1]:3129"
	it_stays
	wait_until 10 eval "[[ \$(stat -c %U /proc/$(pid_of it)) == nobody ]]" # it has them
	run -0 stop old
	client_gets'
session 'tproxy-relay --takeover 3129 &' '
	start_nginx
	intercepted
	bg old proxy tproxy-relay 3129
	wait_listen proxy "[::1]:3129"
	# Whoever types has time: until it has the socket that the old one has.
	inode=$(on proxy ss -Hnlte "src 127.0.0.1" | grep -o "ino:[0-9]*")
	IT="OLD=$(pid_of old); ${IT/\&/& until ls -l /proc/\$!/fd | grep -qF ${inode#*:}; do sleep 0.05; done}; wait"
	it_stays
	run wait_exit old
	show it
	assert_success
	client_gets'
example "tproxy-relay --upstream 198.51.100.2:80 '*:80'" '
	on proxy tproxy-setup up -q --divert-only
	start_nginx
	it_stays
	wait_listen proxy 80
	client_gets 80 192.0.2.1'
session 'tproxy-setup up --divert-only' '
	start_nginx
	it_stays
	wait_listen proxy 8080
	client_gets 8080 192.0.2.1'
example 'tproxy-relay --send-proxy 2 3129' '
	intercepted
	bg server server socat -u TCP-LISTEN:80,reuseaddr -
	wait_listen server 80
	it_stays
	wait_listen proxy 3129
	try
	wait_until 10 grep -aq QUIT "$OUT/server.out" # of the signature of version 2
	wait_until 10 grep -aq "Host: 198" "$OUT/server.out"'
example "tproxy-relay --upstream 198.51.100.2:80 --source own --send-proxy 2 -4 '*:8080'" '
	bg server server tproxy-listen --redirect --accept-proxy 198.51.100.1 "*:80"
	it_stays
	wait_listen proxy 8080
	on client curl -s --max-time 5 http://192.0.2.1:8080/ || :
	wait_line server.out " 192\.0\.2\.2:[0-9]+ .* proxy-protocol"'
example "tproxy-relay --accept-proxy 192.0.2.7,2001:db8::7 '*:3129'" '
	on proxy tproxy-setup up -q --divert-only
	on client ip address add 192.0.2.7/24 dev toproxy
	start_nginx
	it_stays
	wait_listen proxy 3129
	run on client bash -c "printf \"PROXY TCP4 192.0.2.2 198.51.100.2 4000 80\r\nGET /who HTTP/1.0\r\n\r\n\" | nc -s 192.0.2.7 -w 5 192.0.2.1 3129"
	assert_line --regexp "^192\.0\.2\.2 4000"'
for command in "tproxy-relay --json --log events 3129 | jq 'select(.event == \"close\")'" \
	"tproxy-relay --json --log events 3129 | jq --unbuffered -r 'select(.event == \"close\") | [.bytes_down, .origdst.addr] | @tsv'"; do
	example "$command" '
		start_nginx
		intercepted
		it_stays
		wait_listen proxy 3129
		client_gets
		# Its reader prints no later than at the end.
		kill "$(on proxy tproxy-inspect sockets -H --state listening -o pid | head -n 1)"
		wait_exit it
		assert_line_in it.out "198\.51\.100\.2"'
done
example 'tproxy-relay --lame-duck 5s 3129' '
	start_nginx
	intercepted
	it_stays
	wait_listen proxy 3129
	signal it TERM
	wait_line it.err "lame duck: connections are accepted for 5 s"
	run -0 on client curl -sS --max-time 10 "http://$V4/who"
	run -0 stop it'
example 'tproxy-inspect export --listen 9469' '
	start_nginx
	intercepted
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	it_stays
	wait_listen proxy 9469
	run -0 on proxy curl -sS --max-time 10 http://127.0.0.1:9469/healthz
	assert_output "{\"healthy\":true,\"reasons\":[]}"'
for path in healthz metrics; do
	example "curl http://127.0.0.1:9469/$path" '
		start_nginx
		intercepted
		bg relay proxy tproxy-relay 3129
		wait_listen proxy 3129
		bg export proxy tproxy-inspect export --listen 9469
		wait_listen proxy 9469
		it
		assert_success
		assert_output --regexp "healthy(\": ?true| 1)"'
done
example 'tproxy-relay --ask connections' '
	start_nginx
	intercepted
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 3129
	bg client client nc "$V4" 80
	wait_line relay.out " open "
	it
	assert_success
	assert_output --partial 198.51.100.2'
session 'tproxy-setup up --divert-only --local' '
	bg local proxy tproxy-listen --redirect --reply hello 127.0.0.1:80 "[::1]:80"
	wait_listen proxy 127.0.0.1:80
	wait_listen proxy "[::1]:80"
	it_stays
	wait_listen proxy 8080
	run on client nc -dw 5 192.0.2.1 8080
	assert_output hello
	run on client nc -dw 5 2001:db8:1::1 8080
	assert_output hello
	wait_line local.out " 192\.0\.2\.2:"
	wait_line local.out " \[2001:db8:1::2\]:"'
CONTAINER='
	namespace box
	bg server box tproxy-listen --redirect --reply hello 127.0.0.1:80 -4
	wait_listen box 80'
session 'tproxy-setup up --name web --divert-only' '
	namespace box
	on proxy sh -c "ip link add bridge type veth peer name eth0 netns $LAB_box
		ip address add 172.17.0.1/16 dev bridge; ip link set bridge up"
	on box sh -c "ip address add 172.17.0.2/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1"
	bg server box tproxy-listen --redirect --reply hello -4 "*:80"
	wait_listen box 80
	it_stays
	wait_listen proxy 8080
	run on client nc -dw 5 192.0.2.1 8080
	assert_output hello
	wait_line server.out " 192\.0\.2\.2:"'
session "pid=\$(podman inspect --format '{{.State.Pid}}' web)" "$CONTAINER"'
	printf "#!/bin/sh\necho %s\n" "$LAB_box" >podman
	chmod +x podman
	after env "PATH=$PWD:$PATH"
	it_stays
	wait_line it.err "connecting in network namespace $LAB_box"
	run on client nc -dw 5 192.0.2.1 8080
	assert_output hello
	wait_line server.out " 192\.0\.2\.2:"'
session 'tproxy-setup up --name pod --divert-only --local' "$CONTAINER"'
	on box ip address add 10.0.0.2/8 dev lo
	it_stays box
	wait_listen box 8080
	run on box bash -c "printf \"PROXY TCP4 192.0.2.2 198.51.100.2 4000 80\r\n\" | nc -s 10.0.0.2 -w 5 10.0.0.2 8080"
	assert_output hello
	wait_line server.out " 192\.0\.2\.2:4000 "'
example 'tproxy-setup run -u --port 53 --to 3129 -- tproxy-relay -u 3129' '
	bg server server socat UDP-LISTEN:53,fork SYSTEM:"read x; echo \$SOCAT_PEERADDR"
	wait_listen server 53 udp
	it_stays
	wait_until 10 on proxy tproxy-setup status -q
	run on client bash -c "echo x | socat -t5 - UDP:$V4:53"
	assert_output 192.0.2.2'

example 'tproxy-setup run -tu --port 443 --to 3129 -- tproxy-relay -tu 3129' '
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=server.test -days 2 \
		-keyout key.pem -out cert.pem 2>/dev/null
	mkdir root got
	echo "hello by QUIC" >root/file
	bg tls server openssl s_server -accept 443 -key key.pem -cert cert.pem -WWW
	bg quic server gtlsserver -q -d root "*" 443 key.pem cert.pem
	wait_listen server 443
	wait_listen server 443 udp
	it_stays
	wait_until 10 on proxy tproxy-setup status -q
	for to in "$V4" "$V6"; do
		[[ $to == *:* ]] && at="[$to]" || at=$to
		run -0 on client timeout 20 gtlsclient -q --exit-on-all-streams-close --download got "$to" 443 "https://$at/file"
		assert_equal "$(cat got/file)" "hello by QUIC"
		rm got/file
		run -0 on client curl -sSk --max-time 10 "https://$at/cert.pem"
		assert_output --partial "BEGIN CERTIFICATE"
	done
	wait_line it.out " open [0-9]+ udp .* 198\.51\.100\.2:443 "
	wait_line it.out " open [0-9]+ tcp .* 198\.51\.100\.2:443 "'

example "tproxy-relay -u --one-way --upstream 198.51.100.2:5300 --upstream '[2001:db8:2::2]:5300' '*:5300'" '
	bg server server tproxy-listen -u --redirect "*:5300"
	wait_listen server 5300 udp
	it_stays
	wait_listen proxy 5300 udp
	on client bash -c "echo x >/dev/udp/192.0.2.1/5300; echo x >/dev/udp/2001:db8:1::1/5300"
	wait_line server.out " 192\.0\.2\.2:"
	wait_line server.out " \[2001:db8:1::2\]:"'

# relay-udp-oneway.bats sees what it does.
example "nft -f - <<'END' table inet dsr { chain postrouting { type filter hook postrouting priority mangle udp sport 5300 ip saddr set 192.0.2.1 udp sport 5300 ip6 saddr set 2001:db8:1::1 } } END" '
	it server
	assert_success
	run -0 on server nft list table inet dsr'

# ---------------------------------------------------------------- tproxy-inspect

# relayed: a connection that stays.
relayed() {
	start_nginx
	intercepted
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 3129
	bg client client nc "$V4" 80
	wait_line relay.out " open "
}

# redirected: one from 192.0.2.2:40000 that REDIRECT has brought to port $1.
redirected() {
	redirect_to 80 "$1"
	bg listen proxy tproxy-listen --redirect --hold 1h "*:$1"
	wait_listen proxy "$1"
	bg client client nc -p 40000 "$V4" 80
	wait_line listen.out 40000
}

example 'tproxy-inspect' '
	relayed
	it
	assert_success
	assert_line --partial "198.51.100.2:80"
	assert_line --partial tproxy-relay'
example 'tproxy-inspect --state LISTEN' '
	relayed
	it
	assert_line --regexp "LISTEN +127\.0\.0\.1:3129"'
example 'tproxy-inspect origdst 192.0.2.1:8080 192.0.2.2:40000' '
	redirected 8080
	it
	assert_line --partial "198.51.100.2:80"'
example "tproxy-inspect -aH -o local,peer --state ESTAB --local '*:3130' | tproxy-inspect origdst -" '
	redirected 3130
	it
	assert_line --partial "198.51.100.2:80"'
example 'tproxy-inspect --json --state ESTAB | jq -r .prog | sort | uniq -c' '
	relayed
	it
	assert_output --regexp "^ +2 tproxy-relay$"'
# The session of tproxy-inspect(1): each command that is proposed is run.
example 'tproxy-inspect explain 192.0.2.2 198.51.100.2:443' '
	intercepted
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	on proxy nft "add table inet firewall; add chain inet firewall input { type filter hook input priority 0; policy drop; }"
	on proxy nft "add rule inet firewall input iif lo accept; add rule inet firewall input tcp dport 22 accept"
	it
	assert_failure 1
	assert_line --regexp "^verdict +fail +excluded"
	assert_line --regexp "tproxy-setup up --to 3129 --port 80,443$"
	run -0 on proxy tproxy-setup up -q --to 3129 --port 80,443
	it
	assert_failure 1
	assert_line --regexp "^verdict +fail +dropped"
	assert_line --regexp "nft insert rule inet firewall input .meta mark & 0xff == 0x1 accept."
	run -0 on proxy nft "insert rule inet firewall input meta mark & 0xff == 0x1 accept"
	it
	assert_success'
example 'tproxy-inspect explain -o step,evidence 192.0.2.2 198.51.100.2:443' '
	on proxy tproxy-setup up -q --to 3129 --port 80,443
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	it
	assert_success
	assert_line --regexp "^policy +carries it to 198\.51\.100\.2:443"
	assert_line --regexp "^verdict +instance default delivers it to tproxy-relay"'
example 'tproxy-inspect explain --live 30s any any:443' '
	on proxy tproxy-setup up -q --to 3129 --port 443
	bg relay proxy tproxy-relay 3129
	start_nginx 443
	wait_listen proxy 3129
	it_stays
	wait_line it.err " waiting for packets "
	on client curl -sS --max-time 10 -o /dev/null "http://$V4:443/who"
	signal it INT
	wait_exit it
	assert_line_in it.out "^seen-request +ok +input .* pass input"
	assert_line_in it.out "^verdict +ok +delivered +instance default delivers it"'
# watched: IT runs, and sees a connection that opens and closes.
watched() {
	start_nginx
	intercepted
	bg relay proxy tproxy-relay 3129
	wait_listen proxy 3129
	it_stays
	until has_line "$OUT/it.out" " open .*198\.51\.100\.2:80" && has_line "$OUT/it.out" " close "; do
		on client curl -sS --max-time 10 -o /dev/null "http://$V4/who"
		sleep 0.2
	done
}
example 'tproxy-inspect watch' 'watched'
example 'tproxy-inspect watch --timeout 1m --until '"'event=close client=192.0.2.2'" '
	watched
	wait_exit it'
example 'tproxy-inspect pairs --stuck' '
	relayed
	it
	assert_failure 1'
example 'tproxy-inspect kill --peer 192.0.2.2' '
	relayed
	it
	assert_success
	wait_exit client || :'
example "tproxy-listen 3129 -- sh -c 'tproxy-inspect fd --json 0 >&2'" '
	intercepted
	it_stays
	wait_listen proxy 3129
	try
	wait_line it.err "\"origdst\":\{\"addr\":\"198\.51\.100\.2\",\"port\":80\}"'

# ---------------------------------------------------------------- pipelines

# three: so many clients.
three() {
	intercepted
	it_stays
	wait_listen proxy 3129
	try
	try
	try
	wait_exit it
}

example "tproxy-listen --json --count 3 3129 | jq -r '[.client.addr, .origdst.addr, .origdst.port] | @tsv'" '
	three
	assert_equal "$(grep -cxF "192.0.2.2	198.51.100.2	80" "$OUT/it.out")" 3'
example "tproxy-listen --count 3 -o origdst 3129 | awk '{ n[\$1]++ } END { for (d in n) print n[d], d }' | sort -rn" '
	three
	assert_line_in it.out "^3 198\.51\.100\.2:80$"'
example 'tproxy-listen --count 3 -o client,origdst 3129 | while read -r client origdst; do echo "$client wanted $origdst" done' '
	three
	assert_equal "$(grep -cE "^192\.0\.2\.2:[0-9]+ wanted 198\.51\.100\.2:80$" "$OUT/it.out")" 3'
example 'timeout 2 tproxy-listen 3129 | tee connections.log' '
	intercepted
	it_stays
	wait_listen proxy 3129
	try
	wait_exit it
	seen
	assert_equal "$(<connections.log)" "$(<"$OUT/it.out")"'
example 'tproxy-listen --json --count 3 3129 | jq -r .origdst.addr | sort -u | xargs -n 1 ip -o route get' '
	three
	assert_line_in it.out "^198\.51\.100\.2 dev toserver "'
drawing 'client ------------> proxy host -------------------------> server'

# ---------------------------------------------------------------- other proxies

block_elsewhere 'cat >haproxy.cfg <<END' proxies.bats 'HAProxy'
block_elsewhere "cat >nginx.conf <<'END'" proxies.bats 'nginx, which is not its own upstream'
block_elsewhere 'cat >squid.conf <<END' proxies.bats 'Squid'
block_elsewhere "ports='3129:tr-full:ip-in=127.0.0.1 3129:tr-full:ip-in=[::1]'" proxies.bats 'Traffic Server'
block_elsewhere 'cat >v2ray.json <<END' proxies.bats 'V2Ray'
block_elsewhere "tproxy-setup run --to '*:3129' --port 80 --" proxies.bats 'ss-redir'
block_elsewhere 'sslh -n --transparent -u sslh -p 0.0.0.0:443' proxies.bats 'sslh'
block_elsewhere 'cat >stunnel.conf <<END' proxies.bats 'stunnel'
block_elsewhere 'cat >redsocks.conf <<END' proxies.bats 'redsocks, which does not support IPv6'
block_elsewhere "nft 'table inet mitmproxy {" proxies.bats 'mitmproxy'

# ---------------------------------------------------------------- two machines

drawing 'clients lan0 .251 +---+ .251 wan0 servers'
block_elsewhere "cat >/etc/tproxy/web.conf <<'END'" two-machines.bats 'a planned change of machines loses no connection'
block_elsewhere "cat >/etc/tproxy/failover.nft <<'END'" two-machines.bats 'the machine dies'
block_elsewhere "cat >/etc/keepalived/tproxy-serves <<'END'" two-machines.bats 'the relay dies'
block_elsewhere "cat >/etc/keepalived/keepalived.conf <<'END'" two-machines.bats 'one link goes'
block_elsewhere 'sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1' two-machines.bats 'one link goes'
elsewhere "nft 'add element inet tproxy_failover draining { tcp timeout 1m }'" two-machines.bats \
	'a planned change of machines loses no connection'
not_run 'systemctl restart tproxy@web' 'needs a running systemd; what it does is in two-machines.bats'

# ---------------------------------------------------------------- many machines

# The blocks of tproxy-scale(7) are written and run by lib/scale.bash; these tests could not begin without them.
SCALE='2,000 connections work, and come through the relays that the routing table says'
drawing 'client -- west --+-- relay 1 --+-- east -- server'
for line in "cat >router.sysctl <<'END'" "cat >router.conf <<'END'" "cat >relay-slots <<'END'" \
	'ip route replace unreachable 198.51.100.0/24 metric 4294967294' "sed -e 's/10.1.255/10.2.255/' -e 's/fd00:1:/fd00:2:/'" \
	"cat >relay.sysctl <<'END'" "cat >relay.links <<'END'" "cat >relay.conf <<'END'" "cat >web.conf <<'END'" \
	"cat >relay.nft <<'END'" "cat >relay.rules <<'END'" "cat >announce <<'END'"; do
	block_elsewhere "$line" many-machines.bats "$SCALE"
done
for line in "cat >announce@.service <<'END'" "cat >relay-slots.service <<'END'"; do
	block_elsewhere "$line" many-machines.bats 'systemd accepts the units'
done
for line in 'systemctl enable --now relay-slots' 'systemctl enable --now relay-rules' 'systemctl enable --now announce@web tproxy@web' \
	'systemctl restart systemd-sysctl bird'; do
	not_run "$line" "systemd in a lab has no routers"
done
for line in net.ipv6 net.ipv4; do
	not_run "sysctl -w $line.neigh.default.gc_thresh3=8192" 'it is one value for all network namespaces'
done
elsewhere 'tproxy-relay --source own --send-proxy 2 3129' many-machines.bats 'where it cannot be had: --source own with --send-proxy 2'
