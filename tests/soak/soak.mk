# SPDX-License-Identifier: GPL-2.0-or-later
#
# make soak: loads that are checked byte for byte. SOAK=OPTIONS goes to tests/soak/run (--help).

$(O)/tests/life: tests/soak/life.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB) -pthread

SOAK_PROGRAMS := tproxy-relay tproxy-setup tproxy-lab

soak: $(SOAK_PROGRAMS:%=$(O)/%) $(O)/tests/life ## 200,000 relayed connections and more, checked at both ends (15 minutes)
	$(Q)$(MAKE) $(if $(Q),-s) SANITIZE=address,undefined O=$(O)/sanitize $(SOAK_PROGRAMS:%=$(O)/sanitize/%)
	$(Q)tests/soak/run --bin $(O) $(SOAK)

# Programs that are missing are skipped, by name; `.ci/deps test peers` installs them.
soak-udp: all ## UDP between unmodified programs, with thousands of exchanges (3 minutes)
	$(Q)PEERS_SCALE=$(or $(PEERS_SCALE),10) TPROXY_BIN=$(abspath $(O)) bats tests/relay-udp-peers.bats tests/soak/udp-peers.bats

soak-all: soak soak-udp soak-listen soak-fault ## all that takes too long for make check

.PHONY: soak soak-all soak-udp
