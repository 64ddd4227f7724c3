/* dbread.c - reading one database of dscollect (see dbread.h) */
#include "analysis/dbread.h"

#include <math.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "analysis/vec.h"

struct dbread {
	sqlite3 *sql;
	sqlite3_stmt *samples;
	char *path;
	bool immutable;
	struct stat opened;
};

/* Longest text or blob accepted: a hist or a cgroup path has some hundred bytes. */
#define MAX_TEXT_BYTES (1 << 20)
#define BUSY_MS 10000

static int sql_error(struct dbread *db, struct errmsg *e)
{
	switch (sqlite3_errcode(db->sql) & 0xff) {
	case SQLITE_NOTADB:
		return errmsg_set(e, -EINVAL, "%s: not a SQLite database, so not one of dscollect's; check the name", db->path);
	case SQLITE_CORRUPT:
		return errmsg_set(e, -EIO, "%s: the database is corrupt (%s); restore a copy, or save what is left with: sqlite3 %s .recover | sqlite3 NEW",
				  db->path, sqlite3_errmsg(db->sql), db->path);
	case SQLITE_BUSY:
		return errmsg_set(e, -EBUSY, "%s: locked for %d s by another program; try again later", db->path, BUSY_MS / 1000);
	case SQLITE_NOMEM:
		return errmsg_set(e, -ENOMEM, "%s: out of memory", db->path);
	case SQLITE_ERROR:
		return errmsg_set(e, -EINVAL, "%s: says schema version %d but lacks what it should have (%s); it was altered or made by another program",
				  db->path, DBREAD_SCHEMA_VERSION, sqlite3_errmsg(db->sql));
	default:
		return errmsg_set(e, -EIO, "%s: cannot read: %s; check the disk and the permissions of the file and its directory",
				  db->path, sqlite3_errmsg(db->sql));
	}
}

static int read_pragma(struct dbread *db, const char *sql, int64_t *value)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db->sql, sql, -1, &st, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*value = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_ERROR : rc;
}

/* "file:" URI of a path that may hold any character. */
static char *immutable_uri(const char *path)
{
	static const char hex[] = "0123456789ABCDEF";
	char *uri = malloc(strlen(path) * 3 + sizeof("file:?immutable=1")), *p = uri;

	if (!uri)
		return NULL;
	p = stpcpy(p, "file:");
	for (const unsigned char *c = (const unsigned char *)path; *c; c++) {
		if (*c == '%' || *c == '?' || *c == '#') {
			*p++ = '%';
			*p++ = hex[*c >> 4];
			*p++ = hex[*c & 15];
		} else {
			*p++ = (char)*c;
		}
	}
	strcpy(p, "?immutable=1");
	return uri;
}

/* Open, and touch the file: SQLite finds out only then whether it can read it. */
static int try_open(struct dbread *db, const char *name, int flags)
{
	int64_t version;
	int rc = sqlite3_open_v2(name, &db->sql, SQLITE_OPEN_READONLY | flags, NULL);

	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(db->sql, BUSY_MS);
	sqlite3_limit(db->sql, SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES);
	sqlite3_db_config(db->sql, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db->sql, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	rc = sqlite3_exec(db->sql, "BEGIN", NULL, NULL, NULL);
	return rc == SQLITE_OK ? read_pragma(db, "SELECT count(*) FROM sqlite_schema", &version) : rc;
}

static int check_file(struct dbread *db, struct errmsg *e)
{
	if (stat(db->path, &db->opened) < 0) {
		int err = errno;

		if (err == ENOENT)
			return errmsg_set(e, -err, "%s: no such file; name a database that dscollect has written", db->path);
		return errmsg_set(e, -err, "%s: %s; run as a user who may read it", db->path, strerror(err));
	}
	if (!S_ISREG(db->opened.st_mode))
		return errmsg_set(e, -EINVAL, "%s: not a regular file; name the database file itself", db->path);
	if (access(db->path, R_OK) < 0)
		return errmsg_set(e, -EACCES, "%s: permission denied; run as root or as a member of the file's group", db->path);
	return 0;
}

static int wal_bytes(const struct dbread *db, int64_t *bytes)
{
	cleanup_free char *wal = malloc(strlen(db->path) + 5);
	struct stat st;

	if (!wal)
		return -ENOMEM;
	stpcpy(stpcpy(wal, db->path), "-wal");
	*bytes = stat(wal, &st) == 0 ? (int64_t)st.st_size : 0;
	return 0;
}

static int open_any_way(struct dbread *db, struct errmsg *e)
{
	cleanup_free char *uri = NULL;
	int64_t logged = 0;
	int rc = try_open(db, db->path, 0);

	if (wal_bytes(db, &logged) < 0)
		return errmsg_set(e, -ENOMEM, "out of memory");
	if (db->opened.st_size == 0 && logged == 0)
		return errmsg_set(e, -EINVAL, "%s: empty file; let dscollect write a snapshot into it first: dscollect --db %s", db->path, db->path);
	if (rc == SQLITE_OK)
		return 0;
	if ((rc & 0xff) != SQLITE_CANTOPEN && (rc & 0xff) != SQLITE_READONLY)
		return sql_error(db, e);
	if (logged)
		return errmsg_set(e, -EACCES, "%s: its log %s-wal holds %lld bytes, which SQLite reads only where it may write beside them; run as the user of dscollect, or copy the database with its -wal and -shm files elsewhere",
				  db->path, db->path, (long long)logged);
	sqlite3_close(db->sql);
	db->sql = NULL;
	uri = immutable_uri(db->path);
	if (!uri)
		return errmsg_set(e, -ENOMEM, "out of memory");
	db->immutable = true;
	return try_open(db, uri, SQLITE_OPEN_URI) == SQLITE_OK ? 0 : sql_error(db, e);
}

static int check_identity(struct dbread *db, struct errmsg *e)
{
	int64_t app = 0, version = 0, objects = 0;

	if (read_pragma(db, "PRAGMA application_id", &app) != SQLITE_OK || read_pragma(db, "PRAGMA user_version", &version) != SQLITE_OK ||
	    read_pragma(db, "SELECT count(*) FROM sqlite_schema", &objects) != SQLITE_OK)
		return sql_error(db, e);
	if (app == 0 && objects == 0)
		return errmsg_set(e, -EINVAL, "%s: empty database; let dscollect write a snapshot into it first: dscollect --db %s", db->path, db->path);
	if (app != DBREAD_APPLICATION_ID)
		return errmsg_set(e, -EINVAL, "%s: a SQLite database, but not one of dscollect's (application_id 0x%08llx, expected 0x%08x); check the name",
				  db->path, (unsigned long long)app, DBREAD_APPLICATION_ID);
	if (version > DBREAD_SCHEMA_VERSION)
		return errmsg_set(e, -EPROTO, "%s: schema version %lld, written by a newer dscollect; this dsreport reads version %d: use the dsreport of that release",
				  db->path, (long long)version, DBREAD_SCHEMA_VERSION);
	if (version < DBREAD_SCHEMA_VERSION)
		return errmsg_set(e, -EPROTO, "%s: schema version %lld, older than the version %d that this dsreport reads; run this release's dscollect on it once to bring it up to date",
				  db->path, (long long)version, DBREAD_SCHEMA_VERSION);
	return 0;
}

int dbread_open(struct dbread **out, const char *path, struct errmsg *e)
{
	struct dbread *db = calloc(1, sizeof(*db));
	struct errmsg ignored;
	int rc;

	if (!db || !(db->path = strdup(path))) {
		free(db);
		return errmsg_set(e, -ENOMEM, "out of memory");
	}
	rc = check_file(db, e);
	if (rc == 0)
		rc = open_any_way(db, e);
	if (rc == 0)
		rc = check_identity(db, e);
	if (rc < 0) {
		dbread_close(db, &ignored);
		return rc;
	}
	*out = db;
	return 0;
}

static const char *text_at(sqlite3_stmt *st, int i)
{
	return (const char *)sqlite3_column_text(st, i);
}

static double real_at(sqlite3_stmt *st, int i)
{
	return sqlite3_column_type(st, i) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(st, i);
}

/* A count: COLUMN_NULL for NULL; *bad is set for what cannot be one. */
static int64_t count_at(sqlite3_stmt *st, int i, bool *bad)
{
	int64_t v = sqlite3_column_int64(st, i);

	if (sqlite3_column_type(st, i) == SQLITE_NULL)
		return COLUMN_NULL;
	if (v < 0 || v >> 53 || sqlite3_column_type(st, i) != SQLITE_INTEGER)
		*bad = true;
	return v;
}

int dbread_snapshots(struct dbread *db, dbread_snapshot_fn fn, void *ctx, struct errmsg *e)
{
	static const char sql[] =
		"SELECT snapshot_id, host, boot_id, kernel, tool, join_mode, thp_enabled, thp_defrag, thp_shmem, mthp, buddyinfo,"
		" time, uptime_s, duration_ns, page_size, mem_total_bytes, ksm_run, hugetlb_total, max_map_count, distinct_pages,"
		" n_seen, n_sampled, n_kernel, n_zombie, n_vanished, n_denied, n_timeout, n_error"
		" FROM snapshot_info ORDER BY time, snapshot_id";
	sqlite3_stmt *st = NULL;
	int rc = 0, step = SQLITE_ERROR;

	if (sqlite3_prepare_v2(db->sql, sql, -1, &st, NULL) != SQLITE_OK)
		return sql_error(db, e);
	while (rc == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
		struct dbread_snapshot s = {.id = sqlite3_column_int64(st, 0)};
		const char **texts[] = {&s.host, &s.boot_id, &s.kernel, &s.tool, &s.join_mode, &s.thp_enabled,
					&s.thp_defrag, &s.thp_shmem, &s.mthp, &s.buddyinfo};
		int64_t *counts[] = {&s.duration_ns, &s.page_bytes, &s.mem_total_bytes, &s.ksm_run, &s.hugetlb_total,
				     &s.max_map_count, &s.distinct_pages, &s.n_seen, &s.n_sampled};
		bool bad = false;
		int i = 1;

		for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++)
			*texts[t] = text_at(st, i++);
		s.time_s = real_at(st, i++);
		s.uptime_s = real_at(st, i++);
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
			*counts[c] = count_at(st, i++, &bad);
		for (int k = 0; k < NSKIPS; k++)
			s.skipped[k] = count_at(st, i++, &bad);
		if (bad || !s.host || !s.boot_id || !s.kernel || !isfinite(s.time_s) || fabs(s.time_s) > 1e11)
			rc = errmsg_set(e, -EINVAL, "%s: snapshot %lld has a value that cannot be; the database was altered", db->path, (long long)s.id);
		else
			rc = fn(ctx, &s);
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = sql_error(db, e);
	sqlite3_finalize(st);
	return rc;
}

static int read_sample(struct dbread *db, sqlite3_stmt *st, struct dbread_sample *s, struct errmsg *e)
{
	bool bad = false;
	int i = 0;

	s->host = text_at(st, i++);
	s->boot_id = text_at(st, i++);
	s->comm = text_at(st, i++);
	s->cgroup = text_at(st, i++);
	s->status = text_at(st, i++);
	s->hist_runs = text_at(st, i++);
	s->hist_pages = text_at(st, i++);
	s->time_s = real_at(st, i++);
	s->pid = count_at(st, i++, &bad);
	s->start_ticks = count_at(st, i++, &bad);
	s->uid = count_at(st, i++, &bad);
	s->map = count_at(st, i++, &bad);
	for (int c = 0; c < NCOLUMNS; c++)
		s->v[c] = count_at(st, i++, &bad);
	if (!bad && s->host && s->boot_id && s->comm && s->status && s->pid != COLUMN_NULL && s->start_ticks != COLUMN_NULL)
		return 0;
	return errmsg_set(e, -EINVAL, "%s: the sample of process %lld has a value that cannot be; the database was altered",
			  db->path, (long long)s->pid);
}

/* Most databases hold no maps, and one that was reduced may lack the table. */
static bool has_maps(struct dbread *db)
{
	int64_t any = 0;

	return read_pragma(db, "SELECT EXISTS(SELECT 1 FROM run_map)", &any) == SQLITE_OK && any;
}

int dbread_samples(struct dbread *db, int64_t snapshot_id, dbread_sample_fn fn, void *ctx, struct errmsg *e)
{
#define X(name) ", " #name
#define SELECT(map)                                                                                                              \
	"SELECT host, boot_id, comm, cgroup, status, hist_runs, hist_pages, time, pid, start_ticks, uid, " map COLUMNS(X)        \
	" FROM process_sample WHERE snapshot_id = ? ORDER BY pid, start_ticks, sample_id"
	static const char with_maps[] = SELECT("iif(sample_id IN (SELECT sample FROM run_map), sample_id, NULL)"), without[] = SELECT("NULL");
#undef SELECT
#undef X
	int rc = 0, step = SQLITE_ERROR;

	if (!db->samples && sqlite3_prepare_v2(db->sql, has_maps(db) ? with_maps : without, -1, &db->samples, NULL) != SQLITE_OK)
		return sql_error(db, e);
	sqlite3_bind_int64(db->samples, 1, snapshot_id);
	while (rc == 0 && (step = sqlite3_step(db->samples)) == SQLITE_ROW) {
		struct dbread_sample s;

		rc = read_sample(db, db->samples, &s, e);
		if (rc == 0)
			rc = fn(ctx, &s);
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = sql_error(db, e);
	sqlite3_reset(db->samples);
	return rc;
}

/* Copies a blob into memory of its own.  Past the length limit of the connection, which is for texts. */
static int read_blob(struct dbread *db, int64_t id, void **bytes, size_t *len)
{
	cleanup_free void *copy = NULL;
	sqlite3_blob *blob = NULL;
	int rc = sqlite3_blob_open(db->sql, "main", "run_map", "map", id, 0, &blob), n;

	if (rc != SQLITE_OK) {
		sqlite3_blob_close(blob);
		return rc == SQLITE_NOMEM ? -ENOMEM : -EIO;
	}
	n = sqlite3_blob_bytes(blob);
	*len = (size_t)n;
	copy = n <= DBREAD_MAX_MAP_BYTES ? malloc(*len + 1) : NULL;
	if (copy)
		rc = sqlite3_blob_read(blob, copy, n, 0);
	sqlite3_blob_close(blob);
	if (n > DBREAD_MAX_MAP_BYTES)
		return -EFBIG;
	if (!copy || rc == SQLITE_NOMEM)
		return -ENOMEM;
	if (rc != SQLITE_OK)
		return -EIO;
	*bytes = copy;
	copy = NULL;
	return 0;
}

int dbread_map(struct dbread *db, int64_t id, struct rle_map *map, struct rle_map_err *why)
{
	cleanup_free void *bytes = NULL;
	size_t len = 0;
	int rc = read_blob(db, id, &bytes, &len);

	*why = (struct rle_map_err){.run = RLE_MAP_NO_RUN, .why = rc == -EFBIG ? "longer than any map" : "cannot be read from the database"};
	if (rc == 0)
		rc = rle_map_open(map, bytes, len, why);
	if (rc == 0) {
		map->owned = bytes; /* the view's from here on: memory of the heap, as rle_map_open_copy() makes it */
		bytes = NULL;
	}
	return rc;
}

int dbread_close(struct dbread *db, struct errmsg *e)
{
	struct stat now;
	int rc = 0;

	if (!db)
		return 0;
	if (db->immutable && (stat(db->path, &now) < 0 || now.st_size != db->opened.st_size ||
			      now.st_mtim.tv_sec != db->opened.st_mtim.tv_sec || now.st_mtim.tv_nsec != db->opened.st_mtim.tv_nsec))
		rc = errmsg_set(e, -EAGAIN, "%s: was written to while it was read; run the report again", db->path);
	sqlite3_finalize(db->samples);
	sqlite3_close(db->sql);
	free(db->path);
	free(db);
	return rc;
}
