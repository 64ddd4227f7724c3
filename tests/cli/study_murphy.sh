#!/bin/bash
# study_murphy.sh - the database server's workload at toy scale, and that nothing of it stays, however it is ended
# alone: it changes the whole machine's settings, and looks whether they are as before
. tests/tap.sh
. tests/study.bash
WORKLOAD=murphy
chmod 711 "$TMP"
toy=(--students 3 --scale 0.003 --seed 7)

# --- the data, which needs no server -------------------------------------------------------------------------------------
fec=data/workloads/study/fec.py
"$fec" contribution 0.001 5 >"$TMP/a" && "$fec" contribution 0.001 5 >"$TMP/b" && "$fec" contribution 0.001 6 >"$TMP/c"
ok "$(cmp -s "$TMP/a" "$TMP/b"; echo $?)" "the same seed gives the same contributions"
ok "$(! cmp -s "$TMP/a" "$TMP/c"; echo $?)" "another seed gives others"
is "$(wc -l <"$TMP/a") $(awk -F'\t' 'NF != 14' "$TMP/a" | wc -l)" "6000 0" "as many rows as the scale says, 14 fields each"
is "$(cut -f1 "$TMP/a" | sort -u | comm -23 - <("$fec" committee 0.001 5 | cut -f1 | sort) | wc -l)" 0 "every contribution's committee exists"
is "$("$fec" committee 0.001 5 | cut -f6 | grep -v N | sort -u | comm -23 - <("$fec" candidate 0.001 5 | cut -f1 | sort) | wc -l)" 0 \
	"every committee's candidate exists"
is "$(cut -f1 "$TMP/a" | sort | uniq -c | sort -rn | awk '{ n[NR] = $1; s += $1 } END { print (n[1] > 2 * n[4] && n[1] > s / 10) }')" 1 \
	"a few committees get most of them"

if why=$(study_cannot murphy); then
	skip "murphy" "$why"
	tap_done
	exit
fi
before=$(footprint)

# --- to the end ------------------------------------------------------------------------------------------------------
pages=$(cat /proc/sys/vm/nr_hugepages)
start "${toy[@]}" --duration 8
busy
ok "$([ "$(cat /proc/sys/vm/nr_hugepages)" -gt "$pages" ]; echo $?)" "huge pages were added for the buffers"
is "$(servers | awk '$2 == "postgres" { print $3 }' | sort -u)" "$(id -u postgres)" "the server runs as postgres"
is "$(awk 'FNR > 1 && $4 == "0A" { split($2, a, ":"); print a[1] }' /proc/"$driver"/net/tcp | grep -cvE '^0100007F$|^00000000$')" 0 \
	"nothing new listens beyond this machine"
wait "$front"
is $? 0 "a run ends by itself"
is "$(footprint)" "$before" "it leaves nothing behind, the huge pages given back"
matches "$(whole)" "^ok 0 $" "its database is whole"
for comm in postgres psql bash apache2; do
	ok "$([ "$(sqlite3 "$TMP/run.db" "SELECT count(*) FROM process_sample WHERE comm = '$comm' AND pte_present > 0")" -gt 0 ]; echo $?)" \
		"$comm was sampled"
done
is "$(sqlite3 "$TMP/run.db" "SELECT max(hugetlb) > 0 FROM process_sample WHERE comm = 'postgres'")" 1 "the server's processes map huge pages"
is "$(jq -r '.runs[0].details | .huge_pages, .contributions' "$TMP/run.db.json" | tr '\n' ' ')" "true 18000 " \
	"the settings are written beside the database"

# --- ended from outside ------------------------------------------------------------------------------------------------
for signal in TERM KILL; do
	start "${toy[@]}" --duration 30 --thp always
	busy
	kill -"$signal" "$front"
	wait "$front" 2>/dev/null
	settled
	is "$(footprint)" "$before" "SIG$signal: nothing stays behind"
	matches "$(whole)" "^ok 0 $" "SIG$signal: the database is whole"
done

# All three killed at once: what stays is found by the next run, or by --clean.
start "${toy[@]}" --duration 30 --thp always
busy
kill -STOP "$front" "$guard" "$driver"
kill -KILL "$front" "$guard" "$driver"
wait "$front" 2>/dev/null
ok "$([ "$(servers | wc -l)" -gt 5 ] && [ -e /var/lib/dark-shadows-study/state.json ]; echo $?)" \
	"killed with its guard: the servers and the settings stay behind"
matches "$(data/workloads/murphy --clean 2>&1; echo "status $?")" "status 0" "--clean: exit status"
is "$(footprint)" "$before" "--clean removes all of it"

matches "$(data/workloads/murphy --collector "$BIN/dscollect" --scale 4000 2>&1; echo "status $?")" \
	"needs [0-9]+ MiB of available memory, there are [0-9]+" "a machine that is too small is refused by what it lacks"
is "$(footprint)" "$before" "the refusal changes nothing"
tap_done
