/* forward.h - a guest thread's system call on its way to its executor in the shadow, and back
 *
 * Theory of operation
 *
 * A guest thread that forwards calls has a slot, 256 bytes in the process's own memory, and an executor, a thread of
 * the shadow, which sees the same bytes through the mirror.  The slot carries the seven registers of a call (paper, Section
 * V) and its result; nothing that a pointer in them points to is copied, since the shadow has the same memory at the same
 * addresses.
 *
 * Calls are numbered, by the guest, from 1 on; after 2^32 - 1 comes 0.  Three words say how far they are: `posted`, the guest's,
 * `taken` and `done`, the executor's.
 *
 *   guest thread                                   executor
 *   nr, arg[]; posted++                            sees another number there than that of its last call; takes the registers
 *   if host_asleep: rings the bell                 taken = number; makes the call
 *   spins a while on done                          result; done = number
 *   guest_asleep = 1; still not done?              if guest_asleep: rings the bell
 *     then reads the bell                          spins a while; host_asleep = 1; still nothing posted? reads the bell
 *   guest_asleep = 0; takes the result; seen = number
 *
 * Each side writes its own "asleep" word and then looks at the other's number again, with a full barrier in between, and each writes
 * its number and then looks at the other's "asleep", likewise: at least one of them sees the other's (Dekker).  A bell that rings
 * without need is harmless.  Spinning is bounded, to nothing if so configured: an idle pair costs no CPU.
 *
 * What a call between two that spin costs is the moving of cache lines from processor to processor, so each side has one that only it
 * writes and the other looks at: a call is one line there and one line back, whatever is in them.  They lie 128 bytes apart, as some
 * processors fetch lines in pairs.  `taken` and `seen` have lines for themselves, which the
 * other side looks at only when it waits for long: whether the other one works, or has not been given a processor yet.
 *
 * The bell is a stream of the guest thread's own: AF_VSOCK, to port DS_FORWARD_PORT of the host, from any port.  The guest
 * sends struct ds_forward_hello first; the host pairs it with the shadow by the token, which dshost told the agent in STARTED and
 * the agent the process, and nobody else.  An executor that is free gets the bell (DS_SHADOW_FD in shadow.h); it has it when
 * it has stored host_asleep, 0 or 1, so who waits for that stores something else there before the hello.  If there is
 * none, or the hello is wrong, the host ends the stream, without a word.  From then on a byte each way is a ring.  When the
 * stream ends, the executor is free for another thread.
 *
 * Who interrupts: a signal of the guest's program ends the guest thread's read of the bell.  It writes DS_FORWARD_INTERRUPT to
 * the bell, and goes on waiting for its call: dshost has the executor's call interrupted, so it ends with -EINTR, or with its
 * result if that was there first.  The byte is seen by the VM process as it passes (vsock.h), and the warden is told: the way of
 * a ring, from queue to executor, has no process in it that it would not have otherwise.  The byte then goes on, and is a
 * ring without need.  An interrupt may come too early, before the executor has taken the call, or get lost when
 * thousands are under way: who still waits after a while writes it again.  It may also come too late and meet the
 * next call in the slot: -EINTR when no interrupt was written since that was posted means to post that call again.
 *
 * How many calls there were is told by the executor (struct ds_forward_report), for people; nobody relies on it.
 *
 * What the host believes: nothing.  The slot's address comes in the hello; it is fetched and stored like any guest memory,
 * each word once; the registers may hold anything, and what limits the call is the shadow's jail.
 */
#ifndef WIRE_FORWARD_H
#define WIRE_FORWARD_H

#include <stddef.h>
#include <stdint.h>

#define DS_FORWARD_PORT 872 /* of the host */
#define DS_FORWARD_VERSION 2
#define DS_FORWARD_MAGIC UINT32_C(0x4c425344) /* the bytes "DSBL" */
#define DS_FORWARD_TOKEN_BYTES 16
#define DS_FORWARD_RING 1	/* a byte on the bell */
#define DS_FORWARD_INTERRUPT 2	/* likewise, guest to host only */
#define DS_FORWARD_SPIN_NS 50000 /* the usual bound */

/** struct ds_forward_slot - In guest memory, aligned to its size: never across two pages. */
struct ds_forward_slot {
	/* the guest's to write */
	uint32_t posted; /* number of the last call */
	uint32_t guest_asleep;
	uint64_t nr, arg[6];
	uint32_t seen; /* number of the last call whose result has been taken */
	uint32_t apart[15];
	/* the executor's */
	uint32_t done; /* number of the call that the result is of */
	uint32_t host_asleep;
	int64_t result;	  /* as the kernel returns it, -errno included */
	uint64_t host_ns; /* how long the call took there, without the way */
	uint64_t apart_too[5];
	uint32_t taken; /* number of the call that was begun last */
	uint32_t spare[15];
};

/** enum ds_forward_state - How far the last call is. */
enum ds_forward_state {
	DS_FORWARD_POSTED = 1, /* it is there */
	DS_FORWARD_RUNNING,    /* the executor has taken it */
	DS_FORWARD_DONE,       /* the result is there; or there has been no call */
};

/** ds_forward_done() - Whether the last call is done; if so its result can be read. */
static inline int ds_forward_done(const struct ds_forward_slot *slot)
{
	return __atomic_load_n(&slot->done, __ATOMIC_ACQUIRE) == __atomic_load_n(&slot->posted, __ATOMIC_RELAXED);
}

/** ds_forward_state() - How far the last call is, for anybody on the guest's side. */
static inline enum ds_forward_state ds_forward_state(const struct ds_forward_slot *slot)
{
	if (ds_forward_done(slot))
		return DS_FORWARD_DONE;
	return __atomic_load_n(&slot->taken, __ATOMIC_RELAXED) == __atomic_load_n(&slot->posted, __ATOMIC_RELAXED) ? DS_FORWARD_RUNNING :
														     DS_FORWARD_POSTED;
}

/** ds_forward_take() - The result of the last call, which is done. */
static inline int64_t ds_forward_take(struct ds_forward_slot *slot)
{
	const int64_t result = slot->result;

	__atomic_store_n(&slot->seen, slot->posted, __ATOMIC_RELEASE);
	return result;
}

/**
 * ds_forward_post() - What is in `nr` and `arg` is the next call; the one before is done
 *
 * A full barrier on x86.  Return: whether the bell must be rung.
 */
static inline int ds_forward_post(struct ds_forward_slot *slot)
{
	/* Leaves with the stores before it, which an exchange would wait for. */
	__atomic_store_n(&slot->posted, slot->posted + 1, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return __atomic_load_n(&slot->host_asleep, __ATOMIC_SEQ_CST) != 0;
}

/**
 * struct ds_forward_report - What an executor answers to DS_SHADOW_FD (MESSAGE, seq of the FD), any number of times
 *
 * About once a second while it works, and when the bell has ended.
 */
struct ds_forward_report {
	uint64_t calls;	  /* that it has made for this bell */
	uint64_t busy_ns; /* time in them */
	uint32_t over;	  /* 1: the bell has ended, the descriptor is closed, the executor is free */
	uint32_t zero;
};

/** struct ds_forward_hello - The first bytes on a bell. */
struct ds_forward_hello {
	uint32_t magic, version;
	uint8_t token[DS_FORWARD_TOKEN_BYTES];
	uint64_t slot;	  /* its address in the process */
	uint32_t spin_ns; /* how long the executor may spin before it sleeps */
	uint32_t zero;
};

_Static_assert(sizeof(struct ds_forward_slot) == 256 && offsetof(struct ds_forward_slot, done) == 128 &&
		       offsetof(struct ds_forward_slot, taken) == 192 && sizeof(struct ds_forward_hello) == 40 &&
		       sizeof(struct ds_forward_report) == 24,
	       "no padding");

#endif
