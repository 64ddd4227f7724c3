/* warden_window.c - files of the host that the guest's program maps: MAP and UNMAP
 *
 * Theory of operation
 *
 * runtime/wire/window.h tells the whole of it.  Here the file is found: the descriptor that the capsule has at the number which the
 * program names, taken from outside (pidfd_getfd(2)).  The capsule is not trusted, but what it has open is what its rule let it
 * open; its own descriptors, the RAM's among them, have numbers that are refused, and the RAM by any number, too.  Another thread of the
 * capsule may put another file behind the number at the same moment: then that one is mapped, which it could have asked for.
 *
 * The capsule maps the file too, where the program has it (DS_SHADOW_WINDOW), so that the program's system calls can have buffers there.  That is
 * ordered of it when the VMM has the file, and the guard lets just this call pass (authority_file()).  If it does not work, since a driver
 * allows one mapping, say, such a call is EFAULT, and that is all.  The demand machine takes the pages for holes: the guest's agent
 * drops them before UNMAP, upon which they are covered like any others.
 *
 * The VM process finds room and has the VMM map (windows.h).  It is asked by a packet and answers by one; MAP and UNMAP come one at a
 * time, so what it answers needs no number.  Which of the program's pages are which of the window's is kept here, piece by piece.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden_parts.h"
#include "runtime/host/window.h"
#include "runtime/host/windows.h"

#define PIDFD_GETFD 438 /* asm/unistd_64.h, Linux 5.6 */
#define READS_A_TURN 16
#define PIECES_FIRST 16u

/* --- to the VM process ----------------------------------------------------------------------------------------------- */

/* Return: 0 or -errno. */
static int ask(struct warden *w, const struct windows_ask *a, int fd)
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
	return true;
}

/* --- pieces ---------------------------------------------------------------------------------------------------------- */

/* Return: 0, -ENOMEM. */
static int make_room(struct warden_window *win, uint32_t n)
{
	uint32_t room = win->room ? win->room : PIECES_FIRST;
	struct warden_piece *piece;

	while (room < win->npieces + n)
		room *= 2;
	if (room == win->room)
		return 0;
	piece = room > 2 * WINDOW_PIECES_MAX ? NULL : realloc(win->piece, room * sizeof(*piece));
	if (!piece)
		return -ENOMEM;
	win->piece = piece;
	win->room = room;
	return 0;
}

/* The pages of a piece that lie in a range.  Return: whether there are any. */
static bool common(const struct warden_piece *p, uint64_t vpn, uint64_t npages, struct warden_piece *out)
{
	const uint64_t p_end = p->vpn + p->npages, end = vpn + npages, from = p->vpn > vpn ? p->vpn : vpn, to = p_end < end ? p_end : end;

	if (from >= to)
		return false;
	*out = (struct warden_piece){from, to - from, p->page + from - p->vpn};
	return true;
}

static bool any(const struct warden_window *win, uint64_t vpn, uint64_t npages)
{
	struct warden_piece both;

	for (uint32_t i = 0; i < win->npieces; i++)
		if (common(&win->piece[i], vpn, npages, &both))
			return true;
	return false;
}

/* --- MAP --------------------------------------------------------------------------------------------------------------- */

static bool same_file(int a, int b)
{
	struct stat x, y;

	return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
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
	if (fd < 0)
		return -errno;
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

void warden_window_map(struct warden *w, const struct ds_agent_map *msg)
{
	struct warden_window *win = &w->window;
	struct windows_ask a = {.what = WINDOWS_MAP, .npages = msg->want.npages, .offset = msg->want.offset};
	cleanup_close int fd = -1;
	int r;

	if (!begin(w, DS_AGENT_MAP, msg->head.seq))
		return;
	win->want = msg->want;
	if (win->fd < 0 || !w->pid) {
		failed(w, -ENODEV);
		return;
	}
	r = any(win, msg->want.vpn, msg->want.npages) ? -EEXIST : make_room(win, DS_WINDOW_EXTENTS_MAX);
	if (!r) {
		fd = take_file(w, &msg->want, &win->prot);
		r = fd < 0 ? fd : 0;
	}
	a.prot = win->prot;
	r = r ? r : ask(w, &a, fd);
	if (r)
		failed(w, r);
	else
		win->answers = 1;
}

void warden_window_send(struct warden *w)
{
	struct warden_window *win = &w->window;
	const struct ds_window_map *want = &win->want;
	struct ds_shadow_window msg = {.range = {want->vpn, want->npages}, .offset = want->offset, .fd = want->fd, .prot = win->prot};
	const struct authority_call call = {.address = want->vpn << DS_PAGE_SHIFT, .bytes = want->npages << DS_PAGE_SHIFT, .prot = win->prot,
					    .flags = MAP_SHARED | MAP_FIXED, .fd = want->fd, .offset = want->offset};

	if (!win->to_send)
		return;
	msg.head = warden_capsule_head(w, DS_SHADOW_WINDOW, sizeof(msg));
	if (warden_capsule_send(w, &msg, sizeof(msg), NULL, 0))
		return; /* again when there is room; or it has ended */
	authority_file(w->authority, &call);
	win->to_send = false;
	win->capsule_seq = msg.head.seq;
}

bool warden_window_answered(struct warden *w, uint32_t seq, bool done)
{
	struct warden_window *win = &w->window;

	if (!win->capsule_seq || seq != win->capsule_seq)
		return false;
	win->capsule_seq = 0;
	authority_file(w->authority, NULL);
	if (done && demand_foreign(w->demand, (struct ds_shadow_range){win->want.vpn, win->want.npages}))
		warden_end(w, DS_AGENT_C_LIMIT, "the process maps more of the host's files than can be remembered");
	else
		mapped(w, &win->got);
	return true;
}

static void map_answered(struct warden *w, const struct windows_answer *a)
{
	struct warden_window *win = &w->window;
	struct ds_window_mapped got = a->mapped;
	uint64_t vpn = win->want.vpn;

	got.err = a->err;
	got.prot = win->prot;
	if (got.nextents > DS_WINDOW_EXTENTS_MAX)
		got.nextents = 0;
	for (uint32_t i = 0; i < got.nextents && !got.err; i++) { /* there is room: make_room() */
		win->piece[win->npieces++] = (struct warden_piece){vpn, got.extent[i].npages, got.extent[i].page};
		vpn += got.extent[i].npages;
	}
	if (got.err || !w->demand) {
		mapped(w, &got);
		return;
	}
	win->got = got;
	win->to_send = true;
	if (!w->ctl_full)
		warden_window_send(w);
}

/* --- UNMAP ------------------------------------------------------------------------------------------------------------- */

static void unmapped(struct warden *w)
{
	struct ds_agent_done msg = {0};

	w->window.under_way = 0;
	warden_send(w, DS_AGENT_DONE, w->window.guest_seq, &msg.head, sizeof(msg));
}

void warden_window_unmap(struct warden *w, const struct ds_agent_unmap *msg)
{
	struct warden_window *win = &w->window;
	const uint32_t n = win->npieces;
	uint32_t kept = 0;

	if (!begin(w, DS_AGENT_UNMAP, msg->head.seq))
		return;
	if (make_room(win, 1)) { /* one piece may become two */
		warden_end(w, DS_AGENT_C_LIMIT, "the process has its mappings of the host's files in more pieces than there may be");
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct warden_piece p = win->piece[i];
		struct windows_ask a = {.what = WINDOWS_UNMAP};
		struct warden_piece gone;

		if (!common(&p, msg->what.vpn, msg->what.npages, &gone)) {
			win->piece[kept++] = p;
			continue;
		}
		a.extent = (struct ds_window_extent){gone.page, gone.npages};
		if (ask(w, &a, -1)) {
			warden_end(w, DS_AGENT_C_HOST, "the VM's window cannot be given back");
			return;
		}
		win->answers++;
		if (gone.vpn + gone.npages < p.vpn + p.npages && gone.vpn > p.vpn) /* then it is the only one: the room is behind all */
			win->piece[win->npieces++] = (struct warden_piece){gone.vpn + gone.npages, p.vpn + p.npages - gone.vpn - gone.npages,
									   gone.page + gone.npages};
		if (gone.vpn > p.vpn)
			win->piece[kept++] = (struct warden_piece){p.vpn, gone.vpn - p.vpn, p.page};
		else if (gone.vpn + gone.npages < p.vpn + p.npages)
			win->piece[kept++] = (struct warden_piece){gone.vpn + gone.npages, p.vpn + p.npages - gone.vpn - gone.npages,
								   gone.page + gone.npages};
	}
	memmove(&win->piece[kept], &win->piece[n], (win->npieces - n) * sizeof(*win->piece));
	win->npieces -= n - kept;
	if (!win->answers)
		unmapped(w);
}

/* --- answers ------------------------------------------------------------------------------------------------------------ */

/* The process is to know that a page of its mapping is none any more. */
static void spoilt(struct warden *w, const struct windows_answer *a)
{
	for (uint32_t i = 0; i < w->window.npieces; i++) {
		const struct warden_piece *p = &w->window.piece[i];
		struct ds_agent_spoilt msg = {.vpn = p->vpn + a->page - p->page, .signal = (uint32_t)a->err};

		if (a->page < p->page || a->page - p->page >= p->npages)
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
		if (!w->window.answers || --w->window.answers)
			continue;
		if (w->window.under_way == DS_AGENT_MAP)
			map_answered(w, &a);
		else
			unmapped(w);
	}
}

void warden_window_free(struct warden *w)
{
	free(w->window.piece);
	w->window.piece = NULL;
	cleanup_close_fn(&w->window.fd);
}
