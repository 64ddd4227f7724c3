/* db_write.c - a snapshot comes back as it was stored, an aborted one leaves no trace, old ones go with all they had */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "collector/db.h"
#include "tests/tap.h"

static char path[] = "/tmp/db_write.XXXXXX";
static struct db *db;
static const struct machine_id here = {"host", "boot", "kernel 1"};
static const struct db_known known = {true, true, true}, unknown = {false, false, false};

static double ask(const char *text)
{
	sqlite3_stmt *st;
	double n = -1;
	sqlite3 *s;

	sqlite3_open_v2(path, &s, SQLITE_OPEN_READONLY, NULL);
	if (sqlite3_prepare_v2(s, text, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_type(st, 0) == SQLITE_NULL ? NAN : sqlite3_column_double(st, 0);
	else
		printf("# %s: %s\n", text, sqlite3_errmsg(s));
	sqlite3_finalize(st);
	sqlite3_close(s);
	return n;
}

static bool same_text(const char *query, const char *want)
{
	sqlite3_stmt *st;
	bool same = false;
	sqlite3 *s;

	sqlite3_open_v2(path, &s, SQLITE_OPEN_READONLY, NULL);
	if (sqlite3_prepare_v2(s, query, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		same = strcmp((const char *)sqlite3_column_text(st, 0), want) == 0;
	if (!same)
		printf("# got %s, want %s\n", sqlite3_column_text(st, 0), want);
	sqlite3_finalize(st);
	sqlite3_close(s);
	return same;
}

/* A record in which every number is another one. */
static struct record record_of(pid_t pid, uint64_t start)
{
	struct record r = {.phase = RECORD_WHOLE, .pid = pid, .status = RECORD_OK, .uid = 4294967294u, .start_ticks = start,
			   .vsz_bytes = 8, .scan_ns = 7, .comm = "name", .cgroup = "/group", .ksm_pages = 20, .hugetlb_pages = 22};

	r.n = (struct rle_counts){.vmas = 9, .mapped = 10, .present = 11, .runs = {12, 13, 14}, .ends = {37, 38, 39}, .swapped = 15,
				  .migrating = 16, .guard = 17, .marker = 18, .zero = 19, .thp = 21,
				  .device = 23, .file = 24, .exclusive = 25};
	for (int i = 0; i < 5; i++)
		r.cover[i] = 26 + i;
	for (int i = 0; i < 3; i++) {
		r.in_size[i] = 31 + i;
		r.aligned[i] = 34 + i;
	}
	r.log2_runs[0] = 5;
	r.log2_runs[2] = 3;
	r.log2_pages[31] = UINT64_MAX;
	return r;
}

static struct machine machine_at(double time)
{
	return (struct machine){.time = time, .uptime_s = NAN, .mem_total_bytes = 100, .mem_free_bytes = -1, .hugetlb_pages = -1,
				.max_map_count = 65530, .ksm_run = -1, .thp_enabled = "madvise"};
}

static void store(double time, const struct record *r, int n)
{
	struct machine m = machine_at(time);
	struct db_totals t = {.duration_ns = 42, .distinct_pages = -1, .n_seen = n, .n = {[RECORD_OK] = n}};
	int err = db_snapshot_begin(db, &here, &m, RLE_JOIN_HEAD);

	for (int i = 0; i < n && !err; i++)
		err = db_snapshot_add(db, &r[i], &known, -1);
	if (err || db_snapshot_commit(db, &t))
		tap_ok(false, "a snapshot is stored: %s", db_why(db));
}

static void check_columns(void)
{
	static const char *const column[] = {
		"scan_ns", "vsz_bytes", "vmas", "pages_mapped", "pte_present", "runs", "runs_prot", "runs_attr", "swapped", "migrating",
		"guard", "marker", "zero", "ksm", "thp", "hugetlb", "device", "file", "exclusive", "cover50", "cover90", "cover95",
		"cover99", "cover100", "pages_64k", "pages_2m", "pages_1g", "aligned_64k", "aligned_2m", "aligned_1g", "end_vma",
		"end_hole", "end_phys"};
	struct record r = record_of(1, 2);
	char query[200];

	store(1000, &r, 1);
	for (int i = 0; i < 33; i++) {
		snprintf(query, sizeof(query), "SELECT %s FROM process_sample", column[i]);
		tap_eq(ask(query), 7 + i, "%s is in its own column", column[i]);
	}
	tap_eq(ask("SELECT uid FROM process_sample"), 4294967294, "uid, beyond 31 bits");
	tap_ok(same_text("SELECT comm || cgroup || status FROM process_sample", "name/groupok"), "names");
	tap_ok(same_text("SELECT hist_runs FROM process_sample", "[5,0,3]"), "a histogram, zeros at the end left out");
	tap_ok(same_text("SELECT hist_pages FROM process_sample",
			 "[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,18446744073709551615]"),
	       "a histogram with the largest class and number");
	tap_ok(isnan(ask("SELECT uptime_s FROM snapshot_info")) && isnan(ask("SELECT mem_free_bytes FROM snapshot_info")) &&
		       isnan(ask("SELECT distinct_pages FROM snapshot_info")) && isnan(ask("SELECT thp_defrag FROM snapshot_info")),
	       "what is unknown about the machine is NULL");
}

static void check_unknown(void)
{
	struct machine m = machine_at(2000);
	struct db_totals t = {.n_seen = 2};
	struct record ok = record_of(5, 5), hung = record_of(6, 6), blank = record_of(7, 7), kernel = record_of(8, 8);

	hung.status = RECORD_TIMEOUT;
	hung.phase = RECORD_IDENTITY;
	hung.cgroup[0] = '\0';
	ok.ksm_pages = -1;
	blank.status = RECORD_VANISHED;
	blank.phase = RECORD_EMPTY;
	kernel.status = RECORD_KERNEL;
	db_snapshot_begin(db, &here, &m, RLE_JOIN_NONE);
	db_snapshot_add(db, &ok, &unknown, -1);
	db_snapshot_add(db, &hung, &unknown, -1);
	db_snapshot_add(db, &blank, &unknown, -1);
	db_snapshot_add(db, &kernel, &unknown, -1);
	db_snapshot_commit(db, &t);
	tap_eq(ask("SELECT count(*) FROM process_sample WHERE time = 2000"), 2, "who has no identity or no address space has no row");
	tap_eq(ask("SELECT (zero IS NULL) + (ksm IS NULL) + (thp IS NULL) + (hugetlb IS NOT NULL) + (device IS NULL) + (file IS NOT NULL) "
		   "FROM process_sample WHERE pid = 5"), 6, "without a join only what it tells is NULL");
	tap_eq(ask("SELECT (uid IS NULL) + (cgroup IS NULL) + (pte_present IS NULL) + (runs IS NULL) + (hist_runs IS NULL) + (ratio IS NULL) "
		   "FROM process_sample WHERE pid = 6"), 6, "a process that hung has no counts, and nothing of the one before it");
}

static void check_abort(void)
{
	struct machine m = machine_at(3000);
	struct record r = record_of(77, 77);

	strcpy(r.comm, "aborted");
	db_snapshot_begin(db, &here, &m, RLE_JOIN_HEAD);
	db_snapshot_add(db, &r, &known, -1);
	db_snapshot_abort(db);
	tap_eq(ask("SELECT count(*) FROM snapshot WHERE time = 3000"), 0, "an aborted snapshot is not there");
	tap_eq(ask("SELECT count(*) FROM name WHERE text = 'aborted'"), 0, "nor its names");
	/* Row numbers met in it must be forgotten, or the next one refers to rows that are not there. */
	store(3001, &r, 1);
	tap_eq(ask("SELECT count(*) FROM process_sample WHERE comm = 'aborted' AND pid = 77"), 1, "and the next snapshot does not rely on it");
}

static void check_identity(void)
{
	struct record r[] = {record_of(100, 1), record_of(100, 2), record_of(100 + 4096, 1)};

	store(4000, r, 3);
	store(4001, r, 3);
	tap_eq(ask("SELECT count(DISTINCT process_id) FROM process_sample WHERE time >= 4000"), 3,
	       "a process is (pid, start): a reused PID, and one that shares a place in the cache, stay apart");
	tap_eq(ask("SELECT count(*) FROM process_sample WHERE time >= 4000 AND pid = 100 AND start_ticks = 2"), 2, "and has its own samples");
}

static void check_map(void)
{
	struct machine m = machine_at(5000);
	struct record r = record_of(200, 1);
	FILE *f = tmpfile();

	for (uint32_t i = 0; i < 50000; i++)
		fwrite(&i, 4, 1, f);
	fflush(f);
	r.map_bytes = 200000;
	db_snapshot_begin(db, &here, &m, RLE_JOIN_HEAD);
	tap_eq(db_snapshot_add(db, &r, &known, fileno(f)), 0, "a map larger than the piece it is copied by is stored");
	db_snapshot_commit(db, &(struct db_totals){.n_seen = 1});
	tap_eq(ask("SELECT length(map) FROM run_map"), 200000, "all of it");
	tap_ok(same_text("SELECT hex(substr(map, 4 * 16384 + 1, 4)) || hex(substr(map, 199997, 4)) FROM run_map", "004000004FC30000"),
	       "and in order");
	fclose(f);
}

static void check_prune(void)
{
	struct record young = record_of(900, 1), old = record_of(901, 1), both = record_of(902, 1);
	struct record a[] = {old, both}, b[] = {both, young};
	unsigned int removed;
	double before;

	strcpy(a[0].comm, "only-old");
	for (int i = 0; i < 40; i++)
		store(10000 + i, a, 2);
	store(500000, b, 2);
	store(500001, b, 2);
	before = ask("SELECT count(*) FROM snapshot WHERE time < 400000");
	tap_eq(db_prune(db, 400000, &removed), 0, "old snapshots are removed");
	tap_eq(removed, before, "as many as there were");
	tap_eq(ask("SELECT count(*) FROM snapshot"), 2, "the young ones stay");
	tap_eq(ask("SELECT count(*) FROM process_sample"), 4, "with their samples");
	tap_eq(ask("SELECT count(*) FROM sample WHERE snapshot NOT IN (SELECT id FROM snapshot)"), 0, "no sample is left behind");
	tap_eq(ask("SELECT count(*) FROM run_map"), 0, "nor a map");
	tap_eq(ask("SELECT count(*) FROM process"), 2, "nor a process that only they had");
	tap_eq(ask("SELECT count(*) FROM name WHERE text = 'only-old'"), 0, "nor a name");
	tap_ok(db_prune(db, 1e12, &removed) == 0 && removed == 1 && ask("SELECT max(time) FROM snapshot") == 500001,
	       "the last snapshot is never removed, whatever the clock says");
	store(500002, b, 2);
	tap_eq(ask("SELECT count(*) FROM process_sample"), 4, "and collecting goes on, with nothing removed relied upon");
	tap_ok(same_text("SELECT integrity_check FROM pragma_integrity_check", "ok"), "the database is sound");
	tap_eq(ask("SELECT count(*) FROM pragma_foreign_key_check"), 0, "and every reference leads somewhere");
}

int main(void)
{
	close(mkstemp(path));
	if (db_open(&db, path)) {
		tap_ok(false, "a database opens: %s", db_why(db));
		return tap_done();
	}
	check_columns();
	check_unknown();
	check_abort();
	check_identity();
	check_map();
	check_prune();
	db_close(db);
	unlink(path);
	return tap_done();
}
