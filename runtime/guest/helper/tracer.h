/* tracer.h - a thread that traces a helper for as long as it lives
 *
 * ptrace belongs to a thread, and between two owners of a tracee there is a moment in which anybody may become the third.  So
 * the thread that makes a helper stays its tracer, from the helper's first instruction to its last (remote.h, "Trust"), and does on
 * request what others want of it.  Its end makes the kernel let go of whatever it traces; helpers are killed by that.
 *
 * One request at a time, the next one waits; one within another is run as it comes.
 */
#ifndef RUNTIME_GUEST_TRACER_H
#define RUNTIME_GUEST_TRACER_H

#include <pthread.h>

#include "runtime/guest/helper/tracee.h"

struct tracer;

/**
 * tracer_thread() - Start a thread that gets no signals
 * @out: set to it
 * @fn: what it runs
 * @arg: for @fn
 *
 * Its stack is small: of the usual eight megabytes the kernel makes the first page huge, and clearing that takes six
 * milliseconds under emulation.
 *
 * Return: 0; -errno.
 */
int tracer_thread(pthread_t *out, void *(*fn)(void *arg), void *arg);

/** tracer_new() - Start the thread.  Return: 0; -errno. */
int tracer_new(struct tracer **out);

/** tracer_helper() - The helper that it traces; for functions that run in the thread. */
struct tracee *tracer_helper(struct tracer *t);

/**
 * tracer_do() - Have a function run by the thread, and wait for it
 * @t: the thread
 * @fn: what
 * @ctx: for it
 * @limit_ms: how long that may take; then the helper is killed, which ends any call that it is in; 0: as long as it takes
 * @helper_pidfd: the helper, to be killed; -1: none
 *
 * Return: what @fn returned; -ETIMEDOUT: it took too long.
 */
int tracer_do(struct tracer *t, int (*fn)(void *ctx), void *ctx, int limit_ms, int helper_pidfd);

/** tracer_ask() - Have a function run by the thread, and go on meanwhile; tracer_wait(), or another request, follows. */
void tracer_ask(struct tracer *t, int (*fn)(void *ctx), void *ctx);

/** tracer_wait() - Wait for what tracer_ask() asked for.  Return: what the function returned. */
int tracer_wait(struct tracer *t);

/** tracer_free() - End the thread.  NULL is accepted. */
void tracer_free(struct tracer *t);

#endif
