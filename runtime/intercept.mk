# intercept.mk - the interception of system calls: freestanding code that is linked into libraries which programs preload
#
# No vector registers, no stack protector (thread-local storage), no C library; unwind tables, so that cancellation passes.

INTERCEPT_SRC := $(wildcard runtime/guest/intercept/*.c)
INTERCEPT_OBJ := $(INTERCEPT_SRC:%.c=$(B)/intercept/%.o) $(B)/intercept/runtime/guest/intercept/entry.o
INTERCEPT_CFLAGS := -std=gnu11 -O2 -g $(WARN) -fPIC -ffreestanding -mgeneral-regs-only -fvisibility=hidden -fno-stack-protector \
	-fcf-protection=none -fasynchronous-unwind-tables -fno-tree-loop-distribute-patterns -U_FORTIFY_SOURCE -D_GNU_SOURCE -I. -MMD -MP

$(B)/intercept/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,CC,$<)$(CC) $(INTERCEPT_CFLAGS) -c -o $@ $<
$(B)/intercept/%.o: %.S
	@mkdir -p $(@D)
	$(call SAY,CC,$<)$(CC) -I. -g -MMD -MP -c -o $@ $<

# initfirst: its constructor runs before those of every other library
$(B)/tests/intercept/probe.so: $(B)/intercept/tests/intercept/probe.o $(INTERCEPT_OBJ)
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -shared -nostdlib -Wl,-z,initfirst -Wl,-z,defs -Wl,--build-id=none -o $@ $^
$(B)/tests/intercept/cases: $(wildcard tests/intercept/cases*.c) tests/intercept/cases.h
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 -O1 -g $(WARN) -D_GNU_SOURCE -I. -o $@ $(filter %.c,$^) -lpthread -ldl
# The same through ptrace, to compare with
$(B)/tests/intercept/oracle: $(call obj,tests/intercept/oracle.c $(addprefix runtime/guest/,monitor/monitor.c monitor/monitor_lend.c helper/tracee.c helper/tracer.c))
	$(LINK)

$(B)/tests/bench/intercept_calls: tests/bench/intercept_calls.c
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 -O2 -g $(WARN) -D_GNU_SOURCE -I. -o $@ $< -lpthread

bench-intercept: $(B)/tests/bench/intercept_calls $(B)/tests/intercept/probe.so $(B)/tests/intercept/oracle ## what intercepting system calls costs, as ratios to calls and programs without (a minute)
	@B=$(B) tests/bench/intercept

check-intercept: $(B)/tests/intercept/probe.so ## other people's test suites with every system call intercepted, each beside a run without (half an hour)
	@B=$(B) tests/intercept/suites

.PHONY: bench-intercept check-intercept
tests-build: $(B)/tests/intercept/probe.so $(B)/tests/intercept/cases $(B)/tests/intercept/oracle
-include $(shell find $(B)/intercept -name '*.d' 2>/dev/null)

# --- forwarding ---------------------------------------------------------------------------------------------------
# Names of system calls and errors, from the compiler's headers.
$(B)/gen/syscall_names.h: runtime/intercept.mk
	@mkdir -p $(@D)
	@echo '#include <asm/unistd.h>' | $(CC) -E -dM - | sed -nE 's/^#define __NR_([a-z0-9_]+) ([0-9]+)$$/[\2] = "\1",/p' | sort -u >$@
$(B)/gen/errno_names.h: runtime/intercept.mk
	@mkdir -p $(@D)
	@echo '#include <errno.h>' | $(CC) -E -dM - | sed -nE 's/^#define (E[A-Z0-9]+) ([0-9]+)$$/[\2] = "\1",/p' | sort -u >$@

FORWARD_SRC := $(wildcard runtime/guest/forward/*.c) runtime/container/task.c
FORWARD_OBJ := $(FORWARD_SRC:%.c=$(B)/intercept/%.o)
FORWARD_LINK = mkdir -p $(@D) && $(CC) -shared -nostdlib -Wl,-z,initfirst -Wl,-z,defs -Wl,--build-id=none -Wl,-soname,$(@F) -o $@ $(filter %.o,$^)
$(B)/intercept/runtime/guest/forward/rules.o $(B)/obj/runtime/guest/forward/rules.o $(B)/obj/fuzz/runtime/guest/forward/rules.o: \
	$(B)/gen/syscall_names.h $(B)/gen/errno_names.h
$(B)/intercept/runtime/guest/forward/rules.o: INTERCEPT_CFLAGS += -I$(B)/gen
$(B)/obj/runtime/guest/forward/rules.o: ALL_CFLAGS += -I$(B)/gen
$(B)/obj/fuzz/runtime/guest/forward/rules.o: ALL_CFLAGS += -I$(B)/gen
$(B)/lib/libdsforward.so: $(FORWARD_OBJ) $(INTERCEPT_OBJ)
	$(call SAY,LINK,$@)$(FORWARD_LINK)
all tests-build: $(B)/lib/libdsforward.so

# What of it is pure, for unit tests.
$(B)/lib/forward.a: $(call obj,$(addprefix runtime/guest/forward/,rules.c paths.c policy_text.c interest.c))
TESTLIBS := $(B)/lib/forward.a $(TESTLIBS)
$(B)/fuzz/guest_policy: $(addprefix $(B)/obj/fuzz/runtime/guest/forward/,rules.o policy_text.o)
# The same library with a host in it that is a task of the program's own memory: for tests without a virtual machine.
$(B)/tests/intercept/forward_native.so: $(FORWARD_OBJ) $(INTERCEPT_OBJ) $(B)/intercept/tests/intercept/forward_host.o
	$(call SAY,LINK,$@)$(FORWARD_LINK) -Wl,--wrap=forward_pool_start
tests-build: $(B)/tests/intercept/forward_native.so
$(B)/tests/intercept/estates: $(B)/obj/tests/intercept/estates.o $(B)/lib/host.a $(B)/lib/shadow.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle) -ljson-c
tests-build: $(B)/tests/intercept/estates
$(B)/tests/intercept/forward_cases: $(wildcard tests/intercept/forward_cases*.c) tests/intercept/forward_cases.h
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 -O1 -g $(WARN) -D_GNU_SOURCE -I. -o $@ $(filter %.c,$^) -lpthread
tests-build: $(B)/tests/intercept/forward_cases
