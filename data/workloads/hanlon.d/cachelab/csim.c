/* csim.c - a set-associative LRU cache fed with the addresses of a matrix walk: csim SETS WAYS N */
#include <stdio.h>
#include <stdlib.h>

struct way {
	unsigned long tag, used;
	int valid;
};

int main(int argc, char **argv)
{
	unsigned long sets = argc > 1 ? strtoul(argv[1], NULL, 10) : 32, ways = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	unsigned long n = argc > 3 ? strtoul(argv[3], NULL, 10) : 256, hits = 0, misses = 0, evictions = 0, clock = 0, i, j, w;
	struct way *cache;

	if (sets == 0 || ways == 0 || !(cache = calloc(sets * ways, sizeof *cache)))
		return 1;
	for (i = 0; i < n; i++)
		for (j = 0; j < n; j++) {
			unsigned long block = ((j * n + i) * 8) / 32;
			struct way *set = cache + block % sets * ways, *victim = set;

			clock++;
			for (w = 0; w < ways; w++) {
				if (set[w].valid && set[w].tag == block / sets)
					break;
				if (!set[w].valid || (victim->valid && set[w].used < victim->used))
					victim = set + w;
			}
			if (w < ways) {
				hits++;
				set[w].used = clock;
				continue;
			}
			misses++;
			evictions += victim->valid;
			*victim = (struct way){ block / sets, clock, 1 };
		}
	printf("hits:%lu misses:%lu evictions:%lu\n", hits, misses, evictions);
	return 0; /* the cache is not freed: valgrind will tell */
}
