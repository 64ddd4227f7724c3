/* known_pages.c - a process with an area of known pages, which changes them on command
 *
 * usage: known_pages
 * Maps 16 private anonymous pages between two holes, and prints "ready PID ADDRESS" (hexadecimal).  Each line of its
 * standard input is a command for one page of the area; it answers "done" to each, and ends with its input:
 *   touch I   write to it      drop I   give its frame back      protect I   make it read-only
 * Its standard input and output are not buffered, so that the rest of its memory stays as it is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <signal.h>
#include <unistd.h>

#define PAGE 4096ul
#define NPAGES 16

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		exit(2);
}

int main(void)
{
	char *area = mmap(NULL, (NPAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static char line[256];
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (area == MAP_FAILED || mprotect(area + PAGE, NPAGES * PAGE, PROT_READ | PROT_WRITE))
		return 2;
	area += PAGE;
	madvise(area, NPAGES * PAGE, MADV_NOHUGEPAGE);
	snprintf(line, sizeof(line), "ready %d %lx\n", getpid(), (unsigned long)area);
	say(line);
	while ((n = read(0, line, sizeof(line) - 1)) > 0) {
		char *page = strchr(line, ' ');

		line[n] = '\0';
		if (!page)
			return 2;
		page = area + strtoul(page, NULL, 10) % NPAGES * PAGE;
		if (line[0] == 't')
			memset(page, 1, PAGE);
		else if (line[0] == 'd')
			madvise(page, PAGE, MADV_DONTNEED);
		else if (line[0] == 'p')
			mprotect(page, PAGE, PROT_READ);
		say("done\n");
	}
	return 0;
}
