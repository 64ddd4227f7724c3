/* mtree.h - the VM's memory as QEMU's monitor tells it: `info mtree -f` and query-memdev
 *
 * Theory of operation
 *
 * `info mtree -f` prints flat views: address spaces after overlaps, priorities and aliases have been worked out.  The one
 * that matters is the view of the address space "memory" (what DMA sees; the CPUs share it, SMM apart):
 *
 *   FlatView #0
 *    AS "memory", root: system
 *    AS "cpu-memory-0", root: system
 *    Root memory region: system
 *     0000000000000000-00000000000bffff (prio 0, ram): mem0
 *     00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
 *     0000000100000000-000000017fffffff (prio 0, ram): mem0 @00000000c0000000
 *
 * A line holds the first and last address, the kind of memory, the name of the memory region and, unless it is 0, the
 * offset in it; with an accelerator that keeps a view of its own its name follows (" kvm").  Older machine types call the
 * region of a memory backend by its path, "/objects/mem0".
 *
 * A region is RAM that a shadow may map when query-memdev names it as a memory backend with share=on.  The guest's
 * firmware makes parts of it read-only (the PAM ranges below 1 MiB, "rom"): that is the same memory.  All other regions
 * are left out, so what is missing from the table is refused later.  A private main memory (share=off, and the memory
 * that QEMU makes without a backend) is refused here, since its descriptor would show other pages than the guest's.
 *
 * The format is the same in QEMU 7.2 and 10.0 (softmmu/memory.c and system/memory.c, mtree_print_flatview()).  It is text for
 * people: a line of a backend that cannot be understood in full is an error, never skipped.  The text comes from the
 * VMM, not from the guest; the parser is bounded all the same.
 */
#ifndef HOST_MTREE_H
#define HOST_MTREE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/host/vm/ramtable.h"

#define MTREE_MEMDEVS_MAX RAMTABLE_FILES_MAX

struct qmp;

/** struct mtree_memdev - A memory backend, from query-memdev. */
struct mtree_memdev {
	char id[RAMTABLE_NAME_BYTES]; /* terminated */
	uint64_t bytes;
	bool share;
};

/**
 * mtree_parse() - Makes a finished table of `info mtree -f`
 * @text: need not be terminated
 * @text_bytes: its length
 * @memdev: all backends of the VM
 * @nmemdevs: how many
 * @t: filled; of no use after an error
 * @err: filled on an error; index is the line in @text, from 1 on, or RAMTABLE_NO_INDEX; may be NULL
 *
 * Return: 0; -EBADMSG (a line cannot be understood, or there is no view of "memory"); -EOPNOTSUPP (the main memory is
 * not shared); and what ramtable_add_file(), ramtable_add() and ramtable_finish() return.
 */
int mtree_parse(const char *text, size_t text_bytes, const struct mtree_memdev *memdev, size_t nmemdevs, struct ramtable *t,
		struct ramtable_err *err);

/**
 * mtree_read() - Asks a VM for its table
 * @q: connected
 * @t: filled; of no use after an error
 * @err: as in mtree_parse()
 *
 * Blocks for as long as QEMU takes to answer, as qmp_command() does.
 *
 * Return: as mtree_parse() and qmp_command(); -E2BIG (more backends than MTREE_MEMDEVS_MAX).
 */
int mtree_read(struct qmp *q, struct ramtable *t, struct ramtable_err *err);

#endif
