#!/bin/bash
# dscollect_kill.sh - SIGKILL at 200 random instants: the database always opens, is sound, and holds whole snapshots only
#
# The whole group is killed, workers too.  A third of the runs begin without a database, a third keep runs, so that the
# kill falls into its creation, into large transactions and into small ones.  The seed is printed: KILL_SEED repeats it.
. tests/tap.sh
d=$BIN/dscollect
needs_root "killed at random instants"
RANDOM=${KILL_SEED:=$$}
echo "# KILL_SEED=$KILL_SEED"
times=${KILL_TIMES:-200}
set -m # each background job is a process group of its own
mkfifo "$TMP/never"
exec 8<>"$TMP/never"

# Everything that must hold for each snapshot, as one number of violations.
violations="SELECT
	(SELECT count(*) FROM snapshot_info s WHERE n_seen <> n_sampled + n_kernel + n_zombie + n_vanished + n_denied + n_timeout + n_error
		OR n_seen = 0 OR duration_ns = 0
		OR n_sampled <> (SELECT count(*) FROM process_sample p WHERE p.snapshot_id = s.snapshot_id AND p.status = 'ok'))
	+ (SELECT count(*) FROM sample WHERE snapshot NOT IN (SELECT id FROM snapshot))
	+ (SELECT count(*) FROM run_map m JOIN sample s ON s.id = m.sample WHERE length(map) <> 72 + 24 * runs OR substr(map, 1, 8) <> CAST('DSRUNMAP' AS BLOB))
	+ (SELECT count(*) FROM pragma_foreign_key_check)"
unsound=0 unwhole=0 shrunk=0 stored=0 empty=0 noise=0 leftover=0 had=0
for i in $(seq "$times"); do
	db=$TMP/kill.db
	args=(--pid $$ --pid $PPID)
	case $((i % 3)) in
	0)
		rm -f "$db"*
		had=0
		;;
	1) args+=(--keep-runs) ;;
	2) [ $((i % 4)) = 0 ] && args=() ;;
	esac
	"$d" --config /dev/null --quiet --timeout 60 "${args[@]}" --db "$db" 0.001 2>"$TMP/err" &
	pid=$!
	read -rt "0.0$(printf %02d $((RANDOM % 40)))$((RANDOM % 10))" <&8
	kill -KILL -- -$pid
	wait $pid 2>/dev/null
	grep -v 'longer than the interval' "$TMP/err" && noise=$((noise + 1))
	# A worker that had just been forked has the lock's descriptor, too, until it is gone.
	[ ! -e "$db.lock" ] || flock -w 60 "$db.lock" true || noise=$((noise + 1))
	# Before anybody else opens it: the collector itself must be able to go on.
	if [ $((i % 2)) = 0 ] && [ -s "$db" ]; then
		"$d" --config /dev/null --quiet --pid $$ --db "$db" || noise=$((noise + 1))
	fi
	if [ ! -s "$db" ]; then
		empty=$((empty + 1))
		continue
	fi
	now=$(sqlite3 "$db" "SELECT count(*) FROM snapshot" 2>/dev/null || echo 0)
	if [ "$(sqlite3 "$db" "SELECT count(*) FROM sqlite_schema")" = 0 ]; then
		empty=$((empty + 1)) # killed before the schema was in: an empty database
		continue
	fi
	[ "$(sqlite3 "$db" "PRAGMA integrity_check")" = ok ] || unsound=$((unsound + 1))
	[ "$(sqlite3 "$db" "$violations")" = 0 ] || unwhole=$((unwhole + 1))
	[ "$now" -ge "$had" ] || shrunk=$((shrunk + 1))
	had=$now
	stored=$((stored + now))
	while read -r left; do
		echo "# left behind: $left"
		leftover=$((leftover + 1))
	done < <(find "$TMP" -name '.dscollect*')
done
echo "# $times kills, $empty of them before there was a database; $stored snapshots looked at"
is $unsound 0 "after each of $times kills the database passes integrity_check"
is $unwhole 0 "and every snapshot in it is whole"
is $shrunk 0 "and none that was there is gone"
is $noise 0 "and the next dscollect opens it without a word"
is $leftover 0 "and no file is left behind"
ok "$([ $stored -gt "$times" ] && [ $((empty * 2)) -lt "$times" ] && echo 0 || echo 1)" "most kills hit a collector at work: $stored snapshots"
is "$(for p in /proc/[0-9]*/cmdline; do tr "\0" " " 2>/dev/null <"$p" | grep -F "$TMP"; done)" "" "no process is left"
tap_done
