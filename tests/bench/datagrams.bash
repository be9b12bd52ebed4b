# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2153,SC2154 # variables of run
#
# The contenders and workloads of `make bench-udp`: what run does with --udp instead of with TCP.
#
#	exchange	one datagram each way, each from a port that is new, as a name server's clients make
#			them; 64 at a time, for three seconds: the relay opens and ends flows all the time
#	double	the same from two processes, for what two threads can do
#	half		the same at half of the rate that was the highest: nothing may be lost
#	bulk		one flow of datagrams of 1,200 bytes, 50,000 a second, each handed to the kernel alone
#	train		the same, 40 handed to the kernel as one (UDP_SEGMENT), as QUIC's servers do
#	flows10 flows9000	exchanges of one datagram each way over so many flows, 8 at a time, so that none
#			has more than one; of the many also the memory of each. (A process may have 20,000
#			descriptors in many places, and a flow two.)
#
# ours-threads has two threads, nginx-threads two processes with a listener each. Forwarding shows the most
# that the machine can do: there client, server and kernel have all of its processors.
# ours-dsr is tproxy-relay --one-way: answers go to the client without it. nginx and socat are given a
# fixed server and spare themselves the client's address. nginx is told that an exchange has one answer,
# where that is so.

CONTENDERS=(ours ours-threads ours-dsr forward nginx nginx-threads socat)
WORKLOADS=(exchange double half bulk train flows10 flows9000)
PORTS=5300-5302 # exchanges; flows; streams
STREAM_RATE=50000

datagrams=$bin/bench/datagrams

needed() {
	echo ip:iproute2 ss:iproute2 nginx:nginx-light socat:socat ethtool:ethtool setsid:util-linux
}

built() {
	echo "$bin/tproxy-relay" "$bin/tproxy-setup" "$bin/tproxy-lab" "$bin/bench/datagrams"
}

# What a contender cannot do, or has nothing to say about.
suits() {
	case $2:$1 in
	forward:half | ours-dsr:half | nginx:half | socat:half) false ;;
	*-threads:double | ours-threads:bulk) true ;;
	*-threads:*) false ;;
	ours:double | forward:double | nginx:double) true ;;
	*:double) false ;;
	ours-dsr:exchange) true ;;
	ours-dsr:*) false ;;
	socat:flows9000) false ;; # a process each
	*) true ;;
	esac
}

# ---------------------------------------------------------------- the hosts

start_server() {
	local port
	for port in 5300 5301; do
		on server "$datagrams" serve "$SERVER:$port" &
	done
}

contender_ready() {
	local i
	for ((i = 0; i < 20; i++)); do
		[[ $(on client timeout 3 "$datagrams" flows "$target:5300" 0 1 1 </dev/null 2>"$tmp/ready.log") == ready ]] &&
			return
		[[ ! $session ]] || kill -0 "$session" 2>/dev/null || break
		sleep 0.05
	done
	cat "$tmp/ready.log" >>"$tmp/contender.log"
	return 1
}

contender_stop() {
	[[ ! $session ]] || kill -KILL -- "-$session" 2>/dev/null
	[[ ! $session ]] || wait "$session" 2>/dev/null
	session=
	tproxy-setup down --quiet
}

intercept() {
	tproxy-setup up --quiet -4 -u --to "127.0.0.1:$1" --port "$PORTS" 2>>"$tmp/contender.log"
}

# ---------------------------------------------------------------- one each

start_ours() {
	launch "${program:-tproxy-relay}" --quiet -u --log off --threads "$threads" "$@" 3129
	intercept 3129
}

start_other() { program=$other_relay start_ours; }
start_ours_threads() { launch tproxy-relay --quiet -u --log off --threads 2 3129 && intercept 3129; }
start_ours_dsr() {
	start_ours --one-way
}

start_nginx_threads() { threads=2 start_nginx reuseport; }

start_nginx() {
	launch_nginx <<-END
		server {
			listen $PROXY:5300 udp ${1-}; proxy_pass $SERVER:5300; proxy_responses 1; proxy_timeout 3s;
		}
		server { listen $PROXY:5301 udp; proxy_pass $SERVER:5301; proxy_timeout 2m; }
		server { listen $PROXY:5302 udp; proxy_pass $SERVER:5302; proxy_timeout 2m; }
	END
}

start_socat() {
	target=$PROXY
	# shellcheck disable=SC2016 # expanded by the shell that becomes the last socat
	launch "$BASH" -c '
		for port in 5300 5301; do
			socat -T 3 "UDP-LISTEN:$port,bind=$1,fork,reuseaddr" "UDP:$2:$port" &
		done
		exec socat -T 3 "UDP-LISTEN:5302,bind=$1,fork,reuseaddr" "UDP:$2:5302"
	' socat "$PROXY" "$SERVER"
}

# ---------------------------------------------------------------- workloads

# From the addresses that the lab gives its client for that.
own_addresses() { printf '192.0.2.%d ' {10..30}; }

# told WORKLOAD CONTENDER "EXCHANGES SECONDS LOST P50 P99": what is to be recorded of them.
told() {
	local count seconds lost p50 p99
	read -r count seconds lost p50 p99 <<<"$3"
	if ! ((${count:-0} > 0)); then
		failed "$1" "$2" "nothing came back: $(head -1 "$tmp/err")"
		return
	fi
	costs "$1" "$2" us/exchange 1e6 "$count" || return
	record "$1" "$2" rate exchanges/s "$(quotient "$count" "$seconds")"
	record "$1" "$2" p50 us "$p50"
	record "$1" "$2" p99 us "$p99"
	record "$1" "$2" lost "%" "$(quotient "100 * $lost" "$count + $lost")"
	progress "$(printf %.1f "$(quotient "$count" "1000 * $seconds")")"
}

declare -A highest=() # rate of exchanges, by contender

# asked PROCESSES WINDOW RATE: "EXCHANGES SECONDS LOST P50 P99" of so many that ask at once.
asked() {
	local own=() asking=() i
	read -r -a own < <(own_addresses)
	for ((i = 0; i < $1; i++)); do
		on client timeout $((4 * duration + 10)) "$datagrams" ask "$target:5300" $((3 * duration)) "$2" "$3" \
			"${own[@]:i * (${#own[@]} / $1):${#own[@]} / $1}" >"$tmp/asked.$i" 2>"$tmp/err" &
		asking+=($!)
	done
	wait "${asking[@]}"
	awk '{
		count += $1; lost += $3; p50 += $4
		if ($2 > seconds) seconds = $2
		if ($5 > p99) p99 = $5
	}
	END { print count, seconds, lost, p50 / NR, p99 }' "$tmp"/asked.[0-9]
	rm -f "$tmp"/asked.[0-9]
}

# exchanges WORKLOAD CONTENDER WINDOW RATE PROCESSES
exchanges() {
	local before after result
	before=$(sample)
	result=$(asked "$5" "$3" "$4")
	after=$(sample)
	consumed "$before" "$after"
	if spoilt; then
		exchanges "$@"
		return
	fi
	told "$1" "$2" "$result"
	[[ $1 != exchange ]] || highest[$2]=$(awk '{ printf "%d", $1 / $2 }' <<<"$result")
}

# half CONTENDER: of the highest rate, which is found out first if need be.
half() {
	[[ ${highest[$1]-} ]] || exchanges exchange "$1" 64 0 1
	exchanges half "$1" 4096 $((highest[$1] / 2)) 1
}

# many CONTENDER COUNT
many() {
	local line pid fds before idle=() after empty=()
	read -r -a empty < <(sample)
	coproc MANY { on client "$datagrams" flows "$target:5301" "$duration" 8 "$2" 2>"$tmp/err"; }
	pid=$! fds=("${MANY[@]}")
	if ! read -r -t 30 -u "${fds[0]}" line; then
		failed "flows$2" "$1" "flows were not opened: $(head -1 "$tmp/err")"
	else
		read -r -a idle < <(sample)
		for ((attempts = 0; ;)); do
			before=$(sample)
			echo >&"${fds[1]}"
			read -r -t 30 -u "${fds[0]}" line
			after=$(sample)
			consumed "$before" "$after"
			spoilt || break
		done
		told "flows$2" "$1" "$line"
		((${#2} < 4)) || [[ ! $session ]] ||
			record "flows$2" "$1" memory B/flow "$(quotient "${idle[5]} - ${empty[5]}" "$2")"
	fi
	eval "exec ${fds[0]}<&- ${fds[1]}>&-"
	wait "$pid" 2>/dev/null
}

# stream WORKLOAD CONTENDER TOGETHER
stream() {
	local before after sent datagrams_in bytes sink
	on server "$datagrams" sink "$SERVER:5302" >"$tmp/sink" &
	sink=$!
	until [[ $(on server ss -Hlun "sport = :5302") ]]; do sleep 0.02; done
	before=$(sample)
	sent=$(on client timeout $((duration + 10)) "$datagrams" stream "$target:5302" "$duration" 1200 \
		"$STREAM_RATE" "$3" 2>"$tmp/err")
	after=$(sample)
	sleep 0.1
	kill "$(pgrep -P $sink || echo $sink)" 2>/dev/null
	wait "$sink" 2>/dev/null
	read -r datagrams_in bytes <"$tmp/sink"
	if ! ((${bytes:-0} > 0)); then
		failed "$1" "$2" "nothing arrived: $(head -1 "$tmp/err")"
		return
	fi
	consumed "$before" "$after"
	if spoilt; then
		stream "$@"
		return
	fi
	costs "$1" "$2" s/GB 1e9 "$bytes" || return
	record "$1" "$2" rate GB/s "$(quotient "$bytes / 1e9" "$duration")"
	record "$1" "$2" lost "%" "$(quotient "100 * ($sent - $datagrams_in)" "$sent")"
	progress "$(printf %.3f "$(quotient "$bytes / 1e9" "$duration")")"
}

workload_run() {
	attempts=0
	case $1 in
	exchange) exchanges exchange "$2" 64 0 1 ;;
	double) exchanges double "$2" 64 0 2 ;;
	half) half "$2" ;;
	bulk) stream bulk "$2" 1 ;;
	train) stream train "$2" 40 ;;
	flows*) many "$2" "${1#flows}" ;;
	esac
}
