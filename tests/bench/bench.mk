# SPDX-License-Identifier: GPL-2.0-or-later
#
# make bench: tproxy-relay beside other relays. BENCH=OPTIONS goes to tests/bench/run (--help).
#
# What a change has done is measured in one run, beside a build from before it, as runs differ:
#
#	make bench-before REV=304854f
#	make bench bench-setup BEFORE=build/before/build

BENCH_NEEDS := $(addprefix $(O)/,tproxy-relay tproxy-setup tproxy-lab bench/hold)

$(O)/bench/hold: tests/bench/hold.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB)

$(O)/bench/forward: tests/bench/forward.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB)

$(O)/bench/datagrams: tests/bench/datagrams.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB)

$(O)/bench/sockets: tests/bench/sockets.c $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(LIB)

REV ?= HEAD~1
BEFORE ?=
OTHER := $(if $(BEFORE),--other $(BEFORE)/tproxy-relay)

bench-before: ## build REV (HEAD~1) in build/before: make bench bench-setup BEFORE=build/before/build
	$(Q)$(AS_USER) rm -rf $(O)/before
	$(Q)$(AS_USER) mkdir -p $(O)/before
	$(Q)$(AS_USER) git archive $(REV) | $(AS_USER) tar -x -C $(O)/before
	$(Q)$(AS_USER) env -u MAKEFLAGS -u MAKEOVERRIDES $(MAKE) -s -C $(O)/before all

bench: $(BENCH_NEEDS) ## compare tproxy-relay with other relays (15 minutes)
	$(Q)tests/bench/run --bin $(O) --output $(O)/bench $(OTHER) $(BENCH)

bench-quick: $(BENCH_NEEDS) ## the same in 3 minutes: fewer workloads, fewer rounds
	$(Q)tests/bench/run --quick --bin $(O) --output $(O)/bench $(OTHER) $(BENCH)

bench-udp: $(addprefix $(O)/,tproxy-relay tproxy-setup tproxy-lab bench/datagrams) ## the same for datagrams (10 minutes)
	$(Q)tests/bench/run --udp --minutes 10 --bin $(O) --output $(O)/bench-udp $(OTHER) $(BENCH)

bench-setup: $(addprefix $(O)/,tproxy-setup tproxy-listen tproxy-lab tests/conngen bench/forward) ## what tproxy-setup costs: up and down, and the rules everybody else's packets
	$(Q)TPROXY_BIN=$(abspath $(O)) BEFORE=$(if $(BEFORE),$(abspath $(BEFORE))) tests/bench/setup

bench-inspect: $(addprefix $(O)/,tproxy-inspect tproxy-setup tproxy-listen bench/sockets) ## what tproxy-inspect costs beside ss(8) with 200,000 sockets, and explain beside 20,000 rules
	$(Q)TPROXY_BIN=$(abspath $(O)) tests/bench/inspect

bench-scale: all ## what 1, 2 and 4 relays carry between two routers (tproxy-scale(7)), in a minute
	$(Q)TPROXY_BIN=$(abspath $(O)) tests/bench/scale

.PHONY: bench bench-before bench-inspect bench-quick bench-scale bench-setup bench-udp
