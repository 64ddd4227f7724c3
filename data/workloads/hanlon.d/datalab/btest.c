/* btest.c - tries the puzzles on interesting and on random numbers */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

int bit_xor(int x, int y);
int is_tmax(int x);
int negate(int x);
int conditional(int x, int y, int z);
int how_many_ones(int x);

static int wrong;

static void check(const char *name, int got, int want)
{
	if (got != want && wrong++ < 10)
		printf("ERROR: %s gives %d, should give %d\n", name, got, want);
}

int main(void)
{
	int edge[] = { 0, 1, -1, INT_MAX, INT_MIN, 0x55555555 };
	long i;

	for (i = 0; i < 300000; i++) {
		int x = i < 36 ? edge[i / 6] : (int)random() ^ (int)(random() << 8);
		int y = i < 36 ? edge[i % 6] : (int)random();

		check("bit_xor", bit_xor(x, y), x ^ y);
		check("is_tmax", is_tmax(x), x == INT_MAX);
		check("negate", negate(x), (int)(0u - (unsigned)x));
		check("conditional", conditional(x, y, 7), x ? y : 7);
		check("how_many_ones", how_many_ones(x), __builtin_popcount((unsigned)x));
	}
	printf("%d wrong\n", wrong);
	return wrong != 0;
}
