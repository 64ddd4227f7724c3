/* mapcut.h - a map without some of its pages, and where nothing may be left when a map has changed
 *
 * What changes of a guest's memory need (runtime/wire/agent.h, DROP and UPDATE).  Pure; memory only for the results.
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
 * mapcut_changed() - The virtual pages that are in @was and not, or not the same, in @now
 * @ranges: set to them: rising, not overlapping or touching; the caller's to free()
 * @n: how many
 *
 * These are where a mirror of @now must have nothing that it had as a mirror of @was: a page that has gone, leads to
 * another page of the RAM, or has other attributes.
 *
 * Return: 0, -ENOMEM, -EINVAL (maps that cannot be compared).
 */
int mapcut_changed(const struct rle_map *was, const struct rle_map *now, struct ds_shadow_range **ranges, size_t *n);

/**
 * mapcut_outside() - What ranges leave of the user half
 * @ranges: rising, not overlapping
 * @outside: set to the rest, rising; the caller's to free()
 * @noutside: how many, at most n + 1
 *
 * Return: 0, -ENOMEM.
 */
int mapcut_outside(const struct ds_shadow_range *ranges, size_t n, struct ds_shadow_range **outside, size_t *noutside);

#endif
