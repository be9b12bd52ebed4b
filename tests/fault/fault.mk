# The programs once more, with calls that tests can make fail: see fault.c.
FAULTS := ${shell sed -n 's|^FAULT_[A-Z]*(\([a-z0-9_]*\),.*|-Wl,--wrap=\1|p' tests/fault/fault.c}
CHECK_NEEDS += fault
FAULT_BINS := $(addprefix $(O)/fault/,$(PROGRAMS))

fault: $(FAULT_BINS) ## build the programs with calls that tests can make fail

$(O)/fault/fault.o: tests/fault/fault.c Makefile | have-libraries
	$(call say,CC,$<)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) $(shell $(PKGCONF) --cflags libnl-3.0) -MMD -MP -c -o $@ $<

$(FAULT_BINS): $(O)/fault/%: $(O)/cmd/%.o $(O)/fault/fault.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) $(CC) $(CFLAGS) $(LDFLAGS) $(FAULTS) -o $@ $(filter %.o,$^) $(LIB) \
		$(shell $(PKGCONF) --libs libnl-3.0 $(LIBS_$*)) -pthread

soak-fault: all fault ## every single call and allocation fails once
	@TPROXY_BIN=$(abspath $(O)) TPROXY_FAULT_STEP=1 BATS_TEST_TIMEOUT=1200 tests/run tests/fault.bats

.PHONY: fault soak-fault
-include $(O)/fault/fault.d
