#!/bin/bash
# device.sh - devices of the host in a stock guest that has no driver for them: /dev/kvm, /dev/net/tun, loop devices, /dev/fuse
#
# The guest's programs are started by dsrun --device; the policy grants them the devices, and the host's part
# (tests/vm/device_host.py) looks at what has become of it there.  Programs of tests/device run on the host first, and what they print is compared.
#
# DEVICE_FULL=1: also a QEMU of the guest, which boots its firmware by the host's KVM (make check-device).  DEVICE_ONLY: a pattern of
# parts.  DS_VM_KERNEL, DS_VM_EMULATOR, DS_VM_MACHINE choose another configuration.
. tests/tap.sh
. tests/vm/relay.bash
. tests/vm/shadowed.bash
shadowed_needs "devices of the host"
clients=$(dirname "$BIN")/tests/device
chmod 755 "$TMP"
mkdir "$TMP/want" "$TMP/files"
truncate -s 4M "$TMP/files/image"
chown -R 65534:65534 "$TMP/files"

have=() # devices that there are, and that can be opened
for device in /dev/kvm /dev/net/tun /dev/loop-control /dev/fuse /dev/zero; do
	if (exec 3<>"$device") 2>/dev/null; then have+=("$device"); fi
done
cases=(numbers sum interrupted dirty embedded event ports mmio two)
"$clients/vmm" "${cases[@]}" >"$TMP/want/vmm" 2>&1 3>&- 4>&- || have=("${have[@]#/dev/kvm}") # some open, and run nothing

if [ -n "${DEVICE_FULL:-}" ] && [[ " ${have[*]} " == *" /dev/kvm "* ]] && ! tests/device/seabios >"$TMP/want/seabios" 2>"$TMP/seabios"; then
	skip "a QEMU of the guest" "firmware does not boot by this machine's KVM itself: $(head -n 1 "$TMP/seabios")"
	unset DEVICE_FULL
fi

# What a driver's libraries look for below /proc and /sys: a stand-in, recorded from a machine with NVIDIA's driver
mkdir -p "$TMP/standin/gpus/0000:01:00.0" "$TMP/sys"
printf 'ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 0\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n' >"$TMP/standin/params"
printf 'Model: \t\t stand-in\nDevice Minor: \t 0\n' >"$TMP/standin/gpus/0000:01:00.0/information"
ln -s ../standin/none "$TMP/sys/link"
cat >"$TMP/policy" <<EOT
allow vm=one program=/usr/bin/find service=forward executors=2 memory=16M device=/dev/net/* device=/dev/zero path=/proc/driver/nvidia:$TMP/standin:ro path=/sys/bus/pci/devices:$TMP/sys:ro path=/mnt/data:$TMP/files:ro
allow vm=one program=**/tests/device/vmm service=forward executors=8 memory=16M device=/dev/kvm
allow vm=one program=/usr/bin/qemu-system-x86_64 service=forward executors=24 memory=16M device=/dev/kvm
allow vm=one program=**/tests/device/tunnel service=forward executors=4 memory=16M device=/dev/net/tun net=own
allow vm=one program=**/ip service=forward executors=2 memory=16M device=/dev/net/tun net=own
allow vm=one program=/usr/sbin/losetup service=forward executors=4 memory=16M device=/dev/loop* path=/mnt/files:$TMP/files:rw path=/sys/block:/sys/block:ro path=/sys/devices/virtual/block:/sys/devices/virtual/block:ro
allow vm=one program=/usr/bin/dd service=forward executors=4 memory=16M device=/dev/loop* path=/mnt/files:$TMP/files:rw
allow vm=one program=**/tests/device/nvidia service=forward executors=4 memory=16M device=/dev/zero
allow vm=one program=**/tests/device/fuse service=forward executors=4 memory=16M device=/dev/fuse
EOT
shadowed_serve "$TMP"
shadowed_helper device_host.py
trap 'kill $helper $daemon 2>/dev/null; losetup -j "$TMP/files/image" 2>/dev/null | cut -d: -f1 | xargs -r losetup -d; rm -rf "$TMP"' EXIT

vm_relay "$kernel, $machine" --kernel "$kernel" --machine "$machine" --mem 1024 --timeout 300 "${shadowed[@]}" -- \
	env "BIN=$BIN" "HAVE=${have[*]}" "CASES=${cases[*]}" ${DEVICE_ONLY:+"DEVICE_ONLY=$DEVICE_ONLY"} ${DEVICE_FULL:+DEVICE_FULL=1} tests/vm/guest/device "$TMP/want"
shadowed_done
