/* agent_shadow.h - one shadow on the guest's side: a child of dsagent, from the injection to the end
 *
 * Theory of operation
 *
 * Why a process for each shadow: attaching waits, for threads to stop, for the kernel to pin gigabytes, for the host to make a
 * mirror; a process may also hang whoever reads its page table.  As a process of its own a shadow may wait, in straight
 * code, and what goes wrong with it, down to a crash, concerns nobody else.  The parent never waits for one.
 *
 *	clients <-> dsagent <-- chan --> child: shadow of one process <-- stream --> host
 *
 * Attaching, eager: the helper is put into the process, everything is pinned, held and read (agent_mem.h), then told in ATTACH.  On
 * demand ATTACH needs no more than where the mappings are, and room for the capsule that the agent chooses (agent_mem_glance()): it is
 * sent first, and the host makes the shadow while the helper is put in, which takes as long.  Whose mappings these were is looked at
 * before and, as for any attach, again with the helper there; what the program has mapped meanwhile is told by an UPDATE before the
 * shadow counts as standing.  If the helper cannot be put in after all, the stream ends, and the shadow on the host with it.
 * What can be done while somebody else works is done then: the mappings are read while the host answers HELLO, the safe is made and
 * execs are watched for while the helper is put in, and on demand the helper is completed when STARTED has been passed on.
 *
 * @chan carries messages as in local.h.  What the parent passes on (STOP, REFRESH, DROP, CALL) has a seq of the parent's below
 * AGENT_SEQ_OWN, and so has the answer.  Besides there are HOLD and HELD: before any frame is named to the host, the child names the
 * safe that keeps frames (hold.h), and the parent takes hold of it too.  The parent has the stream also.  So when the child is gone,
 * however, the parent closes the stream for writing, waits until the host has closed its side, and only then lets go of the
 * safe: frames stay allocated until nobody on the host has them.
 *
 * The child does one thing at a time: the change that is being made (DROP, REFRESH, a FAULT) is made in full, and while
 * its DONE is waited for, others from local clients wait in a queue.  FAULTs do not wait, because what the host is asked to do
 * may be waiting for one.  Each change is as agent_mem.h draws it, in this order: told, done by the host, let go.
 *
 *	DROP	block the pages (nothing is pinned or told there any more) - host: DROP, DONE - let go of pins - answer
 *	REFRESH	unblock - eager: pin and scan, host: UPDATE, DONE - let go of what is stale
 *		demand: compare with what was told, host: DROP of what differs, DONE - let go; UPDATE if there are more mappings
 *	FAULT	pin and scan the window - if something told there has changed: host: DROP, DONE, let go, again - PAGES
 *		a fault on a page that is blocked waits until it is not, for AGENT_FAULT_WAIT_MS
 *
 * It ends when the process exits (pidfd) or calls exec (agent_watch.h), when the parent says STOP or goes away, when the host
 * ends it or closes, or sends what is not understood.  The last message on @chan is ENDED, or REFUSED if it never stood.
 */
#ifndef GUEST_AGENT_SHADOW_H
#define GUEST_AGENT_SHADOW_H

#include "runtime/guest/agent/agent_mem.h"

#define AGENT_SEQ_OWN UINT32_C(0x80000000) /* numbers from here on are the child's own towards the host */
#define AGENT_FAULT_WAIT_MS 2000

/** enum agent_chan_kind - Messages between child and parent beyond those of local.h. */
enum agent_chan_kind {
	AGENT_CHAN_HOLD = 64, /* struct ds_local_about: pid is the number of the safe's descriptor in the child */
	AGENT_CHAN_HELD = 65, /* struct ds_local_done: the parent has it */
};

/** struct agent_view - What LIST says of a shadow, in shared memory; one writer, the child. */
struct agent_view {
	atomic_uint_least32_t running; /* the host said STARTED */
	atomic_uint_least64_t runs, mirror_pages;
	atomic_uint_least64_t faults, drops, updates, calls;
};

/** struct agent_shadow_params - What a child is given; stays the caller's. */
struct agent_shadow_params {
	const struct agent_target *target;
	const struct agent_caller *caller;  /* who asked */
	const struct ds_local_shadow *want; /* what for */
	uint32_t id;
	int chan_fd; /* SOCK_SEQPACKET to the parent */
	int host_fd; /* non-blocking, perhaps still connecting */
	struct agent_account *account;
	uint32_t slot;
	struct agent_view *view;
};

/** agent_shadow_main() - The life of a shadow, in a child forked for it.  Return: exit status, 0. */
int agent_shadow_main(const struct agent_shadow_params *p);

#endif
