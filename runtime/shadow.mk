# shadow.mk - capsules: one freestanding, relocatable executable a service, build/shadow/NAME
#
# runtime/services/NAME.c is a service of the product, tests/services/NAME.c one for tests; each is linked with all of
# runtime/shadow and the parts of rle/ that need no C library.  Capsules are never built with a sanitizer.
# The pure parts of runtime/shadow are also compiled natively, into shadow.a, for dshost and for tests.

CAPSULE_SERVICES := $(wildcard runtime/services/*.c tests/services/*.c)
CAPSULES := $(patsubst %.c,$(B)/shadow/%,$(notdir $(CAPSULE_SERVICES)))
CAPSULE_SRC := $(wildcard runtime/shadow/*.c) rle/map.c rle/mapops.c rle/mapmerge.c
CAPSULE_OBJ := $(CAPSULE_SRC:%.c=$(B)/capsule/%.o) $(B)/capsule/runtime/shadow/start.o
CAPSULE_CFLAGS := -std=gnu11 -O2 -g $(WARN) -fPIC -ffreestanding -fvisibility=hidden -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections -U_FORTIFY_SOURCE -DXXH_INLINE_ALL -D_GNU_SOURCE -I. -MMD -MP
CAPSULE_LDFLAGS := -static-pie -nostdlib -nostartfiles -Wl,--no-dynamic-linker -Wl,-z,text -Wl,-z,norelro -Wl,--gc-sections \
	-Wl,--build-id=none -Wl,--fatal-warnings -Wl,-T,runtime/shadow/capsule.ld

$(B)/lib/shadow.a: $(patsubst %.c,$(B)/obj/%.o,runtime/shadow/params.c runtime/shadow/place.c runtime/shadow/plan.c)

$(B)/capsule/%.o: %.c
	@mkdir -p $(@D)
	$(call SAY,CAPSULE,$<)$(CC) $(CAPSULE_CFLAGS) -c -o $@ $<
$(B)/capsule/%.o: %.S
	@mkdir -p $(@D)
	$(call SAY,CAPSULE,$<)$(CC) -I. -g -MMD -MP -c -o $@ $<

capsule_link = $(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) $(CAPSULE_LDFLAGS) -o $@ $(filter %.o,$^)
$(B)/shadow/%: $(B)/capsule/runtime/services/%.o $(CAPSULE_OBJ) runtime/shadow/capsule.ld
	$(capsule_link)
$(B)/shadow/%: $(B)/capsule/tests/services/%.o $(CAPSULE_OBJ) runtime/shadow/capsule.ld
	$(capsule_link)

TESTLIBS := $(B)/lib/shadow.a $(TESTLIBS)

capsules: $(CAPSULES) ## build the capsules into build/shadow
.PHONY: capsules
all tests-build: $(CAPSULES)
-include $(shell find $(B)/capsule -name '*.d' 2>/dev/null)
$(B)/fuzz/shadow_params: $(patsubst %.c,$(B)/obj/fuzz/%.o,runtime/shadow/params.c runtime/shadow/place.c runtime/shadow/plan.c)
