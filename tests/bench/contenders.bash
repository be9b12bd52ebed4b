# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154 # variables of run
#
# The contenders: what carries the client's connections to the server, one at a time.
#
# Each runs in a session of its own, by which its processes are known, for one measurement only.
# All are given the same: one thread (--threads), no log, room for 9,900 connections. `forward` is
# the kernel alone, what nothing can beat. nginx and socat cannot follow the original destination
# and keep the client's address; they are given a fixed server and spare themselves that work.

CONTENDERS=(ours forward haproxy haproxy-tuned nginx socat)

session='' # of the running contender: the pid of its first process
target=''  # where the client connects to

# contender_start NAME: returns once a request has come through, else 1 and its log has the reason.
contender_start() {
	session='' target=$SERVER
	: >"$tmp/contender.log"
	"start_${1//-/_}"
	contender_ready
}

contender_ready() {
	local i
	for ((i = 0; i < 60; i++)); do
		echo 1 | on client timeout 5 "$hold" "$target:80" / >/dev/null 2>"$tmp/ready.log" && return
		[[ ! $session ]] || kill -0 "$session" 2>/dev/null || break
		sleep 0.05
	done
	cat "$tmp/ready.log" >>"$tmp/contender.log"
	return 1
}

# What it carried is cut off, on all hosts, and the next one finds nothing of it: a packet that should
# be forwarded is dropped when a socket here, though it be one in TIME_WAIT, has its addresses.
contender_stop() {
	local host
	[[ ! $session ]] || kill -KILL -- "-$session" 2>/dev/null
	[[ ! $session ]] || wait "$session" 2>/dev/null
	session=
	for host in client proxy server; do
		on "$host" ss -HtK state connected >/dev/null 2>&1
	done
	tproxy-setup down --quiet
}

launch() {
	setsid "$@" </dev/null >"$tmp/contender.log" 2>&1 &
	session=$!
}

# intercept PORT: hand the connections for the server to the listener at 127.0.0.1:PORT; what is not
# taken there is refused, so none is bypassed and looks very fast. The same rules for all.
intercept() {
	tproxy-setup up --quiet -4 --to "127.0.0.1:$1" --port "80,$IPERF" 2>>"$tmp/contender.log"
}

# ---------------------------------------------------------------- one each

start_forward() {
	:
}

start_ours() {
	launch tproxy-relay --quiet --log off --threads "$threads" 3129
	intercept 3129
}

start_other() {
	launch "$other_relay" --quiet --log off --threads "$threads" 3129
	intercept 3129
}

# haproxy_config GLOBAL OPTION...: with the client's address, to where it was going. By itself it
# would set descriptors aside for thousands of pipes; 64 are plenty for what is measured here.
haproxy_config() {
	cat <<-END
		global
		    nbthread $threads
		    maxconn 9900
		    maxpipes 64
		    $1
		defaults
		    mode tcp
		    timeout connect 10s
		    timeout client 1h
		    timeout server 1h
		listen relay
		    bind 127.0.0.1:3130 transparent
		    source 0.0.0.0 usesrc clientip
		    server original *
	END
	shift
	printf '    option %s\n' "$@"
}

start_haproxy() {
	haproxy_config '' splice-auto >"$tmp/haproxy.cfg"
	launch haproxy -db -f "$tmp/haproxy.cfg"
	intercept 3130
}

start_haproxy_tuned() {
	haproxy_config 'tune.pipesize 1048576' splice-request splice-response >"$tmp/haproxy.cfg"
	launch haproxy -db -f "$tmp/haproxy.cfg"
	intercept 3130
}

# The stream module is built in or a file of its own.
nginx_module() {
	local build
	build=$(nginx -V 2>&1)
	[[ $build == *--with-stream=dynamic* ]] || return 0
	build=${build#*--modules-path=}
	echo "load_module ${build%% *}/ngx_stream_module.so;"
}

# launch_nginx <SERVERS: nginx at the proxy's own address, with these blocks in stream {}.
launch_nginx() {
	{
		nginx_module
		cat <<-END
			user root root; daemon off; worker_processes $threads; pid $tmp/stream.pid;
			error_log stderr error; worker_rlimit_nofile $(ulimit -Hn);
			events { worker_connections 20000; }
			stream {
		END
		cat
		echo "}"
	} >"$tmp/stream.conf"
	target=$PROXY
	launch nginx -p "$tmp" -c "$tmp/stream.conf" -e stderr
}

start_nginx() {
	local port
	launch_nginx < <(
		echo "proxy_timeout 1h;"
		for port in 80 "$IPERF"; do
			echo "server { listen $PROXY:$port backlog=4096; proxy_pass $SERVER:$port; }"
		done
	)
}

start_socat() {
	target=$PROXY
	# shellcheck disable=SC2016 # expanded by the shell that becomes the second socat
	launch "$BASH" -c '
		socat "TCP-LISTEN:80,bind=$1,fork,reuseaddr,backlog=4096" "TCP:$2:80" &
		exec socat "TCP-LISTEN:$3,bind=$1,fork,reuseaddr,backlog=4096" "TCP:$2:$3"
	' socat "$PROXY" "$SERVER" "$IPERF"
}
