/* cpu.c - whole-process CPU time of commands, taken in turns
 *
 * usage: cpu [-k] RUNS NAME COMMAND [NAME COMMAND]...     (COMMAND: one shell word list, run with sh -c exec)
 * Runs every command RUNS times, one after the other in each round so that drift of the machine hits all alike, and
 * prints "NAME user+sys-median-us wall-median-us max-rss-KiB" a line.  CPU time includes children that were waited for.
 * A command that fails ends it all; with -k, " status N" is added to its line instead.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/median.h"

static double us(struct timeval t)
{
	return t.tv_sec * 1e6 + t.tv_usec;
}

int main(int argc, char **argv)
{
	bool keep_going = argc > 1 && !strcmp(argv[1], "-k");

	argc -= keep_going;
	argv += keep_going;
	int runs = argc > 1 ? atoi(argv[1]) : 0, n = (argc - 2) / 2;

	if (runs < 1 || n < 1)
		return fprintf(stderr, "usage: cpu [-k] RUNS NAME COMMAND [NAME COMMAND]...\n"), 1;
	double *cpu = calloc((size_t)runs * n, sizeof(*cpu)), *wall = calloc((size_t)runs * n, sizeof(*wall));
	long *rss = calloc(n, sizeof(*rss));
	int *failed = calloc(n, sizeof(*failed));

	for (int r = 0; cpu && wall && rss && failed && r < runs; r++) {
		for (int i = 0; i < n; i++) {
			double start;
			struct rusage ru;
			int status;

			start = bench_now_us();
			pid_t pid = fork();

			if (!pid) {
				char line[4096];
				int null = open("/dev/null", O_WRONLY);

				dup2(null, STDOUT_FILENO);
				if (keep_going)
					dup2(null, STDERR_FILENO);
				snprintf(line, sizeof(line), "exec %s", argv[3 + 2 * i]);
				execl("/bin/sh", "sh", "-c", line, NULL);
				_exit(127);
			}
			wait4(pid, &status, 0, &ru);
			wall[i * runs + r] = bench_now_us() - start;
			failed[i] = status ? status : failed[i];
			if (status && !keep_going) {
				fprintf(stderr, "cpu: %s ended with status %d: %s\n", argv[2 + 2 * i], status, argv[3 + 2 * i]);
				return 2;
			}
			cpu[i * runs + r] = us(ru.ru_utime) + us(ru.ru_stime);
			if (ru.ru_maxrss > rss[i])
				rss[i] = ru.ru_maxrss;
		}
	}
	for (int i = 0; i < n; i++) {
		printf("%s %.0f %.0f %ld", argv[2 + 2 * i], bench_median(cpu + i * runs, runs), bench_median(wall + i * runs, runs), rss[i]);
		if (failed[i])
			printf(" status %d", WIFEXITED(failed[i]) ? WEXITSTATUS(failed[i]) : 128 + WTERMSIG(failed[i]));
		putchar('\n');
	}
	return 0;
}
