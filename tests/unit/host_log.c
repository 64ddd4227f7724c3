/* host_log.c - lines of the host's log: what a guest can put into them, and how many it can have written */
#include "runtime/host/log.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"

#define PROCESSES 4
#define LINES_EACH 1000

static int log_fd;

/* What has been written since the last time; the number of its lines. */
static unsigned int take(const char **text)
{
	static char all[1 << 20];
	ssize_t n = pread(log_fd, all, sizeof(all) - 1, 0);
	unsigned int lines = 0;

	all[n > 0 ? n : 0] = 0;
	for (const char *at = all; (at = strchr(at, '\n')); at++)
		lines++;
	if (ftruncate(log_fd, 0))
		err(2, "ftruncate");
	*text = all;
	return lines;
}

int main(void)
{
	struct log_budget *budget = mmap(NULL, sizeof(*budget), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *text;
	char want[128];

	unsetenv("JOURNAL_STREAM");
	log_fd = memfd_create("log", MFD_CLOEXEC);
	if (log_fd < 0 || fcntl(log_fd, F_SETFL, O_APPEND) || dup2(log_fd, 2) < 0 || budget == MAP_FAILED)
		err(2, "a log");

	log_line(LOG_LEVEL_ERR, "%s", "/bin/\x1b[2J\x9b" "a\r\nvm one: gone\\");
	tap_eq(take(&text), 1, "a name with newlines is one line");
	tap_ok(!strcmp(text, "/bin/\\x1b[2J\\x9ba\\x0d\\nvm one: gone\\\\\n"), "and nothing in it talks to a terminal: %s", text);

	fflush(stdout);
	for (int i = 0; i < PROCESSES; i++)
		if (!fork()) {
			log_share(budget, "vm one");
			for (int k = 0; k < LINES_EACH; k++)
				log_line(LOG_LEVEL_WARNING, "the guest wants to be heard");
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	tap_eq(take(&text), LOG_BUDGET_LINES, "the processes of a VM together write as many lines as there may be");
	log_line(LOG_LEVEL_WARNING, "another VM");
	tap_eq(take(&text), 1, "who does not belong to them is not limited");

	log_share(budget, "vm one");
	log_line(LOG_LEVEL_WARNING, "too many still");
	tap_eq(take(&text), 0, "they wait for the next period");
	budget->since_s -= LOG_BUDGET_S;
	log_line(LOG_LEVEL_WARNING, "a period later");
	snprintf(want, sizeof(want), "vm one: %u lines were left out", PROCESSES * LINES_EACH + 1 - LOG_BUDGET_LINES);
	tap_eq(take(&text), 2, "which begins with how many were left out");
	tap_ok(strstr(text, want) && strstr(text, "\na period later\n"), "and goes on: %s", text);
	log_share(NULL, NULL);
	return tap_done();
}
