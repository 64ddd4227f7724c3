/* db.c - opening the database, and saying what is wrong with it; theory of operation in db.h */
#include "collector/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/dbint.h"
#include "collector/schema.h"
#include "rle/cleanup.h"

#define BUSY_MS 10000

const struct db_step db_steps[] = {
	{1, db_schema_sql},
};
const int db_nsteps = sizeof(db_steps) / sizeof(*db_steps);

static int newest_version(void)
{
	return db_steps[db_nsteps - 1].version;
}

int db_make_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX];

	if (!slash || slash == path)
		return 0;
	if (snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path) >= (int)sizeof(folder))
		return -ENAMETOOLONG;
	return mkdir(folder, 0750) && errno != EEXIST ? -errno : 0;
}

const char *db_why(const struct db *db)
{
	return db ? db->why : "out of memory";
}

__attribute__((format(printf, 3, 4))) static int fail(struct db *db, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(db->why, sizeof(db->why), fmt, ap);
	va_end(ap);
	return err;
}

int db_fail(struct db *db, int rc, const char *doing)
{
	int sys = db->sql ? sqlite3_system_errno(db->sql) : 0;

	if ((rc & 0xff) == SQLITE_FULL || ((rc & 0xff) == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT)))
		return fail(db, -ENOSPC,
			    "%s: cannot %s: no space left on the disk.  Snapshots stored before are unharmed.  Free some space, keep "
			    "fewer days (HISTORY, then dscollect --prune) or choose another place with --db",
			    db->path, doing);
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
		return fail(db, -EUCLEAN,
			    "%s: cannot %s: the database is damaged (%s).  Nothing was changed.  Move it away, dscollect then makes "
			    "a new one; what can be saved: sqlite3 OLD .recover | sqlite3 SAVED",
			    db->path, doing, sqlite3_errmsg(db->sql));
	case SQLITE_NOTADB:
		return fail(db, -EBADMSG,
			    "%s: cannot %s: this file is not an SQLite database.  Nothing was changed.  Choose another file with --db",
			    db->path, doing);
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
		return fail(db, sys == ENOSPC ? -ENOSPC : -EROFS,
			    "%s: cannot %s: %s.  The file and its folder must be writable; repair that or choose another place with --db",
			    db->path, doing, sys ? strerror(sys) : sqlite3_errmsg(db->sql));
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return fail(db, -EBUSY,
			    "%s: cannot %s: another program has had it locked for %d seconds.  End that program's transaction, then "
			    "try again",
			    db->path, doing, BUSY_MS / 1000);
	case SQLITE_NOMEM:
		return fail(db, -ENOMEM, "%s: cannot %s: out of memory", db->path, doing);
	default:
		return fail(db, -EIO, "%s: cannot %s: %s%s%s", db->path, doing, sqlite3_errmsg(db->sql), sys ? ": " : "",
			    sys ? strerror(sys) : "");
	}
}

static uint32_t big_endian(const unsigned char *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static bool has_journal(const char *path)
{
	char journal[PATH_MAX + 16];

	snprintf(journal, sizeof(journal), "%s-journal", path);
	return access(journal, F_OK) == 0;
}

/*
 * Looks at the file without SQLite, which may write to a database as soon as it opens it.  A file with a rollback
 * journal is left to SQLite: its bytes are not valid before that has been played back.
 * The header: https://www.sqlite.org/fileformat2.html, section 1.3.
 */
static int look_at_file(struct db *db)
{
	cleanup_close int fd = open(db->path, O_RDONLY | O_CLOEXEC);
	unsigned char head[100] = {0};
	uint32_t application, version;
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return fail(db, -errno, "%s: cannot open it: %s", db->path, strerror(errno));
	n = pread(fd, head, sizeof(head), 0);
	if (n < 0)
		return fail(db, -errno, "%s: cannot read it: %s", db->path, strerror(errno));
	if (n == 0 || has_journal(db->path))
		return 0;
	if (n < (ssize_t)sizeof(head) || memcmp(head, "SQLite format 3", 16) != 0)
		return db_fail(db, SQLITE_NOTADB, "use it");
	version = big_endian(head + 60);
	application = big_endian(head + 68);
	if (application != DB_APPLICATION_ID)
		return fail(db, -EBADMSG,
			    "%s: this database belongs to another program (application id 0x%08x).  Nothing was changed.  Choose "
			    "another file with --db",
			    db->path, application);
	if (version > (uint32_t)newest_version())
		return fail(db, -EPROTO,
			    "%s: written by a newer dscollect (schema version %u, this one knows up to %d).  Nothing was changed.  "
			    "Run the newer one, or choose another file with --db",
			    db->path, version, newest_version());
	return 0;
}

static int get_number(sqlite3 *sql, const char *query, int *n)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(sql, query, -1, &st, NULL);

	if (rc)
		return rc;
	rc = sqlite3_step(st);
	*n = sqlite3_column_int(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

int db_migrate(sqlite3 *sql, const struct db_step *steps, int n)
{
	int version, rc;

	rc = get_number(sql, "PRAGMA user_version", &version);
	for (int i = 0; i < n && !rc; i++) {
		char set_version[64];

		if (steps[i].version <= version)
			continue;
		snprintf(set_version, sizeof(set_version), "PRAGMA user_version = %d", steps[i].version);
		rc = sqlite3_exec(sql, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc)
			return rc;
		rc = sqlite3_exec(sql, steps[i].sql, NULL, NULL, NULL);
		if (!rc)
			rc = sqlite3_exec(sql, set_version, NULL, NULL, NULL);
		if (!rc)
			rc = sqlite3_exec(sql, "COMMIT", NULL, NULL, NULL);
	}
	return rc;
}

/* The database as SQLite sees it must be ours or empty; look_at_file() could not say if there was a journal. */
static int check_owner(struct db *db)
{
	int application, version, tables;
	int rc = get_number(db->sql, "PRAGMA application_id", &application);

	if (!rc)
		rc = get_number(db->sql, "PRAGMA user_version", &version);
	if (!rc)
		rc = get_number(db->sql, "SELECT count(*) FROM sqlite_schema", &tables);
	if (rc)
		return db_fail(db, rc, "open it");
	if (application != DB_APPLICATION_ID && (application || version || tables))
		return fail(db, -EBADMSG,
			    "%s: this database belongs to another program.  Nothing was changed.  Choose another file with --db", db->path);
	if (version > newest_version())
		return fail(db, -EPROTO, "%s: written by a newer dscollect (schema version %d, this one knows up to %d)", db->path,
			    version, newest_version());
	return 0;
}

int db_open(struct db **out, const char *path)
{
	struct db *db = *out = calloc(1, sizeof(*db));
	int err, rc;

	if (!db)
		return -ENOMEM;
	if (snprintf(db->path, sizeof(db->path), "%s", path) >= (int)sizeof(db->path))
		return fail(db, -ENAMETOOLONG, "%.60s...: the path of the database is too long", path);
	err = look_at_file(db);
	if (err)
		return err;
	rc = sqlite3_open_v2(path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc)
		return db_fail(db, rc, "open it");
	sqlite3_extended_result_codes(db->sql, 1);
	sqlite3_busy_timeout(db->sql, BUSY_MS);
	err = check_owner(db);
	if (err)
		return err;
	if (sqlite3_db_readonly(db->sql, "main") == 1)
		return db_fail(db, SQLITE_READONLY, "write to it");
	rc = sqlite3_exec(db->sql, "PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY; PRAGMA synchronous = NORMAL", NULL, NULL,
			  NULL);
	if (!rc)
		rc = db_migrate(db->sql, db_steps, db_nsteps);
	if (!rc)
		rc = sqlite3_exec(db->sql, "PRAGMA journal_mode = WAL; PRAGMA journal_size_limit = 16777216", NULL, NULL, NULL);
	return rc ? db_fail(db, rc, "prepare it") : 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (int i = 0; i < DB_NSTATEMENTS; i++)
		sqlite3_finalize(db->statement[i]);
	sqlite3_close(db->sql);
	free(db);
}
