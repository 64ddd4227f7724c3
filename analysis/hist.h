/* hist.h - histograms of run lengths, as the database stores them
 *
 * A JSON array whose element i counts the runs of 2^i to 2^(i+1)-1 pages (hist_runs), or the pages in those runs
 * (hist_pages).  Trailing zeros may be left out.
 */
#ifndef ANALYSIS_HIST_H
#define ANALYSIS_HIST_H

#include <stdint.h>

/** A run has at most 2^32 - 1 pages; twice that leaves room and bounds what a database can make the reader do. */
#define HIST_BINS 64

/** struct hist - Counts by power of two of the run length. */
struct hist {
	uint64_t bin[HIST_BINS];
};

/**
 * hist_add_json() - Parse an array and add it to a histogram
 * @h: added to; unchanged on error
 * @text: JSON array of whole numbers
 *
 * Return: 0; -EINVAL when @text is not such an array; -E2BIG when it has more than HIST_BINS elements; -ERANGE for an
 * element of 2^53 or more.
 */
int hist_add_json(struct hist *h, const char *text);

/** hist_add() - Add one histogram to another. */
void hist_add(struct hist *to, const struct hist *from);

/** hist_total() - Sum of all bins. */
uint64_t hist_total(const struct hist *h);

/** hist_used() - Number of bins up to the last that is not zero. */
unsigned int hist_used(const struct hist *h);

/**
 * hist_shorter() - What is in runs shorter than 2^@bits pages
 *
 * Exact, as 2^@bits is the edge of a bin: the distribution function is known at these points and only there.
 */
uint64_t hist_shorter(const struct hist *h, unsigned int bits);

#endif
