/* windows_impl.h - the parts of a VM's window, for each other; windows.h tells what it does
 *
 *   windows.c	       what wardens ask: room, who has it, leases
 *   windows_helper.c  the thread in the VMM: there when it is needed, told what to map
 */
#ifndef HOST_WINDOWS_IMPL_H
#define HOST_WINDOWS_IMPL_H

#include "runtime/host/window/vmmhelper.h"
#include "runtime/host/window/window.h"
#include "runtime/host/window/windows.h"

#define WINDOWS_AT_HELPER UINT64_MAX /* in an event; else a shadow's number, or a lease's: WINDOWS_LEASES and more */
#define WINDOWS_LEASES (UINT64_C(1) << 63)

/** struct windows_member - A shadow, by its warden's socket; or a lease, by its end of a socket pair. */
struct windows_member {
	struct windows_member *next;
	uint64_t owner, cookie; /* cookie: of a lease's other end (SO_COOKIE); 0: it is a shadow */
	int fd;
};

struct windows {
	struct windows_params p;
	struct window room;
	struct windows_member *members;
	int epoll, listener, helper; /* helper: its connection; -1 */
	pid_t vmm;
	bool there, armed;
	bool kvm; /* the VMM uses it */
	uint32_t seq, nleases;
	uint64_t next_lease;
	uint64_t at; /* the window's address in the VMM */
	int64_t again_ms;
	uint32_t failures; /* of getting a helper, one after the other */
	bool full_told, kvm_told;
};

/** windows_watch() - windows_run() looks after @fd from now on.  Return: 0, -errno. */
int windows_watch(const struct windows *w, int fd, uint64_t who);

/** windows_put() - A packet, with a descriptor or without (-1); never waits.  Return: 0 or -errno. */
int windows_put(int sock, const void *packet, size_t bytes, int fd);

/** windows_fault() - The helper has put an empty page in @page's place: whose it was is told. */
void windows_fault(struct windows *w, uint64_t page, int signal);

/** windows_ready() - The helper is there and has the window, now if not before.  Return: 0; -ENODEV, as has been said. */
int windows_ready(struct windows *w);

/** windows_order() - VMM_MAP or VMM_UNMAP of pages.  Return: 0 or what the helper's call returned; -ENOLINK: the helper is gone. */
int windows_order(struct windows *w, uint32_t what, const struct ds_window_extent *e, uint32_t prot, uint64_t offset, int fd);

/** windows_hear() - The helper has said something that nobody waits for. */
void windows_hear(struct windows *w);

/** windows_drop_helper() - Ends it, upon which it puts everything back; @why: for the log, or NULL. */
void windows_drop_helper(struct windows *w, const char *why);

#endif
