/* guarded.h - plays dshost for a capsule in its jail, with its guard armed: capsule_host.h and what the warden adds
 *
 * Whoever waits for the capsule has to answer its guard meanwhile: guarded_receive().
 */
#ifndef TESTS_GUARDED_H
#define TESTS_GUARDED_H

#include <asm/unistd.h>

#include "runtime/host/warden/authority.h"
#include "runtime/host/warden/gone.h"
#include "runtime/host/warden/guard.h"
#include "runtime/host/jail/jail.h"
#include "runtime/shadow/place.h"
#include "tests/capsule_host.h"

struct guarded {
	struct host h;
	struct jail jail;
	struct guard guard;
	struct authority *authority;
	struct filter first, second;
	struct rle_map now, coming; /* views of blobs of their own */
	void *now_blob, *coming_blob;
	struct jail_err jail_err;
	struct guard_err guard_err;
};

/* The runs as a map of our own, for the authority. */
__attribute__((unused)) static void *guarded_map(const struct rle_run *runs, size_t n, struct rle_map *map)
{
	struct ds_shadow_data data;
	int fd = host_data(runs, n, NULL, 0, &data);
	void *blob = malloc(data.map_bytes);

	if (pread(fd, blob, data.map_bytes, 0) != (ssize_t)data.map_bytes || rle_map_open(map, blob, data.map_bytes, NULL))
		errx(2, "map");
	close(fd);
	return blob;
}

/* A message, with the guard answered meanwhile.  Return: as host_receive(). */
__attribute__((unused)) static int guarded_receive(struct guarded *g, union host_message *m, int timeout_ms)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = g->h.ctl, .events = POLLIN}, {.fd = g->guard.listener, .events = POLLIN}};

		if (poll(p, 2, timeout_ms) <= 0)
			return -1;
		if (p[1].revents & POLLIN && guard_answer(&g->guard) < 0)
			err(2, "guard_answer");
		if (p[0].revents)
			return host_receive(&g->h, m, 0);
		if (p[1].revents & POLLHUP)
			return 0;
	}
}

static inline void guarded_init(struct guarded *g, uint64_t ram_pages)
{
	memset(g, 0, sizeof(*g));
	host_ram(&g->h, ram_pages);
	g->guard.listener = -1;
	g->jail.pidfd = -1;
}

/* Executes the capsule in a jail.  Return: of jail_spawn(). */
__attribute__((unused)) static int guarded_spawn(struct guarded *g, const char *service, const struct filter_want *want,
						 struct jail_params *p)
{
	const char *bin = getenv("BIN");
	char path[4096];
	int pair[2], rc;

	snprintf(path, sizeof(path), "%s/../shadow/%s", bin ? bin : "build/bin", service);
	if (!p->exe_fd)
		p->exe_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->exe_fd < 0)
		err(2, "%s", path);
	if (filter_first(want, &g->first) || filter_second(want, &g->second))
		errx(2, "filters");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		err(2, "socketpair");
	p->ctl_fd = pair[1];
	p->name = service;
	p->first = &g->first;
	rc = jail_spawn(p, &g->jail, &g->jail_err);
	close(pair[1]);
	close(p->exe_fd);
	g->h.ctl = pair[0];
	g->h.pid = g->jail.pid;
	g->h.seq = 0;
	return rc;
}

/* BOOT over a map, up to the last STATUS.  Return: kind of the last answer; -2: the guard could not be taken. */
__attribute__((unused)) static int guarded_boot(struct guarded *g, const char *service, uint32_t nexecutors,
						const struct rle_run *runs, size_t n)
{
	struct ds_shadow_boot boot = host_boot(&g->h, service, nexecutors);
	int fd = host_data(runs, n, NULL, 0, &boot.data), kind;
	union host_message m;

	boot.data.filter_bytes = g->second.n * sizeof(struct sock_filter);
	if (pwrite(fd, g->second.ins, boot.data.filter_bytes, (off_t)boot.data.map_bytes) != (ssize_t)boot.data.filter_bytes)
		err(2, "filter");
	g->now_blob = guarded_map(runs, n, &g->now);
	if (authority_new(&g->authority))
		err(2, "authority_new");
	authority_set(g->authority, &g->now);
	guard_init(&g->guard, g->jail.pid, g->jail.pidfd, g->authority);
	kind = host_boot_send(&g->h, &boot, fd);
	if (kind != DS_SHADOW_STATUS || g->h.status.guard_fd < 0)
		return kind;
	if (guard_take(&g->guard, g->h.status.guard_fd, &g->first, &g->second, HOST_TIMEOUT_MS, &g->guard_err))
		return -2;
	kind = guarded_receive(g, &m, HOST_TIMEOUT_MS);
	if (kind == DS_SHADOW_STATUS && guard_sealed(&g->guard, &g->guard_err))
		return -2;
	return kind;
}

/* An update.  Return: kind of the answer. */
__attribute__((unused)) static int guarded_update(struct guarded *g, const struct rle_run *runs, size_t n)
{
	struct ds_shadow_update update = {.head = host_head(&g->h, DS_SHADOW_UPDATE, sizeof(update))};
	int fd = host_data(runs, n, NULL, 0, &update.data), kind;
	union host_message m;

	g->coming_blob = guarded_map(runs, n, &g->coming);
	authority_coming(g->authority, &g->coming);
	host_send(&g->h, &update, sizeof(update), &fd, 1);
	close(fd);
	kind = guarded_receive(g, &m, HOST_TIMEOUT_MS);
	if (kind != DS_SHADOW_STATUS) {
		authority_withdraw(g->authority);
		free(g->coming_blob);
		return kind;
	}
	free(g->now_blob);
	g->now = g->coming;
	g->now_blob = g->coming_blob;
	authority_set(g->authority, &g->now);
	return kind;
}

/* Ends it.  Return: its status. */
__attribute__((unused)) static int guarded_end(struct guarded *g)
{
	int status;

	if (g->h.ctl >= 0)
		close(g->h.ctl);
	g->h.ctl = -1;
	guard_close(&g->guard);
	status = jail_kill(&g->jail);
	authority_free(g->authority);
	free(g->now_blob);
	g->authority = NULL;
	g->now_blob = NULL;
	return status;
}

#endif
