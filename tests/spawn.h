/* spawn.h - a program whose output a test reads */
#ifndef TESTS_SPAWN_H
#define TESTS_SPAWN_H

#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* spawn_heard() - Starts @argv, found as a shell would.  Return: its process; @out: what it prints, on standard error too if @errors. */
static inline pid_t spawn_heard(const char *const argv[], bool errors, int *out)
{
	int fds[2];
	pid_t child;

	if (pipe(fds))
		err(2, "pipe");
	fflush(stdout);
	child = fork();
	if (child < 0)
		err(2, "fork");
	if (child == 0) {
		dup2(fds[1], 1);
		if (errors)
			dup2(fds[1], 2);
		close(fds[0]);
		close(fds[1]);
		execvp(argv[0], (char **)argv);
		_exit(127);
	}
	close(fds[1]);
	*out = fds[0];
	return child;
}

#endif
