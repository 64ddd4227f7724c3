/* agent_step.h - what the files of agent_mem.h share: agent_mem.c, agent_hold.c */
#ifndef GUEST_AGENT_STEP_H
#define GUEST_AGENT_STEP_H

#include "runtime/guest/agent/agent_mem.h"

/** struct agent_step - A step over a window of pages, while everything stands still. */
struct agent_step {
	struct agent_mem *m;
	struct agent_take *out;
	struct agent_ranges fresh; /* pinned, and then held, in this step */
	struct agent_ranges open;  /* pinned in this step, shared memory that others may change (PIN_OPEN) */
	struct agent_table exact;  /* the frames of those that are held */
	uint64_t first, end;
	uint64_t touch;
	int err;
};

/** agent_hold_fresh() - Hold what was pinned in this step; what cannot be held does not count as pinned.  Return: 0; -errno. */
int agent_hold_fresh(struct agent_step *step);

/** agent_hold_shared() - The same for shared memory that others may change; @step->exact gets the frames.  Return: 0; -errno. */
int agent_hold_shared(struct agent_step *step);

#endif
