/* pagetables.c - the reader on live processes whose page tables are known
 *
 * A child changes its address space step by step, with system calls and stores only.  Before and after each step its
 * page table is read with everything the kernel offers, with plain files only, and by a model that looks at one page
 * at a time: all three must agree on every count, and the difference made by the step must be what the step did.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "rle/proc.h"
#include "rle/stats.h"
#include "tests/tap.h"
#include "tests/tree.h"

#define PAGE 4096ul
#define MIB (1ul << 20)
#define MADV_GUARD_INSTALL 102 /* Linux 6.13 */

static struct rle_src src;

/* --- the model: one pread a page, every definition spelled out ----------------------------------------------------- */

static bool in_ram(uint64_t pfn)
{
	for (size_t i = 0; i < src.frames.nram; i++)
		if (pfn >= src.ram[i].first.n && pfn < src.ram[i].first.n + src.ram[i].npages)
			return true;
	return false;
}

static void model(pid_t pid, struct rle_counts *n)
{
	char path[64], line[8192], prot[8], last_prot[8] = "";
	uint64_t from, to, last_vpn = 0, last_pte = 0, word;
	FILE *maps;
	int fd;

	memset(n, 0, sizeof(*n));
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	while (maps && fgets(line, sizeof(line), maps)) {
		if (strstr(line, "[v"))
			continue;
		if (sscanf(line, "%lx-%lx %4s", &from, &to, prot) != 3)
			errx(2, "%s", line);
		n->vmas++;
		n->mapped += (to - from) / PAGE;
		if (to - from > (1ul << 34)) /* too large for one pread a page */
			continue;
		for (uint64_t vpn = from / PAGE; vpn < to / PAGE; vpn++) {
			if (pread(fd, &word, 8, (off_t)(vpn * 8)) != 8)
				errx(2, "pagemap of %d at %lx", pid, vpn);
			if (!(word >> 63)) {
				n->guard += word >> 58 & 1;
				n->swapped += (word >> 62 & 1) && !(word >> 58 & 1) && (word & 31) < 23;
				continue;
			}
			uint64_t pfn = word << 9 >> 9;

			n->present++;
			n->file += word >> 61 & 1;
			n->exclusive += word >> 56 & 1;
			n->device += !in_ram(pfn);
			bool next = last_pte && vpn == last_vpn + 1 && pfn == (last_pte << 9 >> 9) + 1;

			n->runs[RLE_SPLIT_VPN_PFN] += !next;
			n->runs[RLE_SPLIT_PROT] += !next || strcmp(prot, last_prot);
			n->runs[RLE_SPLIT_ATTR] += !next || strcmp(prot, last_prot) || (word ^ last_pte) >> 61 & 1;
			last_vpn = vpn;
			last_pte = word;
			strcpy(last_prot, prot);
		}
	}
	if (maps)
		fclose(maps);
	close(fd);
}

/* --- the reader ---------------------------------------------------------------------------------------------------- */

static struct rle_stats stats;
static struct rle_run longest;

static int count_run(void *ctx, const struct rle_run *run, enum rle_end end)
{
	(void)ctx, (void)end;
	if (run->npages > longest.npages)
		longest = *run;
	rle_stats_run(&stats, run);
	return 0;
}

static int scan(pid_t pid, bool ioctls, struct rle_counts *n)
{
	struct rle_proc p;
	struct rle_enc e;
	bool query = src.procmap_query, pmscan = src.pagemap_scan;
	int r = rle_proc_open(&p, &src, pid);

	if (r)
		return r;
	if (!ioctls)
		src.procmap_query = src.pagemap_scan = false;
	rle_stats_reset(&stats);
	longest.npages = 0;
	rle_enc_init(&e, RLE_SPLIT_VPN_PFN, count_run, NULL, &src.frames);
	r = rle_proc_scan(&p, &e, NULL);
	rle_stats_finish(&stats);
	if (!ioctls)
		src.procmap_query = query, src.pagemap_scan = pmscan;
	rle_proc_close(&p);
	*n = e.n;
	return r;
}

static bool same(const struct rle_counts *a, const struct rle_counts *b, bool all)
{
	bool eq = a->vmas == b->vmas && a->mapped == b->mapped;

	if (all)
		eq = eq && a->present == b->present && !memcmp(a->runs, b->runs, sizeof(a->runs)) && a->swapped == b->swapped &&
		     a->guard == b->guard && a->device == b->device && a->file == b->file && a->exclusive == b->exclusive;
	if (!eq)
		printf("# vmas %lu/%lu mapped %lu/%lu present %lu/%lu runs %lu,%lu,%lu/%lu,%lu,%lu swapped %lu/%lu guard %lu/%lu "
		       "device %lu/%lu file %lu/%lu exclusive %lu/%lu\n",
		       a->vmas, b->vmas, a->mapped, b->mapped, a->present, b->present, a->runs[0], a->runs[1], a->runs[2], b->runs[0],
		       b->runs[1], b->runs[2], a->swapped, b->swapped, a->guard, b->guard, a->device, b->device, a->file, b->file,
		       a->exclusive, b->exclusive);
	return eq;
}

/* --- the child ----------------------------------------------------------------------------------------------------- */

static struct {
	int cmd, done;
	pid_t pid;
} child;
static volatile struct {
	char *area;
	long result;
	uint64_t sparse_bytes;
} *shared;
static char device_path[300];
static size_t device_bytes;

static char *area(size_t bytes, int flags)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static void touch(char *p, size_t n, size_t step)
{
	for (size_t i = 0; i < n; i++)
		((volatile char *)p)[i * step] = 1;
}

static char *aligned(char *p)
{
	return (char *)(((uintptr_t)p + 2 * MIB - 1) & ~(2 * MIB - 1));
}

static long step(int what)
{
	char *p;
	int fd;

	switch (what) {
	case '.': /* nothing, but with every call that a step makes, so that none is made for the first time in one */
		p = area(PAGE, MAP_PRIVATE);
		madvise(p, PAGE, MADV_NOHUGEPAGE);
		touch(p, 1, PAGE);
		mprotect(p, PAGE, PROT_READ);
		fd = open("/dev/null", O_RDONLY);
		mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
		close(fd);
		return munmap(p, PAGE);
	case '4': /* 100 pages of 4 KiB, 70 written */
		p = area(100 * PAGE, MAP_PRIVATE);
		madvise(p, 100 * PAGE, MADV_NOHUGEPAGE);
		touch(p, 70, PAGE);
		return 0;
	case 'T': /* 16 MiB in huge pages, if the kernel has some */
		p = aligned(area(18 * MIB, MAP_PRIVATE));
		madvise(p, 16 * MIB, MADV_HUGEPAGE);
		touch(p, 16 * MIB / PAGE, PAGE);
		shared->area = p;
		return 0;
	case 't': /* the same with one page in the middle taken out, and nobody may put it back (khugepaged would) */
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
		return madvise(shared->area + 8 * MIB + 5 * PAGE, PAGE, MADV_DONTNEED);
	case 'H': /* 4 hugetlb pages */
		p = area(8 * MIB, MAP_PRIVATE | MAP_HUGETLB);
		if (!p)
			return -1;
		touch(p, 4, 2 * MIB);
		return 0;
	case 'S': /* 50 pages of shared memory */
		touch(area(50 * PAGE, MAP_SHARED), 50, PAGE);
		return 0;
	case 'L': /* 1 TiB reserved, or what else the parent says, and 100 pages of it written */
		p = area(shared->sparse_bytes, MAP_PRIVATE);
		if (!p)
			return -1;
		madvise(p, shared->sparse_bytes, MADV_NOHUGEPAGE);
		touch(p, 100, shared->sparse_bytes / 128 + 4 * PAGE);
		shared->area = p;
		return 0;
	case 'l':
		return munmap(shared->area, shared->sparse_bytes);
	case 'Z': /* 64 pages read but never written */
		p = area(64 * PAGE, MAP_PRIVATE);
		madvise(p, 64 * PAGE, MADV_NOHUGEPAGE);
		for (size_t i = 0; i < 64; i++)
			(void)((volatile char *)p)[i * PAGE];
		return 0;
	case 'G': /* 20 guard pages in 30 */
		p = area(30 * PAGE, MAP_PRIVATE);
		return madvise(p, 20 * PAGE, MADV_GUARD_INSTALL);
	case 'N': /* nothing allowed, nothing there */
		return mprotect(area(40 * PAGE, MAP_PRIVATE), 40 * PAGE, PROT_NONE);
	case 'D':
		fd = open(device_path, O_RDWR);
		if (fd < 0 || mmap(NULL, device_bytes, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
			return -1;
		return 0;
	case 'P': /* 2000 mappings: every other page of another protection */
		p = area(2000 * PAGE, MAP_PRIVATE);
		touch(p, 2000, PAGE);
		for (size_t i = 0; i < 2000; i += 2)
			mprotect(p + i * PAGE, PAGE, PROT_READ);
		return 0;
	}
	return 0;
}

/* The child is a program of its own, so that nothing this one does changes its pages. */
static int child_main(char **argv)
{
	int to = atoi(argv[2]), from = atoi(argv[3]);
	char cmd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[4]), 0);
	snprintf(device_path, sizeof(device_path), "%s", argv[5]);
	device_bytes = strtoul(argv[6], NULL, 0);
	while (read(to, &cmd, 1) == 1) {
		shared->result = step(cmd);
		if (write(from, &cmd, 1) != 1)
			break;
	}
	return 0;
}

static void child_start(int shared_fd)
{
	int to[2], from[2];

	if (pipe(to) || pipe(from))
		err(2, "pipe");
	child.pid = fork();
	if (!child.pid) {
		char arg[4][24];

		snprintf(arg[0], sizeof(arg[0]), "%d", to[0]);
		snprintf(arg[1], sizeof(arg[1]), "%d", from[1]);
		snprintf(arg[2], sizeof(arg[2]), "%d", shared_fd);
		snprintf(arg[3], sizeof(arg[3]), "%zu", device_bytes);
		close(to[1]);
		close(from[0]);
		execl("/proc/self/exe", "pagetables", "child", arg[0], arg[1], arg[2], device_path, arg[3], NULL);
		_exit(1);
	}
	close(to[0]);
	close(from[1]);
	child.cmd = to[1];
	child.done = from[0];
}

static bool tell(char cmd)
{
	char c;

	return write(child.cmd, &cmd, 1) == 1 && read(child.done, &c, 1) == 1 && !shared->result;
}

/* Does one step and checks that all readers agree afterwards; d: what the step changed. */
static bool change(char cmd, const char *what, struct rle_counts *d)
{
	struct rle_counts a, b, plain, by_page;

	tell('.'); /* the first call touches what the child needs for talking */
	scan(child.pid, true, &a);
	if (!tell(cmd))
		return false;
	int r = scan(child.pid, true, &b), q = scan(child.pid, false, &plain);

	model(child.pid, &by_page);
	tap_ok(!r && !q && same(&b, &plain, true), "%s: with and without the ioctls the same is read", what);
	tap_ok(same(&b, &by_page, cmd != 'L'), "%s: page by page too", what);
	*d = (struct rle_counts){
		.vmas = b.vmas - a.vmas,
		.mapped = b.mapped - a.mapped,
		.present = b.present - a.present,
		.zero = b.zero - a.zero,
		.file = b.file - a.file,
		.guard = b.guard - a.guard,
		.device = b.device - a.device,
		.runs = {b.runs[0] - a.runs[0], b.runs[1] - a.runs[1], b.runs[2] - a.runs[2]},
	};
	return true;
}

static long sysctl_long(const char *path, long set)
{
	FILE *f = fopen(path, set < 0 ? "r" : "w");
	long v = -1;

	if (!f)
		return -1;
	if (set < 0) {
		if (fscanf(f, "%ld", &v) != 1)
			v = -1;
	} else {
		fprintf(f, "%ld\n", set);
		v = set;
	}
	return fclose(f) ? -1 : v;
}

static void hugetlb(void)
{
	static const char pool[] = "/proc/sys/vm/nr_hugepages";
	long before = sysctl_long(pool, -1);
	struct rle_proc_status st;
	struct rle_counts d;
	struct rle_proc p;

	if (before < 0 || sysctl_long(pool, before + 4) < 0 || sysctl_long(pool, -1) < before + 4 || !change('H', "hugetlb", &d)) {
		tap_skip("hugetlb pages", "the kernel gave no 4 huge pages");
	} else {
		tap_ok(d.present == 2048 && d.mapped == 2048 && d.runs[0] <= 4, "hugetlb: 4 pages of 2 MiB are 2048 entries in at most 4 runs");
		tap_ok(!rle_proc_open(&p, &src, child.pid) && !rle_proc_status(&p, &st) && st.hugetlb_pages == 2048,
		       "hugetlb: and are counted by status");
		struct rle_counts by_query, by_text;

		tap_ok(!scan(child.pid, true, &by_query) && !scan(child.pid, false, &by_text) && by_query.hugetlb_mapped == 2048 &&
			       by_text.hugetlb_mapped == 2048,
		       "hugetlb: and by their mapping, asked for or read");
		rle_proc_close(&p);
	}
	if (before >= 0)
		sysctl_long(pool, before);
}

static void find_device(void)
{
	FILE *f = popen("for r in /sys/bus/pci/devices/*/resource?; do s=$(stat -c %s $r) && [ $s -ge 4096 ] && [ $s -le 1048576 ] && "
			"echo $r $s; done 2>/dev/null | head -1",
			"r");

	if (f && fscanf(f, "%299s %zu", device_path, &device_bytes) != 2)
		device_path[0] = '\0';
	if (f)
		pclose(f);
}

static void steps(void)
{
	struct rle_counts d;

	change('4', "4 KiB pages", &d);
	tap_ok(d.mapped == 100 && d.present == 70, "4 KiB pages: 70 of 100 are present");
	change('T', "THP", &d);
	tap_ok(d.present == 16 * MIB / PAGE, "THP: 4096 present");
	if (stats.aligned[RLE_2M] >= 2048) {
		tap_ok(d.runs[0] <= 8 && longest.npages >= 512, "THP: in at most 8 runs");
		change('t', "split THP", &d);
		tap_ok(d.present == (uint64_t)-1 && (d.runs[0] == 1 || d.runs[0] == 0), "split THP: one page less");
	} else {
		tap_skip("THP: in at most 8 runs", "the kernel gave no huge pages");
	}
	hugetlb();
	change('S', "shared memory", &d);
	tap_ok(d.present == 50 && d.file == 50, "shared memory: 50 present, as file pages");
	/* without PAGEMAP_SCAN every hole is read: 17 s for 16 TB, and ten times that in an emulated machine */
	shared->sparse_bytes = src.pagemap_scan ? 1ul << 40 : 1ul << 35;
	if (change('L', "sparse", &d))
		tap_ok(d.mapped == shared->sparse_bytes / PAGE && d.present == 100 && d.runs[0] >= 100, "sparse: 100 pages found in %lu GiB",
		       shared->sparse_bytes >> 30);
	else
		tap_skip("sparse", "the kernel gave no such mapping");
	change('l', "unmapped again", &d);
	tap_ok(d.mapped == -(shared->sparse_bytes / PAGE), "unmapped again: nothing of it is left");
	change('Z', "zero page", &d);
	tap_ok(d.present == 64 && d.zero == 64 && d.runs[0] >= 63, "zero page: 64 entries, each a run of its own, counted apart");
	if (change('G', "guard pages", &d))
		tap_ok(d.mapped == 30 && d.present == 0 && d.guard == 20, "guard pages: 20, none present");
	else
		tap_skip("guard pages", "the kernel has none (before 6.13)");
	change('N', "PROT_NONE", &d);
	tap_ok(d.mapped == 40 && d.present == 0, "PROT_NONE: mapped, not present");
	if (device_path[0] && change('D', "device memory", &d))
		tap_ok(d.mapped == device_bytes / PAGE && d.present == 0,
		       "device memory: %zu pages mapped, whose entries pagemap does not show (VM_PFNMAP, mm/pagewalk.c)", device_bytes / PAGE);
	else
		tap_skip("device memory", "no PCI resource of 4 KiB to 1 MiB can be mapped");
	change('P', "2000 mappings", &d);
	tap_ok(d.present == 2000 && d.vmas >= 1999 && d.runs[1] >= 1999, "2000 mappings: 2000 present, split by protection everywhere");
}

/* fork: the same frames twice, until one side writes */
static void fork_and_cow(void)
{
	size_t n = 300;
	char *p = area(n * PAGE, MAP_PRIVATE), c;
	struct rle_counts before, after;
	int to[2], from[2];

	madvise(p, n * PAGE, MADV_NOHUGEPAGE);
	touch(p, n, PAGE);
	if (pipe(to) || pipe(from))
		err(2, "pipe");
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int round = 0; round < 2; round++) /* the first makes present what talking needs */
			if (write(from[1], "", 1) != 1 || read(to[0], &c, 1) != 1)
				_exit(1);
		touch(p, 120, PAGE);
		if (write(from[1], "", 1) != 1 || read(to[0], &c, 1) != 1)
			_exit(1);
		_exit(0);
	}
	if (read(from[0], &c, 1) != 1 || write(to[1], "", 1) != 1 || read(from[0], &c, 1) != 1)
		err(2, "read");
	scan(pid, true, &before); /* our own writes to what we share with the child are done now */
	scan(pid, true, &before);
	if (write(to[1], "", 1) != 1 || read(from[0], &c, 1) != 1)
		err(2, "write");
	scan(pid, true, &after);
	tap_ok(before.present == after.present, "fork: copying on write changes no count of present pages");
	tap_ok(after.exclusive - before.exclusive == 120, "fork: 120 pages written by the child are its own then");
	tap_ok(before.exclusive + n <= before.present, "fork: before, none of them is");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A process that exits or execs while it is read: -ESRCH or a whole answer, never a part of one. */
static void vanishing(void)
{
	int whole = 0, gone = 0, wrong = 0;
	size_t n = 20000;

	for (int i = 0; i < 60; i++) {
		struct rle_counts c;
		pid_t pid = fork();

		if (!pid) {
			char *p = area(n * PAGE, MAP_PRIVATE);

			madvise(p, n * PAGE, MADV_NOHUGEPAGE);
			touch(p, n, PAGE);
			shared->result = 1;
			usleep(i * 30);
			if (i % 2)
				execl("/bin/sleep", "sleep", "5", NULL);
			_exit(0);
		}
		shared->result = 0;
		while (!shared->result)
			usleep(50);
		/* until it is a zombie or another program: each scan must be one or the other */
		for (int k = 0; k < 40; k++) {
			int r = scan(pid, k % 2, &c);

			if (r == -ESRCH) {
				gone++;
				break;
			}
			if (r || (c.present < n && c.present > 3000))
				wrong++;
			whole++;
			if (c.present < n)
				break;
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	printf("# %d scans whole, %d found it gone\n", whole, gone);
	tap_eq(wrong, 0, "exit and exec in mid-scan: no part of a process is taken for the whole");
	tap_ok(gone > 10, "and the scan did meet processes that were gone");
}

static void pid_reuse(void)
{
	struct rle_proc p;
	struct rle_counts c;
	struct rle_enc e;
	pid_t pid = fork(), again = 0;

	if (!pid)
		pause();
	if (rle_proc_open(&p, &src, pid))
		errx(2, "cannot open a child");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (int i = 0; i < 200 && again != pid; i++) {
		if (sysctl_long("/proc/sys/kernel/ns_last_pid", pid - 1) < 0)
			break;
		again = fork();
		if (!again)
			pause();
		if (again != pid) {
			kill(again, SIGKILL);
			waitpid(again, NULL, 0);
		}
	}
	if (again != pid) {
		tap_skip("PID reuse", "the PID could not be had again");
	} else {
		rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, NULL);
		tap_eq(rle_proc_scan(&p, &e, NULL), -ESRCH, "PID reuse: the old descriptor finds nobody");
		tap_eq(scan(pid, true, &c), 0, "PID reuse: a new one finds the new process");
		kill(again, SIGKILL);
		waitpid(again, NULL, 0);
	}
	rle_proc_close(&p);
}

static void unprivileged(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		struct rle_src s;
		const char *why = NULL;
		int r;

		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(9);
		r = rle_src_open(&s, NULL, RLE_JOIN_NONE, &why);
		_exit(r == -EPERM && why ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	tap_eq(status, 0, "without CAP_SYS_ADMIN the source refuses");
	pid = fork();
	if (!pid) {
		struct rle_src s;

		if (unshare(CLONE_NEWUSER))
			_exit(77);
		_exit(rle_src_open(&s, NULL, RLE_JOIN_NONE, NULL) == -EPERM ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		tap_skip("in a user namespace the source refuses", "no user namespaces here");
	else
		tap_eq(status, 0, "in a user namespace, root there or not, the source refuses");
}

int main(int argc, char **argv)
{
	const char *why;

	if (argc == 7 && !strcmp(argv[1], "child"))
		return child_main(argv);
	int r = rle_src_open(&src, NULL, RLE_JOIN_NONE, &why);

	if (r) {
		tap_skip("page tables of live processes", why);
		return tap_done();
	}
	int fd = memfd_create("shared", 0);

	if (fd < 0 || ftruncate(fd, PAGE))
		err(2, "memfd_create");
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	find_device();
	child_start(fd);
	steps();
	kill(child.pid, SIGKILL);
	waitpid(child.pid, NULL, 0);
	fork_and_cow();
	vanishing();
	pid_reuse();
	unprivileged();
	printf("# PROCMAP_QUERY %s, PAGEMAP_SCAN %s\n", src.procmap_query ? "used" : "not there", src.pagemap_scan ? "used" : "not there");
	rle_src_close(&src);
	return tap_done();
}
