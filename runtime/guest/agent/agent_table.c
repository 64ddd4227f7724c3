/* agent_table.c - what the host was told of a process; invariants in agent_table.h */
#include "runtime/guest/agent/agent_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rle/mapw.h"
#include "runtime/wire/agent.h"

#define RUNS_MAX ((DS_AGENT_MAP_BYTES_MAX - sizeof(struct rle_map_header)) / sizeof(struct rle_run))

static int make_room(struct agent_table *t, size_t n)
{
	size_t room = n + n / 2 + 64;
	struct rle_run *run;

	if (n > RUNS_MAX)
		return -E2BIG;
	if (n <= t->room)
		return 0;
	run = reallocarray(t->run, room, sizeof(*run));
	if (!run)
		return -ENOMEM;
	t->run = run;
	t->room = room;
	return 0;
}

int agent_table_push(void *table, const struct rle_run *run, enum rle_end end)
{
	struct agent_table *t = table;
	int err = t->n == t->room ? make_room(t, t->n + 1) : 0;

	(void)end;
	if (err)
		return err;
	if (!run->npages || (t->n && rle_run_end(&t->run[t->n - 1]).n > run->vpn.n))
		return -EINVAL;
	t->run[t->n++] = *run;
	return 0;
}

int agent_table_put(struct agent_table *t, uint64_t vpn, uint64_t npages, const struct rle_run *runs, size_t nruns)
{
	struct rle_map view = agent_table_view(t);
	uint64_t end = vpn + npages, at = vpn;
	struct rle_run head = {0}, tail = {0};
	size_t from = rle_map_find(&view, (ds_vpn){vpn}), to, n;
	int err;

	for (size_t i = 0; i < nruns; i++) {
		if (!runs[i].npages || runs[i].vpn.n < at || rle_run_end(&runs[i]).n > end)
			return -EINVAL;
		at = rle_run_end(&runs[i]).n;
	}
	for (to = from; to < t->n && t->run[to].vpn.n < end; to++)
		;
	/* What reaches out of the window on either side stays: it may be the same run. */
	if (to > from && t->run[from].vpn.n < vpn) {
		head = t->run[from];
		head.npages = vpn - head.vpn.n;
	}
	if (to > from && rle_run_end(&t->run[to - 1]).n > end)
		tail = rle_run_skip(t->run[to - 1], end - t->run[to - 1].vpn.n);
	n = nruns + !!head.npages + !!tail.npages;
	err = make_room(t, t->n - (to - from) + n);
	if (err)
		return err;
	if (t->n > to)
		memmove(t->run + from + n, t->run + to, (t->n - to) * sizeof(*t->run));
	t->n = t->n - (to - from) + n;
	if (head.npages)
		t->run[from++] = head;
	if (nruns)
		memcpy(t->run + from, runs, nruns * sizeof(*runs));
	if (tail.npages)
		t->run[from + nruns] = tail;
	return 0;
}

struct rle_map agent_table_view(const struct agent_table *t)
{
	return (struct rle_map){
		.meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME},
		.runs = t->run,
		.nruns = t->n,
	};
}

uint64_t agent_table_pages(const struct agent_table *t)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < t->n; i++)
		sum += t->run[i].npages;
	return sum;
}

void *agent_table_blob(const struct agent_table *t, uint64_t pid, uint64_t start_ticks, size_t *bytes)
{
	const struct rle_map_meta meta = {
		.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = pid, .start_ticks = start_ticks};
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *w = NULL;

	if (rle_mapw_begin_mem(&w, &meta, DS_AGENT_MAP_BYTES_MAX))
		return NULL;
	for (size_t i = 0; i < t->n; i++)
		rle_mapw_run(w, &t->run[i], RLE_END_HOLE); /* an error sticks */
	return rle_mapw_finish(w) ? NULL : rle_mapw_take(w, bytes);
}

void agent_table_free(struct agent_table *t)
{
	free(t->run);
	*t = (struct agent_table){0};
}
