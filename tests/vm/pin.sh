#!/bin/bash
# pin.sh - pinned pages keep their frames whatever the kernel does, in a stock guest
# DS_VM_KERNEL chooses another kernel, such as 6.12.
. tests/tap.sh
. tests/vm/relay.bash
kernel=${DS_VM_KERNEL:-6.1}
vm_numa 512M 256M
vm_relay "kernel $kernel" --kernel "$kernel" --mem 768 --smp 2 "${numa[@]}" -- env "BIN=$BIN" tests/vm/guest/pin
tap_done
