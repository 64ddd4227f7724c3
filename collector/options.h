/* options.h - the command line of dscollect */
#ifndef COLLECTOR_OPTIONS_H
#define COLLECTOR_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/config.h"

/* Exit codes; dscollect(8) explains them. */
enum exit_code { EXIT_DONE, EXIT_USAGE, EXIT_SYSTEM, EXIT_NO_PFN, EXIT_PARTIAL, EXIT_BUSY = 75 };

/** struct options - What was asked for, with the configuration file merged in.  Zero-filled, options_free() accepts it. */
struct options {
	struct config config;
	const char *root;     /* of a recorded tree; NULL: this machine */
	pid_t *pids;	      /* NULL: all */
	size_t npids;
	bool quiet, json, prune;
	bool store;	      /* into config.db; --json without --db only prints */
	uint64_t interval_ns; /* 0: once */
	unsigned long count;  /* 0: without end */
};

/**
 * options_read() - Read the command line and the configuration file; complains on stderr
 * @o: filled in
 *
 * Return: -1 to go on, or the code to exit with (after --help, --version and errors).
 */
int options_read(struct options *o, int argc, char **argv);
void options_free(struct options *o);

#endif
