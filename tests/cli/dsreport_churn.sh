#!/usr/bin/env bash
# dsreport_churn - churn from databases with maps, recomputed page by page by a second program (tests/tools/report_churn.py);
# damaged maps; the section and the figure drawn again from the rows alone
. tests/tap.sh
make_db() { python3 tests/tools/report_churn.py make "$@"; }
check() { python3 tests/tools/report_churn.py check "$@" 2>&1; }

make_db "$TMP/a.db"
make_db "$TMP/b.db" --host beta --seed 2 --start 1767225610
"$BIN/dsreport" --churn "$TMP/a.csv" --json "$TMP/a.json" --html "$TMP/a.html" --svg "$TMP/svg" --png "$TMP/png" "$TMP/a.db" >"$TMP/a.txt"
ok $? "a report of a database with maps"
matches "$(check --csv "$TMP/a.csv" --json "$TMP/a.json" "$TMP/a.db")" "^same [1-9][0-9]+$" "pairs, pages, changes, quantiles, distributions are those of an independent program"
"$BIN/dsreport" -q --churn "$TMP/ab.csv" --json "$TMP/ab.json" "$TMP/b.db" "$TMP/a.db"
matches "$(check --csv "$TMP/ab.csv" --json "$TMP/ab.json" "$TMP/a.db" "$TMP/b.db")" "^same [1-9][0-9]+$" "two machines whose snapshots alternate"

# one boot, spread over two databases that share snapshots
for part in "1 7" "5 12"; do
	cp "$TMP/a.db" "$TMP/part_${part% *}.db"
	sqlite3 "$TMP/part_${part% *}.db" "PRAGMA foreign_keys=ON; DELETE FROM snapshot WHERE id NOT BETWEEN ${part% *} AND ${part#* }"
done
"$BIN/dsreport" -q --churn "$TMP/parts.csv" "$TMP/part_5.db" "$TMP/part_1.db"
is "$(md5sum <"$TMP/parts.csv")" "$(md5sum <"$TMP/a.csv")" "a boot spread over two databases gives the same pairs"
"$BIN/dsreport" -q --comm still --comm after --since 2026-01-01T00:05 --churn "$TMP/some.csv" "$TMP/a.db"
is "$(tail -n +2 "$TMP/some.csv" | cut -d, -f4 | sort -u | tr '\n' ' ')" "after still " "filters choose the processes"
is "$(tail -n +2 "$TMP/some.csv" | sort)" "$(python3 - "$TMP/a.csv" <<'P'
import csv, sys
rows = list(csv.reader(open(sys.argv[1], newline="")))[1:]
# the first snapshot of the range has nothing before it, nor has the first one under a new name
print("\n".join(sorted(",".join(r) for r in rows if r[3] in ("still", "after") and float(r[4]) - float(r[5]) >= 1767225900 and not (r[3] == "after" and int(r[10]) + int(r[12]) == int(r[6])))))
P
)" "and a snapshot that they leave out is a gap"

# text and page say it too
squeezed=$(sed -E 's/^ +//; s/ +/ /g' "$TMP/a.txt")
want=$(python3 - "$TMP/a.json" <<'P'
import json, sys
c = json.load(open(sys.argv[1]))["churn"]
q = c["quantiles"]["changes"]
print("changes: calls to follow " + " ".join(f"{q[k]:,}" for k in ("n", "50", "75", "90", "95", "99", "100")))
P
)
is "$(grep -Fxc -- "$want" <<<"$squeezed")" 1 "the text has the same quantiles of changes"
is "$(grep -c 'figure id="churn"' "$TMP/a.html") $(find "$TMP/svg" "$TMP/png" -name "churn.*" | wc -l)" "1 2" "the figure is in the page and among the others"
"$BIN/dsreport" -q --svg "$TMP/svg2" --png "$TMP/png2" "$TMP/part_1.db" "$TMP/part_5.db"
is "$(cd "$TMP" && cmp svg/churn.svg svg2/churn.svg && cmp png/churn.png png2/churn.png && echo same)" same "drawn again: the same bytes"

# what is drawn are the distributions of the rows: a gnuplot that hands back its script
mkdir "$TMP/bin"
printf '#!/bin/sh\nexec /bin/cat\n' >"$TMP/bin/gnuplot"
chmod +x "$TMP/bin/gnuplot"
(PATH=$TMP/bin:$PATH "$BIN/dsreport" -q --svg "$TMP/script" --churn-from "$TMP/a.csv")
is "$(python3 - "$TMP/script/churn.svg" "$TMP/a.csv" 2>&1 <<'P'
import csv, re, sys
text = open(sys.argv[1]).read()
rows = list(csv.DictReader(open(sys.argv[2], newline="")))
zero, xmax = (float(re.search(rf"^{k} = (.*)", text, re.M)[1]) for k in ("ZERO", "xmax"))
assert zero < 1
for name, column in (("changes", "changes"), ("runs", "runs_after")):
    values = [int(r[column]) for r in rows]
    points = [tuple(map(float, line.split())) for line in re.search(rf"^\${name} << EOD\n(.*?)EOD", text, re.M | re.S)[1].splitlines()]
    assert points[0] == (points[1][0], 0) and points[-1] == (xmax, 100) and xmax >= max(values)
    assert min(values) != 0 or points[1][0] == zero
    for x, percent in points[1:]:
        upto = sum(v <= (0 if x == zero else x) for v in values)
        assert abs(percent - 100 * upto / len(values)) < 1e-4, (name, x, percent, upto)
    assert float(max(values)) in [x for x, _ in points]
print("same")
P
)" same "drawn are the distributions of changes and of runs, with what did not change at its place left of one"

# the rows alone
"$BIN/dsreport" --churn-from "$TMP/a.csv" --json "$TMP/from.json" --svg "$TMP/svg3" --png "$TMP/png3" >"$TMP/from.txt"
ok $? "a report of the rows alone"
is "$(cd "$TMP" && find svg3 png3 -type f | sort | tr '\n' ' '; cmp svg/churn.svg svg3/churn.svg && cmp png/churn.png png3/churn.png && echo same)" \
	"png3/churn.png svg3/churn.svg same" "draws this figure alone, the same bytes"
is "$(python3 -c "import json;a,b=(json.load(open(f'$TMP/{n}.json'))['churn'] for n in ('a','from'));print(a==b)")" True "and has the same numbers in the JSON"
is "$(sed -n '/^Churn: /,/moved to/p' "$TMP/from.txt")" "$(sed -n '/^Churn: /,/moved to/p' "$TMP/a.txt")" "and in the text"
is "$("$BIN/dsreport" --churn-from - --json - <"$TMP/a.csv" | md5sum)" "$(md5sum <"$TMP/from.json")" "also through pipes"
for more in "$TMP/a.db" "--csv $TMP/x" "--html $TMP/x" "--churn $TMP/x" "--since 1d" "--comm x"; do
	# shellcheck disable=SC2086
	"$BIN/dsreport" --churn-from "$TMP/a.csv" $more >/dev/null 2>&1
	is $? 1 "with ${more/$TMP\//}: status 1"
done
err=$("$BIN/dsreport" --churn-from "$TMP/absent.csv" 2>&1)
is $? 2 "no such file of rows: status 2"
matches "$err" "absent.csv: cannot read: No such file" "and said"
sed '3s/,[0-9]*$/,99999999/' "$TMP/a.csv" >"$TMP/bad.csv"
err=$("$BIN/dsreport" --churn-from "$TMP/bad.csv" --png "$TMP/nothing" 2>&1)
is "$? $([ -e "$TMP/nothing" ]; echo $?)" "2 1" "a row that cannot be: status 2, nothing drawn"
matches "$err" "bad.csv: row 2 is no pair" "and said"

# damaged maps are gaps: one byte of a run, one cut short, one of no bytes, one that is text; the rest is as it was
cp "$TMP/a.db" "$TMP/bad.db"
python3 - "$TMP/bad.db" <<'P'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
ids = [r[0] for r in db.execute("SELECT m.sample FROM run_map m JOIN sample x ON x.id = m.sample JOIN name n ON n.id = x.comm"
                                " WHERE x.snapshot IN (3, 8) AND n.text IN ('still', 'grow') ORDER BY 1")]
assert len(ids) == 4
blob = [db.execute("SELECT map FROM run_map WHERE sample = ?", (i,)).fetchone()[0] for i in ids]
for i, value in zip(ids, (blob[0][:100] + bytes([blob[0][100] ^ 1]) + blob[0][101:], blob[1][:-24], b"", "not a map")):
    db.execute("UPDATE run_map SET map = ? WHERE sample = ?", (value, i))
db.commit()
P
err=$("$BIN/dsreport" -q --churn "$TMP/bad_maps.csv" --json "$TMP/bad.json" "$TMP/bad.db" 2>&1)
is $? 4 "damaged maps: status 4"
matches "$err" "bad.db: the map of process [0-9]+ at 2026-01-01T00:[0-9:]+Z cannot be used: .*: 4 of [0-9]+$" "said in one line, with the first one's reason and the number of all"
is "$(wc -l <<<"$err")" 1 "once"
sqlite3 "$TMP/bad.db" "DELETE FROM run_map WHERE typeof(map) = 'text' OR length(map) = 0"
matches "$(check --csv "$TMP/bad_maps.csv" --json "$TMP/bad.json" "$TMP/bad.db")" "^same [1-9][0-9]+$" "all other pairs are there"
is "$(python3 -c "import json;print(json.load(open('$TMP/bad.json'))['churn']['maps_refused'])")" 4 "the JSON has the number of maps refused"

# no maps, no section
sqlite3 "$TMP/b.db" "DELETE FROM run_map"
"$BIN/dsreport" --churn "$TMP/none.csv" --json "$TMP/none.json" --svg "$TMP/none" "$TMP/b.db" >"$TMP/none.txt"
is "$? $(wc -l <"$TMP/none.csv") $(grep -ci churn "$TMP/none.txt") $(grep -c '"churn"' "$TMP/none.json") $(find "$TMP/none" -name "churn*" | wc -l)" "0 1 0 0 0" "without maps: a header and no section, no figure"
sqlite3 "$TMP/b.db" "DROP TABLE run_map"
"$BIN/dsreport" -q --json "$TMP/none2.json" "$TMP/b.db"
is "$? $(cmp "$TMP/none.json" "$TMP/none2.json" && echo same)" "0 same" "without the table too"
"$BIN/dsreport" --churn-from "$TMP/none.csv" 2>"$TMP/err"
is $? 2 "rows without a pair: status 2"
matches "$(cat "$TMP/err")" "holds no pair; .*--keep-runs" "and what to do"
tap_done
