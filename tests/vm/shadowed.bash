# shadowed.bash - a VM whose programs can have shadows: the daemon, how to boot through it, and a helper on the host that the guest asks
# shellcheck shell=bash disable=SC2034,SC2154 # kernel, machine, helper are for who sources it; tap_bad is of tests/tap.sh
# BIN is the folder of the programs, absolute.  Tests source it after tests/tap.sh; measurements too, without.

# shadowed_needs WHAT: for tests.  Sets kernel and machine, makes BIN absolute; where there is no root, or a program is not built, WHAT is
# skipped and the test over.
shadowed_needs() {
	local why='' program
	kernel=${DS_VM_KERNEL:-6.1} machine=${DS_VM_MACHINE:-pc}
	for program in dshost dsagent dsrun; do
		[ -x "$BIN/$program" ] || why="$program is not built"
	done
	[ "$(id -u)" = 0 ] || why="it takes root"
	if [ -n "$why" ]; then
		skip "$1" "$why"
		tap_done
		exit
	fi
	BIN=$(realpath "$BIN")
}

# shadowed_serve FOLDER [OPTION...]: dshost's daemon with FOLDER/policy, its run directory FOLDER/run, its log FOLDER/log.  Sets daemon, and
# shadowed: what tests/vm/boot is to be told so that the VM is one of this daemon, by the name "one".
shadowed_serve() {
	local folder=$1
	shift
	mkdir -p "$folder/run"
	printf '#!/bin/sh\nexec "%s" run --run-dir "%s" --name one -- "$@"\n' "$BIN/dshost" "$folder/run" >"$folder/through"
	chmod +x "$folder/through"
	shadowed=(--through "$folder/through")
	"$BIN/dshost" serve --run-dir "$folder/run" --policy "$folder/policy" --services "${BIN%/bin}/shadow" "$@" 2>"$folder/log" &
	daemon=$!
	for _ in $(seq 600); do
		if [ -S "$folder/run/control" ] || ! kill -0 $daemon 2>/dev/null; then break; fi
		sleep 0.1
	done
}

# shadowed_helper PROGRAM [ARGUMENT...]: for tests, after shadowed_serve.  tests/vm/PROGRAM answers what the guest asks through its port
# vm.host (tests/vm/host_port.py).  Sets helper; adds the port to shadowed.
shadowed_helper() {
	local program=$1 word
	shift
	mkfifo "$TMP/vm.in" "$TMP/vm.out"
	python3 -B "tests/vm/$program" "$TMP" "$TMP/run" "$BIN/dshost" "$@" >"$TMP/helper" 2>&1 &
	helper=$!
	for word in -chardev "pipe,id=host,path=$TMP/vm" -device virtserialport,chardev=host,name=vm.host; do shadowed+=(--qemu "$word"); done
}

# shadowed_done: ends a test; where something failed, with what the daemon has said.
shadowed_done() {
	sed 's/^/# helper: /' "$TMP/helper"
	[ $tap_bad = 0 ] || tail -n 40 "$TMP/log" | sed 's/^/# log: /'
	tap_done
}
