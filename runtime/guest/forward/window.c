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
 * On one kernel with the host (a container; tests) the shadow's tasks have this very memory: the call is made there, and that is all.
 *
 * What the guest's kernel does not know of these mappings is done here: msync() writes the file back on the host, for which a
 * descriptor of the host's is kept; mprotect() allows what the file was opened for; madvise(MADV_DONTNEED) does nothing, as it
 * does to a file's pages.  mremap() may make them shorter; anything else is ENOMEM, as if there were no room: programs have to
 * know what to do then.  A forked child does not have them (MADV_DONTFORK), and this table is wiped in it.
 *
 * The shadow has the file at the same address, so system calls of the host can have buffers there.  For that the host has to know
 * of the mapping first, so dsagent announces the room as it does new memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/stat.h>

#include "runtime/guest/forward/container.h"
#include "runtime/guest/forward/forward.h"

#define PIECES_MAX 1000u

struct piece {
	uint64_t start, end; /* start 0: free */
	int32_t raw;	     /* a descriptor of the host that no number here leads to, for msync(); -1 */
	uint32_t prot;	     /* that it can have */
};

/* Wiped in a forked child. */
struct table {
	uint32_t n; /* pieces up to the last that is used */
	uint32_t lock; /* never held across an exchange with dsagent */
	uint32_t has_fd;
	int32_t fd; /* of the window */
	struct piece piece[PIECES_MAX];
};
static struct table *table;

static uint64_t whole(uint64_t bytes)
{
	return (bytes + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1);
}

int forward_window_start(void)
{
	const uint64_t bytes = whole(sizeof(*table));
	int64_t at;

	if (table) /* of the shadow before, or, wiped, the parent's */
		return 0;
	at = raw6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at < 0)
		return (int)at;
	raw3(__NR_madvise, at, bytes, MADV_WIPEONFORK);
	table = (struct table *)at;
	return 0;
}

/* Return: whether there was room. */
static bool add(struct piece piece)
{
	uint32_t i = 0;

	while (i < table->n && table->piece[i].start)
		i++;
	if (i == PIECES_MAX)
		return false;
	table->piece[i] = piece;
	if (i == table->n)
		__atomic_store_n(&table->n, i + 1, __ATOMIC_RELEASE);
	return true;
}

bool forward_window_holds(uint64_t start, uint64_t end)
{
	const uint32_t n = table ? __atomic_load_n(&table->n, __ATOMIC_ACQUIRE) : 0;

	for (uint32_t i = 0; i < n; i++)
		if (table->piece[i].start && table->piece[i].start <= start && table->piece[i].end >= end)
			return true;
	return false;
}

bool forward_window_touches(uint64_t start, uint64_t end)
{
	const uint32_t n = table ? __atomic_load_n(&table->n, __ATOMIC_ACQUIRE) : 0;

	for (uint32_t i = 0; i < n; i++)
		if (table->piece[i].start && table->piece[i].start < end && table->piece[i].end > start)
			return true;
	return false;
}

/* --- mmap() ------------------------------------------------------------------------------------------------------------- */

/* A descriptor of the host for msync(), where that means something.  Return: it, -1: none, or -errno. */
static int64_t keep_file(uint64_t fd)
{
	struct forward_turn turn;
	struct stat *st;
	int64_t rc = forward_turn_begin(&turn);

	if (rc)
		return rc;
	st = (struct stat *)(void *)turn.entry->scratch;
	rc = forward_turn_quick(&turn, __NR_fstat, fd, (uint64_t)st, 0, 0);
	if (!rc)
		rc = S_ISREG(st->st_mode) ? forward_turn_quick(&turn, __NR_fcntl, fd, F_DUPFD_CLOEXEC, 0, 0) : -1;
	forward_turn_end(&turn);
	return rc;
}

static void let_go(int64_t raw)
{
	if (raw >= 0)
		forward_quick(__NR_close, (uint64_t)raw, 0, 0, 0);
}

/* A descriptor of the window, which several threads may have been given at the same time. */
static int32_t window_fd(int32_t came)
{
	uint64_t mask;
	int32_t fd;

	forward_lock(&table->lock, &mask);
	if (came >= 0 && !table->has_fd) {
		forward_own_add(came, &table->fd);
		table->has_fd = 1;
	} else if (came >= 0) {
		raw1(__NR_close, came);
	}
	fd = table->has_fd ? table->fd : -1;
	forward_unlock(&table->lock, &mask);
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
		raw3(__NR_madvise, at, bytes, MADV_DONTFORK);
		at += bytes;
	}
	return 0;
}

static int64_t map_into(uint64_t at, uint64_t bytes, const struct intercept_call *call)
{
	const uint64_t prot = call->arg[2];
	struct ds_window_map want = {at / FORWARD_PAGE, bytes / FORWARD_PAGE, call->arg[5], (uint32_t)call->arg[4],
				     (uint32_t)prot & (PROT_READ | PROT_WRITE)};
	const struct ds_window_unmap back = {want.vpn, want.npages};
	struct ds_window_mapped got = {0};
	int32_t fd = window_fd(-1);
	const bool asks = fd < 0;
	int64_t raw = keep_file(call->arg[4]), rc;
	uint64_t mask, pages = 0;
	bool added;

	if (raw < -1)
		return raw;
	rc = forward_agent_map(&want, &fd, &got);
	if (asks)
		fd = window_fd(fd);
	rc = rc ? rc : got.err;
	if (rc) {
		let_go(raw);
		return rc;
	}
	for (uint32_t i = 0; i < got.nextents && i < DS_WINDOW_EXTENTS_MAX; i++)
		pages += got.extent[i].npages;
	rc = got.nextents <= DS_WINDOW_EXTENTS_MAX && pages == want.npages && fd >= 0 ? map_extents(at, prot, fd, &got) : -ENODEV;
	forward_lock(&table->lock, &mask);
	added = !rc && add((struct piece){at, at + bytes, (int32_t)raw, got.prot});
	forward_unlock(&table->lock, &mask);
	if (added)
		return 0;
	raw6(__NR_mmap, at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	forward_agent_unmap(&back);
	let_go(raw);
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

int64_t forward_window_map(const struct intercept_call *call)
{
	const uint64_t bytes = whole(call->arg[1]), kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT;
	struct intercept_call room = {
		.nr = __NR_mmap,
		.arg = {call->arg[0], bytes, PROT_NONE, (call->arg[3] & kept) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0}};
	int64_t at, rc;

	if (!bytes || call->arg[5] % FORWARD_PAGE)
		return -EINVAL;
	if (!forward_agent_active())
		return forward_alike() ? map_alike(call) : -EIO;
	if (call->arg[2] & PROT_EXEC) /* the window is no memory to run programs from */
		return -EPERM;
	at = forward_memory_room(&room);
	if (at < 0)
		return at;
	rc = map_into((uint64_t)at, bytes, call);
	if (!rc)
		return at;
	raw2(__NR_munmap, at, bytes);
	return rc;
}

/* --- afterwards --------------------------------------------------------------------------------------------------------- */

/* Takes a piece out of the range.  Return: whether there was one; @raw: a descriptor that nobody needs any more, or -1. */
static bool take_out(uint64_t start, uint64_t end, struct ds_window_unmap *what, int32_t *raw)
{
	*raw = -1;
	for (uint32_t i = 0; i < table->n; i++) {
		struct piece *p = &table->piece[i];
		const uint64_t from = p->start > start ? p->start : start, to = p->end < end ? p->end : end;
		struct piece behind = *p;
		bool alone = true;

		if (!p->start || from >= to)
			continue;
		*what = (struct ds_window_unmap){from / FORWARD_PAGE, (to - from) / FORWARD_PAGE};
		behind.start = to;
		if (from > p->start && to < p->end && !add(behind))
			return false; /* no room for what is behind: it stays as it is until the shadow ends */
		if (from > p->start)
			p->end = from;
		else if (to < p->end)
			p->start = to;
		else
			p->start = 0;
		for (uint32_t k = 0; k < table->n; k++)
			alone = alone && !(table->piece[k].start && table->piece[k].raw == behind.raw);
		if (alone)
			*raw = behind.raw;
		return true;
	}
	return false;
}

void forward_window_gone(uint64_t start, uint64_t end)
{
	struct ds_window_unmap what;
	uint64_t mask;
	int32_t raw;
	bool found;

	if (!forward_window_touches(start, end))
		return;
	do {
		forward_lock(&table->lock, &mask);
		found = take_out(start, end, &what, &raw);
		forward_unlock(&table->lock, &mask);
		if (!found)
			return;
		forward_agent_unmap(&what);
		let_go(raw);
	} while (found);
}

int64_t forward_window_protect(uint64_t start, uint64_t end, uint64_t prot)
{
	int64_t rc = 0;
	uint64_t mask;

	if (!forward_window_touches(start, end))
		return 0;
	forward_lock(&table->lock, &mask);
	for (uint32_t i = 0; i < table->n; i++)
		if (table->piece[i].start && table->piece[i].start < end && table->piece[i].end > start && prot & ~(uint64_t)table->piece[i].prot)
			rc = -EACCES;
	forward_unlock(&table->lock, &mask);
	return rc;
}

int64_t forward_window_sync(uint64_t start, uint64_t end, uint64_t flags)
{
	int32_t raws[16];
	uint32_t n = 0;
	int64_t rc = 0;
	uint64_t mask;

	if (flags & ~(uint64_t)(MS_ASYNC | MS_INVALIDATE | MS_SYNC) || (flags & MS_ASYNC && flags & MS_SYNC) || start % FORWARD_PAGE)
		return -EINVAL;
	if (!(flags & MS_SYNC))
		return 0;
	forward_lock(&table->lock, &mask);
	for (uint32_t i = 0; i < table->n && n < sizeof(raws) / sizeof(*raws); i++) {
		const struct piece *p = &table->piece[i];

		if (p->start && p->start < end && p->end > start && p->raw >= 0 && (!n || raws[n - 1] != p->raw))
			raws[n++] = p->raw;
	}
	forward_unlock(&table->lock, &mask);
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = forward_quick(__NR_fdatasync, (uint64_t)raws[i], 0, 0, 0);
	return rc;
}
