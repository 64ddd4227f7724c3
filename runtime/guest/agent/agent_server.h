/* agent_server.h - dsagent's main process: local clients, and a child for each shadow and each map
 *
 * Theory of operation
 *
 * One thread, one poll loop, which never waits for anybody: not for a client, not for a process that is looked at, not
 * for the host.  What may take long is a child's: a shadow's (agent_shadow.h), and one for each MAP, which answers its client
 * itself and exits.  Requests for a shadow are passed on to its child with a tag in place of the client's number; the answer comes
 * back with the tag and goes to whoever asked, if they are still there.
 *
 * What must not be lost with a child is kept here: for each shadow the stream to the host and the safe that keeps its frames.
 *
 *	slot:	free -> run -> drain -> free, or -> wait -> run		(RETRY)
 *	run	the child lives
 *	drain	it has ended, or is about to; the stream is closed for writing; when the host has closed it too, the safe is let go of and
 *		whoever waits for that (STOP, DROP) is answered
 *	wait	for the host; there is no child, no stream and no pin
 *
 * Limits: clients in all and of one user; requests under way on a connection; maps at a time; shadows in all and (half of them) of one
 * user; pages pinned in all.  Who
 * does not read its answers is disconnected.  A child that does not read its requests has them refused as busy.
 *
 * When dsagent dies, however, its children die too (PR_SET_PDEATHSIG), the helpers end with their sockets, streams and safes
 * close.  Asked to end (SIGTERM) it stops all shadows and waits for the host to let go of them.
 */
#ifndef GUEST_AGENT_SERVER_H
#define GUEST_AGENT_SERVER_H

#include "runtime/guest/agent/agent_shadow.h"

/** struct agent_options - What dsagent was told. */
struct agent_options {
	const char *socket;
	const char *host;     /* a unix socket in the host's place; NULL: AF_VSOCK */
	uint64_t limit_pages; /* pinned in all */
	uint32_t max_shadows;
	uint32_t retry_ms;
	bool users_window; /* programs of users get the VM's window too */
	bool root_only; /* shadows are for root's programs, and root's to ask for */
};

/* --- private to agent_server.c and agent_slots.c ------------------------------------------------------ */

struct agent_client {
	int fd; /* -1: free */
	uint64_t id; /* never used again */
	struct agent_caller who;
	int pidfd; /* of who connected; -1: could not be had */
	uint32_t pending;
};

/* A request that was passed on and is not answered yet. */
struct agent_ask {
	struct agent_ask *next;
	uint32_t tag, seq;
	uint64_t client;
	uint16_t kind;
	uint32_t slot;
};

enum agent_slot_state {
	AGENT_SLOT_FREE,
	AGENT_SLOT_RUN,
	AGENT_SLOT_DRAIN,
	AGENT_SLOT_WAIT,
};

struct agent_slot {
	enum agent_slot_state state;
	uint32_t id;
	struct agent_target target;
	struct agent_caller caller;
	struct ds_local_shadow want;
	uint64_t client; /* who asked; 0: is not there any more, or does not care */
	uint32_t seq;
	pid_t child; /* 0: none */
	int chan_fd, host_fd, safe_fd;
	bool answered; /* STARTED or REFUSED was sent */
	bool stopping; /* somebody wants it to end: no RETRY */
	struct agent_refusal end;
	int64_t at_ms; /* wait: when to try; drain: when to complain */
	bool complained;
};

struct agent_worker {
	pid_t pid; /* 0: free */
	uint64_t client;
	uint32_t seq;
	int64_t until_ms;
};

#define AGENT_CLIENTS_MAX 1024
#define AGENT_CLIENTS_USER_MAX 128
#define AGENT_CLIENTS_ROOT 64 /* that only root can have: a user may have thousands of numbers (newuidmap) */
#define AGENT_WORKERS_MAX 8

struct agent_server {
	const struct agent_options *o;
	int listen_fd, signal_fd;
	struct agent_client client[AGENT_CLIENTS_MAX];
	struct agent_worker worker[AGENT_WORKERS_MAX];
	struct agent_slot *slot; /* o->max_shadows of them */
	struct agent_view *view; /* shared memory, one a slot */
	struct agent_account *account; /* shared memory */
	struct agent_ask *asks;
	uint64_t next_client;
	uint32_t next_tag, next_id;
	bool ending;
};

/**
 * agent_server_run() - Serve until told to end
 * @o: what to do
 * @listen_fd: the listening socket
 *
 * SIGTERM, SIGINT and SIGCHLD are taken from a signalfd.
 *
 * Return: 0; -errno.
 */
int agent_server_run(const struct agent_options *o, int listen_fd);

/* agent_server.c */

/** agent_client_of() - The client with that number; NULL: it is gone. */
struct agent_client *agent_client_of(struct agent_server *s, uint64_t id);

/** agent_client_send() - Send a packet; a client that does not read is disconnected.  */
void agent_client_send(struct agent_server *s, uint64_t client, void *msg, size_t bytes, uint16_t kind, uint32_t seq);

/** agent_client_send_fd() - The same with a descriptor, which stays the caller's; -1: none. */
void agent_client_send_fd(struct agent_server *s, uint64_t client, void *msg, size_t bytes, uint16_t kind, uint32_t seq, int fd);

/** agent_client_refuse() - REFUSED or ENDED. */
void agent_client_refuse(struct agent_server *s, uint64_t client, uint16_t kind, uint32_t seq, uint32_t pid, const struct agent_refusal *why);

/** agent_client_done() - DONE. */
void agent_client_done(struct agent_server *s, uint64_t client, uint32_t seq);

/** agent_fork() - Fork a child that keeps only these descriptors and dies with us.  Return: as fork(). */
pid_t agent_fork(const int *keep, size_t nkeep);

/* agent_slots.c */

/** agent_slot_shadow() - SHADOW, checked as a message; @pid: of the process it means. */
void agent_slot_shadow(struct agent_server *s, struct agent_client *c, const struct ds_local_shadow *m, pid_t pid);

/** agent_slot_request() - STOP, DROP, REFRESH, CALL, WINDOW, UNWINDOW. */
void agent_slot_request(struct agent_server *s, struct agent_client *c, const struct ds_local_head *m, pid_t pid);

/** agent_slot_list() - LIST. */
void agent_slot_list(struct agent_server *s, struct agent_client *c, const struct ds_local_about *m);

/** agent_slot_chan() - A child has something to say. */
void agent_slot_chan(struct agent_server *s, struct agent_slot *slot);

/** agent_slot_host() - The host has closed a stream that is drained, or sent more on it. */
void agent_slot_host(struct agent_server *s, struct agent_slot *slot);

/** agent_slot_exited() - A child was reaped.  Return: whether it was a slot's. */
bool agent_slot_exited(struct agent_server *s, pid_t pid, int status);

/** agent_slot_client_gone() - A client disconnected: shadows tied to it end. */
void agent_slot_client_gone(struct agent_server *s, uint64_t client);

/** agent_slot_tick() - What is due by now.  Return: milliseconds until something is; -1: nothing. */
int agent_slot_tick(struct agent_server *s);

/** agent_slot_stop_all() - dsagent ends.  Return: how many slots are not free. */
uint32_t agent_slot_stop_all(struct agent_server *s);

/** agent_slot_gone() - A process whose slot waits has exited. */
void agent_slot_gone(struct agent_server *s, struct agent_slot *slot);

#endif
