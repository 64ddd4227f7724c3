/* translate.h - what the two ends of translate.sh agree on */
#ifndef TESTS_VM_TRANSLATE_H
#define TESTS_VM_TRANSLATE_H

#include <stdint.h>

#include "rle/addr.h"

#define TRANSLATE_PAGES 64u
#define TRANSLATE_WORDS (DS_PAGE_BYTES / 8) /* a page */
#define TRANSLATE_MAP_BYTES (1u << 20)

/* Word @i of the pattern: different for every place and every run (splitmix64). */
static inline uint64_t translate_word(uint64_t seed, uint64_t i)
{
	uint64_t z = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

#endif
