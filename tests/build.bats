#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What make promises besides building: install and uninstall, dependencies, help. The network is not
# needed; nothing outside the test's directory is written.

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

@test "install puts programs, man pages and completions into place, uninstall takes exactly these away" {
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
	for page in man1/tproxy-{lab,listen,inspect}.1 man7/tproxy-tools.7 man8/tproxy-{setup,relay}.8; do
		assert [ -s "$root/usr/share/man/$page" ]
	done
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

@test "deps does nothing when all is there" {
	fake dpkg-query 'echo installed'
	fake apt-get 'echo called >&2; exit 1'
	run faked "$TOP/.ci/deps" build test
	assert_success
	assert_output ""
}

@test "deps without root prints the exact command; without apt what is needed" {
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
	for target in all check check-fresh clean demo deps dist fuzz install lint uninstall; do
		assert_line --regexp "^  $target "
	done
}
