/* bells.c - streams of guest threads, to the shadows that they belong to; theory in bells.h */
#include "runtime/host/warden/bells.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "runtime/host/shadows.h"
#include "runtime/host/vm/vsock.h"

#define EVENTS_A_RUN 64
#define SPIN_NS_MAX 1000000u
#define ADDRESS_END (UINT64_C(1) << 47)

struct waiting {
	int fd; /* -1: free */
	uint32_t guest_port, have;
	uint64_t until_ns;
	union {
		struct ds_forward_hello hello;
		uint8_t bytes[sizeof(struct ds_forward_hello)];
	};
};

struct passed {
	uint32_t guest_port; /* 0: free */
	uint32_t place;
	uint64_t shadow; /* of the place, at that time */
};

struct bells {
	struct shadows *shadows;
	struct vsock *vsock;
	int epoll, timer;
	uint64_t refused;
	struct waiting waiting[BELLS_WAITING_MAX];
	struct passed passed[BELLS_PASSED_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

int bells_new(struct bells **out, struct shadows *shadows, struct vsock *vsock)
{
	struct bells *b = calloc(1, sizeof(*b));
	struct epoll_event ev = {.events = EPOLLIN};
	int e;

	*out = NULL;
	if (!b)
		return -ENOMEM;
	b->shadows = shadows;
	b->vsock = vsock;
	for (uint32_t i = 0; i < BELLS_WAITING_MAX; i++)
		b->waiting[i].fd = -1;
	b->epoll = epoll_create1(EPOLL_CLOEXEC);
	b->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (b->epoll < 0 || b->timer < 0 || epoll_ctl(b->epoll, EPOLL_CTL_ADD, b->timer, &ev)) {
		e = -errno;
		bells_free(b);
		return e;
	}
	*out = b;
	return 0;
}

void bells_free(struct bells *b)
{
	if (!b)
		return;
	for (uint32_t i = 0; i < BELLS_WAITING_MAX; i++)
		if (b->waiting[i].fd >= 0)
			close(b->waiting[i].fd);
	if (b->timer >= 0)
		close(b->timer);
	if (b->epoll >= 0)
		close(b->epoll);
	free(b);
}

int bells_fd(const struct bells *b)
{
	return b->epoll;
}

uint64_t bells_refused(const struct bells *b)
{
	return b->refused;
}

/* --- who waits ------------------------------------------------------------------------------------------------------- */

static void refuse(struct bells *b, struct waiting *w)
{
	close(w->fd); /* epoll forgets it with that: nobody else has the description */
	w->fd = -1;
	b->refused++;
}

static struct waiting *oldest(struct bells *b)
{
	struct waiting *first = NULL;

	for (uint32_t i = 0; i < BELLS_WAITING_MAX; i++)
		if (b->waiting[i].fd >= 0 && (!first || b->waiting[i].until_ns < first->until_ns))
			first = &b->waiting[i];
	return first;
}

static void set_timer(struct bells *b)
{
	const struct waiting *w = oldest(b);
	const uint64_t at = w ? w->until_ns : 0;
	const struct itimerspec ts = {.it_value = {(time_t)(at / 1000000000), (long)(at % 1000000000)}};

	timerfd_settime(b->timer, TFD_TIMER_ABSTIME, &ts, NULL);
}

static struct waiting *room(struct bells *b)
{
	struct waiting *w;

	for (uint32_t i = 0; i < BELLS_WAITING_MAX; i++)
		if (b->waiting[i].fd < 0)
			return &b->waiting[i];
	w = oldest(b);
	refuse(b, w);
	return w;
}

int bells_accept(struct bells *b, uint32_t guest_port, int fd)
{
	struct waiting *w = room(b);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = w};

	if (epoll_ctl(b->epoll, EPOLL_CTL_ADD, fd, &ev))
		return -errno;
	w->fd = fd;
	w->guest_port = guest_port;
	w->have = 0;
	w->until_ns = now_ns() + BELLS_HELLO_MS * UINT64_C(1000000);
	set_timer(b);
	return 0;
}

/* --- who is passed on -------------------------------------------------------------------------------------------------- */

static bool is_there(const struct bells *b, const struct passed *p)
{
	return p->guest_port && (!b->vsock || vsock_has(b->vsock, p->guest_port, DS_FORWARD_PORT));
}

/* A port of the guest is used again when its stream has ended, so there is one entry for it at most. */
static void remember(struct bells *b, uint32_t guest_port, uint32_t place, uint64_t shadow)
{
	struct passed *free_one = NULL;

	for (uint32_t i = 0; i < BELLS_PASSED_MAX; i++) {
		struct passed *p = &b->passed[i];

		if (p->guest_port == guest_port) {
			free_one = p;
			break;
		}
		if (!p->guest_port && !free_one)
			free_one = p;
	}
	for (uint32_t i = 0; i < BELLS_PASSED_MAX && !free_one; i++)
		if (!is_there(b, &b->passed[i]))
			free_one = &b->passed[i];
	if (free_one)
		*free_one = (struct passed){guest_port, place, shadow};
}

static bool is_sound(const struct ds_forward_hello *h)
{
	return h->magic == DS_FORWARD_MAGIC && h->version == DS_FORWARD_VERSION && !h->zero && h->slot < ADDRESS_END &&
	       h->slot % sizeof(struct ds_forward_slot) == 0;
}

/* The hello is there. */
static void pass_on(struct bells *b, struct waiting *w)
{
	const struct ds_forward_hello *h = &w->hello;
	const struct bells_message m = {.what = BELLS_NEW,
					.id = w->guest_port,
					.spin_ns = h->spin_ns < SPIN_NS_MAX ? h->spin_ns : SPIN_NS_MAX,
					.slot = h->slot};
	uint64_t shadow;
	uint32_t place;

	if (!is_sound(h) || shadows_by_token(b->shadows, h->token, &place, &shadow) ||
	    shadows_tell(b->shadows, place, shadow, &m, sizeof(m), &w->fd, 1)) {
		refuse(b, w);
		return;
	}
	remember(b, w->guest_port, place, shadow);
	epoll_ctl(b->epoll, EPOLL_CTL_DEL, w->fd, NULL); /* the warden has the description, too */
	close(w->fd);
	w->fd = -1;
}

/* No byte behind the hello is taken: those are the executor's. */
static void take(struct bells *b, struct waiting *w)
{
	const ssize_t n = recv(w->fd, w->bytes + w->have, sizeof(w->bytes) - w->have, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		refuse(b, w);
		return;
	}
	w->have += (uint32_t)n;
	if (w->have == sizeof(w->bytes))
		pass_on(b, w);
}

void bells_run(struct bells *b)
{
	struct epoll_event ev[EVENTS_A_RUN];
	const int n = epoll_wait(b->epoll, ev, EVENTS_A_RUN, 0);
	const uint64_t now = now_ns();

	for (int i = 0; i < n; i++) {
		struct waiting *w = ev[i].data.ptr;

		if (w && w->fd >= 0)
			take(b, w);
	}
	for (uint32_t i = 0; i < BELLS_WAITING_MAX; i++)
		if (b->waiting[i].fd >= 0 && now >= b->waiting[i].until_ns)
			refuse(b, &b->waiting[i]);
	set_timer(b);
}

/* --- interrupts -------------------------------------------------------------------------------------------------------- */

static bool holds_interrupt(const struct iovec *iov, uint32_t n, uint32_t bytes)
{
	for (uint32_t i = 0; i < n && bytes; i++) {
		const size_t part = iov[i].iov_len < bytes ? iov[i].iov_len : bytes;

		if (memchr(iov[i].iov_base, DS_FORWARD_INTERRUPT, part))
			return true;
		bytes -= (uint32_t)part;
	}
	return false;
}

/* A hello that has such a byte in it belongs to no shadow yet, or to the one before on that port: harmless there. */
void bells_look(struct bells *b, uint32_t guest_port, const struct iovec *iov, uint32_t n, uint32_t bytes)
{
	const struct bells_message m = {.what = BELLS_INTERRUPT, .id = guest_port};

	if (!holds_interrupt(iov, n, bytes))
		return;
	for (uint32_t i = 0; i < BELLS_PASSED_MAX; i++) {
		if (b->passed[i].guest_port == guest_port) {
			shadows_tell(b->shadows, b->passed[i].place, b->passed[i].shadow, &m, sizeof(m), NULL, 0);
			return;
		}
	}
}
