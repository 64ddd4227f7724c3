/* devmem_peer.c - in VM B of devmem.sh: the process whose memory is mirrored in VM A through /dev/mem
 *
 * Fills pages with a pattern, makes a linked list in mixed order, pins it all, prints "TOLD ..." (devmem.h) and "MAP blob",
 * in hexadecimal, and then talks: whatever the mirror stores in `say` is answered with a word made of it.
 *
 * Exit status: 0 the last word was said and the pattern had been changed as the mirror should; 1 not; 2 this could not be set up.
 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>

#include "tests/vm/devmem.h"
#include "tests/vm/frames.h"
#include "tests/vm/printmap.h"

#define PATIENCE_MS 120000

static uint64_t *area(size_t npages)
{
	void *p = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(2, "mmap");
	memset(p, 0, npages * PAGE);
	return p;
}

/* Nodes linked in an order that has nothing to do with their addresses.  Return: the first. */
static struct devmem_node *make_list(struct devmem_node *node, uint64_t seed)
{
	struct devmem_node *first = NULL;

	for (uint64_t i = 0; i < DEVMEM_NODES; i++) {
		struct devmem_node *n = &node[i * 331 % DEVMEM_NODES]; /* 331 and 500 share no factor */

		*n = (struct devmem_node){.next = first, .value = translate_word(seed, i)};
		first = n;
	}
	return first;
}

static int talk(struct devmem_talk *t, uint64_t seed)
{
	uint64_t last = 0;

	for (int ms = 0; ms < PATIENCE_MS; ms++) {
		uint64_t say = t->say;

		if (say == DEVMEM_DONE)
			return 0;
		if (say != last) {
			t->reply = translate_word(seed, say);
			t->seen = t->seen + 1;
			last = say;
		}
		usleep(1000);
	}
	warnx("nothing was said for two minutes");
	return 1;
}

int main(void)
{
	const size_t list_pages = (DEVMEM_NODES * sizeof(struct devmem_node) + PAGE - 1) / PAGE;
	uint64_t *pattern = area(DEVMEM_PAGES), *list = area(list_pages), *other = area(2), seed;
	struct pin pin;
	int bad = 0;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed) || pin_open(&pin))
		err(2, "no random number or no pins");
	for (uint64_t i = 0; i < DEVMEM_PAGES * TRANSLATE_WORDS; i++)
		pattern[i] = translate_word(seed, i);
	printf(DEVMEM_TOLD_FORMAT, (uint64_t)pattern, (uint64_t)other, (uint64_t)make_list((struct devmem_node *)list, seed),
	       (uint64_t)other + PAGE, seed, UINT64_C(0));
	if (frames_pin(&pin, pattern, DEVMEM_PAGES, 0).pages[PIN_DONE] != DEVMEM_PAGES ||
	    frames_pin(&pin, list, list_pages, 0).pages[PIN_DONE] != list_pages ||
	    frames_pin(&pin, other, 2, 0).pages[PIN_DONE] != 2)
		errx(2, "pages cannot be pinned");
	fflush(stdout);
	print_map(TRANSLATE_MAP_BYTES);
	if (talk((struct devmem_talk *)other, seed))
		return 1;
	for (uint64_t i = 0; i < DEVMEM_PAGES * TRANSLATE_WORDS; i++)
		bad += pattern[i] != (i % TRANSLATE_WORDS ? translate_word(seed, i) : ~translate_word(seed, i));
	if (bad)
		warnx("%d words of the pattern are not what the mirror should have made of them", bad);
	return bad ? 1 : 0;
}
