/* mm.h - the allocator the student writes */
#include <stddef.h>
void *mm_malloc(size_t bytes);
void mm_free(void *p);
