#!/bin/bash
# forward_carry.sh - descriptors of the host go by way of a program that knows nothing of them
#
# A relay, without the library, takes messages on a unix socket of the guest's and hands the descriptors in them to the next one who asks.
# What programs with the library do to each other is in forward.sh (tests/intercept/forward_cases_carry.c).
. tests/tap.sh
. tests/forward.bash
forward_needs "descriptors by way of another program"
P=$TMP/p/host
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
if [ -z "$python" ]; then
	skip "descriptors by way of another program" "python3 is not installed"
	tap_done
	exit
fi
mkdir -p "$TMP/seed"
seq 50 >"$TMP/seed/f"
forward_estates

cat >"$TMP/relay" <<'END2'
import array, os, socket, sys
server, kept = socket.socket(socket.AF_UNIX), []
server.bind("\0" + sys.argv[1])
server.listen(8)
print("ready", flush=True)
while True:
    s = server.accept()[0]
    word, rights, _, _ = s.recvmsg(4, socket.CMSG_SPACE(64))
    fds = array.array("i", b"".join(r[2] for r in rights))
    if word == b"keep":
        kept = fds
        s.send(b".")
    elif word == b"give":
        s.sendmsg([b"kept"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, kept)])
        for fd in kept:
            os.close(fd)
        kept = []
END2
"$python" "$TMP/relay" "forward-relay-$$" >"$TMP/ready" &
relay=$!
trap 'kill $relay 2>/dev/null; rm -rf "$TMP"' EXIT
for _ in $(seq 600); do grep -q ready "$TMP/ready" 2>/dev/null && break || sleep 0.1; done

cat >"$TMP/client" <<'END2'
import array, os, socket, sys
name, P, what = sys.argv[1:]
s = socket.socket(socket.AF_UNIX)
s.connect("\0" + name)
if what == "keep":
    f = os.open(P + "/f", os.O_RDONLY)
    print(os.read(f, 4))
    s.sendmsg([b"keep"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [f, os.open("/etc/passwd", os.O_RDONLY), os.open(P, os.O_DIRECTORY)]))])
    print(s.recv(1))
else:
    s.send(b"give")
    word, rights, flags, _ = s.recvmsg(4, socket.CMSG_SPACE(64))
    fds = array.array("i", rights[0][2])
    print(word, len(fds), flags & socket.MSG_CTRUNC, os.read(fds[0], 4), os.fstat(fds[1]).st_ino == os.stat("/etc/passwd").st_ino, os.listdir(fds[2]))
END2
# shellcheck disable=SC2016
same "one program sends, another one receives when that has ended" sh -c '"$0" "$1/client" "$2" "$3" keep && exec "$0" "$1/client" "$2" "$3" give' \
	"$python" "$TMP" "forward-relay-$$" "$P"
# Nobody claims what a relay that is killed has: the host's file is closed.
rm -rf "$P" "$root" && mkdir -p "$root${P%/*}" && cp -a "$TMP/seed" "$root$P"
is "$(forwarded "$python" "$TMP/client" "forward-relay-$$" "$P" keep 2>&1)" "b'1\n2\n'
b'.'" "a descriptor lies with a program that knows nothing of it"
holders() { find /proc/[0-9]*/fd -lname "$root$P/f" 2>/dev/null | wc -l; }
is "$(holders)" 1 "the host has it open once, and no other process has"
kill "$relay"
for _ in $(seq 600); do [ "$(holders)" = 0 ] && break || sleep 0.1; done
is "$(holders)" 0 "and no longer when that program has been killed"
tap_done
