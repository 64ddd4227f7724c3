/* vhostuser.h - the back end of a vhost-user-vsock device: how a running VM hands over its memory and tells when it dies
 *
 * Theory of operation
 *
 * QEMU's vhost-user-vsock-pci connects to a unix socket and speaks vhost-user (QEMU's docs/interop/vhost-user): a head
 * of request, flags and size, a payload, descriptors beside it.  Most of it makes a virtqueue work; what translation
 * lives off is
 *
 *   SET_MEM_TABLE    the VM's memory, with a descriptor of each part; comes when the guest's driver starts the device
 *                    and again whenever the layout changes (hotplug, a device's window that moves)
 *   GET_VRING_BASE   once a queue, when the guest resets or gives up the device: reboot, crash, unbinding the driver.
 *                    Guest memory means nothing to shadows any more from here on
 *   end of stream    the VM is gone
 *
 * Life of the device, as events tell it:
 *
 *      connected --TABLE--> has a table --STARTED--> both queues run --STOPPED--> (TABLE, STARTED again) ...
 *
 * A TABLE may come at any time; TABLE_SAME says that it is the one that was in force (the same files at the same places).
 * NO_TABLE is a table that QEMU sent rightly but that shadows cannot use; v->err says why.  The device itself goes on then.
 *
 * Features offered are few, so that QEMU sends few messages: VIRTIO_F_VERSION_1 and PROTOCOL_FEATURES; of these REPLY_ACK
 * and CONFIG, from which QEMU takes the CID.  A message that was not negotiated, is of another length than its kind has,
 * brings more or fewer descriptors, or names a queue that does not exist ends the connection: v->err says why, and
 * every later call fails with the same number.  Sizes and descriptors are bounded before anything is read.
 *
 * Queue sizes, addresses and indices are the guest's choice, passed on by QEMU.  They are kept here; whoever walks the
 * rings checks every address against the table.
 *
 * vhostuser_message() is pure state: no system calls except on descriptors (fstat, close).  vhostuser_receive() reads a
 * message without blocking and answers it.  One thread at a time.
 */
#ifndef HOST_VHOSTUSER_H
#define HOST_VHOSTUSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/host/vm/ramtable.h"

#define VHOSTUSER_QUEUES 2u	     /* receive, transmit; QEMU keeps the event queue for itself */
#define VHOSTUSER_REGIONS_MAX 8u     /* without CONFIGURE_MEM_SLOTS */
#define VHOSTUSER_CONFIG_BYTES_MAX 256u
#define VHOSTUSER_PAYLOAD_MAX 280u   /* the longest accepted, a GET_CONFIG or a table of 8 regions, and some */
#define VHOSTUSER_RING_SIZE_MAX 1024u /* entries */

/** enum vhostuser_request - Messages that are understood, by their numbers in the specification. */
enum vhostuser_request {
	VHOSTUSER_GET_FEATURES = 1,
	VHOSTUSER_SET_FEATURES = 2,
	VHOSTUSER_SET_OWNER = 3,
	VHOSTUSER_SET_MEM_TABLE = 5,
	VHOSTUSER_SET_VRING_NUM = 8,
	VHOSTUSER_SET_VRING_ADDR = 9,
	VHOSTUSER_SET_VRING_BASE = 10,
	VHOSTUSER_GET_VRING_BASE = 11,
	VHOSTUSER_SET_VRING_KICK = 12,
	VHOSTUSER_SET_VRING_CALL = 13,
	VHOSTUSER_SET_VRING_ERR = 14,
	VHOSTUSER_GET_PROTOCOL_FEATURES = 15,
	VHOSTUSER_SET_PROTOCOL_FEATURES = 16,
	VHOSTUSER_SET_VRING_ENABLE = 18,
	VHOSTUSER_GET_CONFIG = 24,
};

/** struct vhostuser_head - The first 12 bytes of a message. */
struct vhostuser_head {
	uint32_t request;
	uint32_t flags; /* bits 0-1: version 1; VHOSTUSER_REPLY; VHOSTUSER_NEED_REPLY */
	uint32_t size;	/* of the payload, in bytes */
};
#define VHOSTUSER_VERSION 1u
#define VHOSTUSER_REPLY 4u
#define VHOSTUSER_NEED_REPLY 8u

#define VHOSTUSER_F_VERSION_1 (UINT64_C(1) << 32)
#define VHOSTUSER_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)
#define VHOSTUSER_FEATURES (VHOSTUSER_F_VERSION_1 | VHOSTUSER_F_PROTOCOL_FEATURES)
#define VHOSTUSER_P_REPLY_ACK (UINT64_C(1) << 3)
#define VHOSTUSER_P_CONFIG (UINT64_C(1) << 9)
#define VHOSTUSER_PROTOCOL (VHOSTUSER_P_REPLY_ACK | VHOSTUSER_P_CONFIG)
#define VHOSTUSER_NO_FD 0x100u /* in the payload of KICK, CALL, ERR: no descriptor comes along */

/** struct vhostuser_msg - A message, or the answer to one. */
struct vhostuser_msg {
	struct vhostuser_head head;
	union {
		uint64_t u64;
		struct {
			uint32_t index, num;
		} state;
		struct {
			uint32_t index, flags;
			uint64_t desc, used, avail, log; /* addresses in QEMU's address space */
		} addr;
		struct {
			uint32_t nregions, padding;
			struct vhostuser_region {
				uint64_t gpa_bytes, bytes;
				uint64_t uaddr; /* where QEMU has it mapped */
				uint64_t offset_bytes;
			} region[VHOSTUSER_REGIONS_MAX];
		} mem;
		struct {
			uint32_t offset, size, flags;
			uint8_t bytes[VHOSTUSER_CONFIG_BYTES_MAX];
		} __attribute__((packed)) config;
		uint8_t bytes[VHOSTUSER_PAYLOAD_MAX];
	} payload;
};

/** enum vhostuser_event - What a message meant for those who use the VM's memory. */
enum vhostuser_event {
	VHOSTUSER_EV_NONE,
	VHOSTUSER_EV_TABLE,	 /* v->table is in force; what was mapped by the one before must go */
	VHOSTUSER_EV_TABLE_SAME, /* v->table says what it said before */
	VHOSTUSER_EV_NO_TABLE,	 /* there is no table any more: v->err */
	VHOSTUSER_EV_STARTED,	 /* both queues run */
	VHOSTUSER_EV_STOPPED,	 /* a queue that ran was stopped, the first of them: the guest is gone or resets */
};

/** struct vhostuser_queue - What QEMU said of a virtqueue. */
struct vhostuser_queue {
	uint32_t num;		     /* entries, a power of two; 0: not said yet */
	uint32_t base;		     /* index of the next available entry to look at */
	uint64_t desc, used, avail; /* addresses in QEMU's address space, aligned, else unchecked; 0: not said yet */
	int kick, call, error;	     /* eventfds or -1 */
	bool enabled, started;
};

/** struct vhostuser - The back end of one device; owns its descriptors. */
struct vhostuser {
	uint64_t cid;			/* the guest's, which the guest reads from the device */
	uint64_t features, protocol; /* negotiated */
	struct vhostuser_queue queue[VHOSTUSER_QUEUES];
	bool running;  /* between STARTED and STOPPED */
	bool has_table;
	struct ramtable table;		   /* valid while has_table */
	struct vhostuser_region region[VHOSTUSER_REGIONS_MAX]; /* as they were sent */
	int fd[VHOSTUSER_REGIONS_MAX];	   /* of each region, or -1 */
	int ram_fd;			   /* of the RAM file: one of @fd, not owned again; -1: no table */
	uint32_t nregions;
	struct ramtable_err err; /* after NO_TABLE and after a failed call; index is of no meaning after the latter */
	int broken;		 /* 0, or the -errno that ended the connection */
	/*
	 * Called by vhostuser_receive() between an event and the answer to its message, if it is set: QEMU waits for that
	 * answer before the guest goes on, so what must be over by then is brought to its end here.  NULL after
	 * vhostuser_init().
	 */
	void (*before_answer)(void *ctx, enum vhostuser_event event);
	void *before_ctx;
	/* a message on its way in */
	struct vhostuser_msg in;
	size_t in_bytes;
	int in_fd[VHOSTUSER_REGIONS_MAX];
	uint32_t in_fds;
};

/** vhostuser_init() - Makes the back end of a device whose guest gets address @cid (3 or more). */
void vhostuser_init(struct vhostuser *v, uint64_t cid);

/** vhostuser_close() - Closes all descriptors; @v may be given to vhostuser_init() again, and closed again. */
void vhostuser_close(struct vhostuser *v);

/**
 * vhostuser_message() - Takes in a message
 * @v: the device
 * @msg: whole: head.size bytes of payload are there
 * @fd: descriptors that came with it; this takes over all of them, whatever it returns
 * @nfds: how many, at most VHOSTUSER_REGIONS_MAX
 * @reply: filled with the answer, if one is due
 * @has_reply: whether one is
 * @event: what it meant
 *
 * Return: 0; -EPROTO (not what the protocol allows), -EPROTONOSUPPORT (a version or message that was not negotiated),
 * -EBADF (descriptors missing or too many), -ERANGE (a number out of range).  Then the connection is over.
 */
int vhostuser_message(struct vhostuser *v, const struct vhostuser_msg *msg, const int *fd, uint32_t nfds,
		      struct vhostuser_msg *reply, bool *has_reply, enum vhostuser_event *event);

/**
 * vhostuser_receive() - Reads from the socket, and takes in and answers a message once it is whole
 * @v: the device
 * @sock: a connected SOCK_STREAM unix socket, the caller's
 * @event: what the message meant
 *
 * Never blocks.  To be called when poll() says that @sock can be read.
 *
 * Return: 0 (a message was taken in); -EAGAIN (none is whole yet); -ECONNRESET (the VM is gone); -EBADF (more
 * descriptors than any message has); -errno of recvmsg() or sendmsg(); and as vhostuser_message().  Errors other than
 * -EAGAIN stay.
 */
int vhostuser_receive(struct vhostuser *v, int sock, enum vhostuser_event *event);

#endif
