/* forward_cases.c - what is hard about doing system calls elsewhere: each case prints what it saw, the same with and without
 *
 * usage: forward_cases DIR [NAME...]    DIR: an empty directory, of the host when calls are forwarded; runs all, or those named
 *
 * Cases run one after the other, each in a child that executes this program again, so that each has a shadow of its own.
 * Nothing printed depends on addresses, process ids or time.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/intercept/forward_cases.h"

const char *dir;
volatile sig_atomic_t hits;
static sigjmp_buf jump;
void *volatile bad_pointer = (void *)8;

const char *in(const char *name)
{
	static __thread char path[4][512];
	static __thread int at;

	at = (at + 1) % 4;
	snprintf(path[at], sizeof(path[at]), "%s/%s", dir, name);
	return path[at];
}

void hit(int n)
{
	(void)n;
	hits++;
}

static void leave(int n)
{
	siglongjmp(jump, n);
}

void on(int n, void (*handler)(int), int flags)
{
	const struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};

	sigaction(n, &sa, NULL);
}

void alarm_ms(int ms, int every_ms)
{
	const struct itimerval t = {{every_ms / 1000, every_ms % 1000 * 1000}, {ms / 1000, ms % 1000 * 1000}};

	setitimer(ITIMER_REAL, &t, NULL);
}

void pause_ms(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

int file(const char *name, const char *text)
{
	int fd = open(in(name), O_RDWR | O_CREAT | O_TRUNC, 0644);

	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		say("write: %s\n", strerror(errno));
	lseek(fd, 0, SEEK_SET);
	return fd;
}

/* A pipe of the directory's side: both ends are forwarded. */
void fifo(int ends[2])
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
	is(rename(in("sub/deep"), "/dev/shm/nowhere"));
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

int late_fd;

void *write_late(void *ms)
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

void *blocked_read(void *fd)
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

static void *blocked_until_signal(void *fd)
{
	char c;
	const ssize_t n = read((int)(long)fd, &c, 1);

	return (void *)(long)(n < 0 ? errno : 0);
}

/* A signal that was ignored when a thread went to sleep in a call, and is handled now. */
static void reaction(void)
{
	pthread_t t;
	void *result;
	int ends[2];

	fifo(ends);
	signal(SIGUSR1, SIG_IGN);
	pthread_create(&t, NULL, blocked_until_signal, (void *)(long)ends[0]);
	pause_ms(50);
	on(SIGUSR1, hit, 0);
	do
		pthread_kill(t, SIGUSR1); /* again, should it have come before the call */
	while (pause_ms(20), pthread_tryjoin_np(t, &result));
	say("%s, %s\n", strerror((int)(long)result), hits ? "handled" : "not handled");
}

static const struct forward_case forward_cases_first[] = {
	{"numbers", numbers},
	{"reading", reading},
	{"paths", paths},
	{"mapping", mapping},
	{"interrupted", interrupted},
	{"storm", storm},
	{"cancelled", cancelled},
	{"reaction", reaction},
	{0},
};

static void run(const struct forward_case *cases, const char *wanted)
{
	for (; cases->name; cases++) {
		int status;
		pid_t pid;

		if (wanted && !strcmp(wanted, cases->name)) {
			alarm(60);
			cases->run();
			exit(0);
		}
		if (wanted)
			continue;
		say("== %s\n", cases->name);
		pid = fork();
		if (!pid) {
			execl("/proc/self/exe", "forward_cases", dir, cases->name, NULL);
			_exit(9);
		}
		waitpid(pid, &status, 0);
		if (status)
			say("ended with %d, signal %d\n", WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	}
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 1;
	dir = argv[1];
	run(forward_cases_first, argv[2]);
	run(forward_cases_wait, argv[2]);
	run(forward_cases_epoll, argv[2]);
	run(forward_cases_breadth, argv[2]);
	run(forward_cases_carry, argv[2]);
	if (argv[2]) {
		run(forward_cases_parts, argv[2]);
		run(forward_cases_epoll_heirs, argv[2]);
	}
	return 0;
}
