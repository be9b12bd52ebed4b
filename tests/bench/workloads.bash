# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034,SC2153,SC2154 # variables of run
#
# The workloads: what is done through a contender, and what is counted. Each appends to raw.csv.
#
#	bulk1 bulk8		iperf3 with that many flows
#	wire8			the same in packets of 1500 bytes, as on a wire, instead of veth's 64K
#	trip1 trip50 trip1000	round trips: wrk over that many keep-alive connections
#	new			wrk with 50 clients and a connection for each request
#	open			the same while 10, 100, 1000, 9000 others are open and idle, each of
#				which has fetched 16 KB; and the memory that those take
#
# `relay` is CPU of the contender's processes, `machine` that of the whole machine.

WORKLOADS=(bulk1 bulk8 wire8 trip1 trip50 trip1000 new open)

# How many connections a contender is made to hold; others have nothing new to say (forward has no
# process, haproxy-tuned is haproxy until there is bulk) or cannot (socat: two processes each).
declare -A OPEN=([ours]=9000 [other]=9000 [haproxy]=9000 [nginx]=9000 [socat]=1000)

errors=0   # how many figures could not be had
attempts=0 # how often a figure of this workload was taken again

# ---------------------------------------------------------------- counting

sample() {
	grep -sH '' /proc/stat /proc/[0-9]*/stat /proc/[0-9]*/task/[0-9]*/schedstat /proc/[0-9]*/status |
		awk -v session="${session:--1}" -v hz="$HZ" -f "$here/sample.awk"
}

# record WORKLOAD CONTENDER METRIC UNIT VALUE: with the state of the machine while it was taken.
record() {
	echo "$round,$1,$2,$3,$5,$4,$steal,$other" >>"$raw"
}

# consumed BEFORE AFTER: sets relay and machine (CPU seconds), steal and other (percent of the
# machine: taken by the hypervisor, and by processes that are not of this benchmark).
consumed() {
	read -r relay machine steal other < <(
		echo "$1 $2" | awk '{
			total = $11 - $5; foreign = ($9 - $3) - ($8 - $2)
			printf "%.6f %.6f %.1f %.1f\n", $7 - $1, $9 - $3, 100 * ($10 - $4) / total,
				(foreign > 0 ? 100 * foreign / total : 0)
		}'
	)
}

# costs WORKLOAD CONTENDER UNIT SCALE COUNT: CPU for each of COUNT things.
costs() {
	# A relay that did nothing was bypassed.
	if [[ $session ]] && awk -v used="$relay" 'BEGIN { exit used > 0 }'; then
		failed "$1" "$2" "used no CPU: the traffic went past it"
		return 1
	fi
	[[ ! $session ]] || record "$1" "$2" relay "$3" "$(quotient "$4 * $relay" "$5")"
	record "$1" "$2" machine "$3" "$(quotient "$4 * $machine" "$5")"
}

# spoilt: the hypervisor took so much of the machine that the figure will be dropped; once for each
# figure it is worth another attempt.
spoilt() {
	awk -v steal="$steal" -v limit="$STEAL" 'BEGIN { exit steal <= limit }' && ((attempts++ == 0))
}

quotient() {
	awk "BEGIN { printf \"%.6g\", ($1) / ($2) }"
}

failed() {
	((errors++))
	progress "?"
	complaint "$1: $2: $3"
}

# ---------------------------------------------------------------- bulk

# The bytes that arrived and how long it took, out of iperf3's JSON.
bulk_result() {
	awk '
		/"sum_received"/ { inside = 1 }
		inside && $1 == "\"seconds\":" { seconds = $2 + 0 }
		inside && $1 == "\"bytes\":" { printf "%.0f %s\n", $2, seconds; exit }
	' "$1"
}

bulk() {
	local name=$1 contender=$2 flows=$3 before after bytes seconds sink
	on server timeout 60 iperf3 -s -1 -p "$IPERF" >/dev/null 2>&1 &
	sink=$!
	until [[ $(on server ss -Hltn "sport = :$IPERF") ]]; do sleep 0.02; done
	before=$(sample)
	on client timeout $((duration + 20)) iperf3 -c "$target" -p "$IPERF" -P "$flows" -t "$duration" \
		--json >"$tmp/out" 2>"$tmp/err"
	after=$(sample)
	kill "$sink" 2>/dev/null
	wait "$sink" 2>/dev/null
	read -r bytes seconds < <(bulk_result "$tmp/out")
	if ! ((${bytes:-0} > 0)); then
		failed "$name" "$contender" "iperf3: $(grep -m1 '"error"' "$tmp/out" || head -1 "$tmp/err")"
		return
	fi
	consumed "$before" "$after"
	if spoilt; then
		bulk "$@"
		return
	fi
	costs "$name" "$contender" s/GB 1e9 "$bytes" || return
	record "$name" "$contender" rate GB/s "$(quotient "$bytes / 1e9" "$seconds")"
	progress "$(printf %.2f "$(quotient "$bytes / 1e9" "$seconds")")"
}

# offload on|off: on all interfaces of the way.
offload() {
	local port
	for port in client:toproxy proxy:toclient proxy:toserver server:toproxy; do
		on "${port%:*}" ethtool -K "${port#*:}" tso "$1" gso "$1" gro "$1"
	done
}

wire() {
	offload off
	bulk "$@"
	offload "$offloads"
}

# ---------------------------------------------------------------- requests

# Requests, seconds, median, 99th percentile (microseconds) and errors, out of what wrk prints.
web_result() {
	awk '
		function us(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1e3 : t ~ /m$/ ? t * 6e7 : t * 1e6 }
		$1 == "50%" { p50 = us($2) }
		$1 == "99%" { p99 = us($2) }
		/ requests in / { requests = $1; seconds = us($4 == "" ? "0s" : $4) / 1e6 }
		/Socket errors/ { gsub(/[^0-9 ]/, ""); n = split($0, e, " "); for (i = 1; i <= n; i++) errors += e[i] }
		/Non-2xx/ { errors += $NF }
		END { print requests + 0, seconds, p50, p99, errors + 0 }
	' "$1"
}

# web NAME CONTENDER CONNECTIONS UNIT [WRK-OPTION...]
web() {
	local name=$1 contender=$2 connections=$3 unit=$4 before after requests seconds p50 p99 bad all=("$@")
	shift 4
	before=$(sample)
	on client timeout $((duration + 20)) wrk -t1 -c "$connections" -d "${duration}s" --latency "$@" \
		"http://$target/" >"$tmp/out" 2>"$tmp/err"
	after=$(sample)
	read -r requests seconds p50 p99 bad < <(web_result "$tmp/out")
	if ! ((${requests:-0} > 0)); then
		failed "$name" "$contender" "wrk: $(head -1 "$tmp/err")"
		return
	fi
	consumed "$before" "$after"
	if spoilt; then
		web "${all[@]}"
		return
	fi
	costs "$name" "$contender" "us/$unit" 1e6 "$requests" || return
	record "$name" "$contender" rate "${unit}s/s" "$(quotient "$requests" "$seconds")"
	record "$name" "$contender" p50 us "$p50"
	record "$name" "$contender" p99 us "$p99"
	((bad == 0)) || record "$name" "$contender" errors errors "$bad"
	progress "$(printf %.1f "$(quotient "$requests" "1000 * $seconds")")"
}

# ---------------------------------------------------------------- many open connections

# open_more N: until N connections are open; fails when they are not there in time.
open_more() {
	local answer
	echo "$1" >&"${HOLD[1]}" && read -r -t 60 -u "${HOLD[0]}" answer && [[ $answer == "$1" ]]
} 2>/dev/null

open_many() {
	local contender=$1 n fields before=() pid fds
	coproc HOLD { on client "$hold" "$target:80" /16k 2>"$tmp/err"; }
	pid=$! fds=("${HOLD[@]}")
	read -r -a before < <(sample)
	for n in 10 100 1000 9000; do
		((n <= OPEN[$contender])) || break
		if ! open_more "$n"; then
			failed "open$n" "$contender" "$(head -1 "$tmp/err")"
			break
		fi
		[[ $quick && $n =~ ^10+$ && $n != 10 ]] || web "open$n" "$contender" 50 conn -H 'Connection: close'
		((n < 1000)) && continue
		read -r -a fields < <(sample)
		record "open$n" "$contender" memory B/conn "$(quotient "${fields[5]} - ${before[5]}" "$n")"
	done
	eval "exec ${fds[0]}<&- ${fds[1]}>&-" # the end of its stdin
	wait "$pid" 2>/dev/null
}

# ---------------------------------------------------------------- by name

workload_run() {
	attempts=0
	case $1 in
	bulk*) bulk "$1" "$2" "${1#bulk}" ;;
	wire*) wire "$1" "$2" "${1#wire}" ;;
	trip*) web "$1" "$2" "${1#trip}" request ;;
	new) web "$1" "$2" 50 conn -H 'Connection: close' ;;
	open) open_many "$2" ;;
	esac
}
