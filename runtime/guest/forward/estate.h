/* estate.h - descriptors of the host that go from one process of the guest to another: fork, exec
 *
 * Theory of operation
 *
 * A process that comes into being by fork or exec has no shadow; it gets one when it first needs one (forward_become()).  What
 * it has inherited of the host's descriptors lies in an estate meanwhile (runtime/wire/estate.h), and the process holds the
 * estate's stream.  Its placeholders are inherited as any descriptors are.
 *
 *   fork    the parent lays its descriptors aside before it forks and closes its copy of the stream afterwards: the child's is
 *	     the only one.  What the child does with the numbers (dup, close) is kept in a table: which descriptor of the estate
 *	     has which number now (`key`).
 *   vfork   the same, but the child shares the memory, so its table is one made for it (struct forward_birth).  It has no
 *	     shadow and gets none: it may copy, close and hand on.
 *   exec    those that are not closed by exec are laid aside at the numbers that they have, from the shadow or from the estate
 *	     that the process has not claimed; the stream stays open over the exec, and its number and the estate's token are in
 *	     DS_FORWARD_ESTATE.  The next program copies that estate into one with a stream of its own, so that it does not matter
 *	     who else has the first: a program without the library in between, for one.
 *
 * The host's descriptors are the same open file descriptions on both sides of all this: offsets are shared, and a pipe has ended
 * when the last process has closed it.  What belongs to a process on the host is the shadow's and does not go along: record locks
 * (fcntl), epoll companions.
 *
 * A message on a unix socket of the guest takes descriptors along in the same way, each in an estate of its own: carry.c.
 */
#ifndef GUEST_FORWARD_ESTATE_H
#define GUEST_FORWARD_ESTATE_H

#include "runtime/guest/forward/forward.h"
#include "runtime/wire/estate.h"

/** struct forward_estate - One that this process may claim. */
struct forward_estate {
	int32_t stream; /* -1: none */
	uint8_t token[DS_ESTATE_TOKEN_BYTES];
};

/** struct forward_estate_answer - What the host says. */
struct forward_estate_answer {
	struct ds_estate_reply head;
	uint16_t number[DS_ESTATE_PAIRS_MAX];
};

/** struct forward_carried - The reply that a carrier has in it (carry.c). */
struct forward_carried {
	struct ds_estate_reply head;
	uint16_t number;
	uint8_t end[];
};

/**
 * forward_estate_open() - Lays descriptors aside
 * @e: filled; its stream is not among our own descriptors yet (forward_own_add()), and closed by exec
 * @source: token of our shadow, or of an estate
 * @pairs: n of them; 0: all of an estate
 *
 * With signals blocked.  Return: how many there are, their numbers in @got; -errno (then there is no stream).
 */
int64_t forward_estate_open(struct forward_estate *e, const uint8_t *source, const struct ds_estate_pair *pairs, uint32_t n,
			    struct forward_estate_answer *got);

/** forward_estate_claim() - Gets them for the shadow of this token.  Return: how many came, their numbers in @got; -errno. */
int64_t forward_estate_claim(const struct forward_estate *e, const uint8_t *shadow, const struct ds_estate_pair *pairs, uint32_t n,
			     struct forward_estate_answer *got);

/** forward_estate_drop() - Closes those that pairs[].from name, or all.  Return: 0, -errno. */
int64_t forward_estate_drop(const struct forward_estate *e, const struct ds_estate_pair *pairs, uint32_t n, struct forward_estate_answer *got);

/**
 * forward_estate_transfer() - All of some bytes, to the stream or from it
 * @out: to it
 * @until_ns: CLOCK_MONOTONIC
 *
 * With signals blocked, as the next two.  Return: 0 or -errno.
 */
int64_t forward_estate_transfer(int32_t stream, bool out, void *at, uint64_t bytes, int64_t until_ns);

/** forward_estate_ask() - A request; its magic and version are set here.  @until_ns: set to when it is to be answered.  Return: 0 or -errno. */
int64_t forward_estate_ask(int32_t stream, struct ds_estate_request *ask, const struct ds_estate_pair *pairs, int64_t *until_ns);

/** forward_estate_hear() - The answer, but for the data of a RECEIVE.  Return: 0 or -errno: there is none. */
int64_t forward_estate_hear(int32_t stream, struct forward_estate_answer *got, int64_t until_ns);

/**
 * forward_estate_carry() - Lays one descriptor aside and leaves the answer in the stream, for who gets that
 * @source: as forward_estate_open()
 *
 * With signals blocked.  Return: the stream, the caller's; -EBADF: the source has none of that number; -errno.
 */
int64_t forward_estate_carry(const uint8_t *source, const struct ds_estate_pair *pair);

/** forward_estate_carried() - Whether a descriptor is such a stream; @token: of its estate, @number: of what is in it. */
bool forward_estate_carried(int32_t fd, uint8_t token[DS_ESTATE_TOKEN_BYTES], uint16_t *number);

/* --- birth.c: fork and vfork ---------------------------------------------------------------------------------------- */

/** struct forward_birth - A process that is being made. */
struct forward_birth {
	uint32_t used;
	int32_t child; /* of vfork: the child's number; 0: it does not run yet */
	bool shared;   /* vfork */
	bool inherits; /* there is an estate */
	bool maps;     /* files of the host are mapped: forward_window_fork() */
	bool leased;   /* the estate has a lease of these */
	struct forward_estate estate;
	struct forward_heir *heir; /* of vfork, if it inherits */
};

/** struct forward_heir - What a process without a shadow has at each number. */
struct forward_heir {
	uint8_t state[FORWARD_FDS_MAX]; /* as forward_fd_state; of vfork only */
	uint16_t key[FORWARD_FDS_MAX];	/* the number in the estate */
	struct forward_estate_answer answer;
	struct ds_estate_pair pair[DS_ESTATE_PAIRS_MAX];
};

/** forward_cloning(), forward_cloned() - Of the interception. */
uint64_t forward_cloning(const struct intercept_call *call, uint64_t flags);
void forward_cloned(uint64_t cookie, int64_t value);

/** forward_wait_call() - wait4, waitid of any child.  Return: whether it did it; theory in birth.c. */
bool forward_wait_call(const struct intercept_call *call, int64_t *result);

/** forward_birth_any() - Whether there may be a child that shares the memory. */
bool forward_birth_any(void);

/** forward_birth_mine() - Of the calling child that shares the memory; NULL: nothing is known of it. */
struct forward_birth *forward_birth_mine(void);

/** forward_birth_reset() - In a forked child. */
void forward_birth_reset(void);

/* --- heir.c: a process that has not claimed yet --------------------------------------------------------------------- */

extern struct forward_estate forward_inherited; /* the estate of this process */
extern struct forward_heir forward_heir;

/** forward_heir_pairs() - What of the host's is handed on: all, or what exec leaves open; at most DS_ESTATE_PAIRS_MAX.  Return: how many. */
uint32_t forward_heir_pairs(struct ds_estate_pair *pair, const uint8_t *state, const uint16_t *key, bool exec);

/** forward_heir_all() - All of the host's that a forked child inherits: descriptors, and what is mapped.  Return: as forward_heir_pairs(). */
uint32_t forward_heir_all(struct ds_estate_pair *pair, const uint16_t *key);

/** forward_heir_has() - Whether a number is among the @n of an answer. */
bool forward_heir_has(const struct forward_estate_answer *answer, uint32_t n, uint16_t number);

/** forward_heir_begin() - A forked child has @estate, at the numbers that it has now. */
void forward_heir_begin(const struct forward_estate *estate);

/** forward_heir_start() - A program that was executed looks what it has inherited (DS_FORWARD_ESTATE). */
void forward_heir_start(void);

/** forward_heir_claim() - The shadow is there: gets what is left, and forgets the estate. */
void forward_heir_claim(void);

/** forward_heir_lend() - Lays @fd aside, of the shadow or of what it would claim, as forward_estate_carry() does. */
int64_t forward_heir_lend(uint16_t fd);

/** forward_heir_borrow() - Gets what has @number in the estate of @token for our shadow, at @fd.  Return: 0 or -errno. */
int64_t forward_heir_borrow(const uint8_t *token, uint16_t number, uint16_t fd);

/** forward_heir_closed() - Number @fd is no more; with the last one of a descriptor the estate drops it.  @birth: of vfork, else NULL. */
void forward_heir_closed(struct forward_birth *birth, uint64_t fd);

/** forward_heir_copied() - Number @to is now a copy of @from, or of nothing of the host's. */
void forward_heir_copied(struct forward_birth *birth, uint64_t from, uint64_t to, bool cloexec);

/**
 * forward_heir_pass() - Before an exec: lays aside what stays open
 * @stream: set to the descriptor that stays open, or -1
 *
 * Until forward_heir_failed(), or for good, the texts for the next program are the caller's.  Return: false: another's exec lasts too long.
 */
bool forward_heir_pass(struct forward_birth *birth, enum forward_who who, int32_t *stream);

/** forward_heir_failed() - The exec has failed. */
void forward_heir_failed(int32_t stream);

/** forward_heir_passed() - Child @tid, which shares the memory, is over, or its exec is. */
void forward_heir_passed(int32_t tid);

#endif
