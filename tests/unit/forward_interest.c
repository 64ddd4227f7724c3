/* forward_interest.c - what is noted of epoll_ctl() and settled later leaves the host's set as if each change had been made at once
 *
 * The oracle is the kernel: two epoll descriptors of this process, one changed call by call, the other only by what interest.c has
 * settled; pipes and sockets in both.  After each wait both must report the same, and so must poll() as interest_poll() would have it.
 */
#include "runtime/guest/forward/interest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/tap.h"

#define FDS 24
#define STEPS 20000

static struct interests set;
static int plain, settled, ends[FDS][2];
static unsigned int seed = 4711;

static unsigned int lot(unsigned int n)
{
	return (unsigned int)rand_r(&seed) / 7 % n;
}

static int kernel(int ep, uint64_t op, int fd, struct epoll_event *event)
{
	return epoll_ctl(ep, (int)op, fd, event) ? -errno : 0;
}

static int noted(uint64_t op, int fd, struct epoll_event *event)
{
	int rc = interest_change(&set, op, (uint32_t)fd, event);

	if (rc != INTEREST_ASK)
		return rc;
	rc = kernel(settled, op, fd, event);
	if (!rc && op == EPOLL_CTL_ADD && !interest_added(&set, (uint32_t)fd, event))
		tap_ok(false, "there is room for it");
	return rc;
}

static bool settle(void)
{
	struct interest *one;
	uint32_t at = 0;
	uint64_t op;
	bool fine = true;

	while ((one = interest_unsettled(&set, &at, &op))) {
		struct epoll_event event = {.events = one->events, .data.u64 = one->data};

		fine &= !kernel(settled, op, (int)one->fd, &event);
		interest_settled(&set, one, &at);
	}
	return fine;
}

static int by_data(const void *a, const void *b)
{
	const uint64_t x = ((const struct epoll_event *)a)->data.u64, y = ((const struct epoll_event *)b)->data.u64;

	return (x > y) - (x < y);
}

static bool same(const struct epoll_event *a, int na, const struct epoll_event *b, int nb)
{
	bool equal = na == nb;

	for (int i = 0; equal && i < na; i++)
		equal = a[i].events == b[i].events && a[i].data.u64 == b[i].data.u64;
	return equal;
}

static void remake(int i)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends[i]))
		tap_ok(false, "socketpair: %s", strerror(errno));
}

/* Random changes, with edges and single shots (@sharp) or without; some descriptors are closed in between. */
static void lots(bool sharp)
{
	unsigned int wrong_result = 0, wrong_settled = 0, wrong_settle = 0, wrong_poll = 0, waits = 0, edges = 0, polls = 0;

	memset(&set, 0, sizeof(set));
	plain = epoll_create1(0);
	settled = epoll_create1(0);
	for (int i = 0; i < FDS; i++)
		remake(i);
	for (int step = 0; step < STEPS; step++) {
		static const uint64_t ops[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};
		static const uint32_t masks[] = {0, EPOLLIN, EPOLLOUT, EPOLLIN | EPOLLOUT, EPOLLIN | EPOLLRDHUP};
		const int i = (int)lot(FDS), fd = ends[i][0];
		const uint64_t op = ops[lot(3)];
		struct epoll_event event = {.events = masks[lot(5)], .data.u64 = (uint64_t)i << 32 | (uint32_t)step}, copy;
		struct epoll_event a[FDS], b[FDS], c[FDS];
		struct pollfd fds[INTERESTS_MAX];
		char bytes[4096];
		int na, nb, n;

		if (sharp && !lot(3))
			event.events |= lot(2) ? (uint32_t)EPOLLET : (uint32_t)EPOLLONESHOT;
		copy = event;
		wrong_result += kernel(plain, op, fd, &event) != noted(op, fd, &copy);
		switch (lot(12)) {
		case 0: (void)!send(ends[i][1], "x", 1, MSG_NOSIGNAL); break;
		case 1: (void)!read(fd, bytes, sizeof(bytes)); break;
		case 2: shutdown(ends[i][1], SHUT_WR); break;
		case 3:
			if (interest_gone(&set, (uint32_t)fd))
				kernel(settled, EPOLL_CTL_DEL, fd, NULL);
			close(fd);
			close(ends[i][1]);
			remake(i);
			break;
		default: break;
		}
		if (lot(4))
			continue;
		waits++;
		n = interest_poll(&set, fds);
		edges += n < 0;
		if (n >= 0 && lot(2)) { /* in place of settling */
			polls++;
			poll(fds, (nfds_t)n, 0);
			nb = (int)interest_events(&set, fds, (uint32_t)n, c, FDS);
			memcpy(b, c, sizeof(b));
			na = epoll_wait(plain, a, FDS, 0);
			qsort(a, (size_t)na, sizeof(*a), by_data);
			qsort(b, (size_t)nb, sizeof(*b), by_data);
			wrong_poll += !same(a, na, b, nb);
			continue;
		}
		wrong_settle += !settle();
		na = epoll_wait(plain, a, FDS, 0);
		nb = epoll_wait(settled, b, FDS, 0);
		qsort(a, (size_t)na, sizeof(*a), by_data);
		qsort(b, (size_t)nb, sizeof(*b), by_data);
		wrong_settled += !same(a, na, b, nb);
	}
	tap_eq(wrong_result, 0, "each change: the kernel's result (%s)", sharp ? "edges, single shots" : "levels");
	tap_eq(wrong_settle, 0, "no change is refused when it is settled");
	tap_eq(wrong_settled, 0, "of %u waits each reports what it would have", waits);
	tap_eq(wrong_poll, 0, "and so do %u polls", polls);
	tap_ok(polls > 20 && !edges == !sharp, "poll() does not stand for edges and single shots (%u waits)", edges);
	for (int i = 0; i < FDS; i++) {
		close(ends[i][0]);
		close(ends[i][1]);
	}
	close(plain);
	close(settled);
}

static void limits(void)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE}, one[2];
	struct pollfd fds[INTERESTS_MAX];
	uint32_t seen = 0, at = 0;
	uint64_t op;

	memset(&set, 0, sizeof(set));
	tap_ok(!interest_added(&set, 5, &event), "an exclusive interest is not kept");
	event.events = EPOLLIN;
	for (uint32_t i = 0; i < INTERESTS_MAX; i++)
		tap_ok(interest_added(&set, i, &(struct epoll_event){.events = EPOLLIN, .data.u64 = i}), "there is room for number %u", i);
	tap_ok(!interest_added(&set, INTERESTS_MAX, &event), "and for no more");
	for (uint32_t turn = 0; turn < INTERESTS_MAX; turn++) {
		const int n = interest_poll(&set, fds);

		for (int i = 0; i < n; i++)
			fds[i].revents = POLLIN;
		if (interest_events(&set, fds, (uint32_t)n, one, 1) == 1 && one[0].data.u64 < INTERESTS_MAX)
			seen += one[0].data.u64 == turn;
	}
	tap_eq(seen, INTERESTS_MAX, "if all are ready and one is taken at a time, each has its turn");
	fds[0] = (struct pollfd){.fd = 9, .revents = POLLNVAL};
	tap_ok(interest_events(&set, fds, 1, one, 1) == 0 && set.n == INTERESTS_MAX - 1, "what is not open any more is forgotten");
	tap_eq(interest_change(&set, EPOLL_CTL_DEL, 7, NULL), 0, "one is deleted");
	interest_nowhere(&set);
	tap_eq(set.n, INTERESTS_MAX - 2, "a forked child has none that was deleted");
	while (interest_unsettled(&set, &at, &op) && op == EPOLL_CTL_ADD)
		interest_settled(&set, &set.of[at], &at);
	tap_ok(at == set.n, "and adds all others");
	set.direct = true;
	tap_eq(interest_change(&set, EPOLL_CTL_MOD, 3, &event), INTEREST_ASK, "a direct set is the host's alone");
}

int main(void)
{
	lots(false);
	lots(true);
	limits();
	return tap_done();
}
