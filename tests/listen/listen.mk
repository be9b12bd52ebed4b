# SPDX-License-Identifier: GPL-2.0-or-later
#
# make soak-listen, make bench-listen: tproxy-listen over very many connections. SOAK=N: so many.

CHECK_NEEDS += $(O)/tests/conngen

$(O)/tests/conngen: tests/listen/conngen.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB) -pthread

soak-listen: ## 100,000 connections with a command each, in a sanitizer build
	$(Q)$(MAKE) $(if $(Q),-s) SANITIZE=address,undefined O=build/sanitize \
		build/sanitize/tproxy-listen build/sanitize/tproxy-setup build/sanitize/tproxy-lab \
		build/sanitize/tests/conngen
	$(Q)TPROXY_BIN=build/sanitize tests/listen/soak $(SOAK)

bench-listen: $(addprefix $(O)/,tproxy-listen tproxy-lab tests/conngen) ## compare tproxy-listen with tcpserver and socat
	$(Q)TPROXY_BIN=$(O) tests/listen/bench $(ROUNDS)

.PHONY: soak-listen bench-listen
