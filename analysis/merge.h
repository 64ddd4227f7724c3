/* merge.h - from databases to one dataset
 *
 * All databases are opened, their snapshots listed and put in order of (time, host, boot); a snapshot that is there
 * twice, equal in these three, is read once.  Then the samples are read snapshot by snapshot in that order, filtered,
 * and handed to the dataset and, where wanted, to the CSV.  Last, while the databases are still open, the maps that
 * they hold are fetched, two at a time, and compared (churn.h).
 *
 * A database that cannot be opened is left out; one that fails on the way keeps the whole snapshots read before.  Each
 * such failure is a problem in the list; the caller says them and decides what they mean.
 */
#ifndef ANALYSIS_MERGE_H
#define ANALYSIS_MERGE_H

#include "analysis/churn.h"
#include "analysis/filter.h"

struct merge_problems {
	struct errmsg *e;
	size_t n, cap;
};

/**
 * merge_databases() - Read databases into a dataset
 * @d: empty dataset
 * @paths: files
 * @npaths: how many
 * @f: filter; resolved here
 * @csv: where the rows go in CSV form, a snapshot at a time; NULL for none
 * @churn: pairs of maps of the samples; empty
 * @pairs: where they go in CSV form; NULL for none; errors stay in it (ferror())
 * @problems: what went wrong with single databases
 *
 * Return: 0, also when some or all databases had problems; -ENOMEM; -EIO when @csv cannot be written.
 */
int merge_databases(struct dataset *d, char *const *paths, size_t npaths, struct filter *f, FILE *csv, struct churn *churn, FILE *pairs,
		    struct merge_problems *problems);

#endif
