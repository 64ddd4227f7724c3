/* json.h - a snapshot as one line of JSON
 *
 * {"host":...,"time":...,"samples":[{"pid":...},...],"duration_ns":...,"n_seen":...}
 *
 * Names and meaning are those of the views snapshot_info and process_sample (dscollect(5)); null is unknown.  What is
 * known at the end only comes last, so that nothing has to be held in memory.  Integers are exact, of 64 bits.
 */
#ifndef COLLECTOR_JSON_H
#define COLLECTOR_JSON_H

#include <stdbool.h>
#include <stdio.h>

#include "collector/db.h"
#include "collector/machine.h"
#include "collector/record.h"

/** json_begin() - Begin the line with what is known about the machine. */
void json_begin(FILE *f, const struct machine_id *id, const struct machine *m, enum rle_join join);

/** json_sample() - Add a process; @first: it is the first one. */
void json_sample(FILE *f, bool first, const struct record *r, const struct db_known *known);

/**
 * json_end() - End the line and flush it
 *
 * Return: 0, or -EIO if anything since json_begin() could not be written.
 */
int json_end(FILE *f, const struct db_totals *totals);

#endif
