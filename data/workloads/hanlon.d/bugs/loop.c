/* loop.c - bug: an unsigned counter is never below zero, so this does not end; the course's shells allow 1 s of it */
#include <stdio.h>

int main(void)
{
	unsigned i;
	volatile unsigned long sum = 0;

	for (i = 10; i >= 0; i--)
		sum += i;
	printf("%lu\n", sum);
	return 0;
}
