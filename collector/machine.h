/* machine.h - the machine around a snapshot: who it is, and what shapes its page tables
 *
 * Read from /proc and /sys, or from a recorded tree laid out like /proc.  A recording can keep /sys/kernel/mm/ in its
 * own sys/kernel/mm/, a name that /proc itself does not use.  What is missing stays unknown; nothing here is an error,
 * because a snapshot without its surroundings is still a snapshot.
 */
#ifndef COLLECTOR_MACHINE_H
#define COLLECTOR_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_WORD_BYTES 32
#define MACHINE_JSON_BYTES 16384 /* 500 zones of 11 orders; what does not fit is left out zone by zone */

/** struct machine_id - One boot of one machine; "unknown" where a recording does not say. */
struct machine_id {
	char host[256];	   /* sys/kernel/hostname */
	char boot_id[64];  /* sys/kernel/random/boot_id */
	char kernel[512];  /* sys/kernel/osrelease and version */
};

/** struct machine - Its state at one time; -1, NAN or "" stands for unknown. */
struct machine {
	double time;	 /* Unix seconds: now, or when a recorded tree was recorded (btime + uptime) */
	double uptime_s;
	int64_t mem_total_bytes, mem_free_bytes;
	int64_t hugetlb_pages; /* of 4 KiB, in all pools: Hugetlb of meminfo, kernel 4.16 and up */
	int64_t max_map_count, ksm_run;
	char thp_enabled[MACHINE_WORD_BYTES], thp_defrag[MACHINE_WORD_BYTES], thp_shmem[MACHINE_WORD_BYTES];
	char mthp[MACHINE_JSON_BYTES / 4]; /* JSON object, sizes rising */
	char buddyinfo[MACHINE_JSON_BYTES]; /* JSON array */
};

/**
 * machine_identify() - Who it is
 * @root: of a recorded tree, NULL for this machine
 */
void machine_identify(struct machine_id *id, const char *root);

/** machine_read() - How it is; @root as above. */
void machine_read(struct machine *m, const char *root);

/** machine_hides_processes() - Whether /proc is mounted with hidepid= and we lack CAP_SYS_PTRACE to see through it. */
bool machine_hides_processes(void);

#endif
