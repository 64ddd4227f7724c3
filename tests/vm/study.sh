#!/bin/bash
# study.sh - the study on a stock Debian 12 kernel, in a guest: what tests/vm/guest/study does there
# DS_VM_KERNEL chooses another kernel, such as 6.12.
. tests/tap.sh
. tests/vm/relay.bash
kernel=${DS_VM_KERNEL:-6.1}

# Two NUMA nodes, so that pages can be made to migrate.
numa=()
for word in -object memory-backend-ram,id=n0,size=512M -object memory-backend-ram,id=n1,size=512M \
	-numa node,memdev=n0,cpus=0-1 -numa node,memdev=n1; do
	numa+=(--qemu "$word")
done
vm_relay "kernel $kernel" --kernel "$kernel" --mem 1024 --smp 2 "${numa[@]}" -- env "BIN=$BIN" tests/vm/guest/study
tap_done
