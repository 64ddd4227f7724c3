/* inject_impl.h - what the files of inject.h share */
#ifndef RUNTIME_GUEST_INJECT_IMPL_H
#define RUNTIME_GUEST_INJECT_IMPL_H

#include "rle/addr.h"
#include "runtime/guest/helper/inject.h"
#include "runtime/guest/helper/tracer.h"

#define INJECT_AREA ((2 + REMOTE_DESK_PAGES) * DS_PAGE_BYTES) /* the helper's code, scratch memory, the desk */
#define INJECT_CODE "\x0f\x05\x0f\x0b" /* syscall; ud2 */
#define INJECT_CODE_BYTES 4
#define INJECT_CALL(nr_, ...) (&(struct remote_call){.nr = (nr_), .args = {__VA_ARGS__}})

/** struct inject_plan - A helper on its way into a process; of the thread that traces. */
struct inject_plan {
	pid_t pid;
	unsigned int flags;
	struct remote *out;
	struct inject_err *why;
	struct tracee thread, *helper;
	int mem_fd, maps_fd; /* by way of the program */
};

/** inject_choose() - A thread that can be stopped now, the main thread if that is one; waits for it.  Return: 0 or -errno. */
int inject_choose(pid_t pid, int64_t deadline_ms, pid_t *tid, struct inject_err *why);

/**
 * inject_first_call() - Make a stopped thread do a system call, at a syscall instruction of the program's own
 * @t: saved
 * @maps_fd: the program's mappings
 * @mem_fd: and its memory
 * @call: what
 * @ip: the instruction that worked, good for further calls
 * @ret: what it returned
 *
 * The instruction that the thread is blocked in, or else the first of each mapping in turn: with Syscall User Dispatch only those of
 * one range are not intercepted.
 *
 * Return: 0; -ENOEXEC: there is none; -EACCES: all are intercepted; -errno of tracee_call().
 */
int inject_first_call(struct tracee *t, int maps_fd, int mem_fd, const struct remote_call *call, uint64_t *ip, int64_t *ret);

/** inject_of_helper() - One call by the helper, while it is traced.  Return: what it returned, or -errno of ptrace. */
int64_t inject_of_helper(struct inject_plan *p, const struct remote_call *call);

/** inject_prepare() - Everything that the helper does before inject_first() is over.  Return: 0 or -errno. */
int inject_prepare(struct inject_plan *p);

/** inject_open_proc() - Open /proc/PID/NAME, close-on-exec.  Return: a descriptor or -1. */
int inject_open_proc(pid_t pid, const char *name, int flags);

/** inject_close_fd() - For __attribute__((cleanup)). */
void inject_close_fd(int *fd);

#endif
