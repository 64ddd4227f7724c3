#!/bin/bash
# units.sh - the systemd units: valid, hardened, and not so hardened that the collector is blind
#
# systemd need not run here, so the sandbox is built by hand from what the unit says: its capabilities, no new
# privileges, read-only file systems but for the state directory, no network, only its system calls.
. tests/tap.sh
b=$(dirname "$BIN")
root=$TMP/root
env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s B="$b" DESTDIR="$root" install >/dev/null
unit=$root/usr/lib/systemd/system/dscollect.service
timer=$root/usr/lib/systemd/system/dscollect.timer
setting() { sed -n "s/^$1=//p" "$unit"; }

# --- what systemd thinks of it ---------------------------------------------------------------------------------------
if command -v systemd-analyze >/dev/null; then
	mkdir "$TMP/units"
	sed "s|/usr/sbin/dscollect|$root&|" "$unit" >"$TMP/units/dscollect.service"
	cp "$timer" "$TMP/units/"
	is "$(MANPATH=$root/usr/share/man systemd-analyze verify --recursive-errors=no "$TMP/units/dscollect.service" "$TMP/units/dscollect.timer" 2>&1)" \
		"" "systemd-analyze verify finds nothing wrong, the man pages it names included"
	score=$(systemd-analyze security --offline=true --no-pager "$unit" | grep -oE 'Overall exposure level[^:]*: [0-9.]+' | grep -oE '[0-9.]+$')
	ok "$(awk -v s="$score" 'BEGIN { print !(s != "" && s < 2) }')" "systemd-analyze security scores below 2 ($score)"
	mkdir "$TMP/host"
	sed "s|/usr/sbin/dshost|$root&|" "$root/usr/lib/systemd/system/dshost.service" >"$TMP/host/dshost.service"
	is "$(MANPATH=$root/usr/share/man systemd-analyze verify --recursive-errors=no "$TMP/host/dshost.service" 2>&1)" "" \
		"systemd-analyze verify finds nothing wrong with dshost.service"
	score=$(systemd-analyze security --offline=true --no-pager "$root/usr/lib/systemd/system/dshost.service" | grep -oE 'Overall exposure level[^:]*: [0-9.]+' | grep -oE '[0-9.]+$')
	ok "$(awk -v s="$score" 'BEGIN { print !(s != "" && s < 6) }')" "systemd-analyze security scores dshost.service, which makes jails, below 6 ($score)"
	mkdir "$TMP/container"
	sed "s|/usr/sbin/dscontainer|$root&|" "$root/usr/lib/systemd/system/dscontainer@.service" >"$TMP/container/dscontainer@one.service"
	is "$(MANPATH=$root/usr/share/man systemd-analyze verify --recursive-errors=no "$TMP/container/dscontainer@one.service" 2>&1)" "" \
		"systemd-analyze verify finds nothing wrong with dscontainer@.service"
	mkdir "$TMP/guest"
	sed "s|/usr/sbin/dsagent|$root&|" "$root/usr/lib/systemd/system/dsagent.service" >"$TMP/guest/dsagent.service"
	is "$(MANPATH=$root/usr/share/man systemd-analyze verify --recursive-errors=no "$TMP/guest/dsagent.service" 2>&1)" "" \
		"systemd-analyze verify finds nothing wrong with dsagent.service"
	score=$(systemd-analyze security --offline=true --no-pager "$root/usr/lib/systemd/system/dsagent.service" | grep -oE 'Overall exposure level[^:]*: [0-9.]+' | grep -oE '[0-9.]+$')
	ok "$(awk -v s="$score" 'BEGIN { print !(s != "" && s < 4) }')" "systemd-analyze security scores dsagent.service, which traces processes, below 4 ($score)"
	next=$(systemd-analyze calendar --iterations=4 "$(sed -n 's/^OnCalendar=//p' "$timer")" | grep -oE '[0-9]{2}:[0-9]{2}:[0-9]{2} UTC' | cut -d: -f2 | sort -u | paste -sd' ')
	is "$next" "00 15 30 45" "the timer acts at every quarter of an hour"
else
	skip "systemd-analyze" "systemd is not installed"
fi
is "$(grep -nE '^(PrivateUsers|ProcSubset|RootDirectory|RootImage|ProtectProc|User|DynamicUser)=' "$unit")" "" "nothing is set that hides frame numbers or processes"
is "$(grep -nE '^(Persistent|RandomizedDelaySec)=' "$timer")" "" "missed snapshots are not made up for, times are not shifted"
matches "$(setting SuccessExitStatus)" '^4 75$' "a partial snapshot and a busy database are no failures of the service"

agent=$root/usr/lib/systemd/system/dsagent.service
is "$(grep -nE '^(PrivateUsers|PrivateNetwork|ProcSubset|RootDirectory|RootImage|ProtectProc|User|DynamicUser)=' "$agent")" "" \
	"dsagent.service: nothing is set that hides frame numbers, processes, or their execs"
if [ "$(id -u)" = 0 ] && [ -x "$b/tests/unit/agent_eager" ]; then
	caps=$(sed -n 's/^CapabilityBoundingSet=//p' "$agent" | sed 's/CAP_//g; s/ /,+/g; s/^/-all,+/' | tr '[:upper:]' '[:lower:]')
	out=$(setpriv --no-new-privs --inh-caps=-all --bounding-set="$caps" "$b/tests/unit/agent_eager" </dev/null 2>&1)
	is "$?/$(grep '^not ok' <<<"$out")" 0/ "dsagent does all it must with the capabilities of its unit and no others"
else
	skip "dsagent with the capabilities of its unit" "needs root"
fi

# --- the sandbox, by hand --------------------------------------------------------------------------------------------
caps=$(setting CapabilityBoundingSet | sed 's/CAP_//g; s/ /,+/g; s/^/-all,+/' | tr '[:upper:]' '[:lower:]')
state=$TMP/state
config=$TMP/config
install -d -m "$(setting StateDirectoryMode)" "$state"
echo "DB=$state/dscollect.db" >"$config"
confined() { # confined CAPABILITIES COMMAND...: as the unit would run it
	unshare --mount --net --ipc -- bash -c '
		state=$1 caps=$2
		shift 2
		mount --bind "$state" "$state" &&
			for m in / /tmp /var /home; do mountpoint -q $m && mount -o remount,bind,ro $m; done
		echo x 2>/dev/null >"$state/../outside" && { echo "the file system is still writable"; exit 99; }
		umask 0027
		exec setpriv --no-new-privs --inh-caps=-all --bounding-set="$caps" nice -n 10 "$@" </dev/null' _ "$state" "$@"
}
if ! "$BIN/dscollect" --quiet --db "$TMP/free.db" --pid $$ 2>"$TMP/err"; then
	skip "the sandbox" "frame numbers cannot be seen here: $(head -n 1 "$TMP/err")"
elif ! confined "$caps" true 2>"$TMP/err"; then
	skip "the sandbox" "namespaces cannot be made here: $(head -n 1 "$TMP/err")"
else
	setpriv --reuid=65534 --regid=65534 --clear-groups sleep 60 &
	stranger=$!
	trap 'kill $stranger; rm -rf "$TMP"' EXIT
	status_of() { # status_of PID, in the latest snapshot
		sqlite3 "$state/dscollect.db" "SELECT status FROM process_sample WHERE pid = $1 AND snapshot_id = (SELECT max(snapshot_id) FROM snapshot_info)"
	}
	case "$(setting SuccessExitStatus) 0" in *4*) fine='^[04]$' ;; *) fine='^0$' ;; esac
	confined "$caps" "$BIN/dscollect" --config "$config" --quiet >"$TMP/out" 2>&1
	status=$?
	matches "$status" "$fine" "confined as the unit is, it takes its snapshot"
	[ "$status" -eq 0 ] || sed 's/^/# /' "$TMP/out"
	is "$(sqlite3 "$state/dscollect.db" "SELECT count(*) > 0, sum(pte_present) > 1000, sum(runs < pte_present) > 0 FROM process_sample WHERE status = 'ok'")" \
		"1|1|1" "with real frame numbers: pages lie in fewer runs than there are pages"
	is "$(status_of "$stranger")" "ok" "and sees another user's process"
	is "$(find "$state" -perm /007)" "" "others can read no file of it"
	confined "$caps" "$BIN/dscollect" --config "$config" --quiet >"$TMP/out" 2>&1
	matches "$?" "$fine" "a second snapshot is added by the same means"
	is "$(sqlite3 "$state/dscollect.db" "SELECT count(*) FROM snapshot_info")" "2" "and stands beside the first"
	confined "${caps//,+sys_admin/}" "$BIN/dscollect" --config "$config" --quiet >"$TMP/out" 2>&1
	is "$?" "3" "without CAP_SYS_ADMIN it refuses"
	is "$(sqlite3 "$state/dscollect.db" "SELECT count(*) FROM snapshot_info")" "2" "and records nothing"
	# The same for CAP_SYS_PTRACE holds up to Linux 6.1 at least; some later kernels let CAP_SYS_ADMIN do for reading.
	confined "${caps//,+dac_read_search/}" "$BIN/dscollect" --config "$config" --join none --quiet >"$TMP/out" 2>&1
	is "$(status_of "$stranger")" "denied" "without CAP_DAC_READ_SEARCH another user's process is denied: the unit gives no more than is needed"
fi

# --- dshost's capabilities -------------------------------------------------------------------------------------------
# A jail, a guard and a mirror must be possible with what dshost.service leaves: the unit tests of both run under that.
host_caps=$(sed -n 's/^CapabilityBoundingSet=//p' "$root/usr/lib/systemd/system/dshost.service" | sed 's/CAP_//g; s/ /,+/g; s/^/-all,+/' |
	tr '[:upper:]' '[:lower:]')
for t in host_jail host_warden host_places; do
	if [ "$(id -u)" != 0 ] || [ ! -x "$b/tests/unit/$t" ]; then
		skip "$t as dshost.service is confined" "needs root, and $b/tests/unit/$t"
		continue
	fi
	setpriv --no-new-privs --inh-caps=-all --bounding-set="$host_caps" "$b/tests/unit/$t" >"$TMP/out" 2>/dev/null
	is "$?/$(grep -c '^not ok' "$TMP/out")/$(grep -cE '^1\.\.[0-9]+' "$TMP/out")" 0/0/1 "$t passes as confined as dshost.service is"
done

# A service manager's filter of system calls is inherited by every shadow, and may not be taken for one of the shadow's own.
under_filter() { # under_filter COMMAND...: with one seccomp filter, which lets everything pass
	python3 - "$@" <<'PY'
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
allow = ctypes.create_string_buffer(struct.pack("<HBBI", 6, 0, 0, 0x7fff0000))  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW
program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", 1, ctypes.addressof(allow)))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(77)
os.execv(sys.argv[1], sys.argv[1:])
PY
}
for t in host_warden host_warden_demand; do
	if [ "$(id -u)" != 0 ] || [ ! -x "$b/tests/unit/$t" ]; then
		skip "$t under a filter as dshost.service has" "needs root, and $b/tests/unit/$t"
		continue
	fi
	under_filter "$b/tests/unit/$t" >"$TMP/out" 2>/dev/null
	is "$?/$(grep -c '^not ok' "$TMP/out")/$(grep -cE '^1\.\.[0-9]+' "$TMP/out")" 0/0/1 "$t passes under a filter of system calls, as dshost.service has some"
done

# --- its system calls ------------------------------------------------------------------------------------------------
# allowed: what SystemCallFilter= leaves, sets within sets followed
expand_set() { # expand_set @NAME
	systemd-analyze syscall-filter "$1" | sed '1d; s/#.*//' | awk 'NF { print $1 }' | while read -r call; do
		case $call in @*) expand_set "$call" ;; *) echo "$call" ;; esac
	done
}
if command -v strace >/dev/null && command -v systemd-analyze >/dev/null && strace -o /dev/null true 2>/dev/null; then
	strace -f -qq -o "$TMP/calls" "$BIN/dscollect" --quiet --db "$TMP/strace.db" >/dev/null 2>&1
	used=$(sed -nE 's/^[0-9]+ +([a-z_0-9]+)\(.*/\1/p' "$TMP/calls" | sort -u)
	for word in $(setting SystemCallFilter | grep -v '^~'); do expand_set "$word"; done | sort -u >"$TMP/allowed"
	for word in $(setting SystemCallFilter | sed -n 's/^~//p'); do expand_set "$word"; done | sort -u >"$TMP/denied"
	ok "$([ "$(wc -l <<<"$used")" -gt 15 ] && [ "$(wc -l <"$TMP/allowed")" -gt 100 ] && echo 0 || echo 1)" "calls were traced and sets read"
	# fchown: SQLite gives its files to the database's owner, which they have already; a refusal changes nothing.
	is "$(grep -vxFf "$TMP/allowed" <<<"$used"; grep -xFf "$TMP/denied" <<<"$used" | grep -vxE 'fchown')" "" \
		"the unit allows every system call that a snapshot makes"
else
	skip "the unit allows every system call that a snapshot makes" "strace or systemd-analyze is missing, or tracing is not allowed"
fi
tap_done
