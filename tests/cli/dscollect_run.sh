#!/bin/bash
# dscollect_run.sh - the whole program in ordinary use: options, settings, output, exact counts of a known process
# flavours: asan tsan
. tests/tap.sh
d=$BIN/dscollect
tools=$(dirname "$BIN")/tests/tools
db=$TMP/x.db
cfg=(--config /dev/null)
sql() { sqlite3 -readonly "${2:-$db}" "$1"; }
run() { # run ARG...: leaves out, err, rc
	out=$("$d" "$@" 2>"$TMP/err")
	rc=$?
	err=$(<"$TMP/err")
}

# --- the command line ----------------------------------------------------------------------------------------------
run --help
ok $rc "--help is no error"
matches "$out" "^Usage: dscollect" "--help prints the usage"
for o in db config pid jobs join root keep-runs timeout prune json quiet help version; do
	matches "$out" "--$o" "--help knows --$o"
done
run --version
matches "$out" "^dscollect [0-9]" "--version prints the version"
refused() { # refused WORD ARG...: status 1, WORD in the message, nothing on stdout
	local word=$1
	shift
	run "${cfg[@]}" --db "$TMP/none.db" "$@"
	is "$rc-$out" "1-" "refused: $*"
	matches "$err" "$word" "and says why: $word"
}
refused "unrecognized option" --nonsense
refused "none, head or full" --join all
refused "1 to 64" --jobs 0
refused "seconds" --timeout -1
refused "number of a process" --pid 0
refused "number of a process" --pid 12x
refused "interval" 0
refused "interval" nan
refused "interval" 1x
refused "count" 1 0
refused "count" 1 2x
refused "too many" 1 2 3
refused "nothing can be said" --prune 1
refused "path" --db ""
is "$(ls "$TMP")" "err" "a refused command line makes no file"
mkdir "$TMP/empty"
"$d" --config /dev/null --prune --db "$TMP/absent.db" 2>"$TMP/err"
is "$?-$(grep -c 'absent.db: No such file.*nothing was removed' "$TMP/err")-$(ls "$TMP")" "2-1-empty
err" "--prune of a database that is not there makes none"
"$d" --config /dev/null --root "$TMP/empty" --db "$TMP/empty.db" 2>"$TMP/err"
is "$?-$(grep -c 'no process in it' "$TMP/err")-$(ls "$TMP")" "2-1-empty
err" "--root of a folder without a process makes none"
rmdir "$TMP/empty"

# --- the configuration file ----------------------------------------------------------------------------------------
printf '# a comment\nJOBS=1\nJION=full\n' >"$TMP/bad.conf"
run --config "$TMP/bad.conf" --db "$db"
is "$rc-$out" "1-" "a fault in the configuration file ends it"
is "$err" "dscollect: $TMP/bad.conf:3: unknown key 'JION'; known are DB, JOIN, JOBS, HISTORY, TIMEOUT_S, KEEP_RUNS" \
	"and names file, line and reason"
run --config "$TMP/missing.conf" --db "$db"
is "$rc" 1 "a configuration file that was named must exist"
matches "$err" "missing.conf: No such file" "and the message says which is missing"

needs_root "snapshots"

# --- a snapshot ----------------------------------------------------------------------------------------------------
all_ok() { [ "$rc" = 0 ] || [ "$rc" = 4 ]; } # 4: a process on this machine that even root may not read
run "${cfg[@]}" --db "$db"
all_ok
ok $? "a snapshot of everything"
matches "$out" "^[0-9]{4}-[0-9-]+ [0-9:]+  [0-9]+ process(es)?, [0-9]+ pages in [0-9]+ runs, median ratio [01]\.[0-9]+, [0-9.]+ s" \
	"prints one line about it"
is "$(ls "$TMP"/x.db*)" "$TMP/x.db
$TMP/x.db.lock" "the write-ahead log is folded in at the end"
is "$(sql "SELECT count(*) FROM snapshot_info")" 1 "and stores it"
is "$(sql "SELECT n_seen = n_sampled + n_kernel + n_zombie + n_vanished + n_denied + n_timeout + n_error FROM snapshot_info")" 1 \
	"every process is accounted for"
is "$(sql "SELECT (SELECT count(*) FROM process_sample WHERE status = 'ok') = n_sampled FROM snapshot_info")" 1 "each sampled one has its row"
is "$(sql "SELECT comm FROM process_sample WHERE pid = $$")" "$(</proc/$$/comm)" "this shell is there, by name"
is "$(sql "SELECT count(*) FROM process_sample WHERE status = 'ok' AND (pte_present > pages_mapped OR runs > pte_present OR runs_prot < runs
	OR runs_attr < runs_prot OR cover100 <> runs OR cover50 > cover90 OR exclusive > pte_present)")" 0 "counts that bound each other do"
is "$(sql "SELECT count(*) FROM process_sample p WHERE status = 'ok' AND pte_present > 0 AND
	((SELECT sum(value) FROM json_each(hist_runs)) <> runs OR (SELECT sum(value) FROM json_each(hist_pages)) <> pte_present)")" 0 \
	"histograms add up to the counts"
is "$(sql "SELECT kernel FROM snapshot_info")" "$(uname -r) $(uname -v)" "kernel"
is "$(sql "SELECT host FROM snapshot_info")" "$(</proc/sys/kernel/hostname)" "host"
is "$(sql "SELECT boot_id FROM snapshot_info")" "$(</proc/sys/kernel/random/boot_id)" "boot"
is "$(sql "SELECT mem_total_bytes / 1024 FROM snapshot_info")" "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)" "memory"
is "$(sql "SELECT max_map_count FROM snapshot_info")" "$(</proc/sys/vm/max_map_count)" "max_map_count"
is "$(sql "SELECT thp_enabled FROM snapshot_info")" "$(sed 's/.*\[//; s/\].*//' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null)" "THP"
is "$(sql "SELECT group_concat(json_extract(value, '\$.zone'), ' ') FROM snapshot_info, json_each(buddyinfo)")" \
	"$(awk '{ printf "%s%s", sep, $4; sep = " " }' /proc/buddyinfo)" "the zones of buddyinfo"
is "$(sql "SELECT json_array_length(json_extract(buddyinfo, '\$[0].free')) FROM snapshot_info")" \
	"$(awk 'NR == 1 { print NF - 4 }' /proc/buddyinfo)" "and its orders"
is "$(sql "SELECT (SELECT json_valid(mthp) FROM snapshot_info) IS NOT 0")" 1 "mTHP is JSON or unknown"
is "$(stat -c %a "$db" "$db.lock" | tr '\n' ' ')" "640 640 " "others may not read it"
mkdir "$TMP/p" && run "${cfg[@]}" -q --db "$TMP/p/new/y.db" --pid $$
is "$rc$out$err$(stat -c %a "$TMP/p/new")" 0750 "the folder is made, for its owner and group; --quiet says nothing"

# --- exact counts ----------------------------------------------------------------------------------------------------
mkfifo "$TMP/hold"
"$tools/collect_pages" 2000 <"$TMP/hold" >"$TMP/counted" &
known=$!
exec 9>"$TMP/hold"
for _ in $(seq 100); do [ -s "$TMP/counted" ] && break || sleep 0.05; done
read -r _ present _ runs _ mapped _ swapped <"$TMP/counted"
ok "$([ "${present:-0}" -ge 1000 ] && [ "$mapped" -ge 2000 ] && echo 0 || echo 1)" "a process that knows its page table: $(<"$TMP/counted")"
for join in none head full; do
	for jobs in 1 2; do
		run "${cfg[@]}" --db "$TMP/$join$jobs.db" --pid $known --join $join --jobs $jobs
		is "$(sql "SELECT pte_present, runs, pages_mapped, swapped FROM process_sample" "$TMP/$join$jobs.db")" \
			"$present|$runs|$mapped|$swapped" "its counts are exact, --join $join --jobs $jobs"
	done
done
is "$(sql "SELECT (thp IS NULL) + (hugetlb IS NOT NULL) FROM process_sample" "$TMP/none1.db")" 2 "without a join, what it would tell is NULL"
is "$(sql "SELECT (thp IS NULL) + (ksm IS NULL) + (hugetlb IS NULL) FROM process_sample" "$TMP/head1.db")" 0 "with one it is not"
run "${cfg[@]}" --db "$TMP/none1.db" --pid $known --pid $$ --keep-runs
is "$rc-$(sql "SELECT count(*), sum(length(map) = 72 + 24 * runs), sum(substr(map, 1, 8) = CAST('DSRUNMAP' AS BLOB))
	FROM run_map JOIN sample ON sample.id = run_map.sample" "$TMP/none1.db")" "0-2|2|2" "--keep-runs stores as many runs as were counted"
is "$(find "$TMP" -name '.dscollect*')" "" "and leaves no file"
is "$(sql "SELECT count(DISTINCT process_id) || ' ' || count(*) FROM process_sample WHERE pid = $known" "$TMP/none1.db")" "1 2" \
	"a process is the same one in its next sample"

# --- JSON ----------------------------------------------------------------------------------------------------------
run "${cfg[@]}" --json --pid $known
is "$rc$err" 0 "--json"
is "$(jq -c '[.n_seen, .n_sampled, (.samples | length), .samples[0].pid, .samples[0].pte_present, .samples[0].runs, .samples[0].status]' <<<"$out")" \
	"[1,1,1,$known,$present,$runs,\"ok\"]" "prints the same counts"
is "$(jq -r '[.host, .kernel] | join("|")' <<<"$out")" "$(</proc/sys/kernel/hostname)|$(uname -r) $(uname -v)" "and the machine"
is "$(sql "SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_table_info('process_sample')
	WHERE name NOT IN ('sample_id', 'snapshot_id', 'process_id', 'host', 'boot_id', 'time', 'time_iso', 'ratio', 'ratio_mapped') ORDER BY name)")" \
	"$(jq -r '.samples[0] | keys | sort | join(" ")' <<<"$out")" "with the names of process_sample"
is "$(sql "SELECT group_concat(name, ' ') FROM (SELECT name FROM pragma_table_info('snapshot_info')
	WHERE name NOT IN ('snapshot_id', 'time_iso') ORDER BY name)")" \
	"$(jq -r 'del(.samples) | keys | sort | join(" ")' <<<"$out")" "and of snapshot_info"
run "${cfg[@]}" --json --db "$TMP/json.db" --pid $known 0.01 3
is "$(jq -c '.samples[0].pte_present' <<<"$out" | sort | uniq -c | xargs)" "3 $present" "a line a snapshot"
is "$(sql "SELECT count(*) FROM snapshot" "$TMP/json.db")" 3 "stored as well when --db is given"
exec 9>&-
wait $known

# --- who ended -----------------------------------------------------------------------------------------------------
run "${cfg[@]}" --db "$TMP/gone.db" --pid $known --pid $$
is "$rc" 4 "a process that was asked for and is not there: partial"
matches "$err" "there is no process $known" "and said"
is "$(sql "SELECT n_seen, n_sampled, n_vanished FROM snapshot_info" "$TMP/gone.db")" "2|1|1" "the other one is sampled"

# --- intervals -----------------------------------------------------------------------------------------------------
run "${cfg[@]}" --db "$TMP/i.db" --pid $$ 0.2 6
is "$rc" 0 "six snapshots, 0.2 s apart"
is "$(grep -c 'process, ' <<<"$out")" 6 "a line each"
kept() { sql "SELECT count(*), abs(max(time) - min(time) - 1.0) < 0.15 FROM snapshot" "$TMP/i.db"; }
for _ in $(seq 30); do # on a busy machine the last may come late
	[ "$(kept)" = "6|1" ] && break
	rm -f "$TMP"/i.db*
	run "${cfg[@]}" --db "$TMP/i.db" --pid $$ 0.2 6
done
is "$(kept)" "6|1" "they keep their times"
mkfifo "$TMP/hold2"
mkdir -p "$TMP/tree/7" && printf '7 (slow) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 4096 1 0 0\n' >"$TMP/tree/7/stat"
printf 'Name:\tslow\nUid:\t0\t0\t0\t0\n' >"$TMP/tree/7/status"
: >"$TMP/tree/7/pagemap"
mkfifo "$TMP/tree/7/maps" # whoever opens it waits
run "${cfg[@]}" --db "$TMP/slow.db" --root "$TMP/tree" --timeout 0.33 0.1 2
matches "$err" "longer than the interval; left out [2-9]" "times that went by are left out, and said"
is "$rc-$(sql "SELECT count(*), sum(n_timeout) FROM snapshot_info" "$TMP/slow.db")" "4-2|2" "both snapshots are there"
whole() { sql "SELECT abs((max(time) - min(time)) * 10 - round((max(time) - min(time)) * 10)) < 0.2 FROM snapshot" "$TMP/slow.db"; }
for _ in $(seq 30); do
	[ "$(whole)" = 1 ] && break
	rm -f "$TMP"/slow.db*
	run "${cfg[@]}" --db "$TMP/slow.db" --root "$TMP/tree" --timeout 0.33 0.1 2
done
is "$(whole)" 1 "at whole intervals"

# --- retention -----------------------------------------------------------------------------------------------------
old() { sqlite3 "$db" "UPDATE snapshot SET time = time - 40 * 86400"; }
printf 'HISTORY=30\n' >"$TMP/keep.conf"
run "${cfg[@]}" --db "$db" --prune
is "$rc-$out" "0-HISTORY is 0: snapshots are kept for ever, nothing was removed" "--prune without HISTORY"
run "${cfg[@]}" -q --db "$db" --pid $$
old
run --config "$TMP/keep.conf" --db "$db" --pid $$
is "$rc-$(sql "SELECT count(*) FROM snapshot")" "0-1" "a snapshot removes those that are too old"
matches "$out" "removed 2 snapshots older than 30 days" "and says so"
old
run "${cfg[@]}" -q --db "$db" --pid $$
run --config "$TMP/keep.conf" --db "$db" --prune
is "$rc-$out-$(sql "SELECT count(*) FROM snapshot")" "0-removed 1 snapshots older than 30 days-1" "so does --prune alone"
is "$(sql "PRAGMA integrity_check")" ok "the database is sound"

# --- being stopped -------------------------------------------------------------------------------------------------
stopped() { # stopped SIGNAL WANT_STATUS WHAT ARG...
	local signal=$1 want=$2 what=$3 got
	shift 3
	rm -f "$TMP/s.db"*
	"$d" "${cfg[@]}" --db "$TMP/s.db" "$@" >"$TMP/out" 2>&1 &
	local pid=$!
	if [ "$1" = --root ]; then
		sleep 0.5
	else
		for _ in $(seq 100); do [ "$(sqlite3 "$TMP/s.db" "SELECT count(*) > 1 FROM snapshot" 2>/dev/null)" = 1 ] && break || sleep 0.05; done
	fi
	local workers
	workers=$(cat /proc/$pid/task/*/children)
	kill -"$signal" $pid
	wait $pid
	got=$?
	is "$got" "$want" "$what"
	local left=""
	for w in $workers; do [ -e "/proc/$w" ] && left="$left $w"; done
	is "$left" "" "no worker is left"
	is "$(sqlite3 "$TMP/s.db" "PRAGMA integrity_check; SELECT count(*) FROM snapshot WHERE n_seen = 0; SELECT count(*) FROM sample WHERE snapshot NOT IN (SELECT id FROM snapshot)" | xargs)" \
		"ok 0 0" "the database holds whole snapshots"
}
stopped TERM 0 "SIGTERM ends an endless run well" --pid $$ 0.05
stopped INT 0 "so does SIGINT" --pid $$ 0.05
stopped TERM 0 "and SIGTERM in the wait of a long interval" --pid $$ 0.5
stopped TERM 143 "SIGTERM before all was done shows" --pid $$ 0.05 100000
stopped TERM 143 "SIGTERM while a process hangs its reader: that snapshot is dropped" --root "$TMP/tree" --timeout 60
tap_done
