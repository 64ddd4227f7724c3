/* dsmap_options.h - the command line of dsmap */
#ifndef RUNTIME_GUEST_DSMAP_OPTIONS_H
#define RUNTIME_GUEST_DSMAP_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

#include "rle/run.h"
#include "rle/src.h"

/* Exit codes, the same as dscollect's; dsmap(1) explains them. */
enum dsmap_exit { DSMAP_DONE, DSMAP_USAGE, DSMAP_SYSTEM, DSMAP_NO_PFN };

/** struct dsmap_options - What was asked for; nothing in it is owned. */
struct dsmap_options {
	pid_t pid;	  /* 0: from a file */
	const char *from; /* a saved map instead of a process */
	const char *out, *diff, *root;
	const char *socket; /* where dsagent listens; NULL: where it usually does */
	bool agent;	    /* ask dsagent, whatever dsmap could see for itself */
	bool stats, json;
	bool split_said; /* --split was given: what a saved map says must agree */
	enum rle_split split;
	enum rle_join join;
};

/**
 * dsmap_options_read() - Read the command line; complains on stderr
 * @o: filled in; its strings point into @argv
 *
 * Return: -1 to go on, or the code to exit with (after --help, --version and errors).
 */
int dsmap_options_read(struct dsmap_options *o, int argc, char **argv);

/** dsmap_split_name() - The value of --split that asks for @split. */
const char *dsmap_split_name(enum rle_split split);

#endif
