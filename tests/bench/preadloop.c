/* preadloop.c - the baseline: the least that any reader of page tables must do
 *
 * usage: preadloop PID... | all
 * For each process: open maps and pagemap, read maps, read the words of every mapping in 64 KiB blocks.  Nothing is
 * done with them.  Prints the number of words.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char maps[16 << 20];
static uint64_t words[8192];

static unsigned long one(const char *pid)
{
	char path[64];
	unsigned long n = 0, from, to;
	size_t have = 0;
	ssize_t got;
	int m, p;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	m = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%s/pagemap", pid);
	p = open(path, O_RDONLY);
	while (m >= 0 && (got = read(m, maps + have, sizeof(maps) - 1 - have)) > 0)
		have += got;
	maps[have] = 0;
	for (char *line = maps; p >= 0 && *line; line = strchr(line, '\n') + 1) {
		char *at;

		from = strtoul(line, &at, 16);
		to = strtoul(at + 1, NULL, 16);
		if (from >> 47)
			break;
		for (unsigned long vpn = from / 4096; vpn < to / 4096;) {
			unsigned long want = to / 4096 - vpn < 8192 ? to / 4096 - vpn : 8192;

			got = pread(p, words, want * 8, vpn * 8);
			if (got < 8)
				break;
			vpn += got / 8;
			n += got / 8;
		}
	}
	close(m);
	close(p);
	return n;
}

int main(int argc, char **argv)
{
	unsigned long n = 0;

	if (argc == 2 && !strcmp(argv[1], "all")) {
		DIR *d = opendir("/proc");
		struct dirent *e;

		while (d && (e = readdir(d)))
			if (e->d_name[0] >= '1' && e->d_name[0] <= '9')
				n += one(e->d_name);
	} else {
		for (int i = 1; i < argc; i++)
			n += one(argv[i]);
	}
	printf("%lu\n", n);
	return 0;
}
