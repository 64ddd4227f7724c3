/* migrate.c - pages that move while they are read: every page is present or migrating, none is lost
 *
 * A child moves its pages between two NUMA nodes without a pause; while a page is under way, its entry is a migration
 * entry.  Each scan must find present + migrating equal to what the child wrote, and some scan a page under way.
 */
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "rle/proc.h"
#include "tests/tap.h"

#define PAGE 4096ul
#define NPAGES 512
#define SCANS_MAX 3000

static volatile struct {
	uint64_t rounds, moved;
} *shared;

static void child(void)
{
	char *p = mmap(NULL, NPAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *page[NPAGES];
	int node[NPAGES], status[NPAGES];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	madvise(p, NPAGES * PAGE, MADV_NOHUGEPAGE);
	memset(p, 1, NPAGES * PAGE);
	for (size_t i = 0; i < NPAGES; i++)
		page[i] = p + i * PAGE;
	for (int to = 1;; to = !to) {
		for (size_t i = 0; i < NPAGES; i++)
			node[i] = to;
		syscall(SYS_move_pages, 0, NPAGES, page, node, status, MPOL_MF_MOVE);
		for (size_t i = 0; i < NPAGES; i++)
			shared->moved += status[i] == to; /* one that somebody else holds just then stays where it is */
		shared->rounds++;
	}
}

int main(void)
{
	uint64_t first = 0, lost = 0, met = 0, scans = 0, rounds;
	struct rle_src src;
	const char *why;

	if (access("/sys/devices/system/node/node1", F_OK)) {
		tap_skip("pages that migrate", "this machine has one NUMA node");
		return tap_done();
	}
	if (rle_src_open(&src, NULL, RLE_JOIN_NONE, &why)) {
		tap_skip("pages that migrate", why);
		return tap_done();
	}
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (!pid)
		child();
	while (shared->rounds < 4) /* by then it has touched all it needs */
		usleep(1000);
	rounds = shared->rounds;
	for (; scans < SCANS_MAX && (scans < 300 || met < 3); scans++) {
		struct rle_proc p;
		struct rle_enc e;

		rle_enc_init(&e, RLE_SPLIT_VPN_PFN, NULL, NULL, &src.frames);
		if (rle_proc_open(&p, &src, pid) || rle_proc_scan(&p, &e, NULL))
			break;
		rle_proc_close(&p);
		if (!first)
			first = e.n.present + e.n.migrating;
		lost += e.n.present + e.n.migrating != first;
		met += e.n.migrating;
	}
	rounds = shared->rounds - rounds;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	printf("# %lu scans met %lu pages under way in %lu rounds\n", scans, met, rounds);
	tap_ok(rounds > 2 && shared->moved > rounds * NPAGES / 2, "the pages do move between the nodes");
	tap_eq(lost, 0, "a page under way is counted as migrating, so that no scan has a page more or less");
	tap_ok(met > 0, "and some scan met one");
	rle_src_close(&src);
	return tap_done();
}
