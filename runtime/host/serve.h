/* serve.h - the daemon: VM processes, status, the policy
 *
 * Theory of operation
 *
 * One daemon a run directory: a lock on RUNDIR/lock, which the kernel gives back whatever ends it, says so.  It listens on
 * RUNDIR/control (control.h) and forks a VM process (vmproc.h) for each VM that is asked for.  It knows of a VM by the shared
 * memory in which the VM process and its wardens write what they do, so STATUS is answered without asking anybody, and
 * a VM process that hangs holds up nobody.  What concerns a VM (end a shadow, stop) is handed to its process together with the
 * connection of whoever asked, and answered from there.
 *
 * A crash of a VM process is seen (SIGCHLD), logged, and its run directory entries are removed; the other VMs do not notice.
 * If the daemon ends, all VM processes do (SIGTERM from here, or SIGKILL by the kernel if it was killed itself), their
 * wardens, and the capsules.  VMs go on without their devices' back ends; `dshost attach` gives them new ones.
 *
 * SIGHUP reads the policy again; one with an error is not taken and the old one stays.  Shadows that run stay under the policy
 * that they started under.  SIGTERM and SIGINT end everything.
 *
 * One thread, one poll loop, no waiting: connections have a second to say what they want.
 */
#ifndef HOST_SERVE_H
#define HOST_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#define SERVE_VMS_MAX 64u

/** struct serve_params - What the daemon is told. */
struct serve_params {
	const char *run_dir, *policy, *services_dir;
	uint32_t max_shadows; /* of a VM */
	uint32_t start_rate;  /* shadows that a VM may start a second: startrate.h; 0: no limit */
	uint64_t window_bytes; /* of a VM's window; a power of two, 1 MiB or more */
	bool dev_mem;	       /* VMs whose memory is physical memory of the host, from /dev/mem, may have shadows: devmem.h */
	bool kvm_files;	       /* regular files are mapped into windows of VMs with KVM, too: windows.h */
};

/**
 * serve() - The life of the daemon
 *
 * Return: exit status: 0, it was told to end; 1, the policy has an error; 2, a system error; 75, there is one already.
 * All are logged.
 */
int serve(const struct serve_params *p);

#endif
