#!/bin/bash
# dshost.sh - dshost with a stock guest and a stock QEMU: run, streams, reset, attach, and SIGKILL for everybody in turn
# alone: it looks for processes of dshost on the whole machine
#
# One VM of each machine type, both at once, each with a daemon of its own.  In the guest an unprivileged and a privileged port knock at the
# agent's port, and then a stream is opened again and again.  On the host each process is killed once: warden, VM process, daemon, VMM.
# After each the next stream must come through, and at the end nothing may be left.  DS_VM_KERNEL chooses another kernel.
. tests/tap.sh
kernel=${DS_VM_KERNEL:-6.1}
dshost=$(realpath "$BIN/dshost")
cat >"$TMP/guest.py" <<'PY'
import socket, time
def stream(port, to):
    s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        if port:
            s.bind((socket.VMADDR_CID_ANY, port))
        s.connect((2, to))
        return s
    except OSError as e:
        return e
for name, port, to in ("any-port", 0, 871), ("other-port", 900, 999):
    s = stream(port, to)
    print(name, "open" if isinstance(s, socket.socket) else s.strerror, flush=True)
n = 0
while True:
    s = stream(901 + n % 100, 871)
    n += 1
    if isinstance(s, socket.socket):
        print("open", flush=True)
        try:
            while s.recv(4096):
                pass
        except OSError:
            pass
        print("ended", flush=True)
    time.sleep(0.2)
PY
guest=$TMP/guest.py all=$TMP
place() { # place NAME: a folder and a run directory of the caller's own
	TMP=$all/$1 run=$all/$1/run
	mkdir "$TMP"
	printf 'allow program=/usr/bin/** service=checksum\n' >"$TMP/policy"
	printf '#!/bin/sh\nexec "%s" run --run-dir "%s" --name guest -- "$@"\n' "$dshost" "$run" >"$TMP/through"
	chmod +x "$TMP/through"
}
side_by_side() { # side_by_side COMMAND...: each some words, done in a place of its own, at the same time; their checks come one after the other
	local word said='' jobs=()
	for word in "$@"; do
		(
			trap - EXIT
			place "$BASHPID"
			# shellcheck disable=SC2086 # words
			$word
		) >"$all/said${#jobs[@]}" 2>&1 &
		jobs+=($!)
	done
	for word in "${!jobs[@]}"; do
		wait "${jobs[word]}"
		while read -r said; do
			case $said in
			*' # SKIP '*) said=${said#*ok * - } && skip "${said% # SKIP *}" "${said#* # SKIP }" ;;
			'ok '*) ok 0 "${said#*ok * - }" ;;
			'not ok '*) ok 1 "${said#*ok * - }" ;;
			*) echo "$said" ;;
			esac
		done <"$all/said$word"
	done
}
qmp() { # qmp COMMAND
	python3 - "$TMP/qmp" "$1" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
f = s.makefile("rw")
f.readline()
for c in "qmp_capabilities", sys.argv[2]:
    f.write(json.dumps({"execute": c}) + "\n")
    f.flush()
    while "return" not in (r := json.loads(f.readline())) and "error" not in r:
        pass
PY
}
status() { "$dshost" status --json --run-dir "$run" 2>/dev/null | jq -r "$1"; }
await() { # await WHAT COMMAND...: until it succeeds, for as long as a busy machine may need
	local what=$1 end=$((SECONDS + 100))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || { ok 1 "$what"; return 1; }
		sleep 0.1
	done
	ok 0 "$what"
}
shadow_up() { [ "$(status '.vms[0].shadows // [] | map(select(.warden > 0)) | length')" = 1 ]; }
no_vm() { [ "$(status '.vms | length')" = 0 ]; }
none_left() { # no process of this daemon is there; what it forks keeps its command line
	local pid
	while read -r pid; do
		if tr '\0' ' ' 2>/dev/null <"$pid/cmdline" | grep -qF -- "--run-dir $run "; then return 1; fi
	done < <(find /proc -maxdepth 2 -path '/proc/[0-9]*/exe' -lname "$dshost" -printf '%h\n' 2>/dev/null)
}
gone() { [ ! -e "/proc/$1" ]; }
serve() {
	"$dshost" serve --run-dir "$run" --policy "$TMP/policy" 2>>"$TMP/log" &
	daemon=$!
	for _ in $(seq 100); do
		"$dshost" status --run-dir "$run" >/dev/null 2>&1 && break
		sleep 0.05
	done
}
attach() { # attach WHAT
	local out
	out=$("$dshost" attach --qmp "$TMP/qmp" --run-dir "$run" --name guest 2>&1)
	is "$?/$out" "0/vm guest: ready" "$1"
}

life() { # life MACHINE
	local boot warden vmm before
	: >"$TMP/guest"
	: >"$TMP/log"
	rm -f "$TMP/qmp"
	serve
	tests/vm/boot --kernel "$kernel" --machine "$1" --mem 384 --smp 1 --through "$TMP/through" --timeout 280 \
		--qemu -qmp --qemu "unix:$TMP/qmp,server=on,wait=off" --qemu -action --qemu reboot=reset -- \
		sh -c 'modprobe vmw_vsock_virtio_transport && exec python3 "$0"' "$guest" >"$TMP/guest" 2>"$TMP/err" &
	boot=$!
	until shadow_up; do
		sleep 0.2
		kill -0 $boot 2>/dev/null && continue
		wait $boot
		if [ $? = 77 ]; then skip "$1" "$(head -n 1 "$TMP/err")"; else ok 1 "$1: the VM comes up"; fi
		kill $daemon
		wait $daemon
		return
	done
	is "$(sed 2q "$TMP/guest" | tr '\n' ' ')" "any-port Connection reset by peer other-port Connection reset by peer " \
		"$1: a port that any user can have and another port of the host are refused"
	is "$(status '.vms[0] | [.name, .state, .ram_bytes / 1048576, .source, .doorbell, .streams_refused] | join(" ")')" \
		"guest ready 384 vhost-user true 2" "$1: the VM is ready, its doorbell is connected"
	is "$(find "$run" -type s | sed 's|.*/||')" control "$1: both of the VM's sockets have left the run directory"
	vmm=$(status '.vms[0].vmm')
	is "$(readlink "/proc/$vmm/exe" | sed 's|.*/||')" qemu-system-x86_64 "$1: dshost run became QEMU"

	warden=$(status '.vms[0].shadows[0].warden')
	kill -KILL "$warden"
	await "$1: the warden is killed: the stream ends in the guest" grep -q ended "$TMP/guest"
	await "$1: and another opens" shadow_up
	matches "$(cat "$TMP/log")" "ended by signal 9" "$1: the log says so"

	qmp system_reset
	await "$1: the guest is reset: its shadow ends" grep -q "shadows end: the guest has stopped its device" "$TMP/log"
	is "$(status '.vms[0] | [.state, (.shadows | length)] | join(" ")')" "booting 0" "$1: and none is there while it boots"
	await "$1: it boots again and opens a stream" shadow_up

	warden=$(status '.vms[0].shadows[0].warden')
	kill -KILL "$(status '.vms[0].process')"
	await "$1: the VM process is killed: the warden goes with it" gone "$warden"
	await "$1: the VM is not known any more" no_vm
	kill -0 "$vmm"
	ok $? "$1: and runs on"
	attach "$1: dshost attach gives it new devices"
	is "$(status '.vms[0] | [.source, .doorbell] | join(" ")')" "vhost-user+monitor true" "$1: the table is the one that the monitor tells"
	await "$1: and a stream comes through" shadow_up
	sleep 1
	before=$(awk '{ print $14 + $15 }' "/proc/$(status '.vms[0].process')/stat")
	sleep 3
	is "$(($(awk '{ print $14 + $15 }' "/proc/$(status '.vms[0].process')/stat") - before <= 1))" 1 \
		"$1: attached and idle the VM process takes no CPU time that could be measured in 3 s"
	"$dshost" attach --qmp "$TMP/qmp" --run-dir "$run" --name other >"$TMP/out" 2>&1
	is "$?/$(grep -c "back end that lives" "$TMP/out")" 75/1 "$1: a VM that is attached is not attached again"

	kill -KILL $daemon
	wait $daemon 2>/dev/null
	await "$1: the daemon is killed: all of dshost goes with it" none_left
	is "$(find "$run" -type s ! -name control)" "" "$1: and leaves no socket of a VM"
	serve
	attach "$1: another daemon, and attach again"
	await "$1: and a stream comes through" shadow_up

	kill -KILL "$vmm"
	wait $boot
	await "$1: QEMU is killed: the VM and its shadow are gone" no_vm
	matches "$(tail -n 3 "$TMP/log")" "the VM has ended" "$1: the log says so"
	kill $daemon
	wait $daemon
	is "$?" 0 "$1: the daemon ends when it is told to"
	await "$1: no process is left" none_left
	is "$(find "$run" -mindepth 1)" "" "$1: and nothing in the run directory"
}

# A VM that was started without dshost, with shared RAM; on q35 it has ports to spare.
later() { # later MACHINE QEMU-ARGUMENT...
	local boot machine=$1 args=() word
	shift
	for word in "$@" -qmp "unix:$TMP/qmp,server=on,wait=off"; do args+=(--qemu "$word"); done
	: >"$TMP/guest"
	rm -f "$TMP/qmp"
	serve
	tests/vm/boot --kernel "$kernel" --machine "$machine" --mem 384 --smp 1 --ram memfd --timeout 200 "${args[@]}" -- \
		sh -c 'modprobe vmw_vsock_virtio_transport && exec python3 "$0"' "$guest" >"$TMP/guest" 2>"$TMP/err" &
	boot=$!
	for _ in $(seq 600); do
		if grep -q other-port "$TMP/guest" || ! kill -0 $boot 2>/dev/null; then break; fi
		sleep 0.2
	done
	if kill -0 $boot 2>/dev/null; then
		attach "$machine, started without devices: dshost attach gives it some"
		is "$(status '.vms[0] | [.state, .source, .doorbell, .ram_bytes / 1048576] | join(" ")')" "ready vhost-user+monitor true 384" \
			"$machine: and it is ready"
		await "$machine: and a stream comes through" shadow_up
		"$dshost" stop guest --run-dir "$run"
		is "$?/$(status '.vms | length')" 0/0 "$machine: dshost stop lets go of it"
		kill -0 $boot
		ok $? "$machine: and it runs on"
		attach "$machine: and can be attached again"
		kill -TERM $boot
		wait $boot
	else
		wait $boot
		skip "$machine, started without devices" "$(head -n 1 "$TMP/err")"
	fi
	kill $daemon
	wait $daemon
	await "$machine: no process is left" none_left
}

# VMs that need not boot to be refused.
refused() { # refused WHAT REGEX QEMU-ARGUMENT...
	local what=$1 regex=$2 vm out
	shift 2
	rm -f "$TMP/qmp"
	setpriv --pdeathsig KILL qemu-system-x86_64 -S -nodefaults -display none -m 64 -qmp "unix:$TMP/qmp,server=on,wait=off" "$@" >"$TMP/qemu" 2>&1 &
	vm=$!
	for _ in $(seq 100); do
		[ -S "$TMP/qmp" ] && break
		sleep 0.1
	done
	out=$("$dshost" attach --qmp "$TMP/qmp" --run-dir "$run" --name refused 2>&1)
	is "$?/$(grep -cE -- "$regex" <<<"$out")" 2/1 "$what: $out"
	kill -0 $vm
	ok $? "and the VM goes on"
	kill -KILL $vm
	wait $vm 2>/dev/null
}
if command -v qemu-system-x86_64 >/dev/null; then
	place refused
	serve
	backend=(-object "memory-backend-memfd,id=m,share=on,size=64M")
	refused "memory that is private to QEMU" "memory cannot be mirrored" -machine pc
	refused "q35 without a free port" "no free pcie-root-port" -machine q35,memory-backend=m "${backend[@]}"
	refused "q35 whose only port is in use" "no free pcie-root-port" -machine q35,memory-backend=m "${backend[@]}" \
		-device pcie-root-port,id=p,chassis=1 -device virtio-rng-pci,bus=p
	"$dshost" attach --qmp "$TMP/control" --run-dir "$run" >"$TMP/out" 2>&1
	is "$?/$(grep -c "No such file" "$TMP/out")" 2/1 "no monitor there: $(cat "$TMP/out")"
	is "$(status '.vms | length')/$(ls "$run" | tr '\n' ' ')" "0/control lock " "nothing is left of what was refused"
	is "$(python3 -B tests/vm/replug.py "$dshost" "$run" "$TMP" 2>&1)" lives "QEMU loses its doorbell, gets another one, and lives"
	await "and its end is noticed" no_vm
	kill $daemon
	wait $daemon
	"$dshost" attach --qmp /nowhere --run-dir "$run" >"$TMP/out" 2>&1
	is "$?" 2 "no daemon and no monitor"
	TMP=$all
else
	skip "VMs that are refused" "no QEMU"
fi
side_by_side "life pc" "life q35"
side_by_side "later pc" "later q35 -device pcie-root-port,id=spare1,chassis=1 -device pcie-root-port,id=spare2,chassis=2"
tap_done
