#!/bin/bash
# dscollect_race.sh - processes that come, go, exec and reuse PIDs while they are read; and how much memory it all takes
# flavours: asan tsan
. tests/tap.sh
d=$BIN/dscollect
tools=$(dirname "$BIN")/tests/tools
cfg=(--config /dev/null)
db=$TMP/x.db
sql() { sqlite3 "$db" "$1"; }
needs_root "processes in motion"
mkfifo "$TMP/hold"

# --- the end in mid-scan: whatever the instant, counts are complete or there are none ---------------------------------
wrong=0 whole=0 ended=0
for i in $(seq 20); do
	rm -f "$TMP/counted" # or the count of the one before is taken for this one's
	"$tools/collect_pages" 60000 <"$TMP/hold" >"$TMP/counted" &
	known=$!
	exec 9>"$TMP/hold"
	for _ in $(seq 200); do [ -s "$TMP/counted" ] && break || sleep 0.02; done
	read -r _ present _ <"$TMP/counted"
	rm -f "$db"*
	"$d" "${cfg[@]}" -q --db "$db" --pid $known --jobs 1 2>/dev/null &
	collector=$!
	sleep "0.00$((i % 10))"
	kill -KILL $known
	wait $collector $known 2>/dev/null
	exec 9>&-
	[ -s "$db" ] || continue
	case $(sql "SELECT status || ' ' || coalesce(pte_present, '') FROM process_sample") in
	"ok $present") whole=$((whole + 1)) ;;
	"vanished " | "") ended=$((ended + 1)) ;;
	*) wrong=$((wrong + 1)) && sql "SELECT status, pte_present FROM process_sample" | sed "s/^/# of $present: /" ;;
	esac
done
echo "# $whole read in time, $ended ended before"
is $wrong 0 "a process killed while it is read: all of its $present pages are counted, or nothing is"

# --- a machine in motion ---------------------------------------------------------------------------------------------
churn() {
	while :; do
		for _ in 1 2 3 4; do (exec true) & done
		bash -c 'exec bash -c "exec true"'
		wait
	done
}
churn 2>/dev/null &
churning=$!
rm -f "$db"*
"$d" "${cfg[@]}" -q --db "$db" --jobs 2 0.02 25 2>"$TMP/err"
rc=$?
pkill -P $churning 2>/dev/null
kill $churning
wait $churning 2>/dev/null
ok "$([ $rc = 0 ] || [ $rc = 4 ] && echo 0 || echo 1)" "25 snapshots while processes come and go: status $rc"
is "$(grep -vc "left out [0-9]" "$TMP/err")" 0 "none of them is an error"
is "$(sql "SELECT count(*), sum(n_seen <> n_sampled + n_kernel + n_zombie + n_vanished + n_denied + n_timeout + n_error),
	sum(n_timeout) + sum(n_error) FROM snapshot_info")" "25|0|0" "every process is accounted for in each"
is "$(sql "SELECT count(*) FROM (SELECT 1 FROM process_sample GROUP BY snapshot_id, pid HAVING count(*) > 1)")" 0 "and none is there twice"
is "$(sql "SELECT count(*) FROM process_sample WHERE status = 'ok' AND pte_present = 0 AND vsz_bytes > 0")" 0 \
	"no process that was ending is taken for an empty one"

# --- a PID used again ------------------------------------------------------------------------------------------------
rm -f "$db"*
sleep 60 &
reused=$!
is_sleep() { for _ in $(seq 200); do [ "$(cat "/proc/$1/comm")" = sleep ] && break || sleep 0.01; done; } # a process is not read across its exec
is_sleep $reused
"$d" "${cfg[@]}" -q --db "$db" --pid $reused
kill $reused
wait $reused 2>/dev/null
sleep 0.05 # the kernel tells starts in hundredths of a second; within one the two could not be told apart
for _ in $(seq 50); do
	echo $((reused - 1)) >/proc/sys/kernel/ns_last_pid 2>/dev/null || break
	sleep 61 &
	again=$!
	[ $again = $reused ] && break
	kill $again
	wait $again 2>/dev/null
done
if [ "${again:-}" = $reused ]; then
	is_sleep $reused
	"$d" "${cfg[@]}" -q --db "$db" --pid $reused
	is "$(sql "SELECT count(*), count(DISTINCT process_id), count(DISTINCT start_ticks) FROM process_sample WHERE pid = $reused")" "2|2|2" \
		"a PID used again is another process"
	kill $again
	wait $again 2>/dev/null
else
	skip "a PID used again" "this kernel does not let the next PID be chosen"
fi

# --- memory ----------------------------------------------------------------------------------------------------------
# The peak of the collector and of each worker, while many processes and one with a large map to keep go through them.
if [ -n "$(nm "$d" 2>/dev/null | grep -m1 -E ' (__asan|__tsan)_init')" ]; then
	skip "resident memory" "a sanitizer takes more than the program"
	tap_done
	exit
fi
"$tools/collect_pages" 400000 <"$TMP/hold" >"$TMP/counted" &
known=$!
exec 9>"$TMP/hold"
for _ in $(seq 200); do [ -s "$TMP/counted" ] && break || sleep 0.05; done
sleepers=()
for _ in $(seq 300); do
	sleep 60 9>&- &
	sleepers+=($!)
done
rm -f "$db"*
"$d" "${cfg[@]}" -q --db "$db" --keep-runs --join full 0.1 2>/dev/null &
collector=$!
for _ in $(seq 200); do [ "$(sql "SELECT count(*) FROM snapshot" 2>/dev/null)" = 2 ] && break || sleep 0.05; done
peak=0
for p in $collector $(cat "/proc/$collector/task/$collector/children"); do
	kb=$(awk '/^VmHWM/ { print $2 }' "/proc/$p/status")
	[ "${kb:-0}" -gt $peak ] && peak=$kb
done
kill $collector
wait $collector
ok "$([ $peak -gt 0 ] && [ $peak -lt 32768 ] && echo 0 || echo 1)" "resident memory stays below 32 MiB: at most $peak KiB a process"
is "$(sql "SELECT length(map) = 72 + 24 * s.runs AND s.runs >= 200000 FROM run_map JOIN sample s ON s.id = sample
	JOIN process_sample p ON p.sample_id = s.id WHERE p.pid = $known LIMIT 1")" 1 "with a map of 200,000 runs stored"
kill "${sleepers[@]}"
exec 9>&-
wait $known "${sleepers[@]}" 2>/dev/null
tap_done
