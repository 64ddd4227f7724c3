/* shadow_params.c - fuzzes what a capsule checks before it believes: messages, maps, forbidden ranges
 *
 * The input is a message; behind a BOOT or an UPDATE its data file follows.  Each input is tried as it is and with the
 * head and the map's counts and checksums made right.  Whatever passes must keep what the rest of the capsule
 * relies on: everything is inside its bounds, and a place that is found for the capsule is free.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/shadow/params.h"
#include "runtime/shadow/place.h"
#include "runtime/shadow/plan.h"
#include "tests/fuzz/target.h"

struct bounds {
	const struct plan_limits *limits;
	uint64_t end;
};

static int check_seg(void *ctx, const struct plan_seg *seg)
{
	struct bounds *b = ctx;

	MUST(seg->npages && seg->vpn.n >= b->end && seg->vpn.n >= b->limits->min_vpn);
	b->end = seg->vpn.n + seg->npages;
	MUST(b->end <= PLACE_VPN_END && seg->pfn.n + seg->npages <= b->limits->ram_pages);
	MUST(!(seg->prot & ~3));
	return 0;
}

static void check_data(const struct ds_shadow_boot *boot, const uint8_t *data, size_t size, bool mend)
{
	const uint64_t bytes = params_data_bytes(&boot->data);
	const struct plan_limits limits = {.min_vpn = boot->min_vpn,
					   .ram_pages = boot->ram_bytes >> DS_PAGE_SHIFT,
					   .max_segs = boot->max_maps,
					   .space = boot->provider ? RLE_SPACE_HOST : RLE_SPACE_FILE};
	struct ds_shadow_refused refused = {0};
	const struct ds_shadow_range *forbidden;
	struct bounds bounds = {.limits = &limits};
	struct rle_map_header *h;
	struct place_want want;
	struct plan_sum sum;
	struct rle_map map;
	uint64_t vpn, n;
	uint8_t *block;

	if (bytes > size)
		return;
	block = malloc(bytes);
	memcpy(block, data, bytes);
	h = (struct rle_map_header *)block;
	if (mend && (boot->data.map_bytes - sizeof(*h)) % sizeof(struct rle_run) == 0) {
		h->nruns = (boot->data.map_bytes - sizeof(*h)) / sizeof(struct rle_run);
		h->npages = 0;
		for (uint64_t i = 0; i < h->nruns; i++)
			h->npages += ((struct rle_run *)(h + 1))[i].npages;
		h->runs_xxh3 = XXH3_64bits(h + 1, boot->data.map_bytes - sizeof(*h));
		h->header_xxh3 = XXH3_64bits(h, offsetof(struct rle_map_header, header_xxh3));
	}
	forbidden = (const struct ds_shadow_range *)(block + boot->data.map_bytes);
	n = place_check_ranges(forbidden, boot->data.nforbidden);
	MUST(n <= boot->data.nforbidden);
	if (!rle_map_open(&map, block, boot->data.map_bytes, NULL)) {
		if (plan_check(&map, &limits, &sum, &refused)) {
			MUST(refused.reason > 0 && refused.reason < DS_SHADOW_R_END);
		} else {
			MUST(sum.segs <= limits.max_segs && sum.pages == map.npages);
			plan_map(&map, check_seg, &bounds);
			MUST(plan_diff(&map, &map, check_seg, &bounds) == 0);
			want = (struct place_want){
				.src = {place_of_map(&map), place_of_ranges(forbidden, n)},
				.npages = boot->nexecutors,
				.first_vpn = boot->min_vpn,
				.reserve = boot->reserve,
				.random = boot->head.seq * UINT64_C(0x9e3779b97f4a7c15),
			};
			if (!place_find(&want, &vpn)) {
				MUST(vpn >= want.first_vpn && vpn + want.npages <= PLACE_VPN_END);
				MUST(place_free(&want, (struct ds_shadow_range){vpn, want.npages}));
			}
		}
	}
	free(block);
}

static void check_map(const struct ds_shadow_map *m, size_t bytes)
{
	const struct ds_shadow_boot boot = {.ram_bytes = 1 << 20, .min_vpn = 16};
	struct ds_shadow_refused refused = {0};

	if (params_map(m, &boot, &refused)) {
		MUST(refused.reason > 0 && refused.reason < DS_SHADOW_R_END);
		return;
	}
	MUST(m->nsegs && m->nsegs <= DS_SHADOW_SEGS_MAX && sizeof(*m) + m->nsegs * sizeof(m->seg[0]) == bytes);
	for (uint32_t i = 0; i < m->nsegs; i++) {
		const struct ds_shadow_seg s = m->seg[i];

		MUST(s.npages && s.vpn >= boot.min_vpn && s.vpn < PLACE_VPN_END && s.npages <= PLACE_VPN_END - s.vpn);
		if (s.prot == DS_SHADOW_WAITS) {
			MUST(s.npages == 1 && (int32_t)s.pfn > 0 && s.pfn == (uint64_t)(int32_t)s.pfn);
			continue;
		}
		MUST(params_covers(m) ? s.prot == DS_SHADOW_COVER : s.prot <= 3 || s.prot == DS_SHADOW_WAKE);
		MUST(s.prot & 3 ? s.pfn + s.npages <= boot.ram_bytes >> DS_PAGE_SHIFT && s.pfn < 256 : !s.pfn);
	}
}

static void check_window(const struct ds_shadow_window *w)
{
	struct ds_shadow_refused refused = {0};

	if (params_window(w, &refused)) {
		MUST(refused.reason > 0 && refused.reason < DS_SHADOW_R_END);
		return;
	}
	MUST(w->range.npages && w->range.vpn < PLACE_VPN_END && w->range.npages <= PLACE_VPN_END - w->range.vpn);
	MUST(!(w->offset & (DS_PAGE_BYTES - 1)) && !w->zero && (w->prot == 1 || w->prot == 2 || w->prot == 3));
}

static void check_adopt(const struct ds_shadow_adopt *a)
{
	struct ds_shadow_refused refused = {0};

	if (params_adopt(a, &refused)) {
		MUST(refused.reason > 0 && refused.reason < DS_SHADOW_R_END);
		return;
	}
	MUST(a->n && a->n <= DS_SHADOW_ADOPT_MAX);
	for (uint32_t i = 0; i < a->n; i++)
		MUST(a->number[i] < DS_SHADOW_CTL_FD);
}

static void check_message(const uint8_t *data, size_t size, bool mend)
{
	struct ds_shadow_refused refused = {0};
	struct ds_shadow_head head;
	struct ds_shadow_boot boot;
	size_t bytes = size;
	uint8_t *copy;

	if (size < sizeof(head))
		return;
	memcpy(&head, data, sizeof(head));
	if (head.kind == DS_SHADOW_BOOT && size >= sizeof(boot))
		bytes = sizeof(boot);
	if (head.kind == DS_SHADOW_UPDATE && size >= sizeof(struct ds_shadow_update))
		bytes = sizeof(struct ds_shadow_update);
	copy = malloc(bytes); /* of just that length, so that a sanitizer sees what is read beyond */
	memcpy(copy, data, bytes);
	if (mend) {
		head.magic = DS_SHADOW_MAGIC;
		head.version = DS_SHADOW_VERSION;
		head.bytes = (uint32_t)bytes;
		memcpy(copy, &head, sizeof(head));
	}
	if (params_head(copy, bytes, &refused)) {
		MUST(refused.reason > 0 && refused.reason < DS_SHADOW_R_END);
	} else if (head.kind == DS_SHADOW_BOOT) {
		memcpy(&boot, copy, sizeof(boot));
		if (mend)
			boot.service[sizeof(boot.service) - 1] = boot.args[sizeof(boot.args) - 1] = 0;
		if (!params_boot(&boot, "calls", &refused)) {
			MUST(!strcmp(boot.service, "calls") && strlen(boot.args) < sizeof(boot.args));
			MUST(boot.nexecutors && boot.nexecutors <= DS_SHADOW_EXECUTORS_MAX);
			check_data(&boot, data + bytes, size - bytes, mend);
		} else {
			MUST(refused.reason > 0 && refused.reason < DS_SHADOW_R_END);
		}
	} else if (head.kind == DS_SHADOW_MESSAGE) {
		const struct ds_shadow_message *m = (const struct ds_shadow_message *)copy;

		if (!params_message(m, 3, &refused))
			MUST(sizeof(*m) + m->payload_bytes == bytes && m->executor < 3);
	} else if (head.kind == DS_SHADOW_MAP) {
		check_map((const struct ds_shadow_map *)copy, bytes);
	} else if (head.kind == DS_SHADOW_WINDOW) {
		check_window((const struct ds_shadow_window *)copy);
	} else if (head.kind == DS_SHADOW_ADOPT) {
		check_adopt((const struct ds_shadow_adopt *)copy);
	} else if (head.kind == DS_SHADOW_FD) {
		if (!params_executor(((const struct ds_shadow_fd *)copy)->executor, 3, &refused))
			MUST(((const struct ds_shadow_fd *)copy)->executor < 3);
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check_message(data, size, false);
	check_message(data, size, true);
	return 0;
}
