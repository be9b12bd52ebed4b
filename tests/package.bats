#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Packages: the reproducible source archive; the Debian package, here from programs that are built
# already (`make deb-check` does all of it); recipes for others.

bats_require_minimum_version 1.5.0

setup() {
	bats_load_library bats-support
	bats_load_library bats-assert
	TOP=$(cd "$BATS_TEST_DIRNAME/.." && pwd)
	BIN=$(cd "${TPROXY_BIN:-$TOP/build}" && pwd)
	VERSION=$(sed -n 's/^VERSION *:= *//p' "$TOP/Makefile")
	# The tree may be another user's. (Not by GIT_CONFIG_COUNT: clone hides that from what it starts.)
	export HOME=$BATS_TEST_TMPDIR
	git config --global safe.directory '*'
	git -C "$TOP" rev-parse -q --verify HEAD >/dev/null 2>&1 || skip "no git, or no repository"
}

# archive NAME: a clone in that directory, and what is packed there.
archive() {
	[[ -d $BATS_TEST_TMPDIR/$1 ]] || git clone -q "$TOP" "$BATS_TEST_TMPDIR/$1"
	find "$BATS_TEST_TMPDIR/$1" -type f -exec touch -d "$2" {} +
	(cd "$BATS_TEST_TMPDIR/$1" && TZ=$3 make -s OUT="$BATS_TEST_TMPDIR/out-$1" "${@:4}") >/dev/null
}

same() {
	cmp "$BATS_TEST_TMPDIR/out-one/$1" "$BATS_TEST_TMPDIR/out-another-one/$1"
}

@test "the version is in one place" {
	run git -C "$TOP" grep -lwF "$VERSION" -- ':!CHANGES' ':!tests' ':!*.h' ':!*.c'
	assert_output Makefile
	run git -C "$TOP" grep -hF "\"$VERSION\"" -- 'cmd/*.c' 'common/*.c'
	assert_output ""
	run sed -n 1p "$TOP/CHANGES"
	assert_output --regexp "^tproxy-tools ${VERSION//./\\.}( |$)"
}

@test "make dist: the same byte for byte, wherever and whenever" {
	archive one 2020-01-01 UTC dist
	archive another-one 2025-02-03 Asia/Tokyo dist
	same "tproxy-tools-$VERSION.tar.gz"
}

@test "make deb: what is in it" {
	command -v dh_apparmor >/dev/null || skip 'debhelper and dh-apparmor are missing'
	export TPROXY_PREBUILT=$BIN
	archive one 2020-01-01 UTC deb
	deb=$(cd "$BATS_TEST_TMPDIR/out-one" && echo tproxy-tools_*.deb)
	assert_equal "${deb%_*}" "tproxy-tools_$VERSION-1"
	run bash -c 'dpkg-deb -c "$1" | sed -E "s/.* \.//"' - "$BATS_TEST_TMPDIR/out-one/$deb"
	for file in /usr/{sbin/tproxy-{setup,relay},bin/tproxy-{listen,inspect,lab}} /etc/tproxy/ \
		/lib/systemd/system/tproxy{@,-rules@,-export}.service /usr/share/tproxy-tools/tproxy-dashboard.json /etc/apparmor.d/usr.sbin.tproxy-relay \
		/usr/lib/{sysusers,tmpfiles,modules-load}.d/tproxy.conf \
		/usr/share/man/man{1/tproxy-{listen,inspect,lab}.1,5/tproxy.conf.5,7/tproxy-{tools,proxies,scale,failover}.7,8/tproxy-{setup,relay}.8}.gz \
		/usr/share/{bash-completion/completions/,zsh/vendor-completions/_}tproxy-relay \
		/usr/share/fish/vendor_completions.d/tproxy-relay.fish; do
		assert_line "$file"
	done
	run dpkg-deb -I "$BATS_TEST_TMPDIR/out-one/$deb" postinst
	assert_line --partial systemd-sysusers
	assert_line --partial systemd-tmpfiles
	refute_line --partial 'deb-systemd-invoke start'
}

@test "recipes for RPM, Arch and OpenWrt have the version, and are well-formed" {
	make -s -C "$TOP" recipes OUT="$BATS_TEST_TMPDIR"
	cd "$BATS_TEST_TMPDIR"
	grep -qx "Version:  *$VERSION" rpm/tproxy-tools.spec
	grep -qx "pkgver=$VERSION" arch/PKGBUILD
	grep -qx "PKG_VERSION:=$VERSION" openwrt/Makefile
	run grep -r @VERSION@ .
	assert_output ""
	bash -n arch/PKGBUILD
	! command -v shellcheck >/dev/null || shellcheck arch/PKGBUILD
	! command -v rpmspec >/dev/null || rpmspec --define '_unitdir /lib/systemd/system' -q --qf '%{version}\n' rpm/tproxy-tools.spec
	! command -v apparmor_parser >/dev/null || apparmor_parser -QK "$TOP/.packaging/debian/apparmor"
}
