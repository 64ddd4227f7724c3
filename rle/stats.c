/* stats.c - statistics of runs; theory of operation in stats.h */
#include "rle/stats.h"

#include <string.h>

static const uint64_t size_pages[RLE_NSIZE] = {
	[RLE_64K] = 16,
	[RLE_2M] = 512,
	[RLE_1G] = 262144,
};

void rle_stats_reset(struct rle_stats *s)
{
	memset(s->exact, 0, s->exact_end * sizeof(s->exact[0]));
	memset(s->coarse, 0, s->coarse_end * sizeof(s->coarse[0]));
	memset(s->coarse_pages, 0, s->coarse_end * sizeof(s->coarse_pages[0]));
	s->exact_end = s->coarse_end = 0;
	memset(s->aligned, 0, sizeof(s->aligned));
	rle_stats_finish(s);
}

static unsigned int log2_floor(uint64_t n)
{
	return 63 - (unsigned int)__builtin_clzll(n);
}

/* Class of a length > RLE_STATS_EXACT: octave, then the 8 bits below the leading one. */
static uint32_t coarse_class(uint64_t npages)
{
	unsigned int log2 = log2_floor(npages);

	return (log2 - 12) * RLE_STATS_OCTAVE + ((npages >> (log2 - 8)) & (RLE_STATS_OCTAVE - 1));
}

/*
 * Whole blocks inside a run that start on a multiple of their size in VPN and PFN at once.  Both numbers rise
 * together, so if they differ modulo the size no block is aligned in both, and otherwise every one is.
 */
static uint64_t aligned_pages(const struct rle_run *run, uint64_t size)
{
	uint64_t lead = -run->vpn.n & (size - 1);

	if ((run->vpn.n ^ run->pfn.n) & (size - 1) || run->npages < lead)
		return 0;
	return (run->npages - lead) & ~(size - 1);
}

/* Inline in both callers: with frames in random order this is called once a page. */
static inline void add(struct rle_stats *s, const struct rle_run *run)
{
	uint64_t n = run->npages;

	if (n <= RLE_STATS_EXACT) {
		s->exact[n]++;
		if (n >= s->exact_end)
			s->exact_end = n + 1;
	} else {
		uint32_t c = coarse_class(n);

		s->coarse[c]++;
		s->coarse_pages[c] += n;
		if (c >= s->coarse_end)
			s->coarse_end = c + 1;
	}
	for (int i = 0; i < RLE_NSIZE && n >= size_pages[i]; i++)
		s->aligned[i] += aligned_pages(run, size_pages[i]);
}

void rle_stats_run(struct rle_stats *s, const struct rle_run *run)
{
	add(s, run);
}

int rle_stats_take(void *stats, const struct rle_run *run, enum rle_end end)
{
	(void)end;
	add(stats, run);
	return 0;
}

static void derive(struct rle_stats *s, uint64_t runs, uint64_t pages, unsigned int log2, uint64_t shortest)
{
	s->runs += runs;
	s->pages += pages;
	s->log2_runs[log2] += runs;
	s->log2_pages[log2] += pages;
	/* Every size is a power of two, so no class straddles one. */
	for (int i = 0; i < RLE_NSIZE && shortest >= size_pages[i]; i++)
		s->in_size[i] += pages;
}

void rle_stats_finish(struct rle_stats *s)
{
	s->runs = s->pages = 0;
	memset(s->log2_runs, 0, sizeof(s->log2_runs));
	memset(s->log2_pages, 0, sizeof(s->log2_pages));
	memset(s->in_size, 0, sizeof(s->in_size));
	for (uint64_t n = 1; n < s->exact_end; n++)
		if (s->exact[n])
			derive(s, s->exact[n], s->exact[n] * n, log2_floor(n), n);
	for (uint32_t c = 0; c < s->coarse_end; c++) {
		unsigned int log2 = 12 + c / RLE_STATS_OCTAVE;

		if (s->coarse[c])
			derive(s, s->coarse[c], s->coarse_pages[c], log2, UINT64_C(1) << log2);
	}
}

/* Takes as many runs of one class as are needed; returns whether that was enough. */
static bool take(uint64_t runs, uint64_t pages, uint64_t *missing, uint64_t *taken)
{
	if (pages < *missing) {
		*missing -= pages;
		*taken += runs;
		return false;
	}
	/* runs * missing / pages, rounded up: of equal runs that is exact */
	*taken += (uint64_t)(((unsigned __int128)runs * *missing + pages - 1) / pages);
	return true;
}

uint64_t rle_stats_cover(const struct rle_stats *s, unsigned int permille)
{
	uint64_t missing = (uint64_t)(((unsigned __int128)s->pages * permille + 999) / 1000), taken = 0;

	if (!missing)
		return 0;
	for (uint32_t c = s->coarse_end; c-- > 0;)
		if (s->coarse[c] && take(s->coarse[c], s->coarse_pages[c], &missing, &taken))
			return taken;
	for (uint64_t n = s->exact_end; n-- > 1;)
		if (s->exact[n] && take(s->exact[n], s->exact[n] * n, &missing, &taken))
			return taken;
	return taken;
}
