#!/usr/bin/env bash
# dsreport_bad - databases that cannot be read, or not as usual: what is said, the exit status, and that nothing is written
. tests/tap.sh
python3 tests/tools/report_makedb.py "$TMP/good.db"

says() { # says FILE REGEX WHAT: alone status 2, beside a good one status 4, the file named both times
	local err
	err=$("$BIN/dsreport" "$1" 2>&1 >"$TMP/out")
	is "$? $(wc -c <"$TMP/out")" "2 0" "$3: status 2 and no report"
	matches "$err" "$(basename "$1").*$2" "$3: said"
	err=$("$BIN/dsreport" -q --json "$TMP/some.json" "$1" "$TMP/good.db" 2>&1)
	is $? 4 "$3, beside a good one: status 4"
	is "$(python3 tests/tools/report_check.py "$TMP/some.json" "$TMP/good.db" 2>&1)" same "$3: the good one is reported whole"
}
altered() { # altered NAME SQL: a copy of the good one
	cp "$TMP/good.db" "$TMP/$1"
	sqlite3 "$TMP/$1" "PRAGMA journal_mode=DELETE; $2" >/dev/null
}
says "$TMP/absent.db" "no such file; name a database" "absent"
says "$TMP" "not a regular file" "a directory"
: >"$TMP/empty.db"
says "$TMP/empty.db" "empty file; let dscollect write" "empty"
head -c 5000 /dev/urandom >"$TMP/noise.db"
says "$TMP/noise.db" "not a SQLite database" "noise"
sqlite3 "$TMP/other.db" "CREATE TABLE t (x); INSERT INTO t VALUES (1)"
says "$TMP/other.db" "not one of dscollect's" "another program's database"
altered newer.db "PRAGMA user_version=2"
says "$TMP/newer.db" "written by a newer dscollect; this dsreport reads version 1" "newer version"
altered older.db "PRAGMA user_version=0"
says "$TMP/older.db" "older than the version 1" "older version"
altered void.db "DELETE FROM sample; DELETE FROM snapshot"
says "$TMP/void.db" "holds no snapshot yet" "no snapshot"
altered noview.db "DROP VIEW process_sample; DROP VIEW snapshot_info"
says "$TMP/noview.db" "lacks what it should have" "views missing"
altered nohost.db "UPDATE snapshot SET time='soon'; UPDATE snapshot SET n_seen=-5"
says "$TMP/nohost.db" "value that cannot be" "a negative count"
python3 - "$TMP/good.db" "$TMP/cut.db" <<'P'
import sys
data = open(sys.argv[1], "rb").read()
open(sys.argv[2], "wb").write(data[:8192])
P
says "$TMP/cut.db" "corrupt" "cut off"

# a database that goes bad on the way: whole snapshots before are reported, and the status says that not all is there
altered torn.db "UPDATE sample SET runs = pte_present + 1 WHERE snapshot = 11 AND process = 5"
err=$("$BIN/dsreport" -q --json "$TMP/torn.json" --csv "$TMP/torn.csv" "$TMP/torn.db" 2>&1)
is $? 4 "a sample with more runs than pages: status 4"
matches "$err" "torn.db: a sample of snapshot 11 contradicts itself" "it is named"
is "$(python3 tests/tools/report_check.py "$TMP/torn.json" "$TMP/torn.db" --where "x.snapshot <= 10" 2>&1)" same "the ten snapshots before it are reported whole"
is "$(tail -n +2 "$TMP/torn.csv" | cut -d, -f4 | sort -u | wc -l)" 10 "and ten are in the CSV"
altered hist.db "UPDATE sample SET hist_runs = '[1,' WHERE snapshot = 3 AND status = (SELECT id FROM name WHERE text = 'ok')"
"$BIN/dsreport" -q "$TMP/hist.db" 2>/dev/null
is $? 4 "a histogram that cannot be read"

# other people's names: bytes that are no UTF-8, control characters, markup
altered names.db "UPDATE name SET text = CAST(x'62ff1b5b6d3c623e' AS TEXT) WHERE text = 'bash'"
"$BIN/dsreport" --top 100 --json "$TMP/n.json" --html "$TMP/n.html" "$TMP/names.db" >"$TMP/n.txt"
ok $? "a name of strange bytes"
python3 -c "import json;json.load(open('$TMP/n.json', encoding='utf-8'))"
ok $? "leaves the JSON readable"
ok "$(LC_ALL=C grep -c "$(printf '\033')" "$TMP/n.txt")" "sends no escape sequence to the terminal"
iconv -f utf-8 -t utf-8 "$TMP/n.html" >/dev/null && ! grep -q '\[m<b>' "$TMP/n.html"
ok $? "and no markup into the page"

# a collector at work: rows in the log, not yet in the file
cp "$TMP/good.db" "$TMP/live.db"
python3 - "$TMP/live.db" "$BIN/dsreport" "$TMP/live.json" <<'P'
import sqlite3, subprocess, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA wal_autocheckpoint=0")
db.execute("DELETE FROM sample WHERE snapshot > 15")
db.execute("DELETE FROM snapshot WHERE id > 15")
db.execute("BEGIN IMMEDIATE")
db.execute("DELETE FROM sample")
sys.exit(subprocess.call([sys.argv[2], "-q", "--json", sys.argv[3], sys.argv[1]]))
P
ok $? "a database that is being written"
is "$(python3 -c "import json;d=json.load(open('$TMP/live.json'));print(d['snapshots'],d['samples']>0)")" "15 True" "what is committed counts, what is not does not"

# a directory that is not writable: read as another user, without privilege
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 755 "$TMP"
	mkdir -m 755 "$TMP/ro"
	cp "$BIN/dsreport" "$TMP/dsreport"
	cp "$TMP/good.db" "$TMP/ro/quiet.db"
	chmod 644 "$TMP/ro/quiet.db"
	user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$TMP/dsreport" "$@"; }
	user -q --json - "$TMP/ro/quiet.db" >"$TMP/ro.json"
	ok $? "a WAL database in a directory that is not writable"
	is "$(python3 tests/tools/report_check.py "$TMP/ro.json" "$TMP/ro/quiet.db" 2>&1)" same "is read whole"
	is "$(ls "$TMP/ro")" quiet.db "and nothing is left beside it"
	python3 - "$TMP/good.db" "$TMP/ro/logged.db" <<'P'
import os, sqlite3, shutil, sys
work = sys.argv[2] + ".work"
shutil.copy(sys.argv[1], work)
db = sqlite3.connect(work)
db.execute("PRAGMA wal_autocheckpoint=0")
db.execute("DELETE FROM sample WHERE snapshot = 1")
db.commit()
shutil.copy(work, sys.argv[2])
shutil.copy(work + "-wal", sys.argv[2] + "-wal")
db.close()
os.unlink(work)
P
	chmod 644 "$TMP"/ro/logged.db*
	err=$(user "$TMP/ro/logged.db" 2>&1 >/dev/null)
	is $? 2 "with a log that cannot be read there: refused, not read without it"
	matches "$err" "logged.db-wal holds [0-9]+ bytes" "and said"
	chmod 600 "$TMP/ro/quiet.db"
	err=$(user "$TMP/ro/quiet.db" 2>&1 >/dev/null)
	matches "$err" "permission denied; run as root" "a file that may not be read: said"
else
	skip "directory that is not writable" "needs root to become another user"
fi

before=$(md5sum <"$TMP/good.db")
"$BIN/dsreport" --html "$TMP/w.html" "$TMP/good.db" >/dev/null
is "$(md5sum <"$TMP/good.db")" "$before" "the database itself is never written to"
tap_done
