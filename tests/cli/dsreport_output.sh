#!/usr/bin/env bash
# dsreport_output - figures and page: byte-stable, self-contained, whole or not there; and gnuplot missing or failing
. tests/tap.sh
# so that the programs can be named from another folder and with another PATH
report=$(realpath "$BIN/dsreport")
python3 tests/tools/report_makedb.py "$TMP/a.db" --hog
python3 tests/tools/report_makedb.py "$TMP/b.db" --host "be_ta'; system('touch $TMP/pwned') #" --boot other --seed 2

all() { # all DIR DB...: every output into DIR
	mkdir "$1"
	"$report" --csv "$1/r.csv" --json "$1/r.json" --html "$1/r.html" --svg "$1/svg" --png "$1/png" "${@:2}" >"$1/r.txt"
}
sums() { (cd "$1" && find . -type f | sort | xargs md5sum); }
all "$TMP/one" "$TMP/a.db"
ok $? "every output at once"
is "$(find "$TMP/one" -type f | wc -l)" 14 "text, CSV, JSON, page, five figures as SVG and as PNG; nothing half-written"
cp "$TMP/a.db" "$TMP/moved.db"
sleep 1.1
(export TZ=Asia/Tokyo LC_ALL=C HOME=/nonexistent; cd / && all "$TMP/two" "$TMP/moved.db")
is "$(sums "$TMP/two")" "$(sums "$TMP/one")" "later, elsewhere, in another zone: the same bytes"
all "$TMP/both" "$TMP/a.db" "$TMP/b.db"
ok $? "two hosts"
all "$TMP/both2" "$TMP/b.db" "$TMP/a.db"
is "$(sums "$TMP/both2")" "$(sums "$TMP/both")" "in either order: the same bytes"
[ ! -e "$TMP/pwned" ]
ok $? "a host name that is a gnuplot command is only a name"
[ "$(sums "$TMP/one" | cut -d' ' -f1 | sort -u | wc -l)" = 14 ]
ok $? "no two files are the same"

page=$TMP/one/r.html
is "$(grep -cE '(src|href)="?(http|//|file)|@import|url\(|<script|<link' "$page")" 0 "the page loads nothing"
is "$(grep -c '<svg role="img"' "$page")" 5 "five figures are in it"
python3 - "$page" <<'P'
import collections, html.parser, re, sys
text = open(sys.argv[1], encoding="utf-8").read()
void = {"meta", "br"}
class P(html.parser.HTMLParser):
    stack, ids = [], []
    def handle_starttag(self, tag, attrs):
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in void:
            self.stack.append(tag)
    def handle_startendtag(self, tag, attrs):
        self.ids += [v for k, v in attrs if k == "id"]
    def handle_endtag(self, tag):
        assert self.stack and self.stack[-1] == tag, (tag, self.stack[-3:])
        self.stack.pop()
p = P()
p.feed(text)
assert not p.stack, p.stack
twice = [i for i, n in collections.Counter(p.ids).items() if n > 1]
assert not twice, twice
missing = set(re.findall(r"href='#([^']*)'", text)) - set(p.ids)
assert not missing, missing
P
ok $? "it is well-formed, every id there once, every reference met"
for f in "$TMP"/one/svg/*.svg; do python3 -c "import sys,xml.dom.minidom as m;m.parse(sys.argv[1])" "$f" || echo bad; done >"$TMP/xml"
is "$(cat "$TMP/xml")" "" "the SVG files are XML"
is "$(head -c 8 "$TMP/one/png/run-lengths.png" | od -An -tx1 | tr -d ' ')" 89504e470d0a1a0a "the PNG files are PNG"

# the curve of Figure 3 goes through the quantiles of the JSON: the step at the 95th percentile
python3 - "$TMP/one/r.json" <<'P'
import json, sys
g = json.load(open(sys.argv[1]))["groups"][0]
n, points = g["cdf"]["ratio"]["n"], g["cdf"]["ratio"]["points"]
q = g["quantiles"]["ratio"]["95"]
below = max((c for x, c in points if x < q), default=0)
above = min(c for x, c in points if x >= q)
assert below * 100 < 95 * n <= above * 100, (below, above, n)
P
ok $? "the points of a distribution agree with its quantiles"

# outputs that cannot be written
err=$("$report" -q --html "$TMP/no/such/dir/r.html" "$TMP/a.db" 2>&1)
is $? 2 "a page that cannot be written: status 2"
matches "$err" "no/such/dir/r.html: cannot write: No such file" "and said"
echo old >"$TMP/old.html"
# what is no ordinary file is written in place, not replaced by one
mkfifo "$TMP/pipe"
timeout 20 cat "$TMP/pipe" >"$TMP/piped.csv" &
timeout 20 "$report" -q --csv "$TMP/pipe" "$TMP/a.db"
ok $? "--csv into a named pipe"
wait $!
ok "$([ -p "$TMP/pipe" ]; echo $?)" "which is still a pipe afterwards"
"$report" -q --csv "$TMP/plain.csv" "$TMP/a.db"
ok "$([ -s "$TMP/plain.csv" ] && cmp -s "$TMP/piped.csv" "$TMP/plain.csv"; echo $?)" "and got what a file gets"

if [ -w /dev/full ]; then
	"$report" -q --json - "$TMP/a.db" >/dev/full 2>"$TMP/err"
	is $? 2 "a full disk: status 2"
	matches "$(cat "$TMP/err")" "cannot write: No space left" "and said"
fi
"$report" --json - --csv - "$TMP/a.db" >/dev/null 2>&1
is $? 1 "two outputs on one standard output: status 1"

# gnuplot missing, and failing with a message of its own
mkdir "$TMP/bin"
err=$(PATH=$TMP/bin "$report" -q --html "$TMP/old.html" "$TMP/a.db" 2>&1)
is $? 2 "no gnuplot: status 2"
matches "$err" "gnuplot: not found in PATH.*install it" "and said"
printf '#!/bin/sh\necho "line 0: terminal svg is out of ink" >&2\nexit 3\n' >"$TMP/bin/gnuplot"
chmod +x "$TMP/bin/gnuplot"
err=$(PATH=$TMP/bin:/bin "$report" -q --html "$TMP/old.html" --png "$TMP/inkless" "$TMP/a.db" 2>&1)
is $? 2 "a failing gnuplot: status 2"
matches "$err" "failed with status 3: line 0: terminal svg is out of ink" "with its own message"
is "$(cat "$TMP/old.html"; ls "$TMP"/old.html*)" "old
$TMP/old.html" "the page that was there is still there, and no part of a new one"
PATH=$TMP/bin "$report" -q --json "$TMP/x.json" --csv "$TMP/x.csv" "$TMP/a.db"
ok $? "text, CSV and JSON need no gnuplot"
tap_done
