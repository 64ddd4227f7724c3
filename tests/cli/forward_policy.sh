#!/bin/bash
# forward_policy.sh - the guest's policy in force: what programs see of calls that are kept, denied, answered, sent elsewhere, traced
#
# As in forward.sh the host is a task that shares the program's memory and has another root (forward_host.c).
. tests/tap.sh
. tests/forward.bash
forward_needs "policies"
mkdir -p "$root/srv/data/sub" "$root/host/keep" "$TMP/host" "$TMP/local"
echo "of the host" >"$root/srv/data/file"
printf '#!/bin/sh\necho "$0" runs\n' >"$root/srv/data/script"
chmod 755 "$root/srv/data/script"
echo kept >"$root/host/keep/file"
echo here >"$TMP/local/file"

under() { # under POLICY COMMAND...
	local policy=$1
	shift
	timeout 60 env DS_FORWARD_LIB="$lib" LD_PRELOAD="$lib" DS_FORWARD_BELL=@policy-test-% DS_FORWARD_ARGS="$root:8" DS_FORWARD_POLICY="$policy" "$@" 2>&1 </dev/null
}

# --- answers -------------------------------------------------------------------------------------------------------------------
is "$(under 'emulate value=77 call=getuid,geteuid' id -u)" 77 "emulate value="
is "$(under 'emulate nodename=elsewhere release=1.2.3' uname -nr)" "elsewhere 1.2.3" "emulate names of uname(2)"
is "$(under 'emulate nodename=elsewhere' uname -m)" "$(uname -m)" "and the others stay"
is "$(under 'emulate cpus=3' sh -c 'nproc; getconf _NPROCESSORS_ONLN; cat /sys/devices/system/cpu/online')" "$(printf '3\n3\n0-2')" "emulate cpus="
is "$(under 'emulate clock=@86400' date -u +%F)" 1970-01-02 "emulate clock=@: another time, although the C library asks no system call for it"
before=$(date +%s)
got=$(under 'emulate clock=-1000000' date +%s)
ok "$([ "$got" -ge $((before - 1000000)) ] && [ "$got" -le $(($(date +%s) - 1000000)) ] && echo 0 || echo 1)" "emulate clock=-: one before"
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
if [ -n "$python" ]; then
	is "$(under 'emulate clock=+500000000' "$python" -c '
import threading, time
a = time.monotonic(); c = threading.Condition()
with c: c.wait(0.2)
e = threading.Event(); e.wait(0.1); time.sleep(0.1)
print(time.monotonic() - a < 50, time.time() > 1.9e9)')" "True True" "who waits until a time of day by that clock does not wait until then by the kernel's"
else
	skip "waiting by another clock" "python3 is not installed"
fi
is "$(under 'emulate file=/etc/hostname text="say \"hi\""' cat /etc/hostname)" 'say "hi"' "emulate file= text="
is "$(under 'emulate file=/etc/hostname text=x' sh -c ': >>/etc/hostname' | sed 's/.*: //')" "Permission denied" "which cannot be written"
is "$(cd /etc && under "emulate file=/etc/hostname from=$TMP/local/file" sh -c 'cat ./hostname; stat -c %s hostname')" "$(printf 'here\n5')" "emulate file= from=, by whatever name"

# --- what is denied ---------------------------------------------------------------------------------------------------------------
is "$(under 'deny error=EACCES path=/etc/host*' cat /etc/hostname | sed 's/.*: //')" "Permission denied" "deny path=: a pattern"
is "$(cd / && under 'deny error=EACCES path=/etc/host*' cat etc/../etc/./hostname | sed 's/.*: //')" "Permission denied" "however the path is written"
is "$(under 'deny error=EACCES call=unlinkat path=/etc/host*' cat /etc/hostname)" "$(cat /etc/hostname)" "with call=: no other call"
is "$(under "$(printf 'forward path=/host\ndeny error=EPERM call=unlink,unlinkat path=/host/keep/**')" rm -r /host/keep | sed 's/.*: //')" \
	"Operation not permitted" "also by way of a directory of the host that was opened"
is "$(cat "$root/host/keep/file")" kept "so the file is still there"
is "$(under 'deny error=EIO call=write fd=1' echo x | sed 's/.*: //')" "Input/output error" "deny fd="
if [ -n "$python" ]; then
	is "$(under "$(printf 'deny error=ETIMEDOUT address=127.0.0.0/8:9,[::1]:9\ndeny error=EAFNOSUPPORT family=inet6')" "$python" -c '
import errno, socket
def t(f, a, d):
    try:
        s = socket.socket(f, socket.SOCK_DGRAM)
        s.sendto(b"x", a) if d else s.connect(a)
        return "fine"
    except OSError as e: return errno.errorcode[e.errno]
i = socket.AF_INET
print(t(i, ("127.0.0.1", 9), 0), t(i, ("127.9.9.9", 9), 1), t(i, ("127.0.0.1", 10), 0), t(socket.AF_INET6, ("::1", 10), 0))')" \
		"ETIMEDOUT ETIMEDOUT fine EAFNOSUPPORT" "deny address=, deny family="
fi
is "$(under "$(printf 'local call=openat path=/etc/hostname\ndeny error=EACCES path=/etc/**')" cat /etc/hostname)" "$(cat /etc/hostname)" "the first rule that matches decides"

# --- where it goes -------------------------------------------------------------------------------------------------------------------
is "$(under 'forward path=/data to=/srv/data' cat /data/file)" "of the host" "forward path= to=: another name there"
is "$(under 'forward path=/data to=/srv/data' env -C /data sh -c 'pwd; read -r x <file; echo "$x"; cd sub; pwd; cd ..; read -r y <../data/file; echo "$y"')" \
	"$(printf '/data\nof the host\n/data/sub\nof the host')" "directories there have the program's names"
is "$(under 'forward path=/data to=/srv/data' env /data/script)" "/data/script runs" "and so has a script"
is "$(under 'forward path=/data to=/srv/data' mv /data/file /data/moved; ls "$root/srv/data")" "$(printf 'moved\nscript\nsub')" "both paths of a call"
is "$(under "$(printf 'forward path=%s\nlocal path=%s/local/**' "$TMP" "$TMP")" cat "$TMP/local/file")" here "local path=: a part of a directory of the host stays here"
is "$(cd "$TMP" && under "$(printf 'forward path=%s\nlocal path=%s/local/**' "$TMP" "$TMP")" cat local/file)" here "from a working directory, too"
matches "$(DS_FORWARD_TRACE=- under "$(printf 'forward path=/host\nforward call=uname')" uname -r)" '^\[[0-9]+\] uname\(.*\) = 0 <[0-9.]+> host$' "forward call=: the host is asked"
if [ -n "$python" ]; then
	is "$(DS_FORWARD_TRACE=- under 'forward net=inet6' "$python" -c 'import socket; socket.socket(socket.AF_INET6); socket.socket(socket.AF_INET)' |
		sed -nE 's/^.* (socket\((2|10), .*\)) = .*> (both|guest)$/\2 \3/p')" "$(printf "10 both\n2 guest")" "forward net=: sockets of one family"
fi
if [ -n "$python" ]; then
	cat >"$TMP/talk.py" <<'END'
import socket, sys, threading
l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen(2)
def serve():
    while True:
        c, a = l.accept(); c.sendall(c.recv(100).upper()); c.close()
threading.Thread(target=serve, daemon=True).start()
print(l.getsockname()[1], flush=True); sys.stdin.read()
END
	cat >"$TMP/client.py" <<'END'
import os, socket, sys
s = socket.socket(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); s.settimeout(30); n = s.fileno()
s.connect(("127.0.0.1", int(sys.argv[1]))); s.sendall(b"question"); print(s.recv(100), n == s.fileno(), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), os.get_inheritable(n), s.getblocking())
END
	mkfifo "$TMP/end"
	"$python" "$TMP/talk.py" <"$TMP/end" >"$TMP/port" &
	server=$!
	exec 6>"$TMP/end"
	for _ in $(seq 600); do [ -s "$TMP/port" ] && break; sleep 0.1; done
	port=$(cat "$TMP/port")
	want="b'QUESTION' True 1 False True"
	seen() { sed -nE 's/^\[[0-9]+\] (socket|connect|sendto|recvfrom)\(.* (host|guest|both)$/\1 \2/p' "$TMP/trace" | xargs; }
	is "$(rm -f "$TMP/trace"; DS_FORWARD_TRACE=$TMP/trace under "forward address=127.0.0.0/8:$port" "$python" "$TMP/client.py" "$port"; seen)" \
		"$(printf '%s\nsocket guest connect host sendto host recvfrom host' "$want")" "forward address=: a socket becomes the host's by where it connects to, options, flags and number as before"
	is "$(rm -f "$TMP/trace"; DS_FORWARD_TRACE=$TMP/trace under "forward address=127.0.0.1:1" "$python" "$TMP/client.py" "$port"; seen)" \
		"$(printf '%s\nsocket guest connect guest sendto guest recvfrom guest' "$want")" "another address does not make it so"
	is "$(rm -f "$TMP/trace"; DS_FORWARD_TRACE=$TMP/trace under "$(printf 'local address=*:%s\nforward net=inet' "$port")" "$python" "$TMP/client.py" "$port"; seen)" \
		"$(printf '%s\nsocket both connect guest sendto guest recvfrom guest' "$want")" "local address=: the other way"
	exec 6>&-
	wait "$server"
else
	skip "sockets by address" "python3 is not installed"
fi

# --- what is told ----------------------------------------------------------------------------------------------------------------------
is "$(DS_FORWARD_TRACE=- under "$(printf 'trace call=openat path=/etc/hostname\ntrace call=exit_group')" cat /etc/hostname | sed -nE 's/^\[[0-9]+\] ([a-z_]+)\(.*/\1/p')" \
	"$(printf 'openat\nexit_group')" "trace: what it names and nothing else"
summary=$(DS_FORWARD_SUMMARY=- under 'forward path=/data to=/srv/data' ls /data)
matches "$summary" '^% time +seconds +usecs/call +calls +errors +on host +syscall$' "the summary has the columns of strace -c, and the host's"
matches "$summary" '^ *[0-9]+\.[0-9]{2} +[0-9]+\.[0-9]{6} +[0-9]+ +2 +0 +2 getdents64$' "calls, errors, calls on the host"
is "$(sed -nE 's/^ *[0-9]+\.[0-9]{2} +[0-9.]+ +[0-9]+ +([0-9]+) +[0-9]+ +[0-9]+ ([a-z0-9_]+)$/\1 \2/p' <<<"$summary" |
	awk '$2 == "total" { all = $1; next } { n += $1 } END { print (n == all && n > 10) }')" 1 "and the total"

# --- what is wrong -------------------------------------------------------------------------------------------------------------------
printf 'DS_FORWARD_POLICY: a rule in it is wrong; dsrun --check-policy FILE says where' >"$TMP/want"
matches "$(under 'deny call=open' echo ran)" "$(cat "$TMP/want")" "a library that is given a wrong policy says so"
is "$(under 'deny call=open' echo ran | grep -c '^ran')" 0 "and the program does not run"
tap_done
