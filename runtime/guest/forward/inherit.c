/* inherit.c - what a forked child has of files of the host that its parent has mapped shared
 *
 * Theory of operation
 *
 * The child has the mappings themselves, by the guest's kernel, and this table; and with the descriptors that it inherits, a lease of the
 * pages (runtime/wire/window.h).  Without one it loses the mappings, since the pages may be somebody else's at any time.
 *
 * As long as it has no shadow it can do with them what it likes but make them larger; what it gives up is taken out of the table, and
 * the lease keeps the pages until it ends.  When it gets a shadow, the shadow takes over what is in the table.
 *
 * Whoever maps more holds `changes`, and so does who makes a child, from before the lease until the child is there: then what the child
 * has mapped is what the lease has.
 */
#include <errno.h>
#include <linux/mman.h>

#include "runtime/guest/forward/window.h"

static uint64_t whole(uint64_t bytes)
{
	return (bytes + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1);
}

void forward_window_fork(void)
{
	uint64_t mask; /* signals are blocked already */

	forward_agent_settle(); /* what was unmapped is not lent */
	forward_lock(&forward_window.changes, &mask);
	forward_lock(&forward_window.lock, &mask);
}

void forward_window_forked(void)
{
	__atomic_store_n(&forward_window.lock, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&forward_window.changes, 0, __ATOMIC_RELEASE);
}

static void lose(struct forward_piece *p)
{
	if (p->start)
		raw2(__NR_munmap, p->start, p->end - p->start);
	p->start = 0;
}

void forward_window_born(bool leased)
{
	forward_window.lock = forward_window.changes = 0; /* a thread that is not here may have had them */
	forward_window.has_fd = 0;			  /* closed with the parent's other descriptors (forward_pool_close()) */
	for (uint32_t i = 0; i < forward_window.n && !leased; i++)
		lose(&forward_window.piece[i]);
}

/* The shadow takes one over.  Return: whether it has. */
static bool take_over(const struct forward_piece *p)
{
	const struct ds_window_map want = {
		.vpn = p->start / FORWARD_PAGE, .npages = (p->end - p->start) / FORWARD_PAGE, .what = DS_WINDOW_INHERITED};
	struct ds_window_mapped got = {0};
	int32_t fd = 0; /* none is asked for */

	return !forward_agent_map(&want, &fd, &got) && !got.err;
}

void forward_window_claimed(bool came)
{
	const struct ds_window_map settled = {.npages = 1, .what = DS_WINDOW_SETTLED};
	struct ds_window_mapped got = {0};
	uint64_t mask;
	int32_t fd = 0;

	forward_lock(&forward_window.changes, &mask);
	for (uint32_t i = 0; i < forward_window.n; i++)
		if (forward_window.piece[i].start && !(came && take_over(&forward_window.piece[i])))
			lose(&forward_window.piece[i]);
	if (came)
		forward_agent_map(&settled, &fd, &got);
	forward_unlock(&forward_window.changes, &mask);
}

/* Which of its mappings the call would take away, or change. */
static void range_of(const struct intercept_call *call, uint64_t *start, uint64_t *end)
{
	*start = call->arg[0];
	*end = call->arg[0] + whole(call->arg[1]);
	if (call->nr == __NR_mmap && !(call->arg[3] & MAP_FIXED))
		*end = *start;
	if (call->nr == __NR_mremap && call->arg[3] & MREMAP_FIXED && !forward_window_touches(*start, *end)) {
		*start = call->arg[4];
		*end = call->arg[4] + whole(call->arg[2]);
	}
}

enum forward_child forward_window_child_call(struct intercept_call *call, int64_t *result)
{
	enum forward_child done = FORWARD_C_DONE;
	uint64_t start, end, mask;

	if (!forward_window_any() || call->nr == __NR_brk)
		return FORWARD_C_LOCAL;
	range_of(call, &start, &end);
	if (start % FORWARD_PAGE || start >= end || !forward_window_touches(start, end))
		return FORWARD_C_LOCAL;
	forward_lock(&forward_window.changes, &mask);
	if (__atomic_load_n(&forward_live->state, __ATOMIC_ACQUIRE) != FORWARD_L_CHILD)
		done = FORWARD_C_NEEDS; /* another thread has got the shadow meanwhile */
	else if (call->nr == __NR_munmap || call->nr == __NR_mmap) {
		*result = forward_local(call);
		if (call->nr == __NR_mmap ? *result == (int64_t)start : !*result)
			forward_window_forget(start, end);
	} else if (call->nr == __NR_mprotect) {
		*result = forward_window_protect(call);
	} else if (call->nr == __NR_madvise) {
		*result = call->arg[2] == MADV_DONTNEED ? 0 : forward_local(call);
	} else {
		done = FORWARD_C_NEEDS;
	}
	forward_unlock(&forward_window.changes, &mask);
	return done;
}
