/* hostile_process.h - the hostile process of hostile_world.h with a shadow that serves it as it would any other: threads, calls, paths */
#ifndef TESTS_HOSTILE_PROCESS_H
#define TESTS_HOSTILE_PROCESS_H

#include <sys/syscall.h>

#include "tests/hostile_world.h"

#define BUF 1u	    /* page of a buffer */
#define STRINGS 2u  /* page with paths, 256 bytes each */

static struct shadow own;
static struct thread t[4];

AGENT_UNUSED static int64_t call(uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	return thread_call(&t[0], nr, a, b, c, d, e);
}

AGENT_UNUSED static uint64_t text(uint32_t i, const char *s)
{
	snprintf((char *)at_host(STRINGS) + i * 256, 256, "%s", s);
	return at_guest(STRINGS) + i * 256;
}

/* A shadow with @n threads, each with a slot of page 0. */
AGENT_UNUSED static void begin(uint32_t n)
{
	const int kind = vm_shadow(&own, "/usr/bin/hostile");

	if (kind != DS_AGENT_STARTED)
		errx(2, "no shadow: %d, %s", kind, own.a.refused.text);
	for (uint32_t i = 0; i < n; i++)
		if (!thread_start(&t[i], own.a.started.token, 0, i, 0))
			errx(2, "thread %u gets no executor", i);
}

AGENT_UNUSED static void end(uint32_t n)
{
	if (!hostile_end(&own, t, n))
		tap_ok(false, "the shadow ends");
}

AGENT_UNUSED static int64_t open_at(const char *path, int flags)
{
	return call(__NR_openat, (uint64_t)AT_FDCWD, text(0, path), (uint64_t)flags, 0600, 0);
}

/* Another process of the guest's, so to say: it goes on writing into the slot and what it points to. */
AGENT_UNUSED static pid_t changer(void (*change)(uint32_t))
{
	const pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t i = 0;; i++)
		change(i);
}

AGENT_UNUSED static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

#endif
