/* useafter.c - bug: reads a string after it was freed, and frees it twice if asked to */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	char *s = strdup("a string of some length that malloc keeps in a bin");

	(void)argv;
	free(s);
	printf("%c\n", s[20]);
	if (argc > 1)
		free(s);
	return 0;
}
