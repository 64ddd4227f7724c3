/* monitor.c - a tracer of a program and of all that it starts
 *
 * Theory of operation
 *
 * PTRACE_SEIZE with PTRACE_O_TRACEFORK and its like makes the kernel attach to every child and thread before its first
 * instruction, so none is missed.  A thread stops (wait4(2), __WALL) for
 *
 *   a call that begins or ends    PTRACE_GET_SYSCALL_INFO tells which, and the registers
 *   a signal                      passed on with PTRACE_SYSCALL
 *   a stop of its whole process   PTRACE_LISTEN: it stays stopped, and is reported when it goes on
 *   fork, clone, exec             an event
 *
 * An answered call is given the number -1, which the kernel refuses without doing anything, and its result at its end.
 * A thread that is sent elsewhere makes a call that does nothing, and its registers are changed at that one's end.
 * Changed registers are put back at the end as the program had them: the kernel leaves them alone, and a call made again
 * after a signal begins from them.
 *
 * A thread may vanish at any time (SIGKILL): ESRCH is never an error here, its status comes by wait4().
 *
 * wait4(2) names the youngest thread first that has something to say.  Threads that stop again at once (who looks whether another has
 * finished) would keep the others waiting for as long as they do so.  So it is asked until it names nobody, and then all whom it has
 * named go on in that order: each once, before any of them a second time.  One that is named again before its turn has not gone
 * on but was killed, perhaps by another thread's exec, which now has its number: what was told first is void (outdated()).
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/monitor/monitor_impl.h"

#define RT_SIGRETURN 15

struct thread *monitor_thread(struct monitor *m, pid_t tid)
{
	struct thread *free_entry = NULL, *more;
	size_t room;

	for (size_t i = 0; i < m->nthreads; i++) {
		if (m->threads[i].tid == tid)
			return &m->threads[i];
		if (!m->threads[i].tid)
			free_entry = &m->threads[i];
	}
	if (!free_entry && m->nthreads == m->room) {
		room = m->room ? 2 * m->room : 64;
		more = realloc(m->threads, room * sizeof(*more));
		if (!more)
			return NULL;
		m->threads = more;
		m->room = room;
	}
	if (!free_entry)
		free_entry = &m->threads[m->nthreads++];
	*free_entry = (struct thread){.tid = tid};
	return free_entry;
}

void monitor_event(struct monitor *m, pid_t tid, enum monitor_event what, int64_t other)
{
	if (m->config->event && m->started)
		m->config->event(m->config->context, tid, what, other);
}

/* The registers that a call is made of.  @nr also goes where the kernel looks for it. */
static void write_call(pid_t tid, const struct intercept_call *call, int64_t nr)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, tid, NULL, &regs))
		return;
	regs.orig_rax = (unsigned long long)nr;
	regs.rdi = call->arg[0];
	regs.rsi = call->arg[1];
	regs.rdx = call->arg[2];
	regs.r10 = call->arg[3];
	regs.r8 = call->arg[4];
	regs.r9 = call->arg[5];
	ptrace(PTRACE_SETREGS, tid, NULL, &regs);
}

static void begin(struct monitor *m, struct thread *t, const struct __ptrace_syscall_info *info)
{
	/* What a program that has confined itself may do too; -1 is refused by its filter, with a signal at worst. */
	const struct intercept_call nothing = {.arg = {(uint64_t)-1}};
	struct intercept_call now;

	t->inside = true;
	t->answered = t->changed = false;
	t->asked = (struct intercept_call){.nr = info->entry.nr, .pc = info->instruction_pointer};
	memcpy(t->asked.arg, info->entry.args, sizeof(t->asked.arg));
	t->asked.trapped = t->again == t->asked.pc && t->surely_again;
	/* Without a handler the call that is made again is the thread's next; with one, the handler's return tells whether it is. */
	if (t->asked.nr != RT_SIGRETURN)
		t->surely_again = false;
	now = t->asked;
	t->jumps = m->started && m->config->jump && info->arch == AUDIT_ARCH_X86_64 &&
		   m->config->jump(m->config->context, t->tid, &t->asked, &t->to);
	if (t->jumps) {
		t->surely_again = false;
		write_call(t->tid, &nothing, SYS_read);
		return;
	}
	if (info->arch != AUDIT_ARCH_X86_64) {
		t->answered = true;
		t->result = -ENOSYS;
	} else if (m->started && m->config->enter) {
		t->answered = m->config->enter(m->config->context, t->tid, &now, &t->result);
	}
	t->changed = now.nr != t->asked.nr || memcmp(now.arg, t->asked.arg, sizeof(now.arg));
	if (t->answered || t->changed)
		write_call(t->tid, &now, t->answered ? -1 : (int64_t)now.nr);
}

static void send_off(const struct thread *t)
{
	struct user_regs_struct regs;

	write_call(t->tid, &t->asked, -1);
	if (ptrace(PTRACE_GETREGS, t->tid, NULL, &regs))
		return;
	regs.rax = t->asked.nr;
	regs.rcx = regs.rip;
	regs.rip = t->to.pc;
	ptrace(PTRACE_SETREGS, t->tid, NULL, &regs);
}

static void end(struct monitor *m, struct thread *t, const struct __ptrace_syscall_info *info)
{
	const int64_t result = t->answered ? t->result : info->exit.rval;

	t->inside = false;
	if (t->jumps) {
		send_off(t);
		return;
	}
	if (t->changed || t->answered)
		write_call(t->tid, &t->asked, (int64_t)t->asked.nr);
	if (t->answered)
		ptrace(PTRACE_POKEUSER, t->tid, offsetof(struct user_regs_struct, rax), result);
	if (t->asked.nr == RT_SIGRETURN && t->again) {
		t->surely_again = info->instruction_pointer == t->again - 2; /* the handler's frame goes back to the instruction */
	} else if (!t->answered && (result == -512 || result == -513 || result == -514 || result == -516)) { /* ERESTARTSYS and its like */
		t->again = t->asked.pc;
		t->surely_again = true;
	}
	if (m->started && m->config->leave)
		m->config->leave(m->config->context, t->tid, &t->asked, result);
}

void monitor_call_stop(struct monitor *m, struct thread *t)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		begin(m, t, &info);
	else if (info.op == PTRACE_SYSCALL_INFO_EXIT && t->inside)
		end(m, t, &info);
}

/* exec by a thread: it takes over the process's id, the others are gone. */
static void exec_stop(struct monitor *m, struct thread *t, pid_t former)
{
	const pid_t tid = t->tid;
	struct thread *from = former == tid ? t : monitor_thread(m, former);

	t = monitor_thread(m, tid); /* the list may have moved */
	if (from && from != t) {
		*t = *from;
		t->tid = tid;
		from->tid = 0;
	}
	t->again = 0;
	if (tid == m->program)
		m->started = true;
	monitor_event(m, tid, MONITOR_EXEC, former);
}

void monitor_stopped(struct monitor *m, struct thread *t, int status)
{
	const int what = status >> 16, sig = WSTOPSIG(status);
	unsigned long message = 0;

	switch (what) {
	case PTRACE_EVENT_STOP:
		ptrace(sig == SIGTRAP ? PTRACE_SYSCALL : PTRACE_LISTEN, t->tid, NULL, NULL);
		return;
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE:
		if (!ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &message))
			monitor_event(m, t->tid, MONITOR_MADE, (int64_t)message);
		break;
	case PTRACE_EVENT_EXEC:
		if (!ptrace(PTRACE_GETEVENTMSG, t->tid, NULL, &message))
			exec_stop(m, t, (pid_t)message);
		break;
	default:
		if (sig == SYSCALL_STOP) {
			monitor_call_stop(m, t);
			break;
		}
		monitor_event(m, t->tid, MONITOR_SIGNAL, sig);
		ptrace(PTRACE_SYSCALL, t->tid, NULL, (long)sig);
		return;
	}
	ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL);
}

/* All that wait4() has to tell, at least one thing.  Return: 0; -ECHILD: there is nobody left; -errno. */
static int gather(struct monitor *m)
{
	int status;
	pid_t tid;

	m->nround = 0;
	if (m->lends)
		monitor_lend_serve(m, false);
	for (;;) {
		if (m->nround == m->round_room) {
			const size_t room = m->round_room ? 2 * m->round_room : 64;
			void *more = realloc(m->round, room * sizeof(*m->round));

			if (!more)
				return -ENOMEM;
			m->round = more;
			m->round_room = room;
		}
		tid = wait4(-1, &status, __WALL | (m->nround || m->lends ? WNOHANG : 0), NULL);
		if (tid < 0 && errno == EINTR)
			continue;
		if (tid <= 0 && m->lends && !m->nround && (tid == 0 || monitor_lend_out(m))) {
			monitor_lend_serve(m, true);
			continue;
		}
		if (tid <= 0)
			return tid && !m->nround ? -errno : 0;
		for (size_t i = 0; i < m->nround; i++)
			if (m->round[i].tid == tid && WIFSTOPPED(m->round[i].status))
				m->round[i].over = true;
		m->round[m->nround].tid = tid;
		m->round[m->nround].over = false;
		m->round[m->nround++].status = status;
	}
}

static bool outdated(pid_t tid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)tid, &info, WSTOPPED | WEXITED | WNOWAIT | WNOHANG | __WALL) || info.si_pid;
}

static int told(struct monitor *m, pid_t tid, int status)
{
	struct thread *t = monitor_thread(m, tid);

	if (!t)
		return -ENOMEM;
	if (WIFSTOPPED(status)) {
		if (t->lend == LEND_NOT || !monitor_lend_stopped(m, t, status))
			monitor_stopped(m, t, status);
		return 0;
	}
	monitor_event(m, tid, MONITOR_EXIT, status);
	if (tid == m->program)
		m->status = status;
	free(t->kept);
	*t = (struct thread){0};
	return 0;
}

static int watch(struct monitor *m)
{
	int rc;

	while (!(rc = gather(m)))
		for (size_t i = 0; i < m->nround; i++)
			if (!m->round[i].over && !(i && WIFSTOPPED(m->round[i].status) && outdated(m->round[i].tid)) &&
			    told(m, m->round[i].tid, m->round[i].status))
				return -ENOMEM;
	return rc == -ECHILD ? 0 : rc;
}

/* In the child: waits until it is traced, becomes the program, tells why not. */
static _Noreturn void become(const int ready[2], const int failed[2], const struct sigaction before[2], char *const argv[])
{
	char c;
	int err;

	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		_exit(127);
	sigaction(SIGINT, &before[0], NULL);
	sigaction(SIGQUIT, &before[1], NULL);
	execvp(argv[0], argv);
	err = errno;
	if (write(failed[1], &err, sizeof(err)) != sizeof(err))
		_exit(126);
	_exit(127);
}

static void close_both(int fd[2])
{
	for (int i = 0; i < 2; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

static int start_and_watch(struct monitor *m, const int ready[2], int failed[2], const struct sigaction before[2], char *const argv[])
{
	int err = 0, rc;

	m->program = fork();
	if (m->program < 0)
		return -errno;
	if (!m->program)
		become(ready, failed, before, argv);
	close(failed[1]);
	failed[1] = -1;
	rc = ptrace(PTRACE_SEIZE, m->program, NULL, (long)MONITOR_OPTIONS) ? -errno : 0;
	if (!rc)
		rc = ptrace(PTRACE_INTERRUPT, m->program, NULL, NULL) ? -errno : 0; /* from here on it stops at its calls */
	if (rc || write(ready[1], "", 1) != 1) {
		kill(m->program, SIGKILL);
		waitpid(m->program, NULL, 0);
		return rc ? rc : -EPIPE;
	}
	rc = watch(m);
	if (!rc && read(failed[0], &err, sizeof(err)) == sizeof(err))
		rc = -err;
	return rc;
}

int monitor_run(const struct monitor_config *config, char *const argv[], int *status)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct monitor m = {.config = config};
	struct sigaction before[2];
	int ready[2] = {-1, -1}, failed[2] = {-1, -1}, rc;

	if (pipe2(ready, O_CLOEXEC) || pipe2(failed, O_CLOEXEC)) {
		rc = -errno;
		close_both(ready);
		return rc;
	}
	sigaction(SIGINT, &ignore, &before[0]);
	sigaction(SIGQUIT, &ignore, &before[1]);
	rc = start_and_watch(&m, ready, failed, before, argv);
	sigaction(SIGINT, &before[0], NULL);
	sigaction(SIGQUIT, &before[1], NULL);
	close_both(ready);
	close_both(failed);
	free(m.threads);
	free(m.round);
	*status = m.status;
	return rc;
}

int monitor_follow(const struct monitor_config *config, pid_t pid, int *status)
{
	struct monitor m = {.config = config, .program = pid, .started = config->from_now_on};
	int rc;

	if (config->park)
		monitor_lend_open(&m);
	rc = ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) ? -errno : watch(&m); /* interrupted, it stops at its calls from here on */
	monitor_lend_close(&m);
	free(m.threads);
	free(m.round);
	*status = m.status;
	return rc;
}
