# runtime.mk - the runtime as a whole: what is shown, measured and tried in every configuration

.PHONY: demo check-matrix check-systemd check-many check-conform check-hostile bench-mirror bench-forward bench-forward-vm

$(B)/demo/program: runtime/demo/program.c runtime/guest/lib/dsguest.h $(B)/lib/libdsguest.so
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 $(CFLAGS) $(WARN) -D_GNU_SOURCE -I. -o $@ $< -L$(B)/lib -ldsguest -Wl,-rpath,'$$ORIGIN/../lib'

demo: all $(B)/demo/program ## boot a stock Debian guest and show its program's memory in a process of this machine, at its own addresses
	@B=$(B) runtime/demo/run

check-matrix: tests-build ## the VM tests over two kernels, two QEMUs, two machine types, memfd and file, 256 MB to 6 GB (minutes; as root)
	@BIN=$(B)/bin tests/vm/matrix

check-systemd: tests-build ## dshost.service and dsagent.service in two guests whose process 1 is systemd (a minute; as root)
	@DS_INIT=systemd TEST_TIMEOUT=600 tests/run systemd=$(B)/bin:tests/vm/devmem.sh

check-many: tests-build ## two VMs, MANY=100 programs with devices and mapped files, everybody killed in any order, leftovers counted (two minutes; as root)
	@TEST_TIMEOUT=1500 tests/run many=$(B)/bin:tests/vm/many

check-conform: tests-build ## file system calls on a forwarded directory against the host's own, all of them; then other people's suites, intercepted (an hour; as root)
	@CONFORM_ALL=1 TEST_TIMEOUT=1200 tests/run conform=$(B)/bin:tests/cli/conform.sh
	@B=$(B) tests/intercept/suites

check-hostile: tests-build ## hostile guests against live shadows for as long as it takes to believe it (20 minutes; as root)
	@HOSTILE_SECONDS=$${HOSTILE_SECONDS:-600} HOSTILE_SEED=$${HOSTILE_SEED:-$$(date +%s)} HOSTILE_KILLS=$${HOSTILE_KILLS:-1500} TEST_TIMEOUT=1800 \
		tests/run hostile=$(B)/bin:$(call colon,$(addprefix $(B)/tests/unit/hostile_,guest paths random taken))

# Results and errors of file system calls as text.
$(B)/tests/conform/conform: $(wildcard tests/conform/*.c) tests/conform/conform.h
	$(call SAY,LINK,$@)mkdir -p $(@D) && $(CC) -std=gnu11 -O1 -g $(WARN) -D_GNU_SOURCE -I. -o $@ $(filter %.c,$^)
tests-build: $(B)/tests/conform/conform

bench-mirror: tests-build ## what a mirror costs, as ratios to bare loops, in one run (minutes; as root)
	@B=$(B) tests/bench/mirror

bench-forward: tests-build bench-intercept ## what forwarding costs: interception, a bare call, calls in a stock guest, and beside virtio-9p, virtiofs, virtio-net (a quarter of an hour; as root)
	@echo && BIN=$(B)/bin $(B)/tests/bench/forward 31
	@echo && B=$(B) tests/bench/forward_vm
	@echo && B=$(B) tests/bench/forward_peers

bench-forward-vm: tests-build ## what forwarded system calls cost in a stock guest, as ratios to the same calls on its tmpfs (a minute; as root)
	@B=$(B) tests/bench/forward_vm
