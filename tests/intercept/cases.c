/* cases.c - what is hard about intercepting system calls: each case prints what it saw, the same with and without
 *
 * usage: cases [NAME...]    runs all, or those named, each in a child of its own with a time limit
 *
 * Nothing printed depends on addresses, process ids or time, so that two runs can be compared byte by byte.  The number of a
 * case that depends on Linux alone is explained where it is.
 */
#include "tests/intercept/cases.h"

#define CASE_SECONDS 20
volatile sig_atomic_t cases_hits, cases_signal, cases_code;
sigjmp_buf cases_jump;
void *volatile cases_bad = (void *)8;

void count_signal(int sig)
{
	cases_hits++;
	cases_signal = sig;
}

void count_info(int sig, siginfo_t *info, void *context)
{
	(void)context;
	cases_hits++;
	cases_signal = sig;
	cases_code = info->si_code;
}

void leave(int sig)
{
	siglongjmp(cases_jump, sig);
}

void on(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = flags};

	sigaction(sig, &sa, NULL);
}

void on_info(int sig, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};

	sigaction(sig, &sa, NULL);
}

void timer_ms(int ms, int every_ms)
{
	const struct itimerval t = {{every_ms / 1000, every_ms % 1000 * 1000}, {ms / 1000, ms % 1000 * 1000}};

	setitimer(ITIMER_REAL, &t, NULL);
}

void report_child(const char *what, pid_t pid)
{
	int status = -1;
	pid_t got;

	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	if (got != pid)
		say("%s: waitpid: %s\n", what, strerror(errno));
	else if (WIFEXITED(status))
		say("%s: exit %d\n", what, WEXITSTATUS(status));
	else
		say("%s: signal %d%s\n", what, WTERMSIG(status), WCOREDUMP(status) ? "" : "");
}

static void run(const struct cases_case *c)
{
	int status;
	pid_t pid;

	say("== %s\n", c->name);
	pid = fork();
	if (!pid) {
		alarm(CASE_SECONDS);
		c->run();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		say("the case was killed by signal %d\n", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		say("the case ended with %d\n", WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	const struct cases_case *const groups[] = {cases_signals, cases_threads, cases_processes, cases_machine, cases_odd};

	for (size_t g = 0; g < sizeof(groups) / sizeof(*groups); g++)
		for (const struct cases_case *c = groups[g]; c->name; c++) {
			bool wanted = argc == 1;

			for (int a = 1; a < argc; a++)
				wanted |= !strcmp(argv[a], c->name);
			if (wanted)
				run(c);
		}
	return 0;
}
