/* dbprune.c - the end of old snapshots; see db.h */
#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "collector/dbint.h"

#define DAY_S 86400.0

/* A few snapshots, and the processes that were in no other. */
static const char prune_sql[] =
	"CREATE TEMP TABLE doomed AS"
	" SELECT id FROM main.snapshot WHERE time < %.6f AND id <> (SELECT max(id) FROM main.snapshot) ORDER BY time LIMIT 16;"
	"CREATE TEMP TABLE doomed_process AS"
	" SELECT DISTINCT process AS id FROM main.sample WHERE snapshot IN (SELECT id FROM temp.doomed);"
	"DELETE FROM run_map WHERE sample IN (SELECT id FROM sample WHERE snapshot IN (SELECT id FROM temp.doomed));"
	"DELETE FROM sample WHERE snapshot IN (SELECT id FROM temp.doomed);"
	"DELETE FROM process WHERE id IN (SELECT id FROM temp.doomed_process)"
	" AND NOT EXISTS (SELECT 1 FROM sample WHERE sample.process = process.id);"
	"DELETE FROM snapshot WHERE id IN (SELECT id FROM temp.doomed);"
	"DROP TABLE temp.doomed_process;"
	"DROP TABLE temp.doomed";

/* What nothing refers to any more.  This reads all of `sample`, so it is not done each time. */
static const char sweep_sql[] =
	"DELETE FROM name WHERE id NOT IN (SELECT comm FROM sample UNION SELECT status FROM sample"
	" UNION SELECT cgroup FROM sample WHERE cgroup IS NOT NULL);"
	"DELETE FROM boot WHERE id NOT IN (SELECT boot FROM snapshot UNION SELECT boot FROM process)";

static int oldest(struct db *db, double *time)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db->sql, "SELECT min(time) FROM snapshot WHERE id <> (SELECT max(id) FROM snapshot)", -1, &st, NULL);

	if (rc)
		return rc;
	*time = sqlite3_step(st) == SQLITE_ROW && sqlite3_column_type(st, 0) != SQLITE_NULL ? sqlite3_column_double(st, 0) : INFINITY;
	return sqlite3_finalize(st);
}

static int count(sqlite3 *sql, const char *query, unsigned int *n)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(sql, query, -1, &st, NULL);

	if (rc)
		return rc;
	if (sqlite3_step(st) == SQLITE_ROW)
		*n = sqlite3_column_int64(st, 0);
	return sqlite3_finalize(st);
}

/* Return: 0 or -errno. */
static int in_transaction(struct db *db, const char *sql)
{
	int err, rc = sqlite3_exec(db->sql, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	if (!rc)
		rc = sqlite3_exec(db->sql, sql, NULL, NULL, NULL);
	if (!rc)
		rc = sqlite3_exec(db->sql, "COMMIT", NULL, NULL, NULL);
	if (!rc)
		return 0;
	err = db_fail(db, sqlite3_extended_errcode(db->sql), "remove old snapshots");
	sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
	return err;
}

int db_prune(struct db *db, double before, unsigned int *removed)
{
	static const char count_sql[] = "SELECT count(*) FROM snapshot";
	char sql[sizeof(prune_sql) + 32];
	unsigned int had = 0, left = 0;
	double first, now_first;
	int err = 0, rc = oldest(db, &first);

	*removed = 0;
	if (!rc && !(first < before))
		return 0;
	if (!rc)
		rc = count(db->sql, count_sql, &had);
	snprintf(sql, sizeof(sql), prune_sql, before);
	for (now_first = first; !rc && !err && now_first < before;) {
		err = in_transaction(db, sql);
		if (!err)
			rc = oldest(db, &now_first);
	}
	dbcache_forget(&db->cache);
	if (!rc && !err)
		rc = count(db->sql, count_sql, &left);
	if (rc || err)
		return err ? err : db_fail(db, rc, "look for old snapshots");
	*removed = had - left;
	/* A collector that removes one snapshot each time it adds one sweeps once a day. */
	if (isfinite(now_first) && (int64_t)(first / DAY_S) == (int64_t)(now_first / DAY_S))
		return 0;
	return in_transaction(db, sweep_sql);
}
