"""hostile.py - in the guest of mirror.sh: root opens streams of its own to dshost, past dsagent, lies and floods

What must hold: each stream ends, or is refused; nothing else does.  Told again here from runtime/wire/agent.h.
"""
import ctypes
import errno
import os
import random
import select
import socket
import struct
import time

MAGIC, VERSION, PORT, HOST = 0x47415344, 1, 871, 2
HELLO, ATTACH, UPDATE, DROP, PAGES, CALL = 1, 2, 3, 4, 5, 6
WELCOME, STARTED, DONE, FAULT, REPLY, REFUSED, ENDED = 16, 17, 18, 19, 20, 21, 22
VPN = 0x10000  # where the liars have their pages
ports = iter(range(1023, 1, -1))
random.seed(4)


def stream(port=None, again_s=60):
    """A stream from a privileged port, as root alone can have it; tried again where it is refused, as streams that were closed take a moment."""
    global ports
    end = time.time() + again_s
    while True:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        s.settimeout(5)
        try:
            if port is None:
                s.bind((socket.VMADDR_CID_ANY, next(ports)))
            elif port:
                s.bind((socket.VMADDR_CID_ANY, port))
            s.connect((HOST, PORT))
            return s
        except StopIteration:
            ports = iter(range(1023, 1, -1))
            s.close()
        except OSError as e:
            s.close()
            if port is not None or time.time() > end + (60 if e.errno == errno.EADDRINUSE else 0):
                raise


def head(kind, size, seq=1, magic=MAGIC, version=VERSION):
    return struct.pack("<IHHII", magic, version, kind, size, seq)


def message(kind, body, seq=1):
    return head(kind, 16 + len(body), seq) + body


def hello():
    return message(HELLO, b"\1" * 16 + b"6.1.0-hostile".ljust(64, b"\0"))


def attach(ranges=b"", nranges=0, blob=b"", map_bytes=None, mode=0, service=b"checksum", program=b"/usr/bin/liar", pid=None):
    body = struct.pack("<QQIIII", pid or os.getpid(), 1, 0, 0, mode, 0) + struct.pack("<QQ", 0, 0)
    body += struct.pack("<QQ", nranges, len(blob) if map_bytes is None else map_bytes)
    body += service.ljust(32, b"\0") + b"\0" * 256 + b"\0" * 32 + program.ljust(1024, b"\0")
    return message(ATTACH, body + ranges + blob)


def runs_blob(runs, nruns=None, true_sums=True):
    """A map (rle/map.h) of runs (VPN, frame, pages, attributes), right in form whatever it leads to."""
    body = b"".join(struct.pack("<QQII", *r) for r in runs)
    head48 = b"DSRUNMAP" + struct.pack("<IHHBBBBIQQQQ", 0x01020304, 1, 72, 12, 2, 1, 0, 0, len(runs) if nruns is None else nruns,
                                       sum(r[2] for r in runs), os.getpid(), 1)
    head64 = head48 + struct.pack("<Q", xxh3(body) if true_sums else 1)
    return head64 + struct.pack("<Q", xxh3(head64)) + body


def xxh3(data):
    lib = ctypes.CDLL("libxxhash.so.0")
    lib.XXH3_64bits.restype = ctypes.c_uint64
    lib.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return lib.XXH3_64bits(data, len(data))


def outcome(s, timeout=20, awaited=None):
    """The kinds of messages that came until the stream was closed, or the awaited one came; and whether it was closed."""
    kinds, buf, end = [], b"", time.time() + timeout
    while time.time() < end:
        if not select.select([s], [], [], 0.5)[0]:
            continue
        try:
            got = s.recv(65536)
        except OSError:
            return kinds, True
        if not got:
            return kinds, True
        buf += got
        while len(buf) >= 16 and len(buf) >= struct.unpack("<I", buf[8:12])[0] >= 16:
            size = struct.unpack("<I", buf[8:12])[0]
            kinds.append(struct.unpack("<H", buf[6:8])[0])
            buf = buf[size:]
            if kinds[-1] == awaited:
                return kinds, False
    return kinds, False


def put(s, data):
    try:
        s.sendall(data)
    except OSError:
        pass


def lies():
    """(what, bytes)"""
    rng = struct.pack
    good = hello()
    mapped = rng("<QQ", VPN, 16)
    yield "random bytes", os.urandom(4096)
    yield "another magic", head(HELLO, 96, magic=0x12345678) + b"\0" * 80
    yield "another version", head(HELLO, 96, version=99) + b"\0" * 80
    yield "a length of 0", head(HELLO, 0)
    yield "a length of 4 GiB", head(HELLO, 0xFFFFFFFF) + b"x" * 1000
    yield "ATTACH before HELLO", attach()
    yield "HELLO twice", good + good
    yield "an unknown kind", good + message(99, b"")
    yield "a message of the host", good + message(STARTED, b"\0" * 32)
    yield "UPDATE before ATTACH", good + message(UPDATE, rng("<QQ", 0, 0))
    yield "a service's name without an end", good + attach(service=b"x" * 32)
    yield "a service's name that is a path", good + attach(service=b"../../../bin/sh")
    yield "2^60 ranges", good + attach(nranges=1 << 60)
    yield "a map of 2^63 bytes", good + attach(map_bytes=1 << 63)
    yield "sums that overflow", good + attach(nranges=1 << 60, map_bytes=(1 << 64) - (1 << 64) // 16)
    yield "ranges that overlap", good + attach(rng("<QQQQ", 10, 10, 15, 10), 2)
    yield "a range of the kernel's half", good + attach(rng("<QQ", 0xFFFF800000000, 16), 1, mode=1)
    yield "a range that wraps", good + attach(rng("<QQ", (1 << 64) - 1, 16), 1, mode=1)
    yield "an empty range", good + attach(rng("<QQ", 10, 0), 1, mode=1)
    yield "no map", good + attach(rng("<QQ", 10, 10), 1)
    yield "a map that is no map", good + attach(blob=os.urandom(500))
    yield "a map far outside the memory", good + attach(mapped, 1, runs_blob([(VPN, 1 << 39, 1, 3)]))
    yield "a map of frames right behind the memory", good + attach(mapped, 1, runs_blob([(VPN, 0x200000000 // 4096 - 1, 2, 3)]))
    yield "a map of the graphics card", good + attach(mapped, 1, runs_blob([(VPN, 0xFD000000 >> 12, 1, 3)]))
    yield "a map at address 0", good + attach(rng("<QQ", 0, 16), 1, runs_blob([(0, 256, 1, 3)]))
    yield "a map of the kernel's half", good + attach(mapped, 1, runs_blob([(0xFFFF800000000, 256, 1, 3)]))
    yield "runs that overlap", good + attach(mapped, 1, runs_blob([(VPN, 256, 4, 3), (VPN + 2, 512, 4, 3)]))
    yield "a map with a wrong sum", good + attach(mapped, 1, runs_blob([(VPN, 256, 1, 3)], true_sums=False))
    yield "a map that says it is longer", good + attach(mapped, 1, runs_blob([(VPN, 256, 1, 3)], 1 << 40))
    yield "more mappings than a process may have", good + attach(rng("<QQ", VPN, 200000), 1,
                                                                 runs_blob([(VPN + i, 256 + i * 7 % 4096, 1, 3) for i in range(140000)]))
    yield "an unknown mode", good + attach(mode=7)
    yield "control characters in a path", good + attach(program=b"/bin/\x1b[2J\nforged line")
    yield "half a message", good + attach()[:100]


def run(t, host):
    closed, left = 0, []
    n = 0
    for what, data in lies():
        n += 1
        s = stream()
        put(s, data)
        if what == "half a message":
            s.shutdown(socket.SHUT_WR)
        kinds, ended = outcome(s)
        s.close()
        if ended and STARTED not in kinds:
            closed += 1
        else:
            left.append(f"{what}: {kinds}, {'ended' if ended else 'open'}")
    t.ok(closed == n, f"hostile streams: {n} kinds of lies each end their stream, no shadow comes of one", "\n".join(left))
    for port in (0, 5000):
        try:
            s = stream(port)
            put(s, hello())
            kinds, ended = outcome(s, 5)
            s.close()
            t.ok(not kinds and ended, f"hostile streams: a port that anybody may use is refused ({port or 'any'})", kinds)
        except OSError:
            t.ok(True, f"hostile streams: a port that anybody may use is refused ({port or 'any'})")
    forged = [x for x in host.ask("log", "forged")["lines"] if x.startswith("forged")]
    t.ok(not forged, "hostile streams: no line of the log is the guest's", forged)

    # a shadow that stands, and is then told lies: an update is refused, whatever else it is
    s = stream()
    put(s, hello() + attach(struct.pack("<QQ", VPN, 16), 1, runs_blob([(VPN, 256, 16, 3)])))
    kinds, _ = outcome(s, 60, STARTED)
    t.ok(STARTED in kinds, "hostile streams: root of the guest may have a shadow of any of its frames", kinds)
    body = runs_blob([(VPN, 1 << 38, 16, 3)])
    put(s, message(UPDATE, struct.pack("<QQ", 1, len(body)) + struct.pack("<QQ", VPN, 16) + body, 7))
    kinds, ended = outcome(s, 60, REFUSED)
    t.ok(REFUSED in kinds and DONE not in kinds, "hostile streams: an update that leads outside the memory is refused", (kinds, ended))
    put(s, message(PAGES, struct.pack("<Q", 0), 99))
    kinds, ended = outcome(s, 60)
    t.ok(ended, "hostile streams: an answer that nobody asked for ends the shadow", kinds)
    s.close()

    # a mirror on demand of nothing, that is then lied to and flooded
    s = stream()
    put(s, hello() + attach(struct.pack("<QQ", 0x10000, 64), 1, mode=1))
    kinds, _ = outcome(s, 60, STARTED)
    if STARTED in kinds:
        put(s, b"".join(message(CALL, struct.pack("<II", 0, 16) + struct.pack("<QQ", 0x10000000, 4096), i) for i in range(2, 400)))
        put(s, message(PAGES, struct.pack("<Q", 48) + os.urandom(48), 12345))
        kinds, ended = outcome(s, 40)
        t.ok(ended, "hostile streams: calls without end and pages nobody asked for end the shadow", kinds)
    else:
        t.ok(True, f"hostile streams: a mirror of another's addresses is refused ({kinds})")
    s.close()

    begin = time.time()
    opened = []
    for _ in range(150):
        try:
            opened.append(stream(again_s=0))
        except OSError:
            pass
    for s in opened[::2]:
        put(s, hello()[:random.randrange(16)])
    answer = host.ask("status")
    t.ok(answer.get("state") == "ready", f"hostile streams: {len(opened)} at once, and dshost still answers ({time.time() - begin:.1f} s)", answer)
    for s in opened:
        s.close()
    flood = [stream() for _ in range(4)]
    for s in flood:
        s.setblocking(False)
        put(s, hello())
    sent = 0
    end = time.time() + 1
    while time.time() < end:
        for s in flood:
            try:
                sent += s.send(os.urandom(1024) * 64)
            except OSError:
                pass
    t.ok(host.ask("status").get("state") == "ready", f"hostile streams: a flood of {sent >> 10} KiB, and dshost still answers")
    for s in flood:
        s.close()
