/* cleanup.h - what a variable owns is given back when it goes out of scope (GCC's cleanup attribute) */
#ifndef RLE_CLEANUP_H
#define RLE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

/** cleanup_close_fn() - What cleanup_close does: closes a descriptor, leaves -1 alone. */
static inline void cleanup_close_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define cleanup_close __attribute__((cleanup(cleanup_close_fn)))

/** cleanup_free_fn() - What cleanup_free does: frees what the pointer at @p points to. */
static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}
#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))

/** steal_fd() - Take the descriptor out of a cleanup_close variable: the caller owns it now. */
static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
