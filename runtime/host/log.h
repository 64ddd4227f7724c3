/* log.h - one line to standard error, whatever is in it
 *
 * Everything that the host's processes have to say goes through here, because most of it quotes a guest: a program's path, a
 * service's name.  A line is made in full, then every byte that is not printable ASCII is written as \xNN (a newline as \n,
 * a backslash as \\), so a guest can neither begin a line of its own nor talk to a terminal; it is cut at LOG_LINE_BYTES; and
 * it is written with one write(), so lines of different processes do not mix.  Under systemd (JOURNAL_STREAM is
 * set) a line begins with its priority as sd-daemon(3) wants it.
 */
#ifndef HOST_LOG_H
#define HOST_LOG_H

#include <stddef.h>

#define LOG_LINE_BYTES 1024

/** enum log_level - Priorities of syslog(3). */
enum log_level { LOG_LEVEL_ERR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/**
 * log_line() - Writes a line
 * @level: its priority
 * @fmt: as printf's; no newline at the end
 *
 * Keeps errno.  What cannot be written is lost.
 */
__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *fmt, ...);

/**
 * log_escape() - Makes any bytes fit for a line
 * @out: terminated; cut before an escape that would not fit
 * @size: of @out in bytes, at least 1
 * @in: terminated; must not overlap @out
 *
 * Return: @out.
 */
char *log_escape(char *out, size_t size, const char *in);

/** log_verbose() - Whether LOG_LEVEL_DEBUG is written too; 0 at the start. */
void log_verbose(int on);

#endif
