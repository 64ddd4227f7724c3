#!/bin/bash
# mapped.sh - files of the host that a program maps, without a virtual machine: the host is a task that shares the program's memory
#
# What tests/tools/mapped prints is compared with what it prints of the same file without forwarding.  tests/vm/window.sh has the same cases
# in a guest; there the VM's window is between.
. tests/tap.sh
. tests/forward.bash
forward_needs "mapped files"
P=$TMP/p EXECUTORS=4 mapped=$(dirname "$dir")/tools/mapped
mkdir -p "$TMP/here" "$root$P"
file() { python3 -c 'import sys; sys.stdout.buffer.write(b"".join(bytes([i]) * 4096 for i in range(64)))' >"$1"; }
for c in shared parts refused private cut buffers fork grow odd; do
	file "$TMP/here/$c"
	file "$root$P/$c"
	timeout 60 "$mapped" "$c" "$TMP/here/$c" >"$TMP/want" 2>&1
	forwarded timeout 60 "$mapped" "$c" "$P/$c" >"$TMP/got" 2>&1
	cmp -s "$TMP/want" "$TMP/got" && cmp -s "$TMP/here/$c" "$root$P/$c"
	ok $? "$c: as without forwarding, and the files are alike"
	diff -a "$TMP/want" "$TMP/got" | head -n 20 | sed 's/^/# /'
done
tap_done
