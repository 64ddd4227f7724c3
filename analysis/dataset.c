/* dataset.c - the samples of a report in memory (see dataset.h) */
#include "analysis/dataset.h"

#include <math.h>

#include "analysis/utf8.h"
#include "analysis/vec.h"

/* Names are made fit for every output here; the CSV alone writes them as they are stored. */
static int name_id(struct dataset *d, const char *text, uint32_t *id)
{
	cleanup_free char *clean = NULL;

	*id = INTERN_NONE;
	if (!text)
		return 0;
	if (!utf8_valid(text)) {
		clean = utf8_clean(text);
		if (!clean)
			return -ENOMEM;
		text = clean;
	}
	return intern_id(&d->names, text, strlen(text), id);
}

const char *dataset_name(const struct dataset *d, uint32_t id)
{
	return intern_text(&d->names, id);
}

int dataset_host_id(struct dataset *d, const char *name, uint32_t *id)
{
	uint32_t text;

	if (name_id(d, name, &text) < 0)
		return -ENOMEM;
	for (*id = 0; *id < d->nhosts; (*id)++)
		if (d->host[*id].name == text)
			return 0;
	if (vec_reserve(&d->host, &d->hosts_cap, d->nhosts + 1, sizeof(*d->host)) < 0)
		return -ENOMEM;
	d->host[d->nhosts++] = (struct dataset_host){.name = text};
	return 0;
}

/* Keys made of several parts are their bytes in a struct without padding. */
struct boot_key {
	uint32_t host, boot_id;
};

struct process_key {
	uint32_t boot, zero;
	int64_t pid, start_ticks;
};

static int boot_of(struct dataset *d, uint32_t host, const char *boot_id, uint32_t *boot)
{
	struct boot_key key = {.host = host};
	size_t before = d->boots.n;

	if (name_id(d, boot_id, &key.boot_id) < 0 || intern_id(&d->boots, &key, sizeof(key), boot) < 0)
		return -ENOMEM;
	d->host[host].boots += d->boots.n - before;
	return 0;
}

static int settings_of(struct dataset *d, uint32_t host, const struct dbread_snapshot *s, uint32_t *id)
{
	struct dataset_settings key;
	const char *const texts[] = {s->kernel, s->tool, s->join_mode, s->thp_enabled, s->thp_defrag, s->thp_shmem, s->mthp};
	uint32_t *const ids[] = {&key.kernel, &key.tool, &key.join_mode, &key.thp_enabled, &key.thp_defrag, &key.thp_shmem, &key.mthp};
	size_t before = d->settings_keys.n;

	memset(&key, 0, sizeof(key)); /* padding included: the struct's bytes are the key */
	key.host = host;
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		if (name_id(d, texts[i], ids[i]) < 0)
			return -ENOMEM;
	key.page_bytes = s->page_bytes;
	key.mem_total_bytes = s->mem_total_bytes;
	key.ksm_run = s->ksm_run;
	key.hugetlb_total = s->hugetlb_total;
	key.max_map_count = s->max_map_count;
	if (intern_id(&d->settings_keys, &key, sizeof(key), id) < 0)
		return -ENOMEM;
	if (d->settings_keys.n == before)
		return 0;
	if (vec_reserve(&d->settings, &d->settings_cap, d->nsettings + 1, sizeof(*d->settings)) < 0)
		return -ENOMEM;
	d->settings[d->nsettings++] = (struct dataset_settings_use){.s = key};
	return 0;
}

int dataset_begin(struct dataset *d, const struct dbread_snapshot *s)
{
	struct dataset_snapshot snap = {.time_s = s->time_s, .first = d->nsamples};

	if (dataset_host_id(d, s->host, &snap.host) < 0 || boot_of(d, snap.host, s->boot_id, &snap.boot) < 0 ||
	    settings_of(d, snap.host, s, &snap.settings) < 0 ||
	    vec_reserve(&d->snapshot, &d->snapshots_cap, d->nsnapshots + 1, sizeof(snap)) < 0)
		return -ENOMEM;
	d->snapshot[d->nsnapshots++] = snap;
	memset(&d->pending, 0, sizeof(d->pending));
	if (d->status_pending)
		memset(d->status_pending, 0, d->pending_cap * sizeof(*d->status_pending));
	return 0;
}

static int process_of(struct dataset *d, const struct dataset_snapshot *snap, const struct dbread_sample *s, uint32_t *id)
{
	struct process_key key = {.boot = snap->boot, .pid = s->pid, .start_ticks = s->start_ticks};
	size_t before = d->process_keys.n;

	if (intern_id(&d->process_keys, &key, sizeof(key), id) < 0)
		return -ENOMEM;
	if (d->process_keys.n == before)
		return 0;
	if (vec_reserve(&d->process, &d->processes_cap, d->nprocesses + 1, sizeof(*d->process)) < 0)
		return -ENOMEM;
	d->process[d->nprocesses++] = (struct dataset_process){.host = snap->host, .pid = s->pid, .start_ticks = s->start_ticks};
	return 0;
}

static int add_status(struct dataset *d, const char *status)
{
	size_t had = d->pending_cap;
	uint32_t id;

	if (intern_id(&d->statuses, status, strlen(status), &id) < 0)
		return -ENOMEM;
	if (vec_reserve(&d->status_pending, &d->pending_cap, id + 1, sizeof(*d->status_pending)) < 0)
		return -ENOMEM;
	memset(d->status_pending + had, 0, (d->pending_cap - had) * sizeof(*d->status_pending));
	had = d->status_cap;
	if (vec_reserve(&d->status_count, &d->status_cap, id + 1, sizeof(*d->status_count)) < 0)
		return -ENOMEM;
	memset(d->status_count + had, 0, (d->status_cap - had) * sizeof(*d->status_count));
	d->status_pending[id]++;
	return 0;
}

static int add_totals(struct dataset_totals *t, const struct dbread_sample *s)
{
	t->samples++;
	t->empty += s->v[COL_pte_present] == 0;
	for (int c = 0; c < NCOLUMNS; c++)
		if (s->v[c] != COLUMN_NULL) {
			t->sum[c] += (uint64_t)s->v[c];
			t->known[c]++;
			t->pages_known[c] += (uint64_t)s->v[COL_pte_present];
		}
	if (!s->hist_runs || !s->hist_pages)
		return 0;
	t->hist_samples++;
	return hist_add_json(&t->hist_runs, s->hist_runs) < 0 || hist_add_json(&t->hist_pages, s->hist_pages) < 0 ? -EINVAL : 0;
}

int dataset_add(struct dataset *d, const struct dbread_sample *s)
{
	const struct dataset_snapshot *snap = &d->snapshot[d->nsnapshots - 1];
	struct dataset_sample x = {.snapshot = (uint32_t)d->nsnapshots - 1};

	if (strcmp(s->status, "ok") != 0)
		return add_status(d, s->status);
	if (s->v[COL_pte_present] == COLUMN_NULL || s->v[COL_runs] == COLUMN_NULL || s->v[COL_runs] > s->v[COL_pte_present])
		return -EINVAL;
	if (process_of(d, snap, s, &x.process) < 0 || name_id(d, s->comm, &x.comm) < 0 || name_id(d, s->cgroup, &x.cgroup) < 0 ||
	    vec_reserve(&d->sample, &d->samples_cap, d->nsamples + 1, sizeof(x)) < 0)
		return -ENOMEM;
	if (add_totals(&d->pending, s) < 0)
		return -EINVAL;
	x.uid = s->uid == COLUMN_NULL || s->uid > UINT32_MAX ? INTERN_NONE : (uint32_t)s->uid;
	x.pte_present = (uint64_t)s->v[COL_pte_present];
	x.runs = (uint64_t)s->v[COL_runs];
	x.pages_mapped = s->v[COL_pages_mapped];
	x.runs_prot = s->v[COL_runs_prot];
	x.runs_attr = s->v[COL_runs_attr];
	for (int i = 0; i < NCOVERS; i++)
		x.cover[i] = s->v[COL_cover50 + i];
	d->sample[d->nsamples++] = x;
	return 0;
}

void dataset_abandon(struct dataset *d)
{
	d->nsnapshots--;
	d->nsamples = d->snapshot[d->nsnapshots].first;
}

void dataset_commit(struct dataset *d, const struct dbread_snapshot *s)
{
	struct dataset_snapshot *snap = &d->snapshot[d->nsnapshots - 1];
	struct dataset_host *h = &d->host[snap->host];
	struct dataset_settings_use *use = &d->settings[snap->settings];

	snap->n = d->nsamples - snap->first;
	if (h->snapshots++ == 0)
		h->first_s = s->time_s;
	h->last_s = s->time_s;
	if (use->snapshots++ == 0)
		use->first_s = s->time_s;
	use->last_s = s->time_s;
	h->seen += s->n_seen > 0 ? (uint64_t)s->n_seen : 0;
	h->sampled += s->n_sampled > 0 ? (uint64_t)s->n_sampled : 0;
	for (int k = 0; k < NSKIPS; k++)
		h->skipped[k] += s->skipped[k] > 0 ? (uint64_t)s->skipped[k] : 0;
	if (s->distinct_pages != COLUMN_NULL) {
		h->distinct_pages_sum += (double)s->distinct_pages;
		h->distinct_known++;
	}
	dataset_totals_add(&h->t, &d->pending);
	for (size_t i = 0; i < d->statuses.n; i++)
		d->status_count[i] += d->status_pending[i];
}

void dataset_totals_add(struct dataset_totals *to, const struct dataset_totals *from)
{
	to->samples += from->samples;
	to->empty += from->empty;
	for (int c = 0; c < NCOLUMNS; c++) {
		to->sum[c] += from->sum[c];
		to->known[c] += from->known[c];
		to->pages_known[c] += from->pages_known[c];
	}
	hist_add(&to->hist_runs, &from->hist_runs);
	hist_add(&to->hist_pages, &from->hist_pages);
	to->hist_samples += from->hist_samples;
}

void dataset_free(struct dataset *d)
{
	intern_free(&d->names);
	intern_free(&d->boots);
	intern_free(&d->process_keys);
	intern_free(&d->settings_keys);
	intern_free(&d->statuses);
	free(d->host);
	free(d->process);
	free(d->settings);
	free(d->snapshot);
	free(d->sample);
	free(d->status_count);
	free(d->status_pending);
	*d = (struct dataset){0};
}
