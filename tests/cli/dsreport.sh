#!/usr/bin/env bash
# dsreport - the numbers of a report, recomputed from the tables by a second program (tests/tools/report_check.py)
. tests/tap.sh
make_db() { python3 tests/tools/report_makedb.py "$@"; }
check() { python3 tests/tools/report_check.py "$@" 2>&1; }

make_db "$TMP/a.db" --hog
make_db "$TMP/b.db" --host beta --boot other --seed 2 --start 1767226000 --join none
make_db "$TMP/tiny.db" --host tiny --seed 3 --processes 3 --snapshots 1

"$BIN/dsreport" -q --json "$TMP/a.json" "$TMP/a.db"
ok $? "a report of one database"
is "$(check "$TMP/a.json" "$TMP/a.db")" same "one host: quantiles, distributions, correlations, totals and lists are those of an independent program"
"$BIN/dsreport" -q --top 500 --json "$TMP/ab.json" "$TMP/b.db" "$TMP/a.db"
is "$(check "$TMP/ab.json" "$TMP/a.db" "$TMP/b.db")" same "two hosts: the same for all and for each"
"$BIN/dsreport" -q --json "$TMP/tiny.json" "$TMP/tiny.db"
is "$(check "$TMP/tiny.json" "$TMP/tiny.db")" same "one snapshot of three processes"

# the text says what the JSON says
text=$("$BIN/dsreport" "$TMP/a.db")
want=$(python3 - "$TMP/a.json" <<'P'
import json, sys
q = json.load(open(sys.argv[1]))["groups"][0]["quantiles"]
print(" ".join(["runs", f"{q['runs']['n']:,}"] + [f"{q['runs'][p]:,}" for p in ("50", "75", "90", "95", "99", "100")]))
print(" ".join(["ratio:", "runs", "/", "entries", f"{q['ratio']['n']:,}"] + [f"{q['ratio'][p]:.4f}" for p in ("50", "75", "90", "95", "99", "100")]))
P
)
squeezed=$(sed -E 's/^ +//; s/ +/ /g' <<<"$text")
is "$(grep -cFx -f <(echo "$want") <<<"$squeezed")" 2 "the text has the same quantiles of runs and ratio"
matches "$squeezed" "^paper: Murphy >770,000 5,430 ~88,000 0.0844 0.2315 -0.097" "beside the paper's Murphy"
matches "$squeezed" "^paper: Hanlon >480,000 2,389 9,751 0.0777 0.1274 -0.097" "and Hanlon"
matches "$squeezed" "samples without a present page: no ratio" "samples without pages are said to have no ratio"
matches "$squeezed" "^systemd 100 0 70,0" "the process beyond 65,530 runs is named"

# merging: a database and a copy of it with later snapshots share twenty
cp "$TMP/a.db" "$TMP/copy.db"
"$BIN/dsreport" -q --json "$TMP/twice.json" "$TMP/a.db" "$TMP/copy.db"
is "$(check "$TMP/twice.json" "$TMP/a.db")" same "the same snapshots in two databases count once"
is "$(python3 -c "import json;d=json.load(open('$TMP/twice.json'));print(d['snapshots'],d['duplicate_snapshots'])")" "20 20" "and the report says how many"
make_db "$TMP/a_same_host.db" --seed 9 --boot later --start 1767300000
"$BIN/dsreport" -q --json "$TMP/boots.json" "$TMP/a.db" "$TMP/a_same_host.db"
is "$(check "$TMP/boots.json" "$TMP/a.db" "$TMP/a_same_host.db")" same "two boots of a host are one host, and a PID of both two processes"
for order in "a b tiny" "tiny a b" "b tiny a"; do
	# shellcheck disable=SC2046,SC2086
	"$BIN/dsreport" --json - $(printf "$TMP/%s.db " $order) | md5sum
done >"$TMP/orders"
is "$(sort -u "$TMP/orders" | wc -l)" 1 "the order of the databases changes nothing"

# CSV: every row and column of the view, in full precision
"$BIN/dsreport" --csv - "$TMP/a.db" >"$TMP/a.csv"
is "$(python3 - "$TMP/a.csv" "$TMP/a.db" <<'P'
import csv, sqlite3, sys
rows = list(csv.DictReader(open(sys.argv[1], newline="", encoding="utf-8")))
db = sqlite3.connect(sys.argv[2])
db.row_factory = sqlite3.Row
want = [dict(r) for r in db.execute("SELECT * FROM process_sample ORDER BY time, pid, start_ticks")]
assert len(rows) == len(want), (len(rows), len(want))
for got, row in zip(rows, want):
    for column, text in got.items():
        value = row[column]
        if value is None:
            assert text == "", (column, text)
        elif isinstance(value, (int, float)):
            assert float(text) == value, (column, text, value)
        else:
            assert text == value, (column, text, value)
print("same", set(want[0]) - set(rows[0]) == {"sample_id", "snapshot_id", "process_id"})
P
)" "same True" "the CSV has every sample and every column, equal to the view"
tap_done
