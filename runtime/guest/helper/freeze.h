/* freeze.h - all threads of a process stopped for a moment
 *
 * Theory of operation
 *
 * Private file pages can only be replaced (pin.h, PIN_ALONE) while nobody writes to them.  freeze_start() stops every
 * thread of a process with PTRACE_SEIZE and PTRACE_INTERRUPT, and those that appear meanwhile, until /proc/PID/task
 * shows none that is not stopped.  That nobody else uses the memory is checked afterwards: a process that shares it
 * (a child in vfork) is found (sharers.h), the helper excepted.  Each thread goes on as inject.h describes.  What the
 * kernel does on the program's behalf without a thread, such as asynchronous I/O under way into such a page, is not
 * stopped.
 *
 * The stops belong to a thread of the caller's process, so the kernel ends them if the caller dies.  They end by themselves after
 * @limit_ms: freeze_holds() tells, and freeze_keep() puts that off for a step that relies on them.
 */
#ifndef RUNTIME_GUEST_FREEZE_H
#define RUNTIME_GUEST_FREEZE_H

#include <stdbool.h>

#include "runtime/guest/helper/inject.h"

struct freeze;

/**
 * freeze_start() - Stop all threads
 * @r: the program, with its helper, which stays awake
 * @limit_ms: the stops end after this time, whatever happens; 1 to 60000
 * @out: filled in on success; give back with freeze_end()
 * @why: filled in on failure; nothing is stopped then
 *
 * Return: 0; -ESRCH; -EPERM; -EBUSY: another process shares the memory; -EAGAIN: not all could be stopped in time; -errno.
 */
int freeze_start(struct remote *r, unsigned int limit_ms, struct freeze **out, struct inject_err *why);

/** freeze_holds() - Whether everything is still stopped, and for @need_ms more. */
bool freeze_holds(const struct freeze *f, unsigned int need_ms);

/**
 * freeze_keep() - As freeze_holds(), and if so everything stays stopped until freeze_unkeep(), past the limit if need be
 *
 * For what must not be half done when the limit comes: a machine may stand still itself for seconds, a virtual one above all.
 * Between the two only calls that end by themselves.  One may be within another, which then does not look at the time.
 */
bool freeze_keep(struct freeze *f, unsigned int need_ms);

/** freeze_unkeep() - After freeze_keep() that returned true; as often as that. */
void freeze_unkeep(struct freeze *f);

/** freeze_end() - Let all threads go on.  NULL is accepted.  Return: 0; -ETIME: they did so before, the limit had passed. */
int freeze_end(struct freeze *f);

#endif
