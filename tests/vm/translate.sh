#!/bin/bash
# translate.sh - from a guest process's frames to pages of the VM's RAM file, with a stock kernel and a stock QEMU
#
# Three VMs, one after the other: pc, which is also reset; q35 with most of its RAM above 4 GiB (max-ram-below-4g makes that
# layout with little memory); and one whose memory is private to QEMU, which must be refused.  The second one gets a
# DIMM.  tests/vm/translate_guest.c fills pages and tells its map, tests/vm/translate_host.c plays the host.
# DS_VM_KERNEL chooses another kernel, such as 6.12, DS_VM_EMULATOR another QEMU, DS_VM_RAM=file a file instead of a memfd.
. tests/tap.sh
kernel=${DS_VM_KERNEL:-6.1}
backend=memory-backend-memfd
if [ "${DS_VM_RAM:-memfd}" = file ]; then backend=memory-backend-file,mem-path=$TMP/ram; fi
tools=${BIN%/bin}/tests/vm

vm() { # vm WHERE MB MACHINE RESETS HIGH; HIGH private: share=off
	local where=$1 host status line what n=0 plan='' args=() word share=on want=0
	if [ "$5" = private ]; then share=off want=125; fi # 125: the host ends that VM before the guest can report
	rm -f "$TMP"/{vhost,qmp,guest,tap,ram}
	for word in -m "$2M,slots=1,maxmem=2G" -object "$backend,id=mem0,share=$share,size=$2M" -machine "$3,memory-backend=mem0" \
		-action reboot=reset -qmp "unix:$TMP/qmp,server=on,wait=off" \
		-chardev "socket,id=vhost,path=$TMP/vhost" -device vhost-user-vsock-pci,chardev=vhost; do
		args+=(--qemu "$word")
	done
	: >"$TMP/guest"
	"$tools/translate_host" "$TMP/vhost" "$TMP/qmp" "$TMP/guest" "$4" "$5" >"$TMP/tap" 2>&1 &
	host=$!
	for _ in $(seq 100); do [ -S "$TMP/vhost" ] && break || sleep 0.1; done
	tests/vm/boot --kernel "$kernel" --mem "$2" --smp 1 "${args[@]}" -- \
		sh -c 'modprobe vmw_vsock_virtio_transport && exec "$0"' "$tools/translate_guest" >"$TMP/guest" 2>"$TMP/err"
	status=$?
	if [ $status = 77 ]; then
		kill $host
		wait $host 2>/dev/null
		skip "$where" "$(head -n 1 "$TMP/err")"
		return
	fi
	wait $host
	while IFS= read -r line; do
		what=${line#*ok * - }
		case $line in
		'ok '*) ok 0 "$where: $what" && n=$((n + 1)) ;;
		'not ok '*) ok 1 "$where: $what" && n=$((n + 1)) ;;
		1..*) plan=${line#1..} ;;
		*) echo "# ${line#\# }" ;;
		esac
	done <"$TMP/tap"
	[ $want = $status ] && [ $want != 0 ] || sed 's/^/# guest, standard error: /' "$TMP/err"
	if [ $want = 0 ]; then what="the guest saw the host's write and its kernel has nothing to complain of"; else what="it was ended"; fi
	[ "$status" = $want ] && [ "$plan" = $n ]
	ok $? "$where: $what (status $status, $n checks of ${plan:-no plan})"
}

vm "pc" 512 pc 1 0
vm "q35, RAM above 4 GiB" 768 q35,max-ram-below-4g=256M 0 1
vm "pc, share=off" 256 pc 0 private
tap_done
