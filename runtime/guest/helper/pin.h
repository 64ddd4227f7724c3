/* pin.h - keeps frames of a process's memory where they are, with registered io_uring buffers
 *
 * Theory of operation
 *
 * A mirror on the host maps the frames that lie behind guest pages, so those frames must not change under it.  mlock(),
 * which the paper relies on (Section II), only keeps pages from being paged out: compaction, collapse into huge pages,
 * KSM, NUMA moves and copy on write after fork still give a page another frame.  A buffer registered with io_uring
 * (io_uring_register(2), IORING_REGISTER_BUFFERS_UPDATE) holds a long-term reference to every frame (FOLL_LONGTERM,
 * Documentation/core-api/pin_user_pages.rst), and everything that would move a page leaves such a page alone.  It needs
 * no privilege.  tests/vm/pin.sh provokes each event in a guest, beside pages that are not pinned and do move.
 *
 * What a pin does not survive: munmap(), MADV_DONTNEED, mremap(), brk() downwards, exec.  The address then shows other
 * frames or none, while the pinned ones stay allocated.  Whoever keeps pins calls pin_drop() before such a call.
 *
 * The ring is made disabled and is never used for I/O; its table of buffers starts empty (needs Linux 5.19) and one stretch
 * of populated pages is one buffer, or several where it is long (the kernel takes at most 1 GiB).  Taking a reference may itself move a
 * page (out of movable memory) and breaks copy on write, so: pin first, then read the page table.
 *
 * What the kernel does not register as it is, and what is done about it:
 *   private file pages, writable   6.1 refuses all private mappings of files (EOPNOTSUPP; 6.18 does not).  They are copied
 *                                  into anonymous memory, which mremap(MAYMOVE | FIXED) puts in their place in one step.  A store
 *                                  by another thread between the copy and the step would be lost, so this happens only under
 *                                  PIN_ALONE, the caller's promise that nobody else runs.
 *   pages that are not writable    refused with EFAULT: pins are for writing.  They are made writable meanwhile; if they are a
 *                                  file's, replaced as above (which needs no promise: nobody may write there).  In another
 *                                  process, whose threads may rely on the protection, pages of a file that were never
 *                                  written to are always replaced, and others need PIN_ALONE.
 *   shared mappings of files       never (their writeback and a pin exclude each other); memfd, shm and anonymous shared
 *                                  memory can be pinned.
 * A replaced page is no file's any more: /proc/self/maps shows no name for it, and later changes of the file do not appear.
 *
 * Accounting: pinned pages count against RLIMIT_MEMLOCK, a user at a time, over all rings, unless the process has
 * CAP_IPC_LOCK.  The kernel counts a huge page whole when any of it is pinned, and on 6.1 lets go of dropped
 * buffers about a second later, so PIN_SLACK_PAGES of the limit are left free and what does not fit is reported.
 *
 * The pins live as long as any descriptor of the ring (what dsagent does so that frames outlive it is in hold.h).  A process that
 * takes one (pidfd_getfd(2); kernels since 6.7 and their stable series send no io_uring over a socket) keeps the frames
 * allocated after the owner has exited, so that late writes of a mirror never land in memory that somebody else got.  A forked child inherits the
 * descriptor, so it holds the frames too, but its own pages are copies that are not pinned.
 *
 * Two ways to the memory.  pin_open(): the caller's own.  pin_open_remote(): another process's, through its helper
 * (remote.h), whose ring it is; content is copied from outside, and a replacement happens only while the freeze
 * (freeze.h) that pin_frozen() named holds.  A user can take the pins of an own program away (the helper's ring is in reach of
 * pidfd_getfd(2)): then its own mirror is not right any more.  What keeps others safe from that is in hold.h.
 *
 * This runs inside programs that do not know of it: nothing here allocates from the heap, prints, or changes errno; system
 * calls are made directly (reading /proc/PID/maps, in rle/vma.h, aside).  Working memory is mmapped by pin_open().
 * One thread at a time; not from a signal handler that may interrupt another call.
 */
#ifndef RUNTIME_GUEST_PIN_H
#define RUNTIME_GUEST_PIN_H

#include <stddef.h>
#include <stdint.h>

#define PIN_SLOTS 16384 /* IORING_MAX_REG_BUFFERS */
#define PIN_BUFFER_MAX_BYTES (UINT64_C(1) << 30)
#define PIN_SLACK_PAGES 64

struct pin_slot {
	uint64_t addr, bytes; /* bytes 0: free */
};

struct remote;
struct freeze;

/** struct pin - A ring and what it holds; private, one a process.  Zero-filled, pin_close() accepts it. */
struct pin {
	int ring_fd;
	uint32_t full;		/* slots below are all in use */
	uint32_t end;		/* slots from here on were never used */
	uint64_t pages;		/* pinned now */
	uint64_t budget_pages;	/* UINT64_MAX: no limit */
	struct pin_slot *slots; /* PIN_SLOTS of them, and scratch memory behind */
	struct remote *via;	/* NULL: the caller's own memory */
	struct freeze *frozen;
};

/** enum pin_outcome - What became of a stretch; all but the first three are not pinned. */
enum pin_outcome {
	PIN_DONE,
	PIN_REPLACED,  /* pinned, after private file pages were replaced by anonymous ones */
	PIN_OPEN,      /* pinned, in shared memory: PIN_APART's caller has to know */
	PIN_ALREADY,   /* was pinned before */
	PIN_ABSENT,    /* no page there yet: touch it, or see PIN_POPULATE */
	PIN_HOLE,      /* nothing is mapped there */
	PIN_KERNEL,    /* [vdso], [vvar] */
	PIN_SHARED,    /* a shared mapping that the kernel does not pin: of a file, of a device, or not writable */
	PIN_NOACCESS,  /* PROT_NONE: whatever is there, nobody can use it */
	PIN_WRITERS,   /* other threads could notice or write meanwhile, and the caller did not promise PIN_ALONE: writable private
			* file pages, and in another process (-EAGAIN) anonymous pages that are not writable; or the freeze
			* is over (-ETIME) */
	PIN_LIMIT,     /* RLIMIT_MEMLOCK, less the slack */
	PIN_FULL,      /* more than PIN_SLOTS stretches */
	PIN_REFUSED,   /* the kernel said no for another reason: err tells */
	PIN_NOUTCOMES
};

/** struct pin_stretch - A part of a range and what became of it. */
struct pin_stretch {
	uint64_t addr, bytes;
	enum pin_outcome outcome;
	int err; /* -errno behind it, or 0 */
};

/** pin_report_fn - Receives stretches, rising; valid during the call.  Must not map or unmap memory. */
typedef void (*pin_report_fn)(void *ctx, const struct pin_stretch *stretch);

enum pin_flags {
	PIN_POPULATE = 1, /* pages that are not there yet are made, in mappings that can be accessed */
	PIN_ALONE = 2,	  /* no other thread runs, and nobody else writes to this memory: private file pages may be replaced;
			   * for another process only while pin_frozen() holds */
	PIN_APART = 4,	  /* nothing that a file, or another mapping of it, could take away: private pages of files are always replaced,
			   * huge pages of the pool are left out (PIN_SHARED), and shared memory is told apart (PIN_OPEN) */
};

/**
 * pin_open() - Make a ring with an empty table
 * @p: filled in; give back with pin_close()
 *
 * The descriptor is close-on-exec.  After fork() the child calls pin_close() on its copy and opens its own.
 *
 * Return: 0; -ENOSYS or -EPERM: io_uring is not there or forbidden (sysctl kernel.io_uring_disabled); -EINVAL: kernel
 * before 5.19; -ENOMEM; -errno.
 */
int pin_open(struct pin *p);

/**
 * pin_open_remote() - The same for another process, with its helper's ring
 * @p: filled in; give back with pin_close()
 * @via: the helper; must outlive @p.  One struct pin for each
 *
 * What may be pinned is not limited by the program's RLIMIT_MEMLOCK, if the agent could raise the helper's.
 *
 * Return: 0; -ENOMEM; what kept the helper from making a ring (-ENOSYS, -EPERM, -EINVAL as above).
 */
int pin_open_remote(struct pin *p, struct remote *via);

/** pin_frozen() - PIN_ALONE holds as long as @f does, for a remote pin; NULL: no longer. */
void pin_frozen(struct pin *p, struct freeze *f);

/** pin_close() - Let go of everything and of the ring, unless another process holds it too. */
void pin_close(struct pin *p);

/**
 * pin_range() - Pin what is in a range of addresses
 * @p: open ring
 * @addr: start, a multiple of the page size
 * @bytes: length, likewise; the range may span mappings and holes
 * @flags: enum pin_flags
 * @fn: told about every part of the range; may be NULL
 * @ctx: for @fn
 *
 * That something cannot be pinned is an outcome and not an error.
 *
 * Return: 0; -EINVAL: misaligned or beyond the user half; -ESRCH: the helper or the address space is gone (what was reported
 * may be incomplete); -errno: the mappings cannot be read.
 */
int pin_range(struct pin *p, uint64_t addr, uint64_t bytes, unsigned int flags, pin_report_fn fn, void *ctx);

/**
 * pin_drop() - Let go of the pins in a range
 * @p: open ring
 * @addr: start, a multiple of the page size
 * @bytes: length, likewise
 *
 * A buffer that reaches beyond the range is registered anew for its rest before it is let go.  The frames are free to move
 * about a second later.
 *
 * Return: 0; -EINVAL; -ENOSPC or -errno if a rest could not be kept (its pins are gone then too).
 */
int pin_drop(struct pin *p, uint64_t addr, uint64_t bytes);

/** pin_why() - An outcome in words, static text. */
const char *pin_why(enum pin_outcome outcome);

#endif
