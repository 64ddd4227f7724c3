/* cases_signals.c - signals: masks, handlers, restart, alternate stacks, SIGSYS itself; see cases.c */
#include "tests/intercept/cases.h"

static void c_eintr(void)
{
	char c;
	int p[2];

	if (pipe(p))
		return;
	on(SIGALRM, count_signal, 0);
	timer_ms(30, 0);
	tell("read", read(p[0], &c, 1));
	say("hits %d\n", (int)cases_hits);
}

static volatile int *shared_hits; /* the child waits for some */

static void count_shared(int sig)
{
	count_signal(sig);
	++*shared_hits;
}

static void c_restart(void)
{
	char c = 0;
	int p[2];

	if (pipe(p))
		return;
	shared_hits = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	on(SIGALRM, count_shared, SA_RESTART);
	timer_ms(20, 20);
	if (!fork()) {
		while (*shared_hits <= 2)
			usleep(5000);
		_exit(write(p[1], "x", 1) != 1);
	}
	say("read %zd ", read(p[0], &c, 1));
	say("%c, hits more than 2: %d\n", c, cases_hits > 2);
}

static void c_siglongjmp(void)
{
	char c;
	int p[2];
	volatile int n = 0;
	sigset_t set;

	if (pipe(p))
		return;
	on(SIGALRM, leave, 0);
	for (volatile int i = 0; i < 20; i++) {
		if (!sigsetjmp(cases_jump, 1)) {
			timer_ms(5, 0);
			if (read(p[0], &c, 1))
				say("read returned\n");
		} else {
			n++;
		}
	}
	sigprocmask(SIG_SETMASK, NULL, &set);
	say("left %d times, SIGALRM blocked %d\n", n, sigismember(&set, SIGALRM));
}

static void c_sigsuspend(void)
{
	sigset_t block, empty;
	int rc;

	on(SIGALRM, count_signal, 0);
	sigemptyset(&block);
	sigaddset(&block, SIGALRM);
	sigprocmask(SIG_BLOCK, &block, NULL);
	sigemptyset(&empty);
	timer_ms(20, 0);
	rc = sigsuspend(&empty);
	say("sigsuspend %d %s hits %d\n", rc, strerror(errno), (int)cases_hits);
	sigfillset(&block);
	sigdelset(&block, SIGALRM);
	timer_ms(20, 0);
	rc = sigsuspend(&block);
	say("sigsuspend with all but one blocked %d %s hits %d\n", rc, strerror(errno), (int)cases_hits);
}

static void c_masks(void)
{
	sigset_t set, old;
	struct sigaction sa = {.sa_handler = count_signal}, seen;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, &old);
	say("before: SIGSYS %d\n", sigismember(&old, SIGSYS));
	sigprocmask(SIG_BLOCK, NULL, &old);
	say("all: SIGSYS %d SIGTERM %d\n", sigismember(&old, SIGSYS), sigismember(&old, SIGTERM));
	getppid();
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigprocmask(SIG_UNBLOCK, &set, &old);
	say("unblock: SIGSYS was %d\n", sigismember(&old, SIGSYS));
	sigprocmask(SIG_BLOCK, NULL, &old);
	say("then: SIGSYS %d SIGTERM %d\n", sigismember(&old, SIGSYS), sigismember(&old, SIGTERM));
	sigfillset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR1, NULL, &seen);
	say("sa_mask has SIGSYS %d\n", sigismember(&seen.sa_mask, SIGSYS));
	sigdelset(&sa.sa_mask, SIGSYS);
	sigaction(SIGUSR1, &sa, &seen);
	say("old sa_mask has SIGSYS %d\n", sigismember(&seen.sa_mask, SIGSYS));
	sigaction(SIGUSR1, NULL, &seen);
	say("new sa_mask has SIGSYS %d\n", sigismember(&seen.sa_mask, SIGSYS));
}

static void c_sigsys_own(void)
{
	struct sigaction sa = {.sa_sigaction = count_info, .sa_flags = SA_SIGINFO}, old;
	sigset_t set;
	pid_t pid;

	sigaction(SIGSYS, NULL, &old);
	say("default at first %d\n", old.sa_handler == SIG_DFL);
	sigaction(SIGSYS, &sa, NULL);
	sigaction(SIGSYS, NULL, &old);
	say("own handler reported %d flags %d\n", old.sa_sigaction == count_info, (old.sa_flags & SA_SIGINFO) != 0);
	raise(SIGSYS);
	say("raise: hits %d signal %d\n", (int)cases_hits, (int)cases_signal);
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGSYS);
	say("blocked: hits %d\n", (int)cases_hits);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	say("unblocked: hits %d\n", (int)cases_hits);
	signal(SIGSYS, SIG_IGN);
	raise(SIGSYS);
	say("ignored: hits %d\n", (int)cases_hits);
	pid = fork();
	if (!pid) {
		signal(SIGSYS, SIG_DFL);
		raise(SIGSYS);
		_exit(0);
	}
	report_child("default", pid);
}

static void c_altstack(void)
{
	static char stack[65536];
	const stack_t ss = {.ss_sp = stack, .ss_size = sizeof(stack)};
	stack_t now;

	sigaltstack(&ss, NULL);
	on(SIGUSR1, count_signal, SA_ONSTACK);
	raise(SIGUSR1);
	sigaltstack(NULL, &now);
	say("hits %d, still %d, flags %d\n", (int)cases_hits, now.ss_sp == stack, now.ss_flags);
}

static volatile sig_atomic_t on_alt;
static char alt[65536];
static void where(int sig)
{
	char here;
	stack_t now;

	(void)sig;
	sigaltstack(NULL, &now);
	on_alt = &here >= alt && &here < alt + sizeof(alt) && now.ss_flags == SS_ONSTACK;
	getppid();
}

static void c_altstack_calls(void)
{
	const stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt)};

	sigaltstack(&ss, NULL);
	on(SIGUSR1, where, SA_ONSTACK);
	raise(SIGUSR1);
	say("handler ran there, with calls: %d\n", (int)on_alt);
}

static void overflow_handler(int sig)
{
	(void)sig;
	if (write(1, "caught overflow\n", 16) == 16)
		_exit(7);
}

static int __attribute__((noinline)) deeper(int n)
{
	volatile char block[4096];

	block[0] = (char)n;
	return n > 1000000 ? 0 : deeper(n + 1) + block[0];
}

static void c_overflow(void)
{
	const stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt)};
	pid_t pid = fork();

	if (!pid) {
		sigaltstack(&ss, NULL);
		on(SIGSEGV, overflow_handler, SA_ONSTACK);
		_exit(deeper(0) == 1);
	}
	report_child("overflow", pid);
}

static void nested(int sig)
{
	cases_hits++;
	if (sig == SIGUSR1)
		raise(SIGUSR2);
	getppid();
}

static void c_nested(void)
{
	on(SIGUSR1, nested, 0);
	on(SIGUSR2, nested, SA_NODEFER);
	for (int i = 0; i < 100; i++)
		raise(SIGUSR1);
	say("hits %d\n", (int)cases_hits);
}

static void c_storm(void)
{
	unsigned int wrong = 0;
	const pid_t parent = getppid();

	on(SIGALRM, count_signal, SA_RESTART);
	timer_ms(1, 1);
	while (cases_hits < 100)
		for (int i = 0; i < 1000; i++)
			wrong += getppid() != parent;
	timer_ms(0, 0);
	say("wrong results %u\n", wrong);
}

static void c_ppoll_mask(void)
{
	sigset_t block, empty;
	const struct timespec limit = {5, 0};
	int rc;

	on(SIGALRM, count_signal, 0);
	sigfillset(&block);
	sigprocmask(SIG_BLOCK, &block, NULL);
	sigfillset(&empty);
	sigdelset(&empty, SIGALRM);
	timer_ms(20, 0);
	rc = ppoll(NULL, 0, &limit, &empty);
	say("ppoll %d %s\n", rc, strerror(errno));
	timer_ms(20, 0);
	rc = pselect(0, NULL, NULL, NULL, &limit, &empty);
	say("pselect %d %s\n", rc, strerror(errno));
	timer_ms(20, 0);
	rc = epoll_pwait(epoll_create1(0), &(struct epoll_event){0}, 1, 5000, &empty);
	say("epoll_pwait %d %s hits %d\n", rc, strerror(errno), (int)cases_hits);
}

static void change_mask(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGSYS);
	sigaddset(&((ucontext_t *)context)->uc_sigmask, SIGUSR2);
}

static void c_ucontext_mask(void)
{
	sigset_t now;

	on_info(SIGUSR1, change_mask, 0);
	raise(SIGUSR1);
	sigprocmask(SIG_BLOCK, NULL, &now);
	getppid();
	say("SIGUSR2 blocked %d, alive\n", sigismember(&now, SIGUSR2));
}

static void c_sigqueue(void)
{
	on_info(SIGRTMIN, count_info, 0);
	sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5});
	say("hits %d code %d\n", (int)cases_hits, (int)cases_code);
}

static void c_sigwait(void)
{
	sigset_t set;
	int sig = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGSYS);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGUSR1);
	sigwait(&set, &sig);
	say("got %d\n", sig);
}

static void c_signalfd(void)
{
	struct signalfd_siginfo info;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, 0);
	kill(getpid(), SIGUSR1);
	say("read %d, ", read(fd, &info, sizeof(info)) == sizeof(info));
	say("signal %u\n", info.ssi_signo);
}

static void c_resethand(void)
{
	struct sigaction now;

	on(SIGUSR1, count_signal, (int)SA_RESETHAND);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &now);
	say("hits %d default %d\n", (int)cases_hits, now.sa_handler == SIG_DFL);
}

static void c_stop_cont(void)
{
	int status, p[2];
	char c;
	pid_t pid;

	if (pipe(p))
		return;
	pid = fork();
	if (!pid) {
		if (read(p[0], &c, 1) != 1)
			_exit(1);
		_exit(5);
	}
	usleep(20000);
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	say("stopped %d\n", WIFSTOPPED(status));
	kill(pid, SIGCONT);
	waitpid(pid, &status, WCONTINUED);
	say("continued %d\n", WIFCONTINUED(status));
	if (write(p[1], "x", 1) == 1)
		report_child("then", pid);
}

static void c_sigmask_bad(void)
{
	tell("rt_sigprocmask of a bad pointer", syscall(SYS_rt_sigprocmask, SIG_BLOCK, cases_bad, NULL, 8));
	tell("rt_sigprocmask of a bad size", syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, NULL, 4));
	tell("rt_sigaction of a bad pointer", syscall(SYS_rt_sigaction, SIGUSR1, cases_bad, NULL, 8));
	tell("rt_sigaction of SIGKILL", syscall(SYS_rt_sigaction, SIGKILL, &(struct sigaction){0}, NULL, 8));
	tell("ppoll of a bad mask", syscall(SYS_ppoll, NULL, 0, NULL, cases_bad, 8));
	tell("execve of a bad environment", execve("/bin/true", (char *[]){"true", NULL}, cases_bad));
	tell("clone3 of a bad pointer", syscall(SYS_clone3, cases_bad, 88));
}

const struct cases_case cases_signals[] = {
	CASE(eintr), CASE(restart), CASE(siglongjmp), CASE(sigsuspend), CASE(masks), CASE(sigsys_own), CASE(altstack),
	CASE(altstack_calls), CASE(overflow), CASE(nested), CASE(storm), CASE(ppoll_mask), CASE(ucontext_mask),
	CASE(sigqueue), CASE(sigwait), CASE(signalfd), CASE(resethand), CASE(stop_cont), CASE(sigmask_bad),
	{0},
};
