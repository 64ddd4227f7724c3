#!/bin/bash
# device.sh - devices of the host, without a virtual machine: the library's side of them, dsrun's options, the ready-made policies
#
# The host is a task that shares the program's memory and has another root (forward_host.c), in which /dev/kvm is.
. tests/tap.sh
. tests/forward.bash

# --- ready-made policies -------------------------------------------------------------------------------------------------
for policy in runtime/policies/*.conf; do
	is "$("$BIN/dshost" check-policy "$policy" 2>&1 | sed 's/: [1-9][0-9]* rules$/: rules/')" "$policy: rules" "${policy##*/} is right"
done

# --- dsrun ---------------------------------------------------------------------------------------------------------------
try() { { "$BIN/dsrun" --socket "$TMP/nobody" "$@" 2>&1; echo "status $?"; } | tr '\n' ' '; }
matches "$(try --device /etc/passwd -- true)" "--device /etc/passwd: a path below /dev, .*status 1 $" "what is no device is refused"
matches "$(try --device '/dev/nvi*' --required -- true)" "dsagent does not answer at [^:]*: No such file or directory; is it running. status 2 $" "a pattern needs the host's answer"
matches "$(try --list-devices)" "dsagent does not answer at .*status 2 $" "so does the list"
matches "$(try --list-devices no-such-program)" "no-such-program: No such file .*status 127 $" "of a program that is not there there is none"
matches "$(try --list-devices true false)" "'false' is too much.*status 1 $" "and of one at a time"

# --- the library ---------------------------------------------------------------------------------------------------------
forward_needs "a device through the library"
# --- what is told once: two descriptors are ready, and epoll_wait() has room for one event -----------------------------------------
P=/told
mkdir -p "$root$P" "$TMP/change"
cat >"$TMP/told" <<'EOT'
import ctypes, os, select, sys
place, change = sys.argv[1:]
fds = [os.open(place + "/self/mounts", os.O_RDONLY) for i in range(2)]
e = select.epoll()
for fd in fds:
    e.register(fd, select.EPOLLPRI)
while e.poll(0):
    pass
if ctypes.CDLL(None).mount(b"none", change.encode(), b"tmpfs", 0, None):
    sys.exit("no mount")
got = [fds.index(fd) for i in range(2) for fd, events in e.poll(30, 1)]
print(sorted(got), e.poll(0))
EOT
told() { # told PROC COMMAND...: with a /proc at PROC
	unshare -m bash -c 'mount -t proc proc "$1" && shift && exec "$@"' _ "$@" 2>&1
}
if [[ $(told "$root$P" python3 "$TMP/told" "$root$P" "$TMP/change") != "[0, 1] []" ]]; then
	skip "what is told once" "mounts are not told here, or not to python3"
else
	is "$(told "$root$P" env DS_FORWARD_LIB="$lib" LD_PRELOAD="$lib" DS_FORWARD="$P" DS_FORWARD_BELL=@forward-test-% DS_FORWARD_ARGS="$root:16" \
		timeout 100 python3 "$TMP/told" "$P" "$TMP/change")" "[0, 1] []" "nothing is lost of what is told once when there is room for one event"
fi

# --- a device ---------------------------------------------------------------------------------------------------------------------
vmm=$(dirname "$dir")/device/vmm
export DS_FORWARD_DEVICE=1
P=/dev/kvm EXECUTORS=8
mkdir -p "$root/dev"
if ! number=$(stat -c '%Hr %Lr' /dev/kvm 2>/dev/null) || ! (exec 3<>/dev/kvm) 2>/dev/null; then
	skip "a device through the library" "this machine has no /dev/kvm that can be used"
	tap_done
	exit
fi
# shellcheck disable=SC2086 # two words
if ! mknod "$root/dev/kvm" c $number 2>/dev/null || ! (exec 3<>"$root/dev/kvm") 2>/dev/null; then
	skip "a device through the library" "no device nodes can be made or used here"
	tap_done
	exit
fi
for what in numbers sum interrupted dirty embedded event ports mmio two; do
	"$vmm" $what >"$TMP/n" 2>&1 3>&- || { skip "$what" "it does not work on this machine itself: $(head -n 1 "$TMP/n")" && continue; }
	forwarded timeout 60 "$vmm" $what >"$TMP/f" 2>&1 3>&-
	is "$(cat "$TMP/f")" "$(cat "$TMP/n")" "a virtual machine, $what: as without forwarding"
done
matches "$(DS_FORWARD_TRACE=- forwarded "$vmm" sum 2>&1)" 'ioctl\([0-9]+, 0xae80, 0\) = 0 .* both' "the trace has its commands"
is "$(P=/dev/nothing forwarded cat /dev/nothing 2>&1)" \
	"cat: /dev/nothing: No such file or directory" "a device that the host has not got is not there"
tap_done
