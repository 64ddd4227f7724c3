/* in_child.h - checks that run in a process of their own, which they may ruin: for tests/kernel
 *
 * A check returns 0: it holds; SKIPPED, with *why set: it cannot be tried here; anything else: it does not.
 */
#ifndef TESTS_IN_CHILD_H
#define TESTS_IN_CHILD_H

#include <err.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

#define SKIPPED 77
#define IN_CHILD_SECONDS 60 /* then it hangs */

static const char **why; /* in memory that children share */

/* Runs @fn in a child.  Return: its exit status; 128 + signal, SIGALRM when it hung. */
__attribute__((unused)) static int in_child(int (*fn)(void))
{
	pid_t pid;
	int status;

	if (!why)
		why = mmap(NULL, sizeof(*why), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(IN_CHILD_SECONDS);
		_exit(fn());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(2, "fork");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

__attribute__((unused)) static void holds(int (*fn)(void), const char *what)
{
	int status = in_child(fn);

	if (status == SKIPPED)
		tap_skip(what, *why);
	else if (!tap_ok(status == 0, "%s", what))
		printf("# status %d\n", status);
}

#endif
