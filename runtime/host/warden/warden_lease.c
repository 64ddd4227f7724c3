/* warden_lease.c - files that a guest's program has mapped, and its forked child as well
 *
 * Theory of operation
 *
 * The child has the same pages of the VM's window at the same addresses, and no shadow.  A lease (windows.h) keeps these pages: one end of
 * a socket pair, which lies in the estate that the child inherits and is no descriptor that a capsule ever gets.  What is mapped where
 * lies in that socket, as a packet with the files: whoever claims the lease looks at it (MSG_PEEK), and leaves it for others, since estates are
 * copied when the child forks in turn.
 *
 * The claimant's warden keeps the lease until the child's program has said which of it is still mapped: DS_WINDOW_INHERITED, and
 * DS_WINDOW_SETTLED in the end.
 *
 * Limits: LEASE_PIECES_MAX pieces, without which the child has nothing; of LEASE_FILES_MAX files, the others of which the child's shadow cannot
 * have: it can load and store there all the same.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/warden_parts.h"
#include "runtime/host/window/windows.h"

#define LEASE_PIECES_MAX 2048u
#define LEASE_FILES_MAX 128u
#define LEASE_MS 2000 /* the VM process waits for the VMM's thread at times */
#define NO_FILE UINT32_MAX

/** struct lent - A piece in the packet. */
struct lent {
	uint64_t vpn, npages, page, offset;
	uint32_t file;
	uint16_t prot, physical;
};

struct packet {
	uint32_t n, nfiles;
	struct lent piece[LEASE_PIECES_MAX];
};

union control {
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(LEASE_FILES_MAX * sizeof(int))];
};

static size_t packet_bytes(uint32_t n)
{
	return offsetof(struct packet, piece) + n * sizeof(struct lent);
}

/* The number of a file among those that go along. */
static uint32_t number_of(const struct warden_file **file, int *fds, uint32_t *n, const struct warden_file *f)
{
	for (uint32_t i = 0; i < *n; i++)
		if (file[i] == f)
			return i;
	if (!f || *n == LEASE_FILES_MAX)
		return NO_FILE;
	file[*n] = f;
	fds[*n] = f->fd;
	return (*n)++;
}

/* Return: 0, -errno. */
static int describe(const struct warden *w, int sock)
{
	const struct warden_pieces *have = &w->window.have;
	cleanup_free struct packet *p = calloc(1, sizeof(*p));
	const struct warden_file *file[LEASE_FILES_MAX];
	int fds[LEASE_FILES_MAX];
	union control control = {0};
	struct iovec iov = {p, packet_bytes(have->n)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (!p)
		return -ENOMEM;
	for (uint32_t i = 0; i < have->n; i++) {
		const struct warden_piece *q = &have->at[i];

		p->piece[i] = (struct lent){q->vpn, q->npages, q->page, q->offset, number_of(file, fds, &p->nfiles, q->file), q->prot, q->physical};
	}
	p->n = have->n;
	if (p->nfiles) {
		mh.msg_control = control.room;
		mh.msg_controllen = CMSG_SPACE(p->nfiles * sizeof(int));
		*CMSG_FIRSTHDR(&mh) =
			(struct cmsghdr){.cmsg_len = CMSG_LEN(p->nfiles * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), fds, p->nfiles * sizeof(int));
	}
	return sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int warden_window_lease(struct warden *w)
{
	struct windows_ask ask = {.what = WINDOWS_LEASE};
	cleanup_close int theirs = -1, lease = -1;
	socklen_t bytes = sizeof(ask.offset);
	struct pollfd p = {.events = POLLIN};
	int pair[2];
	char byte;

	if (w->window.fd < 0 || !w->window.have.n || w->window.have.n > LEASE_PIECES_MAX || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	theirs = pair[0];
	p.fd = lease = pair[1];
	if (getsockopt(lease, SOL_SOCKET, SO_COOKIE, &ask.offset, &bytes) || warden_window_ask(w, &ask, theirs) || poll(&p, 1, LEASE_MS) <= 0 ||
	    recv(lease, &byte, 1, MSG_DONTWAIT) != 1 || describe(w, theirs))
		return -1;
	return steal_fd(&lease);
}

/* The packet is sound, its files are the caller's to close.  Return: 0, -errno. */
static int look(int lease, struct packet *p, int fds[static LEASE_FILES_MAX], uint32_t *nfds)
{
	union control control;
	struct iovec iov = {p, sizeof(*p)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof(control.room)};
	const ssize_t n = recvmsg(lease, &mh, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;

	*nfds = 0;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*nfds = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
	}
	if (n < 0)
		return -errno;
	return n < (ssize_t)packet_bytes(0) || p->n > LEASE_PIECES_MAX || n != (ssize_t)packet_bytes(p->n) || mh.msg_flags & MSG_CTRUNC || p->nfiles != *nfds
		       ? -EPROTO
		       : 0;
}

int warden_window_inherit(struct warden *w, int fd)
{
	struct warden_window *win = &w->window;
	cleanup_free struct packet *p = calloc(1, sizeof(*p));
	struct warden_file *file[LEASE_FILES_MAX];
	int fds[LEASE_FILES_MAX], r;
	uint32_t nfds = 0;

	if (win->lease_fd >= 0 || win->fd < 0)
		return -EBUSY;
	r = p ? look(fd, p, fds, &nfds) : -ENOMEM;
	r = r ? r : warden_pieces_room(&win->lent, p->n);
	for (uint32_t i = 0; i < nfds; i++)
		file[i] = warden_file_new(fds[i]);
	for (uint32_t i = 0; !r && i < p->n; i++) {
		const struct lent *q = &p->piece[i];

		warden_pieces_add(&win->lent, (struct warden_piece){.vpn = q->vpn, .npages = q->npages, .page = q->page, .offset = q->offset,
								    .file = q->file < nfds ? file[q->file] : NULL, .prot = q->prot,
								    .physical = q->physical});
	}
	for (uint32_t i = 0; i < nfds; i++)
		if (file[i] && !file[i]->users)
			warden_file_drop(file[i]);
	if (!r)
		win->lease_fd = dup(fd);
	return r ? r : win->lease_fd < 0 ? -errno : 0;
}

void warden_window_settle(struct warden *w)
{
	cleanup_close_fn(&w->window.lease_fd);
	w->window.lease_fd = -1;
	warden_pieces_free(&w->window.lent);
}
