/* vmminject.h - makes the helper's thread in a running VMM (vmmhelper.h), by ptrace, once
 *
 * Theory of operation
 *
 * The VMM's main thread is stopped for a moment, which it spends in poll() as a rule.  Two things are done to it:
 *
 *	1. one system call, mmap(), at a syscall instruction of the vdso, by PTRACE_SINGLESTEP: room for the code
 *	2. code and state are written there, its registers are set to vmm_boot, it is let go
 *
 * vmm_boot makes the helper's thread and puts the registers back by itself, so whoever set them may be killed: from step 2 on nothing
 * depends on us.  In step 1, for some ten microseconds, it does: who kills the process that injects, by SIGKILL, at that moment, has
 * a VMM go on with wrong registers.  A call that the stop interrupted is issued again as the kernel would do it (ERESTART...).
 *
 * Then SIGBUS and SIGSEGV are unblocked in every thread of the VMM, each of which is stopped for that (PTRACE_SETSIGMASK).  A thread
 * that the VMM makes later, a processor that is plugged in, has what its maker has.
 *
 * All of it happens in a child process, which the caller waits for with a limit: a VMM's thread that does not stop, since it
 * hangs in the kernel, is let go by the kernel when the child ends.  It takes the right to ptrace the VMM (root, or CAP_SYS_PTRACE; yama's
 * ptrace_scope below 3) and that the VMM may have pages that are executable (SELinux: execmem).
 */
#ifndef HOST_VMMINJECT_H
#define HOST_VMMINJECT_H

#include <sys/types.h>

#define VMMINJECT_WHY_BYTES 160

/**
 * vmminject() - Does it
 * @pid: of the VMM
 * @path: of a listening SOCK_SEQPACKET socket that the helper is to connect to; one that begins with '@' is abstract
 * @why: filled after an error, in words
 *
 * Blocks for some milliseconds, 5 seconds at the most.
 *
 * Return: 0: it will connect, or has; -EPERM (ptrace is forbidden), -ESRCH, -EBUSY (the VMM is stopped), -EOPNOTSUPP (another kind of
 * program), -ETIMEDOUT, -errno.
 */
int vmminject(pid_t pid, const char *path, char why[static VMMINJECT_WHY_BYTES]);

#endif
