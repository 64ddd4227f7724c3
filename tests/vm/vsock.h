/* vsock.h - what the two ends of vsock.sh agree on: ports of the host and what is behind them, the window's layout */
#ifndef TESTS_VM_VSOCK_H
#define TESTS_VM_VSOCK_H

#include <stdint.h>

#define VSOCK_T_AGENT 871u   /* echoes, for guest ports below 1024 only */
#define VSOCK_T_ECHO 2000u   /* echoes until the guest ends its direction, then ends its own */
#define VSOCK_T_DEAF 2001u   /* reads nothing for VSOCK_T_DEAF_S, then all, and answers with how much that was */
#define VSOCK_T_SUM 2002u    /* reads to the end, then answers with number and sum */
#define VSOCK_T_SOURCE 2003u /* sends VSOCK_T_SOURCE_BYTES, ends its direction, answers with number and sum of what comes */
#define VSOCK_T_BRIEF 2004u  /* sends a byte and is gone */
#define VSOCK_T_LIFE 2005u   /* tells struct vsock_t_life, takes a number of checks */
#define VSOCK_T_NOBODY 3000u /* refused */

#define VSOCK_T_DEAF_S 3
#define VSOCK_T_BULK_BYTES (20u << 20)
#define VSOCK_T_SOURCE_BYTES (1u << 20)
#define VSOCK_T_MANY 200u

#define VSOCK_T_WINDOW_BYTES (1u << 20)
#define VSOCK_T_BELLS 4u /* doorbell d rung: the host adds one to word d of the window, and raises vector 0 */
#define VSOCK_T_MARK_WORD 100 /* the guest's word in the window, answered by its complement in the next word */

/** struct vsock_t_life - How often the guest was booted before, and how many checks it has reported so far. */
struct vsock_t_life {
	uint32_t boots, checks;
};

/** struct vsock_t_sum - Bytes, and their sum, each by its place. */
struct vsock_t_sum {
	uint64_t bytes, sum;
};

static inline void vsock_t_add(struct vsock_t_sum *s, const uint8_t *data, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes; i++)
		s->sum = s->sum * 31 + data[i];
	s->bytes += bytes;
}

/* Byte @i of the pattern. */
static inline uint8_t vsock_t_byte(uint64_t i)
{
	return (uint8_t)(i * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

#endif
