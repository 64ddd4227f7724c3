/* when.h - the times that --since and --until take
 *
 *   2026-01-31                  a day, UTC
 *   2026-01-31T14:05[:09[.5]]   a moment, UTC; a blank may stand for the T
 *   ...Z, +02:00, -0530, +02    a moment with its zone
 *   90s 30min 6h 2d 3w          so long before the newest snapshot
 *
 * Relative times count back from the newest snapshot, not from the clock: the same database then gives the same
 * report whenever it is read.
 */
#ifndef ANALYSIS_WHEN_H
#define ANALYSIS_WHEN_H

#include <stdbool.h>

struct when {
	bool set;
	bool relative;
	double seconds; /* Unix time, or the distance back */
	double span;	/* what the text covers: 86400 for a day, 60 for a minute given without seconds, else 0 */
};

/**
 * when_parse() - Read a time
 * @text: as above
 * @w: result
 *
 * Return: 0 or -EINVAL, also for a day or an hour that does not exist.
 */
int when_parse(const char *text, struct when *w);

/** when_resolve() - The moment that @w means, given the time of the newest snapshot. */
double when_resolve(const struct when *w, double newest);

#endif
