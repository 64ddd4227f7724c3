/* policy_text.h - the guest's policy: rules about a program's own system calls, as text and as a table
 *
 * Theory of operation
 *
 * The text is that of ds-policy(5), a rule a line (runtime/wire/ruleline.h):
 *
 *	forward path=/host/data [to=/srv/data]        forward net=inet,inet6        forward address=127.0.0.1:6379
 *	forward call=uname,sysinfo
 *	local WHICH        deny error=EPERM WHICH        trace WHICH
 *	emulate value=0 call=getuid        emulate nodename=a release=b        emulate cpus=4        emulate clock=+3600
 *	emulate file=/proc/cpuinfo from=/etc/fake        emulate file=/etc/hostname text=other
 *
 *	WHICH = { call=NAME,... | path=PATTERN | fd=N | address=SPEC,... | family=NAME,... }, all of which have to match
 *
 * The first rule that matches a call decides; trace rules are asked apart from the others.  dsrun reads a file with this to say
 * what is wrong in it, and gives the text to the library, which reads it again: there is no second form of it.
 *
 * Pure: no system calls, no memory but the caller's; freestanding, as the library is.
 */
#ifndef GUEST_FORWARD_POLICY_TEXT_H
#define GUEST_FORWARD_POLICY_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/guest/forward/rules.h"
#include "runtime/wire/addrspec.h"

#define POLICY_TEXT_RULES 64u
#define POLICY_TEXT_BYTES 8192u /* of the text, terminated: it travels in the environment */
#define POLICY_TEXT_SPECS 8u
#define POLICY_TEXT_VALUE 1024u

enum policy_text_verb { POLICY_TEXT_FORWARD, POLICY_TEXT_LOCAL, POLICY_TEXT_DENY, POLICY_TEXT_EMULATE, POLICY_TEXT_TRACE };

/** enum policy_text_what - What a forward or emulate rule is about. */
enum policy_text_what {
	POLICY_TEXT_NOTHING,
	POLICY_TEXT_PATH,  /* forward: path, to */
	POLICY_TEXT_NET,   /* forward: families */
	POLICY_TEXT_CALLS, /* forward: calls */
	POLICY_TEXT_ADDRESS, /* forward: spec, and calls if they are given */
	POLICY_TEXT_VALUE_OF, /* emulate: value, calls */
	POLICY_TEXT_UNAME, /* names[] */
	POLICY_TEXT_CPUS,  /* value */
	POLICY_TEXT_CLOCK, /* value: nanoseconds that the clock is put on; clock_set: it begins there */
	POLICY_TEXT_FILE,  /* path; to: another file; text: what is in it */
};

/** enum policy_text_name - Fields of uname(2). */
enum policy_text_name { POLICY_TEXT_SYSNAME, POLICY_TEXT_NODENAME, POLICY_TEXT_RELEASE, POLICY_TEXT_VERSION, POLICY_TEXT_MACHINE, POLICY_TEXT_NAMES };

/** enum policy_text_family - Bits. */
enum policy_text_family {
	POLICY_TEXT_UNIX = 1,
	POLICY_TEXT_INET = 2,
	POLICY_TEXT_INET6 = 4,
	POLICY_TEXT_NETLINK = 8,
	POLICY_TEXT_PACKET = 16,
	POLICY_TEXT_VSOCK = 32,
};

/** struct policy_text_rule - One rule; strings are in the caller's buffer, NULL: not given. */
struct policy_text_rule {
	uint8_t verb, what;
	bool has_calls, clock_set;
	uint16_t error; /* errno of a deny */
	uint16_t families; /* 0: not given */
	uint32_t nspecs;
	int32_t fd; /* -1: not given */
	int64_t value;
	const char *path, *to, *text;
	const char *names[POLICY_TEXT_NAMES];
	uint64_t calls[FORWARD_NR_MAX / 64];
	struct addrspec spec[POLICY_TEXT_SPECS];
};

/** struct policy_text - All of them, in their order. */
struct policy_text {
	uint32_t n;
	struct policy_text_rule rule[POLICY_TEXT_RULES];
	char strings[POLICY_TEXT_BYTES]; /* what they point to */
	uint32_t used;
};

/** struct policy_text_fault - What is wrong: line 0: the text as a whole; @at: @bytes of the text that it is about, may be none. */
struct policy_text_fault {
	uint32_t line, bytes;
	const char *why; /* static text */
	const char *at;
};

/**
 * policy_text_read() - Reads rules, behind those that are there
 * @p: zeroed at first
 * @text: terminated; not kept
 * @fault: filled if it is wrong
 *
 * Return: 0, -1.
 */
int policy_text_read(struct policy_text *p, const char *text, struct policy_text_fault *fault);

/** policy_text_may_forward() - Whether a call can be made on the host by its name alone: it asks, and nothing in it is a descriptor, path or process. */
bool policy_text_may_forward(uint64_t nr);

/** policy_text_has() - Whether a rule names a call. */
static inline bool policy_text_has(const struct policy_text_rule *r, uint64_t nr)
{
	return nr < FORWARD_NR_MAX && r->calls[nr / 64] >> (nr % 64) & 1;
}

#endif
