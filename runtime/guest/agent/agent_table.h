/* agent_table.h - what the host was told of a process: which page is in which frame
 *
 * Theory of operation
 *
 * Every page in the table was held (hold.h) when it was put in, with all threads of the process stopped, and
 * still is: it leaves the table only after the host has said that it has it no more, and its hold goes after that.  So a frame in the
 * table cannot be anybody else's, and when a later scan finds the same frame behind the same page, that is the held
 * one: nothing has happened to it.  Any other frame there is one that is not held, whatever was held for that
 * address: the process has changed its mapping behind the pin.
 *
 * Runs rise and do not overlap; they are as they came, not merged (agent_table_blob() does that).  The struct owns its array.
 */
#ifndef GUEST_AGENT_TABLE_H
#define GUEST_AGENT_TABLE_H

#include "rle/map.h"

/** struct agent_table - The runs; zero-filled it is empty. */
struct agent_table {
	struct rle_run *run;
	size_t n, room;
};

/**
 * agent_table_push() - Add a run at the end; a rle_run_fn
 * @t: struct agent_table
 * @run: at or beyond the end of the last one
 *
 * Return: 0; -EINVAL it would overlap; -ENOMEM; -E2BIG more runs than an ATTACH can carry.
 */
int agent_table_push(void *t, const struct rle_run *run, enum rle_end end);

/**
 * agent_table_put() - Replace what is in a window
 * @t: the table
 * @vpn: the window's first page
 * @npages: its length
 * @runs: what is there now, rising, inside the window; NULL with @nruns 0 takes out what is there
 * @nruns: how many
 *
 * Return: 0; -EINVAL @runs are not as they should be; -ENOMEM; -E2BIG.  The table is as it was after an error.
 */
int agent_table_put(struct agent_table *t, uint64_t vpn, uint64_t npages, const struct rle_run *runs, size_t nruns);

/** agent_table_view() - The table as a map, for rle_map_lookup(), rle_map_range() and the like; valid until it is changed. */
struct rle_map agent_table_view(const struct agent_table *t);

/** agent_table_pages() - How many pages are in the table. */
uint64_t agent_table_pages(const struct agent_table *t);

/**
 * agent_table_blob() - The table as a map blob, canonical
 * @t: the table
 * @pid: of the process
 * @start_ticks: likewise
 * @bytes: set to its length
 *
 * Return: the blob, which the caller frees; NULL: no memory.
 */
void *agent_table_blob(const struct agent_table *t, uint64_t pid, uint64_t start_ticks, size_t *bytes);

/** agent_table_free() - Empty it and give its array back; for __attribute__((cleanup)) too. */
void agent_table_free(struct agent_table *t);

#endif
