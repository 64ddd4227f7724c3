/* inject_impl.h - what the files of inject.h share */
#ifndef RUNTIME_GUEST_INJECT_IMPL_H
#define RUNTIME_GUEST_INJECT_IMPL_H

#include "rle/addr.h"
#include "runtime/guest/helper.h"
#include "runtime/guest/inject.h"
#include "runtime/guest/tracee.h"

#define INJECT_AREA ((1 + HELPER_BUF_PAGES) * DS_PAGE_BYTES) /* the helper's code and buffer */
#define INJECT_CALL(nr_, ...) (&(struct remote_call){.nr = (nr_), .args = {__VA_ARGS__}})

/** struct inject_plan - A helper on its way into a process; of the thread that traces. */
struct inject_plan {
	pid_t pid;
	unsigned int flags;
	struct remote *out;
	struct inject_err *why;
	struct tracee thread, helper;
	int mem_fd, maps_fd; /* by way of the program */
};

/** inject_choose() - A thread that can be stopped now, the main thread if that is one; waits for it.  Return: 0 or -errno. */
int inject_choose(pid_t pid, int64_t deadline_ms, pid_t *tid, struct inject_err *why);

/** inject_find_syscall() - The address of a syscall instruction in the program's own code, or 0. */
uint64_t inject_find_syscall(int maps_fd, int mem_fd, const struct user_regs_struct *regs);

/** inject_of_helper() - One call by the helper, while it is traced.  Return: what it returned, or -errno of ptrace. */
int64_t inject_of_helper(struct inject_plan *p, const struct remote_call *call);

/** inject_prepare() - Everything that the helper does before it serves; it is let go of.  Return: 0 or -errno. */
int inject_prepare(struct inject_plan *p);

/** inject_open_proc() - Open /proc/PID/NAME, close-on-exec.  Return: a descriptor or -1. */
int inject_open_proc(pid_t pid, const char *name, int flags);

/** inject_close_fd() - For __attribute__((cleanup)). */
void inject_close_fd(int *fd);

#endif
