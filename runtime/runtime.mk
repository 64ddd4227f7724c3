# runtime.mk - the runtime as a whole: what is shown, measured and tried in every configuration

.PHONY: demo check-matrix bench-mirror

demo: all ## boot a stock Debian guest and show its program's memory in a process of this machine, at its own addresses
	@B=$(B) runtime/demo

check-matrix: tests-build ## the VM tests over two kernels, two QEMUs, two machine types, memfd and file, 256 MB to 6 GB (minutes; as root)
	@BIN=$(B)/bin tests/vm/matrix

bench-mirror: tests-build ## what a mirror costs, as ratios to bare loops, in one run (minutes; as root)
	@B=$(B) tests/bench/mirror
