/* vmproc.h - the process that serves one VM: its two devices, and the wardens of its shadows
 *
 * Theory of operation
 *
 * The daemon forks one for each VM.  It is the back end of the VM's vhost-user-vsock device (vhostuser.h: the VM's memory and
 * its life; vsock.h: streams of guest processes) and the server of its ivshmem-doorbell device (ivshmem.h), and it forks a
 * warden for each stream that the guest's agent opens (shadows.h).
 *
 *	waiting --VMM connects--> booting --table, queues run--> ready --guest resets, table changes--> booting ...
 *	   |                         \______________________ VMM ends or lets go of the device ____________/
 *	   `--the VMM ends before it connects--> ending <-----------------------'
 *
 * There is one connection: QEMU does not reconnect to a vhost-user device.  When it ends, everything of the VM ends and the
 * process exits; `dshost attach` has another one made.  Both sockets leave the run directory as soon as the VMM has connected,
 * so nothing is left there whoever is killed when.
 *
 * A table is used after two questions: has the VMM itself this memory mapped shared (vmmaps.h), and, where the monitor
 * was asked too, do both sources tell the same (ramtable_compare())?  If not, the device goes on without shadows, and log
 * and status say why.
 *
 * Streams are accepted to DS_AGENT_PORT from ports that only the guest's root can bind, while the VM is ready, a place is
 * free, and there have not been too many of late (startrate.h); to DS_FORWARD_PORT from everybody, who have to show a token then (bells.h).  What ends the guest's use of its memory (a reset, a table with another layout of the RAM file) ends all shadows before
 * QEMU is answered.  A table that changes other memory only (a DIMM, a device's window) ends none.
 *
 * One poll loop, one thread.  It blocks nowhere but in shadows_end_all().  It dies with the daemon (PR_SET_PDEATHSIG), and
 * so do the wardens with it.
 */
#ifndef HOST_VMPROC_H
#define HOST_VMPROC_H

#include <stdbool.h>
#include <sys/types.h>

#include "runtime/host/shadows.h"

/** enum vmproc_what - Orders of the daemon. */
enum vmproc_what {
	VMPROC_END = 1, /* a shadow; with the connection of who asked */
	VMPROC_STOP,	/* everything; with the connection of who asked */
	VMPROC_POLICY,	/* another policy; with a file of its text, which the daemon has parsed without an error */
};

/** struct vmproc_order - A packet on the channel from the daemon; a descriptor comes along. */
struct vmproc_order {
	uint32_t what;
	uint32_t zero;
	uint64_t guest_pid;
	uint64_t bytes; /* of the policy's text */
};

/** struct vmproc_params - What a VM process is given; stays as it is while it runs. */
struct vmproc_params {
	const char *name, *run_dir, *services_dir;
	uint64_t cid;
	uint64_t window_bytes;
	uint32_t start_rate; /* shadows a second: startrate.h */
	bool dev_mem;	/* its memory may be /dev/mem */
	bool kvm_files; /* windows.h */
	pid_t daemon;	/* the parent: it dies with it */
	int channel;	/* from the daemon: SOCK_SEQPACKET */
	int client;	/* who asked for the VM: gets READY or REFUSED */
	pid_t vmm;	/* the VMM, or who becomes it */
	uid_t uid;	/* owns the sockets */
	const struct ramtable *monitor; /* what the monitor tells; NULL: not known */
	struct policy *policy;		/* freed by the VM process */
	struct shadows_board *board;
};

/**
 * vmproc_main() - The life of a VM process; called in a child forked for it
 *
 * Closes every descriptor but the two in @p, 0, 1 and 2.
 *
 * Return: exit status: 0, the VM has ended or was let go; 2, a system error, as logged.
 */
int vmproc_main(const struct vmproc_params *p);

#endif
