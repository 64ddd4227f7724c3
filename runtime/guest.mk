# guest.mk - what runs in the guest: dsmap, and guest.a with what the agent, the library and tests share

$(B)/lib/guest.a: $(call obj,runtime/guest/pin.c)

$(B)/bin/dsmap: $(call obj,runtime/guest/dsmap.c runtime/guest/dsmap_options.c runtime/guest/mapprint.c) $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle)
BINS += $(B)/bin/dsmap
all tests-build tsan-build: $(B)/bin/dsmap

TESTLIBS := $(B)/lib/guest.a $(TESTLIBS)
