#!/bin/bash
# study_hanlon.sh - the teaching server's workload at toy scale, and that nothing of it stays, however it is ended
# alone: it changes the whole machine's settings, and looks whether they are as before
. tests/tap.sh
. tests/study.bash
WORKLOAD=hanlon
chmod 711 "$TMP"
toy=(--students 5 --day 1000 --seed 7)

if why=$(study_cannot hanlon); then
	skip "hanlon" "$why"
	tap_done
	exit
fi
before=$(footprint)
thp=$(sed 's/.*\[\(.*\)\].*/\1/' /sys/kernel/mm/transparent_hugepage/enabled)
other=$([ "$thp" = always ] && echo never || echo always)

# --- to the end ------------------------------------------------------------------------------------------------------
start "${toy[@]}" --duration 8 --thp "$other" --age aged --age-limit 64
busy
matches "$(cat /sys/kernel/mm/transparent_hugepage/enabled)" "\[$other\]" "the huge page policy asked for is set during the run"
is "$(stat -c %b /dev/shm/dark-shadows-aged-* | awk '{ print ($1 > 200 && $1 < 64 * 2048 / 4) }')" 1 \
	"ageing left a few scattered pages of the 64 MiB it went through"
is "$("data/workloads/hanlon" --collector "$BIN/dscollect" "${toy[@]}" --duration 1 --work "$TMP" --db "$TMP/2.db" >"$TMP/second" 2>&1; echo $?)" \
	75 "a second study at the same time is told that one runs"
wait "$front"
is $? 0 "a run ends by itself"
is "$(footprint)" "$before" "it leaves nothing behind"
matches "$(whole)" "^ok 0 $" "its database is whole"
found=$(sqlite3 "$TMP/run.db" "SELECT DISTINCT comm FROM process_sample WHERE uid > 20000 AND pte_present > 0")
is "$(grep -cx bash <<<"$found")" 1 "students' shells were sampled"
ok "$([ "$(wc -l <<<"$found")" -ge 4 ]; echo $?)" "and at least three other programs: $(tr '\n' ' ' <<<"$found")"
is "$(jq -r '.runs[0] | .workload, .settings.thp, .machine.transparent_hugepage.enabled' "$TMP/run.db.json" | tr '\n' ' ')" \
	"hanlon $other $other " "the settings are written beside the database"
is "$(jq -r '.runs[0].samples' "$TMP/run.db.json")" "$(sqlite3 "$TMP/run.db" 'SELECT count(*) FROM process_sample WHERE status = '"'ok'")" \
	"and the number of samples is right"

# --- ended from outside ------------------------------------------------------------------------------------------------
for how in "TERM front 4" "INT front 4" "KILL front -" "KILL driver 4" "KILL guard 4"; do
	read -r signal who status <<<"$how"
	start "${toy[@]}" --duration 30 --thp "$other"
	busy
	kill -"$signal" "${!who}"
	wait "$front" 2>/dev/null
	got=$?
	[ "$status" = - ] || is "$got" "$status" "SIG$signal of the $who: exit status"
	settled
	is "$(footprint)" "$before" "SIG$signal of the $who: nothing stays behind"
	matches "$(whole)" "^ok 0 $" "SIG$signal of the $who: the database is whole"
done

# --- refusals ----------------------------------------------------------------------------------------------------------
matches "$(data/workloads/hanlon --collector "$BIN/dscollect" --students 90000000 2>&1; echo "status $?")" \
	"needs [0-9]+ MiB of available memory.*" "a machine that is too small is refused by what it lacks"
matches "$(data/workloads/hanlon --students none 2>&1; echo "status $?")" "status 1" "a wrong option is a usage error"
matches "$(data/workloads/hanlon --collector "$TMP/nothing" 2>&1; echo "status $?")" "no collector at .*run make" "a missing collector is named"
is "$(footprint)" "$before" "refusals change nothing"
tap_done
