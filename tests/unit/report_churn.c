/* report_churn - which maps make a pair, what a pair counts, which maps and rows of pairs are refused */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "analysis/churncsv.h"
#include "analysis/churnstat.h"
#include "rle/mapw.h"
#include "tests/tap.h"

#define R(v, p, n) {.vpn = {v}, .pfn = {p}, .npages = n}
#define NMAPS 16

/* Two boots of a host, their snapshots mixed: 0 2 3 5 are of the first, 1 4 of the second. */
static struct dataset_snapshot snapshot[] = {{.boot = 0, .time_s = 100}, {.boot = 1, .time_s = 110}, {.boot = 0, .time_s = 120},
					     {.boot = 0, .time_s = 150}, {.boot = 1, .time_s = 160}, {.boot = 0, .time_s = 190}};
static struct dataset_process process[] = {{.pid = 10, .start_ticks = 7}, {.pid = 10, .start_ticks = 8}, {.pid = 11, .start_ticks = 9}};
static const struct dataset data = {.snapshot = snapshot, .nsnapshots = 6, .process = process, .nprocesses = 3, .boots = {.n = 2}};

static void *blob[NMAPS];
static size_t blob_bytes[NMAPS];
static int gone = -1; /* map that cannot be had any more */
static unsigned int fetched[NMAPS];

static void make(int map, struct rle_map_meta meta, const struct rle_run *run, size_t n)
{
	struct rle_mapw *w;
	bool good = rle_mapw_begin_mem(&w, &meta, 1 << 20) == 0;

	for (size_t i = 0; i < n; i++)
		good = good && rle_mapw_run(w, &run[i], RLE_END_HOLE) == 0;
	good = good && rle_mapw_finish(w) == 0;
	free(blob[map]);
	blob[map] = good ? rle_mapw_take(w, &blob_bytes[map]) : NULL;
	rle_mapw_free(w);
	if (!blob[map])
		tap_ok(false, "map %d can be made", map);
}

static struct rle_map_meta of(int p)
{
	return (struct rle_map_meta){.split = RLE_SPLIT_VPN_PFN, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME,
				     .pid = (uint64_t)process[p].pid, .start_ticks = (uint64_t)process[p].start_ticks};
}
#define MAKE(map, p, ...)                                                                                                        \
	make(map, of(p), (const struct rle_run[]){__VA_ARGS__}, sizeof((const struct rle_run[]){__VA_ARGS__}) / sizeof(struct rle_run))

static int load(void *ctx, const struct churn_ref *ref, struct rle_map *map, struct rle_map_err *why)
{
	(void)ctx;
	fetched[ref->map]++;
	return ref->map == gone ? -ENOENT : rle_map_open_copy(map, blob[ref->map], blob_bytes[ref->map], why);
}

/* Pairs of process 0 with a map in each snapshot given, in the order given; map i belongs to snapshot i. */
static struct churn pairs_of(int p, const unsigned int *at, size_t n)
{
	struct churn c = {0};
	struct churn_ref ref[NMAPS];

	for (size_t i = 0; i < n; i++)
		ref[i] = (struct churn_ref){.process = (uint32_t)p, .snapshot = at[i], .map = at[i]};
	memset(fetched, 0, sizeof(fetched));
	if (churn_compute(&c, &data, ref, n, load, NULL, NULL) < 0)
		tap_ok(false, "pairs can be made");
	return c;
}
#define PAIRS(p, ...) pairs_of(p, (const unsigned int[]){__VA_ARGS__}, sizeof((const unsigned int[]){__VA_ARGS__}) / sizeof(unsigned int))

static bool counts(const struct churn_pair *p, uint64_t removed, uint64_t added, uint64_t moved, uint64_t changes)
{
	return p->pages[CHURN_REMOVED] == removed && p->pages[CHURN_ADDED] == added && p->pages[CHURN_MOVED] == moved && p->changes == changes;
}

static void test_pairing(void)
{
	struct churn c;

	MAKE(0, 0, R(100, 1000, 10), R(200, 2000, 4));
	MAKE(2, 0, R(100, 1000, 10), R(200, 2000, 4));
	MAKE(3, 0, R(100, 1000, 10), R(200, 2000, 4), R(204, 5000, 3));
	/* 100 to 102 leave, 103 to 109 stay, 200 and 201 move together, 202 to 206 stay, 300 comes */
	MAKE(5, 0, R(103, 1003, 7), R(200, 9000, 2), R(202, 2002, 2), R(204, 5000, 3), R(300, 1, 1));
	c = PAIRS(0, 5, 0, 3, 2);
	tap_eq(c.n, 3, "four snapshots of a boot make three pairs, also when another boot's lie between them and none is in order");
	if (c.n == 3) {
		tap_ok(c.pair[0].seconds == 20 && c.pair[1].seconds == 30 && c.pair[2].seconds == 40, "each with its interval");
		tap_ok(counts(&c.pair[0], 0, 0, 0, 0) && churn_share(&c.pair[0]) == 0, "nothing changed: nothing counted");
		tap_ok(counts(&c.pair[1], 0, 3, 0, 1) && c.pair[1].pages_before == 14 && c.pair[1].pages_after == 17 && c.pair[1].runs_after == 3,
		       "three pages added at once");
		tap_ok(counts(&c.pair[2], 3, 1, 2, 3) && churn_share(&c.pair[2]) == 6.0 / 18, "three removed, one added, two moved: three changes, 6 of 18 pages");
	}
	tap_eq(c.processes, 1, "all of one process");
	churn_free(&c);
	c = PAIRS(0, 0, 3, 5);
	tap_ok(c.n == 1 && c.pair[0].seconds == 40 && !fetched[0], "a snapshot without a map: no pair across it, the map alone before it is not fetched");
	churn_free(&c);
	gone = 2;
	c = PAIRS(0, 0, 2, 3, 5);
	tap_ok(c.n == 1 && c.bad == 0, "a map that cannot be had any more is a gap and no bad map");
	churn_free(&c);
	gone = -1;
	c = PAIRS(0, 3);
	tap_ok(c.n == 0 && c.processes == 0, "one map is no pair");
	churn_free(&c);
	c = pairs_of(0, NULL, 0);
	tap_eq(c.n, 0, "nor is none");
	churn_free(&c);
}

/* A PID that came back is another process; an exec keeps PID and start and changes everything. */
static void test_identity(void)
{
	struct churn_ref ref[] = {{.process = 0, .snapshot = 0, .map = 0}, {.process = 2, .snapshot = 2, .map = 3}, {.process = 2, .snapshot = 0, .map = 2}};
	struct churn c = {0};

	MAKE(0, 0, R(1, 1, 1));
	MAKE(2, 2, R(100, 1000, 10), R(200, 2000, 4));
	MAKE(3, 2, R(100, 7000, 2), R(900, 2000, 4), R(990, 1, 1));
	tap_ok(churn_compute(&c, &data, ref, 3, load, NULL, NULL) == 0 && c.n == 1 && c.processes == 1, "maps of two processes are no pair");
	tap_ok(c.n == 1 && counts(&c.pair[0], 12, 5, 2, 5) && churn_share(&c.pair[0]) == 1, "after an exec everything is removed, moved or added");
	churn_free(&c);
	make(2, of(2), NULL, 0);
	make(3, of(2), NULL, 0);
	c = (struct churn){0};
	tap_ok(churn_compute(&c, &data, ref, 3, load, NULL, NULL) == 0 && c.n == 1 && counts(&c.pair[0], 0, 0, 0, 0) && isnan(churn_share(&c.pair[0])),
	       "two empty maps are a pair without a share");
	churn_free(&c);
}

static void test_refused(void)
{
	struct rle_map_meta by_prot = of(0), of_file = of(0);
	struct churn c;

	for (int i = 0; i < 6; i++)
		MAKE(i, 0, R(100, 1000, 10));
	((unsigned char *)blob[2])[80] ^= 1;
	c = PAIRS(0, 0, 2, 3, 5);
	tap_ok(c.n == 1 && c.pair[0].seconds == 40 && c.bad == 1, "a damaged map makes no pair with either neighbour, the others go on");
	tap_ok(c.first_bad.map == 2 && c.why.why && *c.why.why, "it is named with its reason: %s", c.why.why ? c.why.why : "none");
	churn_free(&c);
	blob_bytes[5] = 60;
	c = PAIRS(0, 0, 2, 3, 5);
	tap_ok(c.n == 0 && c.bad == 2 && c.first_bad.map == 2, "two of them: counted, the first kept");
	churn_free(&c);
	MAKE(2, 1, R(100, 1000, 10));
	c = PAIRS(0, 0, 2);
	tap_ok(c.n == 0 && c.bad == 1 && strstr(c.why.why, "another process"), "the map of another process with the same PID is refused");
	churn_free(&c);
	by_prot.split = RLE_SPLIT_PROT;
	make(2, by_prot, NULL, 0);
	c = PAIRS(0, 0, 2);
	tap_ok(c.n == 0 && c.bad == 1, "so is one that is split otherwise");
	churn_free(&c);
	of_file.space = RLE_SPACE_FILE;
	make(2, of_file, NULL, 0);
	c = PAIRS(0, 0, 2);
	tap_ok(c.n == 0 && c.bad == 1, "and one that leads elsewhere");
	churn_free(&c);
}

static void test_stat(void)
{
	struct churn c = {.processes = 2};
	struct churn_stat s;

	/* changes 0 0 1 4, of 1 0 2 4 runs afterwards */
	churn_add(&c, &(struct churn_pair){.seconds = 1, .pages_before = 5, .pages_after = 5, .runs_before = 1, .runs_after = 1});
	churn_add(&c, &(struct churn_pair){.seconds = 3});
	churn_add(&c, &(struct churn_pair){.seconds = 2, .pages_before = 5, .pages_after = 5, .runs_before = 1, .runs_after = 2, .pages = {0, 0, 2}, .changes = 1});
	churn_add(&c, &(struct churn_pair){.seconds = 9, .pages_before = 4, .pages_after = 6, .runs_before = 1, .runs_after = 4, .pages = {3, 5, 0}, .changes = 4});
	if (churn_stat_compute(&s, &c) < 0)
		tap_ok(false, "statistics");
	tap_ok(s.pairs == 4 && s.same == 2 && s.without[CHURN_REMOVED] == 3 && s.without[CHURN_ADDED] == 3 && s.without[CHURN_MOVED] == 3, "pairs without a change, and without each kind");
	tap_ok(s.pages[CHURN_REMOVED] == 3 && s.pages[CHURN_ADDED] == 5 && s.pages[CHURN_MOVED] == 2 && s.changes == 5, "sums");
	tap_ok(s.var[CHURN_VAR_SECONDS].q[P50] == 2 && s.var[CHURN_VAR_CHANGES].q[P50] == 0 && s.var[CHURN_VAR_CHANGES].q[P75] == 1 && s.var[CHURN_VAR_PAGES].q[P100] == 8, "quantiles");
	tap_ok(s.var[CHURN_VAR_SHARE].n == 3 && s.var[CHURN_VAR_SHARE].q[P100] == 8.0 / 9 && s.var[CHURN_VAR_PER_RUN].n == 3 && s.var[CHURN_VAR_PER_RUN].q[P100] == 1,
	       "an empty pair has no share and no changes for each run");
	churn_stat_free(&s);
	churn_free(&c);
}

#define HEADER "host,pid,start_ticks,comm,time,seconds,pages_before,pages_after,runs_before,runs_after,removed,added,moved,changes\n"

static int read_text(const char *text, struct churn *c)
{
	char path[] = "/tmp/report_churn.XXXXXX";
	int fd = mkstemp(path), rc = -EIO;
	struct errmsg e;

	*c = (struct churn){0};
	if (fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text))
		rc = churn_csv_read(c, path, &e);
	close(fd);
	unlink(path);
	return rc;
}

static void test_csv(void)
{
	static const char *const bad[] = {
		"", "host,pid\n", HEADER "h,1,2,c,5,1,10,10,1,1,0,0,0\n", HEADER "h,1,2,c,5,1,10,10,1,1,0,0,0,0,0\n", HEADER "h,1,2,c,5,1,10,10,1,1,0,0,0,-1\n",
		HEADER "h,1,2,c,5,1,10,10,1,1,0,0,0,x\n", HEADER "h,1,2,c,5,nan,10,10,1,1,0,0,0,0\n", HEADER "h,1,2,c,5,0,10,10,1,1,0,0,0,0\n",
		HEADER "h,1,2,c,5,1,10,11,1,1,0,0,0,0\n" /* where is the eleventh from */, HEADER "h,1,2,c,5,1,10,10,1,1,6,6,5,3\n" /* 11 of 10 pages */,
		HEADER "h,1,2,c,5,1,10,10,11,1,0,0,0,0\n", HEADER "h,1,2,c,5,1,10,10,1,1,0,0,2,3\n", HEADER "h,1,2,c,5,1,10,10,1,1,0,0,2,0\n",
		HEADER "h,1,2,c,5,1,99999999999999999999,10,1,1,0,0,0,0\n", HEADER "h,1,2,\"c,5,1,10,10,1,1,0,0,0,0\n", HEADER "h,1,2,c,5,1,10,10,0,1,0,0,0,0\n",
	};
	struct churn c;
	size_t taken = 0;
	int rc = read_text(HEADER "\"h,1\",1,2,\"say \"\"hi\"\"\nto\",5,0.5,10,9,3,2,2,1,4,3\nh,1,2,c,5,1,9,9,2,2,0,0,0,0\r\n", &c);

	tap_ok(rc == 0 && c.n == 2 && c.processes == 2, "rows of pairs are read, quoted names with commas and line ends too");
	tap_ok(rc == 0 && c.pair[0].seconds == 0.5 && c.pair[0].pages_before == 10 && c.pair[0].runs_after == 2 && counts(&c.pair[0], 2, 1, 4, 3), "every number in its place");
	churn_free(&c);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (read_text(bad[i], &c) != -EINVAL) {
			printf("# taken: file %zu\n", i);
			taken++;
		}
		churn_free(&c);
	}
	tap_eq(taken, 0, "%zu files that are not of the form, or in which a pair cannot be, are refused", sizeof(bad) / sizeof(bad[0]));
	tap_eq(read_text(HEADER, &c), -ENODATA, "a header alone holds no pair");
	churn_free(&c);
}

int main(void)
{
	test_pairing();
	test_identity();
	test_refused();
	test_stat();
	test_csv();
	for (int i = 0; i < NMAPS; i++)
		free(blob[i]);
	return tap_done();
}
