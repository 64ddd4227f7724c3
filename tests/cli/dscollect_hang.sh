#!/bin/bash
# dscollect_hang.sh - processes that hang whoever reads them: each costs itself, and nothing is left behind
# alone: while a process hangs, whoever looks at all processes hangs too (ps)
# flavours: asan
. tests/tap.sh
d=$BIN/dscollect
tools=$(dirname "$BIN")/tests/tools
cfg=(--config /dev/null)
db=$TMP/x.db
sql() { sqlite3 "$db" "$1"; }
hold() { # hold MODE: starts collect_hang on $TMP/mnt; sets holder and hung, or returns 1
	mkdir -p "$TMP/mnt"
	rm -f "$TMP/stdin" "$TMP/told"
	mkfifo "$TMP/stdin"
	"$tools/collect_hang" "$1" "$TMP/mnt" <"$TMP/stdin" >"$TMP/told" 2>"$TMP/hangerr" &
	holder=$!
	exec 7>"$TMP/stdin"
	for _ in $(seq 100); do [ -s "$TMP/told" ] && break || sleep 0.05; done
	hung=$(<"$TMP/told")
	[ -n "$hung" ]
}
release() {
	exec 7>&-
	wait "$holder"
}
gone() { # gone PID: within 2 s
	for _ in $(seq 100); do [ -e "/proc/$1" ] && sleep 0.02 || return 0; done
	return 1
}
needs_root "hanging processes"

# --- the real thing: a process that holds its mmap_lock for writing while a FUSE server is asleep ---------------------
if hold lock; then
	timeout -s KILL 0.5 cat "/proc/$hung/pagemap" >/dev/null 2>&1
	is $? 137 "a process $hung whose pagemap hangs its reader"
	start=$EPOCHREALTIME
	"$d" "${cfg[@]}" --db "$db" --timeout 1 >"$TMP/out" 2>"$TMP/err"
	is $? 4 "a snapshot with it is partial"
	took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
	ok "$(awk -v t="$took" 'BEGIN { exit !(t > 0.9 && t < 5) }' && echo 0 || echo 1)" "and takes the timeout, not for ever: $took s"
	is "$(sql "SELECT pid, comm, status, pte_present IS NULL FROM process_sample WHERE status NOT IN ('ok', 'vanished', 'denied')")" \
		"$hung|collect_hang|timeout|1" "it is recorded as who it is, without counts"
	is "$(sql "SELECT n_timeout, n_error, n_sampled > 3 FROM snapshot_info")" "1|0|1" "and costs itself only"
	matches "$(<"$TMP/err")" "process $hung \(collect_hang\) hangs" "and is named"
	matches "$(<"$TMP/out")" "1 that hung" "and counted"
	# Again and again, with more workers than the machine has CPUs
	"$d" "${cfg[@]}" -q --db "$db" --timeout 0.3 --jobs 8 --pid "$hung" --pid $$ 0.1 3 2>/dev/null
	is "$?-$(sql "SELECT count(*) FROM process_sample WHERE pid = $hung AND status = 'timeout'")" "4-4" "each snapshot of a series says so"
	is "$(sql "SELECT count(*) FROM process_sample WHERE pid = $$ AND status <> 'ok'")" 0 "and has the others"
	# A worker that somebody kills while it hangs
	"$d" "${cfg[@]}" -q --db "$TMP/k.db" --timeout 60 --pid "$hung" --pid $$ 2>/dev/null &
	collector=$!
	sleep 0.4
	# shellcheck disable=SC2046
	kill -KILL $(cat "/proc/$collector/task/$collector/children")
	wait $collector
	is "$?-$(sqlite3 "$TMP/k.db" "SELECT group_concat(status, ' ') FROM (SELECT status FROM process_sample ORDER BY status)")" "4-error ok" \
		"a worker that dies costs the process it was at"
	release
	"$d" "${cfg[@]}" -q --db "$db" --pid $$ && [ -z "$(pgrep -P $$ collect_hang)" ]
	ok $? "afterwards all is as before"
else
	skip "a process that holds its mmap_lock" "FUSE cannot be mounted here: $(<"$TMP/hangerr")"
	exec 7>&-
fi

# --- a reader that cannot even be killed -----------------------------------------------------------------------------
if hold read; then
	for pid in 7 8 9; do
		mkdir -p "$TMP/tree/$pid"
		echo "$pid (p$pid) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 4096 1 0 0" >"$TMP/tree/$pid/stat"
		printf 'Name:\tp\nUid:\t0\t0\t0\t0\n' >"$TMP/tree/$pid/status"
		echo "00010000-00011000 rw-p 00000000 00:00 0 " >"$TMP/tree/$pid/maps"
		head -c $((17 * 8)) /dev/zero >"$TMP/tree/$pid/pagemap"
	done
	ln -sf "$TMP/mnt/f" "$TMP/tree/8/maps"
	start=$EPOCHREALTIME
	mkfifo "$TMP/fifo"
	{ cat "$TMP/fifo" && echo end >"$TMP/fifo.end"; } >/dev/null &
	timeout -s KILL 30 "$d" "${cfg[@]}" --db "$TMP/u.db" --root "$TMP/tree" --timeout 0.5 --jobs 1 0.2 3 >"$TMP/fifo" 2>&1 &
	collector=$!
	sleep 1.2
	worker=$(ps -eo pid=,stat=,args= | awk -v tree="$TMP/tree" '$2 ~ /^D/ && index($0, tree) { print $1 }' | tail -n 1)
	ok "$([ -n "$worker" ] && echo 0 || echo 1)" "a worker that the kernel does not let go of: ${worker:-none}"
	wait $collector
	is $? 4 "is left behind, and the collector goes on and ends"
	sleep 0.3
	is "$(cat "$TMP/fifo.end" 2>/dev/null)" "end" "whoever reads its output is not kept waiting"
	is "$(sqlite3 "$TMP/u.db" "SELECT group_concat(pid || ' ' || status, ', ') FROM (SELECT * FROM process_sample ORDER BY time, pid)")" \
		"7 ok, 8 timeout, 9 ok, 7 ok, 8 timeout, 9 ok, 7 ok, 8 timeout, 9 ok" "the process costs itself only"
	is "$(sqlite3 "$TMP/u.db" "SELECT count(*) FROM process_sample WHERE pid = 8 AND scan_ns < 100000000")" 2 \
		"and is left alone as long as it hangs: it is waited for once"
	"$d" "${cfg[@]}" -q --db "$TMP/u.db" --pid $$
	is $? 0 "the worker left behind holds no lock"
	release
	ok "$({ [ -n "$worker" ] && gone "$worker"; } && echo 0 || echo 1)" "and ends as soon as it can"
else
	skip "a reader that cannot be killed" "FUSE cannot be mounted here: $(<"$TMP/hangerr")"
	exec 7>&-
fi
umount "$TMP/mnt" 2>/dev/null
tap_done
