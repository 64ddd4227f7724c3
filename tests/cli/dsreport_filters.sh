#!/usr/bin/env bash
# dsreport_filters - each filter keeps exactly what the same condition in SQL keeps
. tests/tap.sh
python3 tests/tools/report_makedb.py "$TMP/a.db" --hog
python3 tests/tools/report_makedb.py "$TMP/b.db" --host beta --boot other --seed 2

filter() { # filter WHAT SQL OPTION...
	local what=$1 sql=$2
	shift 2
	"$BIN/dsreport" -q --json "$TMP/f.json" "$@" "$TMP/a.db" "$TMP/b.db"
	is "$(python3 tests/tools/report_check.py "$TMP/f.json" "$TMP/a.db" "$TMP/b.db" --where "$sql" 2>&1)" same "$what"
}
filter "no filter" 1
filter "--host" "host = 'beta'" --host beta
filter "--host pattern" "host LIKE 'al%'" --host 'al*'
filter "--host twice" "host IN ('alpha', 'beta')" --host alpha --host beta
filter "--since a moment" "time >= 1767234600" --since 2026-01-01T02:30
filter "--since belongs to the range" "time >= 1767225600.25" --since 2026-01-01T00:00:00.25
filter "--until a moment, its minute included" "time < 1767229260" --until 2026-01-01T01:00
filter "--until a day" 1 --until 2026-01-01
filter "--since and --until with zones" "time BETWEEN 1767229200 AND 1767232801" --since 2026-01-01T02:00+01:00 --until 2026-01-01T02:00:00Z
filter "--since back from the newest snapshot" "time >= (SELECT max(time) FROM snapshot) - 3600" --since 1h
filter "--comm" "c.text = 'bash'" --comm bash
filter "--comm pattern, with other names" "c.text LIKE '%s%' OR c.text = 'vim'" --comm '*s*' --comm vim
filter "--comm with quotes and a comma" "c.text = 'a,b \"c\"'" --comm 'a,b "c"'
filter "--uid number" "uid = 1000" --uid 1000
filter "--uid name" "uid = 0" --uid root
filter "--uid twice" "uid IN (0, 1001)" --uid 0 --uid 1001
filter "--cgroup and what is below" "g.text = '/system.slice' OR g.text LIKE '/system.slice/%'" --cgroup /system.slice
filter "--cgroup pattern" "g.text LIKE '%.service'" --cgroup '*.service'
filter "--cgroup / leaves out those without one" "g.text IS NOT NULL" --cgroup /
filter "all together" "host = 'alpha' AND uid = 0 AND c.text LIKE '%s%' AND time >= 1767234600" --host alpha --uid 0 --comm '*s*' --since 2026-01-01T02:30

"$BIN/dsreport" -q --top 3 --json "$TMP/t.json" "$TMP/a.db"
is "$(python3 -c "import json;d=json.load(open('$TMP/t.json'));print(len(d['top_runs']),len(d['top_ratio']))")" "3 3" "--top is the length of the lists"
"$BIN/dsreport" -q --csv "$TMP/f.csv" --comm bash "$TMP/a.db"
is "$(tail -n +2 "$TMP/f.csv" | cut -d, -f7 | sort -u)" bash "the CSV is filtered too"
matches "$("$BIN/dsreport" --comm bash "$TMP/a.db")" "Counts of whole snapshots, before --comm" "a filtered report says what its counts of skipped processes are"

err=$("$BIN/dsreport" --host nobody "$TMP/a.db" 2>&1)
is $? 2 "no snapshot left: status 2"
matches "$err" "no snapshot is left by --since, --until and --host" "and said"
matches "$("$BIN/dsreport" --comm no-such-name --html "$TMP/none.html" "$TMP/a.db" 2>"$TMP/err")" "^  0 samples" "no sample left: a report that says 0"
is "$(cat "$TMP/err")" "dsreport: note: no sample is left by --comm, --uid and --cgroup" "and a note of why"
matches "$(cat "$TMP/none.html")" "there is nothing to draw" "and a page that says so"
for wrong in "--since yesterday" "--uid no-such-user" "--top x" "--nonsense"; do
	# shellcheck disable=SC2086
	"$BIN/dsreport" $wrong "$TMP/a.db" >/dev/null 2>"$TMP/err"
	is $? 1 "$wrong: status 1"
done
tap_done
