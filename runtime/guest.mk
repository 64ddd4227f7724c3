# guest.mk - what runs in the guest: dsmap, and guest.a with what the agent, the library and tests share

$(B)/lib/guest.a: $(call obj,$(wildcard runtime/guest/helper/*.c) $(addprefix runtime/guest/monitor/,lend.c monitor.c monitor_lend.c)) \
	$(B)/obj/runtime/guest/helper/helper.o

$(B)/obj/%.o: %.S
	@mkdir -p $(@D)
	$(call SAY,AS,$<)$(CC) -I. -g -MMD -MP -c -o $@ $<

$(B)/bin/dsmap: $(call obj,$(wildcard runtime/guest/map/*.c) runtime/guest/agent/agent_ask.c) $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle)
BINS += $(B)/bin/dsmap
all tests-build: $(B)/bin/dsmap

TESTLIBS := $(B)/lib/guest.a $(TESTLIBS)

AGENT := $(wildcard runtime/guest/agent/agent_*.c)
# Everything of dsagent but its main(): what unit tests are linked with.
$(B)/lib/agent.a: $(call obj,$(AGENT))
TESTLIBS := $(B)/lib/agent.a $(TESTLIBS)
$(B)/bin/dsagent: $(call obj,runtime/guest/agent/dsagent.c) $(B)/lib/agent.a $(B)/lib/guest.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle)
BINS += $(B)/bin/dsagent
all tests-build: $(B)/bin/dsagent
AGENT_PURE := runtime/guest/agent/agent_local.c runtime/guest/agent/agent_hostmsg.c
$(B)/fuzz/local $(B)/fuzz/hostmsg: $(patsubst %.c,$(B)/obj/fuzz/%.o,$(AGENT_PURE))

# The library that dsrun loads into programs: never built with a sanitizer.
LIBDSGUEST_SRC := runtime/guest/lib/libdsguest.c runtime/guest/lib/libdsguest_wrap.c
$(B)/lib/libdsguest.so: $(LIBDSGUEST_SRC) runtime/guest/lib/libdsguest.h runtime/guest/lib/dsguest.h runtime/guest/local.h
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 $(CFLAGS) $(WARN) -fPIC -shared -fvisibility=hidden -ftls-model=initial-exec \
		-D_GNU_SOURCE -I. -Wl,-soname,libdsguest.so -Wl,-z,defs -Wl,-z,nodelete -o $@ $(LIBDSGUEST_SRC)
all tests-build: $(B)/lib/libdsguest.so
$(B)/bin/dsrun: $(call obj,$(wildcard runtime/guest/run/*.c runtime/guest/monitor/*.c) $(addprefix runtime/guest/,agent/agent_ask.c helper/tracee.c helper/tracer.c forward/rules.c forward/paths.c forward/policy_text.c))
	$(LINK)
BINS += $(B)/bin/dsrun
all tests-build: $(B)/bin/dsrun
$(B)/tests/tools/dsguest_subject: tests/tools/dsguest_subject.c $(B)/lib/libdsguest.so
	$(call SAY,TOOL,$@)mkdir -p $(@D) && $(CC) -std=gnu11 $(CFLAGS) $(WARN) -D_GNU_SOURCE -I. -o $@ $< -L$(B)/lib -ldsguest -Wl,-rpath,'$$ORIGIN/../../lib'
