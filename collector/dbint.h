/* dbint.h - what the files of the database share among themselves; nobody else includes this */
#ifndef COLLECTOR_DBINT_H
#define COLLECTOR_DBINT_H

#include <limits.h>
#include <sqlite3.h>

#include "collector/db.h"
#include "collector/dbcache.h"

enum db_statement {
	DB_BEGIN,
	DB_COMMIT,
	DB_ROLLBACK,
	DB_FIND_NAME,
	DB_ADD_NAME,
	DB_FIND_PROCESS,
	DB_ADD_PROCESS,
	DB_FIND_BOOT,
	DB_ADD_BOOT,
	DB_ADD_SNAPSHOT,
	DB_END_SNAPSHOT,
	DB_ADD_SAMPLE,
	DB_ADD_MAP,
	DB_NSTATEMENTS
};

struct db {
	sqlite3 *sql;
	sqlite3_stmt *statement[DB_NSTATEMENTS]; /* prepared when first used */
	struct dbcache cache;
	int64_t boot, snapshot;
	char path[PATH_MAX];
	char why[DB_WHY_BYTES];
};

/**
 * db_fail() - Turn an SQLite result code into -errno and words
 * @doing: what was tried, such as "store the snapshot"
 *
 * Return: -errno, never 0.
 */
int db_fail(struct db *db, int rc, const char *doing);

/** db_get() - A prepared statement, reset and without bindings; NULL on an error, which sqlite3_errcode() tells. */
sqlite3_stmt *db_get(struct db *db, enum db_statement which);

/** db_run() - Step a statement that returns no rows.  Return: SQLITE_OK or an SQLite error code. */
int db_run(sqlite3_stmt *st);

#endif
