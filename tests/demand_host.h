/* demand_host.h - plays dshost and the guest for a capsule whose mirror faults
 *
 * The guest is a list of regions; each page of a region has a frame (a page of the RAM), an attribute, or is not there.  Its
 * answers are made when it is asked and come at once or later, as dh.delay says: perhaps when they are not true any more.  One
 * loop serves all channels, as the warden does.
 */
#ifndef TESTS_DEMAND_HOST_H
#define TESTS_DEMAND_HOST_H

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "runtime/host/demand/demand.h"
#include "tests/guarded.h"
#include "tests/services/calls.h"

#define DH_REGIONS 8
#define DH_ASKS 512

struct dh_page {
	uint32_t pfn;
	uint32_t attr; /* 0: not there */
};

struct dh_region {
	uint64_t vpn, npages;
	struct dh_page *pages;
	bool unmapped; /* not in the guest's mappings at present */
};

struct dh_ask {
	uint32_t seq;
	uint64_t vpn;
	struct ds_shadow_range window;
	unsigned int due; /* rounds of the loop to go */
	void *blob;	  /* the answer */
	size_t bytes;
};

struct dh {
	struct host h;
	struct guarded g; /* its guard and authority, if it is guarded */
	bool guarded;
	struct demand *d;
	struct dh_region regions[DH_REGIONS];
	unsigned int nregions;
	struct dh_ask asks[DH_ASKS];
	unsigned int nasks;
	unsigned int delay;	/* answers take up to so many rounds of the loop */
	unsigned int held;	/* answers are not given before this is 0 again */
	unsigned int congested; /* every n-th message is not taken at once */
	unsigned int sends;
	uint64_t asked_pages;
	void (*message)(const struct ds_shadow_message *);
	uint32_t done; /* seq of the last STATUS that is not the machine's */
	int ended;     /* kind of the message that ends a test: REFUSED, FAULT, or -1 the channel */
	struct ds_shadow_fault fault;
	bool drop_done;
};

static struct dh dh;

static struct dh_page *dh_page(uint64_t vpn)
{
	for (unsigned int i = 0; i < dh.nregions; i++) {
		struct dh_region *r = &dh.regions[i];

		if (vpn - r->vpn < r->npages)
			return r->unmapped ? NULL : &r->pages[vpn - r->vpn];
	}
	return NULL;
}

/* A region whose pages are not there yet. */
__attribute__((unused)) static struct dh_region *dh_region(uint64_t vpn, uint64_t npages)
{
	struct dh_region *r = &dh.regions[dh.nregions++];

	*r = (struct dh_region){vpn, npages, calloc(npages, sizeof(struct dh_page)), false};
	return r;
}

static uint64_t dh_ranges(struct ds_shadow_range ranges[DH_REGIONS])
{
	uint64_t n = 0, k;

	for (unsigned int i = 0; i < dh.nregions; i++) {
		const struct dh_region *r = &dh.regions[i];

		if (r->unmapped)
			continue;
		for (k = n++; k && ranges[k - 1].vpn > r->vpn; k--)
			ranges[k] = ranges[k - 1];
		ranges[k] = (struct ds_shadow_range){r->vpn, r->npages};
	}
	return n;
}

/* --- ops --------------------------------------------------------------------------------------------------------- */

static void dh_make_answer(struct dh_ask *a)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FILE, .pid = 1};
	struct rle_mapw *w;

	if (rle_mapw_begin_mem(&w, &meta, 1 << 20))
		errx(2, "rle_mapw_begin_mem");
	for (uint64_t i = 0; i < a->window.npages; i++) {
		const struct dh_page *p = dh_page(a->window.vpn + i);

		if (p && p->attr && rle_mapw_add(w, (ds_vpn){a->window.vpn + i}, (ds_pfn){p->pfn}, 1, p->attr))
			errx(2, "%s", rle_mapw_fault(w));
	}
	rle_mapw_finish(w);
	a->blob = rle_mapw_take(w, &a->bytes);
	rle_mapw_free(w);
}

static int dh_ask(void *ctx, uint32_t seq, uint64_t vpn, struct ds_shadow_range window, bool write)
{
	struct dh_ask *a = &dh.asks[dh.nasks++];

	(void)ctx, (void)write;
	if (dh.nasks == DH_ASKS)
		errx(2, "too many questions");
	*a = (struct dh_ask){.seq = seq, .vpn = vpn, .window = window, .due = dh.delay ? (unsigned int)host_random(dh.delay + 1) : 0};
	dh_make_answer(a);
	dh.asked_pages += window.npages;
	return 0;
}

static int dh_order(void *ctx, const struct ds_shadow_seg *seg)
{
	(void)ctx;
	return dh.guarded ? authority_order(dh.g.authority, seg, 1) : 0;
}

static void dh_revoke(void *ctx, struct ds_shadow_range range)
{
	(void)ctx;
	if (dh.guarded)
		authority_cancel(dh.g.authority, range.vpn, range.npages);
}

static int dh_send(void *ctx, const struct ds_shadow_map *map)
{
	(void)ctx;
	if (dh.congested && ++dh.sends % dh.congested == 0)
		return -EAGAIN;
	if (send(dh.h.ctl, map, map->head.bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return errno == EAGAIN ? -EAGAIN : errno == EPIPE ? 0 : -errno;
	return 0;
}

static const struct demand_ops dh_ops = {dh_ask, dh_order, dh_revoke, dh_send, NULL};

/* --- the guest's answers ----------------------------------------------------------------------------------------- */

static void dh_answer(const struct dh_ask *a)
{
	struct rle_map map;
	int rc;

	if (rle_map_open(&map, a->blob, a->bytes, NULL))
		errx(2, "rle_map_open");
	rc = demand_pages(dh.d, a->seq, &map);
	if (rc)
		errx(2, "demand_pages: %s", strerror(-rc));
	free(a->blob);
}

static void dh_answers(void)
{
	for (unsigned int i = 0; i < dh.nasks && !dh.held;) {
		const struct dh_ask a = dh.asks[i];

		if (dh.asks[i].due) {
			dh.asks[i++].due--;
			continue;
		}
		dh.asks[i] = dh.asks[--dh.nasks];
		dh_answer(&a);
		i = 0;
	}
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static void dh_take(const union host_message *m, int kind)
{
	int rc = 0;

	if (kind == DS_SHADOW_STATUS && m->head.seq >= DEMAND_SEQ) {
		rc = demand_status(dh.d, m->head.seq);
		if (rc == 1)
			dh.drop_done = true;
	} else if (kind == DS_SHADOW_STATUS) {
		dh.done = m->head.seq;
	} else if (kind == DS_SHADOW_MESSAGE && dh.message) {
		dh.message(&m->message);
	} else if (kind == DS_SHADOW_REFUSED && m->head.seq >= DEMAND_SEQ) {
		rc = demand_refused(dh.d, m->head.seq);
		dh.ended = rc ? kind : 0;
		rc = 0;
	} else if (kind != DS_SHADOW_MESSAGE) {
		dh.ended = kind ? kind : -1;
		if (kind == DS_SHADOW_FAULT)
			dh.fault = m->fault;
	}
	if (rc < 0)
		errx(2, "demand_status: %s", strerror(-rc));
}

/* One round: waits up to @timeout_ms for something, handles it. */
static void dh_round(int timeout_ms)
{
	struct pollfd p[3] = {{.fd = dh.h.ctl, .events = POLLIN},
			      {.fd = demand_fd(dh.d), .events = POLLIN},
			      {.fd = dh.guarded ? dh.g.guard.listener : -1, .events = POLLIN}};
	union host_message m;
	int rc;

	if (demand_pending(dh.d) && (rc = demand_flush(dh.d)))
		errx(2, "demand_flush: %s", strerror(-rc));
	dh_answers();
	if ((dh.nasks && !dh.held) || demand_pending(dh.d))
		timeout_ms = 0;
	if (poll(p, 3, timeout_ms) <= 0)
		return;
	if (p[2].revents & POLLIN && guard_answer(&dh.g.guard) < 0)
		errx(2, "guard_answer");
	if (dh.guarded && dh.g.guard.refused)
		errx(2, "the guard refused: %s", dh.g.guard.last.why);
	if (p[1].revents & POLLIN && (rc = demand_run(dh.d)))
		errx(2, "demand_run: %s", strerror(-rc));
	dh_answers();
	if (p[0].revents)
		dh_take(&m, host_receive(&dh.h, &m, 0));
}

/* Rounds until @word is not @value, the shadow ended, or HOST_TIMEOUT_MS.  Return: whether it is not. */
__attribute__((unused)) static bool dh_until(const volatile uint32_t *word, uint32_t value)
{
	const time_t end = time(NULL) + HOST_TIMEOUT_MS / 1000 + 1;

	while (*word == value && !dh.ended && time(NULL) <= end)
		dh_round(100);
	return *word != value;
}

/* The capsule, in a jail if it is to be guarded.  @data: of BOOT, its file is @fd. */
static void dh_spawn(const char *service, uint32_t nexecutors)
{
	const struct filter_want want = {.demand = true};
	struct jail_params p = {.threads = nexecutors + 1};

	if (!dh.guarded) {
		host_exec(&dh.h, service);
		return;
	}
	memset(&dh.g, 0, sizeof(dh.g));
	if (guarded_spawn(&dh.g, service, &want, &p))
		errx(2, "jail: %s: %s", dh.g.jail_err.what, strerror(-dh.g.jail_err.err));
	dh.h.ctl = dh.g.h.ctl;
	dh.h.pid = dh.g.h.pid;
	dh.h.seq = 0;
	if (authority_new(&dh.g.authority))
		err(2, "authority_new");
	guard_init(&dh.g.guard, dh.g.jail.pid, dh.g.jail.pidfd, dh.g.authority);
}

/* The listener, the knock, and the STATUS that follows.  Return: its kind. */
static int dh_take_guard(void)
{
	union host_message m;
	int kind;

	if (guard_take(&dh.g.guard, dh.h.status.guard_fd, &dh.g.first, &dh.g.second, HOST_TIMEOUT_MS, &dh.g.guard_err))
		errx(2, "guard: %s", dh.g.guard_err.why);
	kind = host_receive(&dh.h, &m, HOST_TIMEOUT_MS);
	if (kind == DS_SHADOW_STATUS && guard_sealed(&dh.g.guard, &dh.g.guard_err))
		errx(2, "guard: %s", dh.g.guard_err.why);
	return kind;
}

/* Starts the service with the regions there are.  @max_vmas 0: what the host allows.  Return: kind of the answer to BOOT. */
__attribute__((unused)) static int dh_start(const char *service, uint32_t nexecutors, uint64_t max_vmas)
{
	struct ds_shadow_range ranges[DH_REGIONS];
	struct demand_params params = {.ranges = ranges, .nranges = dh_ranges(ranges), .ops = &dh_ops};
	struct ds_shadow_boot boot;
	int fds[4] = {dh.h.ram_fd, dh.h.ram_ro_fd}, kind, pidfd;
	union host_message m;

	dh_spawn(service, nexecutors);
	boot = host_boot(&dh.h, service, nexecutors);
	boot.mode = DS_SHADOW_DEMAND;
	fds[2] = host_data(NULL, 0, ranges, params.nranges, &boot.data);
	if (dh.guarded) {
		boot.data.filter_bytes = dh.g.second.n * sizeof(struct sock_filter);
		if (pwrite(fds[2], dh.g.second.ins, boot.data.filter_bytes,
			   (off_t)(boot.data.map_bytes + params.nranges * sizeof(ranges[0]))) != (ssize_t)boot.data.filter_bytes)
			err(2, "filter");
	}
	fds[3] = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (fds[3] < 0)
		err(2, "/dev/userfaultfd");
	params.max_vmas = max_vmas ? max_vmas : boot.max_maps - 4 * nexecutors - 20;
	dh.ended = 0;
	if (demand_new(&dh.d, &params))
		errx(2, "demand_new");
	host_send(&dh.h, &boot, sizeof(boot), fds, 4);
	close(fds[2]);
	close(fds[3]);
	kind = host_receive(&dh.h, &m, HOST_TIMEOUT_MS);
	if (kind != DS_SHADOW_STATUS)
		return kind;
	pidfd = (int)syscall(SYS_pidfd_open, dh.h.pid, 0);
	demand_start(dh.d, (int)syscall(SYS_pidfd_getfd, pidfd, dh.h.status.fault_fd, 0));
	if (demand_fd(dh.d) < 0)
		err(2, "pidfd_getfd");
	close(pidfd);
	return dh.guarded ? dh_take_guard() : kind;
}

/* The shadow goes.  Return: as host_end(). */
__attribute__((unused)) static int dh_end(void)
{
	int status;

	if (dh.guarded) {
		dh.g.h.ctl = dh.h.ctl;
		status = guarded_end(&dh.g); /* SIGKILL is what a jail ends with */
		status = WIFSIGNALED(status) ? 0 : status;
	} else {
		status = host_end(&dh.h);
	}
	demand_free(dh.d);
	dh.d = NULL;
	while (dh.nasks)
		free(dh.asks[--dh.nasks].blob);
	for (unsigned int i = 0; i < dh.nregions; i++)
		free(dh.regions[i].pages);
	dh.nregions = 0;
	dh.delay = dh.held = dh.congested = 0;
	dh.guarded = false;
	return status;
}

/* --- one request at a time --------------------------------------------------------------------------------------- */

static struct calls_answer dh_calls_answer;
static uint32_t dh_calls_seq;

static void dh_note_answer(const struct ds_shadow_message *m)
{
	memcpy(&dh_calls_answer, m->payload, sizeof(dh_calls_answer));
	dh_calls_seq = m->head.seq;
}

/* Has executor @executor of calls.c do something and waits.  Return: the result; INT64_MIN if none came. */
__attribute__((unused)) static int64_t dh_call(uint32_t executor, struct calls_request r)
{
	dh.message = dh_note_answer;
	dh_calls_seq = 0;
	host_message(&dh.h, executor, &r, sizeof(r));
	return dh_until(&dh_calls_seq, 0) ? dh_calls_answer.result : INT64_MIN;
}

/* Fetches the status, when everything that was sent before has been done.  Return: whether it came. */
__attribute__((unused)) static bool dh_ping(void)
{
	const struct ds_shadow_head ping = host_head(&dh.h, DS_SHADOW_PING, sizeof(ping));

	dh.done = 0;
	host_send(&dh.h, &ping, sizeof(ping), NULL, 0);
	return dh_until(&dh.done, 0);
}

/* An UPDATE with the regions there are now.  Return: whether it is in force. */
__attribute__((unused)) static bool dh_update(void)
{
	struct ds_shadow_update update = {.head = host_head(&dh.h, DS_SHADOW_UPDATE, sizeof(update))};
	struct ds_shadow_range ranges[DH_REGIONS];
	const uint64_t n = dh_ranges(ranges);
	int fd = host_data(NULL, 0, ranges, n, &update.data), rc;
	bool good;

	while ((rc = demand_update_begin(dh.d, ranges, n)) == -EAGAIN)
		dh_round(1);
	if (rc)
		errx(2, "demand_update_begin: %s", strerror(-rc));
	dh.done = 0;
	host_send(&dh.h, &update, sizeof(update), &fd, 1);
	close(fd);
	good = dh_until(&dh.done, 0);
	rc = demand_update_end(dh.d, good);
	if (rc)
		errx(2, "demand_update_end: %s", strerror(-rc));
	return good;
}

/* A drop; @change makes the guest's change when the capsule has let go.  Return: whether it did. */
__attribute__((unused)) static bool dh_drop(const struct ds_shadow_range *ranges, uint64_t n, void (*change)(void))
{
	const time_t end = time(NULL) + HOST_TIMEOUT_MS / 1000 + 1;
	int rc = demand_drop(dh.d, ranges, n);

	if (rc < 0)
		errx(2, "demand_drop: %s", strerror(-rc));
	dh.drop_done = rc == 1;
	while (!dh.drop_done && !dh.ended && time(NULL) <= end)
		dh_round(100);
	if (change)
		change();
	rc = demand_drop_end(dh.d);
	if (rc)
		errx(2, "demand_drop_end: %s", strerror(-rc));
	return dh.drop_done;
}

#endif
