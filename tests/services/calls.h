/* calls.h - what tests say to the service in calls.c */
#ifndef TESTS_SERVICES_CALLS_H
#define TESTS_SERVICES_CALLS_H

#include <stdint.h>

enum calls_op {
	CALLS_SYSCALL,	/* make a system call: nr, args; answer: result */
	CALLS_BUFFER,	/* the same, but args[which] becomes the address of a block of 4 KiB in the capsule's heap, filled
			 * with `pattern` bytes first; answer: result and the first 64 bytes of it afterwards */
	CALLS_LOAD,	/* answer: the 64-bit word at guest address args[0], by a plain pointer */
	CALLS_STORE,	/* store args[1] at guest address args[0], by a plain pointer */
	CALLS_SPIN,	/* do args[0] steps without a call, each with the checks of CALLS_CHECK */
	CALLS_CHECK,	/* look at everything that a move must keep; answer: 0, or which check failed */
	CALLS_ALLOC,	/* allocate args[0] bytes, fill and check them, keep them; answer: 0 or -1 */
	CALLS_HANG,	/* never return from a step */
	CALLS_FETCH,	/* answer: what shadow_fetch() of the word at guest address args[0] says; bytes: the word */
	CALLS_PUT,	/* answer: what shadow_store() of args[1] at guest address args[0] says */
	CALLS_TOUCH,	/* read the first words of args[1] pages from guest address args[0] on, args[2] pages apart; answer: their
			 * XOR; bytes: how many nanoseconds it took */
	CALLS_COVERED,	/* answer: what shadow_covered(args[0], args[1]) says */
};

struct calls_request {
	uint32_t op;
	uint32_t which;
	int64_t nr;
	uint64_t args[6];
	uint64_t pattern;
};

struct calls_answer {
	int64_t result;
	uint64_t updates;
	uint8_t bytes[64];
};

#endif
