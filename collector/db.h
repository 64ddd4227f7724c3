/* db.h - the database
 *
 * Theory of operation
 *
 * The contract with readers is schema.sql.  A file is looked at before SQLite may touch it: one that is no database, is
 * another program's, or was written by a newer dscollect is refused byte for byte as it was.  A new file gets the schema
 * in one transaction and is switched to WAL only after that, so that the bytes in its header always tell whose it is.
 *
 * Versions: PRAGMA user_version counts the steps of db_steps[] that a file has seen.  Each missing step runs in a
 * transaction of its own together with the new version number.  Step 1 is schema.sql.
 *
 * One snapshot is one transaction, begun by db_snapshot_begin() and ended by db_snapshot_commit() or _abort(): a
 * process that is killed leaves whole snapshots only.  WAL, because readers then never wait for the collector nor it for
 * them.  synchronous=NORMAL: after a power failure the file is whole, but snapshots since the last checkpoint can be
 * missing; closing the database makes one, so the periodic service loses nothing that it has reported as stored, and
 * a collector that runs for days does not wait for the disk at each snapshot.
 *
 * Memory: 1 MiB of page cache, and what dbcache.h keeps.
 *
 * Errors: functions return -errno, and db_why() tells the user what happened, to which file, and what to do next.
 *
 * Only one collector writes to a file (lock.h).  One thread.  Never used in a worker.
 */
#ifndef COLLECTOR_DB_H
#define COLLECTOR_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "collector/machine.h"
#include "collector/record.h"
#include "rle/src.h"

#define DB_APPLICATION_ID 0x44534850 /* "DSHP"; schema.sql says the same */
#define DB_WHY_BYTES 1024

/** struct db_step - From one version to the next; the sql sets neither version nor transaction. */
struct db_step {
	int version; /* afterwards */
	const char *sql;
};

/** db_steps - All steps, in order; the last one's version is what this program writes. */
extern const struct db_step db_steps[];
extern const int db_nsteps;

struct db;

/**
 * db_make_folder() - Make the folder of a database, mode 0750 less umask, unless it exists; its parent must
 *
 * Return: 0 or -errno.
 */
int db_make_folder(const char *path);

/**
 * db_open() - Open a database, make it if it is not there, bring it to the current version
 * @db: set, also on most errors, for db_why(); give back with db_close()
 * @path: the file; its folder must exist
 *
 * Return: 0; -EBADMSG no database, or not ours; -EPROTO of a newer version; -EUCLEAN damaged; -ENOSPC; -EROFS; -EBUSY;
 * -EIO; -ENOMEM.
 */
int db_open(struct db **db, const char *path);

/** db_close() - Checkpoint and close; an open snapshot is rolled back.  NULL does nothing. */
void db_close(struct db *db);

/** db_why() - What the last failed call ran into, for people; valid until the next call. */
const char *db_why(const struct db *db);

/**
 * db_migrate() - Bring an open database to the last of @steps
 * @sql: the connection
 * @steps: in order of version
 * @n: how many
 *
 * Return: an SQLite result code.  After a failure the steps before it stand; the transaction of the failed one may
 * still be open, so that the error can be asked for, and leaves no trace when it is rolled back or @sql is closed.
 */
int db_migrate(sqlite3 *sql, const struct db_step *steps, int n);

/** struct db_totals - What is known about a snapshot at its end only. */
struct db_totals {
	uint64_t duration_ns;
	int64_t distinct_pages; /* -1: not counted */
	uint64_t n_seen;
	uint64_t n[RECORD_NSTATUS];
};

/** struct db_known - Which counts of a record are facts in this snapshot; the others become NULL. */
struct db_known {
	bool join;   /* thp */
	bool zero;   /* the zero page was found, or the join tells */
	bool device; /* System RAM is known, or the join tells */
};

/**
 * db_snapshot_begin() - Begin a snapshot
 * @id, @m: of the machine
 * @join: the word for join_mode
 *
 * Return: 0 or -errno as db_open().  After an error of this or the next two the snapshot must be aborted.
 */
int db_snapshot_begin(struct db *db, const struct machine_id *id, const struct machine *m, enum rle_join join);

/**
 * db_snapshot_add() - Add a process
 * @r: a record with identity; others have no row and are not an error
 * @known: as above
 * @map_fd: holds r->map_bytes of a map, if that is not 0
 */
int db_snapshot_add(struct db *db, const struct record *r, const struct db_known *known, int map_fd);

/** db_snapshot_commit() - End a snapshot; it is stored when this returns 0. */
int db_snapshot_commit(struct db *db, const struct db_totals *totals);

/** db_snapshot_abort() - Leave no trace of the snapshot; keeps db_why(). */
void db_snapshot_abort(struct db *db);

/**
 * db_prune() - Remove old snapshots and what only they referred to
 * @before: Unix seconds; snapshots begun earlier go, but never the one written last
 * @removed: set to their number
 *
 * A few snapshots a transaction, so that a year's worth does not have to fit into the write-ahead log.
 *
 * Return: 0 or -errno as db_open(); what had been removed stays removed.
 */
int db_prune(struct db *db, double before, unsigned int *removed);

/** db_join_name() - "none", "head", "full". */
const char *db_join_name(enum rle_join join);

#endif
