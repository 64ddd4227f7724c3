/* program.c - the program of the demo: a linked list of lines in its heap, and a shadow on the host that works on them
 *
 * Runs in the guest.  What it prints for runtime/demo/run to read begins with @; everything else is for people.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/guest/lib/dsguest.h"

#define GREETING_BYTES 120
#define PATIENCE_MS 30000

struct node {
	struct node *next;
	char *text;
	uint64_t changed; /* letters, filled in by the service (runtime/services/upper.c) */
};

static const char *const lines[] = {"a page table is", "a short list of runs", "of pages that follow", "each other in memory"};

static struct node *make_list(void)
{
	struct node *first = NULL;

	for (size_t i = sizeof(lines) / sizeof(*lines); i--;) {
		struct node *n = malloc(sizeof(*n));

		if (!n)
			exit(2);
		free(malloc(100 + 50 * i)); /* the heap is no array */
		*n = (struct node){.next = first, .text = strdup(lines[i])};
		first = n;
	}
	return first;
}

static void print_list(const struct node *n)
{
	for (; n; n = n->next)
		printf("           node %p -> text %p  \"%s\"\n", (const void *)n, (const void *)n->text, n->text);
}

/* The line of /proc/self/maps that holds an address. */
static void print_mapping(const void *address)
{
	FILE *f = fopen("/proc/self/maps", "r");
	uintptr_t from, to;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &from, &to) == 2 && from <= (uintptr_t)address && (uintptr_t)address < to)
			printf("           /proc/%d/maps: %s", getpid(), line);
	if (f)
		fclose(f);
}

int main(void)
{
	struct node *list = make_list();
	char *greeting = calloc(1, GREETING_BYTES);
	struct {
		uint64_t nodes, letters;
		int64_t error;
	} answer = {0};
	int r;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("@say the guest's process %d has a list in its heap:\n", getpid());
	print_list(list);
	print_mapping(list);
	r = dsguest_shadow("upper", DSGUEST_EAGER, NULL);
	if (r) {
		printf("@fail the program did not get a shadow: %s (%s)\n", dsguest_why(), strerror(-r));
		return 1;
	}
	printf("@shadow %d %" PRIxPTR " %" PRIxPTR "\n", getpid(), (uintptr_t)list, (uintptr_t)greeting);
	for (int ms = 0; ms < PATIENCE_MS && !*(volatile char *)greeting; ms += 10)
		usleep(10000);
	printf("@say the guest's process finds at %p what nobody in the guest wrote: \"%.*s\"\n", (void *)greeting, GREETING_BYTES - 1, greeting);
	if (dsguest_call(&list, sizeof(list), &answer, sizeof(answer)) != sizeof(answer) || answer.error) {
		printf("@fail the service did not answer: %s\n", dsguest_why());
		return 1;
	}
	printf("@say it sends the address of its list to the service on the host, which follows the pointers and writes capitals:\n");
	print_list(list);
	printf("           %" PRIu64 " nodes, %" PRIu64 " letters changed, says the service\n", answer.nodes, answer.letters);
	printf("@done %d\n", answer.nodes == sizeof(lines) / sizeof(*lines) && greeting[0] && !strcmp(list->text, "A PAGE TABLE IS"));
	return 0;
}
