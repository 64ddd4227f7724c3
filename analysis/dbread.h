/* dbread.h - reading one database of dscollect
 *
 * Only the views snapshot_info and process_sample are read, and, for maps, the table run_map, in one read transaction,
 * so that everything comes from the same state of a database that dscollect goes on writing (WAL).  Nothing is ever written.
 *
 * A WAL database needs two helper files beside it (-wal, -shm).  Where they are absent and the directory is not
 * writable, SQLite refuses to open it; nobody is writing then, and it is opened as immutable instead.  That is only
 * done when no log with content lies beside it, and dbread_close() tells whether the file changed meanwhile.
 */
#ifndef ANALYSIS_DBREAD_H
#define ANALYSIS_DBREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "analysis/columns.h"
#include "analysis/errmsg.h"
#include "rle/map.h"

/** The version of collector/schema.sql that this program reads (PRAGMA user_version). */
#define DBREAD_SCHEMA_VERSION 1
/** PRAGMA application_id of dscollect's databases: "DSHP". */
#define DBREAD_APPLICATION_ID 0x44534850

/** Longest map that is read: 44 million runs. */
#define DBREAD_MAX_MAP_BYTES (1 << 30)

struct dbread;

/** What snapshots counted besides the processes sampled. */
enum dbread_skip {
	SKIP_kernel,
	SKIP_zombie,
	SKIP_vanished,
	SKIP_denied,
	SKIP_timeout,
	SKIP_error,
	NSKIPS
};

/** struct dbread_snapshot - A row of snapshot_info; texts are valid during the callback, NULL where unknown. */
struct dbread_snapshot {
	int64_t id;
	const char *host, *boot_id, *kernel, *tool, *join_mode, *thp_enabled, *thp_defrag, *thp_shmem, *mthp, *buddyinfo;
	double time_s, uptime_s; /* NaN where unknown */
	int64_t duration_ns, page_bytes, mem_total_bytes, ksm_run, hugetlb_total, max_map_count, distinct_pages;
	int64_t n_seen, n_sampled, skipped[NSKIPS];
};

/** struct dbread_sample - A row of process_sample; texts are valid during the callback. */
struct dbread_sample {
	const char *host, *boot_id, *comm, *cgroup, *status, *hist_runs, *hist_pages; /* cgroup, hist_*: may be NULL */
	double time_s;
	int64_t pid, start_ticks, uid; /* uid: COLUMN_NULL where unknown */
	int64_t map; /* for dbread_map(); COLUMN_NULL when the sample has no map */
	int64_t v[NCOLUMNS];
};

typedef int (*dbread_snapshot_fn)(void *ctx, const struct dbread_snapshot *s);
typedef int (*dbread_sample_fn)(void *ctx, const struct dbread_sample *s);

/**
 * dbread_open() - Open a database for reading
 * @out: result, to be given to dbread_close()
 * @path: its file
 * @e: on error: what is wrong with it and what to do
 *
 * Return: 0 or -errno (-ENOENT, -EACCES, -EINVAL for what is no database of dscollect, -EPROTO for another version,
 * -EIO, -ENOMEM).
 */
int dbread_open(struct dbread **out, const char *path, struct errmsg *e);

/** dbread_snapshots() - Call @fn for every snapshot in order of time.  Return: 0, -errno, or what @fn returned. */
int dbread_snapshots(struct dbread *db, dbread_snapshot_fn fn, void *ctx, struct errmsg *e);

/**
 * dbread_samples() - Call @fn for every sample of a snapshot, in order of (pid, start_ticks)
 *
 * Return: 0, -errno (-EINVAL: a value that cannot be), or what @fn returned.
 */
int dbread_samples(struct dbread *db, int64_t snapshot_id, dbread_sample_fn fn, void *ctx, struct errmsg *e);

/**
 * dbread_map() - The map of a sample
 * @db: database
 * @id: map of a struct dbread_sample
 * @map: filled, to be given to rle_map_close()
 * @why: filled when the blob is refused or cannot be read
 *
 * The blob is read into memory whole, checked there and used there.
 *
 * Return: 0; -ENOMEM; -EIO when it cannot be read; as rle_map_open() for what is no map; -EFBIG beyond
 * DBREAD_MAX_MAP_BYTES.
 */
int dbread_map(struct dbread *db, int64_t id, struct rle_map *map, struct rle_map_err *why);

/**
 * dbread_close() - Close a database
 * @db: may be NULL
 * @e: on error
 *
 * Return: 0; -EAGAIN when the file was opened as immutable and changed since: what was read may be torn.
 */
int dbread_close(struct dbread *db, struct errmsg *e);

#endif
