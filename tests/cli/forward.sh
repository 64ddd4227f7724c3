#!/bin/bash
# forward.sh - programs whose system calls are forwarded behave as they do on the host itself: output, errors, status, files
#
# Without a virtual machine: the host is a task that shares the program's memory and has another root (forward_host.c).  A
# directory $P exists only there; the same program then runs with $P in its own file system, and everything is compared.
. tests/tap.sh
. tests/forward.bash
forward_needs "forwarding"
P=$TMP/p/host

mkdir -p "$TMP/seed/data/sub"
for i in $(seq 40); do seq "$i" 300 >"$TMP/seed/data/sub/f$i.txt"; done
cp -r runtime/guest "$TMP/seed/data/code"
ln -s sub/f1.txt "$TMP/seed/data/link"
printf '#!/bin/sh\necho script "$0" "$@"\n' >"$TMP/seed/data/hello"
cp /bin/echo "$TMP/seed/data/echo"
chmod 755 "$TMP/seed/data/hello" "$TMP/seed/data/echo"
(cd "$TMP/seed/data" && tar cf ../a.tar sub)
find "$TMP/seed" -exec touch -h -d '2020-05-06 07:08:09' {} +

forward_estates

# --- programs ------------------------------------------------------------------------------------------------------------
same "ls -lR" ls -lR --time-style=+%s "$P/data"
same "cat, a file that is not there too" cat "$P/data/link" "$P/data/nothere"
same "find" find "$P" -name '*.c' -size +2k -printf '%p %s %m\n'
same "grep -r" grep -rn static "$P/data/code"
same "cp -a" cp -a "$P/data" "$P/copy"
rm -rf "$root$P" && cp -a "$TMP/seed" "$root$P"
is "$(forwarded cp -a "$P/data/sub" "$TMP/copied" 2>&1)" "" "cp -a out of it says nothing"
is "$(diff -r "$TMP/seed/data/sub" "$TMP/copied" 2>&1)" "" "and all is there"
same "cp -r into it" cp -r runtime/wire "$P/in"
same "mv" mv "$P/data/sub" "$P/data/moved"
same "mv over the border" sh -c "cp /etc/passwd '$TMP/m' && exec mv '$TMP/m' '$P/m'"
same "tar, in" tar -C "$P/data" -cf "$P/made.tar" --sort=name sub
same "tar, out" tar -xf "$P/a.tar" -C "$P"
same "rm -rf" rm -rf "$P/data"
same "mkdir -p" mkdir -p "$P/a/b/c"
same "ln -s" ln -s nowhere "$P/data/dangling"
same "chmod -R" chmod -R o-r "$P/data"
same "touch -d" touch -d 2001-02-03 "$P/data/sub/f1.txt"
same "du" du -a --apparent-size "$P/data"
same "sed -i" sed -i s/1/one/ "$P/data/sub/f1.txt"
same "sort -o" sort -o "$P/sorted" "$P/data/sub/f3.txt"
same "dd" dd if="$P/data/sub/f1.txt" of="$P/dd" bs=100 status=none
same "md5sum" md5sum "$P/data/sub/f1.txt"
same "readlink -f" readlink -f "$P/data/link"
same "gzip" gzip -kn "$P/data/sub/f1.txt"
same "a script of the host" env "$P/data/hello" a 'b c'
same "a program of the host" env "$P/data/echo" from there
same "a working directory there" env -C "$P/data" ls -l --time-style=+ sub
if command -v sqlite3 >/dev/null; then
	same "sqlite3" sqlite3 "$P/db" "create table t(a,b); insert into t values(1,'x'),(2,'y'); begin; delete from t; rollback; select * from t;"
else
	skip "sqlite3" "sqlite3 is not installed"
fi
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
if [ -n "$python" ]; then
	same "python3" "$python" -c "
import fcntl, mmap, os, shutil
os.chdir('$P/data'); print(os.getcwd(), sorted(os.listdir('.')))
open('new', 'w').write('hello\n' * 1000); print(len(open('new').read()), os.stat('new').st_size)
os.rename('new', 'n2'); os.symlink('n2', 'l'); print(os.readlink('l'), os.path.realpath('l'))
for f in (lambda: os.rename('n2', '/dev/shm/n2'), lambda: open('zz/y'), lambda: os.mkdir('sub'), lambda: os.rmdir('sub')):
    try: f()
    except OSError as e: print(e)
shutil.copytree('sub', 'sub2'); shutil.rmtree('sub2'); shutil.copyfile('/etc/passwd', 'pw'); shutil.copyfile('pw', '$TMP/pw')
fd = os.open('n2', os.O_RDWR); d = os.dup(fd); os.lseek(d, 5, 0); print(os.read(fd, 4)); os.dup2(fd, 20); os.close(fd); print(os.read(20, 3))
m = mmap.mmap(20, 0, access=mmap.ACCESS_COPY); print(m[:5], len(m)); fcntl.flock(20, fcntl.LOCK_EX); fcntl.lockf(20, fcntl.LOCK_EX)
os.chdir('..'); print(os.getcwd()); os.chdir('/etc'); print(os.path.exists('..' + '$P' + '/data/sub'), len(os.listdir('..' + '$P')))
"
else
	skip "python3" "python3 is not installed"
fi

# --- what is hard: descriptors, signals, threads, waiting for both sides ------------------------------------------------------------
hard() { # hard WHAT: the cases, one by one
	mkdir -p "$TMP/seed2" && cp "$dir/forward_cases" "$TMP/cases"
	rm -rf "$TMP/p" "$root"
	mkdir -p "$P"
	timeout 120 "$TMP/cases" "$P" >"$TMP/hard.n" 2>&1 </dev/null
	rm -rf "$TMP/p"
	mkdir -p "$root$P"
	DS_FORWARD_NET=forward forwarded timeout 200 "$TMP/cases" "$P" >"$TMP/hard.f" 2>&1 </dev/null
	while read -r _ name; do
		if [ "$name" = watching ] && cat "$TMP/hard.n" "$TMP/hard.f" | grep -q 'no inotify instance'; then
			skip "$1: $name" "the user has no inotify descriptor left"
			continue
		fi
		is "$(sed -n "/^== $name\$/,/^== /p" "$TMP/hard.f" | grep -v '^== ')" "$(sed -n "/^== $name\$/,/^== /p" "$TMP/hard.n" | grep -v '^== ')" \
			"$1: $name"
	done < <(grep '^== ' "$TMP/hard.n")
	is "$(grep -c "^== " "$TMP/hard.n")" 29 "$1: all cases ran"
}
hard "as without forwarding"
same "a forked child and its parent's epoll descriptor" "$dir/forward_cases" "$P" epoll_forked

# --- what cannot be the same: refused by name ---------------------------------------------------------------------------------------
rm -rf "$TMP/p" "$root"
mkdir -p "$root$TMP/p"
cp -a "$TMP/seed" "$root$P"
matches "$(DS_FORWARD_TRACE=- forwarded cat "$P/data/sub/f300.txt" "$P/data/hello" 2>&1)" 'openat\(AT_FDCWD, ".*/f300.txt", O_RDONLY\) = -1 ENOENT <[0-9.]+> host$' \
	"the trace names the call, its arguments, its result and where it was made"
matches "$(DS_FORWARD_SUMMARY=- forwarded ls "$P/data/sub" 2>&1)" '^ *[0-9.]+ +[0-9.]+ +[0-9]+ +[0-9]+ +0 +[1-9][0-9]* getdents64$' "the summary counts the calls, and those on the host"
is "$(DS_FORWARD_POLICY=$(printf 'deny error=EPERM call=unlinkat\nemulate value=77 call=getuid,geteuid') forwarded sh -c "rm -f '$P/data/hello' 2>&1; id -u" | sed 's/.*: //')" \
	"$(printf 'Operation not permitted\n77')" "a policy denies and answers"
is "$(DS_FORWARD_POLICY='local call=openat' forwarded cat "$P/data/hello" 2>&1 | sed 's/.*: //')" "No such file or directory" "and keeps calls here"
DS_FORWARD_BELL=@nobody-% DS_FORWARD_LIB=$lib LD_PRELOAD=$lib DS_FORWARD=$P DS_FORWARD_REQUIRED=1 /bin/ls / >"$TMP/out" 2>&1
status=$?
is "$status/$(grep -cx usr "$TMP/out")" 125/0 "without a host a program that needs one does not run"
is "$(DS_FORWARD_BELL=@nobody-% DS_FORWARD_LIB=$lib LD_PRELOAD=$lib DS_FORWARD=$P /bin/echo ran 2>/dev/null)" ran "and others run without"
is "$(EXECUTORS=1 forwarded find "$P/data" -type f | wc -l)" "$(find "$TMP/seed/data" -type f | wc -l)" "one executor is enough for one thread"
is "$(DS_FORWARD_SPIN_NS=0 forwarded find "$P/data" -type f | wc -l)" "$(find "$TMP/seed/data" -type f | wc -l)" "and so it is without spinning"

# --- and the interception itself is as it was ---------------------------------------------------------------------------------------
"$dir/cases" >"$TMP/cases.n" 2>&1 </dev/null
forwarded timeout 250 "$dir/cases" >"$TMP/cases.f" 2>&1 </dev/null
is "$(diff "$TMP/cases.n" "$TMP/cases.f" | grep '^[<>]' | grep -vE 'stopped by (10|31)|then: (exit 2|signal 127)')" "" \
	"the cases of the interception (but traced_child: to a tracer a trap is a stop)"
tap_done
