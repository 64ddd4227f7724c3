/* memory.c - mappings of the host's files, and what the mirror is told of the program's mappings
 *
 * Theory of operation
 *
 * A private mapping of a file of the host becomes anonymous memory into which the shadow reads the file.  A shared one is the
 * file's own pages, by way of the VM's window: window.c.  Where there is no window, one that is only read becomes a copy that does not
 * see later changes (a line in the trace), and one that may be written is ENODEV, as on a file system that has no such mappings.
 *
 * The mirror: pages that go are dropped before they go, and refreshed when it is done (runtime/guest/local.h).  New mappings are
 * only noted.  They are announced before the next call to the host that may touch them: one with an argument that points there,
 * or with pointers in memory.  Most programs map and unmap far more often than that.  Until the first call to the host
 * nothing is told at all, as the host has seen nothing but the slots.
 */
#include <errno.h>
#include <linux/mman.h>
#include <sys/resource.h>

#include "runtime/guest/forward/window.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#define FRESH_MAX 16u
#define STACK_AHEAD (UINT64_C(256) << 10)
#define STACK_MAX (UINT64_C(64) << 20)
#define USER_END (UINT64_C(1) << 47)

static struct {
	uint64_t start, end;
} fresh[FRESH_MAX];
static uint32_t nfresh; /* FRESH_MAX and more: everything is new */
static uint32_t lock; /* of these; across an exchange with dsagent at the longest: nobody who waits for it is needed to end that */
static uint32_t used;		    /* the host has had a call */
static uint64_t stack_low, stack_top, heap_end;

static uint64_t whole(uint64_t bytes)
{
	return (bytes + FORWARD_PAGE - 1) & ~(FORWARD_PAGE - 1);
}

static bool telling(void)
{
	return __atomic_load_n(&used, __ATOMIC_RELAXED) && forward_agent_active();
}

static void note_fresh(uint64_t start, uint64_t end)
{
	uint64_t mask;

	if (!telling() || start >= end)
		return;
	forward_lock(&lock, &mask);
	if (nfresh < FRESH_MAX) {
		fresh[nfresh].start = start;
		fresh[nfresh].end = end;
	}
	__atomic_store_n(&nfresh, nfresh + 1, __ATOMIC_RELAXED);
	forward_unlock(&lock, &mask);
}

void forward_memory_start(void)
{
	struct rlimit limit = {0, 0};

	stack_top = (uint64_t)__builtin_frame_address(0);
	raw4(__NR_prlimit64, 0, RLIMIT_STACK, 0, &limit);
	if (limit.rlim_cur >= 4 * STACK_AHEAD) {
		stack_top -= STACK_AHEAD;
		(void)*(volatile const char *)stack_top; /* the stack grows to here now, so that the first look at it suffices */
	}
	stack_low = stack_top & ~(FORWARD_PAGE - 1);
}

void forward_memory_begin(void)
{
	heap_end = (uint64_t)raw1(__NR_brk, 0);
	nfresh = used = lock = 0;
}

static bool points_to_fresh(const uint64_t arg[6])
{
	for (uint32_t f = 0; f < nfresh && f < FRESH_MAX; f++)
		for (int i = 0; i < 6; i++) {
			const uint64_t bytes = i < 5 && arg[i + 1] < USER_END ? arg[i + 1] : 1;

			if (arg[i] < fresh[f].end && arg[i] + bytes > fresh[f].start && arg[i] >= FORWARD_PAGE)
				return true;
		}
	return false;
}

/* Under the lock: what is new, as one or two ranges or as everything. */
static void announce(bool everything)
{
	uint64_t r[4] = {0, 0, 0, 0};

	everything |= nfresh > 2;
	for (uint32_t i = 0; i < 2 && i < nfresh; i++) {
		r[2 * i] = fresh[i].start;
		r[2 * i + 1] = fresh[i].end;
	}
	__atomic_store_n(&nfresh, 0, __ATOMIC_RELAXED);
	if (everything || r[0] < r[1])
		forward_agent_change(false, everything ? NULL : r);
}

void forward_memory_ready(uint64_t nr, const uint64_t arg[6], bool nested)
{
	const uint64_t here = (uint64_t)__builtin_frame_address(0);
	bool first, deeper;
	uint64_t mask;

	(void)nr;
	if (!forward_agent_active())
		return;
	first = !__atomic_load_n(&used, __ATOMIC_RELAXED);
	deeper = here < stack_low && stack_low - here < STACK_MAX;
	/* Who finds the lock taken waits: what it announces may be what this call points to. */
	if (!first && !deeper && !__atomic_load_n(&lock, __ATOMIC_ACQUIRE) && !__atomic_load_n(&nfresh, __ATOMIC_ACQUIRE))
		return;
	forward_lock(&lock, &mask);
	first = !__atomic_exchange_n(&used, 1, __ATOMIC_RELAXED);
	if (deeper && here < stack_low) {
		stack_low = here & ~(FORWARD_PAGE - 1);
		if (nfresh < FRESH_MAX) {
			fresh[nfresh].start = stack_low;
			fresh[nfresh].end = stack_low + FORWARD_PAGE;
		}
		nfresh++;
	}
	if (first || deeper || nfresh >= FRESH_MAX || (nfresh && nested) || points_to_fresh(arg))
		announce(first);
	forward_unlock(&lock, &mask);
}

bool forward_memory_again(int64_t result, uint32_t *tries)
{
	uint64_t mask;

	if (result != -EFAULT || (*tries)++ || !forward_agent_active())
		return false;
	forward_lock(&lock, &mask);
	announce(true);
	forward_unlock(&lock, &mask);
	return true;
}

/* --- changes ---------------------------------------------------------------------------------------------------------------------- */

static bool range(uint64_t *r, uint64_t addr, uint64_t bytes)
{
	if (addr % FORWARD_PAGE || !bytes || bytes > USER_END || addr >= USER_END || addr + bytes > USER_END)
		return false;
	r[0] = addr;
	r[1] = addr + whole(bytes);
	return true;
}

/* Drops, does it, refreshes.  @r: two ranges, empty ones included. */
static int64_t around(const struct intercept_call *call, const uint64_t r[4])
{
	const bool told = (r[0] < r[1] || r[2] < r[3]) && telling() && !forward_agent_change(true, r);
	struct intercept_call copy = *call;
	const int64_t result = forward_local(&copy);

	if (told)
		forward_agent_change(false, r);
	return result;
}

static int64_t do_mremap(const struct intercept_call *call)
{
	const uint64_t old = call->arg[0], old_bytes = whole(call->arg[1]), new_bytes = whole(call->arg[2]), flags = call->arg[3];
	uint64_t r[4] = {0, 0, 0, 0};
	int64_t result;

	if (forward_window_touches(old, old + (old_bytes ? old_bytes : FORWARD_PAGE)))
		return forward_window_remap(call);
	if (flags & MREMAP_MAYMOVE)
		range(r, old, old_bytes > new_bytes ? old_bytes : new_bytes);
	else if (new_bytes < old_bytes)
		range(r, old + new_bytes, old_bytes - new_bytes);
	if (flags & MREMAP_FIXED)
		range(r + 2, call->arg[4], new_bytes);
	result = around(call, r);
	if (result >= 0) {
		forward_window_gone(r[2], r[3]);
		note_fresh((uint64_t)result, (uint64_t)result + new_bytes);
	}
	return result;
}

static int64_t do_brk(const struct intercept_call *call)
{
	const uint64_t to = whole(call->arg[0]), before = whole(heap_end);
	uint64_t r[4] = {0, 0, 0, 0};
	int64_t result;

	if (to && to < before)
		range(r, to, before - to);
	result = around(call, r);
	heap_end = (uint64_t)result;
	note_fresh(before, whole(heap_end));
	return result;
}

static int64_t do_mmap(const struct intercept_call *call)
{
	uint64_t r[4] = {0, 0, 0, 0};
	int64_t result;

	if (call->arg[3] & MAP_FIXED)
		range(r, call->arg[0], call->arg[1]);
	result = around(call, r);
	if (result >= 0) {
		forward_window_gone((uint64_t)result, (uint64_t)result + whole(call->arg[1]));
		note_fresh((uint64_t)result, (uint64_t)result + whole(call->arg[1]));
	}
	return result;
}

int64_t forward_memory_room(const struct intercept_call *call)
{
	uint64_t r[4] = {0, 0, 0, 0};
	int64_t result;

	if (call->arg[3] & MAP_FIXED)
		range(r, call->arg[0], call->arg[1]);
	result = around(call, r);
	if (result >= 0)
		forward_window_gone((uint64_t)result, (uint64_t)result + call->arg[1]);
	return result;
}

/* --- files of the host -------------------------------------------------------------------------------------------------------------- */

static int64_t read_all(uint64_t fd, uint64_t to, uint64_t bytes, uint64_t offset)
{
	static const struct forward_rule plain = {.kind = FORWARD_FD};
	struct intercept_call call = {.nr = __NR_pread64, .arg = {fd, to, bytes, offset}};

	while (call.arg[2]) {
		const int64_t got = forward_call(&call, &plain);

		if (got == -EINTR)
			continue;
		if (got <= 0)
			return got;
		call.arg[1] += (uint64_t)got;
		call.arg[2] -= (uint64_t)got;
		call.arg[3] += (uint64_t)got;
	}
	return 0;
}

static int64_t map_host(const struct intercept_call *call)
{
	const uint64_t bytes = call->arg[1], prot = call->arg[2], flags = call->arg[3], kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_NORESERVE;
	struct intercept_call anonymous = {.nr = __NR_mmap, .arg = {call->arg[0], bytes, PROT_READ | PROT_WRITE,
								     (flags & kept) | MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0}};
	char *scratch = NULL;
	int64_t at, rc;

	if (!bytes || call->arg[5] % FORWARD_PAGE)
		return -EINVAL;
	if ((flags & MAP_TYPE) != MAP_PRIVATE) {
		rc = forward_window_map(call);
		if (rc != -ENODEV && rc != -EPERM)
			return rc;
		if (prot & PROT_WRITE) {
			forward_trace_note("mmap", "there is no window to map this file of the host shared and writable (see dsagent(8), dshost(8))");
			return rc;
		}
		forward_trace_note("mmap", "a shared mapping of a file of the host is a copy: it does not see later changes");
	}
	rc = forward_quick(__NR_pread64, call->arg[4], (uint64_t)&scratch, 0, 0); /* whether it can be read at all */
	if (rc < 0)
		return rc == -EBADF ? -EACCES : -ENODEV;
	at = do_mmap(&anonymous);
	if (at < 0)
		return at;
	rc = read_all(call->arg[4], (uint64_t)at, bytes, call->arg[5]);
	if (rc < 0) {
		raw2(__NR_munmap, at, bytes);
		return rc == -EISDIR || rc == -ESPIPE ? -ENODEV : rc;
	}
	if (prot != (PROT_READ | PROT_WRITE))
		raw3(__NR_mprotect, at, bytes, prot);
	return at;
}

bool forward_memory_call(struct intercept_call *call, const struct forward_rule *rule, int64_t *result)
{
	uint64_t r[4] = {0, 0, 0, 0};

	(void)rule;
	if (call->nr == __NR_mmap && !(call->arg[3] & MAP_ANONYMOUS) && forward_fd_host(call->arg[4])) {
		*result = map_host(call);
		return true;
	}
	if (!telling() && !forward_window_any()) {
		if (call->nr == __NR_brk) {
			*result = raw1(__NR_brk, call->arg[0]);
			heap_end = (uint64_t)*result;
			return true;
		}
		return false;
	}
	switch (call->nr) {
	case __NR_mmap: *result = do_mmap(call); return true;
	case __NR_mremap: *result = do_mremap(call); return true;
	case __NR_brk: *result = do_brk(call); return true;
	case __NR_munmap:
		if (range(r, call->arg[0], call->arg[1]) && forward_window_holds(r[0], r[1]))
			*result = raw2(__NR_munmap, call->arg[0], call->arg[1]); /* there are no frames of the guest's */
		else
			*result = around(call, r);
		if (!*result)
			forward_window_gone(r[0], r[1]);
		return true;
	case __NR_mprotect:
		if (range(r, call->arg[0], call->arg[1]) && forward_window_touches(r[0], r[1])) {
			*result = forward_window_protect(call);
			return true;
		}
		*result = around(call, (const uint64_t[4]){0});
		if (!*result && call->arg[2] && r[0] < r[1])
			note_fresh(r[0], r[1]);
		return true;
	case __NR_msync:
		if (!range(r, call->arg[0], call->arg[1]) || !forward_window_touches(r[0], r[1]))
			return false;
		*result = forward_window_sync(r[0], r[1], call->arg[2]);
		return true;
	default: /* madvise */
		if (call->arg[2] == MADV_DONTNEED && range(r, call->arg[0], call->arg[1]) && forward_window_touches(r[0], r[1])) {
			*result = 0;
			return true;
		}
		r[0] = r[1] = 0;
		if (call->arg[2] == MADV_DONTNEED || call->arg[2] == MADV_FREE || call->arg[2] == MADV_REMOVE || call->arg[2] == MADV_DONTNEED_LOCKED)
			range(r, call->arg[0], call->arg[1]);
		*result = around(call, r);
		return true;
	}
}
