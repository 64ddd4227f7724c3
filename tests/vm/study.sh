#!/bin/bash
# study.sh - the study on a stock Debian 12 kernel, in a guest: what tests/vm/guest/study does there
# DS_VM_KERNEL chooses another kernel, such as 6.12.
. tests/tap.sh
. tests/vm/relay.bash
kernel=${DS_VM_KERNEL:-6.1}
vm_numa 512M 512M
vm_relay "kernel $kernel" --kernel "$kernel" --mem 1024 --smp 2 "${numa[@]}" -- env "BIN=$BIN" tests/vm/guest/study
tap_done
