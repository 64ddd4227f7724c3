#!/bin/bash
# devmem.sh - the provider /dev/mem, on stock kernels: two VMs, and the memory of the one is a DIMM of the other
#
# VM A gets VM B's RAM file as a pc-dimm and the kernel argument acpi_no_memhotplug, so that it leaves the DIMM alone: B's
# whole RAM is then one piece of A's physical memory outside System RAM, which a stock kernel's /dev/mem maps.  For a shadow in
# A that is the paper's setting: A is the host of B.
#
#   VM B  tests/vm/guest/devmem_peer: a process (devmem_peer.c), then dsagent and programs
#   host  devmem_host.c asks both monitors where that process is; devmem_vhost.py carries B's vsock device into A
#   VM A  tests/vm/guest/devmem: a capsule for the process (devmem_shadow.c), then dshost for the programs
#
# Both also have a card: an ivshmem-plain with memory of a file.  In A a driver serves it, the one of Hilscher's netX cards, whose device a program of B maps
# by the physical address that the card has in each (devmem_card.c), as in the paper's Section VI.  A driver's own memory is mapped from
# /dev/mem by a kernel with CONFIG_IO_STRICT_DEVMEM, such as Debian's, only with iomem=relaxed.
#
# DS_VM_KERNEL chooses another kernel, such as 6.12; with DS_VM_EMULATOR=10 that QEMU is also started by dshost run in A.  With DS_INIT=systemd
# process 1 of both is systemd, all is installed there, and dshost.service and dsagent.service do it (make check-systemd): what a service
# manager does to them is tried first.
. tests/tap.sh
. tests/vm/relay.bash
kernel=${DS_VM_KERNEL:-6.1}
tools=${BIN%/bin}/tests/vm
qemu=() init=() mb=256
if [ "${DS_INIT:-}" = systemd ]; then
	init=(--init systemd) mb=512
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s "B=$(dirname "$BIN")" "DESTDIR=$TMP/root" install >/dev/null || exit 1
fi
guest=(env "BIN=$BIN" "DS_ROOT=${init:+$TMP/root}" PYTHONDONTWRITEBYTECODE=1)
[ "${DS_VM_EMULATOR:-7.2}" = 7.2 ] || qemu=("$(tests/vm/emulators "$DS_VM_EMULATOR")")
await() { # await FILE PID: until it is there, or the process is not
	for _ in $(seq 600); do
		if [ -e "$1" ] || ! kill -0 "$2" 2>/dev/null; then break; fi
		sleep 0.1
	done
}

for pipe in peer vhost; do mkfifo "$TMP/$pipe.in" "$TMP/$pipe.out"; done
truncate -s 256M "$TMP/ram"
truncate -s 1M "$TMP/card"
card=()
for word in -object "memory-backend-file,id=card,mem-path=$TMP/card,share=on,size=1M" -device ivshmem-plain,memdev=card; do card+=(--qemu "$word"); done
tests/vm/devmem_vhost.py "$TMP/a2.qmp" "$TMP/vhost" "$TMP/b.vhost" "$TMP/ram" "$TMP/card" 2>"$TMP/vhost.err" &
vhost=$!
await "$TMP/b.vhost" $vhost
tests/vm/boot --kernel "$kernel" "${init[@]}" --mem 256 --smp 1 --ram "$TMP/ram" --qemu -qmp --qemu "unix:$TMP/b.qmp,server=on,wait=off" \
	--qemu -chardev --qemu "socket,id=vsock,path=$TMP/b.vhost" --qemu -device --qemu vhost-user-vsock-pci,chardev=vsock "${card[@]}" \
	-- "${guest[@]}" tests/vm/guest/devmem_peer >"$TMP/b.out" 2>"$TMP/b.err" &
b=$!
await "$TMP/b.qmp" $b
"$tools/devmem_host" "$TMP/a.qmp" "$TMP/b.qmp" "$TMP/b.out" "$TMP/peer.in" 2>"$TMP/host.err" &
host=$!
args=("${card[@]}")
for word in -m ${mb}M,slots=2,maxmem=8G -object "memory-backend-file,id=peer,mem-path=$TMP/ram,share=on,size=256M" \
	-device pc-dimm,memdev=peer -chardev "pipe,id=peer,path=$TMP/peer" -device virtserialport,chardev=peer,name=vm.peer \
	-chardev "pipe,id=vhost,path=$TMP/vhost" -device virtserialport,chardev=vhost,name=vm.vhost \
	-qmp "unix:$TMP/a.qmp,server=on,wait=off" -qmp "unix:$TMP/a2.qmp,server=on,wait=off"; do
	args+=(--qemu "$word")
done
vm_relay "kernel $kernel${init:+, systemd}" --kernel "$kernel" "${init[@]}" --mem $mb --smp 1 --append acpi_no_memhotplug --append iomem=relaxed "${args[@]}" -- \
	"${guest[@]}" tests/vm/guest/devmem "${qemu[@]}"
kill $host 2>/dev/null
wait $host
told=$?
# B ends when A has said its last word; if A did not come that far, it would wait for it.
for _ in $(seq 100); do kill -0 $b 2>/dev/null && sleep 0.1; done
kill $b $vhost 2>/dev/null
wait $b
status=$?
wait $vhost
if [ -s "$TMP/guest" ]; then
	while IFS= read -r line; do
		ok "$([[ $line == ok* ]]; echo $?)" "the other VM: ${line#*ok * - }"
	done < <(grep -aE '^(not )?ok ' "$TMP/b.out")
	is "$told/$status/$(grep -acE '^1\.\.' "$TMP/b.out")" 0/0/1 "the other VM came to its end"
	[ $tap_bad = 0 ] || { grep -aE '^# ' "$TMP/b.out"; sed 's/^/# /' "$TMP/b.err" "$TMP/host.err" "$TMP/vhost.err"; }
fi
tap_done
