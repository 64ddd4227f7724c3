/* message.c - sendmsg(), recvmsg() and their kin on sockets of the host
 *
 * Received: the shadow gets the message with the program's own msghdr.  Descriptors that come with it (SCM_RIGHTS, unix(7)) are new
 * descriptors of the host, with numbers that the program must not see: they are given numbers here like any other
 * (fds.c), before it sees the message.  Where there is no number left, the rest is closed and the message says MSG_CTRUNC, as the
 * kernel has it.
 *
 * Sent: descriptors in a message must be the host's.  One of the guest's does not exist there, and is refused.  (Control
 * data is refused by the capsule: deliver.c.)  The capsule sends a message as sendto() or writev(), because its filter
 * cannot see into a msghdr; a message in several pieces that is neither is gathered here first, and one that is too large for
 * that goes piece by piece with MSG_MORE, which a stream does not mind.  sendmmsg() is several sendmsg().
 *
 * A shadow that has unix sockets has neither recvmsg() nor recvmmsg() (runtime/host/jail/filter_group.h): they are made of recvfrom() here.
 * Messages that may have descriptors with them go another way then: deliver.c.  Messages of sockets of the guest: carry.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/guest/forward/message.h"
#include "runtime/guest/forward/sides.h"

#define PIECES_MAX 1024u
#define ADDRESS_MAX 128u

static const struct forward_rule plain = {.kind = FORWARD_FD}, nested = {.kind = FORWARD_FD, .flags = FORWARD_NESTED};

/* --- control data --------------------------------------------------------------------------------------------------------------- */

int64_t forward_message_rights(const struct forward_message *m, int64_t (*each)(void *ctx, int32_t fd, uint64_t at), void *ctx)
{
	struct forward_control c;

	if (!m->control || !m->control_bytes)
		return 0;
	if (m->control_bytes > FORWARD_CONTROL_MAX)
		return -ENOBUFS;
	for (uint64_t pos = 0; pos + sizeof(c) <= m->control_bytes; pos += FORWARD_CONTROL_ALIGN(c.bytes)) {
		if (intercept_fetch(&c, m->control + pos, sizeof(c)))
			return -EFAULT;
		if (c.bytes < sizeof(c) || c.bytes > m->control_bytes - pos)
			return -EINVAL;
		if (c.level != SOL_SOCKET || c.type != FORWARD_SCM_RIGHTS)
			continue;
		for (uint64_t at = sizeof(c); at + 4 <= c.bytes; at += 4) {
			int32_t fd;
			int64_t rc;

			if (intercept_fetch(&fd, m->control + pos + at, sizeof(fd)))
				return -EFAULT;
			rc = each(ctx, fd, m->control + pos + at);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* Descriptors from @from on.  Return: how many the program may have. */
static uint64_t take(uint64_t from, uint64_t n, bool cloexec, const struct forward_receipt *receipt)
{
	uint64_t done = 0;
	int32_t raw;

	for (; done < n; done++) {
		int64_t fd;
		int32_t number;

		if (intercept_fetch(&raw, from + 4 * done, sizeof(raw)))
			return done;
		fd = receipt->take(receipt->ctx, raw, cloexec);
		if (fd < 0)
			break;
		number = (int32_t)fd;
		if (number != raw)
			intercept_store(from + 4 * done, &number, sizeof(number));
	}
	for (uint64_t i = done + 1; i < n; i++) /* the one that failed is closed */
		if (!intercept_fetch(&raw, from + 4 * i, sizeof(raw)))
			receipt->drop(receipt->ctx, raw);
	return done;
}

void forward_message_received(uint64_t at, bool cloexec, const struct forward_receipt *receipt)
{
	struct forward_message m;
	struct forward_control c;

	if (intercept_fetch(&m, at, sizeof(m)) || !m.control || m.control_bytes > FORWARD_CONTROL_MAX)
		return;
	for (uint64_t pos = 0; pos + sizeof(c) <= m.control_bytes; pos += FORWARD_CONTROL_ALIGN(c.bytes)) {
		uint64_t n, done;

		if (intercept_fetch(&c, m.control + pos, sizeof(c)) || c.bytes < sizeof(c) || c.bytes > m.control_bytes - pos)
			return;
		if (c.level != SOL_SOCKET || (c.type != FORWARD_SCM_RIGHTS && c.type != FORWARD_SCM_PIDFD))
			continue;
		n = (c.bytes - sizeof(c)) / 4;
		done = take(m.control + pos + sizeof(c), n, cloexec || c.type == FORWARD_SCM_PIDFD, receipt);
		if (done == n)
			continue;
		c.bytes = sizeof(c) + 4 * done;
		m.control_bytes = done ? pos + c.bytes : pos;
		m.flags |= MSG_CTRUNC;
		if (done)
			intercept_store(m.control + pos, &c, sizeof(c));
		intercept_store(at, &m, sizeof(m));
		return;
	}
}

/* --- receiving ------------------------------------------------------------------------------------------------------------------ */

struct received {
	uint64_t at; /* the message, or several */
	bool cloexec, many;
};

static int64_t adopt(void *turn, int32_t raw, bool cloexec)
{
	return forward_fd_adopt(turn, raw, cloexec);
}

static void close_there(void *turn, int32_t raw)
{
	forward_turn_quick(turn, __NR_close, (uint64_t)(uint32_t)raw, 0, 0, 0);
}

static int64_t received(struct forward_turn *turn, int64_t result, void *ctx)
{
	const struct forward_receipt receipt = {.take = adopt, .drop = close_there, .ctx = turn};
	const struct received *r = ctx;

	if (!r->many)
		forward_message_received(r->at, r->cloexec, &receipt);
	for (int64_t i = 0; r->many && i < result; i++)
		forward_message_received(r->at + (uint64_t)i * sizeof(struct forward_many), r->cloexec, &receipt);
	return result;
}

/* --- sending --------------------------------------------------------------------------------------------------------------------- */

/* A descriptor in a message.  Return: 0; -EINVAL: it is not the host's. */
static int64_t check_right(void *count, int32_t fd, uint64_t at)
{
	(void)at;
	if (forward_fd_host((uint64_t)(uint32_t)fd)) {
		++*(uint32_t *)count;
		return 0;
	}
	forward_trace_note("sendmsg", "a descriptor of the guest cannot go over a socket of the host");
	return raw2(__NR_fcntl, fd, 1 /* F_GETFD */) < 0 ? -EBADF : -EINVAL;
}

struct gathered {
	const struct forward_message *m;
	const struct forward_piece *piece;
	uint64_t fd, flags, bytes, at; /* at: the message's header; of one that is received */
};

/* All pieces in the turn's scratch, and the address behind them.  Return: as sendto(). */
static int64_t send_gathered(struct forward_turn *turn, const struct gathered *g)
{
	char *to = turn->entry->scratch + ADDRESS_MAX;
	uint64_t arg[6] = {g->fd, (uint64_t)to, g->bytes, g->flags, 0, 0};

	if (g->m->name) {
		if (g->m->name_bytes > ADDRESS_MAX)
			return -EINVAL;
		if (intercept_fetch(turn->entry->scratch, g->m->name, g->m->name_bytes))
			return -EFAULT;
		arg[4] = (uint64_t)turn->entry->scratch;
		arg[5] = g->m->name_bytes;
	}
	for (uint64_t i = 0; i < g->m->niov; i++) {
		if (intercept_fetch(to, g->piece[i].base, g->piece[i].bytes))
			return -EFAULT;
		to += g->piece[i].bytes;
	}
	return forward_turn_call(turn, __NR_sendto, arg);
}

/* A call that @make makes with the turn's scratch, restarted as signals demand. */
static int64_t by_scratch(int64_t (*make)(struct forward_turn *turn, const struct gathered *g), const struct gathered *g)
{
	uint32_t evictions = 0;

	for (;;) {
		struct forward_turn turn;
		bool again, evicted;
		int64_t result = forward_turn_begin_again(&turn, evictions);

		if (result)
			return result;
		result = make(&turn, g);
		evicted = forward_turn_evicted(&turn, result);
		again = evicted || (result == -EINTR && forward_turn_restarts(&turn));
		forward_turn_end(&turn);
		if (evicted)
			forward_turn_pause(&evictions);
		if (!again)
			return result;
	}
}

static int64_t send_pieces(const struct gathered *g)
{
	int64_t sent = 0;

	for (uint64_t i = 0; i < g->m->niov; i++) {
		const struct intercept_call one = {.nr = __NR_sendto, .arg = {g->fd, g->piece[i].base, g->piece[i].bytes,
									      g->flags | (i + 1 < g->m->niov ? MSG_MORE : 0), g->m->name, g->m->name_bytes}};
		const int64_t n = g->piece[i].bytes ? forward_call(&one, &plain) : 0;

		if (n < 0)
			return sent ? sent : n;
		sent += n;
		if ((uint64_t)n < g->piece[i].bytes)
			break;
	}
	return sent;
}

static int64_t send_one(uint64_t fd, uint64_t at, uint64_t flags)
{
	const struct intercept_call verbatim = {.nr = __NR_sendmsg, .arg = {fd, at, flags}};
	struct forward_piece piece[PIECES_MAX / 64];
	struct forward_message m;
	struct gathered g = {.m = &m, .piece = piece, .fd = fd, .flags = flags};
	uint32_t rights = 0;
	int64_t rc;

	if (intercept_fetch(&m, at, sizeof(m)))
		return -EFAULT;
	if (m.niov > PIECES_MAX)
		return -EMSGSIZE;
	rc = forward_message_rights(&m, check_right, &rights);
	if (rc)
		return rc;
	if (m.control && m.control_bytes) {
		rc = forward_call(&verbatim, &nested);
		return rc == -EPERM && rights ? forward_deliver_send(fd, &m, flags, rights) : rc;
	}
	if (m.niov <= 1 || m.niov > sizeof(piece) / sizeof(piece[0]) ||
	    (!m.name && !(flags & ~(uint64_t)MSG_NOSIGNAL)))
		return forward_call(&verbatim, &nested);
	if (intercept_fetch(piece, m.iov, m.niov * sizeof(*piece)))
		return -EFAULT;
	for (uint64_t i = 0; i < m.niov; i++) {
		if (piece[i].bytes > INT32_MAX)
			return -EINVAL;
		g.bytes += piece[i].bytes;
	}
	return g.bytes <= FORWARD_SCRATCH - ADDRESS_MAX ? by_scratch(send_gathered, &g) : send_pieces(&g);
}

static int64_t send_many(const struct intercept_call *call)
{
	const uint64_t n = (uint32_t)call->arg[2] < FORWARD_MESSAGES_MAX ? (uint32_t)call->arg[2] : FORWARD_MESSAGES_MAX;
	int64_t result = 0;
	uint64_t i = 0;

	for (; i < n; i++) {
		const uint64_t at = call->arg[1] + i * sizeof(struct forward_many);
		uint32_t bytes;

		result = send_one(call->arg[0], at, call->arg[3]);
		if (result < 0)
			break;
		bytes = (uint32_t)result;
		if (intercept_store(at + offsetof(struct forward_many, bytes), &bytes, sizeof(bytes))) {
			result = -EFAULT;
			break;
		}
	}
	return i ? (int64_t)i : result;
}

/* --- receiving where the shadow has no recvmsg() ------------------------------------------------------------------------------------ */

static int64_t receive_scattered(struct forward_turn *turn, const struct gathered *g)
{
	uint32_t *const name_bytes = (uint32_t *)turn->entry->scratch;
	char *const name = turn->entry->scratch + 8, *from = turn->entry->scratch + ADDRESS_MAX + 8;
	const uint64_t room = FORWARD_SCRATCH - ADDRESS_MAX - 8;
	const uint64_t arg[6] = {g->fd, (uint64_t)from, g->bytes < room ? g->bytes : room, g->flags, g->m->name ? (uint64_t)name : 0,
				 g->m->name ? (uint64_t)name_bytes : 0};
	int64_t n, left;

	*name_bytes = g->m->name_bytes < ADDRESS_MAX ? g->m->name_bytes : ADDRESS_MAX;
	n = forward_turn_call(turn, __NR_recvfrom, arg);
	left = n < (int64_t)arg[2] ? n : (int64_t)arg[2]; /* with MSG_TRUNC there may have been more */
	for (uint64_t i = 0; i < g->m->niov && left > 0; i++) {
		const uint64_t part = g->piece[i].bytes < (uint64_t)left ? g->piece[i].bytes : (uint64_t)left;

		if (intercept_store(g->piece[i].base, from, part))
			return -EFAULT;
		from += part;
		left -= (int64_t)part;
	}
	if (n >= 0 && g->m->name &&
	    (intercept_store(g->m->name, name, *name_bytes < g->m->name_bytes ? *name_bytes : g->m->name_bytes) ||
	     intercept_store(g->at + offsetof(struct forward_message, name_bytes), name_bytes, sizeof(*name_bytes))))
		return -EFAULT;
	return n;
}

static int64_t receive_plain(uint64_t fd, uint64_t at, uint64_t flags)
{
	struct forward_piece piece[PIECES_MAX / 64];
	struct forward_message m;
	struct gathered g = {.m = &m, .piece = piece, .fd = fd, .flags = flags & ~(uint64_t)MSG_CMSG_CLOEXEC, .at = at};
	int64_t n;

	if (intercept_fetch(&m, at, sizeof(m)))
		return -EFAULT;
	m.niov = m.niov < sizeof(piece) / sizeof(piece[0]) ? m.niov : sizeof(piece) / sizeof(piece[0]);
	if (intercept_fetch(piece, m.iov, m.niov * sizeof(*piece)))
		return -EFAULT;
	for (uint64_t i = 0; i < m.niov; i++) {
		if (piece[i].bytes > INT32_MAX)
			return -EINVAL;
		g.bytes += piece[i].bytes;
	}
	if (m.niov == 1) {
		const struct intercept_call one = {.nr = __NR_recvfrom, .arg = {fd, piece[0].base, piece[0].bytes, g.flags, m.name,
										 m.name ? at + offsetof(struct forward_message, name_bytes) : 0}};

		n = forward_call(&one, &plain);
	} else {
		n = by_scratch(receive_scattered, &g);
	}
	m.control_bytes = 0;
	m.flags = 0;
	if (n >= 0 && (intercept_store(at + offsetof(struct forward_message, control_bytes), &m.control_bytes, sizeof(m.control_bytes)) ||
		       intercept_store(at + offsetof(struct forward_message, flags), &m.flags, sizeof(m.flags))))
		return -EFAULT;
	return n;
}

static int64_t receive_one(uint64_t fd, uint64_t at, uint64_t flags)
{
	struct forward_message m;

	if (intercept_fetch(&m, at, sizeof(m)))
		return -EFAULT;
	return m.control && m.control_bytes > sizeof(struct forward_control) && forward_deliver_is_unix(fd) ? forward_deliver_receive(fd, at, flags) :
													      receive_plain(fd, at, flags);
}

/* The time that recvmmsg() may take is not looked at: it is so between two messages only (recvmmsg(2), BUGS). */
static int64_t receive_many(const struct intercept_call *call)
{
	const uint64_t n = (uint32_t)call->arg[2] < FORWARD_MESSAGES_MAX ? (uint32_t)call->arg[2] : FORWARD_MESSAGES_MAX;
	uint64_t flags = call->arg[3] & ~(uint64_t)MSG_WAITFORONE, i = 0;
	int64_t result = 0;

	for (; i < n && result >= 0; i++) {
		const uint64_t at = call->arg[1] + i * sizeof(struct forward_many);
		uint32_t bytes;

		result = receive_one(call->arg[0], at, flags);
		bytes = (uint32_t)result;
		if (result >= 0 && intercept_store(at + offsetof(struct forward_many, bytes), &bytes, sizeof(bytes)))
			result = -EFAULT;
		if (result < 0)
			break;
		if (call->arg[3] & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
	}
	return i ? (int64_t)i : result;
}

static int64_t receive(const struct intercept_call *call)
{
	static uint32_t without; /* what the shadow has is the same for all its life, and for that of its children */
	const bool many = call->nr == __NR_recvmmsg;
	struct received r = {.at = call->arg[1], .many = many, .cloexec = call->arg[many ? 3 : 2] & MSG_CMSG_CLOEXEC};
	int64_t result = -ENOSYS;

	if (!__atomic_load_n(&without, __ATOMIC_RELAXED))
		result = forward_call_then(call, &nested, received, &r);
	if (result != -ENOSYS)
		return result;
	__atomic_store_n(&without, 1, __ATOMIC_RELAXED);
	return many ? receive_many(call) : receive_one(call->arg[0], call->arg[1], call->arg[2]);
}

int64_t forward_message_call(const struct intercept_call *call)
{
	switch (call->nr) {
	case __NR_sendmsg: return send_one(call->arg[0], call->arg[1], call->arg[2]);
	case __NR_sendmmsg: return send_many(call);
	default: return receive(call);
	}
}
