/* dataset.h - the samples of a report in memory
 *
 * Snapshots lie in order of (time, host, boot), the samples of a snapshot behind each other in order of
 * (pid, start_ticks): what is computed from a dataset does not depend on the order in which databases were named.
 *
 * A sample keeps what order statistics need, about 120 bytes; everything that is only summed is summed on the way in,
 * a host at a time.  1.25 million samples take about 150 MB.
 *
 * Only samples with status "ok" are kept; others are counted by status.
 */
#ifndef ANALYSIS_DATASET_H
#define ANALYSIS_DATASET_H

#include <stdbool.h>

#include "analysis/dbread.h"
#include "analysis/hist.h"
#include "analysis/intern.h"

enum {
	COVER_50,
	COVER_90,
	COVER_95,
	COVER_99,
	COVER_100,
	NCOVERS
};

/** struct dataset_sample - One process in one snapshot. */
struct dataset_sample {
	uint64_t pte_present, runs;
	int64_t pages_mapped, runs_prot, runs_attr, cover[NCOVERS]; /* COLUMN_NULL where unknown */
	uint32_t process, comm, cgroup, uid;			    /* ids in dataset; uid: INTERN_NONE where unknown */
	uint32_t snapshot;
};

/** struct dataset_process - A process over its life. */
struct dataset_process {
	uint32_t host;
	int64_t pid, start_ticks;
};

struct dataset_snapshot {
	uint32_t host, boot, settings;
	double time_s;
	size_t first, n; /* its samples */
};

/** struct dataset_totals - Sums over samples. */
struct dataset_totals {
	size_t samples;			   /* status ok */
	size_t empty;			   /* of these, without a present page: they have no ratio */
	uint64_t sum[NCOLUMNS];
	size_t known[NCOLUMNS];		   /* samples in which the column is not NULL */
	uint64_t pages_known[NCOLUMNS];	   /* their pte_present: what sum[] is a share of */
	struct hist hist_runs, hist_pages;
	size_t hist_samples;
};

/** struct dataset_settings - The settings under which snapshots of a host were taken; one for each combination. */
struct dataset_settings {
	uint32_t host, kernel, tool, join_mode, thp_enabled, thp_defrag, thp_shmem, mthp; /* names; INTERN_NONE: unknown */
	int64_t page_bytes, mem_total_bytes, ksm_run, hugetlb_total, max_map_count;
};

struct dataset_settings_use {
	struct dataset_settings s;
	size_t snapshots;
	double first_s, last_s;
};

struct dataset_host {
	uint32_t name;
	size_t snapshots, boots;
	double first_s, last_s;
	uint64_t seen, sampled, skipped[NSKIPS];
	double distinct_pages_sum; /* over the snapshots that counted them */
	size_t distinct_known;
	struct dataset_totals t;
};

struct dataset {
	struct intern names, boots, process_keys, settings_keys, statuses;
	struct dataset_host *host; /* in order of name */
	size_t nhosts, hosts_cap;
	struct dataset_process *process;
	size_t nprocesses, processes_cap;
	struct dataset_settings_use *settings;
	size_t nsettings, settings_cap;
	struct dataset_snapshot *snapshot;
	size_t nsnapshots, snapshots_cap;
	struct dataset_sample *sample;
	size_t nsamples, samples_cap;
	size_t duplicates;	   /* snapshots left out because another database had them too */
	size_t *status_count;	   /* [id in statuses] samples, other than ok ones, with that status */
	size_t status_cap;

	/* the snapshot begun, until it is committed or abandoned */
	struct dataset_totals pending;
	size_t *status_pending;	   /* [id in statuses] */
	size_t pending_cap;
};

/** dataset_host_id() - The number of a host; call in order of name, before its first snapshot.  Return: 0, -ENOMEM. */
int dataset_host_id(struct dataset *d, const char *name, uint32_t *id);

/**
 * dataset_begin() - Begin a snapshot; its samples follow with dataset_add()
 * @d: dataset
 * @s: snapshot of a host known to dataset_host_id()
 *
 * Return: 0 or -ENOMEM.
 */
int dataset_begin(struct dataset *d, const struct dbread_snapshot *s);

/**
 * dataset_add() - Add a sample to the snapshot begun
 *
 * Return: 0, -ENOMEM, -EINVAL for a sample that is ok but lacks its counts, has more runs than pages or a histogram
 * that cannot be read.
 */
int dataset_add(struct dataset *d, const struct dbread_sample *s);

/** dataset_abandon() - Take the snapshot begun last out again, with its samples: it could not be read whole. */
void dataset_abandon(struct dataset *d);

/** dataset_commit() - The snapshot begun is whole: count it. */
void dataset_commit(struct dataset *d, const struct dbread_snapshot *s);

/** dataset_name() - Text of a name; "" for INTERN_NONE. */
const char *dataset_name(const struct dataset *d, uint32_t id);

/** dataset_totals_add() - Add one sum to another. */
void dataset_totals_add(struct dataset_totals *to, const struct dataset_totals *from);

/** dataset_free() - Free what the dataset holds. */
void dataset_free(struct dataset *d);

#endif
