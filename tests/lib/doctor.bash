# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# doctor - what the tests of `tproxy-setup doctor` share. After lib/lab:
#
#	healthy_proxy [SPEC...]	nginx on the server, a relay on the proxy, interception in place: healthy
#	works [ADDRESS]		a client's request goes through the relay, as the client
#	fails [ADDRESS]		it gets no answer
#	bypasses [ADDRESS]	it gets one, but not through the relay
#	fresh_relay		another one, without connections
#	healthy			the doctor finds nothing to complain of
#	finds SEVERITY CHECK REGEXP	it finds that, and exits accordingly
#	fix_of CHECK		the command that it prints for the first finding of the check
#	apply_fix CHECK	run that command on the proxy
#	cure			run every command that it prints, as printed, by sh; each must succeed, and there
#				must be one
#	cured [ADDRESS...]	that; then the same doctor finds nothing, and requests to these (of both
#				families) go through the relay as the client
#
# ADDRESS is 198.51.100.2 unless given.

WEB4=198.51.100.2
WEB6='[2001:db8:2::2]'
export WEB4 WEB6

healthy_proxy() {
	start_nginx
	relay
	on proxy tproxy-setup up -q --to 3129 -p 80 "$@"
}

relay() {
	bg relay proxy tproxy-relay --log events 3129
	wait_listen proxy 127.0.0.1:3129
	wait_listen proxy '[::1]:3129'
}

# A new relay, without the last one's attempts to reach a server in vain.
fresh_relay() {
	stop relay KILL || :
	relay
}

# The client as the server sees it: `ADDRESS PORT`.
fetch() {
	on client curl -sS --max-time "${LIMIT:-20}" "http://${1-$WEB4}/who"
}

works() {
	local address port
	run fetch "$@"
	assert_success
	read -r address port <<<"$output"
	[[ $address == *:* ]] && address=[$address]
	wait_line relay.out "[ -]${address//[][]/.}:$port "
}

fails() {
	LIMIT=2 run fetch "$@"
	assert_failure
}

bypasses() {
	local address port
	run fetch "$@"
	assert_success
	read -r address port <<<"$output"
	refute_line_in relay.out ":$port "
}

doctor() {
	on proxy tproxy-setup doctor -v -H -o severity,check,evidence "$@" 2>/dev/null
}

healthy() {
	run doctor "$@"
	assert_success
	refute_line --regexp '^(warn|fail)'
}

# Options of `doctor` come from $SPEC, an array.
SPEC=()
finds() {
	run doctor "${SPEC[@]}"
	[[ $1 != fail ]] || assert_equal "$status" 1
	assert_line --regexp "^$1 +$2 +.*$3"
}

fix_of() {
	on proxy tproxy-setup doctor -q -H -o severity,check,fix "${SPEC[@]}" |
		sed -nE "/^(warn|fail) +$1 /{s/^[^ ]+ +[^ ]+ +//;p;q}"
}

apply_fix() {
	local command
	command=$(fix_of "$1")
	echo "fix: $command" >&2
	[[ $command && $command != - ]] || fail "no fix is printed for $1"
	on proxy bash -c "$command" >/dev/null
}

remedies() {
	on proxy tproxy-setup doctor -q --json "${SPEC[@]}" |
		jq -r 'select(.severity != "ok").fix // empty' | awk '!seen[$0]++'
}

cure() {
	local command before
	mapfile -t CURE < <(remedies)
	((${#CURE[@]})) || fail "no remedy is printed"
	for command in "${CURE[@]}"; do
		echo "cure: $command" >&2
		if [[ $command == tproxy-relay* ]]; then
			before=$(listeners_there)
			bg relay proxy sh -c "exec $command"
			wait_until 10 more_listen_than "$before"
		else
			on proxy sh -c "$command" >/dev/null
		fi
	done
}

more_listen_than() { (($(listeners_there) > $1)); }
listeners_there() { on proxy ss -Hnltu 'sport = 3129' | wc -l; }

cured() {
	local address
	cure
	healthy "${SPEC[@]}"
	(($#)) || set -- "$WEB4" "$WEB6"
	for address; do
		works "$address"
	done
}
