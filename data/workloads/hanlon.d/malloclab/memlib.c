/* memlib.c - see memlib.h */
#include "memlib.h"

#include <stdlib.h>

static char *heap, *heap_end;
static size_t heap_max;

int mem_init(size_t bytes)
{
	heap = malloc(bytes);
	heap_end = heap;
	heap_max = bytes;
	return heap ? 0 : -1;
}

void *mem_sbrk(size_t bytes)
{
	void *old = heap_end;

	if (bytes > heap_max - (size_t)(heap_end - heap))
		return NULL;
	heap_end += bytes;
	return old;
}

size_t mem_used(void)
{
	return heap_end - heap;
}
