/* inject.c - a program does not notice that a helper is put into it and taken out again
 *
 * Each behaviour below is a function that returns 0 when everything was as it should be, run in a child: left alone
 * (the control), with helpers put in and taken out as fast as it goes, and frozen for a moment again and again.
 *
 * usage: inject [PART OF A NAME]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/guest/freeze.h"
#include "runtime/guest/inject.h"
#include "runtime/guest/tracee.h"
#include "tests/tap.h"

#define WAIT_MS 150
#define SLACK_MS 400 /* this machine may be busy; a timeout that started anew all the time would last for ever */

static int64_t began_ms;

/* A wait that should have lasted WAIT_MS. */
static int lasted(bool right)
{
	int64_t ms = tracee_now_ms() - began_ms;

	if (!right)
		return 1;
	return ms < WAIT_MS - 1 ? 2 : ms > WAIT_MS + SLACK_MS ? 3 : 0;
}

static const struct timespec wait_ts = {.tv_nsec = WAIT_MS * 1000000};

/* A byte comes after WAIT_MS, from a process of its own. */
static int later(void)
{
	int fds[2];

	if (pipe(fds))
		_exit(99);
	if (fork() == 0) {
		usleep(WAIT_MS * 1000);
		_exit(write(fds[1], "x", 1) != 1);
	}
	close(fds[1]);
	return fds[0];
}

/* --- blocked calls ---------------------------------------------------------------------------------------------- */

static int do_read(void)
{
	char c = 0;

	return lasted(read(later(), &c, 1) == 1 && c == 'x');
}

static int do_readv(void)
{
	char c = 0;
	struct iovec iov = {&c, 1};

	return lasted(readv(later(), &iov, 1) == 1 && c == 'x');
}

static int do_nanosleep(void)
{
	return lasted(syscall(SYS_nanosleep, &wait_ts, NULL) == 0);
}

static int do_clock_nanosleep(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += WAIT_MS * 1000000;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return lasted(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == 0);
}

static int do_poll(void)
{
	struct pollfd pfd = {.fd = -1};

	return lasted(poll(&pfd, 1, WAIT_MS) == 0);
}

static int do_poll_ready(void)
{
	struct pollfd pfd = {.fd = later(), .events = POLLIN};

	return lasted(poll(&pfd, 1, -1) == 1);
}

static int do_ppoll(void)
{
	struct timespec ts = wait_ts;
	sigset_t none;

	sigemptyset(&none);
	return lasted(ppoll(NULL, 0, &ts, &none) == 0);
}

static int do_select(void)
{
	struct timeval tv = {.tv_usec = WAIT_MS * 1000};

	return lasted(select(0, NULL, NULL, NULL, &tv) == 0);
}

static int do_epoll(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int fd = epoll_create1(0);

	epoll_ctl(fd, EPOLL_CTL_ADD, later(), &ev);
	return lasted(epoll_wait(fd, &ev, 1, -1) == 1);
}

static int do_epoll_pwait(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int fd = epoll_create1(0);
	sigset_t some;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR2);
	epoll_ctl(fd, EPOLL_CTL_ADD, later(), &ev);
	return lasted(epoll_pwait(fd, &ev, 1, -1, &some) == 1);
}

static int do_futex(void)
{
	uint32_t word = 1;

	return lasted(syscall(SYS_futex, &word, FUTEX_WAIT, 1, &wait_ts, NULL, 0) == -1 && errno == ETIMEDOUT);
}

static void *waker(void *word)
{
	usleep(WAIT_MS * 1000);
	*(volatile uint32_t *)word = 0;
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
	return NULL;
}

static int do_futex_woken(void)
{
	uint32_t word = 1;
	pthread_t thread;
	bool right;

	pthread_create(&thread, NULL, waker, &word);
	right = syscall(SYS_futex, &word, FUTEX_WAIT, 1, NULL, NULL, 0) == 0 || errno == EAGAIN; /* woken between two waits */
	pthread_join(thread, NULL);
	return lasted(right);
}

static int do_waitpid(void)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		usleep(WAIT_MS * 1000);
		_exit(42);
	}
	return lasted(waitpid(-1, &status, 0) == child && WEXITSTATUS(status) == 42 && wait(&status) == -1 && errno == ECHILD);
}

/* Never a child that the program did not make, whatever is waited for without __WALL. */
static int do_no_child(void)
{
	siginfo_t info;

	while (tracee_now_ms() - began_ms < WAIT_MS) {
		if (wait(NULL) != -1 || errno != ECHILD || waitpid(-1, NULL, WNOHANG | WUNTRACED | WCONTINUED) != -1 || errno != ECHILD)
			return 1;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) != -1 || errno != ECHILD || waitpid(0, NULL, WNOHANG) != -1 || errno != ECHILD)
			return 1;
	}
	return 0;
}

static volatile sig_atomic_t signals;

static void count(int sig)
{
	(void)sig;
	signals++;
}

static void timer(int usec, int again)
{
	struct itimerval it = {.it_value.tv_usec = usec, .it_interval.tv_usec = again};
	struct sigaction sa = {.sa_handler = count};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

static int do_pause(void)
{
	timer(WAIT_MS * 1000, 0);
	return lasted(pause() == -1 && errno == EINTR && signals == 1);
}

static int do_sigsuspend(void)
{
	sigset_t alrm, none, now;

	sigemptyset(&none);
	sigemptyset(&alrm);
	sigaddset(&alrm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alrm, NULL);
	timer(WAIT_MS * 1000, 0);
	if (sigsuspend(&none) != -1 || errno != EINTR || signals != 1)
		return 1;
	sigprocmask(SIG_SETMASK, NULL, &now);
	return lasted(sigismember(&now, SIGALRM) == 1 && sigismember(&now, SIGUSR1) == 0);
}

static int do_sigtimedwait(void)
{
	sigset_t alrm;

	sigemptyset(&alrm);
	sigaddset(&alrm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alrm, NULL);
	timer(WAIT_MS * 1000, 0);
	return lasted(sigtimedwait(&alrm, NULL, &(struct timespec){.tv_sec = 5}) == SIGALRM && signals == 0);
}

/* A handler without SA_RESTART: the call must return EINTR, once, also when it is one that is restarted otherwise. */
static int do_epoll_signal(void)
{
	struct epoll_event ev;

	timer(WAIT_MS * 1000, 0);
	return lasted(epoll_wait(epoll_create1(0), &ev, 1, 5000) == -1 && errno == EINTR && signals == 1);
}

static int do_read_signal(void)
{
	int fds[2];
	char c;

	if (pipe(fds))
		return 1;
	timer(WAIT_MS * 1000, 0);
	return lasted(read(fds[0], &c, 1) == -1 && errno == EINTR && signals == 1);
}

static int do_semop(void)
{
	int id = semget(IPC_PRIVATE, 1, 0600), got, err;
	struct sembuf op = {.sem_op = -1};

	timer(WAIT_MS * 1000, 0);
	got = semop(id, &op, 1);
	err = errno;
	semctl(id, 0, IPC_RMID);
	return lasted(got == -1 && err == EINTR && signals == 1);
}

static int do_recv(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	char c;

	bind(fd, (struct sockaddr *)&name, sizeof(name.sun_family));
	timer(WAIT_MS * 1000, 0);
	return lasted(recv(fd, &c, 1, 0) == -1 && errno == EINTR && signals == 1);
}

static int do_accept(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(name);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	bind(fd, (struct sockaddr *)&name, sizeof(name.sun_family));
	listen(fd, 1);
	getsockname(fd, (struct sockaddr *)&name, &len);
	if (fork() == 0) {
		usleep(WAIT_MS * 1000);
		_exit(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, len) != 0);
	}
	return lasted(accept(fd, NULL, NULL) >= 0);
}

static int do_flock(void)
{
	int fd = memfd_create("lock", 0), other;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDWR);
	flock(fd, LOCK_EX);
	if (fork() == 0) {
		close(other);
		usleep(WAIT_MS * 1000);
		_exit(0); /* holds the lock with us until we have closed */
	}
	close(fd);
	return lasted(flock(other, LOCK_EX) == 0);
}

static int do_inotify(void)
{
	char dir[] = "/tmp/inject.XXXXXX", path[64];
	union {
		struct inotify_event ev;
		char room[512];
	} u;
	int fd = inotify_init();
	ssize_t got;

	if (!mkdtemp(dir) || inotify_add_watch(fd, dir, IN_CREATE) < 0)
		return 1;
	snprintf(path, sizeof(path), "%s/x", dir);
	if (fork() == 0) {
		usleep(WAIT_MS * 1000);
		_exit(mkdir(path, 0700));
	}
	got = read(fd, &u, sizeof(u));
	rmdir(path);
	rmdir(dir);
	return lasted(got > 0 && u.ev.mask & IN_CREATE);
}

static int do_msgrcv(void)
{
	struct {
		long type;
		char c;
	} msg;
	int id = msgget(IPC_PRIVATE, 0600), got, err;

	timer(WAIT_MS * 1000, 0);
	got = msgrcv(id, &msg, 1, 0, 0);
	err = errno;
	msgctl(id, IPC_RMID, NULL);
	return lasted(got == -1 && err == EINTR && signals == 1);
}

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
	{"the lowest free descriptor", do_descriptors},
	{"the end of a pipe", do_pipe_end},
	{"threads and children that come and go", do_threads},
	{"calls that do not block", do_syscalls},
};

static pid_t start(const struct behaviour *b)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		signals = 0;
		alarm(0);
		began_ms = tracee_now_ms();
		_exit(b->fn());
	}
	return child;
}

static bool running(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

/* Why something did not work, unless the program had exited. */
static void note(const struct inject_err *why, pid_t child, const char **first)
{
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

int main(int argc, char **argv)
{
	static unsigned long (*const what[])(pid_t, const char **) = {in_and_out, frozen};
	static const char *const does[] = {"helpers in and out", "times frozen"};
	unsigned long total[2] = {0};

	for (size_t i = 0; i < sizeof(behaviours) / sizeof(behaviours[0]); i++) {
		const struct behaviour *b = &behaviours[i];
		int status;

		if (argc > 1 && !strstr(b->name, argv[1]))
			continue;
		waitpid(start(b), &status, 0);
		tap_eq(status, 0, "%s, left alone", b->name);
		for (int j = 0; j < 2; j++) {
			const char *first = NULL;
			pid_t child = start(b);
			unsigned long times;

			usleep(5000);
			times = what[j](child, &first);
			waitpid(child, &status, 0);
			total[j] += times;
			tap_ok(status == 0 && times > 1 && !first, "%s: %lu %s (status %x%s%s)", b->name, times, does[j], status, first ? "; " : "",
			       first ? first : "");
		}
	}
	printf("# %lu helpers put in and taken out; frozen %lu times\n", total[0], total[1]);
	return tap_done();
}
