/* figure.c - the figures of a report (see figure.h) */
#include "analysis/figure.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "analysis/gnuplot.h"
#include "analysis/outfile.h"
#include "analysis/plots.h"
#include "rle/cleanup.h"

const struct figure_info figure_info[NFIGURES] = {
	[FIGURE_ENTRIES] = {"figure-2-entries-and-runs", "Raw page table entries and runs",
			    "Cumulative distribution over the samples, as the paper's Figure 2: how many present 4 KiB pages a process has, and how many "
			    "runs, contiguous in virtual and physical memory, hold them. The distance between the curves is the compression. Marks: "
			    "the paper's percentiles of runs."},
	[FIGURE_RATIO] = {"figure-3-ratio", "Ratio of runs to entries",
			  "Cumulative distribution of runs / raw entries, as the paper's Figure 3. Further left is more contiguous; 1 means that no two "
			  "neighbouring pages are neighbours in physical memory. Marks: the paper's percentiles."},
	[FIGURE_SIZE] = {"figure-4-ratio-and-size", "Ratio against size",
			 "Ratio of each sample against its number of present pages, as the paper's Figure 4. Each dot stands for all samples in a cell of "
			 "1/32 decade by 0.008, the darker the more with one host, so that a million samples stay legible."},
	[FIGURE_LENGTHS] = {"run-lengths", "Run lengths",
			    "Share of the runs, and of the pages, that are in runs shorter than the length below; known at powers of two. Most runs are short "
			    "while most pages may lie in long ones. Dotted: 64 KiB, 2 MiB and 1 GiB."},
	[FIGURE_TIME] = {"time-series", "Over time",
			 "Present memory and runs, summed over the processes of each snapshot (a page that several share counts for each), and the "
			 "ratio of its processes. Of more than 1,500 snapshots neighbours are drawn as their mean."},
	[FIGURE_CHURN] = {"churn", "What a mirror has to follow",
			  "Cumulative distribution over pairs of consecutive snapshots of a process: how many stretches of its map changed in between, one call "
			  "each to follow them, and how many runs the later map has, one call each to rebuild everything. At the left, the intervals in which "
			  "nothing changed."},
};

static const char *const source[NFIGURES] = {plots_entries, plots_ratio, plots_size, plots_lengths, plots_time, plots_churn};

bool figure_drawn(const struct summary *s, enum figure_id id)
{
	return id == FIGURE_CHURN ? s->churn != NULL : s->d != NULL;
}

size_t figure_groups(const struct summary *s)
{
	return s->d->nhosts > 1 && s->d->nhosts <= FIGURE_MAX_HOSTS ? s->d->nhosts : 1;
}

const struct summary_group *figure_group(const struct summary *s, size_t i)
{
	return &s->group[figure_groups(s) > 1 ? i + 1 : 0];
}

static void put_terminal(FILE *f, enum figure_id id, enum figure_format format)
{
	int height = id == FIGURE_TIME ? 600 : 430;

	if (format == FIGURE_SVG)
		fprintf(f, "set terminal svg size 640,%d dynamic enhanced font 'Helvetica,14' background '#ffffff'\n", height);
	else
		fprintf(f, "set terminal pngcairo size 1280,%d enhanced font 'Helvetica,13' fontscale 2 linewidth 2 pointscale 2 background '#ffffff'\n", 2 * height);
}

int figure_draw(const struct summary *s, enum figure_id id, enum figure_format format, char **bytes, size_t *len, struct errmsg *e)
{
	cleanup_free char *script = NULL;
	size_t script_len = 0;
	FILE *f = open_memstream(&script, &script_len);
	int rc;

	if (!f)
		return errmsg_set(e, -ENOMEM, "out of memory");
	put_terminal(f, id, format);
	rc = id == FIGURE_CHURN ? churnfig_write(f, s->churn) : figdata_write(f, s, id);
	fputs(plots_style, f);
	fputs(source[id], f);
	if (fclose(f) != 0 || rc < 0)
		return errmsg_set(e, -ENOMEM, "out of memory");
	return gnuplot_run(script, script_len, bytes, len, e);
}

int figure_write_all(const struct summary *s, enum figure_format format, const char *dir, struct errmsg *e)
{
	if (mkdir(dir, 0777) < 0 && errno != EEXIST)
		return errmsg_set(e, -errno, "%s: cannot make the directory: %s; choose another place", dir, strerror(errno));
	for (int id = 0; id < NFIGURES; id++) {
		cleanup_free char *bytes = NULL, *name = NULL;
		size_t len;
		int rc;

		if (!figure_drawn(s, (enum figure_id)id))
			continue;
		rc = figure_draw(s, (enum figure_id)id, format, &bytes, &len, e);

		if (rc < 0)
			return rc;
		if (asprintf(&name, "%s/%s.%s", dir, figure_info[id].file, format == FIGURE_SVG ? "svg" : "png") < 0) {
			name = NULL;
			return errmsg_set(e, -ENOMEM, "out of memory");
		}
		rc = outfile_write(name, bytes, len, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}
