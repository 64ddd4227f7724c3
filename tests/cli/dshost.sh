#!/bin/bash
# dshost.sh - dshost without a VM: the daemon's life, the policy, what is refused, who may ask, what a killed one leaves
# flavours: asan
. tests/tap.sh
d=$BIN/dshost
run=$TMP/run
printf 'allow program=/usr/bin/** service=checksum\ndeny uid=0 # and so on\n' >"$TMP/policy"
printf 'allow program=/usr/bin/** service=checksum\nallow program=/x servise=y\n' >"$TMP/bad"
mkdir "$TMP/services"
serve() { # serve ARGS...: sets daemon
	"$d" serve --run-dir "$run" --policy "$TMP/policy" --services "$TMP/services" "$@" 2>>"$TMP/log" &
	daemon=$!
	for _ in $(seq 200); do
		"$d" status --run-dir "$run" >/dev/null 2>&1 && return
		sleep 0.05
	done
}
stop() {
	kill "$daemon"
	wait "$daemon"
}
try() { # try ARGS...: sets got, out
	out=$("$d" "$@" 2>&1)
	got=$?
}
logged() { # logged REGEX: within 5 seconds
	for _ in $(seq 100); do
		grep -qE -- "$1" "$TMP/log" && return
		sleep 0.05
	done
	return 1
}
children() { ps -o pid= --ppid "$1" | tr -d ' '; }

# --- usage -------------------------------------------------------------------------------------------------------------
while IFS='|' read -r want args; do
	# shellcheck disable=SC2086 # words
	try $args
	is "$got/$(grep -cE -- "$want" <<<"$out")" 1/1 "dshost $args: refused: $(head -n 1 <<<"$out")"
done <<END
do what|
no command is called|sreve
no option --json|serve --json
no option --policy|status --policy x
takes no argument|serve now
takes no argument|status now
no command: dshost run|run
--name|run --name ../x -- qemu
--name|run --name  -- qemu
value is missing|run -- qemu -m
--qmp|attach
VM/PID|end
VM/PID|end vm
number of a process|end vm/x
number of a process|end vm/0
stop which|stop
one file|check-policy
--max-shadows|serve --max-shadows 0
unrecognized|status --nix
END
is "$("$d" --help | head -n 1)/$("$d" --version | cut -d' ' -f1)" "Usage: dshost serve [options]/dshost" "--help and --version"

# --- the policy ------------------------------------------------------------------------------------------------------------
try check-policy "$TMP/policy"
is "$got/$out" "0/$TMP/policy: 2 rules" "a right policy"
try check-policy "$TMP/bad"
is "$got/$out" "1/dshost: $TMP/bad:2: no key is called 'servise'" "a wrong one: file, line, reason"
try check-policy "$TMP/absent"
is "$got/$(grep -c "$TMP/absent: No such file" <<<"$out")" 2/1 "one that is not there"
cp "$TMP/policy" "$TMP/anybodys_policy"
chmod 666 "$TMP/anybodys_policy"
try check-policy "$TMP/anybodys_policy"
is "$got/$(grep -c "everybody can write" <<<"$out")" 1/1 "one that everybody can write to"
try serve --run-dir "$run" --policy "$TMP/bad" --services "$TMP/services"
is "$got/$out" "1/$TMP/bad:2: no key is called 'servise'" "a daemon does not start with a wrong policy"
try serve --run-dir "$run" --policy "$TMP/absent" --services "$TMP/services"
is "$got" 2 "nor without one"
is "$(ls -d "$run" 2>/dev/null)" "" "and has made nothing by then"
try serve --run-dir "$run" --policy "$TMP/policy" --services "$TMP/absent"
is "$got/$(grep -c "services' folder" <<<"$out")" 2/1 "nor without its services"

# --- where it serves -------------------------------------------------------------------------------------------------------
mkdir -m 777 "$TMP/anybodys"
try serve --run-dir "$TMP/anybodys" --policy "$TMP/policy" --services "$TMP/services"
is "$got/$(grep -c "nobody else can write" <<<"$out")/$(ls "$TMP/anybodys")" 2/1/ "a run directory that others can write to: refused, nothing is made in it"
chmod 755 "$TMP/anybodys"
ln -s anybodys "$TMP/linked"
try serve --run-dir "$TMP/linked" --policy "$TMP/policy" --services "$TMP/services"
is "$got/$(ls "$TMP/anybodys")" 2/ "a link in place of it: refused"
if [ "$(id -u)" = 0 ]; then
	chown 65534 "$TMP/anybodys"
	try serve --run-dir "$TMP/anybodys" --policy "$TMP/policy" --services "$TMP/services"
	is "$got/$(ls "$TMP/anybodys")" 2/ "somebody else's: refused"
fi

# --- the daemon --------------------------------------------------------------------------------------------------------------
try status --run-dir "$run"
is "$got/$(grep -c "no daemon serves $run" <<<"$out")" 2/1 "status without a daemon: what to do"
serve
is "$("$d" status --json --run-dir "$run" | jq -c '[.daemon, .rules, .vms]')" "[$daemon,2,[]]" "a daemon with 2 rules and no VM"
matches "$("$d" status --run-dir "$run")" "^dshost $daemon: 0 VMs, 2 rules" "the same as text"
try serve --run-dir "$run" --policy "$TMP/policy" --services "$TMP/services"
is "$got/$(grep -c "serves $run already" <<<"$out")" 75/1 "a second daemon for the same run directory is refused"
is "$(stat -c %a "$run/control")" 600 "its socket is its user's own"
cp "$TMP/policy" "$TMP/was"
cp "$TMP/bad" "$TMP/policy"
kill -HUP "$daemon"
logged "policy:2: no key is called 'servise'; the policy that was in force stays"
ok $? "SIGHUP with a wrong policy: the log says where"
is "$("$d" status --json --run-dir "$run" | jq .rules)" 2 "and the old one stays"
cat "$TMP/was" "$TMP/was" >"$TMP/policy"
chmod 666 "$TMP/policy"
kill -HUP "$daemon"
logged "everybody can write to it; the policy that was in force stays"
ok $? "nor is one taken that everybody can write to"
is "$("$d" status --json --run-dir "$run" | jq .rules)" 2 "the old one stays"
chmod 644 "$TMP/policy"
kill -HUP "$daemon"
logged "policy: 4 rules are in force"
ok $? "SIGHUP with a right one"
is "$("$d" status --json --run-dir "$run" | jq .rules)" 4 "and it is in force"
is "$("$d" status --run-dir "$run" >/dev/full 2>&1; echo $?)" 2 "output that cannot be written is an error"

# --- VMs whose VMM is a stand-in -------------------------------------------------------------------------------------------------
# What is started in QEMU's place waits for a word on its standard input.
mkfifo "$TMP/word"
"$d" run --run-dir "$run" --name one -- sh -c 'read -r word; exit "$word"' 2>"$TMP/err" <"$TMP/word" &
vmm=$!
exec 5>"$TMP/word"
for _ in $(seq 100); do
	[ "$("$d" status --json --run-dir "$run" | jq -r '.vms[0].name')" = one ] && break
	sleep 0.05
done
is "$("$d" status --json --run-dir "$run" | jq -r '.vms[0] | [.name, .state, .source] | join(" ")')" "one waiting -" "run: the daemon waits for the VMM"
is "$(stat -c '%F %a' "$run/one.vsock" "$run/one.doorbell" | sort -u)" "socket 600" "with sockets of its user's own"
try run --run-dir "$run" --name one -- true
is "$got/$(grep -c "another name" <<<"$out")" 75/1 "a second VM of that name is refused"
try end one/1 --run-dir "$run"
is "$got/$out" "2/dshost: vm one: no shadow of guest process 1" "a shadow that is not there cannot be ended"
try end two/1 --run-dir "$run"
is "$got/$(grep -c "no VM two" <<<"$out")" 2/1 "nor one of a VM that is not there"
python3 - "$run/one.vsock" "$run/control" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.send(b"\xff" * 300) # no vhost-user
s.settimeout(5)
try:
    print("# the back end answers", s.recv(1))
except ConnectionResetError:
    pass
for packet in b"", b"x", b"\xff" * 1000, b"\0" * 2000, b"DSCL" * 500:
    c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    c.connect(sys.argv[2])
    c.settimeout(5)
    c.send(packet)
    try:
        c.recv(4096)
    except ConnectionResetError: # it was refused before all of it was read
        pass
idle = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]
for c in idle: # more than the daemon has places for, and none says anything
    c.setblocking(False)
    try:
        c.connect(sys.argv[2])
    except BlockingIOError:
        pass
import time
time.sleep(0.3)
PY
ok $? "a VMM that speaks nonsense is let go, requests that are none are refused"
logged "vm one: its VMM broke the vhost-user protocol"
ok $? "and the log says so"
for _ in $(seq 100); do
	n=$("$d" status --json --run-dir "$run" | jq '.vms | length')
	[ "$n" = 0 ] && break
	sleep 0.05
done
is "$n/$(ls "$run" | tr '\n' ' ')" "0/control lock " "its VM is gone, from the run directory too; the daemon answers"
echo 7 >&5
exec 5>&-
wait $vmm
is "$?" 7 "run: the exit status is the VMM's"

"$d" run --run-dir "$run" --name two -- sh -c 'exec sleep 100' &
vmm=$!
for _ in $(seq 100); do
	[ -S "$run/two.vsock" ] && break
	sleep 0.05
done
process=$("$d" status --json --run-dir "$run" | jq '.vms[0].process')
kill -KILL "$process"
logged "vm two: its process $process was ended by signal 9"
ok $? "a VM process that is killed: the log says so"
is "$(ls "$run" | tr '\n' ' ')" "control lock " "and nothing of it stays"
kill -KILL $vmm
wait $vmm 2>/dev/null
try run --run-dir "$run" --name three -- false
for _ in $(seq 100); do
	logged "vm three: its VMM ended before it connected" && break
done
is "$got/$(ls "$run" | tr '\n' ' ')" "1/control lock " "a VMM that ends before it connects leaves nothing"

# --- the ends ----------------------------------------------------------------------------------------------------------------------
"$d" run --run-dir "$run" --name four -- sh -c 'exec sleep 100' &
vmm=$!
for _ in $(seq 100); do
	[ -S "$run/four.vsock" ] && break
	sleep 0.05
done
process=$(children "$daemon")
try stop four --run-dir "$run"
is "$got/$out/$(children "$daemon")" "0//" "stop lets go of a VM, and its process has ended by then or ends"
kill -0 $vmm
ok $? "the VMM runs on"
kill $vmm
wait $vmm 2>/dev/null
"$d" run --run-dir "$run" --name five -- sh -c 'exec sleep 100' &
vmm=$!
for _ in $(seq 100); do
	[ -S "$run/five.vsock" ] && break
	sleep 0.05
done
process=$(children "$daemon")
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null
for _ in $(seq 100); do
	[ -e "/proc/$process" ] || break
	sleep 0.05
done
ok "$([ -n "$process" ] && [ ! -e "/proc/$process" ]; echo $?)" "a daemon that is killed takes its VM processes along"
serve
is "$(ls "$run" | tr '\n' ' ')" "control lock " "the next one clears what was left"
kill $vmm
wait $vmm 2>/dev/null
stop
is "$?/$(find "$run" -mindepth 1)" "0/" "told to end it ends with 0 and leaves an empty run directory"
serve --max-shadows 4096 --verbose
kill -INT "$daemon"
wait "$daemon"
is "$?" 0 "and by SIGINT too"

# --- who and where -------------------------------------------------------------------------------------------------------------------
long=$TMP/$(printf '%080d' 0)
try serve --run-dir "$long" --policy "$TMP/policy" --services "$TMP/services"
is "$got/$(grep -c "does not fit" <<<"$out")" 2/1 "a run directory whose sockets would have no address is refused"
if [ "$(id -u)" = 0 ]; then
	serve
	chmod 755 "$TMP"
	out=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$(realpath "$d")" status --run-dir "$run" 2>&1)
	is "$?/$(grep -c "only the daemon's own user" <<<"$out")" 2/1 "another user is refused, with the reason"
	stop
	mkdir -m 777 "$TMP/open"
	setpriv --reuid=65534 --regid=65534 --clear-groups "$(realpath "$d")" serve --run-dir "$TMP/open/run" --policy "$TMP/policy" \
		--services "$TMP/services" 2>"$TMP/err" &
	daemon=$!
	for _ in $(seq 200); do
		[ -S "$TMP/open/run/control" ] && break
		sleep 0.05
	done
	is "$("$d" status --json --run-dir "$TMP/open/run" | jq .daemon)" "$daemon" "an ordinary user can serve a run directory of their own"
	stop
else
	skip "other users" "needs root"
fi
is "$("$d" run --print --run-dir /x -- qemu-system-x86_64 -m 1G -append "it's" | tail -c 400 | grep -c "'it'\\\\''s' ")" 1 "run --print prints what a shell can read back"
is "$(eval "set -- $("$d" run --print --run-dir /x -- qemu -name "a b" -append "it's \$x")"; echo "$5")" "it's \$x" "and reads it back as it was"
tap_done
