/* agent_ranges.c - a set of pages; what it promises is in agent_ranges.h */
#include "runtime/guest/agent/agent_ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t end_of(const struct ds_agent_range *r)
{
	return r->vpn + r->npages;
}

/* Index of the first range that ends after @vpn. */
static size_t find(const struct agent_ranges *s, uint64_t vpn)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (end_of(&s->r[mid]) > vpn)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Puts @nnew ranges where [from, to) were.  Return: 0 or -ENOMEM. */
static int splice(struct agent_ranges *s, size_t from, size_t to, const struct ds_agent_range *new, size_t nnew)
{
	size_t n = s->n - (to - from) + nnew;

	if (n > s->room) {
		size_t room = n + n / 2 + 8;
		struct ds_agent_range *r = reallocarray(s->r, room, sizeof(*r));

		if (!r)
			return -ENOMEM;
		s->r = r;
		s->room = room;
	}
	if (s->n > to)
		memmove(s->r + from + nnew, s->r + to, (s->n - to) * sizeof(*s->r));
	if (nnew)
		memcpy(s->r + from, new, nnew * sizeof(*new));
	s->n = n;
	return 0;
}

int agent_ranges_add(struct agent_ranges *s, uint64_t vpn, uint64_t npages)
{
	struct ds_agent_range all = {vpn, npages};
	size_t from, to;

	if (!npages)
		return 0;
	/* Ranges that touch become one: from the one that ends at vpn to the one that starts at the end. */
	from = find(s, vpn ? vpn - 1 : 0);
	for (to = from; to < s->n && s->r[to].vpn <= vpn + npages; to++)
		;
	if (to > from) {
		uint64_t end = end_of(&s->r[to - 1]) > vpn + npages ? end_of(&s->r[to - 1]) : vpn + npages;

		all.vpn = s->r[from].vpn < vpn ? s->r[from].vpn : vpn;
		all.npages = end - all.vpn;
	}
	return splice(s, from, to, &all, 1);
}

int agent_ranges_cut(struct agent_ranges *s, uint64_t vpn, uint64_t npages)
{
	size_t from = find(s, vpn), to, nrest = 0;
	struct ds_agent_range rest[2];
	uint64_t end = vpn + npages;

	for (to = from; to < s->n && s->r[to].vpn < end; to++)
		;
	if (to == from || !npages)
		return 0;
	if (s->r[from].vpn < vpn)
		rest[nrest++] = (struct ds_agent_range){s->r[from].vpn, vpn - s->r[from].vpn};
	if (end_of(&s->r[to - 1]) > end)
		rest[nrest++] = (struct ds_agent_range){end, end_of(&s->r[to - 1]) - end};
	return splice(s, from, to, rest, nrest);
}

bool agent_ranges_at(const struct agent_ranges *s, uint64_t vpn, uint64_t *npages)
{
	size_t i = find(s, vpn);
	bool in = i < s->n && s->r[i].vpn <= vpn;

	*npages = i == s->n ? UINT64_MAX : in ? end_of(&s->r[i]) - vpn : s->r[i].vpn - vpn;
	return in;
}

bool agent_ranges_meet(const struct agent_ranges *s, uint64_t vpn, uint64_t npages)
{
	uint64_t same;

	return npages && (agent_ranges_at(s, vpn, &same) || same < npages);
}

bool agent_ranges_within(const struct agent_ranges *a, const struct agent_ranges *b)
{
	uint64_t same;

	for (size_t i = 0; i < a->n; i++)
		if (!agent_ranges_at(b, a->r[i].vpn, &same) || same < a->r[i].npages)
			return false;
	return true;
}

void agent_ranges_clear(struct agent_ranges *s)
{
	s->n = 0;
}

void agent_ranges_free(struct agent_ranges *s)
{
	free(s->r);
	*s = (struct agent_ranges){0};
}
