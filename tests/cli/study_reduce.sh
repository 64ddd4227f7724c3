#!/bin/bash
# study_reduce.sh - a study database through reduce and expand: the same numbers come out, and nobody's names
. tests/tap.sh
reduce=data/workloads/reduce expand=data/workloads/expand

if ! command -v zstd >/dev/null; then
	skip "reduce and expand" "zstd is not installed"
	tap_done
	exit
fi

# A database made by hand: values up, down, NULL and huge, a process whose name changes, snapshots out of order in time.
sqlite3 "$TMP/a.db" <"collector/schema.sql"
sqlite3 "$TMP/a.db" <<'SQL'
INSERT INTO name VALUES (1, 'ok'), (2, 'bash'), (3, 'gcc'), (4, 'secret-daemon'), (5, 'vanished'), (6, '/machine.slice/somewhere');
INSERT INTO boot VALUES (1, 'box.example.org', 'b00t-1', 'Linux 6.1'), (2, 'box.example.org', 'b00t-2', 'Linux 6.18');
INSERT INTO snapshot (id, boot, time, uptime_s, duration_ns, tool, join_mode, page_size, thp_enabled, buddyinfo,
  n_seen, n_sampled, n_kernel, n_zombie, n_vanished, n_denied, n_timeout, n_error)
VALUES (7, 1, 1000.125, 50.5, 123456789, '0.1', 'head', 4096, 'madvise', '[{"node":0}]', 9, 3, 1, 0, 1, 0, 0, 0),
       (9, 2, 3000.5, NULL, 2, '0.1', 'head', 4096, 'always', NULL, 9, 2, 0, 0, 0, 0, 0, 0),
       (8, 1, 2000.25, 60, 1, '0.1', 'none', 4096, 'madvise', '[{"node":0}]', 9, 3, 0, 0, 0, 0, 0, 0);
INSERT INTO process VALUES (11, 1, 100, 5), (12, 1, 200, 6), (13, 2, 100, 5), (14, 2, 300, 9);
INSERT INTO sample (snapshot, process, comm, cgroup, uid, status, scan_ns, vsz_bytes, vmas, pages_mapped, pte_present, runs,
  runs_prot, swapped, cover99, hist_runs)
VALUES (7, 11, 2, 6, 20007, 1, 5, 4096000, 10, 1000, 500, 40, 41, 0, 30, '[1,2]'),
       (8, 11, 3, 6, 20007, 1, 5, 8192000, 10, 2000, 400, 45, 46, NULL, 31, '[3]'),
       (7, 12, 4, 6, 33, 1, 5, 281474976710656, 60000, 68719476736, 1, 1, 1, 0, 1, NULL),
       (8, 12, 4, 6, 33, 5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
       (9, 13, 2, 6, 20001, 1, 5, 4096, 1, 1, 0, 0, 0, 7, 0, '[]'),
       (9, 14, 3, 6, 0, 1, 5, 8192, 2, 2, 2, 2, 2, 0, 2, '[2]');
SQL
is "$($reduce "$TMP/a.db" "$TMP/a" 2>&1 | sed "s|$TMP/||; s/, [0-9]* bytes//")" \
	"a.cols.zst: 6 samples of 4 processes in 3 snapshots" "reduce says what it wrote"
$expand "$TMP/a" "$TMP/b.db" >/dev/null
query="SELECT s.time, s.uptime_s, s.duration_ns, s.join_mode, s.thp_enabled, s.buddyinfo, s.kernel, s.n_vanished, p.status,
	p.vsz_bytes, p.vmas, p.pages_mapped, p.pte_present, p.runs, p.runs_prot, p.swapped, p.cover99, p.hist_runs
	FROM process_sample p JOIN snapshot_info s USING (snapshot_id) ORDER BY s.time, p.pages_mapped, p.runs"
is "$(sqlite3 -nullvalue NULL "$TMP/b.db" "$query")" "$(sqlite3 -nullvalue NULL "$TMP/a.db" "$query")" "every kept value comes back"
is "$(sqlite3 "$TMP/b.db" "SELECT group_concat(comm, ' ') FROM (SELECT comm FROM process_sample ORDER BY time, runs)")" \
	"other bash other gcc bash other" "names: the students' kept, others' hidden, also of a program that students run, too"
is "$(sqlite3 "$TMP/b.db" "SELECT count(DISTINCT process_id) FROM process_sample")" 4 "a process is still told from another"
is "$(sqlite3 -nullvalue none "$TMP/b.db" "SELECT DISTINCT uid FROM process_sample ORDER BY 1" | tr '\n' ' ')" "none 20001 20007 " \
	"user ids: the students' kept"
is "$(zstd -dc "$TMP/a.cols.zst" | cat - "$TMP/a.json" | grep -cE 'box|example|secret|slice|b00t')" 0 "nothing tells whose machine it was"
is "$(sqlite3 "$TMP/b.db" "PRAGMA integrity_check; PRAGMA user_version" | tr '\n' ' ')" \
	"ok $(sqlite3 "$TMP/a.db" 'PRAGMA user_version') " "the database is one of dscollect's"

$reduce "$TMP/a.db" "$TMP/again" >/dev/null
ok "$(cmp -s "$TMP/a.cols.zst" "$TMP/again.cols.zst"; echo $?)" "the same database gives the same bytes"
is "$(jq -r .table.sha256 "$TMP/a.json")" "$(sha256sum "$TMP/a.cols.zst" | cut -d' ' -f1)" "the manifest's checksum is the table's"
is "$(jq -r .table.sha256_uncompressed "$TMP/a.json")" "$(zstd -dc "$TMP/a.cols.zst" | sha256sum | cut -d' ' -f1)" "the other one, too"
$reduce --keep-names --histograms 60 --label lab "$TMP/a.db" "$TMP/named" >/dev/null && $expand "$TMP/named" "$TMP/named.db" >/dev/null
is "$(sqlite3 "$TMP/named.db" "SELECT DISTINCT comm FROM process_sample WHERE comm LIKE 'secret%'; SELECT DISTINCT host FROM snapshot_info;
	SELECT count(hist_runs) FROM process_sample" | tr '\n' ' ')" "secret-daemon lab 1 " \
	"--keep-names, --label, and histograms of the first snapshot alone"

# Pairs of maps: those of the workload's processes stay, under the names of the table.
cat >"$TMP/pairs.csv" <<'CSV'
host,pid,start_ticks,comm,time,seconds,pages_before,pages_after,runs_before,runs_after,removed,added,moved,changes
box.example.org,100,5,gcc,2000.25,1000.125,500,400,40,45,150,50,7,9
box.example.org,200,6,"secret-daemon",2000.25,1000.125,1,1,1,1,0,0,0,0
CSV
$reduce --churn "$TMP/pairs.csv" "$TMP/a.db" "$TMP/churn" >/dev/null
is "$(zstd -dcq "$TMP/churn.csv.zst" | tail -n +2)" 'study,1,0,"gcc",2000.25,1000.125,500,400,40,45,150,50,7,9' \
	"--churn keeps the pairs of the workload's processes, and nobody's names"
is "$(jq -r '.churn | "\(.pairs) \(.left_out) \(.sha256)"' "$TMP/churn.json")" "1 1 $(sha256sum "$TMP/churn.csv.zst" | cut -d' ' -f1)" \
	"the manifest describes them"
zstd -dcq "$TMP/churn.csv.zst" >"$TMP/churn.csv"
is "$("$BIN/dsreport" --churn-from "$TMP/churn.csv" --json - | jq .churn.quantiles.changes.\"100\")" 9 "dsreport reads them"
matches "$($reduce --churn "$TMP/a.json" "$TMP/a.db" "$TMP/x" 2>&1; echo "status $?")" "not a file of pairs" "another file in their place is refused"

# --- damage ------------------------------------------------------------------------------------------------------------
refused() { # refused WHAT REGEX: expand refuses what lies at $TMP/bad
	rm -f "$TMP/bad.db"
	matches "$($expand "$TMP/bad" "$TMP/bad.db" 2>&1; echo "status $?")" "$2" "$1"
}
again() { # writes the text on standard input as table of $TMP/bad, with its checksum
	zstd -q >"$TMP/bad.cols.zst"
	jq --arg sum "$(sha256sum "$TMP/bad.cols.zst" | cut -d' ' -f1)" '.table.sha256 = $sum' "$TMP/a.json" >"$TMP/bad.json"
}
cp "$TMP/a.json" "$TMP/bad.json"
head -c 300 "$TMP/a.cols.zst" >"$TMP/bad.cols.zst"
refused "a table that was cut off" "checksum differs"
zstd -dc "$TMP/a.cols.zst" | sed '$d' | again
refused "a table without its end" "cut off"
zstd -dc "$TMP/a.cols.zst" | sed 's/^@table sample 6/@table sample 7/' | again
refused "a column shorter than its table" "has 6 values, its table 7 rows"
zstd -dc "$TMP/a.cols.zst" | sed '/^@column runs$/{n;s/^/1*1000000000000 /}' | again
refused "a column that says it is enormous" "longer than its table"
zstd -dc "$TMP/a.cols.zst" | sed 's/table 1$/table 2/' | again
refused "a later version" "not a study table of version 1"
touch "$TMP/there.db"
matches "$($expand "$TMP/a" "$TMP/there.db" 2>&1; echo "status $?")" "exists" "an existing database is not written over"
matches "$($reduce "$TMP/none.db" "$TMP/x" 2>&1; echo "status $?")" "no such database" "a missing database is named"
tap_done
