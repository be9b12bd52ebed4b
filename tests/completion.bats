#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What zsh and fish complete, in the shells themselves: a command's own options, their values, the names of
# instances, and the command after --.

bats_require_minimum_version 1.5.0
load lib/lab

setup() {
	lab_up
	on proxy tproxy-setup up -q --name web --to 3129 --port 80
}

teardown() {
	lab_down
}

# fish_completes LINE WORD...: these are offered for the line's end; !WORD is not.
fish_completes() {
	local line=$1 word
	shift
	run -0 on proxy fish --no-config -c "
		for file in '$TOP'/completions/fish/*.fish; source \$file; end
		complete -C $(printf %q "$line")"
	mapfile -t lines < <(cut -f 1 <<<"$output")
	for word; do
		case $word in
		!*) refute_line "${word#!}" ;;
		*) assert_line "$word" ;;
		esac
	done
}

# completes LINE PATTERN...: for zsh_completes: with a Tab after it the line, or a list below it, has these.
completes() {
	local line=$1 pattern
	shift
	printf '%s\n' "+ $line\\t" "+ \\t"
	for pattern; do
		printf '? %s\n' "$pattern"
	done
	printf '%s\n' '+ \x15\x0c' # neither line nor list stays
}

# zsh_completes: what `completes` has written, in one shell.
zsh_completes() {
	{
		printf '%s\n' "> PROMPT='%% ' fpath=('$TOP/completions/zsh' \$fpath); autoload -Uz compinit; compinit -u -D; echo re''ady" \
			'? ready'
		cat
		printf '%s\n' '> exit' .
	} >"$OUT/typed"
	run -0 on proxy env TERMINAL_TIMEOUT=$((10 * TIME_SCALE)) "$TOP/tests/lib/terminal" zsh -f -i <"$OUT/typed"
}

@test "fish: commands, their own options, and values" {
	fish_completes 'tproxy-setup ' up down status plan run doctor confirm
	fish_completes 'tproxy-setup down --' --drain --name '!--to' '!--json'
	fish_completes 'tproxy-setup up --' --to --no-listener '!--drain'
	fish_completes 'tproxy-setup up --no-listener ' reject drop pass
	fish_completes 'tproxy-setup up --iif to' toclient toserver
	fish_completes 'tproxy-setup down --name ' web
	fish_completes 'tproxy-setup up --uid ro' root
	fish_completes 'tproxy-setup status -o ' instance evidence
	fish_completes 'tproxy-inspect --state L' LISTEN LAST-ACK
	fish_completes 'tproxy-inspect --prog ba' bash
	fish_completes 'tproxy-lab exec ' client server
}

# bash_completes PROGRAM OPTION: with /sys of host proxy.
bash_completes() {
	run -0 on proxy unshare --mount bash --norc -c "mount -t sysfs none /sys || exit
		cd '$OUT'; . '$TOP/completions/bash/$1'; COMP_WORDS=($1 $2 '') COMP_CWORD=2
		\$(complete -p $1 | grep -oE '_[a-z_]+') $1 '' $2; printf '%s\n' \"\${COMPREPLY[@]}\""
}

# Whoever runs on this machine may call himself what he likes.
@test "bash: names of processes, and none that it would expand" {
	bg hostile proxy bash -c 'printf "\$(touch x)" >/proc/self/comm; cd "$0"; read -r _ < <(sleep 100)' "$OUT"
	wait_until 5 grep -qxF '$(touch x)' "/proc/$(pid_of hostile)/comm"
	bash_completes tproxy-inspect --prog
	assert_line bash
	refute_line --partial touch
	refute [ -e "$OUT/x" ]
}

@test "bash: names of interfaces, and none that it would expand" {
	on proxy ip link add name '$(>y)' type veth peer name other
	bash_completes tproxy-setup --iif
	assert_line toclient
	refute_line --partial '>'
	for option in 'tproxy-inspect --iif' 'tproxy-listen --bind-device'; do
		bash_completes $option
		assert_line toclient
	done
	refute [ -e "$OUT/y" ]
}

@test "fish: the command after --, and its own completion" {
	fish_completes 'tproxy-setup run --to 3129 -- tproxy-rel' tproxy-relay
	fish_completes 'tproxy-setup run --to 3129 -- tproxy-relay --upstream-' --upstream-mark
	fish_completes 'tproxy-listen 3129 -- tproxy-relay --ine' --inetd
	fish_completes 'tproxy-lab exec client tproxy-inspect ki' kill
}

@test "zsh: commands, their own options, and values" {
	{
		completes 'tproxy-setup ' confirm doctor
		completes 'tproxy-setup down --' '--drain +--' '--netns +-- .*\n--quiet'
		completes 'tproxy-setup up --no-l' 'no-listener'
		completes 'tproxy-setup up --no-listener ' 'drop +pass +reject'
		completes 'tproxy-setup up --iif toc' 'iif toclient'
		completes 'tproxy-setup down --name ' 'name web'
		completes 'tproxy-setup status -o evi' evidence
		completes 'tproxy-inspect --state LI' LISTEN
		completes 'tproxy-inspect --prog bas' 'prog bash'
		completes 'tproxy-lab exec se' 'exec server'
	} >"$OUT/lines"
	zsh_completes <"$OUT/lines"
}

@test "zsh: the command after --, and its own completion" {
	{
		completes 'tproxy-setup run --to 3129 -- tproxy-rel' '-- tproxy-relay'
		completes 'tproxy-setup run --to 3129 -- tproxy-relay --upstream-' 'upstream-mark'
		completes 'tproxy-lab exec client tproxy-inspect ki' 'inspect kill'
	} >"$OUT/lines"
	zsh_completes <"$OUT/lines"
}
