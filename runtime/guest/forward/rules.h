/* rules.h - what is done with each system call when descriptors and paths may be the host's
 *
 * A rule says where the things are that decide: descriptors and paths among a call's arguments.  Deciding is pure, so that it
 * can be tested with a table; who asks looks up on which side each of them is.
 *
 * What the rules lead to:
 *   local      the guest's kernel, registers as they are
 *   host       the shadow, registers as they are (paper, Section V: pointers mean the same there)
 *   refused    with an errno, and a line in the trace: what lies on both sides at once, and what makes no sense on the host
 *   special    a function of its own (enum forward_special): done on both sides, or translated
 */
#ifndef GUEST_FORWARD_RULES_H
#define GUEST_FORWARD_RULES_H

#include <stdbool.h>
#include <stdint.h>

enum forward_kind {
	FORWARD_LOCAL = 0, /* nothing in it can be the host's */
	FORWARD_FD,	   /* arg[a] is a descriptor */
	FORWARD_FDS,	   /* arg[a] and arg[b] are */
	FORWARD_PATH,	   /* arg[a] is a path */
	FORWARD_PATHS,	   /* arg[a] and arg[b] are */
	FORWARD_AT,	   /* arg[a] is a directory's descriptor, the next one a path */
	FORWARD_ATS,	   /* likewise, and arg[b] and the one behind it */
	FORWARD_SPECIAL,   /* a function of its own: b is an enum forward_special */
};

enum forward_flags {
	FORWARD_NESTED = 1,	/* pointers in memory that the arguments point to */
	FORWARD_NO_RESTART = 2, /* EINTR even if the handler has SA_RESTART (signal(7)) */
	FORWARD_NULL_PATH = 4,	/* the path may be NULL or empty: then it is about the descriptor */
	FORWARD_OPENS = 8,	/* the result is a new descriptor */
	FORWARD_REFUSE = 16,	/* not for the host's things: errno */
	FORWARD_TRANSLATE = 32, /* a function of its own looks at it first, when the sides are known */
};

enum forward_special {
	FORWARD_S_CLOSE = 1,
	FORWARD_S_CLOSE_RANGE,
	FORWARD_S_DUP,
	FORWARD_S_DUP2,
	FORWARD_S_FCNTL,
	FORWARD_S_IOCTL,
	FORWARD_S_SOCKET,
	FORWARD_S_EVENTFD,
	FORWARD_S_CHDIR,
	FORWARD_S_FCHDIR,
	FORWARD_S_GETCWD,
	FORWARD_S_UMASK,
	FORWARD_S_MMAP,
	FORWARD_S_MEMORY, /* munmap, mremap, madvise, brk, mprotect, msync: the mirror is told */
	FORWARD_S_POLL,
	FORWARD_S_SELECT,
	FORWARD_S_EPOLL_CTL,
	FORWARD_S_EPOLL_WAIT,
	FORWARD_S_EXEC,
	FORWARD_S_CLONE,
	FORWARD_S_SIGACTION,
	FORWARD_S_EXIT,
	FORWARD_S_WAIT, /* dsagent's helper is a child of the program */
	FORWARD_S_FIRST, /* what the C library does first in a forked child, before the program may confine it */
};

/** struct forward_rule - What decides about a call. */
struct forward_rule {
	uint8_t kind, a, b, flags;
	uint8_t error; /* when sides differ, or FORWARD_REFUSE */
};

/** enum forward_side - Where a descriptor, or what a path names, is. */
enum forward_side {
	FORWARD_HERE = 0,
	FORWARD_THERE = 1,
};

#define FORWARD_NR_MAX 512 /* calls have smaller numbers */

/** forward_rule() - The rule of a call; calls that nobody knows are local. */
const struct forward_rule *forward_rule(uint64_t nr);

/**
 * forward_sides() - The verdict on a call whose things are on these sides
 * @first: of the first descriptor or path
 * @second: of the second one; as @first if the rule knows only one
 *
 * Return: 0 local, 1 host, -errno refused.
 */
int forward_sides(const struct forward_rule *rule, enum forward_side first, enum forward_side second);

/** forward_name() - A call's name; NULL if nobody knows it. */
const char *forward_name(uint64_t nr);

/** forward_number() - A call by name.  @bytes: of the name.  Return: its number or -1. */
int forward_number(const char *name, uint64_t bytes);

/** forward_errno_name() - "ENOENT" of 2; NULL if nobody knows it. */
const char *forward_errno_name(uint64_t error);

/** forward_errno_number() - 2 of "ENOENT".  @bytes: of the name.  Return: -1 if nobody knows it. */
int forward_errno_number(const char *name, uint64_t bytes);

#endif
