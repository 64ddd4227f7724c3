#!/bin/bash
# harness.sh - the VM harness itself: what a guest does wrong must not pass, and no VM stays behind
. tests/tap.sh
boot=tests/vm/boot
try() { # try ARGS...: sets got, out, err
	timeout 120 "$boot" "$@" >"$TMP/out" 2>"$TMP/err"
	got=$?
	out=$(cat "$TMP/out") err=$(cat "$TMP/err")
}

try --smp 1 -- sh -c 'uname -r; id -u; pwd; echo to-stderr >&2; touch /etc/made-in-guest; head -c 1000000 /dev/zero; exit 7'
if [ $got = 77 ]; then
	skip "VM harness" "$err"
	tap_done
	exit
fi
is $got 7 "the command's exit status comes back"
is "$(head -n 3 "$TMP/out" | tr -d '\0' | sed -E 's/^6\.1\..*-amd64$/6.1/')" "$(printf '%s\n' 6.1 0 "$PWD")" "it ran on kernel 6.1, as root, in the caller's folder"
is "$(tr -dc '\0' <"$TMP/out" | wc -c)" 1000000 "all of a megabyte of output came through"
is "$err" to-stderr "standard error is a stream of its own"
ok "$([ ! -e /etc/made-in-guest ]; echo $?)" "a file made in the guest's /etc is not on this machine"

try --smp 1 -- sh -c 'echo before; echo "WARNING: CPU: 0 PID: 1 at test" >/dev/kmsg'
is "$got/$out" 126/before "a warning in the kernel log fails a command that succeeded"
matches "$err" 'WARNING: CPU' "and is shown"

try --smp 1 -- sh -c 'echo c >/proc/sysrq-trigger'
is "$got" 125 "a guest that panics has no report"
matches "$err" 'Kernel panic' "and its last words are shown"

try --smp 1 --timeout 2 -- true
is "$got" 124 "a VM that takes too long is ended"

# SIGKILL cannot be caught: QEMU must go by itself when boot does, and boot when its caller does.
bash -c "$boot --smp 1 -- sleep 100; :" 2>/dev/null &
caller=$!
vm=
for _ in $(seq 50); do
	vm=$(ps -eo pid,ppid,comm | awk -v caller=$caller '{ parent[$1] = $2; name[$1] = $3 }
		END { for (p in name) if (name[p] ~ /^qemu/ && parent[parent[p]] == caller) print p }')
	[ -n "$vm" ] && break
	sleep 0.1
done
kill -KILL $caller
for _ in $(seq 50); do
	[ -e "/proc/${vm:-none}" ] || break
	sleep 0.1
done
ok "$([ -n "$vm" ] && [ ! -e "/proc/$vm" ]; echo $?)" "QEMU (${vm:-not seen}) is gone after its caller's caller was killed"
tap_done
