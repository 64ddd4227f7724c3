/* json.c - a snapshot as one line of JSON; see json.h */
#include "collector/json.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <unistd.h>

/* @text is valid UTF-8 (text.h), so only what RFC 8259, section 7, names has to be escaped. */
static void put_string(FILE *f, const char *text)
{
	putc('"', f);
	for (; *text; text++) {
		unsigned char c = *text;

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20)
			fprintf(f, "\\u%04x", c);
		else
			putc(c, f);
	}
	putc('"', f);
}

static void member_text(FILE *f, const char *name, const char *text)
{
	fprintf(f, "\"%s\":", name);
	if (*text)
		put_string(f, text);
	else
		fputs("null", f);
	putc(',', f);
}

static void member_number(FILE *f, const char *name, bool known, int64_t n)
{
	if (known)
		fprintf(f, "\"%s\":%" PRId64 ",", name, n);
	else
		fprintf(f, "\"%s\":null,", name);
}

/* @json: an array or object already in JSON, "" for none */
static void member_json(FILE *f, const char *name, const char *json)
{
	fprintf(f, "\"%s\":%s,", name, *json ? json : "null");
}

static void member_double(FILE *f, const char *name, double x)
{
	if (isnan(x))
		fprintf(f, "\"%s\":null,", name);
	else
		fprintf(f, "\"%s\":%.6f,", name, x);
}

void json_begin(FILE *f, const struct machine_id *id, const struct machine *m, enum rle_join join)
{
	putc('{', f);
	member_text(f, "host", id->host);
	member_text(f, "boot_id", id->boot_id);
	member_text(f, "kernel", id->kernel);
	member_double(f, "time", m->time);
	member_double(f, "uptime_s", m->uptime_s);
	member_text(f, "tool", DS_VERSION);
	member_text(f, "join_mode", db_join_name(join));
	member_number(f, "page_size", true, sysconf(_SC_PAGESIZE));
	member_number(f, "mem_total_bytes", m->mem_total_bytes >= 0, m->mem_total_bytes);
	member_number(f, "mem_free_bytes", m->mem_free_bytes >= 0, m->mem_free_bytes);
	member_text(f, "thp_enabled", m->thp_enabled);
	member_text(f, "thp_defrag", m->thp_defrag);
	member_text(f, "thp_shmem", m->thp_shmem);
	member_json(f, "mthp", m->mthp);
	member_json(f, "buddyinfo", m->buddyinfo);
	member_number(f, "ksm_run", m->ksm_run >= 0, m->ksm_run);
	member_number(f, "hugetlb_total", m->hugetlb_pages >= 0, m->hugetlb_pages);
	member_number(f, "max_map_count", m->max_map_count >= 0, m->max_map_count);
	fputs("\"samples\":[", f);
}

static void member_histogram(FILE *f, const char *name, const uint64_t *n, const char *behind)
{
	int last = RLE_STATS_NLOG2 - 1;

	while (last >= 0 && !n[last])
		last--;
	fprintf(f, "\"%s\":[", name);
	for (int i = 0; i <= last; i++)
		fprintf(f, "%s%" PRIu64, i ? "," : "", n[i]);
	fprintf(f, "]%s", behind);
}

static void put_counts(FILE *f, const struct record *r, const struct db_known *known)
{
	const struct rle_counts *n = &r->n;
	const struct {
		const char *name;
		bool known;
		uint64_t n;
	} member[] = {
		{"vmas", true, n->vmas},
		{"pages_mapped", true, n->mapped},
		{"pte_present", true, n->present},
		{"runs", true, n->runs[RLE_SPLIT_VPN_PFN]},
		{"runs_prot", true, n->runs[RLE_SPLIT_PROT]},
		{"runs_attr", true, n->runs[RLE_SPLIT_ATTR]},
		{"swapped", true, n->swapped},
		{"migrating", true, n->migrating},
		{"guard", true, n->guard},
		{"marker", true, n->marker},
		{"zero", known->zero, n->zero},
		{"ksm", r->ksm_pages >= 0, r->ksm_pages},
		{"thp", known->join, n->thp},
		{"hugetlb", true, r->hugetlb_pages},
		{"device", known->device, n->device},
		{"file", true, n->file},
		{"exclusive", true, n->exclusive},
		{"cover50", true, r->cover[0]},
		{"cover90", true, r->cover[1]},
		{"cover95", true, r->cover[2]},
		{"cover99", true, r->cover[3]},
		{"cover100", true, r->cover[4]},
		{"pages_64k", true, r->in_size[RLE_64K]},
		{"pages_2m", true, r->in_size[RLE_2M]},
		{"pages_1g", true, r->in_size[RLE_1G]},
		{"aligned_64k", true, r->aligned[RLE_64K]},
		{"aligned_2m", true, r->aligned[RLE_2M]},
		{"aligned_1g", true, r->aligned[RLE_1G]},
		{"end_vma", true, n->ends[RLE_END_VMA]},
		{"end_hole", true, n->ends[RLE_END_HOLE]},
		{"end_phys", true, n->ends[RLE_END_PHYS]},
	};

	for (size_t i = 0; i < sizeof(member) / sizeof(*member); i++)
		member_number(f, member[i].name, member[i].known, member[i].n);
	member_histogram(f, "hist_runs", r->log2_runs, ",");
	member_histogram(f, "hist_pages", r->log2_pages, "");
}

void json_sample(FILE *f, bool first, const struct record *r, const struct db_known *known)
{
	fputs(first ? "{" : ",{", f);
	member_number(f, "pid", true, r->pid);
	member_number(f, "start_ticks", true, r->start_ticks);
	fputs("\"comm\":", f);
	put_string(f, r->comm);
	putc(',', f);
	member_number(f, "uid", record_has(r, RECORD_OWNER), r->uid);
	member_text(f, "cgroup", r->cgroup);
	member_number(f, "scan_ns", true, r->scan_ns);
	member_number(f, "vsz_bytes", true, r->vsz_bytes);
	if (r->status == RECORD_OK) {
		put_counts(f, r, known);
		putc(',', f);
	}
	fprintf(f, "\"status\":\"%s\"}", record_status_name(r->status));
}

int json_end(FILE *f, const struct db_totals *t)
{
	fputs("],", f);
	member_number(f, "duration_ns", true, t->duration_ns);
	member_number(f, "distinct_pages", t->distinct_pages >= 0, t->distinct_pages);
	member_number(f, "n_sampled", true, t->n[RECORD_OK]);
	member_number(f, "n_kernel", true, t->n[RECORD_KERNEL]);
	member_number(f, "n_zombie", true, t->n[RECORD_ZOMBIE]);
	member_number(f, "n_vanished", true, t->n[RECORD_VANISHED]);
	member_number(f, "n_denied", true, t->n[RECORD_DENIED] + t->n[RECORD_HIDDEN]);
	member_number(f, "n_timeout", true, t->n[RECORD_TIMEOUT]);
	member_number(f, "n_error", true, t->n[RECORD_ERROR]);
	fprintf(f, "\"n_seen\":%" PRIu64 "}\n", t->n_seen);
	return fflush(f) || ferror(f) ? -EIO : 0;
}
