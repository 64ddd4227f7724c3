/* warden_window.c - files of the host that the guest's program maps: MAP and UNMAP
 *
 * Theory of operation
 *
 * runtime/wire/window.h tells the whole of it.  Here the file is found: the descriptor that the capsule has at the number which the
 * program names, taken from outside (pidfd_getfd(2)).  The capsule is not trusted, but what it has open is what its rule let it
 * open; its own descriptors, the RAM's among them, have numbers that are refused, and the RAM by any number, too.  Another thread of the
 * capsule may put another file behind the number at the same moment: then that one is mapped, which it could have asked for.
 *
 * The descriptor is kept as long as a piece of the file is mapped: a larger mapping is made of it (mremap()), the capsule gets it when it touches the
 * pages (warden_reach.c), and a forked child's shadow inherits it (warden_lease.c).  The mapping itself keeps the file open as well.
 *
 * The VM process finds room and has the VMM map (windows.h).  It is asked by a packet and answers by one; MAP and UNMAP come one at a
 * time, so what it answers needs no number.  Which of the program's pages are which of the window's is kept here, piece by piece
 * (warden_pieces.c).  UNMAP comes before the DROP of the same pages, so that the capsule is not told to map them again after it; and where the
 * capsule never was, no DROP is needed (UNMAPPED tells).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/warden_parts.h"
#include "runtime/host/window/windows.h"

#define PIDFD_GETFD 438 /* asm/unistd_64.h, Linux 5.6 */
#define READS_A_TURN 16
#define FILES_MAX 8192

/* --- to the VM process ----------------------------------------------------------------------------------------------- */

int warden_window_ask(const struct warden *w, const struct windows_ask *a, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)a, sizeof(*a)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(fd));
	}
	return sendmsg(w->window.fd, &mh, MSG_NOSIGNAL) < 0 ? -errno : 0; /* it always reads */
}

static void mapped(struct warden *w, const struct ds_window_mapped *got)
{
	struct ds_agent_mapped msg = {.got = *got};

	w->window.under_way = 0;
	warden_send(w, DS_AGENT_MAPPED, w->window.guest_seq, &msg.head, sizeof(msg));
}

static void failed(struct warden *w, int err)
{
	mapped(w, &(const struct ds_window_mapped){.err = err});
}

/* Return: whether the guest's process keeps to one at a time. */
static bool begin(struct warden *w, uint16_t kind, uint32_t seq)
{
	if (w->window.under_way) {
		warden_end(w, DS_AGENT_C_MESSAGE, "the agent sent MAP or UNMAP before the last one was answered");
		return false;
	}
	w->window.under_way = kind;
	w->window.guest_seq = seq;
	w->window.answers = 0;
	w->window.err = 0;
	w->window.reached = false;
	return true;
}

/* --- MAP --------------------------------------------------------------------------------------------------------------- */

static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Each file that is mapped takes one.  Return: whether there may be more now than there were. */
static bool more_descriptors(void)
{
	struct rlimit limit;
	rlim_t before;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
		return false;
	before = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
	return limit.rlim_cur > before && !setrlimit(RLIMIT_NOFILE, &limit);
}

/*
 * The file, and what its mapping will allow: a regular file all that it was opened for, since the program may ask for it later (mprotect());
 * a device what is asked for, which can mean different things to its driver (perf_event_open(2)).
 * Return: a descriptor or -errno, as mmap(2) has it.
 */
static int take_file(const struct warden *w, const struct ds_window_map *want, uint16_t *prot)
{
	cleanup_close int fd = -1;
	struct stat st;
	int flags;

	if (want->fd >= DS_SHADOW_GUEST_FDS)
		return -EBADF;
	fd = (int)syscall(PIDFD_GETFD, w->pidfd, want->fd, 0);
	if (fd < 0 && errno == EMFILE && more_descriptors())
		fd = (int)syscall(PIDFD_GETFD, w->pidfd, want->fd, 0);
	if (fd < 0)
		return errno == EMFILE ? -ENOMEM : -errno;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || flags & O_PATH || fstat(fd, &st))
		return -EBADF;
	if (same_file(fd, w->p->ram_fd))
		return -EPERM;
	if ((flags & O_ACCMODE) == O_WRONLY || (want->prot & PROT_WRITE && (flags & O_ACCMODE) != O_RDWR))
		return -EACCES;
	*prot = want->prot & (PROT_READ | PROT_WRITE);
	if (S_ISREG(st.st_mode))
		*prot = (flags & O_ACCMODE) == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ;
	else if (!*prot)
		*prot = PROT_READ;
	return steal_fd(&fd);
}

/* Something has to be looked for in what is mapped.  Return: 0, -errno. */
static int like(const struct warden *w, const struct ds_window_map *want, struct warden_piece *coming)
{
	struct warden_piece p;
	uint32_t at = 0;

	if (!warden_pieces_common(&w->window.have, want->like, 1, &at, &p))
		return -EFAULT;
	if (!p.file || want->offset > INT64_MAX - p.offset)
		return -ENOMEM;
	*coming = (struct warden_piece){.offset = p.offset + want->offset, .file = p.file, .prot = p.prot};
	p.file->users++;
	return 0;
}

/* The file, and what of it.  Return: 0, -errno. */
static int find(const struct warden *w, const struct ds_window_map *want, struct warden_piece *coming)
{
	int fd;

	*coming = (struct warden_piece){.offset = want->offset};
	if (want->what == DS_WINDOW_LIKE)
		return like(w, want, coming);
	fd = take_file(w, want, &coming->prot);
	if (fd < 0)
		return fd;
	coming->file = warden_file_new(fd);
	if (!coming->file)
		return -ENOMEM;
	coming->file->users++;
	return 0;
}

/* What MAP has brought is the guest's process's. */
static void add_pieces(struct warden *w, struct ds_window_mapped *got)
{
	struct warden_window *win = &w->window;

	if (got->nextents > DS_WINDOW_EXTENTS_MAX)
		got->nextents = 0;
	got->prot = win->coming.prot | (win->coming.physical ? DS_WINDOW_PHYSICAL : 0);
	win->coming.vpn = win->want.vpn;
	for (uint32_t i = 0; i < got->nextents && !got->err; i++) { /* there is room: map_file() */
		win->coming.npages = got->extent[i].npages;
		win->coming.page = got->extent[i].page;
		warden_pieces_add(&win->have, win->coming);
		win->coming.vpn += got->extent[i].npages;
		win->coming.offset += got->extent[i].npages << DS_PAGE_SHIFT;
	}
	warden_file_drop(win->coming.file);
	win->coming.file = NULL;
	mapped(w, got);
}

/* Return: 0: the VM process was asked, or the guest has been answered; -errno. */
static int map_file(struct warden *w, const struct ds_window_map *want)
{
	struct warden_window *win = &w->window;
	struct windows_ask a = {.what = WINDOWS_MAP, .npages = want->npages};
	struct ds_window_mapped got;
	struct warden_piece p;
	uint32_t at = 0;
	int r;

	if (win->fd < 0 || !w->pid)
		return -ENODEV;
	r = warden_pieces_common(&win->have, want->vpn, want->npages, &at, &p) ? -EEXIST : warden_pieces_room(&win->have, DS_WINDOW_EXTENTS_MAX);
	r = r ? r : find(w, want, &win->coming);
	if (r)
		return r;
	a.offset = win->coming.offset;
	a.prot = win->coming.prot;
	win->coming.physical = warden_physical_find(w->p->table, win->coming.file->fd, &a, &got);
	if (win->coming.physical) {
		add_pieces(w, &got);
		return 0;
	}
	win->answers = 1;
	return warden_window_ask(w, &a, win->coming.file->fd);
}

/* What the parent had is the child's, too. */
static void add_inherited(struct warden *w, int err)
{
	struct warden_window *win = &w->window;
	struct warden_piece p;
	uint32_t at = 0;

	while (!err && warden_pieces_common(&win->lent, win->want.vpn, win->want.npages, &at, &p))
		warden_pieces_add(&win->have, p);
	mapped(w, &(const struct ds_window_mapped){.err = err});
}

/* Return: as map_file(). */
static int map_inherited(struct warden *w, const struct ds_window_map *want)
{
	struct warden_window *win = &w->window;
	struct windows_ask a = {.what = WINDOWS_ADOPT};
	struct warden_piece p;
	uint64_t pages = 0;
	uint32_t at = 0;
	int r = 0;

	if (warden_pieces_common(&win->have, want->vpn, want->npages, &at, &p))
		return -EEXIST;
	for (at = 0; warden_pieces_common(&win->lent, want->vpn, want->npages, &at, &p);)
		pages += p.npages;
	r = pages != want->npages ? -ENXIO : warden_pieces_room(&win->have, win->lent.n);
	for (at = 0; !r && warden_pieces_common(&win->lent, want->vpn, want->npages, &at, &p);) {
		if (p.physical)
			continue;
		a.extent = (struct ds_window_extent){p.page, p.npages};
		r = warden_window_ask(w, &a, win->lease_fd);
		win->answers += !r;
	}
	if (!r && !win->answers)
		add_inherited(w, 0);
	return r;
}

void warden_window_reached(struct warden *w)
{
	if (!w->window.reaching)
		return;
	w->window.reaching = false;
	mapped(w, &(const struct ds_window_mapped){0});
}

void warden_window_map(struct warden *w, const struct ds_agent_map *msg)
{
	struct warden_window *win = &w->window;
	int r = 0;

	if (!begin(w, DS_AGENT_MAP, msg->head.seq))
		return;
	win->want = msg->want;
	switch (win->want.what) {
	case DS_WINDOW_SETTLED:
		warden_window_settle(w);
		mapped(w, &(const struct ds_window_mapped){0});
		return;
	case DS_WINDOW_REACH:
		win->reaching = w->demand && warden_reach_want(w, win->want.vpn, win->want.npages);
		if (!win->reaching)
			failed(w, -ENXIO);
		return; /* it is seen to when this turn is over */
	case DS_WINDOW_INHERITED: r = map_inherited(w, &win->want); break;
	default: r = map_file(w, &win->want);
	}
	if (r) {
		warden_file_drop(win->coming.file);
		win->coming.file = NULL;
		failed(w, r);
	}
}

static void map_answered(struct warden *w, const struct windows_answer *a)
{
	struct warden_window *win = &w->window;
	struct ds_window_mapped got = a->mapped;

	got.err = win->err;
	if (win->want.what == DS_WINDOW_INHERITED)
		add_inherited(w, got.err);
	else
		add_pieces(w, &got);
}

/* --- UNMAP ------------------------------------------------------------------------------------------------------------- */

static void unmapped(struct warden *w)
{
	struct ds_agent_unmapped msg = {.reached = w->window.reached};

	w->window.under_way = 0;
	warden_send(w, DS_AGENT_UNMAPPED, w->window.guest_seq, &msg.head, sizeof(msg));
}

void warden_window_unmap(struct warden *w, const struct ds_agent_unmap *msg)
{
	struct warden_window *win = &w->window;
	struct warden_piece p;

	if (!begin(w, DS_AGENT_UNMAP, msg->head.seq))
		return;
	if (warden_pieces_room(&win->have, 1)) { /* one piece may become two */
		warden_end(w, DS_AGENT_C_LIMIT, "the process has its mappings of the host's files in more pieces than there may be");
		return;
	}
	for (uint32_t at = 0; warden_pieces_common(&win->have, msg->what.vpn, msg->what.npages, &at, &p);) {
		const struct windows_ask a = {.what = WINDOWS_UNMAP, .extent = {p.page, p.npages}};

		win->reached |= p.reached;
		if (p.physical)
			continue;
		if (warden_window_ask(w, &a, -1)) {
			warden_end(w, DS_AGENT_C_HOST, "the VM's window cannot be given back");
			return;
		}
		win->answers++;
	}
	warden_reach_gone(w, msg->what.vpn, msg->what.npages);
	warden_pieces_cut(&win->have, msg->what.vpn, msg->what.npages);
	if (!win->answers)
		unmapped(w);
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

/* The process is to know that a page of its mapping is none any more. */
static void spoilt(struct warden *w, const struct windows_answer *a)
{
	for (uint32_t i = 0; i < w->window.have.n; i++) {
		const struct warden_piece *p = &w->window.have.at[i];
		struct ds_agent_spoilt msg = {.vpn = p->vpn + a->page - p->page, .signal = (uint32_t)a->err};

		if (p->physical || a->page < p->page || a->page - p->page >= p->npages)
			continue;
		warden_send(w, DS_AGENT_SPOILT, 0, &msg.head, sizeof(msg));
		return;
	}
}

void warden_window_read(struct warden *w)
{
	for (int i = 0; i < READS_A_TURN && !w->ended; i++) {
		struct windows_answer a;
		const ssize_t n = recv(w->window.fd, &a, sizeof(a), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n != sizeof(a)) {
			warden_end(w, DS_AGENT_C_HOST, "the VM's process has ended");
			return;
		}
		if (a.what == WINDOWS_FAULT) {
			spoilt(w, &a);
			continue;
		}
		if (!w->window.answers)
			continue;
		w->window.err = w->window.err ? w->window.err : a.err;
		if (--w->window.answers)
			continue;
		if (w->window.under_way == DS_AGENT_MAP)
			map_answered(w, &a);
		else
			unmapped(w);
	}
}

void warden_window_free(struct warden *w)
{
	warden_file_drop(w->window.coming.file);
	w->window.coming.file = NULL;
	warden_window_settle(w);
	warden_pieces_free(&w->window.have);
	cleanup_close_fn(&w->window.fd);
}
