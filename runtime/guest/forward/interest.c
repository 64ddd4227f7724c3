/* interest.c - see interest.h */
#include "runtime/guest/forward/interest.h"

#include <errno.h>
#include <stddef.h>

#define POLLED (EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLRDBAND | EPOLLWRNORM | EPOLLWRBAND | EPOLLMSG | EPOLLRDHUP)
#define ALWAYS (EPOLLERR | EPOLLHUP)

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLPRI == POLLPRI && EPOLLERR == POLLERR && EPOLLHUP == POLLHUP &&
		       EPOLLRDNORM == 0x40 && EPOLLRDBAND == 0x80 && EPOLLWRNORM == 0x100 && EPOLLWRBAND == 0x200 && EPOLLRDHUP == 0x2000,
	       "poll() and epoll have the same bits");

static struct interest *find(struct interests *set, uint32_t fd)
{
	for (uint32_t i = 0; i < set->n; i++)
		if (set->of[i].fd == fd)
			return &set->of[i];
	return NULL;
}

static void forget(struct interests *set, struct interest *one)
{
	*one = set->of[--set->n];
}

int interest_change(struct interests *set, uint64_t op, uint32_t fd, const struct epoll_event *event)
{
	struct interest *one = set->direct ? NULL : find(set, fd);

	if (!one)
		return INTEREST_ASK;
	if (op == EPOLL_CTL_ADD && one->wanted)
		return -EEXIST;
	if ((op == EPOLL_CTL_MOD || op == EPOLL_CTL_DEL) && !one->wanted)
		return -ENOENT;
	if (op == EPOLL_CTL_DEL) {
		one->wanted = false;
		one->stale = one->there;
		if (!one->there)
			forget(set, one);
		return 0;
	}
	if ((op != EPOLL_CTL_ADD && op != EPOLL_CTL_MOD) || event->events & (EPOLLEXCLUSIVE | EPOLLWAKEUP))
		return INTEREST_ASK;
	/* The same events again matter too: they arm an edge or a single shot anew. */
	*one = (struct interest){.fd = fd, .events = event->events, .data = event->data.u64, .wanted = true, .there = one->there, .stale = true};
	return 0;
}

bool interest_added(struct interests *set, uint32_t fd, const struct epoll_event *event)
{
	if (set->direct || set->n == INTERESTS_MAX || event->events & (EPOLLEXCLUSIVE | EPOLLWAKEUP))
		return false;
	set->of[set->n++] = (struct interest){.fd = fd, .events = event->events, .data = event->data.u64, .wanted = true, .there = true};
	return true;
}

struct interest *interest_unsettled(struct interests *set, uint32_t *at, uint64_t *op)
{
	for (; *at < set->n; ++*at) {
		struct interest *one = &set->of[*at];

		if (!one->stale)
			continue;
		*op = !one->wanted ? EPOLL_CTL_DEL : one->there ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
		return one;
	}
	return NULL;
}

void interest_settled(struct interests *set, struct interest *one, uint32_t *at)
{
	one->stale = false;
	one->there = one->wanted;
	if (one->wanted)
		return;
	forget(set, one);
	*at = 0;
}

bool interest_gone(struct interests *set, uint32_t fd)
{
	struct interest *one = find(set, fd);
	bool otherwise;

	if (!one)
		return false;
	otherwise = one->there && one->stale;
	forget(set, one);
	return otherwise;
}

void interest_nowhere(struct interests *set)
{
	for (uint32_t i = 0; i < set->n;) {
		struct interest *one = &set->of[i];

		one->there = false;
		one->stale = true;
		if (one->wanted)
			i++;
		else
			forget(set, one);
	}
}

int interest_poll(struct interests *set, struct pollfd *fds)
{
	int n = 0;

	for (uint32_t i = 0; i < set->n; i++) {
		const struct interest *one = &set->of[(set->first + i) % set->n];

		if (!one->wanted)
			continue;
		if (one->events & (EPOLLET | EPOLLONESHOT))
			return -1;
		fds[n++] = (struct pollfd){.fd = (int)one->fd, .events = (short)(one->events & POLLED)};
	}
	return n;
}

uint32_t interest_events(struct interests *set, const struct pollfd *fds, uint32_t n, struct epoll_event *events, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n && count < max; i++) {
		struct interest *one = find(set, (uint32_t)fds[i].fd);
		const uint32_t found = (uint32_t)(uint16_t)fds[i].revents & (POLLED | ALWAYS);

		if (one && fds[i].revents & POLLNVAL) {
			forget(set, one);
			continue;
		}
		if (!found || !one || !one->wanted)
			continue;
		events[count].events = found;
		events[count++].data.u64 = one->data;
		set->first = (uint32_t)(one - set->of) + 1;
	}
	return count;
}
