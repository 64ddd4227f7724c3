/* trans.c - transposes an N x N matrix, plainly and in blocks: trans N BLOCK */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void transpose(const double *a, double *b, int n, int block)
{
	int i, j, ii, jj;

	for (ii = 0; ii < n; ii += block)
		for (jj = 0; jj < n; jj += block)
			for (i = ii; i < ii + block && i < n; i++)
				for (j = jj; j < jj + block && j < n; j++)
					b[(size_t)j * n + i] = a[(size_t)i * n + j];
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 512, block = argc > 2 ? atoi(argv[2]) : 8;
	double *a, *b;
	clock_t start;
	size_t i;

	if (n <= 0 || n > 4096 || block <= 0)
		return 1;
	a = malloc(sizeof *a * n * n);
	b = malloc(sizeof *b * n * n);
	if (!a || !b)
		return 1;
	for (i = 0; i < (size_t)n * n; i++)
		a[i] = i;
	start = clock();
	transpose(a, b, n, n);
	printf("plain   %ld us\n", (long)(clock() - start));
	start = clock();
	transpose(a, b, n, block);
	printf("blocked %ld us\n", (long)(clock() - start));
	printf("enter to end> ");
	fflush(stdout);
	getchar();
	free(a);
	free(b);
	return 0;
}
