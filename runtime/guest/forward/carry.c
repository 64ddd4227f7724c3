/* carry.c - descriptors of the host go over unix sockets of the guest (SCM_RIGHTS, unix(7))
 *
 * Theory of operation
 *
 * What stands for a descriptor of the host in the guest is a placeholder, which means nothing to another process.  So a message takes
 * along a *carrier* in its place: the stream of an estate with this one descriptor in it (estate.h).  The kernel's own rules for
 * descriptors in flight then are the right ones for it: it waits in the receiver's queue when the sender has long ended, the receiver
 * may hand it on, and when nobody can receive it any more the kernel closes it, and the host what it stood for.
 *
 *   sender      HELLO, one descriptor; the reply stays unread in the stream; the message with the stream; closes its own copy
 *   receiver    finds a stream to the host's estates in the message; looks at the unread reply (MSG_PEEK): the estate's token; copies that
 *	         estate by a stream of its own, claims the copy for its shadow; the placeholder takes the carrier's number
 *
 * Nobody speaks on the carrier itself, since several may have it: recvmsg(MSG_PEEK) makes copies, dup() does.  Descriptor by descriptor,
 * so that each is a thing of its own, as it is without all this.  A receiver without the library gets a socket that is good for
 * nothing but being handed on to one that has it.
 *
 * A receiver that has no shadow yet gets one.  If it cannot, or has no room, the descriptor is lost and the message says
 * MSG_CTRUNC.  A child of vfork, whose state is its parent's, neither sends nor receives descriptors of the host.
 *
 * The call itself is the guest's kernel's and is made here, outside of any turn: signals, restarts and cancellation are as ever.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/guest/forward/estate.h"
#include "runtime/guest/forward/message.h"

#define CARRIED_MAX 253u /* descriptors of a message: SCM_MAX_FD of the kernel's include/net/scm.h */
#define CONTROL_MAX 8192u

/* --- sending --------------------------------------------------------------------------------------------------------------------- */

/* Too large for a program's stack, some of which are small. */
struct parcel {
	enum forward_who who;
	uint64_t from; /* the message's control data */
	uint32_t n;
	int32_t stream[CARRIED_MAX];
	char control[CONTROL_MAX];
};

static int64_t look(void *any, int32_t fd, uint64_t at)
{
	(void)at;
	*(bool *)any |= forward_fd_host((uint64_t)(uint32_t)fd);
	return forward_own_fd(fd) ? -EBADF : 0;
}

static int64_t load(void *ctx, int32_t fd, uint64_t at)
{
	struct parcel *p = ctx;
	int64_t stream;

	if (!forward_fd_host((uint64_t)(uint32_t)fd))
		return 0;
	if (p->who == FORWARD_VCHILD) {
		forward_trace_note("sendmsg", "a child of vfork cannot send descriptors of the host");
		return -EBADF;
	}
	if (p->n == CARRIED_MAX)
		return -EINVAL; /* as the kernel has it */
	stream = forward_heir_lend((uint16_t)fd);
	if (stream < 0) {
		forward_trace_note("sendmsg", "a descriptor of the host cannot be sent");
		return stream == -EBADF || stream == -EMFILE ? stream : -ENOBUFS;
	}
	p->stream[p->n++] = (int32_t)stream;
	memcpy(p->control + (at - p->from), &p->stream[p->n - 1], sizeof(int32_t));
	return 0;
}

/* A message with descriptors of the host, by a copy of its header. */
static int64_t send_parcel(const struct intercept_call *call, uint64_t flags, const struct forward_message *m, enum forward_who who)
{
	struct intercept_call other = {.nr = __NR_sendmsg, .arg = {call->arg[0], 0, flags}, .pc = call->pc};
	struct forward_message copy = *m;
	struct parcel *p;
	int64_t rc;

	if (m->control_bytes > CONTROL_MAX)
		return -ENOBUFS;
	rc = raw6(__NR_mmap, 0, sizeof(*p), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (rc < 0)
		return rc;
	p = (struct parcel *)rc;
	p->who = who;
	p->from = m->control;
	rc = intercept_fetch(p->control, m->control, m->control_bytes) ? -EFAULT : forward_message_rights(m, load, p);
	copy.control = (uint64_t)p->control;
	other.arg[1] = (uint64_t)&copy;
	if (!rc)
		rc = forward_local(&other);
	for (uint32_t i = 0; i < p->n; i++)
		raw1(__NR_close, p->stream[i]);
	raw2(__NR_munmap, p, sizeof(*p));
	return rc;
}

/* Return: whether the message has descriptors of the host, or of our own; then @result is set. */
static bool send_one(const struct intercept_call *call, uint64_t at, uint64_t flags, enum forward_who who, int64_t *result)
{
	struct forward_message m;
	bool any = false;
	int64_t rc;

	if (intercept_fetch(&m, at, sizeof(m)))
		return false;
	rc = forward_message_rights(&m, look, &any);
	if (rc != -EBADF && (rc || !any))
		return false;
	*result = rc ? rc : send_parcel(call, flags, &m, who);
	return true;
}

static bool send_many(struct intercept_call *call, enum forward_who who, int64_t *result)
{
	const uint32_t n = (uint32_t)call->arg[2] < FORWARD_MESSAGES_MAX ? (uint32_t)call->arg[2] : FORWARD_MESSAGES_MAX;
	uint32_t sent = 0;

	for (; sent < n; sent++) {
		const uint64_t at = call->arg[1] + sent * sizeof(struct forward_many);
		struct intercept_call one = {.nr = __NR_sendmsg, .arg = {call->arg[0], at, call->arg[3]}, .pc = call->pc};
		uint32_t bytes;

		if (!send_one(call, at, call->arg[3], who, result))
			*result = forward_local(&one);
		if (*result < 0)
			break;
		bytes = (uint32_t)*result;
		if (intercept_store(at + offsetof(struct forward_many, bytes), &bytes, sizeof(bytes))) {
			*result = -EFAULT;
			break;
		}
	}
	if (sent)
		*result = sent;
	return n != 0;
}

/* --- receiving ------------------------------------------------------------------------------------------------------------------ */

static int64_t unload(void *ctx, int32_t fd, bool cloexec)
{
	uint8_t token[DS_ESTATE_TOKEN_BYTES];
	uint16_t number;
	int64_t rc;

	(void)ctx;
	if (!forward_estate_carried(fd, token, &number))
		return fd;
	rc = fd >= FORWARD_FDS_MAX ? -EMFILE : forward_who() == FORWARD_ME || forward_become() ? 0 : -EIO;
	if (!rc)
		rc = forward_heir_borrow(token, number, (uint16_t)fd);
	if (!rc)
		rc = forward_fd_hold((uint64_t)fd, cloexec);
	if (!rc)
		return fd;
	forward_trace_note("recvmsg", "a descriptor of the host that has come cannot be had");
	raw1(__NR_close, fd);
	return rc;
}

static void close_here(void *ctx, int32_t fd)
{
	(void)ctx;
	raw1(__NR_close, fd);
}

static bool has_room(uint64_t at)
{
	struct forward_message m;

	return !intercept_fetch(&m, at, sizeof(m)) && m.control && m.control_bytes > sizeof(struct forward_control);
}

static bool receive(struct intercept_call *call, int64_t *result)
{
	const bool many = call->nr == __NR_recvmmsg, cloexec = call->arg[many ? 3 : 2] & MSG_CMSG_CLOEXEC;
	const struct forward_receipt receipt = {.take = unload, .drop = close_here};

	if (!has_room(call->arg[1])) /* of several the first one says it: they are alike */
		return false;
	*result = forward_local(call);
	for (int64_t i = 0; i < (many ? *result : *result >= 0); i++)
		forward_message_received(call->arg[1] + (uint64_t)i * sizeof(struct forward_many), cloexec, &receipt);
	return true;
}

bool forward_carry_call(struct intercept_call *call, enum forward_who who, int64_t *result)
{
	if ((call->nr != __NR_sendmsg && call->nr != __NR_sendmmsg && call->nr != __NR_recvmsg && call->nr != __NR_recvmmsg) ||
	    who == FORWARD_NOBODY || forward_fd_host(call->arg[0]))
		return false;
	switch (call->nr) {
	case __NR_sendmsg: return forward_fds_any() && send_one(call, call->arg[1], call->arg[2], who, result);
	case __NR_sendmmsg: return forward_fds_any() && send_many(call, who, result);
	default: return who != FORWARD_VCHILD && receive(call, result);
	}
}
