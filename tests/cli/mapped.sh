#!/bin/bash
# mapped.sh - files of the host that a program maps, without a virtual machine: the host is a task that shares the program's memory
#
# What tests/tools/mapped prints is compared with what it prints of the same file without forwarding.  tests/vm/window.sh has the same cases
# in a guest; there the VM's window is between.
. tests/tap.sh
dir=$(dirname "$BIN")/tests
lib=$(realpath "$dir/intercept/forward_native.so")
P=$TMP/p root=$TMP/root
if [ "$(id -u)" != 0 ]; then
	skip "mapped files" "changing the root takes root"
	tap_done
	exit
fi
if [ "$(DS_FORWARD_LIB=$lib LD_PRELOAD=$lib /bin/echo there 2>&1)" != there ]; then
	skip "mapped files" "the kernel has no Syscall User Dispatch (Linux 5.11)"
	tap_done
	exit
fi
mkdir -p "$TMP/here" "$root$P"
file() { python3 -c 'import sys; sys.stdout.buffer.write(b"".join(bytes([i]) * 4096 for i in range(64)))' >"$1"; }
for c in shared parts refused private cut buffers; do
	file "$TMP/here/$c"
	file "$root$P/$c"
	timeout 60 "$dir/tools/mapped" "$c" "$TMP/here/$c" >"$TMP/want" 2>&1
	timeout 60 env DS_FORWARD_LIB="$lib" LD_PRELOAD="$lib" DS_FORWARD="$P" DS_FORWARD_BELL=@mapped-test-% DS_FORWARD_ARGS="$root:4" \
		"$dir/tools/mapped" "$c" "$P/$c" >"$TMP/got" 2>&1
	cmp -s "$TMP/want" "$TMP/got" && cmp -s "$TMP/here/$c" "$root$P/$c"
	ok $? "$c: as without forwarding, and the files are alike"
	diff -a "$TMP/want" "$TMP/got" | head -n 20 | sed 's/^/# /'
done
tap_done
