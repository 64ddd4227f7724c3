/* startrate.h - how many shadows a VM may start in a time
 *
 * A guest's root can open and close streams as fast as its processors let it, and each makes the VM's process fork a warden.  So starts are
 * counted in a bucket: it holds STARTRATE_BURST_S seconds' worth, each start takes one, and it fills at the rate.  A bucket that is
 * empty refuses; nobody waits, as the guest's agent is told at once and may try again.  A shadow costs the host some milliseconds, so a
 * guest that has its shadows do anything stays far below the usual rate.
 *
 * Pure: the clock is the caller's.
 */
#ifndef HOST_STARTRATE_H
#define HOST_STARTRATE_H

#include <stdbool.h>
#include <stdint.h>

#define STARTRATE_DEFAULT 100u /* a second */
#define STARTRATE_MAX 100000u
#define STARTRATE_BURST_S 10u

/** struct startrate - A bucket. */
struct startrate {
	uint32_t per_s; /* 0: no limit */
	uint64_t at_ns; /* when it was last looked at */
	uint64_t left;	/* starts, in billionths */
};

/** startrate_init() - A full one.  @per_s: 1 to STARTRATE_MAX; 0: never refuses.  @now_ns: of a clock that never goes back. */
void startrate_init(struct startrate *r, uint32_t per_s, uint64_t now_ns);

/** startrate_take() - Whether one more may start now; takes it. */
bool startrate_take(struct startrate *r, uint64_t now_ns);

#endif
