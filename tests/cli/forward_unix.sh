#!/bin/bash
# forward_unix.sh - a program and unix sockets of the host: messages and descriptors, where the shadow has neither sendmsg() nor recvmsg()
#
# The same client talks to the same server: in the file system of both, and forwarded to where the server is, by a host under a seccomp
# filter that takes from it what a shadow's filter does (runtime/host/jail/filter_group.h).  Who sends and receives in its place is dshost's own code.
# What may come and go is in tests/unit/host_unix.c.
. tests/tap.sh
. tests/forward.bash
forward_needs "unix sockets of the host"
P=$TMP/p/host
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
if [ -z "$python" ]; then
	skip "unix sockets of the host" "python3 is not installed"
	tap_done
	exit
fi
forward_estates

cat >"$TMP/server" <<'EOT'
import array, os, socket, sys, time
d = sys.argv[1]
def rights(*fds): return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
def serve(s):
    while True:
        word, anc, flags, _ = s.recvmsg(65536, socket.CMSG_SPACE(64))
        fds = array.array("i", b"".join(a[2] for a in anc))
        if not word:
            return
        if word == b"give":
            f = os.open(d + "/theirs", os.O_RDONLY)
            r, w = os.pipe()
            os.write(w, b"by the pipe")
            s.sendmsg([b"given"], rights(f, r, f))
            for fd in (f, r, w): os.close(fd)
        elif word == b"late":
            time.sleep(0.3)
            s.send(b"at last")
        elif word == b"much":
            f = os.open(d + "/theirs", os.O_RDONLY)
            s.sendmsg([b"x" * 100000], rights(f))
            os.close(f)
        elif word == b"take":
            total = 0
            s.send(b"go on")
            while total < 50000:
                word, anc, _, _ = s.recvmsg(50000 - total, socket.CMSG_SPACE(64))
                total += len(word)
                fds += array.array("i", b"".join(a[2] for a in anc))
            s.send(b"%d with %d" % (total, len(fds)))
        elif word == b"end":
            return
        else:
            s.send(b"%d with %d: %s" % (len(word), len(fds), b" ".join(os.pread(fd, 20, 0) for fd in fds)))
        for fd in fds: os.close(fd)
kinds = {"stream": socket.SOCK_STREAM, "packets": socket.SOCK_SEQPACKET}
for name, kind in kinds.items():
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(d + "/" + name)
    listener.listen(8)
    if not os.fork():
        while True:
            c = listener.accept()[0]
            if not os.fork():
                listener.close()
                serve(c)
                os._exit(0)
            c.close()
print("ready", flush=True)
sys.stdin.read()
os.killpg(0, 9)
EOT

cat >"$TMP/client" <<'EOT'
import array, fcntl, os, select, signal, socket, sys
d = sys.argv[1]
room = socket.CMSG_SPACE(64)
def rights(*fds): return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
def attempt(f, *a):
    try: return f(*a)
    except OSError as e: return e.strerror
def came(r):
    if not isinstance(r, tuple): return r, []
    fds = array.array("i", b"".join(a[2] for a in r[1]))
    print(r[0][:20], len(r[0]), list(fds), "%x" % r[2], [fcntl.fcntl(f, fcntl.F_GETFD) for f in fds])
    return r[0], list(fds)
def connect(kind, name):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect(d + "/" + name)
    return s
for kind, name in ((socket.SOCK_STREAM, "stream"), (socket.SOCK_SEQPACKET, "packets")):
    print(name)
    s = connect(kind, name)
    s.send(b"give")
    print(came(s.recvmsg(100, room, socket.MSG_PEEK))[0])
    fds = came(s.recvmsg(100, room, socket.MSG_CMSG_CLOEXEC))[1]
    print(os.read(fds[0], 6), os.read(fds[2], 6), os.read(fds[1], 100), os.read(fds[1], 100))
    s.send(b"give")
    fds = came(s.recvmsg(100, socket.CMSG_SPACE(4)))[1]      # room for two, by alignment
    s.send(b"give")
    print(s.recvmsg(100, 0)[0])                               # and for none
    s.send(b"give")
    print(came(s.recvmsg(3, room, socket.MSG_DONTWAIT if select.select([s], [], [], 30)[0] else 0))[0])
    print(attempt(s.recvmsg, 100, room, socket.MSG_DONTWAIT)[0])
    mine = os.open(d + "/mine", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(mine, b"written here")
    print(s.sendmsg([b"three", b" pieces", b"!"], rights(mine, fds[0], mine)))
    print(came(s.recvmsg(100, room))[0])
    print(s.send(b"without"), s.sendmsg([b""], rights(mine)) if kind == socket.SOCK_STREAM else 0)
    print(came(s.recvmsg(100, room))[0])
    print(attempt(s.sendmsg, [b"x"], rights(77)))
    buffers = [bytearray(2), bytearray(0), bytearray(30)]
    s.send(b"four")
    print(s.recvmsg_into(buffers)[0], buffers)
    # what waits: a reader that is interrupted by a signal, a handler that ends it, a socket that does not wait
    hits = []
    signal.signal(signal.SIGALRM, lambda *a: hits.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    s.send(b"late")
    print(came(s.recvmsg(100, room))[0], hits)
    class Ended(Exception): pass
    def end(*a): raise Ended
    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try: s.recvmsg(100, room)
    except Ended: print("ended")
    s.setblocking(False)
    print(attempt(s.recvmsg, 100, room))
    s.setblocking(True)
    if kind == socket.SOCK_STREAM:
        s.send(b"much")
        total, first, fds = 0, True, []
        while total < 100000:
            data, anc, flags, _ = s.recvmsg(100000, room)
            total += len(data)
            fds += array.array("i", b"".join(a[2] for a in anc))
        print(total, len(fds), os.read(fds[0], 6))
        s.send(b"take")
        print(s.recv(5))
        n = s.sendmsg([b"y" * 50000], rights(mine))
        s.sendall(b"y" * (50000 - n))
        print(s.recv(100))
    pid = os.fork()
    if not pid:
        s.send(b"give")
        fds = came(s.recvmsg(100, room))[1]
        print(os.read(fds[0], 6), s.sendmsg([b"by a child"], rights(fds[0])), came(s.recvmsg(100, room))[0], flush=True)
        os._exit(0)
    sys.stdout.flush()
    print(os.waitpid(pid, 0)[1])
    s.send(b"end")
    print(came(s.recvmsg(100, room))[0])
    print(attempt(s.sendmsg, [b"x"], rights(mine)))
    s.close()
    os.close(mine)
    os.unlink(d + "/mine")
EOT

# Takes sendmsg() and recvmsg() with descriptors below 4096 from a program, and executes it.
cat >"$TMP/filter" <<'EOT'
import ctypes, errno, os, struct, sys
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
LD, JEQ, JGE, RET = 0x20, 0x15, 0x35, 0x06
prog = op(LD, 0, 0, 16) + op(JGE, 7, 0, 4096) + op(LD, 0, 0, 0)
prog += op(JEQ, 3, 0, 47) + op(JEQ, 2, 0, 299) + op(JEQ, 2, 0, 46) + op(JEQ, 1, 2, 307)
prog += op(RET, 0, 0, 0x50000 | errno.ENOSYS) + op(RET, 0, 0, 0x50000 | errno.EPERM) + op(RET, 0, 0, 0x7fff0000)
text = ctypes.create_string_buffer(prog, len(prog))
fprog = struct.pack("HxxxxxxP", len(prog) // 8, ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, fprog, 0, 0):
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
EOT

talk() { # talk DIRECTORY COMMAND...: with a server there
	local directory=$1 input
	shift
	mkdir -p "$directory"
	echo "what is theirs" >"$directory/theirs"
	mkfifo "$TMP/input"
	exec {input}<>"$TMP/input"
	setsid "$python" "$TMP/server" "$directory" <"$TMP/input" >"$TMP/ready" {input}>&- &
	for _ in $(seq 600); do grep -q ready "$TMP/ready" 2>/dev/null && break || sleep 0.1; done
	"$@"
	echo "status $?"
	kill -9 -- -$! 2>/dev/null
	wait $! 2>/dev/null
	exec {input}>&-
	rm -f "$TMP/input" "$TMP/ready"
}
(talk "$P" timeout 100 "$python" "$TMP/client" "$P") >"$TMP/here" 2>&1
rm -rf "$P" && mkdir -p "$root${P%/*}"
(talk "$root$P" forwarded timeout 100 "$python" "$TMP/client" "$P") >"$TMP/there" 2>&1
is "$(diff "$TMP/here" "$TMP/there")" "" "a client of the guest talks to a server of the host as one of the host does"
rm -rf "$root" && mkdir -p "$root${P%/*}"
(talk "$root$P" forwarded timeout 100 "$python" "$TMP/filter" "$python" "$TMP/client" "$P") >"$TMP/apart" 2>&1
is "$(diff "$TMP/here" "$TMP/apart")" "" "and where its shadow may not send or receive descriptors by itself"
is "$(grep -c "^b'what i'" "$TMP/here") $(tail -n 1 "$TMP/here")" "4 status 0" "descriptors have come at all"
tap_done
