/* warden_map.c - from what a guest says its memory is to a map that its capsule may have
 *
 * The bytes lie in the warden's own memory and nobody else can write them any more.  rle_map_open() makes sure of their
 * form, the rule of their number of pages, ramtable_translate() that they lead into the VM's RAM and nowhere else, and
 * plan_check() that the host can map them.  Only what has passed all of that is written for a capsule to read.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "rle/cleanup.h"
#include "rle/mapw.h"
#include "runtime/host/reasons.h"
#include "runtime/host/warden/warden_parts.h"
#include "runtime/shadow/plan.h"

/* Mappings of the capsule itself, twice, as there are two while it moves; and some that only exist in passing. */
#define CAPSULE_MAPS(nexecutors) (2 * (2 * (uint64_t)(nexecutors) + 6) + 8)

_Static_assert(sizeof(struct ds_agent_range) == sizeof(struct ds_shadow_range), "ranges are the same to guest and capsule");

void warden_map_free(struct warden_map *m)
{
	free(m->blob);
	free(m->forbidden);
	*m = (struct warden_map){0};
}

/* Where maps lead: pages of the RAM file, or, where that is /dev/mem, frames of the host. */
static enum rle_space space_of(const struct warden *w)
{
	return w->p->table->file[0].physical ? RLE_SPACE_HOST : RLE_SPACE_FILE;
}

/* An empty map, for a mirror that faults. */
static int empty_map(const struct warden *w, void **blob, size_t *bytes)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR,
					  .key = RLE_SPACE_VIRTUAL,
					  .space = space_of(w),
					  .pid = w->who.pid};
	__attribute__((cleanup(rle_mapw_cleanup))) struct rle_mapw *writer = NULL;
	int r = rle_mapw_begin_mem(&writer, &meta, sizeof(struct rle_map_header));

	*blob = NULL;
	if (!r)
		r = rle_mapw_finish(writer);
	if (!r && !(*blob = rle_mapw_take(writer, bytes)))
		r = -ENOMEM;
	return r;
}

uint32_t warden_map_translate(struct warden *w, const void *bytes, size_t nbytes, void **blob, size_t *blob_bytes,
			      char text[static DS_AGENT_TEXT_BYTES])
{
	__attribute__((cleanup(rle_map_close))) struct rle_map guest = {0};
	struct rle_map_err map_err = {0};
	struct ramtable_err ram_err = {0};
	int r = rle_map_open(&guest, bytes, nbytes, &map_err);

	*blob = NULL;
	if (r) {
		snprintf(text, DS_AGENT_TEXT_BYTES, "the map is not valid: %s (run %" PRId64 ", byte %" PRIu64 ")",
			 map_err.why ? map_err.why : "not aligned", (int64_t)map_err.run, map_err.offset_bytes);
		return DS_AGENT_C_MAP;
	}
	if (guest.npages > w->rule->max_pages) {
		snprintf(text, DS_AGENT_TEXT_BYTES, "the process has %" PRIu64 " pages and the policy allows %" PRIu64 " (line %u)",
			 guest.npages, w->rule->max_pages, w->rule->line);
		return DS_AGENT_C_LIMIT;
	}
	r = ramtable_translate(w->p->table, &guest, DS_SHADOW_MAP_BYTES_MAX, blob, blob_bytes, &ram_err);
	if (!r)
		return 0;
	snprintf(text, DS_AGENT_TEXT_BYTES, "%s (run %" PRId64 ", guest address 0x%" PRIx64 ")",
		 ram_err.why ? ram_err.why : strerrordesc_np(-r), (int64_t)ram_err.index, ram_err.value);
	return r == -ENOMEM ? DS_AGENT_C_HOST : r == -E2BIG ? DS_AGENT_C_LIMIT : DS_AGENT_C_MAP;
}

uint64_t warden_max_segs(const struct warden *w)
{
	const uint64_t own = CAPSULE_MAPS(w->rule->executors);

	return w->max_maps > own ? w->max_maps - own : 0;
}

uint32_t warden_map_adopt(struct warden *w, struct warden_map *m, void *blob, size_t bytes,
			  char text[static DS_AGENT_TEXT_BYTES])
{
	const struct plan_limits limits = {
		.min_vpn = w->min_vpn,
		.ram_pages = w->p->table->file[0].npages,
		.max_segs = warden_max_segs(w),
		.space = space_of(w),
	};
	struct ds_shadow_refused refused;
	struct plan_sum sum;
	int r;

	m->blob = blob;
	m->blob_bytes = bytes;
	r = rle_map_open(&m->map, blob, bytes, NULL);
	if (r) {
		snprintf(text, DS_AGENT_TEXT_BYTES, "the translated map is not valid: %s", strerrordesc_np(-r));
		return DS_AGENT_C_HOST;
	}
	if (plan_check(&m->map, &limits, &sum, &refused)) {
		reasons_refused(text, DS_AGENT_TEXT_BYTES, &refused);
		return reasons_refused_code(&refused);
	}
	m->segs = sum.segs;
	return 0;
}

uint32_t warden_map_take(struct warden *w, const struct ds_agent_head *msg, struct warden_map *out,
			 char text[static DS_AGENT_TEXT_BYTES])
{
	size_t nbytes, nranges, blob_bytes = 0;
	const void *bytes = agentmsg_map(msg, &nbytes);
	const struct ds_agent_range *ranges = agentmsg_ranges(msg, &nranges);
	void *blob = NULL;
	uint32_t code = 0;

	*out = (struct warden_map){0};
	if ((w->who.mode == DS_AGENT_DEMAND) != !nbytes) {
		snprintf(text, DS_AGENT_TEXT_BYTES, "a map comes with every change in eager mode, and with none in demand mode");
		return DS_AGENT_C_MESSAGE;
	}
	if (nbytes)
		code = warden_map_translate(w, bytes, nbytes, &blob, &blob_bytes, text);
	else if (empty_map(w, &blob, &blob_bytes))
		code = DS_AGENT_C_HOST;
	out->forbidden = malloc((nranges + 1) * sizeof(*out->forbidden));
	if (code == DS_AGENT_C_HOST || !out->forbidden) {
		snprintf(text, DS_AGENT_TEXT_BYTES, "the host has no memory for the map");
		code = DS_AGENT_C_HOST;
	}
	if (code) {
		free(blob);
		warden_map_free(out);
		return code;
	}
	memcpy(out->forbidden, ranges, nranges * sizeof(*ranges));
	out->nforbidden = nranges;
	code = warden_map_adopt(w, out, blob, blob_bytes, text);
	if (code)
		warden_map_free(out);
	return code;
}

/* Writes all of it, whatever its length.  Return: 0, -errno. */
static int write_all(int fd, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		const ssize_t n = write(fd, (const char *)data + done, bytes - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

int warden_map_file(const struct warden_map *m, const void *filter, size_t filter_bytes)
{
	cleanup_close int fd = memfd_create("shadow-map", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char path[32];
	int r, ro;

	if (fd < 0)
		return -errno;
	r = write_all(fd, m->blob, m->blob_bytes);
	if (!r)
		r = write_all(fd, m->forbidden, m->nforbidden * sizeof(*m->forbidden));
	if (!r)
		r = write_all(fd, filter, filter_bytes);
	if (!r && fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
		r = -errno;
	if (r)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}
