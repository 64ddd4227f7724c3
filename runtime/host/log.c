/* log.c - lines for the log; theory in log.h */
#include "runtime/host/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int verbose;

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

void log_line(enum log_level level, const char *fmt, ...)
{
	char text[LOG_LINE_BYTES], line[LOG_LINE_BYTES + 8];
	const int saved = errno;
	ssize_t written;
	size_t n = 0;
	va_list ap;

	if (level == LOG_LEVEL_DEBUG && !verbose)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (getenv("JOURNAL_STREAM"))
		n = (size_t)snprintf(line, sizeof(line), "<%d>", (int)level);
	log_escape(line + n, sizeof(line) - n - 1, text);
	n = strlen(line);
	line[n++] = '\n';
	do {
		written = write(STDERR_FILENO, line, n);
	} while (written < 0 && errno == EINTR);
	errno = saved;
}
