/* remap.c - mremap() of files of the host that are mapped shared
 *
 * The guest's kernel would move or lengthen a mapping of the VM's window, whose pages behind those that were given out are somebody else's.
 * So what is to be there is mapped anew, of the file that is mapped already (DS_WINDOW_LIKE), and what is not to be there any more is
 * unmapped.  Where it grows at its place, the old pages stay as they are.
 *
 * As in mremap(2): a range has to be of one mapping (EFAULT); an old length of 0 makes a second mapping; MREMAP_FIXED replaces what
 * is at the new address; MREMAP_DONTUNMAP is EINVAL, as before Linux 5.13.  A mapping that grows is one mapping with what
 * it was before.
 */
#include <errno.h>
#include <linux/mman.h>

#include "runtime/guest/forward/window.h"

/* Over room at @at that is there.  Return: 0, -errno. */
static int64_t map_like(uint64_t at, uint64_t bytes, const struct forward_piece *piece, uint64_t like, uint64_t offset)
{
	const struct ds_window_map want = {
		.vpn = at / FORWARD_PAGE, .npages = bytes / FORWARD_PAGE, .offset = offset, .like = like / FORWARD_PAGE, .what = DS_WINDOW_LIKE};
	uint64_t mask;
	int64_t rc;

	forward_lock(&forward_window.changes, &mask);
	rc = forward_window_into(&want, piece->now);
	forward_unlock(&forward_window.changes, &mask);
	if (rc)
		raw2(__NR_munmap, at, bytes);
	return rc;
}

/* Return: @old, -errno; -ENOMEM: there is no room behind it. */
static int64_t grow(uint64_t old, uint64_t old_bytes, uint64_t new_bytes, const struct forward_piece *piece)
{
	const uint64_t end = old + old_bytes, more = new_bytes - old_bytes;
	const int64_t room = raw6(__NR_mmap, end, more, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	int64_t rc;

	if (room != (int64_t)end) {
		if (room >= 0) /* before Linux 4.17 the address is a wish */
			raw2(__NR_munmap, room, more);
		return -ENOMEM;
	}
	rc = map_like(end, more, piece, old, old_bytes);
	if (rc)
		return rc;
	forward_window_join(end);
	return (int64_t)old;
}

static int64_t take_away(uint64_t start, uint64_t end)
{
	const int64_t rc = start < end ? raw2(__NR_munmap, start, end - start) : 0;

	if (!rc && start < end)
		forward_window_gone(start, end);
	return rc;
}

/* To another place, of which @to is the address if it is fixed.  Return: the address, -errno. */
static int64_t move(uint64_t old, uint64_t old_bytes, uint64_t new_bytes, uint64_t to, bool fixed, const struct forward_piece *piece)
{
	const struct intercept_call room = {
		.nr = __NR_mmap,
		.arg = {fixed ? to : 0, new_bytes, PROT_NONE, (fixed ? MAP_FIXED : 0) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1, 0}};
	const int64_t at = forward_memory_room(&room);
	const int64_t rc = at < 0 ? at : map_like((uint64_t)at, new_bytes, piece, old, 0);

	if (rc)
		return rc;
	take_away(old, old + old_bytes);
	return at;
}

int64_t forward_window_remap(const struct intercept_call *call)
{
	const uint64_t old = call->arg[0], old_bytes = (call->arg[1] + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1);
	const uint64_t new_bytes = (call->arg[2] + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1), flags = call->arg[3], to = call->arg[4];
	const bool fixed = flags & MREMAP_FIXED;
	struct forward_piece piece;
	int64_t rc;

	if (flags & ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED) || old % FORWARD_PAGE || !new_bytes || (fixed && !(flags & MREMAP_MAYMOVE)) ||
	    (fixed && (to % FORWARD_PAGE || (to < old + old_bytes && to + new_bytes > old))))
		return -EINVAL;
	if (!forward_window_whole(old, old + (old_bytes ? old_bytes : FORWARD_PAGE), &piece))
		return -EFAULT;
	if (!fixed && old_bytes && new_bytes <= old_bytes) {
		rc = take_away(old + new_bytes, old + old_bytes);
		return rc ? rc : (int64_t)old;
	}
	if (!fixed && old_bytes) {
		rc = grow(old, old_bytes, new_bytes, &piece);
		if (rc != -ENOMEM)
			return rc;
	}
	return flags & MREMAP_MAYMOVE ? move(old, old_bytes, new_bytes, to, fixed, &piece) : old_bytes ? -ENOMEM : -EINVAL;
}
