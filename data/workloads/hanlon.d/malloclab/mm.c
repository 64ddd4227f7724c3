/* mm.c - first fit on an explicit free list, without coalescing yet */
#include "mm.h"

#include "memlib.h"

struct block {
	size_t bytes;
	struct block *next;
};

static struct block *free_list;

void *mm_malloc(size_t bytes)
{
	struct block **p, *b;

	bytes = (bytes + 15) & ~(size_t)15;
	for (p = &free_list; *p; p = &(*p)->next)
		if ((*p)->bytes >= bytes) {
			b = *p;
			*p = b->next;
			return b + 1;
		}
	b = mem_sbrk(sizeof *b + bytes);
	if (!b)
		return NULL;
	b->bytes = bytes;
	return b + 1;
}

void mm_free(void *p)
{
	struct block *b = (struct block *)p - 1;

	b->next = free_list;
	free_list = b;
}
