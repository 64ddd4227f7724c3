/* tracee.c - one thread under ptrace; theory of operation in inject.h and tracee.h */
#include "runtime/guest/helper/tracee.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/guest/helper/tracer.h"

#define CS_64BIT 0x33 /* __USER_CS, arch/x86/include/asm/segment.h */
#define ERESTARTNOHAND 514 /* include/linux/errno.h: restarted unless a handler runs */
#define FLAG_TRAP 0x100
#define SYSCALL_STOP (SIGTRAP | 0x80)
#define SIGNAL_BIT(sig) (UINT64_C(1) << ((sig) - 1))

/* What the kernel forces on a thread; were these blocked, it would take away their handlers. */
#define SYNCHRONOUS (SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGSYS))

int64_t tracee_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int tracee_refuse(struct inject_err *why, int err, pid_t tid, const char *text)
{
	*why = (struct inject_err){.err = err, .tid = tid, .why = text};
	return err;
}

/* --- what a thread is doing ------------------------------------------------------------------------------------- */

static ssize_t slurp(const char *path, char *buf, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, buf, bytes - 1);
	close(fd);
	if (got < 0)
		return -errno;
	buf[got] = 0;
	return got;
}

/* A call that moves bytes one after the other, was interrupted, and returns how far it came. */
static bool would_be_cut(uint64_t nr, uint64_t flags_recvfrom, uint64_t flags_recvmsg)
{
	switch (nr) {
	case SYS_write:
	case SYS_writev:
	case SYS_pwrite64:
	case SYS_pwritev:
	case SYS_pwritev2:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_recvmmsg:
	case SYS_sendfile:
	case SYS_splice:
	case SYS_tee:
	case SYS_vmsplice:
	case SYS_copy_file_range:
		return true;
	case SYS_recvfrom:
		return flags_recvfrom & MSG_WAITALL;
	case SYS_recvmsg:
		return flags_recvmsg & MSG_WAITALL;
	default:
		return false;
	}
}

enum tracee_mood tracee_mood(pid_t pid, pid_t tid)
{
	char path[64], buf[512], *p;
	unsigned long long nr, a[4];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (slurp(path, buf, sizeof(buf)) <= 0 || !(p = strrchr(buf, ')')) || p[1] != ' ')
		return TRACEE_DEAD;
	if (strchr("ZXx", p[2]))
		return TRACEE_DEAD;
	if (p[2] == 'D')
		return TRACEE_ASLEEP;
	if (p[2] != 'S')
		return TRACEE_FINE;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
	if (slurp(path, buf, sizeof(buf)) <= 0 || sscanf(buf, "%llu %llx %llx %llx %llx", &nr, &a[0], &a[1], &a[2], &a[3]) != 5)
		return TRACEE_FINE;
	return would_be_cut(nr, a[3], a[2]) ? TRACEE_BUSY : TRACEE_FINE;
}

/* Calls that return EINTR after any stop (signal(7)) and that have done nothing when they do. */
static bool restartable(uint64_t nr)
{
	switch (nr) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
	case SYS_io_uring_enter:
	case SYS_read: /* inotify; sockets with a timeout */
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_accept:
	case SYS_accept4:
		return true;
	default:
		return false;
	}
}

static bool patch(struct user_regs_struct *regs)
{
	if ((int64_t)regs->orig_rax < 0 || (int64_t)regs->rax != -EINTR || !restartable(regs->orig_rax))
		return false;
	regs->rax = -ERESTARTNOHAND;
	return true;
}

/* --- stops ------------------------------------------------------------------------------------------------------ */

static int get_regs(pid_t tid, struct user_regs_struct *regs)
{
	struct iovec iov = {.iov_base = regs, .iov_len = sizeof(*regs)};

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov))
		return -errno;
	return iov.iov_len == sizeof(*regs) && regs->cs == CS_64BIT ? 0 : -ENOEXEC;
}

static int set_regs(pid_t tid, const struct user_regs_struct *regs)
{
	struct iovec iov = {.iov_base = (void *)regs, .iov_len = sizeof(*regs)};

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &iov) ? -errno : 0;
}

/* The next stop, of any kind.  @deadline_ms 0: whenever it comes.  An exit is left for the program's parent to see, which may
 * be this process.  Return: 0; -ESRCH; -ETIMEDOUT. */
static int next_stop(struct tracee *t, int64_t deadline_ms, int *status)
{
	const int which = WSTOPPED | WEXITED | WNOWAIT | __WALL | __WNOTHREAD | (deadline_ms ? WNOHANG : 0);

	for (unsigned int i = 0;; i++) {
		siginfo_t info = {0};
		int got = waitid(P_PID, t->tid, &info, which);

		if (got < 0 && errno == ECHILD)
			return -ESRCH;
		if (got == 0 && info.si_pid == t->tid) {
			if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED)
				return -ESRCH;
			if (waitid(P_PID, t->tid, &info, WSTOPPED | WNOHANG | __WALL | __WNOTHREAD) || info.si_pid != t->tid)
				continue; /* killed in between */
			*status = info.si_status << 8 | 0x7f;
			return 0;
		}
		if (!deadline_ms)
			continue;
		if (i % 64 == 63 && tracee_now_ms() >= deadline_ms)
			return -ETIMEDOUT;
		if (i < 400) /* a sleep may last until the next tick, as in a guest under emulation */
			sched_yield();
		else
			usleep(i < 460 ? 50 : 500);
	}
}

int tracee_seize(struct tracee *t, pid_t pid, pid_t tid, unsigned long options)
{
	*t = (struct tracee){.pid = pid, .tid = tid};
	return ptrace(PTRACE_SEIZE, tid, NULL, (void *)options) ? -errno : 0;
}

void tracee_interrupt(const struct tracee *t)
{
	ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);
}

int tracee_wait(struct tracee *t, int64_t deadline_ms)
{
	int status, err;

	for (;;) {
		err = next_stop(t, deadline_ms, &status);
		if (err)
			return err;
		if (status >> 16 == PTRACE_EVENT_STOP)
			break;
		/* It was about to take a signal: let it.  That stop used up the interrupt. */
		tracee_interrupt(t);
		ptrace(PTRACE_CONT, t->tid, NULL, status >> 16 ? 0 : (void *)(uintptr_t)WSTOPSIG(status));
	}
	t->stopped = true;
	return 0;
}

void tracee_detach(struct tracee *t)
{
	ptrace(PTRACE_DETACH, t->tid, NULL, NULL);
	t->stopped = false;
}

int tracee_patch(struct tracee *t)
{
	int err = get_regs(t->tid, &t->regs);

	return err ? err : patch(&t->regs) ? set_regs(t->tid, &t->regs) : 0;
}

/* A sequence that was interrupted is aborted on return to it; but a return to the calls made meanwhile forgets about it, so it is
 * put back. */
static void find_rseq(struct tracee *t)
{
	struct { /* linux/ptrace.h, which does not go together with libc's header */
		uint64_t rseq_abi_pointer;
		uint32_t size, signature, flags, pad;
	} conf;

	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, t->tid, (void *)sizeof(conf), &conf) != (long)sizeof(conf) || !conf.rseq_abi_pointer)
		return;
	t->rseq_addr = conf.rseq_abi_pointer + 8; /* offsetof(struct rseq, rseq_cs) */
	errno = 0;
	t->rseq_cs = ptrace(PTRACE_PEEKDATA, t->tid, (void *)t->rseq_addr, NULL);
	if (errno)
		t->rseq_cs = 0;
}

int tracee_save(struct tracee *t, struct inject_err *why)
{
	uint64_t mask;
	int err = get_regs(t->tid, &t->regs);

	if (err == -ENOEXEC)
		return tracee_refuse(why, err, t->tid, "it runs 32-bit code");
	if (err)
		return tracee_refuse(why, err, t->tid, "its registers cannot be read");
	/* int $0x80: registers are not enough to put such a call back */
	if ((int64_t)t->regs.orig_rax >= 0 && (ptrace(PTRACE_PEEKDATA, t->tid, (void *)(t->regs.rip - 2), NULL) & 0xffff) == 0x80cd)
		return tracee_refuse(why, -ENOEXEC, t->tid, "it is in a 32-bit system call");
	patch(&t->regs);
	find_rseq(t);
	if (ptrace(PTRACE_GETSIGMASK, t->tid, (void *)sizeof(t->mask), &t->mask))
		return tracee_refuse(why, -errno, t->tid, "its signal mask cannot be read");
	mask = ~(SYNCHRONOUS & ~t->mask);
	if (ptrace(PTRACE_SETSIGMASK, t->tid, (void *)sizeof(mask), &mask))
		return tracee_refuse(why, -errno, t->tid, "its signals cannot be blocked");
	return 0;
}

/* A signal that is not blocked.  One that the program's own last instruction brought about may still be under way: it is kept for
 * later.  Return: what to give the tracee, 0 or SIGSTOP; or -errno when the syscall instruction at @ip itself was refused. */
static int on_signal(struct tracee *t, int sig, uint64_t ip)
{
	siginfo_t info;

	if (sig == SIGSTOP)
		return sig;
	if (ptrace(PTRACE_GETSIGINFO, t->tid, NULL, &info))
		return -ESRCH;
	if (sig == SIGSYS && info.si_code > 0 && (uint64_t)info.si_call_addr - ip <= 2)
		return -EACCES;
	if ((sig == SIGSEGV || sig == SIGBUS || sig == SIGILL) && info.si_code > 0 && (uint64_t)info.si_addr - ip <= 2)
		return -EFAULT;
	if (!t->due.si_signo)
		t->due = info;
	else
		t->held |= SIGNAL_BIT(sig);
	return 0;
}

int tracee_call(struct tracee *t, uint64_t ip, const struct remote_call *call, int64_t *result)
{
	struct user_regs_struct regs = t->regs;
	struct __ptrace_syscall_info info;
	int status, sig = 0, err;
	bool refused = false;

	regs.rip = ip;
	regs.rax = call->nr;
	regs.orig_rax = -1; /* nothing to restart */
	regs.rdi = call->args[0];
	regs.rsi = call->args[1];
	regs.rdx = call->args[2];
	regs.r10 = call->args[3];
	regs.r8 = call->args[4];
	regs.r9 = call->args[5];
	regs.eflags &= ~(uint64_t)FLAG_TRAP;
	err = set_regs(t->tid, &regs);
	for (;;) {
		if (!err && ptrace(PTRACE_SYSCALL, t->tid, NULL, (void *)(uintptr_t)sig))
			err = -errno;
		if (!err)
			err = next_stop(t, 0, &status);
		if (err)
			return err;
		sig = 0;
		if (status >> 16 == PTRACE_EVENT_CLONE) {
			unsigned long child;

			if (!ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &child))
				t->events = child;
		} else if (WSTOPSIG(status) == SYSCALL_STOP) {
			if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, (void *)sizeof(info), &info) <= 0)
				continue;
			if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
				*result = info.exit.rval;
				return refused ? -EPROTO : 0;
			}
			/* What the instruction at @ip is may have changed: nothing but what was asked for is done. */
			if (info.entry.nr != call->nr || memcmp(info.entry.args, call->args, sizeof(call->args))) {
				refused = true;
				regs.orig_rax = -1;
				err = set_regs(t->tid, &regs);
			}
		} else if (!(status >> 16)) {
			sig = on_signal(t, WSTOPSIG(status), ip);
			if (sig < 0)
				return sig;
		}
	}
}

int tracee_go(struct tracee *t, struct user_regs_struct *regs, uint64_t end)
{
	int status, err;

	regs->orig_rax = -1;
	regs->eflags &= ~(uint64_t)FLAG_TRAP;
	err = set_regs(t->tid, regs);
	for (;;) {
		siginfo_t info;

		if (!err && ptrace(PTRACE_CONT, t->tid, NULL, NULL))
			err = -errno;
		if (!err)
			err = next_stop(t, 0, &status);
		if (err)
			return err;
		/* Signals that others send it are nothing to it. */
		if (status >> 16 || ptrace(PTRACE_GETSIGINFO, t->tid, NULL, &info) || info.si_code <= 0)
			continue;
		err = get_regs(t->tid, regs);
		return err ? err : WSTOPSIG(status) == SIGTRAP && regs->rip == end ? 0 : -EFAULT;
	}
}

/* Goes on until it stops on its way to user mode: for @want_sig, or (0) because it was interrupted. */
static int last_stop(struct tracee *t, int want_sig)
{
	int status, sig = 0, err;

	for (;;) {
		if (!want_sig)
			tracee_interrupt(t);
		if (ptrace(PTRACE_CONT, t->tid, NULL, (void *)(uintptr_t)sig))
			return -errno;
		err = next_stop(t, 0, &status);
		if (err)
			return err;
		sig = 0;
		if (!want_sig && status >> 16 == PTRACE_EVENT_STOP)
			return 0;
		if (status >> 16 || WSTOPSIG(status) == SYSCALL_STOP)
			continue;
		if (WSTOPSIG(status) == want_sig)
			return 0;
		sig = on_signal(t, WSTOPSIG(status), 0);
		sig = sig < 0 ? 0 : sig;
	}
}

int tracee_put_back(struct tracee *t)
{
	int err = set_regs(t->tid, &t->regs);

	if (t->rseq_cs)
		ptrace(PTRACE_POKEDATA, t->tid, (void *)t->rseq_addr, (void *)t->rseq_cs);
	if (ptrace(PTRACE_SETSIGMASK, t->tid, (void *)sizeof(t->mask), &t->mask) && !err)
		err = -errno;
	return err;
}

int tracee_restore(struct tracee *t)
{
	int sig = 0, err;

	/* The kernel looks at what is to be restarted on its way out of a stop for signals, not out of a stop at a system call's
	 * end: that is why it is made to stop once more, before it executes anything.  (A detach happens to bring that about too, on 6.1
	 * and 6.18; nothing promises it.) */
	err = last_stop(t, 0);
	if (!err && t->due.si_signo) {
		sig = t->due.si_signo;
		syscall(SYS_tgkill, t->pid, t->tid, sig);
		err = last_stop(t, sig);
		if (!err)
			ptrace(PTRACE_SETSIGINFO, t->tid, NULL, &t->due);
	}
	if (err)
		return err;
	err = tracee_put_back(t);
	ptrace(PTRACE_DETACH, t->tid, NULL, (void *)(uintptr_t)sig);
	t->stopped = false;
	for (int i = 1; i <= 64; i++)
		if (t->held & SIGNAL_BIT(i))
			syscall(SYS_tgkill, t->pid, t->tid, i);
	return err;
}

/* --- the thread that traces ------------------------------------------------------------------------------------- */

int tracee_run(int (*fn)(void *ctx), void *ctx)
{
	struct tracer *t;
	int err = tracer_new(&t);

	if (err)
		return err;
	err = tracer_do(t, fn, ctx, 0, -1);
	tracer_free(t);
	return err;
}
