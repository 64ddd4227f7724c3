/* windows.c - a VM's window; theory in windows.h */
#include "runtime/host/windows.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/host/control.h"
#include "runtime/host/log.h"
#include "runtime/host/vmmhelper.h"
#include "runtime/host/vmminject.h"
#include "runtime/host/window.h"

#define EVENTS_A_TURN 32
#define ASKS_A_TURN 16
#define CONNECT_MS 2000
#define AGAIN_MS 1000 /* after a failure */
#define AT_HELPER UINT64_MAX /* in an event; a shadow's number otherwise */

struct member {
	struct member *next;
	uint64_t shadow;
	int fd;
};

struct windows {
	struct windows_params p;
	struct window room;
	struct member *members;
	int epoll, listener, helper; /* helper: its connection; -1 */
	pid_t vmm;
	bool there, armed;
	bool kvm; /* the VMM uses it */
	uint32_t seq;
	uint64_t at; /* the window's address in the VMM */
	int64_t again_ms;
	bool full_told, kvm_told;
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int watch(const struct windows *w, int fd, uint64_t who)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = who};

	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* A packet, with a descriptor or without (-1); never waits.  Return: 0 or -errno. */
static int put(int sock, const void *packet, size_t bytes, int fd)
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

/* --- the helper ----------------------------------------------------------------------------------------------------- */

/* Upon which it puts everything back. */
static void drop_helper(struct windows *w, const char *why)
{
	if (w->helper < 0)
		return;
	if (why)
		log_line(LOG_LEVEL_WARNING, "vm %s: what was mapped into its window is gone: %s", w->p.vm, why);
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->helper, NULL);
	shutdown(w->helper, SHUT_RDWR);
	close(w->helper);
	w->helper = -1;
	w->armed = false;
	w->again_ms = now_ms() + AGAIN_MS;
}

static struct member *member_of(struct windows *w, uint64_t shadow)
{
	struct member *m = w->members;

	while (m && m->shadow != shadow)
		m = m->next;
	return m;
}

static void on_fault(struct windows *w, const struct vmm_reply *r)
{
	const uint64_t page = (r->address - w->at) >> DS_PAGE_SHIFT;
	const struct member *m = r->address < w->at ? NULL : member_of(w, window_owner(&w->room, page));
	const struct windows_answer a = {.what = WINDOWS_FAULT, .err = (int32_t)r->result, .page = page};

	log_line(LOG_LEVEL_WARNING, "vm %s: page %" PRIu64 " of its window could not be used (signal %" PRId64 "): an empty one is in its place", w->p.vm, page,
		 r->result);
	if (m)
		put(m->fd, &a, sizeof(a), -1);
}

/* What the helper says.  Return: 1: a reply to the last order, in @r; 0: nothing; -errno. */
static int hear(struct windows *w, struct vmm_reply *r)
{
	for (;;) {
		const ssize_t n = recv(w->helper, r, sizeof(*r), MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n != sizeof(*r))
			return n ? -EPROTO : -ECONNRESET;
		if (r->what != VMM_FAULT)
			return r->seq == w->seq ? 1 : -EPROTO;
		on_fault(w, r);
	}
}

/* An order and its reply.  Return: 0 or what the helper's call returned; -ENOLINK: the helper is gone. */
static int order(struct windows *w, struct vmm_order *o, int fd)
{
	const int64_t until = now_ms() + WINDOWS_ORDER_MS;
	struct vmm_reply r;
	int e;

	o->seq = ++w->seq;
	e = put(w->helper, o, sizeof(*o), fd);
	while (!e) {
		struct pollfd p = {.fd = w->helper, .events = POLLIN};
		const int64_t left = until - now_ms();

		if (left <= 0)
			e = -ETIMEDOUT;
		else if (poll(&p, 1, (int)left) > 0)
			e = hear(w, &r);
		if (e == 1)
			return r.result < 0 && r.result > -4096 ? (int)r.result : 0;
	}
	drop_helper(w, e == -ETIMEDOUT ? "the thread in the VMM does not answer" : "the thread in the VMM has ended");
	return -ENOLINK;
}

/* Where the VMM has the window. */
static uint64_t find_window(const struct windows *w)
{
	char path[64], line[512];
	uint64_t from, end, offset, inode;
	struct stat st;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", w->vmm);
	f = fstat(w->p.shm, &st) ? NULL : fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char prot[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64, &from, &end, prot, &offset, &inode) != 5)
			continue;
		if (inode != st.st_ino || offset || end - from != w->p.bytes || strcmp(prot, "rw-s") || !strstr(line, "/memfd:ivshmem"))
			continue;
		fclose(f);
		return from;
	}
	if (f)
		fclose(f);
	return 0;
}

/* Whether it has a descriptor of a virtual machine of KVM's. */
static bool uses_kvm(pid_t pid)
{
	char path[64], name[64];
	const struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		const ssize_t n = readlinkat(dirfd(d), e->d_name, name, sizeof(name) - 1);

		if (n < 0)
			continue;
		name[n] = 0;
		found = !strcmp(name, "anon_inode:kvm-vm");
	}
	if (d)
		closedir(d);
	return found || !d; /* not known: as if it did */
}

static int arm(struct windows *w)
{
	struct vmm_order o = {.what = VMM_ARM, .bytes = w->p.bytes};
	int r;

	w->at = o.address = find_window(w);
	if (!w->at) {
		log_line(LOG_LEVEL_WARNING, "vm %s: no window: its process %d does not have the doorbell's memory mapped in one piece", w->p.vm, w->vmm);
		drop_helper(w, NULL);
		return -ENODEV;
	}
	r = order(w, &o, w->p.shm);
	w->armed = !r;
	w->kvm = uses_kvm(w->vmm);
	if (!r)
		log_line(LOG_LEVEL_INFO, "vm %s: its window of %" PRIu64 " MiB can be used", w->p.vm, w->p.bytes >> 20);
	return r ? -ENODEV : 0;
}

static void stop_listening(struct windows *w)
{
	if (w->listener < 0)
		return;
	close(w->listener);
	unlink(w->p.path);
	w->listener = -1;
}

static void let_in(struct windows *w)
{
	cleanup_close int sock = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);

	if (sock < 0 || w->helper >= 0)
		return;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) || cred.pid != w->vmm || watch(w, sock, AT_HELPER)) {
		log_line(LOG_LEVEL_WARNING, "vm %s: process %d wants to map its window and is not its VMM: refused", w->p.vm, cred.pid);
		return;
	}
	w->helper = steal_fd(&sock);
}

/* Whether the VMM was started with the library: it listens. */
static bool find_helper(struct windows *w)
{
	cleanup_close int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	const int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, VMM_LISTENS, w->vmm);
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);

	if (sock < 0 || connect(sock, (const struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) ||
	    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) || cred.pid != w->vmm || watch(w, sock, AT_HELPER))
		return false;
	w->helper = steal_fd(&sock);
	return true;
}

/* There is no helper: one is made.  Return: 0; -ENODEV, as has been said. */
static int get_helper(struct windows *w)
{
	char why[VMMINJECT_WHY_BYTES];
	struct pollfd p = {.events = POLLIN};
	int r;

	if (find_helper(w))
		return 0;
	unlink(w->p.path);
	w->listener = p.fd = control_listen(w->p.path, SOCK_SEQPACKET, w->p.uid);
	if (w->listener < 0) {
		snprintf(why, sizeof(why), "%.80s: %s", w->p.path, strerror(-w->listener));
	} else {
		r = vmminject(w->vmm, w->p.path, why);
		if (!r && poll(&p, 1, CONNECT_MS) > 0)
			let_in(w);
		if (!r && w->helper < 0)
			snprintf(why, sizeof(why), "its process %d cannot connect to %.80s", w->vmm, w->p.path);
	}
	stop_listening(w);
	w->again_ms = now_ms() + AGAIN_MS;
	if (w->helper >= 0)
		return 0;
	log_line(LOG_LEVEL_WARNING, "vm %s: nothing can be mapped into its window: %s (see \"The window\" in dshost(8))", w->p.vm, why);
	return -ENODEV;
}

/* Return: 0: the window can be used; -ENODEV. */
static int make_ready(struct windows *w)
{
	if (!w->there || !w->vmm || (w->helper < 0 && (now_ms() < w->again_ms || get_helper(w))))
		return -ENODEV;
	return w->armed ? 0 : arm(w);
}

void windows_vmm(struct windows *w, pid_t pid, bool there)
{
	w->vmm = pid;
	if (w->there && !there && w->armed) {
		struct vmm_order o = {.what = VMM_DISARM};

		order(w, &o, -1);
		w->armed = false;
	}
	if (there && !w->there) {
		const struct ds_window_header h = {DS_WINDOW_MAGIC, w->p.bytes};

		if (pwrite(w->p.shm, &h, sizeof(h), 0) != sizeof(h))
			log_line(LOG_LEVEL_WARNING, "vm %s: its window cannot be written: %s", w->p.vm, strerror(errno));
	}
	w->there = there;
}

/* --- what wardens ask ------------------------------------------------------------------------------------------------- */

static int order_at(struct windows *w, uint32_t what, const struct ds_window_extent *e, uint32_t prot, uint64_t offset, int fd)
{
	struct vmm_order o = {.what = what,
			      .address = w->at + (e->page << DS_PAGE_SHIFT),
			      .bytes = e->npages << DS_PAGE_SHIFT,
			      .offset = offset,
			      .prot = prot};

	return order(w, &o, fd);
}

/* The window's own memory is empty again, for the next one who gets the pages. */
static void put_back(struct windows *w, const struct ds_window_extent *e)
{
	if (w->armed && order_at(w, VMM_UNMAP, e, 0, 0, -1) && w->helper >= 0)
		drop_helper(w, "pages could not be given back"); /* which gives back all */
	fallocate(w->p.shm, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(e->page << DS_PAGE_SHIFT), (off_t)(e->npages << DS_PAGE_SHIFT));
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
	int r = make_ready(w);

	if (!r && (fd < 0 || ask->npages > w->p.bytes >> DS_PAGE_SHIFT || offset % DS_PAGE_BYTES || offset > INT64_MAX - w->p.bytes))
		r = ask->npages > w->p.bytes >> DS_PAGE_SHIFT ? -ENOMEM : -EINVAL;
	if (!r && is_unsafe(w, fd))
		r = -ENODEV;
	r = r ? r : window_take(&w->room, shadow, ask->npages, out->extent, &out->nextents);
	if (r == -ENOMEM)
		say_full(w, ask->npages);
	for (uint32_t i = 0; i < out->nextents && !r; i++) {
		r = order_at(w, VMM_MAP, &out->extent[i], ask->prot, offset, fd);
		offset += out->extent[i].npages << DS_PAGE_SHIFT;
	}
	if (!r)
		return 0;
	for (uint32_t i = 0; i < out->nextents; i++) {
		put_back(w, &out->extent[i]);
		window_give(&w->room, shadow, out->extent[i].page, out->extent[i].npages);
	}
	*out = (struct ds_window_mapped){0};
	return r == -ENOLINK ? -ENODEV : r;
}

static int unmap(struct windows *w, uint64_t shadow, const struct ds_window_extent *e)
{
	if (!window_owns(&w->room, shadow, e->page, e->npages))
		return -EINVAL;
	put_back(w, e);
	w->full_told = false;
	return window_give(&w->room, shadow, e->page, e->npages);
}

/* Return: whether there was one. */
static bool take_ask(struct windows *w, const struct member *m)
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
		a.err = map(w, m->shadow, &ask, fd, &a.mapped);
	else if (n == sizeof(ask) && ask.what == WINDOWS_UNMAP)
		a.err = unmap(w, m->shadow, &ask.extent);
	a.mapped.err = a.err;
	put(m->fd, &a, sizeof(a), -1);
	return true;
}

void windows_run(struct windows *w)
{
	struct epoll_event ev[EVENTS_A_TURN];
	const int n = epoll_wait(w->epoll, ev, EVENTS_A_TURN, 0);
	struct vmm_reply r;

	for (int i = 0; i < n; i++) {
		const struct member *m;

		if (ev[i].data.u64 == AT_HELPER) {
			if (w->helper >= 0 && hear(w, &r)) /* a reply that nobody waits for is as bad as its end */
				drop_helper(w, "the thread in the VMM has ended");
		} else {
			m = member_of(w, ev[i].data.u64);
			for (int k = 0; m && k < ASKS_A_TURN && take_ask(w, m); k++)
				;
		}
	}
}

/* --- life -------------------------------------------------------------------------------------------------------------- */

int windows_fd(const struct windows *w)
{
	return w->epoll;
}

int windows_join(struct windows *w, uint64_t shadow)
{
	struct member *m = calloc(1, sizeof(*m));
	int pair[2], r;

	if (!m)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		r = -errno;
		free(m);
		return r;
	}
	*m = (struct member){.next = w->members, .shadow = shadow, .fd = pair[0]};
	r = watch(w, m->fd, shadow);
	if (r) {
		close(pair[0]);
		close(pair[1]);
		free(m);
		return r;
	}
	w->members = m;
	return pair[1];
}

void windows_leave(struct windows *w, uint64_t shadow)
{
	struct ds_window_extent e;

	while (window_next(&w->room, shadow, &e)) {
		put_back(w, &e);
		window_give(&w->room, shadow, e.page, e.npages);
	}
	w->full_told = false;
	for (struct member **at = &w->members; *at; at = &(*at)->next) {
		struct member *m = *at;

		if (m->shadow != shadow)
			continue;
		epoll_ctl(w->epoll, EPOLL_CTL_DEL, m->fd, NULL); /* by name: a forked child may hold it */
		close(m->fd);
		*at = m->next;
		free(m);
		return;
	}
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
	drop_helper(w, NULL);
	while (w->members) {
		struct member *next = w->members->next;

		close(w->members->fd);
		free(w->members);
		w->members = next;
	}
	stop_listening(w);
	if (w->epoll >= 0)
		close(w->epoll);
	window_free(&w->room);
	free(w);
}
