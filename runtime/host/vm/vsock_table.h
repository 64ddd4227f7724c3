/* vsock_table.h - all streams of a VM: by their ports, in the order of their turns, and the packets that refuse
 *
 * Theory of operation
 *
 * A stream is known by the guest's port and the host's.  It is in the table from the moment accept() took it until it is
 * over on both sides, and then an RST tells the guest.  An RST belongs to no stream: those that the guest has no buffer
 * for yet wait in a list.  The list is bounded because no packet is taken from the guest while VSOCK_RESETS_HIGH of them
 * wait, and because a stream that ends adds one, of which there are VSOCK_STREAMS_MAX.
 *
 * Sockets are in vsock.c's epoll set with the stream as data.  They are taken out of it by name before they are closed, as
 * a forked child may hold them: otherwise a freed stream could have an event.
 *
 * A stream that the guest has forgotten while bytes are on their way to the holder stays in the table but is not found:
 * its ports are free.  A stream whose holder has closed stays until the guest's process has read all and the guest
 * answers; if places become few, it goes first.
 */
#ifndef HOST_VSOCK_TABLE_H
#define HOST_VSOCK_TABLE_H

#include "runtime/host/vm/vsock.h"
#include "runtime/host/vm/vsock_stream.h"

#define VSOCK_BUCKETS 256u
#define VSOCK_RESETS_HIGH 256u
#define VSOCK_RESETS_MAX (VSOCK_RESETS_HIGH + VSOCK_STREAMS_MAX + 8)

TAILQ_HEAD(vsock_stream_list, vsock_stream);

/** struct vsock_reset - An RST that waits. */
struct vsock_reset {
	uint32_t guest_port, host_port;
	uint16_t type;
};

/** struct vsock_table - All streams. */
struct vsock_table {
	int epoll;
	vsock_accept_fn accept;
	void *ctx;
	struct vsock_stream_list all, turn;
	struct vsock_stream *bucket[VSOCK_BUCKETS];
	uint32_t nstreams;
	struct vsock_reset reset[VSOCK_RESETS_MAX]; /* a ring */
	uint32_t reset_at, nresets;
};

/** vsock_table_init() - An empty table, whose sockets are watched by @epoll. */
void vsock_table_init(struct vsock_table *t, int epoll, vsock_accept_fn accept, void *ctx);

/** vsock_table_clear() - Ends all streams without a word to the guest. */
void vsock_table_clear(struct vsock_table *t);

/** vsock_table_find() - The stream of two ports that the guest knows; NULL if there is none. */
struct vsock_stream *vsock_table_find(struct vsock_table *t, uint32_t guest_port, uint32_t host_port);

/**
 * vsock_table_connect() - A stream for a REQUEST, if accept() takes it
 *
 * Return: 0; -EMFILE (too many), -ENOMEM, -errno of socketpair(), epoll_ctl(), accept().
 */
int vsock_table_connect(struct vsock_table *t, const struct virtio_vsock_hdr *h);

/** vsock_table_turn() - The stream may have something for the guest: to the end of the list. */
void vsock_table_turn(struct vsock_table *t, struct vsock_stream *s);

/** vsock_table_wait() - Off that list. */
void vsock_table_wait(struct vsock_table *t, struct vsock_stream *s);

/** vsock_table_settle() - After anything that happened to a stream: passes on, ends it if it is over, gives it a turn. */
void vsock_table_settle(struct vsock_table *t, struct vsock_stream *s);

/** vsock_table_gone() - The guest has forgotten the stream, which is freed once what it sent has been passed on. */
void vsock_table_gone(struct vsock_table *t, struct vsock_stream *s);

/** vsock_table_end() - The end: frees it, and the guest is told. */
void vsock_table_end(struct vsock_table *t, struct vsock_stream *s);

/** vsock_table_close() - Closes our end of the socketpair: the holder reads the end. */
void vsock_table_close(struct vsock_table *t, struct vsock_stream *s);

/** vsock_table_reset() - One more RST to be sent. */
void vsock_table_reset(struct vsock_table *t, uint32_t guest_port, uint32_t host_port, uint16_t type);

/** vsock_table_next_reset() - Takes the RST that has waited longest; there must be one (t->nresets). */
struct vsock_reset vsock_table_next_reset(struct vsock_table *t);

#endif
