/* poolshm.h - the memory that the parent and its workers share
 *
 * A round is one snapshot.  The parent fills pid[], sets next to 0 and raises `round`; workers sleeping on it wake and
 * take tasks by counting `next` up.  One counter, no queue: a task costs an atomic addition.
 *
 * slot.state says who owns the outcome of the task in hand:
 *
 *	0 --worker takes task t--> t+1 --worker has read it--> 0, and the record is published
 *				   t+1 --parent gives it up--> POOL_CONDEMNED, and the worker is killed
 *
 * Both ways out of t+1 are a compare-and-swap, so exactly one of them happens: a process that is just done is never
 * reported as hung, nor twice, and a worker that has moved on to the next process is not killed for the last one.
 *
 * Records travel through a ring of one writer and one reader.  head counts what was published, tail what was consumed;
 * the record at head is the one being filled.  A worker waits for room before it takes a task, so that no task is held
 * up by a slow reader.
 *
 * Nobody sleeps without having said so (parent_waits, worker_waits) and looked again; both sides use sequentially
 * consistent operations for that, so that one of them sees the other.
 */
#ifndef COLLECTOR_POOLSHM_H
#define COLLECTOR_POOLSHM_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "collector/record.h"

#define POOL_RING 64		     /* records a worker may be ahead */
#define POOL_MAX_JOBS 64
#define POOL_MAX_TASKS (1u << 22)    /* PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h) */
#define POOL_CONDEMNED UINT32_MAX

struct pool_slot {
	_Alignas(64) atomic_uint_least64_t progress;
	_Alignas(64) _Atomic(uint32_t) state;
	_Atomic(uint32_t) head;
	_Atomic(uint32_t) done_round; /* last round in which this worker found no more tasks */
	_Alignas(64) _Atomic(uint32_t) tail;
	_Atomic(uint32_t) worker_waits;
	struct record ring[POOL_RING];
};

struct pool_shm {
	_Alignas(64) _Atomic(uint32_t) next;
	_Alignas(64) _Atomic(uint32_t) round;
	_Atomic(uint32_t) parent_waits;
	uint32_t ntasks;      /* written between rounds only, like pid[] */
	uint32_t room;	      /* records a worker may be ahead, 1 to POOL_RING */
	int wake_fd;	      /* eventfd that the parent polls */
	struct pool_slot slot[POOL_MAX_JOBS];
	pid_t pid[POOL_MAX_TASKS]; /* negative: leave that process alone; untouched pages cost nothing */
};

/** pool_futex_wait() - Sleep while *@word is @value; may come back early (futex(2)). */
static inline void pool_futex_wait(_Atomic(uint32_t) *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

/** pool_futex_wake() - Wake all who sleep on @word; change it first. */
static inline void pool_futex_wake(_Atomic(uint32_t) *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

#endif
