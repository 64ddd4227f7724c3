/* mapprint.c - a map as text and as JSON */
#include "runtime/guest/map/mapprint.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "rle/mapops.h"
#include "rle/stats.h"
#include "runtime/guest/map/dsmap_options.h"

#define ATTR_TEXT_BYTES 96

static const char *const space_names[RLE_NSPACE] = {"virtual", "frame", "host", "file"};
/* What a target page number is called at the head of its column. */
static const char *const space_columns[RLE_NSPACE] = {"PAGE", "PFN", "HOST PFN", "FILE PAGE"};

static const struct {
	uint32_t bit;
	const char *name;
} attr_names[] = {
	{RLE_ATTR_FILE, "file"},       {RLE_ATTR_UFFD_WP, "uffd-wp"}, {RLE_ATTR_ANON, "anon"},	   {RLE_ATTR_KSM, "ksm"},
	{RLE_ATTR_THP, "thp"},	       {RLE_ATTR_HUGETLB, "hugetlb"}, {RLE_ATTR_ZERO, "zero"}, {RLE_ATTR_NOPAGE, "nopage"},
	{RLE_ATTR_MULTI, "multi"},
};

/* The four letters of /proc/PID/maps. */
static const char *prot_text(uint32_t attr, char text[static 5])
{
	text[0] = attr & RLE_ATTR_READ ? 'r' : '-';
	text[1] = attr & RLE_ATTR_WRITE ? 'w' : '-';
	text[2] = attr & RLE_ATTR_EXEC ? 'x' : '-';
	text[3] = attr & RLE_ATTR_MAY_SHARE ? 's' : 'p';
	text[4] = '\0';
	return text;
}

/* Names of the attributes that are not protection, each in @quote, with commas between; @none when there are none. */
static const char *attr_text(uint32_t attr, const char *quote, const char *none, char text[static ATTR_TEXT_BYTES])
{
	size_t at = 0;

	for (size_t i = 0; i < sizeof(attr_names) / sizeof(*attr_names); i++)
		if (attr & attr_names[i].bit)
			at += snprintf(text + at, ATTR_TEXT_BYTES - at, "%s%s%s%s", at ? "," : "", quote, attr_names[i].name, quote);
	if (!at)
		snprintf(text, ATTR_TEXT_BYTES, "%s", none);
	return text;
}

static void put_name(const struct mapprint *p)
{
	for (const char *c = p->comm; *c; c++)
		fputc(*c >= ' ' && *c <= '~' && *c != '"' && *c != '\\' ? *c : '?', p->f);
}

/* Everything about a map but its runs: in JSON the first members of an object that is left open. */
static void put_head(const struct mapprint *p, const struct rle_map *map)
{
	const struct rle_map_meta *m = &map->meta;

	if (p->json) {
		fprintf(p->f, "{\"pid\":%" PRIu64 ",\"start_ticks\":%" PRIu64, m->pid, m->start_ticks);
		if (p->comm) {
			fputs(",\"comm\":\"", p->f);
			put_name(p);
			fputc('"', p->f);
		}
		fprintf(p->f, ",\"split\":\"%s\",\"key\":\"%s\",\"space\":\"%s\",\"runs\":%" PRIu64 ",\"pages\":%" PRIu64 "%s",
			dsmap_split_name(m->split), space_names[m->key], space_names[m->space], map->nruns, map->npages,
			p->no_frames ? ",\"withheld\":[\"pfn\"]" : "");
		return;
	}
	if (m->pid)
		fprintf(p->f, "# process %" PRIu64, m->pid);
	else
		fputs("# no process", p->f);
	if (p->comm) {
		fputs(" (", p->f);
		put_name(p);
		fputc(')', p->f);
	}
	fprintf(p->f, ", started at tick %" PRIu64 ": %" PRIu64 " runs, %" PRIu64 " pages; split %s, %s to %s%s\n", m->start_ticks, map->nruns,
		map->npages, dsmap_split_name(m->split), space_names[m->key], space_names[m->space],
		p->no_frames ? "; frame numbers are for root only" : "");
}

/* "START-END", addresses as in /proc/PID/maps. */
static void put_range(const struct mapprint *p, ds_vpn vpn, uint32_t npages)
{
	fprintf(p->f, "%012" PRIx64 "-%012" PRIx64, vpn.n << DS_PAGE_SHIFT, ds_vpn_add(vpn, npages).n << DS_PAGE_SHIFT);
}

/* The first frame of a run, as its column has it. */
static void put_frame(const struct mapprint *p, ds_pfn pfn)
{
	if (p->no_frames)
		fputs(p->json ? "null" : "            -", p->f);
	else
		fprintf(p->f, p->json ? "%" PRIu64 : " %#12" PRIx64, pfn.n);
}

void mapprint_runs(const struct mapprint *p, const struct rle_map *map)
{
	struct rle_map_iter it = rle_map_all(map);
	char prot[5], attr[ATTR_TEXT_BYTES];
	struct rle_run run;
	bool first = true;

	put_head(p, map);
	if (p->json)
		fputs(",\"map\":[", p->f);
	else
		fprintf(p->f, "%-25s %12s %9s %-4s %s\n", "ADDRESSES", space_columns[map->meta.space], "PAGES", "PROT", "ATTRIBUTES");
	while (rle_map_next(&it, &run)) {
		if (p->json) {
			fprintf(p->f, "%s\n{\"vpn\":%" PRIu64 ",\"pfn\":", first ? "" : ",", run.vpn.n);
			put_frame(p, run.pfn);
			fprintf(p->f, ",\"pages\":%u,\"prot\":\"%s\",\"attr\":[%s]}", run.npages, prot_text(run.attr, prot),
				attr_text(run.attr, "\"", "", attr));
		} else {
			put_range(p, run.vpn, run.npages);
			put_frame(p, run.pfn);
			fprintf(p->f, " %9u %s %s\n", run.npages, prot_text(run.attr, prot), attr_text(run.attr, "", "-", attr));
		}
		first = false;
	}
	if (p->json)
		fputs("]}\n", p->f);
}

/* --- statistics ------------------------------------------------------------------------------------------------- */

static const char *const size_names[RLE_NSIZE] = {"64K", "2M", "1G"};
static const unsigned int cover_permille[] = {500, 900, 950, 990, 1000};

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0.0;
}

struct count {
	const char *name;
	uint64_t n;
	bool joined; /* needs a join */
};
#define NCOUNTS 15

static void list_counts(const struct rle_counts *n, struct count list[static NCOUNTS])
{
	const struct count all[NCOUNTS] = {
		{"mapped", n->mapped, false},	      {"present", n->present, false}, {"swapped", n->swapped, false},
		{"migrating", n->migrating, false},   {"guard", n->guard, false},     {"marker", n->marker, false},
		{"zero", n->zero, false},	      {"device", n->device, false},   {"file", n->file, false},
		{"exclusive", n->exclusive, false},   {"ksm", n->ksm, true},	      {"thp", n->thp, true},
		{"hugetlb", n->hugetlb, true},	      {"multi", n->multi, true},      {"vmas", n->vmas, false},
	};

	memcpy(list, all, sizeof(all));
}

static void stats_text(const struct mapprint *p, const struct rle_stats *s)
{
	struct count list[NCOUNTS];

	if (p->counts) {
		list_counts(p->counts, list);
		for (size_t i = 0; i < NCOUNTS; i++)
			if (p->joined || !list[i].joined)
				fprintf(p->f, "%-12s %12" PRIu64 "\n", list[i].name, list[i].n);
		for (size_t i = 0; i < RLE_NSPLIT; i++)
			fprintf(p->f, "runs, %-6s %12" PRIu64 "   %.4f a present page\n", dsmap_split_name(i), p->counts->runs[i],
				p->counts->present ? (double)p->counts->runs[i] / (double)p->counts->present : 0.0);
	}
	fputs("\nCOVER: so many of the longest runs hold so much of the pages\n", p->f);
	for (size_t i = 0; i < 5; i++)
		fprintf(p->f, "%5.1f%%       %12" PRIu64 "\n", cover_permille[i] / 10.0, rle_stats_cover(s, cover_permille[i]));
	fprintf(p->f, "\nSIZE    PAGES IN RUNS AS LONG%s\n", p->no_frames ? "" : "         IN ALIGNED BLOCKS");
	for (size_t i = 0; i < RLE_NSIZE; i++) {
		fprintf(p->f, "%-4s %12" PRIu64 " %6.2f%%", size_names[i], s->in_size[i], percent(s->in_size[i], s->pages));
		if (!p->no_frames) /* alignment is a matter of frames */
			fprintf(p->f, " %17" PRIu64 " %6.2f%%", s->aligned[i], percent(s->aligned[i], s->pages));
		fputc('\n', p->f);
	}
	fputs("\nLENGTH FROM          RUNS        PAGES\n", p->f);
	for (size_t i = 0; i < RLE_STATS_NLOG2; i++)
		if (s->log2_runs[i])
			fprintf(p->f, "%11" PRIu64 " %13" PRIu64 " %12" PRIu64 " %6.2f%%\n", UINT64_C(1) << i, s->log2_runs[i], s->log2_pages[i],
				percent(s->log2_pages[i], s->pages));
}

static void stats_json(const struct mapprint *p, const struct rle_stats *s)
{
	struct count list[NCOUNTS];
	const char *comma = "";

	if (p->counts) {
		fputs(",\"counts\":{", p->f);
		list_counts(p->counts, list);
		for (size_t i = 0; i < NCOUNTS; i++) {
			if (!p->joined && list[i].joined)
				continue;
			fprintf(p->f, "%s\"%s\":%" PRIu64, comma, list[i].name, list[i].n);
			comma = ",";
		}
		fprintf(p->f, ",\"runs\":{\"none\":%" PRIu64 ",\"prot\":%" PRIu64 ",\"attr\":%" PRIu64 "}}", p->counts->runs[RLE_SPLIT_VPN_PFN],
			p->counts->runs[RLE_SPLIT_PROT], p->counts->runs[RLE_SPLIT_ATTR]);
	}
	fputs(",\"cover\":{", p->f);
	for (size_t i = 0; i < 5; i++)
		fprintf(p->f, "%s\"%g\":%" PRIu64, i ? "," : "", cover_permille[i] / 10.0, rle_stats_cover(s, cover_permille[i]));
	fputs("},\"in_runs_of\":{", p->f);
	for (size_t i = 0; i < RLE_NSIZE; i++)
		fprintf(p->f, "%s\"%s\":%" PRIu64, i ? "," : "", size_names[i], s->in_size[i]);
	if (!p->no_frames) {
		fputs("},\"aligned\":{", p->f);
		for (size_t i = 0; i < RLE_NSIZE; i++)
			fprintf(p->f, "%s\"%s\":%" PRIu64, i ? "," : "", size_names[i], s->aligned[i]);
	}
	fputs("},\"lengths\":[", p->f);
	comma = "";
	for (size_t i = 0; i < RLE_STATS_NLOG2; i++) {
		if (!s->log2_runs[i])
			continue;
		fprintf(p->f, "%s{\"from\":%" PRIu64 ",\"runs\":%" PRIu64 ",\"pages\":%" PRIu64 "}", comma, UINT64_C(1) << i, s->log2_runs[i],
			s->log2_pages[i]);
		comma = ",";
	}
	fputs("]}\n", p->f);
}

void mapprint_stats(const struct mapprint *p, const struct rle_map *map)
{
	static struct rle_stats s; /* too large for a stack; one map is printed at a time */
	struct rle_map_iter it = rle_map_all(map);
	struct rle_run run;

	rle_stats_reset(&s);
	while (rle_map_next(&it, &run))
		rle_stats_run(&s, &run);
	rle_stats_finish(&s);
	put_head(p, map);
	if (p->json)
		stats_json(p, &s);
	else
		stats_text(p, &s);
}

/* --- difference ------------------------------------------------------------------------------------------------- */

static const char *const change_names[] = {"removed", "added", "moved", "changed"};
#define NCHANGES 4

struct diff {
	const struct mapprint *p;
	uint64_t changes[NCHANGES], pages[NCHANGES];
	bool any;
};

/* One side of a change: its first frame, protection, attributes; nothing where the page was or is not there. */
static void put_side(FILE *f, bool there, ds_pfn pfn, uint32_t attr)
{
	char prot[5], text[ATTR_TEXT_BYTES];

	if (there)
		fprintf(f, " %#12" PRIx64 " %s %-9s", pfn.n, prot_text(attr, prot), attr_text(attr, "", "-", text));
	else
		fprintf(f, " %12s %-4s %-9s", "-", "-", "-");
}

static void put_side_json(FILE *f, const char *name, ds_pfn pfn, uint32_t attr)
{
	char prot[5], text[ATTR_TEXT_BYTES];

	fprintf(f, ",\"%s\":{\"pfn\":%" PRIu64 ",\"prot\":\"%s\",\"attr\":[%s]}", name, pfn.n, prot_text(attr, prot),
		attr_text(attr, "\"", "", text));
}

static int put_change(void *ctx, const struct rle_change *c)
{
	struct diff *d = ctx;
	FILE *f = d->p->f;
	bool was = c->kind != RLE_CHANGE_ADDED, now = c->kind != RLE_CHANGE_REMOVED;

	d->changes[c->kind]++;
	d->pages[c->kind] += c->npages;
	if (d->p->json) {
		fprintf(f, "%s\n{\"change\":\"%s\",\"vpn\":%" PRIu64 ",\"pages\":%u", d->any ? "," : "", change_names[c->kind], c->vpn.n, c->npages);
		if (was)
			put_side_json(f, "was", c->was_pfn, c->was_attr);
		if (now)
			put_side_json(f, "now", c->now_pfn, c->now_attr);
		fputc('}', f);
	} else {
		fprintf(f, "%-8s ", change_names[c->kind]);
		put_range(d->p, c->vpn, c->npages);
		fprintf(f, " %9u", c->npages);
		put_side(f, was, c->was_pfn, c->was_attr);
		put_side(f, now, c->now_pfn, c->now_attr);
		fputc('\n', f);
	}
	d->any = true;
	return 0;
}

int mapprint_diff(const struct mapprint *p, const struct rle_map *was, const struct rle_map *now)
{
	struct diff d = {.p = p};
	int err;

	if (was->meta.split != now->meta.split || was->meta.key != now->meta.key || was->meta.space != now->meta.space)
		return -EINVAL;
	put_head(p, now);
	if (p->json)
		fputs(",\"changes\":[", p->f);
	else
		fprintf(p->f, "%-8s %-25s %9s %12s %-4s %-9s %12s %-4s %s\n", "CHANGE", "ADDRESSES", "PAGES", "WAS PFN", "PROT", "ATTR", "NOW PFN",
			"PROT", "ATTR");
	err = rle_map_diff(was, now, put_change, &d);
	if (err)
		return err;
	if (p->json)
		fputs("],\"summary\":{", p->f);
	else
		fputc('#', p->f);
	for (size_t i = 0; i < NCHANGES; i++) {
		if (p->json)
			fprintf(p->f, "%s\"%s\":{\"changes\":%" PRIu64 ",\"pages\":%" PRIu64 "}", i ? "," : "", change_names[i], d.changes[i],
				d.pages[i]);
		else
			fprintf(p->f, "%s %s %" PRIu64 " pages in %" PRIu64 " places", i ? "," : "", change_names[i], d.pages[i], d.changes[i]);
	}
	fputs(p->json ? "}}\n" : "\n", p->f);
	return 0;
}
