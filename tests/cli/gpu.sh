#!/bin/bash
# gpu.sh - everything that NVIDIA's libraries do before their first command, in a container, against a stand-in of the driver's files
#
# The host: a mount namespace whose /dev, /proc/driver, /proc/devices and /sys are as on a machine with one card; nodes are those of
# /dev/zero, which can be mapped and answer no command.  tests/device/nvidia prints the same there and in a container that has nothing of it,
# by the policy as it is shipped.
. tests/tap.sh
. tests/container.bash
what="what NVIDIA's libraries do"
container_needs "$what" nvidia
cat >"$TMP/bin/host" <<EOT
#!/bin/bash
# host - a machine with a card; then COMMAND
mount -t tmpfs none /dev && mount -t tmpfs none /proc/driver && mount -t tmpfs none /sys || exit 99
mknod -m 666 /dev/null c 1 3 && ln -s /proc/self/fd /dev/
for node in nvidiactl nvidia0 nvidia-uvm nvidia-uvm-tools; do mknod -m 666 /dev/\$node c 1 5; done
mkdir -p /dev/nvidia-caps /proc/driver/nvidia/gpus/0000:01:00.0 /proc/driver/nvidia/capabilities/mig /sys/bus/pci/devices /sys/devices/pci0000:00/0000:01:00.0 /sys/devices/system/memory /sys/module/nvidia_uvm
mknod -m 400 /dev/nvidia-caps/nvidia-cap1 c 1 5
echo 'NVRM version: stand-in' >/proc/driver/nvidia/version
printf 'ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 0\nDeviceFileUID: 0\nDeviceFileGID: 0\nDeviceFileMode: 438\n' >/proc/driver/nvidia/params
printf 'Model: \t\t stand-in\nDevice Minor: \t 0\n' >/proc/driver/nvidia/gpus/0000:01:00.0/information
printf 'DeviceFileMinor: 1\nDeviceFileMode: 256\nDeviceFileModify: 0\n' >/proc/driver/nvidia/capabilities/mig/config
printf 'Character devices:\n  1 mem\n195 nvidia\n511 nvidia-uvm\n' >"$TMP/devices"
mount --bind "$TMP/devices" /proc/devices
echo 0 >/sys/devices/pci0000:00/0000:01:00.0/numa_node
echo 8000000 >/sys/devices/system/memory/block_size_bytes
echo live >/sys/module/nvidia_uvm/initstate
echo 0x10de >/sys/devices/pci0000:00/0000:01:00.0/vendor
echo 0-1 >/sys/devices/pci0000:00/0000:01:00.0/local_cpulist
ln -s ../../../devices/pci0000:00/0000:01:00.0 /sys/bus/pci/devices/
exec "\$@"
EOT
chmod 755 "$TMP/bin/host"
sed 's/program=[^ ]*/program=**/' runtime/policies/nvidia.conf >"$TMP/policy"
if ! unshare -m "$TMP/bin/host" true 2>"$TMP/err"; then
	skip "$what" "no stand-in can be made here: $(tail -n 1 "$TMP/err")"
	tap_done
	exit
fi
unshare -m "$TMP/bin/host" "$TMP/bin/nvidia" >"$TMP/want" 2>&1
is "$(grep -c 'Inappropriate ioctl' "$TMP/want") $(grep -c 'with what was stored' "$TMP/want") $(grep -c 'own address: there' "$TMP/want")" "2 2 1" \
	"on the stand-in itself everything but the commands works"
container_serve unshare -m "$TMP/bin/host"
list=$(box dsrun --list-devices 2>&1)
matches "$list" "^/dev/nvidiactl +c 1:5" "the card is granted"
matches "$list" "^/proc/driver +ro" "and what belongs to it below /proc"
is "$(box nvidia 2>&1 | grep -vc 'No such file\|^link of the card: $')" 0 "the container itself has nothing of it"
is "$(box dsrun --required --device '/dev/nvidia*' -- nvidia 2>&1)" "$(cat "$TMP/want")" "files, nodes, descriptors and mappings are as on the host"
is "$(box dsrun --required --device '/dev/nvidia*' -- nvidia 200 2>&1 | grep -c '200 mappings, 200 with')" 2 "as many mappings as one likes"
is "$(box dsrun --required --device '/dev/nvidia*' -- bash -c 'for i in 1 2 3 4 5 6; do nvidia >$i & done; wait; cat 1 2 3 4 5 6 | sort | uniq -c | grep -vc "^ *6 "; cat 4' 2>&1)" \
	"$(printf '0\n' && cat "$TMP/want")" "six programs at a time"
# All of gpu-check but its guest (the VM of tests/vm/device.sh has a stand-in of its own), by a libcuda that computes on the processor
built=$(realpath "$(dirname "$BIN")")
mkdir "$TMP/standin" "$TMP/whole"
cp "$built/tests/gpu/libcuda.so.1" "$TMP/standin/"
printf '#!/bin/bash\nread -r version </proc/driver/nvidia/version && exec 3<>/dev/nvidiactl && echo "GPU 0: $version"\n' >"$TMP/standin/nvidia-smi"
chmod -R a+rX "$TMP/standin" && chmod 755 "$TMP/standin/nvidia-smi"
whole() { # whole COMMAND...: on the host with the card, whose container can have a /proc of its own
	unshare -m bash -c 'mount -t proc proc "$1" && shift && exec "$@"' _ "$TMP/whole" "$TMP/bin/host" env -u TMP PATH="$TMP/standin:$PATH" \
		LD_LIBRARY_PATH="$TMP/standin" PYTORCH= GPU_SECONDS=60 "B=$built" "$@"
}
out=$(GPU_FORMS="host container" whole tests/gpu/check 2>&1)
is "$? $(grep -c '^host: ok' <<<"$out") $(grep -c '^container: ok' <<<"$out")" "0 7 7" "gpu-check finds that everything works on the host and in a container"
matches "$out" "container: ok pinned: [^ ]* GB/s there, [^ ]* GB/s back, as it went" "memory that is pinned among it"
is "$(grep -c ': not ok managed: .*CUDA_ERROR_NOT_SUPPORTED' <<<"$out")" 2 "what works on neither is said, and is no difference"
out=$(tests/gpu/check 2>&1)
if [ ! -e /dev/nvidiactl ]; then
	matches "$out" "skipped, this machine has no /dev/nvidiactl. +Not run, on the host, in a container and in a guest: nvidia-smi query" "gpu-check says by name what it did not run"
fi
container_stop
tap_done
