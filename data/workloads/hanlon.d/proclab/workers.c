/* workers.c - fork and pipes: N children fill a table each and report, then sleep until told to end: workers N SECONDS */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 4, seconds = argc > 2 ? atoi(argv[2]) : 20, fd[2], i;
	long sum;

	if (n < 1 || n > 16 || pipe(fd) < 0)
		return 1;
	for (i = 0; i < n; i++)
		if (fork() == 0) {
			long *table = malloc(sizeof *table * 100000 * (i + 1)), k;

			for (k = 0, sum = 0; table && k < 100000L * (i + 1); k++)
				sum += table[k] = k * k;
			if (write(fd[1], &sum, sizeof sum) < 0)
				return 1;
			sleep(seconds);
			return 0;
		}
	for (i = 0; i < n && read(fd[0], &sum, sizeof sum) == sizeof sum; i++)
		printf("a child says %ld\n", sum);
	while (wait(NULL) > 0)
		;
	return 0;
}
