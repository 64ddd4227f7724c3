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

tests-build: $(B)/tests/intercept/probe.so $(B)/tests/intercept/cases
-include $(shell find $(B)/intercept -name '*.d' 2>/dev/null)
