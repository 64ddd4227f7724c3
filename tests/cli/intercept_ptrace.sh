#!/bin/bash
# intercept_ptrace.sh - programs that load no library, and dsrun --intercept=ptrace: forwarded as others are
#
# The host is a task of the program's own memory, as in forward.sh; a directory $P exists only there.
. tests/tap.sh
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
	DS_FORWARD_BELL=@ptrace-test-$$-% timeout 100 "$TMP/bin/dsrun" --forward "$P" --args "$root:16" "$@"
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
		is "$(run --intercept=$how -- sh -c "'$TMP/$kind' '$P/a' >/dev/null; '$TMP/$kind' '$P/none'; cat '$P/a' | tail -n 1" 2>&1)" \
			"$(printf -- '-1 -1\n0 -1\nmore')" "$how: one that a shell starts ($kind)"
		mkdir -p "$P"
	done
done
is "$(run -- sh -c "'$TMP/prog.c'; echo \$?" 2>&1 | tail -n 1)" 126 "what cannot be executed"
is "$(run --intercept=ptrace -- no/such/program 2>&1)" "dsrun: no/such/program: No such file or directory" "what is not there, under a monitor"
# A program beside which somebody stands has no other children, nor other descriptors, than without.
# shellcheck disable=SC2016
list='ps --ppid $$ -o comm= | sort; ls /proc/self/fd | wc -l'
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
"$dir/cases" >"$TMP/cases.n" 2>&1 </dev/null
run --intercept=ptrace -- "$dir/cases" >"$TMP/cases.p" 2>&1 </dev/null
is "$(diff "$TMP/cases.n" "$TMP/cases.p" | grep '^[<>]' | grep -vE 'stopped by (10|-1)|then: (exit 2|waitpid: No child processes)')" "" \
	"the cases of the interception (but traced_child: it has its tracer)"
cp "$dir/forward_cases" "$TMP/hard"
rm -rf "$P" "${root:?}$P"
mkdir -p "$P"
timeout 100 "$TMP/hard" "$P" >"$TMP/hard.n" 2>&1 </dev/null
rm -rf "$P"
mkdir -p "$root$P"
run --net host --intercept=ptrace -- "$TMP/hard" "$P" >"$TMP/hard.p" 2>&1 </dev/null
is "$(diff "$TMP/hard.n" "$TMP/hard.p" | head -n 20)" "" "and those of forwarding ($(grep -c '^== ' "$TMP/hard.p"))"

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
