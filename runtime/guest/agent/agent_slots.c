/* agent_slots.c - dsagent's shadows, seen from the main process; states in agent_server.h */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_bar.h"
#include "runtime/guest/agent/agent_host.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_server.h"

#define COMPLAIN_MS 10000 /* after which a host that does not let go is mentioned */
#define CHAN_BUFFER_BYTES (1 << 20)

static uint32_t index_of(const struct agent_server *s, const struct agent_slot *slot)
{
	return slot - s->slot;
}

/* --- requests under way ------------------------------------------------------------------------------------------- */

static struct agent_ask *ask_new(struct agent_server *s, const struct agent_client *c, const struct ds_local_head *m, const struct agent_slot *slot)
{
	struct agent_ask *a = malloc(sizeof(*a));

	if (!a)
		return NULL;
	s->next_tag = (s->next_tag + 1) & (AGENT_SEQ_OWN - 1);
	*a = (struct agent_ask){
		.next = s->asks, .tag = s->next_tag, .seq = m->seq, .client = c->id, .kind = m->kind, .slot = index_of(s, slot)};
	s->asks = a;
	return a;
}

/* Takes the first out of the list for which one of these holds: @tag is its (UINT32_MAX: any), it is of @slot and of @kind (0: any). */
static struct agent_ask *ask_take(struct agent_server *s, uint32_t slot, uint32_t tag, uint16_t kind)
{
	for (struct agent_ask **at = &s->asks; *at; at = &(*at)->next) {
		struct agent_ask *a = *at;

		if (a->slot != slot || (tag != UINT32_MAX && a->tag != tag) || (kind && a->kind != kind))
			continue;
		*at = a->next;
		return a;
	}
	return NULL;
}

static void ask_done_all(struct agent_server *s, uint32_t slot, uint16_t kind)
{
	struct agent_ask *a;

	while ((a = ask_take(s, slot, UINT32_MAX, kind))) {
		agent_client_done(s, a->client, a->seq);
		free(a);
	}
}

static void ask_refuse_all(struct agent_server *s, struct agent_slot *slot, uint16_t kind)
{
	struct agent_ask *a;

	while ((a = ask_take(s, index_of(s, slot), UINT32_MAX, kind))) {
		agent_client_refuse(s, a->client, DS_LOCAL_REFUSED, a->seq, slot->target.pid, &slot->end);
		free(a);
	}
}

/* --- the life of a slot --------------------------------------------------------------------------------------------- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void slot_free(struct agent_server *s, struct agent_slot *slot)
{
	ask_done_all(s, index_of(s, slot), DS_LOCAL_STOP);
	agent_target_close(&slot->target);
	*slot = (struct agent_slot){.state = AGENT_SLOT_FREE, .chan_fd = -1, .host_fd = -1, .safe_fd = -1};
}

static bool wants_retry(const struct agent_server *s, const struct agent_slot *slot)
{
	return slot->want.flags & DS_LOCAL_RETRY && !slot->stopping && !s->ending && slot->end.code == DS_LOCAL_C_HOST;
}

/* Tells who asked, once, how it ended or that it could not begin. */
static void announce_end(struct agent_server *s, struct agent_slot *slot)
{
	bool again = wants_retry(s, slot);

	agent_log(slot->end.code == DS_LOCAL_C_SYSTEM ? LOG_ERR : LOG_INFO, "shadow %u of process %d (%s) %s: %s%s", slot->id, slot->target.pid,
		  slot->target.comm, slot->answered ? "ended" : "was refused", slot->end.text, again ? "; trying again" : "");
	if (slot->answered)
		agent_client_refuse(s, slot->client, DS_LOCAL_ENDED, slot->seq, slot->target.pid, &slot->end);
	else if (!again)
		agent_client_refuse(s, slot->client, DS_LOCAL_REFUSED, slot->seq, slot->target.pid, &slot->end);
}

/* Nothing of it is left on the host: frames may go.  The slot is free when the child has taken its helper out, too. */
static void release(struct agent_server *s, struct agent_slot *slot)
{
	close_fd(&slot->host_fd);
	close_fd(&slot->safe_fd);
	ask_done_all(s, index_of(s, slot), DS_LOCAL_DROP);
	if (slot->child)
		return;
	atomic_store(&s->account->pinned[index_of(s, slot)].pages, 0);
	if (!wants_retry(s, slot)) {
		slot_free(s, slot);
		return;
	}
	slot->state = AGENT_SLOT_WAIT;
	slot->at_ms = agent_now_ms() + s->o->retry_ms;
}

/* The child has nothing more to do with the host.  That it has ended is announced when it has taken its helper out, so that
 * whoever hears of it can ask for another one at once. */
static void drain(struct agent_server *s, struct agent_slot *slot)
{
	close_fd(&slot->chan_fd);
	slot->state = AGENT_SLOT_DRAIN;
	slot->at_ms = agent_now_ms() + COMPLAIN_MS;
	slot->complained = false;
	if (!slot->child)
		announce_end(s, slot);
	ask_refuse_all(s, slot, DS_LOCAL_REFRESH);
	ask_refuse_all(s, slot, DS_LOCAL_CALL);
	ask_refuse_all(s, slot, DS_LOCAL_WINDOW);
	ask_refuse_all(s, slot, DS_LOCAL_UNWINDOW);
	/* Without the safe nothing was told: there is nothing to wait for. */
	if (slot->safe_fd < 0 || shutdown(slot->host_fd, SHUT_WR))
		release(s, slot);
}

static void start(struct agent_server *s, struct agent_slot *slot)
{
	const int buffer = CHAN_BUFFER_BYTES;
	struct agent_shadow_params p = {
		.target = &slot->target,
		.caller = &slot->caller,
		.want = &slot->want,
		.id = slot->id,
		.account = s->account,
		.slot = index_of(s, slot),
		.view = &s->view[index_of(s, slot)],
	};
	int pair[2];

	slot->answered = slot->complained = false;
	slot->end = (struct agent_refusal){DS_LOCAL_C_SYSTEM, "dsagent's process for it died"};
	memset(p.view, 0, sizeof(*p.view));
	atomic_store(&s->account->pinned[p.slot].uid, slot->caller.uid);
	slot->host_fd = agent_host_connect(s->o->host);
	if (slot->host_fd < 0) {
		agent_refuse(&slot->end, DS_LOCAL_C_HOST, "the host cannot be reached: %s; is dshost there, and does it serve this VM?",
			     strerror(-slot->host_fd));
		drain(s, slot);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		agent_refuse(&slot->end, DS_LOCAL_C_SYSTEM, "socketpair: %s", strerror(errno));
		drain(s, slot);
		return;
	}
	for (int i = 0; i < 2; i++)
		setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof(buffer));
	p.chan_fd = pair[1];
	p.host_fd = slot->host_fd;
	slot->child = agent_fork((int[]){pair[1], slot->host_fd, slot->target.pidfd}, 3);
	if (!slot->child)
		_exit(agent_shadow_main(&p));
	close(pair[1]);
	slot->chan_fd = pair[0];
	slot->state = AGENT_SLOT_RUN;
	if (slot->child < 0) {
		slot->child = 0;
		agent_refuse(&slot->end, DS_LOCAL_C_SYSTEM, "fork: %s", strerror(errno));
		drain(s, slot);
	}
}

static void slot_stop(struct agent_server *s, struct agent_slot *slot)
{
	struct ds_local_about m = {.head = {DS_LOCAL_MAGIC, DS_LOCAL_VERSION, DS_LOCAL_STOP, sizeof(m), 0}};

	if (slot->stopping)
		return;
	slot->stopping = true;
	if (slot->state == AGENT_SLOT_WAIT) {
		agent_refuse(&slot->end, DS_LOCAL_C_STOPPED, "it was asked to end");
		announce_end(s, slot);
		slot_free(s, slot);
	} else if (slot->state == AGENT_SLOT_RUN && send(slot->chan_fd, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && slot->child) {
		kill(slot->child, SIGKILL); /* it does not read: the helper ends with it, and the stream is drained as always */
	}
}

/* --- requests ------------------------------------------------------------------------------------------------------- */

/* The slot of a process: one that lives, rather than one that drains. */
static struct agent_slot *slot_of(struct agent_server *s, pid_t pid)
{
	struct agent_slot *found = NULL;

	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		struct agent_slot *slot = &s->slot[i];

		if (slot->state == AGENT_SLOT_FREE || slot->target.pid != pid)
			continue;
		if (slot->state != AGENT_SLOT_DRAIN)
			return slot;
		if (!found || slot->child)
			found = slot;
	}
	return found;
}

void agent_slot_shadow(struct agent_server *s, struct agent_client *c, const struct ds_local_shadow *m, pid_t pid)
{
	struct agent_slot *slot = slot_of(s, pid), *fresh = NULL;
	struct agent_refusal why = {0};
	struct agent_target t = {.pidfd = -1};
	uint32_t of_user = 0;
	int err = 0;

	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		if (s->slot[i].state == AGENT_SLOT_FREE)
			fresh = fresh ? fresh : &s->slot[i];
		else
			of_user += s->slot[i].caller.uid == c->who.uid;
	}
	if (slot && slot->state != AGENT_SLOT_DRAIN)
		err = agent_refuse(&why, DS_LOCAL_C_BUSY, "process %d has a shadow already", pid);
	else if (slot && slot->child) /* its helper is being taken out: nobody else can trace the process */
		err = agent_refuse(&why, DS_LOCAL_C_BUSY, "the last shadow of process %d is still on its way out: try again", pid);
	else if (!fresh || s->ending)
		err = agent_refuse(&why, DS_LOCAL_C_LIMIT, "there are as many shadows as may be: %u (dsagent --shadows)", s->o->max_shadows);
	else if (c->who.uid && of_user >= (s->o->max_shadows + 1) / 2) /* nobody but root can leave others without */
		err = agent_refuse(&why, DS_LOCAL_C_LIMIT, "user %u has half of all shadows that may be: %u (dsagent --shadows)", c->who.uid, of_user);
	else if (m->flags & DS_LOCAL_FORCE && c->who.uid)
		err = agent_refuse(&why, DS_LOCAL_C_ACCESS, "only root may insist (FORCE)");
	err = err ? err : agent_target_open(&t, &c->who, pid, m->flags & DS_LOCAL_FORCE, &why);
	if (!err && s->o->root_only && (c->who.uid || t.uid))
		err = agent_refuse(&why, DS_LOCAL_C_ACCESS, "shadows are for root's programs only here (dsagent --root-only)");
	err = err ? err : agent_target_shadowable(&t, m->flags, &why);
	if (err) {
		if (agent_log_may(c->who.uid))
			agent_log(LOG_INFO, "process %d, uid %u, asked for a shadow of process %d: refused: %s", c->who.pid, c->who.uid, pid, why.text);
		agent_target_close(&t);
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->head.seq, pid, &why);
		return;
	}
	*fresh = (struct agent_slot){
		.state = AGENT_SLOT_RUN,
		.id = ++s->next_id,
		.target = t,
		.caller = c->who,
		.want = *m,
		.client = c->id,
		.seq = m->head.seq,
		.chan_fd = -1,
		.host_fd = -1,
		.safe_fd = -1,
	};
	start(s, fresh);
}

/* Whose shadow it is: root's, who asked for it, and the process itself. */
static bool may(const struct agent_client *c, const struct agent_slot *slot)
{
	return !c->who.uid || (c->who.uid == slot->caller.uid && c->who.gid == slot->caller.gid) || c->who.pid == slot->target.pid;
}

static void pass_on(struct agent_server *s, struct agent_slot *slot, struct agent_client *c, const struct ds_local_head *m)
{
	static _Alignas(8) uint8_t packet[DS_LOCAL_BYTES_MAX + 8];
	const struct agent_refusal busy = {DS_LOCAL_C_BUSY, "the shadow does not take more requests at the moment"};
	struct agent_ask *a = ask_new(s, c, m, slot);

	if (a) {
		memcpy(packet, m, m->bytes);
		((struct ds_local_head *)packet)->seq = a->tag;
		if (send(slot->chan_fd, packet, m->bytes, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return;
		free(ask_take(s, index_of(s, slot), a->tag, 0));
	}
	agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->seq, slot->target.pid, &busy);
}

void agent_slot_request(struct agent_server *s, struct agent_client *c, const struct ds_local_head *m, pid_t pid)
{
	struct agent_slot *slot = slot_of(s, pid);
	struct agent_refusal why;

	if (!slot || !may(c, slot)) {
		agent_refuse(&why, slot ? DS_LOCAL_C_ACCESS : DS_LOCAL_C_NONE, slot ? "the shadow of process %d is not yours" : "process %d has no shadow",
			     pid);
		agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->seq, pid, &why);
		return;
	}
	if (m->kind == DS_LOCAL_STOP) {
		if (!ask_new(s, c, m, slot))
			agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->seq, pid, &(struct agent_refusal){DS_LOCAL_C_SYSTEM, "no memory"});
		slot_stop(s, slot);
		return;
	}
	if (m->kind == DS_LOCAL_WINDOW && slot->target.uid && !s->o->users_window) {
		struct ds_local_windowed no = {.pid = pid, .got.err = -EPERM}; /* the window is one for all processes of the guest */

		agent_client_send(s, c->id, &no, sizeof(no), DS_LOCAL_WINDOWED, m->seq);
		return;
	}
	if (slot->state == AGENT_SLOT_RUN) {
		pass_on(s, slot, c, m);
		return;
	}
	/* There is no mirror, or soon there will be none: what is dropped is gone when the host has let go. */
	if (m->kind == DS_LOCAL_DROP && slot->state == AGENT_SLOT_DRAIN && ask_new(s, c, m, slot))
		return;
	if (m->kind != DS_LOCAL_CALL && m->kind != DS_LOCAL_WINDOW && slot->state == AGENT_SLOT_WAIT) {
		agent_client_done(s, c->id, m->seq);
		return;
	}
	agent_refuse(&why, slot->state == AGENT_SLOT_WAIT ? DS_LOCAL_C_HOST : DS_LOCAL_C_NONE,
		     slot->state == AGENT_SLOT_WAIT ? "the shadow of process %d waits for the host" : "the shadow of process %d has ended", pid);
	agent_client_refuse(s, c->id, DS_LOCAL_REFUSED, m->seq, pid, &why);
}

/* Of the shadows that @c may see and whose id is above @after, the one with the lowest; NULL: none. */
static struct agent_slot *next_listed(struct agent_server *s, const struct agent_client *c, uint32_t after)
{
	struct agent_slot *least = NULL;

	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		struct agent_slot *slot = &s->slot[i];

		if (slot->state != AGENT_SLOT_FREE && slot->id > after && may(c, slot) && (!least || slot->id < least->id))
			least = slot;
	}
	return least;
}

void agent_slot_list(struct agent_server *s, struct agent_client *c, const struct ds_local_about *m)
{
	static _Alignas(8) uint8_t packet[sizeof(struct ds_local_listed) + DS_LOCAL_LIST_MAX * sizeof(struct ds_local_entry)];
	struct ds_local_listed *out = (struct ds_local_listed *)packet;
	struct ds_local_entry *e = (struct ds_local_entry *)(out + 1);
	struct agent_slot *slot;
	uint32_t after = m->pid, n = 0;

	for (; n < DS_LOCAL_LIST_MAX && (slot = next_listed(s, c, after)); n++, after = slot->id) {
		const struct agent_view *v = &s->view[index_of(s, slot)];

		e[n] = (struct ds_local_entry){
			.id = slot->id,
			.pid = slot->target.pid,
			.uid = slot->target.uid,
			.state = slot->state == AGENT_SLOT_DRAIN   ? DS_LOCAL_S_ENDING
				 : slot->state == AGENT_SLOT_WAIT  ? DS_LOCAL_S_WAITING
				 : atomic_load(&v->running)	   ? DS_LOCAL_S_RUNNING
								   : DS_LOCAL_S_STARTING,
			.mode = slot->want.mode,
			.start_ticks = slot->target.start_ticks,
			.pinned_pages = atomic_load(&s->account->pinned[index_of(s, slot)].pages),
			.runs = atomic_load(&v->runs),
			.mirror_pages = atomic_load(&v->mirror_pages),
			.faults = atomic_load(&v->faults),
			.drops = atomic_load(&v->drops),
			.updates = atomic_load(&v->updates),
			.calls = atomic_load(&v->calls),
		};
		memcpy(e[n].service, slot->want.service, sizeof(e[n].service));
		snprintf(e[n].comm, sizeof(e[n].comm), "%s", slot->target.comm);
	}
	out->nentries = n;
	out->more = next_listed(s, c, after) != NULL;
	agent_client_send(s, c->id, packet, sizeof(*out) + n * sizeof(*e), DS_LOCAL_LISTED, m->head.seq);
}

/* --- events --------------------------------------------------------------------------------------------------------- */

/* The child has a safe with the frames; we take it from there, for as long as the host needs. */
static void hold(struct agent_slot *slot, int number)
{
	cleanup_close int pidfd = syscall(SYS_pidfd_open, slot->child, 0);
	struct ds_local_done m = {{DS_LOCAL_MAGIC, DS_LOCAL_VERSION, AGENT_CHAN_HELD, sizeof(m), 0}};

	close_fd(&slot->safe_fd);
	slot->safe_fd = pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, number, 0);
	if (slot->safe_fd >= 0)
		send(slot->chan_fd, &m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);
	else
		agent_log(LOG_ERR, "shadow %u: the safe cannot be had: %s", slot->id, strerror(errno));
}

/*
 * The window's descriptor comes along, if it was asked for; where the host has named frames, one of the guest's /dev/mem, which is for root
 * alone.  Who gets none cannot map anything, and says so to the host.
 */
static void windowed(struct agent_server *s, const struct agent_slot *slot, const struct agent_ask *a, struct ds_local_windowed *m)
{
	cleanup_close int fd = -1;

	if (!m->got.err && m->got.prot & DS_WINDOW_PHYSICAL)
		fd = slot->target.uid ? -1 : open("/dev/mem", O_RDWR | O_CLOEXEC);
	else if (!m->got.err && m->flags & DS_LOCAL_WINDOW_FD)
		fd = agent_bar_open();
	agent_client_send_fd(s, a->client, m, sizeof(*m), DS_LOCAL_WINDOWED, a->seq, fd);
}

void agent_slot_chan(struct agent_server *s, struct agent_slot *slot)
{
	static _Alignas(8) uint8_t packet[DS_LOCAL_BYTES_MAX];
	struct ds_local_head *m = (struct ds_local_head *)packet;
	const struct ds_local_refused *no = (const struct ds_local_refused *)packet;
	ssize_t n = recv(slot->chan_fd, packet, sizeof(packet), MSG_DONTWAIT);
	struct agent_ask *a;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < (ssize_t)sizeof(*m)) { /* it died; waitpid() tells how */
		drain(s, slot);
		return;
	}
	if (m->kind == AGENT_CHAN_HOLD) {
		hold(slot, ((const struct ds_local_about *)packet)->pid);
		return;
	}
	if (m->seq) {
		a = ask_take(s, index_of(s, slot), m->seq, 0);
		if (a && m->kind == DS_LOCAL_WINDOWED)
			windowed(s, slot, a, (struct ds_local_windowed *)packet);
		else if (a)
			agent_client_send(s, a->client, packet, n, m->kind, a->seq);
		free(a);
		return;
	}
	switch (m->kind) {
	case DS_LOCAL_STARTED:
		slot->answered = true;
		/* Whoever has the token can post calls for the process. */
		if (slot->caller.uid && slot->caller.pid != slot->target.pid)
			memset(((struct ds_local_started *)packet)->token, 0, DS_LOCAL_TOKEN_BYTES);
		agent_client_send(s, slot->client, packet, n, DS_LOCAL_STARTED, slot->seq);
		return;
	case DS_LOCAL_REFUSED:
	case DS_LOCAL_ENDED:
		slot->end.code = no->code;
		memcpy(slot->end.text, no->text, sizeof(slot->end.text));
		drain(s, slot);
		return;
	}
}

void agent_slot_host(struct agent_server *s, struct agent_slot *slot)
{
	uint8_t rest[4096];
	ssize_t n = recv(slot->host_fd, rest, sizeof(rest), MSG_DONTWAIT);

	/* What it still sends answers nobody any more; end of file or an error is what is waited for. */
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	release(s, slot);
}

bool agent_slot_exited(struct agent_server *s, pid_t pid, int status)
{
	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		struct agent_slot *slot = &s->slot[i];

		if (slot->state == AGENT_SLOT_FREE || slot->child != pid)
			continue;
		slot->child = 0;
		if (WIFSIGNALED(status))
			agent_log(LOG_ERR, "shadow %u of process %d: dsagent's process for it was killed by signal %d", slot->id, slot->target.pid,
				  WTERMSIG(status));
		if (slot->state == AGENT_SLOT_DRAIN)
			announce_end(s, slot);
		if (slot->state == AGENT_SLOT_DRAIN && slot->host_fd < 0)
			release(s, slot);
		return true;
	}
	return false;
}

void agent_slot_client_gone(struct agent_server *s, uint64_t client)
{
	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		struct agent_slot *slot = &s->slot[i];

		if (slot->state == AGENT_SLOT_FREE || slot->client != client)
			continue;
		slot->client = 0;
		if (slot->want.flags & DS_LOCAL_TIED || slot->state == AGENT_SLOT_WAIT)
			slot_stop(s, slot);
	}
}

void agent_slot_gone(struct agent_server *s, struct agent_slot *slot)
{
	agent_refuse(&slot->end, DS_LOCAL_C_EXIT, "process %d has exited", slot->target.pid);
	announce_end(s, slot);
	slot_free(s, slot);
}

int agent_slot_tick(struct agent_server *s)
{
	int64_t now = agent_now_ms(), least = -1;

	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		struct agent_slot *slot = &s->slot[i];

		if (slot->state != AGENT_SLOT_WAIT && (slot->state != AGENT_SLOT_DRAIN || slot->complained))
			continue;
		if (slot->at_ms > now) {
			least = least < 0 || slot->at_ms - now < least ? slot->at_ms - now : least;
		} else if (slot->state == AGENT_SLOT_WAIT) {
			start(s, slot);
			least = 0;
		} else {
			slot->complained = true;
			agent_log(LOG_WARNING, "shadow %u of process %d: the host has not let go of it for %d s; %" PRIu64 " pages stay pinned until it does",
				  slot->id, slot->target.pid, COMPLAIN_MS / 1000, (uint64_t)atomic_load(&s->account->pinned[i].pages));
		}
	}
	return least;
}

uint32_t agent_slot_stop_all(struct agent_server *s)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < s->o->max_shadows; i++) {
		if (s->slot[i].state != AGENT_SLOT_FREE)
			slot_stop(s, &s->slot[i]);
		left += s->slot[i].state != AGENT_SLOT_FREE;
	}
	return left;
}
