/* mirror_prog.c - a program to be mirrored: has memory of every kind, and does with it what it is told, a line a time
 *
 * usage: mirror_prog PAGES [SPREAD]
 *   PAGES   of its area of anonymous memory
 *   SPREAD  that many pages of a filler lie between two of the area's, until `unfill`: what compaction is for
 *
 * First line: READY PID AREA LIST LIST-SUM DATA BSS STACK (addresses hexadecimal; AREA has PAGES pages, LIST is the first
 * of LIST_NODES nodes, DATA and BSS have DATA_PAGES pages).  Then for each line of standard input one line comes back; numbers
 * there and here are hexadecimal:
 *
 *   sum A N        FNV-1a of N bytes         peek A         the 64-bit word         poke A V     stores it
 *   fill A N SEED  pages, each with words of its own          scribble A N SEED  the same, from another thread
 *   even A N       N pages that are all the same             tonode A N NODE    asks the kernel to move N pages to a NUMA node
 *   chain A N      makes a list of N pages, a node at the start of each
 *   munmap A N     dontneed A N    advise A N ADVICE          move A N TO (mremap, fixed)     map A N (anonymous, fixed, touched)
 *   brk DELTA      the new break   unfill                     fork      PID of a child that waits     reap   ends it
 *   spin 0|1       threads that count, each its own word; answers with what was counted
 *   exec           becomes sleep(1)                           exit CODE
 *
 * Answers: OK VALUE, or ERR ERRNO.  End of input ends it.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vm/translate.h"

#define PAGE 4096ul
#define LIST_NODES 300u
#define DATA_PAGES 3u

struct node {
	struct node *next;
	uint64_t value;
	uint64_t pad[14];
};

static uint64_t data[DATA_PAGES * PAGE / 8] __attribute__((aligned(4096))) = {1, 2, 3};
static uint64_t bss[DATA_PAGES * PAGE / 8] __attribute__((aligned(4096)));
static uint8_t *filler;
static size_t filler_bytes;
static _Atomic uint64_t counted;
static atomic_bool spinning;
static pthread_t spinner[2];
static pid_t child;

static uint64_t fnv(const uint8_t *p, uint64_t bytes)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	for (uint64_t i = 0; i < bytes; i++)
		sum = (sum ^ p[i]) * UINT64_C(0x100000001b3);
	return sum;
}

static void fill(uint64_t *p, uint64_t pages, uint64_t seed)
{
	for (uint64_t i = 0; i < pages; i++)
		for (uint64_t k = 0; k < 8; k++)
			p[i * (PAGE / 8) + k * 61] = translate_word(seed, 8 * i + k);
}

static struct node *make_list(uint64_t *sum)
{
	struct node *node[LIST_NODES], *first = NULL;

	*sum = 0;
	for (uint64_t i = 0; i < LIST_NODES; i++)
		node[i] = malloc(sizeof(*node[i]) + i % 7 * 100);
	for (uint64_t i = 0; i < LIST_NODES; i++) {
		struct node *n = node[i * 77 % LIST_NODES];

		*n = (struct node){.next = first, .value = translate_word(7, i)};
		*sum += n->value;
		first = n;
	}
	return first;
}

static void *spin(void *unused)
{
	(void)unused;
	while (spinning) {
		counted++;
		bss[1]++; /* plain stores, for the mirror to see */
		usleep(50);
	}
	return NULL;
}

static int to_node(uint64_t at, uint64_t pages, int node)
{
	void **page = calloc(pages, sizeof(*page));
	int *to = calloc(pages, sizeof(*to)), *status = calloc(pages, sizeof(*status)), err = ENOMEM;

	for (uint64_t i = 0; page && to && status && i < pages; i++) {
		page[i] = (void *)(at + i * PAGE);
		to[i] = node;
	}
	if (page && to && status)
		err = syscall(SYS_move_pages, 0, pages, page, to, status, MPOL_MF_MOVE) < 0 ? errno : 0;
	free(page);
	free(to);
	free(status);
	return err;
}

static void chain(uint64_t at, uint64_t pages)
{
	for (uint64_t i = 0; i < pages; i++)
		*(struct node *)(at + i * PAGE) = (struct node){.next = i + 1 < pages ? (struct node *)(at + (i + 1) * PAGE) : NULL, .value = i};
}

struct scribble {
	uint64_t at, pages, seed;
};

static void *scribble(void *arg)
{
	struct scribble *s = arg;

	fill((uint64_t *)s->at, s->pages, s->seed);
	return NULL;
}

static uint64_t do_spin(uint64_t on)
{
	if (on && !spinning) {
		spinning = true;
		for (int i = 0; i < 2; i++)
			pthread_create(&spinner[i], NULL, spin, NULL);
	} else if (!on && spinning) {
		spinning = false;
		for (int i = 0; i < 2; i++)
			pthread_join(spinner[i], NULL);
	}
	return counted;
}

static uint64_t do_fork(void)
{
	child = fork();
	if (!child)
		for (;;)
			pause();
	return (uint64_t)child;
}

/* Return: 0 and *value, or an errno. */
static int obey(const char *verb, uint64_t a, uint64_t b, uint64_t c, uint64_t *value)
{
	struct scribble s = {a, b, c};
	pthread_t other;

	errno = 0;
	if (!strcmp(verb, "sum"))
		*value = fnv((uint8_t *)a, b);
	else if (!strcmp(verb, "peek"))
		*value = *(volatile uint64_t *)a;
	else if (!strcmp(verb, "poke"))
		*(volatile uint64_t *)a = b;
	else if (!strcmp(verb, "fill"))
		fill((uint64_t *)a, b, c);
	else if (!strcmp(verb, "even"))
		memset((void *)a, 0x5a, b * PAGE);
	else if (!strcmp(verb, "tonode"))
		return to_node(a, b, (int)c);
	else if (!strcmp(verb, "chain"))
		chain(a, b);
	else if (!strcmp(verb, "scribble"))
		return pthread_create(&other, NULL, scribble, &s) || pthread_join(other, NULL);
	else if (!strcmp(verb, "munmap"))
		return munmap((void *)a, b * PAGE) ? errno : 0;
	else if (!strcmp(verb, "dontneed"))
		return madvise((void *)a, b * PAGE, MADV_DONTNEED) ? errno : 0;
	else if (!strcmp(verb, "advise"))
		return madvise((void *)a, b * PAGE, (int)c) ? errno : 0;
	else if (!strcmp(verb, "move"))
		return mremap((void *)a, b * PAGE, b * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)c) == MAP_FAILED ? errno : 0;
	else if (!strcmp(verb, "map"))
		return mmap((void *)a, b * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE,
			    -1, 0) == MAP_FAILED ? errno : 0;
	else if (!strcmp(verb, "brk"))
		*value = sbrk((intptr_t)a) == (void *)-1 ? 0 : (uint64_t)sbrk(0);
	else if (!strcmp(verb, "unfill"))
		return munmap(filler, filler_bytes) ? errno : 0;
	else if (!strcmp(verb, "fork"))
		*value = do_fork();
	else if (!strcmp(verb, "reap"))
		return kill(child, SIGKILL) || waitpid(child, NULL, 0) != child ? errno : 0;
	else if (!strcmp(verb, "spin"))
		*value = do_spin(a);
	else if (!strcmp(verb, "exec"))
		return execl("/bin/sleep", "sleep", "1000", NULL) ? errno : 0;
	else if (!strcmp(verb, "exit"))
		exit((int)a);
	else
		return EINVAL;
	return 0;
}

int main(int argc, char **argv)
{
	const size_t pages = argc > 1 ? strtoul(argv[1], NULL, 0) : 256, spread = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
	uint64_t *area = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), sum, a, b, c;
	char line[256], verb[16];
	struct node *list;

	filler_bytes = pages * spread * PAGE;
	filler = spread ? mmap(NULL, filler_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
	if (area == MAP_FAILED || filler == MAP_FAILED)
		return 2;
	madvise(area, pages * PAGE, MADV_NOHUGEPAGE);
	if (spread)
		madvise(filler, filler_bytes, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages; i++) {
		fill(area + i * (PAGE / 8), 1, i);
		for (size_t j = 0; j < spread; j++)
			filler[(i * spread + j) * PAGE] = 1;
	}
	fill(data, DATA_PAGES, 11);
	fill(bss, DATA_PAGES, 12);
	list = make_list(&sum);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("READY %d %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n", getpid(), (uint64_t)area,
	       (uint64_t)list, sum, (uint64_t)data, (uint64_t)bss, (uint64_t)&sum);
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t value = 0;
		int err;

		a = b = c = 0;
		if (sscanf(line, "%15s %" SCNx64 " %" SCNx64 " %" SCNx64, verb, &a, &b, &c) < 1)
			continue;
		err = obey(verb, a, b, c, &value);
		if (err)
			printf("ERR %x\n", (unsigned int)err);
		else
			printf("OK %" PRIx64 "\n", value);
	}
	return 0;
}
