# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# examples - every command that README, a man page or --help displays, and how it is run.
#
# tests/examples.bats takes the commands out of the documents (tests/lib/displayed), as a reader has
# them, and runs each in a lab of its own, on host proxy, by what is declared for it in
# tests/examples.bash. A command that is displayed and not declared fails the test, and so does one that
# is declared and nowhere displayed: whoever displays a command says here how it is seen to work.
#
#	example COMMAND BODY		the command, without its comment, its blanks squeezed to one; BODY is
#					bash that prepares the lab, runs `it`, and looks
#	example_root COMMAND REASON BODY	the same of one that only root can run
#	session COMMAND BODY		the block that begins with this command is one thing, in which one
#					command follows another: BODY runs it as a whole (elsewhere than at
#					the beginning it is one like others)
#	elsewhere COMMAND FILE TEST	another test runs exactly this
#	block_elsewhere LINE FILE TEST	another test runs exactly the block that begins with this line
#	dry COMMAND REASON		it is not run, for that reason; make(1) knows how (make -n)
#	not_run COMMAND REASON		it cannot be run in a lab at all
#	drawing LINE			the block that begins with this line is no command
#
# In BODY $IT is what is displayed, comments included; the current directory is an empty one.
#
#	it [HOST]			run it there (proxy) and wait for its end; then $status, $output, $lines
#	it_stays [HOST]			start it; $OUT/it.out and .err, `stop it`
#	after WAY COMMAND...		run it by COMMAND: `after unshare --mount ...` before `it`
#	intercepted [SPEC...]		tproxy-setup up --to 3129 --port 80 SPEC on proxy
#	client_gets [PORT [ADDRESS]]	a request of the client, in both families unless ADDRESS is given, is
#					answered, and the server sees the client's own address
#	client_fails [PORT]		it is not answered
#	printed FILE FIRST		(also elsewhere) $IT is the block of that document whose first command begins so
#	in_lab_shell PATTERN...		type it, line by line, into the shell of `tproxy-lab run` in a terminal,
#					until the patterns have come, one after the other

V4=198.51.100.2
V6=2001:db8:2::2
export V4 V6

declare -gA BODY KIND REASON

# key COMMAND: as it is declared.
key() {
	sed -E 's/(^|[[:blank:]])# .*$//; s/\\$//' <<<"$1" | tr -s ' \t\n' ' ' | sed 's/^ //; s/ $//'
}

declare_as() {
	local kind=$1 command=$2
	KIND[$command]=$kind BODY[$command]=$3 REASON[$command]=${4-}
}

example() { declare_as run "$1" "$2"; }
example_root() { declare_as root "$1" "$3" "$2"; }
session() { declare_as session "$1" "$2"; }
elsewhere() { declare_as elsewhere "$1" "$2" "$3"; }
block_elsewhere() { declare_as block_elsewhere "$1" "$2" "$3"; }
drawing() { declare_as drawing "$1" ''; }
dry() { declare_as dry "$1" '' "$2"; }
not_run() { declare_as not_run "$1" '' "$2"; }

after() { BY=("$@"); }

it() {
	run on "${1-proxy}" timeout --foreground --kill-after 5 "$((30 * TIME_SCALE))" "${BY[@]}" bash -c "$IT" </dev/null
	echo "$output" >&2
}

it_stays() {
	bg it "${1-proxy}" "${BY[@]}" bash -c "$IT"
}

intercepted() { on proxy tproxy-setup up -q --to 3129 --port 80 "$@"; }

client_gets() {
	local to
	for to in ${2:-"$V4" "[$V6]"}; do
		run on client curl -sS --max-time 10 --retry 9 --retry-connrefused "http://$to:${1:-80}/who"
		assert_success
		assert_output --regexp '^(192\.0\.2\.2|2001:db8:1::2) [0-9]+$'
	done
}

client_fails() {
	run on client curl -sS --max-time 3 "http://$V4:${1:-80}/who"
	assert_failure
}

in_lab_shell() {
	local line lab path=:$PATH:
	lab=$(type -P tproxy-lab)
	# Its own directory and sbin beside it: the lab is to find what is in there.
	path=${path//":${lab%/*}:"/:} path=${path//":${lab%/*/*}/sbin:"/:}
	{
		printf '%s\n' '? \(lab\) '
		while IFS= read -r line; do
			[[ ! $line || $line == exit ]] || printf '> %s\n' "$line"
		done <<<"$IT"
		printf '? %s\n' "$@"
		printf '%s\n' '> exit' .
	} >"$OUT/typed"
	run env -u TPROXY_LAB PATH="${path//::/:}" SHELL=/bin/bash TERMINAL_TIMEOUT=$((20 * TIME_SCALE)) \
		"$TOP/tests/lib/terminal" "$lab" run <"$OUT/typed"
	echo "$output" >&2
}

# commands_of FILE...: fill the arrays COMMANDS, PLACES and BLOCKS.
commands_of() {
	local place command
	COMMANDS=() PLACES=() BLOCKS=() COMMANDS_OF=$*
	while IFS= read -r place && IFS= read -r command; do
		printf -v command %b "$command"
		PLACES+=("${place%:*}") BLOCKS+=("${place##*:}") COMMANDS+=("$command")
	done < <("$TOP/tests/lib/displayed" "$@")
	((${#COMMANDS[@]})) || fail "nothing is displayed in $*"
}

# printed FILE FIRST: $IT is the block there whose first command begins so.
printed() {
	local block='' i
	[[ ${COMMANDS_OF-} == "$1" ]] || commands_of "$1"
	IT=''
	for i in "${!COMMANDS[@]}"; do
		[[ ${BLOCKS[i]} == "$block" || ${COMMANDS[i]} == "$2"* ]] || continue
		[[ $IT ]] || block=${BLOCKS[i]}
		[[ ${BLOCKS[i]} != "$block" ]] || IT+=${COMMANDS[i]}$'\n'
	done
	[[ $IT ]] || fail "no block of $1 begins with $2"
}

# declared COMMAND: as what; of some blocks the first line is.
declared() {
	local whole first
	whole=$(key "$1") first=$(key "${1%%$'\n'*}")
	if [[ ${KIND[$first]-} == @(drawing|block_elsewhere) ]]; then echo "$first"; else echo "$whole"; fi
}

run_body() { eval "$1"; } # which may return

# run_example COMMAND BODY: in a lab of its own.
run_example() {
	local IT=$1 body=$2 BY=()
	BATS_TEST_TMPDIR=$EXAMPLES_DIR/$((++EXAMPLES))
	mkdir -p "$BATS_TEST_TMPDIR/cwd"
	lab_up
	TPROXY_LAB="client=$LAB_client proxy=$LAB_proxy server=$LAB_server bystander=$LAB_bystander"
	export TPROXY_LAB
	cd "$BATS_TEST_TMPDIR/cwd" || return
	run_body "$body"
	cd "$TOP" || return
	lab_down
}

# run_displayed FILE...: run every command that is displayed there; those that are not declared fail.
# With HALF=0 or 1 only those of every other block, as long documents take their time.
run_displayed() {
	local i command known kind begun='' whole j
	EXAMPLES_DIR=$BATS_TEST_TMPDIR EXAMPLES=0
	commands_of "$@"
	for i in "${!COMMANDS[@]}"; do
		[[ ${BLOCKS[i]} != "$begun" ]] || continue # its session has run it
		[[ ! ${HALF-} ]] || ((BLOCKS[i] % 2 == HALF)) || continue
		command=${COMMANDS[i]} known=$(declared "$command")
		kind=${KIND[$known]-}
		[[ $kind != session ]] || ((i == 0)) || [[ ${BLOCKS[i]} != "${BLOCKS[i - 1]}" ]] || kind=run
		[[ $kind ]] || fail "${PLACES[i]%%:*} displays a command that is not in tests/examples.bash: $known"
		echo "example of ${PLACES[i]%%:*}: $known" >&2
		case $kind in
		drawing) begun=${BLOCKS[i]} ;;
		elsewhere | block_elsewhere)
			[[ $kind == elsewhere ]] || begun=${BLOCKS[i]}
			grep -qF -- "@test \"${REASON[$known]}\"" "$TOP/tests/${BODY[$known]}" ||
				fail "tests/${BODY[$known]} has no test \"${REASON[$known]}\""
			;;
		not_run) ;;
		dry)
			# shellcheck disable=SC2086 # words
			run make -n -C "$TOP" O="$TPROXY_BIN" ${known#*make}
			assert_success
			;;
		root)
			((EUID != 0)) || run_example "$command" "${BODY[$known]}"
			;;
		run) run_example "$command" "${BODY[$known]}" ;;
		session)
			begun=${BLOCKS[i]} whole=''
			for j in "${!COMMANDS[@]}"; do
				[[ ${BLOCKS[j]} != "$begun" ]] || whole+=${COMMANDS[j]}$'\n'
			done
			run_example "$whole" "${BODY[$known]}"
			;;
		esac
	done
}
