/* agent_log.h - lines for the journal, or for whoever started dsagent
 *
 * A line is one write() to standard error, so lines of several processes do not mix.  Under systemd (JOURNAL_STREAM is set) it
 * begins with its priority as sd-daemon(3) says.  Names that come from programs may hold any bytes: agent_log_name() makes
 * them harmless first, and whatever comes to a line in another way is made so there: a line is printable ASCII.
 *
 * Everybody may connect to dsagent, and some of what they can do then is worth a line each time: agent_log_may() keeps one
 * user from filling the journal, which has a limit for all of dsagent.
 */
#ifndef GUEST_AGENT_LOG_H
#define GUEST_AGENT_LOG_H

#include <stddef.h>
#include <stdint.h>

/** agent_log() - Log a line. @priority: LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO or LOG_DEBUG of syslog(3), which needs --verbose. */
__attribute__((format(printf, 2, 3))) void agent_log(int priority, const char *fmt, ...);

#define AGENT_LOG_USER_LINES 100
#define AGENT_LOG_USER_MS 30000

/**
 * agent_log_may() - Whether a line that user @uid has caused, and can cause as often as they like, is to be written
 *
 * AGENT_LOG_USER_LINES in AGENT_LOG_USER_MS, any number for root.  Says once in that time that lines are left out.
 */
int agent_log_may(uint32_t uid);

/** agent_log_verbose() - Whether LOG_DEBUG lines are written. */
void agent_log_verbose(int on);

/**
 * agent_log_name() - A name with everything that is not printable ASCII, and quotes, replaced by '?'
 * @out: terminated
 * @size: of @out
 *
 * Return: @out.
 */
const char *agent_log_name(char *out, size_t size, const char *name);

/** agent_now_ms() - CLOCK_MONOTONIC in milliseconds. */
int64_t agent_now_ms(void);

#endif
