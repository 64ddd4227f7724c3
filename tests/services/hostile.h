/* hostile.h - what tests say to the service in hostile.c */
#ifndef TESTS_SERVICES_HOSTILE_H
#define TESTS_SERVICES_HOSTILE_H

#include <stdint.h>

#define HOSTILE_CALLS_MAX 24
#define HOSTILE_BYTES 512
#define HOSTILE_BUFFER UINT64_C(0xb0ff000000000000) /* an argument of this and an offset: the address of the bytes below */

enum hostile_op {
	HOSTILE_CALLS,	/* make the calls, one after the other; answer: their results, and the bytes afterwards */
	HOSTILE_SWEEP,	/* each number from first to first + HOSTILE_CALLS_MAX - 1 that is not in `skip`, with arguments of -1 */
	HOSTILE_PEEK,	/* answer: the word at address args[0] of call 0, or -EFAULT */
	HOSTILE_POKE,	/* store args[1] at args[0]; answer: 0 or -EFAULT */
	HOSTILE_INT80,	/* a system call of i386 */
	HOSTILE_GRAB,	/* map and touch args[0] bytes; answer: bytes touched, -errno of the mmap() that failed */
	HOSTILE_THREADS, /* make threads until it fails; answer: -errno, how many in the second result */
	HOSTILE_SPIN,	/* make call 0, then never return from the step and never make another */
	HOSTILE_FLOOD,	/* make call 0 ncalls times; answer: how many were not refused with EPERM */
};

struct hostile_call {
	int64_t nr;
	uint64_t args[6];
};

struct hostile_request {
	uint32_t op, ncalls;
	uint64_t skip[16]; /* bit n: number n is not tried */
	struct hostile_call call[HOSTILE_CALLS_MAX];
	uint8_t bytes[HOSTILE_BYTES];
};

struct hostile_answer {
	int64_t result[HOSTILE_CALLS_MAX];
	uint8_t bytes[HOSTILE_BYTES];
};

#endif
