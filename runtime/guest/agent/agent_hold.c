/* agent_hold.c - a step of a shadow: what was pinned is held; theory in agent_mem.h and hold.h */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_step.h"

struct missed {
	struct agent_step *step;
	struct agent_ranges pages;
	int err;
};

static void on_missed(void *ctx, uint64_t vpn, uint64_t npages)
{
	struct missed *missed = ctx;
	int err = agent_ranges_add(&missed->pages, vpn, npages);

	missed->err = err ? err : missed->err;
	missed->step->out->left_out[PIN_REFUSED] += npages;
}

/* Only what is held counts as pinned in this step. */
int agent_hold_fresh(struct agent_step *step)
{
	__attribute__((cleanup(agent_ranges_free))) struct agent_ranges none = {0};
	struct missed missed = {.step = step};
	struct agent_mem *m = step->m;
	int err;

	_Static_assert(sizeof(struct hold_range) == sizeof(struct ds_agent_range) &&
			       offsetof(struct hold_range, npages) == offsetof(struct ds_agent_range, npages), "one is read as the other");
	err = hold_take(&m->hold, &m->remote, (const struct hold_range *)step->fresh.r, step->fresh.n, on_missed, &missed);
	none = missed.pages;
	err = err ? err : missed.err;
	for (size_t i = 0; i < none.n && !err; i++) {
		pin_drop(&m->pin, none.r[i].vpn * DS_PAGE_BYTES, none.r[i].npages * DS_PAGE_BYTES);
		err = agent_ranges_cut(&step->fresh, none.r[i].vpn, none.r[i].npages);
	}
	return err;
}

static int not_held(struct agent_step *step, uint64_t vpn, uint64_t npages)
{
	pin_drop(&step->m->pin, vpn * DS_PAGE_BYTES, npages * DS_PAGE_BYTES);
	return hold_release(&step->m->hold, vpn, npages);
}

/* Shared memory, a piece of one mapping: by way of its file. */
static int hold_piece(struct agent_step *step, int fd, uint64_t page, uint64_t vpn, uint32_t npages)
{
	uint64_t frame[HOLD_SHARED_PAGES];
	int err = hold_take_shared(&step->m->hold, fd, page, vpn, npages, frame);

	if (err == -EIO || err == -ENOMEM)
		return err;
	if (err) {
		step->out->left_out[PIN_REFUSED] += npages;
		return not_held(step, vpn, npages);
	}
	for (uint32_t i = 0, n; i < npages && !err; i += n) {
		const struct rle_run run = {.vpn = {vpn + i}, .pfn = {frame[i]}};
		struct rle_run part = run;

		for (n = 1; i + n < npages && frame[i] && frame[i + n] == frame[i] + n;)
			n++;
		part.npages = n;
		if (frame[i])
			err = agent_table_push(&step->exact, &part, RLE_END_HOLE);
		if (frame[i] && !err)
			err = agent_ranges_add(&step->fresh, vpn + i, n);
		else if (!err)
			err = not_held(step, vpn + i, n);
	}
	return err;
}

/* The part of a mapping that is in @r.  What is not in memory's own file system has been refused by the ring. */
static int hold_mapping(struct agent_step *step, const struct ds_agent_range *r, uint64_t first, uint64_t end, uint64_t offset_pages)
{
	const uint64_t from = r->vpn > first ? r->vpn : first, to = r->vpn + r->npages < end ? r->vpn + r->npages : end;
	cleanup_close int fd = -1;
	struct statfs fs;
	char path[96];
	int err = 0;

	if (from >= to)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, step->m->remote.helper, first * DS_PAGE_BYTES, end * DS_PAGE_BYTES);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC) {
		step->out->left_out[PIN_SHARED] += to - from;
		return not_held(step, from, to - from);
	}
	for (uint64_t vpn = from; vpn < to && !err;) {
		const uint32_t n = to - vpn < HOLD_SHARED_PAGES ? to - vpn : HOLD_SHARED_PAGES;

		err = hold_piece(step, fd, offset_pages + (vpn - first), vpn, n);
		vpn += n;
	}
	return err;
}

int agent_hold_shared(struct agent_step *step)
{
	cleanup_free char *line = NULL;
	FILE *maps = NULL;
	size_t room = 0;
	int err = 0;

	if (!step->open.n)
		return 0;
	maps = fdopen(dup(step->m->remote.maps_fd), "r");
	if (!maps)
		return -errno;
	rewind(maps);
	while (!err && getline(&line, &room, maps) > 0) {
		uint64_t start, end, offset;
		char perm[5];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64, &start, &end, perm, &offset) != 4 || perm[3] != 's')
			continue;
		for (size_t i = 0; i < step->open.n && !err; i++)
			err = hold_mapping(step, &step->open.r[i], start / DS_PAGE_BYTES, end / DS_PAGE_BYTES, offset / DS_PAGE_BYTES);
	}
	fclose(maps);
	return err;
}
