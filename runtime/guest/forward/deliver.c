/* deliver.c - messages with descriptors over unix sockets of the host
 *
 * A shadow may not send or receive descriptors by itself, since nobody could see which (runtime/host/warden/unixmsg.h).  So the
 * socket is laid aside, and what is to be sent with it (estate.h); who keeps the estate sends and receives; what has come is claimed.
 * Neither side waits there: who would have to is told EAGAIN, and waits here, in a poll() of the host, like in any call.
 *
 * What is different: of a stream no more than DS_ESTATE_DATA_MAX bytes are moved at a time, and other messages cannot be larger
 * (EMSGSIZE, MSG_TRUNC); an address to send to is EOPNOTSUPP, and who has sent is not told; of control data descriptors only.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/socket.h>

#include "runtime/guest/forward/estate.h"
#include "runtime/guest/forward/message.h"

#define PIECES_MAX 1024u

static const struct forward_rule plain = {.kind = FORWARD_FD};

/* Too large for a program's stack, some of which are small. */
struct work {
	uint64_t mask; /* of the program */
	struct forward_estate estate;
	struct ds_estate_pair pair[DS_ESTATE_RIGHTS_MAX + 1];
	uint32_t npairs;
	struct forward_estate_answer answer;
};

static int64_t begin(struct work **w)
{
	const int64_t at = raw6(__NR_mmap, 0, sizeof(**w), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*w = (struct work *)at;
	return at < 0 ? at : 0;
}

static void end(struct work *w)
{
	raw2(__NR_munmap, w, sizeof(*w));
}

static int64_t option(uint64_t fd, uint64_t name)
{
	int32_t value = 0;
	uint32_t bytes = sizeof(value);
	const struct intercept_call call = {.nr = __NR_getsockopt, .arg = {fd, SOL_SOCKET, name, (uint64_t)&value, (uint64_t)&bytes}};
	const int64_t rc = forward_call(&call, &plain);

	return rc ? rc : value;
}

bool forward_deliver_is_unix(uint64_t fd)
{
	return option(fd, SO_DOMAIN) == AF_UNIX;
}

/* What -EAGAIN means to the program.  Return: 0: again; -errno. */
static int64_t wait(uint64_t fd, uint64_t flags, short events)
{
	struct pollfd p = {.fd = (int32_t)fd, .events = events};
	const struct intercept_call ask = {.nr = __NR_fcntl, .arg = {fd, F_GETFL}}, call = {.nr = __NR_poll, .arg = {(uint64_t)&p, 1, (uint64_t)-1}};
	int64_t rc = flags & MSG_DONTWAIT ? O_NONBLOCK : forward_call(&ask, &plain);

	if (rc >= 0)
		rc = rc & O_NONBLOCK ? -EAGAIN : forward_call(&call, &plain);
	return rc < 0 ? rc : 0;
}

static int64_t room_of(const struct forward_message *m)
{
	struct forward_piece piece;
	uint64_t bytes = 0;

	if (m->niov > PIECES_MAX)
		return -EMSGSIZE;
	for (uint64_t i = 0; i < m->niov; i++) {
		if (intercept_fetch(&piece, m->iov + i * sizeof(piece), sizeof(piece)))
			return -EFAULT;
		if (piece.bytes > INT32_MAX)
			return -EINVAL;
		bytes += piece.bytes;
	}
	return (int64_t)bytes;
}

/* The pieces of the program's memory, to the stream or from it. */
static int64_t transfer(const struct work *w, bool out, const struct forward_message *m, uint64_t bytes, int64_t until_ns)
{
	struct forward_piece piece;
	int64_t rc = 0;

	for (uint64_t i = 0; i < m->niov && bytes && !rc; i++) {
		if (intercept_fetch(&piece, m->iov + i * sizeof(piece), sizeof(piece)))
			return -EFAULT;
		piece.bytes = piece.bytes < bytes ? piece.bytes : bytes;
		rc = forward_estate_transfer(w->estate.stream, out, (void *)piece.base, piece.bytes, until_ns);
		bytes -= piece.bytes;
	}
	return rc;
}

/* Lays aside what w->pair names; signals are blocked until forget(). */
static int64_t lay_aside(struct work *w)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	int64_t n;

	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &all, &w->mask, 8);
	n = forward_estate_open(&w->estate, forward_pool_own_token(), w->pair, w->npairs, &w->answer);
	if (n >= 0 && n < w->npairs)
		return -EBADF;
	return n < 0 ? -ENOBUFS : 0;
}

static void forget(const struct work *w)
{
	if (w->estate.stream >= 0)
		raw1(__NR_close, w->estate.stream);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &w->mask, 0, 8);
}

/* --- sending --------------------------------------------------------------------------------------------------------------------- */

static int64_t add(void *ctx, int32_t fd, uint64_t at)
{
	struct work *w = ctx;

	(void)at;
	if (w->npairs > DS_ESTATE_RIGHTS_MAX)
		return -EINVAL;
	w->pair[w->npairs] = (struct ds_estate_pair){.from = (uint16_t)fd, .to = (uint16_t)w->npairs};
	w->npairs++;
	return 0;
}

static int64_t send_once(struct work *w, const struct forward_message *m, uint64_t flags, uint64_t bytes)
{
	struct ds_estate_request ask = {.what = DS_ESTATE_SEND, .npairs = w->npairs, .bytes = (uint32_t)bytes};
	struct ds_estate_pair pair[DS_ESTATE_RIGHTS_MAX + 1];
	int64_t rc = lay_aside(w), until_ns;

	for (uint32_t i = 0; i < w->npairs; i++)
		pair[i] = (struct ds_estate_pair){.from = (uint16_t)i};
	pair[0].to = (uint16_t)flags;
	if (!rc)
		rc = forward_estate_ask(w->estate.stream, &ask, pair, &until_ns);
	if (!rc)
		rc = transfer(w, true, m, bytes, until_ns);
	if (!rc)
		rc = forward_estate_hear(w->estate.stream, &w->answer, until_ns);
	forget(w);
	return rc ? rc : w->answer.head.error;
}

int64_t forward_deliver_send(uint64_t fd, const struct forward_message *m, uint64_t flags, uint32_t rights)
{
	int64_t bytes = room_of(m), rc;
	struct work *w;

	if (bytes < 0 || m->name)
		return bytes < 0 ? bytes : -EOPNOTSUPP;
	if (m->control_bytes != sizeof(struct forward_control) + 4 * rights && m->control_bytes != FORWARD_CONTROL_ALIGN(sizeof(struct forward_control) + 4 * rights))
		return -EPERM; /* there is more than descriptors */
	if (bytes > DS_ESTATE_DATA_MAX) {
		if (option(fd, SO_TYPE) != SOCK_STREAM)
			return -EMSGSIZE;
		bytes = DS_ESTATE_DATA_MAX;
	}
	rc = begin(&w);
	if (rc)
		return rc;
	add(w, (int32_t)fd, 0);
	rc = forward_message_rights(m, add, w);
	while (!rc && (rc = send_once(w, m, flags, (uint64_t)bytes)) == -EAGAIN)
		rc = wait(fd, flags, POLLOUT);
	end(w);
	return rc;
}

/* --- receiving ------------------------------------------------------------------------------------------------------------------ */

/* Numbers of the program's for what has come, as many as there is room for.  Return: how many; their numbers are w->pair[].to. */
static uint32_t claim(struct work *w, const struct forward_message *m, bool cloexec)
{
	const uint64_t head = sizeof(struct forward_control), room = m->control && m->control_bytes > head ? (m->control_bytes - head) / 4 : 0;
	uint32_t n = 0;
	int64_t came;

	while (n < room && n < w->answer.head.n && n < DS_ESTATE_RIGHTS_MAX) {
		const int64_t fd = forward_fd_reserve(cloexec);

		if (fd < 0)
			break;
		w->pair[n] = (struct ds_estate_pair){.from = w->answer.number[n], .to = (uint16_t)fd};
		n++;
	}
	came = n ? forward_estate_claim(&w->estate, forward_pool_own_token(), w->pair, n, &w->answer) : 0;
	for (uint32_t i = 0; i < n; i++) {
		if (came == n)
			forward_fd_set(w->pair[i].to, (uint8_t)(FORWARD_FD_HOST | (cloexec ? FORWARD_FD_CLOEXEC : 0)));
		else
			raw1(__NR_close, w->pair[i].to);
	}
	return came == n ? n : 0;
}

/* The control data of the message, and what else its header says. */
static int64_t tell(const struct work *w, struct forward_message *m, uint64_t at, uint32_t n)
{
	const struct forward_control c = {.bytes = sizeof(c) + 4 * n, .level = SOL_SOCKET, .type = FORWARD_SCM_RIGHTS};
	const uint64_t space = FORWARD_CONTROL_ALIGN(c.bytes);

	if (n && intercept_store(m->control, &c, sizeof(c)))
		return -EFAULT;
	for (uint32_t i = 0; i < n; i++) {
		const int32_t fd = w->pair[i].to;

		if (intercept_store(m->control + sizeof(c) + 4 * i, &fd, sizeof(fd)))
			return -EFAULT;
	}
	m->control_bytes = !n ? 0 : space < m->control_bytes ? space : m->control_bytes;
	m->name_bytes = 0;
	return intercept_store(at, m, sizeof(*m)) ? -EFAULT : 0;
}

static int64_t receive_once(struct work *w, struct forward_message *m, uint64_t at, uint64_t flags, uint32_t room)
{
	struct ds_estate_request ask = {.what = DS_ESTATE_RECEIVE, .npairs = 1, .bytes = room};
	const struct ds_estate_pair socket = {.to = (uint16_t)flags};
	const bool cloexec = flags & MSG_CMSG_CLOEXEC;
	int64_t rc = lay_aside(w), bytes = 0, until_ns;

	if (!rc)
		rc = forward_estate_ask(w->estate.stream, &ask, &socket, &until_ns);
	if (!rc)
		rc = forward_estate_hear(w->estate.stream, &w->answer, until_ns);
	if (!rc)
		rc = bytes = w->answer.head.error;
	if (rc >= 0)
		rc = transfer(w, false, m, (uint64_t)bytes < room ? (uint64_t)bytes : room, until_ns);
	if (!rc) {
		const uint32_t had = w->answer.head.n, told = w->answer.head.flags, n = claim(w, m, cloexec);

		m->flags = told | (n < had ? MSG_CTRUNC : 0) | (cloexec ? MSG_CMSG_CLOEXEC : 0);
		rc = tell(w, m, at, n);
	}
	forget(w);
	return rc ? rc : bytes;
}

int64_t forward_deliver_receive(uint64_t fd, uint64_t at, uint64_t flags)
{
	struct forward_message m;
	struct work *w;
	int64_t room, rc;

	if (intercept_fetch(&m, at, sizeof(m)))
		return -EFAULT;
	room = room_of(&m);
	if (room < 0)
		return room;
	rc = begin(&w);
	if (rc)
		return rc;
	w->pair[0] = (struct ds_estate_pair){.from = (uint16_t)fd};
	w->npairs = 1;
	room = room < DS_ESTATE_DATA_MAX ? room : DS_ESTATE_DATA_MAX;
	do {
		w->pair[0] = (struct ds_estate_pair){.from = (uint16_t)fd};
		rc = receive_once(w, &m, at, flags, (uint32_t)room);
	} while (rc == -EAGAIN && !(rc = wait(fd, flags, POLLIN)));
	end(w);
	return rc;
}
