# guest.mk - what runs in the guest: dsmap, and guest.a with what the agent, the library and tests share

$(B)/lib/guest.a: $(call obj,runtime/guest/pin.c runtime/guest/remote.c runtime/guest/tracee.c runtime/guest/inject.c runtime/guest/freeze.c) \
	$(B)/obj/runtime/guest/helper.o

$(B)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(call SAY,AS,$<)$(CC) -I. -g -MMD -MP -c -o $@ $<

$(B)/bin/dsmap: $(call obj,runtime/guest/dsmap.c runtime/guest/dsmap_options.c runtime/guest/mapprint.c) $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle)
BINS += $(B)/bin/dsmap
all tests-build tsan-build: $(B)/bin/dsmap

TESTLIBS := $(B)/lib/guest.a $(TESTLIBS)

AGENT := $(wildcard runtime/guest/agent_*.c)
# Everything of dsagent but its main(): what unit tests are linked with.
$(B)/lib/agent.a: $(call obj,$(AGENT))
TESTLIBS := $(B)/lib/agent.a $(TESTLIBS)
$(B)/bin/dsagent: $(call obj,runtime/guest/dsagent.c) $(B)/lib/agent.a $(B)/lib/guest.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle)
BINS += $(B)/bin/dsagent
all tests-build tsan-build: $(B)/bin/dsagent
AGENT_PURE := runtime/guest/agent_local.c runtime/guest/agent_hostmsg.c
$(B)/fuzz/local $(B)/fuzz/hostmsg: $(patsubst %.c,$(B)/obj/fuzz/%.o,$(AGENT_PURE))
