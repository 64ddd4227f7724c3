/* inject.c - a program does not notice that a helper is put into it and taken out again
 *
 * Each behaviour below is a function that returns 0 when everything was as it should be, run in a child: left alone
 * (the control), with helpers put in and taken out as fast as it goes, and frozen for a moment again and again.  Then one of these two
 * while another process monitors its calls by ptrace, and lends it (lend.h).
 *
 * usage: inject [PART OF A NAME]
 */
#include <sys/ptrace.h>

#include "runtime/guest/helper/freeze.h"
#include "runtime/guest/helper/inject.h"
#include "runtime/guest/monitor/lend.h"
#include "runtime/guest/monitor/monitor.h"
#include "tests/tap.h"
#include "tests/unit/inject_blocked.h"

/* --- running code ------------------------------------------------------------------------------------------------ */

/* All integer registers, the flags, and ymm or xmm registers hold known values for a while; nothing else may write to them. */
static int do_registers(void)
{
	static uint8_t in[16][32] __attribute__((aligned(32))), out[16][32] __attribute__((aligned(32)));
	bool avx = __builtin_cpu_supports("avx");
	unsigned long bad = 0;

	for (int i = 0; i < 512; i++)
		in[i / 32][i % 32] = i * 7 + i / 32;
	while (!bad && tracee_now_ms() - began_ms < WAIT_MS) {
		if (avx) {
			__asm__ volatile("vmovdqa (%0), %%ymm0\n\tvmovdqa 32(%0), %%ymm1\n\tvmovdqa 224(%0), %%ymm7\n\tvmovdqa 480(%0), %%ymm15\n\t"
					 "mov $200000, %%rcx\n1:\tdec %%rcx\n\tjnz 1b\n\t"
					 "vmovdqa %%ymm0, (%1)\n\tvmovdqa %%ymm1, 32(%1)\n\tvmovdqa %%ymm7, 224(%1)\n\tvmovdqa %%ymm15, 480(%1)\n\tvzeroupper"
					 :
					 : "r"(in), "r"(out)
					 : "rcx", "memory", "xmm0", "xmm1", "xmm7", "xmm15");
			for (int i = 0; i < 16; i++)
				if (i == 0 || i == 1 || i == 7 || i == 15)
					bad += memcmp(in[i], out[i], 32) != 0;
		}
		/* Every register that the compiler can spare, and the carry flag through the loop (dec leaves it alone). */
		__asm__ volatile("push %%rbp\n\tmov $0x1111, %%rax\n\tmov $0x2222, %%rdx\n\tmov $0x3333, %%rsi\n\tmov $0x4444, %%rdi\n\t"
				 "mov $0x5555, %%r8\n\tmov $0x6666, %%r9\n\tmov $0x7777, %%r10\n\tmov $0x8888, %%r11\n\tmov $0x9999, %%r12\n\t"
				 "mov $0xaaaa, %%r13\n\tmov $0xbbbb, %%r14\n\tmov $0xcccc, %%r15\n\tmov $0xdddd, %%rbp\n\tmov $200000, %%rcx\n\t"
				 "stc\n1:\tdec %%rcx\n\tjnz 1b\n\t"
				 "adc %%rdx, %%rax\n\tadd %%rsi, %%rax\n\tadd %%rdi, %%rax\n\tadd %%r8, %%rax\n\tadd %%r9, %%rax\n\tadd %%r10, %%rax\n\t"
				 "add %%r11, %%rax\n\tadd %%r12, %%rax\n\tadd %%r13, %%rax\n\tadd %%r14, %%rax\n\tadd %%r15, %%rax\n\tadd %%rbp, %%rax\n\t"
				 "sub $(0x1111 * 91 + 1), %%rax\n\tmov %%rax, %%rcx\n\tpop %%rbp\n\tadd %%rcx, %0"
				 : "+b"(bad)
				 :
				 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
	}
	return bad != 0;
}

/* Signals by the hundred, none lost and none twice: each is sent when the one before has been handled. */
static int do_signals(void)
{
	struct sigaction sa = {.sa_handler = count};
	sigset_t set, now;
	int sent = 0;

	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGRTMIN, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_SETMASK, &set, NULL);
	while (tracee_now_ms() - began_ms < WAIT_MS) {
		kill(getpid(), sent & 1 ? SIGUSR1 : SIGRTMIN);
		sent++;
		if (signals != sent) /* a signal to oneself is delivered before kill() returns */
			return 1;
		sigprocmask(SIG_SETMASK, NULL, &now);
		if (sigismember(&now, SIGUSR2) != 1 || sigismember(&now, SIGUSR1) || sigismember(&now, SIGALRM))
			return 2;
	}
	return 0;
}

/* Synchronous signals, whose handlers the kernel takes away from whoever blocks them. */
static void *bad_place;
static void on_fault(int sig, siginfo_t *info, void *ctx)
{
	(void)sig;
	(void)ctx;
	if (info->si_addr == bad_place)
		mprotect(bad_place, 4096, PROT_READ | PROT_WRITE);
	signals++;
}

static int do_faults(void)
{
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	int faults = 0;

	sigaction(SIGSEGV, &sa, NULL);
	bad_place = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	while (tracee_now_ms() - began_ms < WAIT_MS) {
		*(volatile char *)bad_place = 1;
		if (signals != ++faults)
			return 1;
		mprotect(bad_place, 4096, PROT_NONE);
	}
	return 0;
}

/* Signals of that kind that the program does not repeat by itself: a trap, and one sent with a value. */
static int last_value;
static void on_value(int sig, siginfo_t *info, void *ctx)
{
	(void)ctx;
	if (sig == SIGBUS)
		last_value = info->si_code == SI_QUEUE ? info->si_value.sival_int : -1;
	signals++;
}

static int do_traps(void)
{
	struct sigaction sa = {.sa_sigaction = on_value, .sa_flags = SA_SIGINFO};
	int n = 0;

	sigaction(SIGTRAP, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	while (tracee_now_ms() - began_ms < WAIT_MS) {
		__asm__ volatile("int3");
		if (signals != ++n)
			return 1;
		sigqueue(getpid(), SIGBUS, (union sigval){.sival_int = n});
		if (signals != ++n || last_value != n - 1)
			return 2;
	}
	return 0;
}

/* The lowest free descriptor stays the lowest, and those that are open stay open. */
static int do_descriptors(void)
{
	int low = dup(0), high = fcntl(0, F_DUPFD, 200), fd;

	close(low);
	while (tracee_now_ms() - began_ms < WAIT_MS) {
		fd = dup(1);
		if (fd != low || fcntl(high, F_GETFD) < 0)
			return 1;
		close(fd);
		if (fcntl(low + 1, F_GETFD) != -1)
			return 2;
	}
	return 0;
}

/* The write end is closed by the last who has it: nobody else does. */
static int do_pipe_end(void)
{
	int fds[2];
	char c;

	while (tracee_now_ms() - began_ms < WAIT_MS) {
		if (pipe2(fds, O_NONBLOCK))
			return 1;
		close(fds[1]);
		if (read(fds[0], &c, 1) != 0)
			return 2;
		close(fds[0]);
	}
	return 0;
}

/* Threads come and go, and children too, by fork and by vfork. */
static void *nothing(void *arg)
{
	return arg;
}

static int do_threads(void)
{
	while (tracee_now_ms() - began_ms < WAIT_MS) {
		pthread_t thread[4];
		void *got;
		pid_t child;
		int status;

		for (int i = 0; i < 4; i++)
			if (pthread_create(&thread[i], NULL, nothing, thread + 4 + i))
				return 1;
		for (int i = 0; i < 4; i++)
			if (pthread_join(thread[i], &got) || got != thread + 4 + i)
				return 2;
		child = fork();
		if (child == 0)
			_exit(7);
		if (waitpid(-1, &status, 0) != child || WEXITSTATUS(status) != 7)
			return 3;
	}
	return 0;
}

static int do_syscalls(void)
{
	char buf[100];
	int fd = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	pid_t me = getpid();

	while (tracee_now_ms() - began_ms < WAIT_MS)
		if (read(fd, buf, 100) != 100 || write(null, buf, 100) != 100 || getpid() != me || syscall(-1L) != -1 || errno != ENOSYS)
			return 1;
	return 0;
}

static const struct behaviour {
	const char *name;
	int (*fn)(void);
} behaviours[] = {
	{"read", do_read},
	{"readv", do_readv},
	{"nanosleep, for the rest of its time", do_nanosleep},
	{"clock_nanosleep until", do_clock_nanosleep},
	{"poll, for the rest of its time", do_poll},
	{"poll of what becomes ready", do_poll_ready},
	{"ppoll", do_ppoll},
	{"select", do_select},
	{"epoll_wait", do_epoll},
	{"epoll_pwait", do_epoll_pwait},
	{"futex, for the rest of its time", do_futex},
	{"futex that is woken", do_futex_woken},
	{"waitpid, which sees the program's child only", do_waitpid},
	{"wait without children", do_no_child},
	{"pause", do_pause},
	{"sigsuspend", do_sigsuspend},
	{"sigtimedwait", do_sigtimedwait},
	{"epoll_wait that a handler ends", do_epoll_signal},
	{"read that a handler ends", do_read_signal},
	{"semop that a handler ends", do_semop},
	{"recv that a handler ends", do_recv},
	{"msgrcv that a handler ends", do_msgrcv},
	{"accept", do_accept},
	{"flock", do_flock},
	{"read of inotify", do_inotify},
	{"registers: integer, flags, AVX", do_registers},
	{"signals to itself and the mask", do_signals},
	{"faults that a handler mends", do_faults},
	{"traps, and faults that were sent", do_traps},
	{"the lowest free descriptor", do_descriptors},
	{"the end of a pipe", do_pipe_end},
	{"threads and children that come and go", do_threads},
	{"calls that do not block", do_syscalls},
};

static bool running(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

/* Where a thread waits that is lent; the child has it where the monitor has it. */
void lent_park(void);
__asm__(".text\nlent_park:\n\tmov $34, %eax\n\tsyscall\n\tjmp lent_park\n");

static uint64_t park(void *context, pid_t tid)
{
	(void)context;
	(void)tid;
	return (uint64_t)lent_park;
}

static unsigned long calls_seen;
static bool seen(void *context, pid_t tid, struct intercept_call *call, int64_t *result)
{
	(void)context;
	(void)tid;
	(void)call;
	(void)result;
	calls_seen++;
	return false;
}

/* The monitor of @child, which reads @hold until it is monitored. */
static _Noreturn void monitor(pid_t child, int hold)
{
	const struct monitor_config config = {.enter = seen, .park = park, .from_now_on = true};
	int status, rc = ptrace(PTRACE_SEIZE, child, NULL, (long)MONITOR_OPTIONS) ? -errno : 0;

	/* It stops before it goes on: a wait is not to be the call that is interrupted. */
	if (rc || ptrace(PTRACE_INTERRUPT, child, NULL, NULL) || write(hold, "", 1) != 1)
		_exit(2);
	rc = monitor_follow(&config, child, &status);
	_exit(rc || !calls_seen);
}

static pid_t monitor_pid;
static pid_t start(const struct behaviour *b, bool monitored)
{
	int hold[2] = {-1, -1};
	pid_t child;

	fflush(stdout);
	if (monitored && pipe(hold))
		return -1;
	child = fork();
	if (child == 0) {
		char c;

		if (monitored && read(hold[0], &c, 1) != 1)
			_exit(99);
		close(hold[0]);
		close(hold[1]);
		signals = 0;
		alarm(0);
		began_ms = tracee_now_ms();
		_exit(b->fn());
	}
	if (monitored) {
		monitor_pid = fork();
		if (monitor_pid == 0)
			monitor(child, hold[1]);
		while (monitor_pid > 0 && !lend_can(child) && running(monitor_pid))
			usleep(1000);
		close(hold[0]);
		close(hold[1]);
	}
	return child;
}

/* Waits for both.  Return: the child's status; -1: the monitor saw nothing, or failed. */
static int ended(pid_t child, bool monitored)
{
	int status, of_monitor = 0;

	waitpid(child, &status, 0);
	if (monitored)
		waitpid(monitor_pid, &of_monitor, 0);
	return of_monitor ? -1 : status;
}

/* Why something did not work, unless the program had exited: its helper is killed a moment before that is to be seen. */
static void note(const struct inject_err *why, pid_t child, const char **first)
{
	for (int i = 0; i < 20 && !*first && why->err != -ESRCH && running(child); i++)
		usleep(1000);
	if (!*first && why->err != -ESRCH && running(child))
		*first = why->why ? why->why : "no answer";
}

/* How often a helper was put in, used, and taken out, until the child had exited. */
static unsigned long in_and_out(pid_t child, const char **first)
{
	unsigned long times = 0;

	while (running(child)) {
		struct inject_err why = {0};
		struct remote r;
		bool asked;

		if (inject_helper(child, 0, &r, &why)) {
			note(&why, child, first);
			continue;
		}
		asked = remote_syscall(&r, SYS_mmap, (uint64_t[6]){0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}) > 0;
		if (!asked)
			note(&why, child, first);
		if (inject_remove(&r, &why))
			note(&why, child, first);
		times++;
	}
	return times;
}

static unsigned long frozen(pid_t child, const char **first)
{
	struct inject_err why = {0};
	unsigned long times = 0;
	struct remote r;

	if (inject_helper(child, 0, &r, &why)) {
		note(&why, child, first);
		return 0;
	}
	while (running(child)) {
		struct freeze *f;

		if (freeze_start(&r, 1000, &f, &why)) {
			note(&why, child, first);
		} else {
			usleep(50);
			if (freeze_end(f))
				note(&why, child, first);
			times++;
		}
		usleep(200);
	}
	inject_remove(&r, &why);
	return times;
}

static bool tried(const struct behaviour *b, unsigned int j, bool monitored, unsigned long *total)
{
	static unsigned long (*const what[])(pid_t, const char **) = {in_and_out, frozen};
	static const char *const does[] = {"helpers in and out", "times frozen"};
	const char *first = NULL;
	unsigned long times = 0;
	int status = 0;

	/* On a busy machine a behaviour may be over before anything was done to it. */
	for (int tries = 0; tries < 6 && times < 2 && !first && status == 0; tries++) {
		pid_t child;

		wait_ms = tries < 3 ? SHORT_MS : 900;
		child = start(b, monitored);
		usleep(5000);
		times += what[j](child, &first);
		status = ended(child, monitored);
	}
	wait_ms = SHORT_MS;
	*total += times;
	return tap_ok(status == 0 && times > 0 && !first, "%s: %lu %s%s (status %x%s%s)", b->name, times, does[j],
		      monitored ? ", under a monitor" : "", status, first ? "; " : "", first ? first : "");
}

int main(int argc, char **argv)
{
	unsigned long total[2] = {0}, lent = 0;

	for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
		const struct behaviour *b = &behaviours[i];

		if (argc > 1 && !strstr(b->name, argv[1]))
			continue;
		tap_eq(ended(start(b, false), false), 0, "%s, left alone", b->name);
		tried(b, 0, false, &total[0]);
		tried(b, 1, false, &total[1]);
		tried(b, i % 2, true, &lent);
	}
	printf("# %lu helpers put in and taken out; frozen %lu times; %lu times under a monitor\n", total[0], total[1], lent);
	return tap_done();
}
