# host.mk - the host side of the runtime, so far as a library: runtime/host/*.c in host.a, which unit tests and fuzz targets
# are linked with

HOST := $(wildcard runtime/host/*.c)
$(B)/lib/host.a: $(call obj,$(HOST))
TESTLIBS := $(B)/lib/host.a $(TESTLIBS)

FUZZ_HOST := $(patsubst %.c,$(B)/obj/fuzz/%.o,$(HOST))
$(B)/fuzz/mtree $(B)/fuzz/vhostuser: $(FUZZ_HOST)
