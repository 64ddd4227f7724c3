# host.mk - the host side of the runtime: dshost, and host.a with what it, unit tests and fuzz targets share

HOST := $(filter-out runtime/host/dshost.c,$(wildcard runtime/host/*.c runtime/host/*/*.c))
$(B)/lib/host.a: $(call obj,$(HOST)) $(B)/vmm/helper.o

# The code that goes into a VMM (runtime/host/window/vmmhelper.h): one section, which refers to nothing else.  Never built with a sanitizer.
VMM_CFLAGS := -std=gnu11 -O2 -g $(WARN) -fPIC -ffreestanding -mgeneral-regs-only -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -fno-toplevel-reorder -fno-jump-tables -minline-all-stringops \
	-U_FORTIFY_SOURCE -D_GNU_SOURCE -I. -MMD -MP -MF $(B)/vmm/helper.d -MT $(B)/vmm/helper.o
$(B)/vmm/helper.o: runtime/host/window/vmm/helper.c
	@mkdir -p $(@D)
	$(call SAY,VMM,$<)$(CC) $(VMM_CFLAGS) -c -o $@.tmp $< && ! nm -u $@.tmp | grep . && ! objdump -h $@.tmp | grep -E ' \.(ro)?data[^ ]* +0*[1-9a-f]' && \
		objcopy --rename-section .text=vmm_text,alloc,load,readonly,data,contents $@.tmp $@ && rm $@.tmp
-include $(B)/vmm/helper.d
# A VMM that must not be traced is started with it; never built with a sanitizer.
$(B)/lib/libdswindow.so: runtime/host/window/vmm/preload.c $(B)/vmm/helper.o runtime/host/window/vmmhelper.h
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 $(CFLAGS) $(WARN) -fPIC -shared -fvisibility=hidden -D_GNU_SOURCE -I. \
		-Wl,-soname,libdswindow.so -Wl,-z,defs -Wl,-z,nodelete -o $@ $(filter %.c %.o,$^)
all tests-build: $(B)/lib/libdswindow.so

$(B)/bin/dshost: $(B)/obj/runtime/host/dshost.o $(B)/lib/host.a $(B)/lib/shadow.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle) -ljson-c
BINS += $(B)/bin/dshost
all tests-build: $(B)/bin/dshost

TESTLIBS := $(B)/lib/host.a $(TESTLIBS)

FUZZ_HOST := $(patsubst %.c,$(B)/obj/fuzz/%.o,$(HOST) runtime/shadow/place.c runtime/shadow/plan.c) $(B)/vmm/helper.o
$(B)/fuzz/mtree $(B)/fuzz/vhostuser $(B)/fuzz/vsock $(B)/fuzz/policy $(B)/fuzz/control $(B)/fuzz/agentmsg: $(FUZZ_HOST)
