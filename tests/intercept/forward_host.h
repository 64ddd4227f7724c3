/* forward_host.h - what is said between a program's host that is a task of this machine, and who keeps estates for it */
#ifndef TESTS_FORWARD_HOST_H
#define TESTS_FORWARD_HOST_H

#include <stdint.h>

/** struct forward_host_token - A shadow's token, as everybody knows them here. */
struct forward_host_token {
	int32_t host, program; /* processes */
	int32_t zero[2];
};

#endif
