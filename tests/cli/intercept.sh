#!/bin/bash
# intercept.sh - programs behave with every system call intercepted as they do without: by trap, and with hot places patched
. tests/tap.sh
dir=$(dirname "$BIN")/tests/intercept
cases=$dir/cases
# What may differ, and why.  traced_child: to a tracer every trap is a stop for SIGSYS.
differs=' traced_child '

export DS_PROBE=$PWD/$dir/probe.so
case $dir in /*) DS_PROBE=$dir/probe.so ;; esac
if [ "$(LD_PRELOAD=$DS_PROBE /bin/echo there 2>&1)" != there ]; then
	skip "interception" "the kernel has no Syscall User Dispatch (Linux 5.11)"
	tap_done
	exit
fi
block() { # block FILE CASE: what that case printed
	sed -n "/^== $2\$/,/^== /p" "$1" | grep -av '^== '
}

"$cases" >"$TMP/native" 2>&1
for way in trap patch; do
	[ $way = trap ] && patch=0 || patch=1
	DS_PROBE_PATCH=$patch LD_PRELOAD=$DS_PROBE "$cases" >"$TMP/$way" 2>&1
	while read -r _ name; do
		case $differs in *" $name "*) continue ;; esac
		is "$(block "$TMP/$way" "$name")" "$(block "$TMP/native" "$name")" "$way: $name"
	done < <(grep -a '^== ' "$TMP/native")
done
is "$(grep -ac '^== ' "$TMP/native")" "$(grep -ac '^== ' "$TMP/patch")" "all cases ran"

# --- nothing gets by: the kernel kills a process that calls from anywhere else ------------------------------------------
no_exec='eintr restart siglongjmp sigsuspend masks nested storm ppoll_mask sigqueue threads thread_churn cancel cancel_async setxid cond fork vfork clone_stack red_zone jit bad_pointers epoll sem futex_timeout'
# shellcheck disable=SC2086 # a list of words
DS_PROBE_PROVE=1 LD_PRELOAD=$DS_PROBE "$cases" $no_exec >"$TMP/proved" 2>&1
# shellcheck disable=SC2086
"$cases" $no_exec >"$TMP/expected" 2>&1
is "$(diff "$TMP/expected" "$TMP/proved")" "" "no system call comes from outside the exempt range"
DS_PROBE_PROVE=1 LD_PRELOAD=$DS_PROBE "$cases" exec_from_thread 2>&1 | grep -qa '^exec: signal 31'
ok $? "and one that does ends the process (a program that was started: its loader, whose range is another)"

# --- children, threads and further programs are covered, an empty environment included ----------------------------------
export DS_PROBE_LOG=$TMP/log
LD_PRELOAD=$DS_PROBE env -i /bin/sh -c '/bin/true; /bin/echo x | cat; exec /bin/true' >/dev/null
is "$(wc -l <"$TMP/log")" 4 "each process that ended tells of its calls: true, echo, cat, and sh's exec"
: >"$TMP/log"
LD_PRELOAD=$DS_PROBE dd if=/dev/zero of=/dev/null bs=512 count=20000 2>/dev/null
read -r traps jumps patched <"$TMP/log"
ok "$([ "$jumps" -gt 39000 ] && [ "$traps" -lt 500 ] && [ "$patched" -gt 1 ] && echo 0 || echo 1)" \
	"dd's 40000 calls come from patched places ($traps traps, $jumps jumps, $patched places)"
: >"$TMP/log"
DS_PROBE_PATCH=0 LD_PRELOAD=$DS_PROBE dd if=/dev/zero of=/dev/null bs=512 count=2000 2>/dev/null
read -r traps jumps patched <"$TMP/log"
ok "$([ "$traps" -gt 4000 ] && [ "$jumps$patched" = 00 ] && echo 0 || echo 1)" "without patching all of them trap ($traps)"

# --- programs that the library will not be in are known by name, before they start ---------------------------------------
unset DS_PROBE_LOG
unreached() { # unreached WANT WHAT COMMAND: what is written down when a shell runs it
	: >"$TMP/log"
	DS_PROBE_LOG=$TMP/log LD_PRELOAD=$DS_PROBE /bin/sh -c "$3; :" >/dev/null 2>&1
	is "$(sed -n 's/^unreached //p' "$TMP/log")" "$1" "$2"
}
printf 'int main(void) { return 6; }\n' >"$TMP/six.c"
unreached "" "a dynamic program loads it" /bin/true
unreached "" "nothing is said of what is not there" /no/such/program
printf '#!/bin/sh\nexit 0\n' >"$TMP/script"
unreached "" "nor of a script" "$TMP/script"
if gcc -static -o "$TMP/static" "$TMP/six.c" 2>/dev/null && gcc -static-pie -o "$TMP/static-pie" "$TMP/six.c" 2>/dev/null; then
	unreached static "a static program" "$TMP/static"
	unreached static "one that can be anywhere (static-pie)" "$TMP/static-pie"
	printf '#! %s -x\n' "$TMP/static" >"$TMP/script"
	unreached static "a script that a static program interprets" "$TMP/script"
	is "$(DS_PROBE_REFUSE=1 LD_PRELOAD=$DS_PROBE /bin/sh -c "$TMP/static" 2>&1 | grep -c 'Permission denied')" 1 "it can be refused"
	LD_PRELOAD=$DS_PROBE /bin/sh -c "$TMP/static"
	is $? 6 "or started, as it is"
else
	skip "static programs" "no static C library"
fi
if [ "$(id -u)" = 0 ]; then
	cp /bin/true "$TMP/setuid" && chown nobody "$TMP/setuid" && chmod 4755 "$TMP/setuid"
	unreached setuid "a program with the rights of another user" "$TMP/setuid"
	unreached "" "its own user's, it is like any other" "setpriv --reuid nobody --clear-groups $TMP/setuid"
else
	skip "setuid" "needs root"
fi
head -c 4 /bin/true >"$TMP/foreign" && printf '\1\1\1' >>"$TMP/foreign" && head -c 200 /dev/zero >>"$TMP/foreign"
chmod +x "$TMP"/*
unreached foreign "a program for i386" "$TMP/foreign"

# --- another C library ----------------------------------------------------------------------------------------------------
if command -v musl-gcc >/dev/null; then
	printf '%s\n' '#include <pthread.h>' '#include <stdio.h>' '#include <unistd.h>' '#include <sys/wait.h>' \
		'static void *f(void *a) { for (int i = 0; i < 100; i++) getppid(); return a; }' \
		'int main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); int s; if (!fork()) _exit(4);' \
		'wait(&s); printf("musl %d\n", WEXITSTATUS(s)); return 0; }' >"$TMP/musl.c"
	musl-gcc -o "$TMP/musl" "$TMP/musl.c" -lpthread
	: >"$TMP/log"
	is "$(DS_PROBE_LOG=$TMP/log LD_PRELOAD=$DS_PROBE "$TMP/musl")" "musl 4" "a program of musl's, with a thread and a child"
	ok "$([ "$(wc -l <"$TMP/log")" = 2 ] && echo 0 || echo 1)" "is seen"
else
	skip "a program of musl's" "no musl-gcc (Debian: musl-tools)"
fi
tap_done
