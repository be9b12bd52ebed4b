# The services once more, with what an attacker would try from inside: see attack.c.
CHECK_NEEDS += attack
ATTACK_BINS := $(addprefix $(O)/attack/,tproxy-relay tproxy-listen)

attack: $(ATTACK_BINS) ## build the services with an attacker inside

$(O)/attack/attack.o: tests/attack/attack.c Makefile | have-libraries
	$(call say,CC,$<)
	$(Q)$(AS_USER) mkdir -p $(@D)
	$(Q)$(AS_USER) $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(ATTACK_BINS): $(O)/attack/%: $(O)/cmd/%.o $(O)/attack/attack.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(AS_USER) $(CC) $(CFLAGS) $(LDFLAGS) -Wl,--wrap=sandbox_enter -o $@ $(filter %.o,$^) $(LIB) \
		$(shell $(PKGCONF) --libs $(LIBS_$*)) -pthread

.PHONY: attack
-include $(O)/attack/attack.d
