#!/bin/bash
# dscollect_disk.sh - when the database cannot be used: what is said, and that nothing already there is lost or altered
# flavours: asan
. tests/tap.sh
d=$BIN/dscollect
cfg=(--config /dev/null)
needs_root "the database and its disk"
trap 'umount "$TMP/full" "$TMP/ro" 2>/dev/null; rm -rf "$TMP"' EXIT
run() { # run ARG...: leaves err, rc
	err=$("$d" "${cfg[@]}" "$@" 2>&1 >"$TMP/out")
	rc=$?
}
explained() { # explained FILE WORD WHAT: status 2, one line that names the file, says what, and what to do
	is "$rc" 2 "$3: exit status 2"
	matches "$err" "^dscollect: $1.*$2" "$3: the file, and why: $2"
	matches "$err" "(choose another|Choose another|Move it away|Free some space|repair)" "$3: and what to do next"
	is "$(wc -l <<<"$err")" 1 "$3: in one line"
}
db=$TMP/x.db
run -q --db "$db" --pid $$
is "$rc$err" 0 "a database to begin with"
whole() { sqlite3 "$1" "PRAGMA integrity_check; SELECT count(*) FROM snapshot WHERE n_seen = 0" | xargs; }

# --- two at once -----------------------------------------------------------------------------------------------------
"$d" "${cfg[@]}" -q --db "$db" --pid $$ 60 &
first=$!
for _ in $(seq 100); do [ "$(cut -d' ' -f1 "$db.lock")" = $first ] && break || sleep 0.05; done
run --db "$db" --pid $$
is "$rc" 75 "a second collector: exit status 75"
matches "$err" "^dscollect: $db: process $first has the lock since $(date +%Y)-[0-9-]+ [0-9:]+; " "it says who holds the lock, and since when"
run --db "$db" --prune
is "$rc" 75 "--prune too"
run -q --db "$TMP/y.db" --pid $$
is "$rc" 0 "another database is free"
kill -KILL $first
wait $first 2>/dev/null
run -q --db "$db" --pid $$
is "$rc$err" 0 "the lock of a killed collector is free"

# --- files that are not ours -----------------------------------------------------------------------------------------
untouched() { # untouched FILE REGEX WHAT: dscollect refuses it and leaves every byte
	local before
	before=$(sha256sum <"$1")
	run --db "$1" --pid $$
	explained "$1" "$2" "$3"
	is "$(sha256sum <"$1")" "$before" "$3: not a byte is changed"
	is "$(find "$(dirname "$1")" -name "${1##*/}?*" ! -name '*lock*')" "" "$3: nothing is left beside it"
}
echo "dear diary" >"$TMP/text"
untouched "$TMP/text" "not an SQLite database" "a text"
sqlite3 "$TMP/other.db" "CREATE TABLE t (a)"
untouched "$TMP/other.db" "another program" "another program's database"
sqlite3 "$db" ".backup $TMP/newer.db"
sqlite3 "$TMP/newer.db" "PRAGMA user_version = 2"
untouched "$TMP/newer.db" "newer dscollect .schema version 2, this one knows up to 1" "a newer version"
sqlite3 "$db" ".backup $TMP/damaged.db"
sqlite3 "$TMP/damaged.db" "PRAGMA journal_mode = DELETE" >/dev/null
dd if=/dev/urandom of="$TMP/damaged.db" bs=1 seek=100 count=3900 conv=notrunc 2>/dev/null
untouched "$TMP/damaged.db" "damaged" "a damaged schema"
# Damage that shows only on the way: the b-tree of samples.  The header survives, and so must all that can be read.
sqlite3 "$db" ".backup $TMP/half.db"
page=$(sqlite3 "$TMP/half.db" "SELECT rootpage FROM sqlite_schema WHERE name = 'sample'")
dd if=/dev/urandom of="$TMP/half.db" bs=4096 seek=$((page - 1)) count=1 conv=notrunc 2>/dev/null
before=$(sqlite3 "$TMP/half.db" "SELECT count(*) FROM snapshot")
run --db "$TMP/half.db" --pid $$
explained "$TMP/half.db" "damaged" "a damaged table"
is "$(sqlite3 "$TMP/half.db" "SELECT count(*) FROM snapshot")" "$before" "a damaged table: no snapshot is added to it"
run --db "$TMP" --pid $$
is "$rc" 2 "a folder in place of the file: exit status 2"
run --db "$TMP/no/such/folder/x.db" --pid $$
is "$rc" 2 "a folder that is not there: exit status 2"
matches "$err" "cannot make its folder: No such file" "and says that it is missing"

# --- a disk that is full ---------------------------------------------------------------------------------------------
mkdir "$TMP/full"
if mount -t tmpfs -o size=1m none "$TMP/full" 2>"$TMP/mounterr"; then
	f=$TMP/full/x.db
	run -q --db "$f" --pid $$
	is "$rc" 0 "a small disk"
	had=$(sqlite3 "$f" "SELECT count(*) FROM snapshot")
	head -c 2000000 /dev/zero >"$TMP/full/ballast" 2>/dev/null
	run --db "$f"
	explained "$f" "no space left" "a full disk"
	rm "$TMP/full/ballast"
	is "$(sqlite3 "$f" "SELECT count(*) FROM snapshot") $(whole "$f")" "$had ok 0" "a full disk: what was there is there, and whole"
	# It fills up in the middle of a series
	"$d" "${cfg[@]}" -q --db "$f" 0.001 2000 >"$TMP/out" 2>"$TMP/err"
	rc=$?
	err=$(grep -v "left out" "$TMP/err")
	explained "$f" "no space left" "a disk that fills up"
	cp "$f"* "$TMP" # there is no room for SQLite to work in
	is "$(whole "$TMP/x.db")" "ok 0" "a disk that fills up: the snapshots up to then are whole"
	ok "$([ "$(sqlite3 "$TMP/x.db" "SELECT count(*) FROM snapshot")" -gt "$had" ] && echo 0 || echo 1)" "a disk that fills up: and there"
	rm -f "$TMP/full"/*
	head -c 2000000 /dev/zero >"$TMP/full/ballast" 2>/dev/null
	run --db "$TMP/full/new.db" --pid $$
	explained "$TMP/full/new.db" "(no space|No space)" "a new database on a full disk"
	rm -f "$TMP/full"/*
	run -q --db "$f" --pid $$
	head -c 900000 /dev/zero >"$TMP/full/ballast" 2>/dev/null
	run --db "$f" --keep-runs
	is "$rc" 2 "no room for the runs: exit status 2"
	matches "$err" "no space left" "no room for the runs: and why"
	rm "$TMP/full/ballast"
	is "$(whole "$f")" "ok 0" "no room for the runs: what was there is whole"
else
	skip "a full disk" "a tmpfs cannot be mounted here: $(<"$TMP/mounterr")"
fi

# --- a disk that cannot be written -----------------------------------------------------------------------------------
mkdir "$TMP/ro"
if mount -t tmpfs -o size=4m none "$TMP/ro" 2>"$TMP/mounterr"; then
	r=$TMP/ro/x.db
	run -q --db "$r" --pid $$
	sum=$(sha256sum <"$r")
	mount -o remount,ro "$TMP/ro"
	run --db "$r" --pid $$
	explained "$r" "Read-only file system" "a read-only disk"
	run --db "$TMP/ro/new.db" --pid $$
	explained "$TMP/ro/new.db" "Read-only file system" "a new database on a read-only disk"
	is "$(sha256sum <"$r")" "$sum" "a read-only disk: the database is as it was"
else
	skip "a read-only disk" "a tmpfs cannot be mounted here: $(<"$TMP/mounterr")"
fi
if chattr +i "$db" 2>/dev/null; then
	run --db "$db" --pid $$
	chattr -i "$db"
	explained "$db" "writable" "a file that cannot be written"
else
	skip "a file that cannot be written" "this file system has no immutable files"
fi

# --- no standard output ----------------------------------------------------------------------------------------------
"$d" "${cfg[@]}" --json --pid $$ >/dev/full 2>"$TMP/err"
is "$?-$(<"$TMP/err")" "2-dscollect: cannot write to standard output" "JSON that cannot be written is an error"
tap_done
