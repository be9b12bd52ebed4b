#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The other targets of make: install and uninstall, dependencies, help. No network is needed;
# nothing is written outside the test's directory.

bats_require_minimum_version 1.5.0

setup() {
	bats_load_library bats-support
	bats_load_library bats-assert
	TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
	BIN=${TPROXY_BIN:-$TOP/build}
	FAKE=$BATS_TEST_TMPDIR/fake
	mkdir "$FAKE"
}

# fake NAME SCRIPT: a command of that name, first in PATH of what `faked` runs.
fake() {
	printf '#!/bin/sh\n%s\n' "$2" >"$FAKE/$1"
	chmod 755 "$FAKE/$1"
}
faked() { PATH=$FAKE:$PATH "$@"; }

# The build is not to be repeated here: what is there counts as up to date.
make_() { make -s -C "$TOP" O="$BIN" -o all "$@"; }

@test "install installs programs, man pages and completions, uninstall removes exactly these" {
	local root=$BATS_TEST_TMPDIR/root
	mkdir -p "$root/usr/sbin" "$root/usr/share/man/man8"
	touch "$root/usr/sbin/other" "$root/usr/share/man/man8/other.8"
	(cd "$root" && find . -type f) >"$BATS_TEST_TMPDIR/before"
	run make_ install DESTDIR="$root" PREFIX=/usr
	assert_success
	# What needs no root is in everybody's PATH, and its page in section 1.
	for program in sbin/tproxy-setup bin/tproxy-listen sbin/tproxy-relay bin/tproxy-inspect bin/tproxy-lab; do
		assert [ -x "$root/usr/$program" ]
	done
	for program in setup listen relay inspect lab; do
		assert [ -s "$root/usr/share/bash-completion/completions/tproxy-$program" ]
	done
	for page in man1/tproxy-{lab,listen,inspect}.1 man5/tproxy.conf.5 man7/tproxy-{tools,proxies,scale}.7 man8/tproxy-{setup,relay}.8; do
		assert [ -s "$root/usr/share/man/$page" ]
	done
	for file in tproxy.rules.yml tproxy-dashboard.json; do
		assert [ -s "$root/usr/share/tproxy-tools/$file" ]
	done
	for file in systemd/system/tproxy{@,-rules@,-export}.service {sysusers,tmpfiles,modules-load}.d/tproxy.conf; do
		assert [ -s "$root/usr/lib/$file" ]
	done
	run grep -r @[A-Z]*@ "$root/usr/lib"
	assert_output ""
	run "$root/usr/sbin/tproxy-setup" --version
	assert_success
	run make_ uninstall DESTDIR="$root" PREFIX=/usr
	assert_success
	run diff "$BATS_TEST_TMPDIR/before" <(cd "$root" && find . -type f)
	assert_success
}

@test "a missing library is one line that names it and says what to do" {
	run make -s -C "$TOP" O="$BATS_TEST_TMPDIR/o" PKGCONF=false
	assert_failure
	assert_line --index 0 --regexp "^make: [a-z0-9.-]+: not found by false; 'make deps' installs what is needed\$"
}

@test "deps does nothing if everything is installed" {
	fake dpkg-query 'echo installed'
	fake apt-get 'echo called >&2; exit 1'
	run faked "$TOP/.ci/deps" build test
	assert_success
	assert_output ""
}

@test "deps without root prints the exact command; without apt the list of packages" {
	fake dpkg-query 'case $* in *libnl-3-dev) exit 1 ;; esac; echo installed'
	fake apt-get 'exit 1'
	((EUID)) || set -- unshare --user # the same files, and not root
	run faked "$@" "$TOP/.ci/deps" build test
	assert_equal "$status" 3
	assert_output "deps: missing packages; as root: apt-get update && \
apt-get install -y --no-install-recommends libnl-3-dev"
	mkdir "$BATS_TEST_TMPDIR/bare"
	for tool in bash sort fmt sed; do ln -s "$(command -v "$tool")" "$BATS_TEST_TMPDIR/bare"; done
	run env PATH="$BATS_TEST_TMPDIR/bare" bash "$TOP/.ci/deps" build
	assert_equal "$status" 3
	assert_line --index 0 "deps: no apt here. Needed, by their names in Debian:"
	assert_output --partial libnftables-dev
}

@test "deps of an unknown group is a usage error" {
	run "$TOP/.ci/deps" everything
	assert_equal "$status" 2
}

@test "help names every target that a user calls" {
	run make_ help
	assert_success
	for target in all check check-fresh clean deb demo demo-scale deps dist fuzz install lint uninstall; do
		assert_line --regexp "^  $target "
	done
}

# ---------------------------------------------------------------- the sandbox's list

# What is noted, one `NEED... CALL ARGUMENTS` a line, by another reader than the build's.
noted() {
	grep -rhoE '#syscalls [^*]*' "$TOP/common" "$TOP/cmd" --include='*.c' | sed -E '
		s/#syscalls ([^:]*): */\1:/; s/ +$//; s/\), /);/g
		:again; s/^([^:]*:(.*;)?[a-z_0-9]+), ([a-z_0-9])/\1;\3/; t again' |
		awk -F: '{ n = split($2, calls, ";"); for (i = 1; i <= n; i++) print toupper($1) " " calls[i] }' |
		sed -E 's/\(/ /; s/\)$//' | sort -u
}

# The rows of the generated list, likewise.
listed() {
	sed -nE '/^\{/!d; s/ \| SANDBOX_/ /g; s/SANDBOX_//; s/[A-Z]+_ARGUMENT, \(([^)]*)\) & [A-Z]+_ARGUMENT/\1/g
		s/^\{ ([A-Z_ |]*), SCMP_SYS\(([a-z_0-9]+)\)/\1 \2/; s/, [0-9], \{ \{ [0-9], / /
		s/ \}, \{ [0-9], /, /g; s/ *\}[ },]*$//; p' "$1"
}

@test "the sandbox allows the system calls that are noted beside the functions" {
	# What the C library or another architecture makes of the noted ones.
	local also='recvfrom|sendto|recvmmsg_time64|epoll_pwait|ppoll|ppoll_time64|fcntl64|futex_time64'
	also+='|clock_gettime64|clock_nanosleep_time64|mmap2|fstat64|newfstatat|fstatat64|statx|faccessat2|renameat2'
	noted | sed 's/ fstatat$/ newfstatat/' | grep -vE " newfstatat$" >"$BATS_TEST_TMPDIR/noted"
	listed "$BIN/made/sandbox_notes.h" | grep -vE " ($also)( |$)" | sort -u >"$BATS_TEST_TMPDIR/listed"
	run diff "$BATS_TEST_TMPDIR/noted" "$BATS_TEST_TMPDIR/listed"
	assert_success
	assert [ "$(wc -l <"$BATS_TEST_TMPDIR/listed")" -gt 100 ]
	# And the others come with theirs.
	for call in recv:recvfrom send:sendto poll:ppoll fcntl:fcntl64 renameat:renameat2; do
		assert_equal "$(grep -c "SCMP_SYS(${call%:*})" "$BIN/made/sandbox_notes.h")" \
			"$(grep -c "SCMP_SYS(${call#*:})" "$BIN/made/sandbox_notes.h")"
	done
}

@test "a note that cannot be read stops the build, and so does one without its arguments" {
	local note
	for note in 'tcp: setsockopt' 'tcp: setsockopt(SOL_TCP)' 'tcp setsockopt(SOL_TCP, TCP_NODELAY)' \
		'tcp: socket(AF_INET, SOCK_STREAM)' 'tcp: send recv' 'tcp: send; recv'; do
		printf '\n/* #syscalls %s */\n' "$note" >"$BATS_TEST_TMPDIR/x.c"
		run awk -f "$TOP/common/process/sandbox_notes.awk" "$BATS_TEST_TMPDIR/x.c"
		assert_failure
		assert_line --partial "x.c:2: #syscalls: "
	done
}

@test "a service's source notes each call with arguments, or makes it only at the start" {
	# What these do of that is done before the sandbox is up, or by a program without one.
	local early=' cmd/tproxy-listen.o:fcntl cmd/tproxy-listen/spawner.o:fcntl cmd/tproxy-listen/spawner.o:setsockopt
 cmd/tproxy-relay.o:fcntl cmd/tproxy-relay/control.o:socket cmd/tproxy-relay/inetd.o:fcntl
 cmd/tproxy-relay/local_addrs.o:setsockopt cmd/tproxy-relay/local_addrs.o:socket
 cmd/tproxy-relay/udp_icmp.o:socket cmd/tproxy-relay/synack.o:socket cmd/tproxy-relay/synack.o:setsockopt
 common/base/screen.o:ioctl common/net/netlink.o:setsockopt
 common/process/descriptors.o:fcntl common/process/helper.o:fcntl common/process/helper.o:setsockopt
 common/process/listen_fds.o:fcntl common/process/notify.o:fcntl common/process/notify.o:socket common/socket/listeners.o:fcntl
 common/socket/transparent.o:fcntl common/net/netns.o:socket common/net/netns.o:ioctl common/net/route.o:socket
 common/net/netgroup.o:setsockopt common/net/netgroup.o:socket common/net/tcpinfo.o:ioctl
 common/net/relay_client.o:fcntl common/net/relay_client.o:setsockopt common/net/relay_client.o:socket '
	local object call source
	cd "$BIN"
	for object in cmd/tproxy-{relay,listen}.o cmd/tproxy-{relay,listen}/*.o common/{base,net,process,socket}/*.o; do
		source=$TOP/${object%.o}.c
		[[ -e $source ]] || continue
		for call in $(nm -u "$object" | sed -nE 's/^ *U ((socket|setsockopt|ioctl|fcntl)(64)?)(@.*)?$/\2/p' | sort -u); do
			grep -q "#syscalls [^:]*:.*[ ]$call(" "$source" || [[ ${early//$'\n'/ } == *" $object:$call "* ]] ||
				echo "$object: $call"
		done
	done >"$BATS_TEST_TMPDIR/missing"
	assert_equal "$(cat "$BATS_TEST_TMPDIR/missing")" ""
}
