/* memlib.h - the heap the allocator gets: a fixed arena that grows like brk */
#include <stddef.h>
int mem_init(size_t bytes);
void *mem_sbrk(size_t bytes);
size_t mem_used(void);
