/* replay.c - the reader on recorded trees: plain files, as on kernels without the ioctls */
#include <errno.h>

#include "rle/proc.h"
#include "tests/tap.h"
#include "tests/tree.h"

#define PRESENT RLE_PTE_PRESENT

static struct rle_enc e;

static int keep_last(void *ctx, const struct rle_run *run, enum rle_end end)
{
	(void)end;
	*(struct rle_run *)ctx = *run;
	return 0;
}

static int scan(int pid, enum rle_join join, struct rle_run *last)
{
	struct rle_src src;
	struct rle_proc p;
	const char *why = "";
	int r = rle_src_open(&src, tree_root, join, &why);

	if (r) {
		printf("# %s\n", why);
		return r;
	}
	r = rle_proc_open(&p, &src, pid);
	if (!r) {
		rle_enc_init(&e, RLE_SPLIT_VPN_PFN, last ? keep_last : NULL, last, &src.frames);
		r = rle_proc_scan(&p, &e, NULL);
		rle_proc_close(&p);
	}
	rle_src_close(&src);
	return r;
}

/* What a 5.4 kernel shows of a small program: text, data, heap, stack, and the pages of the kernel. */
static void ordinary(void)
{
	struct rle_run last;

	tree_process(7, "cat", 0);
	tree_file("7/maps",
		  "00400000-00404000 r-xp 00000000 fd:00 123456                             /bin/cat\n"
		  "00404000-00405000 rw-p 00004000 fd:00 123456                             /bin/cat\n"
		  "01000000-01021000 rw-p 00000000 00:00 0                                  [heap]\n"
		  "7f0000000000-7f0000003000 rw-s 00000000 00:05 42                         /dev/zero (deleted)\n"
		  "7ffe00000000-7ffe00002000 rw-p 00000000 00:00 0                          [stack]\n"
		  "7ffe00010000-7ffe00013000 r--p 00000000 00:00 0                          [vvar]\n"
		  "7ffe00013000-7ffe00015000 r-xp 00000000 00:00 0                          [vdso]\n"
		  "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n");
	tree_words("7/pagemap", 0x400, 4, PRESENT | RLE_PTE_FILE | 0x1000, 1);
	tree_words("7/pagemap", 0x404, 1, PRESENT | RLE_PTE_EXCLUSIVE | 0x1004, 1); /* goes on physically, other protection */
	tree_words("7/pagemap", 0x1000, 2, PRESENT | RLE_PTE_EXCLUSIVE | 0x3000, 1);
	tree_words("7/pagemap", 0x1002, 1, RLE_PTE_SWAP | 5 << 5, 0);
	tree_words("7/pagemap", 0x1003, 1, RLE_PTE_SWAP | 30 | 0x9999 << 5, 0);
	tree_words("7/pagemap", 0x1004, 1, RLE_PTE_SWAP | RLE_PTE_GUARD | 31, 0);
	tree_words("7/pagemap", 0x1005, 1, RLE_PTE_SWAP | 31, 0);
	tree_words("7/pagemap", 0x1006, 1, UINT64_C(0x428000000000003e), 0); /* seen on 6.1: shmem write-protected by userfaultfd */
	tree_words("7/pagemap", 0x7f0000000, 3, PRESENT | RLE_PTE_FILE | 0x9002, -UINT64_C(1));
	tree_words("7/pagemap", 0x7ffe00001, 1, PRESENT | RLE_PTE_EXCLUSIVE | 0xaaaa, 0);
	tree_words("7/pagemap", 0x7ffe00010, 5, PRESENT | 0x77, 1);
	tree_file("iomem", "00001000-0009ffff : System RAM\n00100000-08ffffff : System RAM\n  01000000-01ffffff : Kernel code\n"
			   "09000000-09ffffff : Persistent Memory\n  0aa00000-0affffff : System RAM (kmem)\n");
	tap_eq(scan(7, RLE_JOIN_NONE, &last), 0, "a recorded process is read");
	tap_eq(e.n.vmas, 5, "[vdso], [vvar] and [vsyscall] are left out");
	tap_eq(e.n.mapped, 4 + 1 + 33 + 3 + 2, "mapped pages");
	tap_eq(e.n.present, 5 + 2 + 3 + 1, "present pages");
	tap_eq(e.n.runs[RLE_SPLIT_VPN_PFN], 1 + 1 + 3 + 1, "a run goes on over the border of two adjacent mappings; falling frames are runs of one");
	tap_eq(e.n.runs[RLE_SPLIT_PROT], 2 + 1 + 3 + 1, "and is split there by protection");
	tap_ok(e.n.swapped == 1 && e.n.migrating == 1 && e.n.guard == 1 && e.n.marker == 2,
	       "swapped, migrating, guard and marker entries are counted apart");
	tap_eq(e.n.device, 3, "frames outside System RAM (also RAM that a driver gave) are device pages");
	tap_ok(last.vpn.n == 0x7ffe00001 && last.pfn.n == 0xaaaa && last.npages == 1 && last.attr == (RLE_ATTR_READ | RLE_ATTR_WRITE),
	       "the last run is the stack's");
}

static void identity(void)
{
	struct rle_src src;
	struct rle_proc p;
	struct rle_proc_status st;
	char cgroup[64], from[128];

	tree_process(8, "a) R (b\n", 0);
	tree_process(9, "kworker/0:1", 0x00200000);
	rle_src_open(&src, tree_root, RLE_JOIN_NONE, NULL);
	tap_ok(!rle_proc_open(&p, &src, 8) && !strcmp(p.comm, "a) R (b\n") && p.state == 'S' && p.start_ticks == 4711 &&
		       p.vsz_bytes == 8192000 && p.rss_pages == 300 && !p.kthread,
	       "stat is parsed whatever the name holds");
	tap_ok(!rle_proc_status(&p, &st) && st.uid == 1000 && st.hugetlb_pages == 1024, "uid and hugetlb pages from status");
	tap_ok(!rle_proc_cgroup(&p, cgroup, sizeof(cgroup)) && !strcmp(cgroup, "/user.slice/x y"), "the v2 cgroup wins, spaces and all");
	tap_ok(!rle_proc_cgroup(&p, cgroup, 6) && !strcmp(cgroup, "/user"), "a long cgroup is cut to the buffer");
	/* The PID comes back as another process: the descriptor stays with the old one. */
	snprintf(from, sizeof(from), "%s", tree_path("8"));
	if (rename(from, tree_path("8.gone")))
		warn("rename");
	tree_process(8, "impostor", 0);
	tree_file("8/status", "Uid:\t0\t0\t0\t0\n");
	tap_ok(!rle_proc_status(&p, &st) && st.uid == 1000, "a PID that is in use again is not mistaken for the process");
	rle_proc_close(&p);
	tap_ok(!rle_proc_open(&p, &src, 9) && p.kthread, "a kernel thread is told by its flags");
	rle_proc_close(&p);
	tap_eq(rle_proc_open(&p, &src, 12345), -ESRCH, "a PID that is not there is gone");
	tree_file("11/stat", "11 (x) S 1 2");
	tap_eq(rle_proc_open(&p, &src, 11), -EBADMSG, "a cut stat is refused");
	tree_file("11/stat", "no parentheses");
	tap_eq(rle_proc_open(&p, &src, 11), -EBADMSG, "so is one that is none");
	pid_t *pids = NULL;
	ssize_t n = rle_proc_list(&src, &pids);

	tap_ok(n == 4 && pids[0] == 7 && pids[1] == 8 && pids[2] == 9 && pids[3] == 11, "the tree's processes are listed in order");
	free(pids);
	rle_src_close(&src);
}

static void changing(void)
{
	tree_process(20, "x", 0);
	tree_file("20/maps", "00400000-00404000 r-xp 00000000 fd:00 1 /a\n00402000-00406000 rw-p 00000000 00:00 0\n"
			     "00403000-00405000 rw-p 00000000 00:00 0\n00500000-00501000 rw-p 00000000 00:00 0\n");
	tree_words("20/pagemap", 0x400, 0x101, PRESENT | 0x100, 1);
	tap_eq(scan(20, RLE_JOIN_NONE, NULL), 0, "mappings that overlap because they change are read");
	tap_ok(e.n.mapped == 6 + 1 && e.n.present == 7, "and every page once");
	tree_file("20/maps", "00400000-00404000 r-xp 00000000 fd:00 1 /a\n00500000-005010");
	tap_eq(scan(20, RLE_JOIN_NONE, NULL), -EBADMSG, "a maps that ends inside a line is refused");
	tree_file("20/maps", "00400000-00404000 r-xp 00000000 fd:00 1 /a\n00600000-00900000 rw-p 00000000 00:00 0\n");
	tap_eq(scan(20, RLE_JOIN_NONE, NULL), -ESRCH, "a pagemap that ends inside a mapping: the process is gone, its data discarded");
	tree_file("20/maps", "%s", "");
	tap_eq(scan(20, RLE_JOIN_NONE, NULL), -ESRCH, "no mapping at all: the process is gone");
	tree_process(21, "y", 0);
	tree_file("21/maps", "00400000-00404000 r-xp 00000000 fd:00 1 /a\n");
	tap_eq(scan(21, RLE_JOIN_NONE, NULL), -ESRCH, "a missing pagemap: the process is gone");
}

static void many_mappings(void)
{
	FILE *f = fopen(tree_path("30/maps"), "w");
	uint64_t n = 63000;

	tree_process(30, "many", 0);
	for (uint64_t i = 0; f && i < n; i++)
		fprintf(f, "%08lx-%08lx rw-p 00000000 00:00 0 %*s\n", 0x10000000 + i * 8192, 0x10000000 + i * 8192 + 4096, i == 5000 ? 40000 : 1,
			"/x");
	if (f)
		fclose(f);
	tree_words("30/pagemap", 0x10000, 2 * n, PRESENT | 0x100, 1);
	tap_eq(scan(30, RLE_JOIN_NONE, NULL), 0, "63,000 mappings, one with a path of 40,000 bytes");
	tap_ok(e.n.vmas == n && e.n.present == n && e.n.runs[0] == n && e.n.ends[RLE_END_VMA] == n, "each page a run that ends with its mapping");
}

static void join(void)
{
	struct rle_run last;

	tree_process(40, "j", 0);
	tree_file("40/maps", "00400000-00410000 rw-p 00000000 00:00 0\n");
	tree_words("40/pagemap", 0x400, 16, PRESENT | 0x200, 1);
	tap_eq(scan(40, RLE_JOIN_FULL, NULL), -ENOENT, "a join without kpageflags is refused, not made up");
	tree_words("kpageflags", 0x200, 4, 1 << 12 | 1 << 21, 0);	/* anon, ksm */
	tree_words("kpageflags", 0x204, 8, 1 << 12 | 1 << 22, 0);	/* anon, thp */
	tree_words("kpageflags", 0x20c, 2, 1 << 17, 0);			/* hugetlb; two frames beyond the end of the file */
	tree_words("kpagecount", 0x200, 16, 1, 0);
	tree_words("kpagecount", 0x201, 2, 7, 0);
	tap_eq(scan(40, RLE_JOIN_FULL, &last), 0, "full join");
	tap_ok(e.n.ksm == 4 && e.n.thp == 8 && e.n.hugetlb == 2 && e.n.multi == 2, "KSM, THP, hugetlb and multiply mapped pages, exactly");
	tap_eq(e.n.runs[RLE_SPLIT_VPN_PFN], 1, "the paper's run is not split by attributes");
	/* ksm | ksm multi x2 | ksm | thp | hugetlb | no struct page */
	tap_eq(e.n.runs[RLE_SPLIT_ATTR], 6, "the attribute policy splits it where they change");
	tree_words("40/pagemap", 0x400, 16, PRESENT | RLE_PTE_EXCLUSIVE | 0x200, 1);
	tap_ok(!scan(40, RLE_JOIN_FULL, &last) && e.n.multi == 0 && e.n.ksm == 4, "pages known to be mapped once are not asked how often");
	tap_eq(scan(40, RLE_JOIN_HEAD, &last), 0, "head join");
	tap_ok(e.n.ksm == 16 && e.n.runs[RLE_SPLIT_ATTR] == 1 && last.attr & RLE_ATTR_KSM, "the head speaks for its run");
}

int main(void)
{
	struct rle_src src;
	const char *why = NULL;

	tree_start();
	ordinary();
	identity();
	changing();
	many_mappings();
	join();
	tap_ok(rle_src_open(&src, "/nonexistent", RLE_JOIN_NONE, &why) == -ENOENT && why, "a tree that is not there is named");
	return tap_done();
}
