#!/bin/bash
# container.sh - programs of a container, which has none of the host's devices and not its files, use both through dscontainer
# alone: it counts a user's processes
#
# DEVICE_FULL=1: also a QEMU there that boots its firmware by the host's KVM.
. tests/tap.sh
. tests/container.bash
container_needs "programs of a container" vmm tunnel seabios
mkdir "$TMP/ro"

# --- the server's command line -------------------------------------------------------------------------------------------
try() { { "$BIN/dscontainer" "$@" 2>&1; echo "status $?"; } | tr '\n' ' '; }
matches "$(try)" "which container\? .*status 1 $" "a container has a name"
matches "$(try --name a/b --socket /x/y)" "which container\? .*status 1 $" "not any name"
matches "$(try --name a --socket here)" "where is it to listen\? .*status 1 $" "where it listens is said as a whole"
matches "$(try --name a --socket /x/y more)" "too much: more.*status 1 $" "and nothing else"
matches "$(try --name a --socket /x/y --policy "$TMP/none")" "$TMP/none: .*status 1 $" "a policy that is not there is said"
echo "allow nonsense=1" >"$TMP/bad"
matches "$(try --name a --socket /x/y --policy "$TMP/bad")" "$TMP/bad:1: .*status 1 $" "a wrong one with its line"
echo "allow program=** service=forward path=/mnt/data:$TMP/data:rw" >"$TMP/good"
matches "$(try --name a --socket "$TMP/nowhere/socket" --policy "$TMP/good")" "nowhere/socket: its socket: No such file.*status 2 $" "a folder that is not there is said"
echo mine >"$TMP/file"
matches "$(try --name a --socket "$TMP/file" --policy "$TMP/good") $(cat "$TMP/file")" "file: its socket: Address already in use.*status 2 +mine$" "a file in its place is not removed"

# --- files ----------------------------------------------------------------------------------------------------------------
cat >"$TMP/policy" <<EOT
deny vm=box program=**/id
allow vm=box program=**/sleep service=forward net=host path=/mnt/data:$TMP/data:rw
allow vm=box program=**/tac service=forward path=/mnt/data:$TMP/missing:rw
allow vm=other program=**/nl service=forward path=/mnt/data:$TMP/data:rw
allow vm=box program=** service=forward executors=16 device=/dev/kvm device=/dev/net/tun device=/dev/loop* path=/mnt/data:$TMP/data:rw path=/mnt/ro:$TMP/ro:ro path=/sys/block:/sys/block:ro path=/sys/devices/virtual/block:/sys/devices/virtual/block:ro
EOT
caps=$(sed -n 's/^CapabilityBoundingSet=//p' runtime/container/dscontainer@.service.in | sed 's/CAP_//g; s/ /,+/g; s/^/-all,+/' | tr '[:upper:]' '[:lower:]')
container_serve setpriv --no-new-privs --inh-caps=-all --bounding-set="$caps" # those of its unit, and no others
matches "$(timeout 60 "$BIN/dscontainer" --name two --socket "$TMP/run/socket" --policy "$TMP/good" 2>&1) $?" "socket: its socket: Address already in use.* 2$" \
	"nor is the socket of another server"
trap 'kill $server 2>/dev/null; losetup -j "$TMP/data/image" 2>/dev/null | cut -d: -f1 | xargs -r losetup -d; rm -rf "$TMP"' EXIT
run() { # run COMMAND...: in the container, with the host's files
	box dsrun --required --forward /mnt/data --forward /mnt/ro -- "$@"
}
seq 1000 >"$TMP/data/in" && chmod 644 "$TMP/data/in"
echo fixed >"$TMP/ro/file"
echo secret >"$TMP/ro/secret" && chmod 600 "$TMP/ro/secret"
is "$(box ls "$TMP/data")" "" "the container itself has not got the host's files"
is "$(run cat /mnt/data/in | md5sum)" "$(md5sum <"$TMP/data/in")" "a program of the container reads them"
is "$(run sh -c 'echo written >/mnt/data/new; cat /mnt/data/new' 2>&1) $(cat "$TMP/data/new") $(stat -c %u "$TMP/data/new")" "written written $box_user" \
	"and writes, as the container's user"
is "$(run sh -c 'echo x >/mnt/ro/file' 2>&1 | sed 's/.*: //') $(cat "$TMP/ro/file")" "Read-only file system fixed" "not what is for reading only"
is "$(run cat /mnt/ro/secret 2>&1)" "cat: /mnt/ro/secret: Permission denied" "nor what is not its user's"
is "$(run cat /mnt/data/../../../../etc/hostname 2>&1)" "cat: /mnt/data/../../../../etc/hostname: No such file or directory" ".. leads to nothing of the host"
ln -s "$TMP/ro/file" "$TMP/data/out"
matches "$(run cat /mnt/data/out 2>&1)" "fixed|No such file" "and so do links"
ln -sf /etc/shadow "$TMP/data/out"
matches "$(run cat /mnt/data/out 2>&1)" "Permission denied|No such file" "which lead to nothing that it may not read"
is "$(run bash -c 'sort -n </mnt/data/in | uniq | tail -n 1 >/mnt/data/last; cat /mnt/data/last; (echo sub; /bin/echo executed) >/mnt/data/two; cat </mnt/data/two' 2>&1)" \
	$'1000\nsub\nexecuted' "shells redirect and pipe: children inherit the host's descriptors"
is "$(run python3 -c '
import mmap, os, socket, array
f = open("/mnt/data/in", "r+b") if os.access("/mnt/data/in", os.W_OK) else open("/mnt/data/new", "r+b")
m = mmap.mmap(f.fileno(), 0)
m[0:1] = b"W"
child = os.fork()
if not child:
    m[1:2] = b"R"
    os._exit(0)
os.waitpid(child, 0)
print(m[:7])
a, b = socket.socketpair(socket.AF_UNIX)
a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [f.fileno()]))])
got = array.array("i")
for level, kind, data in b.recvmsg(1, 100)[1]:
    got.frombytes(data[:4])
os.close(f.fileno())
print(os.pread(got[0], 7, 0))' 2>&1) $(cat "$TMP/data/new")" "b'WRitten'
b'WRitten' WRitten" "a file is mapped, by a child too; its descriptor goes over a socket"
is "$(box setpriv --bounding-set -all --inh-caps -all dsrun --required --forward /mnt/data -- cat /mnt/data/new 2>&1)" WRitten \
	"whoever may not change his root makes a user namespace for that"

# --- who may ------------------------------------------------------------------------------------------------------------
matches "$(run id 2>&1)" "no shadow, .*line 1 of the policy refuses it" "a program that the policy denies gets nothing"
matches "$(run sleep 0 2>&1)" "line 2 of the policy: in a container there is no network but the container's own" "what cannot be kept is refused by its name"
matches "$(run tac /mnt/data/in 2>&1)" "no shadow, .*the host does not take its task" "a place that is not there is no shadow"
matches "$(cat "$TMP/log")" "line 3 of the policy: a place of the host that the rule names cannot be had: No such file" "and the host's log has why"
is "$(box dsrun --list-devices /usr/bin/cat 2>&1 | grep -c '/dev/net/tun \|/mnt/ro ')" 2 "what is granted can be listed"
matches "$(box dsrun --pid 1 --service checksum 2>&1)" "in a container there is the service" "there is no other service"
matches "$(box dsrun --list 2>&1)" "in a container there is nothing to be mapped, listed or ended" "and nothing to list"

cat >"$TMP/bin/rude" <<'EOT'
# rude - what a container's program says that means harm
import os, random, socket, struct, sys
def connect():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect("/run/dsagent/socket")
    s.settimeout(20)
    return s
def packet(kind, body=b"", seq=7, bytes=None):
    return struct.pack("<IHHII", 0x434c5344, 1, kind, bytes or 16 + len(body), seq) + body
def kind(s):
    try:
        return struct.unpack_from("<H", s.recv(5000), 6)[0]
    except (OSError, struct.error):
        return "end"
def shadow(service=b"forward"):
    return struct.pack("<IIIIQ32s256s", 0, 1, 0, 0, 0, service, b"")
random.seed(1)
for i in range(300):
    s = connect()
    try:
        s.send(packet(random.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 15, 31]), os.urandom(random.randrange(0, 1500))) if i % 2 else os.urandom(random.randrange(1, 3000)))
    except OSError:
        pass
s = connect()
s.send(packet(15))
print("a task without a shadow", kind(s))
s.send(packet(2, shadow()))
print("a shadow", kind(s))
s.send(packet(2, shadow()))
print("another one", kind(s))
s.send(packet(15))
print("the program as its own task", kind(s))
if not os.fork():
    s.send(packet(15))
    print("a process with other memory", kind(s), flush=True)
    os._exit(0)
os.wait()
many = [connect() for i in range(400)]
print("and", len(many))
e = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
e.connect("/run/dsagent/socket.estates")
e.send(os.urandom(3000))
EOT
is "$(box python3 "$TMP/bin/rude" 2>&1)" "a task without a shadow 21
a shadow 31
another one 21
the program as its own task 21
a process with other memory 21
and 400" "whoever means harm is refused"
is "$(run cat /mnt/data/new 2>&1)" WRitten "and others are served"

# --- ends ----------------------------------------------------------------------------------------------------------------
tasks() { pgrep -u $box_user -c cat; }
gone() { # gone: whether none of them is there any more, within a minute
	for _ in $(seq 600); do [ "$(tasks)" = 0 ] && return || sleep 0.1; done
	return 1
}
mkfifo -m 666 "$TMP/data/pipe"
begin() { # begin: a program that waits on the host for ever, and is not the container's first process, with which all others end
	pkill -KILL -u $box_user bash
	box bash -c 'dsrun --required --forward /mnt/data -- cat /mnt/data/pipe; for _ in {1..90}; do sleep 1; done' >/dev/null 2>&1 &
	for _ in $(seq 600); do [ "$(tasks)" -ge 2 ] && return || sleep 0.1; done
}
begin
is "$(tasks)" 2 "a program that waits, and its task"
pkill -KILL -u $box_user -o cat
gone
ok $? "a program that is killed takes its task along"
begin
pkill -STOP -u $box_user -n cat
pkill -KILL -u $box_user -o cat
gone
ok $? "a task that does not go by itself is killed"
begin
{ kill -KILL $server && wait $server; } 2>/dev/null
for _ in $(seq 600); do [ "$(tasks)" -le 1 ] && break || sleep 0.1; done
matches "$(tasks)" "^[01]$" "a task ends with who gave it its root"
pkill -KILL -u $box_user 'cat|bash'
gone
container_serve
is "$(run cat /mnt/data/new 2>&1)" WRitten "the next one serves where it was"

# --- devices -------------------------------------------------------------------------------------------------------------
device() { # device PATH: whether this machine has one that can be used
	(exec 3<>"$1") 2>/dev/null || { skip "$1 in a container" "this machine has none that can be used" && return 1; }
}
if device /dev/kvm; then
	for case in numbers sum interrupted dirty embedded event ports mmio two; do
		"$TMP/bin/vmm" $case >"$TMP/n" 2>&1 3>&- || { skip "$case" "it does not work on this machine itself: $(head -n 1 "$TMP/n")" && continue; }
		is "$(box dsrun --required --device /dev/kvm -- vmm $case 2>&1)" "$(cat "$TMP/n")" "a virtual machine, $case: as on the host"
	done
	if [ -n "${DEVICE_FULL:-}" ] && tests/device/seabios >"$TMP/n" 2>/dev/null; then
		is "$(box seabios dsrun --required --device /dev/kvm -- 2>/dev/null)" "$(cat "$TMP/n")" "a QEMU of the container boots its firmware by the host's KVM"
	fi
fi
if device /dev/net/tun; then
	is "$(box bash -c 'dsrun --required --device /dev/net/tun -- tunnel 3 >t 2>&1 & for _ in $(seq 600); do grep -q up t 2>/dev/null && break || sleep 0.1; done
		python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(30)
for i in range(3):
    s.sendto(b\"abc%d\" % i, (\"10.9.8.2\", 9))
    print(s.recv(100).decode())"; wait; cat t' 2>&1)" $'0cba\n1cba\n2cba\nup\nanswered' "a tun interface of the container's network, made and served there"
fi
if device /dev/loop-control; then
	truncate -s 4M "$TMP/data/image" && chown $box_user "$TMP/data/image"
	loop=$(box dsrun --required --device '/dev/loop*' --forward /mnt/data -- losetup --find --show /mnt/data/image 2>&1)
	if [[ $loop == /dev/loop* ]]; then
		matches "$(losetup -j "$TMP/data/image" 2>&1)" "^$loop: " "losetup attaches a file of the host to a loop device of the host"
		box dsrun --required --device '/dev/loop*' -- dd if=/dev/zero of="$loop" bs=4096 count=1 conv=fsync status=none 2>/dev/null
		echo mark | box dsrun --required --device '/dev/loop*' -- dd of="$loop" conv=fsync status=none 2>"$TMP/n"
		is "$(head -c 4 "$TMP/data/image") $(cat "$TMP/n")" "mark " "what is written to it is in the file"
		box dsrun --required --device '/dev/loop*' -- losetup --detach "$loop"
		is "$(losetup -j "$TMP/data/image")" "" "losetup detaches it"
	else
		skip "a loop device in a container" "none can be attached here: $loop"
	fi
fi
container_stop
tap_done
