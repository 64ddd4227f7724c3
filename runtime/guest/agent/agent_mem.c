/* agent_mem.c - the memory of a shadowed process; theory of operation in agent_mem.h */
#include "runtime/guest/agent/agent_mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "rle/cleanup.h"
#include "rle/mapops.h"
#include "rle/pagemap.h"
#include "rle/vma.h"
#include "runtime/guest/agent/agent_step.h"
#include "runtime/guest/helper/freeze.h"

#define PF_IO_WORKER 0x00000010 /* include/linux/sched.h: a kernel thread in a process's memory, which ptrace does not stop */
#define TRIES 3
#define ALL_LIMIT_MS 20000   /* a gigabyte is pinned in about 25 ms, and copied in some 200 */
#define WINDOW_LIMIT_MS 3000
#define END_MS 1
#define TOUCH_PAGES 16 /* made in one go around a page that is missing: as much as the kernel maps around a fault in a file */
#define USER_PAGES (UINT64_C(1) << (47 - DS_PAGE_SHIFT))

/* --- open and close --------------------------------------------------------------------------------------------- */

static uint32_t code_of(int err)
{
	return err == -ESRCH ? DS_LOCAL_C_EXIT : err == -ENOMEM ? DS_LOCAL_C_LIMIT : DS_LOCAL_C_PROCESS;
}

/* A hole of the process that nobody else uses: that one, or whatever mmap() picks; without pages and without a claim on memory. */
static void reserve(struct agent_mem *m, struct ds_agent_range r)
{
	const int place = r.vpn == AGENT_MEM_ANYWHERE ? 0 : MAP_FIXED_NOREPLACE;
	const uint64_t args[6] = {r.vpn * DS_PAGE_BYTES, r.npages * DS_PAGE_BYTES, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | place, -1, 0};
	int64_t at = remote_syscall(&m->remote, SYS_mmap, args);

	if (at > 0 && !(at % DS_PAGE_BYTES) && !agent_ranges_add(&m->own, at / DS_PAGE_BYTES, r.npages))
		m->reserve = (struct ds_agent_range){at / DS_PAGE_BYTES, r.npages};
}

/** struct opening - What is done while the helper is put in, and how it went. */
struct opening {
	struct agent_mem *m;
	agent_mem_meanwhile_fn fn;
	void *ctx;
	int src_err, hold_err;
	const char *text;
};

static void open_others(void *ctx)
{
	struct opening *o = ctx;

	o->src_err = rle_src_open(&o->m->src, NULL, RLE_JOIN_NONE, &o->text);
	o->m->src_open = !o->src_err;
	o->hold_err = o->src_err ? 0 : hold_open(&o->m->hold);
	if (!o->src_err && !o->hold_err && o->fn)
		o->fn(o->ctx);
}

static int no_ring(const struct agent_mem *m, int err, struct agent_refusal *why)
{
	return agent_refuse(why, err == -ENOSYS || err == -EPERM ? DS_LOCAL_C_SYSTEM : DS_LOCAL_C_PROCESS, "process %d: no ring for pins: %s%s",
			    m->remote.pid, strerror(-err), err == -EPERM ? " (sysctl kernel.io_uring_disabled?)" : "");
}

void agent_mem_complete(struct agent_mem *m)
{
	inject_rest(&m->remote);
}

int agent_mem_open(struct agent_mem *m, const struct agent_target *t, uint32_t flags, bool apart, struct ds_agent_range room,
		   struct agent_account *account, uint32_t slot, agent_mem_meanwhile_fn meanwhile, void *ctx, struct agent_refusal *why)
{
	struct opening opening = {.m = m, .fn = meanwhile, .ctx = ctx, .text = ""};
	struct inject_err ierr = {0};
	int err;

	*m = (struct agent_mem){.remote = REMOTE_NONE, .pin = {.ring_fd = -1}, .hold = HOLD_NONE, .account = account, .slot = slot,
				.swapped_pages = t->swap_pages, .apart = apart};
	err = inject_first(t->pid, flags & DS_LOCAL_SECCOMP ? INJECT_SECCOMP : 0, open_others, &opening, &m->remote, &ierr);
	if (opening.src_err)
		return agent_refuse(why, DS_LOCAL_C_SYSTEM, "dsagent cannot see frame numbers: %s", opening.text);
	if (err)
		return agent_refuse(why, code_of(err), "process %d (%s): %s%s%s", t->pid, t->comm, ierr.why ? ierr.why : "no helper can be put into it",
				    ierr.why ? "" : ": ", ierr.why ? "" : strerror(-err));
	err = pin_open_remote(&m->pin, &m->remote);
	if (err)
		return no_ring(m, err, why);
	if (opening.hold_err)
		return agent_refuse(why, DS_LOCAL_C_SYSTEM, "process %d (%s): no pipes to hold its frames: %s", t->pid, t->comm,
				    strerror(-opening.hold_err));
	if (agent_ranges_add(&m->own, m->remote.stub / DS_PAGE_BYTES, 2 + REMOTE_DESK_PAGES))
		return agent_refuse(why, DS_LOCAL_C_SYSTEM, "no memory");
	if (room.npages)
		reserve(m, room);
	return 0;
}

void agent_mem_hide(struct agent_mem *m, uint64_t vpn, uint64_t npages)
{
	const uint64_t args[6] = {vpn * DS_PAGE_BYTES, npages * DS_PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0};

	if (agent_mem_same(m) == 1)
		remote_syscall(&m->remote, SYS_mmap, args);
}

void agent_mem_close(struct agent_mem *m)
{
	struct inject_err ierr;

	if (m->reserve.npages && agent_mem_same(m) == 1) {
		const uint64_t args[6] = {m->reserve.vpn * DS_PAGE_BYTES, m->reserve.npages * DS_PAGE_BYTES};

		remote_syscall(&m->remote, SYS_munmap, args);
	}
	pin_close(&m->pin);
	inject_remove(&m->remote, &ierr);
	hold_close(&m->hold);
	if (m->src_open)
		rle_src_close(&m->src);
	agent_table_free(&m->told);
	agent_ranges_free(&m->blocked);
	agent_ranges_free(&m->own);
	*m = (struct agent_mem){.remote = REMOTE_NONE, .pin = {.ring_fd = -1}, .hold = HOLD_NONE};
}

int agent_mem_safe(const struct agent_mem *m)
{
	return hold_safe(&m->hold);
}

int agent_mem_same(const struct agent_mem *m)
{
	long r = syscall(SYS_kcmp, m->remote.pid, m->remote.helper, KCMP_VM, 0, 0);

	return r < 0 ? -errno : r == 0;
}

/* --- while everything stands still ------------------------------------------------------------------------------ */

/* Workers of an io_uring of the process's own make system calls in its memory without being stopped. */
static bool has_workers(pid_t pid)
{
	char path[64], text[512], *shut;
	bool found = false;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		return false; /* gone: noticed elsewhere */
	while (!found && (d = readdir(dir))) {
		uint64_t flags = 0;
		ssize_t n;
		int fd;

		snprintf(path, sizeof(path), "%.16s/stat", d->d_name);
		fd = openat(dirfd(dir), path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (fd >= 0)
			close(fd);
		if (n <= 0)
			continue;
		text[n] = '\0';
		shut = strrchr(text, ')');
		if (shut && sscanf(shut + 1, " %*c %*d %*d %*d %*d %*d %" SCNu64, &flags) == 1)
			found = flags & PF_IO_WORKER;
	}
	closedir(dir);
	return found;
}

static int workers_in_the_way(const struct agent_mem *m, struct agent_refusal *why)
{
	return agent_refuse(why, DS_LOCAL_C_BUSY, "process %d has workers of an io_uring of its own, which cannot be stopped (idle ones go, polling ones stay)",
			    m->remote.pid);
}

static int still(struct agent_mem *m, agent_mem_check_fn check, void *ctx, struct agent_refusal *why)
{
	int same = agent_mem_same(m);

	if (same == -ESRCH)
		return agent_refuse(why, DS_LOCAL_C_EXIT, "process %d has exited", m->remote.pid);
	if (same != 1)
		return agent_refuse(why, same ? DS_LOCAL_C_SYSTEM : DS_LOCAL_C_EXEC, "process %d %s%s", m->remote.pid,
				    same ? "cannot be told from others: kcmp: " : "has executed another program", same ? strerror(-same) : "");
	if (has_workers(m->remote.pid))
		return workers_in_the_way(m, why);
	return check ? check(ctx, why) : 0;
}

/* --- pinning ---------------------------------------------------------------------------------------------------- */

static void on_stretch(void *ctx, const struct pin_stretch *s)
{
	struct agent_step *step = ctx;
	int err = 0;

	switch (s->outcome) {
	case PIN_DONE:
	case PIN_REPLACED:
		err = agent_ranges_add(&step->fresh, s->addr / DS_PAGE_BYTES, s->bytes / DS_PAGE_BYTES);
		step->err = err ? err : step->err;
		break;
	case PIN_OPEN:
		err = agent_ranges_add(&step->open, s->addr / DS_PAGE_BYTES, s->bytes / DS_PAGE_BYTES);
		step->err = err ? err : step->err;
		break;
	case PIN_ALREADY:
	case PIN_ABSENT:
	case PIN_HOLE:
	case PIN_KERNEL:
	case PIN_NOACCESS:
		break; /* there is nothing that anybody could use */
	default:
		step->out->left_out[s->outcome] += s->bytes / DS_PAGE_BYTES;
	}
}

/* Pins [vpn, end) but what is blocked or dsagent's own. */
static int pin_allowed(struct agent_step *step, uint64_t vpn, uint64_t end, unsigned int flags)
{
	struct agent_mem *m = step->m;
	int err = 0;

	flags |= m->apart ? PIN_APART : 0;
	while (vpn < end && !err) {
		uint64_t a, b, n;
		bool avoid = agent_ranges_at(&m->blocked, vpn, &a) | agent_ranges_at(&m->own, vpn, &b);

		n = a < b ? a : b;
		n = n < end - vpn ? n : end - vpn;
		if (!avoid)
			err = pin_range(&m->pin, vpn * DS_PAGE_BYTES, n * DS_PAGE_BYTES, flags, on_stretch, step);
		vpn += n;
	}
	return err ? err : step->err;
}

/* The mapping that holds a page; false: none, or the kernel's own. */
static bool mapping_of(struct agent_mem *m, uint64_t vpn, struct rle_vma *vma)
{
	struct rle_vma_iter it;

	if (lseek(m->remote.maps_fd, 0, SEEK_SET) < 0)
		return false;
	rle_vma_start(&it, m->remote.maps_fd, m->src.maps_buf, &m->src.procmap_query);
	it.next_vpn = vpn;
	return rle_vma_next(&it, vma) > 0 && vma->start.n <= vpn && vpn < vma->end.n && !vma->kernel_page;
}

/* Makes the page that was asked for, and some around it, if it was not there. */
static int pin_touched(struct agent_step *step)
{
	uint64_t same, from, to;
	struct rle_vma vma;

	if (step->touch == AGENT_MEM_NO_PAGE || agent_ranges_at(&step->fresh, step->touch, &same) || !mapping_of(step->m, step->touch, &vma))
		return 0;
	from = step->touch / TOUCH_PAGES * TOUCH_PAGES;
	to = from + TOUCH_PAGES;
	from = from > vma.start.n ? from : vma.start.n;
	to = to < vma.end.n ? to : vma.end.n;
	from = from > step->first ? from : step->first;
	to = to < step->end ? to : step->end;
	return pin_allowed(step, from, to, PIN_ALONE | PIN_POPULATE);
}

/* --- scanning --------------------------------------------------------------------------------------------------- */

/* Hands on what of a run may be told: what is held since this step, or has the frame that the host knows. */
static int keep_run(void *ctx, const struct rle_run *run, enum rle_end end)
{
	struct agent_step *step = ctx;
	struct rle_map told = agent_table_view(&step->m->told);
	struct rle_run left = *run, hit;

	while (left.npages) {
		uint64_t n;
		bool keep = agent_ranges_at(&step->fresh, left.vpn.n, &n);

		if (keep) {
			/* A private page of a file would be the page cache's. */
			keep = left.attr & RLE_ATTR_MAY_SHARE || !(left.attr & RLE_ATTR_FILE);
			if (keep && left.attr & RLE_ATTR_MAY_SHARE && step->m->apart) {
				const struct rle_map exact = agent_table_view(&step->exact);

				keep = rle_map_lookup(&exact, left.vpn, &hit) && hit.pfn.n == left.pfn.n;
				n = keep && hit.npages < n ? hit.npages : keep ? n : 1;
			}
		} else if (rle_map_lookup(&told, left.vpn, &hit)) {
			n = n < hit.npages ? n : hit.npages;
			keep = hit.pfn.n == left.pfn.n;
		} else {
			uint64_t i = rle_map_find(&told, left.vpn), gap = i < told.nruns ? told.runs[i].vpn.n - left.vpn.n : n;

			n = n < gap ? n : gap;
		}
		if (n > left.npages)
			n = left.npages;
		if (keep) {
			struct rle_run part = left;
			int err;

			part.npages = n;
			err = agent_table_push(&step->out->now, &part, end);
			if (err)
				return err;
		}
		if (n == left.npages)
			break;
		left = rle_run_skip(left, n);
	}
	return 0;
}

/* The mappings from @first on, and (with @e) the page table of them. */
static int scan(struct agent_mem *m, uint64_t first, uint64_t end, struct rle_enc *e, struct agent_ranges *mappings)
{
	struct rle_pagemap pm = {.fd = m->remote.pagemap_fd, .scan = &m->src.pagemap_scan, .buf = m->src.pagemap_buf};
	struct rle_vma_iter it;
	struct rle_vma vma;
	int r, err = 0;

	if (lseek(m->remote.maps_fd, 0, SEEK_SET) < 0)
		return -errno;
	rle_vma_start(&it, m->remote.maps_fd, m->src.maps_buf, &m->src.procmap_query);
	it.next_vpn = first;
	while ((r = rle_vma_next(&it, &vma)) > 0 && vma.start.n < end) {
		vma.start.n = vma.start.n > first ? vma.start.n : first;
		vma.end.n = vma.end.n < end ? vma.end.n : end;
		if (vma.end.n <= vma.start.n)
			continue;
		err = mappings ? agent_ranges_add(mappings, vma.start.n, vma.end.n - vma.start.n) : 0;
		if (!err && e && !vma.kernel_page)
			err = rle_pagemap_vma(&pm, &vma, e);
		if (err)
			return err;
	}
	for (size_t i = 0; mappings && i < m->own.n && !err; i++)
		err = agent_ranges_cut(mappings, m->own.r[i].vpn, m->own.r[i].npages);
	if (!err && e)
		err = rle_enc_finish(e);
	return r < 0 ? r : err;
}

int agent_mem_mappings(struct agent_mem *m, struct agent_ranges *out)
{
	agent_ranges_clear(out);
	return scan(m, 0, USER_PAGES, NULL, out);
}

static int on_change(void *ctx, const struct rle_change *c)
{
	struct agent_take *out = ctx;

	switch (c->kind) {
	case RLE_CHANGE_REMOVED:
	case RLE_CHANGE_MOVED:
		return agent_ranges_add(&out->stale, c->vpn.n, c->npages);
	case RLE_CHANGE_ATTR:
		return agent_ranges_add(&out->altered, c->vpn.n, c->npages);
	case RLE_CHANGE_ADDED:
		out->more = true;
	}
	return 0;
}

/* What the host was told of the window against what is there. */
static int compare(struct agent_step *step)
{
	__attribute__((cleanup(agent_table_free))) struct agent_table before = {0};
	struct rle_map told = agent_table_view(&step->m->told), was, now;
	struct rle_map_iter it = rle_map_range(&told, (ds_vpn){step->first}, (ds_vpn){step->end});
	struct rle_run run;
	int err = 0;

	while (!err && rle_map_next(&it, &run))
		err = agent_table_push(&before, &run, RLE_END_HOLE);
	was = agent_table_view(&before);
	now = agent_table_view(&step->out->now);
	return err ? err : rle_map_diff(&was, &now, on_change, step->out);
}

int agent_mem_compare(struct agent_mem *m, struct agent_take *out)
{
	struct agent_step step = {.m = m, .out = out, .end = USER_PAGES, .touch = AGENT_MEM_NO_PAGE};
	struct rle_enc e;
	int err;

	*out = (struct agent_take){0};
	rle_enc_init(&e, RLE_SPLIT_ATTR, keep_run, &step, &m->src.frames);
	err = scan(m, 0, USER_PAGES, &e, &out->mappings);
	return err ? err : compare(&step);
}

/* --- the step --------------------------------------------------------------------------------------------------- */

static int pin_and_scan(void *ctx)
{
	struct agent_step *step = ctx;
	struct agent_mem *m = step->m;
	bool all = !step->first && step->end == USER_PAGES;
	struct rle_enc e;
	int err = pin_allowed(step, step->first, step->end, PIN_ALONE);

	err = err ? err : pin_touched(step);
	err = err ? err : agent_hold_fresh(step);
	err = err ? err : agent_hold_shared(step);
	if (err)
		return err;
	rle_enc_init(&e, RLE_SPLIT_ATTR, keep_run, step, &m->src.frames);
	err = scan(m, step->first, step->end, &e, all ? &step->out->mappings : NULL);
	return err ? err : compare(step);
}

/* Pages that a step may come to pin: a window's, or what the process has; counts of the kernel lag a little (proc_pid_statm(5)). */
static uint64_t wanted(const struct agent_mem *m, uint64_t npages)
{
	uint64_t size, resident = 0;
	cleanup_close int fd = -1;
	char path[64], text[128];
	ssize_t n;

	if (npages <= PIN_BUFFER_MAX_BYTES / DS_PAGE_BYTES)
		return npages;
	snprintf(path, sizeof(path), "/proc/%d/statm", m->remote.helper);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	if (sscanf(text, "%" SCNu64 " %" SCNu64, &size, &resident) != 2)
		return npages;
	resident += m->swapped_pages;
	return (resident > m->pin.pages ? resident - m->pin.pages : 0) + resident / 16 + 512;
}

static void let_go(struct agent_mem *m, const struct agent_ranges *pages)
{
	for (size_t i = 0; i < pages->n; i++) {
		pin_drop(&m->pin, pages->r[i].vpn * DS_PAGE_BYTES, pages->r[i].npages * DS_PAGE_BYTES);
		hold_release(&m->hold, pages->r[i].vpn, pages->r[i].npages);
	}
}

/* What was pinned in a step that came to nothing is let go of again. */
static void undo(struct agent_step *step)
{
	let_go(step->m, &step->fresh);
	let_go(step->m, &step->open);
	agent_ranges_clear(&step->fresh);
	agent_ranges_clear(&step->open);
	agent_table_free(&step->exact);
	agent_take_free(step->out);
}

void agent_take_free(struct agent_take *t)
{
	agent_table_free(&t->now);
	agent_ranges_free(&t->stale);
	agent_ranges_free(&t->altered);
	agent_ranges_free(&t->mappings);
	*t = (struct agent_take){0};
}

void agent_mem_release(struct agent_mem *m, const struct agent_ranges *pages)
{
	let_go(m, pages);
	agent_account_settle(m->account, m->slot, m->pin.pages);
}

/* Why a step over everything is not good enough to be told. */
static int too_little(const struct agent_mem *m, const struct agent_take *out, uint64_t leased, struct agent_refusal *why)
{
	uint64_t limit_mib = agent_account_user_limit(m->account, m->slot) >> (20 - DS_PAGE_SHIFT);

	if (out->left_out[PIN_LIMIT] && m->pin.budget_pages - m->pin.pages > out->left_out[PIN_LIMIT])
		return agent_refuse(why, DS_LOCAL_C_LIMIT,
				    "process %d: the kernel does not pin %" PRIu64 " MiB more of it: RLIMIT_MEMLOCK, which dsagent needs CAP_SYS_RESOURCE to raise",
				    m->remote.pid, (out->left_out[PIN_LIMIT] >> (20 - DS_PAGE_SHIFT)) + 1);
	if (out->left_out[PIN_LIMIT])
		return agent_refuse(why, DS_LOCAL_C_LIMIT,
				    "process %d: %" PRIu64 " MiB more would have to be pinned than may be (%" PRIu64 " MiB in all%s, of which %" PRIu64
				    " were free; dsagent --limit)",
				    m->remote.pid, (out->left_out[PIN_LIMIT] >> (20 - DS_PAGE_SHIFT)) + 1, limit_mib,
				    limit_mib < m->account->limit_pages >> (20 - DS_PAGE_SHIFT) ? " for one user" : "", leased >> (20 - DS_PAGE_SHIFT));
	if (out->left_out[PIN_FULL])
		return agent_refuse(why, DS_LOCAL_C_LIMIT,
				    "process %d: its memory lies in more pieces than a ring can pin (%u); demand mode pins what is used only",
				    m->remote.pid, PIN_SLOTS);
	return 0;
}

static int take_once(struct agent_mem *m, struct agent_step *step, agent_mem_check_fn check, void *ctx, uint64_t lease, struct agent_refusal *why)
{
	bool all = step->end - step->first > PIN_BUFFER_MAX_BYTES / DS_PAGE_BYTES;
	struct inject_err ierr = {0};
	struct freeze *freeze = NULL;
	int err, late, ring_err;

	err = freeze_start(&m->remote, all ? ALL_LIMIT_MS : WINDOW_LIMIT_MS, &freeze, &ierr);
	if (err == -EPERM && has_workers(m->remote.pid))
		return workers_in_the_way(m, why);
	if (err)
		return agent_refuse(why, err == -EBUSY || err == -EAGAIN ? DS_LOCAL_C_BUSY : code_of(err), "process %d cannot be stopped: %s",
				    m->remote.pid, ierr.why ? ierr.why : strerror(-err));
	if (still(m, check, ctx, why)) {
		freeze_end(freeze);
		return -1;
	}
	m->pin.budget_pages = m->pin.pages + lease;
	pin_frozen(&m->pin, freeze);
	late = freeze_keep(freeze, END_MS) ? 0 : -ETIME;
	err = late ? late : remote_settle(&m->remote);
	err = err ? err : inject_whole(&m->remote);
	ring_err = m->remote.ring_fd < 0 ? m->remote.ring_fd : 0;
	err = err ? err : ring_err;
	err = err ? err : remote_together(&m->remote, pin_and_scan, step, (all ? ALL_LIMIT_MS : WINDOW_LIMIT_MS) + REMOTE_TIMEOUT_MS);
	remote_unsettle(&m->remote);
	if (!late)
		freeze_unkeep(freeze);
	pin_frozen(&m->pin, NULL);
	freeze_end(freeze);
	if (!err && !late)
		return 0;
	undo(step);
	if (err == -EPROTO || ring_err)
		remote_kill(&m->remote);
	if (ring_err)
		return no_ring(m, ring_err, why);
	if (err == -EPROTO || (err && m->remote.gone && !poll(&(struct pollfd){.fd = m->remote.pidfd, .events = POLLIN}, 1, 0)))
		return agent_refuse(why, DS_LOCAL_C_PROCESS, "process %d: dsagent's helper in it was killed, or interfered with", m->remote.pid);
	if (!late)
		return agent_refuse(why, code_of(err), "process %d: its memory cannot be read or pinned: %s", m->remote.pid, strerror(-err));
	return agent_refuse(why, DS_LOCAL_C_BUSY, "process %d could not be kept still for as long as pinning takes", m->remote.pid);
}

int agent_mem_take(struct agent_mem *m, uint64_t first, uint64_t npages, uint64_t touch, agent_mem_check_fn check, void *ctx,
		   struct agent_take *out, struct agent_refusal *why)
{
	uint64_t end = npages > USER_PAGES || first > USER_PAGES - npages ? USER_PAGES : first + npages, lease;
	struct agent_step step = {.m = m, .out = out, .first = first, .end = end, .touch = touch};
	int err = -1;

	*out = (struct agent_take){0};
	lease = agent_account_lease(m->account, m->slot, wanted(m, end - first) + (touch == AGENT_MEM_NO_PAGE ? 0 : TOUCH_PAGES));
	why->code = DS_LOCAL_C_BUSY;
	for (int i = 0; err && i < TRIES && why->code == DS_LOCAL_C_BUSY; i++) {
		step.err = 0;
		if (i)
			usleep(20000u << i); /* workers go after a while, a child in vfork() calls exec */
		err = take_once(m, &step, check, ctx, lease, why);
	}
	/* The estimate was too low: mapped zero pages, for one, are not counted as resident and become pages when they are pinned. */
	for (int i = 0; !err && i < TRIES && out->left_out[PIN_LIMIT]; i++) {
		uint64_t more = agent_account_lease(m->account, m->slot, out->left_out[PIN_LIMIT] + lease / 4 + TOUCH_PAGES);

		if (more <= TOUCH_PAGES)
			break;
		lease += more;
		undo(&step);
		step.err = 0;
		err = take_once(m, &step, check, ctx, lease, why);
	}
	if (!err && end - first == USER_PAGES && too_little(m, out, lease, why)) {
		undo(&step);
		err = -1;
	}
	agent_account_settle(m->account, m->slot, m->pin.pages);
	agent_ranges_free(&step.fresh);
	agent_ranges_free(&step.open);
	agent_table_free(&step.exact);
	return err;
}
