/* devmem.h - what the three ends of devmem.sh agree on */
#ifndef TESTS_VM_DEVMEM_H
#define TESTS_VM_DEVMEM_H

#include <stdint.h>

#include "tests/vm/translate.h"

#define DEVMEM_PAGES 64u      /* of the pattern */
#define DEVMEM_NODES 500u     /* of the linked list */
#define DEVMEM_TURNS 20u      /* of the dialogue */
#define DEVMEM_DONE UINT64_MAX /* said last */

/** struct devmem_talk - A page in which the process and its mirror talk; the mirror stores @say, the process @reply. */
struct devmem_talk {
	volatile uint64_t say, reply;
	volatile uint64_t seen; /* how many replies were given */
};

/** struct devmem_node - Of a list that is followed by its pointers. */
struct devmem_node {
	struct devmem_node *next;
	uint64_t value;
	uint64_t pad[30];
};

/** struct devmem_told - Addresses in the process, told to the other VM. */
struct devmem_told {
	uint64_t pattern, talk, list, scratch; /* bytes; scratch: a page that nobody uses */
	uint64_t seed;
	uint64_t scratch_frame; /* of the machine that mirrors; told by who has both monitors */
};

/* The card's memory, in 32-bit words; tests/vm/guest/devmem has these numbers, too. */
#define CARD_SAY 0u
#define CARD_REPLY 1u
#define CARD_CHILD 2u
#define CARD_LAST 3u
#define CARD_PATTERN (6u * 1024u) /* of two pages: the first word of each */
#define CARD_ANSWER(n) ((n) * 3u + 1u)

#define DEVMEM_TOLD_FORMAT "TOLD %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n"
#define DEVMEM_TOLD_SCAN "TOLD %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64

#endif
