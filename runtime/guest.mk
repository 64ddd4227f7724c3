# guest.mk - what runs in the guest: dsmap

$(B)/bin/dsmap: $(call obj,runtime/guest/dsmap.c runtime/guest/dsmap_options.c runtime/guest/mapprint.c) $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle)
BINS += $(B)/bin/dsmap
all tests-build tsan-build: $(B)/bin/dsmap
