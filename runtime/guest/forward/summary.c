/* summary.c - what --summary prints: a table of the system calls of a process when it ends, as strace -c has it
 *
 * Counted in static memory, of this process alone; a forked child counts anew, and has a table of its own.
 */
#include <string.h>

#include "runtime/guest/forward/line.h"

static int32_t summary_fd = -1; /* opened at the start: programs close standard error before they end */
static int32_t counts_pid;
static struct summary_count {
	uint64_t calls, errors, host, ns;
} counts[FORWARD_NR_MAX];

void forward_summary_count(uint64_t nr, int64_t result, const char *where, int64_t ns)
{
	struct summary_count *c = &counts[nr < FORWARD_NR_MAX ? nr : FORWARD_NR_MAX - 1];

	__atomic_fetch_add(&c->calls, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&c->errors, result < 0 && result >= -4095, __ATOMIC_RELAXED);
	__atomic_fetch_add(&c->host, where[0] == 'h', __ATOMIC_RELAXED);
	__atomic_fetch_add(&c->ns, (uint64_t)ns, __ATOMIC_RELAXED);
}

static void write_line(struct forward_line *l)
{
	l->text[l->n++] = '\n';
	raw3(__NR_write, summary_fd, l->text, l->n);
	l->n = 0;
}

static void write_text(const char *text)
{
	struct forward_line l = {.n = 0};

	line_text(&l, text);
	write_line(&l);
}

static void write_row(const struct summary_count *c, const struct summary_count *all, const char *name)
{
	struct forward_line l = {.n = 0};

	line_column(&l, all->ns ? c->ns / 1000 * 10000 / (all->ns / 1000 + !(all->ns / 1000)) : 0, 6, 2);
	line_char(&l, ' ');
	line_column(&l, c->ns / 1000, 11, 6);
	line_char(&l, ' ');
	line_column(&l, c->calls ? c->ns / 1000 / c->calls : 0, 11, 0);
	line_char(&l, ' ');
	line_column(&l, c->calls, 9, 0);
	line_char(&l, ' ');
	line_column(&l, c->errors, 9, 0);
	line_char(&l, ' ');
	line_column(&l, c->host, 9, 0);
	line_char(&l, ' ');
	line_text(&l, name);
	write_line(&l);
}

void forward_trace_summary(void)
{
	uint64_t done[FORWARD_NR_MAX / 64] = {0};
	struct summary_count all = {0};
	struct forward_line l = {.n = 0};
	int32_t pid;

	if (summary_fd < 0) /* first of all: a program that has confined itself may not ask for more */
		return;
	pid = (int32_t)raw0(__NR_getpid);
	if (counts_pid != pid)
		return;
	for (uint64_t i = 0; i < FORWARD_NR_MAX; i++) {
		all.calls += counts[i].calls;
		all.errors += counts[i].errors;
		all.host += counts[i].host;
		all.ns += counts[i].ns;
	}
	line_text(&l, "system calls of process ");
	line_signed(&l, pid);
	line_char(&l, ':');
	write_line(&l);
	write_text("% time     seconds  usecs/call     calls    errors   on host syscall");
	write_text("------ ----------- ----------- --------- --------- --------- ----------------");
	for (;;) {
		uint64_t best = FORWARD_NR_MAX;

		for (uint64_t i = 0; i < FORWARD_NR_MAX; i++)
			if (counts[i].calls && !(done[i / 64] >> (i % 64) & 1) && (best == FORWARD_NR_MAX || counts[i].ns > counts[best].ns))
				best = i;
		if (best == FORWARD_NR_MAX)
			break;
		done[best / 64] |= UINT64_C(1) << (best % 64);
		write_row(&counts[best], &all, forward_name(best) ? forward_name(best) : "(others)");
	}
	write_text("------ ----------- ----------- --------- --------- --------- ----------------");
	write_row(&all, &all, "total");
}

bool forward_summary_holds(const int32_t *holder)
{
	return holder == &summary_fd;
}

void forward_trace_child(void)
{
	memset(counts, 0, sizeof(counts));
	counts_pid = (int32_t)raw0(__NR_getpid);
}

void forward_summary_start(void)
{
	const int32_t fd = forward_own_add(forward_trace_open(forward_settings.summary), &summary_fd);

	counts_pid = (int32_t)raw0(__NR_getpid);
	if (fd < 0)
		forward_trace_unwritten("the summary cannot be written: ", forward_settings.summary, fd);
}
