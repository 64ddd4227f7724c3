/* vec.h - arrays that grow
 *
 * A growing array is a pointer, a length and a capacity that its owner keeps; vec_reserve() doubles the capacity, so
 * that n appends cost O(n) copies.
 */
#ifndef ANALYSIS_VEC_H
#define ANALYSIS_VEC_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rle/cleanup.h"

/**
 * vec_reserve() - Make room for at least @need elements
 * @array: address of the array's pointer; the array may move
 * @cap: its capacity in elements, updated
 * @need: elements wanted
 * @elem_bytes: size of one
 *
 * Return: 0 or -ENOMEM, with the array as it was.
 */
static inline int vec_reserve(void *array, size_t *cap, size_t need, size_t elem_bytes)
{
	size_t want = *cap ? *cap : 16, bytes;
	void *old, *moved;

	if (need <= *cap)
		return 0;
	while (want < need)
		if (__builtin_mul_overflow(want, (size_t)2, &want))
			return -ENOMEM;
	if (__builtin_mul_overflow(want, elem_bytes, &bytes))
		return -ENOMEM;
	memcpy(&old, array, sizeof(old));
	moved = realloc(old, bytes);
	if (!moved)
		return -ENOMEM;
	memcpy(array, &moved, sizeof(moved));
	*cap = want;
	return 0;
}

#endif
