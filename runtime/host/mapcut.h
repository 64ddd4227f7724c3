/* mapcut.h - a map without some of its pages, and which pages of the RAM nobody has any more afterwards
 *
 * What a DROP needs (runtime/wire/agent.h).  Pure; memory only for the results.
 */
#ifndef HOST_MAPCUT_H
#define HOST_MAPCUT_H

#include "rle/map.h"
#include "runtime/wire/shadow.h"

/**
 * mapcut_without() - Copies a map, some virtual pages left out
 * @map: an open view
 * @ranges: rising, not overlapping
 * @n: how many
 * @blob: set to the new map, the caller's to free(); of @map's meta
 * @blob_bytes: its length
 * @cut_pages: set to how many pages were left out
 *
 * One pass over both; a range in the middle of a run makes two of it.
 *
 * Return: 0, -ENOMEM, -EINVAL (ranges that do not rise), -E2BIG (longer than DS_SHADOW_MAP_BYTES_MAX).
 */
int mapcut_without(const struct rle_map *map, const struct ds_shadow_range *ranges, size_t n, void **blob, size_t *blob_bytes,
		   uint64_t *cut_pages);

/**
 * mapcut_gone() - The pages of the RAM (PFNs) that @was leads to and @now does not, whatever the virtual pages
 * @ranges: set to them: rising, not overlapping or touching; the caller's to free(); vpn is the page of the RAM
 * @n: how many
 *
 * A page that only changed its virtual page, or that another virtual page still leads to, is not gone.
 *
 * Return: 0, -ENOMEM.
 */
int mapcut_gone(const struct rle_map *was, const struct rle_map *now, struct ds_shadow_range **ranges, size_t *n);

#endif
