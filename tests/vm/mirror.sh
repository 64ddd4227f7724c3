#!/bin/bash
# mirror.sh - the mirror from end to end: stock guests, dshost, dsagent, programs with shadows, and everything that can happen
# alone: it counts all processes, cgroups and mounts of shadows that there are
#
# Two VMs on one dshost, started by `dshost run`.  The first goes through all groups of tests/vm/guest/mirror and is reset with a
# shadow running; the second has shadows at the same time and is then killed.  What only the host can do is done
# by tests/vm/mirror_host.py, which the guests talk to.  At the end nothing of any of it may be left.
#
# DS_VM_KERNEL, DS_VM_EMULATOR, DS_VM_MACHINE (pc, q35), DS_VM_RAM (memfd, file) and DS_VM_MB choose another configuration.
# usage: mirror.sh [GROUP]...    only those, in one VM
. tests/tap.sh
. tests/vm/relay.bash
kernel=${DS_VM_KERNEL:-6.1} machine=${DS_VM_MACHINE:-pc} mb=${DS_VM_MB:-1024}
[ "$(id -u)" = 0 ] || { skip "the mirror from end to end" "it takes root" && tap_done && exit; }
for program in dshost dsagent; do
	[ -x "$BIN/$program" ] || { skip "the mirror from end to end" "$program is not built" && tap_done && exit; }
done
cat >"$TMP/policy" <<EOT
deny program=**/mirror_prog service=forbidden
allow program=**/mirror_prog service=checksum max-pages=400000
allow program=**/mirror_prog service=listwalk
allow program=**/mirror_prog service=calls executors=2
allow program=/usr/bin/liar service=checksum
EOT

vm() { # vm NAME MB GROUP...: a VM by `dshost run`, and its helper here; sets nothing
	local name=$1 size=$2 args=() word helper status
	shift 2
	mkfifo "$TMP/$name.in" "$TMP/$name.out"
	printf '#!/bin/sh\nexec "%s" run --run-dir "%s" --name %s -- "$@"\n' "$BIN/dshost" "$TMP/run" "$name" >"$TMP/$name.through"
	chmod +x "$TMP/$name.through"
	python3 tests/vm/mirror_host.py "$TMP" "$name" >"$TMP/$name.helper" 2>&1 &
	helper=$!
	for _ in $(seq 100); do [ -S "$TMP/run/control" ] && break || sleep 0.1; done
	for word in -qmp "unix:$TMP/$name.qmp,server=on,wait=off" -action reboot=reset \
		-chardev "pipe,id=host,path=$TMP/$name" -device virtserialport,chardev=host,name=vm.host; do
		args+=(--qemu "$word")
	done
	[ "${DS_VM_RAM:-memfd}" = memfd ] || args+=(--ram "$TMP/$name.ram")
	if [ "$machine" = q35 ]; then # its root bus takes no device at run time: ports for those that are attached again
		for word in 1 2; do args+=(--qemu -device --qemu "pcie-root-port,id=spare$word,chassis=1$word"); done
	fi
	# numa=fake: two nodes in one piece of memory, so that pages can be made to move
	"$relay" "$kernel, $machine, $name" --kernel "$kernel" --machine "$machine" --mem "$size" --append numa=fake=2 \
		--timeout $((${TEST_TIMEOUT:-300} - 15)) --through "$TMP/$name.through" "${args[@]}" -- \
		env "BIN=$BIN" PYTHONDONTWRITEBYTECODE=1 tests/vm/guest/mirror "$@"
	status=$?
	kill $helper 2>/dev/null
	wait $helper 2>/dev/null
	sed 's/^/# helper: /' "$TMP/$name.helper"
	return $status
}

# The second VM ends by being killed: its checks are kept until the first is through.
second() {
	shift
	tests/vm/boot "$@" >"$TMP/second.tap" 2>"$TMP/second.err"
	echo $? >"$TMP/second.status"
}

trap '[ ! -e "$TMP/daemon.pid" ] || kill -TERM "$(cat "$TMP/daemon.pid")" 2>/dev/null; rm -rf "$TMP"' EXIT
trap 'exit 143' TERM
mounts=$(wc -l </proc/self/mountinfo)
mkdir "$TMP/run"
if [ $# = 0 ]; then
	relay=second vm two 256 die >"$TMP/second.log" 2>&1 &
	second=$!
	for _ in $(seq 100); do [ -S "$TMP/run/control" ] && break || sleep 0.1; done
fi
relay=vm_relay
vm one "$mb" "$@"
if [ $# = 0 ]; then
	wait $second
	if [ "$(cat "$TMP/second.status")" = 77 ]; then
		skip "two VMs on one dshost" "$(head -n 1 "$TMP/second.err")"
	else
		grep -q '^ok 1 - a second VM' "$TMP/second.tap"
		ok $? "$kernel, $machine: a second VM had shadows on the same dshost at the same time"
		is "$(cat "$TMP/second.status")" 125 "and was killed with a shadow running"
		sed 's/^/# second: /' "$TMP/second.tap" "$TMP/second.log" | grep -v '# second: ok'
	fi
fi

# --- nothing is left -------------------------------------------------------------------------------------------------
programs=$(realpath "$BIN/dshost") services=$(realpath "${BIN%/bin}/shadow")
ours() { # processes of dshost and of capsules
	local pid
	find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -printf '%l %h\n' 2>/dev/null |
		awk -v dshost="$programs" -v services="$services/" '$1 == dshost || index($1, services) == 1 || /^\/memfd:capsule/ { print $NF }' |
		while read -r pid; do echo "${pid#/proc/}:$(tr '\0' ' ' <"$pid/cmdline")"; done
}
until_left() { # until_left N: until no more than N of them are there, or a minute has passed
	local end=$((SECONDS + 60))
	while [ "$(ours | wc -l)" -gt "$1" ] && [ $SECONDS -lt $end ]; do sleep 0.1; done
}
until_left 1
daemon=$(cat "$TMP/daemon.pid" 2>/dev/null)
is "$(ours | cut -d: -f1)" "$daemon" "the VMs have ended: the daemon is all there is"
is "$(find "$TMP/run" -mindepth 1 -printf '%f\n' | sort | tr '\n' ' ')" "control lock " "and its own files are all in the run directory"
kill -TERM "$daemon" 2>/dev/null
until_left 0
is "$(ours)" "" "the daemon is told to end: no process is left"
is "$(find "$TMP/run" -mindepth 1 -not -name lock -printf '%f\n')" "" "nor a file in the run directory"
is "$(wc -l </proc/self/mountinfo)" "$mounts" "nor a mount"
[ $tap_bad = 0 ] || tail -n 40 "$TMP/log" | sed 's/^/# log: /'
tap_done
