/* agent_subject.h - for tests of dsagent: a process with known pages that does what it is told, and what is said of it */
#ifndef TESTS_AGENT_SUBJECT_H
#define TESTS_AGENT_SUBJECT_H

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>

#include "tests/unit/agent_play.h"

#define NPAGES 64

/* What the child does, on command; in memory shared with it. */
static struct board {
	volatile uint32_t command, done;
	volatile uint64_t arg;
	uint64_t area, rodata, data, mapped;
} *board;

static char data_page[3 * PAGE] = {1};
static const char rodata_page[3 * PAGE] = {1};

enum { C_NONE, C_TOUCH, C_DONTNEED, C_UNMAP_MAP, C_EXIT, C_EXEC, C_PROTECT, C_MAP, C_TRACEME, C_STRICT, C_FILTER, C_HIDE, C_GROW, C_RING };

static void obey(uint32_t c, uint64_t arg)
{
	char *page = (char *)arg;

	switch (c) {
	case C_TOUCH:
		*page = 7;
		return;
	case C_DONTNEED:
		madvise(page, PAGE, MADV_DONTNEED);
		return;
	case C_UNMAP_MAP: /* the same place, another page: the old one's frame must not be freed by chance */
		munmap(page, PAGE);
		if (mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page)
			*page = 9;
		return;
	case C_PROTECT:
		mprotect(page, PAGE, PROT_READ);
		return;
	case C_MAP: /* a page where nothing was */
		page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		board->mapped = (uintptr_t)mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)arg);
		return;
	case C_GROW:
		page = mmap(NULL, arg, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		board->mapped = (uintptr_t)page;
		return;
	case C_RING: { /* with a kernel thread that polls */
		struct io_uring_params p = {.flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 100};

		board->mapped = syscall(SYS_io_uring_setup, 4, &p);
		return;
	}
	case C_TRACEME:
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		return;
	case C_STRICT: /* nothing but read, write and exit is allowed then: it looks no more */
		board->done = 1;
		syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		for (;;)
			;
	case C_FILTER: {
		struct sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
		struct sock_fprog prog = {1, &all};

		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
		return;
	}
	case C_HIDE:
		prctl(PR_SET_DUMPABLE, arg);
		return;
	case C_EXIT:
		_exit(0);
	case C_EXEC:
		execl("/bin/sleep", "sleep", "1000", NULL);
		_exit(1);
	}
}

static void child(void)
{
	char *area = mmap(NULL, (NPAGES + 2) * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	area += PAGE;
	mprotect(area, NPAGES * PAGE, PROT_READ | PROT_WRITE);
	madvise(area, NPAGES * PAGE, MADV_NOHUGEPAGE);
	for (int i = 0; i < NPAGES / 2; i++)
		area[i * PAGE] = i + 1;
	data_page[PAGE] = 2;
	if (*(const volatile char *)&rodata_page[PAGE]) /* read, so that it is there */
		_exit(1);
	board->area = (uintptr_t)area;
	board->data = ((uintptr_t)data_page + PAGE - 1) & -PAGE;
	board->rodata = ((uintptr_t)rodata_page + PAGE - 1) & -PAGE;
	board->done = 1;
	for (;;) {
		while (board->command == C_NONE)
			usleep(1000);
		obey(board->command, board->arg);
		board->command = C_NONE;
		board->done = 1;
	}
}

__attribute__((unused)) static pid_t spawn_as(uid_t uid)
{
	pid_t pid;

	memset(board, 0, sizeof(*board));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (uid && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid) || prctl(PR_SET_DUMPABLE, 1)))
			_exit(1);
		child();
	}
	while (!board->done)
		usleep(1000);
	return pid;
}

__attribute__((unused)) static pid_t spawn(void)
{
	return spawn_as(0);
}

__attribute__((unused)) static void command(uint32_t c, uint64_t arg)
{
	board->done = 0;
	board->arg = arg;
	board->command = c;
	for (int i = 0; !board->done && i < 2000 && c != C_EXIT && c != C_EXEC; i++)
		usleep(1000);
}

/* The map that came with an ATTACH or UPDATE of @bytes before its ranges. */
__attribute__((unused)) static struct rle_map map_of(uint64_t nranges, uint64_t map_bytes, size_t head, pid_t pid, const char *what)
{
	struct rle_map map = {0};
	struct rle_map_err err = {0};
	int r = rle_map_open_copy(&map, host_msg + head + nranges * sizeof(struct ds_agent_range), map_bytes, &err);

	tap_ok(!r, "%s carries a map that can be opened%s%s", what, r ? ": " : "", r && err.why ? err.why : "");
	tap_ok(map.meta.pid == (uint64_t)pid && map.meta.space == RLE_SPACE_FRAME && map.meta.split == RLE_SPLIT_ATTR, "%s: of the process", what);
	return map;
}

__attribute__((unused)) static bool has(const struct rle_map *map, uint64_t vpn, uint64_t frame, uint32_t *attr)
{
	struct rle_run hit;

	if (!rle_map_lookup(map, (ds_vpn){vpn}, &hit))
		return false;
	if (attr)
		*attr = hit.attr;
	return hit.pfn.n == frame;
}

/* The number that a command prints; -1. */
__attribute__((unused)) static int number_of(const char *command)
{
	char line[64];
	FILE *f = popen(command, "r");
	int n = -1;

	if (f && fgets(line, sizeof(line), f))
		n = atoi(line);
	if (f)
		pclose(f);
	return n;
}

/* Children of a process, of which the helper is one; @dead: also those that have exited and were not waited for. */
__attribute__((unused)) static int helpers(pid_t pid, bool dead)
{
	char line[512];

	snprintf(line, sizeof(line), "ps -eo ppid=,stat= | awk '$1 == %d && $2 !~ /^%s/ { n++ } END { print n + 0 }'", pid, dead ? "-" : "Z");
	return number_of(line);
}

#endif
