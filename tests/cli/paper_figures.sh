#!/bin/bash
# paper_figures.sh - the committed figures and tables come out of data/ again, byte for byte; and what happens when they cannot
. tests/tap.sh
report=$(realpath "$BIN/dsreport")
reduce=data/workloads/reduce
made() { (cd "$1" && find . -maxdepth 1 -name '*.svg' -o -maxdepth 1 -name numbers.md -o -maxdepth 1 -name README.md | sort | xargs -r sha256sum); }
draw() { paper-figures/draw --report "$report" "$@" 2>&1; }

if ! command -v zstd >/dev/null || ! command -v gnuplot >/dev/null; then
	skip "paper-figures" "zstd or gnuplot is not installed"
	tap_done
	exit
fi

# --- what is committed -------------------------------------------------------------------------------------------------
if [ ! -f data/murphy.json ] && [ ! -f data/hanlon.json ]; then
	skip "the committed figures are made from data/" "data/ has no results yet"
else
	bad=$(for manifest in data/*.json data/policies/*.json; do
		[ -f "$manifest" ] || continue
		folder=$(dirname "$manifest")
		jq -r '[.table, .churn] | map(select(. != null)) | .[] | "\(.sha256)  \(.file)"' "$manifest" |
			(cd "$folder" && sha256sum --quiet -c - 2>&1)
		jq -e '.table.sha256_uncompressed' "$manifest" | tr -d '"' | grep -qx \
			"$(zstd -dcq --long=27 "$folder/$(jq -r .table.file "$manifest")" | sha256sum | cut -d' ' -f1)" || echo "$manifest: not its table inside"
	done)
	is "$bad" "" "every table of data/ is the one that its manifest describes"
	lone=$(for table in data/*.zst data/policies/*.zst; do
		[ ! -f "$table" ] || [ -f "${table%%.*}.json" ] || echo "$table"
	done)
	is "$lone" "" "no table without a manifest"
	said=$(draw --out "$TMP/again")
	is "$? $(grep -v -e 'left out' -e '^[0-9]* figures' <<<"$said")" "0 " "make paper-figures draws everything, and no sentence has lost its ground"
	drawn_by=$(grep -ho 'GNUPLOT [0-9.]* patchlevel [0-9]*' paper-figures/figure*.svg | sort -u)
	here=$(gnuplot --version | tr '[:lower:]' '[:upper:]' | sed 's/PATCHLEVEL/patchlevel/')
	if [ "$drawn_by" = "$here" ]; then
		is "$(made "$TMP/again")" "$(made paper-figures)" "byte for byte what is committed"
	else
		skip "byte for byte what is committed" "drawn by $drawn_by, here is $here"
		is "$(made "$TMP/again" | grep md)" "$(made paper-figures | grep md)" "the tables byte for byte"
	fi
	is "$(grep -o '([a-z0-9-]*\.svg)' paper-figures/README.md | tr -d '()' | sort)" "$(cd paper-figures && ls -- *.svg)" \
		"README.md shows every figure there is, and no other"
fi

# --- on data made for this ---------------------------------------------------------------------------------------------
run_of='{"runs": [{"workload": "murphy", "settings": {"students": 3, "thp": null, "age": "as-is"}, "command": "murphy",
	"machine": {"cpu": "abacus", "cpus": 2, "memory_bytes": 25769803776, "kernel": "6.1.0-test"}, "details": {}}]}'
toy() { # toy BASE SEED OPTION...
	python3 tests/tools/report_makedb.py "$TMP/toy.db" --seed "$2" --step 7 "${@:3}"
	echo "$run_of" >"$TMP/toy.db.json"
	sqlite3 "$TMP/toy.db" "UPDATE name SET text = 'other' WHERE text = 'java'"
	$reduce --keep-names --label "$(basename "$1")" "$TMP/toy.db" "$1" >/dev/null
	mv "$TMP/toy.db" "$1.db"
}
mkdir -p "$TMP/data/policies"
toy "$TMP/data/murphy" 1 --hog
toy "$TMP/data/policies/murphy-never-fresh" 2 --processes 20
toy "$TMP/data/policies/murphy-never-aged" 3 --processes 20
said=$(draw --data "$TMP/data" --out "$TMP/out")
status=$?
{ [ $status = 0 ] || [ $status = 4 ]; }
ok $? "one server alone, and two settings (status $status)"
matches "$said" "figure2b.svg: left out, its data are not there" "a figure without data is left out, and said to be"
is "$(cd "$TMP/out" && ls -- *.svg | tr '\n' ' ')" "ages-murphy.svg closest.svg cover99.svg feasibility.svg figure2a.svg figure3a.svg figure4a.svg " \
	"the others are there"
is "$(grep -o '([a-z0-9-]*\.svg)' "$TMP/out/README.md" | tr -d '()' | sort)" "$(cd "$TMP/out" && ls -- *.svg)" "README.md shows these alone"
is "$(cat "$TMP/out"/*.md | grep -c '{{')" 0 "every place in the pages was filled"

# The numbers, counted by other means: the rank in SQL over what was generated.
rank() { # rank COLUMN PERCENT: nearest rank among the workload's samples that have a value
	sqlite3 "$TMP/data/murphy.db" "WITH v AS (SELECT $1 AS x, row_number() OVER (ORDER BY $1) AS k, count(*) OVER () AS n
		FROM process_sample WHERE status = 'ok' AND comm <> 'other' AND $1 IS NOT NULL)
		SELECT printf('%.4f', x) FROM v WHERE k = (n * $2 + 99) / 100"
}
row() { grep -F "| $1 |" "$TMP/out/README.md" | cut -d'|' -f"$2" | tr -d ' '; }
is "$(row "Murphy, 95th percentile" 4 | tail -1) $(row "Murphy, 99th percentile" 4 | tail -1) $(row "Murphy, 95th percentile" 5 | tail -1)" \
	"$(rank ratio 95) $(rank ratio 99) $(rank ratio_mapped 95)" "percentiles of the ratio, and of that by mapped pages"
count() { sqlite3 "$TMP/data/murphy.db" "SELECT count(*) FROM process_sample WHERE status = 'ok' AND $1"; }
is "$(grep -F '| left out' "$TMP/out/numbers.md" | cut -d'|' -f4 | tr -d ' ,') $(grep -m1 -F '| samples |' "$TMP/out/numbers.md" | cut -d'|' -f4 | tr -d ' ,')" \
	"$(count "comm = 'other'") $(count "comm <> 'other'")" "samples that count, and those that are not the workload's"
matches "$(cat "$TMP/out/numbers.md")" "\($(count "comm <> 'other' AND runs > 65530") are not" "samples beyond the limit"

draw --data "$TMP/data" --out "$TMP/out2" >/dev/null
is "$(made "$TMP/out2")" "$(made "$TMP/out")" "the same data, the same bytes"
rm "$TMP/data/policies/"*
draw --data "$TMP/data" --out "$TMP/out2" >/dev/null
is "$(cd "$TMP/out2" && ls -- ages* closest* 2>/dev/null; grep -c closest "$TMP/out2/README.md")" 0 "data that are gone take their figures with them"

# --- damage ------------------------------------------------------------------------------------------------------------
before=$(made "$TMP/out")
cp "$TMP/data/murphy.cols.zst" "$TMP/whole"
head -c -9 "$TMP/whole" >"$TMP/data/murphy.cols.zst"
said=$(draw --data "$TMP/data" --out "$TMP/out")
is "$?" 2 "a table that was cut off: status 2"
matches "$said" "murphy.cols.zst is not the file that .*checksum differs" "and said"
is "$(made "$TMP/out")" "$before" "nothing was written"
rm -r "$TMP/data/"*
matches "$(draw --data "$TMP/data" --out "$TMP/out"; echo "status $?")" "no results of a study.*status 2|status 2" "no data at all: status 2"
matches "$(draw --dat x; echo "status $?")" "status 1" "a wrong option: status 1"

# --- a sentence that the data do not bear out -----------------------------------------------------------------------------
is "$(cd paper-figures && python3 -B -c '
from page import ABSENT, Page
text = "{{claim 1 > 2}}\nwrong\n{{end}}\n{{claim x.y > 2}}\nunknown\n{{end}}\n{{if 2 > 1}}\nright {{1 / 3|ratio}}\n{{else}}\nno\n{{end}}\n{{note 1 > 0}}a{{.}}{{when 0 > 1}}b{{.}}{{x|n}}"
page = Page("p", {"x": ABSENT})
print(page.fill(text).replace("\n", "/"), len(page.untrue), page.untrue[0])')" \
	"right 0.3333 a– 1 p, line 1: the data do not show 1 > 2; write this anew" "is left out and named; one about what is not known is left out"
tap_done
