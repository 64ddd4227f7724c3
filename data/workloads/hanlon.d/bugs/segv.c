/* segv.c - bug: the table of pointers is one too short and its end is never looked for */
#include <stdio.h>
#include <string.h>

static size_t total(const char **words)
{
	size_t n = 0;
	int i;

	for (i = 0; i < 1000000; i++)
		n += strlen(words[i]);
	return n;
}

int main(void)
{
	const char *words[] = { "one", "two", "three", NULL };

	printf("%zu\n", total(words));
	return 0;
}
