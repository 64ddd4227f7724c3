/* report.h - what dscollect says while it works
 *
 * stdout: a line a snapshot, unless --quiet or --json.  stderr: what went wrong, and on a terminal a line that shows how
 * far a long scan is.
 */
#ifndef COLLECTOR_REPORT_H
#define COLLECTOR_REPORT_H

#include "collector/snapshot.h"

/** report_error() - "dscollect: ..." on stderr. */
__attribute__((format(printf, 1, 2))) void report_error(const char *fmt, ...);

/** report_process() - A process that could not be read; for snapshot_env.complain. */
void report_process(const struct record *r);

/** report_progress() - How far the scan is, on a terminal; for snapshot_env.progress. */
void report_progress(size_t done, size_t total);

/** report_clear() - Take the progress line away, before anything else is printed. */
void report_clear(void);

/** report_snapshot() - One line about a snapshot. */
void report_snapshot(const struct snapshot *s);

#endif
