"""shadows.py - for tests in a guest: programs to be mirrored, dsagent's local protocol, the host's help, TAP

Agent speaks runtime/guest/local.h as a client, with structures told again here.  Program is a tests/vm/mirror_prog.c, driven
over its pipes.  Host is the other end of a virtio-serial port: tests/vm/mirror_host.py answers there, one line each way.
"""
import glob
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

PAGE = 4096
MAGIC, VERSION = 0x434C5344, 1
MAP, SHADOW, STOP, REFRESH, DROP, CALL, LIST = 1, 2, 3, 4, 5, 6, 7
MAPPED, STARTED, DONE, REPLY, LISTED, REFUSED, ENDED = 16, 17, 18, 19, 20, 21, 22
EAGER, DEMAND = 0, 1
TIED, RETRY, SECCOMP, FORCE = 1, 2, 4, 8
CODES = ["", "MESSAGE", "ACCESS", "PROCESS", "NONE", "BUSY", "LIMIT", "HOST", "REFUSED", "GONE", "EXIT", "EXEC", "STOPPED", "SYSTEM"]
SOCKET = "/run/dsagent/socket"
BIN = os.environ["BIN"]
TESTS = os.path.join(os.path.dirname(BIN), "tests/vm")


class Tap:
    """Checks, printed as they come."""

    def __init__(self):
        self.n = self.bad = 0

    def ok(self, good, what, why=""):
        self.n += 1
        self.bad += not good
        print(f"{'' if good else 'not '}ok {self.n} - {what}", flush=True)
        if not good and why != "":
            for line in str(why).splitlines():
                print("# " + line, flush=True)
        return good

    def eq(self, got, want, what):
        return self.ok(got == want, what, f"got {got!r}, want {want!r}")

    def skip(self, what, why):
        self.n += 1
        print(f"ok {self.n} - {what} # SKIP {why}", flush=True)

    def note(self, text):
        print("# " + str(text), flush=True)

    def done(self):
        print(f"1..{self.n}", flush=True)
        return 1 if self.bad else 0


class Refused(Exception):
    """A request that was refused; what is a word of CODES."""

    def __init__(self, code, text):
        self.what, self.text = CODES[code] if code < len(CODES) else str(code), text
        super().__init__(f"{self.what}: {self.text}")


class Agent:
    """A connection to dsagent; requests one after the other."""

    def __init__(self, wait_s=10):
        end = time.time() + wait_s
        while True:
            self.s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self.s.connect(SOCKET)
                break
            except OSError:
                self.s.close()
                if time.time() > end:
                    raise
                time.sleep(0.05)
        self.seq = 0
        self.ended = {}  # seq of a SHADOW: (what, text)

    def close(self):
        self.s.close()

    def send(self, kind, body):
        self.seq += 1
        self.s.send(struct.pack("<IHHII", MAGIC, VERSION, kind, 16 + len(body), self.seq) + body)
        return self.seq

    def receive(self, timeout):
        """One message: (kind, seq, body); ENDED is kept, and given too."""
        if not select.select([self.s], [], [], max(timeout, 0))[0]:
            raise TimeoutError("dsagent does not answer")
        m = self.s.recv(1 << 17)
        if not m:
            raise ConnectionError("dsagent closed the connection")
        _, _, kind, _, seq = struct.unpack("<IHHII", m[:16])
        if kind == ENDED:
            code, _, text = struct.unpack("<II232s", m[16:])
            self.ended[seq] = (CODES[code], text.split(b"\0")[0].decode())
        return kind, seq, m[16:]

    def request(self, kind, body, timeout=60):
        seq, end = self.send(kind, body), time.time() + timeout
        while True:
            got, of, answer = self.receive(end - time.time())
            if of == seq and got == REFUSED:
                code, _, text = struct.unpack("<II232s", answer)
                raise Refused(code, text.split(b"\0")[0].decode())
            if of == seq and got != ENDED:
                return answer

    def shadow(self, pid, service, mode=EAGER, flags=0, args="", reserve=1024):
        body = struct.pack("<IIIIQ32s256s", pid, mode, flags, 0, reserve, service.encode(), args.encode())
        a = struct.unpack_from("<IIQQQQQQQQQ", self.request(SHADOW, body))
        return {"pid": a[0], "id": a[1], "pinned": a[2], "runs": a[3], "left_out": a[4], "mirror": a[5], "host_pid": a[6],
                "reserve": a[7:9], "capsule": a[9:11], "seq": self.seq}

    def ranges(self, kind, pid, ranges):
        body = struct.pack("<II", pid, len(ranges)) + b"".join(struct.pack("<QQ", a // PAGE, n) for a, n in sorted(ranges))
        self.request(kind, body)

    def drop(self, pid, *ranges):
        """Ranges: (address, pages)."""
        self.ranges(DROP, pid, ranges)

    def refresh(self, pid, *ranges):
        self.ranges(REFRESH, pid, ranges)

    def stop(self, pid):
        self.request(STOP, struct.pack("<II", pid, 0))

    def call(self, pid, payload, executor=0, timeout=60):
        a = self.request(CALL, struct.pack("<IIII", pid, executor, len(payload), 0) + payload, timeout)
        return a[16:]

    def shadows(self):
        after, found = 0, []
        while True:
            a = self.request(LIST, struct.pack("<II", after, 0))
            n, more = struct.unpack("<II", a[:8])
            for i in range(n):
                e = struct.unpack("<IIIIIIQQQQQQQQ32s64s", a[8 + i * 184:8 + (i + 1) * 184])
                found.append({"id": e[0], "pid": e[1], "state": e[3], "mode": e[4], "pinned": e[7], "runs": e[8], "faults": e[10],
                              "service": e[14].split(b"\0")[0].decode()})
            if not more or not n:
                return found
            after = found[-1]["id"]

    def wait_ended(self, seq, timeout=30):
        """How the shadow of that SHADOW ended; None if it did not in time."""
        end = time.time() + timeout
        while seq not in self.ended:
            try:
                self.receive(end - time.time())
            except TimeoutError:
                return None
        return self.ended[seq]

    # --- services ---
    def checksum(self, pid, addr, size):
        """(sum, bytes covered, update)"""
        return struct.unpack("<QQQ", self.call(pid, struct.pack("<QQ", addr, size)))

    def listwalk(self, pid, node):
        """(nodes, sum, where it ended, error)"""
        return struct.unpack("<QQQq", self.call(pid, struct.pack("<QQQ", node, 0, 8)))

    def calls(self, pid, op, *args):
        """tests/services/calls.h: 2 load, 3 store."""
        args = (list(args) + [0] * 6)[:6]
        return struct.unpack("<QQ64s", self.call(pid, struct.pack("<IIqQQQQQQQ", op, 0, 0, *args, 0)))[0]


class Program:
    """A running mirror_prog."""

    def __init__(self, pages=256, spread=0, under=()):
        self.p = subprocess.Popen([*under, os.path.join(TESTS, "mirror_prog"), str(pages), str(spread)], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True, bufsize=1)
        word = self.p.stdout.readline().split()
        if len(word) != 8:
            raise RuntimeError(f"mirror_prog said {word}")
        self.pid, self.pages = int(word[1]), pages
        self.area, self.list, self.list_sum, self.data, self.bss, self.stack = (int(w, 16) for w in word[2:])

    def do(self, verb, *args):
        self.p.stdin.write(" ".join([verb] + [format(a, "x") for a in args]) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline().split()
        if len(line) != 2 or line[0] != "OK":
            raise RuntimeError(f"{verb}: {line}")
        return int(line[1], 16)

    def say(self, line):
        """For a command without an answer."""
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()

    def alive(self):
        return self.p.poll() is None

    def end(self):
        try:
            self.p.stdin.close()
        except OSError:
            pass
        try:
            return self.p.wait(10)
        except subprocess.TimeoutExpired:
            self.p.kill()
            return self.p.wait()
        finally:
            self.p.stdout.close()

    def kill(self):
        self.p.kill()
        self.end()

    def frames(self, addr, pages):
        """Frame numbers by pagemap; 0 where none is present."""
        with open(f"/proc/{self.pid}/pagemap", "rb", buffering=0) as f:
            f.seek(addr // PAGE * 8)
            words = struct.unpack(f"<{pages}Q", f.read(8 * pages))
        return [w & (1 << 55) - 1 if w >> 63 else 0 for w in words]


class Host:
    """The helper on the host."""

    def __init__(self, name="vm.host"):
        for port in glob.glob("/sys/class/virtio-ports/*"):
            with open(port + "/name") as f:
                if f.read().strip() == name:
                    self.f = open("/dev/" + os.path.basename(port), "r+b", buffering=0)
                    break
        else:
            raise RuntimeError(f"there is no port {name}")
        self.buf = b""

    def ask(self, *words):
        mine = str(random.getrandbits(60))  # an answer that was meant for the guest before its reset is not ours
        number, answer = "", None
        self.f.write((" ".join(str(w) for w in (mine, *words)) + "\n").encode())
        while number != mine:
            while b"\n" not in self.buf:
                got = self.f.read(65536)
                if not got:
                    time.sleep(0.02)
                self.buf += got or b""
            line, self.buf = self.buf.split(b"\n", 1)
            try:
                number, answer = json.loads(line)
            except ValueError:
                pass  # the rest of such an answer
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"host, {' '.join(str(w) for w in words)}: {answer['error']}")
        return answer

    def shadows(self):
        """Of this VM: guest PID to what dshost's status says."""
        return {s["pid"]: s for s in self.ask("status")["shadows"] if s["state"] != "end"}


def until(fn, timeout=20, step=0.1):
    """Waits until fn() is true.  Return: its last value."""
    end = time.time() + timeout
    while True:
        value = fn()
        if value or time.time() > end:
            return value
        time.sleep(step)


def number(path, key=None):
    with open(path) as f:
        for line in f:
            if key is None:
                return int(line)
            if line.startswith(key + ":") or line.startswith(key + " "):
                return int(line.split()[1])
    return 0


def write(path, value):
    with open(path, "w") as f:
        f.write(str(value))


def start_agent(log, *options):
    p = subprocess.Popen([os.path.join(BIN, "dsagent"), *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    Agent(20).close()
    return p


def card_file(name):
    """A file of sysfs of this machine's ivshmem-plain (devmem.sh)."""
    found = [f for f in glob.glob("/sys/bus/pci/devices/*") if [open(f"{f}/{n}").read().strip() for n in ("vendor", "device")] == ["0x1af4", "0x1110"]]
    return os.path.join(os.path.realpath(found[0]), name)


def card():
    """Where this machine has its memory, which is switched on."""
    if open(card_file("enable")).read().strip() == "0":
        write(card_file("enable"), "1")
    return int(open(card_file("resource")).readlines()[2].split()[0], 16)


def tasks():
    """PID: (command, parent) of every process of the guest."""
    found = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                with open(f"/proc/{d}/stat") as f:
                    s = f.read()
                found[int(d)] = (s[s.index("(") + 1:s.rindex(")")], int(s[s.rindex(")") + 2:].split()[1]))
            except OSError:
                pass
    return found


if __name__ == "__main__":
    sys.exit("a module")
