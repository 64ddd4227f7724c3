/* collect_pages - a process whose page table is known
 *
 * usage: collect_pages PAGES   maps PAGES pages and touches every other one; prints what its page table holds, then waits
 *                              for the end of standard input
 *
 * What it prints, "present N runs R mapped M swapped S", it counts itself, entry by entry with one pread() each, in the
 * most simple-minded way: this is the other derivation that dscollect's numbers are compared with.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

static uint64_t present, runs, mapped, swapped;
static uint64_t last_vpn, last_pfn;

static void count_page(int pagemap, uint64_t vpn)
{
	uint64_t word, pfn;

	if (pread(pagemap, &word, 8, (off_t)(vpn * 8)) != 8)
		exit(2);
	mapped++;
	swapped += word >> 62 & 1;
	if (!(word >> 63))
		return;
	pfn = word & ((UINT64_C(1) << 55) - 1);
	present++;
	if (vpn != last_vpn + 1 || pfn != last_pfn + 1)
		runs++;
	last_vpn = vpn;
	last_pfn = pfn;
}

/* maps is read before anything is counted: reading must not change what is counted. */
static void count_all(void)
{
	static char maps[1 << 16], line[512];
	int fd = open("/proc/self/maps", O_RDONLY), pagemap = open("/proc/self/pagemap", O_RDONLY);
	size_t have = 0;
	ssize_t n;

	memset(maps, 1, sizeof(maps));
	while ((n = read(fd, maps + have, sizeof(maps) - 1 - have)) > 0)
		have += (size_t)n;
	maps[have] = '\0';
	present = runs = mapped = swapped = 0;
	last_vpn = last_pfn = UINT64_MAX - 1;
	for (char *at = maps; *at; at = strchr(at, '\n') + 1) {
		uint64_t start, end;
		size_t length = strcspn(at, "\n");

		memcpy(line, at, length < 511 ? length : 511);
		line[length < 511 ? length : 511] = '\0';
		sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end);
		if (strstr(line, "[vdso]") || strstr(line, "[vvar") || strstr(line, "[vsyscall]"))
			continue;
		for (uint64_t vpn = start / PAGE; vpn < end / PAGE; vpn++)
			count_page(pagemap, vpn);
	}
	close(fd);
	close(pagemap);
}

int main(int argc, char **argv)
{
	size_t pages = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
	char text[128], byte;
	char *area;
	int n;

	area = mmap(NULL, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (area == MAP_FAILED)
		return 2;
	madvise(area, pages * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages; i += 2)
		area[i * PAGE] = 1;
	/* Everything once for nothing: code that runs for the first time after the counting would bring pages with it. */
	count_all();
	n = snprintf(text, sizeof(text), "present %" PRIu64 " runs %" PRIu64 " mapped %" PRIu64 " swapped %" PRIu64 "\n", present, runs,
		     mapped, swapped);
	if (write(STDOUT_FILENO, text, 0) < 0 || read(STDIN_FILENO, &byte, 0) < 0 || n < 0)
		return 2;
	count_all();
	n = snprintf(text, sizeof(text), "present %" PRIu64 " runs %" PRIu64 " mapped %" PRIu64 " swapped %" PRIu64 "\n", present, runs,
		     mapped, swapped);
	if (write(STDOUT_FILENO, text, n) != n)
		return 2;
	return read(STDIN_FILENO, &byte, 1) < 0;
}
