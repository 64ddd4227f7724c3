/* tables.h - the tables of a report, once for text and page
 *
 * A table is a title, a note, and rows of short texts.  Text and page lay the same tables out in their own way, so
 * that no number is in one and not in the other.  Cells are escaped by whoever writes them.
 */
#ifndef ANALYSIS_TABLES_H
#define ANALYSIS_TABLES_H

#include <stdbool.h>

#include "analysis/summary.h"

#define TABLE_COLUMNS 10

struct table {
	const char *title, *note; /* note: what the numbers are; "" for none */
	int ncolumns;
	unsigned int text_columns; /* bit i: column i is text (left), else numbers (right) */
	char *(*cell)[TABLE_COLUMNS]; /* row 0 is the header; every cell up to ncolumns is there, may be empty */
	size_t nrows, cap;
};

struct tables {
	struct table *t;
	size_t n, cap;
};

/**
 * tables_build() - Make all tables
 * @out: result, to be given to tables_free(), also after an error
 * @s: summary
 * @samples_filtered: there were conditions on samples, so counts of whole snapshots differ from the samples'
 *
 * Return: 0 or -ENOMEM.
 */
int tables_build(struct tables *out, const struct summary *s, bool samples_filtered);

/**
 * tables_churn() - Make the tables of churn alone
 * @out: result, as in tables_build(), which puts them in where there is churn
 * @c: churn
 *
 * Return: 0 or -ENOMEM.
 */
int tables_churn(struct tables *out, const struct churn_stat *c);

/** tables_free() - Free what the tables hold. */
void tables_free(struct tables *out);

#endif
