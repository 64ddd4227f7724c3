#!/bin/bash
# dsrun.sh - dsrun's command line: what it refuses, what it says, which programs the library does not reach, completion
# (With a dsagent: tests/unit/dsguest.c, tests/unit/dsguest_agent.c.)
# flavours: asan
. tests/tap.sh
d=$BIN/dsrun
export DSGUEST_SOCKET=$TMP/nobody
unset DSGUEST_SERVICE

says() { # says STATUS REGEX WHAT ARGUMENT...: exit status, and a line of standard error
	local want=$1 regex=$2 what=$3 status
	shift 3
	"$d" "$@" >"$TMP/out" 2>"$TMP/err" </dev/null
	status=$?
	is "$status" "$want" "$what: exit status"
	matches "$(cat "$TMP/err")" "$regex" "$what: says so"
}
says 1 '^dsrun: which program\?' "nothing" --service x
says 1 '^dsrun: which service\? --service NAME' "no service" true
says 1 "^dsrun: --mode: eager or demand, not 'fast'" "an unknown mode" --mode fast --service x true
says 1 '^dsrun: the name of a service has 1 to 31 characters' "a long name" --service "$(printf 'x%.0s' {1..32})" true
says 1 '^dsrun: --args: 255 characters at most' "long arguments" --service x --args "$(printf 'x%.0s' {1..256})" true
says 1 "^dsrun: '1x' is not the number of a process" "no number" --service x --pid 1x
says 1 '^dsrun: one of --pid, --stop,.* at a time' "two verbs" --list --stop 1
says 1 "^dsrun: 'true' is too much" "a program and a number" --service x --pid 1 true
says 1 '^dsrun: --required is for a program' "--required with --pid" --service x --pid 1 --required
says 1 'unrecognized option' "an unknown option" --nonsense
says 2 '^dsrun: dsagent does not answer at .*/nobody: No such file or directory; is it running\?' "no dsagent" --list
says 2 'is it running' "no dsagent to shadow" --service x --pid 1
says 2 'is it running' "no dsagent to stop" --stop 1
says 127 '^dsrun: /no/such/program: No such file' "no program" --service x /no/such/program
touch "$TMP/data" && chmod 644 "$TMP/data"
says 126 '^dsrun: .*/data: Permission denied' "no program to execute" --service x "$TMP/data"
is "$("$d" --version)" "dsrun ${VERSION:-$("$d" --version | cut -d' ' -f2)}" "--version"
matches "$("$d" --help)" '--required' "--help"

# A policy: what is wrong with it is told with file, line and reason, and nothing starts.
printf '# mine\nforward path=/host\ndeny error=EPERM call=unlinkat path=/host/keep/**\nemulate cpus=2\n' >"$TMP/policy"
is "$("$d" --check-policy "$TMP/policy")" "$TMP/policy: 3 rules" "a right policy"
printf 'forward path=/host\n\ndeny error=EWHAT call=open\n' >"$TMP/bad"
says 1 "^dsrun: .*/bad:3: the name of an errno, such as EPERM: 'error=EWHAT'" "a wrong one" --check-policy "$TMP/bad"
says 1 "bad:3: the name of an errno" "a program with a wrong one" --policy "$TMP/bad" -- touch "$TMP/was-run"
ok "$([ ! -e "$TMP/was-run" ] && echo 0 || echo 1)" "which is not started"
says 2 "absent: No such file" "one that is not there" --check-policy "$TMP/absent"
says 2 "absent: No such file" "a program with one that is not there" --policy "$TMP/absent" -- touch "$TMP/was-run"
printf 'allow program=/bin/ls service=forward\n' >"$TMP/hosts"
says 1 "hosts:1: a rule of the guest begins with forward, local, deny, emulate or trace: 'allow" "one for the host" --check-policy "$TMP/hosts"
printf 'local fd=1\0\n' >"$TMP/zero"
says 1 "zero:1: there is a byte 0 in it" "one with a byte 0" --check-policy "$TMP/zero"

printf 'emulate value=77 call=getuid,geteuid\nemulate nodename=elsewhere\n' >"$TMP/policy"
lib=${BIN%/bin}/lib/libdsforward.so
if [ -f "$lib" ] && [ "$(DS_FORWARD_LIB=$lib LD_PRELOAD=$lib /bin/echo there 2>&1)" = there ]; then
	is "$("$d" --policy "$TMP/policy" -- sh -c 'id -u; uname -n' 2>&1 </dev/null)" "$(printf '77\nelsewhere')" "what a policy answers takes no shadow, and holds for children"
	mkdir "$TMP/other"
	whole=$(realpath "$d")
	(cd "$TMP" && "$whole" --policy "$TMP/policy" --trace=lines -- sh -c 'cd other; /bin/echo; cd /; /bin/echo; :') >/dev/null 2>&1 </dev/null
	is "$(find "$TMP/other"; grep -c 'exit_group' "$TMP/lines")" "$(printf '%s\n3' "$TMP/other")" "a trace's name is that of one file, wherever programs go"
else
	skip "policies, and the place of a trace" "the library is not beside dsrun here, or the kernel has no Syscall User Dispatch (Linux 5.11)"
fi

says 2 '^dsrun: --trace=.*/no/trace: No such file or directory$' "a trace that cannot be written" --trace="$TMP/no/trace" -- touch "$TMP/was-run"
says 2 '^dsrun: --summary=.*: Is a directory$' "nor a table" --summary="$TMP" -- touch "$TMP/was-run"
ok "$([ ! -e "$TMP/was-run" ] && echo 0 || echo 1)" "of which nothing is started"

# The program runs all the same, as itself.
says 7 '^dsrun: no shadow for process [0-9]+: dsagent does not answer .*; it runs without$' "no dsagent, a program" --service x -- sh -c 'exit 7'
says 125 'it is not started \(--required\)$' "required" --service x --required -- touch "$TMP/was-run"
ok "$([ ! -e "$TMP/was-run" ] && echo 0 || echo 1)" "and indeed it was not"
is "$(DSGUEST_SERVICE=x "$d" echo -n 'a  b' 2>/dev/null)" "a  b" "its arguments and output; the service may be in the environment"
is "$("$d" --service x -- sh -c 'echo $$; exec sh -c "echo \$\$"' 2>/dev/null | uniq | wc -l)" 1 "its process number is kept over exec"
is "$(echo in | "$d" --service x cat 2>/dev/null)" "in" "its input"
"$d" --service x -- sh -c 'kill -TERM $$' 2>/dev/null
is $? 143 "its signal"
is "$("$d" --service x -- sh -c 'echo $LD_PRELOAD' 2>/dev/null | grep -c '/libdsguest.so$')" 1 "the library is asked for"
is "$(LD_PRELOAD=/lib/other.so "$d" --service x -- sh -c 'echo $LD_PRELOAD' 2>/dev/null | grep -c '/libdsguest.so:/lib/other.so$')" 1 "before others"

# What the library does not reach is told before it starts.
printf 'int main(void) { return 5; }\n' >"$TMP/five.c"
if gcc -static -o "$TMP/five" "$TMP/five.c" 2>/dev/null; then
	says 5 'it is statically linked, so no library can be loaded into it: start it, then dsrun --pid; it runs without' "a static program" --service x "$TMP/five"
	says 125 'statically linked.*not started' "a static program, required" --service x --required "$TMP/five"
	PATH=$TMP:$PATH says 5 'statically linked' "found in PATH" --service x five
else
	skip "a static program" "no static C library here"
fi
if [ "$(id -u)" = 0 ]; then
	gcc -o "$TMP/five" "$TMP/five.c" && chown 65534 "$TMP/five" && chmod 4755 "$TMP/five"
	says 5 'it changes its user, so the system loads no library into it' "a setuid program" --service x "$TMP/five"
else
	skip "a setuid program" "needs root"
fi
printf '\x7fELF\x01\x01\x01%0.s\0' {1..60} >"$TMP/elf32" && chmod 755 "$TMP/elf32"
says 125 'it is not an x86-64 program' "a 32-bit program" --required --service x "$TMP/elf32"

. collector/packaging/complete.bash
# shellcheck source=runtime/guest/run/dsrun.bash
. runtime/guest/run/dsrun.bash
completes() { # completes WANT WORD...: what completion offers for the last word
	local want=$1
	shift
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
	_dsrun
	is "${COMPREPLY[*]}" "$want" "completion of: $*"
}
completes "--service" dsrun --se
completes "eager demand" dsrun --mode ""
completes "demand" dsrun --mode = d
completes "--stop" dsrun --service x --st
tap_done
