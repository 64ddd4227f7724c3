/* stats.h - what the runs of one process (or many) look like
 *
 * Theory of operation
 *
 * Every number here is a function of how many runs of which length there are, so the state is a histogram of
 * lengths: one counter a length up to RLE_STATS_EXACT pages, and beyond that 256 counters an octave together with
 * the pages in them.  Memory is constant whatever the process maps; a length beyond the exact part is known to
 * 0.4 %, and a cover figure whose limit falls into such a class to that class's spread.
 * Blocks aligned in VPN and PFN are counted run by run, exactly.
 */
#ifndef RLE_STATS_H
#define RLE_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "rle/run.h"

#define RLE_STATS_EXACT 4096 /* lengths up to this have a counter each */
#define RLE_STATS_OCTAVE 256 /* classes an octave beyond */
#define RLE_STATS_COARSE ((32 - 12) * RLE_STATS_OCTAVE)
#define RLE_STATS_NLOG2 32

/** enum rle_size - The page sizes that runs are measured against. */
enum rle_size { RLE_64K, RLE_2M, RLE_1G, RLE_NSIZE };

/** struct rle_stats - Zero it (or rle_stats_reset()) before use; read the derived part after rle_stats_finish(). */
struct rle_stats {
	/* kept run by run */
	uint32_t exact[RLE_STATS_EXACT + 1];
	uint32_t coarse[RLE_STATS_COARSE];
	uint64_t coarse_pages[RLE_STATS_COARSE];
	uint32_t exact_end, coarse_end;	 /* class behind the highest in use */
	uint64_t aligned[RLE_NSIZE];	 /* pages in whole blocks of that size, aligned in VPN and PFN both */
	/* derived */
	uint64_t runs, pages;
	uint64_t log2_runs[RLE_STATS_NLOG2];  /* [i]: runs of 2^i to 2^(i+1)-1 pages */
	uint64_t log2_pages[RLE_STATS_NLOG2]; /* [i]: pages in them */
	uint64_t in_size[RLE_NSIZE];	      /* pages in runs of at least that size */
};

/** rle_stats_reset() - Make ready for another process; costs what was used, not what there is. */
void rle_stats_reset(struct rle_stats *s);

/** rle_stats_run() - Count one run. */
void rle_stats_run(struct rle_stats *s, const struct rle_run *run);

/** rle_stats_take() - rle_stats_run() as a rle_run_fn: @stats is the struct rle_stats.  Return: 0. */
int rle_stats_take(void *stats, const struct rle_run *run, enum rle_end end);

/** rle_stats_finish() - Derive the rest; more runs may be added and this called again. */
void rle_stats_finish(struct rle_stats *s);

/**
 * rle_stats_cover() - How few runs hold that much of the pages, longest first
 * @s: the statistics, finished
 * @permille: of all pages, 0 to 1000
 *
 * Return: number of runs; 0 if there are no pages.
 */
uint64_t rle_stats_cover(const struct rle_stats *s, unsigned int permille);

#endif
