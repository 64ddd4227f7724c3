/* agent_link.c - a shadow's two sockets: what comes, what is sent, and waiting for an answer while other things go on */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>

#include "runtime/guest/agent/agent_host.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_shadow_impl.h"
#include "runtime/guest/agent/agent_watch.h"

#define UNWATCHED_MS 1000 /* how often an exec is looked for where the kernel does not tell of it */

int agent_end(struct agent_shadow *s, uint32_t code, const char *fmt, ...)
{
	va_list ap;

	if (s->ending)
		return -1;
	s->ending = true;
	s->end.code = code;
	va_start(ap, fmt);
	vsnprintf(s->end.text, sizeof(s->end.text), fmt, ap);
	va_end(ap);
	return -1;
}

uint32_t agent_code_of_host(uint32_t code)
{
	switch (code) {
	case DS_AGENT_C_HOST:
	case DS_AGENT_C_TIMEOUT:
		return DS_LOCAL_C_HOST;
	case DS_AGENT_C_GONE:
		return DS_LOCAL_C_GONE;
	case DS_AGENT_C_LIMIT:
		return DS_LOCAL_C_LIMIT;
	default:
		return DS_LOCAL_C_REFUSED;
	}
}

/* --- to the parent ---------------------------------------------------------------------------------------------- */

void agent_tell(const struct agent_shadow *s, void *msg, size_t bytes, uint16_t kind, uint32_t seq)
{
	*(struct ds_local_head *)msg = (struct ds_local_head){
		.magic = DS_LOCAL_MAGIC, .version = DS_LOCAL_VERSION, .kind = kind, .bytes = bytes, .seq = seq};
	/* The parent always reads; when it is gone, so are we soon (PR_SET_PDEATHSIG). */
	while (send(s->p->chan_fd, msg, bytes, MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

void agent_tell_done(const struct agent_shadow *s, uint32_t seq)
{
	struct ds_local_done m;

	agent_tell(s, &m, sizeof(m), DS_LOCAL_DONE, seq);
}

void agent_tell_refused(const struct agent_shadow *s, uint16_t kind, uint32_t seq, const struct agent_refusal *why)
{
	struct ds_local_refused m = {.code = why->code, .pid = s->p->target->pid};

	snprintf(m.text, sizeof(m.text), "%s", why->text);
	agent_tell(s, &m, sizeof(m), kind, seq);
}

/* Keeps a copy of a message in a list.  Return: whether there was room. */
static bool keep(struct agent_later **list, uint32_t *n, uint32_t max, const void *msg, size_t bytes, int64_t until_ms)
{
	struct agent_later *l = *n < max ? malloc(sizeof(*l) + bytes) : NULL;

	if (!l)
		return false;
	l->next = NULL;
	l->until_ms = until_ms;
	memcpy(l->msg, msg, bytes);
	while (*list)
		list = &(*list)->next;
	*list = l;
	++*n;
	return true;
}

static void on_call(struct agent_shadow *s, const struct ds_local_call *m)
{
	struct ds_agent_call call = {.executor = m->executor, .payload_bytes = m->payload_bytes};

	atomic_fetch_add(&s->p->view->calls, 1);
	agent_send(s, &call, sizeof(call), DS_AGENT_CALL, m->head.seq, m + 1, m->payload_bytes, NULL, 0);
}

static void on_request(struct agent_shadow *s, const struct ds_local_head *head)
{
	const struct agent_refusal full = {DS_LOCAL_C_BUSY, "too many changes of this process's memory are under way"};

	switch (head->kind) {
	case AGENT_CHAN_HELD:
		s->held = true;
		return;
	case DS_LOCAL_STOP:
		agent_end(s, DS_LOCAL_C_STOPPED, "it was asked to end");
		return;
	case DS_LOCAL_CALL:
		if (s->standing)
			on_call(s, (const struct ds_local_call *)head);
		return;
	case DS_LOCAL_DROP:
	case DS_LOCAL_REFRESH:
	case DS_LOCAL_WINDOW:
	case DS_LOCAL_UNWINDOW:
		if (s->depth || !s->standing) {
			if (!keep(&s->queue, &s->nqueue, AGENT_QUEUE_MAX, head, head->bytes, 0))
				agent_tell_refused(s, DS_LOCAL_REFUSED, head->seq, &full);
		} else if (head->kind == DS_LOCAL_DROP) {
			agent_drop(s, (const struct ds_local_ranges *)head);
		} else if (head->kind == DS_LOCAL_WINDOW) {
			agent_window(s, (const struct ds_local_window *)head);
		} else if (head->kind == DS_LOCAL_UNWINDOW) {
			agent_unwindow(s, (const struct ds_local_unwindow *)head);
		} else {
			agent_refresh(s, (const struct ds_local_ranges *)head);
		}
		return;
	}
}

static void from_parent(struct agent_shadow *s)
{
	_Alignas(8) uint8_t packet[DS_LOCAL_BYTES_MAX];
	ssize_t n = recv(s->p->chan_fd, packet, sizeof(packet), MSG_DONTWAIT);

	if (n >= (ssize_t)sizeof(struct ds_local_head))
		on_request(s, (const struct ds_local_head *)packet);
	else if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
		agent_end(s, DS_LOCAL_C_STOPPED, "dsagent is gone");
}

/* --- to and from the host --------------------------------------------------------------------------------------- */

static void from_host(struct agent_shadow *s);

uint32_t agent_next_seq(struct agent_shadow *s)
{
	return AGENT_SEQ_OWN | (s->seq++ & (AGENT_SEQ_OWN - 1));
}

int agent_send(struct agent_shadow *s, void *msg, size_t bytes, uint16_t kind, uint32_t seq, const void *more, size_t more_bytes,
	       const void *rest, size_t rest_bytes)
{
	struct iovec iov[] = {{msg, bytes}, {(void *)more, more_bytes}, {(void *)rest, rest_bytes}};
	int err;

	*(struct ds_agent_head *)msg = (struct ds_agent_head){.magic = DS_AGENT_MAGIC,
							      .version = DS_AGENT_VERSION,
							      .kind = kind,
							      .bytes = bytes + more_bytes + rest_bytes,
							      .seq = seq};
	if (s->ending)
		return -1;
	err = agent_host_send(s->p->host_fd, iov, 3);
	if (!err)
		return 0;
	from_host(s); /* why it closed may be in what it sent before */
	return agent_end(s, DS_LOCAL_C_HOST, "the host %s: %s", err == -ETIMEDOUT ? "does not read" : "went away", strerror(-err));
}

static void on_answer(struct agent_shadow *s, const struct ds_agent_head *head)
{
	for (struct agent_wait *w = s->waits; w; w = w->outer) {
		if (w->seq != head->seq || w->done || (head->kind != w->kind && head->kind != DS_AGENT_REFUSED))
			continue;
		w->done = true;
		w->refused = head->kind == DS_AGENT_REFUSED;
		memcpy(w->msg, head, head->bytes);
		return;
	}
	agent_end(s, DS_LOCAL_C_HOST, "the host answered what was not asked (message %u)", head->kind);
}

static void on_reply(struct agent_shadow *s, const struct ds_agent_call *m)
{
	_Alignas(8) uint8_t packet[sizeof(struct ds_local_call) + DS_LOCAL_PAYLOAD_MAX];
	struct ds_local_call *reply = (struct ds_local_call *)packet;

	*reply = (struct ds_local_call){.pid = s->p->target->pid, .executor = m->executor, .payload_bytes = m->payload_bytes};
	memcpy(reply + 1, m + 1, m->payload_bytes);
	agent_tell(s, reply, sizeof(*reply) + m->payload_bytes, DS_LOCAL_REPLY, m->head.seq);
}

static struct agent_refusal reason(const struct ds_agent_refused *m)
{
	struct agent_refusal why = {.code = agent_code_of_host(m->code)};

	agent_log_name(why.text, sizeof(why.text), m->text);
	return why;
}

static void on_message(struct agent_shadow *s, const struct ds_agent_head *head)
{
	struct agent_refusal why;

	switch (head->kind) {
	case DS_AGENT_FAULT:
		if (!s->standing) {
			agent_end(s, DS_LOCAL_C_HOST, "the host asked for a page of a shadow that does not stand");
		} else if (s->depth > AGENT_DEPTH_MAX) {
			if (!keep(&s->faults, &s->nfaults, AGENT_FAULTS_MAX, head, head->bytes, INT64_MAX))
				agent_end(s, DS_LOCAL_C_SYSTEM, "more faults than can be kept");
		} else {
			agent_fault(s, (const struct ds_agent_fault *)head, 0);
		}
		return;
	case DS_AGENT_REPLY:
		on_reply(s, (const struct ds_agent_call *)head);
		return;
	case DS_AGENT_SPOILT:
		agent_spoilt(s, (const struct ds_agent_spoilt *)head);
		return;
	case DS_AGENT_ENDED:
		why = reason((const struct ds_agent_refused *)head);
		agent_end(s, why.code == DS_LOCAL_C_REFUSED ? DS_LOCAL_C_GONE : why.code, "%s", why.text);
		return;
	case DS_AGENT_REFUSED:
		if (head->seq < AGENT_SEQ_OWN) { /* a CALL */
			why = reason((const struct ds_agent_refused *)head);
			agent_tell_refused(s, DS_LOCAL_REFUSED, head->seq, &why);
			return;
		}
		on_answer(s, head);
		return;
	default:
		on_answer(s, head);
	}
}

static void from_host(struct agent_shadow *s)
{
	const char *why;
	int got = agent_host_receive(s->p->host_fd, &s->in), r = 1;

	/* A copy of each message is handed on: a fault that is served may receive the next one meanwhile. */
	while (!s->ending && r > 0) {
		_Alignas(8) uint8_t msg[AGENT_HOSTMSG_BYTES];
		const struct ds_agent_head *head;

		r = agent_hostmsg_next(&s->in, &head, &why);
		if (r > 0) {
			memcpy(msg, head, head->bytes);
			on_message(s, (const struct ds_agent_head *)msg);
		}
	}
	if (r < 0)
		agent_end(s, DS_LOCAL_C_HOST, "from the host: %s", why);
	if (got < 0)
		agent_end(s, DS_LOCAL_C_HOST, "the host %s", got == -EPIPE ? "closed the stream" : strerror(-got));
}

/* --- serving ---------------------------------------------------------------------------------------------------- */

static void look_for_exec(struct agent_shadow *s)
{
	int same = s->mem.remote.helper ? agent_mem_same(&s->mem) : 1;

	if (!same)
		agent_end(s, DS_LOCAL_C_EXEC, "process %d has executed another program", s->p->target->pid);
}

int agent_serve(struct agent_shadow *s, int timeout_ms)
{
	struct pollfd p[] = {
		{.fd = s->p->host_fd, .events = POLLIN},
		{.fd = s->p->chan_fd, .events = POLLIN},
		{.fd = s->p->target->pidfd, .events = POLLIN},
		{.fd = s->watch_fd, .events = POLLIN},
	};
	int limit = s->nfaults ? 50 : s->watch_fd < 0 ? UNWATCHED_MS : -1;
	int n = poll(p, 4, limit < 0 || (timeout_ms >= 0 && timeout_ms < limit) ? timeout_ms : limit);

	if (s->ending)
		return -1;
	if (n < 0 && errno != EINTR)
		return agent_end(s, DS_LOCAL_C_SYSTEM, "poll: %s", strerror(errno));
	if (n > 0 && p[2].revents)
		return agent_end(s, DS_LOCAL_C_EXIT, "process %d has exited", s->p->target->pid);
	if (n > 0 && p[3].revents) {
		int exec = agent_watch_exec(s->watch_fd);

		if (exec)
			look_for_exec(s);
	} else if (n == 0 && s->watch_fd < 0) {
		look_for_exec(s);
	}
	if (!s->ending && n > 0 && p[0].revents)
		from_host(s);
	if (!s->ending && n > 0 && p[1].revents)
		from_parent(s);
	if (!s->ending && s->nfaults)
		agent_faults_again(s);
	while (!s->ending && s->standing && !s->depth && s->queue) {
		struct agent_later *l = s->queue;

		s->queue = l->next;
		s->nqueue--;
		on_request(s, (const struct ds_local_head *)l->msg);
		free(l);
	}
	return s->ending ? -1 : 0;
}

uint32_t agent_wait_begin(struct agent_shadow *s, struct agent_wait *w, uint16_t kind)
{
	*w = (struct agent_wait){.outer = s->waits, .seq = agent_next_seq(s), .kind = kind};
	s->waits = w;
	return w->seq;
}

/* Waits end in the order of their nesting, because each is on the stack of who waits. */
void agent_wait_drop(struct agent_shadow *s, struct agent_wait *w)
{
	s->waits = w->outer;
}

int agent_await(struct agent_shadow *s, struct agent_wait *w, int timeout_ms, struct agent_refusal *why)
{
	int64_t until = agent_now_ms() + timeout_ms;

	s->depth++;
	while (!s->ending && !w->done) {
		int64_t left = until - agent_now_ms();

		if (left <= 0)
			agent_end(s, DS_LOCAL_C_HOST, "the host did not answer within %d s", timeout_ms / 1000);
		else
			agent_serve(s, left);
	}
	s->depth--;
	agent_wait_drop(s, w);
	if (!w->done)
		return -1;
	if (w->refused)
		*why = reason((const struct ds_agent_refused *)w->msg);
	return w->refused;
}
