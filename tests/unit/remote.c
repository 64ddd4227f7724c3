/* remote.c - system calls, memory, pins and freezes in another process, by way of a helper
 *
 * The other process is a child that knows of nothing.  That its pages are pinned is seen in /proc/PID/fdinfo of the ring, and
 * that they keep their frames in its pagemap.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/helper/freeze.h"
#include "runtime/guest/helper/pin.h"
#include "runtime/guest/helper/remote.h"
#include "runtime/guest/helper/tracee.h"
#include "tests/tap.h"

#define PAGE 4096ul
#define NPAGES 16ul
#define NTHREADS 6

/* What the child has, at the same addresses here: made before it is. */
enum area { ANON, ANON_READ, FILE_WRITE, FILE_READ, FILE_CODE, SHARED_FILE, SHARED_MEM, NO_ACCESS, NAREAS };
static char *area[NAREAS];
static struct shared {
	atomic_ulong count[NTHREADS];
	atomic_ulong bad;
	atomic_int stop;
	uint64_t evil; /* what code put in the helper's place leaves */
} *shared;

static int file_fd; /* on a disk's file system: tmpfs is memory to io_uring */

static char *map(int prot, int flags, int fd)
{
	char *p = mmap(NULL, NPAGES * PAGE, prot, flags, fd, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

static void make_areas(void)
{
	char name[] = "remote.XXXXXX", page[PAGE];

	file_fd = mkstemp(name);
	unlink(name);
	for (size_t i = 0; i < NPAGES; i++) {
		memset(page, 'a' + i, PAGE);
		if (pwrite(file_fd, page, PAGE, i * PAGE) != PAGE)
			exit(2);
	}
	area[ANON] = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	area[ANON_READ] = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	area[FILE_WRITE] = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, file_fd);
	area[FILE_READ] = map(PROT_READ, MAP_PRIVATE, file_fd);
	area[FILE_CODE] = map(PROT_READ | PROT_EXEC, MAP_PRIVATE, file_fd);
	area[SHARED_FILE] = map(PROT_READ | PROT_WRITE, MAP_SHARED, file_fd);
	area[SHARED_MEM] = map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	area[NO_ACCESS] = map(PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	shared = (struct shared *)map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static bool content(enum area a)
{
	for (size_t i = 0; i < NPAGES; i++)
		for (size_t j = 0; j < PAGE; j += 512)
			if (*(volatile char *)(area[a] + i * PAGE + j) != (char)('a' + i))
				return false;
	return true;
}

static void fill(enum area a)
{
	for (size_t i = 0; i < NPAGES; i++)
		memset(area[a] + i * PAGE, 'a' + i, PAGE);
}

/* Looks at everything and writes to what is writable, over and over. */
static void *worker(void *arg)
{
	atomic_ulong *count = arg;

	while (!shared->stop) {
		for (enum area a = 0; a < NO_ACCESS; a++)
			if (!content(a))
				shared->bad++;
		(*count)++;
	}
	return NULL;
}

static void *writer(void *arg)
{
	atomic_ulong *count = arg;

	while (!shared->stop) { /* the same value through a store; a lost one would not show, another one would */
		for (size_t i = 0; i < NPAGES; i++) {
			volatile uint64_t *word = (uint64_t *)(area[FILE_WRITE] + i * PAGE + 8);
			uint64_t was = *word;

			*word = ~was;
			if (*word != ~was)
				shared->bad++;
			*word = was;
		}
		(*count)++;
	}
	return NULL;
}

static pid_t start(void)
{
	pid_t child;

	shared->stop = 0;
	for (int i = 0; i < NTHREADS; i++)
		shared->count[i] = 0;
	fflush(stdout);
	child = fork();
	if (child == 0) {
		pthread_t thread;

		fill(ANON);
		fill(ANON_READ);
		mprotect(area[ANON_READ], NPAGES * PAGE, PROT_READ);
		fill(FILE_WRITE);
		fill(SHARED_MEM);
		for (enum area a = 0; a < NO_ACCESS; a++)
			content(a);
		for (int i = 1; i < NTHREADS; i++)
			pthread_create(&thread, NULL, i == 1 ? writer : worker, &shared->count[i]);
		worker(&shared->count[0]);
		_exit(0);
	}
	while (shared->count[NTHREADS - 1] == 0)
		usleep(1000);
	return child;
}

static unsigned long counted(void)
{
	unsigned long n = 0;

	for (int i = 0; i < NTHREADS; i++)
		n += shared->count[i];
	return n;
}

static bool goes_on(void)
{
	unsigned long was = counted();

	for (int i = 0; i < 1000; i++) {
		if (counted() != was)
			return true;
		usleep(1000);
	}
	return false;
}

static bool helper_ended(const struct remote *r)
{
	struct pollfd pfd = {.fd = r->helper_pidfd, .events = POLLIN};

	return poll(&pfd, 1, 2000) == 1;
}

/* --- system calls and memory ------------------------------------------------------------------------------------- */

static void calls(struct remote *r)
{
	struct remote_call call[REMOTE_CALLS_MAX];
	int64_t got = 0, at;
	char buf[3 * PAGE], back[3 * PAGE];
	static char big[REMOTE_DATA_BYTES + 1];

	at = remote_syscall(r, SYS_mmap, (uint64_t[6]){0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0});
	remote_syscall(r, SYS_munmap, (uint64_t[6]){at + 3 * PAGE, PAGE});
	tap_ok(at > 0 && at % PAGE == 0, "memory can be mapped there");
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = i * 31;
	tap_eq(remote_write(r, at + 1, buf, sizeof(buf) - 2), 0, "written");
	tap_ok(remote_read(r, at + 1, back, sizeof(buf) - 2) == 0 && !memcmp(buf, back, sizeof(buf) - 2), "and read back");
	tap_eq(remote_read(r, at + 3 * PAGE - 4, back, 8) < 0 ? 0 : 1, 0, "reading across its end fails");
	for (uint32_t i = 0; i < REMOTE_CALLS_MAX; i++)
		call[i] = (struct remote_call){.nr = SYS_mprotect, .args = {at + i % 3 * PAGE, PAGE, i == 40 ? 1 << 20 : PROT_READ}, .any = i == 40};
	call[REMOTE_CALLS_MAX - 1].args[0] = at;
	tap_eq(remote_batch(r, call, REMOTE_CALLS_MAX, NULL, 0, &got), REMOTE_CALLS_MAX, "a full batch, of which one call fails and may");
	tap_eq(got, 0, "the last one's result");
	call[40].any = 0;
	tap_eq(remote_batch(r, call, REMOTE_CALLS_MAX, NULL, 0, &got), 40, "if it may not, it is the last one");
	tap_eq(got, -EINVAL, "and its result is told");
	tap_eq(remote_batch(r, call, REMOTE_CALLS_MAX + 1, NULL, 0, &got), -EINVAL, "a batch too long is refused");
	tap_eq(remote_batch(r, call, REMOTE_CALLS_MAX, big, REMOTE_DATA_BYTES + 1, &got), -EINVAL, "so are data too long");
	tap_eq(remote_batch(r, call, 0, NULL, 0, &got), -EINVAL, "and no calls at all");
	call[0] = (struct remote_call){.nr = SYS_munmap, .args = {at, 3 * PAGE}};
	tap_ok(remote_batch(r, call, 1, big, REMOTE_DATA_BYTES, &got) == 1 && got == 0, "the longest data");
	tap_eq(remote_read(r, at, back, 1), -EIO, "what was unmapped is gone");
}

/* The helper does what it is told, whoever wants what of it. */
static void confined(struct remote *r)
{
	const struct remote_call write_here = {.nr = SYS_write, .args = {r->chute_there, r->data, 8}, .want = 8};
	char path[64], line[256], was[8] = "";
	unsigned int tracer = 0;
	int64_t got = 0;
	int fds = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", r->helper);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "TracerPid: %u", &tracer);
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/proc/self/task/%u", tracer);
	tap_ok(!access(path, F_OK), "it is traced by a thread of ours, so by nobody else");
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", r->helper, fd);
		fds += readlink(path, line, sizeof(line)) > 0;
	}
	tap_eq(fds, 2, "it has two descriptors: the chute and its ring");
	/* The desk: what was put on it arrives, and nobody can change it there, not even the way debuggers do. */
	tap_eq(remote_batch(r, &write_here, 1, "abcdefg", 8, &got), 1, "it writes from the desk");
	tap_ok(read(r->chute_fd, was, 8) == 8 && !strcmp(was, "abcdefg"), "and that arrives");
	tap_ok(remote_write(r, r->desk, "xxxxxxx", 8) < 0, "the desk cannot be written to by way of /proc/PID/mem");
	tap_eq(remote_syscall(r, SYS_mprotect, (uint64_t[6]){r->desk, PAGE, PROT_READ | PROT_WRITE}), -EACCES, "nor be made writable");
}

/* The same calls as batches that run on the desk, and what is not the desk. */
static void settled(struct remote *r)
{
	struct inject_err why;
	struct freeze *f;

	if (freeze_start(r, 20000, &f, &why)) {
		tap_ok(false, "frozen (%s)", why.why);
		return;
	}
	tap_eq(remote_settle(r), 0, "the desk is ours");
	calls(r);
	remote_unsettle(r);
	freeze_end(f);
	tap_ok(goes_on(), "the program goes on");
	remote_syscall(r, SYS_mprotect, (uint64_t[6]){r->data, PAGE, PROT_READ});
	tap_eq(remote_settle(r), -EPROTO, "a desk that is cut in pieces is noticed");
	remote_syscall(r, SYS_mmap, (uint64_t[6]){r->desk, REMOTE_DESK_PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0});
	tap_eq(remote_settle(r), -EPROTO, "something else in its place, too");
	tap_ok(!r->settled, "nothing is settled then");
}

/* --- pins --------------------------------------------------------------------------------------------------------- */

struct tally {
	unsigned long pages[PIN_NOUTCOMES];
};

static void add(void *ctx, const struct pin_stretch *s)
{
	((struct tally *)ctx)->pages[s->outcome] += s->bytes / PAGE;
}

static struct tally pin_area(struct pin *p, enum area a, unsigned int flags)
{
	struct tally t = {0};
	int err = pin_range(p, (uint64_t)area[a], NPAGES * PAGE, flags, add, &t);

	if (err)
		printf("# pin_range: %s\n", strerror(-err));
	return t;
}

/* Bytes that the kernel says are registered. */
static unsigned long registered(const struct remote *r)
{
	unsigned long sum = 0, n, len;
	char path[64], line[256];
	bool in = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", r->helper, r->ring_fd);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "UserBufs:", 9))
			in = true;
		else if (in && sscanf(line, " %lu: 0x%*x/%lu", &n, &len) == 2 && len >= PAGE) /* 6.1 lists empty slots, of 1 byte */
			sum += len;
	}
	if (f)
		fclose(f);
	return sum;
}

static void frames(const struct remote *r, uint64_t pfn[NAREAS][NPAGES])
{
	for (int a = 0; a < NAREAS; a++)
		if (pread(r->pagemap_fd, pfn[a], NPAGES * 8, (uintptr_t)area[a] / PAGE * 8) != NPAGES * 8)
			memset(pfn[a], 0, NPAGES * 8);
}

static char protection(const struct remote *r, enum area a)
{
	char path[64], line[512], prot = '?';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", r->pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long start, end;
		char p[5];

		if (sscanf(line, "%lx-%lx %4s", &start, &end, p) == 3 && start <= (uintptr_t)area[a] && (uintptr_t)area[a] < end)
			prot = p[1] == 'w' ? 'w' : p[2] == 'x' ? 'x' : p[0];
	}
	if (f)
		fclose(f);
	return prot;
}

static void pins(struct remote *r)
{
	static uint64_t before[NAREAS][NPAGES], after[NAREAS][NPAGES];
	struct inject_err why;
	struct freeze *f = NULL;
	struct tally t;
	struct pin p;
	unsigned long all;
	bool in_memory;

	tap_eq(pin_open_remote(&p, r), 0, "the helper has a ring");
	tap_eq(pin_area(&p, ANON, 0).pages[PIN_DONE], NPAGES, "anonymous pages are pinned");
	tap_eq(registered(r), NPAGES * PAGE, "the kernel says so too");
	tap_eq(pin_area(&p, ANON, 0).pages[PIN_ALREADY], NPAGES, "once");
	tap_eq(pin_area(&p, FILE_READ, 0).pages[PIN_REPLACED], NPAGES, "read-only pages of a file are replaced under running threads");
	tap_eq(pin_area(&p, FILE_CODE, 0).pages[PIN_REPLACED], NPAGES, "so is code");
	tap_eq(pin_area(&p, ANON_READ, 0).pages[PIN_WRITERS], NPAGES, "the protection of anonymous pages is not lifted under running threads");
	tap_eq(pin_area(&p, ANON_READ, PIN_ALONE).pages[PIN_WRITERS], NPAGES, "nor when it is said that there are none, without a freeze");
	t = pin_area(&p, SHARED_FILE, 0);
	in_memory = t.pages[PIN_DONE] == NPAGES; /* if this folder is in a tmpfs */
	tap_ok(in_memory || t.pages[PIN_SHARED] == NPAGES, "shared pages of a file are not pinned%s", in_memory ? ", but of one in memory" : "");
	tap_eq(pin_area(&p, SHARED_MEM, 0).pages[PIN_DONE], NPAGES, "shared memory is");
	tap_eq(pin_area(&p, NO_ACCESS, PIN_POPULATE).pages[PIN_NOACCESS], NPAGES, "what cannot be accessed is not");
	tap_eq(freeze_start(r, 5000, &f, &why), 0, "the program is frozen");
	pin_frozen(&p, f);
	tap_eq(pin_area(&p, ANON_READ, PIN_ALONE).pages[PIN_DONE], NPAGES, "then read-only anonymous pages are pinned");
	t = pin_area(&p, FILE_WRITE, PIN_ALONE);
	tap_eq(t.pages[PIN_DONE] + t.pages[PIN_REPLACED], NPAGES, "and writable private pages of a file (%lu replaced)", t.pages[PIN_REPLACED]);
	pin_frozen(&p, NULL);
	tap_eq(freeze_end(f), 0, "it goes on");
	all = registered(r);
	tap_eq(all, (6 + in_memory) * NPAGES * PAGE, "all that is pinned is registered");
	tap_eq(p.pages, (6 + in_memory) * NPAGES, "and counted");
	frames(r, before);
	usleep(20000);
	tap_ok(goes_on(), "the program goes on");
	tap_eq(shared->bad, 0, "and finds everything as it was");
	frames(r, after);
	tap_ok(!memcmp(before, after, sizeof(before)), "frames stay");
	tap_ok(protection(r, ANON_READ) == 'r' && protection(r, FILE_READ) == 'r' && protection(r, FILE_CODE) == 'x' && protection(r, FILE_WRITE) == 'w',
	       "protections are as they were");
	tap_eq(pin_drop(&p, (uint64_t)area[ANON] + PAGE, 2 * PAGE), 0, "a part can be dropped");
	tap_eq(registered(r), all - 2 * PAGE, "and no more than that");
	tap_eq(pin_range(&p, 0, UINT64_C(1) << 47, 0, add, &t), 0, "the whole program");
	tap_ok(goes_on() && shared->bad == 0, "runs on with all of it pinned that can be");
	pin_close(&p);
	tap_eq(r->ring_fd, -EBADF, "after closing there is no ring");
}

/* --- freezing --------------------------------------------------------------------------------------------------- */

static void freezing(struct remote *r)
{
	struct inject_err why = {0};
	struct freeze *f, *g;
	unsigned long was;
	bool kept;
	int err;
	pid_t child;

	err = freeze_start(r, 5000, &f, &why);
	tap_eq(err, 0, "all threads are frozen (%s)", why.why ? why.why : "yes");
	if (err)
		return;
	was = counted();
	usleep(50000);
	tap_eq(counted(), was, "nothing is counted");
	tap_ok(freeze_holds(f, 100) && !freeze_holds(f, 6000), "it holds for what is left of its time");
	tap_eq(freeze_start(r, 5000, &g, &why), -EPERM, "it cannot be frozen twice");
	freeze_end(f);
	tap_ok(goes_on(), "they go on");

	freeze_start(r, 50, &f, &why);
	usleep(100000);
	tap_ok(goes_on(), "they go on by themselves when the time is over");
	tap_ok(!freeze_holds(f, 0) && freeze_end(f) == -ETIME, "and that is told");

	kept = false;
	for (int i = 0; i < 20 && !kept; i++) { /* on a busy machine the time may be over already */
		freeze_start(r, 1000, &f, &why);
		kept = freeze_keep(f, 1);
		if (!kept)
			freeze_end(f);
	}
	tap_ok(kept, "a freeze is kept");
	usleep(1200000);
	was = counted();
	usleep(100000);
	tap_eq(counted(), was, "then it holds beyond its time");
	freeze_unkeep(f);
	tap_ok(goes_on() && freeze_end(f) == -ETIME, "and ends when it is kept no more");

	fflush(stdout);
	child = fork();
	if (child == 0) {
		freeze_start(r, 60000, &f, &why);
		pause();
	}
	for (was = counted(), usleep(20000); counted() != was; usleep(20000))
		was = counted();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	tap_ok(goes_on(), "and when who froze them is killed");
}

/* Another process that shares the memory is found, and no other one. */
static void sharing(struct remote *r)
{
	tap_eq(sharers_find(NULL, r->pid, 0), r->helper, "the helper is found to share the memory");
	tap_eq(sharers_find(NULL, r->pid, r->helper), 0, "nobody else");
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

/* mov $SYS_getpid, %eax; syscall; mov %rax, (address of shared->evil); syscall */
static void ends(void)
{
	char evil[] = "\xb8\x27\x00\x00\x00\x0f\x05\x48\xa3________\x0f\x05";
	struct inject_err why;
	struct remote r, r2;
	uint8_t code;
	pid_t child;
	int status, err;
	int64_t ms;

	memcpy(evil + 9, &(uint64_t){(uintptr_t)&shared->evil}, 8);
	child = start();
	err = inject_helper(child, 0, &r, &why);
	tap_eq(err, 0, "a second program");
	kill(r.helper, SIGTERM);
	kill(r.helper, SIGINT);
	tap_eq(remote_syscall(&r, SYS_close, (uint64_t[6]){99}), -EBADF, "its helper ignores signals");
	kill(r.helper, SIGKILL);
	ms = tracee_now_ms();
	tap_eq(remote_syscall(&r, SYS_close, (uint64_t[6]){99}), -ESRCH, "killed, it is gone");
	tap_eq(remote_syscall(&r, SYS_close, (uint64_t[6]){99}), -ESRCH, "and stays so");
	tap_ok(tracee_now_ms() - ms < 1000, "which is said at once");
	tap_ok(goes_on(), "the program does not care");
	tap_eq(inject_remove(&r, &why), 0, "what is left of it is removed");
	tap_eq(inject_helper(child, 0, &r, &why), 0, "and another helper put in");
	tap_eq(inject_helper(child, 0, &r2, &why), -EBUSY, "but not two");
	tap_eq(remote_read(&r, r.stub, &code, 1), 0, "its code can be read");

	/* The program writes over the helper's code. */
	tap_eq(remote_write(&r, r.stub, "\x0f\x0b", 2), 0, "the helper's code is spoilt");
	tap_eq(remote_syscall(&r, SYS_close, (uint64_t[6]){99}), -EPROTO, "which is noticed");
	tap_eq(remote_syscall(&r, SYS_close, (uint64_t[6]){99}), -ESRCH, "then it is gone");
	tap_ok(goes_on(), "alone");
	inject_remove(&r, &why);

	tap_eq(inject_helper(child, 0, &r, &why), 0, "a third helper");
	err = remote_write(&r, r.stub, evil, sizeof(evil) - 1);
	tap_eq(err, 0, "its code does another call first");
	tap_eq(remote_syscall(&r, SYS_close, (uint64_t[6]){99}), -EPROTO, "that is noticed");
	tap_ok(helper_ended(&r), "and it is killed");
	tap_eq(shared->evil, 0, "the other call was not made");
	inject_remove(&r, &why);
	tap_eq(inject_helper(child, 0, &r, &why), 0, "a fourth");
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	tap_ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the program is killed");
	tap_ok(helper_ended(&r), "the helper ends with it");
	tap_ok(remote_read(&r, (uint64_t)area[ANON], &code, 1) < 0, "then its memory is gone");
	tap_eq(inject_remove(&r, &why), 0, "and there is nothing to remove");
	tap_ok(!r.tracer && r.mem_fd == -1 && r.pid == 0, "everything was given back");
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

int main(void)
{
	struct inject_err why = {0};
	struct remote r;
	int status, err, fds;
	pid_t child;

	make_areas();
	fds = descriptors();
	child = start();
	err = inject_helper(child, 0, &r, &why);
	tap_eq(err, 0, "a helper is put into a program of %d threads (%s)", NTHREADS, why.why ? why.why : "yes");
	if (err)
		return tap_done();
	calls(&r);
	confined(&r);
	sharing(&r);
	if (r.ring_fd == -ENOSYS || r.ring_fd == -EPERM)
		tap_skip("pins", "io_uring is not there or forbidden");
	else
		pins(&r);
	freezing(&r);
	settled(&r);
	tap_eq(inject_remove(&r, &why), 0, "the helper is taken out");
	tap_ok(goes_on() && shared->bad == 0, "and the program goes on");
	shared->stop = 1;
	waitpid(child, &status, 0);
	tap_eq(status, 0, "to its proper end");
	ends();
	tap_eq(descriptors(), fds, "no descriptor was lost here");
	return tap_done();
}
