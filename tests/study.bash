# study.bash - for the tests of the study's workloads (tests/cli/study_*.sh): what a run may leave, and waiting
# shellcheck shell=bash
# Sourced after tap.sh.  WORKLOAD is set by the test.

lock=/run/dark-shadows-study.lock

# study_cannot WORKLOAD: prints why the workload cannot run here; status 0 if it cannot.
study_cannot() {
	local lacking status
	if [ "$(id -u)" -ne 0 ]; then
		echo "needs root"
	elif lacking=$(data/workloads/deps check "$1" | tr '\n' ' ') && [ -n "$lacking" ]; then
		echo "packages missing: $lacking"
	elif "$BIN/dscollect" --db "$TMP/can.db" --quiet >"$TMP/can.log" 2>&1; status=$?; [ $status -ne 0 ] && [ $status -ne 4 ]; then
		echo "dscollect cannot collect here: $(head -n 1 "$TMP/can.log")"
	elif ! flock -n "$lock" true; then
		echo "another study is running on this machine"
	elif [ -e /var/lib/dark-shadows-study ]; then
		echo "an earlier run was killed; data/workloads/$1 --clean"
	else
		return 1
	fi
}

# A process that has ended counts for nothing, even if whoever inherited it has not looked yet (a zombie).
students() { # how many processes of students there are
	cat /proc/[0-9]*/status 2>/dev/null | awk '/^State:/ { gone = $2 ~ /[ZX]/ } /^Uid:/ && !gone && $2 > 20000 && $2 < 20100 { n++ }
		END { print n + 0 }'
}
servers() { # PID and user id of what runs as postgres or apache2
	cat /proc/[0-9]*/status 2>/dev/null | awk '/^Name:/ { name = $2 } /^State:/ { gone = $2 ~ /[ZX]/ } /^Pid:/ { pid = $2 }
		/^Uid:/ && !gone && name ~ /^(postgres|apache2)$/ { print pid, name, $2 }'
}

# footprint: everything a run changes, as text; the same before and after, or something stayed behind.
footprint() {
	echo "students' processes: $(students)"
	echo "marked processes: $(grep -lsz '^DS_STUDY_RUN=' /proc/[0-9]*/environ 2>/dev/null | wc -l)"
	echo "servers: $(servers | wc -l)"
	echo "huge pages: $(cat /proc/sys/vm/nr_hugepages)"
	echo "thp: $(cat /sys/kernel/mm/transparent_hugepage/enabled /sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled 2>/dev/null | tr '\n' ' ')"
	echo "folders: $(echo /var/lib/dark-shadows-study* "$TMP"/run-*)"
	echo "shared memory: $(find /dev/shm -name 'dark-shadows*' | wc -l) files, $(($(wc -l </proc/sysvipc/shm) - 1)) segments"
	echo "temporary files: $(find /tmp -maxdepth 1 -uid +20000 -uid -20100 2>/dev/null | wc -l)"
}

# start OPTION...: starts $WORKLOAD in the background; sets front, and guard and driver as soon as they are there.
# shellcheck disable=SC2034 # they are for the test
start() {
	"data/workloads/$WORKLOAD" --collector "$BIN/dscollect" --work "$TMP" --db "$TMP/run.db" "$@" >"$TMP/out" 2>&1 &
	front=$! guard='' driver=''
	soon 10 'guard=$(children $front | head -n 1); [ -n "$guard" ] && driver=$(children $guard | head -n 1) && [ -n "$driver" ]'
}
children() { # children PID: those that are the workload's own program, not something it runs
	local c
	for c in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do
		[ "$(cat "/proc/$c/comm" 2>/dev/null)" = "$WORKLOAD" ] && echo "$c"
	done
}
soon() { # soon SECONDS COMMAND: runs it until it succeeds
	local end=$((SECONDS + $1))
	until eval "$2"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}
busy() { # waits until students are at work, on both sides of the test's own database
	soon 25 '[ "$(students)" -ge 4 ] && [ -s "$TMP/run.db" ]' || sed 's/^/# /' "$TMP/out"
}
settled() { # waits until nobody holds the lock: the last of the three processes has ended
	soon 40 'flock -n "$lock" true'
}
whole() { # the database opens and every snapshot in it has as many samples as it says
	sqlite3 "$TMP/run.db" "PRAGMA integrity_check;
		SELECT count(*) FROM snapshot s WHERE n_sampled != (SELECT count(*) FROM sample x JOIN name n ON n.id = x.status
		WHERE x.snapshot = s.id AND n.text = 'ok')" 2>&1 | tr '\n' ' '
}
