/* forward_cases_wait.c - threads, waiting for descriptors of both sides, sockets, children; see forward_cases.c */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/intercept/forward_cases.h"

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
	tv = (struct timeval){0, 0};
	is(setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
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

const struct forward_case forward_cases_wait[] = {
	{"threads", threads},
	{"many_blocked", many_blocked},
	{"polling", polling},
	{"selecting", selecting},
	{"epolling", epolling},
	{"sockets", sockets},
	{"spawned", spawned},
	{0},
};
