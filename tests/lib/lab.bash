# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# lab - what every test that needs a network uses.
#
# How to write a test:
#
#	#!/usr/bin/env bats
#	# SPDX-License-Identifier: GPL-2.0-or-later
#	#
#	# What is tested, and a drawing of who talks to whom.
#
#	bats_require_minimum_version 1.5.0
#	load lib/lab
#
#	setup() { lab_up; }		# a lab of its own for each test: 0.1 s
#	teardown() { lab_down; }	# removes it, and every process in it, however the test ended
#
#	@test "the server sees the client's own address" {
#		start_nginx
#		bg relay proxy tproxy-setup run -q --to 3129 -p 80 -- tproxy-relay --log events 3129
#		wait_listen proxy 3129
#		run on client curl -sS --max-time 10 http://198.51.100.2/who
#		assert_output --regexp '^192\.0\.2\.2 [0-9]+$'
#		stop relay			# SIGTERM, and its exit status
#		assert_file_line relay.out 'close .* reason'
#	}
#
# Hosts are client, proxy, server and bystander, as tproxy-lab(1) draws them; interfaces are toclient,
# toserver and tobystander on the proxy, toproxy elsewhere. Programs of the tree are found through
# PATH ($TPROXY_BIN, by default build/).
#
#	on HOST CMD...			run in a host; its status, its output; works with `run`, in pipes and as
#					`on client curl ... &` (then $! is a subshell: use bg)
#	bg NAME HOST CMD...		the same in the background, stdin from /dev/null; output in $OUT/NAME.out,
#					$OUT/NAME.err; the process is `pid_of NAME`; it ends with the lab
#	namespace NAME [COMMAND...]	one more host NAME, a network namespace made by proxy (by COMMAND), without
#					links; what runs in it ends with the lab if the same shell removes that
#	wait_exit NAME [SECONDS]	wait until it has ended; its exit status (fails the test after SECONDS)
#	stop NAME [SIGNAL]		signal it (TERM) and wait_exit
#	signal NAME SIGNAL		only signal it
#	has_heard PID			the signals that it was sent have come; before the same one again
#	wait_until SECONDS CMD...	poll until CMD succeeds; fails the test after SECONDS
#	wait_listen HOST PORT [udp]	until somebody listens on the port there (PORT, or ADDRESS:PORT)
#	wait_serving NAME		until that relay, without -q, says that it is ready
#	wait_line FILE REGEXP		until a line of the file ($OUT/FILE) matches (extended regular expression)
#	start_nginx			a web server on host server, see its own comment
#	start_haproxy, start_header_sender	HAProxy, and one that sends PROXY headers, likewise
#	packets_of			a counter of nftables, likewise
#	redirect_to, redirect_own	netfilter REDIRECT on proxy, likewise
#	no_signs FILE		a second has passed, and it has got no sign of life (WATCHDOG=1) meanwhile
#	random_file SIZE		path of a file of random bytes (100M, 64K); made once for the whole run
#	sum_of FILE			its checksum
#	probe_nft, probe_route		a change on proxy that its monitors see, as often as it is made: a monitor
#					says nothing when it begins, so: wait_until 10 eval 'probe_nft; [ -s ... ]'
#	root_only / rootless_only	skip where this cannot be tested; see tests/skips
#
# Rules: no fixed sleeps (wait_until, wait_listen, wait_line, wait_exit); every client that could hang
# gets a limit (curl --max-time, timeout --foreground); nothing is done in the machine's own namespaces;
# processes are ended by pid or by their NAME here, never by program name. Everything is under
# $BATS_TEST_TMPDIR, so tests can run in parallel. Times are for a fast machine: all waits are
# multiplied by TPROXY_TEST_TIME_SCALE (sanitizers, slow machines).

bats_load_library bats-support
bats_load_library bats-assert
bats_load_library bats-file

TOP=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
TPROXY_BIN=$(cd "${TPROXY_BIN:-$TOP/build}" && pwd)
# Debian's programs, which tests need, before others of the same name that a user has.
PATH=$TPROXY_BIN:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
TIME_SCALE=${TPROXY_TEST_TIME_SCALE:-1}
export TOP TPROXY_BIN PATH

# ---------------------------------------------------------------- the lab

# lab_up: build a lab for this test (in setup) or for all tests of the file (in setup_file). Its guard
# dies with this process, should bats be killed.
lab_up() {
	local fd line word
	OUT=${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}/out
	mkdir -p "$OUT"
	# iptables-legacy's own one is root's.
	export XTABLES_LOCKFILE=$OUT/xtables.lock
	LAB_NAME=${BATS_SUITE_TEST_NUMBER:-file}-$BASHPID
	exec {fd}< <(exec 3>&- 4>&- </dev/null setpriv --pdeathsig TERM -- \
		tproxy-lab up --foreground --name "$LAB_NAME")
	LAB_GUARD=$!
	read -r -t $((20 * TIME_SCALE)) -u "$fd" line || fail "tproxy-lab up: no lab"
	exec {fd}<&-
	for word in ${line#up }; do
		printf -v "LAB_${word%=*}" %s "${word#*=}"
	done
	LAB_ENTER=
	[[ /proc/$LAB_proxy/ns/user -ef /proc/self/ns/user ]] || LAB_ENTER=--user=/proc/$LAB_proxy/ns/user
	# Taken now: later a pid may be somebody else's.
	LAB_NETS=" $(readlink /proc/{"$LAB_client","$LAB_proxy","$LAB_server","$LAB_bystander"}/ns/net | tr '\n' ' ')"
	export OUT LAB_NAME LAB_GUARD LAB_ENTER LAB_NETS LAB_client LAB_proxy LAB_server LAB_bystander
	own_ports client proxy bystander
}

# own_ports HOST...: the ports that tests choose for themselves are not given to who asks for any port;
# a connection that has ended would hold the port for a minute. (The next free ones, which who asks gets
# most often, are not among those that doctor's check `one-way` remembers.)
own_ports() {
	local host
	for host in "$@"; do
		on "$host" sysctl -qw net.ipv4.ip_local_reserved_ports=40000-44001 || fail "$host: reserved ports"
	done
}

# A test that fails is seen by who was not there: what its last `run` gave, and the last words of each
# program that has written something to standard error.
last_words() {
	local file
	[[ ${BATS_TEST_NAME-} && ! ${BATS_TEST_COMPLETED-} && ! ${BATS_TEST_SKIPPED-} ]] || return 0
	[[ -z ${output-} ]] || tail -n 4 <<<"$output" | cut -c1-160 | sed 's/^/run: /'
	for file in "${OUT-}"/*.err; do
		[[ ! -s $file ]] || tail -n 2 "$file" | cut -c1-160 | sed "s/^/${file##*/}: /"
	done
}

# lab_down: remove the lab and whatever runs in it.
lab_down() {
	local pid pids=()
	last_words
	[[ ${LAB_GUARD-} ]] || return 0
	# Processes of on and bg are in the machine's pid namespace, so that $! and /proc mean what they
	# seem to; they are known by their network namespace.
	while read -r pid; do
		[[ $pid == "$LAB_client" || $pid == "$LAB_proxy" || $pid == "$LAB_server" ||
			$pid == "$LAB_bystander" ]] || pids+=("$pid")
	done < <(lab_processes "$LAB_NETS")
	((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || :
	kill -TERM "$LAB_GUARD" 2>/dev/null || :
	wait_until 10 gone "$LAB_GUARD"
	unset LAB_GUARD
}

# lab_processes "NET NET...": pids of the processes in these network namespaces.
lab_processes() {
	find /proc -mindepth 1 -maxdepth 1 -name '[1-9]*' -printf '%f/ns/net\n' 2>/dev/null |
		(cd /proc && xargs -r stat -c '%N' 2>/dev/null) |
		awk -v nets="$1" -F "'" '$4 && index(nets, " " $4 " ") { sub("/.*", "", $2); print $2 }'
}

on() {
	local pid=LAB_$1
	shift
	nsenter ${LAB_ENTER:+"$LAB_ENTER" --preserve-credentials} --net="/proc/${!pid}/ns/net" -- "$@"
}

namespace() {
	local pid
	bg "$1" proxy "${@:2}" unshare --net sh -c 'ip link set lo up; echo up; exec sleep 86400'
	wait_line "$1.out" up
	pid=$(pid_of "$1")
	LAB_NETS+="$(readlink "/proc/$pid/ns/net") "
	export "LAB_$1=$pid"
}

probe_nft() { on proxy nft 'add table ip probe; delete table ip probe'; }
# (To replace a route by the same one is no change, and nothing is said of it.)
probe_route() {
	on proxy ip route add 203.0.113.200 dev lo table 9
	on proxy ip route del 203.0.113.200 dev lo table 9
}

# ---------------------------------------------------------------- background processes

bg() {
	local name=$1 host=LAB_$2 pid
	shift 2
	rm -f "$OUT/$name.status"
	: >"$OUT/$name.out" 2>"$OUT/$name.err" # now: what one of that name wrote before is not waited for
	# A shell of its own waits for it, so that its status can be had in a subshell (run stop NAME) and
	# by the tests of a file whose setup_file started it.
	read -r pid < <(
		exec 3>&- 4>&- </dev/null 2>/dev/null
		# What a shell starts with & ignores SIGINT and SIGQUIT, unless told otherwise.
		env --default-signal=INT,QUIT nsenter ${LAB_ENTER:+"$LAB_ENTER" --preserve-credentials} \
			--net="/proc/${!host}/ns/net" -- "$@" >"$OUT/$name.out" 2>"$OUT/$name.err" &
		echo $!
		exec >&-
		status=0
		wait $! || status=$?
		echo "$status" >"$OUT/$name.status.part"
		mv "$OUT/$name.status.part" "$OUT/$name.status"
	)
	echo "$pid" >"$OUT/$name.pid"
}

pid_of() {
	cat "$OUT/$1.pid"
}

signal() {
	# Of one that has ended the number may be another test's process by now.
	[[ ! -e $OUT/$1.status ]] || { echo "$1 has ended" >&2; return 1; }
	kill -s "$2" "$(pid_of "$1")"
}

# has_heard PID: no signal waits for it any more. Two of a kind that wait are one: wait_until, between them.
has_heard() {
	gone "$1" || [[ $(awk '/^(Sig|Shd)Pnd:/ { print $2 }' "/proc/$1/status" | tr -d '0\n') == '' ]]
}

# gone PID: it has ended (a zombie that nobody has waited for yet has ended too).
gone() {
	local stat
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
	stat=${stat##*) }
	[[ $stat == [ZX]* ]]
}

wait_exit() {
	if ! poll "${2:-10}" test -e "$OUT/$1.status"; then
		show "$1"
		fail "$1 (pid $(pid_of "$1")) is still running after ${2:-10} s"
		return
	fi
	return "$(<"$OUT/$1.status")"
}

stop() {
	signal "$1" "${2:-TERM}"
	wait_exit "$1"
}

# show NAME: its output, for the one who reads the failed test.
show() {
	local file
	for file in "$OUT/$1".{out,err}; do
		[[ ! -s $file ]] || sed "s/^/${file##*/}: /" "$file" >&2
	done
}

# ---------------------------------------------------------------- waiting

# poll SECONDS CMD...: true as soon as CMD is, false after SECONDS.
poll() {
	local end=$((SECONDS + $1 * TIME_SCALE + 1))
	shift
	until "$@"; do
		((SECONDS < end)) || return
		sleep 0.02
	done
}

wait_until() {
	local limit=$1
	shift
	poll "$limit" "$@" || fail "not within $limit s: $*"
}

listens() {
	local flag=-t where=$2
	[[ ${3-tcp} == tcp ]] || flag=-u
	[[ $where == *:* ]] || where=:$where
	[[ $(on "$1" ss -Hnl $flag "src $where" 2>/dev/null) ]]
}

# A start takes what the machine has left for it; who has not come by then has said why, perhaps.
wait_listen() {
	poll 30 listens "$@" && return
	tail -n 5 "$OUT"/*.err >&2 || :
	fail "nobody listens at $* within 30 s"
}

# All its listeners are open (the first of them would be there for wait_listen), and its rights are given up.
wait_serving() {
	poll 30 has_line "$OUT/$1.err" ': listening on ' && return
	show "$1"
	fail "$1 does not serve within 30 s"
}

# signs FILE: how many signs of life a service manager has got; more_signs FILE N: more than that.
signs() {
	grep -o WATCHDOG=1 "$1" | wc -l
}

more_signs() {
	(($(signs "$1") > $2))
}

# A second is five intervals of the tests' watchdogs. What was sent before may be read late: wait_until.
no_signs() {
	local had
	had=$(signs "$1")
	sleep 1
	! more_signs "$1" "$had"
}

has_line() {
	[[ -f $1 ]] && grep -Eq -- "$2" "$1"
}

wait_line() {
	local file=$1
	[[ $file == /* ]] || file=$OUT/$file
	poll 10 has_line "$file" "$2" && return
	[[ ! -f $file ]] || sed 's/^/| /' "$file" >&2
	fail "no line like '$2' in $file within 10 s"
}

# assert_line_in FILE REGEXP / refute_line_in FILE REGEXP: at once, for a file under $OUT.
# A program that still runs may be about to write it: what it did was seen before it told.
assert_line_in() {
	local file=$1
	if [[ $file != /* ]]; then
		file=$OUT/$file
		[[ ! -e ${file%.*}.pid || -e ${file%.*}.status ]] || { wait_line "$@"; return; }
	fi
	has_line "$file" "$2" && return
	sed 's/^/| /' "$file" >&2
	fail "no line like '$2' in $file"
}

has_lines() { (($(grep -cE -- "$3" "$OUT/$2") >= $1)); }

# wait_lines N FILE PATTERN: as many of them as that within 10 s, and no more by then.
wait_lines() {
	poll 10 has_lines "$@" || :
	assert_equal "$(grep -cE -- "$3" "$OUT/$2")" "$1"
}

refute_line_in() {
	local file=$1
	[[ $file == /* ]] || file=$OUT/$file
	! has_line "$file" "$2" || fail "a line like '$2' in $file: $(grep -Em1 -- "$2" "$file")"
}

# ---------------------------------------------------------------- servers and data

# start_nginx [PORT...]: nginx on host server, both families, port 80 or those given.
#	GET /who		`ADDRESS PORT`, the client as the server sees it
#	GET /FILE, PUT /FILE	$WWW/FILE (PUT stores it there)
#	POST /discard		reads the body and answers 204
# Every request is a line `ADDRESS PORT METHOD URI STATUS BYTES_SENT` in $OUT/access.log.
start_nginx() {
	local port listen='' dir=$OUT/nginx
	(($#)) || set -- 80
	for port; do
		listen+="listen *:$port backlog=4096; listen [::]:$port ipv6only=on backlog=4096; "
	done
	WWW=$dir/www
	export WWW
	mkdir -p "$WWW" "$dir/tmp"
	cat >"$dir/nginx.conf" <<-END
		user root root; daemon off; master_process off; pid $dir/pid; error_log $OUT/nginx.log notice;
		worker_rlimit_nofile 65536;
		events { worker_connections 20000; }
		http {
			log_format who '\$remote_addr \$remote_port \$request_method \$uri \$status \$bytes_sent';
			access_log $OUT/access.log who;
			client_body_temp_path $dir/tmp; proxy_temp_path $dir/tmp; fastcgi_temp_path $dir/tmp;
			uwsgi_temp_path $dir/tmp; scgi_temp_path $dir/tmp;
			client_max_body_size 0; keepalive_requests 1000000; sendfile on;
			default_type application/octet-stream;
			server {
				$listen
				root $WWW;
				location / { dav_methods PUT DELETE; }
				location = /who { default_type text/plain; return 200 "\$remote_addr \$remote_port\n"; }
				location = /discard { proxy_pass http://unix:$dir/discard:/; }
			}
			server { listen unix:$dir/discard; access_log off; location / { return 204; } }
		}
	END
	bg nginx server nginx -p "$dir" -c "$dir/nginx.conf" -e "$OUT/nginx.log"
	for port; do
		wait_listen server "$port"
	done
}

# redirect_to PORT LISTENER [PROTOCOL]: what proxy forwards to that port goes to the listener by netfilter's
# REDIRECT: the connection's local end becomes the proxy's own address.
redirect_to() { redirect prerouting dstnat "$@"; }

# redirect_own PORT LISTENER: the same for what proxy opens itself.
redirect_own() { redirect output -100 "$@"; }

redirect() {
	on proxy nft -f - <<-END
		table inet redirect_$1_$3 {
			chain $1 {
				type nat hook $1 priority $2
				${5:-tcp} dport $3 redirect to :$4
			}
		}
	END
}

# in_chain HOOK PRIORITY RULE...: a chain of nft's with these rules in table other on the proxy (TYPE: filter,
# POLICY: accept).
in_chain() {
	local hook=$1 priority=$2 rule
	shift 2
	{
		echo "table inet other { chain c { type ${TYPE:-filter} hook $hook priority $priority; policy ${POLICY:-accept};"
		for rule; do echo "$rule"; done
		echo '}; }'
	} | on proxy nft -f -
}

# packets_of HOST TABLE COUNTER: what a named counter in an inet table of nftables has counted there.
packets_of() {
	on "$1" nft -j list counter inet "$2" "$3" | jq '.nftables[1].counter.packets'
}

# start_haproxy HOST: with the sections that come on standard input.
start_haproxy() {
	{
		printf '%s\n' defaults 'mode tcp' 'timeout connect 20s' 'timeout client 60s' 'timeout server 60s'
		cat
	} >"$OUT/haproxy.cfg"
	bg haproxy "$1" haproxy -db -f "$OUT/haproxy.cfg"
}

# start_header_sender TARGET UNIQUE_ID: on client, its ports 8001 and 8002 go to TARGET, with PROXY headers
# of version 1, and of version 2 with a checksum and that unique id.
start_header_sender() {
	start_haproxy client <<-END
		listen one
			bind :8001
			server proxy $1 send-proxy
		listen two
			bind :8002
			unique-id-format $2
			server proxy $1 send-proxy-v2 proxy-v2-options crc32c,unique-id
	END
	wait_listen client 8001
	wait_listen client 8002
}

# random_file SIZE: path of a file of that size, random, the same for all tests of the run.
random_file() {
	local file=${BATS_RUN_TMPDIR:?}/random-$1
	(
		exec 8>"$file.lock"
		flock 8
		[[ -e $file ]] && exit
		openssl rand -out "$file.part" "$(numfmt --from=iec "$1")"
		mv "$file.part" "$file"
	) >&2
	echo "$file"
}

sum_of() {
	sha256sum <"$1"
}

# ---------------------------------------------------------------- what cannot run everywhere

root_only() {
	((EUID == 0)) || skip "root only: $1"
}

rootless_only() {
	((EUID != 0)) || skip "rootless only: $1"
}
