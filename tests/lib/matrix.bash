# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034 # what its users look at
#
# matrix - what tests/doctor-matrix and tests/explain-matrix share: set-ups of the proxy, each in a lab of its own,
# and what real packets make of them. Source it with $TOP set; it makes $root, a directory that is removed at the end.
#
#	case_ NAME CHECK ORDERS COMMANDS	a set-up. CHECK is what the doctor should name (a regular expression, -
#					for one that works); ORDERS: b before `up`, a after it. SPEC, RELAY and ASK may be
#					set before. The files of set-ups are lib/doctor-matrix, lib/explain-matrix.
#	matrix_begin NAME ORDER		build the lab and make the set-up; false: `up` refused ($said has why)
#	request ADDRESS			by the relay, as the client
#	p, n				a command on the proxy; nft there

bats_load_library() { :; }
fail() {
	echo "# $*" >&2
	return 1
}
# shellcheck disable=SC1091
. "$TOP/tests/lib/lab.bash"
root=$(mktemp -d)
trap 'lab_down; rm -rf "$root"' EXIT
export XTABLES_LOCKFILE=$root/xtables.lock

p() { on proxy "$@"; }
n() { on proxy nft "$@"; }

cases=()
declare -A check orders body spec relayed asked
case_() {
	cases+=("$1")
	check[$1]=$2 orders[$1]=$3 body[$1]=$4 spec[$1]=${SPEC-} relayed[$1]=${RELAY-} asked[$1]=${ASK-}
}

start_relay() {
	local by=
	[[ $1 != none ]] || return 0
	[[ $1 == tproxy-* ]] || by="tproxy-relay --log events"
	# shellcheck disable=SC2086 # words
	bg relay proxy ${by:-} ${1:-3129}
	poll 10 relay_listens
}
relay_listens() { [[ $(on proxy ss -Hnlt 'sport = 3129') ]]; }

# request ADDRESS [FROM]
request() {
	local port
	read -r _ port < <(on "${FROM:-client}" curl -s ${2:+--interface "$2"} --max-time "${LIMIT:-2}" \
		"http://$1/who" 2>/dev/null)
	[[ ${port-} ]] || return 1
	poll 1 grep -qs " open .*:$port " "$OUT/relay.out"
}

# matrix_begin NAME ORDER: 1: `up` refused it; 2: there is no lab.
matrix_begin() {
	local name=$1 order=$2
	BATS_TEST_TMPDIR=$root/$name-$order
	mkdir -p "$BATS_TEST_TMPDIR"
	BATS_SUITE_TEST_NUMBER=$name-$order
	# shellcheck disable=SC2086 # words
	if ! { lab_up && start_nginx ${PORTS-}; }; then
		show nginx
		return 2
	fi
	local up="--to 3129 --port 80 ${spec[$name]}"
	start_relay "${relayed[$name]}"
	[[ $order != b ]] || eval "${body[$name]}" >"$OUT/body.log" 2>&1
	# shellcheck disable=SC2086 # words
	if [[ ${spec[$name]} != none ]] && ! on proxy tproxy-setup up -q $up 2>"$OUT/up.err"; then
		said=$(tail -1 "$OUT/up.err")
		return 1
	fi
	[[ $order != a ]] || eval "${body[$name]}" >"$OUT/body.log" 2>&1
	! grep -E '^(.*: Error:|ip6?tables|Usage|RTNETLINK)' "$OUT/body.log" >&2 || echo "$name: not as it should be made" >&2
	FROM=client
	[[ ${spec[$name]} != *--local* ]] || FROM=proxy
}

matrix_end() {
	lab_down
	rm -rf "$BATS_TEST_TMPDIR" 2>/dev/null || :
}
