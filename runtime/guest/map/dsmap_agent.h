/* dsmap_agent.h - dsmap for those who cannot see frame numbers: the map as dsagent gives it
 *
 * To root dsagent gives the map itself; to anybody else, for own processes, runs without frames.  Those become a map in memory
 * here, whose frame numbers are all 0 and must not be shown, saved or compared: @no_frames says so.
 */
#ifndef RUNTIME_GUEST_DSMAP_AGENT_H
#define RUNTIME_GUEST_DSMAP_AGENT_H

#include "rle/enc.h"
#include "rle/map.h"
#include "rle/proc.h"
#include "runtime/guest/map/dsmap_options.h"

/** struct dsmap_answer - What dsagent said. */
struct dsmap_answer {
	struct rle_map map; /* give back with rle_map_close(), before the blob */
	void *blob;	    /* of a map with frames, the caller's to free; else NULL */
	size_t blob_bytes;
	char comm[RLE_COMM_BYTES];
	struct rle_counts counts;
	bool no_frames;
};

/**
 * dsmap_agent_ask() - Get a map from dsagent; complains on stderr
 * @a: filled in
 * @o: the process, and where dsagent listens
 * @split: how runs are separated
 * @why_not: why dsmap cannot see for itself, for the complaint when there is no dsagent; NULL: it was told to ask
 *
 * Return: 0, or an exit code.
 */
int dsmap_agent_ask(struct dsmap_answer *a, const struct dsmap_options *o, enum rle_split split, const char *why_not);

#endif
