/* paper.h - what the paper measured, to set beside a report's own numbers
 *
 * Section III, "Evidence of map file workability": two servers, every process every 15 minutes for 19 days, kernel
 * 2.6.32.  What the paper does not give is NaN.  Sample counts are lower bounds (">770,000"), and Murphy's 99th
 * percentile of runs is given as "~88000".
 */
#ifndef ANALYSIS_PAPER_H
#define ANALYSIS_PAPER_H

#include <stddef.h>

struct paper_machine {
	const char *name, *what;
	double samples_over;		/* more than this many samples */
	double runs_p95, runs_p99;	/* mmap entries: text on Figure 2 */
	double ratio_p95, ratio_p99;	/* text on Figure 3 */
	double corr;			/* ratio and raw entries: text on Figure 4 */
};

#define PAPER_NMACHINES 2
extern const struct paper_machine paper_machine[PAPER_NMACHINES];

#endif
