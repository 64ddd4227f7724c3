/* host_windows.c - the device window: room in it, a thread put into a VMM, files mapped there, and what goes wrong
 *
 * The VMM is played: vmm_played.h.
 */
#include "runtime/host/window/windows.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rle/addr.h"
#include "rle/cleanup.h"
#include "runtime/host/window/window.h"
#include "tests/tap.h"
#include "tests/windows_played.h"

/* --- room -------------------------------------------------------------------------------------------------------------- */

/* Against an array with the owners of each page, a bit each. */
static uint32_t model[PAGES];

static bool all_of(uint64_t at, uint64_t npages, uint32_t bit, bool has)
{
	for (uint64_t i = at; i < at + npages; i++)
		if (i >= PAGES || !i || !(model[i] & bit) == has)
			return false;
	return true;
}

static uint32_t owners_of(const struct window *room, uint64_t page)
{
	uint32_t bits = 0, at = 0;
	uint64_t who;

	while ((who = window_owner(room, page, &at)))
		bits |= bits & 1u << who ? 1u << 31 : 1u << who; /* nobody twice */
	return bits;
}

static uint32_t try_take(struct window *room, uint64_t who, uint64_t npages, uint64_t free, uint32_t *full, uint32_t *split)
{
	struct ds_window_extent e[DS_WINDOW_EXTENTS_MAX];
	uint64_t got = 0, largest;
	uint32_t bad = 0;
	uint16_t n;
	int r;

	window_room(room, &largest);
	r = window_take(room, who, npages, e, &n);
	*full += r == -ENOMEM && free >= npages;
	*split += n > 1;
	bad += r ? r != -ENOMEM || n || (largest >= npages) : n == 0;
	for (uint32_t k = 0; k < n; k++)
		for (uint64_t i = 0; i < e[k].npages; i++, got++) {
			bad += model[e[k].page + i] != 0;
			model[e[k].page + i] = 1u << who;
		}
	return bad + (!r && got != npages);
}

static uint32_t try_share(struct window *room, uint64_t who, uint64_t with, uint64_t at, uint64_t npages)
{
	const bool has = all_of(at, npages, 1u << who, true), clash = !all_of(at, npages, 1u << with, false);
	const int r = window_share(room, who, with, at, npages);

	for (uint64_t i = at; !r && i < at + npages; i++)
		model[i] |= 1u << with;
	return r != (!has ? -EINVAL : clash ? -EEXIST : 0);
}

static uint32_t try_give(struct window *room, uint64_t who, uint64_t at, uint64_t npages)
{
	const bool owned = all_of(at, npages, 1u << who, true);
	struct ds_window_extent e;
	uint32_t bad = window_owns(room, who, at, npages) != owned;
	uint64_t i;

	bad += window_give(room, who, at, npages) != (owned ? 0 : -EINVAL);
	for (i = at; owned && i < at + npages; i++)
		model[i] &= ~(1u << who);
	/* What is nobody's now, stretch by stretch. */
	for (i = at; window_unowned(room, i, at + npages, &e); i = e.page + e.npages) {
		for (; i < e.page; i++)
			bad += i && i < PAGES && !model[i];
		for (; i < e.page + e.npages; i++)
			bad += i >= PAGES || model[i] != 0;
	}
	for (; i < at + npages && i < PAGES; i++)
		bad += i && !model[i];
	return bad;
}

static void test_room(void)
{
	uint32_t bad = 0, seed = 1, full = 0, split = 0, shared = 0;
	struct window room;
	struct ds_window_extent e;
	uint64_t largest;

	if (window_init(&room, 1, PAGES))
		exit(2);
	for (uint32_t step = 0; step < 30000; step++) {
		const uint64_t who = 1 + (seed = seed * 1664525u + 1013904223u) / 1000 % 4, npages = 1 + (seed >> 8) % 9, at = (seed >> 16) % PAGES;
		uint64_t free = 0;

		for (uint32_t i = 1; i < PAGES; i++) {
			free += !model[i];
			shared += __builtin_popcount(model[i]) > 1;
			bad += step % 8 == 0 && owners_of(&room, i) != model[i];
		}
		bad += window_room(&room, &largest) != free;
		if (seed >> 30 == 0)
			bad += try_take(&room, who, npages, free, &full, &split);
		else if (seed >> 30 == 1)
			bad += try_share(&room, who, 1 + who % 4, at, npages);
		else
			bad += try_give(&room, who, at, npages);
	}
	tap_eq(bad, 0, "pages are given out once, shared with whom their owner says, and free when the last has given them back (30,000 steps against a model)");
	tap_ok(split > 20 && shared > 20, "where no gap is large enough a mapping is made of several pieces (%u times); pages were shared (%u)", split, shared);
	tap_ok(full < 100, "with %u pieces at most there is hardly ever room that cannot be used (%u times)", DS_WINDOW_EXTENTS_MAX, full);
	for (uint64_t who = 1; who <= 4; who++)
		while (window_next(&room, who, &e))
			bad += window_give(&room, who, e.page, e.npages) != 0;
	tap_ok(!bad && window_room(&room, &largest) == PAGES - 1 && largest == PAGES - 1, "what everybody had is one piece again in the end");
	for (uint64_t i = 1; i < 20; i += 2)
		bad += window_take(&room, 1, 2, &e, &(uint16_t){0}) != 0 || window_give(&room, 1, e.page, 1);
	tap_ok(!window_share_all(&room, 1, 2) && owners_of(&room, 2) == 6 && !owners_of(&room, 1) && owners_of(&room, 20) == 6 && !bad,
	       "all that one has can be shared at once");
	window_free(&room);
}

/* --- mapping ----------------------------------------------------------------------------------------------------------- */

static void test_mapping(void)
{
	cleanup_close int file = make_file(8, 1), other = make_file(4, 101);
	struct windows_answer m, n;
	struct vmm v;
	int a, b, left;

	begin(&v, &a, &b);
	tap_eq(load(&v, 5), 0, "at first the window is empty memory");
	m = map(a, file, 3, 2, PROT_READ | PROT_WRITE);
	if (m.err == -ENODEV) {
		tap_skip("the device window", "processes may not be traced here");
		exit(tap_done());
	}
	tap_ok(!m.err && m.mapped.nextents == 1 && m.mapped.extent[0].npages == 3, "a file is mapped, in one piece");
	tap_ok(access(path, F_OK) && errno == ENOENT, "the socket is gone when the VMM's thread has connected");
	tap_eq(tasks(&v), 3, "the VMM has one thread more");
	tap_ok(load(&v, m.mapped.extent[0].page) == 3 && load(&v, m.mapped.extent[0].page + 2) == 5, "the guest sees the file's pages at their offset");
	access_at(&v, m.mapped.extent[0].page + 1, 9, 77);
	tap_eq(byte_of(file, 3, 9), 77, "what the guest stores is in the file");
	tap_ok(pwrite(file, "x", 1, 4 * 4096 + 7) == 1 && load(&v, m.mapped.extent[0].page + 2) == 'x', "what the host stores is seen by the guest");
	n = map(b, other, 4, 0, PROT_READ | PROT_WRITE);
	tap_ok(!n.err && load(&v, n.mapped.extent[0].page) == 101 && load(&v, m.mapped.extent[0].page) == 3, "another shadow's mapping lies beside it");
	tap_eq(unmap(b, m.mapped.extent[0].page, 3), -EINVAL, "a shadow cannot give back what is another's");
	tap_eq(unmap(a, m.mapped.extent[0].page + 1, 1), 0, "one page out of the middle is given back");
	tap_ok(load(&v, m.mapped.extent[0].page) == 3 && load(&v, m.mapped.extent[0].page + 1) == 0 && load(&v, m.mapped.extent[0].page + 2) == 'x',
	       "there the window's own memory is back, empty, and its neighbours are not touched");
	tap_eq(byte_of(file, 3, 9), 77, "the file keeps what was stored");
	tap_eq(map(a, file, BYTES / 4096, 0, PROT_READ).err, -ENOMEM, "more than the window holds: ENOMEM");
	tap_eq(map(a, -1, 1, 0, PROT_READ).err, -EINVAL, "no file: EINVAL");
	left = open("/dev/null", O_RDWR | O_CLOEXEC);
	tap_eq(map(a, left, 1, 0, PROT_READ).err, -ENODEV, "a file that cannot be mapped: the kernel's own ENODEV");
	close(left);
	left = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	tap_eq(map(a, left, 1, 0, PROT_READ | PROT_WRITE).err, -EACCES, "a file that cannot be written: EACCES");
	close(left);
	close(b);
	windows_leave(w, 12);
	tap_eq(load(&v, n.mapped.extent[0].page), 0, "the mapping of a shadow that has ended is gone");
	for (int i = 0; i < 300; i++) {
		n = map(a, file, 1 + (uint64_t)i % 7, 0, PROT_READ | PROT_WRITE);
		if (n.err || load(&v, n.mapped.extent[0].page) != 1 || unmap(a, n.mapped.extent[0].page, n.mapped.extent[0].npages))
			break;
		left = i;
	}
	tap_eq(left, 299, "300 times mapped, seen and given back");
	windows_free(w);
	tap_ok(becomes(&v, m.mapped.extent[0].page, 0), "when dshost's process ends, whatever is mapped goes");
	tap_ok(goes_on(&v), "the VMM is not stopped");
	close(a);
	tap_eq(end_vmm(&v), 0, "and goes on to its own end");
}

/* --- a VMM with the library --------------------------------------------------------------------------------------------- */

/* The process that has the thread is this program again, which is executed with the library. */
static void test_library(const char *self)
{
	cleanup_close int file = make_file(4, 1);
	struct windows_answer m;
	char library[512];
	struct vmm v;
	int a, pair[2];

	snprintf(library, sizeof(library), "LD_PRELOAD=%s/../../lib/libdswindow.so", self);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair))
		exit(2);
	v.pid = fork();
	if (!v.pid) {
		char *const env[] = {library, (char[]){"DARK_WINDOW=1"}, (char[]){"ASAN_OPTIONS=verify_asan_link_order=0"}, NULL};
		char number[3][16];

		close(pair[0]);
		fcntl(vmm_shm, F_SETFD, 0);
		snprintf(number[0], sizeof(number[0]), "%d", pair[1]);
		snprintf(number[1], sizeof(number[1]), "%d", vmm_shm);
		execle("/proc/self/exe", "vmm", number[0], number[1], (char *)NULL, env);
		_exit(2);
	}
	close(pair[1]);
	v.sock = pair[0];
	if (!tap_ok(load(&v, 1) == 0, "a VMM is started with the library") ||
	    windows_new(&w, &(const struct windows_params){.vm = "two", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES}))
		return;
	tap_eq(tasks(&v), 3, "and has its thread from the start");
	windows_vmm(w, v.pid, true);
	a = windows_join(w, 21);
	m = map(a, file, 4, 0, PROT_READ | PROT_WRITE);
	tap_ok(!m.err && load(&v, m.mapped.extent[0].page + 1) == 2, "a file is mapped");
	tap_eq(tasks(&v), 3, "without another thread");
	if (ftruncate(file, 4096))
		exit(2);
	tap_eq(load(&v, m.mapped.extent[0].page + 3), 0, "a page that is gone does not end it");
	windows_free(w);
	tap_ok(becomes(&v, m.mapped.extent[0].page, 0), "the window is whole when the connection ends");
	windows_new(&w, &(const struct windows_params){.vm = "two", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES});
	windows_vmm(w, v.pid, true);
	close(a);
	a = windows_join(w, 22);
	m = map(a, file, 1, 0, PROT_READ | PROT_WRITE);
	tap_ok(!m.err && load(&v, m.mapped.extent[0].page) == 1, "and can be used by the next one");
	windows_free(w);
	close(a);
	end_vmm(&v);
}

/* --- faults ------------------------------------------------------------------------------------------------------------ */

static void test_faults(void)
{
	cleanup_close int file = make_file(4, 1), reads = -1;
	struct windows_answer m, told, r;
	char name[64];
	struct vmm v;
	int a, b;

	begin(&v, &a, &b);
	m = map(a, file, 4, 0, PROT_READ | PROT_WRITE);
	tap_ok(!m.err && load(&v, m.mapped.extent[0].page + 3) == 4, "a file is mapped");
	if (ftruncate(file, 2 * 4096))
		exit(2);
	tap_eq(load(&v, m.mapped.extent[0].page + 3), 0, "the file is cut and the guest touches what is gone: the VMM lives, the page is empty");
	tap_eq(access_at(&v, m.mapped.extent[0].page + 2, 3, 9), 9, "likewise when it writes");
	tap_eq(load(&v, m.mapped.extent[0].page + 1), 2, "what is left of the file is still there");
	work();
	tap_ok(recv(a, &told, sizeof(told), MSG_DONTWAIT) == sizeof(told) && told.what == WINDOWS_FAULT && told.err == SIGBUS &&
		       told.page == m.mapped.extent[0].page + 3,
	       "who has the mapping is told which page it was");
	tap_ok(recv(a, &told, sizeof(told), MSG_DONTWAIT) == sizeof(told) && told.page == m.mapped.extent[0].page + 2, "of each");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", file);
	reads = open(name, O_RDONLY | O_CLOEXEC);
	r = map(b, reads, 2, 0, PROT_READ);
	tap_ok(!r.err && load(&v, r.mapped.extent[0].page) == 1, "a file that can only be read is mapped");
	tap_eq(access_at(&v, r.mapped.extent[0].page, 3, 9), 9, "the guest writes there all the same: the VMM lives");
	tap_eq(byte_of(file, 0, 3), 1, "and the file is as it was");
	tap_eq(load(&v, VMM_NOWHERE), -1, "a fault elsewhere is what it was: the VMM dies of it");
	windows_free(w);
	close(a);
	close(b);
	end_vmm(&v);
}

/* --- a process that is killed ------------------------------------------------------------------------------------------- */

/* The process that has the windows is a child, killed while a file is mapped, or at any moment. */
static void test_killed(void)
{
	cleanup_close int file = make_file(4, 1);
	uint32_t whole = 0, running = 0, ended = 0, mapped = 0;

	for (uint32_t round = 0; round < 20; round++) {
		struct vmm v;
		int ready[2], a, b;
		char byte;
		pid_t pid;

		if (pipe2(ready, O_CLOEXEC))
			exit(2);
		v = start_vmm();
		load(&v, 1);
		pid = fork();
		if (!pid) {
			const struct windows_params p = {.vm = "one", .path = path, .uid = geteuid(), .shm = vmm_shm, .bytes = BYTES};

			close(v.sock);
			if (windows_new(&w, &p))
				_exit(2);
			windows_vmm(w, v.pid, true);
			a = windows_join(w, 1);
			b = map(a, file, 4, 0, PROT_READ | PROT_WRITE).err;
			if (write(ready[1], &b, 1) != 1)
				_exit(2);
			for (;;) {
				const struct windows_answer m = map(a, file, 2, 0, PROT_READ);

				unmap(a, m.mapped.extent[0].page, 2);
			}
		}
		close(ready[1]);
		mapped += read(ready[0], &byte, 1) == 1 && !byte;
		nanosleep(&(struct timespec){.tv_nsec = 50000 * (long)round}, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		whole += becomes(&v, 1, 0) && becomes(&v, 5, 0);
		running += goes_on(&v) && access_at(&v, 3, 1, 44) == 44;
		close(ready[0]);
		ended += end_vmm(&v) == 0;
	}
	tap_eq(mapped, 20, "a file is mapped by a process, 20 times");
	tap_eq(whole, 20, "which is killed: the window is whole again, each time");
	tap_eq(running, 20, "the VMM goes on");
	tap_eq(ended, 20, "to its own end");
}

int main(int argc, char **argv)
{
	char self[400] = "", folder[] = "/tmp/windows-XXXXXX";

	if (argc == 3) {
		vmm_shm = atoi(argv[2]);
		be_vmm(atoi(argv[1]));
	}
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) > 0 && strrchr(self, '/'))
		*strrchr(self, '/') = 0;
	test_room();
	if (!mkdtemp(folder))
		return 2;
	snprintf(path, sizeof(path), "%s/window", folder);
	vmm_make_window();
	test_mapping();
	test_library(self);
	test_faults();
	test_killed();
	unlink(path);
	rmdir(folder);
	return tap_done();
}
