/* policy.h - the guest's policy in force: what becomes of a call, whatever it is about; see policy_text.h and ds-policy(5)
 *
 * It is a convenience of the guest for its own program.  What a shadow may do on the host is the host's to say, and it does not
 * ask here.
 */
#ifndef GUEST_FORWARD_POLICY_H
#define GUEST_FORWARD_POLICY_H

#include "runtime/guest/forward/forward.h"
#include "runtime/guest/forward/policy_text.h"

/** forward_policy_traced() - Whether a trace is to have a line for @call: without trace rules every call has. */
bool forward_policy_traced(const struct intercept_call *call);

/** forward_policy_after() - @call is done: keeps the names of the host's directories, which paths may start from. */
void forward_policy_after(const struct intercept_call *call, int64_t result);

/* --- for policy.c: swap.c, emulate.c, clock.c --- */

/**
 * forward_swap() - Makes a socket of the internet the host's, or the guest's
 * @fd: of the program
 *
 * Return: 0, also if it is already; -EAFNOSUPPORT: another kind of socket; -errno.
 */
int64_t forward_swap(uint64_t fd, bool host);

/** forward_emulate() - Does what @r says of @call; @path: what it names, absolute.  Return: whether it is done; else @call may have changed. */
bool forward_emulate(const struct policy_text_rule *r, struct intercept_call *call, const char *path, int64_t *result);

/** forward_emulate_about() - Whether rule @r, an emulate, can be about calls with number @nr. */
bool forward_emulate_about(const struct policy_text_rule *r, uint64_t nr);

/** forward_emulate_names() - Whether rule @r wants to know the path of calls. */
bool forward_emulate_names(const struct policy_text_rule *r);

/** forward_clock_start() - @offset_ns: what is put on the clock.  Called once, if a rule says so. */
void forward_clock_start(int64_t value_ns, bool set);

/** forward_clock_call() - A call about time.  Return: whether it is done. */
bool forward_clock_call(struct intercept_call *call, int64_t *result);

/** forward_vdso_off() - From now on functions of the vDSO make system calls, as otherwise nobody would see them. */
void forward_vdso_off(void);

#endif
