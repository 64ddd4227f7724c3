/* agent_shadow_impl.h - what the parts of a shadow's child share: agent_shadow.c, agent_link.c, agent_change.c */
#ifndef GUEST_AGENT_SHADOW_IMPL_H
#define GUEST_AGENT_SHADOW_IMPL_H

#include "runtime/guest/agent/agent_hostmsg.h"
#include "runtime/guest/agent/agent_shadow.h"

#define AGENT_QUEUE_MAX 256  /* requests that wait for another one to be done */
#define AGENT_FAULTS_MAX 256 /* faults on pages that are blocked */
#define AGENT_DEPTH_MAX 4    /* changes within changes: a fault during a DROP whose window needs a DROP */

/** struct agent_wait - An answer of the host that somebody waits for; on the stack of who waits. */
struct agent_wait {
	struct agent_wait *outer;
	uint32_t seq;
	uint16_t kind; /* that answers it, besides REFUSED */
	bool done, refused;
	_Alignas(8) uint8_t msg[sizeof(struct ds_agent_refused)]; /* the answer; the largest there is */
};

/** struct agent_later - A request of a client, or a fault, that waits its turn. */
struct agent_later {
	struct agent_later *next;
	int64_t until_ms; /* of a fault */
	_Alignas(8) uint8_t msg[]; /* a whole message */
};

/** struct agent_shadow - The child's state. */
struct agent_shadow {
	const struct agent_shadow_params *p;
	struct agent_mem mem;
	struct agent_hostmsg in;
	struct agent_ranges mappings; /* as the host was told */
	struct agent_ranges holes;    /* on demand: the host was told that nothing is there, and asks no more */
	struct agent_ranges windowed; /* pages of the process that are the window's */
	struct agent_wait *waits;
	struct agent_later *queue, *faults;
	uint32_t nqueue, nfaults;
	int watch_fd;
	uint32_t seq, depth;
	bool held;    /* by the parent too */
	bool standing; /* STARTED */
	bool ending;
	struct agent_refusal end; /* why */
};

/* --- agent_link.c: both sockets ----------------------------------------------------------------------------------- */

/** agent_end() - It is over, for this reason; the first one counts.  Return: -1. */
__attribute__((format(printf, 3, 4))) int agent_end(struct agent_shadow *s, uint32_t code, const char *fmt, ...);

/** agent_tell() - Send a message to the parent, filling in its head.  @msg: begins with one; @bytes: of it. */
void agent_tell(const struct agent_shadow *s, void *msg, size_t bytes, uint16_t kind, uint32_t seq);

/** agent_tell_done() - DONE for a request of a client. */
void agent_tell_done(const struct agent_shadow *s, uint32_t seq);

/** agent_tell_refused() - REFUSED or ENDED. */
void agent_tell_refused(const struct agent_shadow *s, uint16_t kind, uint32_t seq, const struct agent_refusal *why);

/**
 * agent_send() - Send a message to the host
 * @s: the shadow
 * @msg: its struct, whose head is filled in here
 * @bytes: of the struct
 * @kind: of it
 * @seq: of it
 * @more: what follows; NULL: nothing
 * @more_bytes: of that
 * @rest: what follows then
 * @rest_bytes: of that
 *
 * Return: 0; -1: the shadow ends.
 */
int agent_send(struct agent_shadow *s, void *msg, size_t bytes, uint16_t kind, uint32_t seq, const void *more, size_t more_bytes,
	       const void *rest, size_t rest_bytes);

/** agent_next_seq() - A number for a request to the host. */
uint32_t agent_next_seq(struct agent_shadow *s);

/**
 * agent_await() - Wait for the host's answer, serving everything else meanwhile
 * @w: outer, seq and kind are the caller's to fill in before it sends: agent_wait_begin()
 * @timeout_ms: of silence; then the shadow ends
 * @why: set when the host refused
 *
 * Return: 0; 1: refused; -1: the shadow ends.
 */
int agent_await(struct agent_shadow *s, struct agent_wait *w, int timeout_ms, struct agent_refusal *why);

/** agent_wait_begin() - Before the request is sent: its answer has somewhere to go.  Return: the seq to use. */
uint32_t agent_wait_begin(struct agent_shadow *s, struct agent_wait *w, uint16_t kind);

/** agent_wait_drop() - The request was not sent after all. */
void agent_wait_drop(struct agent_shadow *s, struct agent_wait *w);

/** agent_serve() - Handle what has come within @timeout_ms (-1: for ever).  Return: 0; -1: the shadow ends. */
int agent_serve(struct agent_shadow *s, int timeout_ms);

/* --- agent_change.c: changes of the mirror --------------------------------------------------------------------------- */

/** agent_drop() - DS_LOCAL_DROP. */
void agent_drop(struct agent_shadow *s, const struct ds_local_ranges *m);

/** agent_refresh() - DS_LOCAL_REFRESH. */
void agent_refresh(struct agent_shadow *s, const struct ds_local_ranges *m);

/**
 * agent_ready() - On demand: the host knows that the process has a mapping at these pages, and of no page that it is a hole
 *
 * Return: 0; 1: the host refuses, @why; -1: the shadow ends.
 */
int agent_ready(struct agent_shadow *s, const struct ds_agent_range *r, struct agent_refusal *why);

/** agent_renew() - On demand: the host knows all mappings that the process has now.  Return: as agent_ready(). */
int agent_renew(struct agent_shadow *s, struct agent_refusal *why);

/** agent_take_back() - The host loses these pages, then they are let go of.  Return: 0; -1: the shadow ends. */
int agent_take_back(struct agent_shadow *s, const struct ds_agent_range *r, size_t n);

/** agent_fault() - DS_AGENT_FAULT; @until_ms: when it is answered in any case, 0: it has just come. */
void agent_fault(struct agent_shadow *s, const struct ds_agent_fault *m, int64_t until_ms);

/** agent_faults_again() - Faults that waited for blocked pages: those that need not any more, or have waited too long. */
void agent_faults_again(struct agent_shadow *s);

/* --- agent_window.c: files of the host that the process maps ----------------------------------------------------------- */

/** agent_window() - DS_LOCAL_WINDOW. */
void agent_window(struct agent_shadow *s, const struct ds_local_window *m);

/** agent_unwindow() - DS_LOCAL_UNWINDOW. */
void agent_unwindow(struct agent_shadow *s, const struct ds_local_unwindow *m);

/** agent_spoilt() - DS_AGENT_SPOILT: the process gets the signal that it would have got on the host. */
void agent_spoilt(const struct agent_shadow *s, const struct ds_agent_spoilt *m);

/** agent_window_end() - The shadow ends: the process loses what it has of the window, before others get it. */
void agent_window_end(struct agent_shadow *s);

/** agent_code_of_host() - enum ds_agent_code as enum ds_local_code. */
uint32_t agent_code_of_host(uint32_t code);

#endif
