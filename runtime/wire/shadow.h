/* shadow.h - the control channel between dshost and a shadow's capsule
 *
 * Theory of operation
 *
 * One SOCK_SEQPACKET socket pair a shadow; the capsule inherits its end as descriptor DS_SHADOW_CTL_FD and nothing
 * else.  One packet is one message; a message is a head and what its kind says, exactly as long as the head says.
 * Descriptors travel with the message that needs them (SCM_RIGHTS, unix(7)).
 *
 *   dshost -> capsule   BOOT     fds: RAM, RAM read-only, data [, /dev/userfaultfd in demand mode]
 *                                                   once, first: answered by STATUS when the mirror stands
 *                       UPDATE   fds: data          the whole new map: answered by STATUS when it is in force
 *                       MAP                         pages of a mirror that faults; answered if refused, and by STATUS if
 *                                                   it covers pages again
 *                       PING                        answered by STATUS
 *                       MESSAGE                     a payload for one executor of the service
 *                       FD       fds: a socket      the bell of a guest thread, for one executor (forward.h): answered by
 *                                                   MESSAGEs, the last of which says that the executor has done with it
 *                       INTERRUPT                   the call of an executor returns as if a signal had come; not answered
 *                       ADOPT    fds: as many as it says   descriptors for numbers of the guest program's (estate.h); answered by STATUS
 *                       WINDOW      (file)          a file is mapped, in a mirror that faults (window.h): answered by STATUS
 *                       QUIT                        the shadow ends, as it does when the socket is closed
 *   capsule -> dshost   STATUS   seq of the request
 *                       REFUSED  seq of the request; a reason and numbers, never text: the capsule holds none.
 *                                After a BOOT that is refused the shadow ends; after an UPDATE the old map stays in
 *                                force, except for DS_SHADOW_R_LOST.
 *                       MESSAGE  a payload from an executor; seq of the message it answers
 *                       FAULT    the service touched memory that is not there; the shadow ends
 *
 * FD, INTERRUPT and ADOPT are for services that say they want them (struct shadow_service, `bells`); others refuse them:
 * DS_SHADOW_R_ORDER.  So is an ADOPT before the first FD.
 *
 * Descriptors.  A service that has bells makes system calls for a guest program with that program's descriptor numbers, which are
 * 0 to DS_SHADOW_GUEST_FDS - 1.  All that the capsule has is above:
 *
 *   0 .. 4095	       the guest program's; at first, and when closed, the number holds DS_SHADOW_HOLD_FD's file
 *   4096 .. 4111      the capsule's own: the guard's filter refuses them in every call of the service
 *   4112 .. 4175      DS_SHADOW_BELL_FD + i: the bell of executor i
 *   4176	       DS_SHADOW_HOLD_FD: "/", opened with O_PATH: good for nothing, but there
 *   4177 .. 8191      what is new: since no number below is ever free, the kernel takes the next one here for whatever
 *		       is opened, accepted or received.  dup3() from there to the guest's number, then close(): no two
 *		       threads, and not the control thread either, can ever want the same number at the same time.
 *
 * The data file is a memfd: the map's blob (rle/map.h: keyed by virtual pages, into RLE_SPACE_FILE or RLE_SPACE_HOST,
 * split by RLE_SPLIT_ATTR) from byte 0 on, directly behind it the forbidden ranges (struct ds_shadow_range), directly
 * behind them, in a BOOT, the guard's filter (struct sock_filter).  It is read, not mapped: the RAM is the only file that
 * a capsule ever maps, so that a guard outside has one rule.  Give it away open for reading only.
 *
 * The RAM comes by two descriptors of the same file, which the capsule gives the numbers DS_SHADOW_RAM_FD (open for
 * reading and writing) and DS_SHADOW_RAM_RO_FD (opened O_RDONLY).  Pages that the map says may not be written are mapped
 * by the second: no mprotect() makes such a mapping writable (mmap(2), mprotect(2), EACCES).
 *
 * Guard.  With filter_bytes in BOOT's data the capsule installs that filter when the (eager) mirror stands and before a
 * line of the service runs: seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER), seccomp(2).  Then BOOT is
 * answered twice:
 *
 *   capsule                                          dshost
 *   STATUS: guard_fd is the listener, nexecutors 0
 *   knocks: mmap(0, 4096, PROT_NONE, MAP_SHARED,     takes the listener (pidfd_getfd), looks whether the filter is in
 *	     DS_SHADOW_RAM_RO_FD, 0), which waits       force, receives the knock, answers it with the value DS_SHADOW_KNOCK
 *   closes its listener, starts the service and
 *   the executors
 *   STATUS: guard_fd -1, nexecutors as asked for     looks that no listener is left there; the shadow may be used
 *
 * Another answer to the knock than DS_SHADOW_KNOCK (a mapping, ENOSYS: no filter, or nobody behind it) ends the shadow.
 *
 * Both ends run on one machine: integers are in its byte order, structs without padding.  All addresses are in pages
 * of 4 KiB.  Both ends check what they get; the shadow is not trusted by dshost.
 */
#ifndef WIRE_SHADOW_H
#define WIRE_SHADOW_H

#include <stdint.h>

#include "runtime/wire/forward.h"

#define DS_SHADOW_MAGIC UINT32_C(0x48535344) /* the bytes "DSSH" */
#define DS_SHADOW_VERSION 4
#define DS_SHADOW_KNOCK 0x6b6e6f63

#define DS_SHADOW_EXECUTORS_MAX 64
#define DS_SHADOW_GUEST_FDS 4096 /* the numbers below are the guest program's */
#define DS_SHADOW_CTL_FD 4096
#define DS_SHADOW_RAM_FD 4097
#define DS_SHADOW_RAM_RO_FD 4098
#define DS_SHADOW_FAULT_DEV_FD 4099 /* /dev/userfaultfd, in demand mode, until the next is made */
#define DS_SHADOW_FAULT_FD 4100	    /* the userfaultfd */
#define DS_SHADOW_OWN_FDS_END 4112  /* from DS_SHADOW_GUEST_FDS to here: nobody's but the capsule's */
#define DS_SHADOW_BELL_FD DS_SHADOW_OWN_FDS_END /* and one for each executor */
#define DS_SHADOW_HOLD_FD (DS_SHADOW_BELL_FD + DS_SHADOW_EXECUTORS_MAX)
#define DS_SHADOW_FDS_MAX 8192 /* RLIMIT_NOFILE of a capsule */

#define DS_SHADOW_NAME_BYTES 32
#define DS_SHADOW_ARGS_BYTES 256
#define DS_SHADOW_PAYLOAD_MAX 4096	     /* bytes */
#define DS_SHADOW_FORBIDDEN_MAX 65536	     /* ranges */
#define DS_SHADOW_MAP_BYTES_MAX (UINT64_C(64) << 20)
#define DS_SHADOW_HEAP_BYTES_MAX (UINT64_C(1) << 30)
#define DS_SHADOW_FILTER_BYTES_MAX (4096 * 8) /* BPF_MAXINSNS of struct sock_filter */
#define DS_SHADOW_SEGS_MAX 128 /* of a MAP */
#define DS_SHADOW_STOP_MS_MAX 60000
#define DS_SHADOW_ADOPT_MAX 64 /* descriptors of an ADOPT */

enum ds_shadow_kind {
	DS_SHADOW_BOOT = 1,
	DS_SHADOW_UPDATE = 2,
	DS_SHADOW_PING = 3,
	DS_SHADOW_MESSAGE = 4,
	DS_SHADOW_QUIT = 5,
	DS_SHADOW_MAP = 7,
	DS_SHADOW_FD = 8,
	DS_SHADOW_INTERRUPT = 9,
	DS_SHADOW_ADOPT = 10,
	DS_SHADOW_WINDOW = 11,
	DS_SHADOW_STATUS = 16,
	DS_SHADOW_REFUSED = 17,
	DS_SHADOW_FAULT = 18,
};

/** struct ds_shadow_head - Every message begins with it. */
struct ds_shadow_head {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;
	uint32_t bytes; /* of the whole message */
	uint32_t seq;	/* chosen by who asks, repeated by who answers */
};

/** struct ds_shadow_range - Pages [vpn, vpn + npages). */
struct ds_shadow_range {
	uint64_t vpn, npages;
};

/** struct ds_shadow_data - What the data file holds. */
struct ds_shadow_data {
	uint64_t map_bytes;
	uint64_t nforbidden; /* ranges behind the map, rising, not overlapping: the capsule keeps out of them */
	uint64_t filter_bytes; /* of the guard's filter behind the ranges; BOOT only; 0: unguarded, for tests */
};

/** enum ds_shadow_provider - What the RAM descriptor is. */
enum ds_shadow_provider {
	DS_SHADOW_RAM_FILE = 0,	  /* a file: PFNs of the map are its pages (RLE_SPACE_FILE) */
	DS_SHADOW_RAM_DEVMEM = 1, /* /dev/mem: PFNs are the host's (RLE_SPACE_HOST); has no length of its own */
};

/**
 * enum ds_shadow_mode - How the mirror is made
 *
 * In demand mode the map of BOOT and UPDATE holds what is known, perhaps nothing; the forbidden ranges are the guest's
 * mappings, and what the map does not hold of them faults.
 */
enum ds_shadow_mode {
	DS_SHADOW_EAGER = 0,
	DS_SHADOW_DEMAND = 1,
};

/** struct ds_shadow_boot - DS_SHADOW_BOOT. */
struct ds_shadow_boot {
	struct ds_shadow_head head;
	struct ds_shadow_data data;
	uint64_t ram_bytes;		/* runs beyond are refused; not more than the file has */
	struct ds_shadow_range reserve; /* where the capsule goes if it can; npages 0: no wish */
	uint64_t min_vpn;		/* the host's vm.mmap_min_addr, in pages */
	uint64_t heap_bytes;		/* of the service; a multiple of a page; room for the map comes on top */
	uint32_t max_maps;		/* the host's vm.max_map_count */
	uint32_t nexecutors;
	uint32_t stop_timeout_ms;	/* how long an update waits for executors that do not stop */
	uint32_t provider;		/* enum ds_shadow_provider */
	uint32_t mode;			/* enum ds_shadow_mode */
	uint32_t zero;
	char service[DS_SHADOW_NAME_BYTES]; /* what dshost believes to have started; terminated */
	char args[DS_SHADOW_ARGS_BYTES];    /* for the service; terminated */
};

/** struct ds_shadow_update - DS_SHADOW_UPDATE; its filter_bytes are 0. */
struct ds_shadow_update {
	struct ds_shadow_head head;
	struct ds_shadow_data data;
};

/** struct ds_shadow_seg - Pages [vpn, vpn + npages) are pages of the RAM from @pfn on. */
struct ds_shadow_seg {
	uint64_t vpn, pfn;
	uint32_t npages;
	uint32_t prot; /* PROT_READ | PROT_WRITE; 0: a hole, whoever touches it gets SIGSEGV or EFAULT; or one of these */
};
#define DS_SHADOW_COVER 0x100 /* the pages fault again; pfn is 0, as in a hole and in DS_SHADOW_WAKE */
#define DS_SHADOW_WAKE 0x200  /* nothing is mapped; whoever waits for these pages tries again */
#define DS_SHADOW_WAITS 0x400 /* thread pfn (as the capsule counts threads) waits for page vpn; npages is 1 */

/**
 * struct ds_shadow_map - DS_SHADOW_MAP, in demand mode only; head.bytes ends with the last segment
 *
 * The capsule maps the segments and wakes (UFFDIO_WAKE) whoever waits there.  Served also while an update waits for
 * executors, which may be blocked in a fault.  What lies outside of the guest's mappings in force is not mapped, only
 * woken.
 *
 * A MAP covers pages again if its first segment is DS_SHADOW_COVER; the others are that or DS_SHADOW_WAITS then.  Executors are
 * stopped for it, those in a call of the service too, as there is a moment in which the pages are neither mapped nor fault;
 * then STATUS is sent.  MAPs that arrive while it waits for executors are served first; at most one such MAP and one UPDATE
 * may be unanswered.  An executor that waits for a page uses no other memory meanwhile: if DS_SHADOW_WAITS, in
 * this MAP or in later ones, says that it does, it need not be waited for, until a segment has its page.  Without
 * that, a guest that gives a page only when another has been dropped would wait for itself.
 * A MAP whose @covers is not the number of covering MAPs that are in force was sent before the last STATUS had been
 * read: its segments that meet the last covered pages are behind the times, and only woken.  A sender cuts segments where
 * a covering under way begins or ends.
 */
struct ds_shadow_map {
	struct ds_shadow_head head;
	uint32_t nsegs;	 /* 1 to DS_SHADOW_SEGS_MAX */
	uint32_t covers; /* covering MAPs that have been answered by STATUS */
	struct ds_shadow_seg seg[];
};

/** struct ds_shadow_message - DS_SHADOW_MESSAGE; head.bytes ends with the payload. */
struct ds_shadow_message {
	struct ds_shadow_head head;
	uint32_t executor;
	uint32_t payload_bytes; /* at most DS_SHADOW_PAYLOAD_MAX */
	uint8_t payload[];
};

/**
 * struct ds_shadow_fd - DS_SHADOW_FD, with one descriptor: a stream socket; answered by MESSAGEs with struct ds_forward_report, or
 * REFUSED (DS_SHADOW_R_MAILBOX: the executor has a bell, or a message that it has not taken)
 */
struct ds_shadow_fd {
	struct ds_shadow_head head;
	uint32_t executor; /* one that has no bell, so its mailbox is empty */
	uint32_t spin_ns;  /* as the guest's hello says, bounded */
	uint64_t slot;	   /* likewise: checked by nobody but for its alignment */
};

/**
 * struct ds_shadow_interrupt - DS_SHADOW_INTERRUPT: the call that the executor makes for its guest thread returns -EINTR if it has
 * done nothing, else what it has done
 *
 * Nothing happens if it makes none.  If one call ends and the next begins at this moment, the next may be hit.
 */
struct ds_shadow_interrupt {
	struct ds_shadow_head head;
	uint32_t executor;
	uint32_t zero;
};

/** struct ds_shadow_adopt - DS_SHADOW_ADOPT: descriptor i that comes along gets the number @number[i], whatever had it before. */
struct ds_shadow_adopt {
	struct ds_shadow_head head;
	uint32_t n; /* 1 to DS_SHADOW_ADOPT_MAX */
	uint32_t zero;
	uint16_t number[DS_SHADOW_ADOPT_MAX]; /* below DS_SHADOW_GUEST_FDS */
};

/**
 * struct ds_shadow_window - DS_SHADOW_WINDOW: mmap(range, prot, MAP_SHARED | MAP_FIXED, the file that comes along, offset)
 *
 * All of the range lies in one of the guest's mappings.  It stays until the range is covered again.  The descriptor has a number above
 * DS_SHADOW_HOLD_FD when the call is made.  Who sleeps on the pages is woken.
 */
struct ds_shadow_window {
	struct ds_shadow_head head;
	struct ds_shadow_range range;
	uint64_t offset; /* bytes */
	uint32_t prot;	 /* 1 to 3: PROT_READ, PROT_WRITE */
	uint32_t zero;
};

/** struct ds_shadow_status - DS_SHADOW_STATUS: what is in force. */
struct ds_shadow_status {
	struct ds_shadow_head head;
	struct ds_shadow_range capsule;
	uint64_t mirror_pages;
	uint64_t mirror_vmas; /* mappings that the mirror takes */
	uint64_t updates, moves, restarts, rebuilds; /* since the start; restarts: calls interrupted and issued again */
	uint32_t pid, nexecutors; /* pid: as the capsule sees it, 1 in a namespace of its own */
	int32_t guard_fd; /* the listener, in the first STATUS of a guarded shadow (see above); else -1 */
	int32_t fault_fd; /* the userfaultfd, in demand mode; else -1 */
};

/** enum ds_shadow_reason - Why something was refused; @index and @value as said here, else 0. */
enum ds_shadow_reason {
	DS_SHADOW_R_MESSAGE = 1,  /* malformed; index: offset of the field */
	DS_SHADOW_R_VERSION,	  /* value: the version offered */
	DS_SHADOW_R_FDS,	  /* index: descriptors received, value: wanted */
	DS_SHADOW_R_ORDER,	  /* BOOT twice, or something else first */
	DS_SHADOW_R_LIMIT,	  /* a number out of range; index: offset of the field, value: the limit */
	DS_SHADOW_R_SERVICE,	  /* another service than this executable's, or its start() failed (err) */
	DS_SHADOW_R_DATA,	  /* the data file cannot be read (err) or is shorter than said (err 0) */
	DS_SHADOW_R_RAM,	  /* the RAM file cannot be used (err) or is shorter than said; value: its bytes */
	DS_SHADOW_R_FORBIDDEN,	  /* index: a range that is empty, out of order or beyond the user half */
	DS_SHADOW_R_MAP,	  /* rle_map_open() refused the blob: err; index: run or UINT64_MAX, value: offset */
	DS_SHADOW_R_SPACE,	  /* the map has another key, space or split than this channel wants */
	DS_SHADOW_R_RUN_HIGH,	  /* index: a run that ends beyond the user half; value: its VPN */
	DS_SHADOW_R_RUN_LOW,	  /* index: a run below min_vpn; value: its VPN */
	DS_SHADOW_R_RUN_RAM,	  /* index: a run that ends beyond the RAM; value: its PFN */
	DS_SHADOW_R_MAX_MAPS,	  /* value: mappings that would be needed; index: those there may be */
	DS_SHADOW_R_NO_PLACE,	  /* nowhere room for the capsule; value: its pages */
	DS_SHADOW_R_NO_MEMORY,	  /* value: bytes wanted */
	DS_SHADOW_R_GUARD,	  /* the filter cannot be installed (err), or nobody answered the knock (err 0, value: what did) */
	DS_SHADOW_R_UNMAP,	  /* the kernel did not let go of what it put there (err; -EPERM: sealed vdso) */
	DS_SHADOW_R_KERNEL,	  /* a system call at the start failed (err); index: its number */
	DS_SHADOW_R_MMAP,	  /* index: the run whose mmap() failed (err), value: its VPN; only after BOOT */
	DS_SHADOW_R_BUSY,	  /* index: an executor that did not stop in time */
	DS_SHADOW_R_EXECUTOR,	  /* index: there is no such executor */
	DS_SHADOW_R_MAILBOX,	  /* index: an executor that has not taken its last message yet */
	DS_SHADOW_R_LOST,	  /* an update failed half-way (err) and so did rebuilding: the shadow ends */
	DS_SHADOW_R_END
};

/** struct ds_shadow_refused - DS_SHADOW_REFUSED. */
struct ds_shadow_refused {
	struct ds_shadow_head head;
	uint32_t reason; /* enum ds_shadow_reason */
	int32_t err;	 /* -errno or 0 */
	uint64_t index, value;
};

/** struct ds_shadow_fault - DS_SHADOW_FAULT. */
struct ds_shadow_fault {
	struct ds_shadow_head head;
	uint64_t address; /* a byte address, the one time */
	uint64_t code;	  /* where in the executable: offset from its first loaded byte, or UINT64_MAX */
	uint32_t signal;
	uint32_t zero;
};

_Static_assert(sizeof(struct ds_shadow_head) == 16 && sizeof(struct ds_shadow_boot) == 104 + 32 + 256 &&
		       sizeof(struct ds_shadow_update) == 40 && sizeof(struct ds_shadow_message) == 24 &&
		       sizeof(struct ds_shadow_status) == 96 && sizeof(struct ds_shadow_refused) == 40 &&
		       sizeof(struct ds_shadow_fault) == 40 && sizeof(struct ds_shadow_seg) == 24 &&
		       sizeof(struct ds_shadow_map) == 24 && sizeof(struct ds_shadow_fd) == 32 &&
		       sizeof(struct ds_shadow_interrupt) == 24 && sizeof(struct ds_shadow_window) == 48 && sizeof(struct ds_shadow_adopt) == 24 + 2 * DS_SHADOW_ADOPT_MAX,
	       "messages have no padding");

#endif
