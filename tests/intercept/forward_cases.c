/* forward_cases.c - what is hard about doing system calls elsewhere: each case prints what it saw, the same with and without
 *
 * usage: forward_cases DIR [NAME...]    DIR: an empty directory, of the host when calls are forwarded; runs all, or those named
 *
 * Cases run one after the other, each in a child that executes this program again, so that each has a shadow of its own.
 * Nothing printed depends on addresses, process ids or time.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *dir;
static volatile sig_atomic_t hits;
static sigjmp_buf jump;
static void *volatile bad_pointer = (void *)8;
#define bad ((void *)bad_pointer)

static const char *in(const char *name)
{
	static __thread char path[4][512];
	static __thread int at;

	at = (at + 1) % 4;
	snprintf(path[at], sizeof(path[at]), "%s/%s", dir, name);
	return path[at];
}

#define say(...) (printf(__VA_ARGS__), fflush(stdout))
#define is(call)                                                                                                                 \
	do {                                                                                                                     \
		errno = 0;                                                                                                       \
		long got_ = (long)(call);                                                                                        \
		say("%s = %ld %s\n", #call, got_, got_ < 0 ? strerror(errno) : "");                                              \
	} while (0)

static void hit(int n)
{
	(void)n;
	hits++;
}

static void leave(int n)
{
	siglongjmp(jump, n);
}

static void on(int n, void (*handler)(int), int flags)
{
	const struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};

	sigaction(n, &sa, NULL);
}

static void alarm_ms(int ms, int every_ms)
{
	const struct itimerval t = {{every_ms / 1000, every_ms % 1000 * 1000}, {ms / 1000, ms % 1000 * 1000}};

	setitimer(ITIMER_REAL, &t, NULL);
}

static void pause_ms(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

static int file(const char *name, const char *text)
{
	int fd = open(in(name), O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		say("write: %s\n", strerror(errno));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

/* A pipe of the directory's side: both ends are forwarded. */
static void fifo(int ends[2])
{
	static int n;
	char name[32];

	snprintf(name, sizeof(name), "fifo%d", n++);
	mkfifo(in(name), 0600);
	ends[0] = open(in(name), O_RDONLY | O_NONBLOCK);
	ends[1] = open(in(name), O_WRONLY);
	fcntl(ends[0], F_SETFL, 0);
}

/* --- descriptors ----------------------------------------------------------------------------------------------------------- */

static void numbers(void)
{
	char c[4] = "";
	int a = file("a", "aaa"), b = open("/dev/null", O_RDONLY), d = file("d", "ddd");

	say("%d %d %d\n", a, b, d);
	is(close(b));
	is(open(in("a"), O_RDONLY));
	is(dup(d));
	is(dup2(d, 30));
	is(dup2(d, d));
	is(dup3(d, d, 0));
	is(dup3(d, 31, O_CLOEXEC));
	is(fcntl(31, F_GETFD));
	is(fcntl(30, F_GETFD));
	is(fcntl(30, F_SETFD, FD_CLOEXEC));
	is(fcntl(30, F_GETFD));
	is(fcntl(a, F_DUPFD, 25));
	is(fcntl(a, F_DUPFD_CLOEXEC, 25));
	is(read(25, c, 2));
	is(read(a, c + 2, 1));
	is(lseek(26, 0, SEEK_CUR));
	is(close(a));
	is(close(a));
	is(read(a, c, 1));
	is(open("/dev/zero", O_RDONLY));
	is(dup2(a, 25));
	is(read(25, c, 1));
	say("%d\n", c[0]);
	is(dup2(d, a));
	is(read(a, c, 1));
	say("%c\n", c[0]);
	is(syscall(SYS_close_range, 20, 100, 0));
	is(read(30, c, 1));
	is(open(in("nothere"), O_RDONLY));
	is(open(in("a"), O_RDONLY | O_DIRECTORY));
	is(open(in("a"), O_RDONLY | O_CREAT | O_EXCL, 0600));
	is(close(1000000));
	is(dup2(d, 5000000));
	is(fcntl(d, F_DUPFD, 5000000));
}

static void reading(void)
{
	char x[8] = "", y[8] = "";
	struct iovec iov[2] = {{x, 3}, {y, 4}};
	int fd = file("r", "hello world");
	struct stat st, st2;

	is(readv(fd, iov, 2));
	say("%s %s\n", x, y);
	is(pread(fd, x, 5, 6));
	say("%s\n", x);
	is(pwritev(fd, iov, 2, 20));
	is(fstat(fd, &st));
	is(stat(in("r"), &st2));
	say("%ld %d\n", (long)st.st_size, st.st_ino == st2.st_ino);
	is(read(fd, bad, 5));
	is(write(fd, bad, 5));
	is(stat(bad, &st));
	is(stat(in("r"), bad));
	is(open(bad, O_RDONLY));
	is(stat("", &st));
	is(fstatat(fd, "", &st, AT_EMPTY_PATH));
	is(fstatat(fd, "x", &st, 0));
	is(ftruncate(fd, 3));
	is(lseek(fd, 0, SEEK_END));
	is(flock(fd, LOCK_EX));
	is(lockf(fd, F_LOCK, 10));
	is(fsync(fd));
	is(isatty(fd));
	is(ioctl(fd, 0x5451));
	is(fcntl(fd, F_GETFD));
	is(fcntl(fd, F_GETFL) & O_ACCMODE);
}

static void paths(void)
{
	char text[600], cwd[600];
	struct stat st;
	int d;

	is(mkdir(in("sub"), 0755));
	is(mkdir(in("sub/deep"), 0700));
	is(symlink("sub/deep", in("ln")));
	is(readlink(in("ln"), text, sizeof(text)));
	is(rename(in("sub/deep"), "/tmp/nowhere"));
	is(link(in("nothere"), in("other")));
	is(chdir(in("sub")));
	say("%s\n", getcwd(cwd, sizeof(cwd)) + strlen(dir));
	is(getcwd(cwd, 2) ? 0 : -1);
	is(mkdir("rel", 0755));
	is(open("rel/file", O_CREAT | O_WRONLY, 0600));
	is(stat("../sub/rel/file", &st));
	is(access("./rel/../rel/file", R_OK));
	is(access("../../nothere", R_OK));
	is(access("../../../../../../../etc/passwd", R_OK));
	d = open("rel", O_RDONLY | O_DIRECTORY);
	is(openat(d, "file", O_RDONLY));
	is(openat(d, "../deep", O_RDONLY));
	is(fchdir(d));
	say("%s\n", getcwd(cwd, sizeof(cwd)) + strlen(dir));
	is(linkat(d, "file", AT_FDCWD, "second", 0));
	is(stat("second", &st));
	say("links %ld\n", (long)st.st_nlink);
	is(unlinkat(d, "second", 0));
	is(chdir("../../../../../../../../etc"));
	say("%s\n", getcwd(cwd, sizeof(cwd)));
	is(access("passwd", R_OK));
	snprintf(text, sizeof(text), "..%s/sub", dir);
	is(access(text, R_OK));
	is(chdir(text));
	say("%s\n", getcwd(cwd, sizeof(cwd)) + strlen(dir));
	is(rmdir("rel"));
	is(unlink("rel/file"));
	is(rmdir("rel"));
	is(chdir("/"));
	is(chdir(in("nothere")));
	umask(027);
	is(open(in("masked"), O_CREAT | O_WRONLY, 0666));
	is(stat(in("masked"), &st));
	say("%o\n", st.st_mode & 07777);
	is(fchmodat(AT_FDCWD, in("masked"), 0700, 0));
	is(utimensat(AT_FDCWD, in("masked"), (struct timespec[2]){{5, 0}, {6, 0}}, AT_SYMLINK_NOFOLLOW));
	is(stat(in("masked"), &st));
	say("%ld %o\n", (long)st.st_mtime, st.st_mode & 07777);
}

static void mapping(void)
{
	char buf[9000];
	int fd;
	char *p;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (char)('a' + i % 26);
	fd = file("m", "");
	is(write(fd, buf, sizeof(buf)));
	p = mmap(NULL, sizeof(buf), PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	say("%d %d\n", memcmp(p, buf, sizeof(buf)), p[9001]);
	p[0] = 'X';
	is(pread(fd, buf, 1, 0));
	say("%c\n", buf[0]);
	is(munmap(p, sizeof(buf)));
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096);
	say("%d\n", memcmp(p, buf + 4096, 4096));
	is(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, open(dir, O_RDONLY), 0) == MAP_FAILED ? -1 : 0);
	is(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, open(in("m"), O_WRONLY), 0) == MAP_FAILED ? -1 : 0);
	is(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 17) == MAP_FAILED ? -1 : 0);
}

/* --- signals ---------------------------------------------------------------------------------------------------------------- */

static int late_fd;

static void *write_late(void *ms)
{
	pause_ms((int)(long)ms);
	if (write(late_fd, "!", 1) != 1)
		say("late write: %s\n", strerror(errno));
	return NULL;
}

static void interrupted(void)
{
	pthread_t t;
	sigset_t set;
	int ends[2];
	char c;

	fifo(ends);
	on(SIGALRM, hit, 0);
	alarm_ms(50, 0);
	is(read(ends[0], &c, 1));
	say("hits %d\n", hits);
	on(SIGALRM, hit, SA_RESTART);
	late_fd = ends[1];
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	pthread_create(&t, NULL, write_late, (void *)200L);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	alarm_ms(30, 0);
	is(read(ends[0], &c, 1));
	say("hits %d\n", hits);
	pthread_join(t, NULL);
	/* blocked and ignored signals interrupt nothing */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	on(SIGUSR1, SIG_IGN, 0);
	pthread_create(&t, NULL, write_late, (void *)150L);
	alarm_ms(30, 0);
	kill(getpid(), SIGUSR1);
	is(read(ends[0], &c, 1));
	say("hits %d\n", hits);
	on(SIGALRM, hit, 0);
	pthread_join(t, NULL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	say("hits %d\n", hits);
	/* a handler that does not come back */
	on(SIGALRM, leave, SA_RESTART);
	if (!sigsetjmp(jump, 1)) {
		alarm_ms(30, 0);
		is(read(ends[0], &c, 1));
	} else {
		say("left\n");
	}
	is(write(ends[1], "z", 1));
	is(read(ends[0], &c, 1));
	/* a handler that makes calls of the host itself */
	say("%c\n", c);
}

static int storm_fd;

static void storm_hit(int n)
{
	char c;

	(void)n;
	hits++;
	if (pread(storm_fd, &c, 1, 0) != 1 || c != 's')
		say("handler read '%c'\n", c);
}

static void storm(void)
{
	char buf[64];
	int lost = 0, eintr = 0;

	storm_fd = file("storm", "storm");
	on(SIGALRM, storm_hit, SA_RESTART);
	alarm_ms(1, 1);
	for (int i = 0; i < 3000 || hits < 6; i++) {
		int fd = open(in("storm"), O_RDONLY);

		if (fd < 0) {
			eintr++;
			continue;
		}
		if (read(fd, buf, 5) != 5 || memcmp(buf, "storm", 5))
			lost++;
		if (close(fd))
			lost++;
	}
	alarm_ms(0, 0);
	say("bad %d, failed %d\n", lost, eintr);
}

static void *blocked_read(void *fd)
{
	char c;

	return (void *)(long)read((int)(long)fd, &c, 1);
}

static void cancelled(void)
{
	pthread_t t;
	void *result;
	int ends[2];

	fifo(ends);
	pthread_create(&t, NULL, blocked_read, (void *)(long)ends[0]);
	pause_ms(50);
	pthread_cancel(t);
	pthread_join(t, &result);
	say("%s\n", result == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
	is(write(ends[1], "x", 1));
	is((long)blocked_read((void *)(long)ends[0]));
}

/* --- threads ---------------------------------------------------------------------------------------------------------------- */

static int wrong;

static void *work(void *argument)
{
	const long id = (long)argument;
	char name[32], buf[64], want[64];

	snprintf(name, sizeof(name), "t%ld", id);
	for (int i = 0; i < 60; i++) {
		int fd = open(in(name), O_RDWR | O_CREAT | O_TRUNC, 0600), other = i % 3 ? dup(fd) : open("/dev/null", O_RDONLY);
		int n = snprintf(want, sizeof(want), "thread %ld round %d", id, i);

		if (fd < 0 || write(fd, want, (size_t)n) != n || pread(fd, buf, sizeof(buf), 0) != n || memcmp(buf, want, (size_t)n))
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		if (i % 3 && lseek(other, 0, SEEK_CUR) != n)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		if (close(fd) || close(other) || access(in("never"), R_OK) != -1)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void threads(void)
{
	pthread_t t[12];

	for (long i = 0; i < 12; i++)
		pthread_create(&t[i], NULL, work, (void *)i);
	for (int i = 0; i < 12; i++)
		pthread_join(t[i], NULL);
	say("wrong %d\n", wrong);
	is(open(in("t1"), O_RDONLY));
}

static void many_blocked(void)
{
	pthread_t t[40];
	int ends[40][2];
	long sum = 0;

	for (int i = 0; i < 40; i++)
		fifo(ends[i]);
	for (long i = 0; i < 40; i++)
		pthread_create(&t[i], NULL, blocked_read, (void *)(long)ends[i][0]);
	pause_ms(50);
	is(access(dir, R_OK));
	for (int i = 39; i >= 0; i--)
		is(write(ends[i][1], "x", 1));
	for (int i = 0; i < 40; i++) {
		void *got;

		pthread_join(t[i], &got);
		sum += (long)got;
	}
	say("sum %ld\n", sum);
}

/* --- waiting for both sides --------------------------------------------------------------------------------------------------- */

static void polling(void)
{
	int there[2], here[2];
	struct timespec ts = {0, 30000000};
	sigset_t none, alarms;
	pthread_t t;
	char c;

	fifo(there);
	if (pipe(here))
		return;
	struct pollfd fds[4] = {{there[0], POLLIN, 0}, {here[0], POLLIN, 0}, {-1, POLLIN, 7}, {there[1], 0, 0}};

	is(poll(fds, 4, 0));
	is(poll(fds, 4, 30));
	late_fd = here[1];
	pthread_create(&t, NULL, write_late, (void *)30L);
	is(poll(fds, 4, -1));
	say("%d %d %d %d\n", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
	pthread_join(t, NULL);
	is(read(here[0], &c, 1));
	late_fd = there[1];
	pthread_create(&t, NULL, write_late, (void *)30L);
	is(poll(fds, 4, 5000));
	say("%d %d %d %d\n", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
	pthread_join(t, NULL);
	is(write(here[1], "x", 1));
	is(poll(fds, 2, 5000));
	fds[3].events = POLLOUT;
	is(poll(fds, 4, 0));
	is(read(here[0], &c, 1));
	is(read(there[0], &c, 1));
	is(poll(fds, 1, 10));
	on(SIGALRM, hit, SA_RESTART);
	alarm_ms(30, 0);
	is(poll(fds, 2, 5000));
	sigemptyset(&none);
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarms, NULL);
	kill(getpid(), SIGALRM);
	hits = 0;
	is(ppoll(fds, 2, &ts, NULL));
	say("hits %d\n", hits);
	is(ppoll(fds, 2, &ts, &none));
	say("hits %d\n", hits);
	kill(getpid(), SIGALRM);
	is(ppoll(fds, 1, &ts, &none));
	say("hits %d\n", hits);
	is(poll(bad, 2, 0));
}

static void selecting(void)
{
	int there[2], here[2];
	struct timeval tv = {0, 30000};
	fd_set r, w;
	pthread_t t;
	char c;

	fifo(there);
	if (pipe(here))
		return;
	for (int round = 0; round < 3; round++) {
		FD_ZERO(&r);
		FD_SET(there[0], &r);
		FD_SET(here[0], &r);
		if (round) {
			late_fd = round == 1 ? there[1] : here[1];
			pthread_create(&t, NULL, write_late, (void *)30L);
		}
		is(select(20, &r, NULL, NULL, round ? NULL : &tv));
		say("%d %d\n", !!FD_ISSET(there[0], &r), !!FD_ISSET(here[0], &r));
		if (round) {
			pthread_join(t, NULL);
			is(read(round == 1 ? there[0] : here[0], &c, 1));
		}
	}
	say("left %ld\n", (long)tv.tv_usec);
	FD_ZERO(&r);
	FD_ZERO(&w);
	FD_SET(there[1], &w);
	FD_SET(here[1], &w);
	FD_SET(there[0], &r);
	is(select(20, &r, &w, NULL, NULL));
	close(there[0]);
	FD_SET(there[0], &r);
	is(select(20, &r, &w, NULL, NULL));
}

static void epolling(void)
{
	int there[2], here[2], ep = epoll_create1(0), n;
	struct epoll_event e[4];
	pthread_t t;
	char c;

	fifo(there);
	if (pipe(here))
		return;
	e[0] = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.u32 = 1};
	is(epoll_ctl(ep, EPOLL_CTL_ADD, there[0], e));
	is(epoll_ctl(ep, EPOLL_CTL_ADD, there[0], e));
	e[0].data.u32 = 2;
	is(epoll_ctl(ep, EPOLL_CTL_ADD, here[0], e));
	is(epoll_ctl(ep, EPOLL_CTL_MOD, there[1], e));
	is(epoll_wait(ep, e, 4, 0));
	is(epoll_wait(ep, e, 4, 30));
	for (int round = 0; round < 2; round++) {
		late_fd = round ? here[1] : there[1];
		pthread_create(&t, NULL, write_late, (void *)30L);
		n = epoll_wait(ep, e, 4, 5000);
		say("%d: %u %x\n", n, e[0].data.u32, e[0].events);
		pthread_join(t, NULL);
		is(epoll_wait(ep, e, 4, 20));
	}
	is(write(there[1], "ab", 2));
	is(write(here[1], "ab", 2));
	n = epoll_wait(ep, e, 1, 1000) + epoll_wait(ep, e + 1, 1, 1000);
	say("%d: %u\n", n, e[0].data.u32 + e[1].data.u32);
	on(SIGALRM, hit, 0);
	alarm_ms(30, 0);
	is(epoll_wait(ep, e, 4, 5000));
	is(epoll_ctl(ep, EPOLL_CTL_DEL, there[0], NULL));
	is(epoll_ctl(ep, EPOLL_CTL_DEL, there[0], NULL));
	is(write(there[1], "x", 1));
	is(epoll_wait(ep, e, 4, 20));
	is(read(there[0], &c, 1));
	is(close(ep));
}

/* --- sockets ------------------------------------------------------------------------------------------------------------------ */

static void *serve(void *fd)
{
	struct sockaddr_in peer;
	socklen_t bytes = sizeof(peer);
	char buf[64];
	int c = accept4((int)(long)fd, (struct sockaddr *)&peer, &bytes, SOCK_CLOEXEC);
	ssize_t n;

	pause_ms(100);
	say("accepted: family %d, %u bytes, cloexec %d\n", peer.sin_family, bytes, fcntl(c, F_GETFD));
	while ((n = recv(c, buf, sizeof(buf), 0)) > 0)
		if (send(c, buf, (size_t)n, MSG_NOSIGNAL) != n)
			say("send: %s\n", strerror(errno));
	close(c);
	return NULL;
}

static void sockets(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	socklen_t bytes = sizeof(a);
	char buf[64] = "";
	struct iovec iov[2] = {{(void *)"he", 2}, {(void *)"llo", 3}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	struct timeval tv = {0, 30000};
	pthread_t t;

	is(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)));
	is(bind(s, (struct sockaddr *)&a, sizeof(a)));
	is(listen(s, 5));
	is(getsockname(s, (struct sockaddr *)&a, &bytes));
	pthread_create(&t, NULL, serve, (void *)(long)s);
	is(connect(c, (struct sockaddr *)&a, bytes));
	is(sendmsg(c, &m, 0));
	pause_ms(200);
	is(recv(c, buf, sizeof(buf), 0));
	say("%s\n", buf);
	is(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	is(recv(c, buf, sizeof(buf), 0));
	is(shutdown(c, SHUT_WR));
	is(recv(c, buf, sizeof(buf), 0));
	pthread_join(t, NULL);
	close(s);
	close(c);
	c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	is(accept(c, NULL, NULL));
	is(connect(c, (struct sockaddr *)&a, bytes) == -1 && (errno == ECONNREFUSED || errno == EINPROGRESS) ? 0 : -1);
}

/* --- processes ---------------------------------------------------------------------------------------------------------------- */

static void spawned(void)
{
	int fd = file("s", "text"), status, i = 0;
	char *const argv[] = {(char *)"echo", (char *)"spawned", NULL};
	pid_t pid = vfork();
	char c;

	if (!pid) {
		dup2(open("/dev/null", O_RDONLY), fd);
		execv("/bin/echo", argv);
		_exit(9);
	}
	waitpid(pid, &status, 0);
	say("status %d\n", WEXITSTATUS(status));
	is(read(fd, &c, 1));
	pid = fork();
	if (!pid) {
		execv("/bin/echo", argv);
		_exit(9);
	}
	waitpid(pid, &status, 0);
	say("status %d\n", WEXITSTATUS(status));
	is(read(fd, &c, 1));
	is(chdir(dir));
	if (!vfork()) {
		execl("/bin/cat", "cat", "s", NULL);
		_exit(9);
	}
	wait(&status);
	say(" status %d\n", WEXITSTATUS(status));
	is(chdir("/"));
	for (; i < 50; i++)
		if (!vfork())
			_exit(0);
	while (wait(NULL) > 0)
		i--;
	say("%d children left, %d\n", i, fd);
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {{"numbers", numbers}, {"reading", reading}, {"paths", paths}, {"mapping", mapping}, {"interrupted", interrupted},
	     {"storm", storm}, {"cancelled", cancelled}, {"threads", threads}, {"many_blocked", many_blocked}, {"polling", polling},
	     {"selecting", selecting}, {"epolling", epolling}, {"sockets", sockets}, {"spawned", spawned}};

int main(int argc, char **argv)
{
	if (argc < 2)
		return 1;
	dir = argv[1];
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int status;
		pid_t pid;

		if (argc == 3 && !strcmp(argv[2], cases[i].name)) {
			alarm(30);
			cases[i].run();
			return 0;
		}
		if (argc > 2)
			continue;
		say("== %s\n", cases[i].name);
		pid = fork();
		if (!pid) {
			execl("/proc/self/exe", "forward_cases", dir, cases[i].name, NULL);
			_exit(9);
		}
		waitpid(pid, &status, 0);
		if (status)
			say("ended with %d, signal %d\n", WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	}
	return 0;
}
