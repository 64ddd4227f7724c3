/* warden_stat.c - what others may see of a shadow; struct warden_stat in warden.h
 *
 * A sequence counter: odd while the writer writes.  A reader copies, and looks whether the counter is even and the same
 * as before its copy.  The copies are made of 64-bit words that are loaded and stored as wholes, so that nothing
 * here is a data race; the fences order them against the counter.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "runtime/host/warden/warden_parts.h"

#define TRIES 1000

_Static_assert(sizeof(struct warden_view) % 8 == 0 && offsetof(struct warden_stat, view) == 8, "a view is whole words");
#define WORDS (sizeof(struct warden_view) / 8)

void warden_stat_write(struct warden_stat *stat, const struct warden_view *view)
{
	uint64_t from[WORDS], *to = (uint64_t *)(void *)&stat->view;
	const uint32_t seq = __atomic_load_n(&stat->seq, __ATOMIC_RELAXED) | 1; /* odd too if a writer died here before */

	memcpy(from, view, sizeof(from));
	__atomic_store_n(&stat->capsule_pid, view->capsule_pid, __ATOMIC_RELAXED);
	__atomic_store_n(&stat->seq, seq, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (size_t i = 0; i < WORDS; i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
	__atomic_store_n(&stat->seq, seq + 1, __ATOMIC_RELEASE);
}

int warden_stat_read(const struct warden_stat *stat, struct warden_view *view)
{
	const uint64_t *from = (const uint64_t *)(const void *)&stat->view;
	uint64_t to[WORDS];

	for (int i = 0; i < TRIES; i++) {
		const uint32_t seq = __atomic_load_n(&stat->seq, __ATOMIC_ACQUIRE);

		if (seq & 1)
			continue;
		for (size_t k = 0; k < WORDS; k++)
			to[k] = __atomic_load_n(&from[k], __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&stat->seq, __ATOMIC_RELAXED) == seq) {
			memcpy(view, to, sizeof(*view));
			return 0;
		}
	}
	memset(view, 0, sizeof(*view));
	view->capsule_pid = __atomic_load_n(&stat->capsule_pid, __ATOMIC_RELAXED);
	return -EAGAIN;
}
