/* dsmap_agent.c - a map from dsagent; see dsmap_agent.h */
#include "runtime/guest/map/dsmap_agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_ask.h"

#define ANSWER_MS 90000 /* dsagent gives up a reader after 60 s */

/* The whole of a sealed file.  Return: malloc'd, NULL: cannot be had. */
static void *slurp(int fd, size_t bytes)
{
	char *buf = malloc(bytes ? bytes : 1);
	size_t have = 0;

	while (buf && have < bytes) {
		ssize_t n = pread(fd, buf + have, bytes - have, have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			free(buf);
			return NULL;
		}
		have += n;
	}
	return buf;
}

/* Runs without frames as a map; what a map must hold to be used (order, no overlap) is checked. */
static int take_runs(struct dsmap_answer *a, const struct ds_local_mapped *m, enum rle_split split, int fd)
{
	cleanup_free struct ds_local_run *from = slurp(fd, m->bytes);
	struct rle_run *run = calloc(m->nruns ? m->nruns : 1, sizeof(*run));
	uint64_t at = 0, npages = 0;

	if (!from || !run) {
		free(run);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < m->nruns; i++) {
		if (from[i].vpn < at || rle_map_range_fault(RLE_SPACE_VIRTUAL, (ds_vpn){from[i].vpn}, (ds_pfn){0}, from[i].npages, from[i].attr)) {
			free(run);
			return -EPROTO;
		}
		run[i] = (struct rle_run){.vpn = {from[i].vpn}, .npages = from[i].npages, .attr = from[i].attr};
		at = from[i].vpn + from[i].npages;
		npages += from[i].npages;
	}
	a->no_frames = true;
	a->map = (struct rle_map){
		.meta = {.split = split, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = m->pid, .start_ticks = m->start_ticks},
		.runs = run,
		.nruns = m->nruns,
		.npages = npages,
		.owned = run,
	};
	return 0;
}

static int take(struct dsmap_answer *a, const struct ds_local_mapped *m, enum rle_split split, int fd)
{
	int err;

	if (m->form == DS_LOCAL_FORM_MAP) {
		a->blob = slurp(fd, m->bytes);
		a->blob_bytes = m->bytes;
		err = a->blob ? rle_map_open(&a->map, a->blob, a->blob_bytes, NULL) : -ENOMEM;
	} else {
		err = take_runs(a, m, split, fd);
	}
	memcpy(a->comm, m->comm, sizeof(a->comm));
	a->counts = (struct rle_counts){
		.vmas = m->vmas,
		.mapped = m->mapped,
		.present = a->map.npages,
		.runs = {m->runs[0], m->runs[1], m->runs[2]},
		.swapped = m->swapped,
		.migrating = m->migrating,
		.zero = m->zero,
		.device = m->device,
		.file = m->file,
		.exclusive = m->exclusive,
	};
	return err;
}

static int no_agent(const struct dsmap_options *o, const char *why_not, int err)
{
	const char *path = o->socket ? o->socket : DS_LOCAL_SOCKET;

	if (why_not) {
		fprintf(stderr,
			"dsmap: frame numbers cannot be seen: %s\n"
			"The kernel shows them to CAP_SYS_ADMIN in the initial user namespace only: run dsmap as root.  Or let dsagent run, which\n"
			"answers everybody for their own processes; at %s: %s\n",
			why_not, path, strerror(-err));
		return DSMAP_NO_PFN;
	}
	fprintf(stderr, "dsmap: %s: %s%s\n", path, strerror(-err), err == -ENOENT || err == -ECONNREFUSED ? ": is dsagent running?" : "");
	return DSMAP_SYSTEM;
}

int dsmap_agent_ask(struct dsmap_answer *a, const struct dsmap_options *o, enum rle_split split, const char *why_not)
{
	struct ds_local_refused refused;
	struct ds_local_mapped m;
	cleanup_close int fd = agent_ask_connect(o->socket);
	cleanup_close int map_fd = -1;
	int err;

	*a = (struct dsmap_answer){0};
	if (fd < 0)
		return no_agent(o, why_not, fd);
	map_fd = agent_ask_map(fd, o->pid, split, ANSWER_MS, &m, &refused);
	err = map_fd < 0 ? map_fd : take(a, &m, split, map_fd);
	if (!err)
		return 0;
	if (err == -EACCES) {
		fprintf(stderr, "dsmap: dsagent: %s\n", refused.text);
		return refused.code == DS_LOCAL_C_ACCESS ? DSMAP_NO_PFN : DSMAP_SYSTEM;
	}
	fprintf(stderr, "dsmap: dsagent: %s\n", err == -EPROTO ? "an answer that is not understood; is it of another version?" : strerror(-err));
	return DSMAP_SYSTEM;
}
