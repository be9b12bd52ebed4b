# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2119,SC2120 # explain_relay may be called without words
#
# explain - what the tests of `tproxy-inspect explain` share: one lab for many set-ups, each of which is undone. After
# lib/lab:
#
#	explain_lab		nginx on the server (80 and 8080), a relay on the proxy (3129), port 80 intercepted
#	ask QUESTION		explain it, as words of its command line: $verdict (exit status), $reason, $said, $fix
#	lost REASON REGEXP [QUESTION]	explain says so, and a request shows it: it does not come through the relay
#	arrives [QUESTION]	explain says so, and it does
#	fixed [QUESTION]	run the command that it printed last, as printed; then it arrives
#	no_relay		end the relay
#	again			the interception as in the beginning (with $UP); other tables of nft, and rules and routes, are gone
#
# What the proxy opens itself is asked about and requested with FROM=proxy.
#
# QUESTION is $Q4 unless given; $Q6 is the same in IPv6.

Q4='192.0.2.2 198.51.100.2:80'
Q6='2001:db8:1::2 [2001:db8:2::2]:80'
export Q4 Q6

# The tests of a file share a lab, one after another.
export BATS_NO_PARALLELIZE_WITHIN_FILE=true

explain_lab() {
	lab_up
	start_nginx 80 8080
	explain_relay
	on proxy tproxy-setup up -q --to 3129 --port 80
}

setup_file() { explain_lab; }
teardown_file() { lab_down; }

explain_relay() {
	bg relay proxy tproxy-relay --log events "${@:-3129}"
	wait_serving relay
}
verdict_is() { ask "$2" 2>/dev/null && ((verdict == $1)); }

# The one, and the one that a command of explain started.
no_relay() {
	local name
	for name in relay extra; do
		[[ ! -e $OUT/$name.pid || -e $OUT/$name.status ]] || stop "$name" KILL || :
	done
}

relay_serves() { [[ $(on proxy ss -Hnltu 'sport = 3129') ]]; }

ask() {
	verdict=0
	# shellcheck disable=SC2086 # words
	on proxy tproxy-inspect explain --json ${1-$Q4} >"$OUT/steps" 2>"$OUT/explain.err" || verdict=$?
	reason=$(jq -r 'select(.type == "verdict").reason' "$OUT/steps")
	said=$(jq -r 'select(.type == "verdict").evidence' "$OUT/steps")
	fix=$(jq -r 'select(.type == "verdict").fix // empty' "$OUT/steps")
	echo "explain ${1-$Q4}: $verdict $reason: $said [$fix]" >&2
}

# What the client gets, and whether the relay has carried it.
comes_through() {
	local words client port n
	read -ra words <<<"${1-$Q4}"
	client=${words[-2]}
	[[ $client != *.*:* ]] || client=${client%:*}
	read -r _ port < <(on "${FROM:-client}" curl -s --interface "$client" --max-time "${LIMIT:-0.6}" \
		"http://${words[-1]}/who" 2>/dev/null)
	[[ ${port-} ]] || return
	for ((n = 0; n < ${TRIES:-15}; n++)); do
		! cat "$OUT"/{relay,extra}.out 2>/dev/null | grep -q " open .*:$port " || return 0
		sleep 0.02
	done
	return 1
}

lost() {
	! comes_through "${3-$Q4}" || fail "it comes through"
	ask "${3-$Q4}"
	assert_equal "$verdict $reason" "1 $1"
	[[ $said =~ $2 ]] || fail "'$said' is not like '$2'"
}

arrives() {
	LIMIT=20 TRIES=500 comes_through "${1-$Q4}" || fail "it does not come through"
	ask "${1-$Q4}"
	assert_equal "$verdict $reason" "0 delivered"
}

fixed() {
	[[ $fix ]] || fail "no command is printed"
	case $fix in
	tproxy-relay*)
		bg extra proxy sh -c "exec ${fix/tproxy-relay /tproxy-relay --log events }"
		wait_until 10 verdict_is 0 "${1-$Q4}"
		;;
	*) on proxy sh -c "$fix" >/dev/null ;;
	esac
	arrives "${1-$Q4}"
}

again() {
	local family pref
	on proxy sh -c 'nft list tables | grep -v tproxy_ | while read -r line; do nft delete $line; done'
	for family in -4 -6; do
		for pref in $(on proxy ip $family rule | awk -F: '$1 != 0 && $1 < 32766 && $1 != 100 { print $1 }'); do
			on proxy ip $family rule del pref "$pref"
		done
	done
	# shellcheck disable=SC2086 # words
	on proxy tproxy-setup up -q --to 3129 --port 80 ${UP-}
}
