/* dbcache.c - row numbers of names and processes met lately; see dbcache.h */
#include "collector/dbcache.h"

#include <string.h>

void dbcache_forget(struct dbcache *c)
{
	for (size_t i = 0; i < DBCACHE_NAMES; i++)
		c->name[i].id = 0;
	for (size_t i = 0; i < DBCACHE_PROCESSES; i++)
		c->process[i].id = 0;
}

/* FNV-1a; the names are short */
static size_t name_place(const char *text)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return (h >> 32) % DBCACHE_NAMES;
}

int64_t dbcache_name(const struct dbcache *c, const char *text)
{
	const struct dbcache_name *n = &c->name[name_place(text)];

	return n->id && strcmp(n->text, text) == 0 ? n->id : 0;
}

void dbcache_keep_name(struct dbcache *c, const char *text, int64_t id)
{
	struct dbcache_name *n = &c->name[name_place(text)];

	if (strlen(text) >= DBCACHE_NAME_BYTES)
		return;
	strcpy(n->text, text);
	n->id = id;
}

int64_t dbcache_process(const struct dbcache *c, int64_t boot, pid_t pid, uint64_t start_ticks)
{
	const struct dbcache_process *p = &c->process[(size_t)pid % DBCACHE_PROCESSES];

	return p->id && p->boot == boot && p->pid == pid && p->start_ticks == start_ticks ? p->id : 0;
}

void dbcache_keep_process(struct dbcache *c, int64_t boot, pid_t pid, uint64_t start_ticks, int64_t id)
{
	c->process[(size_t)pid % DBCACHE_PROCESSES] =
		(struct dbcache_process){.id = id, .boot = boot, .pid = pid, .start_ticks = start_ticks};
}
