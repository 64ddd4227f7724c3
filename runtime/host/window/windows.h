/* windows.h - a VM's window: who has which pages, and the VMM's mappings there
 *
 * Theory of operation
 *
 * The VM process has one of these.  Wardens ask it over a socket pair of their own (windows_join()); it finds room (window.h), has
 * the VMM's helper map (vmmhelper.h), and answers.  A piece belongs to the shadow whose warden asked; windows_leave(), when
 * warden and capsule are gone, has the window's own memory mapped there again and frees it.
 *
 *   warden: MAP, a file --> room? --> helper: mmap() --> MAPPED, the pages		UNMAP, pages --> helper --> UNMAPPED
 *   helper: a page was not there, so it has put an empty one in its place --> FAULT to the warden whose page it is
 *
 * Leases.  A forked child has its parent's mappings and no shadow yet.  So pages can have several owners, and a lease is one of them: all that
 * a shadow has at a moment, for as long as somebody holds the other end of a socket pair (WINDOWS_LEASE).  The child's shadow takes
 * pages over by showing that end (WINDOWS_ADOPT).  When the lease's last holder has closed it, its pages are given back like a
 * shadow's; with the last owner the window's own memory is there again.
 *
 * The helper.  It connects to a socket in the run directory, which is there only while somebody may connect, and has to be a thread of
 * the VMM (SO_PEERCRED).  If none is there when the
 * first file is to be mapped, one is made by ptrace (vmminject.h); a VMM that was started with the library has one from the start.  Where that
 * is forbidden it is tried again after a second, then after two, and so on up to half a minute, whatever a guest asks for; the log says it once.
 * It is told where the window lies, which /proc/PID/maps of the VMM tells: the mapping of our memfd.  Orders are answered at
 * once, so they are waited for, WINDOWS_ORDER_MS at the most.  Whatever goes wrong with the helper closes the connection, upon which it
 * has mapped the window's own memory everywhere: the window is whole, what was mapped is gone, and the next file tries anew.
 *
 * KVM.  A page of a file that is gone when the guest touches it ends a VM with KVM (vmmhelper.h, "Faults"), and anybody who may write a
 * regular file may cut it.  So regular files are not mapped into such a VM, unless dshost was told that nobody will (--kvm-files).  A
 * device's pages stay as long as its driver says; a program that maps more of a device than there is can stop its own VM.
 *
 * The VM process trusts the VMM's process no further: what the helper says decides only what is answered.
 */
#ifndef HOST_WINDOWS_H
#define HOST_WINDOWS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/wire/window.h"

#define WINDOWS_ORDER_MS 5000
#define WINDOWS_LEASES_MAX 1024u
#define WINDOWS_BYTES_MIN (UINT64_C(1) << 20)
#define WINDOWS_BYTES_DEFAULT (UINT64_C(256) << 20)

enum windows_what {
	WINDOWS_MAP = 1, /* with a descriptor; answered */
	WINDOWS_UNMAP,	 /* answered */
	WINDOWS_LEASE,	 /* with one end of a socket pair, of whose other end `offset` is the SO_COOKIE; answered there, by one byte */
	WINDOWS_ADOPT,	 /* with that other end; answered */
	WINDOWS_FAULT,	 /* to the warden, unasked: @page was replaced by an empty one; err: the signal */
};

/** struct windows_ask - A packet of a warden. */
struct windows_ask {
	uint32_t what, prot;
	uint64_t npages, offset; /* MAP: offset in bytes */
	struct ds_window_extent extent; /* UNMAP, ADOPT */
};

/** struct windows_answer - A packet to a warden. */
struct windows_answer {
	uint32_t what;
	int32_t err;
	uint64_t page;
	struct ds_window_mapped mapped; /* MAP */
};

struct windows;
struct ivshmem;

/** struct windows_params - Stays as it is while the windows exist. */
struct windows_params {
	const char *vm;	    /* name, for the log */
	const char *path;   /* of a socket for the helper, made when one is to come and removed when it has */
	uid_t uid;	    /* who owns it */
	int shm;	    /* the window's memfd */
	bool kvm_files;	    /* regular files are mapped under KVM, too */
	uint64_t bytes;	    /* of it; its first page gets struct ds_window_header whenever a VMM comes */
};

/**
 * windows_new() - Makes it; nobody is asked for anything yet
 *
 * Return: 0, -ENOMEM, -errno.
 */
int windows_new(struct windows **out, const struct windows_params *p);

/** windows_free() - Ends the connection, upon which the helper puts everything back; NULL is allowed. */
void windows_free(struct windows *w);

/** windows_vmm() - Which process is the VMM, 0: not known yet; @there: whether it has the window at the moment. */
void windows_vmm(struct windows *w, pid_t pid, bool there);

/** struct windows_stat - What of a window is in use. */
struct windows_stat {
	uint64_t bytes, used_bytes; /* the first page, which has the header, is neither */
	uint32_t pieces;
	bool helper; /* one is connected */
};

/** windows_stat() - As it is now; takes time in proportion to the pieces. */
struct windows_stat windows_stat(const struct windows *w);

/** windows_fd() - A descriptor that poll() calls readable when windows_run() has something to do. */
int windows_fd(const struct windows *w);

/** windows_run() - Answers wardens, lets the helper in. */
void windows_run(struct windows *w);

/**
 * windows_join() - A shadow begins
 * @shadow: a number of its own, not 0
 *
 * Return: the warden's end of a socket pair, the caller's; -errno.
 */
int windows_join(struct windows *w, uint64_t shadow);

/** windows_leave() - Nothing of a shadow is left: what it had of the window is free. */
void windows_leave(struct windows *w, uint64_t shadow);

#endif
