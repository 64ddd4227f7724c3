/* demand_kernel.c - waiting, waking and covering, as a mirror that faults relies on them (runtime/shadow/demand.c,
 * runtime/host/demand/demand.c), on the running kernel; demand_calls.c has the rest
 */
#include "tests/uffd.h"

/* --- who is woken, and what he finds ----------------------------------------------------------------------------- */

static volatile int finished, wrong;

static void *touch(void *page)
{
	if (word((unsigned long)page) != (unsigned long)page + 1)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static int many_threads(void)
{
	prepare();
	for (int i = 0; i < 8; i++)
		thread(touch, (void *)7);
	read_fault(uffd);
	usleep(50000); /* the others wait too: their messages are not read */
	map(7);
	wake(area + 7 * PAGE, 1);
	while (finished < 8)
		usleep(1000);
	return wrong ? 2 : has_fault() ? 3 : 0; /* who is woken takes his message with him */
}

static int wake_of_a_range(void)
{
	prepare();
	for (unsigned long i = 0; i < 8; i++)
		thread(touch, (void *)i);
	for (int i = 0; i < 8; i++)
		read_fault(uffd);
	for (unsigned long i = 0; i < 8; i++)
		map(i);
	usleep(20000);
	if (finished)
		return 2; /* a mapping alone wakes nobody */
	wake(area, 8);
	while (finished < 8)
		usleep(1000);
	return wrong ? 3 : 0;
}

/* Woken where nothing has been mapped, he asks again. */
static int woken_for_nothing(void)
{
	prepare();
	thread(touch, (void *)3);
	if (read_fault(uffd) != 3)
		return 2;
	wake(area, PAGES);
	if (read_fault(uffd) != 3 || finished)
		return 3;
	map(3);
	wake(area, PAGES);
	while (!finished)
		usleep(1000);
	return wrong;
}

static int pipe_for_thread[2];
static volatile long result;

static void *read_there(void *page)
{
	result = read(pipe_for_thread[0], area + (unsigned long)page * PAGE, 100);
	if (result < 0)
		result = -errno;
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Where the mapping goes, a wake-up makes EFAULT of it. */
static int unmapped(void)
{
	prepare();
	if (pipe(pipe_for_thread) || write(pipe_for_thread[1], area - PAGE, 0) < 0 || write(pipe_for_thread[1], "abc", 3) != 3)
		return 2;
	thread(read_there, (void *)3);
	read_fault(uffd);
	if (munmap(area, 8 * PAGE))
		return 3;
	usleep(50000);
	if (finished)
		return 4; /* he sleeps on */
	wake(area, 8);
	while (!finished)
		usleep(1000);
	return result == -EFAULT ? 0 : 5;
}

static int without_access(void)
{
	prepare();
	if (pipe(pipe_for_thread) || write(pipe_for_thread[1], "abc", 3) != 3)
		return 2;
	thread(read_there, (void *)3);
	read_fault(uffd);
	if (mmap(area + 3 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		return 3;
	wake(area, 8);
	while (!finished)
		usleep(1000);
	return result == -EFAULT ? 0 : 5;
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static volatile int signalled;

static void on_signal(int signal)
{
	(void)signal;
	signalled++;
}

static volatile pid_t reader_tid;

static void *reader(void *page)
{
	reader_tid = gettid();
	return read_there(page);
}

/* A signal for who waits inside a call neither ends the call nor is lost. */
static int signal_in_call(void)
{
	const struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	prepare();
	sigaction(SIGUSR1, &act, NULL);
	if (pipe(pipe_for_thread) || write(pipe_for_thread[1], "abc", 3) != 3)
		return 2;
	thread(reader, (void *)3);
	read_fault(uffd);
	tgkill(getpid(), reader_tid, SIGUSR1);
	usleep(20000);
	if (finished)
		return 3;
	map(3);
	wake(area, PAGES);
	while (!finished)
		usleep(1000);
	if (result != 3 || memcmp(area + 3 * PAGE, "abc", 3))
		return 4;
	return signalled == 1 ? 0 : 5;
}

static void *toucher(void *page)
{
	reader_tid = gettid();
	return touch(page);
}

/* In user mode the handler runs, then the access is tried again. */
static int signal_in_user_mode(void)
{
	const struct sigaction act = {.sa_handler = on_signal};

	prepare();
	sigaction(SIGUSR1, &act, NULL);
	thread(toucher, (void *)3);
	read_fault(uffd);
	tgkill(getpid(), reader_tid, SIGUSR1);
	if (read_fault(uffd) != 3 || signalled != 1 || finished)
		return 2;
	map(3);
	wake(area, PAGES);
	while (!finished)
		usleep(1000);
	return wrong;
}

static int end_while_waiting(void)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		prepare();
		if (pipe(pipe_for_thread) || write(pipe_for_thread[1], "abc", 3) != 3)
			_exit(2);
		thread(read_there, (void *)3);
		thread(touch, (void *)4);
		read_fault(uffd);
		read_fault(uffd);
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 2; /* in_child()'s alarm ends a child that hangs */
}

/* --- covering ---------------------------------------------------------------------------------------------------- */

/* Mappings in the area, as the kernel has merged them. */
static unsigned int mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	unsigned int n = 0;
	char line[512];

	while (f && fgets(line, sizeof(line), f))
		n += sscanf(line, "%lx-%lx", &from, &to) == 2 && from >= (uintptr_t)area && to <= (uintptr_t)area + PAGES * PAGE;
	if (f)
		fclose(f);
	return n;
}

static int covered_again(void)
{
	prepare_answered();
	for (int round = 0; round < 20; round++) {
		for (unsigned long i = 0; i < PAGES; i += 2) {
			if (round % 2)
				*(volatile uint64_t *)(area + i * PAGE + 8) = 1; /* a fault for writing is another path */
			if (word(i) != i + 1)
				return 2;
		}
		if (mappings() != PAGES)
			return 3;
		for (unsigned long i = 0; i < PAGES; i += 2)
			cover(area + i * PAGE, 1);
		if (mappings() != 1) /* else a mirror would use up its mappings */
			return 4;
	}
	return faults == 20 * PAGES / 2 ? 0 : 5;
}

static int large_cover(void)
{
	const unsigned long bytes = 1ul << 44; /* 16 TiB: what sanitizers and managed heaps reserve */
	char *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	prepare();
	if (at == MAP_FAILED) {
		*why = "there is no room for 16 TiB";
		return SKIPPED;
	}
	if (try_register(uffd, at, bytes / PAGE))
		return 2;
	if (mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0)
		return 0;
	*why = "vm.overcommit_memory is 2 here";
	return errno == ENOMEM ? SKIPPED : 3;
}

/* A trap: what is moved is not registered any more (unless UFFD_FEATURE_EVENT_REMAP).  So nothing is. */
static int moved(void)
{
	char *to;

	prepare();
	to = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mremap(area, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		return 2;
	return *(volatile uint64_t *)to == 0 && !has_fault() ? 0 : 3;
}

/* A trap: memory that is not registered is filled with zeroes by a touch.  So it has no access before. */
static int without_access_first(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prepare();
	if (*(volatile uint64_t *)p != 0 || try_register(uffd, p, 1))
		return 2;
	return *(volatile uint64_t *)p == 0 && !has_fault() ? 0 : 3; /* registered, and never faults */
}

int main(void)
{
	dev_fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev_fd < 0) {
		tap_skip("what a mirror that faults relies on", "no access to /dev/userfaultfd (Linux 6.1, root)");
		return tap_done();
	}
	holds(many_threads, "one wake-up wakes all who wait for a page; messages of theirs that were not read go");
	holds(wake_of_a_range, "a mapping over the place wakes nobody; UFFDIO_WAKE of a range does, and they find the mapping");
	holds(woken_for_nothing, "who is woken and finds nothing faults again");
	holds(unmapped, "munmap() wakes nobody; woken then, a call ends with EFAULT");
	holds(without_access, "and so it does where memory without access was mapped");
	holds(signal_in_call, "a signal for who waits inside a call is handled when the call is done, which is not cut short");
	holds(signal_in_user_mode, "in user mode the handler runs and the access is tried again");
	holds(end_while_waiting, "a process ends while its threads wait");
	holds(covered_again, "registering memory without access and giving access afterwards; covered again, pieces merge into one mapping");
	holds(large_cover, "16 TiB can be covered");
	holds(moved, "mremap() loses the registration");
	holds(without_access_first, "a page of zeroes, once there, never faults");
	return tap_done();
}
