/* swap.c - sockets of the internet that turn out to be the other side's by the address that they are given
 *
 * The guest's policy can say it by address: then a socket is made without knowing, and what connect(), bind() or sendto() names decides.
 * A socket of the same kind is made on the other side and takes the place of the first under its number, with its flags and the
 * options below.  Copies that were made before stay what they were, as do epoll sets that it is in, and an address that it was bound to
 * on the side that it leaves.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/guest/forward/policy.h"

#define OPTION_BYTES 16u

static const struct {
	int32_t level, name;
	uint32_t bytes;
} options[] = {
	{SOL_SOCKET, SO_REUSEADDR, 4}, {SOL_SOCKET, SO_REUSEPORT, 4}, {SOL_SOCKET, SO_BROADCAST, 4}, {SOL_SOCKET, SO_KEEPALIVE, 4},
	{SOL_SOCKET, SO_OOBINLINE, 4}, {SOL_SOCKET, SO_LINGER, 8},    {SOL_SOCKET, SO_RCVTIMEO, 16}, {SOL_SOCKET, SO_SNDTIMEO, 16},
	{IPPROTO_TCP, TCP_NODELAY, 4}, {IPPROTO_IPV6, IPV6_V6ONLY, 4},
};

/** struct kind - What a socket is. */
struct kind {
	int32_t domain, type, protocol;
	uint8_t value[sizeof(options) / sizeof(*options)][OPTION_BYTES];
	bool has[sizeof(options) / sizeof(*options)]; /* other than nothing */
};

/* A call about a socket, here, or with a turn there, where memory has to be the turn's. */
static int64_t ask(struct forward_turn *turn, uint64_t nr, uint64_t fd, int32_t level, int32_t name, void *value, uint32_t *bytes)
{
	struct {
		uint32_t bytes, pad;
		uint8_t value[OPTION_BYTES];
	} *there;
	int64_t rc;

	if (!turn)
		return nr == __NR_getsockopt ? raw6(nr, fd, level, name, value, bytes, 0) : raw6(nr, fd, level, name, value, *bytes, 0);
	there = (void *)turn->entry->scratch;
	there->bytes = *bytes;
	memcpy(there->value, value, *bytes);
	rc = forward_turn_call(turn, nr, (const uint64_t[6]){fd, (uint64_t)level, (uint64_t)name, (uint64_t)there->value,
							     nr == __NR_getsockopt ? (uint64_t)&there->bytes : *bytes, 0});
	if (!rc && nr == __NR_getsockopt) {
		*bytes = there->bytes < *bytes ? there->bytes : *bytes;
		memcpy(value, there->value, *bytes);
	}
	return rc;
}

static int64_t look(struct forward_turn *turn, uint64_t fd, struct kind *k)
{
	static const int32_t names[] = {SO_DOMAIN, SO_TYPE, SO_PROTOCOL};
	int32_t *const to[] = {&k->domain, &k->type, &k->protocol};
	static const uint8_t nothing[OPTION_BYTES];
	int64_t rc = 0;

	memset(k, 0, sizeof(*k));
	for (int i = 0; i < 3 && !rc; i++) {
		uint32_t bytes = 4;

		rc = ask(turn, __NR_getsockopt, fd, SOL_SOCKET, names[i], to[i], &bytes);
	}
	if (rc || (k->domain != AF_INET && k->domain != AF_INET6))
		return rc ? rc : -EAFNOSUPPORT;
	for (unsigned int i = 0; i < sizeof(options) / sizeof(*options); i++) {
		uint32_t bytes = options[i].bytes;

		k->has[i] = !ask(turn, __NR_getsockopt, fd, options[i].level, options[i].name, k->value[i], &bytes) && bytes == options[i].bytes &&
			    memcmp(k->value[i], nothing, bytes);
	}
	return 0;
}

static void give(struct forward_turn *turn, uint64_t fd, struct kind *k)
{
	for (unsigned int i = 0; i < sizeof(options) / sizeof(*options); i++) {
		uint32_t bytes = options[i].bytes;

		if (k->has[i])
			ask(turn, __NR_setsockopt, fd, options[i].level, options[i].name, k->value[i], &bytes);
	}
}

static uint64_t type_of(const struct kind *k, int64_t flags)
{
	return (uint64_t)k->type | SOCK_CLOEXEC | (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0);
}

static int64_t to_host(uint64_t fd)
{
	const int64_t flags = raw2(__NR_fcntl, fd, F_GETFL), close = raw2(__NR_fcntl, fd, F_GETFD);
	struct forward_turn turn;
	struct kind k;
	int64_t rc = flags < 0 ? flags : look(NULL, fd, &k), raw;

	if (!rc)
		rc = forward_turn_begin(&turn);
	if (rc)
		return rc;
	raw = forward_turn_quick(&turn, __NR_socket, (uint64_t)k.domain, type_of(&k, flags), (uint64_t)k.protocol, 0);
	rc = raw < 0 ? raw : forward_fd_cross(&turn, raw, fd, close & FD_CLOEXEC);
	if (!rc)
		give(&turn, fd, &k);
	forward_turn_end(&turn);
	return rc;
}

static int64_t to_guest(uint64_t fd)
{
	const bool close = forward_fd_state[(uint32_t)fd] & FORWARD_FD_CLOEXEC;
	struct forward_turn turn;
	struct kind k;
	int64_t rc = forward_turn_begin(&turn), flags, made;

	if (rc)
		return rc;
	flags = forward_turn_quick(&turn, __NR_fcntl, fd, F_GETFL, 0, 0);
	rc = flags < 0 ? flags : look(&turn, fd, &k);
	made = rc ? rc : raw3(__NR_socket, k.domain, type_of(&k, flags), k.protocol);
	if (made >= 0) {
		give(NULL, (uint64_t)made, &k);
		rc = raw3(__NR_dup3, made, fd, close ? O_CLOEXEC : 0);
		raw1(__NR_close, made);
		if (rc >= 0) {
			forward_fd_set(fd, 0);
			forward_turn_quick(&turn, __NR_close, fd, 0, 0, 0);
			rc = 0;
		}
	} else {
		rc = made;
	}
	forward_turn_end(&turn);
	return rc;
}

int64_t forward_swap(uint64_t fd, bool host)
{
	if ((uint32_t)fd >= FORWARD_FDS_MAX || forward_fd_host(fd) == host)
		return 0;
	return host ? to_host((uint32_t)fd) : to_guest((uint32_t)fd);
}
