#!/bin/bash
# dscollect_privilege.sh - without the privilege to see frame numbers nothing is recorded, and what is missing is said
# flavours: asan
. tests/tap.sh
d=$BIN/dscollect
db=$TMP/x.db
needs_root "privileges taken away"
# Programs must be reachable for others than root.
cp "$d" "$TMP/dscollect"
chmod 755 "$TMP" "$TMP/dscollect"
mkdir -m 777 "$TMP/open"
refuses() { # refuses WHAT COMMAND...: run with dscollect's own arguments behind
	local what=$1 err rc
	shift
	err=$("$@" "$TMP/dscollect" --config /dev/null --db "$TMP/open/x.db" 2>&1 >/dev/null)
	rc=$?
	is "$rc" 3 "$what: exit status 3"
	matches "$err" "^dscollect: .*CAP_SYS_ADMIN.*CAP_SYS_PTRACE.*CAP_DAC_READ_SEARCH" "$what: says which capabilities it needs"
	is "$(ls "$TMP/open")" "" "$what: no database is made"
}
refuses "without CAP_SYS_ADMIN" setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin
refuses "as an ordinary user" setpriv --reuid=65534 --regid=65534 --clear-groups
if unshare -U true 2>/dev/null; then
	refuses "in a user namespace" unshare -U
	refuses "as root of a user namespace" unshare -Ur
else
	skip "in a user namespace" "user namespaces are not allowed here"
fi
# Nothing is added to a database that is there either.
"$d" --config /dev/null -q --db "$db" --pid $$
setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$d" --config /dev/null -q --db "$db" 2>/dev/null
is "$?-$(sqlite3 "$db" "SELECT count(*) FROM snapshot")" "3-1" "no snapshot is added without the privilege"

# With what the service has, and no more.
keep=-all,+sys_admin,+sys_ptrace,+dac_read_search
setpriv --bounding-set=$keep --inh-caps=$keep "$d" --config /dev/null -q --db "$TMP/three.db" 2>/dev/null
rc=$?
ok "$([ $rc = 0 ] || [ $rc = 4 ] && echo 0 || echo 1)" "the three capabilities of the service are enough"
is "$(sqlite3 "$TMP/three.db" "SELECT n_sampled > 3 AND n_denied <= 1 FROM snapshot_info")" 1 "for all processes"

# hidepid: other users' processes are not even listed without CAP_SYS_PTRACE.
# shellcheck disable=SC2016
unshare -m bash -c 'mount -t proc -o hidepid=2 proc /proc 2>/dev/null &&
	setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace "$0" --config /dev/null -q --db "$1" 2>"$2"; echo $?' \
	"$d" "$TMP/hide.db" "$TMP/err" >"$TMP/rc"
if [ -s "$TMP/err" ]; then
	is "$(grep -c "hidepid= and CAP_SYS_PTRACE is missing" "$TMP/err")" 1 "a /proc with hidepid is warned of, once"
else
	skip "a /proc with hidepid" "cannot be mounted here"
fi
tap_done
