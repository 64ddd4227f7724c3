/* capsule.h - the parts of the capsule, for each other; README.md tells how they work together
 *
 * The region, from low to high addresses, contiguous (paper, Section II, "Making the shadow process dark"):
 *
 *   executor n-1: guard | stack | struct shadow_exec        each executor's stack ends at its struct
 *   ...
 *   executor 0:   guard | stack | struct shadow_exec
 *   control:      guard | stack                             ends at the image
 *   image:        text | read-only data | data, bss         linked by capsule.ld
 *   heap:         grows upwards
 *
 * Whatever is in it is found from the image, and the image from the instruction pointer: `cap` holds no pointer into
 * the region: maps are handles, old_lo is an address that is gone soon.
 *
 * Ownership: the control thread owns `cap`, the mirror and the map; executors only read them, and only while their
 * order is EXEC_GO.  Executors own their struct except for `order`, `delta` and the mailbox.
 */
#ifndef SHADOW_CAPSULE_H
#define SHADOW_CAPSULE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "rle/map.h"
#include "runtime/shadow/asm.h"
#include "runtime/shadow/place.h"
#include "runtime/shadow/plan.h"
#include "runtime/shadow/service.h"
#include "runtime/shadow/sys.h"
#include "runtime/wire/shadow.h"

#define CAP_PAGE 4096u
#define CAP_GUARD_BYTES CAP_PAGE
#define CAP_STACK_BYTES 65536u /* a signal frame with all of AVX-512 and AMX takes 11 KiB (AT_MINSIGSTKSZ) */
#define CAP_STOP_SIGNAL 64     /* SIGRTMAX: nobody's */
#define CAP_FDS DS_SHADOW_ADOPT_MAX /* at most, with one message */
#define CAP_EXIT_REFUSED 1
#define CAP_EXIT_FAULT 2
#define CAP_EXIT_CHANNEL 3

/* What is in a mailbox. */
#define CAP_MAIL_MESSAGE 1u
#define CAP_MAIL_BELL 2u /* a struct shadow_bell */

/** enum cap_doing - What an executor's current call is for. */
enum cap_doing { CAP_MAIL, CAP_SEND, CAP_NOTHING, CAP_CALL };

/** struct shadow_exec - An executor; the first words are start.S's (asm.h). */
struct shadow_exec {
	uint32_t state;
	uint32_t order;
	uint32_t phase;
	uint32_t cut; /* interrupted since the call was issued */
	int64_t delta; /* for EXEC_JUMP */
	int64_t result;
	uint64_t regs[7];

	uint32_t index;
	int32_t tid;
	enum cap_doing doing;
	enum shadow_next next; /* after the reply is sent */
	uint64_t restarts;
	/* the call, as asked for */
	long nr;
	uint64_t args[6];
	uint32_t handles;
	uint32_t issued;      /* times */
	uint64_t deadline_ns; /* of a relative timeout; 0: none */
	int64_t transferred;  /* by parts of a write that was cut short */
	struct sys_timespec left; /* what remains of a timeout, for the kernel to read */
	bool for_guest; /* the call may use the guest's memory and be interrupted for it */
	uint32_t busy;	    /* with such a call, from before it looks at `interrupt` to its end */
	uint32_t interrupt; /* set by the control thread: the call for the guest is to end; taken by the executor */
	uint32_t bell;	    /* it has one: set by the control thread, cleared by the executor */
	/* mailbox: filled by the control thread while mail is 0 */
	uint32_t mail;
	uint32_t mail_bytes, mail_seq;
	uint32_t reply_seq;
	uint32_t reply_bytes; /* of out.payload; UINT32_MAX: no reply */
	uint8_t inbox[DS_SHADOW_PAYLOAD_MAX];
	struct {
		struct ds_shadow_message message;
		uint8_t payload[DS_SHADOW_PAYLOAD_MAX];
	} out;
	uint8_t service_state[SHADOW_STATE_MAX];
};
#define CAP_EXEC_BYTES (((uint32_t)sizeof(struct shadow_exec) + CAP_PAGE - 1) / CAP_PAGE * CAP_PAGE)
#define CAP_EXEC_BLOCK (CAP_GUARD_BYTES + CAP_STACK_BYTES + CAP_EXEC_BYTES)
#define CAP_CTL_BLOCK (CAP_GUARD_BYTES + CAP_STACK_BYTES)
_Static_assert(offsetof(struct shadow_exec, state) == EXEC_STATE && offsetof(struct shadow_exec, order) == EXEC_ORDER &&
		       offsetof(struct shadow_exec, phase) == EXEC_PHASE && offsetof(struct shadow_exec, cut) == EXEC_CUT &&
		       offsetof(struct shadow_exec, delta) == EXEC_DELTA &&
		       offsetof(struct shadow_exec, result) == EXEC_RESULT && offsetof(struct shadow_exec, regs) == EXEC_REGS,
	       "start.S knows these offsets");

/** struct cap_map - A map in the heap, checked. */
struct cap_map {
	struct shadow_handle block; /* blob, then forbidden ranges; 0: no map yet */
	struct ds_shadow_data data;
	struct plan_sum sum;
};

/** enum cap_pending - How far the update in progress has come; kept here because a move may lie in between. */
enum cap_pending { CAP_IDLE, CAP_RECEIVE, CAP_APPLY };

/** struct capsule - The state of the control thread. */
struct capsule {
	struct ds_shadow_boot boot; /* as received and checked */
	int32_t pid;
	int32_t guard_fd; /* the listener, until it is closed; else -1 */
	int32_t fault_fd; /* the userfaultfd, in demand mode; else -1 */
	uint32_t nexec;	     /* started */
	uint64_t heap_bytes; /* mapped */
	uint64_t heap_known; /* of these, made into blocks */
	struct cap_map now; /* in force */
	/* an update */
	enum cap_pending pending;
	struct ds_shadow_update update;
	int update_fd;
	struct cap_map coming;
	bool moved;
	bool holding; /* the guest program's descriptor numbers hold a file each */
	uint64_t ns_per_tick; /* of the time-stamp counter, in 2^-32; 0: not measured */
	uint64_t old_lo, old_bytes; /* what move_finish() unmaps */
	uint64_t boot_block; /* address of the first data file, until it is in the heap */
	/* demand mode */
	uint32_t covers; /* coverings in force */
	struct {
		struct ds_shadow_map map;
		struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
	} covered; /* the last one, or the one under way */
	bool covering; /* one has arrived and is not in force */
	uint32_t nwaits;
	struct cap_wait {
		uint64_t vpn;
		int32_t tid;
	} waits[DS_SHADOW_EXECUTORS_MAX]; /* while covering: who waits for a page, and for which */
	/* a change (UPDATE, covering MAP) that came while another waits for executors; held.head.kind 0: none */
	union {
		struct ds_shadow_head head;
		struct ds_shadow_update update;
		struct {
			struct ds_shadow_map map;
			struct ds_shadow_seg seg[DS_SHADOW_SEGS_MAX];
		} covering;
	} held;
	int32_t held_fd;
	/* counters */
	uint64_t updates, moves, rebuilds;
};
extern struct capsule cap __attribute__((visibility("hidden")));

#pragma GCC visibility push(hidden)

/* From the linker script: offsets in the file, addresses at run time. */
extern char capsule_image_start[], capsule_rodata_start[], capsule_data_start[], capsule_image_end[];
extern char stub_begin[], stub_after[], stub_end[], guard_begin[], guard_end[], guard_fault[];

/**
 * cap_image() - Address of the image at this moment
 *
 * By an instruction, so that the compiler does not take the region around it for an array of C that ends somewhere.
 */
static inline uint64_t cap_image(void)
{
	uint64_t image;

	__asm__("lea capsule_image_start(%%rip), %0" : "=r"(image));
	return image;
}

/** cap_image_bytes() - Length of the image, whole pages. */
static inline uint64_t cap_image_bytes(void)
{
	return (uint64_t)(capsule_image_end - capsule_image_start);
}

/* --- start.S --- */
/** exec_clone() - Starts a thread in exec_loop with its stack ending at @x.  Return: TID or -errno. */
long exec_clone(uint64_t flags, struct shadow_exec *x);
/** exec_signal() - The handler of CAP_STOP_SIGNAL. */
void exec_signal(int signal, void *info, void *ucontext);
/** exec_restorer() - SA_RESTORER. */
void exec_restorer(void);
/** guard_copy() - Copies between any two addresses.  Return: 0, -EFAULT. */
int guard_copy(void *to, const void *from, size_t bytes);
/** guard_load32() - Loads an aligned word of guest memory.  Return: 0, -EFAULT. */
int guard_load32(uint32_t *to, const uint32_t *from);
/** guard_words() - guard_copy() of @n words (1 or more) of 8 bytes, in rising order.  Return: 0, -EFAULT. */
int guard_words(uint64_t *to, const uint64_t *from, size_t n);
/** guard_store32() - Stores an aligned word to guest memory.  Return: 0, -EFAULT. */
int guard_store32(uint32_t *to, uint32_t value);
/** guard_swap32() - The same with a full barrier.  Return: 0, -EFAULT. */
int guard_swap32(uint32_t *to, uint32_t value);

/* --- boot.c; called from start.S --- */
/** boot_relocate() - Corrects the image where the kernel put it. */
void boot_relocate(void);
/** boot_prepare() - Receives BOOT, finds the place, copies the image there.  Return: the distance; else it ends. */
int64_t boot_prepare(void);
/** boot_finish() - In the new place: lets go of everything else, makes the mirror, starts the service. */
void boot_finish(int64_t delta);

/* --- move.c --- */
/** struct cap_region - A whole region by its first byte. */
struct cap_region {
	uint64_t lo, bytes, image; /* image: address of its image */
};
/** move_region() - Where things are for an image at @image, with @heap_bytes of heap. */
struct cap_region move_region(uint64_t image, uint64_t heap_bytes);
/** move_here() - The region in use. */
struct cap_region move_here(void);
/**
 * move_copy() - Makes a copy of the capsule, for start.S to jump into
 * @image: address of the new image; its region is free
 * @heap_bytes: at least what is in use
 * @first: at the start: only the image exists so far
 *
 * The copy's pointers are right for its place.  Executors must be stopped.  Return: 0, -errno (nothing is left mapped).
 */
int move_copy(uint64_t image, uint64_t heap_bytes, bool first);
/** move_finish() - In the new place, called from start.S: brings the executors along, unmaps the old one. */
void move_finish(int64_t delta);
/** move_signals() - Tells the kernel the present addresses of the handlers.  Return: 0, -errno. */
int move_signals(void);
/** move_mm() - Tells the kernel where text, data and arguments are now (prctl(2), PR_SET_MM_MAP).  Return: 0, -errno. */
int move_mm(void);

/* --- exec.c --- */
/** exec_at() - Executor @i of this region. */
struct shadow_exec *exec_at(uint32_t i);
/** exec_step() - What an executor does in C between two calls; called from start.S. */
void exec_step(struct shadow_exec *x);
/** exec_start() - Makes the executors.  Return: 0, -errno. */
int exec_start(void);
/** enum exec_how - What stopping means for executors in a system call; none goes on in C. */
enum exec_how {
	EXEC_STOP_SOFT,	 /* they may stay there */
	EXEC_STOP_QUIET, /* calls that may use the guest's memory are interrupted: all of the service, or if it has bells, those that
			    it makes for the guest */
	EXEC_STOP_HARD,	 /* all are interrupted */
};
/**
 * exec_stop() - Stops all executors
 * @how: what is done about those in a call
 * @who: filled with the executor that does not stop
 *
 * In demand mode messages are served meanwhile, since executors may wait for memory: a caller must expect that
 * anything but a change of the mappings has happened.
 *
 * Return: 0; -EBUSY (after the timeout; they go on then).
 */
int exec_stop(enum exec_how how, uint32_t *who);
/** exec_interrupt() - Ends the call that executor @i makes for its guest, if it does, as a signal would. */
void exec_interrupt(uint32_t i);
/** exec_go() - Lets them go on. */
void exec_go(void);
/** exec_jump() - Sends the stopped executors of the region @delta below into this one and waits for them. */
void exec_jump(int64_t delta);
/** exec_wake() - Wakes who waits for @word. */
void exec_wake(uint32_t *word);

/* --- heap.c --- */
/** heap_start() - Address of the heap. */
uint64_t heap_start(void);
/** heap_init() - Makes an empty heap of cap.heap_bytes. */
void heap_init(void);
/** heap_used() - Bytes from its start that hold something. */
uint64_t heap_used(void);
/** heap_extended() - Makes blocks of what cap.heap_bytes has more than cap.heap_known. */
void heap_extended(void);

/* --- mirror.c --- */
/**
 * mirror_check() - Checks a data file that lies in memory of our own
 * @block: blob and forbidden ranges, params_data_bytes(@data) long
 * @sum: filled with what the mirror takes
 *
 * Return: 0, -errno (@refused says why).
 */
int mirror_check(const void *block, const struct ds_shadow_data *data, struct plan_sum *sum,
		 struct ds_shadow_refused *refused);
/** mirror_blob_view() - The view of a blob that mirror_check() passed. */
struct rle_map mirror_blob_view(const void *block);
/** mirror_view() - The view of a map, where it is now; empty if there is none. */
struct rle_map mirror_view(const struct cap_map *m);
/** mirror_forbidden() - The forbidden ranges of a map as a source of obstacles. */
struct place_src mirror_forbidden(const struct cap_map *m);
/** mirror_make() - Makes the mirror of cap.now where there is none.  Return: 0, -errno (@refused says why). */
int mirror_make(struct ds_shadow_refused *refused);
/**
 * mirror_change() - From the map in force to the one coming
 *
 * Executors are stopped, at least softly.  Return: 0; -errno: the mirror is neither the old nor the new one.
 */
int mirror_change(void);
/** mirror_map() - Makes one segment.  Return: 0, -errno. */
int mirror_map(const struct plan_seg *seg);
/** mirror_only() - Unmaps everything but the region.  Return: 0, -errno. */
int mirror_only(void);

/* --- demand.c --- */
/** demand_open() - Makes the userfaultfd.  Return: 0, -errno (@refused says why). */
int demand_open(struct ds_shadow_refused *refused);
/** demand_make() - Covers the ranges of cap.now, where there is nothing.  Return: 0, -errno (@refused says why). */
int demand_make(struct ds_shadow_refused *refused);
/** demand_change() - From the ranges in force to those coming.  Return: 0; -errno: it is neither. */
int demand_change(void);
/** demand_map() - Does what a MAP says that covers nothing.  Return: 0, -errno (@refused says why). */
int demand_map(const struct ds_shadow_map *map, struct ds_shadow_refused *refused);
/** demand_window() - Maps a file, @fd.  Return: 0, -errno (@refused says why). */
int demand_window(const struct ds_shadow_window *window, int fd, struct ds_shadow_refused *refused);
/** demand_arrived() - Notes a MAP that covers; done when it comes, also if it has to wait for another change. */
void demand_arrived(const struct ds_shadow_map *map);
/** demand_waits() - While covering: whether thread @tid is known to wait for a page. */
bool demand_waits(int32_t tid);
/** demand_cover() - Covers the segments of cap.covered; executors are stopped quietly.  Return: 0; -errno: some are not. */
int demand_cover(void);

/* --- ctl.c --- */
/** ctl_serve() - In demand mode, while executors are waited for: handles messages that are there already. */
void ctl_serve(void);
/** ctl_step() - Handles one message; called from start.S.  Return: 0, or the distance to jump by. */
int64_t ctl_step(void);
/**
 * ctl_receive() - Takes one packet
 * @wait: false: -EAGAIN when there is none
 * @fds: filled with its descriptors, -1 where there is none
 * @nfds: how many came; CAP_FDS + 1: more than CAP_FDS
 *
 * Return: its length, 0 at the end, -errno (-EMSGSIZE: longer than @bytes).
 */
long ctl_receive(void *buf, size_t bytes, int fds[static CAP_FDS], uint32_t *nfds, bool wait);
/** ctl_refuse() - Sends a refusal; its reason, err, index and value are filled. */
void ctl_refuse(uint32_t seq, struct ds_shadow_refused *refused);
/** ctl_die() - Sends a refusal and ends the shadow. */
__attribute__((noreturn)) void ctl_die(uint32_t seq, enum ds_shadow_reason reason, long err, uint64_t index,
				       uint64_t value);
/** ctl_lost() - Ends the shadow because the channel failed with @err: quietly when dshost has just closed it. */
__attribute__((noreturn)) void ctl_lost(long err);
/**
 * ctl_data_there() - Whether a data file is as long as said
 *
 * Asked first: whoever says more than there is gets no memory for it.  Return: 0, -ENODATA (@refused says why).
 */
int ctl_data_there(int fd, uint64_t bytes, struct ds_shadow_refused *refused);
/** ctl_read_data() - Reads a data file whole.  Return: 0, -errno (@refused says why). */
int ctl_read_data(int fd, void *block, uint64_t bytes, struct ds_shadow_refused *refused);
/** ctl_random() - Eight bytes nobody can guess. */
uint64_t ctl_random(void);
/** ctl_status() - Sends the state of things. */
void ctl_status(uint32_t seq);
/** ctl_fault() - The handler of SIGSEGV and SIGBUS. */
void ctl_fault(int signal, void *info, void *ucontext);

#pragma GCC visibility pop
#endif
