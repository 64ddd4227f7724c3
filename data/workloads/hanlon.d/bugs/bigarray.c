/* bigarray.c - an array far larger than what is used of it: bigarray MEGABYTES STRIDE touches a byte every STRIDE */
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	size_t bytes = (size_t)(argc > 1 ? atoi(argv[1]) : 64) << 20, stride = argc > 2 ? (size_t)atoi(argv[2]) : 4096, i;
	char *a;

	if (bytes > (size_t)512 << 20 || stride == 0 || !(a = malloc(bytes)))
		return 1;
	for (i = 0; i < bytes; i += stride)
		a[i] = 1;
	printf("enter to end> ");
	fflush(stdout);
	getchar();
	return 0;
}
