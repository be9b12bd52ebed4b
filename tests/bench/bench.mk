# SPDX-License-Identifier: GPL-2.0-or-later
#
# make bench: tproxy-relay beside other relays. BENCH=OPTIONS goes to tests/bench/run (--help).

BENCH_NEEDS := $(addprefix $(O)/,tproxy-relay tproxy-setup tproxy-lab bench/hold)

$(O)/bench/hold: tests/bench/hold.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB)

$(O)/bench/forward: tests/bench/forward.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB)

bench: $(BENCH_NEEDS) ## compare tproxy-relay with other relays (15 minutes)
	$(Q)tests/bench/run --bin $(O) --output $(O)/bench $(BENCH)

bench-quick: $(BENCH_NEEDS) ## the same in 3 minutes: fewer workloads, fewer rounds
	$(Q)tests/bench/run --quick --bin $(O) --output $(O)/bench $(BENCH)

bench-setup: $(addprefix $(O)/,tproxy-setup tproxy-listen tproxy-lab tests/knock bench/forward) ## what tproxy-setup costs: up and down, and the rules everybody else's packets
	$(Q)TPROXY_BIN=$(abspath $(O)) tests/bench/setup

.PHONY: bench bench-quick bench-setup
