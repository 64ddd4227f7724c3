/* cleanup.h - what a variable owns is given back when it goes out of scope (GCC's cleanup attribute) */
#ifndef RLE_CLEANUP_H
#define RLE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_close_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define cleanup_close __attribute__((cleanup(cleanup_close_fn)))

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
