/* capsule_kernel.c - what the capsule (runtime/shadow) relies on, on the running kernel
 *
 * Each assumption is proved in a child of its own, with plain system calls; a kernel on which one does not hold cannot
 * run shadows, and this says which.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/in_child.h"

#define PAGE 4096ul
#define NR_MSEAL 462	/* Linux 6.10 */
#define RSEQ_SIGNATURE 0x53053053
#define SA_RESTORER_FLAG 0x04000000ul

/* --- life without vdso and the first stack ----------------------------------------------------------------------- */

static volatile int seen;

static void on_signal(int signal)
{
	seen += signal;
}

__asm__(".text\nown_restorer:\n\tmov $15, %eax\n\tsyscall\n");
extern char own_restorer[] __attribute__((visibility("hidden")));

static int without_vdso(void)
{
	const struct {
		void (*handler)(int);
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} act = {on_signal, SA_RESTORER_FLAG, own_restorer, 0};
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to, found[8][2];
	struct timespec ts;
	char line[512];
	int n = 0;

	while (f && n < 8 && fgets(line, sizeof(line), f))
		if ((strstr(line, "[vdso]") || strstr(line, "[vvar")) && sscanf(line, "%lx-%lx", &from, &to) == 2)
			found[n][0] = from, found[n++][1] = to;
	if (!n)
		return 2;
	for (int i = 0; i < n; i++)
		if (syscall(SYS_munmap, found[i][0], found[i][1] - found[i][0]))
			return 3;
	if (syscall(SYS_rt_sigaction, SIGUSR1, &act, NULL, 8) || syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1))
		return 4;
	if (seen != SIGUSR1)
		return 5;
	return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) ? 6 : 0;
}

/* What mirror_only() would meet where the vdso is sealed (CONFIG_MSEAL_SYSTEM_MAPPINGS). */
static int sealed(void)
{
	char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (syscall(NR_MSEAL, p + PAGE, PAGE, 0)) {
		*why = "the kernel has no mseal (6.10)";
		return SKIPPED;
	}
	p[0] = 1, p[2 * PAGE] = 2;
	if (munmap(p, 3 * PAGE) == 0 || errno != EPERM)
		return 2;
	return p[0] == 1 && p[2 * PAGE] == 2 ? 0 : 3;
}

static int rseq_is_exclusive(void)
{
	static char area[64] __attribute__((aligned(64)));

	/* glibc has registered its own in this process (2.35), so that another must be refused */
	if (syscall(SYS_rseq, area, 32, 0, RSEQ_SIGNATURE) == 0) {
		*why = "this C library registers no rseq area";
		return SKIPPED;
	}
	return errno == ENOSYS || errno == EINVAL || errno == EBUSY || errno == EPERM ? 0 : 2;
}

/* --- PR_SET_MM_MAP ----------------------------------------------------------------------------------------------- */

static int set_mm(void)
{
	static char name[] = "a-name";
	char *data = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint64_t at = (uint64_t)data, arg = (uint64_t)strcpy(data, name);
	const struct prctl_mm_map mm = {at, at + PAGE, at, at, at + PAGE, at + PAGE, at, arg, arg + sizeof(name), arg + sizeof(name), arg + sizeof(name),
					NULL, 0, UINT32_MAX};
	char buf[64] = "";
	int fd;

	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &mm, sizeof(mm), 0))
		return 2;
	fd = open("/proc/self/cmdline", O_RDONLY);
	if (fd < 0)
		return 3;
	return read(fd, buf, sizeof(buf)) == sizeof(name) && !strcmp(buf, name) ? 0 : 4;
}

static int set_mm_as_nobody(void)
{
	if (geteuid() == 0 && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		return 5;
	prctl(PR_SET_DUMPABLE, 1);
	return set_mm();
}

static int set_mm_in_namespace(void)
{
	if (unshare(CLONE_NEWUSER)) {
		*why = "user namespaces are not allowed here";
		return SKIPPED;
	}
	return set_mm();
}

/* --- mappings ---------------------------------------------------------------------------------------------------- */

static int noreplace(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*p = 7;
	if (mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED || errno != EEXIST)
		return 2;
	return *p == 7 ? 0 : 3;
}

static unsigned long count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static int ram(void)
{
	int fd = memfd_create("ram", 0);

	if (fd < 0 || ftruncate(fd, 16 * PAGE))
		err(2, "memfd");
	return fd;
}

#define BASE 0x200000000000ul

static void *map_page(int fd, unsigned long at, unsigned long page, unsigned long n, int prot)
{
	return mmap((void *)(BASE + at * PAGE), n * PAGE, prot, MAP_SHARED | MAP_FIXED, fd, (off_t)(page * PAGE));
}

static int merges(void)
{
	int fd = ram();
	unsigned long before = count_maps();

	map_page(fd, 0, 3, 2, PROT_READ | PROT_WRITE);
	map_page(fd, 2, 5, 1, PROT_READ | PROT_WRITE); /* continues both: one mapping */
	if (count_maps() != before + 1)
		return 2;
	map_page(fd, 3, 6, 1, PROT_READ); /* another protection */
	if (count_maps() != before + 2)
		return 3;
	map_page(fd, 4, 9, 1, PROT_READ); /* another place in the file */
	return count_maps() == before + 3 ? 0 : 4;
}

/* The limit counts mappings; it is met in the middle of things, and what was mapped before stays. */
static int limit(void)
{
	unsigned long max = 0, n, before = count_maps();
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	int fd = ram();

	if (!f || fscanf(f, "%lu", &max) != 1)
		return 2;
	if (max > 200000) {
		*why = "vm.max_map_count is too high to be tried";
		return SKIPPED;
	}
	for (n = 0; n <= max; n++)
		if (map_page(fd, 2 * n, n % 16, 1, PROT_READ) == MAP_FAILED)
			break;
	if (n > max || errno != ENOMEM)
		return 3;
	if (n + before + 16 < max) /* as many as the limit says, a few of the kernel's own aside */
		return 4;
	/* and removing a whole range needs nothing */
	return munmap((void *)BASE, 2 * (n + 1) * PAGE) || count_maps() > before + 1 ? 5 : 0;
}

/* A mapping laid over the buffer of a blocked read(): the data arrives in the new page. */
static int fds[2], ram_fd;

static void *reader(void *arg)
{
	return (void *)(intptr_t)read(fds[0], arg, 5);
}

static int over_blocked_read(void)
{
	pthread_t thread;
	void *got;
	char *old_page, *page;

	ram_fd = ram();
	page = map_page(ram_fd, 0, 1, 1, PROT_READ | PROT_WRITE);
	old_page = map_page(ram_fd, 100, 1, 1, PROT_READ | PROT_WRITE);
	if (pipe(fds) || pthread_create(&thread, NULL, reader, page))
		return 2;
	usleep(20000);
	map_page(ram_fd, 0, 2, 1, PROT_READ | PROT_WRITE);
	if (write(fds[1], "hello", 5) != 5)
		return 3;
	pthread_join(thread, &got);
	return (intptr_t)got == 5 && !memcmp(page, "hello", 5) && !old_page[0] ? 0 : 4;
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

#define ROUNDS 20000
#define ENOUGH 10	/* so many, however long they take */
#define DRAIN_SECONDS 1 /* on one processor a round takes two time slices */
static volatile int handled, sent, stop;
static pid_t target_tid;

static void on_stop(int signal)
{
	(void)signal;
	handled++;
}

static void *sender(void *arg)
{
	(void)arg;
	for (int i = 1; i <= ROUNDS; i++) {
		syscall(SYS_tgkill, getpid(), target_tid, 64);
		__atomic_store_n(&sent, i, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&stop, __ATOMIC_SEQ_CST) < i)
			sched_yield();
	}
	return NULL;
}

/* After tgkill() has returned, the thread it was for gets the signal at its next system call at the latest. */
static int drained(void)
{
	const time_t end = time(NULL) + DRAIN_SECONDS;
	pthread_t thread;
	int missed = 0;

	signal(64, on_stop);
	target_tid = (pid_t)syscall(SYS_gettid);
	if (pthread_create(&thread, NULL, sender, NULL))
		return 2;
	for (int i = 1; i <= ROUNDS && (i <= ENOUGH || time(NULL) <= end); i++) {
		while (__atomic_load_n(&sent, __ATOMIC_SEQ_CST) != i)
			__builtin_ia32_pause();
		syscall(SYS_gettid);
		missed += handled != i;
		__atomic_store_n(&stop, i, __ATOMIC_SEQ_CST);
	}
	return missed ? 3 : handled < ENOUGH ? 4 : 0;
}

int main(void)
{
	holds(without_vdso, "vdso and vvar can be unmapped; signals with a restorer of one's own and raw calls work without");
	holds(sealed, "what is sealed (as a vdso may be) is not unmapped, nor anything else by the same call: EPERM");
	holds(rseq_is_exclusive, "an rseq area that somebody has registered shows: another cannot be");
	holds(set_mm, "PR_SET_MM_MAP sets what /proc/PID/cmdline shows");
	holds(set_mm_as_nobody, "without any capability too");
	holds(set_mm_in_namespace, "and in a user namespace");
	holds(noreplace, "MAP_FIXED_NOREPLACE refuses what is mapped");
	holds(merges, "mappings of a file merge when protection and offset continue, and only then");
	holds(limit, "beyond vm.max_map_count mmap() says ENOMEM, and a range can be unmapped whole");
	holds(over_blocked_read, "a mapping laid over the buffer of a blocked read() gets its data");
	holds(drained, "a signal sent by tgkill() is handled by the end of the next system call");
	return tap_done();
}
