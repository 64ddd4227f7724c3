/* lists.c - which processes a report names (summary_lists() of summary.h)
 *
 * Each process stands in a list once, by its sample with most runs (or the highest ratio); the earliest of equals.
 */
#include <math.h>

#include "analysis/summary.h"
#include "analysis/vec.h"

/* A candidate with its keys spelled out, as qsort() passes no context. */
struct candidate {
	double key;
	uint64_t pages;
	uint32_t host;
	int64_t pid, start_ticks;
	struct summary_process p;
};

static int compare_candidate(const void *pa, const void *pb)
{
	const struct candidate *a = pa, *b = pb;

	if (a->key != b->key)
		return a->key > b->key ? -1 : 1;
	if (a->pages != b->pages)
		return a->pages > b->pages ? -1 : 1;
	if (a->host != b->host)
		return a->host < b->host ? -1 : 1;
	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return (a->start_ticks > b->start_ticks) - (a->start_ticks < b->start_ticks);
}

static double runs_key(const struct dataset_sample *x)
{
	return (double)x->runs;
}

static int rank(const struct dataset *d, double (*key)(const struct dataset_sample *), struct candidate **out, size_t *n)
{
	cleanup_free uint32_t *place = malloc((d->nprocesses + 1) * sizeof(*place));
	struct candidate *c = malloc((d->nprocesses + 1) * sizeof(*c));

	if (!place || !c) {
		free(c);
		return -ENOMEM;
	}
	memset(place, 0xff, (d->nprocesses + 1) * sizeof(*place));
	*n = 0;
	for (size_t i = 0; i < d->nsamples; i++) {
		const struct dataset_sample *x = &d->sample[i];
		const struct dataset_process *p = &d->process[x->process];
		double k = key(x);

		if (isnan(k))
			continue;
		if (place[x->process] == UINT32_MAX) {
			place[x->process] = (uint32_t)*n;
			c[(*n)++] = (struct candidate){.key = -1, .host = p->host, .pid = p->pid, .start_ticks = p->start_ticks};
		}
		struct candidate *mine = &c[place[x->process]];

		mine->p.samples++;
		if (k > mine->key) {
			mine->key = k;
			mine->pages = x->pte_present;
			mine->p.sample = x;
		}
	}
	qsort(c, *n, sizeof(*c), compare_candidate);
	*out = c;
	return 0;
}

static int take(struct summary_list *l, const struct candidate *c, size_t n, size_t total)
{
	l->p = malloc((n + 1) * sizeof(*l->p));
	if (!l->p)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		l->p[i] = c[i].p;
	l->n = n;
	l->total = total;
	return 0;
}

int summary_lists(struct summary *s, size_t top)
{
	cleanup_free struct candidate *by_runs = NULL, *by_ratio = NULL;
	size_t n, nbeyond = 0, nratio;

	if (rank(s->d, runs_key, &by_runs, &n) < 0 || rank(s->d, summary_ratio, &by_ratio, &nratio) < 0)
		return -ENOMEM;
	while (nbeyond < n && by_runs[nbeyond].key > SUMMARY_MAX_MAPS)
		nbeyond++;
	if (take(&s->by_runs, by_runs, n < top ? n : top, n) < 0 || take(&s->beyond, by_runs, nbeyond, nbeyond) < 0 ||
	    take(&s->by_ratio, by_ratio, nratio < top ? nratio : top, nratio) < 0)
		return -ENOMEM;
	return 0;
}
