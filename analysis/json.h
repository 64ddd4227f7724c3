/* json.h - the whole report as one JSON object
 *
 * Every number of the text and of the figures, with full precision; its members are described in dsreport(1).
 * What is not known is null.
 */
#ifndef ANALYSIS_JSON_H
#define ANALYSIS_JSON_H

#include <stdio.h>

#include "analysis/summary.h"

/** json_churn_report() - Write an object with nothing but the churn.  Return: 0 or -ENOMEM. */
int json_churn_report(FILE *f, const struct churn_stat *c);

/** json_report() - Write the object and a newline.  Return: 0 or -ENOMEM; errors of @f stay in it. */
int json_report(FILE *f, const struct summary *s);

#endif
