# forward.bash - for tests of tests/cli that run programs under the library without a virtual machine: what they need, and running them
# shellcheck shell=bash
# Sourced after tap.sh.  The host is a task that shares the program's memory and has another root, $root (tests/intercept/forward_host.c).

# forward_needs WHAT: sets dir (tests/intercept as it was built), lib, root; where such a test cannot run WHAT is skipped and the test over.
forward_needs() {
	local why=
	dir=$(realpath "$(dirname "$BIN")")/tests/intercept
	lib=$dir/forward_native.so root=$TMP/root
	if [ "$(id -u)" != 0 ]; then
		why="changing the root takes root"
	elif [ ! -e "$lib" ]; then
		why="$lib is not built"
	elif [ "$(DS_FORWARD_LIB=$lib LD_PRELOAD=$lib /bin/echo there 2>&1)" != there ]; then
		why="the kernel has no Syscall User Dispatch (Linux 5.11)"
	fi
	[ -n "$why" ] || return 0
	skip "$1" "$why"
	tap_done
	exit
}

# forward_estates: from here on descriptors go to children; who keeps them is dshost's own code (tests/intercept/estates.c), and ends with the test.
forward_estates() {
	mkfifo "$TMP/estates"
	exec 8<>"$TMP/estates" # its input
	coproc estates { exec "$dir/estates" "forward-estates-$$" <"$TMP/estates" 8>&-; }
	read -r _ <&"${estates[0]}"
	export DS_FORWARD_ESTATES=@forward-estates-$$
}

# forwarded COMMAND...: with the library; $P is on the other side only.  EXECUTORS: 16.
forwarded() {
	env DS_FORWARD_LIB="$lib" LD_PRELOAD="$lib" DS_FORWARD="$P" DS_FORWARD_BELL=@forward-test-% DS_FORWARD_ARGS="$root:${EXECUTORS:-16}" "$@"
}

# same WHAT COMMAND...: run where $P is a copy of $TMP/seed in the file system of the program, and where it is one on the other side only.
# A check: output, errors, status, and what $P holds afterwards are the same.
same() {
	local what=$1 difference side
	shift
	rm -rf "$P" "$root" "$TMP/after.n" "$TMP/after.f"
	mkdir -p "$P" "$root${P%/*}"
	rmdir "$P"
	cp -a "$TMP/seed" "$P"
	(cd "$TMP" && timeout 100 "$@") >"$TMP/out.n" 2>"$TMP/err.n" </dev/null
	echo "status $?" >>"$TMP/err.n"
	mv "$P" "$TMP/after.n" # its parent stays: programs that resolve links look at each directory
	cp -a "$TMP/seed" "$root$P"
	(cd "$TMP" && forwarded timeout 100 "$@") >"$TMP/out.f" 2>"$TMP/err.f" </dev/null
	echo "status $?" >>"$TMP/err.f"
	mv "$root$P" "$TMP/after.f"
	difference=$(
		diff "$TMP/out.n" "$TMP/out.f"
		diff "$TMP/err.n" "$TMP/err.f"
		diff -r --no-dereference "$TMP/after.n" "$TMP/after.f"
		# Times that are as old as the seed must have been kept on both sides.
		for side in n f; do
			(cd "$TMP/after.$side" && find . -printf '%p %y %m %U %l %TY\n' | sed "s/ $(date +%Y)\$/ new/" | LC_ALL=C sort) >"$TMP/tree.$side"
		done
		diff "$TMP/tree.n" "$TMP/tree.f"
	)
	is "$(head -n 20 <<<"$difference")" "" "$what: as on the host itself"
}
