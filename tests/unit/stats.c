/* stats.c - the statistics against plain sorting and counting */
#include "rle/stats.h"

#include <string.h>

#include "tests/tap.h"

#define RUNS 5000

static uint64_t seed = 42;
static uint64_t rnd(uint64_t n)
{
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed % n;
}

static struct rle_stats s;
static struct rle_run run[RUNS];

static int longest_first(const void *a, const void *b)
{
	uint32_t x = ((const struct rle_run *)a)->npages, y = ((const struct rle_run *)b)->npages;

	return (x < y) - (x > y);
}

/* Pages p of the run for which the whole block of `size` around p lies in the run and starts aligned in VPN and PFN. */
static uint64_t aligned_by_page(const struct rle_run *r, uint64_t size)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < r->npages; i++) {
		uint64_t in = (r->vpn.n + i) % size;

		if (i >= in && i - in + size <= r->npages && (r->pfn.n + i - in) % size == 0)
			n++;
	}
	return n;
}

static void against_model(int lengths, const char *name)
{
	static const unsigned int permille[] = {500, 900, 950, 990, 1000, 1, 0};
	uint64_t pages = 0, in[3] = {0}, aligned[3] = {0}, log_runs[32] = {0}, log_pages[32] = {0};
	static const uint64_t size[3] = {16, 512, 262144};

	rle_stats_reset(&s);
	for (int i = 0; i < RUNS; i++) {
		uint64_t n = lengths == 0 ? 1 + rnd(40) : lengths == 1 ? 1 + rnd(4096) : 1 + rnd(UINT64_C(1) << rnd(21));

		run[i] = (struct rle_run){{rnd(1 << 20)}, {rnd(1 << 20)}, n, 0};
		if (rnd(2))
			run[i].pfn.n = run[i].vpn.n + 512 * rnd(100);
		rle_stats_run(&s, &run[i]);
		pages += n;
		int log2 = 0;

		while (n >> (log2 + 1))
			log2++;
		log_runs[log2]++;
		log_pages[log2] += n;
		for (int k = 0; k < 3; k++) {
			in[k] += n >= size[k] ? n : 0;
			if (k < 2 || n >= size[k])
				aligned[k] += aligned_by_page(&run[i], size[k]);
		}
	}
	rle_stats_finish(&s);
	qsort(run, RUNS, sizeof(run[0]), longest_first);
	tap_ok(s.runs == RUNS && s.pages == pages, "%s: runs and pages add up", name);
	tap_ok(!memcmp(s.log2_runs, log_runs, sizeof(log_runs)) && !memcmp(s.log2_pages, log_pages, sizeof(log_pages)),
	       "%s: both histograms", name);
	tap_ok(!memcmp(s.in_size, in, sizeof(in)), "%s: pages in runs of 64 KiB, 2 MiB, 1 GiB", name);
	tap_ok(!memcmp(s.aligned, aligned, sizeof(aligned)), "%s: pages in aligned blocks", name);
	for (int q = 0; q < 7; q++) {
		uint64_t need = (pages * permille[q] + 999) / 1000, have = 0, n = 0, got = rle_stats_cover(&s, permille[q]);

		while (have < need)
			have += run[n++].npages;
		/* beyond RLE_STATS_EXACT a class holds lengths within 1/256: so may the answer be off by that */
		uint64_t off = lengths == 2 ? n / 200 + 1 : 0;

		tap_ok(got >= n - (n < off ? n : off) && got <= n + off, "%s: runs to cover %u/1000 of the pages (%llu, sorted %llu)", name,
		       permille[q], (unsigned long long)got, (unsigned long long)n);
	}
}

static void reset(void)
{
	struct rle_stats zero;

	rle_stats_reset(&s);
	memset(&zero, 0, sizeof(zero));
	tap_ok(!memcmp(&s, &zero, sizeof(s)), "reset forgets everything");
	tap_eq(rle_stats_cover(&s, 1000), 0, "no pages are covered by no runs");
}

int main(void)
{
	against_model(0, "short runs");
	against_model(1, "runs up to the exact limit");
	against_model(2, "runs of up to 4 GiB");
	reset();
	return tap_done();
}
