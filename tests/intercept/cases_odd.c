/* cases_odd.c - programs that are hard on whoever shares their process: sandboxes, odd stacks, odd masks, crowds; see cases.c */
#include "tests/intercept/cases.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static void c_close_all(void)
{
	int fd = open("/dev/null", O_RDONLY);

	syscall(SYS_close_range, 3, ~0U, 0);
	say("closed %d\n", fcntl(fd, F_GETFD) < 0 && errno == EBADF);
	for (int i = 0; i < 50; i++)
		getppid();
	fd = open("/dev/null", O_RDONLY);
	say("lowest free one %d\n", fd);
	for (int i = 0; i < 3; i++)
		close(i);
	pid_t pid = fork();

	if (!pid) {
		execl("/bin/sh", "sh", "-c", "exit 6", (char *)NULL);
		_exit(127);
	}
	int status;

	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) && WEXITSTATUS(status) == 6 ? 0 : 1);
}

/* A filter that kills for everything but these, as a sandboxed decoder would have it. */
static void sandbox(void)
{
#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_exit_group), ALLOW(SYS_exit), ALLOW(SYS_rt_sigreturn), ALLOW(SYS_rt_sigaction),
		ALLOW(SYS_ppoll), ALLOW(SYS_getppid), ALLOW(SYS_munmap),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	const struct sock_fprog prog = {sizeof(filter) / sizeof(*filter), filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

static void c_seccomp_filter(void)
{
	void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (!pid) {
		static sigset_t none;
		struct sigaction *sa = calloc(1, sizeof(*sa)); /* not on the page of the stack */
		const struct timespec moment = {0, 1000};

		sandbox();
		sa->sa_handler = count_signal;
		sigaction(SIGUSR1, sa, NULL);
		for (int i = 0; i < 100; i++)
			getppid();
		ppoll(NULL, 0, &moment, &none);
		munmap(page, 4096);
		_exit(write(1, "in the sandbox\n", 15) == 15 ? 5 : 6);
	}
	report_child("sandboxed", pid);
	pid = fork();
	if (!pid) {
		sandbox();
		getuid();
		_exit(0);
	}
	report_child("what it forbids", pid);
}

static void c_seccomp_strict(void)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		for (int i = 0; i < 10; i++)
			if (write(1, "strict\n", 7) != 7)
				break;
		syscall(SYS_exit, 3);
	}
	report_child("strict", pid);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		getppid();
		syscall(SYS_exit, 3);
	}
	report_child("what it forbids", pid);
}

static void c_seccomp_errno(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = {sizeof(filter) / sizeof(*filter), filter};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	say("filter %ld\n", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
	on_info(SIGSYS, count_info, 0);
	tell("getpgid", syscall(SYS_getpgid, 0));
	syscall(SYS_getsid, 0);
	say("trapped: hits %d code %d\n", (int)cases_hits, (int)cases_code);
}

static char alt[65536] __attribute__((aligned(4096)));
static volatile sig_atomic_t disarmed;

static void in_autodisarm(int sig)
{
	stack_t now;

	(void)sig;
	cases_hits++;
	sigaltstack(NULL, &now);
	disarmed += now.ss_flags == SS_DISABLE;
	getppid();
	if (cases_hits < 3)
		raise(SIGUSR1);
}

static void c_autodisarm(void)
{
	const stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt), .ss_flags = (int)(1U << 31)}; /* SS_AUTODISARM */
	stack_t now;

	say("sigaltstack %d\n", sigaltstack(&ss, NULL));
	on(SIGUSR1, in_autodisarm, SA_ONSTACK | SA_NODEFER);
	raise(SIGUSR1);
	sigaltstack(NULL, &now);
	say("hits %d disarmed in it %d, armed again %d\n", (int)cases_hits, (int)disarmed, now.ss_sp == alt);
}

static void call_there(int sig)
{
	cases_hits += syscall(SYS_getppid) == getppid() && sig == SIGUSR1;
}

/* SIGSTKSZ as it was until glibc 2.34, which is in old programs: the handler's frame, and one more for a trap. */
static void c_altstack_8k(void)
{
	const stack_t ss = {.ss_sp = alt + 4096, .ss_size = 8192};

	sigaltstack(&ss, NULL);
	on(SIGUSR1, call_there, SA_ONSTACK);
	for (int i = 0; i < 10; i++)
		raise(SIGUSR1);
	say("hits %d\n", (int)cases_hits);
}

static void c_altstack_unmapped(void)
{
	const size_t bytes = 65536;
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const stack_t ss = {.ss_sp = p, .ss_size = bytes};

	sigaltstack(&ss, NULL);
	tell("munmap of nothing", munmap(p + 1, bytes));
	say("munmap %d, ", munmap(p, bytes));
	say("alive %d\n", syscall(SYS_getppid) == getppid());
}

static void c_env_huge(void)
{
	enum { COUNT = 3000 };
	static char *env[COUNT + 2], text[COUNT][128], one[100000];
	pid_t pid;

	for (int i = 0; i < COUNT; i++) {
		snprintf(text[i], sizeof(text[i]), "HUGE_%d=%0100d", i, i);
		env[i] = text[i];
	}
	memset(one, 'x', sizeof(one) - 1);
	memcpy(one, "ONE=", 4);
	env[COUNT] = one;
	pid = fork();
	if (!pid) {
		execle("/bin/sh", "sh", "-c", "echo ${#ONE} ${#HUGE_2999} $(/usr/bin/env | /bin/grep -c ^HUGE_)", (char *)NULL, env);
		_exit(127);
	}
	report_child("sh", pid);
}

static void c_int80(void)
{
	long ret = 20; /* getpid of i386 */

	__asm__ volatile("int $0x80" : "+a"(ret) : "b"(0), "c"(0), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	/* Answered or refused (by the kernel too, without IA32 emulation), never something else. */
	say("as it should %d\n", ret == getpid() || ret == -ENOSYS);
}

static volatile sig_atomic_t depth;

static void dig(int sig)
{
	getppid();
	if (++depth < 400)
		raise(sig);
	getppid();
}

static void c_deep_nesting(void)
{
	on(SIGUSR1, dig, SA_NODEFER);
	raise(SIGUSR1);
	say("depth %d\n", (int)depth);
}

static pthread_barrier_t barrier;
static int crowd_sum;

static void *one_of_many(void *arg)
{
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 20; i++)
		__atomic_fetch_add(&crowd_sum, syscall(SYS_gettid) > 0, __ATOMIC_RELAXED);
	return arg;
}

static void c_thousand_threads(void)
{
	static pthread_t t[1000];
	pthread_attr_t attr;
	int made = 0;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	pthread_barrier_init(&barrier, NULL, 1001);
	while (made < 1000 && !pthread_create(&t[made], &attr, one_of_many, NULL))
		made++;
	if (made == 1000)
		pthread_barrier_wait(&barrier);
	for (int i = 0; i < made; i++)
		pthread_join(t[i], NULL);
	say("made %d sum %d\n", made, crowd_sum);
}

static int beside(void *arg)
{
	volatile int *stop = arg;
	int n = 0;

	do {
		syscall(SYS_getppid);
		n++;
	} while (!*stop);
	return n > 0 ? 8 : 9;
}

static void c_clone_vm_beside(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	volatile int stop = 0;
	int status;
	pid_t pid = clone(beside, stack + sizeof(stack), CLONE_VM | CLONE_FILES | SIGCHLD, (void *)&stop);

	for (int i = 0; i < 3000; i++)
		syscall(SYS_getppid);
	usleep(20000);
	stop = 1;
	waitpid(pid, &status, 0);
	say("exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void c_sigsys_waited(void)
{
	const struct timespec limit = {5, 0};
	sigset_t set, pending;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kill(getpid(), SIGSYS);
	getppid();
	sigpending(&pending);
	say("pending %d\n", sigismember(&pending, SIGSYS));
	say("sigtimedwait %d\n", sigtimedwait(&set, &info, &limit));
	sigpending(&pending);
	say("then pending %d\n", sigismember(&pending, SIGSYS));
}

static volatile sig_atomic_t inside, entered_again, was_pending;

static void in_sigsys(int sig)
{
	sigset_t now;

	cases_hits++;
	entered_again += inside;
	inside = 1;
	sigprocmask(SIG_BLOCK, NULL, &now);
	if (cases_hits == 1) {
		raise(sig);
		sigpending(&now);
		was_pending = sigismember(&now, SIGSYS);
	}
	inside = 0;
}

static void *wait_for_byte(void *arg)
{
	char c = 0;

	tell("read", read(*(int *)arg, &c, 1));
	return NULL;
}

static void c_sigsys_handled(void)
{
	pthread_t t;
	int p[2];

	on(SIGSYS, in_sigsys, 0);
	raise(SIGSYS);
	say("hits %d, within itself %d, pending meanwhile %d\n", (int)cases_hits, (int)entered_again, (int)was_pending);
	on(SIGSYS, count_signal, SA_RESTART);
	if (pipe(p) || pthread_create(&t, NULL, wait_for_byte, &p[0]))
		return;
	usleep(20000);
	pthread_kill(t, SIGSYS);
	usleep(20000);
	if (write(p[1], "x", 1) == 1)
		pthread_join(t, NULL);
	say("hits %d\n", (int)cases_hits);
}

static void c_sigsys_ignored(void)
{
	struct sigaction sa = {.sa_handler = SIG_IGN};
	sigset_t all;
	pid_t pid;

	sigaction(SIGSYS, &sa, NULL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < 20; i++)
		getppid();
	pid = fork();
	if (!pid) { /* ignored and blocked over exec as well */
		execl("/bin/sh", "sh", "-c", "kill -SYS $$; exit 4", (char *)NULL);
		_exit(127);
	}
	report_child("ignored over exec", pid);
	sigemptyset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	kill(getpid(), SIGSYS);
	say("alive\n");
}

static void c_sigpause_sigsys(void)
{
	sigset_t but;

	on(SIGALRM, count_signal, 0);
	sigfillset(&but);
	sigdelset(&but, SIGALRM);
	timer_ms(20, 0);
	sigsuspend(&but);
	say("suspended with SIGSYS blocked: hits %d\n", (int)cases_hits);
	sigprocmask(SIG_BLOCK, NULL, &but);
	say("blocked afterwards %d\n", sigismember(&but, SIGSYS));
}

const struct cases_case cases_odd[] = {
	CASE(close_all), CASE(seccomp_filter), CASE(seccomp_strict), CASE(seccomp_errno), CASE(autodisarm), CASE(altstack_unmapped), CASE(altstack_8k),
	CASE(env_huge), CASE(int80), CASE(deep_nesting), CASE(thousand_threads), CASE(clone_vm_beside), CASE(sigsys_waited),
	CASE(sigsys_handled), CASE(sigsys_ignored), CASE(sigpause_sigsys), {0},
};
