/* pagemap.h - the page table of one mapping, into an encoder; strategy in proc.h */
#ifndef RLE_PAGEMAP_H
#define RLE_PAGEMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "rle/enc.h"
#include "rle/vma.h"

#define RLE_PAGEMAP_BUF_PAGES 8192 /* words a read: 64 KiB; larger reads are not faster */

/** struct rle_pagemap - An open pagemap and how to read it. */
struct rle_pagemap {
	int fd;
	bool *scan;		    /* PAGEMAP_SCAN works; cleared when the kernel lacks it */
	bool scanned;		    /* an answer of PAGEMAP_SCAN was used: check with rle_pagemap_alive() at the end */
	uint64_t *buf;		    /* RLE_PAGEMAP_BUF_PAGES words */
	atomic_uint_least64_t *progress; /* may be NULL */
};

/**
 * rle_pagemap_vma() - Feed one mapping
 * @pm: open pagemap
 * @vma: which; rle_enc_vma() is called here
 * @e: the encoder
 *
 * Return: 0; -ESRCH the process is gone; -errno.
 */
int rle_pagemap_vma(struct rle_pagemap *pm, const struct rle_vma *vma, struct rle_enc *e);

/**
 * rle_pagemap_next() - Where the next page is that is present or swapped out
 * @fd: open pagemap
 * @from: first page looked at
 * @end: page behind the last one
 * @found: set to its number
 *
 * Return: 1; 0: there is none; -ENOTTY: the kernel cannot tell (before 6.7); -errno.
 */
int rle_pagemap_next(int fd, ds_vpn from, ds_vpn end, ds_vpn *found);

/**
 * rle_pagemap_alive() - Whether the mm behind the descriptor still had its pages
 * @pm: open pagemap
 * @vpn: a page inside a mapping
 *
 * PAGEMAP_SCAN on a dead mm finds nothing and calls that success; a read gives zero bytes.
 * Return: 0, -ESRCH, -errno.
 */
int rle_pagemap_alive(struct rle_pagemap *pm, ds_vpn vpn);

#endif
