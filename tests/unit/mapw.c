/* mapw.c - the writer: the bytes that the drawing in rle/map.h demands, whatever it is fed and wherever it writes */
#include <fcntl.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include "tests/unit/map_model.h"

static const struct rle_map_meta plain = {.split = RLE_SPLIT_PROT, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = 42, .start_ticks = 1000};

/* How runs arrive: as they are, page by page, in pieces of random length. */
enum feed { FEED_RUNS, FEED_PAGES, FEED_PIECES, NFEED };

static int feed(struct rle_mapw *w, const struct rle_run *run, enum feed how)
{
	for (uint32_t done = 0, n; done < run->npages; done += n) {
		const struct rle_run piece = {{run->vpn.n + done}, {run->pfn.n + done},
					      n = how == FEED_RUNS ? run->npages : how == FEED_PAGES ? 1 : 1 + (uint32_t)model_random(run->npages - done),
					      run->attr};
		int rc = rle_mapw_run(w, &piece, RLE_END_HOLE);

		if (rc)
			return rc;
	}
	return 0;
}

/* Into memory; NULL when it failed. */
static char *write_mem(const struct rle_map_meta *meta, const struct runs *runs, enum feed how, size_t *bytes)
{
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;

	if (rle_mapw_begin_mem(&w, meta, 1 << 20))
		return NULL;
	for (uint64_t i = 0; i < runs->n; i++) {
		if (feed(w, &runs->run[i], how))
			return NULL;
	}
	return rle_mapw_finish(w) ? NULL : rle_mapw_take(w, bytes);
}

static void test_round_trips(void)
{
	unsigned int wrong_bytes = 0, wrong_file = 0, refused = 0, wrong_pages = 0, rounds = 0;
	static struct model m, back;
	static struct runs runs, read;

	for (uint64_t seed = 1; seed <= 150; seed++) {
		for (enum rle_split split = 0; split < RLE_NSPLIT; split++) {
			struct rle_map_meta meta = plain;
			int fd = memfd_create("map", 0);
			struct rle_mapw *w = NULL;
			struct rle_map map;
			size_t want_bytes, bytes = 0;
			char *want;

			model_state = seed;
			model_fill(&m, seed & 1 ? 1000 : (UINT64_C(1) << 44) - MODEL_PAGES, 300);
			model_encode(&m, split, &runs);
			meta.split = split;
			meta.pid = seed;
			want = craft(&meta, runs.run, runs.n, &want_bytes);
			for (enum feed how = 0; how < NFEED; how++) {
				char *blob = write_mem(&meta, &runs, how, &bytes);

				wrong_bytes += !blob || bytes != want_bytes || memcmp(blob, want, bytes);
				free(blob);
			}
			rle_mapw_begin_fd(&w, &meta, fd);
			for (uint64_t i = 0; i < runs.n; i++)
				feed(w, &runs.run[i], FEED_PIECES);
			wrong_file += rle_mapw_finish(w) != 0;
			rle_mapw_free(w);
			if (rle_map_load(&map, fd, 1 << 20, false, NULL)) {
				refused++;
			} else {
				wrong_file += memcmp((const char *)map.runs - 72, want, want_bytes) != 0;
				read.n = map.nruns;
				memcpy(read.run, map.runs, map.nruns * 24);
				model_decode(&read, m.base, &back);
				for (uint64_t i = 0; i < MODEL_PAGES; i++) {
					const struct page *a = &m.page[i], *b = &back.page[i];
					const uint32_t mask = split == RLE_SPLIT_ATTR ? ~0u : split == RLE_SPLIT_PROT ? 0xf : 0;

					wrong_pages += a->present != b->present || a->pfn != b->pfn || ((a->attr ^ b->attr) & mask);
				}
				rle_map_close(&map);
			}
			free(want);
			close(fd);
			rounds++;
		}
	}
	tap_eq(rounds, 450, "random page tables under each policy");
	tap_eq(wrong_bytes, 0, "in memory: the bytes drawn in map.h, fed by runs, pages or random pieces");
	tap_eq(wrong_file, 0, "in a file: the same bytes");
	tap_eq(refused, 0, "every map written opens");
	tap_eq(wrong_pages, 0, "and holds the page table it was made of");
}

/* More than one chunk and one doubling, and a file that was longer before. */
static void test_large(void)
{
	const uint64_t n = 5000;
	struct rle_run *run = calloc(n, sizeof(*run));
	int fd = memfd_create("map", 0);
	struct rle_mapw *w = NULL;
	size_t want_bytes, bytes = 0;
	char *want, *blob, *file;
	int rc = 0;

	if (!run || ftruncate(fd, 1 << 20))
		abort();
	for (uint64_t i = 0; i < n; i++)
		run[i] = (struct rle_run){{2 * i}, {7 * i}, 1, RLE_ATTR_READ};
	want = craft(&plain, run, n, &want_bytes);
	file = malloc(want_bytes + 1);

	rle_mapw_begin_fd(&w, &plain, fd);
	for (uint64_t i = 0; i < n; i++)
		rc |= rle_mapw_run(w, &run[i], RLE_END_HOLE);
	if (!file || pread(fd, file, 72, 0) != 72)
		abort();
	tap_ok(!rc && !memcmp(file, (char[72]){0}, 72), "until it is finished a file has no header");
	rc = rle_mapw_finish(w);
	tap_ok(!rc && pread(fd, file, want_bytes + 1, 0) == (ssize_t)want_bytes && !memcmp(file, want, want_bytes),
	       "5000 runs over a longer file: the same bytes, and no more");
	tap_eq(rle_mapw_run(w, &run[0], RLE_END_HOLE), -EALREADY, "a finished writer takes no more runs");
	tap_ok(!rle_mapw_take(w, &bytes), "a writer to a file has no blob to take");
	rle_mapw_free(w);

	rle_mapw_begin_mem(&w, &plain, want_bytes);
	for (uint64_t i = 0; i < n; i++)
		rc |= rle_mapw_run(w, &run[i], RLE_END_HOLE);
	tap_ok(!rle_mapw_take(w, &bytes), "an unfinished writer has no blob to take");
	rc |= rle_mapw_finish(w);
	blob = rle_mapw_take(w, &bytes);
	tap_ok(!rc && blob && bytes == want_bytes && !memcmp(blob, want, bytes), "5000 runs in memory, the limit met exactly");
	tap_ok(!rle_mapw_take(w, &bytes), "a blob is taken once");
	rle_mapw_free(w);
	free(blob);

	rle_mapw_begin_mem(&w, &plain, want_bytes - 1);
	for (uint64_t i = 0; i < n; i++)
		rle_mapw_run(w, &run[i], RLE_END_HOLE);
	tap_eq(rle_mapw_finish(w), -E2BIG, "one byte less of a limit is too little");
	tap_ok(!rle_mapw_take(w, &bytes), "and there is no blob");
	rle_mapw_free(w);
	free(file);
	free(want);
	free(run);
	close(fd);
}

static void test_refusals(void)
{
	static const struct {
		const char *what, *why;
		uint64_t vpn, pfn, npages;
		uint32_t attr;
	} wrong[] = {
		{"a run of no pages", "no pages", 20, 1, 0, 1},
		{"a run inside the one before", "before the end", 12, 90, 1, 1},
		{"a run before the one before", "before the end", 1, 1, 1, 1},
		{"a run beyond the address space", "key space", (UINT64_C(1) << 44) - 1, 1, 2, 1},
		{"a run whose end wraps around", "key space", 20, 1, UINT64_MAX, 1},
		{"a run beyond the last frame", "frame", 20, (UINT64_C(1) << 40) - 1, 2, 1},
		{"an unknown attribute", "attribute", 20, 1, 1, 1u << 7},
	};
	struct rle_map_meta meta = plain;
	struct rle_mapw *w = NULL;
	char path[] = "/tmp/dsmapXXXXXX";
	int fd;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int rc;

		rle_mapw_begin_mem(&w, &plain, 4096);
		rc = rle_mapw_add(w, (ds_vpn){10}, (ds_pfn){10}, 5, RLE_ATTR_READ);
		if (rc)
			abort();
		rc = rle_mapw_add(w, (ds_vpn){wrong[i].vpn}, (ds_pfn){wrong[i].pfn}, wrong[i].npages, wrong[i].attr);
		tap_ok(rc == -EINVAL && rle_mapw_fault(w) && strstr(rle_mapw_fault(w), wrong[i].why), "%s is not written", wrong[i].what);
		tap_eq(rle_mapw_finish(w), -EINVAL, "and what was begun cannot be finished");
		rle_mapw_free(w);
	}
	meta.key = RLE_SPACE_FRAME;
	tap_eq(rle_mapw_begin_mem(&w, &meta, 4096), -EINVAL, "a map from frames to frames is not begun");
	tap_ok(!w, "and there is no writer");
	tap_eq(rle_mapw_begin_mem(&w, &plain, 71), -E2BIG, "a limit below a header is refused");
	fd = mkstemp(path);
	if (fd < 0)
		abort();
	unlink(path);
	fcntl(fd, F_SETFL, O_APPEND);
	tap_eq(rle_mapw_begin_fd(&w, &plain, fd), -EINVAL, "a file opened to append is refused: pwrite() would append");
	close(fd);
	tap_eq(rle_mapw_begin_fd(&w, &plain, fd), -EBADF, "a closed descriptor is refused");
}

/* The disk is full: RLIMIT_FSIZE makes write fail with EFBIG in the same way. */
static void test_full_disk(void)
{
	const struct rlimit small = {.rlim_cur = 20000, .rlim_max = RLIM_INFINITY};
	char path[] = "/tmp/dsmapXXXXXX";
	struct rle_mapw *w = NULL;
	struct rlimit before;
	struct rle_map map;
	int fd = mkstemp(path), rc;

	if (fd < 0)
		abort();
	unlink(path);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &before);
	setrlimit(RLIMIT_FSIZE, &small);
	rle_mapw_begin_fd(&w, &plain, fd);
	for (uint64_t i = 0; i < 5000; i++)
		rle_mapw_add(w, (ds_vpn){2 * i}, (ds_pfn){7 * i}, 1, RLE_ATTR_READ);
	rc = rle_mapw_finish(w);
	setrlimit(RLIMIT_FSIZE, &before);
	tap_eq(rc, -EFBIG, "a write that fails half-way is reported at the end, whoever looked at the calls between");
	tap_eq(rle_map_load(&map, fd, 1 << 20, true, NULL), -EBADMSG, "and what is in the file is not a map");
	rle_mapw_free(w);
	close(fd);
}

/* The same lists as tests/golden/make-golden.py, which knows nothing of this code. */
#define GOLDEN_MOST RLE_RUN_MAX_PAGES
static const struct {
	const char *name;
	struct rle_map_meta meta;
	struct runs runs;
} golden[] = {
	{"empty.map", {RLE_SPLIT_VPN_PFN, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 7, 99}, {.n = 0}},
	{"paper.map", {RLE_SPLIT_PROT, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 42, 1000}, {1, {{{1}, {5}, 3, RLE_ATTR_READ | RLE_ATTR_WRITE}}}},
	{"attributes.map",
	 {RLE_SPLIT_ATTR, RLE_SPACE_VIRTUAL, RLE_SPACE_FRAME, 4194304, UINT64_C(1) << 40},
	 {6,
	  {{{0x400}, {0x1000}, 16, RLE_ATTR_READ | RLE_ATTR_EXEC | RLE_ATTR_FILE | RLE_ATTR_JOINED},
	   {{0x410}, {0x1010}, 4, RLE_ATTR_READ | RLE_ATTR_WRITE | RLE_ATTR_ANON | RLE_ATTR_JOINED},
	   {{0x500}, {2}, 1, RLE_ATTR_READ | RLE_ATTR_ZERO | RLE_ATTR_JOINED},
	   {{0x501}, {2}, 1, RLE_ATTR_READ | RLE_ATTR_ZERO | RLE_ATTR_JOINED},
	   {{0x7f0000000}, {0x80000}, 512, RLE_ATTR_READ | RLE_ATTR_WRITE | RLE_ATTR_MAY_SHARE | RLE_ATTR_ANON | RLE_ATTR_THP | RLE_ATTR_JOINED},
	   {{DS_USER_VPN_END - 1}, {DS_PFN_END - 1}, 1, RLE_ATTR_READ}}}},
	{"ram.map",
	 {RLE_SPLIT_VPN_PFN, RLE_SPACE_FRAME, RLE_SPACE_FILE, 0, 0},
	 {3,
	  {{{0}, {0}, 0xc0000, 0},
	   {{0x100000}, {0xc0000}, GOLDEN_MOST, 0},
	   {{UINT64_C(0x100000) + GOLDEN_MOST}, {UINT64_C(0xc0000) + GOLDEN_MOST}, 1000, 0}}}},
};

static void test_golden(void)
{
	for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
		const struct rle_map_meta *meta = &golden[i].meta;
		struct rle_map_err err = {.why = "cannot be opened"};
		char path[128], file[4096];
		struct rle_map map = {0};
		size_t bytes = 0;
		ssize_t file_bytes;
		char *blob;
		int fd;

		snprintf(path, sizeof(path), "tests/golden/%s", golden[i].name);
		fd = open(path, O_RDONLY);
		file_bytes = fd < 0 ? -1 : pread(fd, file, sizeof(file), 0);
		if (!tap_ok(fd >= 0 && !rle_map_load(&map, fd, sizeof(file), false, &err) && map.nruns == golden[i].runs.n &&
				    !memcmp(map.runs, golden[i].runs.run, 24 * map.nruns) && map.meta.split == meta->split &&
				    map.meta.key == meta->key && map.meta.space == meta->space && map.meta.pid == meta->pid &&
				    map.meta.start_ticks == meta->start_ticks,
			    "golden %s of version 1 is read", golden[i].name))
			printf("# %s\n", err.why);
		blob = write_mem(meta, &golden[i].runs, FEED_RUNS, &bytes);
		tap_ok(blob && (ssize_t)bytes == file_bytes && !memcmp(blob, file, bytes), "golden %s is written byte for byte", golden[i].name);
		free(blob);
		rle_map_close(&map);
		if (fd >= 0)
			close(fd);
	}
}

/* A range of a VM's memory may be longer than a run: the writer cuts it as the golden map has it. */
static void test_long_range(void)
{
	const struct rle_map_meta *meta = &golden[3].meta;
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;
	size_t bytes = 0;
	char *blob;
	struct rle_map map;
	int rc;

	rle_mapw_begin_mem(&w, meta, 4096);
	rc = rle_mapw_add(w, (ds_vpn){0}, (ds_pfn){0}, 0x80000, 0);
	rc |= rle_mapw_add(w, (ds_vpn){0x80000}, (ds_pfn){0x80000}, 0x40000, 0);
	rc |= rle_mapw_add(w, (ds_vpn){0x100000}, (ds_pfn){0xc0000}, UINT64_C(1000) + GOLDEN_MOST, 0);
	rc |= rle_mapw_finish(w);
	blob = rle_mapw_take(w, &bytes);
	rc |= rle_map_open(&map, blob, bytes, NULL);
	tap_ok(!rc && map.nruns == 3 && !memcmp(map.runs, golden[3].runs.run, 72), "a range beyond 2^32 pages becomes the longest runs there are");
	tap_ok(!rc && rle_map_covered(&map, (ds_vpn){0x100000}, UINT64_MAX) == UINT64_C(1000) + GOLDEN_MOST,
	       "and is found covered from end to end");
	free(blob);
}

int main(void)
{
	test_round_trips();
	test_large();
	test_refusals();
	test_full_disk();
	test_golden();
	test_long_range();
	return tap_done();
}
