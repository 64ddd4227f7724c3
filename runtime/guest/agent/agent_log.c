/* agent_log.c - lines for the journal; see agent_log.h */
#include "runtime/guest/agent/agent_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define USERS 64 /* that are remembered at a time */

static int verbose;

void agent_log_verbose(int on)
{
	verbose = on;
}

void agent_log(int priority, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n = 0, m;

	if (priority == LOG_DEBUG && !verbose)
		return;
	if (getenv("JOURNAL_STREAM"))
		n = snprintf(line, sizeof(line), "<%d>", priority);
	else
		n = snprintf(line, sizeof(line), "dsagent: ");
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	if (m < 0)
		return;
	m = n + m < (int)sizeof(line) - 1 ? n + m : (int)sizeof(line) - 2;
	for (; n < m; n++)
		if (line[n] < ' ' || line[n] > '~')
			line[n] = '?';
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* there is nowhere to complain */
}

int agent_log_may(uint32_t uid)
{
	static struct {
		int64_t until_ms;
		uint32_t uid, lines;
	} user[USERS], *u;
	const int64_t now = agent_now_ms();

	if (!uid)
		return 1;
	u = NULL;
	for (size_t i = 0; i < USERS; i++) {
		if (user[i].until_ms > now && user[i].uid == uid) {
			u = &user[i];
			break;
		}
		if (user[i].until_ms <= now)
			u = &user[i];
	}
	if (!u) /* so many at once can only be one who has them all */
		return 0;
	if (u->until_ms <= now) {
		u->until_ms = now + AGENT_LOG_USER_MS;
		u->uid = uid;
		u->lines = 0;
	}
	if (u->lines <= AGENT_LOG_USER_LINES && u->lines++ == AGENT_LOG_USER_LINES)
		agent_log(LOG_WARNING, "no more lines that uid %u causes for up to %d s", uid, AGENT_LOG_USER_MS / 1000);
	return u->lines <= AGENT_LOG_USER_LINES;
}

const char *agent_log_name(char *out, size_t size, const char *name)
{
	size_t i;

	for (i = 0; name[i] && i + 1 < size; i++)
		out[i] = name[i] >= ' ' && name[i] <= '~' && name[i] != '"' && name[i] != '\\' ? name[i] : '?';
	out[i] = '\0';
	return out;
}

int64_t agent_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}
