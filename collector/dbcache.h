/* dbcache.h - row numbers of names and processes met lately
 *
 * Theory of operation
 *
 * Most names and processes of a snapshot were in the one before.  Two direct-mapped tables remember their row numbers;
 * an entry is simply replaced by the next one that falls on its place, so memory has a bound and a miss costs one look
 * into an index.  What is in here must be in the database: forget everything when a transaction is rolled back or rows
 * are removed.
 */
#ifndef COLLECTOR_DBCACHE_H
#define COLLECTOR_DBCACHE_H

#include <stdint.h>
#include <sys/types.h>

#define DBCACHE_NAMES 512
#define DBCACHE_NAME_BYTES 128 /* longer ones are not remembered */
#define DBCACHE_PROCESSES 4096

struct dbcache {
	struct dbcache_name {
		int64_t id; /* 0: empty */
		char text[DBCACHE_NAME_BYTES];
	} name[DBCACHE_NAMES];
	struct dbcache_process {
		int64_t id;
		int64_t boot;
		uint64_t start_ticks;
		pid_t pid;
	} process[DBCACHE_PROCESSES];
};

/** dbcache_forget() - Empty it. */
void dbcache_forget(struct dbcache *c);

/** dbcache_name() - Return: the row of @text, 0 if not remembered. */
int64_t dbcache_name(const struct dbcache *c, const char *text);
/** dbcache_keep_name() - Remember that row. */
void dbcache_keep_name(struct dbcache *c, const char *text, int64_t id);

/** dbcache_process() - Return: the row of the process, 0 if not remembered. */
int64_t dbcache_process(const struct dbcache *c, int64_t boot, pid_t pid, uint64_t start_ticks);
/** dbcache_keep_process() - Remember that row. */
void dbcache_keep_process(struct dbcache *c, int64_t boot, pid_t pid, uint64_t start_ticks, int64_t id);

#endif
