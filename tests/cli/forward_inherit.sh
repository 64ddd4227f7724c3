#!/bin/bash
# forward_inherit.sh - descriptors of the host go from process to process: fork, exec, vfork, pipes, locks, jobs; as on the host itself
#
# As forward.sh: each case is a shell's or python's program that works on $P, run where $P is in its own file system and where it is the
# host's only; output and files are compared.  Estates are kept by dshost's own code (tests/intercept/estates.c).
. tests/tap.sh
. tests/forward.bash
forward_needs "descriptors that are inherited"
forward_estates
P=$TMP/p/host

mkdir -p "$TMP/seed"
seq 50 >"$TMP/seed/f"
printf '#!/bin/sh\necho name "$0" "$@"\n' >"$TMP/seed/name"
chmod 755 "$TMP/seed/name"
printf 'all: one two\n\tcat one two >all\none two:\n\techo made $@ >$@\n' >"$TMP/seed/Makefile"
cat >"$TMP/seed/script" <<'END'
#!/bin/bash
read -r a <"$1"
echo "first $a"
(echo in a subshell; head -n 2 "$1") >"$2"
for i in 1 2 3; do echo "$i"; done | tee "$2.tee" | wc -l
while read -r x; do [ "$x" = 3 ] && break; done <"$1"
echo "stopped at $x"
cat "$2"
END

# --- shells --------------------------------------------------------------------------------------------------------------
for sh in dash bash; do
	command -v $sh >/dev/null || continue
	same "$sh: output to a file" $sh -c "ls / >$P/o; ls /nowhere >$P/e 2>&1; wc -l <$P/o"
	same "$sh: append, in a loop" $sh -c "for i in 1 2 3; do echo \$i >>$P/o; seq \$i >>$P/o; done; cat $P/o"
	same "$sh: a pipe between two files" $sh -c "cat $P/f | sort -r >$P/o; cat <$P/o | head -n 3"
	same "$sh: one descriptor for many commands" $sh -c "{ echo a; ls -d /; (echo b; echo c); } >$P/o; exec 3<$P/f; read x <&3; echo \$x; cat <&3 | tail -n 1"
	same "$sh: copies, closed in between" $sh -c "exec 3>$P/o 4>&3; echo three >&3; exec 3>&-; (exec 4>&-; echo lost >&4) 2>/dev/null; ls -d / >&4"
	same "$sh: the offset is one" $sh -c "exec 3<$P/f; head -c 6 <&3 >/dev/null; (read x <&3; echo \$x); read y <&3; echo \$y; exec 3<&-"
	same "$sh: input and output of a background job" $sh -c "sort -n <$P/f >$P/o & wait; tail -n 1 $P/o"
	same "$sh: a here document, output there" $sh -c "cat >$P/o <<E
one
two
E
cat $P/o"
	same "$sh: command substitution" $sh -c "x=\$(head -n 1 <$P/f); echo \"\$x\$(wc -l <$P/f)\""
	same "$sh: a working directory there" $sh -c "cd $P && ls >o && (cd / && pwd) && pwd && cat <o && sh -c 'pwd; cat f | wc -l'"
	same "$sh: programs of the host, by relative paths" $sh -c "chmod +x $P/script; cd $P && ./script f o && cd / && .$P/script $P/f $P/o; cp /bin/echo $P/e; cd $P; ./e x; ../host/e y; ./name a; ../host/name b; $P/name c; cd ..; host/name d"
	same "$sh: a script of the host" $sh "$P/script" "$P/f" "$P/o"
	same "$sh: which is a program to others" $sh -c "chmod +x $P/script; $P/script $P/f $P/o; exec $P/script $P/o $P/o2"
done
same "bash: process substitution" bash -c "diff <(cat $P/f) $P/f && paste <(head -n 2 $P/f) <(tail -n 2 $P/f) >$P/o; cat $P/o"
same "100 forks" bash -c "exec 3>$P/o; for i in {1..100}; do (:); done; for i in {1..20}; do (echo \$i >&3); done; wc -l <$P/o"
same "xargs, find -exec" sh -c "find $P -type f | sort | xargs -n 1 wc -l; find $P -name f -exec sh -c 'head -n 1 <\$1' x {} ';'"
if command -v make >/dev/null; then
	same "make -j with a job server" env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -s -j 3 -C "$P"
else
	skip "make -j" "make is not installed"
fi

# --- locks and ends -------------------------------------------------------------------------------------------------------
# shellcheck disable=SC2016
same "flock" bash -c 'exec 9>$0/lock; flock -x 9; (flock -n 9 && echo the same lock); flock -n $0/lock true || echo taken
	mkfifo $0/go; (exec 9>&-; echo >$0/go; exec sleep 100) & p=$!; read x <$0/go; exec 9>&-; flock -n $0/lock echo free; kill $p; rm $0/go' "$P"
# shellcheck disable=SC2016
same "a child that is gone has given up its lock" bash -c 'for i in 1 2 3 4 5 6 7 8; do (flock -x 9; exec 9>&-; :) 9>$0/lock; flock -n $0/lock echo free $i; done' "$P"
# shellcheck disable=SC2016
same "a fifo of the host between children" bash -c 'mkfifo $0/fifo; (echo through the fifo >$0/fifo) & cat $0/fifo; wait
	exec 3<>$0/fifo; (echo once >&3); read x <&3; echo $x; (exec <$0/fifo 3>&-; : >$0/opened; exec cat) & p=$!
	until [ -e $0/opened ]; do sleep 0.05; done; exec 4>$0/fifo 3>&-; (ls -d / >&4); (exec 4>&-; exec sleep 100) & s=$!
	exec 4>&-; wait $p; kill $s; echo the end was seen; rm $0/fifo' "$P"
# shellcheck disable=SC2016
same "the parent goes first" bash -c '(exec 3>$0/o; (sleep 0.3; echo late >&3) & ); for i in $(seq 100); do [ -s $0/o ] && break; sleep 0.1; done; cat $0/o' "$P"

# --- python: fork, vfork, posix_spawn, pools ---------------------------------------------------------------------------------
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
if [ -n "$python" ]; then
	same "python: subprocess" "$python" -c "
import os, subprocess
with open('$P/o', 'w') as f: subprocess.run(['echo', 'to a file'], stdout=f); subprocess.run('echo by a shell; ls -d /', shell=True, stdout=f, close_fds=False)
print(open('$P/o').read(), end='')
with open('$P/f') as f: print(subprocess.check_output(['tail', '-n', '2'], stdin=f))
print(subprocess.run('cat $P/f | wc -l; cd $P && pwd', shell=True, capture_output=True))
print(subprocess.run(['pwd'], cwd='$P', capture_output=True).stdout)
r = os.open('$P/f', os.O_RDONLY); os.set_inheritable(r, True)
print(subprocess.run(['sh', '-c', f'head -n 1 <&{r}'], pass_fds=[r], capture_output=True))
print(subprocess.run(['sh', '-c', f'head -n 1 <&{r}'], capture_output=True).returncode)
try: subprocess.run(['/no/program'], stdin=r)
except OSError as e: print(e)
os.close(r)
"
	same "python: posix_spawn" "$python" -c "
import os
f = os.open('$P/o', os.O_CREAT | os.O_WRONLY, 0o644)
p = os.posix_spawn('/bin/echo', ['echo', 'spawned'], {}, file_actions=[(os.POSIX_SPAWN_DUP2, f, 1), (os.POSIX_SPAWN_CLOSE, f)])
print(os.waitpid(p, 0)[1], open('$P/o').read())
try: os.posix_spawn('/no/program', ['x'], {}, file_actions=[(os.POSIX_SPAWN_DUP2, f, 1)])
except OSError as e: print(e)
os.write(f, b'and on\n'); print(os.lseek(f, 0, os.SEEK_CUR))
"
	rm -rf "$P" "$root" && mkdir -p "$root${P%/*}" && cp -a "$TMP/seed" "$root$P"
	for kind in lockf flock; do
		DS_FORWARD_TRACE=- forwarded "$python" -c "import fcntl, os; fcntl.$kind(os.open('$P/f', os.O_RDWR), fcntl.LOCK_EX); os.execv('/bin/true', ['true'])" >"$TMP/$kind" 2>&1
	done
	is "$(grep -c 'execve: record locks .* end here' "$TMP/lockf") $(grep -c 'record locks' "$TMP/flock")" "1 0" \
		"record locks do not outlive an exec, and the trace says so; those of an open file do"
	same "python: fork, and what both do then" "$python" -c "
import os, threading
f = os.open('$P/f', os.O_RDONLY); os.read(f, 4)
def child(what):
    p = os.fork()
    if not p:
        try: what()
        except BaseException as e: print('child:', e, flush=True)
        os._exit(7)
    print(os.waitpid(p, 0)[1] >> 8, flush=True)
child(lambda: print(os.read(f, 5), os.fstat(f).st_size, flush=True))
print(os.read(f, 5))
child(lambda: (os.dup2(f, 50), os.close(f), print(os.read(50, 3), flush=True)))
child(lambda: os.write(os.open('$P/made', os.O_CREAT | os.O_WRONLY, 0o600), b'by a child'))
child(lambda: child(lambda: child(lambda: print('deep', os.read(f, 2), flush=True))))
child(lambda: os.execv('/bin/sh', ['sh', '-c', 'cat <&%d | wc -l' % f]) if os.set_inheritable(f, True) is None else 0)
child(lambda: os.execv('/bin/sh', ['sh', '-c', 'cat <&%d' % 77]))
print(open('$P/made').read(), os.lseek(f, 0, os.SEEK_CUR))
t = threading.Thread(target=lambda: child(lambda: print('of a thread', os.pread(f, 3, 0), flush=True))); t.start(); t.join()
os.chdir('$P'); child(lambda: print(os.getcwd(), sorted(os.listdir('.')), flush=True))
child(lambda: (os.chdir('/'), print(os.getcwd(), flush=True))); print(os.getcwd())
os.umask(0o077); child(lambda: os.close(os.open('private', os.O_CREAT | os.O_WRONLY, 0o666))); print(oct(os.stat('private').st_mode))
"
	same "python: a pool of processes" "$python" -c "
import multiprocessing as m, os
def f(n):
    with open('$P/n%d' % n, 'w') as o: o.write('x' * n)
    return os.path.getsize('$P/n%d' % n)
if __name__ == '__main__':
    with m.get_context('fork').Pool(4) as p: print(sum(p.map(f, range(40))), len(os.listdir('$P')))
"
else
	skip "python" "python3 is not installed"
fi
tap_done
