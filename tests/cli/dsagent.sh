#!/bin/bash
# dsagent.sh - dsagent's command line, its socket, and dsmap through it: own processes, and frame numbers for root only
# flavours: asan
. tests/tap.sh
a=$BIN/dsagent d=$BIN/dsmap
refused() { # refused STATUS MESSAGE WHAT ARGUMENT...
	local status=$1 message=$2 what=$3 got
	shift 3
	timeout 10 "$a" "$@" >"$TMP/same" 2>"$TMP/err"
	got=$?
	is "$got/$(wc -c <"$TMP/same")" "$status/0" "$what: exit status $status and no output"
	matches "$(cat "$TMP/err")" "dsagent: .*$message" "$what: says so"
}
matches "$("$a" --help)" "^Usage: dsagent" "--help"
matches "$("$a" --version)" "^dsagent [0-9]" "--version"
refused 1 "1% to 100% of RAM" "no limit at all" --limit 0
refused 1 "1% to 100% of RAM" "more than all of RAM" --limit 101%
refused 1 "1% to 100% of RAM" "a limit that is no number" --limit 5x
refused 1 "1 to 4096" "no shadows" --shadows 0
refused 1 "3600 seconds" "no waiting" --retry 0
refused 1 "is no option" "an argument" 1234
needs_root "dsagent serves"
chmod 755 "$TMP"
setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$a" --socket "$TMP/s" 2>"$TMP/err"
is "$?/$(grep -c CAP_SYS_ADMIN "$TMP/err")" 3/1 "without CAP_SYS_ADMIN: exit status 3, and says what is missing"
refused 2 "absent/deeper/socket" "a socket that cannot be made" --socket "$TMP/absent/deeper/socket"
echo mine >"$TMP/file"
refused 2 "is no socket" "a file in the place of the socket" --socket "$TMP/file"
is "$(cat "$TMP/file")" mine "which is not touched"
refused 2 "longer than" "a path that is too long" --socket "$TMP/$(head -c 120 /dev/zero | tr '\0' x)"

"$a" --socket "$TMP/run/socket" --host "$TMP/nohost" 2>"$TMP/log" &
agent=$!
for _ in $(seq 100); do
	[ -S "$TMP/run/socket" ] && break
	sleep 0.1
done
is "$(stat -c %a "$TMP/run/socket")" 666 "everybody may connect"
refused 75 "another dsagent answers there" "a second one at the same socket" --socket "$TMP/run/socket"

# --- dsmap ------------------------------------------------------------------------------------------------------------
# A copy that the other user may execute, wherever this tree lies.
cp "$d" "$TMP/dsmap"
chmod 755 "$TMP/dsmap" "$TMP/run"
as_user() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
setpriv --reuid=65534 --regid=65534 --clear-groups sleep 1000 >/dev/null 2>&1 &
users=$!
sleep 1000 >/dev/null 2>&1 &
roots=$!
sleep 0.3
"$d" --json "$users" >"$TMP/direct"
"$d" --socket "$TMP/run/socket" --json "$users" >"$TMP/through"
is "$?" 0 "root through dsagent: exit status 0"
is "$(jq -c .map "$TMP/through")" "$(jq -c .map "$TMP/direct")" "root gets the map that dsmap sees itself"
is "$("$d" --socket "$TMP/run/socket" --out "$TMP/map" "$users" && "$d" --from "$TMP/map" --json | jq -c .map)" "$(jq -c .map "$TMP/direct")" \
	"and can save it"
chmod 644 "$TMP/map"
as_user "$TMP/dsmap" --socket "$TMP/run/socket" --json "$users" >"$TMP/user" 2>"$TMP/err"
is "$?/$(cat "$TMP/err")" 0/ "an ordinary user, an own process: exit status 0"
is "$(jq -c '[.map[] | [.vpn, .pages, .prot]]' "$TMP/user")" "$(jq -c '[.map[] | [.vpn, .pages, .prot]]' "$TMP/direct")" "the same runs"
is "$(jq -c '[.map[].pfn] | unique' "$TMP/user")/$(jq -c .withheld "$TMP/user")" '[null]/["pfn"]' "without frame numbers, and it says so"
is "$(as_user "$TMP/dsmap" --socket "$TMP/run/socket" "$users" | awk 'NR > 2 { print $2 }' | sort -u)" "-" "as text: no frame numbers either"
# Which pages of libraries nobody else has mapped changes with every program that starts anywhere.
is "$(as_user "$TMP/dsmap" --socket "$TMP/run/socket" --stats --json "$users" | jq -c 'del(.comm, .counts.exclusive)')" \
	"$("$d" --stats --json "$users" | jq -c 'del(.comm, .aligned, .counts.exclusive) | . as $d | {pid, start_ticks, split, key, space, runs, pages, withheld: ["pfn"]} + $d')" \
	"statistics are those that root gets, but for alignment"
user_refused() { # user_refused STATUS MESSAGE WHAT ARGUMENT...
	local status=$1 message=$2 what=$3 got
	shift 3
	as_user "$TMP/dsmap" --socket "$TMP/run/socket" "$@" >"$TMP/same" 2>"$TMP/err"
	got=$?
	is "$got/$(wc -c <"$TMP/same")" "$status/0" "$what: exit status $status and no output"
	matches "$(cat "$TMP/err")" "$message" "$what: says why"
}
user_refused 3 "not yours" "somebody else's process" "$roots"
user_refused 3 "cannot be saved" "a map without frames is not saved" --out "$TMP/out" "$users"
user_refused 3 "cannot be saved or compared" "nor compared" --diff "$TMP/map" "$users"
user_refused 2 "no process" "a process that is not there" 4194303
user_refused 1 "not with --root or --join" "a join" --join full "$users"
"$d" --socket "$TMP/nobody" "$roots" >"$TMP/same" 2>"$TMP/err"
is "$?/$(grep -c 'is dsagent running' "$TMP/err")" 2/1 "no dsagent: says so"

# --- who asks for nothing but lines in the log ------------------------------------------------------------------------
lines=$(wc -l <"$TMP/log")
python3 - "$TMP/run/socket" <<'END'
import os, socket, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
for i in range(300):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(sys.argv[1])
    s.send(b"garbage")
    s.recv(4096)
    s.close()
END
is "$?/$(($(wc -l <"$TMP/log") - lines))/$(grep -c "no more lines that uid 65534 causes" "$TMP/log")" 0/101/1 \
	"300 requests of a user that are none: 100 lines, and one that says that there are no more"
as_user "$TMP/dsmap" --socket "$TMP/run/socket" "$users" >"$TMP/same"
is "$?" 0 "the user is still answered"
mkfifo "$TMP/go"
exec 8<>"$TMP/go"
python3 - "$TMP/run/socket" "$TMP/go" <<'END' &
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
held = []
for uid in range(60000, 60010):
    os.setresuid(uid, uid, 0)
    for i in range(128):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(sys.argv[1])
        held.append(s)
    os.setresuid(0, 0, 0)
with open(sys.argv[2], "w") as go:
    go.write("ready\n")
held[0].settimeout(30)
held[0].recv(1)
END
many=$!
read -r -t 20 _ <&8
"$d" --socket "$TMP/run/socket" "$roots" >"$TMP/same"
is "$?" 0 "users who take every connection that they can get leave some to root"
kill $many
wait $many 2>/dev/null
exec 8>&-

# --- its end ----------------------------------------------------------------------------------------------------------
kill -TERM "$agent"
wait "$agent"
is "$?" 0 "asked to end: exit status 0"
ok "$([ ! -e "$TMP/run/socket" ]; echo $?)" "the socket is gone"
matches "$(cat "$TMP/log")" "^dsagent: version .* listens at $TMP/run/socket" "the log says where it listens"
"$a" --socket "$TMP/run/socket" 2>/dev/null &
agent=$!
for _ in $(seq 100); do
	[ -S "$TMP/run/socket" ] && break
	sleep 0.1
done
kill -KILL "$agent"
wait "$agent" 2>/dev/null
"$a" --socket "$TMP/run/socket" --host "$TMP/nohost" 2>/dev/null &
agent=$!
for _ in $(seq 100); do
	"$d" --socket "$TMP/run/socket" "$roots" >/dev/null 2>&1 && break
	sleep 0.1
done
"$d" --socket "$TMP/run/socket" "$roots" >/dev/null
is "$?" 0 "a socket that a killed dsagent left is taken over"
ask_shadow() { # ask_shadow PID UID: what is answered to that user who wants that process to have a shadow
	python3 - "$TMP/run/socket" "$1" "$2" <<'END'
import os, socket, struct, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[3])] * 3)
os.setresuid(*[int(sys.argv[3])] * 3)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
body = struct.pack("<IIIIQ32s256s", int(sys.argv[2]), 0, 0, 0, 0, b"checksum", b"")
s.send(struct.pack("<IHHII", 0x434C5344, 1, 2, 16 + len(body), 1) + body)
print(s.recv(4096)[24:].split(b"\0")[0].decode())
END
}
matches "$(ask_shadow "$users" 65534)" "host" "a user's program may have a shadow: what lacks is a host"
matches "$(ask_shadow "$roots" 65534)" "not yours" "one of root's may not, for a user"
matches "$(ask_shadow "$roots" 0)" "host" "but for root"
kill -TERM "$agent"
wait "$agent"
"$a" --socket "$TMP/run/socket" --host "$TMP/nohost" --root-only 2>/dev/null &
agent=$!
for _ in $(seq 600); do
	"$d" --socket "$TMP/run/socket" "$roots" >/dev/null 2>&1 && break
	sleep 0.1
done
matches "$(ask_shadow "$users" 65534)" "root's programs only" "--root-only: no shadow of a user's program for the user"
matches "$(ask_shadow "$users" 0)" "root's programs only" "nor for root"
matches "$(ask_shadow "$roots" 0)" "host" "one of root's programs only lacks a host"
kill -TERM "$agent"
wait "$agent"
kill "$users" "$roots"
wait "$users" "$roots" 2>/dev/null
tap_done
