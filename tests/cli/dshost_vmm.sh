#!/bin/bash
# dshost_vmm.sh - dshost with a VMM that is played: which memory may be used, what status says, what ends when the guest does
#
# The part is in Python: a memfd is the RAM, mapped as QEMU would have it, and the vhost-user messages are QEMU's.
# flavours: asan
. tests/tap.sh
d=$BIN/dshost
mkdir "$TMP/services"
printf 'allow program=/usr/bin/** service=checksum\n' >"$TMP/policy"
"$d" serve --run-dir "$TMP/run" --policy "$TMP/policy" --services "$TMP/services" --start-rate 3 2>"$TMP/log" &
daemon=$!
for _ in $(seq 200); do
	"$d" status --run-dir "$TMP/run" >/dev/null 2>&1 && break
	sleep 0.05
done
cat >"$TMP/vmm.py" <<'PY'
import ctypes, json, mmap, os, socket, struct, subprocess, sys, time
dshost, run = sys.argv[1:3]
MIB = 1 << 20

def status(name):
    out = subprocess.run([dshost, "status", "--json", "--run-dir", run], capture_output=True, text=True)
    return next((v for v in json.loads(out.stdout)["vms"] if v["name"] == name), None)

def ask(name, ranges=(), pages=0):
    """A VM, as dshost attach asks for it: with the ranges that the monitor told, in pages."""
    packet = struct.pack("<IHH32sQIIQII", 0x4C435344, 3, 1, name.encode(), 0, os.getpid(), os.getuid(), pages, len(ranges), 0)
    for i in range(64):
        packet += struct.pack("<QQQ", *(ranges[i] if i < len(ranges) else (0, 0, 0)))
    c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    c.connect(run + "/control")
    c.send(packet)
    r = c.recv(4096)
    kind, = struct.unpack_from("<H", r, 6)
    return kind, r[32:140].split(b"\0")[0].decode()

class Vmm:
    def __init__(self, name, flags=mmap.MAP_SHARED, **told):
        self.name = name
        kind, path = ask(name, **told)
        assert kind == 1, kind
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.s.settimeout(20)
        self.fd = os.memfd_create("ram")
        os.ftruncate(self.fd, 8 * MIB)
        self.ram = mmap.mmap(self.fd, 8 * MIB, flags=flags)
        self.at = ctypes.addressof(ctypes.c_char.from_buffer(self.ram))

    def say(self, request, payload=b"", fds=()):
        head = struct.pack("<III", request, 9 if fds else 1, len(payload))
        socket.send_fds(self.s, [head + payload], list(fds))

    def table(self, low=4 * MIB, other=None):
        regions = [(0, low, self.at, 0), (1 << 32, 8 * MIB - low, self.at + low, low)]
        fds = [self.fd, self.fd]
        if other:
            regions.append((2 << 32, MIB, other[0], 0))
            fds.append(other[1])
        self.say(5, struct.pack("<II", len(regions), 0) + b"".join(struct.pack("<QQQQ", *r) for r in regions), fds)
        return self.s.recv(20)

    def begin(self):
        self.say(16, struct.pack("<Q", 1 << 3 | 1 << 9))
        self.say(2, struct.pack("<Q", 1 << 32 | 1 << 30))

    def start(self):
        for q in 0, 1:
            base = self.at + (q + 1) * 65536
            self.kick = e = os.eventfd(0)
            self.say(8, struct.pack("<II", q, 64))
            self.say(10, struct.pack("<II", q, 0))
            self.say(9, struct.pack("<IIQQQQ", q, 0, base, base + 8192, base + 4096, 0))
            for request in 12, 13:
                self.s.sendmsg([struct.pack("<IIIQ", request, 1, 8, q)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", e))])
            if q == 0:
                os.close(e)
        for q in 0, 1:
            self.say(18, struct.pack("<II", q, 1))
        self.sent = 0

    def open(self, port):
        """The guest asks for a stream to the agent's port; nobody reads what comes back."""
        base, head = 2 * 65536, 3 * 65536
        struct.pack_into("<QQIIIHHIII", self.ram, head, status(self.name)["cid"] if not self.sent else self.cid, 2, port, 871, 0, 1, 1, 0, 65536, 0)
        if not self.sent:
            self.cid = struct.unpack_from("<Q", self.ram, head)[0]
            struct.pack_into("<QIHH", self.ram, base, head, 44, 0, 0)
        struct.pack_into("<H", self.ram, base + 4096 + 4 + 2 * (self.sent % 64), 0)
        self.sent += 1
        struct.pack_into("<H", self.ram, base + 4096 + 2, self.sent)
        os.eventfd_write(self.kick, 1)
        for _ in range(6000):
            if struct.unpack_from("<H", self.ram, base + 8192 + 2)[0] == self.sent:
                return
            time.sleep(0.01)
        raise TimeoutError("the queue is not served")

    def stop(self):
        for q in 0, 1:
            self.say(11, struct.pack("<II", q, 0))
            self.s.recv(20)

    def see(self, what, want):
        """Prints a line of TAP: what status says, at last."""
        for _ in range(100):
            v = status(self.name)
            got = v and [v["state"], v["ram_bytes"] // MIB, v["ranges"], v["source"], v["text"]]
            if got == want:
                break
            time.sleep(0.05)
        print("ok" if got == want else "not ok", "-", what)
        if got != want:
            print("# got ", got, "\n# want", want)

a = Vmm("shared")
a.see("a VMM that connects is there", ["booting", 0, 0, "-", None])
a.begin()
a.table()
a.see("its table is looked at", ["booting", 8, 2, "vhost-user", None])
a.start()
a.see("the guest starts its device: ready", ["ready", 8, 2, "vhost-user", None])
a.table(low=2 * MIB)
a.see("another layout while it runs", ["ready", 8, 2, "vhost-user", None])
other = os.memfd_create("window")
os.ftruncate(other, MIB)
window = mmap.mmap(other, MIB)
a.table(low=2 * MIB, other=(ctypes.addressof(ctypes.c_char.from_buffer(window)), other))
a.see("memory of another file is none of the RAM", ["ready", 8, 2, "vhost-user", None])
a.say(5, struct.pack("<II", 0, 0))
a.see("a VMM that sends no memory: why there are no shadows", ["unusable", 0, 0, "-", "no shared RAM: the VM needs a memory backend with share=on"])
a.table()
a.see("the next table is good again", ["ready", 8, 2, "vhost-user", None])
a.stop()
a.see("a reset", ["booting", 8, 2, "vhost-user", None])
a.table()
a.start()
a.see("and back", ["ready", 8, 2, "vhost-user", None])

began = time.time()
for port in range(1, 51):
    a.open(port)
v = status("shared")
most = 30 + 3 * (time.time() - began)
good = v["shadows_started"] >= 30 and v["shadows_started"] <= most and v["shadows_started"] + v["streams_refused"] == 50
print("ok" if good else "not ok", "- who opens streams without end gets ten seconds' worth of shadows at once, and then what the rate says")
print("#", v["shadows_started"], "of 50 started, at most", most)
for port in range(51, 1000):
    a.open(port)
    if status("shared")["shadows_started"] > v["shadows_started"]:
        break
    time.sleep(0.05)
print("ok" if port < 999 else "not ok", "- and later another one")

b = Vmm("private", flags=mmap.MAP_PRIVATE)
b.begin()
b.table()
b.see("memory that the VMM has mapped privately is found out", ["unusable", 0, 0, "-",
    "the RAM is private to the VMM: its backend needs share=on (guest address 0)"])
b.start()
time.sleep(0.2)
b.see("and starting the device does not change that", ["unusable", 0, 0, "-",
    "the RAM is private to the VMM: its backend needs share=on (guest address 0)"])

c = Vmm("told", ranges=((0, 0, 1024), (1 << 20, 1024, 1024)), pages=2048)
c.begin()
c.table()
c.start()
c.see("the monitor tells the same", ["ready", 8, 2, "vhost-user+monitor", None])
c.table(low=2 * MIB)
got = None
for _ in range(100):
    got = status("told")
    if got["state"] == "unusable":
        break
    time.sleep(0.05)
good = got["state"] == "unusable" and "vhost-user and the monitor tell different things of the memory" in got["text"] and "a range has another length (guest address 0)" in got["text"]
print("ok" if good else "not ok", "-", "the monitor tells something else: refused, and where")
print("#", got["text"])
assert ask("told")[0] == 3
print("ok - a name that is taken stays taken")
for ranges, pages in (((0, 0, 2049),), 2048), (((0, 0, 1024), (512, 1024, 1024)), 2048), (((1, 0, 1024),), 2048):
    if ask("bad", ranges=ranges, pages=pages)[0] != 3:
        print("not ok - a monitor's table that cannot be is refused")
print("ok - tables that cannot be are refused")
# Whoever may write to the file can do this at any time: the VM's process ends of it, and nobody else does.
short = Vmm("short")
short.begin()
short.table()
short.start()
short.see("another VM is ready", ["ready", 8, 2, "vhost-user", None])
os.ftruncate(short.fd, 0)
os.eventfd_write(short.kick, 1)
for _ in range(100):
    if not status("short"):
        break
    time.sleep(0.05)
print("ok" if not status("short") and status("shared")["state"] == "ready" else "not ok", "-", "its memory's file is made shorter: it is not served any more, others are")
a.s.close()
for _ in range(100):
    if not status("shared"):
        break
    time.sleep(0.05)
print("ok" if not status("shared") else "not ok", "-", "the device's connection ends: the VM is not known any more")
print("ok" if status("told") else "not ok", "-", "the others are")
PY
while IFS= read -r line; do
	case $line in
	'ok - '*) ok 0 "${line#ok - }" ;;
	'not ok - '*) ok 1 "${line#not ok - }" ;;
	*) echo "# ${line#\# }" ;;
	esac
done < <(python3 "$TMP/vmm.py" "$d" "$TMP/run" 2>&1; echo "$?" >"$TMP/status")
is "$(cat "$TMP/status")" 0 "the VMM's part has come to its end"
for _ in $(seq 100); do
	[ "$("$d" status --json --run-dir "$TMP/run" | jq '.vms | length')" = 0 ] && break
	sleep 0.05
done
is "$(ls "$TMP/run" | tr '\n' ' ')" "control lock " "the VMMs are gone, and nothing of their VMs is left"
if [ -n "$(nm "$BIN/dshost" 2>/dev/null | grep -m1 -E ' __asan_init')" ]; then
	skip "the log says why one was not served any more" "the sanitizer takes the signal itself"
else
	is "$(grep -c "vm short: its process .* was ended by signal 7 (the file of the VM's memory was made shorter" "$TMP/log")" 1 "the log says why one was not served any more"
fi
kill $daemon
wait $daemon
is "$?" 0 "the daemon ends"
tap_done
