/* monitor_lend.c - the monitor's side of a loan; theory of operation in lend.h
 *
 * A loan goes through LOAN_WAITS (another one of this process has to end first), LOAN_STOPS (threads are on their way), LOAN_STANDS (all of them
 * have been let go of; answered), LOAN_RETURNS (it is over; they are being seized again).  Nothing here waits: threads
 * tell of their stops as always, and the monitor goes on serving the other processes meanwhile.  A loan that fails is one that returns early.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/guest/monitor/monitor_impl.h"
#include "runtime/guest/helper/tracee.h"

#define OUR_END (LEND_FD + 1)
#define SIGNAL_BIT(sig) (UINT64_C(1) << ((sig) - 1))
#define AGAIN_MS 5 /* the borrower is dying: its tracees become free a moment after its descriptors are closed */
#define FLAGS_CLEAR UINT64_C(0x500) /* single step, direction */

static struct thread *find(struct monitor *m, pid_t tid)
{
	for (size_t i = 0; i < m->nthreads; i++)
		if (m->threads[i].tid == tid)
			return &m->threads[i];
	return NULL;
}

/* --- one thread ---------------------------------------------------------------------------------------------------------- */

static void want(struct thread *t, pid_t pid)
{
	t->lend = LEND_WANTED;
	t->loan = pid;
	ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);
}

static int keep(struct thread *t)
{
	if (!t->kept)
		t->kept = calloc(1, sizeof(*t->kept));
	if (!t->kept)
		return -ENOMEM;
	t->kept->pid = t->loan;
	t->kept->tid = t->tid;
	return 0;
}

/* About to make a call: it makes another one instead, and what is kept begins before the instruction. */
static int undo(struct thread *t)
{
	struct user_regs_struct regs;

	if (keep(t) || ptrace(PTRACE_GETREGS, t->tid, NULL, &regs))
		return -ESRCH;
	t->kept->regs = regs;
	t->kept->regs.rip -= 2;
	t->kept->regs.rax = regs.orig_rax;
	t->kept->regs.orig_rax = (unsigned long long)-1;
	regs.orig_rax = SYS_read;
	regs.rdi = (unsigned long long)-1;
	if (ptrace(PTRACE_SETREGS, t->tid, NULL, &regs))
		return -ESRCH;
	t->lend = LEND_UNDOES;
	ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL);
	return 0;
}

/* Sends a stopped thread to where it can wait, and lets go of it. */
static int let_go(struct monitor *m, struct thread *t)
{
	const uint64_t place = m->config->park(m->config->context, t->tid);
	const bool undone = t->lend == LEND_UNDOES;
	struct user_regs_struct regs;
	struct inject_err why;
	uint64_t mask;
	int err;

	if (!undone && keep(t))
		return -ENOMEM;
	regs = t->kept->regs;
	err = place ? tracee_save(t->kept, &why) : -EPERM;
	if (undone) {
		t->kept->regs = regs;
		if (err)
			ptrace(PTRACE_SETREGS, t->tid, NULL, &regs);
	}
	if (err)
		return err;
	regs = t->kept->regs;
	regs.rip = place;
	regs.orig_rax = (unsigned long long)-1;
	regs.eflags &= ~FLAGS_CLEAR;
	/* A handler that began here would be cut off.  Nothing here is a fault, but a call of the borrower's may be a trap, by
	 * Syscall User Dispatch; blocked, that would cost the program its handler. */
	mask = ~(SIGNAL_BIT(SIGSYS) & ~t->kept->mask);
	if (ptrace(PTRACE_SETSIGMASK, t->tid, (void *)sizeof(mask), &mask) || ptrace(PTRACE_SETREGS, t->tid, NULL, &regs) || ptrace(PTRACE_DETACH, t->tid, NULL, NULL))
		return -ESRCH;
	t->lend = LEND_GONE;
	return 0;
}

static void forget(struct monitor *m, struct thread *t)
{
	monitor_event(m, t->tid, MONITOR_EXIT, SIGKILL);
	if (t->tid == m->program)
		m->status = SIGKILL;
	free(t->kept);
	*t = (struct thread){0};
}

/* --- loans --------------------------------------------------------------------------------------------------------------- */

static void answer(struct monitor_loan *loan, int32_t word)
{
	send(loan->fd, &word, sizeof(word), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Threads on their way go that way to its end: only there is their interruption made good. */
static void refuse(struct monitor_loan *loan, int err)
{
	answer(loan, err);
	loan->state = LOAN_RETURNS;
}

static struct monitor_loan *loan_of(struct monitor *m, pid_t pid)
{
	for (int i = 0; i < MONITOR_LOANS; i++)
		if (m->loans[i].pid == pid && m->loans[i].state == LOAN_STOPS)
			return &m->loans[i];
	return NULL;
}

/* Seizing again takes what seizing takes, and the first time the kernel, or the program, may have made an exception. */
static bool may_seize(pid_t pid)
{
	cleanup_close int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
	char path[32], scope = '0';
	struct stat st;

	if (geteuid() == 0)
		return true;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	return (fd < 0 || (read(fd, &scope, 1) == 1 && scope == '0')) && !stat(path, &st) && st.st_uid == geteuid();
}

/* Whether they are all gone; those that are not on their way yet are sent on it.  Return: 1: all; 0; -errno. */
static int all_gone(struct monitor *m, pid_t pid)
{
	int gone = 0, left = 0;
	struct dirent *entry;
	char path[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		const pid_t tid = atoi(entry->d_name);
		struct thread *t = tid > 0 ? find(m, tid) : NULL;

		if (tid <= 0 || (t && t->lend == LEND_GONE)) {
			gone += tid > 0;
			continue;
		}
		if (tracee_mood(pid, tid) == TRACEE_DEAD)
			continue;
		left++;
		if (t && t->lend == LEND_NOT)
			want(t, pid);
	}
	if (dir)
		closedir(dir);
	return left ? 0 : gone ? 1 : -ESRCH;
}

static void begin(struct monitor *m, struct monitor_loan *loan)
{
	struct dirent *entry;
	char path[32];
	int err = find(m, loan->pid) ? 0 : -ESRCH;
	DIR *dir;

	for (int i = 0; i < MONITOR_LOANS; i++)
		if (m->loans[i].pid == loan->pid && m->loans[i].state != LOAN_WAITS)
			return;
	loan->state = LOAN_STOPS;
	loan->pidfd = (int)syscall(SYS_pidfd_open, loan->pid, 0);
	if (!err && (!may_seize(loan->pid) || !m->config->park(m->config->context, loan->pid)))
		err = -EPERM;
	snprintf(path, sizeof(path), "/proc/%d/task", loan->pid);
	dir = err ? NULL : opendir(path);
	while (dir && !err && (entry = readdir(dir))) {
		const pid_t tid = atoi(entry->d_name);
		const enum tracee_mood mood = tid > 0 ? tracee_mood(loan->pid, tid) : TRACEE_FINE;

		if (mood == TRACEE_BUSY || mood == TRACEE_ASLEEP)
			err = -EAGAIN;
	}
	if (dir)
		closedir(dir);
	if (err)
		refuse(loan, err);
}

/* The number may be somebody else's by now. */
static bool still_there(const struct monitor_loan *loan, pid_t tid)
{
	struct pollfd pfd = {.fd = loan->pidfd, .events = POLLIN};
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/task/%d", loan->pid, tid);
	return (loan->pidfd < 0 || poll(&pfd, 1, 0) == 0) && !access(path, F_OK);
}

/* Return: whether somebody of it is still away. */
static bool take_back(struct monitor *m, struct monitor_loan *loan)
{
	bool away = false;

	loan->again = false;
	for (size_t i = 0; i < m->nthreads; i++) {
		struct thread *t = &m->threads[i];

		if (!t->tid || t->loan != loan->pid)
			continue;
		if (t->lend == LEND_GONE) {
			if (!still_there(loan, t->tid) || tracee_mood(loan->pid, t->tid) == TRACEE_DEAD) {
				forget(m, t);
				continue;
			}
			if (ptrace(PTRACE_SEIZE, t->tid, NULL, (long)MONITOR_OPTIONS)) {
				loan->again = true;
			} else {
				t->lend = LEND_BACK;
				ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL);
			}
		}
		away |= t->lend != LEND_NOT;
	}
	return away;
}

/* As far as it goes now.  Return: whether it is over. */
static bool move_on(struct monitor *m, struct monitor_loan *loan)
{
	int all;

	if (loan->state == LOAN_WAITS)
		begin(m, loan);
	if (loan->state == LOAN_STOPS) {
		all = all_gone(m, loan->pid);
		if (all < 0) {
			refuse(loan, all);
		} else if (all) {
			answer(loan, 0);
			loan->state = LOAN_STANDS;
		}
	}
	if (loan->state == LOAN_RETURNS && !take_back(m, loan)) {
		close(loan->fd);
		if (loan->pidfd >= 0)
			close(loan->pidfd);
		loan->pid = 0;
	}
	return !loan->pid;
}

/* One request.  Return: whether there was one. */
static bool request(struct monitor *m)
{
	union {
		char space[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr head;
	} control;
	struct lend_request r;
	struct iovec iov = {&r, sizeof(r)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	const ssize_t got = recvmsg(OUR_END, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd[4] = {-1, -1, -1, -1};
	size_t n = 0;

	if (got < 0)
		return false;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && !n) {
			n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fd, CMSG_DATA(c), (n < 4 ? n : 4) * sizeof(int));
		}
	for (int i = 0; n == 1 && got == (ssize_t)sizeof(r) && r.magic == LEND_MAGIC && r.pid > 0 && i < MONITOR_LOANS; i++)
		if (!m->loans[i].pid) {
			m->loans[i] = (struct monitor_loan){.pid = r.pid, .fd = fd[0], .pidfd = -1, .state = LOAN_WAITS};
			fd[0] = -1;
			break;
		}
	for (int i = 0; i < 4; i++) /* not understood, or too many: the other end sees that nobody is there */
		if (fd[i] >= 0)
			close(fd[i]);
	return true;
}

/* --- for monitor.c --------------------------------------------------------------------------------------------------------- */

bool monitor_lend_stopped(struct monitor *m, struct thread *t, int status)
{
	const int what = status >> 16, sig = WSTOPSIG(status);
	const bool of_call = !what && sig == SYSCALL_STOP;
	struct __ptrace_syscall_info info = {0};
	struct monitor_loan *loan;
	int err = 0;

	if (t->lend == LEND_GONE)
		return true;
	if (t->lend == LEND_BACK) {
		if (!of_call && (!what || what == PTRACE_EVENT_STOP)) {
			tracee_put_back(t->kept);
			t->lend = LEND_NOT;
		}
		return false;
	}
	if (of_call && ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info) <= 0)
		return false;
	if (what == PTRACE_EVENT_STOP || (of_call && info.op == PTRACE_SYSCALL_INFO_EXIT)) {
		if (of_call && t->lend == LEND_WANTED)
			monitor_call_stop(m, t);
		err = let_go(m, t);
	} else if (of_call && info.op == PTRACE_SYSCALL_INFO_ENTRY && t->lend == LEND_WANTED) {
		err = undo(t);
	} else {
		ptrace(PTRACE_INTERRUPT, t->tid, NULL, NULL); /* this stop has used up the one before */
		return false;
	}
	if (!err)
		return true;
	/* Its call, if it was about to make one, is made again: it has just been put back before it, or was not taken from it. */
	loan = loan_of(m, t->loan);
	t->lend = LEND_NOT;
	if (loan)
		refuse(loan, err == -ESRCH ? -EAGAIN : err);
	if (what == PTRACE_EVENT_STOP || info.op == PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL);
	return true;
}

bool monitor_lend_out(const struct monitor *m)
{
	for (int i = 0; i < MONITOR_LOANS; i++)
		if (m->loans[i].pid)
			return true;
	return false;
}

void monitor_lend_serve(struct monitor *m, bool wait)
{
	struct pollfd fds[MONITOR_LOANS + 1] = {{OUR_END, POLLIN, 0}};
	struct timespec soon = {0};
	sigset_t mask;

	for (int i = 0; i < MONITOR_LOANS; i++) {
		if (m->loans[i].pid && move_on(m, &m->loans[i]))
			wait = false; /* it may have been the last thing to wait for */
		fds[i + 1] = (struct pollfd){m->loans[i].pid && m->loans[i].state != LOAN_RETURNS ? m->loans[i].fd : -1, POLLRDHUP, 0};
		if (m->loans[i].pid && m->loans[i].state == LOAN_RETURNS && m->loans[i].again)
			soon.tv_nsec = AGAIN_MS * 1000000L;
	}
	sigprocmask(SIG_SETMASK, NULL, &mask);
	sigdelset(&mask, SIGCHLD);
	if (ppoll(fds, MONITOR_LOANS + 1, wait && !soon.tv_nsec ? NULL : &soon, wait ? &mask : NULL) <= 0)
		return;
	for (int i = 0; i < MONITOR_LOANS; i++)
		if (fds[i + 1].revents) {
			m->loans[i].state = LOAN_RETURNS;
			move_on(m, &m->loans[i]);
		}
	while (fds[0].revents && request(m))
		;
}

static void nothing(int sig)
{
	(void)sig;
}

void monitor_lend_open(struct monitor *m)
{
	const struct sigaction sa = {.sa_handler = nothing};
	sigset_t children;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return;
	for (int i = 0; i < 2; i++) { /* up, out of the way of both numbers */
		const int up = fcntl(pair[i], F_DUPFD_CLOEXEC, OUR_END + 1);

		close(pair[i]);
		pair[i] = up;
	}
	dup3(pair[0], LEND_FD, O_CLOEXEC);
	dup3(pair[1], OUR_END, O_CLOEXEC);
	close(pair[0]);
	close(pair[1]);
	sigemptyset(&children); /* the kernel tells of each stop by a signal, which is let in where there is nothing else to do */
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	sigaction(SIGCHLD, &sa, NULL);
	m->lends = true;
}

void monitor_lend_close(struct monitor *m)
{
	if (!m->lends)
		return;
	for (int i = 0; i < MONITOR_LOANS; i++)
		if (m->loans[i].pid)
			close(m->loans[i].fd);
	for (size_t i = 0; i < m->nthreads; i++)
		free(m->threads[i].kept);
	close(LEND_FD);
	close(OUR_END);
}
