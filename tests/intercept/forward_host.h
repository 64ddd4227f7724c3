/* forward_host.h - what is said between a program's host that is a task of this machine, and who keeps estates for it */
#ifndef TESTS_FORWARD_HOST_H
#define TESTS_FORWARD_HOST_H

#include <stdint.h>

#define FORWARD_HOST_ADOPTION UINT32_C(0x54504f44)
#define FORWARD_HOST_ADOPTION_MAX 64

/** struct forward_host_token - A shadow's token, as everybody knows them here. */
struct forward_host_token {
	int32_t host, program; /* processes */
	int32_t zero[2];
};

/** struct forward_host_adoption - In place of a bell's hello; descriptor i that comes along gets number[i].  Answered by a byte. */
struct forward_host_adoption {
	uint32_t magic, n;
	uint16_t number[FORWARD_HOST_ADOPTION_MAX];
};

#endif
