/* windows.c - a VM's window; theory in windows.h */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/host/log.h"
#include "runtime/host/window/windows_impl.h"

#define EVENTS_A_TURN 32
#define ASKS_A_TURN 16

int windows_watch(const struct windows *w, int fd, uint64_t who)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = who};

	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int windows_put(int sock, const void *packet, size_t bytes, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)packet, bytes};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(fd));
	}
	return sendmsg(sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* --- who there is ------------------------------------------------------------------------------------------------------ */

static struct windows_member *member_of(const struct windows *w, uint64_t owner)
{
	struct windows_member *m = w->members;

	while (m && m->owner != owner)
		m = m->next;
	return m;
}

/* @fd is taken over.  Return: 0, -errno. */
static int add_member(struct windows *w, uint64_t owner, uint64_t cookie, int fd)
{
	struct windows_member *m = calloc(1, sizeof(*m));
	const int r = m ? windows_watch(w, fd, owner) : -ENOMEM;

	if (r) {
		close(fd);
		free(m);
		return r;
	}
	*m = (struct windows_member){.next = w->members, .owner = owner, .cookie = cookie, .fd = fd};
	w->members = m;
	return 0;
}

static void remove_member(struct windows *w, uint64_t owner)
{
	for (struct windows_member **at = &w->members; *at; at = &(*at)->next) {
		struct windows_member *m = *at;

		if (m->owner != owner)
			continue;
		epoll_ctl(w->epoll, EPOLL_CTL_DEL, m->fd, NULL); /* by name: a forked child may hold it */
		close(m->fd);
		*at = m->next;
		free(m);
		return;
	}
}

void windows_fault(struct windows *w, uint64_t page, int signal)
{
	const struct windows_answer a = {.what = WINDOWS_FAULT, .err = signal, .page = page};
	uint32_t at = 0;
	uint64_t owner;

	while ((owner = window_owner(&w->room, page, &at))) {
		const struct windows_member *m = member_of(w, owner);

		if (m && !m->cookie)
			windows_put(m->fd, &a, sizeof(a), -1);
	}
}

/* --- what wardens ask ------------------------------------------------------------------------------------------------- */

/* The window's own memory is empty again, for the next one who gets the pages. */
static void put_back(struct windows *w, const struct ds_window_extent *e)
{
	if (w->armed && windows_order(w, VMM_UNMAP, e, 0, 0, -1) && w->helper >= 0)
		windows_drop_helper(w, "pages could not be given back"); /* which gives back all */
	fallocate(w->p.shm, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(e->page << DS_PAGE_SHIFT), (off_t)(e->npages << DS_PAGE_SHIFT));
}

/* @owner has them no longer; what is nobody's then is put back.  Return: 0, -errno: as window_give(). */
static int give(struct windows *w, uint64_t owner, const struct ds_window_extent *e)
{
	const uint64_t end = e->page + e->npages;
	struct ds_window_extent part;
	const int r = window_give(&w->room, owner, e->page, e->npages);

	for (uint64_t page = e->page; !r && window_unowned(&w->room, page, end, &part); page = part.page + part.npages)
		put_back(w, &part);
	return r;
}

static void give_all(struct windows *w, uint64_t owner)
{
	struct ds_window_extent e;

	while (window_next(&w->room, owner, &e))
		give(w, owner, &e);
	w->full_told = false;
}

static void say_full(struct windows *w, uint64_t npages)
{
	uint64_t largest, all = window_room(&w->room, &largest);

	if (!w->full_told)
		log_line(LOG_LEVEL_WARNING,
			 "vm %s: %" PRIu64 " pages do not fit into its window: %" PRIu64 " are free, %" PRIu64 " of them in one piece (dshost serve --window makes it larger)",
			 w->p.vm, npages, all, largest);
	w->full_told = true;
}

/* Whether a page of it can be there when it is mapped and gone when the guest touches it, and what ends then is the VM. */
static bool is_unsafe(struct windows *w, int fd)
{
	struct stat st;

	if (!w->kvm || w->p.kvm_files || fstat(fd, &st) || !S_ISREG(st.st_mode))
		return false;
	if (!w->kvm_told)
		log_line(LOG_LEVEL_WARNING, "vm %s: regular files are not mapped into its window, since it runs with KVM (see \"The window\" in dshost(8))", w->p.vm);
	w->kvm_told = true;
	return true;
}

static int map(struct windows *w, uint64_t shadow, const struct windows_ask *ask, int fd, struct ds_window_mapped *out)
{
	uint64_t offset = ask->offset;
	int r = windows_ready(w);

	if (!r && (fd < 0 || ask->npages > w->p.bytes >> DS_PAGE_SHIFT || offset % DS_PAGE_BYTES || offset > INT64_MAX - w->p.bytes))
		r = ask->npages > w->p.bytes >> DS_PAGE_SHIFT ? -ENOMEM : -EINVAL;
	if (!r && is_unsafe(w, fd))
		r = -ENODEV;
	r = r ? r : window_take(&w->room, shadow, ask->npages, out->extent, &out->nextents);
	if (r == -ENOMEM)
		say_full(w, ask->npages);
	for (uint32_t i = 0; i < out->nextents && !r; i++) {
		r = windows_order(w, VMM_MAP, &out->extent[i], ask->prot, offset, fd);
		offset += out->extent[i].npages << DS_PAGE_SHIFT;
	}
	if (!r)
		return 0;
	for (uint32_t i = 0; i < out->nextents; i++)
		give(w, shadow, &out->extent[i]);
	*out = (struct ds_window_mapped){0};
	return r == -ENOLINK ? -ENODEV : r;
}

static int unmap(struct windows *w, uint64_t shadow, const struct ds_window_extent *e)
{
	w->full_told = false;
	return give(w, shadow, e);
}

/* --- leases ------------------------------------------------------------------------------------------------------------ */

/* All that a shadow has is also the lease's, whose other end has @cookie; @fd is ours to watch it by.  Return: 0, -errno. */
static int lease(struct windows *w, uint64_t shadow, uint64_t cookie, int fd)
{
	const uint64_t owner = WINDOWS_LEASES + w->next_lease;
	int r;

	if (fd < 0 || !cookie)
		return -EPROTO;
	if (w->nleases == WINDOWS_LEASES_MAX)
		return -ENOSPC;
	r = window_share_all(&w->room, shadow, owner);
	if (r)
		return r;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	r = fd < 0 ? -errno : add_member(w, owner, cookie, fd);
	if (!r)
		r = windows_put(fd, "", 1, -1);
	if (r) {
		give_all(w, owner);
		remove_member(w, owner);
		return r;
	}
	w->next_lease++;
	w->nleases++;
	return 0;
}

/* Pages of the lease whose other end @fd is.  Return: 0, -errno. */
static int adopt(struct windows *w, uint64_t shadow, const struct ds_window_extent *e, int fd)
{
	const struct windows_member *m = w->members;
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &bytes) || !cookie)
		return -EPROTO;
	while (m && m->cookie != cookie)
		m = m->next;
	return m ? window_share(&w->room, m->owner, shadow, e->page, e->npages) : -ENOENT;
}

/* Something of a lease: its other end has been closed by everybody, as nobody says anything there. */
static void look_at_lease(struct windows *w, const struct windows_member *m)
{
	const uint64_t owner = m->owner;

	if (recv(m->fd, &(char){0}, 1, MSG_DONTWAIT) > 0)
		return;
	give_all(w, owner);
	remove_member(w, owner);
	w->nleases--;
}

/* --- wardens ----------------------------------------------------------------------------------------------------------- */

/* Return: whether there was one. */
static bool take_ask(struct windows *w, const struct windows_member *m)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct windows_answer a = {0};
	struct windows_ask ask;
	struct iovec iov = {&ask, sizeof(ask)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const ssize_t n = recvmsg(m->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	cleanup_close int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	if (n <= 0) {
		if (!n || (errno != EAGAIN && errno != EINTR)) /* the warden is gone; windows_leave() comes when its capsule is, too */
			epoll_ctl(w->epoll, EPOLL_CTL_DEL, m->fd, NULL);
		return false;
	}
	a.what = ask.what;
	a.err = -EPROTO;
	if (n == sizeof(ask) && ask.what == WINDOWS_MAP)
		a.err = map(w, m->owner, &ask, fd, &a.mapped);
	else if (n == sizeof(ask) && ask.what == WINDOWS_UNMAP)
		a.err = unmap(w, m->owner, &ask.extent);
	else if (n == sizeof(ask) && ask.what == WINDOWS_ADOPT)
		a.err = adopt(w, m->owner, &ask.extent, fd);
	a.mapped.err = a.err;
	if (n == sizeof(ask) && ask.what == WINDOWS_LEASE)
		lease(w, m->owner, ask.offset, fd); /* is answered there */
	else
		windows_put(m->fd, &a, sizeof(a), -1);
	return true;
}

void windows_run(struct windows *w)
{
	struct epoll_event ev[EVENTS_A_TURN];
	const int n = epoll_wait(w->epoll, ev, EVENTS_A_TURN, 0);

	for (int i = 0; i < n; i++) {
		const struct windows_member *m = member_of(w, ev[i].data.u64);

		if (ev[i].data.u64 == WINDOWS_AT_HELPER)
			windows_hear(w);
		else if (m && m->cookie)
			look_at_lease(w, m);
		else
			for (int k = 0; m && k < ASKS_A_TURN && take_ask(w, m); k++)
				;
	}
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

int windows_fd(const struct windows *w)
{
	return w->epoll;
}

int windows_join(struct windows *w, uint64_t shadow)
{
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	r = add_member(w, shadow, 0, pair[0]);
	if (r)
		close(pair[1]);
	return r ? r : pair[1];
}

void windows_leave(struct windows *w, uint64_t shadow)
{
	give_all(w, shadow);
	remove_member(w, shadow);
}

struct windows_stat windows_stat(const struct windows *w)
{
	const uint64_t all = w->room.end - w->room.first;
	uint64_t largest;

	return (struct windows_stat){.bytes = all << DS_PAGE_SHIFT,
				     .used_bytes = (all - window_room(&w->room, &largest)) << DS_PAGE_SHIFT,
				     .pieces = w->room.npieces,
				     .helper = w->helper >= 0};
}

int windows_new(struct windows **out, const struct windows_params *p)
{
	struct windows *w = calloc(1, sizeof(*w));
	int r;

	*out = NULL;
	if (!w)
		return -ENOMEM;
	*w = (struct windows){.p = *p, .epoll = -1, .listener = -1, .helper = -1};
	r = window_init(&w->room, DS_WINDOW_HEADER_PAGES, p->bytes >> DS_PAGE_SHIFT);
	if (!r) {
		w->epoll = epoll_create1(EPOLL_CLOEXEC);
		r = w->epoll < 0 ? -errno : 0;
	}
	if (r)
		windows_free(w);
	else
		*out = w;
	return r;
}

void windows_free(struct windows *w)
{
	if (!w)
		return;
	windows_drop_helper(w, NULL);
	while (w->members) {
		struct windows_member *next = w->members->next;

		close(w->members->fd);
		free(w->members);
		w->members = next;
	}
	if (w->epoll >= 0)
		close(w->epoll);
	window_free(&w->room);
	free(w);
}
