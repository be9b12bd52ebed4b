#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How every program handles its command line, and that --help, the man page and the completions
# agree. Needs no network namespace.

bats_require_minimum_version 1.5.0

setup() {
	bats_load_library bats-support
	bats_load_library bats-assert
	TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
	BIN=${TPROXY_BIN:-$TOP/build}
}

programs=(tproxy-setup tproxy-listen tproxy-relay tproxy-inspect tproxy-lab)
binaries=(tproxy-setup tproxy-listen tproxy-relay tproxy-inspect)

# The long options that a program's --help shows, one a line.
options_of() {
	"$BIN/$1" --help | grep -oE -- '^ +(-[A-Za-z0-9], )?--[a-z][a-z0-9-]+' |
		grep -oE -- '--[a-z0-9-]+' | sort -u
}

man_page_of() {
	echo "$TOP/man/$1".[1-8]
}

@test "--help goes to stdout, exits 0 and names every common option" {
	for p in "${programs[@]}"; do
		run --separate-stderr "$BIN/$p" --help
		assert_success
		assert_output --partial "Usage: $p"
		assert_equal "$stderr" ""
		for o in --quiet --verbose --help --version; do
			assert_output --partial "$o"
		done
	done
}

@test "--help fits a terminal of 100 columns" {
	for p in "${programs[@]}"; do
		run awk 'length > 100' <("$BIN/$p" --help)
		assert_output ""
	done
}

@test "--version prints program, package and version" {
	for p in "${programs[@]}"; do
		run --separate-stderr "$BIN/$p" --version
		assert_success
		assert_line --index 0 --regexp "^$p \(tproxy-tools\) [0-9]+\.[0-9]+\.[0-9]+\$"
		case $p in
		tproxy-relay | tproxy-listen) assert_line --index 1 --regexp '^sandbox: system calls \(seccomp\)' ;;
		*) assert_equal "${#lines[@]}" 1 ;;
		esac
	done
}

@test "lines to the journal begin with their level, lines to anything else do not" {
	local out=$BATS_TEST_TMPDIR/stderr
	for p in "${binaries[@]}"; do
		: >"$out"
		run env JOURNAL_STREAM="$(stat -c %d:%i "$out")" sh -c "'$BIN/$p' --nonsense 2>'$out'"
		assert_regex "$(cat "$out")" "^<3>$p: --nonsense: "
		run env JOURNAL_STREAM="$(stat -c %d:%i /dev/null)" sh -c "'$BIN/$p' --nonsense 2>'$out'"
		assert_regex "$(cat "$out")" "^$p: --nonsense: "
	done
}

@test "an unknown option is a usage error that names it and points to --help" {
	for p in "${binaries[@]}"; do
		run --separate-stderr "$BIN/$p" --nonsense
		assert_equal "$status" 2
		assert_output ""
		assert_equal "$stderr" \
			"$p: --nonsense: no such option (or an ambiguous abbreviation); see '$p --help'"
	done
}

@test "output that cannot be written is an error, a reader that has gone is not" {
	for p in "${binaries[@]}"; do
		run bash -c "'$BIN/$p' --help >/dev/full"
		assert_equal "$status" 3
		assert_output "$p: standard output: No space left on device"
		run bash -c "set -o pipefail; '$BIN/$p' --help | true"
		assert [ "$status" -eq 0 -o "$status" -eq 141 ]
	done
}

@test "every option of --help is in the man page" {
	for p in "${programs[@]}"; do
		text=$(mandoc -T utf8 "$(man_page_of "$p")" | col -bx)
		for o in $(options_of "$p"); do
			grep -qE -- "(^|[^a-z-])$o([^a-z-]|$)" <<<"$text" || fail "$p(man): $o is missing"
		done
	done
}

@test "the man page names no option that --help does not have" {
	for p in "${programs[@]}"; do
		have=$(options_of "$p")
		for o in $(mandoc -T utf8 "$(man_page_of "$p")" | col -bx |
			awk '/^OPTIONS|^DESCRIPTION|^COMMANDS/ { on = 1 } /^EXAMPLES|^SEE ALSO/ { on = 0 } on' |
			grep -oE -- '^ +(-[A-Za-z0-9], )?--[a-z][a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+' | sort -u); do
			grep -qxF -- "$o" <<<"$have" || fail "$p(man): $o is not an option of $p"
		done
	done
}

# What bash offers after the given words, one a line.
complete_words() {
	local program=$1
	shift
	bash -c '
		program=$1 file=$2
		shift 2
		. "$file"
		COMP_WORDS=("$program" "$@")
		COMP_CWORD=$#
		COMP_LINE="${COMP_WORDS[*]}"
		COMP_POINT=${#COMP_LINE}
		COMPREPLY=()
		spec=$(complete -p "$program")
		[[ $spec =~ -F\ ([^ ]+) ]] || exit 1
		"${BASH_REMATCH[1]}" "$program" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
		printf "%s\n" "${COMPREPLY[@]}"
	' complete "$program" "$TOP/completions/bash/$program" "$@" | sed 's/[= ]*$//'
}

# value_of OPTION METAVARIABLE: one that is accepted.
value_of() {
	[[ $1 != --state ]] || set -- '' LISTEN
	case $2 in
	LISTEN) echo LISTEN ;;
	*'|'*) [[ $2 == *[A-Z]* ]] && echo 1 || echo "${2%%|*}" ;;
	*CIDR*) echo 192.0.2.1 ;;
	USER | GROUP) echo 0 ;;
	PATH) echo / ;;
	T) echo 1s ;;
	*) echo 1 ;;
	esac
}

@test "a command's --help lists its own options only, and the command refuses others" {
	local p c o arg help hidden=0
	for p in tproxy-setup tproxy-inspect; do
		for c in $("$BIN/$p" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
			run -0 --separate-stderr "$BIN/$p" "$c" --help
			assert_line --index 0 --regexp "^Usage: $p (\[$c\]|$c) "
			[[ $output == *$'\n\n'"$p $c: "* && ${lines[-1]} == *"$p("*")"* ]] || fail "$output"
			help=$output
			while read -r o arg; do
				! grep -qE -- " $o( |\$)" <<<"$output" || continue
				[[ $arg != PATH ]] || continue # refused by what there is
				# Operands that none has: it is never done.
				run -2 "$BIN/$p" "$c" "$o" ${arg:+"$(value_of "$o" "$arg")"} not understood here
				assert_output --partial "$o: not an option of '$p $c'"
				output=$help
				((++hidden))
			done < <("$BIN/$p" --help | sed -nE 's/^ +(-[A-Za-z0-9], )?(--[a-z0-9-]+)( ([^ ]+))?.*/\2 \4/p' |
				grep -vE -- '^--(help|version) ')
		done
	done
	((hidden > 100)) || fail "$hidden options are not every command's"
	for c in run up exec status down; do
		run -0 "$BIN/tproxy-lab" "$c" --help
		assert_line --index 0 --regexp "^Usage: tproxy-lab $c "
		assert_equal "$(grep -c foreground <<<"$output") $(grep -c no-header <<<"$output")" \
			"$([[ $c == up ]]; echo $((1 - $?))) $([[ $c == status ]]; echo $((1 - $?)))"
	done
}

@test "bash completion offers exactly the options of --help" {
	for p in "${programs[@]}"; do
		run diff <(options_of "$p") <(complete_words "$p" -- | grep '^--' | sort -u)
		assert_success
	done
}

@test "completions for zsh and fish match --help (make completions)" {
	for p in "${programs[@]}"; do
		run diff <(TPROXY_BIN=$BIN "$TOP/completions/generate" zsh "$p") "$TOP/completions/zsh/_$p"
		assert_success
		run diff <(TPROXY_BIN=$BIN "$TOP/completions/generate" fish "$p") "$TOP/completions/fish/$p.fish"
		assert_success
	done
}

@test "tproxy-tools(7) documents every field of a record, and no other" {
	run diff <(sed -n 's/^\t\[RECORD_[A-Z_]*\] = { "\([a-z_]*\)",.*/\1/p' "$TOP/common/base/record_fields.c" | sort) \
		<(awk '/^\.Ss Fields/ { on = 1 } /^\.Sh EXIT/ { on = 0 } on && /^\.It Cm/' \
			"$TOP/man/tproxy-tools.7" | sed 's/\.It//; s/Cm//g' | tr -d ' ' | tr , '\n' | sort)
	assert_success
}

@test "at 80 columns no displayed command is wrapped, no quote is within another, and no shell expands one" {
	run "$TOP/tests/lib/displayed" --check "$TOP/README" "$TOP"/man/*.[1-8]
	assert_output ""
	assert_success
}

@test "man pages are free of lint" {
	run mandoc -T lint -W warning "$TOP"/man/*.[1-8]
	assert_output ""
	assert_success
}

@test "typical mistakes of a first-time user are answered with the right command" {
	local command words
	while IFS='|' read -r command words; do
		# Without rights that is what is missing first.
		((EUID == 0)) || [[ $command != *" status "* ]] || continue
		run -2 env PATH="$BIN:$PATH" $command
		assert_output --partial "$words"
	done <<-'END'
		tproxy-setup run --to 3129 tproxy-relay 3129|`tproxy-relay` is not understood here; put -- before the command
		tproxy-listen 3129 cat|cat: not an endpoint like 192.0.2.1:80 or [2001:db8::1]:80; put -- before the command
		tproxy-setup start|start: no such command; there are up, down, status, plan, run, keep, doctor, confirm
		tproxy-setup|which command? up, down, status
		tproxy-setup up --to 3129 --port 80 --not-port 80|--not-port excludes all of --port: nothing would match
		tproxy-setup up --to 3129 --port 80,90-99 --not-port 1-80,85-200|nothing would match
		tproxy-setup up --to 3129 --not-port 1-65535|nothing would match
		tproxy-setup up --to 192.0.2.1:3129 -6|--to 192.0.2.1:3129: is an IPv4 address, which -6 excludes
		tproxy-setup up --to [2001:db8::1]:3129 --src 192.0.2.0/24|is an IPv6 address, which --src or --dst does not match
		tproxy-relay -o nonsense 3129|--columns nonsense: 'nonsense' is not a column
		tproxy-listen -o nonsense 3129|--columns nonsense: 'nonsense' is not a column
		tproxy-inspect -o nonsense|--columns nonsense: 'nonsense' is not a column
		tproxy-setup status -o nonsense|--columns nonsense: 'nonsense' is not a column
	END
}
