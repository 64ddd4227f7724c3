/* message.c - sendmsg(), recvmsg() and their kin on sockets of the host
 *
 * Received: the shadow gets the message with the program's own msghdr.  Descriptors that come with it (SCM_RIGHTS, unix(7)) are new
 * descriptors of the host, with numbers that the program must not see: they are given numbers here like any other
 * (fds.c), before it sees the message.  Where there is no number left, the rest is closed and the message says MSG_CTRUNC, as the
 * kernel has it.
 *
 * Sent: descriptors in a message must be the host's.  One of the guest's does not exist there, and is refused.  (What else control
 * data may carry is up to the capsule, which refuses it.)  The capsule sends a message as sendto() or writev(), because its filter
 * cannot see into a msghdr; a message in several pieces that is neither is gathered here first, and one that is too large for
 * that goes piece by piece with MSG_MORE, which a stream does not mind.  sendmmsg() is several sendmsg().
 *
 * Messages of sockets of the guest: carry.c.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/guest/forward/message.h"
#include "runtime/guest/forward/sides.h"

#define PIECES_MAX 1024u
#define ADDRESS_MAX 128u

struct piece {
	uint64_t base, bytes;
};
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

static int64_t receive(const struct intercept_call *call)
{
	const bool many = call->nr == __NR_recvmmsg;
	struct received r = {.at = call->arg[1], .many = many, .cloexec = call->arg[many ? 3 : 2] & MSG_CMSG_CLOEXEC};

	return forward_call_then(call, &nested, received, &r);
}

/* --- sending --------------------------------------------------------------------------------------------------------------------- */

/* A descriptor in a message.  Return: 0; -EINVAL: it is not the host's. */
static int64_t check_right(void *ctx, int32_t fd, uint64_t at)
{
	(void)ctx;
	(void)at;
	if (forward_fd_host((uint64_t)(uint32_t)fd))
		return 0;
	forward_trace_note("sendmsg", "a descriptor of the guest cannot go over a socket of the host");
	return raw2(__NR_fcntl, fd, 1 /* F_GETFD */) < 0 ? -EBADF : -EINVAL;
}

struct gathered {
	const struct forward_message *m;
	const struct piece *piece;
	uint64_t fd, flags, bytes;
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

static int64_t gather(const struct gathered *g)
{
	uint32_t evictions = 0;

	for (;;) {
		struct forward_turn turn;
		bool again, evicted;
		int64_t result = forward_turn_begin_again(&turn, evictions);

		if (result)
			return result;
		result = send_gathered(&turn, g);
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
	struct piece piece[PIECES_MAX / 64];
	struct forward_message m;
	struct gathered g = {.m = &m, .piece = piece, .fd = fd, .flags = flags};
	int64_t rc;

	if (intercept_fetch(&m, at, sizeof(m)))
		return -EFAULT;
	if (m.niov > PIECES_MAX)
		return -EMSGSIZE;
	rc = forward_message_rights(&m, check_right, NULL);
	if (rc)
		return rc;
	if ((m.control && m.control_bytes) || m.niov <= 1 || m.niov > sizeof(piece) / sizeof(piece[0]) ||
	    (!m.name && !(flags & ~(uint64_t)MSG_NOSIGNAL)))
		return forward_call(&verbatim, &nested);
	if (intercept_fetch(piece, m.iov, m.niov * sizeof(*piece)))
		return -EFAULT;
	for (uint64_t i = 0; i < m.niov; i++) {
		if (piece[i].bytes > INT32_MAX)
			return -EINVAL;
		g.bytes += piece[i].bytes;
	}
	return g.bytes <= FORWARD_SCRATCH - ADDRESS_MAX ? gather(&g) : send_pieces(&g);
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

int64_t forward_message_call(const struct intercept_call *call)
{
	switch (call->nr) {
	case __NR_sendmsg: return send_one(call->arg[0], call->arg[1], call->arg[2]);
	case __NR_sendmmsg: return send_many(call);
	default: return receive(call);
	}
}
