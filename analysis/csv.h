/* csv.h - samples as comma-separated rows
 *
 * One row a sample, all of the view's columns, header first, RFC 4180 quoting, "\n" at the end of a line.  Numbers
 * carry full precision; NULL is an empty field.  Samples that are not ok are there too, with their status and
 * without counts.
 */
#ifndef ANALYSIS_CSV_H
#define ANALYSIS_CSV_H

#include <stdio.h>

#include "analysis/dbread.h"

/** csv_text() - Write a field, quoted where it needs to be; NULL is an empty one. */
void csv_text(FILE *f, const char *text);

/** csv_header() - Write the line of column names. */
void csv_header(FILE *f);

/** csv_row() - Write a sample.  Errors stay in the stream (ferror()). */
void csv_row(FILE *f, const struct dbread_sample *s);

#endif
