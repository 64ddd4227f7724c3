/* lock.h - waiting for other threads of the program; theory in lock.c */
#ifndef GUEST_FORWARD_LOCK_H
#define GUEST_FORWARD_LOCK_H

#include <stdint.h>

/**
 * forward_yield() - Another thread is waited for
 * @turns: how often already; 0 at first
 *
 * Yields at first, then sleeps, up to 2 ms.  A loop of yields would starve the one that is waited for: under a monitor each
 * is two stops that the same process serves as it serves those of the other thread, and of its host.
 */
void forward_yield(uint32_t *turns);

/** forward_lock() - Takes a lock, with signals blocked.  @mask: set to what was blocked before, for forward_unlock(). */
void forward_lock(uint32_t *lock, uint64_t *mask);

/** forward_unlock() - Gives it back; the signals of @mask are blocked as before. */
void forward_unlock(uint32_t *lock, const uint64_t *mask);

#endif
