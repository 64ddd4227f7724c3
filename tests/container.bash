# container.bash - for tests that run programs in a container: the container, and dscontainer at its socket
# shellcheck shell=bash
# Sourced after tap.sh.  The container: user, mount, process, network and ipc namespaces of a user of its own, $box_user, an empty /dev, empty directories in
# the place of $TMP/data and of what a card's driver has; $TMP/out is its working directory.

box_user=$((100000 + $$))

# container_needs WHAT PROGRAM...: copies dsrun, its library and clients of tests/device to $TMP/bin; where there can be no container WHAT is
# skipped and the test over.
container_needs() {
	local what=$1 built program
	shift
	chmod 755 "$TMP"
	mkdir -p "$TMP/bin" "$TMP/lib" "$TMP/run" "$TMP/data" "$TMP/out"
	chmod 777 "$TMP/data" "$TMP/out"
	built=$(realpath "$(dirname "$BIN")")
	cp "$BIN/dsrun" "$TMP/bin/"
	cp "$built/lib/libdsforward.so" "$TMP/lib/"
	for program in "$@"; do
		if [ -e "tests/device/$program" ]; then cp "tests/device/$program" "$TMP/bin/"; else cp "$built/tests/device/$program" "$TMP/bin/"; fi
	done
	cat >"$TMP/bin/inside" <<-EOT
		#!/bin/bash
		# inside - the rest of what a container is; then what is wanted in it
		for place in /dev /run /sys "$TMP/data"; do mount -t tmpfs none "\$place" || exit 99; done
		mkdir /run/dsagent && mount --bind "$TMP/run" /run/dsagent || exit 99
		ln -s /proc/self/fd /dev/fd
		: >/dev/null
		cd "$TMP/out" && export PATH="$TMP/bin:\$PATH" && exec "\$@"
	EOT
	chmod 755 "$TMP/bin/inside"
	chmod -R a+rX "$TMP/bin" "$TMP/lib"
	# shellcheck disable=SC2016 # the other shell's own
	[ "$(id -u)" = 0 ] && unshare -m bash -c 'mount -t tmpfs none "$1" && mknod "$1/null" c 1 3 && exec 3<>"$1/null"' _ "$TMP/data" 2>/dev/null &&
		box true 2>/dev/null && return
	skip "$what" "it takes root that can make device nodes, and a kernel that lets users make namespaces"
	tap_done
	exit
}

box() { # box COMMAND...: in the container, as its root, for 100 seconds at most or BOX_SECONDS
	timeout "${BOX_SECONDS:-100}" setpriv --reuid $box_user --regid $box_user --clear-groups unshare -Umpfin --map-root-user --mount-proc "$TMP/bin/inside" "$@" 3>&- 4>&-
}

# container_serve [COMMAND...]: dscontainer with $TMP/policy and the log $TMP/log, started by COMMAND; sets server.  A kernel without what
# programs need for it ends the test.
container_serve() {
	: >"$TMP/log"
	"$@" "$BIN/dscontainer" --name box --socket "$TMP/run/socket" --policy "$TMP/policy" 2>>"$TMP/log" &
	server=$!
	trap 'kill $server 2>/dev/null; rm -rf "$TMP"' EXIT
	for _ in $(seq 600); do grep -q "are served" "$TMP/log" && break || sleep 0.1; done
	if [[ $(box dsrun --trace=/dev/null -- true 2>&1) == *"Syscall User Dispatch"* ]]; then
		skip "programs of a container" "the kernel has no Syscall User Dispatch (Linux 5.11)"
		tap_done
		exit
	fi
}

# container_stop: a check: it ends when it is told to, and leaves nothing.
container_stop() {
	kill -TERM $server
	wait $server
	is "$? $(ls "$TMP/run")" "0 " "the server ends, and its sockets are gone"
}
