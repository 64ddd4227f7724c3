/* dsrun_options.h - the command line of dsrun */
#ifndef RUNTIME_GUEST_DSRUN_OPTIONS_H
#define RUNTIME_GUEST_DSRUN_OPTIONS_H

#include <stdbool.h>
#include <sys/types.h>

#include "runtime/guest/run/dsrun_devices.h"
#include "runtime/guest/run/dsrun_policy.h"

enum { DSRUN_OK = 0, DSRUN_USAGE = 1, DSRUN_SYSTEM = 2, DSRUN_BUSY = 75, DSRUN_REQUIRED = 125, DSRUN_CANNOT = 126, DSRUN_NOT_FOUND = 127 };

enum dsrun_verb {
	DSRUN_RUN,  /* a program */
	DSRUN_PID,  /* shadow a process that runs */
	DSRUN_STOP, /* end its shadow */
	DSRUN_LIST,
	DSRUN_ATTEND, /* for the library: put it into the program that a process will execute */
	DSRUN_DEVICES, /* list what the host grants */
};

struct dsrun_options {
	enum dsrun_verb verb;
	pid_t pid;
	const char *service, *args, *socket;
	const char *library; /* DSRUN_ATTEND */
	int fd;		     /* likewise: the socket */
	bool demand, required;
	bool forward; /* with libdsforward.so: system calls are forwarded, traced, counted, refused */
	bool monitor; /* a monitor makes the traps, by ptrace */
	const char *trace, *summary; /* files, "-" standard error, NULL: none */
	struct dsrun_policy policy;
	struct dsrun_devices devices;
	char **program; /* and its arguments */
};

/** dsrun_parse() - Return: -1 to go on; else the exit status, after everything was said. */
int dsrun_parse(struct dsrun_options *o, int argc, char **argv);

#endif
