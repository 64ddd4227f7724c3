/* report.c - what dscollect says while it works; see report.h */
#include "collector/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool progress_shown;

void report_clear(void)
{
	if (progress_shown)
		fputs("\r\033[K", stderr);
	progress_shown = false;
}

void report_error(const char *fmt, ...)
{
	va_list ap;

	report_clear();
	fputs("dscollect: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	putc('\n', stderr);
}

/* A name that a process gave itself may hold anything, control characters for the terminal too. */
static const char *printable(const char *name, char *buf, size_t size)
{
	size_t i;

	for (i = 0; name[i] && i + 1 < size; i++)
		buf[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
	buf[i] = '\0';
	return buf;
}

void report_process(const struct record *r)
{
	char name[RLE_COMM_BYTES];

	printable(*r->comm ? r->comm : "?", name, sizeof(name));
	if (r->status == RECORD_TIMEOUT)
		report_error("process %d (%s) hangs whoever reads its page table; left out (see --timeout)", r->pid, name);
	else if (r->status == RECORD_VANISHED)
		report_error(record_has(r, RECORD_IDENTITY) ? "process %d (%s) ended while it was read" : "there is no process %d (%s)",
			     r->pid, name);
	else if (r->err)
		report_error("process %d (%s) cannot be read: %s; left out", r->pid, name, strerror(-r->err));
	else
		report_error("process %d (%s): its reader was killed or crashed; left out", r->pid, name);
}

void report_progress(size_t done, size_t total)
{
	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K%zu of %zu processes", done, total);
	fflush(stderr);
	progress_shown = true;
}

static void put_skipped(uint64_t n, const char *one, const char *many, const char **before)
{
	if (!n)
		return;
	printf("%s%" PRIu64 " %s", *before, n, n == 1 ? one : many);
	*before = ", ";
}

void report_snapshot(const struct snapshot *s)
{
	const uint64_t *n = s->totals.n;
	const char *before = "; skipped ";
	time_t at = s->machine.time;
	char when[32] = "";
	double median = snapshot_median_ratio(s);
	struct tm tm;

	report_clear();
	if (localtime_r(&at, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	printf("%s  %" PRIu64 " process%s, %" PRIu64 " pages in %" PRIu64 " runs", when, n[RECORD_OK], n[RECORD_OK] == 1 ? "" : "es",
	       s->pages, s->runs);
	if (!isnan(median))
		printf(", median ratio %.4f", median);
	printf(", %.3f s", s->totals.duration_ns / 1e9);
	put_skipped(n[RECORD_KERNEL], "kernel thread", "kernel threads", &before);
	put_skipped(n[RECORD_ZOMBIE], "zombie", "zombies", &before);
	put_skipped(n[RECORD_VANISHED], "that ended", "that ended", &before);
	put_skipped(n[RECORD_DENIED], "that the kernel refused", "that the kernel refused", &before);
	put_skipped(n[RECORD_HIDDEN], "without frame numbers", "without frame numbers", &before);
	put_skipped(n[RECORD_TIMEOUT], "that hung", "that hung", &before);
	put_skipped(n[RECORD_ERROR], "with errors", "with errors", &before);
	putchar('\n');
	fflush(stdout);
}
