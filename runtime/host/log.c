/* log.c - lines for the log; theory in log.h */
#include "runtime/host/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int verbose;
static struct log_budget *budget;
static const char *whose;

void log_verbose(int on)
{
	verbose = on;
}

char *log_escape(char *out, size_t size, const char *in)
{
	size_t at = 0;

	for (; *in; in++) {
		const unsigned char c = (unsigned char)*in;
		char piece[8];
		size_t n;

		if (c == '\n')
			n = (size_t)snprintf(piece, sizeof(piece), "\\n");
		else if (c == '\\')
			n = (size_t)snprintf(piece, sizeof(piece), "\\\\");
		else if (c < 0x20 || c > 0x7e)
			n = (size_t)snprintf(piece, sizeof(piece), "\\x%02x", c);
		else
			n = (size_t)snprintf(piece, sizeof(piece), "%c", c);
		if (at + n >= size)
			break;
		memcpy(out + at, piece, n);
		at += n;
	}
	out[at] = 0;
	return out;
}

void log_share(struct log_budget *shared, const char *name)
{
	budget = shared;
	whose = name;
}

/* Whether a line may be written.  *@lost: how many could not in the period that has just ended, for one caller to say. */
static bool may_write(uint32_t *lost)
{
	struct timespec ts;
	uint64_t now, since;
	uint32_t lines;

	*lost = 0;
	if (!budget)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec + 1; /* never 0 */
	since = __atomic_load_n(&budget->since_s, __ATOMIC_RELAXED);
	if (now - since >= LOG_BUDGET_S &&
	    __atomic_compare_exchange_n(&budget->since_s, &since, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		lines = __atomic_exchange_n(&budget->lines, 0, __ATOMIC_RELAXED);
		*lost = lines > LOG_BUDGET_LINES ? lines - LOG_BUDGET_LINES : 0;
	}
	return __atomic_add_fetch(&budget->lines, 1, __ATOMIC_RELAXED) <= LOG_BUDGET_LINES;
}

static void write_line(enum log_level level, const char *text)
{
	char line[LOG_LINE_BYTES + 8];
	ssize_t written;
	size_t n = 0;

	if (getenv("JOURNAL_STREAM"))
		n = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	log_escape(line + n, sizeof(line) - n - 1, text);
	n = strlen(line);
	line[n++] = '\n';
	do {
		written = write(STDERR_FILENO, line, n);
	} while (written < 0 && errno == EINTR);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char text[LOG_LINE_BYTES];
	const int saved = errno;
	uint32_t lost;
	va_list ap;

	if (level == LOG_LEVEL_DEBUG && !verbose)
		return;
	if (may_write(&lost)) {
		if (lost) {
			snprintf(text, sizeof(text), "%s: %u lines were left out, as there were more than %u in %u s", whose, lost, LOG_BUDGET_LINES,
				 LOG_BUDGET_S);
			write_line(LOG_LEVEL_WARNING, text);
		}
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
		write_line(level, text);
	}
	errno = saved;
}
