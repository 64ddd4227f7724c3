/* summary.h - what a report says, as numbers
 *
 * Computed once from a dataset; text, JSON, page and figures only choose and format.  A group is all samples, or those
 * of one host; with a single host there is only the first.
 *
 * The unit is the sample: one process in one snapshot, as in the paper ("statistics of >770,000 processes" are 19 days
 * of snapshots).  Samples of the same process resemble each other, so a correlation over all of them has far fewer
 * independent observations than terms; the one over the latest sample of each process, and the correlation of a
 * process's ratio with its own previous one, say how far.
 */
#ifndef ANALYSIS_SUMMARY_H
#define ANALYSIS_SUMMARY_H

#include "analysis/dataset.h"

/** Percentiles in every table. */
#define SUMMARY_PERCENTS {50, 75, 90, 95, 99, 100}
#define SUMMARY_NPERCENTS 6
enum { P50, P75, P90, P95, P99, P100 };
extern const unsigned int summary_percent[SUMMARY_NPERCENTS];

/** vm.max_map_count of a stock kernel: DEFAULT_MAX_MAP_COUNT, include/linux/mm.h.  A process can hold as many maps. */
#define SUMMARY_MAX_MAPS 65530
/** "fewer than 6,000 mmap()s" (paper, end of Section III). */
#define SUMMARY_PAPER_MAPS 6000

enum summary_var {
	VAR_RAW,	  /* pte_present: the paper's raw page table entries */
	VAR_RUNS,	  /* the paper's mmap entries */
	VAR_RATIO,	  /* runs / pte_present, where there are present pages */
	VAR_RATIO_MAPPED, /* runs / pages_mapped */
	VAR_RUNS_PROT,
	VAR_RUNS_ATTR,
	VAR_COVER,	  /* NCOVERS of them */
	NVARS = VAR_COVER + NCOVERS
};
#define SUMMARY_NKEPT 3 /* the first so many keep their values, sorted, for the figures */

struct summary_quantiles {
	size_t n; /* samples that have the value */
	double q[SUMMARY_NPERCENTS];
};

struct summary_group {
	const char *name; /* host; "all" for the first group */
	struct dataset_totals t;
	size_t processes;
	struct summary_quantiles var[NVARS];
	double *sorted[SUMMARY_NKEPT];
	size_t nsorted[SUMMARY_NKEPT];
	double corr;		 /* ratio with size, over all samples with a ratio */
	double corr_log;	 /* ratio with log10(size), over the same */
	double corr_latest;	 /* ratio with size, over the latest sample of each process */
	size_t nlatest;
	double lag;		 /* a process's ratio with its ratio in its previous sample */
	size_t nlag;
	size_t within_paper;	 /* samples with fewer than SUMMARY_PAPER_MAPS runs */
	size_t beyond_limit;	 /* samples with more than SUMMARY_MAX_MAPS runs */
};

/** struct summary_process - A process in a list, shown by one of its samples. */
struct summary_process {
	const struct dataset_sample *sample; /* its sample with most runs, or the highest ratio */
	size_t samples;
};

struct summary_list {
	struct summary_process *p;
	size_t n;	/* in the list */
	size_t total;	/* that qualify */
};

/** struct summary_moment - A snapshot in the time series. */
struct summary_moment {
	uint32_t host;
	double time_s;
	uint64_t samples, pages, runs;
	double ratio_p50, ratio_p95; /* NaN without a ratio */
};

struct churn_stat;

struct summary {
	const struct dataset *d;
	const struct churn_stat *churn; /* the caller's, put in after summary_compute(); NULL where there are no pairs of maps */
	struct summary_group *group; /* [0] all, then one a host when there are several */
	size_t ngroups;
	double first_s, last_s;
	size_t boots;
	uint64_t seen, skipped[NSKIPS];
	struct summary_list by_runs, by_ratio, beyond;
	struct summary_moment *moment; /* by host, then time */
	size_t nmoments;
};

/**
 * summary_compute() - Compute everything
 * @s: result, to be given to summary_free(); refers to @d
 * @d: dataset with at least one snapshot
 * @top: length of the lists by_runs and by_ratio; beyond is always whole
 *
 * Return: 0 or -ENOMEM.
 */
int summary_compute(struct summary *s, const struct dataset *d, size_t top);

/** summary_free() - Free what the summary holds. */
void summary_free(struct summary *s);

/**
 * summary_lists() - The part of summary_compute() that ranks processes
 *
 * Order: runs (or ratio), then pages, then host, PID and start, so that no two processes are equal.
 * Return: 0 or -ENOMEM.
 */
int summary_lists(struct summary *s, size_t top);

/** summary_ratio() - runs / pte_present; NaN for a sample without pages. */
double summary_ratio(const struct dataset_sample *x);

#endif
