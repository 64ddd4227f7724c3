/* interest.h - what a program wants to hear of the host's descriptors in one of its epoll descriptors
 *
 * Theory of operation
 *
 * Event loops change what they want several times between two waits (redis-benchmark: four times a request), and only a wait can tell
 * the difference.  So changes are answered and noted here, and *settled*, made on the host, when they matter.  Each interest is one of
 *
 *   wanted, there     the host's set has it: `stale` if with other events
 *   wanted            the host's set does not have it (a forked child has none of its parent's sets)
 *   there             the program has deleted it
 *
 * The first time that a descriptor is added the host is asked, since it says whether it can be (a regular file cannot).  What cannot be
 * kept here (more than INTERESTS_MAX, flags that mean something while several wait) is the host's alone: `direct`.
 *
 * Data only, no system calls; the caller sees to it that one thread at a time is here.
 */
#ifndef GUEST_FORWARD_INTEREST_H
#define GUEST_FORWARD_INTEREST_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#define INTERESTS_MAX 64u
#define INTEREST_ASK 1 /* no errno */

struct interest {
	uint32_t fd, events;
	uint64_t data;
	bool wanted, there, stale;
};

/** struct interests - Of one epoll descriptor. */
struct interests {
	struct interest of[INTERESTS_MAX];
	uint32_t n;
	uint32_t first; /* to be polled next: who is ready always does not hide the others */
	bool direct;
};

/**
 * interest_change() - epoll_ctl()
 *
 * Return: 0: noted; -EEXIST or -ENOENT, as the kernel says; INTEREST_ASK: the host is to be asked, and interest_added() if it says
 * that a descriptor has been added.
 */
int interest_change(struct interests *set, uint64_t op, uint32_t fd, const struct epoll_event *event);

/** interest_added() - The host's set has it.  Return: false: there is no room, and it is not noted. */
bool interest_added(struct interests *set, uint32_t fd, const struct epoll_event *event);

/**
 * interest_unsettled() - The next change that the host does not know, from index *@at on, which moves
 * @op: set to what is to be done there
 *
 * Return: it, or NULL.
 */
struct interest *interest_unsettled(struct interests *set, uint32_t *at, uint64_t *op);

/** interest_settled() - The host knows it.  Those that are not wanted are forgotten: looking starts again from the beginning. */
void interest_settled(struct interests *set, struct interest *one, uint32_t *at);

/**
 * interest_gone() - A descriptor is about to be closed
 *
 * Return: whether the host's set has it otherwise than the program wants, so that it is to be taken out there first.
 */
bool interest_gone(struct interests *set, uint32_t fd);

/** interest_nowhere() - In a forked child: no set of the host has any of them. */
void interest_nowhere(struct interests *set);

/**
 * interest_poll() - The same as poll() would have it
 * @fds: room for INTERESTS_MAX
 *
 * Return: how many; -1: poll() cannot stand for it (edges, one-shot).
 */
int interest_poll(struct interests *set, struct pollfd *fds);

/** interest_events() - What poll() has found in @n entries of @fds, as events, @max at most; what is not open is forgotten.  Return: how many. */
uint32_t interest_events(struct interests *set, const struct pollfd *fds, uint32_t n, struct epoll_event *events, uint32_t max);

#endif
