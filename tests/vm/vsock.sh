#!/bin/bash
# vsock.sh - streams between a stock guest and the host's own back end, and an ivshmem device with its server
#
# One VM, reset once in the middle; in each life the driver is loaded, unloaded and loaded again.  tests/vm/vsock_peer.c plays the guest, tests/vm/vsock_host.c the host.
# DS_VM_KERNEL chooses another kernel, such as 6.12.
. tests/tap.sh
kernel=${DS_VM_KERNEL:-6.1}
tools=${BIN%/bin}/tests/vm
args=() word='' said=0 plan='' host_said=0 host_plan=''
for word in -object memory-backend-memfd,id=mem0,share=on,size=512M -machine pc,memory-backend=mem0 -action reboot=reset \
	-qmp "unix:$TMP/qmp,server=on,wait=off" -chardev "socket,id=vhost,path=$TMP/vhost" -device vhost-user-vsock-pci,chardev=vhost \
	-chardev "socket,id=window,path=$TMP/window" -device ivshmem-doorbell,chardev=window,vectors=2; do
	args+=(--qemu "$word")
done
: >"$TMP/guest"
"$tools/vsock_host" "$TMP/vhost" "$TMP/qmp" "$TMP/guest" "$TMP/window" >"$TMP/host" 2>&1 &
host=$!
for _ in $(seq 100); do [ -S "$TMP/vhost" ] && break || sleep 0.1; done
tests/vm/boot --kernel "$kernel" --mem 512 --smp 2 "${args[@]}" -- \
	sh -c 'm=vmw_vsock_virtio_transport; modprobe $m && modprobe -r $m && modprobe $m && exec "$0"' "$tools/vsock_peer" >"$TMP/guest" 2>"$TMP/err"
status=$?
if [ $status = 77 ]; then
	kill $host
	wait $host 2>/dev/null
	skip "vsock with kernel $kernel" "$(head -n 1 "$TMP/err")"
	tap_done
	exit
fi
wait $host
relay() { # relay WHERE FILE: its checks become ours; sets said, plan
	local line what
	said=0 plan=''
	while IFS= read -r line; do
		what=${line#*ok * - }
		case $line in
		'ok '*) ok 0 "$1: $what" && said=$((said + 1)) ;;
		'not ok '*) ok 1 "$1: $what" && said=$((said + 1)) ;;
		1..*) plan=${line#1..} ;;
		*) echo "# ${line#\# }" ;;
		esac
	done <"$2"
}
relay host "$TMP/host"
host_said=$said host_plan=$plan
relay "guest $kernel" "$TMP/guest"
[ $status = 0 ] || sed 's/^/# guest, standard error: /' "$TMP/err"
is "$status $said $host_said" "0 $plan $host_plan" "both came to their end, and the guest's kernel has nothing to complain of"
tap_done
