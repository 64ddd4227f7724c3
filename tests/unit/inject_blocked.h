/* inject_blocked.h - for the test of injecting: every kind of blocked call, each with its own idea of what is right
 *
 * A function blocks for WAIT_MS, in a child that somebody bothers meanwhile, and returns 0 when the call returned what it should,
 * when it should.
 */
#ifndef TESTS_INJECT_BLOCKED_H
#define TESTS_INJECT_BLOCKED_H

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

#include "runtime/guest/helper/tracee.h"

#define SHORT_MS 90
static int wait_ms = SHORT_MS; /* longer where the machine is too busy to do anything in it */
#define WAIT_MS wait_ms
#define SLACK_MS 20000 /* this machine may be busy; a timeout that started anew all the time would last for ever */

static int64_t began_ms;

/* A wait that should have lasted WAIT_MS. */
static int lasted(bool right)
{
	int64_t ms = tracee_now_ms() - began_ms;

	if (!right)
		return 1;
	return ms < WAIT_MS - 1 ? 2 : ms > WAIT_MS + SLACK_MS ? 3 : 0;
}

#define wait_ts ((struct timespec){.tv_nsec = WAIT_MS * 1000000L})

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

#endif
