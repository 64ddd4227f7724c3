/* overrun.c - bug: writes one past the end of an array on the heap, in a function called deep down */
#include <stdio.h>
#include <stdlib.h>

static void fill(int *a, int n, int depth)
{
	volatile char frame[4096];

	frame[depth % sizeof frame] = 1;
	if (depth > 0)
		fill(a, n, depth - 1);
	else
		for (int i = 0; i <= n; i++)
			a[i] = i;
}

int main(void)
{
	int *a = malloc(100 * sizeof *a);

	fill(a, 100, 200);
	printf("%d\n", a[99]);
	free(a);
	return 0;
}
