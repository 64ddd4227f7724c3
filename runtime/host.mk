# host.mk - the host side of the runtime: dshost, and host.a with what it, unit tests and fuzz targets share

HOST := $(filter-out runtime/host/dshost.c,$(wildcard runtime/host/*.c))
$(B)/lib/host.a: $(call obj,$(HOST))

$(B)/bin/dshost: $(B)/obj/runtime/host/dshost.o $(B)/lib/host.a $(B)/lib/shadow.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle) -ljson-c
BINS += $(B)/bin/dshost
all tests-build tsan-build: $(B)/bin/dshost

TESTLIBS := $(B)/lib/host.a $(TESTLIBS)

FUZZ_HOST := $(patsubst %.c,$(B)/obj/fuzz/%.o,$(HOST) runtime/shadow/place.c runtime/shadow/plan.c)
$(B)/fuzz/mtree $(B)/fuzz/vhostuser $(B)/fuzz/vsock $(B)/fuzz/policy $(B)/fuzz/control $(B)/fuzz/agentmsg: $(FUZZ_HOST)
