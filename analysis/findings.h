/* findings.h - the report in a few sentences, computed from its numbers
 *
 * Every sentence says what was found here, whichever way it came out, and what the paper found.  Text and page show
 * the same ones.
 */
#ifndef ANALYSIS_FINDINGS_H
#define ANALYSIS_FINDINGS_H

#include "analysis/summary.h"

struct finding {
	char claim[256];  /* the sentence in short */
	char detail[800]; /* the numbers behind it */
};

#define FINDINGS_MAX 6

/** findings_compute() - Fill in up to FINDINGS_MAX findings.  Return: how many; 0 without samples. */
size_t findings_compute(const struct summary *s, struct finding *out);

#endif
