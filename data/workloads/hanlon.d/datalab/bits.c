/* bits.c - bit puzzles: each function with the operators ! ~ & ^ | + << >> only */

/* bit_xor - x^y using only ~ and & */
int bit_xor(int x, int y)
{
	return ~(~(x & ~y) & ~(~x & y));
}

/* is_tmax - 1 if x is the largest int */
int is_tmax(int x)
{
	return !(~(x + 1) ^ x) & !!(x + 1);
}

/* negate - -x without - */
int negate(int x)
{
	return ~x + 1;
}

/* conditional - x ? y : z */
int conditional(int x, int y, int z)
{
	int mask = ~!!x + 1;

	return (y & mask) | (z & ~mask);
}

/* how_many_ones - population count */
int how_many_ones(int x)
{
	int n = 0, i;

	for (i = 0; i < 32; i++)
		n += (x >> i) & 1;
	return n;
}
