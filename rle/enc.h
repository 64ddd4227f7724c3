/* enc.h - the encoder: pagemap words in, runs out
 *
 * Theory of operation
 *
 * Words arrive in rising order of VPN, VMA by VMA.  The encoder cuts them into stretches: neighbours whose
 * words differ by exactly one, that is the next frame with the same flag bits.  One subtraction a word finds the
 * end of a stretch, so that long runs cost a fraction of a nanosecond a page and everything that has to be looked
 * at (zero page, device memory, kpageflags, histograms) is looked at once a stretch instead of once a page.
 * Stretches that touch both in VPN and in PFN are joined into runs; how many runs each policy of enum rle_split
 * yields is counted for all of them at once, while one of them, chosen at the start, decides which runs are handed on.
 *
 * One pass, constant memory: the state is the last stretch and the open run of one policy.
 *
 * The caller owns the struct; nothing is allocated.  After an error the encoder is of no further use.
 */
#ifndef RLE_ENC_H
#define RLE_ENC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rle/pte.h"
#include "rle/run.h"

/** struct rle_counts - What was seen, in pages unless it says otherwise. */
struct rle_counts {
	uint64_t vmas;	       /* number of VMAs */
	uint64_t mapped;       /* in VMAs */
	uint64_t present;      /* page table entries marked present */
	uint64_t runs[RLE_NSPLIT]; /* number of runs under each policy */
	uint64_t ends[RLE_NEND];   /* why runs of the emitting policy ended; sums to runs[] of it plus ends[RLE_END_LONG] */
	/* not present, each apart */
	uint64_t swapped, migrating, guard, marker;
	/* of present */
	uint64_t hidden;    /* PFN is zero: the kernel does not show it to us (or frame 0, which no process maps) */
	uint64_t zero;	    /* the zero page or the huge zero page */
	uint64_t device;    /* frame outside System RAM */
	uint64_t file;	    /* bit 61 */
	uint64_t exclusive; /* bit 56: mapped exactly once */
	uint64_t hugetlb_mapped; /* in mappings of the huge page pool, as far as these can be told; counted by rle_proc_scan() */
	/* of present, known with a join only */
	uint64_t ksm, thp, hugetlb, multi;
};

/** struct rle_extent - Frames [first, first + npages). */
struct rle_extent {
	ds_pfn first;
	uint64_t npages;
};

struct rle_kpage; /* kpage.h */

#define RLE_SEEN_BLOCK 32768 /* bits in a page of the bitmap */

/** struct rle_frames - What is known of the machine's frames; shared by all encoders of a scan, read-only. */
struct rle_frames {
	const struct rle_extent *ram; /* System RAM, rising; NULL: every frame counts as RAM */
	size_t nram;
	struct rle_extent zero, huge_zero; /* npages 0: unknown */
	struct rle_kpage *kpage;	   /* the join; NULL: none */
	bool join_every_page;		   /* look at every page of a run instead of its head */
	uint64_t *seen;			   /* bitmap of frames met, or NULL: distinct pages over many processes */
	uint64_t seen_pages;		   /* its size in bits */
	uint8_t *seen_touched;		   /* a byte for each RLE_SEEN_BLOCK bits: some may be set */
};

struct rle_enc {
	struct rle_counts n;
	/* what follows is private */
	enum rle_split emit;
	rle_run_fn fn;
	void *ctx;
	const struct rle_frames *frames;
	uint64_t next_vpn, next_pfn; /* what would continue the last stretch */
	uint32_t last_attr;
	uint32_t vma_attr;
	uint64_t vma_end;
	uint64_t at; /* first VPN not yet fed */
	size_t ram_hint;
	struct rle_run open; /* npages 0: none */
	int err;
};

/**
 * rle_enc_init() - Start a process
 * @e: zeroed here
 * @emit: policy of the runs handed to @fn
 * @fn: receives them, may be NULL when only the counts matter
 * @ctx: for @fn
 * @frames: what is known of frames, or NULL; must outlive the encoder
 */
void rle_enc_init(struct rle_enc *e, enum rle_split emit, rle_run_fn fn, void *ctx, const struct rle_frames *frames);

/**
 * rle_enc_vma() - Enter a mapping
 * @e: the encoder
 * @start: its first page; not below the end of the mapping before (clip first: maps may overlap under churn)
 * @end: the page behind its last
 * @prot: RLE_ATTR_PROT bits
 *
 * Return: 0, -EINVAL for a mapping out of order or empty, or what @fn returned.
 */
int rle_enc_vma(struct rle_enc *e, ds_vpn start, ds_vpn end, uint32_t prot);

/**
 * rle_enc_words() - Feed pagemap words of the current mapping
 * @e: the encoder
 * @at: page of the first word; pages skipped since the last call count as absent
 * @pte: the words as read (pte.h)
 * @n: how many
 *
 * Return: 0, -EINVAL for words outside the mapping or out of order, or what @fn returned.
 */
int rle_enc_words(struct rle_enc *e, ds_vpn at, const uint64_t *pte, size_t n);

/**
 * rle_enc_block() - Feed a block that is known to be physically contiguous (a PMD-mapped page) by its first word
 * @e: the encoder
 * @at: its first page
 * @pte: the word of that page, present
 * @npages: its length
 *
 * Return: as rle_enc_words().
 */
int rle_enc_block(struct rle_enc *e, ds_vpn at, uint64_t pte, uint64_t npages);

/**
 * rle_enc_finish() - Hand on the last run and complete the counts
 * @e: the encoder
 *
 * Return: 0, or what @fn or an earlier call returned.
 */
int rle_enc_finish(struct rle_enc *e);

#endif
