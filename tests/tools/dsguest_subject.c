/* dsguest_subject.c - a program that is run under dsrun and changes its memory in every way (tests/unit/dsguest.c)
 *
 * usage: dsguest_subject WHAT; exit status 0 when every call did what it does without a shadow.  The address of the area goes to
 * standard output first, so that the test knows what must be announced.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/lib/dsguest.h"

#define PAGE 4096ul

static char *early; /* unmapped before main() and after it */

static char *pages(size_t n)
{
	char *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(90);
	memset(p, 1, n * PAGE);
	if (getenv("SUBJECT_REFRESH")) /* the host is told of them, so it must be asked before they go */
		dsguest_refresh(p, n * PAGE);
	return p;
}

static void tell(const void *addr)
{
	char text[32];

	snprintf(text, sizeof(text), "%lx\n", (unsigned long)addr);
	if (write(1, text, strlen(text)) < 0)
		_exit(91);
}

__attribute__((constructor)) static void before(void)
{
	if (getenv("SUBJECT_EARLY")) {
		early = pages(2);
		tell(early);
		munmap(early, PAGE);
	}
}

__attribute__((destructor)) static void after(void)
{
	if (early)
		munmap(early + PAGE, PAGE);
}

static int do_munmap(void)
{
	char *p = pages(8);

	tell(p);
	errno = 77;
	if (munmap(p + 2 * PAGE, 3 * PAGE - 5) || errno != 77)
		return 1;
	if (munmap(p + 1, PAGE) != -1 || errno != EINVAL)
		return 2;
	return p[PAGE] == 1 && p[5 * PAGE] == 1 ? 0 : 3;
}

static int do_madvise(void)
{
	char *p = pages(4);

	tell(p);
	if (madvise(p, PAGE, MADV_WILLNEED) || madvise(p + PAGE, PAGE, MADV_DONTNEED))
		return 1;
	return p[0] == 1 && p[PAGE] == 0 && p[2 * PAGE] == 1 ? 0 : 2;
}

static int do_mremap(void)
{
	char *p = pages(4), *to = pages(4);

	tell(p);
	tell(to);
	if (mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to || to[3 * PAGE] != 1)
		return 1;
	if (mremap(to, 4 * PAGE, 2 * PAGE, 0) != to || to[PAGE] != 1)
		return 2;
	return mremap(to, 2 * PAGE, PAGE << 34, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM && to[0] == 1 ? 0 : 3;
}

static int do_mmap(void)
{
	char *p = pages(4);

	tell(p);
	if (mmap(p + PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p + PAGE)
		return 1;
	if (mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 1) != MAP_FAILED || errno != EINVAL)
		return 2;
	return p[PAGE] == 0 && p[0] == 1 ? 0 : 3;
}

static int do_brk(void)
{
	char *end = sbrk(0), *p;

	p = (char *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1));
	tell(p);
	if (brk(p + 4 * PAGE) || sbrk(0) != p + 4 * PAGE)
		return 1;
	memset(p, 1, 4 * PAGE);
	if (getenv("SUBJECT_REFRESH"))
		dsguest_refresh(p, 4 * PAGE);
	if (sbrk(-(intptr_t)PAGE) != p + 4 * PAGE || sbrk(0) != p + 3 * PAGE)
		return 2;
	return brk(p + PAGE) || sbrk(0) != p + PAGE || p[0] != 1 ? 3 : 0;
}

/* The child's memory is its own. */
static int do_fork(void)
{
	char *p = pages(2);
	int status;
	pid_t child;

	tell(p);
	child = fork();
	if (child == 0)
		_exit(dsguest_active() || munmap(p, PAGE) || dsguest_drop(p + PAGE, PAGE) || dsguest_stop() != -ESRCH);
	waitpid(child, &status, 0);
	return status || !dsguest_active() || munmap(p + PAGE, PAGE) ? 1 : 0;
}

#define NTHREADS 8
#define ROUNDS 40
static atomic_int wrong;

static void *unmapper(void *unused)
{
	(void)unused;
	for (int i = 0; i < ROUNDS; i++)
		if (munmap(pages(1), PAGE))
			wrong++;
	return NULL;
}

static int do_threads(void)
{
	pthread_t thread[NTHREADS];

	for (int i = 0; i < NTHREADS; i++)
		if (pthread_create(&thread[i], NULL, unmapper, NULL))
			return 1;
	for (int i = 0; i < NTHREADS; i++)
		pthread_join(thread[i], NULL);
	return wrong ? 2 : 0;
}

/* A handler unmaps something in the middle of an unmapping. */
static volatile sig_atomic_t handled;
static void handler(int sig)
{
	(void)sig;
	if (munmap(pages(1), PAGE))
		wrong++;
	handled++;
}

static int do_handler(void)
{
	struct itimerval it = {.it_value.tv_usec = 500, .it_interval.tv_usec = 500};
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	while (handled < 50)
		if (munmap(pages(1), PAGE))
			wrong++;
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	return wrong ? 1 : 0;
}

static int do_call(void)
{
	char answer[64] = "";
	long n = dsguest_call("question", 8, answer, sizeof(answer));

	if (n != 8 || memcmp(answer, "QUESTION", 8))
		return 1;
	if (dsguest_call("long", 4, answer, 2) != 4 || memcmp(answer, "LOESTION", 8))
		return 2;
	if (dsguest_call(answer, DSGUEST_MESSAGE_MAX + 1, answer, 0) != -EMSGSIZE || !*dsguest_why())
		return 3;
	return dsguest_shadow("again", DSGUEST_EAGER, NULL) == -EALREADY ? 0 : 4;
}

static int do_drop(void)
{
	char *p = pages(4);

	tell(p);
	if (dsguest_drop(p + PAGE + 5, PAGE) || dsguest_refresh(p + PAGE + 5, PAGE) || dsguest_refresh(NULL, 0))
		return 1;
	return dsguest_stop() || dsguest_active() || munmap(p, PAGE) || dsguest_stop() != -ESRCH ? 2 : 0;
}

/* As daemons do. */
static int do_closed(void)
{
	char *p = pages(2);

	for (int fd = 3; fd < 2048; fd++)
		close(fd);
	if (munmap(p, PAGE) || dsguest_active())
		return 1;
	for (int i = 0; i < 900; i++)
		dup(0);
	return munmap(p + PAGE, PAGE) ? 2 : 0;
}

/* The first change is answered by ENDED. */
static int do_ended(void)
{
	char *p = pages(2);

	if (munmap(p, PAGE) || dsguest_active())
		return 1;
	return munmap(p + PAGE, PAGE) || dsguest_drop(p, PAGE) || dsguest_call("x", 1, p, 0) != -ESRCH ? 2 : 0;
}

static int do_none(void)
{
	return dsguest_active() || munmap(pages(1), PAGE) || dsguest_call("x", 1, NULL, 0) != -ESRCH ? 1 : 0;
}

static int do_ask(void)
{
	if (dsguest_active() || dsguest_shadow("asked", DSGUEST_DEMAND, "by itself") || !dsguest_active())
		return 1;
	return dsguest_shadow("a name that is far too long to be a service's", 0, NULL) == -EINVAL ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(void);
	} whats[] = {
		{"munmap", do_munmap}, {"madvise", do_madvise}, {"mremap", do_mremap}, {"mmap", do_mmap},     {"brk", do_brk},
		{"fork", do_fork},     {"threads", do_threads}, {"handler", do_handler}, {"call", do_call},   {"drop", do_drop},
		{"closed", do_closed}, {"ended", do_ended},	{"none", do_none},     {"ask", do_ask},
	};

	const char *what = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(whats) / sizeof(whats[0]); i++)
		if (!strcmp(what, whats[i].name))
			return whats[i].fn();
	return 92;
}
