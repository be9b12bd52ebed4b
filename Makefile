# tproxy-tools: `make help` lists the targets.
VERSION  := 0.1.0
PREFIX   ?= /usr/local
DESTDIR  ?=
SBINDIR  ?= $(PREFIX)/sbin
MANDIR   ?= $(PREFIX)/share/man
DOCDIR   ?= $(PREFIX)/share/doc/tproxy-tools

CC       ?= cc
CFLAGS   ?= -O2 -g
PKGCONF  ?= pkg-config
# Where objects and binaries go; a sanitizer build lives beside the normal one.
SANITIZE ?=
O        ?= build$(if $(SANITIZE),/sanitize)

PROGRAMS := tproxy-setup tproxy-listen tproxy-relay tproxy-inspect
SCRIPTS  := tproxy-lab

# Which libraries a binary links: libtproxy.a gives it only the modules it uses.
LIBS_tproxy-setup   := libnl-3.0 libcap-ng libnftables jansson
LIBS_tproxy-listen  := libnl-3.0 libcap-ng
LIBS_tproxy-relay   := libnl-3.0 libcap-ng libseccomp
LIBS_tproxy-inspect := libnl-3.0 libnl-route-3.0 libnl-nf-3.0
LIBS_ALL := $(sort $(foreach p,$(PROGRAMS),$(LIBS_$(p))))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	    -Wwrite-strings -Wvla -Wno-unused-parameter -Wno-missing-field-initializers
HARDEN   := -fstack-protector-strong -fPIE $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
override CPPFLAGS += -D_GNU_SOURCE -DTPROXY_VERSION='"$(VERSION)"' -Icommon
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
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2)')

LIB     := $(O)/libtproxy.a
LIBOBJS := $(patsubst common/%.c,$(O)/common/%.o,$(wildcard common/*.c))
BINS    := $(addprefix $(O)/,$(PROGRAMS))

all: $(BINS) $(addprefix $(O)/,$(SCRIPTS)) ## build the programs (V=1 shows commands, O=DIR elsewhere)

$(O)/common/%.o: common/%.c Makefile | have-libraries
	$(call say,CC,$<)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(shell $(PKGCONF) --cflags $(LIBS_ALL)) -MMD -MP -c -o $@ $<

$(O)/cmd/%.o: cmd/%.c Makefile | have-libraries
	$(call say,CC,$<)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(shell $(PKGCONF) --cflags $(LIBS_ALL)) -MMD -MP -c -o $@ $<

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
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB) $(shell $(PKGCONF) --libs $(LIBS_ALL)) -pthread

# One clear line instead of a compiler's hundred.
have-libraries:
	@for l in $(LIBS_ALL); do $(PKGCONF) --exists $$l 2>/dev/null || \
		{ echo "make: $$l: not found by $(PKGCONF); 'make deps' installs what is needed" >&2; exit 1; }; done

clean: ## remove what was built
	$(Q)rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)


.PHONY: all units have-libraries clean help
.SUFFIXES:
.DELETE_ON_ERROR:
-include $(wildcard $(O)/common/*.d $(O)/cmd/*.d)
