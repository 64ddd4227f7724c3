/* hold.c - frames kept allocated in pipes; theory of operation in hold.h */
#include "runtime/guest/helper/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "rle/pte.h"
#include "runtime/guest/helper/remote.h"

#define PAGE DS_PAGE_BYTES
#define ANYBODYS_BOX_PAGES 256u /* /proc/sys/fs/pipe-max-size; more takes CAP_SYS_RESOURCE */
#define CHUTE_PAGES 16384u /* for a whole process: each call costs the helper a stop, and each page 40 bytes in the kernel for a moment */
#define BOXES_AT_ONCE 8
#define HUGE_PAGES 512
#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, Linux 5.14 */
#define SAFE_BUFFER_BYTES (64 << 20) /* for the messages that carry boxes, some hundred bytes each */
#define PIECES_MAX (REMOTE_DATA_BYTES / sizeof(struct iovec) < IOV_MAX ? REMOTE_DATA_BYTES / sizeof(struct iovec) : IOV_MAX)

/* Pages in a pipe, in the order in which they can be read out of it. */
struct hold_box {
	int fd;	       /* of both directions, non-blocking */
	uint32_t room; /* pages that it can hold */
	uint32_t used;
	struct hold_range *part;
	size_t n, have;
};

/* --- boxes ---------------------------------------------------------------------------------------------------------- */

static int box_push(struct hold_box *b, uint64_t vpn, uint64_t npages)
{
	struct hold_range *last = b->n ? &b->part[b->n - 1] : NULL;

	if (last && last->vpn + last->npages == vpn) {
		last->npages += npages;
	} else {
		if (b->n == b->have) {
			size_t have = b->have ? 2 * b->have : 4;
			struct hold_range *part = realloc(b->part, have * sizeof(*part));

			if (!part)
				return -ENOMEM;
			b->part = part;
			b->have = have;
		}
		b->part[b->n++] = (struct hold_range){vpn, npages};
	}
	b->used += npages;
	return 0;
}

/* One descriptor for both directions.  Return: it; -errno. */
static int new_pipe(void)
{
	int pair[2], fd;
	char path[32];

	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pair[0]);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	fd = fd < 0 ? -errno : fd;
	close(pair[0]);
	close(pair[1]);
	return fd;
}

static int send_boxes(const struct hold *h, const int *fd, size_t n)
{
	union {
		char space[CMSG_SPACE(BOXES_AT_ONCE * sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {.cmsg_len = CMSG_LEN(n * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {(char[1]){0}, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(n * sizeof(int))};

	memcpy(CMSG_DATA(&control.head), fd, n * sizeof(int));
	return sendmsg(h->safe[0], &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : -errno;
}

/* More empty boxes, in the safe before there is anything in them. */
static int more_boxes(struct hold *h)
{
	struct hold_box *box = realloc(h->box, (h->n + BOXES_AT_ONCE) * sizeof(*box));
	int fd[BOXES_AT_ONCE], err = 0;
	size_t n = 0;

	if (!box)
		return -ENOMEM;
	h->box = box;
	for (; n < BOXES_AT_ONCE && !err; n++) {
		fd[n] = new_pipe();
		err = fd[n] < 0 ? fd[n] : 0;
		if (err)
			break;
	}
	err = err ? err : send_boxes(h, fd, n);
	for (size_t i = 0; i < n; i++) {
		if (err)
			close(fd[i]);
		else
			box[h->n++] = (struct hold_box){.fd = fd[i], .room = fcntl(fd[i], F_GETPIPE_SZ) / PAGE};
	}
	return err;
}

/* Makes a box larger if it can be.  Return: free places. */
static uint32_t make_room(struct hold_box *b, uint64_t want)
{
	static const uint32_t most[] = {HOLD_BOX_PAGES, ANYBODYS_BOX_PAGES};

	for (size_t i = 0; i < 2; i++) {
		const uint64_t target = b->used + want < most[i] ? b->used + want : most[i];
		uint32_t room = b->room;

		while (room < target)
			room *= 2;
		if (room > b->room && fcntl(b->fd, F_SETPIPE_SZ, room * PAGE) >= 0)
			b->room = fcntl(b->fd, F_GETPIPE_SZ) / PAGE;
	}
	return b->room - b->used;
}

/* Moves references.  Return: 0; -EIO: not all of them. */
static int move(int from, int to, uint64_t pages)
{
	for (uint64_t left = pages * PAGE; left;) {
		ssize_t n = splice(from, NULL, to, NULL, left, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EIO;
		left -= n;
	}
	return 0;
}

/* --- taking ----------------------------------------------------------------------------------------------------------- */

/* Files what is next in the chute. */
static int file(struct hold *h, int chute_fd, uint64_t vpn, uint64_t npages)
{
	size_t i = 0;

	while (npages) {
		struct hold_box *b;
		uint64_t n;
		int err;

		for (; i < h->n; i++)
			if (i != h->spare && h->box[i].used < HOLD_BOX_PAGES && make_room(&h->box[i], npages))
				break;
		if (i == h->n) {
			err = more_boxes(h);
			if (err)
				return err;
			continue;
		}
		b = &h->box[i];
		n = b->room - b->used < npages ? b->room - b->used : npages;
		if (box_push(b, vpn, n))
			return -ENOMEM;
		if (move(chute_fd, b->fd, n)) {
			h->broken = true;
			return -EIO;
		}
		h->pages += n;
		vpn += n;
		npages -= n;
	}
	return 0;
}

static void empty(const struct hold *h, int chute_fd)
{
	while (splice(chute_fd, NULL, h->sink, NULL, 1 << 30, SPLICE_F_NONBLOCK) > 0)
		;
}

/* One call.  Return: pages; -errno. */
static int64_t into_chute(struct remote *r, const struct hold_range *pages, size_t n)
{
	struct iovec iov[PIECES_MAX];
	struct remote_call call = {.nr = SYS_vmsplice, .args = {r->chute_there, r->data, n, SPLICE_F_NONBLOCK}, .any = 1};
	uint64_t sum = 0;
	int64_t got;
	int there = -1, err;

	if (!r->settled)
		return -EPROTO;

	for (size_t i = 0; i < n; i++) {
		iov[i] = (struct iovec){(void *)(pages[i].vpn * PAGE), pages[i].npages * PAGE};
		sum += pages[i].npages;
	}
	if (ioctl(r->chute_fd, FIONREAD, &there) || there)
		return -EPROTO;
	err = remote_batch(r, &call, 1, iov, n * sizeof(*iov), &got);
	if (err < 0)
		return err;
	/* Exactly what the call says that it has put there, and all that was asked for. */
	if (ioctl(r->chute_fd, FIONREAD, &there) || (got >= 0 ? there != got : there))
		return -EPROTO;
	return got < 0 ? got : (uint64_t)got == sum * PAGE ? (int64_t)sum : -EFAULT;
}

/* @n pieces that fit; when they cannot be had together, each alone. */
static int take(struct hold *h, struct remote *r, const struct hold_range *pages, size_t n, hold_missed_fn missed, void *ctx)
{
	int64_t got = into_chute(r, pages, n);
	int err = 0;

	if (got < 0)
		empty(h, r->chute_fd);
	if (got == -EPROTO || got == -ESRCH || got == -ETIMEDOUT)
		return got;
	if (got < 0 && n > 1) {
		for (size_t i = 0; i < n && !err; i++)
			err = take(h, r, &pages[i], 1, missed, ctx);
		return err;
	}
	if (got < 0) {
		if (!missed)
			return -EFAULT;
		missed(ctx, pages->vpn, pages->npages);
		return 0;
	}
	for (size_t i = 0; i < n && !err; i++)
		err = file(h, r->chute_fd, pages[i].vpn, pages[i].npages);
	if (err)
		empty(h, r->chute_fd);
	return err;
}

/* The chute as large as it is good for; more than /proc/sys/fs/pipe-max-size takes CAP_SYS_RESOURCE.  Return: pages that fit. */
static uint64_t widen(const struct remote *r, uint64_t npages)
{
	uint64_t room = fcntl(r->chute_fd, F_GETPIPE_SZ) / PAGE;

	for (uint64_t want = CHUTE_PAGES; want > room && npages > room; want /= 4)
		if (want / 4 < npages && fcntl(r->chute_fd, F_SETPIPE_SZ, want * PAGE) >= 0)
			room = fcntl(r->chute_fd, F_GETPIPE_SZ) / PAGE;
	return room;
}

int hold_take(struct hold *h, struct remote *r, const struct hold_range *pages, size_t n, hold_missed_fn missed, void *ctx)
{
	const uint64_t usual = fcntl(r->chute_fd, F_GETPIPE_SZ) / PAGE;
	struct hold_range piece[PIECES_MAX];
	uint64_t sum = 0, most;
	size_t k = 0;
	int err = h->broken ? -EIO : 0;

	for (size_t i = 0; i < n; i++)
		sum += pages[i].npages;
	most = widen(r, sum);
	sum = 0;
	for (size_t i = 0; i < n && !err; i++) {
		for (struct hold_range left = pages[i]; left.npages && !err;) {
			const uint64_t part = left.npages < most - sum ? left.npages : most - sum;

			piece[k++] = (struct hold_range){left.vpn, part};
			sum += part;
			left.vpn += part;
			left.npages -= part;
			if (k == PIECES_MAX || sum == most) {
				err = take(h, r, piece, k, missed, ctx);
				k = sum = 0;
			}
		}
	}
	err = err || !k ? err : take(h, r, piece, k, missed, ctx);
	if (most > usual)
		fcntl(r->chute_fd, F_SETPIPE_SZ, usual * PAGE);
	return err;
}

/*
 * In a mapping of our own, which has no entries at first.  Populating it makes them; from then on there are no more faults, as references
 * for reading are refused where a mapping cannot be read, unless the entry is there.  So an entry that is there at the
 * end is the one that was referenced.  It lies so that the kernel cannot map a huge page there, which would be more than was touched.
 */
static int reference(struct hold *h, char *at, uint32_t npages, uint64_t *frame)
{
	struct iovec all = {at, npages * PAGE};

	if (madvise(at, all.iov_len, POPULATE_WRITE))
		return -errno;
	if (vmsplice(h->mouth[1], &all, 1, SPLICE_F_NONBLOCK) != (ssize_t)all.iov_len ||
	    pread(h->pagemap_fd, frame, npages * 8, (uintptr_t)at / PAGE * 8) != (ssize_t)npages * 8) {
		empty(h, h->mouth[0]);
		return -EFAULT;
	}
	for (uint32_t i = 0; i < npages; i++)
		frame[i] = frame[i] & RLE_PTE_PRESENT ? frame[i] & RLE_PTE_PFN_MASK : 0;
	return 0;
}

int hold_take_shared(struct hold *h, int fd, uint64_t page, uint64_t vpn, uint32_t npages, uint64_t *frame)
{
	const size_t bytes = (npages + 1) * PAGE;
	char *room, *at;
	int err;

	if (h->broken || !npages || npages > HOLD_SHARED_PAGES)
		return h->broken ? -EIO : -EINVAL;
	room = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return -errno;
	at = room + (((uintptr_t)room / PAGE - page) % HUGE_PAGES ? 0 : PAGE);
	err = mmap(at, npages * PAGE, PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, page * PAGE) == at ? 0 : -errno;
	err = err ? err : reference(h, at, npages, frame);
	munmap(room, bytes);
	if (err)
		return err;
	err = file(h, h->mouth[0], vpn, npages);
	if (err)
		empty(h, h->mouth[0]);
	return err;
}

/* --- letting go --------------------------------------------------------------------------------------------------------- */

static bool touches(const struct hold_box *b, uint64_t vpn, uint64_t end)
{
	for (size_t i = 0; i < b->n; i++)
		if (b->part[i].vpn < end && b->part[i].vpn + b->part[i].npages > vpn)
			return true;
	return false;
}

/* Reads a box out, into the spare one what stays; which then takes its place. */
static int sort_out(struct hold *h, struct hold_box *b, uint64_t vpn, uint64_t end)
{
	struct hold_box *spare = &h->box[h->spare], out = *spare;
	uint64_t gone = 0;
	int err = 0;

	if (make_room(&out, b->used) < b->used)
		return -ENOMEM;
	for (size_t i = 0; i < b->n && !err; i++) { /* before anything is moved: all memory that it takes */
		const struct hold_range *p = &b->part[i];
		const uint64_t p_end = p->vpn + p->npages, from = p->vpn > vpn ? p->vpn : vpn, to = p_end < end ? p_end : end;

		if (from >= to) {
			err = box_push(&out, p->vpn, p->npages);
			continue;
		}
		err = from > p->vpn ? box_push(&out, p->vpn, from - p->vpn) : 0;
		err = err || p_end <= to ? err : box_push(&out, to, p_end - to);
		gone += to - from;
	}
	for (size_t i = 0; i < b->n && !err; i++) {
		const struct hold_range *p = &b->part[i];
		const uint64_t p_end = p->vpn + p->npages, from = p->vpn > vpn ? p->vpn : vpn, to = p_end < end ? p_end : end;

		if (from >= to) {
			err = move(b->fd, out.fd, p->npages);
		} else {
			err = move(b->fd, out.fd, from - p->vpn);
			err = err ? err : move(b->fd, h->sink, to - from);
			err = err ? err : move(b->fd, out.fd, p_end - to);
		}
		h->broken |= err != 0;
	}
	if (err) {
		out.n = out.used = 0;
		*spare = out;
		return err;
	}
	b->n = b->used = 0;
	*spare = *b;
	*b = out;
	h->pages -= gone;
	return 0;
}

int hold_release(struct hold *h, uint64_t vpn, uint64_t npages)
{
	int err = h->broken ? -EIO : 0;

	for (size_t i = 0; i < h->n && !err; i++)
		if (i != h->spare && touches(&h->box[i], vpn, vpn + npages))
			err = sort_out(h, &h->box[i], vpn, vpn + npages);
	return err;
}

/* --- open and close ----------------------------------------------------------------------------------------------------- */

int hold_open(struct hold *h)
{
	const int buffer = SAFE_BUFFER_BYTES;

	*h = HOLD_NONE;
	h->sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	h->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (h->sink < 0 || h->pagemap_fd < 0 || pipe2(h->mouth, O_CLOEXEC | O_NONBLOCK) ||
	    fcntl(h->mouth[1], F_SETPIPE_SZ, HOLD_SHARED_PAGES * PAGE) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, h->safe))
		return -errno;
	if (setsockopt(h->safe[0], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer)))
		setsockopt(h->safe[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	return more_boxes(h);
}

int hold_safe(const struct hold *h)
{
	return h->safe[1];
}

void hold_close(struct hold *h)
{
	for (size_t i = 0; i < h->n; i++) {
		close(h->box[i].fd);
		free(h->box[i].part);
	}
	free(h->box);
	for (int i = 0; i < 2; i++) {
		cleanup_close_fn(&h->safe[i]);
		cleanup_close_fn(&h->mouth[i]);
	}
	cleanup_close_fn(&h->sink);
	cleanup_close_fn(&h->pagemap_fd);
	*h = HOLD_NONE;
}
