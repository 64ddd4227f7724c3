/* forward_cases_breadth.c - messages with descriptors, unix sockets, inotify, sendfile and splice between the sides, openat2, attributes;
 * see forward_cases.c */
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/intercept/forward_cases.h"

/* --- unix sockets --------------------------------------------------------------------------------------------------------------- */

static struct sockaddr_un address(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", name);
	return a;
}

/* @nfds of @fds and a byte.  Return: what sendmsg() says. */
static long send_fds(int s, const int *fds, int nfds)
{
	char room[CMSG_SPACE(16 * sizeof(int))] = "";
	struct iovec iov = {(void *)"m", 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
	return sendmsg(s, &m, MSG_NOSIGNAL);
}

/* Prints what came. */
static int receive_fds(int s, int flags, int *fds)
{
	char room[CMSG_SPACE(16 * sizeof(int))], byte[4];
	struct iovec iov = {byte, sizeof(byte)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
	int n = 0;

	is(recvmsg(s, &m, flags));
	say("truncated %d\n", !!(m.msg_flags & MSG_CTRUNC));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		say("level %d type %d bytes %ld\n", c->cmsg_level, c->cmsg_type, (long)c->cmsg_len);
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
	}
	for (int i = 0; i < n; i++)
		say("number %d flags %d\n", fds[i], fcntl(fds[i], F_GETFD));
	return n;
}

static int accepted;

static void *accept_one(void *s)
{
	accepted = accept((int)(long)s, NULL, NULL);
	return NULL;
}

static void unix_sockets(void)
{
	const struct sockaddr_un a = address(in("sock")), none = address(in("nothere"));
	const struct rlimit few = {12, 12};
	int s = socket(AF_UNIX, SOCK_STREAM, 0), c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fds[16], one = 1;
	struct sockaddr_un name;
	socklen_t bytes = sizeof(name);
	struct stat st;
	pthread_t t;
	char buf[32] = "";

	is(connect(c, (const struct sockaddr *)&none, sizeof(none)));
	is(bind(s, (const struct sockaddr *)&a, sizeof(a)));
	is(bind(s, (const struct sockaddr *)&a, sizeof(a)));
	is(stat(in("sock"), &st));
	say("socket %d\n", S_ISSOCK(st.st_mode));
	is(listen(s, 3));
	pthread_create(&t, NULL, accept_one, (void *)(long)s);
	is(connect(c, (const struct sockaddr *)&a, sizeof(a)));
	pthread_join(t, NULL);
	say("%d %d %d, cloexec %d\n", s, c, accepted, fcntl(c, F_GETFD));
	is(getpeername(c, (struct sockaddr *)&name, &bytes));
	say("%s\n", name.sun_path + strlen(dir));
	is(send(c, "hello", 5, 0));
	is(recv(accepted, buf, sizeof(buf), 0));
	fds[0] = file("passed", "what is in it");
	fds[1] = open(dir, O_RDONLY | O_DIRECTORY);
	is(send_fds(c, fds, 2));
	is(close(fds[0]));
	is(receive_fds(accepted, 0, fds));
	is(pread(fds[0], buf, 13, 0));
	say("%.13s\n", buf);
	is(fstatat(fds[1], "passed", &st, 0));
	is(close(fds[0]));
	is(send_fds(c, fds + 1, 1));
	is(receive_fds(accepted, MSG_CMSG_CLOEXEC, fds));
	is(setsockopt(accepted, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)));
	is(send_fds(c, fds, 1));
	is(receive_fds(accepted, 0, fds));
	fds[0] = -1;
	is(send_fds(c, fds, 1));
	/* no room for all */
	fds[0] = open(in("passed"), O_RDONLY);
	for (int i = 1; i < 4; i++)
		fds[i] = fds[0];
	is(setrlimit(RLIMIT_NOFILE, &few));
	is(send_fds(c, fds, 4));
	is(receive_fds(accepted, 0, fds));
	is(close(s));
	is(close(c));
	is(recv(accepted, buf, sizeof(buf), 0));
	is(unlink(in("sock")));
}

static void datagrams(void)
{
	const struct sockaddr_un a = address(in("dgram"));
	struct sockaddr_in i = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(i);
	int r = socket(AF_UNIX, SOCK_DGRAM, 0), w = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), u, v;
	static char large[30000], got[60000];
	struct iovec iov[3] = {{(void *)"one ", 4}, {(void *)"", 0}, {(void *)"two", 3}}, big[2] = {{large, sizeof(large)}, {large, 20000}};
	struct iovec in1 = {got, 5}, in2 = {got + 100, 200};
	struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = iov, .msg_iovlen = 3}}, {.msg_hdr = {.msg_iov = iov + 2, .msg_iovlen = 1}}};
	struct mmsghdr some[2] = {{.msg_hdr = {.msg_iov = &in1, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &in2, .msg_iovlen = 1}}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 3};

	is(bind(r, (const struct sockaddr *)&a, sizeof(a)));
	is(connect(w, (const struct sockaddr *)&a, sizeof(a)));
	is(fcntl(w, F_GETFL) & O_NONBLOCK);
	is(sendmsg(w, &m, MSG_DONTWAIT));
	is(recv(r, got, sizeof(got), 0));
	say("%.7s\n", got);
	is(sendmmsg(w, many, 2, 0));
	say("%u %u\n", many[0].msg_len, many[1].msg_len);
	is(recvmmsg(r, some, 2, 0, NULL));
	say("%u %u %.5s %.3s\n", some[0].msg_len, some[1].msg_len, got, got + 100);
	is(sendmmsg(w, bad, 2, 0));
	u = socket(AF_INET, SOCK_DGRAM, 0);
	v = socket(AF_INET, SOCK_DGRAM, 0);
	is(bind(u, (struct sockaddr *)&i, sizeof(i)));
	is(getsockname(u, (struct sockaddr *)&i, &bytes));
	m.msg_name = &i;
	m.msg_namelen = sizeof(i);
	is(sendmsg(v, &m, 0));
	is(recv(u, got, sizeof(got), 0));
	say("%.7s\n", got);
	for (size_t k = 0; k < sizeof(large); k++)
		large[k] = (char)('a' + k % 23);
	m.msg_iov = big;
	m.msg_iovlen = 2;
	is(sendmsg(v, &m, 0));
	is(recv(u, got, sizeof(got), 0));
	say("%d %d\n", memcmp(got, large, sizeof(large)), memcmp(got + sizeof(large), large, 20000));
}

/* --- sendfile, splice ------------------------------------------------------------------------------------------------------------ */

static char pattern[200000];

static void fill_pattern(void)
{
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (char)(i * 7 + i / 256);
}

static void *drain_pipe(void *fd)
{
	static char got[sizeof(pattern)];
	size_t have = 0;
	ssize_t n;

	while (have < sizeof(got) && (n = read((int)(long)fd, got + have, sizeof(got) - have)) > 0)
		have += (size_t)n;
	return (void *)(memcmp(got, pattern, have) ? 0 : have);
}

static void sending(void)
{
	static char back[sizeof(pattern)];
	int there = file("pattern", ""), here = memfd_create("here", 0), ends[2], fifos[2];
	off_t at = 1000;
	void *drained;
	pthread_t t;

	fill_pattern();
	is(write(there, pattern, sizeof(pattern)));
	is(lseek(there, 0, SEEK_SET));
	/* from there to here */
	is(sendfile(here, there, NULL, 150000));
	is(lseek(there, 0, SEEK_CUR));
	is(lseek(here, 0, SEEK_CUR));
	is(sendfile(here, there, NULL, 1000000));
	is(sendfile(here, there, NULL, 10));
	is(pread(here, back, sizeof(back), 0));
	say("%d\n", memcmp(back, pattern, sizeof(pattern)));
	is(sendfile(here, there, &at, 10));
	is(at);
	is(lseek(there, 0, SEEK_CUR));
	is(sendfile(here, open(in("nothere"), O_RDONLY), NULL, 10));
	is(sendfile(open(in("pattern"), O_RDONLY), here, NULL, 10));
	/* from here to there, and within the host */
	is(lseek(here, 100, SEEK_SET));
	is(ftruncate(there, 0));
	is(lseek(there, 5, SEEK_SET));
	is(sendfile(there, here, NULL, 70000));
	is(pread(there, back, 10, 5));
	say("%d\n", memcmp(back, pattern + 100, 10));
	is(lseek(there, 0, SEEK_CUR));
	is(sendfile(file("copy", ""), there, &at, 100));
	is(at);
	at = -1;
	is(sendfile(there, here, &at, 10));
	/* to a pipe that is full, and one that is read meanwhile */
	is(pipe(ends));
	is(fcntl(ends[1], F_SETFL, O_NONBLOCK));
	at = 0;
	is(lseek(there, 0, SEEK_SET));
	is(write(there, pattern, sizeof(pattern)));
	is(sendfile(ends[1], there, &at, sizeof(pattern)) > 0);
	say("%ld\n", (long)at % 4096);
	is(sendfile(ends[1], there, &at, 10));
	is(fcntl(ends[1], F_SETFL, 0));
	pthread_create(&t, NULL, drain_pipe, (void *)(long)ends[0]);
	while (at < (off_t)sizeof(pattern))
		if (sendfile(ends[1], there, &at, sizeof(pattern)) <= 0)
			break;
	is(close(ends[1]));
	pthread_join(t, &drained);
	say("drained %ld\n", (long)drained);
	/* splice */
	is(pipe(ends));
	fifo(fifos);
	is(splice(there, NULL, here, NULL, 10, 0));
	is(write(ends[1], "spliced", 7));
	at = 3;
	is(splice(ends[0], NULL, there, &at, 100, 0));
	is(at);
	is(pread(there, back, 9, 1));
	say("%.7s\n", back + 2);
	is(splice(ends[0], NULL, there, NULL, 100, SPLICE_F_NONBLOCK));
	is(write(fifos[1], "through", 7));
	is(splice(fifos[0], NULL, ends[1], NULL, 4, 0));
	is(splice(fifos[0], NULL, ends[1], NULL, 100, 0));
	is(read(ends[0], back, 100));
	say("%.7s\n", back);
	is(splice(there, &at, ends[1], NULL, 50, 0));
	is(at);
	is(splice(ends[0], &at, there, NULL, 50, 0));
	is(close(ends[1]));
	is(splice(ends[0], NULL, fifos[1], NULL, 100, 0));
	is(splice(ends[0], NULL, fifos[1], NULL, 100, 0));
	is(splice(ends[0], NULL, 999, NULL, 100, 0));
}

/* --- a signal to a process of many threads ---------------------------------------------------------------------------------------- */

static pthread_t first_thread;
static int by_first, by_others;

static void who(int n)
{
	(void)n;
	__atomic_fetch_add(pthread_equal(pthread_self(), first_thread) ? &by_first : &by_others, 1, __ATOMIC_RELAXED);
}

static void *read_and_tell(void *fd)
{
	char c;
	const long n = read((int)(long)fd, &c, 1);

	return (void *)(n < 0 ? -(long)errno : n);
}

static void elections(void)
{
	enum { N = 9 };
	pthread_t t[N];
	int ends[N + 1][2];
	long sum = 0;
	char c;

	first_thread = pthread_self();
	for (int i = 0; i <= N; i++)
		fifo(ends[i]);
	on(SIGALRM, who, 0);
	on(SIGUSR1, who, SA_RESTART);
	for (long i = 0; i < N; i++)
		pthread_create(&t[i], NULL, read_and_tell, (void *)(long)ends[i][0]);
	pause_ms(200);
	for (int i = 0; i < 5; i++) {
		alarm_ms(20 + 10 * i, 50); /* more than once: it may come before the call */
		is(read(ends[N][0], &c, 1));
		alarm_ms(0, 0);
	}
	say("by the first %d, by others %d\n", by_first >= 5, by_others);
	/* to one of the others */
	for (int i = 0; i < 3; i++)
		pthread_kill(t[4], SIGUSR1);
	for (int i = 0; i < 2000 && __atomic_load_n(&by_others, __ATOMIC_RELAXED) == 0; i++)
		pause_ms(10);
	say("by others %d\n", by_others > 0);
	for (int i = 0; i < N; i++)
		is(write(ends[i][1], "x", 1));
	for (int i = 0; i < N; i++) {
		void *got;

		pthread_join(t[i], &got);
		sum += (long)got;
	}
	say("sum %ld\n", sum);
}

/* --- files ------------------------------------------------------------------------------------------------------------------------ */

static void openings(void)
{
	struct open_how how = {.flags = O_RDWR | O_CREAT | O_CLOEXEC, .mode = 0640};
	struct stat st;
	int fd;

	is(fd = (int)syscall(SYS_openat2, AT_FDCWD, in("two"), &how, sizeof(how)));
	is(fcntl(fd, F_GETFD));
	is(fstat(fd, &st));
	say("%o\n", st.st_mode & 07777);
	how.flags = O_RDONLY;
	is(syscall(SYS_openat2, AT_FDCWD, in("two"), &how, sizeof(how)));
	how.mode = 0;
	is(syscall(SYS_openat2, AT_FDCWD, in("two"), &how, sizeof(how)));
	is(syscall(SYS_openat2, AT_FDCWD, in("two"), &how, 8));
	is(syscall(SYS_openat2, AT_FDCWD, in("two"), bad, sizeof(how)));
	how.flags = UINT64_C(1) << 40;
	is(syscall(SYS_openat2, AT_FDCWD, in("two"), &how, sizeof(how)));
	how.flags = O_RDONLY | O_DIRECTORY;
	is(syscall(SYS_openat2, AT_FDCWD, in("two"), &how, sizeof(how)));
	is(syscall(SYS_openat2, AT_FDCWD, in("no"), &how, sizeof(how)));
}

static void attributes(void)
{
	char buf[64] = "";
	struct statx x;
	int fd = file("attr", "0123456789");
	loff_t from = 2, to = 20;

	is(setxattr(in("attr"), "user.colour", "blue", 4, XATTR_CREATE));
	is(setxattr(in("attr"), "user.colour", "red", 3, XATTR_CREATE));
	is(fgetxattr(fd, "user.colour", buf, sizeof(buf)));
	say("%s\n", buf);
	is(getxattr(in("attr"), "user.other", buf, sizeof(buf)));
	is(listxattr(in("attr"), buf, sizeof(buf)));
	is(fremovexattr(fd, "user.colour"));
	is(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
	say("%d bytes, mode %o\n", (int)x.stx_size, x.stx_mode);
	is(statx(AT_FDCWD, in("attr"), 0, STATX_SIZE, &x));
	is(statx(AT_FDCWD, in("none"), 0, STATX_SIZE, &x));
	is(fallocate(fd, 0, 0, 100));
	is(lseek(fd, 0, SEEK_END));
	is(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, -1));
	is(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	is(copy_file_range(fd, &from, fd, &to, 5, 0));
	is(pread(fd, buf, 5, 20));
	say("%.5s\n", buf);
}

static void print_event(int fd, char *room, size_t bytes)
{
	const ssize_t n = read(fd, room, bytes);

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *e = (const struct inotify_event *)(room + at);

		say("event %x %s\n", e->mask, e->len ? e->name : "");
		at += (ssize_t)(sizeof(*e) + e->len);
	}
	if (n < 0)
		say("no event: %s\n", strerror(errno));
}

static void watching(void)
{
	static char room[4096] __attribute__((aligned(8)));
	int fd, wd, tries = 0;
	struct pollfd p = {-1, POLLIN, 0};

	/* The user's other programs may have as many as a user may have, for a moment. */
	while ((fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC)) < 0 && errno == EMFILE && tries++ < 250)
		pause_ms(100);
	while (inotify_add_watch(fd, dir, IN_CREATE) < 0 && errno == EMFILE && tries++ < 250)
		pause_ms(100);
	if (fd < 0 || (inotify_add_watch(fd, dir, IN_CREATE) < 0 && errno == EMFILE)) {
		say("no inotify instance left\n");
		return;
	}
	p.fd = fd;
	is(wd = inotify_add_watch(fd, dir, IN_CREATE | IN_DELETE | IN_MOVED_TO));
	say("%d, %d\n", fd, fcntl(fd, F_GETFD));
	is(inotify_add_watch(fd, in("nothere"), IN_CREATE));
	is(poll(&p, 1, 0));
	print_event(fd, room, sizeof(room));
	close(file("made", ""));
	is(poll(&p, 1, 5000));
	print_event(fd, room, sizeof(room));
	is(rename(in("made"), in("moved")));
	is(unlink(in("moved")));
	print_event(fd, room, sizeof(room));
	is(inotify_rm_watch(fd, wd));
	is(inotify_rm_watch(fd, wd));
	is(inotify_add_watch(3000, dir, IN_CREATE));
	is(inotify_add_watch(open("/dev/null", O_RDONLY), dir, IN_CREATE));
	is(close(fd));
}

const struct forward_case forward_cases_breadth[] = {
	{"unix_sockets", unix_sockets},
	{"datagrams", datagrams},
	{"sending", sending},
	{"elections", elections},
	{"openings", openings},
	{"attributes", attributes},
	{"watching", watching},
	{0},
};
