/* mdriver.c - drives the allocator with random requests: mdriver SEED ROUNDS, keeps the heap until enter is pressed */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memlib.h"
#include "mm.h"

enum { LIVE = 4000, HEAP_BYTES = 64 << 20 };

int main(int argc, char **argv)
{
	static void *live[LIVE];
	static size_t size[LIVE];
	long rounds = argc > 2 ? atol(argv[2]) : 60000, i;
	size_t now = 0, peak = 0;

	srandom(argc > 1 ? (unsigned)atoi(argv[1]) : 1);
	if (mem_init(HEAP_BYTES) < 0)
		return 1;
	for (i = 0; i < rounds; i++) {
		int k = random() % LIVE;

		if (live[k]) {
			now -= size[k];
			mm_free(live[k]);
			live[k] = NULL;
			continue;
		}
		size[k] = random() % 8 ? random() % 200 + 1 : random() % 20000 + 1;
		live[k] = mm_malloc(size[k]);
		if (!live[k]) {
			printf("out of heap after %ld requests\n", i);
			break;
		}
		memset(live[k], k, size[k]);
		now += size[k];
		if (now > peak)
			peak = now;
	}
	printf("utilization %.0f%% of %zu KB\n", 100.0 * peak / mem_used(), mem_used() / 1024);
	printf("enter to end> ");
	fflush(stdout);
	getchar();
	return 0;
}
