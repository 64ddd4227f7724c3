/* leak.c - bug: builds a linked list again and again and forgets it; holds it until enter is pressed */
#include <stdio.h>
#include <stdlib.h>

struct node {
	struct node *next;
	char name[120];
};

int main(void)
{
	int round, i;

	for (round = 0; round < 40; round++) {
		struct node *head = NULL;

		for (i = 0; i < 2000; i++) {
			struct node *n = malloc(sizeof *n);

			n->next = head;
			snprintf(n->name, sizeof n->name, "node %d", i);
			head = n;
		}
	}
	printf("enter to end> ");
	fflush(stdout);
	getchar();
	return 0;
}
