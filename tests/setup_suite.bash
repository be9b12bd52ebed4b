# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Before the first test and after the last: the machine must look the same, and nothing that a test
# started may be left.

# What tests must not touch, as text. What this user may not see is the same both times.
machine() {
	local PATH=$PATH:/usr/sbin:/sbin
	echo "== rules"
	ip -4 rule
	ip -6 rule
	echo "== routes"
	ip -4 route show table all
	ip -6 route show table all | sed -E 's/ expires [0-9]+sec//'
	echo "== links"
	ip -brief link
	echo "== netfilter"
	nft list ruleset 2>/dev/null || :
	echo "== named network namespaces"
	ls -A /run/netns 2>/dev/null || :
	echo "== sysctls"
	sysctl -a 2>/dev/null | grep -E '^net\.ipv[46]\.(conf|ip_|tcp_)' |
		grep -Ev 'tcp_mem|temp|mtu|secret|tcp_available|tcp_allowed|fastopen_key'
}

# Processes that carry this run's number in their environment, but for this one and its parents.
leftovers() {
	local pid stat family=" $BASHPID " up=$$
	while ((up > 1)); do
		family+="$up "
		read -r stat <"/proc/$up/stat" || break
		stat=${stat##*) }
		read -r _ up _ <<<"$stat"
	done
	for pid in $(cd /proc && grep -lsFz "TPROXY_TEST_RUN=$TPROXY_TEST_RUN" [1-9]*/environ | cut -d/ -f1); do
		[[ $family == *" $pid "* ]] || ps -o pid=,user=,args= -p "$pid"
	done
}

setup_suite() {
	local top
	top=$(cd "${BASH_SOURCE[0]%/*}/.." && pwd)
	export TPROXY_BIN=${TPROXY_BIN:-$top/build}
	[[ -x $TPROXY_BIN/tproxy-lab ]] || {
		echo "$TPROXY_BIN/tproxy-lab: not there; run make first" >&2
		return 1
	}
	export TPROXY_TEST_RUN=$$-$SRANDOM
	export XDG_RUNTIME_DIR=$BATS_RUN_TMPDIR # the labs of tests are not those of the user
	unset TPROXY_LAB
	machine >"$BATS_SUITE_TMPDIR/before"
}

teardown_suite() {
	local left status=0
	machine >"$BATS_SUITE_TMPDIR/after"
	if ! diff "$BATS_SUITE_TMPDIR/before" "$BATS_SUITE_TMPDIR/after" >&2; then
		echo "the tests have changed this machine" >&2
		status=1
	fi
	for _ in {1..50}; do # the kernel may still be taking down the last namespace
		left=$(leftovers)
		[[ $left ]] || break
		sleep 0.1
	done
	if [[ $left ]]; then
		printf 'left behind by the tests:\n%s\n' "$left" >&2
		status=1
	fi
	left=$(find "$XDG_RUNTIME_DIR" -maxdepth 1 -name 'tproxy-lab-*')
	if [[ $left ]]; then
		printf 'files of labs left behind by the tests:\n%s\n' "$left" >&2
		status=1
	fi
	return $status
}
