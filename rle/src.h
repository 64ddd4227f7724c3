/* src.h - where processes are read from: this machine's /proc, or a recorded tree
 *
 * Holds what is asked once a machine and not once a process: whether frame numbers can be seen at all, which
 * ioctls the kernel has, where System RAM lies, which frames are the zero pages, the open kpageflags and kpagecount.
 */
#ifndef RLE_SRC_H
#define RLE_SRC_H

#include <stdbool.h>
#include <stdint.h>

#include "rle/enc.h"

/** enum rle_join - How much of kpageflags and kpagecount is read; each entry costs several pagemap entries. */
enum rle_join {
	RLE_JOIN_NONE,
	RLE_JOIN_HEAD, /* for the first page of each run, the rest taken to be like it */
	RLE_JOIN_FULL, /* for every page */
};

struct rle_src {
	int root_fd;	/* O_PATH of /proc or of the recorded tree */
	bool live;	/* /proc of the running kernel */
	bool procmap_query, pagemap_scan; /* start true, cleared when the kernel turns out to lack them */
	bool ksm_merging_pages; /* likewise, a file below /proc/PID */
	enum rle_join join;
	struct rle_frames frames;
	struct rle_extent *ram; /* owned; frames.ram points here */
	ds_pfn own_page;	/* an ordinary anonymous page of ours, at the time of opening */
	void *zero_probe;	/* mapping that keeps the huge zero page alive */
	uint64_t *seen;		/* shared bitmap, see rle_src_count_distinct() */
	/* scratch of rle_proc_scan(), which makes a source good for one scan at a time; after fork() each has its own */
	char *maps_buf;
	uint64_t *pagemap_buf;
};

/**
 * rle_src_open() - Open a source
 * @src: filled in; give back with rle_src_close()
 * @root: NULL for /proc, else the path of a recorded tree laid out like it
 * @join: how much of kpageflags and kpagecount to use
 * @why: on error the reason in words, static
 *
 * For the live /proc an own page is looked up first: without CAP_SYS_ADMIN in the initial user namespace the
 * kernel shows PFN 0 for every page (since 4.2) and no error, which would make every ratio 1.0.
 *
 * Return: 0; -EPERM frame numbers or, with a join, kpageflags cannot be read; -errno of what failed.
 */
int rle_src_open(struct rle_src *src, const char *root, enum rle_join join, const char **why);
void rle_src_close(struct rle_src *src);

/**
 * rle_src_snapshot() - Before each pass over the processes: forget what the join learned and which frames were met
 * @src: the source; no child may be scanning
 */
void rle_src_snapshot(struct rle_src *src);

/**
 * rle_src_count_distinct() - Start counting the different frames met from here on, in memory shared with children
 *
 * Return: 0; -E2BIG if RAM ends above 256 GiB, whose bitmap would be larger than 8 MiB; -ENOMEM.
 */
int rle_src_count_distinct(struct rle_src *src);
/**
 * rle_src_distinct() - Different System RAM frames met since the last rle_src_snapshot()
 *
 * Frames that were mapped exactly once when met are not among them: add rle_counts.exclusive of all processes.
 */
uint64_t rle_src_distinct(const struct rle_src *src);

#endif
