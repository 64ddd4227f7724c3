/* mapprint.h - a map, its statistics, or a difference of two, for people and for programs
 *
 * Everything streams to a FILE; whether it arrived is asked of the FILE by the caller, once, at the end.
 * Names of processes may hold any bytes: what is not printable ASCII, or would end a JSON string, becomes '?'.
 */
#ifndef RUNTIME_GUEST_MAPPRINT_H
#define RUNTIME_GUEST_MAPPRINT_H

#include <stdbool.h>
#include <stdio.h>

#include "rle/enc.h"
#include "rle/map.h"

/** struct mapprint - What is printed, and where to. */
struct mapprint {
	FILE *f;
	bool json;
	const char *comm;		/* of a process; NULL: the map is from a file */
	const struct rle_counts *counts; /* of a scan; NULL: the map is from a file */
	bool joined;			/* the counts that need a join are known */
	bool no_frames;			/* frame numbers were withheld: those of the map mean nothing and are not printed */
};

/** mapprint_runs() - The runs of @map, a line each; in JSON one object with an array "map". */
void mapprint_runs(const struct mapprint *p, const struct rle_map *map);

/** mapprint_stats() - Counts, how few runs hold how much, shares of aligned blocks, and a histogram of lengths. */
void mapprint_stats(const struct mapprint *p, const struct rle_map *map);

/**
 * mapprint_diff() - What changed between two maps
 * @was: the older one
 * @now: the newer one
 *
 * Return: 0, or -EINVAL when the maps cannot be compared (split or spaces differ).
 */
int mapprint_diff(const struct mapprint *p, const struct rle_map *was, const struct rle_map *now);

#endif
