#!/bin/bash
# devmem.sh - the provider /dev/mem, on stock kernels: two VMs, and the memory of the one is a DIMM of the other
#
# VM A gets VM B's RAM file as a pc-dimm and the kernel argument acpi_no_memhotplug, so that it leaves the DIMM alone: B's
# whole RAM is then one piece of A's physical memory outside System RAM, which a stock kernel's /dev/mem maps.  For a shadow in
# A that is the paper's setting: A is the host of B.  tests/vm/devmem_peer.c is the process in B, devmem_shadow.c plays the
# host in A, devmem_host.c asks both monitors.  DS_VM_KERNEL chooses another kernel, such as 6.12.
. tests/tap.sh
. tests/vm/relay.bash
kernel=${DS_VM_KERNEL:-6.1}
tools=${BIN%/bin}/tests/vm

tests/vm/boot --kernel "$kernel" --mem 256 --smp 1 --ram "$TMP/ram" --qemu -qmp --qemu "unix:$TMP/b.qmp,server=on,wait=off" \
	-- "$tools/devmem_peer" >"$TMP/b.out" 2>"$TMP/b.err" &
b=$!
for _ in $(seq 300); do
	if [ -S "$TMP/b.qmp" ] || ! kill -0 $b 2>/dev/null; then break; fi
	sleep 0.1
done
mkfifo "$TMP/peer.in" "$TMP/peer.out"
"$tools/devmem_host" "$TMP/a.qmp" "$TMP/b.qmp" "$TMP/b.out" "$TMP/peer.in" 2>"$TMP/host.err" &
host=$!
args=()
for word in -m 256M,slots=2,maxmem=8G -object "memory-backend-file,id=peer,mem-path=$TMP/ram,share=on,size=256M" \
	-device pc-dimm,memdev=peer -chardev "pipe,id=peer,path=$TMP/peer" -device virtserialport,chardev=peer,name=vm.peer \
	-qmp "unix:$TMP/a.qmp,server=on,wait=off"; do
	args+=(--qemu "$word")
done
vm_relay "kernel $kernel" --kernel "$kernel" --mem 256 --smp 1 --append acpi_no_memhotplug "${args[@]}" -- \
	env "BIN=$BIN" tests/vm/guest/devmem
kill $host 2>/dev/null
wait $host
told=$?
# The process in B ends when A has said its last word; if A did not come that far, it would wait for it.
for _ in $(seq 50); do kill -0 $b 2>/dev/null && sleep 0.1; done
kill $b 2>/dev/null
wait $b
status=$?
if [ -s "$TMP/guest" ]; then
	is "$told/$status" 0/0 "the process in the other VM saw every word and every store"
	sed 's/^/# /' "$TMP/b.err" "$TMP/host.err"
fi
tap_done
