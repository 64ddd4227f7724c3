/* control.h - what dshost's commands and its daemon say to each other
 *
 * Theory of operation
 *
 * RUNDIR/control is a unix socket of kind SOCK_SEQPACKET that only its owner (root, as a rule) can open.  A connection is one
 * request and one reply, each one packet of fixed size; the kernel keeps packets whole, so there is nothing to frame.
 * The reply to STATUS brings the answer as a file (a memfd), as it may be longer than a socket holds: the daemon never
 * waits for somebody who does not read.
 *
 *	VM      make the two sockets that a VM's devices connect to, and serve them        -> READY or REFUSED
 *	STATUS  everything there is                                                        -> STATUS with a file
 *	END     end one shadow                                                             -> DONE or REFUSED
 *	STOP    end all of one VM's shadows and let go of its devices                      -> DONE or REFUSED
 *
 * Who may connect may do all of it; still a request is checked field by field (control_check()), because a daemon of many
 * VMs must not end of one wrong packet.  Both ends are the same program: a version that differs is refused.
 */
#ifndef HOST_CONTROL_H
#define HOST_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/host/vm/ramtable.h"
#include "runtime/host/warden/warden.h"

#define CONTROL_RUN_DIR "/run/dshost"
#define CONTROL_SOCKET "control" /* in the run directory */
#define CONTROL_MAGIC UINT32_C(0x4c435344) /* the bytes "DSCL" */
#define CONTROL_VERSION 3
#define CONTROL_NAME_BYTES 32 /* of a VM's name; terminated; what WELCOME can carry (runtime/wire/agent.h) */
#define CONTROL_TEXT_BYTES 256
#define CONTROL_PATH_BYTES 108 /* what a unix socket's address holds; terminated */

enum control_verb { CONTROL_VM = 1, CONTROL_STATUS, CONTROL_END, CONTROL_STOP };

/** struct control_range - One range of the RAM file, as struct ramtable_range. */
struct control_range {
	uint64_t frame, page, npages;
};

/** struct control_request - The one packet to the daemon; what a verb does not use is 0. */
struct control_request {
	uint32_t magic;
	uint16_t version, verb;
	char name[CONTROL_NAME_BYTES];
	uint64_t guest_pid; /* END */
	uint32_t vmm_pid;   /* VM: until the device is connected its VM process lives as long as this one; 0: the caller */
	uint32_t vmm_uid;   /* VM: who owns the sockets */
	uint64_t ram_pages; /* VM: length of the RAM file as the monitor tells it; 0: not known */
	uint32_t nranges;   /* VM: of the RAM as the monitor tells it; 0: not known */
	uint32_t zero;
	struct control_range range[RAMTABLE_RANGES_MAX];
};

enum control_kind { CONTROL_READY = 1, CONTROL_DONE, CONTROL_REFUSED, CONTROL_STATUS_FILE };

/** struct control_reply - The one packet from the daemon. */
struct control_reply {
	uint32_t magic;
	uint16_t version, kind;
	int32_t err; /* REFUSED: -errno */
	uint32_t zero;
	uint64_t cid;			  /* READY: the guest's vsock address */
	uint64_t bytes;			  /* STATUS_FILE */
	char vsock[CONTROL_PATH_BYTES];	  /* READY: the socket of the vhost-user-vsock device */
	char doorbell[CONTROL_PATH_BYTES]; /* READY: the socket of the ivshmem-doorbell device */
	char text[CONTROL_TEXT_BYTES];	  /* REFUSED: why, in plain English */
};

/** enum control_vm_state - What a VM's devices are at. */
enum control_vm_state {
	CONTROL_VM_WAITING = 0, /* the VMM has not connected yet */
	CONTROL_VM_BOOTING,	/* connected; the guest's driver has not started the device (again) */
	CONTROL_VM_READY,	/* has a table, the device runs: shadows can start */
	CONTROL_VM_UNUSABLE,	/* the device runs, but the memory cannot be mirrored: text says why */
	CONTROL_VM_ENDING,
};

/** struct control_vm - A VM in the status file; behind it nshadows of struct warden_view. */
struct control_vm {
	char name[CONTROL_NAME_BYTES];
	uint32_t state; /* enum control_vm_state */
	uint32_t process; /* the VM process */
	uint32_t vmm_pid;
	uint32_t checked;	  /* 1: vhost-user's table is the one the monitor told */
	uint32_t doorbell;	  /* 1: the doorbell device is connected */
	uint32_t nshadows;
	uint32_t physical; /* 1: its memory is physical memory of the host, from /dev/mem (devmem.h) */
	uint32_t window_pieces; /* files that are mapped into its window lie in; one file may have several */
	uint32_t window_helper; /* 1: the thread that maps them is in the VMM */
	uint32_t zero;
	uint64_t window_bytes, window_used_bytes;
	uint64_t cid, ram_bytes, ranges;
	uint64_t started, ended, refused; /* shadows: of all time; refused: streams that got no warden */
	uint64_t refused_bells;		  /* streams of guest threads that belong to no shadow */
	char text[CONTROL_TEXT_BYTES];
};

/** struct control_status - The status file: this, then nvms of struct control_vm with their shadows. */
struct control_status {
	uint32_t magic;
	uint16_t version, zero;
	uint32_t daemon_pid, nvms;
	uint64_t now_ns; /* CLOCK_MONOTONIC, which views count from too */
	uint64_t rules;	 /* of the policy in force */
};

/** control_name_ok() - Whether @name can be a VM's: 1 to 31 letters, digits, _ . -, the first a letter or digit. */
bool control_name_ok(const char *name);

/**
 * control_check() - Whether a packet is a request as said above
 * @packet: any bytes
 * @bytes: their number
 * @out: filled with a copy on return 0
 * @table: filled with the monitor's table on return 0, when there is one (ramtable.h: finished)
 * @why: set to static text on an error
 *
 * Return: 0; -EBADMSG; -EPROTONOSUPPORT (another version).
 */
int control_check(const void *packet, size_t bytes, struct control_request *out, struct ramtable *table, const char **why);

/** control_put_table() - Writes what @table says of the RAM file into @request. */
void control_put_table(struct control_request *request, const struct ramtable *table);

/** control_path() - Makes RUNDIR/NAME.SUFFIX, or RUNDIR/NAME with @suffix NULL.  Return: 0, -ENAMETOOLONG. */
int control_path(char path[static CONTROL_PATH_BYTES], const char *run_dir, const char *name, const char *suffix);

/**
 * control_listen() - Makes a listening socket; what was at @path is replaced
 * @kind: SOCK_SEQPACKET or SOCK_STREAM
 * @uid: who owns it; only they and root can connect
 *
 * Return: a descriptor that does not block, the caller's; -errno.
 */
int control_listen(const char *path, int kind, uint32_t uid);

/**
 * control_ask() - One request and its reply; for the commands
 * @run_dir: of the daemon
 * @request: magic and version are filled in
 * @reply: filled, strings terminated
 * @file: set to the descriptor that came along, the caller's, or -1; may be NULL
 * @timeout_ms: for the reply
 *
 * Return: 0; -ENOENT, -ECONNREFUSED (no daemon there); -EACCES; -ETIMEDOUT; -ECONNRESET; -EBADMSG; -errno.
 */
int control_ask(const char *run_dir, struct control_request *request, struct control_reply *reply, int *file, int timeout_ms);

/**
 * control_answer() - Sends a reply without waiting; whoever does not take it goes without
 * @fd: of the connection; not closed
 * @file: goes along; -1: none
 */
void control_answer(int fd, struct control_reply *reply, int file);

/** control_refuse() - Sends REFUSED with -errno and text. */
__attribute__((format(printf, 3, 4))) void control_refuse(int fd, int err, const char *fmt, ...);

#endif
