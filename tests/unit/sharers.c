/* sharers.c - who else uses a process's memory: found at the first look and at later ones, and nobody taken for one who does not
 *
 * The process that is looked at is this one.  Others that share its memory are made by clone(CLONE_VM), on stacks of their own, and wait.
 */
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "runtime/guest/helper/sharers.h"
#include "tests/tap.h"

#define STACK (64 << 10)

static atomic_int heir; /* made by a sharer that has ended */

static int wait_there(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return 0;
}

static pid_t sharing(int (*fn)(void *arg), void *arg)
{
	static _Alignas(16) char stacks[8][STACK];
	static int n;
	const pid_t pid = clone(fn, stacks[n++ % 8] + STACK, CLONE_VM | SIGCHLD, arg);

	if (pid < 0)
		err(2, "clone");
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Leaves an heir and ends; as a child of it, which is nobody's then. */
static int leave_heir(void *arg)
{
	static _Alignas(16) char stack[STACK];

	atomic_store(&heir, clone(wait_there, stack + STACK, CLONE_VM | CLONE_PARENT | SIGCHLD, arg));
	return 0;
}

static void *thread(void *arg)
{
	while (!atomic_load((atomic_int *)arg))
		sched_yield();
	return NULL;
}

static void cold(void)
{
	pid_t other = sharing(wait_there, NULL);

	tap_eq(sharers_find(NULL, getpid(), 0), other, "a process that shares the memory is found");
	tap_eq(sharers_find(NULL, getpid(), other), 0, "and not, if it may");
	end(other);
	tap_eq(sharers_find(NULL, getpid(), 0), 0, "nobody when it is gone");
}

static void warm(void)
{
	struct sharers s = {0}, before;
	atomic_int over = 0;
	pthread_t t;
	pid_t other;

	tap_eq(sharers_find(&s, getpid(), 0), 0, "a look at everybody: nobody");
	tap_ok(s.last > 0, "and it is known who was there (up to %d)", s.last);
	other = fork();
	if (!other)
		wait_there(NULL);
	pthread_create(&t, NULL, thread, &over);
	before = s;
	tap_eq(sharers_find(&s, getpid(), 0), 0, "a child with memory of its own, and a thread, are nobody");
	tap_ok(s.last >= other, "and were looked at");
	atomic_store(&over, 1);
	pthread_join(t, NULL);
	end(other);
	other = sharing(wait_there, NULL);
	tap_eq(sharers_find(&s, getpid(), 0), other, "who was born since is found");
	tap_eq(sharers_find(&s, getpid(), 0), other, "and again");
	tap_eq(sharers_find(&s, getpid(), other), 0, "and not, if it may");
	tap_eq(sharers_find(&before, getpid(), 0), other, "also by who has not looked for longer");
	end(other);
	other = sharing(leave_heir, NULL);
	waitpid(other, NULL, 0);
	tap_eq(sharers_find(&s, getpid(), 0), atomic_load(&heir), "so is who was made by one that has gone");
	end(atomic_load(&heir));
	tap_eq(sharers_find(&s, getpid(), 0), 0, "nobody when that is gone too");
}

/* What is known is of no use any more: numbers have wrapped around, or may have. */
static void stale(void)
{
	pid_t other = sharing(wait_there, NULL);
	struct sharers above = {.last = INT32_MAX, .at_us = INT64_MAX}, old = {.last = other, .at_us = -(INT64_C(1) << 40)};

	tap_eq(sharers_find(&above, getpid(), 0), other, "numbers that have begun anew: everybody is looked at");
	tap_eq(sharers_find(&old, getpid(), 0), other, "a look of long ago: the same");
	end(other);
}

int main(void)
{
	if (geteuid()) {
		tap_skip("sharers", "it takes root");
		return tap_done();
	}
	cold();
	warm();
	stale();
	return tap_done();
}
