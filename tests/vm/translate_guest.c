/* translate_guest.c - in the guest of translate.sh: fills pages with a pattern, tells where they are, waits for the host
 *
 * Prints "PATTERN vpn npages seed" and "MAP blob", all hexadecimal: the blob is a map of this process into guest frames.
 * Then it waits until the host has changed the first word of the first page to ~seed, through the VM's RAM file.
 *
 * Exit status: 0 the host's write was seen; 1 it did not come; 2 this could not be set up.
 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "tests/vm/printmap.h"
#include "tests/vm/translate.h"

int main(void)
{
	uint64_t *area = mmap(NULL, TRANSLATE_PAGES * DS_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), seed;

	if (area == MAP_FAILED || getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		err(2, "no memory or no random number");
	for (uint64_t i = 0; i < TRANSLATE_PAGES * TRANSLATE_WORDS; i++)
		area[i] = translate_word(seed, i);
	if (mlock(area, TRANSLATE_PAGES * DS_PAGE_BYTES))
		err(2, "mlock");
	printf("PATTERN %" PRIx64 " %x %" PRIx64 "\n", (uint64_t)(uintptr_t)area >> DS_PAGE_SHIFT, TRANSLATE_PAGES, seed);
	print_map(TRANSLATE_MAP_BYTES);
	for (int i = 0; i < 1200; i++) {
		if (*(volatile uint64_t *)area == ~seed)
			return 0;
		usleep(50000);
	}
	warnx("the host's write did not come within a minute");
	return 1;
}
