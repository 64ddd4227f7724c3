/* keeper.c - the process that keeps the estates of a VM; theory in keeper.h */
#include "runtime/host/warden/keeper.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/bells.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/shadows.h"
#include "runtime/host/warden/unixmsg.h"

#define EVENTS_A_TURN 64
#define NEVER UINT64_MAX

enum state { HELLO, LAYING, IDLE, GIVING };

struct entry {
	int fd;
	uint16_t number;
};

struct estate {
	enum state state;
	int stream, answer; /* answer: of a warden, while it is waited for; else -1 */
	bool ended;
	bool messages; /* may be sent and received for the shadow that it was laid aside from */
	uint8_t token[DS_ESTATE_TOKEN_BYTES];
	uint64_t until_ns; /* of HELLO, and of an answer */
	struct entry *entry;
	uint32_t nentries, given; /* given: how many of `wish` */
	uint32_t have;		  /* bytes of the request */
	struct {
		struct ds_estate_request head;
		struct ds_estate_pair pair[DS_ESTATE_PAIRS_MAX];
	} in;
	uint8_t *data; /* of a SEND; NULL between requests */
	struct entry *wish; /* of a CLAIM: number: in the shadow; fd: ours, of `entry` */
	uint32_t nwish;
	struct estate *next;
};

struct keeper {
	int channel, epoll;
	struct estate *first;
	uint32_t nestates, nfds;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* --- what an estate has ---------------------------------------------------------------------------------------------- */

static void put(struct keeper *k, struct estate *e, uint32_t number, int fd)
{
	if (e->nentries >= DS_ESTATE_PAIRS_MAX || k->nfds >= KEEPER_FDS_MAX) {
		close(fd);
		return;
	}
	e->entry[e->nentries++] = (struct entry){fd, (uint16_t)number};
	k->nfds++;
}

static void drop(struct keeper *k, struct estate *e, uint32_t i)
{
	close(e->entry[i].fd);
	e->entry[i] = e->entry[--e->nentries];
	k->nfds--;
}

static struct entry *find(struct estate *e, uint32_t number)
{
	for (uint32_t i = 0; i < e->nentries; i++)
		if (e->entry[i].number == number)
			return &e->entry[i];
	return NULL;
}

static void forget_answer(struct estate *e)
{
	cleanup_close_fn(&e->answer);
	e->answer = -1;
	free(e->wish);
	free(e->data);
	e->wish = NULL;
	e->data = NULL;
	e->until_ns = NEVER;
}

static void free_estate(struct keeper *k, struct estate *e)
{
	forget_answer(e);
	while (e->nentries)
		drop(k, e, e->nentries - 1);
	close(e->stream);
	free(e->entry);
	free(e);
	k->nestates--;
}

/* Not read while something is under way; its end is seen at any time. */
static void watch(struct keeper *k, struct estate *e)
{
	const bool busy = e->state == LAYING || e->state == GIVING;
	struct epoll_event ev = {.events = EPOLLRDHUP | (busy ? 0u : EPOLLIN), .data.ptr = e};

	if (epoll_ctl(k->epoll, EPOLL_CTL_MOD, e->stream, &ev))
		e->ended = true;
}

/* --- answers to the guest -------------------------------------------------------------------------------------------- */

/* @data: of a message of `error` bytes, as far as there was room; or NULL. */
static void reply_with(struct keeper *k, struct estate *e, int error, const uint16_t *number, uint32_t n, uint32_t flags, void *data)
{
	struct {
		struct ds_estate_reply head;
		uint16_t number[DS_ESTATE_PAIRS_MAX];
	} out = {.head = {.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = e->in.head.what, .error = error, .n = n}};
	struct iovec iov[] = {{&out, sizeof(out.head) + n * sizeof(out.number[0])}, {data, !data || error < 0 ? 0 : (uint32_t)error < e->in.head.bytes ? (size_t)error : e->in.head.bytes}};
	const struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

	if (e->in.head.what == DS_ESTATE_RECEIVE)
		out.head.flags = flags;
	if (e->in.head.what == DS_ESTATE_HELLO)
		memcpy(out.head.token, e->token, sizeof(out.head.token));
	if (n)
		memcpy(out.number, number, n * sizeof(out.number[0]));
	/* One request is answered before the next is read, so there is room; a guest that writes ahead without reading may go. */
	if (sendmsg(e->stream, &m, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)(iov[0].iov_len + iov[1].iov_len))
		e->ended = true;
	forget_answer(e);
	e->state = IDLE;
	e->have = 0;
	watch(k, e);
}

static void reply(struct keeper *k, struct estate *e, int error, const uint16_t *number, uint32_t n)
{
	reply_with(k, e, error, number, n, 0, NULL);
}

static void reply_numbers(struct keeper *k, struct estate *e, const struct entry *list, uint32_t n)
{
	uint16_t number[DS_ESTATE_PAIRS_MAX];

	for (uint32_t i = 0; i < n; i++)
		number[i] = list[i].number;
	reply(k, e, 0, number, n);
}

/* --- orders to wardens ------------------------------------------------------------------------------------------------- */

/* The order goes by the VM process; its answer comes to e->answer. */
static int order(struct keeper *k, struct estate *e, struct estate_order *o, int *fds, unsigned int nfds)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = e};
	cleanup_close int theirs = -1;
	int pair[2];

	forget_answer(e);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	e->answer = pair[0];
	theirs = fds[0] = pair[1];
	memcpy(o->token, e->in.head.token, sizeof(o->token));
	e->until_ns = now_ns() + KEEPER_ANSWER_MS * UINT64_C(1000000);
	if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, e->answer, &ev))
		return -errno;
	return estate_send(k->channel, o, estate_order_bytes(o), fds, nfds);
}

/* The next descriptors of a claim.  @wish is kept by the caller over order(). */
static int give(struct keeper *k, struct estate *e)
{
	struct estate_order o = {.what = BELLS_ADOPT};
	int fds[SHADOWS_TELL_FDS];
	struct entry *wish = e->wish;
	int error;

	while (o.n < DS_SHADOW_ADOPT_MAX && e->given + o.n < e->nwish) {
		o.number[o.n] = wish[e->given + o.n].number;
		fds[1 + o.n] = wish[e->given + o.n].fd;
		o.n++;
	}
	e->wish = NULL;
	error = order(k, e, &o, fds, 1 + o.n);
	e->wish = wish;
	e->given += o.n;
	return error;
}

/* --- requests -------------------------------------------------------------------------------------------------------- */

/* A copy of another estate's descriptors, as the pairs say. */
static bool copy_estate(struct keeper *k, struct estate *e)
{
	struct estate *from = k->first;
	uint16_t number[DS_ESTATE_PAIRS_MAX];

	while (from && (from == e || from->ended || from->state == HELLO || from->state == LAYING ||
			memcmp(from->token, e->in.head.token, sizeof(from->token))))
		from = from->next;
	if (!from)
		return false;
	for (uint32_t i = 0; i < (e->in.head.npairs ? e->in.head.npairs : from->nentries); i++) {
		const struct entry *found = e->in.head.npairs ? find(from, e->in.pair[i].from) : &from->entry[i];
		const int fd = found ? dup(found->fd) : -1;

		if (fd >= 0)
			put(k, e, e->in.head.npairs ? e->in.pair[i].to : found->number, fd);
	}
	for (uint32_t i = 0; i < e->nentries; i++)
		number[i] = e->entry[i].number;
	reply(k, e, 0, number, e->nentries);
	return true;
}

/* Whether no pair before names the same source. */
static bool first_of(const struct estate *e, uint32_t i)
{
	for (uint32_t p = 0; p < i; p++)
		if (e->in.pair[p].from == e->in.pair[i].from)
			return false;
	return true;
}

static void hello(struct keeper *k, struct estate *e)
{
	struct estate_order o = {.what = BELLS_LAY};
	int fd, error;

	e->until_ns = NEVER;
	e->entry = malloc(DS_ESTATE_PAIRS_MAX * sizeof(*e->entry));
	if (!e->entry || getrandom(e->token, sizeof(e->token), 0) != sizeof(e->token)) {
		e->ended = true;
		return;
	}
	if (copy_estate(k, e))
		return;
	for (uint32_t i = 0; i < e->in.head.npairs; i++)
		if (first_of(e, i))
			o.number[o.n++] = e->in.pair[i].from;
	e->state = LAYING;
	watch(k, e);
	error = o.n ? order(k, e, &o, &fd, 1) : -EINVAL;
	if (error)
		reply(k, e, error, NULL, 0);
}

static void claim(struct keeper *k, struct estate *e)
{
	const uint32_t n = e->in.head.npairs ? e->in.head.npairs : e->nentries;
	int error = -ENOMEM;

	forget_answer(e);
	e->wish = calloc(n ? n : 1, sizeof(*e->wish));
	e->nwish = e->given = 0;
	for (uint32_t i = 0; e->wish && i < n; i++) {
		const struct entry *found = e->in.head.npairs ? find(e, e->in.pair[i].from) : &e->entry[i];

		if (found)
			e->wish[e->nwish++] = (struct entry){found->fd, e->in.head.npairs ? e->in.pair[i].to : found->number};
	}
	e->state = GIVING;
	watch(k, e);
	if (e->wish)
		error = e->nwish ? give(k, e) : 0;
	if (error || !e->nwish)
		reply(k, e, error, NULL, 0);
}

static void do_drop(struct keeper *k, struct estate *e)
{
	for (uint32_t i = e->nentries; i--;) {
		bool named = !e->in.head.npairs && e->entry[i].number != DS_ESTATE_WINDOW; /* a lease ends with its stream: who has it has it mapped */

		for (uint32_t p = 0; p < e->in.head.npairs && !named; p++)
			named = e->in.pair[p].from == e->entry[i].number;
		if (named)
			drop(k, e, i);
	}
	reply(k, e, 0, NULL, 0);
}

/* --- messages (unixmsg.h) ---------------------------------------------------------------------------------------------- */

static void do_send(struct keeper *k, struct estate *e)
{
	const uint32_t npairs = e->in.head.npairs;
	const struct entry *socket = npairs ? find(e, e->in.pair[0].from) : NULL;
	int fds[DS_ESTATE_RIGHTS_MAX], error = !e->messages ? -EPERM : npairs > DS_ESTATE_RIGHTS_MAX + 1 ? -EINVAL : socket ? 0 : -EBADF;

	for (uint32_t i = 1; i < npairs && !error; i++) {
		const struct entry *found = find(e, e->in.pair[i].from);

		if (found)
			fds[i - 1] = found->fd;
		else
			error = -EBADF;
	}
	if (!error)
		error = (int)unixmsg_send(socket->fd, e->data, e->in.head.bytes, e->in.pair[0].to, fds, npairs - 1);
	reply(k, e, error, NULL, 0);
}

/* The lowest number that nothing in the estate has; there is one, as it holds fewer than there are. */
static uint16_t free_number(struct estate *e)
{
	uint16_t number = 0;

	while (find(e, number))
		number++;
	return number;
}

static void do_receive(struct keeper *k, struct estate *e)
{
	const struct entry *socket = e->in.head.npairs == 1 ? find(e, e->in.pair[0].from) : NULL;
	uint32_t nfds = 0, n = 0, flags = 0;
	uint16_t number[DS_ESTATE_RIGHTS_MAX];
	int fds[DS_ESTATE_RIGHTS_MAX], got = !e->messages ? -EPERM : socket ? 0 : -EBADF;
	uint8_t data[DS_ESTATE_DATA_MAX];

	if (!got)
		got = (int)unixmsg_receive(socket->fd, data, e->in.head.bytes, e->in.pair[0].to, fds, &nfds, &flags);
	for (uint32_t i = 0; i < nfds; i++) {
		const uint16_t at = free_number(e);
		const uint32_t before = e->nentries;

		put(k, e, at, fds[i]);
		if (e->nentries > before)
			number[n++] = at;
		else
			flags |= MSG_CTRUNC;
	}
	reply_with(k, e, got, number, n, flags, data);
}

/* A whole request is there. */
static void handle(struct keeper *k, struct estate *e)
{
	const uint32_t what = e->in.head.what;

	if (what == DS_ESTATE_HELLO && e->state == HELLO)
		hello(k, e);
	else if (what == DS_ESTATE_CLAIM && e->state == IDLE)
		claim(k, e);
	else if (what == DS_ESTATE_DROP && e->state == IDLE)
		do_drop(k, e);
	else if (what == DS_ESTATE_SEND && e->state == IDLE)
		do_send(k, e);
	else if (what == DS_ESTATE_RECEIVE && e->state == IDLE)
		do_receive(k, e);
	else
		e->ended = true;
}

/*
 * A lease of the window's is for wardens: no shadow gets it as a descriptor, nor a descriptor in its place, and nobody sends it or uses
 * it as a socket.  Return: whether the request can be handled.
 */
static bool keep_leases(struct estate *e)
{
	const bool moves = e->in.head.what == DS_ESTATE_HELLO || e->in.head.what == DS_ESTATE_CLAIM;
	uint32_t n = 0;

	if (e->in.head.what == DS_ESTATE_DROP || !e->in.head.npairs)
		return true;
	for (uint32_t i = 0; i < e->in.head.npairs; i++) {
		const struct ds_estate_pair pair = e->in.pair[i];

		if (!moves && pair.from == DS_ESTATE_WINDOW)
			return false;
		if (!moves || (pair.from == DS_ESTATE_WINDOW) == (pair.to == DS_ESTATE_WINDOW))
			e->in.pair[n++] = pair;
	}
	e->in.head.npairs = n;
	return n;
}

static bool is_sound(const struct ds_estate_request *r)
{
	const bool message = r->what == DS_ESTATE_SEND || r->what == DS_ESTATE_RECEIVE;

	return r->magic == DS_ESTATE_MAGIC && r->version == DS_ESTATE_VERSION && r->npairs <= DS_ESTATE_PAIRS_MAX &&
	       r->bytes <= (message ? DS_ESTATE_DATA_MAX : 0);
}

static void read_stream(struct keeper *k, struct estate *e)
{
	const uint32_t head = sizeof(e->in.head), pairs = e->have < head ? 0 : e->in.head.npairs * (uint32_t)sizeof(e->in.pair[0]);
	const uint32_t data = e->have >= head && e->in.head.what == DS_ESTATE_SEND ? e->in.head.bytes : 0;
	const uint32_t known = head + pairs, want = e->have < known ? known : known + data; /* pairs and data lie apart */
	uint8_t *at = e->have < known ? (uint8_t *)&e->in + e->have : e->data + (e->have - known);
	const ssize_t n = recv(e->stream, at, want - e->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		e->ended = true;
		return;
	}
	e->have += (uint32_t)n;
	if (e->have == head) {
		e->ended = !is_sound(&e->in.head);
		if (!e->ended && e->in.head.what == DS_ESTATE_SEND && e->state == IDLE) {
			e->data = malloc(e->in.head.bytes + 1);
			e->ended = !e->data;
		} else if (!e->ended && e->in.head.what == DS_ESTATE_SEND) {
			e->ended = true;
		}
	}
	if (e->ended || e->have < head ||
	    e->have != head + e->in.head.npairs * sizeof(e->in.pair[0]) + (e->in.head.what == DS_ESTATE_SEND ? e->in.head.bytes : 0))
		return;
	if (keep_leases(e))
		handle(k, e);
	else
		e->ended = true;
}

/* --- answers of wardens ------------------------------------------------------------------------------------------------ */

static void take_batch(struct keeper *k, struct estate *e, const struct estate_batch *b, int64_t bytes, int *fds, unsigned int nfds)
{
	const bool sound = bytes >= (int64_t)sizeof(b->n) && b->n <= DS_SHADOW_ADOPT_MAX && b->n == nfds &&
			   bytes == (int64_t)(sizeof(b->n) + b->n * sizeof(b->number[0]));

	for (unsigned int i = 0; i < nfds; i++) {
		uint32_t copies = 0;

		for (uint32_t p = 0; sound && p < e->in.head.npairs; p++) {
			if (e->in.pair[p].from != b->number[i])
				continue;
			const int fd = copies++ ? dup(fds[i]) : fds[i];

			if (fd >= 0)
				put(k, e, e->in.pair[p].to, fd);
		}
		if (!copies)
			close(fds[i]);
	}
	if (!sound)
		reply(k, e, -EPROTO, NULL, 0);
	else if (!b->n)
		reply_numbers(k, e, e->entry, e->nentries);
}

static void read_answer(struct keeper *k, struct estate *e)
{
	int fds[SHADOWS_TELL_FDS];
	struct estate_batch b;
	unsigned int nfds;
	const int64_t n = estate_receive(e->answer, &b, sizeof(b), fds, &nfds);

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		reply(k, e, n == -EMFILE ? -ENOSPC : -ENOENT, NULL, 0);
	} else if (e->state == LAYING && n == sizeof(b.n) && b.n == ESTATE_MESSAGES && !nfds) {
		e->messages = true;
	} else if (e->state == LAYING) {
		take_batch(k, e, &b, n, fds, nfds);
	} else if (e->given < e->nwish) {
		const int error = give(k, e);

		if (error)
			reply(k, e, error, NULL, 0);
	} else {
		reply_numbers(k, e, e->wish, e->nwish);
	}
}

/* --- streams --------------------------------------------------------------------------------------------------------- */

static void make_room(struct keeper *k)
{
	struct estate *oldest = NULL;

	for (struct estate *e = k->first; e && k->nestates >= KEEPER_ESTATES_MAX; e = e->next)
		if (e->state == HELLO && !e->ended)
			oldest = e; /* new ones are put in front */
	if (oldest)
		oldest->ended = true;
}

static void new_stream(struct keeper *k, int stream)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP};
	struct estate *e = k->nestates < KEEPER_ESTATES_MAX + 1 ? calloc(1, sizeof(*e)) : NULL;

	make_room(k);
	ev.data.ptr = e;
	if (!e || epoll_ctl(k->epoll, EPOLL_CTL_ADD, stream, &ev)) {
		free(e);
		close(stream);
		return;
	}
	e->stream = stream;
	e->answer = -1;
	e->until_ns = now_ns() + KEEPER_HELLO_MS * UINT64_C(1000000);
	e->next = k->first;
	k->first = e;
	k->nestates++;
}

/* Return: false: the VM process is gone. */
static bool read_channel(struct keeper *k)
{
	int fds[SHADOWS_TELL_FDS];
	unsigned int nfds;
	char byte;
	const int64_t n = estate_receive(k->channel, &byte, 1, fds, &nfds);

	for (unsigned int i = 0; i < nfds; i++)
		new_stream(k, fds[i]);
	return n > 0 || n == -EAGAIN || n == -EMFILE;
}

/* Takes away what has ended, and what has waited for too long.  Return: when there is something to do next. */
static uint64_t sweep(struct keeper *k)
{
	const uint64_t now = now_ns();
	uint64_t next_ns = NEVER;

	for (struct estate **at = &k->first; *at;) {
		struct estate *e = *at;

		if (!e->ended && now >= e->until_ns) {
			if (e->state == HELLO)
				e->ended = true;
			else
				reply(k, e, -ETIMEDOUT, NULL, 0);
		}
		if (e->ended) {
			*at = e->next;
			free_estate(k, e);
			continue;
		}
		next_ns = e->until_ns < next_ns ? e->until_ns : next_ns;
		at = &e->next;
	}
	return next_ns;
}

/* An event tells of a stream or of its answer: both are looked at.  Nothing is freed before the sweep. */
static void look(struct keeper *k, struct estate *e, uint32_t events)
{
	if (e->ended)
		return;
	if (events & EPOLLRDHUP || recv(e->stream, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		e->ended = true;
	else if (e->answer >= 0)
		read_answer(k, e);
	else
		read_stream(k, e);
}

int keeper_main(int channel)
{
	struct keeper k = {.channel = channel, .epoll = epoll_create1(EPOLL_CLOEXEC)};
	struct epoll_event ev = {.events = EPOLLIN};

	if (k.epoll < 0 || epoll_ctl(k.epoll, EPOLL_CTL_ADD, channel, &ev))
		return 2;
	for (;;) {
		struct epoll_event events[EVENTS_A_TURN];
		const uint64_t next_ns = sweep(&k), now = now_ns();
		const int ms = next_ns == NEVER ? -1 : next_ns <= now ? 0 : (int)((next_ns - now) / 1000000 + 1);
		const int n = epoll_wait(k.epoll, events, EVENTS_A_TURN, ms);

		for (int i = 0; i < n; i++)
			if (events[i].data.ptr)
				look(&k, events[i].data.ptr, events[i].events);
		for (int i = 0; i < n; i++)
			if (!events[i].data.ptr && !read_channel(&k))
				return 0;
	}
}
