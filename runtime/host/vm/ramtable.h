/* ramtable.h - where a VM's memory lies: guest frames to pages of the files that hold them; and the check of guest maps
 *
 * Theory of operation
 *
 * A VM's RAM is a handful of ranges of guest-physical addresses, each a stretch of a shared file.  Two sources tell
 * them: vhost-user's SET_MEM_TABLE (vhostuser.h) and QEMU's monitor (mtree.h).  Both fill a struct ramtable the same way,
 * init, add_file and add in any order, finish, and what finish leaves is canonical:
 *
 *   - ranges rise in guest frames, are not empty, do not overlap, lie in whole pages and within their file;
 *   - neighbours that continue each other in the same file are one range;
 *   - files are numbered in the order in which the ranges first use them, and every file is used by a range;
 *   - a range begins at guest frame 0: every PC has RAM there, and the file behind it is *the RAM file*, number 0.
 *
 * So tables from the two sources can be compared range by range.  A shadow maps one file (runtime/wire/shadow.h), the
 * RAM file; memory of another one, such as a DIMM plugged in later or an ivshmem window, is told apart from
 * addresses that are no memory at all, and refused under its own reason.
 *
 * The RAM may also be physical memory of the host that its kernel was told to leave alone, which a VMM maps from /dev/mem.  Then
 * the file is /dev/mem, its pages are the host's frames, and it has no length: finish makes it end with the last range.  Memory of a
 * device of the host, which a VMM can give a VM in the same way, counts as another file: it is no RAM, and guest maps may not lead there.
 *
 * Two ranges may show the same page of a file: that is an alias within the VM's own memory and harms nobody else.
 *
 * What the table is trusted for: it comes from the VMM, not from the guest.  The guest's map does not: rle_map_open_copy()
 * has made it a valid map, ramtable_translate() makes it one that leads into the RAM file only.  That check rests on
 * rle_map_compose(), which looks up every page of every run, and refuses at the first one that is not there.
 *
 * A table owns nothing: descriptors stay with whoever received them.  Only ramtable_map() and ramtable_translate()
 * allocate.  No function here blocks.
 */
#ifndef HOST_RAMTABLE_H
#define HOST_RAMTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rle/map.h"

#define RAMTABLE_RANGES_MAX 64
#define RAMTABLE_FILES_MAX 16
#define RAMTABLE_NAME_BYTES 64

/** struct ramtable_range - Guest frames [frame, frame + npages) are pages [page, page + npages) of a file. */
struct ramtable_range {
	ds_vpn frame; /* GPA in pages: maps keyed by frames hold GPAs as keys (rle/map.h) */
	ds_pfn page;  /* offset in the file, in pages */
	uint64_t npages;
	uint32_t file; /* index into the table's files */
};

/** struct ramtable_file - A file that holds memory; known by @name (QEMU's monitor) or by @dev and @ino (a descriptor). */
struct ramtable_file {
	char name[RAMTABLE_NAME_BYTES]; /* terminated; empty: not known */
	uint64_t dev, ino;		/* 0: not known */
	uint64_t npages;		/* its length */
	bool physical;			/* /dev/mem: its pages are frames of the host */
	bool device;			/* and these are a device's, by whoever added it (devmem.h) */
};

/** struct ramtable - A VM's memory; canonical after ramtable_finish(), of no use before. */
struct ramtable {
	struct ramtable_range range[RAMTABLE_RANGES_MAX];
	struct ramtable_file file[RAMTABLE_FILES_MAX];
	uint32_t nranges, nfiles;
	bool finished; /* and nothing added since */
};

#define RAMTABLE_NO_INDEX UINT64_MAX

/** struct ramtable_err - Why a table or a guest's map was refused. */
struct ramtable_err {
	const char *why; /* static text */
	uint64_t index;	 /* of the range as added, or of the run in the guest's map; RAMTABLE_NO_INDEX: of neither */
	uint64_t value;	 /* the GPA it is about, in bytes; 0 where there is none */
};

/** ramtable_init() - Makes a table empty, to be filled. */
void ramtable_init(struct ramtable *t);

/**
 * ramtable_check_fd() - Looks at a descriptor that is to hold a VM's memory, and at what it is
 * @fd: received from a VMM or opened; not kept
 * @file: filled: identity and length; the name stays empty
 * @err: filled on an error; may be NULL
 *
 * Refused are files that are neither regular nor /dev/mem (another device, a pipe), cannot be written, or are on hugetlbfs: mappings of single
 * 4 KiB pages of those fail with EINVAL (mmap(2), "Huge page (Huge TLB) mappings").
 *
 * Return: 0, -EINVAL, -EACCES (not open for reading and writing), -EOPNOTSUPP (hugetlb), -errno of fstat() or fstatfs().
 */
int ramtable_check_fd(int fd, struct ramtable_file *file, struct ramtable_err *err);

/**
 * ramtable_add_file() - Adds a file, or finds it: the same name or the same inode is the same file
 * @file: copied
 * @index: set to its number, good until ramtable_finish()
 * @err: may be NULL
 *
 * Return: 0, -EINVAL (neither name nor inode), -E2BIG.
 */
int ramtable_add_file(struct ramtable *t, const struct ramtable_file *file, uint32_t *index, struct ramtable_err *err);

/**
 * ramtable_add() - Adds a range
 * @gpa_bytes: where it begins in the guest
 * @bytes: its length
 * @offset_bytes: where it begins in the file
 * @file: number that ramtable_add_file() gave
 * @err: may be NULL
 *
 * Any numbers may be given; the sums are checked for overflow.
 *
 * Return: 0, -EINVAL (empty, not in whole pages, no such file), -ERANGE (beyond what an address may be, or beyond the
 * file), -E2BIG.
 */
int ramtable_add(struct ramtable *t, uint64_t gpa_bytes, uint64_t bytes, uint64_t offset_bytes, uint32_t file,
		 struct ramtable_err *err);

/**
 * ramtable_finish() - Makes a filled table canonical
 * @err: may be NULL; its index counts ranges in the order they were added
 *
 * Return: 0, -EINVAL (ranges overlap), -ENOENT (no range holds guest frame 0, or there is none at all).
 */
int ramtable_finish(struct ramtable *t, struct ramtable_err *err);

/** struct ramtable_diff - The first place where two tables differ. */
struct ramtable_diff {
	const char *why;    /* static text; NULL: they do not differ */
	uint64_t gpa_bytes; /* where */
};

/** ramtable_bytes() - How much memory a finished table's RAM file is: its length; of /dev/mem, what the ranges have of it. */
uint64_t ramtable_bytes(const struct ramtable *t);

/**
 * ramtable_compare() - Compares what two finished tables say of the RAM file
 *
 * One that is /dev/mem and one that is not (the monitor's: QEMU counts from where its backend begins) are compared from guest
 * address 0 on.
 * Other files are left out: the monitor does not name every descriptor that vhost-user sends.  Names and inodes are
 * left out too, as each source knows one of them only; the file's length is compared.
 *
 * Return: whether they agree; else @diff (may be NULL) says where not.
 */
bool ramtable_compare(const struct ramtable *a, const struct ramtable *b, struct ramtable_diff *diff);

/**
 * ramtable_map() - The ranges of the RAM file as a map, keyed by frames, into RLE_SPACE_FILE; of /dev/mem, RLE_SPACE_HOST
 * @map: filled; given back by rle_map_close()
 *
 * Return: 0, -ENOMEM, -EINVAL (@t is not finished).
 */
int ramtable_map(const struct ramtable *t, struct rle_map *map);

/**
 * ramtable_device_frame() - Where the VM has a frame of the host that is a device's
 * @t: finished
 * @page: the frame
 * @frame: set to the guest's
 * @npages: set to how many follow each other from there on, in host and guest alike
 *
 * Return: whether it has it.
 */
bool ramtable_device_frame(const struct ramtable *t, ds_pfn page, ds_vpn *frame, uint64_t *npages);

/**
 * ramtable_translate() - From a guest's map to the map that a capsule mirrors; the check of hostile maps
 * @t: finished
 * @guest: an open view of memory that nobody can change any more: keyed by virtual pages, into frames, split by
 *	RLE_SPLIT_ATTR (so that every page's attributes are known: runtime/shadow/plan.h)
 * @max_bytes: a result that would be longer is refused; bounds memory and time, because all runs of a guest's map may
 *	name the same frames, across all ranges
 * @blob: set to the result, a map keyed by virtual pages into RLE_SPACE_FILE (of /dev/mem: RLE_SPACE_HOST) with @guest's split, pid and start; the
 *	caller's to free(); NULL after an error
 * @blob_bytes: its length
 * @err: filled on an error; index is the run of @guest, value the GPA; may be NULL
 *
 * Every page of the result lies in the RAM file: PFN < t->file[0].npages.
 *
 * Return: 0, -EINVAL (@guest is another kind of map, or @t is not finished), -ENXIO (a run leaves the RAM file),
 * -E2BIG, -ENOMEM.
 */
int ramtable_translate(const struct ramtable *t, const struct rle_map *guest, size_t max_bytes, void **blob, size_t *blob_bytes,
		       struct ramtable_err *err);

#endif
