/* churncsv.h - the pairs of maps as comma-separated rows, and back
 *
 *   host,pid,start_ticks,comm,time,seconds,pages_before,pages_after,runs_before,runs_after,removed,added,moved,changes
 *
 * One row a pair, ordered by process, then time; RFC 4180 quoting.  comm and time are the later sample's.  The rows of
 * a process follow each other, so that processes can be counted.  A file of pairs, some hundred bytes each, keeps the
 * section and the figure of a database whose maps are long gone.
 */
#ifndef ANALYSIS_CHURNCSV_H
#define ANALYSIS_CHURNCSV_H

#include <stdio.h>

#include "analysis/churn.h"

/** churn_csv_header() - Write the line of column names. */
void churn_csv_header(FILE *f);

/** churn_csv_row() - Write a pair of @d whose later sample is @ref.  Errors stay in the stream (ferror()). */
void churn_csv_row(FILE *f, const struct dataset *d, const struct churn_ref *ref, const struct churn_pair *pair);

/**
 * churn_csv_read() - Read a file of pairs
 * @c: empty; to be given to churn_free()
 * @path: file, "-" for standard input
 * @e: on error
 *
 * Refuses what cannot be: a pair must say of each page what became of it.
 *
 * Return: 0, -ENOENT and other -errno of open(), -EINVAL for a file that is not of this form, -ENODATA for one without
 * a pair, -EIO, -ENOMEM.
 */
int churn_csv_read(struct churn *c, const char *path, struct errmsg *e);

#endif
