"""forward_prog - what is hard to ask of a stock program: threads, signals, time limits, descriptors of both sides

usage: forward_prog.py PART DIR [ARGUMENT...]     DIR: a directory that may be the host's

Prints what happened and nothing that differs from run to run, so that the output of a run with forwarding can be compared with that
of one without, byte by byte.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import sys
import threading
import time


def failing(what, call, *args, **kwargs):
    try:
        print(what, "gave", call(*args, **kwargs))
    except OSError as e:
        print(what, "failed:", errno.errorcode[e.errno])


def files(d):
    """Making, writing, reading, renaming, removing; and what cannot be."""
    p = os.path.join(d, "made")
    os.mkdir(p)
    with open(f"{p}/a", "wb") as f:
        f.write(bytes(range(256)) * 40)
        f.seek(5000)
        f.write(b"in the middle")
    fd = os.open(f"{p}/a", os.O_RDWR)
    print("size", os.fstat(fd).st_size, "mode", oct(os.fstat(fd).st_mode))
    print("pread", os.pread(fd, 20, 4996))
    bufs = [bytearray(3), bytearray(7), bytearray(1)]
    print("preadv", os.preadv(fd, bufs, 5000), bufs)
    print("pwritev", os.pwritev(fd, [b"xy", b"", b"z"], 1), os.pread(fd, 6, 0))
    os.ftruncate(fd, 100)
    print("seek", os.lseek(fd, 0, os.SEEK_END), os.read(fd, 10))
    os.close(fd)
    failing("a closed descriptor", os.read, fd, 1)
    os.symlink("a", f"{p}/l")
    os.link(f"{p}/a", f"{p}/h")
    print("link", os.readlink(f"{p}/l"), os.stat(f"{p}/h").st_nlink, os.path.samefile(f"{p}/l", f"{p}/h"))
    os.rename(f"{p}/h", f"{p}/r")
    os.utime(f"{p}/r", (1, 2))
    os.chmod(f"{p}/r", 0o640)
    st = os.stat(f"{p}/r")
    print("times", st.st_atime, st.st_mtime, oct(st.st_mode))
    print("list", sorted(e.name + ("@" if e.is_symlink() else "") for e in os.scandir(p)))
    old = os.getcwd()
    os.chdir(p)
    print("cwd", os.getcwd(), sorted(os.listdir(".")), os.path.exists("../made/a"))
    os.chdir(old)
    dfd = os.open(p, os.O_RDONLY | os.O_DIRECTORY)
    print("at", os.stat("a", dir_fd=dfd).st_size, sorted(os.listdir(dfd)))
    os.close(dfd)
    failing("open of what is not there", os.open, f"{p}/none", os.O_RDONLY)
    failing("mkdir of what is there", os.mkdir, p)
    failing("rmdir of what is not empty", os.rmdir, p)
    failing("read of a directory", open, p, "rb")
    failing("a file as a directory", os.open, f"{p}/a/b", os.O_RDONLY)
    failing("a name too long", os.open, p + "/" + "n" * 300, os.O_RDONLY)
    failing("write to what is open for reading", os.write, os.open(f"{p}/a", os.O_RDONLY), b"x")
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(f"{p}/a", os.O_RDONLY)
    libc.read(fd, ctypes.c_void_p(8), 10)
    print("read to nowhere:", errno.errorcode[ctypes.get_errno()])
    libc.open(ctypes.c_void_p(8), 0)
    print("open of a bad pointer:", errno.errorcode[ctypes.get_errno()])
    for name in ("a", "l", "r"):
        os.unlink(f"{p}/{name}")
    os.rmdir(p)
    print("gone", os.path.exists(p))


def mapped(d):
    """A private mapping of a file, and a locked one."""
    p = os.path.join(d, "mapped")
    with open(p, "wb") as f:
        f.write(os.urandom(1) * 5000 + b"the end")
    with open(p, "rb") as f:
        m = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        print("mapped", len(m), bytes(m[5000:]))
        m[5000:5003] = b"own"
        print("changed", bytes(m[5000:]), os.pread(f.fileno(), 20, 5000))
        m.close()
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open(p, "rb") as g:
            failing("a lock that is taken", fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(f, fcntl.LOCK_UN)
    os.unlink(p)


def dups(d):
    """Copies of descriptors have one offset; numbers are the lowest free ones."""
    p = os.path.join(d, "dups")
    a = os.open(p, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    b = os.dup(a)
    print("lowest", b - a)
    os.write(a, b"one ")
    os.write(b, b"two ")
    c = fcntl.fcntl(a, fcntl.F_DUPFD_CLOEXEC, 40)
    os.write(c, b"three")
    print("number", c, "flags", fcntl.fcntl(c, fcntl.F_GETFD), fcntl.fcntl(b, fcntl.F_GETFL) & os.O_ACCMODE)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, b)  # here over there
    print("to null", os.write(b, b"lost"), os.read(b, 5))
    os.dup2(a, null)  # there over here
    os.write(null, b" four")
    os.close(a)
    print("offset", os.lseek(null, 0, os.SEEK_CUR), os.pread(c, 100, 0))
    saved = os.dup(1)
    sys.stdout.flush()
    os.dup2(c, 1)
    print(" five")
    sys.stdout.flush()
    os.dup2(saved, 1)
    print("file", open(p, "rb").read())
    os.closerange(b, 60)
    failing("closed", os.read, c, 1)
    os.unlink(p)


def threads(d):
    """One thread is blocked in a read of a FIFO while others go on."""
    p = os.path.join(d, "threads")
    os.mkfifo(p)
    fd = os.open(p, os.O_RDWR)
    got = []
    reader = threading.Thread(target=lambda: got.append(os.read(fd, 100)))
    reader.start()
    bad = []

    def work(n):
        name = os.path.join(d, f"thread{n}")
        for i in range(20):
            with open(name, "wb") as f:
                f.write(b"%d" % i * n)
            if open(name, "rb").read() != b"%d" % i * n:
                bad.append((n, i))
        os.unlink(name)
    others = [threading.Thread(target=work, args=(n,)) for n in range(1, 4)]
    for t in others:
        t.start()
    for t in others:
        t.join()
    print("the others are done, wrong:", bad, "the reader has", got)
    os.write(fd, b"now")
    reader.join()
    print("the reader has", got)
    os.unlink(p)


def limits(d):
    """Time limits of poll, select, and of sockets; a descriptor of each side together."""
    p = os.path.join(d, "limits")
    os.mkfifo(p)
    there = os.open(p, os.O_RDWR)
    here, here_w = os.pipe()
    poll = select.poll()
    poll.register(there, select.POLLIN)
    poll.register(here, select.POLLIN)
    names = {there: "there", here: "here"}
    start = time.monotonic()
    print("nothing", poll.poll(200), time.monotonic() - start >= 0.2)
    print("select", select.select([there, here], [], [], 0.1)[0])
    os.write(here_w, b"x")
    print("ready", [names[f] for f, _ in poll.poll(5000)])
    os.read(here, 1)
    os.write(there, b"x")
    print("ready", [names[f] for f, _ in poll.poll(5000)])
    print("select", [names[f] for f in select.select([there, here], [], [], 5)[0]])
    os.write(here_w, b"x")
    print("ready", sorted(names[f] for f, _ in poll.poll(5000)))
    os.read(here, 1)
    os.read(there, 1)
    later = threading.Timer(0.3, os.write, (there, b"later"))
    later.start()
    print("ready later", [names[f] for f, _ in poll.poll(10000)], os.read(there, 9))
    later.join()
    later = threading.Timer(0.3, os.write, (here_w, b"later"))
    later.start()
    print("ready later", [names[f] for f, _ in poll.poll(10000)], os.read(here, 9))
    later.join()
    ep = select.epoll()
    ep.register(here, select.EPOLLIN)
    try:
        ep.register(there, select.EPOLLIN)
        os.write(there, b"x")
        print("epoll", [names[f] for f, _ in ep.poll(5)])
    except OSError as e:
        print("epoll", errno.errorcode[e.errno])
    os.unlink(p)


def signals(d):
    """Signals that meet a read which is blocked."""
    p = os.path.join(d, "signals")
    os.mkfifo(p)
    fd = os.open(p, os.O_RDWR)
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: (seen.append("alarm"), os.write(fd, b"by the handler")))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    print("read", os.read(fd, 100), seen)

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        print("read", os.read(fd, 100))
    except Stop:
        print("the handler ended the read")
    os.write(fd, b"after")
    print("read", os.read(fd, 100))
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        print("poll", select.select([fd], [], [], 10))
    except Stop:
        print("the handler ended the poll")
    os.unlink(p)


def denied(d):
    """Paths that were not granted; a place to read only."""
    for path in ("other", "other/x", "data/../ro/../other"):
        failing(path, os.stat, os.path.join(d, path))
    failing("a file where nothing was granted", os.open, os.path.join(d, "other/new"), os.O_CREAT | os.O_WRONLY, 0o644)
    ro = os.path.join(d, "ro")
    print("read", open(f"{ro}/r").read().strip())
    failing("write", os.open, f"{ro}/r", os.O_WRONLY)
    failing("make", os.open, f"{ro}/new", os.O_CREAT | os.O_WRONLY, 0o644)
    failing("remove", os.unlink, f"{ro}/r")
    failing("mkdir", os.mkdir, f"{ro}/d")
    failing("chmod", os.chmod, f"{ro}/r", 0o600)
    failing("rename", os.rename, f"{ro}/r", f"{ro}/q")


def waits(d):
    # for whatever children there are, as debuggers do; dsagent's helper is none of theirs
    print(open(d + "/tree/hello").read())
    if not os.fork():
        os._exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(-1, 0x40000000)[1]))
    failing("with no child left", os.waitpid, -1, 0x40000000)
    failing("by waitid", os.waitid, os.P_ALL, 0, os.WEXITED | 0x40000000)


def client(_, port):
    """A request to a server, with sockets only."""
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as s:
        s.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
        data = b""
        while chunk := s.recv(1000):
            data += chunk
    print(data.split(b"\r\n")[0], data.split(b"\r\n\r\n")[1])
    s = socket.socket()
    s.settimeout(5)
    failing("a port where nobody listens", s.connect, ("127.0.0.1", 1))
    a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    a.bind(("127.0.0.1", 0))
    a.settimeout(0.2)
    try:
        a.recv(10)
    except TimeoutError:
        print("nothing came within the limit")
    a.sendto(b"to myself", a.getsockname())
    print(a.recv(100))


def blocked(d, name):
    """Says that it is there and reads a FIFO until something happens."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background without
    fd = os.open(os.path.join(d, name), os.O_RDWR)
    print("waiting", flush=True)
    try:
        print("read", os.read(fd, 10))
    except OSError as e:
        print("read failed:", errno.errorcode[e.errno])
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(3)
    failing("the next call", os.stat, d)
    print("its own side:", os.path.exists("/proc/self/stat"))


def bomb(d):
    """Forks, and its children fork, and all of them want the host's file; whatever they get, it ends."""
    os.open(d, os.O_RDONLY)
    depth = 0
    for _ in range(3):
        if os.fork() == 0:
            depth += 1
        try:
            os.stat(os.path.join(d, "tree/hello"))
        except OSError:
            pass
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    if depth:
        os._exit(0)
    print("done")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
