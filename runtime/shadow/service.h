/* service.h - for people who write services: what runs inside a capsule
 *
 * A service is one C file that defines `const struct shadow_service shadow_service` and is linked with the capsule.
 * What it is given:
 *
 * - The guest process's memory, by its own pointers.  An address that is valid in the guest process and present there
 *   is valid here: `*(uint32_t *)address` reads the guest's word, a store is seen by the guest.  Such pointers can be
 *   kept for ever: the mirror never moves.
 * - Executors: threads that run its step() function, each with a mailbox for messages from dshost.
 * - A heap inside the capsule, whose blocks are named by handles.
 *
 * What it must obey, and why:
 *
 * 1. step() is called, does a bounded piece of work (a millisecond or so), and returns what it wants next.  It does not
 *    block.  A blocking system call is asked for (SHADOW_CALL): the executor then makes it outside of C, which is what
 *    lets the capsule move while the call is blocked.  The call is made exactly once, however often it is interrupted.
 *    An update of the map waits until every executor is between two steps or in a call.
 * 2. The capsule may move between two steps, never within one.  So a pointer into the capsule (to a global, the heap,
 *    shadow_state(), code) must not be kept across steps: neither in memory nor in a register it is in, since no C
 *    function is active then.  Keep a handle instead and turn it into a pointer again with shadow_at() in each step.
 *    (Pointers that the linker put into initialised data are corrected and may stay.)
 * 3. Within a step the mirror does not change.  Between steps it may: update() says so.  start() and update() do not touch
 *    guest memory: it may have to be fetched first, and what fetches it waits for them.
 * 4. Guest memory is shared with a program that may be hostile and runs at this moment.  Read a value once into a
 *    local variable, check that, use that.  A guest pointer may point anywhere, into the capsule too; a plain access to
 *    memory that is not there ends the shadow, shadow_fetch() and shadow_store() return -EFAULT instead.
 * 5. No C library: mem*() and strlen() from string.h are there and nothing else.  No thread-local storage.
 * 6. System calls asked for must keep off the capsule's own descriptors (DS_SHADOW_GUEST_FDS to DS_SHADOW_OWN_FDS_END), must not
 *    map, unmap or change signals, register no address with the kernel that it would write to later (io_uring, AIO,
 *    rseq), and pass NULL where a call takes a signal mask (ppoll and the like): the stop signal must not be blocked.
 */
#ifndef SHADOW_SERVICE_H
#define SHADOW_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SHADOW_PAYLOAD_MAX 4096 /* bytes of a message */
#define SHADOW_STATE_MAX 1024	/* bytes of shadow_state() */

struct shadow_exec;

/** struct shadow_handle - Names memory in the capsule, wherever the capsule is; 0-filled: nothing. */
struct shadow_handle {
	int64_t offset;
};

/** enum shadow_event_kind - Why step() is called. */
enum shadow_event_kind {
	SHADOW_EV_MESSAGE, /* dshost sent a message */
	SHADOW_EV_RESULT,  /* the call asked for has returned */
	SHADOW_EV_AGAIN,   /* the step before asked for another */
	SHADOW_EV_BELL,	   /* of a service with bells: the payload is a struct shadow_bell */
};

/** struct shadow_bell - A guest thread that wants calls made (runtime/wire/forward.h). */
struct shadow_bell {
	uint64_t slot; /* address in guest memory, as the guest said */
	uint32_t spin_ns;
	int32_t fd; /* the executor's, until it returns SHADOW_WAIT: it has closed it by then (shadow_hold_fd()) */
};

/** struct shadow_event - Valid during the step. */
struct shadow_event {
	enum shadow_event_kind kind;
	const void *payload; /* of a message */
	uint32_t payload_bytes;
	int64_t result; /* of a call: what the kernel returned, -errno included */
};

/** enum shadow_next - What the executor does after step(). */
enum shadow_next {
	SHADOW_WAIT,  /* wait for a message */
	SHADOW_AGAIN, /* call step() again; updates happen in between */
	SHADOW_CALL,  /* make the system call given to shadow_call() */
};

/** struct shadow_change - What an update changed. */
struct shadow_change {
	uint64_t updates;	/* so many have been made; 1 is the first map */
	uint64_t mirror_pages;	/* in the mirror now */
	bool moved;		/* the capsule is elsewhere now */
};

/** struct shadow_service - What a service defines; `update` and `start` may be NULL. */
struct shadow_service {
	const char *name;     /* at most 31 bytes; the name dshost has to ask for */
	bool bells;	      /* makes calls for threads of the guest, each of which rings for it (runtime/wire/forward.h) */
	uint32_t state_bytes; /* of shadow_state(); at most SHADOW_STATE_MAX */
	/* Once, before the executors exist; @args come from dshost.  Return: 0, or -errno to refuse. */
	int (*start)(const char *args);
	/* In an executor. */
	enum shadow_next (*step)(struct shadow_exec *x, const struct shadow_event *ev);
	/* After each change of the mirror, while no executor runs; must not block. */
	void (*update)(const struct shadow_change *change);
};

extern const struct shadow_service shadow_service __attribute__((visibility("hidden")));

/** shadow_state() - The executor's own memory, state_bytes long, zero at first; fetch it anew in each step. */
void *shadow_state(struct shadow_exec *x);

/**
 * shadow_reply() - Sends a message to dshost after this step
 * @data: copied
 * @bytes: at most SHADOW_PAYLOAD_MAX, else it is cut
 *
 * One message a step, the last one counts.  It carries the seq of the last message received.
 */
void shadow_reply(struct shadow_exec *x, const void *data, uint32_t bytes);

/**
 * shadow_call() - Says which system call SHADOW_CALL makes
 * @nr: its number (asm/unistd.h)
 * @args: six words; guest pointers as they are
 * @handles: bit i set: args[i] is the offset of a shadow_handle; it becomes the address at the moment of the call
 *
 * An interruption by the capsule itself is never seen: a call that had not begun to do its work is made again, a
 * relative timeout (poll, epoll_wait, nanosleep, clock_nanosleep, FUTEX_WAIT) with what is left of it, a write() or
 * pwrite64() that was cut short is continued.  Other calls that were cut short (writev, sendmsg) return the short count, as
 * after any signal.
 */
void shadow_call(struct shadow_exec *x, long nr, const uint64_t args[static 6], uint32_t handles);

/*
 * In @handles: the call is the guest's.  The guest can interrupt it: it returns -EINTR then if it had done nothing, else what it has
 * done.  In a service with bells only such calls may use the guest's memory.
 */
#define SHADOW_FOR_GUEST (1u << 31)

/** shadow_hold_fd() - A descriptor that is good for nothing; dup3() of it over a number closes what was there and keeps the number. */
int shadow_hold_fd(void);

/** shadow_hurry() - Whether somebody waits for this step's end: return SHADOW_AGAIN soon. */
bool shadow_hurry(const struct shadow_exec *x);

/**
 * shadow_now_ns() - A clock to measure short times by: cheap, without a system call; it begins anywhere
 *
 * From the time-stamp counter, whose rate is measured at the start.  0 in a service without bells.
 */
uint64_t shadow_now_ns(void);

/** shadow_load32() - One load of an aligned word of guest memory.  Return: 0, -EFAULT. */
int shadow_load32(uint32_t *to, uint64_t guest_address);

/** shadow_store32() - One store of an aligned word to guest memory.  Return: 0, -EFAULT. */
int shadow_store32(uint64_t guest_address, uint32_t value);

/** shadow_swap32() - The same, and a full barrier.  Return: 0, -EFAULT. */
int shadow_swap32(uint64_t guest_address, uint32_t value);

/** shadow_alloc() - Memory in the capsule, zeroed.  Return: its handle; offset 0: there is no room. */
struct shadow_handle shadow_alloc(size_t bytes);

/** shadow_free() - Gives back what shadow_alloc() returned; a handle of 0 is nothing. */
void shadow_free(struct shadow_handle handle);

/** shadow_at() - Where it is now; good until the step ends.  NULL for a handle of 0. */
void *shadow_at(struct shadow_handle handle);

/** shadow_handle_of() - The handle of any object in the capsule: a global, a part of an allocated block. */
struct shadow_handle shadow_handle_of(const void *pointer);

/** shadow_fetch() - Copies guest memory here.  Return: 0, -EFAULT (a part may have been copied). */
int shadow_fetch(void *to, uint64_t guest_address, size_t bytes);

/** shadow_store() - Copies to guest memory.  Return: 0, -EFAULT (a part may have been written). */
int shadow_store(uint64_t guest_address, const void *from, size_t bytes);

/** shadow_fetch_words(), shadow_store_words() - The same for @n words (1 or more) of 8 bytes, in rising order; quicker for a few. */
int shadow_fetch_words(uint64_t *to, uint64_t guest_address, size_t n);
int shadow_store_words(uint64_t guest_address, const uint64_t *from, size_t n);

/**
 * shadow_covered() - How many bytes from an address on are in the map without a hole, at most @bytes
 *
 * Within the step they can be read directly.  In a mirror that faults on demand each of the pages is touched for it, so do
 * not ask for more than will be used; or use shadow_fetch() alone, which works with both.
 */
uint64_t shadow_covered(uint64_t guest_address, uint64_t bytes);

#endif
