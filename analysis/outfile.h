/* outfile.h - files that are whole or not there
 *
 * A file is written under its name with ".part" at the end and renamed when it is complete, so that a full disk or a
 * failing gnuplot leaves neither half a page nor a damaged old one.  "-" is standard output, written directly.
 *
 * The stream is one of fopencookie(3), which keeps the reason of the first write that failed: stdio itself forgets it.
 */
#ifndef ANALYSIS_OUTFILE_H
#define ANALYSIS_OUTFILE_H

#include <stdio.h>

#include "analysis/errmsg.h"

struct outfile {
	FILE *f;
	const char *name; /* the caller's, valid until commit or abandon */
	char *part;	  /* NULL for standard output */
	struct outfile_sink {
		int fd;
		int err; /* errno of the first write that failed */
	} *sink;
};

/** outfile_open() - Begin a file.  Return: 0 or -errno with the sentence in @e. */
int outfile_open(struct outfile *o, const char *name, struct errmsg *e);

/** outfile_commit() - Complete it: flush, check, rename.  Return: 0 or -errno; the file is closed either way. */
int outfile_commit(struct outfile *o, struct errmsg *e);

/** outfile_abandon() - Remove what was begun.  Nothing happens after outfile_commit() or without outfile_open(). */
void outfile_abandon(struct outfile *o);

/** outfile_write() - A whole file at once.  Return: 0 or -errno with the sentence in @e. */
int outfile_write(const char *name, const void *bytes, size_t len, struct errmsg *e);

#endif
