/* options.h - the command line of dsreport */
#ifndef ANALYSIS_OPTIONS_H
#define ANALYSIS_OPTIONS_H

#include <stdbool.h>

#include "analysis/filter.h"

/** struct options - What was asked for; texts point into argv.  A file named "-" is standard output. */
struct options {
	char *const *db;
	size_t ndb;
	struct filter filter;
	size_t top;
	bool quiet;
	const char *csv, *json, *html, *churn; /* files, NULL for none */
	const char *churn_from;	       /* a file of pairs to report on, instead of databases; NULL for none */
	const char *svg, *png;	       /* directories, NULL for none */
};

/**
 * options_parse() - Read the command line
 * @o: result; filter to be given to filter_free()
 * @argc: of main()
 * @argv: of main()
 *
 * Prints what is wrong, or the help, and exits (1 for a wrong command line): it is part of main().
 */
void options_parse(struct options *o, int argc, char **argv);

#endif
