# tproxy-tools: `make help` lists the targets.
VERSION  := 0.1.0
PREFIX   ?= /usr/local
DESTDIR  ?=
BINDIR   ?= $(PREFIX)/bin
SBINDIR  ?= $(PREFIX)/sbin
MANDIR   ?= $(PREFIX)/share/man
DOCDIR   ?= $(PREFIX)/share/doc/tproxy-tools
BASHDIR  ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR   ?= $(PREFIX)/share/zsh/site-functions
FISHDIR  ?= $(PREFIX)/share/fish/vendor_completions.d
UNITDIR  ?= $(PREFIX)/lib/systemd/system
CONFDIR  ?= $(PREFIX)/lib
DATADIR  ?= $(PREFIX)/share/tproxy-tools

CC       ?= cc
CFLAGS   ?= -O2 -g
PKGCONF  ?= pkg-config
# Where objects and binaries go; a sanitizer build lives beside the normal one.
SANITIZE ?=
O        ?= build$(if $(SANITIZE),/sanitize)

PROGRAMS := tproxy-setup tproxy-listen tproxy-relay tproxy-inspect
SCRIPTS  := tproxy-lab
# These do what they are for without privileges, or most of it; the others are for who runs a proxy.
IN_BIN   := tproxy-listen tproxy-inspect tproxy-lab
IN_SBIN  := $(filter-out $(IN_BIN),$(PROGRAMS) $(SCRIPTS))

# Which libraries a binary links: libtproxy.a gives it only the modules it uses.
LIBS_tproxy-setup   := libnl-3.0 libnl-nf-3.0 libcap-ng libnftables jansson
LIBS_tproxy-listen  := libnl-3.0 libnl-nf-3.0 libcap-ng libseccomp
LIBS_tproxy-relay   := libnl-3.0 libnl-nf-3.0 libcap-ng libseccomp
LIBS_tproxy-inspect := libnl-3.0 libnl-route-3.0 libnl-nf-3.0 libnftables jansson ncursesw libcap-ng libseccomp libmicrohttpd
LIBS_ALL := $(sort $(foreach p,$(PROGRAMS),$(LIBS_$(p))))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	    -Wwrite-strings -Wvla -Wno-unused-parameter -Wno-missing-field-initializers
HARDEN   := -fstack-protector-strong -fPIE $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
override CPPFLAGS += -D_GNU_SOURCE -DTPROXY_VERSION='"$(VERSION)"' -Icommon -Icmd -I$(O)/made
override CFLAGS   += -std=gnu11 $(WARNINGS) $(HARDEN) $(if $(WERROR),-Werror)
override LDFLAGS  += -pie -Wl,-z,relro,-z,now
ifneq ($(SANITIZE),)
override CFLAGS   += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
override LDFLAGS  += -fsanitize=$(SANITIZE)
endif

# Under sudo the build belongs to the user who called it, if the tree is that user's.
ROOTED   := $(and $(filter 0,$(shell id -u)),$(SUDO_UID),$(filter $(SUDO_UID),$(shell stat -c %u .)))
AS_USER  := $(if $(ROOTED),setpriv --reuid=$(SUDO_UID) --regid=$(SUDO_GID) --init-groups --)

Q := $(if $(V),,@)
say = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@printf '  %-7s %s\n' '$(1)' '$(2)')

# One archive holds every object but the programs' main files, so that programs, unit tests, fuzzers and
# fault tests link the same way.
LIB     := $(O)/libtproxy.a
MODULES := $(wildcard common/*/*.c cmd/*/*.c cmd/*/*/*.c)
HEADERS := $(wildcard common/*/*.h cmd/*/*.h cmd/*/*/*.h)
LIBOBJS := $(MODULES:%.c=$(O)/%.o)
BINS    := $(addprefix $(O)/,$(PROGRAMS))

all: $(BINS) $(addprefix $(O)/,$(SCRIPTS)) ## build the programs (V=1 shows commands, O=DIR elsewhere)

$(O)/%.o: %.c Makefile | have-libraries
	$(call say,CC,$<)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(shell $(PKGCONF) --cflags $(LIBS_ALL)) -MMD -MP -c -o $@ $<

# Which system calls the sandbox allows is noted beside the functions that make them.
NOTES := $(O)/made/sandbox_notes.h

$(NOTES): common/process/sandbox_notes.awk $(MODULES)
	$(call say,AWK,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) sh -c 'awk -f $^ >$@.new && { cmp -s $@.new $@ && rm $@.new || mv $@.new $@; }'

$(O)/common/process/sandbox.o: $(NOTES)

$(LIB): $(LIBOBJS)
	$(call say,AR,$@)
	$(Q)$(AS_USER) rm -f $@
	$(Q)$(AS_USER) $(AR) rcs $@ $^

$(BINS): $(O)/%: $(O)/cmd/%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB) $(shell $(PKGCONF) --libs $(LIBS_$*)) -pthread

$(addprefix $(O)/,$(SCRIPTS)): $(O)/%: cmd/% Makefile
	$(call say,SED,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) sh -c 'sed "s/@VERSION@/$(VERSION)/" $< >$@ && chmod 755 $@'

# Unit tests: one program a file, linked with the archive.
UNITS := $(patsubst tests/unit/%.c,$(O)/unit/%,$(wildcard tests/unit/*.c))

units: $(UNITS) ## build the unit tests

$(O)/unit/%: tests/unit/%.c tests/unit/check.h $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(shell $(PKGCONF) --cflags $(LIBS_ALL)) -o $@ $< $(LIB) $(shell $(PKGCONF) --libs $(LIBS_ALL)) -pthread

golden: $(O)/unit/nft_text $(O)/unit/xtables ## write tests/golden anew: `git diff` shows what has changed
	$(Q)$(O)/unit/nft_text --write tests/golden/*.nft
	$(Q)$(O)/unit/xtables --write $(foreach t,mangle4 mangle6 raw4 filter4,tests/fuzz/corpus/xtables/$t tests/golden/xtables-$t.json)

include tests/attack/attack.mk
include tests/fault/fault.mk
include tests/bench/bench.mk
include tests/listen/listen.mk
include tests/soak/soak.mk

# One clear line instead of a compiler's hundred.
have-libraries:
	@for l in $(LIBS_ALL); do $(PKGCONF) --exists $$l 2>/dev/null || \
		{ echo "make: $$l: not found by $(PKGCONF); 'make deps' installs what is needed" >&2; exit 1; }; done

# Of systemd: units, and what sysusers.d(5), tmpfiles.d(5) and modules-load.d(5) are to do.
UNITFILES := tproxy@.service tproxy-rules@.service tproxy-keep@.service tproxy-export.service
CONFFILES := sysusers.d/tproxy.conf tmpfiles.d/tproxy.conf modules-load.d/tproxy.conf

install: all ## install programs, man pages, completions and units (DESTDIR, PREFIX)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(SBINDIR) $(DESTDIR)$(DOCDIR)
	install -m 755 $(addprefix $(O)/,$(IN_BIN)) $(DESTDIR)$(BINDIR)
	install -m 755 $(addprefix $(O)/,$(IN_SBIN)) $(DESTDIR)$(SBINDIR)
	install -m 644 README CHANGES COPYING $(DESTDIR)$(DOCDIR)
	for page in man/*.[1-8]; do \
		install -D -m 644 -t $(DESTDIR)$(MANDIR)/man$${page##*.} $$page || exit; done
	install -D -m 644 -t $(DESTDIR)$(BASHDIR) completions/bash/*
	$(if $(wildcard completions/zsh),install -D -m 644 -t $(DESTDIR)$(ZSHDIR) completions/zsh/*)
	$(if $(wildcard completions/fish),install -D -m 644 -t $(DESTDIR)$(FISHDIR) completions/fish/*)
	install -d $(DESTDIR)$(UNITDIR)
	for unit in $(UNITFILES); do \
		sed -e '/^@SANDBOX@/ { r .packaging/systemd/sandbox' -e 'd; }' -e 's|@SBINDIR@|$(SBINDIR)|g; s|@BINDIR@|$(BINDIR)|g' \
			.packaging/systemd/$$unit.in >$(DESTDIR)$(UNITDIR)/$$unit || exit; \
		chmod 644 $(DESTDIR)$(UNITDIR)/$$unit; done
	for file in $(CONFFILES); do \
		install -D -m 644 .packaging/systemd/$${file%.d/*}.conf $(DESTDIR)$(CONFDIR)/$$file || exit; done
	install -D -m 644 -t $(DESTDIR)$(DATADIR) .packaging/prometheus/*

uninstall: ## remove exactly what install puts there
	rm -f $(addprefix $(DESTDIR)$(BINDIR)/,$(IN_BIN)) $(addprefix $(DESTDIR)$(SBINDIR)/,$(IN_SBIN))
	rm -f $(addprefix $(DESTDIR)$(BASHDIR)/,$(notdir $(wildcard completions/bash/*)))
	rm -f $(addprefix $(DESTDIR)$(ZSHDIR)/,$(notdir $(wildcard completions/zsh/*)))
	rm -f $(addprefix $(DESTDIR)$(FISHDIR)/,$(notdir $(wildcard completions/fish/*)))
	rm -f $(foreach m,$(notdir $(wildcard man/*.[1-8])),$(DESTDIR)$(MANDIR)/man$(patsubst .%,%,$(suffix $(m)))/$(m))
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITFILES)) $(addprefix $(DESTDIR)$(CONFDIR)/,$(CONFFILES))
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(DATADIR)

# What is packed is HEAD, by git alone.
OUT  ?= $(O)/dist
DIST := $(OUT)/tproxy-tools-$(VERSION).tar.gz

dist: ## a source archive of HEAD (OUT=DIR)
	$(Q)mkdir -p $(OUT)
	$(Q)git archive --format=tar --prefix=tproxy-tools-$(VERSION)/ HEAD | gzip -9n >$(DIST)
	@echo $(DIST)

deb: dist ## a Debian package of HEAD (debhelper, dh-apparmor; OUT=DIR)
	$(Q).packaging/deb $(VERSION) $(DIST) $(OUT)

deb-check: ## is it reproducible, what does lintian say, does it install and go (root, debootstrap; minutes)
	@tests/deb-check

.PHONY: deb deb-check recipes
lint: $(O)/lint/.packaging/deb.sh $(O)/lint/tests/deb-check.sh

RECIPES := rpm/tproxy-tools.spec arch/PKGBUILD openwrt/Makefile

recipes: ## what rpmbuild, makepkg and OpenWrt take (OUT=DIR)
	$(Q)for recipe in $(RECIPES); do mkdir -p $(OUT)/$${recipe%/*}; \
		sed 's/@VERSION@/$(VERSION)/' .packaging/$$recipe >$(OUT)/$$recipe || exit; done

deps: ## install what building and testing need (apt; without root: say how)
	@.ci/deps build test

deps-dev: ## the same for linting, fuzzing and benchmarks
	@.ci/deps build test lint bench

doctor-matrix: all ## every set-up that the doctor is tried on, in a quarter of an hour
	@TPROXY_BIN=$(abspath $(O)) tests/doctor-matrix

explain-matrix: all ## explain's verdict against real packets, in every set-up; in a quarter of an hour
	@TPROXY_BIN=$(abspath $(O)) tests/explain-matrix

demo: all ## show the main job in a throw-away lab
	@TPROXY_BIN=$(abspath $(O)) tests/demo

demo-scale: all ## four relays between two routers (tproxy-scale(7)): one is drained, one is killed
	@TPROXY_BIN=$(abspath $(O)) tests/demo-scale

check: all units $(CHECK_NEEDS) ## run every test, as root also as an ordinary user (FILES=... for some)
	@TPROXY_BIN=$(abspath $(O)) tests/run $(FILES)

# Counts are written at exit, also by processes that have become somebody else.
coverage: ## run the tests as root (FILES=... for some) and print the lines run, per folder (V=1: per file)
	$(Q)rm -rf build/coverage
	$(Q)$(MAKE) -s O=build/coverage SANITIZE= CFLAGS='-Og -g --coverage' CPPFLAGS=-DTPROXY_COVERAGE LDFLAGS=--coverage \
		all units $(CHECK_NEEDS:$(O)/%=build/coverage/%)
	$(Q)chmod -R a+rwX build/coverage
	$(Q)umask 0; AS=$${AS-root} GCOV_ERROR_FILE=/dev/null TPROXY_BIN=$(abspath build/coverage) tests/run $(FILES) >build/coverage/log || \
		echo "coverage: tests have failed: see build/coverage/log" >&2
	$(Q)V=$(V) tests/coverage build/coverage

portability: ## compile with musl and for 32 bits, run unit tests on a big-endian machine (qemu)
	$(Q)tests/portability/run

check-fresh: ## both README commands in a minimal Debian (root, debootstrap; FILES=... for some tests)
	@tests/fresh $(FILES)

# Each checker runs once a file, and again only when the file or what it includes has changed.
LINT_C  := $(MODULES) $(wildcard cmd/*.c tests/unit/*.c tests/fuzz/*.c tests/fault/*.c tests/attack/*.c tests/bench/*.c tests/lib/*.c \
	   tests/listen/*.c tests/soak/*.c)
LINT_SH := cmd/tproxy-lab .ci/run .ci/deps $(wildcard tests/run tests/fresh tests/demo tests/demo-scale tests/layers tests/portability/run tests/coverage tests/doctor-matrix tests/explain-matrix tests/*.bash \
	   tests/lib/*.bash tests/*.bats tests/bench/run tests/bench/setup tests/bench/inspect tests/bench/scale tests/bench/*.bash \
	   tests/soak/run completions/bash/*) completions/generate
LINTED  := $(LINT_C:%=$(O)/lint/%) $(LINT_SH:%=$(O)/lint/%.sh)

lint: $(LINTED) $(LIB) ## layers, clang-format, cppcheck, clang-tidy, shellcheck, mandoc
	$(Q)tests/layers $(O)
	$(Q)clang-format --dry-run -Werror $(LINT_C) $(HEADERS) $(wildcard tests/*/*.h)
	$(Q)mandoc -T lint -W warning man/*.[1-8]
	$(Q)for f in completions/zsh/*; do zsh -n $$f || exit; done
	$(Q)for f in completions/fish/*; do fish --no-execute $$f || exit; done

$(O)/lint/common/process/sandbox.c: $(NOTES)

$(O)/lint/%.c: %.c .clang-tidy $(HEADERS) $(wildcard tests/*/*.h)
	$(call say,LINT,$<)
	$(Q)cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=ctuuninitvar --error-exitcode=1 \
		'-Djson_array_foreach(a,i,v)=for(i=0;(v=json_array_get(a,i));i++)' \
		'-Djson_object_foreach(o,k,v)=for(k=0;(v=json_object_get(o,k));)' \
		-D_GNU_SOURCE -Icommon -Icmd $<
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- $(CPPFLAGS) -std=gnu11 -Itests/unit -Itests/fuzz \
		$(shell $(PKGCONF) --cflags $(LIBS_ALL)) 2>&1 | { ! grep -vE '^[0-9]+ warnings? generated|^Suppressed|^Use -header-filter'; }
	$(Q)mkdir -p $(@D) && touch $@

# Tests hold words in plain variables on purpose, and [ADDR]:PORT is no pattern.
BATS_LINT := -e SC2086,SC2101,SC2102

$(O)/lint/%.sh: % Makefile
	$(call say,LINT,$<)
	$(Q)shellcheck $(if $(filter %.bats,$<),$(BATS_LINT)) $<
	$(Q)mkdir -p $(@D) && touch $@

completions: all ## make zsh's and fish's completions anew from --help
	@for p in $(PROGRAMS) $(SCRIPTS); do \
		mkdir -p completions/zsh completions/fish; \
		TPROXY_BIN=$(O) completions/generate zsh $$p >completions/zsh/_$$p || exit; \
		TPROXY_BIN=$(O) completions/generate fish $$p >completions/fish/$$p.fish || exit; done

# libFuzzer, one program per file in tests/fuzz, linked with an archive of its own; new inputs and what
# the fuzzer said stay under build/corpus.
FUZZ_TIME ?= 30
FUZZERS   := $(patsubst tests/fuzz/%.c,$(O)/fuzz/%,$(wildcard tests/fuzz/*.c))

fuzz: ## fuzz every parser for FUZZ_TIME seconds each (clang)
	$(Q)$(MAKE) -s O=build/fuzz CC=clang SANITIZE=fuzzer-no-link,address,undefined run-fuzzers

run-fuzzers: $(FUZZERS)
	@for f in $(FUZZERS); do n=$${f##*/}; c=build/corpus/$$n; mkdir -p $$c; \
		$$f -max_total_time=$(FUZZ_TIME) -max_len=4096 -artifact_prefix=build/corpus/ \
			$$c tests/fuzz/corpus/$$n >$$c.log 2>&1 || { tail -n 20 $$c.log; exit 1; }; \
		printf '  FUZZ    %-12s %s\n' $$n "$$(tail -n 1 $$c.log)"; done

$(O)/fuzz/%: tests/fuzz/%.c tests/fuzz/fuzz.h $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $(shell $(PKGCONF) --cflags $(LIBS_ALL)) -fsanitize=fuzzer -o $@ $< $(LIB) \
		$(shell $(PKGCONF) --libs $(LIBS_ALL)) -pthread

clean: ## remove what was built
	$(Q)rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: all units golden install uninstall dist deps deps-dev deps-portability demo demo-scale doctor-matrix explain-matrix check check-fresh coverage portability lint fuzz completions run-fuzzers have-libraries clean help
.SUFFIXES:
.DELETE_ON_ERROR:
-include $(LIBOBJS:.o=.d) $(PROGRAMS:%=$(O)/cmd/%.d)
