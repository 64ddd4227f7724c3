"""device_host - the host's part of device.sh: what only the host can do to devices that its guest uses, and what has become of them

usage: device_host.py FOLDER RUN-DIR DSHOST     (host_port.py)

PID is a process of the guest.
  count                how many shadows there are
  interfaces PID       in the shadow's network namespace
  packet PID TEXT      sends TEXT to 10.9.8.2 in there, says what comes back
  fuse PID FD          mounts what the shadow's descriptor FD leads to, in a namespace of its own; says what "hello" there holds
  pinned PID AT BYTES  how many pages of the shadow's at AT are there for somebody who takes hold of them and does not wait; the last word
  backing LOOP         the file behind a loop device
  bytes FILE           the first 16 of a file in FOLDER/files
"""
import ctypes
import os
import socket

from host_port import answer, count, folder, shadows

libc = ctypes.CDLL(None, use_errno=True)
SYS_pidfd_open, SYS_pidfd_getfd = 434, 438
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 1 << 18


def check(rc, what):
    if rc < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return rc


def capsule(pid):
    for s in shadows():
        if s["pid"] == int(pid):
            return s["capsule"]
    raise LookupError(f"process {pid} has no shadow")


def enter(pid, name, kind):
    fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
    check(libc.setns(fd, kind), f"setns {name}")
    os.close(fd)


def in_child(function):
    """what function() returns, run in a process of its own"""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = function()
        except Exception as e:  # pylint: disable=broad-except
            text = f"failed: {e!r}"
        os.write(w, text.encode())
        os._exit(0)
    os.close(w)
    with os.fdopen(r) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return text


def interfaces(pid):
    with open(f"/proc/{capsule(pid)}/net/dev", encoding="ascii") as f:
        return " ".join(line.split(":")[0].strip() for line in f if ":" in line)


def packet(pid, text):
    shadow = capsule(pid)

    def send():
        enter(shadow, "net", CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(60)
            s.connect(("10.9.8.2", 99))
            s.send(text.encode())
            return s.recv(2048).decode()

    return in_child(send)


def fuse(pid, fd):
    shadow = capsule(pid)

    def mount():
        pidfd = check(libc.syscall(SYS_pidfd_open, shadow, 0), "pidfd_open")
        device = check(libc.syscall(SYS_pidfd_getfd, pidfd, int(fd), 0), "pidfd_getfd")
        enter(shadow, "user", CLONE_NEWUSER)  # who opened it is who mounts it
        check(libc.unshare(CLONE_NEWNS), "unshare")
        check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "private mounts")
        options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
        check(libc.mount(b"guest", b"/mnt", b"fuse", MS_NOSUID | MS_NODEV, options), "mount")
        os.close(device)
        with open("/mnt/hello", encoding="ascii") as f:
            text = " ".join(os.listdir("/mnt")) + " " + f.read()
        check(libc.umount2(b"/mnt", 0), "umount")
        return text

    return in_child(mount)


def pinned(pid, at, size):
    # /proc/PID/mem looks pages up as drivers do that pin, under the lock of the memory: a page that is not there yet is an error.
    at, size, there = int(at, 16), int(size), 0
    mem = os.open(f"/proc/{capsule(pid)}/mem", os.O_RDONLY)
    for page in range(at, at + size, 4096):
        try:
            there += len(os.pread(mem, 1, page))
        except OSError:
            pass
    word = os.pread(mem, 16, at + size - 16).split(b"\0")[0].decode().strip() if there else ""
    os.close(mem)
    return f"{there} {word}".strip()


def backing(loop):
    with open(f"/sys/block/{os.path.basename(loop)}/loop/backing_file", encoding="ascii") as f:
        return os.path.basename(f.read().strip())


def content(name):
    with open(f"{folder}/files/{name}", "rb") as f:
        return f.read(16).decode()


answer({
    "count": count,
    "interfaces": interfaces,
    "packet": packet,
    "fuse": fuse,
    "pinned": pinned,
    "backing": backing,
    "bytes": content,
})
