/* dbwrite.c - a snapshot into the database; see db.h */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "collector/dbint.h"

#define COPY_BYTES 65536

static const char *const statement_sql[DB_NSTATEMENTS] = {
	[DB_BEGIN] = "BEGIN IMMEDIATE",
	[DB_COMMIT] = "COMMIT",
	[DB_ROLLBACK] = "ROLLBACK",
	[DB_FIND_NAME] = "SELECT id FROM name WHERE text = ?",
	[DB_ADD_NAME] = "INSERT INTO name (text) VALUES (?)",
	[DB_FIND_PROCESS] = "SELECT id FROM process WHERE boot = ? AND pid = ? AND start_ticks = ?",
	[DB_ADD_PROCESS] = "INSERT INTO process (boot, pid, start_ticks) VALUES (?, ?, ?)",
	[DB_FIND_BOOT] = "SELECT id FROM boot WHERE host = ? AND boot_id = ? AND kernel = ?",
	[DB_ADD_BOOT] = "INSERT INTO boot (host, boot_id, kernel) VALUES (?, ?, ?)",
	/* What is known at the end only is 0 until then; nobody sees it before the commit. */
	[DB_ADD_SNAPSHOT] =
		"INSERT INTO snapshot (boot, time, uptime_s, tool, join_mode, page_size, mem_total_bytes, mem_free_bytes, thp_enabled, "
		"thp_defrag, thp_shmem, mthp, buddyinfo, ksm_run, hugetlb_total, max_map_count, duration_ns, n_seen, n_sampled, "
		"n_kernel, n_zombie, n_vanished, n_denied, n_timeout, n_error) "
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
	[DB_END_SNAPSHOT] =
		"UPDATE snapshot SET duration_ns = ?2, distinct_pages = ?3, n_seen = ?4, n_sampled = ?5, n_kernel = ?6, n_zombie = ?7, "
		"n_vanished = ?8, n_denied = ?9, n_timeout = ?10, n_error = ?11 WHERE id = ?1",
	[DB_ADD_SAMPLE] =
		"INSERT INTO sample (snapshot, process, comm, cgroup, uid, status, scan_ns, vsz_bytes, vmas, pages_mapped, pte_present, "
		"runs, runs_prot, runs_attr, swapped, migrating, guard, marker, zero, ksm, thp, hugetlb, device, file, exclusive, "
		"cover50, cover90, cover95, cover99, cover100, pages_64k, pages_2m, pages_1g, aligned_64k, aligned_2m, aligned_1g, "
		"end_vma, end_hole, end_phys, hist_runs, hist_pages) "
		"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
		"?, ?, ?)",
	[DB_ADD_MAP] = "INSERT INTO run_map (sample, map) VALUES (?, zeroblob(?))",
};

const char *db_join_name(enum rle_join join)
{
	return join == RLE_JOIN_NONE ? "none" : join == RLE_JOIN_HEAD ? "head" : "full";
}

sqlite3_stmt *db_get(struct db *db, enum db_statement which)
{
	sqlite3_stmt **st = &db->statement[which];

	/* Statements are reset right after use (db_run(), find()), so there is nothing to be done to one that is there. */
	if (!*st && sqlite3_prepare_v3(db->sql, statement_sql[which], -1, SQLITE_PREPARE_PERSISTENT, st, NULL))
		return NULL;
	return *st;
}

int db_run(sqlite3_stmt *st)
{
	sqlite3_step(st);
	return sqlite3_reset(st);
}

static int run(struct db *db, enum db_statement which)
{
	sqlite3_stmt *st = db_get(db, which);

	return st ? db_run(st) : sqlite3_extended_errcode(db->sql);
}

/* The first column of the first row.  Return: an SQLite code; *id stays 0 if there is no row. */
static int find(sqlite3_stmt *st, int64_t *id)
{
	*id = 0;
	if (sqlite3_step(st) == SQLITE_ROW)
		*id = sqlite3_column_int64(st, 0);
	return sqlite3_reset(st);
}

static void bind_text(sqlite3_stmt *st, int at, const char *text)
{
	if (*text)
		sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
	else
		sqlite3_bind_null(st, at);
}

/* The row of a name, made if it is new. */
static int name_id(struct db *db, const char *text, int64_t *id)
{
	sqlite3_stmt *st;
	int rc;

	*id = dbcache_name(&db->cache, text);
	if (*id)
		return SQLITE_OK;
	st = db_get(db, DB_FIND_NAME);
	if (!st)
		return sqlite3_extended_errcode(db->sql);
	sqlite3_bind_text(st, 1, text, -1, SQLITE_STATIC);
	rc = find(st, id);
	if (!rc && !*id) {
		st = db_get(db, DB_ADD_NAME);
		if (!st)
			return sqlite3_extended_errcode(db->sql);
		sqlite3_bind_text(st, 1, text, -1, SQLITE_STATIC);
		rc = db_run(st);
		*id = sqlite3_last_insert_rowid(db->sql);
	}
	if (!rc)
		dbcache_keep_name(&db->cache, text, *id);
	return rc;
}

static int process_id(struct db *db, pid_t pid, uint64_t start_ticks, int64_t *id)
{
	static const enum db_statement order[] = {DB_FIND_PROCESS, DB_ADD_PROCESS};
	int rc = SQLITE_OK;

	*id = dbcache_process(&db->cache, db->boot, pid, start_ticks);
	if (*id)
		return SQLITE_OK;
	for (int i = 0; i < 2 && !*id && !rc; i++) {
		sqlite3_stmt *st = db_get(db, order[i]);

		if (!st)
			return sqlite3_extended_errcode(db->sql);
		sqlite3_bind_int64(st, 1, db->boot);
		sqlite3_bind_int64(st, 2, pid);
		sqlite3_bind_int64(st, 3, start_ticks);
		if (order[i] == DB_FIND_PROCESS) {
			rc = find(st, id);
		} else {
			rc = db_run(st);
			*id = sqlite3_last_insert_rowid(db->sql);
		}
	}
	if (!rc)
		dbcache_keep_process(&db->cache, db->boot, pid, start_ticks, *id);
	return rc;
}

static int boot_id(struct db *db, const struct machine_id *m, int64_t *id)
{
	static const enum db_statement order[] = {DB_FIND_BOOT, DB_ADD_BOOT};
	int rc = SQLITE_OK;

	*id = 0;
	for (int i = 0; i < 2 && !*id && !rc; i++) {
		sqlite3_stmt *st = db_get(db, order[i]);

		if (!st)
			return sqlite3_extended_errcode(db->sql);
		sqlite3_bind_text(st, 1, m->host, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 2, m->boot_id, -1, SQLITE_STATIC);
		sqlite3_bind_text(st, 3, m->kernel, -1, SQLITE_STATIC);
		if (order[i] == DB_FIND_BOOT) {
			rc = find(st, id);
		} else {
			rc = db_run(st);
			*id = sqlite3_last_insert_rowid(db->sql);
		}
	}
	return rc;
}

static void bind_known(sqlite3_stmt *st, int at, int64_t n)
{
	if (n >= 0)
		sqlite3_bind_int64(st, at, n);
	else
		sqlite3_bind_null(st, at);
}

int db_snapshot_begin(struct db *db, const struct machine_id *id, const struct machine *m, enum rle_join join)
{
	sqlite3_stmt *st;
	int rc = run(db, DB_BEGIN);

	if (!rc)
		rc = boot_id(db, id, &db->boot);
	if (rc)
		return db_fail(db, rc, "begin a snapshot");
	st = db_get(db, DB_ADD_SNAPSHOT);
	if (!st)
		return db_fail(db, sqlite3_extended_errcode(db->sql), "begin a snapshot");
	sqlite3_bind_int64(st, 1, db->boot);
	sqlite3_bind_double(st, 2, m->time);
	if (isnan(m->uptime_s))
		sqlite3_bind_null(st, 3);
	else
		sqlite3_bind_double(st, 3, m->uptime_s);
	sqlite3_bind_text(st, 4, DS_VERSION, -1, SQLITE_STATIC);
	sqlite3_bind_text(st, 5, db_join_name(join), -1, SQLITE_STATIC);
	sqlite3_bind_int64(st, 6, sysconf(_SC_PAGESIZE));
	bind_known(st, 7, m->mem_total_bytes);
	bind_known(st, 8, m->mem_free_bytes);
	bind_text(st, 9, m->thp_enabled);
	bind_text(st, 10, m->thp_defrag);
	bind_text(st, 11, m->thp_shmem);
	bind_text(st, 12, m->mthp);
	bind_text(st, 13, m->buddyinfo);
	bind_known(st, 14, m->ksm_run);
	bind_known(st, 15, m->hugetlb_pages);
	bind_known(st, 16, m->max_map_count);
	rc = db_run(st);
	db->snapshot = sqlite3_last_insert_rowid(db->sql);
	return rc ? db_fail(db, rc, "begin a snapshot") : 0;
}

/* "[3,0,1]", zeros at the end left out.  20 digits, a comma, for each of 32 numbers, and the brackets. */
#define HISTOGRAM_BYTES (RLE_STATS_NLOG2 * 21 + 3)

static int print_histogram(char text[static HISTOGRAM_BYTES], const uint64_t *n)
{
	char digits[20], *at = text;
	int last = RLE_STATS_NLOG2 - 1;

	while (last >= 0 && !n[last])
		last--;
	*at++ = '[';
	for (int i = 0; i <= last; i++) {
		uint64_t value = n[i];
		int ndigits = 0;

		do
			digits[ndigits++] = '0' + value % 10;
		while (value /= 10);
		if (i)
			*at++ = ',';
		while (ndigits)
			*at++ = digits[--ndigits];
	}
	*at++ = ']';
	return at - text;
}

/* Columns from vmas on.  The texts must live until the statement has run. */
static void bind_counts(sqlite3_stmt *st, int at, const struct record *r, const struct db_known *known,
			char runs[static HISTOGRAM_BYTES], char pages[static HISTOGRAM_BYTES])
{
	const struct rle_counts *n = &r->n;
	const int64_t value[] = {
		n->vmas, n->mapped, n->present, n->runs[RLE_SPLIT_VPN_PFN], n->runs[RLE_SPLIT_PROT], n->runs[RLE_SPLIT_ATTR],
		n->swapped, n->migrating, n->guard, n->marker,
		known->zero ? (int64_t)n->zero : -1, r->ksm_pages, known->join ? (int64_t)n->thp : -1,
		r->hugetlb_pages, known->device ? (int64_t)n->device : -1, n->file, n->exclusive,
		r->cover[0], r->cover[1], r->cover[2], r->cover[3], r->cover[4],
		r->in_size[RLE_64K], r->in_size[RLE_2M], r->in_size[RLE_1G],
		r->aligned[RLE_64K], r->aligned[RLE_2M], r->aligned[RLE_1G],
		n->ends[RLE_END_VMA], n->ends[RLE_END_HOLE], n->ends[RLE_END_PHYS],
	};

	for (size_t i = 0; i < sizeof(value) / sizeof(*value); i++)
		bind_known(st, at++, value[i]);
	sqlite3_bind_text(st, at++, runs, print_histogram(runs, r->log2_runs), SQLITE_STATIC);
	sqlite3_bind_text(st, at++, pages, print_histogram(pages, r->log2_pages), SQLITE_STATIC);
}

/* Copies the map of the sample just added, in pieces, so that its size does not matter. */
static int add_map(struct db *db, int64_t sample, int map_fd, uint64_t bytes)
{
	static char piece[COPY_BYTES];
	sqlite3_stmt *st = db_get(db, DB_ADD_MAP);
	sqlite3_blob *blob;
	int rc;

	if (!st)
		return sqlite3_extended_errcode(db->sql);
	if (bytes > INT_MAX)
		return SQLITE_TOOBIG;
	sqlite3_bind_int64(st, 1, sample);
	sqlite3_bind_int64(st, 2, bytes);
	rc = db_run(st);
	if (!rc)
		rc = sqlite3_blob_open(db->sql, "main", "run_map", "map", sample, 1, &blob);
	if (rc)
		return rc;
	for (uint64_t at = 0; at < bytes && !rc;) {
		size_t want = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
		ssize_t n = pread(map_fd, piece, want, at);

		rc = n > 0 ? sqlite3_blob_write(blob, piece, n, at) : SQLITE_IOERR;
		at += n > 0 ? n : 0;
	}
	sqlite3_blob_close(blob);
	return rc;
}

int db_snapshot_add(struct db *db, const struct record *r, const struct db_known *known, int map_fd)
{
	char runs[HISTOGRAM_BYTES], pages[HISTOGRAM_BYTES];
	int64_t process, comm, cgroup = 0, status;
	sqlite3_stmt *st;
	int rc;

	if (!record_has(r, RECORD_IDENTITY) || r->status >= RECORD_NSTORED)
		return 0;
	rc = process_id(db, r->pid, r->start_ticks, &process);
	if (!rc)
		rc = name_id(db, r->comm, &comm);
	if (!rc && *r->cgroup)
		rc = name_id(db, r->cgroup, &cgroup);
	if (!rc)
		rc = name_id(db, record_status_name(r->status), &status);
	if (rc)
		return db_fail(db, rc, "store a process");
	st = db_get(db, DB_ADD_SAMPLE);
	if (!st)
		return db_fail(db, sqlite3_extended_errcode(db->sql), "store a process");
	sqlite3_clear_bindings(st);
	sqlite3_bind_int64(st, 1, db->snapshot);
	sqlite3_bind_int64(st, 2, process);
	sqlite3_bind_int64(st, 3, comm);
	if (cgroup)
		sqlite3_bind_int64(st, 4, cgroup);
	if (record_has(r, RECORD_OWNER))
		sqlite3_bind_int64(st, 5, r->uid);
	sqlite3_bind_int64(st, 6, status);
	sqlite3_bind_int64(st, 7, r->scan_ns);
	sqlite3_bind_int64(st, 8, r->vsz_bytes);
	if (r->status == RECORD_OK)
		bind_counts(st, 9, r, known, runs, pages);
	rc = db_run(st);
	if (!rc && r->map_bytes && r->status == RECORD_OK)
		rc = add_map(db, sqlite3_last_insert_rowid(db->sql), map_fd, r->map_bytes);
	return rc ? db_fail(db, rc, "store a process") : 0;
}

int db_snapshot_commit(struct db *db, const struct db_totals *t)
{
	const int64_t value[] = {
		db->snapshot, t->duration_ns, t->distinct_pages, t->n_seen, t->n[RECORD_OK], t->n[RECORD_KERNEL],
		t->n[RECORD_ZOMBIE], t->n[RECORD_VANISHED], t->n[RECORD_DENIED] + t->n[RECORD_HIDDEN], t->n[RECORD_TIMEOUT],
		t->n[RECORD_ERROR],
	};
	sqlite3_stmt *st = db_get(db, DB_END_SNAPSHOT);
	int rc;

	if (!st)
		return db_fail(db, sqlite3_extended_errcode(db->sql), "store the snapshot");
	for (size_t i = 0; i < sizeof(value) / sizeof(*value); i++)
		bind_known(st, i + 1, value[i]);
	rc = db_run(st);
	if (!rc)
		rc = run(db, DB_COMMIT);
	return rc ? db_fail(db, rc, "store the snapshot") : 0;
}

void db_snapshot_abort(struct db *db)
{
	if (db->sql && !sqlite3_get_autocommit(db->sql))
		run(db, DB_ROLLBACK);
	dbcache_forget(&db->cache);
}
