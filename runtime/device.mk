# device.mk - clients of the host's devices, which tests run on the host and in guests: tests/device

DEVICE_CLIENTS := $(patsubst %.c,$(B)/%,$(wildcard tests/device/*.c))
# As anybody would build them: never with a sanitizer
$(B)/tests/device/%: tests/device/%.c
	$(call SAY,TOOL,$@)mkdir -p $(@D) && $(CC) -std=gnu11 -O2 -g $(WARN) -D_GNU_SOURCE -I. -o $@ $< -lpthread -ldl -lm
$(B)/tests/gpu/libcuda.so.1: tests/gpu/standin_cuda.c
	$(call SAY,TOOL,$@)mkdir -p $(@D) && $(CC) -std=gnu11 -O2 -g $(WARN) -D_GNU_SOURCE -shared -fPIC -o $@ $<
tests-build: $(DEVICE_CLIENTS) $(B)/tests/gpu/libcuda.so.1

bench-device: tests-build ## what the host's devices cost in a stock guest, and in a container, beside the same on the host (a minute; as root)
	@B=$(B) tests/bench/device_vm
	@echo && B=$(B) tests/bench/device_container
.PHONY: bench-device

check-device: tests-build ## devices of the host in a stock guest and in a container, with a QEMU there that boots its firmware by the host's KVM (a minute or two; as root)
	DEVICE_FULL=1 BIN=$(B)/bin tests/run tests/vm/device.sh tests/cli/container.sh
.PHONY: check-device

gpu-check: tests-build ## CUDA programs on this machine's GPU: on the host, in a container, in a stock guest; says where each stops (as root)
	@B=$(B) tests/gpu/check
.PHONY: gpu-check
