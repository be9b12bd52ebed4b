#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# tproxy-listen with a command: UCSPI for each connection, or the listeners themselves (--pass).
#
#   client 192.0.2.2 ----> proxy ----> server 198.51.100.2   (and 2001:db8:1::2 -> 2001:db8:2::2)
#                           | port 80: TPROXY to 3129, port 81: REDIRECT to 3130

bats_require_minimum_version 1.5.0
load lib/lab
load lib/see

setup() {
	lab_up
}

teardown() {
	lab_down
}

# listen ARGS...: tproxy-listen at 3129 behind TPROXY of port 80, ready.
listen() {
	tproxy_to 80 3129
	bg listen proxy "$@"
	wait_listen proxy '[::1]:3129'
}

@test "the UCSPI environment: the original destination is the local side, both families" {
	listen env FOO=kept PROTO=old TCPREMOTEHOST=old TCPREMOTEINFO=old TCPLOCALHOST=old TCP6REMOTEIP=old \
		UDPREMOTEIP=old TPROXY_ORIGDST_BY=old LISTEN_FDS=1 LISTEN_PID=1 LISTEN_FDNAMES=old NOTIFY_SOCKET= \
		tproxy-listen --listener-mark 0x30 3129 -- \
		sh -c 'env | grep -E "^(FOO|PROTO|TCP|UDP|LISTEN|NOTIFY|TPROXY_[^LB])" | grep -v TEST | sort'
	run connect_from client 198.51.100.2:80 sourceport=40001
	assert_line --index 0 FOO=kept
	assert_line --index 1 PROTO=TCP
	assert_line --index 2 TCPLOCALIP=198.51.100.2
	assert_line --index 3 TCPLOCALPORT=80
	assert_line --index 4 TCPREMOTEIP=192.0.2.2
	assert_line --index 5 TCPREMOTEPORT=40001
	assert_line --index 6 TPROXY_CLIENT=192.0.2.2:40001
	assert_line --index 7 --regexp '^TPROXY_COOKIE=0x[0-9a-f]+$'
	assert_line --index 8 TPROXY_MARK=0x30
	assert_line --index 9 TPROXY_ORIGDST=198.51.100.2:80
	assert_line --index 10 TPROXY_ORIGDST_BY=tproxy
	assert_equal "${#lines[@]}" 11
	run connect_from client '[2001:db8:2::2]:80' sourceport=40001
	assert_line PROTO=TCP
	assert_line TCPLOCALIP=2001:db8:2::2
	assert_line TCPREMOTEIP=2001:db8:1::2
	assert_line 'TPROXY_CLIENT=[2001:db8:1::2]:40001'
	assert_line 'TPROXY_ORIGDST=[2001:db8:2::2]:80'
}

@test "after REDIRECT the local side is the original destination, too" {
	redirect_to 81 3130
	bg listen proxy tproxy-listen --redirect 3130 -- sh -c 'echo $TCPLOCALIP $TCPLOCALPORT $TPROXY_ORIGDST_BY'
	wait_listen proxy '[::]:3130'
	run connect_from client 198.51.100.2:81
	assert_output '198.51.100.2 81 redirect'
	run connect_from client '[2001:db8:2::2]:81'
	assert_output '2001:db8:2::2 81 redirect'
}

@test "the child has the blocking socket on 0 and 1, no other descriptor but 2, default signals" {
	exec 8</dev/null 9</dev/null # descriptors that somebody forgot to close
	listen python3 -c '
import os, signal, sys
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.set_inheritable(8, True); os.set_inheritable(9, True)
os.execvp(sys.argv[1], sys.argv[1:])' tproxy-listen 3129 -- python3 -c '
import os, signal, stat
print("fds", [fd for fd in range(1000) if os.path.exists("/proc/self/fd/%d" % fd)])
print("same", os.fstat(0).st_ino == os.fstat(1).st_ino and stat.S_ISSOCK(os.fstat(0).st_mode))
print("blocking", os.get_blocking(0))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("blocked", int(status["SigBlk"], 16))
# but for those that Python itself ignores, and those that the C library keeps to itself
own = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1 | 3 << 31
print("ignored", int(status["SigIgn"], 16) & ~own)'
	exec 8<&- 9<&-
	run connect_from client 198.51.100.2:80
	assert_line 'fds [0, 1, 2]'
	assert_line 'same True'
	assert_line 'blocking True'
	assert_line 'blocked 0'
	assert_line 'ignored 0'
}

@test "a direct connection is refused and reported; --allow-direct serves it" {
	bg listen proxy tproxy-listen --log '*:3129' -- echo served
	wait_listen proxy '[::]:3129'
	run read_from client 192.0.2.1 3129
	assert_output --partial 'reset by peer'
	refute_output --partial served
	wait_line listen.out ' refused tcp 192.0.2.2:[0-9]+ - none direct$'
	assert_line_in listen.err '^tproxy-listen: 192.0.2.2:[0-9]+: connected to \*:3129 directly .*--allow-direct'
	stop listen
	bg listen2 proxy tproxy-listen --allow-direct '*:3129' -- \
		sh -c 'echo $TCPREMOTEIP $TCPLOCALIP $TCPLOCALPORT ${TPROXY_ORIGDST-unset} $TPROXY_ORIGDST_BY'
	wait_listen proxy '[::]:3129'
	run connect_from client 192.0.2.1:3129
	assert_output '192.0.2.2 192.0.2.1 3129 unset none'
}

@test "a missing (127) or not executable (126) command is reported before anything is opened" {
	touch "$OUT/plain"
	run --separate-stderr -127 on proxy tproxy-listen 3129 -- no-such-command
	assert_equal "$stderr" "tproxy-listen: no-such-command: command not found"
	run --separate-stderr -127 on proxy tproxy-listen 3129 -- ./no/such/command
	run --separate-stderr -126 on proxy tproxy-listen 3129 -- "$OUT/plain"
	assert_equal "$stderr" "tproxy-listen: $OUT/plain: Permission denied"
	run --separate-stderr -126 on proxy tproxy-listen 3129 -- "$OUT"
	run --separate-stderr -127 on proxy tproxy-listen --pass 3129 -- no-such-command
	# an endpoint in use would be told otherwise: the command is looked up first
	bg first proxy tproxy-listen 3129
	wait_listen proxy '[::1]:3129'
	run --separate-stderr -127 on proxy tproxy-listen 3129 -- no-such-command
}

@test "--log: a record as a command starts and one as it ends, with pid and how" {
	listen tproxy-listen --log -o event,client,pid,reason 3129 -- sh -c '
		read -r what
		case $what in
		ok) exit 0 ;;
		bad) exit 7 ;;
		die) kill -KILL $$ ;;
		esac'
	local what
	for what in ok:40001 bad:40002 die:40003; do
		on client timeout --foreground 30 socat - "TCP:198.51.100.2:80,sourceport=${what#*:}" <<<"${what%:*}"
	done
	wait_line listen.out '^close 192.0.2.2:40003 '
	run cat "$OUT/listen.out"
	assert_line --regexp '^open 192.0.2.2:40001 [0-9]+ -$'
	assert_line --regexp '^close 192.0.2.2:40001 [0-9]+ done$'
	assert_line --regexp '^close 192.0.2.2:40002 [0-9]+ failed$'
	assert_line --regexp '^close 192.0.2.2:40003 [0-9]+ killed$'
}

@test "without --log nothing is written to stdout" {
	listen tproxy-listen 3129 -- true
	run connect_from client 198.51.100.2:80
	stop listen
	assert_equal "$(cat "$OUT/listen.out")" ""
}

@test "a command that only this user, or nobody, can execute is reported before the first connection" {
	mkdir "$OUT/bin"
	printf '#!/nonexistent/sh\n' >"$OUT/bin/script"
	printf 'echo hello\n' >"$OUT/bin/text"
	chmod 755 "$OUT"/bin/*
	run -127 on proxy tproxy-listen 3129 -- "$OUT/bin/script"
	assert_output --partial '/bin/script: its interpreter /nonexistent/sh'
	run -126 on proxy tproxy-listen 3129 -- "$OUT/bin/text"
	assert_output --partial '/bin/text: is text, and its first line does not begin with #!'
}

@test "--user: a command that this user may not execute" {
	root_only "needs a second user id"
	mkdir -m 700 "$OUT/bin"
	cp /bin/true "$OUT/bin/own"
	run -126 on proxy tproxy-listen --user nobody 3129 -- "$OUT/bin/own"
	assert_output --partial '/bin/own: Permission denied'
}

@test "started with SIGCHLD ignored, it still notices the end of its children" {
	listen python3 -c 'import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp("tproxy-listen", ["tproxy-listen", "-c", "1", "3129", "--", "echo", "hello"])'
	for _ in 1 2; do
		run connect_from client 198.51.100.2:80
		assert_output hello
	done
	run stop listen
	assert_success
}

@test "processes that a command has started are ended with it" {
	listen tproxy-listen --drain-timeout 0 3129 -- sh -c 'sleep 1234 & echo started; wait'
	bg client client socat -u TCP:198.51.100.2:80 -
	wait_line client.out started
	stop listen
	# The client has heard the end, too.
	wait_exit client
	wait_until 10 on proxy sh -c '! ss -Htn state connected exclude time-wait | grep :80'
}

@test "-c N: at most N commands at a time, the others wait; no zombie stays" {
	listen tproxy-listen -c 2 3129 -- sh -c 'echo started >&2; read -r x; echo "got $x"'
	local n
	for n in 1 2 3 4; do
		mkfifo "$OUT/in$n"
		bg "c$n" client bash -c 'exec socat -t 5 - TCP:198.51.100.2:80 <>"$0"' "$OUT/in$n"
	done
	wait_until 5 on client sh -c '[ $(ss -Htn state established "dport = :80" | wc -l) = 4 ]'
	wait_until 5 sh -c "[ \$(grep -c started '$OUT/listen.err') = 2 ]"
	for n in 1 2 3 4; do
		echo "$n" >"$OUT/in$n"
	done
	for n in 1 2 3 4; do
		wait_line "c$n.out" "^got $n\$"
	done
	# They are children of the process that starts them.
	wait_until 5 on proxy sh -c '! pgrep -P "$(pgrep -P '"$(pid_of listen)"' -x tproxy-spawner)" >/dev/null'
}

@test "--count N ends when the commands of N connections have ended" {
	listen tproxy-listen --count 1 3129 -- sh -c 'read -r x; echo "got $x"'
	mkfifo "$OUT/say"
	bg one client bash -c 'socat - TCP:198.51.100.2:80 <"$0"' "$OUT/say"
	exec 7>"$OUT/say"
	wait_until 5 on proxy sh -c '! ss -Htnl "sport = :3129" | grep -q .'
	run gone "$(pid_of listen)"
	assert_failure
	echo hello >&7
	exec 7>&-
	run wait_exit listen
	assert_success
	wait_exit one
	assert_equal "$(cat "$OUT/one.out")" "got hello"
}

@test "SIGTERM lets commands finish within --drain-timeout" {
	mkfifo "$OUT/gate"
	listen tproxy-listen --drain-timeout 20s 3129 -- sh -c 'read -r x <"$0"; echo finished' "$OUT/gate"
	bg one client socat -u TCP:198.51.100.2:80 -
	wait_until 5 on proxy sh -c 'ss -Htn state established "sport = :80" | grep -q .'
	signal listen TERM
	wait_until 5 on proxy sh -c '! ss -Htnl "sport = :3129" | grep -q .'
	echo go >"$OUT/gate"
	run wait_exit listen
	assert_success
	wait_exit one
	assert_equal "$(cat "$OUT/one.out")" finished
}

@test "after --drain-timeout commands get SIGTERM, and SIGKILL if that is not enough" {
	listen tproxy-listen --log -o event,reason --drain-timeout 100ms 3129 -- \
		sh -c '[ $TCPREMOTEPORT = 40001 ] || trap "" TERM; while sleep 0.05; do :; done'
	bg one client socat -u TCP:198.51.100.2:80,sourceport=40001 -
	bg two client socat -u TCP:198.51.100.2:80,sourceport=40002 -
	wait_until 5 sh -c "[ \$(grep -c open '$OUT/listen.out') = 2 ]"
	signal listen TERM
	run wait_exit listen 15
	assert_success
	assert_equal "$(grep -c 'close killed' "$OUT/listen.out")" 2
}

@test "a second SIGTERM ends commands at once" {
	listen tproxy-listen --log -o event,reason --drain-timeout 1h 3129 -- sleep 1000
	bg one client socat -u TCP:198.51.100.2:80 -
	wait_line listen.out open
	signal listen TERM
	wait_until 5 on proxy sh -c '! ss -Htnl "sport = :3129" | grep -q .'
	signal listen TERM
	run wait_exit listen
	assert_success
	assert_line_in listen.out 'close killed'
}

@test "--user: the command runs as that user, without capabilities" {
	root_only "needs a second user id"
	listen tproxy-listen --user nobody 3129 -- sh -c 'id -un; grep CapEff /proc/self/status'
	run connect_from client 198.51.100.2:80
	assert_line --index 0 nobody
	assert_line --index 1 --regexp '^CapEff:.0000000000000000$'
	run -2 on proxy tproxy-listen --user no-such-user 3130
	assert_output --partial '--user no-such-user: no such user'
}

@test "inetd programs work unchanged: micro-httpd and busybox httpd" {
	mkdir "$OUT/www"
	echo "hello from the proxy" >"$OUT/www/file.txt"
	listen tproxy-listen 3129 -- micro-httpd "$OUT/www"
	run on client curl -sS --max-time 20 http://198.51.100.2/file.txt
	assert_output "hello from the proxy"
	run on client curl -sS --max-time 20 'http://[2001:db8:2::2]/file.txt'
	assert_output "hello from the proxy"
	stop listen
	bg busybox proxy tproxy-listen 3129 -- busybox httpd -i -h "$OUT/www"
	wait_listen proxy '[::1]:3129'
	run on client curl -sS --max-time 20 http://198.51.100.2/file.txt
	assert_output "hello from the proxy"
}

@test "programs for ucspi-tcp work unchanged: recordio, and tcprulescheck on the environment" {
	printf '192.0.2.2:allow,WHO="the client"\n:deny\n' |
		tcprules "$OUT/rules.cdb" "$OUT/rules.tmp"
	listen tproxy-listen 3129 -- recordio sh -c 'read -r x; echo "you said $x"; tcprulescheck "$0"' "$OUT/rules.cdb"
	run on client timeout --foreground 30 socat - TCP:198.51.100.2:80 <<<"hello"
	assert_line 'you said hello'
	assert_line --partial 'allow connection'
	wait_line listen.err '^[0-9]+ < hello' # recordio's log
}

@test "sshd -i sees the client's address and answers as the original destination" {
	root_only "sshd wants to be root"
	ssh-keygen -q -t ed25519 -N '' -f "$OUT/host"
	ssh-keygen -q -t ed25519 -N '' -f "$OUT/user"
	cat >"$OUT/sshd_config" <<-END
		HostKey $OUT/host
		AuthorizedKeysFile $OUT/user.pub
		PasswordAuthentication no
		StrictModes no
		UsePAM no
		PermitRootLogin yes
	END
	# sshd wants its directory in /run, which is not ours to make: a /run of its own
	listen unshare --mount sh -c 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"' sh \
		tproxy-listen 3129 -- /usr/sbin/sshd -i -f "$OUT/sshd_config"
	run on client timeout --foreground 20 ssh -p 80 -i "$OUT/user" -o BatchMode=yes -o IdentitiesOnly=yes \
		-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR \
		root@198.51.100.2 'echo $SSH_CONNECTION'
	assert_success
	assert_output --regexp '^192\.0\.2\.2 [0-9]+ 198\.51\.100\.2 80$'
}

@test "--pass: CMD gets the listening sockets from fd 3 on, in this very process" {
	tproxy_to 80 3129
	bg pass proxy tproxy-listen --pass 3129 -- python3 -c '
import os, socket
print(os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], int(os.environ["LISTEN_PID"]) == os.getpid(), flush=True)
for fd in (3, 4):
    s = socket.socket(fileno=fd)
    print(fd, s.getsockname()[:2], os.get_blocking(fd), flush=True)
    c, peer = s.accept()
    print(peer[:2], c.getsockname()[:2], flush=True)'
	wait_line pass.out "^3 "
	run connect_from client 198.51.100.2:80 sourceport=40001
	wait_line pass.out "^4 "
	run connect_from client '[2001:db8:2::2]:80' sourceport=40002
	wait_exit pass
	run cat "$OUT/pass.out"
	assert_line --index 0 '2 tcp4:tcp6 True'
	assert_line --index 1 "3 ('127.0.0.1', 3129) True"
	assert_line --index 2 "('192.0.2.2', 40001) ('198.51.100.2', 80)"
	assert_line --index 3 "4 ('::1', 3129) True"
	assert_line --index 4 "('2001:db8:1::2', 40002) ('2001:db8:2::2', 80)"
}

@test "--pass: tcp4 before tcp6, in any order on the command line" {
	run -0 on proxy tproxy-listen -t -u --pass '[::1]:3129' 127.0.0.1:3129 -- sh -c 'echo "$LISTEN_FDNAMES"'
	assert_output tcp4:tcp6:udp4:udp6
	# shellcheck disable=SC2046 # words
	run -126 on proxy tproxy-listen -t -u --pass $(seq 4001 4040) -- true
	assert_output --partial 'more than 128 listeners'
}

@test "--pass to a program written for systemd's socket activation: gunicorn" {
	cat >"$OUT/where.py" <<-'END'
		def app(environ, start_response):
		    sock = environ["gunicorn.socket"]
		    start_response("200 OK", [("Content-Type", "text/plain")])
		    return [("%s went to %s\n" % (sock.getpeername()[:2], sock.getsockname()[:2])).encode()]
	END
	tproxy_to 80 3129
	bg gunicorn proxy env HOME="$OUT" tproxy-listen --pass 3129 -- \
		gunicorn --chdir "$OUT" --worker-tmp-dir "$OUT" --no-sendfile where:app
	wait_listen proxy '[::1]:3129'
	run on client curl -sS --max-time 10 --local-port 40001 http://198.51.100.2/
	assert_output "('192.0.2.2', 40001) went to ('198.51.100.2', 80)"
	run on client curl -sS --max-time 10 --local-port 40002 'http://[2001:db8:2::2]/'
	assert_output "('2001:db8:1::2', 40002) went to ('2001:db8:2::2', 80)"
}

@test "--pass to HAProxy, which binds fd@3 and fd@4 and relays with the client's address" {
	start_nginx
	cat >"$OUT/haproxy.cfg" <<-'END'
		global
			maxconn 100
		defaults
			mode tcp
			timeout connect 5s
			timeout client 5s
			timeout server 5s
		listen relay
			bind fd@3
			bind fd@4
			server origin 0.0.0.0
	END
	tproxy_to 80 3129
	bg haproxy proxy tproxy-listen --pass 3129 -- haproxy -db -f "$OUT/haproxy.cfg"
	wait_listen proxy '[::1]:3129'
	run on client curl -sS --max-time 20 http://198.51.100.2/who
	assert_output --regexp '^198\.51\.100\.1 [0-9]+$'
	run on client curl -sS --max-time 20 'http://[2001:db8:2::2]/who'
	assert_output --regexp '^2001:db8:2::1 [0-9]+$'
}

@test "--pass to tproxy-relay" {
	start_nginx
	tproxy_to 80 3129
	bg relay proxy tproxy-listen --pass 3129 -- tproxy-relay
	wait_listen proxy '[::1]:3129'
	run on client curl -sS --max-time 20 --local-port 40001 http://198.51.100.2/who
	assert_output '192.0.2.2 40001'
	run on client curl -sS --max-time 20 --local-port 40002 'http://[2001:db8:2::2]/who'
	assert_output '2001:db8:1::2 40002'
}

@test "one connection that is still served at the end is reported in the singular" {
	bg listen proxy tproxy-listen --redirect --allow-direct --drain-timeout 100ms '*:3129' -- sh -c 'echo hello; exec cat'
	wait_listen proxy 3129
	bg client client bash -c 'exec nc 192.0.2.1 3129 < <(sleep 60)'
	wait_line client.out hello
	stop listen || :
	assert_line_in listen.err '1 connection is still served: ending it'
}
