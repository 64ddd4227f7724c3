/* forward_cases_epoll.c - epoll descriptors whose interests change between waits, are closed, are forked, and are shared by threads */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/intercept/forward_cases.h"

#define ENDS 3

static int by_data(const void *a, const void *b)
{
	const uint64_t x = ((const struct epoll_event *)a)->data.u64, y = ((const struct epoll_event *)b)->data.u64;

	return (x > y) - (x < y);
}

static void waits(int ep, int max, int ms)
{
	struct epoll_event e[8];
	const int n = epoll_wait(ep, e, max, ms);

	say("%d:", n);
	if (n > 0)
		qsort(e, (size_t)n, sizeof(*e), by_data);
	for (int i = 0; i < n; i++)
		say(" %llu %x", (unsigned long long)e[i].data.u64, e[i].events);
	say("\n");
}

static int change(int ep, int op, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event e = {.events = events, .data.u64 = data};

	return epoll_ctl(ep, op, fd, &e);
}

/* Changes as an event loop makes them, errors, an edge and a single shot armed anew, a regular file. */
static void epoll_changes(void)
{
	int p[2], q[2], ep = epoll_create1(0), plain = file("regular", "x");

	fifo(p);
	fifo(q);
	is(change(ep, EPOLL_CTL_MOD, p[1], EPOLLOUT, 1));
	is(change(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 1));
	is(change(ep, EPOLL_CTL_ADD, plain, EPOLLIN, 9));
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_DEL, p[1], 0, 0));
	is(change(ep, EPOLL_CTL_MOD, p[1], EPOLLOUT, 2));
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 2));
	is(change(ep, EPOLL_CTL_ADD, p[1], EPOLLOUT, 2));
	is(change(ep, EPOLL_CTL_ADD, q[0], EPOLLIN, 3));
	is(change(ep, EPOLL_CTL_ADD, p[0], EPOLLIN | EPOLLONESHOT, 4));
	is(write(p[1], "a", 1));
	is(write(q[1], "a", 1));
	waits(ep, 8, 1000);
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 5));
	is(change(ep, EPOLL_CTL_MOD, p[1], 0, 2));
	waits(ep, 8, 0);
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 6));
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_DEL, p[0], 0, 0));
	waits(ep, 1, 0);
	is(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], bad));
	is(epoll_ctl(ep, 77, p[1], &(struct epoll_event){0}));
	is(epoll_wait(ep, bad, 8, 0));
	close(q[1]);
	waits(ep, 8, 0);
	close(q[0]);
	waits(ep, 8, 0);
	fifo(q); /* the same numbers: nothing is left of what they were */
	is(write(q[1], "b", 1));
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_MOD, q[0], EPOLLIN, 7));
	is(change(ep, EPOLL_CTL_ADD, q[0], EPOLLIN, 7));
	waits(ep, 8, 0);
	is(dup2(plain, q[0]) == q[0]);
	waits(ep, 8, 0);
	is(change(ep, EPOLL_CTL_DEL, p[1], 0, 0));
	close(p[1]);
	close(p[0]);
	waits(ep, 8, 20);
	is(close(ep));
	close(q[0]);
	close(q[1]);
	close(plain);
	unlink(in("regular"));
}

/* Changes that nobody has waited for yet. */
static int unsettled(int p[ENDS][2])
{
	const int ep = epoll_create1(0);

	for (int i = 0; i < ENDS; i++) {
		fifo(p[i]);
		is(change(ep, EPOLL_CTL_ADD, p[i][0], EPOLLIN, (uint64_t)i));
		is(write(p[i][1], "x", 1));
	}
	is(change(ep, EPOLL_CTL_DEL, p[0][0], 0, 0));
	is(change(ep, EPOLL_CTL_MOD, p[1][0], 0, 1));
	return ep;
}

/* A second thread comes. */
static void epoll_threads(void)
{
	int p[ENDS][2], ep = unsettled(p);
	pthread_t thread;
	char c;

	waits(ep, 8, 1000);
	is(change(ep, EPOLL_CTL_MOD, p[1][0], EPOLLIN | EPOLLET, 11));
	is(change(ep, EPOLL_CTL_MOD, p[2][0], 0, 12));
	late_fd = p[1][1];
	pthread_create(&thread, NULL, write_late, (void *)30L);
	waits(ep, 8, 5000);
	pthread_join(thread, NULL);
	for (int i = 0; i < 2; i++)
		is(read(p[1][0], &c, 1));
	is(change(ep, EPOLL_CTL_MOD, p[0][0], EPOLLIN, 10));
	is(change(ep, EPOLL_CTL_ADD, p[0][0], EPOLLIN, 10));
	is(change(ep, EPOLL_CTL_ADD, p[0][0], EPOLLIN, 10));
	waits(ep, 8, 1000);
	is(close(ep));
	for (int i = 0; i < ENDS; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
}

/* A child comes. */
static void epoll_forked(void)
{
	int p[ENDS][2], ep = unsettled(p), status;

	is(change(ep, EPOLL_CTL_ADD, p[0][0], EPOLLIN, 10));
	if (!fork()) {
		is(change(ep, EPOLL_CTL_DEL, p[0][0], 0, 0));
		is(change(ep, EPOLL_CTL_MOD, p[1][0], EPOLLIN, 11));
		waits(ep, 8, 1000);
		_exit(0);
	}
	wait(&status);
	say("child %d\n", status);
	for (int i = 0; i < ENDS; i++)
		unlink(in((const char *[]){"fifo0", "fifo1", "fifo2"}[i]));
}

const struct forward_case forward_cases_epoll[] = {{"epoll_changes", epoll_changes}, {"epoll_threads", epoll_threads}, {0}};
const struct forward_case forward_cases_epoll_heirs[] = {{"epoll_forked", epoll_forked}, {0}};
