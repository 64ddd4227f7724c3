/* gnuplot.h - running gnuplot */
#ifndef ANALYSIS_GNUPLOT_H
#define ANALYSIS_GNUPLOT_H

#include <stddef.h>

#include "analysis/errmsg.h"

/**
 * gnuplot_run() - Run a script and take what it writes to its standard output
 * @script: the whole script, data included
 * @len: its bytes
 * @out: result, ended by a NUL that is not counted; the caller frees it
 * @out_len: its bytes
 * @e: on error: what happened, with gnuplot's own message
 *
 * Script, output and messages are anonymous files of memory (memfd_create(2)): nothing is left on disk, and neither
 * side waits for the other to empty a pipe.  gnuplot is looked up in PATH, reads no start-up file of the user (-d) and
 * sees locale C.UTF-8 and time zone UTC.
 *
 * Return: 0; -ENOENT when there is no gnuplot; -EIO when it failed; other -errno.
 */
int gnuplot_run(const char *script, size_t len, char **out, size_t *out_len, struct errmsg *e);

#endif
