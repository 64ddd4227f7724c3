/* merge.c - from databases to one dataset (see merge.h) */
#include "analysis/merge.h"

#include "analysis/churncsv.h"
#include "analysis/csv.h"
#include "analysis/fmt.h"
#include "analysis/vec.h"

/* A snapshot listed: copies of its texts, and where it is. */
struct entry {
	struct dbread_snapshot s;
	char *text[10]; /* what the pointers of s point to */
	size_t source;
};

struct merge {
	struct dataset *d;
	const struct filter *f;
	FILE *csv, *pairs;
	struct merge_problems *problems;
	char *const *path;
	struct dbread **source; /* NULL where it failed */
	size_t nsources, at;	/* at: the source being listed */
	struct entry *entry;
	size_t nentries, entries_cap;
	struct churn_ref *ref; /* samples with a map */
	size_t nrefs, refs_cap;
};

static int add_problem(struct merge *m, const struct errmsg *e)
{
	struct merge_problems *p = m->problems;

	if (vec_reserve(&p->e, &p->cap, p->n + 1, sizeof(*p->e)) < 0)
		return -ENOMEM;
	p->e[p->n++] = *e;
	return 0;
}

/* Report what happened to a database and stop using it; only lack of memory ends the whole. */
static int drop_source(struct merge *m, size_t i, int rc, const struct errmsg *e)
{
	struct errmsg ignored;

	dbread_close(m->source[i], &ignored);
	m->source[i] = NULL;
	return rc == -ENOMEM ? rc : add_problem(m, e);
}

static int list_snapshot(void *ctx, const struct dbread_snapshot *s)
{
	struct merge *m = ctx;
	struct entry e = {.s = *s, .source = m->at};
	const char **from[] = {&e.s.host, &e.s.boot_id, &e.s.kernel, &e.s.tool, &e.s.join_mode,
			       &e.s.thp_enabled, &e.s.thp_defrag, &e.s.thp_shmem, &e.s.mthp, &e.s.buddyinfo};

	_Static_assert(sizeof(from) / sizeof(from[0]) == sizeof(e.text) / sizeof(e.text[0]), "every text has its copy");
	if (vec_reserve(&m->entry, &m->entries_cap, m->nentries + 1, sizeof(e)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
		e.text[i] = *from[i] ? strdup(*from[i]) : NULL;
		if (*from[i] && !e.text[i]) {
			while (i--)
				free(e.text[i]);
			return -ENOMEM;
		}
		*from[i] = e.text[i];
	}
	m->entry[m->nentries++] = e;
	return 0;
}

static int open_source(struct merge *m, size_t i, const char *path)
{
	struct errmsg e = {"out of memory"};
	size_t before = m->nentries;
	int rc = dbread_open(&m->source[i], path, &e);

	m->at = i;
	if (rc == 0)
		rc = dbread_snapshots(m->source[i], list_snapshot, m, &e);
	if (rc == 0 && m->nentries == before)
		rc = errmsg_set(&e, -ENODATA, "%s: holds no snapshot yet; let dscollect write one: dscollect --db %s", path, path);
	return rc < 0 ? drop_source(m, i, rc, &e) : 0;
}

static int compare_identity(const struct entry *a, const struct entry *b)
{
	int c = (a->s.time_s > b->s.time_s) - (a->s.time_s < b->s.time_s);

	if (!c)
		c = strcmp(a->s.host, b->s.host);
	return c ? c : strcmp(a->s.boot_id, b->s.boot_id);
}

/* Of equal ones the fullest comes first and is kept, whatever the order of the databases. */
static int compare_entry(const void *pa, const void *pb)
{
	const struct entry *a = pa, *b = pb;
	int c = compare_identity(a, b);

	if (!c)
		c = (b->s.n_sampled > a->s.n_sampled) - (b->s.n_sampled < a->s.n_sampled);
	if (!c)
		c = (a->source > b->source) - (a->source < b->source);
	return c ? c : (a->s.id > b->s.id) - (a->s.id < b->s.id);
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Hosts get their numbers in order of name. */
static int number_hosts(struct merge *m)
{
	cleanup_free const char **names = calloc(m->nentries + 1, sizeof(*names));
	size_t n = 0;

	if (!names)
		return -ENOMEM;
	for (size_t i = 0; i < m->nentries; i++)
		if (filter_snapshot(m->f, m->entry[i].s.host, m->entry[i].s.time_s))
			names[n++] = m->entry[i].s.host;
	qsort(names, n, sizeof(*names), compare_text);
	for (size_t i = 0; i < n; i++) {
		uint32_t id;

		if ((i == 0 || strcmp(names[i], names[i - 1]) != 0) && dataset_host_id(m->d, names[i], &id) < 0)
			return -ENOMEM;
	}
	return 0;
}

struct take {
	struct merge *m;
	FILE *rows;
	size_t source;
};

/* The sample just added has a map. */
static int note_map(struct merge *m, size_t source, int64_t map)
{
	const struct dataset_sample *x = &m->d->sample[m->d->nsamples - 1];

	if (vec_reserve(&m->ref, &m->refs_cap, m->nrefs + 1, sizeof(*m->ref)) < 0)
		return -ENOMEM;
	m->ref[m->nrefs++] = (struct churn_ref){.process = x->process, .snapshot = x->snapshot, .comm = x->comm, .source = (uint32_t)source, .map = map};
	return 0;
}

static int take_sample(void *ctx, const struct dbread_sample *s)
{
	struct take *t = ctx;
	size_t had;
	int rc;

	if (!filter_sample(t->m->f, s->comm, s->uid, s->cgroup))
		return 0;
	if (t->rows)
		csv_row(t->rows, s);
	had = t->m->d->nsamples;
	rc = dataset_add(t->m->d, s);
	/* a sample that is not ok is counted but not added */
	if (rc == 0 && s->map != COLUMN_NULL && t->m->d->nsamples > had)
		rc = note_map(t->m, t->source, s->map);
	return rc;
}

static int read_snapshot(struct merge *m, const struct entry *x)
{
	cleanup_free char *rows = NULL;
	size_t rows_len = 0;
	struct take t = {.m = m, .source = x->source};
	size_t maps = m->nrefs;
	struct errmsg e;
	int rc;

	snprintf(e.text, sizeof(e.text), "%s: a sample of snapshot %lld contradicts itself; the database was altered",
		 m->path[x->source], (long long)x->s.id);
	if (m->csv && !(t.rows = open_memstream(&rows, &rows_len)))
		return -ENOMEM;
	rc = dataset_begin(m->d, &x->s);
	if (rc == 0) {
		rc = dbread_samples(m->source[x->source], x->s.id, take_sample, &t, &e);
		if (rc < 0) {
			dataset_abandon(m->d);
			m->nrefs = maps;
		} else {
			dataset_commit(m->d, &x->s);
		}
	}
	if (t.rows && fclose(t.rows) != 0 && rc == 0)
		rc = -ENOMEM;
	if (rc < 0)
		return drop_source(m, x->source, rc, &e);
	return m->csv && fwrite(rows, 1, rows_len, m->csv) != rows_len ? -EIO : 0;
}

static int read_all(struct merge *m)
{
	const struct entry *last = NULL;
	int rc = number_hosts(m);

	for (size_t i = 0; i < m->nentries && rc == 0; i++) {
		const struct entry *x = &m->entry[i];

		if (!filter_snapshot(m->f, x->s.host, x->s.time_s) || !m->source[x->source])
			continue;
		if (last && compare_identity(last, x) == 0) {
			m->d->duplicates++;
			continue;
		}
		rc = read_snapshot(m, x);
		if (m->source[x->source])
			last = x;
	}
	return rc;
}

static int load_map(void *ctx, const struct churn_ref *ref, struct rle_map *map, struct rle_map_err *why)
{
	const struct merge *m = ctx;

	return m->source[ref->source] ? dbread_map(m->source[ref->source], ref->map, map, why) : -ENOENT;
}

static void write_pair(void *ctx, const struct churn_ref *ref, const struct churn_pair *pair)
{
	const struct merge *m = ctx;

	if (m->pairs)
		churn_csv_row(m->pairs, m->d, ref, pair);
}

static int read_maps(struct merge *m, struct churn *churn)
{
	const struct dataset *d = m->d;
	int rc = churn_compute(churn, d, m->ref, m->nrefs, load_map, write_pair, m);
	struct errmsg e;

	if (rc < 0 || !churn->bad)
		return rc;
	errmsg_set(&e, -EBADMSG, "%s: the map of process %lld at %s cannot be used: %s (byte %llu); maps left out of the churn for such reasons: %zu of %zu",
		   m->path[churn->first_bad.source], (long long)d->process[churn->first_bad.process].pid,
		   fmt_iso(d->snapshot[churn->first_bad.snapshot].time_s).s, churn->why.why, (unsigned long long)churn->why.offset_bytes, churn->bad, m->nrefs);
	return add_problem(m, &e);
}

static void free_entry(struct entry *e)
{
	for (size_t t = 0; t < sizeof(e->text) / sizeof(e->text[0]); t++)
		free(e->text[t]);
}

int merge_databases(struct dataset *d, char *const *paths, size_t npaths, struct filter *f, FILE *csv, struct churn *churn, FILE *pairs,
		    struct merge_problems *problems)
{
	struct merge m = {.d = d, .f = f, .csv = csv, .pairs = pairs, .problems = problems, .path = paths, .nsources = npaths};
	int rc = 0;

	m.source = calloc(npaths + 1, sizeof(struct dbread *));
	if (!m.source)
		return -ENOMEM;
	for (size_t i = 0; i < npaths && rc == 0; i++)
		rc = open_source(&m, i, paths[i]);
	if (rc == 0 && m.nentries) {
		qsort(m.entry, m.nentries, sizeof(*m.entry), compare_entry);
		filter_resolve(f, m.entry[m.nentries - 1].s.time_s);
		if (csv)
			csv_header(csv);
		if (pairs)
			churn_csv_header(pairs);
		rc = read_all(&m);
		if (rc == 0)
			rc = read_maps(&m, churn);
	}
	for (size_t i = 0; i < npaths; i++) {
		struct errmsg e;

		if (dbread_close(m.source[i], &e) < 0 && rc == 0)
			rc = add_problem(&m, &e);
	}
	for (size_t i = 0; i < m.nentries; i++)
		free_entry(&m.entry[i]);
	free(m.entry);
	free(m.ref);
	free(m.source);
	return rc;
}
