#!/bin/bash
# intercept_ptrace.sh - programs that load no library, and dsrun --intercept=ptrace: forwarded as others are
#
# The host is a task of the program's own memory, as in forward.sh; a directory $P exists only there.
. tests/tap.sh
. tests/forward.bash
dir=$(realpath "$(dirname "$BIN")")/tests/intercept
P=$TMP/p/host root=$TMP/root
if [ "$(id -u)" != 0 ]; then
	skip "programs that load no library" "changing the root takes root"
	tap_done
	exit
fi
mkdir -p "$TMP/bin" "$TMP/lib" "$P" "$root"
cp "$BIN/dsrun" "$TMP/bin/dsrun"
ln -s "$dir/forward_native.so" "$TMP/lib/libdsforward.so" # beside dsrun, where it looks
run() { # run OPTION... -- COMMAND...
	DS_FORWARD_BELL=@forward-test-% timeout 100 "$TMP/bin/dsrun" --forward "$P" --args "$root:16" "$@"
}
if [ "$(run -- /bin/echo there 2>&1)" != there ]; then
	skip "programs that load no library" "the kernel has no Syscall User Dispatch (Linux 5.11)"
	tap_done
	exit
fi
seed() { # seed FOLDER
	rm -rf "$1"
	mkdir -p "$1"
	echo "from the host" >"$1/a"
}

cat >"$TMP/prog.c" <<'C'
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) /* FILE [PROGRAM...]: reads it, writes it, starts a program with no environment at all */
{
	char buf[64] = "", *none[] = {NULL};
	int fd = open(argv[1], O_RDWR | O_APPEND), status = 0;

	printf("%ld %s", (long)read(fd, buf, sizeof(buf) - 1), buf);
	printf("%ld\n", (long)write(fd, "more\n", 5));
	fflush(stdout);
	if (argc > 2 && !fork()) {
		execve("/no/such/program", argv + 2, none);
		execve(argv[2], argv + 2, none);
		_exit(9);
	}
	if (argc > 2)
		wait(&status);
	printf("%d %d\n", WEXITSTATUS(status), wait(NULL));
	return 3;
}
C
kinds=dynamic
gcc -o "$TMP/dynamic" "$TMP/prog.c" || kinds=
gcc -static -o "$TMP/static" "$TMP/prog.c" 2>/dev/null && kinds+=" static"
gcc -static-pie -o "$TMP/static-pie" "$TMP/prog.c" 2>/dev/null && kinds+=" static-pie"
if command -v musl-gcc >/dev/null; then
	musl-gcc -o "$TMP/musl" "$TMP/prog.c" 2>/dev/null && kinds+=" musl"
	musl-gcc -static -o "$TMP/musl-static" "$TMP/prog.c" 2>/dev/null && kinds+=" musl-static"
fi
for how in dispatch ptrace; do
	for kind in $kinds; do
		seed "$P"
		"$TMP/$kind" "$P/a" "$TMP/$kind" "$P/a" >"$TMP/want"
		echo "status $?" >>"$TMP/want"
		cat "$P/a" >>"$TMP/want"
		rm -r "$P"
		seed "$root$P"
		run --intercept=$how -- "$TMP/$kind" "$P/a" "$TMP/$kind" "$P/a" >"$TMP/got" 2>&1
		echo "status $?" >>"$TMP/got"
		cat "$root$P/a" >>"$TMP/got"
		is "$(cat "$TMP/got")" "$(cat "$TMP/want")" "$how: a $kind program, and one that it starts without an environment"
		[ "$kind" = static ] && is "$(run --intercept=$how -- sh -c "'$TMP/$kind' '$P/a' >/dev/null; '$TMP/$kind' '$P/none'; cat '$P/a' | tail -n 1" 2>&1)" \
			"$(printf -- '-1 -1\n0 -1\nmore')" "$how: one that a shell starts ($kind)"
		mkdir -p "$P"
	done
done
# A program that is as Go builds them: a note, system calls on stacks of some hundred bytes, an alternate stack for signals.
cat >"$TMP/small.c" <<'C'
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
__asm__(".pushsection .note.go.buildid,\"a\",@note\n.balign 4\n.long 4, 4, 4\n.asciz \"Go\\0\"\n.long 1\n.popsection");
static char area[65536] __attribute__((aligned(4096))), other[65536];
static long small(long nr, long a, long b, long c, long d)
{
	char *top = area + sizeof(area) / 2;
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("mov %%rsp, %%r12\n\tmov %[top], %%rsp\n\tsyscall\n\tmov %%r12, %%rsp"
			 : "=a"(ret) : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), [top] "r"(top) : "rcx", "r11", "r12", "memory");
	return ret;
}
int main(int argc, char **argv)
{
	const stack_t alt = {.ss_sp = other, .ss_size = sizeof(other)};
	char buf[64] = "";
	long fd, bad = 0;

	(void)argc;
	sigaltstack(&alt, NULL);
	memset(area, 'x', sizeof(area));
	fd = small(SYS_openat, AT_FDCWD, (long)argv[1], O_RDONLY, 0);
	printf("%ld", small(SYS_read, fd, (long)buf, sizeof(buf) - 1, 0));
	printf(" %s %ld\n", buf, small(SYS_close, fd, 0, 0, 0));
	printf("%ld\n", small(SYS_openat, AT_FDCWD, (long)"/no/such", O_RDONLY, 0));
	for (size_t i = 0; i < sizeof(area); i++)
		bad += area[i] != 'x';
	printf("%ld bytes of the stack are other ones\n", bad);
	return 0;
}
C
if gcc -O1 -static -o "$TMP/small" "$TMP/small.c" 2>/dev/null; then
	for how in dispatch ptrace; do
		seed "$root$P"
		is "$(run --intercept=$how -- "$TMP/small" "$P/a" 2>&1)" "$(printf '14 from the host\n 0\n-2\n0 bytes of the stack are other ones')" \
			"$how: a program with stacks as small as Go's"
	done
fi
is "$(run -- sh -c "'$TMP/prog.c'; echo \$?" 2>&1 | tail -n 1)" 126 "what cannot be executed"
is "$(run --intercept=ptrace -- no/such/program 2>&1)" "dsrun: no/such/program: No such file or directory" "what is not there, under a monitor"
# A program beside which somebody stands has no other children, nor other descriptors, than without.
# shellcheck disable=SC2016
list='children=$(ps --ppid $$ -o comm=); echo "$children"; ls /proc/self/fd | wc -l'
is "$(run --intercept=ptrace -- sh -c "$list")" "$(run -- sh -c "$list")" "under a monitor a program has the children and descriptors that it has without"
# shellcheck disable=SC2016
is "$(run --intercept=ptrace -- sh -c 'kill -TERM $$' 2>/dev/null; echo $?)" 143 "it ends by its signal"
# shellcheck disable=SC2016
matches "$(run --intercept=ptrace --trace -- cat "$P/none" 2>&1)" 'openat\(AT_FDCWD, ".*/none", O_RDONLY\) = -1 ENOENT <[0-9.]+> host$' "the trace says what it says without a monitor"
printf 'int main(void) { return 6; }\n' >"$TMP/six.c"
gcc -o "$TMP/setuid" "$TMP/six.c" && chown 65534 "$TMP/setuid" && chmod 4755 "$TMP/setuid"
chmod 755 "$TMP"
matches "$(run --trace -- sh -c "'$TMP/setuid'; echo \$?" 2>&1)" 'execve: the program changes its user: it runs without a shadow' "a program that changes its user is named"

# --- the hard cases, under the monitor ------------------------------------------------------------------------------------
# Not traced_child, which has its tracer; nor what makes so many threads and programs that it takes a minute on a busy machine.
all=$("$dir/cases" 2>/dev/null </dev/null | sed -n 's/^== //p' | grep -vxE 'traced_child|exec_races|thread_churn')
# shellcheck disable=SC2086 # a list of words
"$dir/cases" $all >"$TMP/cases.n" 2>&1 </dev/null
# shellcheck disable=SC2086
run --intercept=ptrace -- "$dir/cases" $all >"$TMP/cases.p" 2>&1 </dev/null
is "$(diff "$TMP/cases.n" "$TMP/cases.p")" "" "the cases of the interception"
cp "$dir/forward_cases" "$TMP/hard"
forward_estates
rm -rf "$P" "${root:?}$P"
mkdir -p "$P"
timeout 100 "$TMP/hard" "$P" >"$TMP/hard.n" 2>&1 </dev/null
rm -rf "$P"
mkdir -p "$root$P"
run --net host --intercept=ptrace -- "$TMP/hard" "$P" >"$TMP/hard.p" 2>&1 </dev/null
if grep -q 'no inotify instance' "$TMP/hard.n" "$TMP/hard.p"; then # how many there are is a matter of what else the user does
	sed -i '/^== watching$/,$d' "$TMP/hard.n" "$TMP/hard.p" # the last case
fi
# A process's signal goes to its first thread unless that stands still (Linux, kernel/signal.c, wants_signal()), as under a monitor it may.
for side in n p; do awk '/^== / { skip = $2 == "elections" } !skip' "$TMP/hard.$side" >"$TMP/hard.$side.steady"; done
is "$(diff "$TMP/hard.n.steady" "$TMP/hard.p.steady" | head -n 20)" "" "and those of forwarding ($(grep -c '^== ' "$TMP/hard.p"))"

# --- the monitor is killed -------------------------------------------------------------------------------------------------
run --intercept=ptrace -- sh -c "echo \$\$ >'$TMP/number'; exec sleep 300" &
shell=$!
for _ in $(seq 600); do
	monitor=$(sed -n 's/^TracerPid:[[:space:]]*//p' "/proc/$(cat "$TMP/number" 2>/dev/null)/status" 2>/dev/null)
	[ "${monitor:-0}" != 0 ] && break
	sleep 0.1
done
ok "$([ "${monitor:-0}" != 0 ] && echo 0 || echo 1)" "a program has its monitor"
[ "${monitor:-0}" = 0 ] || kill -KILL "$monitor"
wait $shell 2>/dev/null
is $? 137 "that is killed, and the program goes with it"
tap_done
