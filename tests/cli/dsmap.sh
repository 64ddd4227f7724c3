#!/bin/bash
# dsmap.sh - dsmap on a process whose pages are known: runs, statistics, a saved map, what changed, refusals
# flavours: asan
. tests/tap.sh
d=$BIN/dsmap
needs_root "dsmap"
mkfifo "$TMP/in" "$TMP/answers"
"$(dirname "$BIN")/tests/tools/known_pages" <"$TMP/in" >"$TMP/answers" &
exec 5>"$TMP/in" 6<"$TMP/answers"
read -r _ pid address <&6
do_page() { # do_page COMMAND PAGE
	echo "$1 $2" >&5
	read -r _ <&6
}
at() { printf '%012x' $((0x$address + $1 * 4096)); } # at PAGE: its address
# The kernel's own word for a page, read without dsmap: its PFN, empty if it is not there.
pfn() {
	local word
	word=$(dd if="/proc/$pid/pagemap" bs=8 skip=$(((0x$address >> 12) + $1)) count=1 2>/dev/null | od -An -tx8 | tr -d ' ')
	((0x$word >> 63 & 1)) && printf '%d\n' $((0x$word & (1 << 55) - 1))
}
pages() { # pages PRINTED-BY: lines "page pfn prot" of the area, from runs on standard input
	jq -r --argjson first $((0x$address >> 12)) '.map[] | . as $r | range(.pages) | [$r.vpn + . - $first, $r.pfn + ., $r.prot] |
		select(.[0] >= 0 and .[0] < 16) | join(" ")'
}
for i in 0 1 2 3 6 8 9 10 11; do do_page touch $i; done
do_page protect 10
truth() { # what pages() should say
	local i n
	for i in $(seq 0 15); do
		n=$(pfn "$i")
		if [ -n "$n" ]; then echo "$i $n $([ "$i" = 10 ] && echo r--p || echo rw-p)"; fi
	done
}

# --- runs --------------------------------------------------------------------------------------------------------------
is "$(truth | cut -d' ' -f1 | tr '\n' ' ')" "0 1 2 3 6 8 9 10 11 " "the pages that were touched are there"
"$d" --json "$pid" >"$TMP/json"
is "$?" 0 "a live process: exit status 0"
is "$(pages <"$TMP/json")" "$(truth)" "every known page has the frame and protection that pagemap and the process say, and no other is there"
is "$(jq -r '[.pid, .comm, .runs == (.map | length), .pages == (.map | map(.pages) | add)] | join(" ")' "$TMP/json")" \
	"$pid known_pages true true" "JSON: the process, and sums that are right"
is "$(jq '.start_ticks' "$TMP/json")" "$(cut -d' ' -f22 "/proc/$pid/stat")" "JSON: start time"
text=$("$d" "$pid")
line=$(grep -E "^$(at 6)-$(at 7) " <<<"$text")
is "$(awk '{ print $2, $3, $4, $5 }' <<<"$line")" "$(printf '0x%x 1 rw-p -' "$(pfn 6)")" "text: a run alone, with address, frame, length, protection"
is "$(grep -cE '^[0-9a-f]+-[0-9a-f]+ ' <<<"$text")" "$(jq .runs "$TMP/json")" "text: as many runs as JSON has"
is "$("$d" --split none --json "$pid" | jq '.runs <= '"$(jq .runs "$TMP/json")")" true "without protection as a separator there are no more runs"
is "$("$d" --join full --split attr --json "$pid" | jq -c --argjson v $(((0x$address >> 12) + 6)) '.map[] | select(.vpn == $v) | .attr')" '["anon"]' \
	"--join full tells that a page is anonymous"

# --- statistics --------------------------------------------------------------------------------------------------------
"$d" --stats --json "$pid" >"$TMP/stats"
is "$(jq '[.lengths[].runs] | add' "$TMP/stats")/$(jq '[.lengths[].pages] | add' "$TMP/stats")" \
	"$(jq .runs "$TMP/json")/$(jq .pages "$TMP/json")" "--stats: the histogram sums to the runs and pages"
is "$(jq '.cover["100"]' "$TMP/stats")" "$(jq .runs "$TMP/json")" "--stats: all pages need all runs"
is "$(jq '.cover["50"]' "$TMP/stats")" "$(jq '(.pages / 2 | ceil) as $half | [.map[].pages] | sort | reverse |
	reduce .[] as $n ([0, 0]; if .[0] >= $half then . else [.[0] + $n, .[1] + 1] end) | .[1]' "$TMP/json")" \
	"--stats: half of the pages are in as few runs as counting them one by one says"
is "$(jq .counts.present "$TMP/stats")" "$(jq .pages "$TMP/json")" "--stats: as many pages present as are in runs"
matches "$("$d" --stats "$pid")" "^100\.0% +$(jq .runs "$TMP/json")\$" "--stats as text"

# --- saved -------------------------------------------------------------------------------------------------------------
is "$("$d" --out "$TMP/map" "$pid" 2>&1)/$?" /0 "--out is silent"
is "$(stat -c %a "$TMP/map")" 600 "what holds frame numbers is readable by its owner only"
is "$("$d" --from "$TMP/map" --json | jq -c '.map, .pid, .start_ticks')" "$(jq -c '.map, .pid, .start_ticks' "$TMP/json")" "a saved map prints as the process did"
cp "$TMP/map" "$TMP/before"
"$d" --out /dev/stdout "$pid" | cmp -s - "$TMP/map"
ok $? "--out into a pipe writes the same bytes"
"$d" --out "$TMP/absent/map" "$pid" 2>"$TMP/err"
is "$?/$(grep -c 'absent/map' "$TMP/err")" 2/1 "a file that cannot be written is named, exit status 2"
is "$(find "$TMP" -name '*map.*')" "" "nothing is left beside the file"

# --- what changed ------------------------------------------------------------------------------------------------------
changes() { # changes: "kind page frames-before frames-now" within the area
	"$d" --diff "$TMP/before" --json "$pid" | jq -r --argjson first $((0x$address >> 12)) '.changes[] | . as $c |
		range(.pages) | . as $i | ($c.vpn + $i - $first) as $page | select($page >= 0 and $page < 16) |
		[$c.change, $page, (if $c.was then $c.was.pfn + $i else "-" end), (if $c.now then $c.now.pfn + $i else "-" end)] | join(" ")'
}
is "$(changes)" "" "nothing changed: nothing is said"
old0=$(pfn 0) old3=$(pfn 3) old6=$(pfn 6)
do_page drop 6
do_page touch 13
do_page protect 0
# Touched again a dropped page may get its old frame back: another page takes that first.
do_page drop 3
do_page touch 14
do_page touch 3
want=$(
	echo "changed 0 $old0 $old0"
	[ "$(pfn 3)" = "$old3" ] || echo "moved 3 $old3 $(pfn 3)"
	echo "removed 6 $old6 -"
	echo "added 13 - $(pfn 13)"
	echo "added 14 - $(pfn 14)"
)
is "$(changes)" "$want" "protected, moved, removed and added pages are told, each with its frames"
matches "$("$d" --diff "$TMP/before" "$pid")" "^removed +$(at 6)-$(at 7) +1 +$(printf '0x%x' "$old6") rw-p " "the same as text"
"$d" --diff "$TMP/before" --from "$TMP/map" >"$TMP/same" 2>&1
is "$?/$(wc -l <"$TMP/same")" 0/3 "two saved maps can be compared"
matches "$("$d" --diff "$TMP/before" $$ 2>&1 >/dev/null)" "another process: $pid" "a map of another process is compared with a note"
"$d" --split none --diff "$TMP/before" "$pid" >"$TMP/same" 2>"$TMP/err"
is "$?/$(grep -c "split by 'prot'" "$TMP/err")" 1/1 "maps of different split are refused"

# --- refusals ----------------------------------------------------------------------------------------------------------
refused() { # refused STATUS MESSAGE WHAT ARGUMENT...
	local status=$1 message=$2 what=$3 got
	shift 3
	"$d" "$@" >"$TMP/same" 2>"$TMP/err"
	got=$?
	is "$got/$(wc -c <"$TMP/same")" "$status/0" "$what: exit status $status and no output"
	matches "$(cat "$TMP/err")" "^dsmap: .*$message" "$what: says so"
}
refused 1 "which process" "no argument"
refused 1 "not the number of a process: '12x'" "not a PID" 12x
refused 1 "one process at a time" "two PIDs" 1 2
refused 1 "not both" "a PID and --from" --from "$TMP/map" 1
refused 1 "choose one" "--stats with --diff" --stats --diff "$TMP/map" 1
refused 1 "none, prot or attr" "unknown split" --split all 1
refused 1 "none, head or full" "unknown join" --join all 1
refused 2 "no process 4194303" "a process that is not there" 4194303
refused 2 "the magic is missing" "a file that is no map" --from Makefile
head -c 100 "$TMP/map" >"$TMP/short"
refused 2 "short: not a map" "a map that was cut off" --from "$TMP/short"
refused 2 "not a regular file" "a folder" --from "$TMP"
kthread=$(awk 'FNR == 1 && $9 % 4194304 >= 2097152 { print $1; exit }' /proc/[0-9]/stat 2>/dev/null)
if [ -n "$kthread" ]; then
	refused 2 "no address space" "a kernel thread" "$kthread"
else
	skip "a kernel thread" "none can be seen here"
fi
chmod 755 "$TMP"
cp "$d" "$TMP/dsmap"
chmod 755 "$TMP/dsmap"
setpriv --reuid=65534 --regid=65534 --clear-groups "$TMP/dsmap" "$pid" >"$TMP/same" 2>"$TMP/err"
is "$?/$(wc -c <"$TMP/same")" 3/0 "an ordinary user: exit status 3 and no output"
matches "$(cat "$TMP/err")" "CAP_SYS_ADMIN" "an ordinary user: says what is missing"
setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$d" $$ >"$TMP/same" 2>/dev/null
is "$?/$(wc -c <"$TMP/same")" 3/0 "root without CAP_SYS_ADMIN: the same, for its own process too"
"$d" "$pid" >/dev/full 2>"$TMP/err"
is "$?/$(grep -c 'standard output' "$TMP/err")" 2/1 "output that cannot be written is an error"

# --- a recorded tree -----------------------------------------------------------------------------------------------------
mkdir -p "$TMP/tree/77"
python3 - "$TMP/tree" <<'PY'
import struct, sys
d = sys.argv[1] + "/77/"
open(d + "stat", "w").write("77 (recorded) S 1" + " 0" * 17 + " 500 40960 5" + " 0" * 28 + "\n")
open(d + "maps", "w").write("00001000-00005000 rw-p 00000000 00:00 0 \n")
with open(d + "pagemap", "wb") as f:
    for vpn in range(6):
        f.write(struct.pack("<Q", (1 << 63) + 4 + vpn if 1 <= vpn <= 3 else 0))
PY
is "$("$d" --root "$TMP/tree" 77 2>&1 | tail -n +3 | tr -s ' ')" "000000001000-000000004000 0x5 3 rw-p -" \
	"a recorded tree: the paper's example, 1 -> 5, 2 -> 6, 3 -> 7, is one run"
exec 5>&- 6<&-
wait
tap_done
