/* devmem_card.c - in VM B of devmem.sh: a program that maps a device of VM A, whose memory both VMs have at physical addresses of their own
 *
 * usage: devmem_card DEVICE ADDRESS     ADDRESS: where this machine has the card's memory
 *
 * Prints what it sees, a line each.  On A, tests/vm/guest/devmem has the card mapped by its driver and answers what is said there.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vm/devmem.h"

#define PAGE 4096u
#define PAGES 8u
#define PATIENCE_MS 60000

static sigjmp_buf back;

static void on_signal(int n)
{
	siglongjmp(back, n);
}

/* Return: the word, or the negative number of the signal that reading it got. */
static int64_t look(const volatile uint32_t *at)
{
	const int n = sigsetjmp(back, 1);

	return n ? -n : (int64_t)*at;
}

/* What this process has at @at, by the guest's kernel.  Return: whether it is /dev/mem, from @address on. */
static bool is_mem(const void *at, uint64_t address)
{
	uint64_t from, offset;
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNx64 "-%*x %*s %" SCNx64, &from, &offset) == 2 && from == (uintptr_t)at)
			found = offset == address && strstr(line, " /dev/mem");
	if (f)
		fclose(f);
	return found;
}

/* Who has the card mapped in the other VM answers.  Return: how often. */
static unsigned int talk(volatile uint32_t *m)
{
	unsigned int turns = 0;

	for (uint32_t i = 1; i <= DEVMEM_TURNS; i++) {
		m[CARD_SAY] = i;
		for (int ms = 0; ms < PATIENCE_MS && m[CARD_REPLY] != CARD_ANSWER(i); ms++)
			usleep(1000);
		turns += m[CARD_REPLY] == CARD_ANSWER(i);
	}
	return turns;
}

/* @fd: a call with it is the host's to make, which takes a shadow of the child's own. */
static void child(volatile uint32_t *m, int fd)
{
	printf("a child sees %" PRId64, look(m + CARD_PATTERN));
	printf(", after a call of its own %d:", (int)lseek(fd, 0, SEEK_CUR));
	printf(" %" PRId64 " %" PRId64 "\n", look(m + CARD_PATTERN), look(m + CARD_PATTERN + PAGE / 4));
	m[CARD_CHILD] = CARD_ANSWER(1);
	printf("it gives a page back: %d", munmap((void *)(uintptr_t)(m + PAGE / 4), PAGE));
	printf(" %" PRId64 "\n", look(m + PAGE / 4));
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_signal};
	volatile uint32_t *m;
	int fd, status = 0;
	pid_t pid;

	if (argc != 3)
		return 2;
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	fd = open(argv[1], O_RDWR);
	if (fd < 0)
		err(1, "%s", argv[1]);
	m = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		err(1, "mmap");
	printf("mapped from /dev/mem, where this machine has the card: %d\n", is_mem((const void *)(uintptr_t)m, strtoull(argv[2], NULL, 0)));
	printf("sees %" PRId64 " %" PRId64 "\n", look(m + CARD_PATTERN), look(m + CARD_PATTERN + PAGE / 4));
	printf("answers: %u\n", talk(m));
	fflush(stdout);
	pid = fork();
	if (!pid)
		child(m, fd);
	waitpid(pid, &status, 0);
	printf("the child ends: %d, its store is here: %d\n", status, m[CARD_CHILD] == CARD_ANSWER(1));
	printf("a page is given back: %d", munmap((void *)(uintptr_t)(m + 2 * PAGE / 4), PAGE));
	printf(" %" PRId64 " %" PRId64 "\n", look(m + 2 * PAGE / 4), look(m + CARD_PATTERN));
	if (mmap((void *)(uintptr_t)m, 2 * PAGES * PAGE * 64, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) /* beyond what the driver has */
		printf("too much is refused\n");
	m[CARD_LAST] = CARD_ANSWER(2);
	printf("munmap: %d\n", munmap((void *)(uintptr_t)m, PAGES * PAGE));
	printf("then %" PRId64 "\n", look(m));
	return 0;
}
