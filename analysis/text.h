/* text.h - the report for a terminal
 *
 * About 100 columns of plain UTF-8.  Which tables there are is decided here; every number comes from the summary.
 */
#ifndef ANALYSIS_TEXT_H
#define ANALYSIS_TEXT_H

#include <stdbool.h>
#include <stdio.h>

#include "analysis/summary.h"

/**
 * text_report() - Write the report
 * @f: stream; errors stay in it (ferror())
 * @s: summary
 * @samples_filtered: some samples of the snapshots were left out, so counts of whole snapshots differ from theirs
 *
 * Return: 0 or -ENOMEM.
 */
int text_report(FILE *f, const struct summary *s, bool samples_filtered);

/** text_churn() - Write the tables of churn alone.  Return: 0 or -ENOMEM. */
int text_churn(FILE *f, const struct churn_stat *c);

#endif
