#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every command in README, the man pages and --help works as printed: with the programs of the built
# tree, and with those installed elsewhere by `make install`. See tests/lib/examples.bash.
#
#   client --- proxy, where the examples run --- server with nginx

bats_require_minimum_version 1.5.0
load lib/lab
load lib/examples
load examples

teardown() {
	cd "$TOP" || return
	lab_down
}

# installed: from now on the programs are those of an installation.
installed() {
	local root=$BATS_TEST_TMPDIR/root
	make -s -C "$TOP" O="$TPROXY_BIN" -o all install DESTDIR="$root" PREFIX=/usr
	PATH=$root/usr/bin:$root/usr/sbin:${PATH//"$TPROXY_BIN:"/}
	MAN=$root/usr/share/man
	README=$root/usr/share/doc/tproxy-tools/README
	assert_equal "$(type -P tproxy-relay)" "$root/usr/sbin/tproxy-relay"
}

helps() {
	local program
	for program in tproxy-setup tproxy-listen tproxy-relay tproxy-inspect tproxy-lab; do
		$program --help >"$BATS_TEST_TMPDIR/$program.help"
	done
	run_displayed "$BATS_TEST_TMPDIR"/*.help
}

@test "README, built, even blocks" { HALF=0 run_displayed "$TOP/README"; }
@test "README, built, odd blocks" { HALF=1 run_displayed "$TOP/README"; }
@test "README, installed, even blocks" { installed && HALF=0 run_displayed "$README"; }
@test "README, installed, odd blocks" { installed && HALF=1 run_displayed "$README"; }
@test "tproxy-setup(8), built" { run_displayed "$TOP/man/tproxy-setup.8"; }
@test "tproxy-setup(8), installed" { installed && run_displayed "$MAN/man8/tproxy-setup.8"; }
@test "tproxy-listen(1), built" { run_displayed "$TOP/man/tproxy-listen.1"; }
@test "tproxy-listen(1), installed" { installed && run_displayed "$MAN/man1/tproxy-listen.1"; }
@test "tproxy-relay(8), built" { run_displayed "$TOP/man/tproxy-relay.8"; }
@test "tproxy-relay(8), installed" { installed && run_displayed "$MAN/man8/tproxy-relay.8"; }
@test "tproxy-inspect(1), built" { run_displayed "$TOP/man/tproxy-inspect.1"; }
@test "tproxy-inspect(1), installed" { installed && run_displayed "$MAN/man1/tproxy-inspect.1"; }
@test "tproxy-lab(1), built" { run_displayed "$TOP/man/tproxy-lab.1"; }
@test "tproxy-lab(1), installed" { installed && run_displayed "$MAN/man1/tproxy-lab.1"; }
@test "tproxy-tools(7), built" { run_displayed "$TOP/man/tproxy-tools.7"; }
@test "tproxy-tools(7), installed" { installed && run_displayed "$MAN/man7/tproxy-tools.7"; }
@test "tproxy.conf(5), built" { run_displayed "$TOP/man/tproxy.conf.5"; }
@test "tproxy-proxies(7), built" { run_displayed "$TOP/man/tproxy-proxies.7"; }
@test "tproxy-proxies(7), installed" { installed && run_displayed "$MAN/man7/tproxy-proxies.7"; }
@test "tproxy-failover(7), built" { run_displayed "$TOP/man/tproxy-failover.7"; }
@test "tproxy-scale(7), built" { run_displayed "$TOP/man/tproxy-scale.7"; }
@test "--help, built" { helps; }
@test "--help, installed" { installed && helps; }

@test "declared examples are displayed, and every document is checked" {
	local page command
	for page in "$TOP"/man/*.[1-8]; do
		grep -qF "/${page##*/}\"" "$BATS_TEST_FILENAME" || fail "$page is not looked at"
	done
	for command in tproxy-setup tproxy-listen tproxy-relay tproxy-inspect tproxy-lab; do
		$command --help >"$BATS_TEST_TMPDIR/$command.help"
	done
	commands_of "$TOP/README" "$TOP"/man/*.[1-8] "$BATS_TEST_TMPDIR"/*.help
	for command in "${COMMANDS[@]}"; do
		command=$(declared "$command")
		unset 'KIND[$command]'
	done
	[[ ! ${!KIND[*]} ]] || fail "declared in tests/examples.bash, and displayed nowhere: ${!KIND[*]}"
}
