/* window.c - files of the host that the program maps shared: devices above all
 *
 * Theory of operation
 *
 * runtime/wire/window.h tells the whole of it.  The program's part:
 *
 *	1. room at the address that mmap() is to return: memory without access, mapped as the call asks for (MAP_FIXED replaces what
 *	   was there, and the mirror loses that first: memory.c)
 *	2. dsagent is asked; the answer are pages of the window
 *	3. those are mapped over the room.  Nobody sees anything between: an access before is a SIGSEGV, as without any mapping
 *
 * Or the answer are frames of the guest, and its /dev/mem, which has them by these numbers: the paper's way (DS_WINDOW_PHYSICAL).
 *
 * On one kernel with the host (a container; tests) the shadow's tasks have this very memory: the call is made there, and that is all.
 *
 * What the guest's kernel does not know of these mappings is done here: msync() is the shadow's to make, on its own mapping of the file;
 * mprotect() allows what the file was opened for; madvise(MADV_DONTNEED) does nothing, as it does to a file's pages; mremap() is in
 * remap.c; what a forked child has, in inherit.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>

#include "runtime/guest/forward/container.h"
#include "runtime/guest/forward/window.h"

struct forward_window forward_window;

static uint64_t whole(uint64_t bytes)
{
	return (bytes + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1);
}

/* --- the table ---------------------------------------------------------------------------------------------------------- */

/* Return: whether there was room. */
static bool add(const struct forward_piece *piece)
{
	uint32_t i = 0;

	while (i < forward_window.n && forward_window.piece[i].start)
		i++;
	if (i == FORWARD_WINDOW_PIECES)
		return false;
	forward_window.piece[i] = *piece;
	if (i == forward_window.n)
		__atomic_store_n(&forward_window.n, i + 1, __ATOMIC_RELEASE);
	return true;
}

static bool touches(uint32_t i, uint64_t start, uint64_t end)
{
	const struct forward_piece *p = &forward_window.piece[i];

	return p->start && p->start < end && p->end > start;
}

bool forward_window_whole(uint64_t start, uint64_t end, struct forward_piece *out)
{
	const uint32_t n = __atomic_load_n(&forward_window.n, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < n; i++) {
		*out = forward_window.piece[i];
		if (out->start && out->start <= start && out->end >= end)
			return true;
	}
	return false;
}

bool forward_window_holds(uint64_t start, uint64_t end)
{
	struct forward_piece p;

	return forward_window_whole(start, end, &p);
}

bool forward_window_touches(uint64_t start, uint64_t end)
{
	const uint32_t n = __atomic_load_n(&forward_window.n, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < n; i++)
		if (touches(i, start, end))
			return true;
	return false;
}

bool forward_window_any(void)
{
	return forward_window_touches(0, UINT64_MAX);
}

void forward_window_join(uint64_t at)
{
	struct forward_piece *before = NULL, *behind = NULL;
	uint64_t mask;

	forward_lock(&forward_window.lock, &mask);
	for (uint32_t i = 0; i < forward_window.n; i++) {
		struct forward_piece *p = &forward_window.piece[i];

		before = p->start && p->end == at ? p : before;
		behind = p->start == at ? p : behind;
	}
	if (before && behind && before->prot == behind->prot) {
		before->end = behind->end;
		behind->start = 0;
	}
	forward_unlock(&forward_window.lock, &mask);
}

/* Takes a piece out of the range.  Return: whether there was one, in @what. */
static bool take_out(uint64_t start, uint64_t end, struct ds_window_unmap *what)
{
	for (uint32_t i = 0; i < forward_window.n; i++) {
		struct forward_piece *p = &forward_window.piece[i], behind = *p;
		const uint64_t from = p->start > start ? p->start : start, to = p->end < end ? p->end : end;

		if (!p->start || from >= to)
			continue;
		*what = (struct ds_window_unmap){from / FORWARD_PAGE, (to - from) / FORWARD_PAGE};
		behind.start = to;
		if (from > p->start && to < p->end && !add(&behind))
			return false; /* no room for what is behind: it stays as it is until the shadow ends */
		if (from > p->start)
			p->end = from;
		else if (to < p->end)
			p->start = to;
		else
			p->start = 0;
		return true;
	}
	return false;
}

static bool take_out_locked(uint64_t start, uint64_t end, struct ds_window_unmap *what)
{
	uint64_t mask;
	bool found;

	forward_lock(&forward_window.lock, &mask);
	found = take_out(start, end, what);
	forward_unlock(&forward_window.lock, &mask);
	return found;
}

void forward_window_forget(uint64_t start, uint64_t end)
{
	struct ds_window_unmap what;

	while (forward_window_touches(start, end) && take_out_locked(start, end, &what))
		;
}

/* --- mmap() ------------------------------------------------------------------------------------------------------------- */

/* A descriptor of the window, which several threads may have been given at the same time. */
static int32_t window_fd(int32_t came)
{
	uint64_t mask;
	int32_t fd;

	forward_lock(&forward_window.lock, &mask);
	if (came >= 0 && !forward_window.has_fd) {
		forward_own_add(came, &forward_window.fd);
		forward_window.has_fd = 1;
	} else if (came >= 0) {
		raw1(__NR_close, came);
	}
	fd = forward_window.has_fd ? forward_window.fd : -1;
	forward_unlock(&forward_window.lock, &mask);
	return fd;
}

/* Over the room at @at.  Return: 0 or -errno. */
static int64_t map_extents(uint64_t at, uint64_t prot, int32_t fd, const struct ds_window_mapped *got)
{
	for (uint32_t i = 0; i < got->nextents; i++) {
		const uint64_t bytes = got->extent[i].npages * FORWARD_PAGE;
		const int64_t rc = raw6(__NR_mmap, at, bytes, prot, MAP_SHARED | MAP_FIXED, fd, got->extent[i].page * FORWARD_PAGE);

		if (rc < 0 && rc > -4096)
			return rc;
		at += bytes;
	}
	return 0;
}

int64_t forward_window_into(const struct ds_window_map *want, uint64_t prot)
{
	const struct ds_window_unmap back = {want->vpn, want->npages};
	const uint64_t at = want->vpn * FORWARD_PAGE, bytes = want->npages * FORWARD_PAGE;
	struct ds_window_mapped got = {0};
	int32_t came = window_fd(-1), fd;
	uint64_t mask, pages = 0;
	bool added;
	int64_t rc = forward_agent_map(want, &came, &got);
	const bool physical = !rc && got.prot & DS_WINDOW_PHYSICAL;

	rc = rc ? rc : got.err;
	if (rc)
		return rc;
	fd = physical ? came : window_fd(came);
	for (uint32_t i = 0; i < got.nextents && i < DS_WINDOW_EXTENTS_MAX; i++)
		pages += got.extent[i].npages;
	rc = got.nextents <= DS_WINDOW_EXTENTS_MAX && pages == want->npages && fd >= 0 ? map_extents(at, prot, fd, &got) : -ENODEV;
	if (physical && fd >= 0) /* the guest's /dev/mem: for this once */
		raw1(__NR_close, fd);
	got.prot &= PROT_READ | PROT_WRITE;
	forward_lock(&forward_window.lock, &mask);
	added = !rc && add(&(const struct forward_piece){at, at + bytes, got.prot, (uint32_t)prot});
	forward_unlock(&forward_window.lock, &mask);
	if (added)
		return 0;
	raw6(__NR_mmap, at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	forward_agent_unmap(&back);
	return rc ? rc : -ENOMEM;
}

/* The host's tasks have the same memory: the call is made there as it is. */
static int64_t map_alike(const struct intercept_call *call)
{
	struct forward_turn turn;
	int64_t rc = forward_turn_begin(&turn);

	if (rc)
		return rc;
	rc = forward_turn_call(&turn, __NR_mmap, call->arg);
	forward_turn_end(&turn);
	return rc;
}

/* What is at a fixed address stays there if the file cannot be mapped at all.  Return: 0, -errno. */
static int64_t may_replace(uint64_t fd, uint64_t prot)
{
	const int64_t flags = forward_quick(__NR_fcntl, fd, F_GETFL, 0, 0);

	if (flags < 0 || flags & O_PATH)
		return -EBADF;
	return (flags & O_ACCMODE) == O_WRONLY || (prot & PROT_WRITE && (flags & O_ACCMODE) != O_RDWR) ? -EACCES : 0;
}

int64_t forward_window_map(const struct intercept_call *call)
{
	const uint64_t bytes = whole(call->arg[1]), kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT, prot = call->arg[2];
	struct intercept_call room = {
		.nr = __NR_mmap,
		.arg = {call->arg[0], bytes, PROT_NONE, (call->arg[3] & kept) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0}};
	struct ds_window_map want = {.npages = bytes / FORWARD_PAGE, .offset = call->arg[5], .fd = (uint32_t)call->arg[4],
				     .prot = (uint16_t)(prot & (PROT_READ | PROT_WRITE)), .what = DS_WINDOW_FILE};
	uint64_t mask;
	int64_t at, rc;

	if (!bytes || call->arg[5] % FORWARD_PAGE || (call->arg[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE) && call->arg[0] % FORWARD_PAGE))
		return -EINVAL;
	if (!forward_agent_active())
		return forward_alike() ? map_alike(call) : -EIO;
	if (prot & PROT_EXEC) /* the window is no memory to run programs from */
		return -EPERM;
	rc = call->arg[3] & MAP_FIXED ? may_replace(call->arg[4], prot) : 0;
	if (rc)
		return rc;
	at = forward_memory_room(&room);
	if (at < 0)
		return at;
	want.vpn = (uint64_t)at / FORWARD_PAGE;
	forward_lock(&forward_window.changes, &mask);
	rc = forward_window_into(&want, prot);
	forward_unlock(&forward_window.changes, &mask);
	if (!rc)
		return at;
	raw2(__NR_munmap, at, bytes);
	return rc;
}

/* --- afterwards --------------------------------------------------------------------------------------------------------- */

void forward_window_gone(uint64_t start, uint64_t end)
{
	struct ds_window_unmap what;

	while (forward_window_touches(start, end) && take_out_locked(start, end, &what))
		forward_agent_unmap(&what);
}

int64_t forward_window_protect(struct intercept_call *call)
{
	const uint64_t start = call->arg[0], end = start + whole(call->arg[1]), prot = call->arg[2];
	struct intercept_call before = *call;
	uint64_t mask, bad = end;
	int64_t rc;

	forward_lock(&forward_window.lock, &mask);
	for (uint32_t i = 0; i < forward_window.n; i++) {
		const struct forward_piece *p = &forward_window.piece[i];

		if (touches(i, start, bad) && prot & ~(uint64_t)p->prot)
			bad = p->start > start ? p->start : start;
	}
	for (uint32_t i = 0; i < forward_window.n; i++)
		if (touches(i, start, bad))
			forward_window.piece[i].now = (uint32_t)prot;
	forward_unlock(&forward_window.lock, &mask);
	before.arg[1] = bad - start;
	rc = bad > start ? forward_local(&before) : 0;
	return !rc && bad < end ? -EACCES : rc;
}

/* The shadow has the file's pages where the program has them, once it is told to; what it cannot map it has not changed either. */
static int64_t sync_there(uint64_t start, uint64_t end, uint64_t flags)
{
	const struct ds_window_map want = {.vpn = start / FORWARD_PAGE, .npages = (end - start) / FORWARD_PAGE, .what = DS_WINDOW_REACH};
	static const struct forward_rule plain = {.kind = FORWARD_FD};
	const struct intercept_call call = {.nr = __NR_msync, .arg = {start, end - start, flags}};
	struct ds_window_mapped got = {0};
	int32_t fd = 0; /* none is asked for */
	int64_t rc = forward_agent_map(&want, &fd, &got);

	if (rc || got.err)
		return rc;
	rc = forward_call(&call, &plain);
	return rc == -EIO || rc == -ENOSPC || rc == -EDQUOT || rc == -EINTR ? rc : 0;
}

int64_t forward_window_sync(uint64_t start, uint64_t end, uint64_t flags)
{
	int64_t rc = 0;

	if (flags & ~(uint64_t)(MS_ASYNC | MS_INVALIDATE | MS_SYNC) || (flags & MS_ASYNC && flags & MS_SYNC) || start % FORWARD_PAGE)
		return -EINVAL;
	if (!(flags & MS_SYNC) || !forward_agent_active())
		return 0;
	for (uint32_t i = 0; i < __atomic_load_n(&forward_window.n, __ATOMIC_ACQUIRE) && !rc; i++) {
		const struct forward_piece p = forward_window.piece[i];

		if (p.start && p.start < end && p.end > start)
			rc = sync_there(p.start > start ? p.start : start, p.end < end ? p.end : end, flags);
	}
	return rc;
}
