# container.mk - programs of a container: the host's end, dscontainer; the task itself is part of libdsforward.so (intercept.mk)

CONTAINER := runtime/container/client.c runtime/container/place.c runtime/container/server.c
$(B)/bin/dscontainer: $(call obj,runtime/container/dscontainer.c $(CONTAINER)) $(B)/lib/agent.a $(B)/lib/guest.a $(B)/lib/host.a $(B)/lib/shadow.a $(B)/lib/rle.a
	$(LINK) $(LDLIBS_rle) -ljson-c
BINS += $(B)/bin/dscontainer
all tests-build: $(B)/bin/dscontainer
