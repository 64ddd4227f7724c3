/* windows_helper.c - the thread in the VMM, as a VM's window sees it; theory in windows.h */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/host/control.h"
#include "runtime/host/log.h"
#include "runtime/host/window/vmminject.h"
#include "runtime/host/window/windows_impl.h"

#define CONNECT_MS 2000
#define AGAIN_MS 1000 /* after a failure; twice as long after each further one */
#define AGAIN_DOUBLED_MAX 5u

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void windows_drop_helper(struct windows *w, const char *why)
{
	if (w->helper < 0)
		return;
	if (why)
		log_line(LOG_LEVEL_WARNING, "vm %s: what was mapped into its window is gone: %s", w->p.vm, why);
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, w->helper, NULL);
	shutdown(w->helper, SHUT_RDWR);
	close(w->helper);
	w->helper = -1;
	w->armed = false;
	w->again_ms = now_ms() + AGAIN_MS;
}

static void on_fault(struct windows *w, const struct vmm_reply *r)
{
	const uint64_t page = (r->address - w->at) >> DS_PAGE_SHIFT;

	log_line(LOG_LEVEL_WARNING, "vm %s: page %" PRIu64 " of its window could not be used (signal %" PRId64 "): an empty one is in its place", w->p.vm, page,
		 r->result);
	if (r->address >= w->at)
		windows_fault(w, page, (int)r->result);
}

/* What the helper says.  Return: 1: a reply to the last order, in @r; 0: nothing; -errno. */
static int hear(struct windows *w, struct vmm_reply *r)
{
	for (;;) {
		const ssize_t n = recv(w->helper, r, sizeof(*r), MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		if (n != sizeof(*r))
			return n ? -EPROTO : -ECONNRESET;
		if (r->what != VMM_FAULT)
			return r->seq == w->seq ? 1 : -EPROTO;
		on_fault(w, r);
	}
}

/* An order and its reply.  Return: 0 or what the helper's call returned; -ENOLINK: the helper is gone. */
static int order(struct windows *w, struct vmm_order *o, int fd)
{
	const int64_t until = now_ms() + WINDOWS_ORDER_MS;
	struct vmm_reply r;
	int e;

	o->seq = ++w->seq;
	e = windows_put(w->helper, o, sizeof(*o), fd);
	while (!e) {
		struct pollfd p = {.fd = w->helper, .events = POLLIN};
		const int64_t left = until - now_ms();

		if (left <= 0)
			e = -ETIMEDOUT;
		else if (poll(&p, 1, (int)left) > 0)
			e = hear(w, &r);
		if (e == 1)
			return r.result < 0 && r.result > -4096 ? (int)r.result : 0;
	}
	windows_drop_helper(w, e == -ETIMEDOUT ? "the thread in the VMM does not answer" : "the thread in the VMM has ended");
	return -ENOLINK;
}

/* Where the VMM has the window. */
static uint64_t find_window(const struct windows *w)
{
	char path[64], line[512];
	uint64_t from, end, offset, inode;
	struct stat st;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", w->vmm);
	f = fstat(w->p.shm, &st) ? NULL : fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char prot[8];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %" SCNu64, &from, &end, prot, &offset, &inode) != 5)
			continue;
		if (inode != st.st_ino || offset || end - from != w->p.bytes || strcmp(prot, "rw-s") || !strstr(line, "/memfd:ivshmem"))
			continue;
		fclose(f);
		return from;
	}
	if (f)
		fclose(f);
	return 0;
}

/* Whether it has a descriptor of a virtual machine of KVM's. */
static bool uses_kvm(pid_t pid)
{
	char path[64], name[64];
	const struct dirent *e;
	bool found = false;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		const ssize_t n = readlinkat(dirfd(d), e->d_name, name, sizeof(name) - 1);

		if (n < 0)
			continue;
		name[n] = 0;
		found = !strcmp(name, "anon_inode:kvm-vm");
	}
	if (d)
		closedir(d);
	return found || !d; /* not known: as if it did */
}

static int arm(struct windows *w)
{
	struct vmm_order o = {.what = VMM_ARM, .bytes = w->p.bytes};
	int r;

	w->at = o.address = find_window(w);
	if (!w->at) {
		log_line(LOG_LEVEL_WARNING, "vm %s: no window: its process %d does not have the doorbell's memory mapped in one piece", w->p.vm, w->vmm);
		windows_drop_helper(w, NULL);
		return -ENODEV;
	}
	r = order(w, &o, w->p.shm);
	w->armed = !r;
	w->kvm = uses_kvm(w->vmm);
	if (!r)
		log_line(LOG_LEVEL_INFO, "vm %s: its window of %" PRIu64 " MiB can be used", w->p.vm, w->p.bytes >> 20);
	return r ? -ENODEV : 0;
}

static void stop_listening(struct windows *w)
{
	if (w->listener < 0)
		return;
	close(w->listener);
	unlink(w->p.path);
	w->listener = -1;
}

static void let_in(struct windows *w)
{
	cleanup_close int sock = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);

	if (sock < 0 || w->helper >= 0)
		return;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) || cred.pid != w->vmm || windows_watch(w, sock, WINDOWS_AT_HELPER)) {
		log_line(LOG_LEVEL_WARNING, "vm %s: process %d wants to map its window and is not its VMM: refused", w->p.vm, cred.pid);
		return;
	}
	w->helper = steal_fd(&sock);
}

/* Whether the VMM was started with the library: it listens. */
static bool find_helper(struct windows *w)
{
	cleanup_close int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	const int n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, VMM_LISTENS, w->vmm);
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);

	if (sock < 0 || connect(sock, (const struct sockaddr *)&name, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) ||
	    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &bytes) || cred.pid != w->vmm || windows_watch(w, sock, WINDOWS_AT_HELPER))
		return false;
	w->helper = steal_fd(&sock);
	return true;
}

/* There is no helper: one is made.  Return: 0; -ENODEV, as has been said. */
static int get_helper(struct windows *w)
{
	char why[VMMINJECT_WHY_BYTES];
	struct pollfd p = {.events = POLLIN};
	int r;

	if (find_helper(w))
		return 0;
	unlink(w->p.path);
	w->listener = p.fd = control_listen(w->p.path, SOCK_SEQPACKET, w->p.uid);
	if (w->listener < 0) {
		snprintf(why, sizeof(why), "%.80s: %s", w->p.path, strerror(-w->listener));
	} else {
		r = vmminject(w->vmm, w->p.path, why);
		if (!r && poll(&p, 1, CONNECT_MS) > 0)
			let_in(w);
		if (!r && w->helper < 0)
			snprintf(why, sizeof(why), "its process %d cannot connect to %.80s", w->vmm, w->p.path);
	}
	stop_listening(w);
	if (w->helper >= 0) {
		w->failures = 0;
		return 0;
	}
	if (!w->failures)
		log_line(LOG_LEVEL_WARNING, "vm %s: nothing can be mapped into its window: %s (see \"The window\" in dshost(8))", w->p.vm, why);
	w->again_ms = now_ms() + (AGAIN_MS << (w->failures < AGAIN_DOUBLED_MAX ? w->failures : AGAIN_DOUBLED_MAX));
	w->failures++;
	return -ENODEV;
}

int windows_ready(struct windows *w)
{
	if (!w->there || !w->vmm || (w->helper < 0 && (now_ms() < w->again_ms || get_helper(w))))
		return -ENODEV;
	return w->armed ? 0 : arm(w);
}

void windows_vmm(struct windows *w, pid_t pid, bool there)
{
	if (w->vmm != pid) { /* another may do what this one did not */
		w->again_ms = 0;
		w->failures = 0;
	}
	w->vmm = pid;
	if (w->there && !there && w->armed) {
		struct vmm_order o = {.what = VMM_DISARM};

		order(w, &o, -1);
		w->armed = false;
	}
	if (there && !w->there) {
		const struct ds_window_header h = {DS_WINDOW_MAGIC, w->p.bytes};

		if (pwrite(w->p.shm, &h, sizeof(h), 0) != sizeof(h))
			log_line(LOG_LEVEL_WARNING, "vm %s: its window cannot be written: %s", w->p.vm, strerror(errno));
	}
	w->there = there;
}

int windows_order(struct windows *w, uint32_t what, const struct ds_window_extent *e, uint32_t prot, uint64_t offset, int fd)
{
	struct vmm_order o = {.what = what,
			      .address = w->at + (e->page << DS_PAGE_SHIFT),
			      .bytes = e->npages << DS_PAGE_SHIFT,
			      .offset = offset,
			      .prot = prot};

	return order(w, &o, fd);
}

void windows_hear(struct windows *w)
{
	struct vmm_reply r;

	if (w->helper >= 0 && hear(w, &r)) /* a reply that nobody waits for is as bad as its end */
		windows_drop_helper(w, "the thread in the VMM has ended");
}
