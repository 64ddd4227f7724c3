/* agent_change.c - changes of a mirror: DROP, REFRESH, FAULT; their order is drawn in agent_shadow.h */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_shadow_impl.h"

#define HOST_MS 60000	/* for an answer to a DROP or UPDATE; the host's own limits are shorter */
#define WINDOW_MAX_PAGES (PIN_BUFFER_MAX_BYTES / DS_PAGE_BYTES)
#define ROUNDS 3	    /* pages that changed under the agent are pinned anew; a process that changes them all the time is given up on */
#define HOLES_MAX 4096	    /* ranges; more become one that holds them all */
#define RANGES_APART_MAX 8  /* a REFRESH of more ranges than this looks at everything instead */

static int no_memory(struct agent_shadow *s)
{
	return agent_end(s, DS_LOCAL_C_SYSTEM, "no memory");
}

/* The process is gone, or its memory or helper is: so is the shadow.  Anything else concerns this change only. */
static bool is_end(struct agent_shadow *s, const struct agent_refusal *why)
{
	if (why->code == DS_LOCAL_C_EXIT || why->code == DS_LOCAL_C_EXEC || s->mem.remote.gone)
		agent_end(s, why->code, "%s", why->text);
	return s->ending;
}

/* Whether the host was told of any page of a range. */
static bool told_any(const struct agent_shadow *s, uint64_t vpn, uint64_t npages)
{
	struct rle_map told = agent_table_view(&s->mem.told);
	uint64_t i = rle_map_find(&told, (ds_vpn){vpn});

	return i < told.nruns && told.runs[i].vpn.n < vpn + npages;
}

/* Takes pages from the host, then from the table, then lets go of them.  Return: 0; -1: the shadow ends. */
int agent_take_back(struct agent_shadow *s, const struct ds_agent_range *r, size_t n)
{
	for (size_t at = 0; at < n; at += DS_AGENT_DROP_MAX) {
		struct ds_agent_drop drop = {.nranges = n - at < DS_AGENT_DROP_MAX ? n - at : DS_AGENT_DROP_MAX};
		const struct agent_ranges part = {.r = (struct ds_agent_range *)r + at, .n = drop.nranges};
		struct agent_refusal why;
		struct agent_wait w;
		uint32_t seq = agent_wait_begin(s, &w, DS_AGENT_DONE);
		int err;

		atomic_fetch_add(&s->p->view->drops, 1);
		if (agent_send(s, &drop, sizeof(drop), DS_AGENT_DROP, seq, part.r, part.n * sizeof(*part.r), NULL, 0)) {
			agent_wait_drop(s, &w);
			return -1;
		}
		err = agent_await(s, &w, HOST_MS, &why);
		if (err > 0)
			return agent_end(s, why.code, "the host did not let go of pages: %s", why.text);
		if (err)
			return -1;
		for (size_t i = 0; i < part.n; i++)
			if (agent_table_put(&s->mem.told, part.r[i].vpn, part.r[i].npages, NULL, 0))
				return no_memory(s);
		agent_mem_release(&s->mem, &part);
	}
	return 0;
}

static void count(struct agent_shadow *s)
{
	atomic_store(&s->p->view->runs, s->mem.told.n);
}

/* --- DROP --------------------------------------------------------------------------------------------------------- */

void agent_drop(struct agent_shadow *s, const struct ds_local_ranges *m)
{
	const struct ds_local_range *r = (const struct ds_local_range *)(m + 1);
	__attribute__((cleanup(agent_ranges_free))) struct agent_ranges going = {0};

	_Static_assert(sizeof(struct ds_local_range) == sizeof(struct ds_agent_range), "one is sent as the other");
	for (uint32_t i = 0; i < m->nranges; i++) {
		if (agent_ranges_add(&s->mem.blocked, r[i].vpn, r[i].npages) ||
		    (told_any(s, r[i].vpn, r[i].npages) && agent_ranges_add(&going, r[i].vpn, r[i].npages))) {
			no_memory(s);
			return;
		}
	}
	if (going.n && agent_take_back(s, going.r, going.n))
		return;
	count(s);
	agent_tell_done(s, m->head.seq);
}

/* --- REFRESH ------------------------------------------------------------------------------------------------------ */

/* Tells the host the mappings and (eager) all of @now.  Return: 0; 1: refused; -1: the shadow ends. */
static int update(struct agent_shadow *s, const struct agent_ranges *mappings, const struct agent_table *now, struct agent_refusal *why)
{
	struct ds_agent_update u = {.nranges = mappings->n};
	cleanup_free void *blob = NULL;
	struct agent_wait w;
	size_t bytes = 0;
	uint32_t seq;

	if (mappings->n > DS_AGENT_RANGES_MAX) {
		agent_refuse(why, DS_LOCAL_C_LIMIT, "process %d has more mappings than can be told (%u)", s->p->target->pid, DS_AGENT_RANGES_MAX);
		return 1;
	}
	if (now) {
		blob = agent_table_blob(now, s->p->target->pid, s->p->target->start_ticks, &bytes);
		if (!blob)
			return no_memory(s);
		u.map_bytes = bytes;
	}
	atomic_fetch_add(&s->p->view->updates, 1);
	seq = agent_wait_begin(s, &w, DS_AGENT_DONE);
	if (agent_send(s, &u, sizeof(u), DS_AGENT_UPDATE, seq, mappings->r, mappings->n * sizeof(*mappings->r), blob, bytes)) {
		agent_wait_drop(s, &w);
		return -1;
	}
	return agent_await(s, &w, HOST_MS, why);
}

/* The pages of @a that are not in @b, which has those that it has in the same frames. */
static int minus(const struct agent_table *a, const struct agent_table *b, struct agent_ranges *out)
{
	int err = 0;

	for (size_t i = 0; i < a->n && !err; i++)
		err = agent_ranges_add(out, a->run[i].vpn.n, a->run[i].npages);
	for (size_t i = 0; i < b->n && !err; i++)
		err = agent_ranges_cut(out, b->run[i].vpn.n, b->run[i].npages);
	return err;
}

/* One round of an eager REFRESH of everything.  @force: the table has what the host was not told.  @again: there were stale
 * pages, whose successors can be pinned only now.  Return: 0; 1: @why; -1: the shadow ends. */
static int refresh_all(struct agent_shadow *s, bool force, bool *again, struct agent_refusal *why)
{
	__attribute__((cleanup(agent_take_free))) struct agent_take t = {0};
	__attribute__((cleanup(agent_ranges_free))) struct agent_ranges fresh = {0};
	int err;

	*again = false;
	if (agent_mem_take(&s->mem, 0, AGENT_MEM_ALL, AGENT_MEM_NO_PAGE, NULL, NULL, &t, why))
		return is_end(s, why) ? -1 : 1;
	if (!force && !t.more && !t.stale.n && !t.altered.n && agent_ranges_within(&t.mappings, &s->mappings))
		return 0;
	err = update(s, &t.mappings, &t.now, why);
	if (err < 0)
		return err;
	if (err) { /* the host goes on with what it had: what was new is not pinned any more */
		if (minus(&t.now, &s->mem.told, &fresh))
			return no_memory(s);
		agent_mem_release(&s->mem, &fresh);
		return 1;
	}
	*again = t.stale.n;
	agent_table_free(&s->mem.told);
	s->mem.told = t.now;
	t.now = (struct agent_table){0};
	agent_ranges_free(&s->mappings);
	s->mappings = t.mappings;
	t.mappings = (struct agent_ranges){0};
	agent_mem_release(&s->mem, &t.stale);
	count(s);
	return 0;
}

/* An eager REFRESH of what DROP had taken away.  @t->more says whether anything is there again. */
static int refresh_window(struct agent_shadow *s, const struct ds_local_range *r, bool *more, struct agent_refusal *why)
{
	__attribute__((cleanup(agent_take_free))) struct agent_take t = {0};

	if (agent_mem_take(&s->mem, r->vpn, r->npages, AGENT_MEM_NO_PAGE, NULL, NULL, &t, why))
		return is_end(s, why) ? -1 : 1;
	if (t.stale.n || t.altered.n) { /* somebody changed it without a DROP: only all of it is right */
		*more = true;
		return 1;
	}
	if (agent_table_put(&s->mem.told, r->vpn, r->npages, t.now.run, t.now.n))
		return no_memory(s);
	*more |= t.more;
	return 0;
}

static int refresh_eager(struct agent_shadow *s, const struct ds_local_range *r, uint32_t n, struct agent_refusal *why)
{
	__attribute__((cleanup(agent_ranges_free))) struct agent_ranges mappings = {0};
	bool again = true, more = false;
	int err = 0;

	/* A few ranges are looked at alone: what a program does all day must not cost a look at all of it.  What they hold is told
	 * together with everything else, so it enters the table first: the host has at most what is in the table. */
	if (n && n <= RANGES_APART_MAX) {
		for (uint32_t i = 0; i < n && !err; i++)
			err = refresh_window(s, &r[i], &more, why);
		if (err < 0)
			return err;
		if (!err && agent_mem_mappings(&s->mem, &mappings))
			err = 1;
		if (!err && !more && agent_ranges_within(&mappings, &s->mappings))
			return 0;
		if (!err) {
			err = update(s, &mappings, &s->mem.told, why);
			if (err)
				return err < 0 ? -1 : agent_end(s, why->code, "the host does not take what the process has: %s", why->text);
			agent_ranges_free(&s->mappings);
			s->mappings = mappings;
			mappings = (struct agent_ranges){0};
			count(s);
			return 0;
		}
	}
	for (int i = 0; again && i < ROUNDS; i++) {
		err = refresh_all(s, more, &again, why);
		more = false;
		if (err)
			return err;
	}
	return 0;
}

/* Adds what two lists of ranges have in common to a third one. */
static int common(const struct ds_agent_range *a, size_t na, const struct ds_agent_range *b, size_t nb, struct agent_ranges *out)
{
	int err = 0;

	for (size_t i = 0, k = 0; i < na && k < nb && !err;) {
		const uint64_t a_end = a[i].vpn + a[i].npages, b_end = b[k].vpn + b[k].npages;
		const uint64_t from = a[i].vpn > b[k].vpn ? a[i].vpn : b[k].vpn, end = a_end < b_end ? a_end : b_end;

		if (from < end)
			err = agent_ranges_add(out, from, end - from);
		if (a_end < b_end)
			i++;
		else
			k++;
	}
	return err;
}

/* Where the host was told that nothing is, it does not ask again before a DROP (runtime/host/demand/demand.h).  Adds to @stale where
 * something may be now: what is mapped of these ranges, or, @n being 0, of all. */
static int stale_holes(struct agent_shadow *s, const struct ds_local_range *r, uint32_t n, const struct agent_ranges *mappings,
		       struct agent_ranges *stale)
{
	__attribute__((cleanup(agent_ranges_free))) struct agent_ranges mapped = {0}, gone = {0};
	int err = common(s->holes.r, s->holes.n, mappings->r, mappings->n, &mapped);

	err = err || !n ? err : common(mapped.r, mapped.n, (const struct ds_agent_range *)r, n, &gone);
	for (size_t i = 0; i < (n ? gone : mapped).n && !err; i++) {
		const struct ds_agent_range *hole = &(n ? gone : mapped).r[i];

		err = agent_ranges_cut(&s->holes, hole->vpn, hole->npages);
		err = err ? err : agent_ranges_add(stale, hole->vpn, hole->npages);
	}
	return err;
}

static int refresh_demand(struct agent_shadow *s, const struct ds_local_range *r, uint32_t n, struct agent_refusal *why)
{
	__attribute__((cleanup(agent_take_free))) struct agent_take t = {0};
	int err;

	err = !n ? agent_mem_compare(&s->mem, &t) : agent_mem_mappings(&s->mem, &t.mappings);
	if (err == -ESRCH)
		return agent_end(s, DS_LOCAL_C_EXIT, "process %d has exited", s->p->target->pid);
	if (err) {
		agent_refuse(why, DS_LOCAL_C_SYSTEM, "the memory of process %d cannot be read: %s", s->p->target->pid, strerror(-err));
		return 1;
	}
	for (size_t i = 0; i < t.altered.n; i++)
		if (agent_ranges_add(&t.stale, t.altered.r[i].vpn, t.altered.r[i].npages))
			return no_memory(s);
	if (stale_holes(s, r, n, &t.mappings, &t.stale))
		return no_memory(s);
	if (t.stale.n && agent_take_back(s, t.stale.r, t.stale.n))
		return -1;
	count(s);
	if (agent_ranges_within(&t.mappings, &s->mappings))
		return 0;
	err = update(s, &t.mappings, NULL, why);
	if (err)
		return err;
	agent_ranges_free(&s->mappings);
	s->mappings = t.mappings;
	t.mappings = (struct agent_ranges){0};
	return 0;
}

int agent_renew(struct agent_shadow *s, struct agent_refusal *why)
{
	const struct ds_local_range all = {0, DS_USER_VPN_END};

	return refresh_demand(s, &all, 1, why);
}

int agent_ready(struct agent_shadow *s, const struct ds_agent_range *r, struct agent_refusal *why)
{
	const struct ds_local_range range = {r->vpn, r->npages};
	const struct agent_ranges one = {.r = (struct ds_agent_range *)r, .n = 1};

	if (agent_ranges_within(&one, &s->mappings) && !agent_ranges_meet(&s->holes, r->vpn, r->npages))
		return 0;
	return refresh_demand(s, &range, 1, why);
}

void agent_refresh(struct agent_shadow *s, const struct ds_local_ranges *m)
{
	const struct ds_local_range *r = (const struct ds_local_range *)(m + 1);
	struct agent_refusal why = {0};
	int err = 0;

	for (uint32_t i = 0; i < m->nranges && !err; i++)
		err = agent_ranges_cut(&s->mem.blocked, r[i].vpn, r[i].npages);
	if (err) {
		no_memory(s);
		return;
	}
	if (!m->nranges)
		agent_ranges_clear(&s->mem.blocked);
	agent_faults_again(s);
	if (s->ending)
		return;
	err = s->p->want->mode == DS_LOCAL_DEMAND ? refresh_demand(s, r, m->nranges, &why) : refresh_eager(s, r, m->nranges, &why);
	if (err < 0)
		return;
	if (err)
		agent_tell_refused(s, DS_LOCAL_REFUSED, m->head.seq, &why);
	else
		agent_tell_done(s, m->head.seq);
}

/* --- FAULT -------------------------------------------------------------------------------------------------------- */

static void send_pages(struct agent_shadow *s, uint32_t seq, const struct agent_table *now)
{
	struct ds_agent_pages m = {0};
	cleanup_free void *blob = NULL;
	size_t bytes;

	blob = agent_table_blob(now, s->p->target->pid, s->p->target->start_ticks, &bytes);
	if (!blob) {
		no_memory(s);
		return;
	}
	m.map_bytes = bytes;
	agent_send(s, &m, sizeof(m), DS_AGENT_PAGES, seq, blob, bytes, NULL, 0);
}

/* The page of a fault is not in the answer. */
static void note_hole(struct agent_shadow *s, uint64_t vpn)
{
	int err = agent_ranges_add(&s->holes, vpn, 1);

	if (!err && s->holes.n > HOLES_MAX) {
		const uint64_t first = s->holes.r[0].vpn, end = s->holes.r[s->holes.n - 1].vpn + s->holes.r[s->holes.n - 1].npages;

		err = agent_ranges_add(&s->holes, first, end - first);
	}
	if (err)
		no_memory(s);
}

static void no_pages(struct agent_shadow *s, const struct ds_agent_fault *m, const char *why)
{
	const struct agent_table none = {0};

	agent_log(LOG_DEBUG, "shadow %u of process %d: page %" PRIx64 " cannot be had: %s", s->p->id, s->p->target->pid, m->vpn, why);
	note_hole(s, m->vpn);
	if (!s->ending)
		send_pages(s, m->head.seq, &none);
}

static bool in_table(const struct agent_table *t, uint64_t vpn)
{
	const struct rle_map map = agent_table_view(t);
	struct rle_run hit;

	return rle_map_lookup(&map, (ds_vpn){vpn}, &hit);
}

/* What is told there must not differ from what is: it is taken back first.  Return: 0; 1: nothing; -1: the shadow ends. */
static int fault_round(struct agent_shadow *s, const struct ds_agent_fault *m, uint64_t first, uint64_t npages, bool *again)
{
	__attribute__((cleanup(agent_take_free))) struct agent_take t = {0};
	struct agent_refusal why = {0};

	*again = false;
	if (agent_mem_take(&s->mem, first, npages, m->vpn, NULL, NULL, &t, &why)) {
		if (is_end(s, &why))
			return -1;
		no_pages(s, m, why.text);
		return 1;
	}
	for (size_t i = 0; i < t.altered.n; i++)
		if (agent_ranges_add(&t.stale, t.altered.r[i].vpn, t.altered.r[i].npages))
			return no_memory(s);
	/* What is right was pinned just now, so it is in the table from now on; what is stale is not any more, but keeps its pin until
	 * the host has let go of it. */
	if (agent_table_put(&s->mem.told, first, npages, t.now.run, t.now.n))
		return no_memory(s);
	*again = t.stale.n;
	if (t.stale.n)
		return agent_take_back(s, t.stale.r, t.stale.n);
	if (!in_table(&t.now, m->vpn))
		note_hole(s, m->vpn);
	send_pages(s, m->head.seq, &t.now);
	count(s);
	return s->ending ? -1 : 0;
}

void agent_fault(struct agent_shadow *s, const struct ds_agent_fault *m, int64_t until_ms)
{
	uint64_t first = m->window.vpn, npages = m->window.npages, same;
	bool again = true;

	if (!until_ms)
		atomic_fetch_add(&s->p->view->faults, 1);
	if (agent_ranges_at(&s->mem.blocked, m->vpn, &same)) {
		struct agent_later *l, **at = &s->faults;

		if ((until_ms && until_ms <= agent_now_ms()) || s->nfaults == AGENT_FAULTS_MAX) {
			no_pages(s, m, "it was announced to go");
			return;
		}
		l = malloc(sizeof(*l) + sizeof(*m));
		if (!l) {
			no_memory(s);
			return;
		}
		*l = (struct agent_later){.until_ms = until_ms ? until_ms : agent_now_ms() + AGENT_FAULT_WAIT_MS};
		memcpy(l->msg, m, sizeof(*m));
		while (*at)
			at = &(*at)->next;
		*at = l;
		s->nfaults++;
		return;
	}
	if (npages > WINDOW_MAX_PAGES) { /* as much of it as may be, around the page */
		uint64_t before = m->vpn - first;

		before = before < WINDOW_MAX_PAGES / 2 ? before : WINDOW_MAX_PAGES / 2;
		npages = first + npages - (m->vpn - before);
		first = m->vpn - before;
		npages = npages < WINDOW_MAX_PAGES ? npages : WINDOW_MAX_PAGES;
	}
	for (int i = 0; again && i < ROUNDS; i++)
		if (fault_round(s, m, first, npages, &again))
			return;
	if (again)
		no_pages(s, m, "the process changes its mapping all the time");
}

void agent_faults_again(struct agent_shadow *s)
{
	struct agent_later *l = s->faults;
	uint64_t same;

	s->faults = NULL;
	s->nfaults = 0;
	while (l) {
		struct agent_later *next = l->next;
		const struct ds_agent_fault *m = (const struct ds_agent_fault *)l->msg;
		bool wait = agent_ranges_at(&s->mem.blocked, m->vpn, &same) && l->until_ms > agent_now_ms();

		if (s->ending) {
			free(l);
		} else if (wait || s->depth > AGENT_DEPTH_MAX) {
			l->next = s->faults;
			s->faults = l;
			s->nfaults++;
		} else {
			agent_fault(s, m, l->until_ms == INT64_MAX ? 0 : l->until_ms);
			free(l);
		}
		l = next;
	}
}
