/* hold.c - frames that are held stay nobody else's, whatever the program's user does about it
 *
 * A program of an ordinary user gets a helper, pins and holds, from us as root.  Another process of the same user then tries what is in
 * its power: it takes the helper's ring and empties it, takes the chute, writes into it, wants to read from it, to trace the helper, to
 * write to the desk.  After that the program gives its pages back.  What has become of the frames is read in
 * /proc/kpageflags and /proc/kpagecount: a held one still is anonymous memory, which is mapped nowhere.  The control is the same without
 * holds: pins alone do not keep the frames.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kernel-page-flags.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/pte.h"
#include "runtime/guest/helper/freeze.h"
#include "runtime/guest/helper/hold.h"
#include "runtime/guest/helper/inject.h"
#include "runtime/guest/helper/pin.h"
#include "tests/tap.h"

#define PAGE 4096ul
#define NPAGES 64ul
#define USER 65534

static struct board {
	atomic_int ready, give_back, given, stop;
	atomic_uint_least64_t area;
} *board;

static void die(const char *what)
{
	printf("Bail out! %s\n", what);
	exit(2);
}

static pid_t spawn(void)
{
	pid_t pid;

	memset(board, 0, sizeof(*board));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		char *p;

		if (setresgid(USER, USER, USER) || setresuid(USER, USER, USER) || prctl(PR_SET_DUMPABLE, 1) || prctl(PR_SET_PDEATHSIG, SIGKILL))
			_exit(1);
		p = mmap(NULL, NPAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		madvise(p, NPAGES * PAGE, MADV_NOHUGEPAGE);
		memset(p, 7, NPAGES * PAGE);
		board->area = (uintptr_t)p;
		board->ready = 1;
		while (!board->stop) {
			if (board->give_back && !board->given) {
				madvise(p, NPAGES * PAGE, MADV_DONTNEED);
				board->given = 1;
			}
			usleep(1000);
		}
		_exit(0);
	}
	while (!board->ready)
		usleep(1000);
	return pid;
}

static void give_back(void)
{
	board->give_back = 1;
	while (!board->given)
		usleep(1000);
}

/* Runs @fn as another process of the user.  Return: what it returned. */
static int as_user(int (*fn)(const struct remote *r), const struct remote *r)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		for (int fd = 3; fd < 1024; fd++)
			close(fd); /* what is ours is not theirs */
		if (setresgid(USER, USER, USER) || setresuid(USER, USER, USER) || prctl(PR_SET_DUMPABLE, 1))
			_exit(99);
		_exit(fn(r));
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void frames(const struct remote *r, uint64_t pfn[NPAGES])
{
	if (pread(r->pagemap_fd, pfn, NPAGES * 8, board->area / PAGE * 8) != NPAGES * 8)
		memset(pfn, 0, NPAGES * 8);
	for (size_t i = 0; i < NPAGES; i++)
		pfn[i] = pfn[i] & RLE_PTE_PRESENT ? pfn[i] & RLE_PTE_PFN_MASK : 0;
}

static uint64_t of_frame(const char *path, uint64_t pfn)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t word = 0;

	if (fd < 0 || pread(fd, &word, 8, pfn * 8) != 8)
		word = UINT64_MAX;
	close(fd);
	return word;
}

/* How many frames are still what they were, though nobody maps them. */
static size_t kept(const uint64_t pfn[NPAGES], size_t from, size_t to)
{
	size_t n = 0;

	for (size_t i = from; i < to; i++)
		n += of_frame("/proc/kpageflags", pfn[i]) >> KPF_ANON & 1 && of_frame("/proc/kpagecount", pfn[i]) == 0;
	return n;
}

/* --- what a user can try --------------------------------------------------------------------------------------------------- */

static int takes_pins_away(const struct remote *r)
{
	int pidfd = syscall(SYS_pidfd_open, r->helper, 0), ring = -1;
	struct iovec none = {0};
	struct io_uring_rsrc_update2 up = {.data = (uintptr_t)&none, .nr = 1};
	char path[64], link[64];
	int emptied = 0;

	for (int fd = 0; fd < 16 && ring < 0; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", r->helper, fd);
		n = readlink(path, link, sizeof(link) - 1);
		link[n < 0 ? 0 : n] = '\0';
		if (strstr(link, "io_uring"))
			ring = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	}
	for (up.offset = 0; ring >= 0 && up.offset < 64; up.offset++)
		emptied += syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS_UPDATE, &up, sizeof(up)) == 1;
	return emptied != 0;
}

static int pollutes_the_chute(const struct remote *r)
{
	int fd = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, r->helper, 0), r->chute_there, 0);

	return write(fd, "x", 1) == 1;
}

static int reads_the_chute(const struct remote *r)
{
	char path[64], byte;
	int fd, copy = syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, r->helper, 0), r->chute_there, 0);

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", r->helper, r->chute_there);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	if (fd >= 0)
		return 1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
	fd = open(path, O_RDONLY | O_NONBLOCK);
	return fd >= 0 || read(copy, &byte, 1) >= 0;
}

static int traces(const struct remote *r)
{
	return ptrace(PTRACE_SEIZE, r->helper, NULL, NULL) == 0;
}

static int writes_to_the_desk(const struct remote *r)
{
	struct iovec here = {"evil", 4}, there = {(void *)r->desk, 4};
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", r->pid);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return 2; /* that much is their right, so the test would prove nothing */
	return pwrite(fd, "evil", 4, r->desk) > 0 || process_vm_writev(r->pid, &here, 1, &there, 1, 0) > 0;
}

/* --- tests ------------------------------------------------------------------------------------------------------------------ */

static struct freeze *freeze(struct remote *r)
{
	struct inject_err why;
	struct freeze *f = NULL;

	if (freeze_start(r, 20000, &f, &why))
		die(why.why);
	remote_settle(r); /* or nothing is held: refused() */
	return f;
}

static void thaw(struct remote *r, struct freeze *f)
{
	remote_unsettle(r);
	freeze_end(f);
}

static struct hold_range all(void)
{
	return (struct hold_range){board->area / PAGE, NPAGES};
}

static void helper(pid_t pid, struct remote *r, struct pin *pin)
{
	struct inject_err why = {0};

	if (inject_helper(pid, 0, r, &why) || pin_open_remote(pin, r))
		die(why.why ? why.why : "no ring");
	pin_range(pin, board->area, NPAGES * PAGE, 0, NULL, NULL);
}

static void end(pid_t pid, struct remote *r, struct pin *pin)
{
	struct inject_err why;

	pin_close(pin);
	inject_remove(r, &why);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void control(void)
{
	pid_t pid = spawn();
	uint64_t pfn[NPAGES];
	struct remote r;
	struct pin pin;

	helper(pid, &r, &pin);
	frames(&r, pfn);
	give_back();
	usleep(200000);
	tap_eq(kept(pfn, 0, NPAGES), NPAGES, "pinned frames outlive that their program gives them back");
	end(pid, &r, &pin);

	pid = spawn();
	helper(pid, &r, &pin);
	frames(&r, pfn);
	tap_eq(as_user(takes_pins_away, &r), 1, "the control: a user can empty the ring of an own program's helper");
	give_back();
	for (int i = 0; i < 600 && kept(pfn, 0, NPAGES); i++) /* 6.1 lets go a second later */
		usleep(10000);
	tap_ok(kept(pfn, 0, NPAGES) < NPAGES, "then pins alone do not keep the frames");
	end(pid, &r, &pin);
}

static void held(void)
{
	pid_t pid = spawn();
	struct hold h = HOLD_NONE;
	uint64_t pfn[NPAGES];
	struct freeze *f;
	struct remote r;
	struct pin pin;

	helper(pid, &r, &pin);
	tap_eq(hold_open(&h), 0, "pipes to hold with");
	f = freeze(&r);
	tap_eq(hold_take(&h, &r, &(struct hold_range){board->area / PAGE, 8}, 1, NULL, NULL), 0, "some pages are held");
	tap_eq(hold_take(&h, &r, &(struct hold_range){board->area / PAGE + 8, NPAGES - 8}, 1, NULL, NULL), 0, "and the others");
	tap_eq(h.pages, NPAGES, "all of them");
	frames(&r, pfn);
	thaw(&r, f);
	tap_eq(as_user(takes_pins_away, &r), 1, "the user empties the ring");
	tap_eq(as_user(reads_the_chute, &r), 0, "the user gets nothing out of the chute");
	tap_eq(as_user(traces, &r), 0, "the user cannot trace the helper");
	tap_eq(as_user(writes_to_the_desk, &r), 0, "nor write to the desk");
	give_back();
	usleep(1500000);
	tap_eq(kept(pfn, 0, NPAGES), NPAGES, "frames that are held are nobody else's");
	tap_eq(hold_release(&h, board->area / PAGE + 4, 20), 0, "some are let go of");
	tap_eq(h.pages, NPAGES - 20, "they are counted");
	tap_ok(kept(pfn, 4, 24) < 20, "they are free to go");
	tap_eq(kept(pfn, 0, 4) + kept(pfn, 24, NPAGES), NPAGES - 20, "no others");
	tap_eq(hold_release(&h, 0, UINT64_C(1) << 40), 0, "the rest");
	tap_eq(h.pages, 0, "is let go of");
	tap_ok(kept(pfn, 0, NPAGES) < NPAGES / 2, "it goes");
	hold_close(&h);
	end(pid, &r, &pin);
}

static void kept_by_the_safe(void)
{
	pid_t pid = spawn(), keeper;
	struct hold h = HOLD_NONE;
	uint64_t pfn[NPAGES];
	struct hold_range range = all();
	struct freeze *f;
	struct remote r;
	struct pin pin;

	helper(pid, &r, &pin);
	hold_open(&h);
	keeper = fork();
	if (keeper == 0) {
		for (int fd = 3; fd < 1024; fd++)
			if (fd != hold_safe(&h))
				close(fd);
		for (;;)
			pause();
	}
	f = freeze(&r);
	tap_eq(hold_take(&h, &r, &range, 1, NULL, NULL), 0, "held, with a process that has the safe since before");
	frames(&r, pfn);
	thaw(&r, f);
	hold_close(&h);
	end(pid, &r, &pin);
	usleep(1500000);
	tap_eq(kept(pfn, 0, NPAGES), NPAGES, "program, helper and holder are gone: frames stay");
	kill(keeper, SIGKILL);
	waitpid(keeper, NULL, 0);
	for (int i = 0; i < 6000 && kept(pfn, 0, NPAGES) == NPAGES; i++)
		usleep(10000);
	tap_ok(kept(pfn, 0, NPAGES) < NPAGES, "until the safe is closed");
}

static int misses;

static void on_missed(void *ctx, uint64_t vpn, uint64_t npages)
{
	*(uint64_t *)ctx = vpn;
	misses += npages;
}

static void refused(void)
{
	pid_t pid = spawn();
	struct hold h = HOLD_NONE;
	struct hold_range range = all(), with_hole[2] = {all(), {2, 3}};
	uint64_t where = 0;
	struct freeze *f;
	struct remote r;
	struct pin pin;

	helper(pid, &r, &pin);
	hold_open(&h);
	f = freeze(&r);
	tap_eq(as_user(pollutes_the_chute, &r), 1, "the user puts something into the chute");
	tap_eq(hold_take(&h, &r, &range, 1, NULL, NULL), -EPROTO, "that is noticed: nothing counts as held");
	tap_eq(h.pages, 0, "nothing is");
	tap_eq(hold_take(&h, &r, with_hole, 2, on_missed, &where), 0, "the chute is clean again");
	tap_ok(h.pages == NPAGES && misses == 3 && where == 2, "what is not there is said, the rest is held");
	thaw(&r, f);
	hold_release(&h, 0, UINT64_C(1) << 40);
	remote_syscall(&r, SYS_mmap, (uint64_t[6]){r.data, REMOTE_DATA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0});
	remote_write(&r, r.data, &(struct iovec){(void *)(uintptr_t)board->area, PAGE}, sizeof(struct iovec));
	f = freeze(&r);
	tap_eq(hold_take(&h, &r, &(struct hold_range){board->area / PAGE + 1, 1}, 1, NULL, NULL), -EPROTO,
	       "a desk of the program's own, with the address of another page, is noticed");
	thaw(&r, f);
	hold_close(&h);
	end(pid, &r, &pin);
}

static bool kept_shared(uint64_t pfn)
{
	const uint64_t flags = of_frame("/proc/kpageflags", pfn);

	return flags >> KPF_SWAPBACKED & 1 && flags >> KPF_UPTODATE & 1 && of_frame("/proc/kpagecount", pfn) == 0;
}

/* Shared memory, which somebody else takes pages out of. */
static void shared(void)
{
	int fd = memfd_create("shared", MFD_CLOEXEC);
	uint64_t got[HOLD_SHARED_PAGES], word[16];
	struct hold h = HOLD_NONE;
	char *p;
	int same = 0, pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (ftruncate(fd, 16 * PAGE))
		die("ftruncate");
	p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(p, 3, 16 * PAGE);
	hold_open(&h);
	tap_eq(hold_take_shared(&h, fd, 2, 1000, 12, got), 0, "pages of shared memory are held by way of another mapping");
	if (pread(pagemap, word, sizeof(word), (uintptr_t)p / PAGE * 8) != sizeof(word))
		die("pagemap");
	for (int i = 0; i < 12; i++)
		same += got[i] && got[i] == (word[i + 2] & RLE_PTE_PFN_MASK);
	tap_eq(same, 12, "they are the frames that everybody has");
	fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 16 * PAGE);
	memset(p, 4, 16 * PAGE);
	same = 0;
	for (int i = 0; i < 12; i++)
		same += kept_shared(got[i]);
	tap_eq(same, 12, "taken out of the file they stay, and are nobody's");
	hold_release(&h, 1000, 4);
	same = 0;
	for (int i = 4; i < 12; i++)
		same += kept_shared(got[i]);
	tap_ok(h.pages == 8 && same == 8, "and are let go of as others are");
	tap_ok(hold_take_shared(&h, pagemap, 0, 2000, 1, got) < 0, "what cannot be mapped is an error");
	hold_close(&h);
	munmap(p, 16 * PAGE);
	close(fd);
	close(pagemap);
}

/* More pages than a box has places, in pieces, and taken away here and there: a model says what must be left. */
static void many(void)
{
	enum { MANY = 6000 };
	static bool model[MANY];
	static uint64_t word[MANY];
	pid_t pid = spawn();
	struct hold h = HOLD_NONE;
	struct freeze *f;
	struct remote r;
	uint64_t at, left = 0, wrong = 0;
	unsigned int seed = 5;
	struct inject_err why;
	int bad = 0;

	if (inject_helper(pid, 0, &r, &why))
		die(why.why);
	hold_open(&h);
	at = remote_syscall(&r, SYS_mmap, (uint64_t[6]){0, MANY * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0}) / PAGE;
	f = freeze(&r);
	for (uint64_t i = 0; i < MANY;) {
		struct hold_range part[8];
		size_t n = 0;

		for (; n < 8 && i < MANY; n++) { /* with holes in between */
			uint64_t npages = 1 + rand_r(&seed) % 700;

			npages = npages < MANY - i ? npages : MANY - i;
			part[n] = (struct hold_range){at + i, npages};
			for (uint64_t k = i; k < i + npages; k++)
				model[k] = true;
			left += npages;
			i += npages + rand_r(&seed) % 3;
		}
		bad += hold_take(&h, &r, part, n, NULL, NULL) != 0;
	}
	thaw(&r, f);
	tap_ok(!bad && h.pages == left, "thousands of pages are held in pieces");
	for (int round = 0; round < 300; round++) {
		uint64_t from = rand_r(&seed) % MANY, npages = 1 + rand_r(&seed) % 90;

		for (uint64_t k = from; k < from + npages && k < MANY; k++) {
			left -= model[k];
			model[k] = false;
		}
		bad += hold_release(&h, at + from, npages) != 0;
	}
	tap_ok(!bad && h.pages == left && !h.broken, "and let go of here and there");
	/* The frames themselves, when the program has none of them any more. */
	bad = pread(r.pagemap_fd, word, sizeof(word), at * 8) != sizeof(word);
	remote_syscall(&r, SYS_munmap, (uint64_t[6]){at * PAGE, MANY * PAGE});
	for (size_t i = 0; i < MANY && !bad; i++) {
		uint64_t pfn = word[i] & RLE_PTE_PFN_MASK;

		if (model[i])
			wrong += !(of_frame("/proc/kpageflags", pfn) >> KPF_ANON & 1);
	}
	tap_eq(bad + wrong, 0, "exactly those that the model has are kept");
	hold_close(&h);
	inject_remove(&r, &why);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static bool can(void)
{
	struct pin p;
	int err;

	if (getuid())
		return false;
	err = pin_open(&p);
	if (!err)
		pin_close(&p);
	return !err && of_frame("/proc/kpageflags", 1) != UINT64_MAX && of_frame("/proc/kpagecount", 1) != UINT64_MAX;
}

int main(void)
{
	board = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!can()) {
		tap_skip("holding frames", "needs root, io_uring, /proc/kpageflags and /proc/kpagecount");
		return tap_done();
	}
	control();
	held();
	kept_by_the_safe();
	refused();
	shared();
	many();
	return tap_done();
}
