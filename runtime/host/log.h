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
#include <stdint.h>

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

#define LOG_BUDGET_LINES 2000u /* a VM with 100 shadows that start and end needs some hundred */
#define LOG_BUDGET_S 30u

/**
 * struct log_budget - Lines that some processes may write together in LOG_BUDGET_S
 *
 * A guest can cause a line with each stream that it opens, thousands a second, and whoever keeps the log (a journal has a
 * limit for all of dshost, a disk is full once) then loses the lines about other VMs.  So the processes of a VM share one of
 * these, in memory that they share; zeroed it is full.  Two processes that begin a new period at the same time may write a few
 * lines more.
 */
struct log_budget {
	uint64_t since_s; /* CLOCK_MONOTONIC; 0: no line yet */
	uint32_t lines;	  /* asked for since then, written or not */
	uint32_t zero;
};

/**
 * log_share() - This process and those that it forks write within @budget from now on
 * @budget: shared memory that stays; NULL: no limit, as at the start
 * @whose: "vm NAME", for the line that says how many were left out; stays
 *
 * That line is written when the next period's first one is.
 */
void log_share(struct log_budget *budget, const char *whose);

/** log_verbose() - Whether LOG_LEVEL_DEBUG is written too; 0 at the start. */
void log_verbose(int on);

#endif
