/* pinwhat.c - what can be pinned and what cannot, a whole running process, the limit, pins that outlive their process
 *
 * usage: pinwhat FILE, which is made, on a disk's file system
 * For a guest with two NUMA nodes: a move to the other node is the event that shows whether a page is pinned.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "tests/vm/frames.h"

#define N 32ul
#define KPF_ANON 12 /* linux/kernel-page-flags.h; stays as long as somebody holds the frame */

static struct pin pin;
static const char *file_name; /* on a file system of its own: files of a tmpfs are shared memory to io_uring */

static char *anon(size_t npages, int prot)
{
	char *p = mmap(NULL, npages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		frames_die("mmap");
	madvise(p, npages * PAGE, MADV_NOHUGEPAGE);
	return p;
}

static char *of_file(int prot, int flags)
{
	int fd = open(file_name, O_RDWR | O_CREAT, 0600);
	char *p;

	if (fd < 0 || ftruncate(fd, N * PAGE))
		frames_die(file_name);
	p = mmap(NULL, N * PAGE, prot, flags, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		frames_die(file_name);
	return p;
}

static void fill_file(void)
{
	char *p = of_file(PROT_READ | PROT_WRITE, MAP_SHARED);

	for (size_t i = 0; i < N; i++)
		memset(p + i * PAGE, 'a' + i, PAGE);
	munmap(p, N * PAGE);
}

static bool content(const char *p, bool dirty)
{
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < PAGE; j++)
			if (((const volatile char *)p)[i * PAGE + j] != (dirty && i % 2 && j == 7 ? 'Z' : (char)('a' + i)))
				return false;
	return true;
}

static uint32_t attr_of(const char *p)
{
	struct rle_map map = frames_scan();
	struct rle_run hit = {0};
	uint32_t attr;

	attr = rle_map_lookup(&map, (ds_vpn){(uintptr_t)p / PAGE}, &hit) ? hit.attr & RLE_ATTR_PROT : 0xff;
	rle_map_close(&map);
	return attr;
}

/* Pinned as said, content and protection kept, and the pages cannot be moved. */
static void stays(char *p, const char *what, struct tally t, bool dirty, uint32_t prot)
{
	tap_ok(t.pages[PIN_DONE] + t.pages[PIN_REPLACED] == N, "%s: pinned (%lu as they are, %lu replaced; %s)", what, t.pages[PIN_DONE],
	       t.pages[PIN_REPLACED], strerror(-t.err));
	tap_ok(content(p, dirty), "%s: the content is as it was", what);
	tap_eq(attr_of(p), prot, "%s: so is the protection", what);
	tap_eq(frames_to_node(p, N, 1), 0, "%s: no page can be moved", what);
	pin_drop(&pin, (uintptr_t)p, N * PAGE);
	munmap(p, N * PAGE);
}

static void private_files(void)
{
	struct tally t;
	char *p;

	fill_file();
	p = of_file(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (size_t i = 0; i < N; i++)
		if (i % 2)
			p[i * PAGE + 7] = 'Z';
	content(p, true); /* the rest is read, so that it is there */
	t = frames_pin(&pin, p, N, 0);
	tap_ok(t.pages[PIN_WRITERS] == N || t.pages[PIN_DONE] == N,
	       "writable private file pages are not replaced while others may write (%lu refused, %lu pinned as they are)", t.pages[PIN_WRITERS],
	       t.pages[PIN_DONE]);
	pin_drop(&pin, (uintptr_t)p, N * PAGE);
	stays(p, "writable private file pages, some written to", frames_pin(&pin, p, N, PIN_ALONE), true, RLE_ATTR_READ | RLE_ATTR_WRITE);

	p = of_file(PROT_READ, MAP_PRIVATE);
	content(p, false);
	stays(p, "read-only private file pages", frames_pin(&pin, p, N, 0), false, RLE_ATTR_READ);
	p = of_file(PROT_READ | PROT_EXEC, MAP_PRIVATE);
	content(p, false);
	stays(p, "executable file pages", frames_pin(&pin, p, N, 0), false, RLE_ATTR_READ | RLE_ATTR_EXEC);

	p = anon(N, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < N; i++)
		memset(p + i * PAGE, 'a' + i, PAGE);
	mprotect(p, N * PAGE, PROT_READ);
	stays(p, "read-only anonymous pages", frames_pin(&pin, p, N, 0), false, RLE_ATTR_READ);
}

/* Other threads run code and read data in pages that are replaced meanwhile. */
static char *shifting;
static atomic_bool enough;
static atomic_ulong calls;

static void *run_there(void *unused)
{
	(void)unused;
	while (!enough)
		for (size_t i = 0; i < N; i++) {
			int (*fn)(void) = (int (*)(void))(uintptr_t)(shifting + i * PAGE);

			if (fn() != 42)
				_exit(3);
			if (((volatile uint8_t *)shifting)[i * PAGE + 5] != 0xc3)
				_exit(4);
			calls++;
		}
	return NULL;
}

static void replaced_under_threads(void)
{
	static const uint8_t code[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov $42, %eax; ret */
	const size_t rounds = 60;
	int status;
	pid_t child;
	char *p = of_file(PROT_READ | PROT_WRITE, MAP_SHARED);

	for (size_t i = 0; i < N; i++)
		memcpy(p + i * PAGE, code, sizeof(code));
	munmap(p, N * PAGE);
	fflush(stdout);
	child = fork();
	if (child == 0) {
		size_t pinned = 0;
		struct pin own;
		pthread_t thread;
		int fd = open(file_name, O_RDONLY);

		shifting = of_file(PROT_READ | PROT_EXEC, MAP_PRIVATE);
		if (pin_open(&own) || pthread_create(&thread, NULL, run_there, NULL))
			_exit(2);
		for (size_t i = 0; i < rounds; i++) {
			struct tally t;

			mmap(shifting, N * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE, fd, 0);
			t = frames_pin(&own, shifting, N, PIN_POPULATE);
			pinned += t.pages[PIN_REPLACED] + t.pages[PIN_DONE];
			pin_drop(&own, (uintptr_t)shifting, N * PAGE);
		}
		enough = true;
		pthread_join(thread, NULL);
		printf("# %lu calls while %zu pages were pinned\n", calls, pinned);
		fflush(stdout);
		_exit(pinned != rounds * N || calls < rounds);
	}
	waitpid(child, &status, 0);
	tap_eq(status, 0, "another thread runs and reads read-only file pages while they are replaced and pinned, %zu times", rounds);
}

static void outcomes(void)
{
	char *p = of_file(PROT_READ | PROT_WRITE, MAP_SHARED), *q;
	unsigned long vdso = 0;
	struct tally t;
	int fd;

	for (size_t i = 0; i < N; i++)
		*(volatile char *)(p + i * PAGE);
	t = frames_pin(&pin, p, N, PIN_ALONE);
	tap_eq(t.pages[PIN_SHARED], N, "a shared mapping of a file is not pinned, and that is said");
	munmap(p, N * PAGE);

	fd = memfd_create("pinwhat", MFD_CLOEXEC);
	if (ftruncate(fd, N * PAGE))
		frames_die("memfd");
	p = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	memset(p, 1, N * PAGE);
	tap_eq(frames_pin(&pin, p, N, 0).pages[PIN_DONE], N, "shared memory without a file on disk is");
	tap_eq(frames_to_node(p, N, 1), 0, "and cannot be moved");
	pin_drop(&pin, (uintptr_t)p, N * PAGE);

	/* hole, untouched, touched, untouched, inaccessible, hole */
	p = anon(8, PROT_READ | PROT_WRITE);
	munmap(p, PAGE);
	munmap(p + 7 * PAGE, PAGE);
	mprotect(p + 6 * PAGE, PAGE, PROT_NONE);
	memset(p + 2 * PAGE, 1, 2 * PAGE);
	t = frames_pin(&pin, p, 8, 0);
	tap_ok(t.pages[PIN_HOLE] == 2 && t.pages[PIN_ABSENT] == 3 && t.pages[PIN_DONE] == 2 && t.pages[PIN_NOACCESS] == 1,
	       "a range of all kinds: 2 in holes, 3 not there, 2 pinned, 1 without access (%lu %lu %lu %lu)", t.pages[PIN_HOLE],
	       t.pages[PIN_ABSENT], t.pages[PIN_DONE], t.pages[PIN_NOACCESS]);
	t = frames_pin(&pin, p, 8, PIN_POPULATE);
	tap_ok(t.pages[PIN_ALREADY] == 2 && t.pages[PIN_DONE] == 3, "PIN_POPULATE makes and pins the three (%lu before, %lu now)",
	       t.pages[PIN_ALREADY], t.pages[PIN_DONE]);
	pin_drop(&pin, (uintptr_t)p, 8 * PAGE);

	fd = open("/proc/self/auxv", O_RDONLY);
	for (unsigned long entry[2]; read(fd, entry, sizeof(entry)) == sizeof(entry);)
		vdso = entry[0] == 33 ? entry[1] : vdso; /* AT_SYSINFO_EHDR */
	close(fd);
	tap_eq(frames_pin(&pin, (void *)vdso, 1, PIN_ALONE).pages[PIN_KERNEL], 1, "the vdso is the kernel's");
	tap_eq(pin_range(&pin, 0x1001, PAGE, 0, NULL, NULL), -EINVAL, "a misaligned range is refused");
	q = (char *)(uintptr_t)-PAGE;
	tap_eq(pin_range(&pin, (uintptr_t)q, 2 * PAGE, 0, NULL, NULL), -EINVAL, "so is one that wraps around");
	errno = 77;
	frames_pin(&pin, p + 2 * PAGE, 1, 0);
	tap_eq(errno, 77, "errno belongs to the program");
	tap_eq(pin_drop(&pin, (uintptr_t)p, 8 * PAGE), 0, "dropping what is partly pinned is fine");
}

/* --- everything that a running process has ---------------------------------------------------------------------- */

#define STRETCHES 4096
static struct pin_stretch kept[STRETCHES];
static size_t nkept;

static void keep(void *ctx, const struct pin_stretch *s)
{
	(void)ctx;
	if ((s->outcome == PIN_DONE || s->outcome == PIN_REPLACED) && nkept < STRETCHES)
		kept[nkept++] = *s;
}

static size_t pages_elsewhere(const struct rle_map *was, const struct rle_map *now, size_t *looked_at)
{
	size_t differ = 0;

	*looked_at = 0;
	for (size_t i = 0; i < nkept; i++)
		for (uint64_t vpn = kept[i].addr / PAGE; vpn < (kept[i].addr + kept[i].bytes) / PAGE; vpn++) {
			struct rle_run a = {0}, b = {0};

			*looked_at += rle_map_lookup(was, (ds_vpn){vpn}, &a);
			rle_map_lookup(now, (ds_vpn){vpn}, &b);
			differ += a.pfn.n != b.pfn.n;
		}
	return differ;
}

/* A child moves all that it has to the other node, pinned or not, and says what became of its pages. */
static void whole_process(bool pinned)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		unsigned long from = 1, to = 2;
		struct rle_map was, now;
		size_t looked_at, differ;
		struct pin own = {0};

		frames_scan(); /* allocates what it needs before the pages are pinned */
		nkept = 0;
		if (pin_open(&own) || pin_range(&own, 0, UINT64_C(1) << 47, PIN_ALONE, keep, NULL))
			_exit(2);
		if (!pinned)
			pin_close(&own);
		usleep(pinned ? 0 : 2000000); /* until the kernel has let go */
		was = frames_scan();
		syscall(SYS_migrate_pages, 0, 64, &from, &to);
		now = frames_scan();
		differ = pages_elsewhere(&was, &now, &looked_at);
		printf("# %s: %zu of %zu pages moved, in %zu stretches\n", pinned ? "pinned" : "let go of", differ, looked_at, nkept);
		fflush(stdout);
		_exit(looked_at < 100 || (pinned ? differ != 0 : differ < looked_at / 2));
	}
	waitpid(child, &status, 0);
	tap_eq(status, 0, pinned ? "all of a running process, code, data, heap, stack and libraries, pinned, stays where it is and runs on"
				 : "let go of, most of it moves");
}

/* Every other page is a stretch of its own: a ring has room for so many. */
static void many(void)
{
	const size_t extra = 5, npages = 2 * (PIN_SLOTS + extra);
	char *p = anon(npages, PROT_READ | PROT_WRITE);
	struct tally t;

	for (size_t i = 0; i < npages; i += 2)
		p[i * PAGE] = 1;
	t = frames_pin(&pin, p, npages, 0);
	tap_ok(t.pages[PIN_DONE] == PIN_SLOTS && t.pages[PIN_FULL] == extra, "%d stretches are pinned, those beyond are reported (%lu, %lu)",
	       PIN_SLOTS, t.pages[PIN_DONE], t.pages[PIN_FULL]);
	tap_eq(frames_to_node(p, 1, 1) + frames_to_node(p + 2 * (PIN_SLOTS - 1) * PAGE, 1, 1), 0, "the first and the last of them cannot be moved");
	tap_eq(frames_to_node(p + 2 * PIN_SLOTS * PAGE, 1, 1), 1, "one beyond can");
	tap_eq(pin_drop(&pin, (uintptr_t)p + 4 * PAGE, PAGE), 0, "one is dropped");
	t = frames_pin(&pin, p + npages * PAGE - 2 * PAGE, 1, 0);
	tap_eq(t.pages[PIN_DONE], 1, "and makes room for another");
	pin_drop(&pin, (uintptr_t)p, npages * PAGE);
	tap_eq(pin.pages, 0, "all of them can be dropped");
	munmap(p, npages * PAGE);
}

/* --- limit, and beyond the end ---------------------------------------------------------------------------------- */

static void limit(void)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		struct rlimit mebibyte = {1 << 20, 1 << 20};
		char *p = anon(512, PROT_READ | PROT_WRITE);
		struct pin own;

		memset(p, 1, 512 * PAGE);
		if (setrlimit(RLIMIT_MEMLOCK, &mebibyte) || setresuid(65534, 65534, 65534) || prctl(PR_SET_DUMPABLE, 1) || pin_open(&own))
			_exit(2);
		if (frames_pin(&own, p, 256 - PIN_SLACK_PAGES, 0).pages[PIN_DONE] != 256 - PIN_SLACK_PAGES)
			_exit(3);
		if (frames_pin(&own, p, 512, 0).pages[PIN_LIMIT] != 512 - 256 + PIN_SLACK_PAGES)
			_exit(4);
		_exit(0);
	}
	waitpid(child, &status, 0);
	tap_eq(WEXITSTATUS(status), 0, "without privilege RLIMIT_MEMLOCK less the slack can be pinned; what does not fit is reported");
}

static size_t still_held(const uint64_t *pfn, size_t n)
{
	int fd = open("/proc/kpageflags", O_RDONLY);
	uint64_t flags;
	size_t held = 0;

	for (size_t i = 0; i < n; i++)
		held += pread(fd, &flags, 8, pfn[i] * 8) == 8 && flags >> KPF_ANON & 1;
	close(fd);
	return held;
}

#define HELD 256ul
/* Return: a descriptor of the ended child's ring, or -1; its frames in @pfn. */
static int ended_child(bool adopt, uint64_t pfn[static HELD])
{
	struct {
		int ring;
		uint64_t pfn[HELD];
	} *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int ready[2], end[2], pidfd, ring = -1, status;
	pid_t child;
	char c = 0;

	if (pipe(ready) || pipe(end))
		frames_die("pipe");
	child = fork();
	if (child == 0) {
		char *p = anon(HELD, PROT_READ | PROT_WRITE);
		struct pin own;

		memset(p, 1, HELD * PAGE);
		if (pin_open(&own) || frames_pin(&own, p, HELD, 0).pages[PIN_DONE] != HELD)
			_exit(2);
		frames_of(p, HELD, shared->pfn);
		shared->ring = own.ring_fd;
		if (write(ready[1], &c, 1) != 1 || read(end[0], &c, 1) != 1)
			_exit(3);
		_exit(0);
	}
	if (read(ready[0], &c, 1) != 1)
		frames_die("child");
	pidfd = syscall(SYS_pidfd_open, child, 0);
	if (adopt)
		ring = syscall(SYS_pidfd_getfd, pidfd, shared->ring, 0);
	if (write(end[1], &c, 1) != 1)
		frames_die("child");
	waitpid(child, &status, 0);
	close(pidfd);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(end[i]);
	}
	memcpy(pfn, shared->pfn, HELD * sizeof(*pfn));
	munmap(shared, 4 * PAGE);
	return ring;
}

static void adoption(void)
{
	uint64_t pfn[HELD];
	size_t held = HELD;
	int ring = ended_child(true, pfn);

	tap_ok(ring >= 0, "another process can take the ring (%d)", ring);
	usleep(2000000);
	tap_eq(still_held(pfn, HELD), HELD, "its frames stay taken after the process has ended");
	close(ring);
	for (int i = 0; i < 50 && held > HELD / 10; i++) {
		usleep(100000);
		held = still_held(pfn, HELD);
	}
	tap_ok(held <= HELD / 10, "until the ring is closed (%zu of %lu left, in use by others)", held, HELD);
	ended_child(false, pfn);
	held = HELD;
	for (int i = 0; i < 50 && held > HELD / 10; i++) {
		usleep(100000);
		held = still_held(pfn, HELD);
	}
	tap_ok(held <= HELD / 10, "without that they are free again (%zu of %lu left)", held, HELD);
}

/* Why the ring is taken with pidfd_getfd(): the obvious way is closed. */
static void no_socket(void)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	char c = 0;
	struct iovec iov = {&c, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		frames_die("socketpair");
	memcpy(CMSG_DATA(&control.head), &pin.ring_fd, sizeof(int));
	tap_ok(sendmsg(pair[0], &msg, 0) < 0 && errno == EINVAL, "a ring cannot be sent over a socket");
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	int err = pin_open(&pin);

	file_name = argc > 1 ? argv[1] : "pinwhat.file";

	tap_eq(err, 0, "a ring can be made");
	if (err)
		return tap_done();
	if (access("/sys/devices/system/node/node1", F_OK)) {
		tap_skip("what can be pinned", "there is one NUMA node only");
		return tap_done();
	}
	private_files();
	replaced_under_threads();
	outcomes();
	whole_process(true);
	whole_process(false);
	many();
	limit();
	adoption();
	no_socket();
	pin_close(&pin);
	tap_ok(!strcmp(pin_why(PIN_LIMIT), "RLIMIT_MEMLOCK") && pin_why(PIN_NOUTCOMES)[0] == '?', "outcomes have words");
	return tap_done();
}
