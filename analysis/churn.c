/* churn.c - how much of a process's map changes from one snapshot to the next (see churn.h) */
#include "analysis/churn.h"

#include <math.h>

#include "analysis/vec.h"
#include "rle/mapops.h"

uint64_t churn_changed(const struct churn_pair *p)
{
	return p->pages[CHURN_REMOVED] + p->pages[CHURN_ADDED] + p->pages[CHURN_MOVED];
}

double churn_share(const struct churn_pair *p)
{
	uint64_t either = p->pages_before + p->pages[CHURN_ADDED];

	return either ? (double)churn_changed(p) / (double)either : (double)NAN;
}

int churn_add(struct churn *c, const struct churn_pair *pair)
{
	if (vec_reserve(&c->pair, &c->cap, c->n + 1, sizeof(*c->pair)) < 0)
		return -ENOMEM;
	c->pair[c->n++] = *pair;
	return 0;
}

void churn_free(struct churn *c)
{
	free(c->pair);
	*c = (struct churn){0};
}

static int compare_ref(const void *pa, const void *pb)
{
	const struct churn_ref *a = pa, *b = pb;
	int c = (a->process > b->process) - (a->process < b->process);

	return c ? c : (a->snapshot > b->snapshot) - (a->snapshot < b->snapshot);
}

/* The number of each snapshot among those of its boot, in order of time, as they lie in the dataset. */
static uint32_t *number_snapshots(const struct dataset *d)
{
	cleanup_free uint32_t *seen = calloc(d->boots.n + 1, sizeof(*seen));
	uint32_t *number = malloc((d->nsnapshots + 1) * sizeof(*number));

	if (!seen || !number) {
		free(number);
		return NULL;
	}
	for (size_t i = 0; i < d->nsnapshots; i++)
		number[i] = seen[d->snapshot[i].boot]++;
	return number;
}

/* A process belongs to one boot, so its snapshots are neighbours when their numbers are. */
static bool consecutive(const uint32_t *number, const struct churn_ref *a, const struct churn_ref *b)
{
	return a->process == b->process && number[a->snapshot] + 1 == number[b->snapshot];
}

/* What dscollect writes for this process and nothing else: other maps cannot be compared, or are somebody else's. */
static const char *foreign(const struct rle_map_meta *m, const struct dataset_process *p)
{
	if (m->split != RLE_SPLIT_VPN_PFN || m->key != RLE_SPACE_VIRTUAL || m->space != RLE_SPACE_FRAME)
		return "not a map of a process's pages as dscollect writes it";
	if (m->pid != (uint64_t)p->pid || m->start_ticks != (uint64_t)p->start_ticks)
		return "the map of another process";
	return NULL;
}

/* Fetch a map and check whose it is.  *usable: whether it may be compared.  Return: 0 or -ENOMEM. */
static int fetch(struct churn *c, const struct dataset *d, const struct churn_ref *ref, churn_load_fn load, void *ctx,
		 struct rle_map *map, bool *usable)
{
	struct rle_map_err why = {.run = RLE_MAP_NO_RUN};
	int rc = load(ctx, ref, map, &why);

	*usable = rc == 0;
	if (rc == 0 && (why.why = foreign(&map->meta, &d->process[ref->process]))) {
		rle_map_close(map);
		*usable = false;
	}
	if (rc == -ENOMEM || rc == -ENOENT)
		return rc == -ENOMEM ? rc : 0;
	if (!*usable && c->bad++ == 0) {
		c->first_bad = *ref;
		c->why = why;
	}
	return 0;
}

static int count_change(void *ctx, const struct rle_change *change)
{
	struct churn_pair *p = ctx;

	switch (change->kind) {
	case RLE_CHANGE_REMOVED:
		p->pages[CHURN_REMOVED] += change->npages;
		break;
	case RLE_CHANGE_ADDED:
		p->pages[CHURN_ADDED] += change->npages;
		break;
	case RLE_CHANGE_MOVED:
		p->pages[CHURN_MOVED] += change->npages;
		break;
	case RLE_CHANGE_ATTR: /* maps split by VPN and PFN alone have none (foreign()) */
		return 0;
	}
	p->changes++;
	return 0;
}

static int measure(struct churn *c, double seconds, const struct rle_map *was, const struct rle_map *now)
{
	struct churn_pair p = {.seconds = seconds,
			       .pages_before = was->npages,
			       .pages_after = now->npages,
			       .runs_before = was->nruns,
			       .runs_after = now->nruns};
	int rc = rle_map_diff(was, now, count_change, &p);

	return rc < 0 ? rc : churn_add(c, &p);
}

int churn_compute(struct churn *c, const struct dataset *d, struct churn_ref *ref, size_t n, churn_load_fn load,
		  churn_pair_fn pair, void *ctx)
{
	cleanup_free uint32_t *number = number_snapshots(d);
	__attribute__((cleanup(rle_map_close))) struct rle_map was = {0}, now = {0};
	uint32_t last = INTERN_NONE; /* the process of the pair before */
	bool was_usable = false;
	int rc = number ? 0 : -ENOMEM;

	if (n)
		qsort(ref, n, sizeof(*ref), compare_ref);
	for (size_t i = 0; i < n && rc == 0; i++) {
		bool follows = i > 0 && consecutive(number, &ref[i - 1], &ref[i]), usable = false;

		/* a map without a neighbour is not even fetched */
		if (follows || (i + 1 < n && consecutive(number, &ref[i], &ref[i + 1])))
			rc = fetch(c, d, &ref[i], load, ctx, &now, &usable);
		if (rc == 0 && follows && was_usable && usable) {
			rc = measure(c, d->snapshot[ref[i].snapshot].time_s - d->snapshot[ref[i - 1].snapshot].time_s, &was, &now);
			if (rc == 0 && pair)
				pair(ctx, &ref[i], &c->pair[c->n - 1]);
			c->processes += ref[i].process != last;
			last = ref[i].process;
		}
		rle_map_close(&was);
		was = now;
		now = (struct rle_map){0};
		was_usable = usable;
	}
	return rc;
}
