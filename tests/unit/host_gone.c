/* host_gone.c - pages that are mapped are found, pages that are not are not, by both ways of looking
 *
 * The process looked at is this one, the RAM a memfd mapped here and there by chance; the model is a table of pages.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/host/warden/gone.h"
#include "tests/capsule_host.h"
#include "tests/guarded.h"
#include "tests/tap.h"

#define VPNS 256u
#define RAM 64u
#define MANY 60000u

static uint8_t *area; /* VPNS pages of address space */
static int ram_fd, ro_fd, other_fd;
static int64_t page[VPNS]; /* which page of the RAM is there; -1 none */
static bool writable[VPNS]; /* mapped by the writable descriptor */
static struct gone by_query, by_text;

static uint64_t base(void)
{
	return (uintptr_t)area / PAGE;
}

static void put(uint64_t at, uint64_t npages, int fd, uint64_t pfn, bool write)
{
	if (mmap(area + at * PAGE, npages * PAGE, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED, fd, (off_t)(pfn * PAGE)) ==
	    MAP_FAILED)
		err(2, "mmap");
	for (uint64_t i = 0; i < npages; i++) {
		page[at + i] = fd == other_fd ? -1 : (int64_t)(pfn + i);
		writable[at + i] = write;
	}
}

static void take(uint64_t at, uint64_t npages)
{
	if (mmap(area + at * PAGE, npages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		err(2, "mmap");
	for (uint64_t i = 0; i < npages; i++)
		page[at + i] = -1;
}

/* The first page in the ranges that is the RAM's; -1 none. */
static int64_t model_first(const struct ds_shadow_range *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (uint64_t v = r[i].vpn - base(); v < r[i].vpn - base() + r[i].npages && v < VPNS; v++)
			if (page[v] >= 0)
				return (int64_t)v;
	return -1;
}

static unsigned int wrong(struct gone *g, const struct ds_shadow_range *r, size_t n)
{
	struct gone_found f = {0};
	const int64_t want = model_first(r, n);
	int rc = gone_check(g, r, n, NULL, &f);

	if (want < 0)
		return rc != 0;
	return rc != -EEXIST || f.vpn != base() + (uint64_t)want || f.pfn != (uint64_t)page[want];
}

static void test_random(void)
{
	unsigned int bad_query = 0, bad_text = 0, there = 0, total = 3000;

	for (unsigned int i = 0; i < total; i++) {
		struct ds_shadow_range r[4];
		uint64_t at = host_random(VPNS), npages = 1 + host_random(12);
		size_t n = 0;

		if (npages > VPNS - at)
			npages = VPNS - at;
		switch (host_random(12)) {
		case 0: put(at, npages, ram_fd, host_random(RAM - 12), true); break;
		case 1: put(at, npages, ro_fd, host_random(RAM - 12), false); break;
		case 2: put(at, npages, other_fd, host_random(RAM - 12), true); break;
		default: take(at, npages);
		}
		for (uint64_t v = host_random(40); v < VPNS && n < 4; v += r[n].npages + host_random(60), n++)
			r[n] = (struct ds_shadow_range){base() + v, 1 + host_random(VPNS - v < 6 ? VPNS - v : 6)};
		there += model_first(r, n) >= 0;
		bad_query += by_query.query && wrong(&by_query, r, n);
		bad_text += wrong(&by_text, r, n);
	}
	tap_ok(there > total / 10 && there < total - total / 10, "%u times of %u there was something", there, total);
	if (by_query.query)
		tap_eq(bad_query, 0, "PROCMAP_QUERY finds what is there and nothing else");
	else
		tap_skip("PROCMAP_QUERY finds what is there and nothing else", "this kernel has none");
	tap_eq(bad_text, 0, "so does reading the text");
}

/* A map that allows some of what is there. */
static void test_except(void)
{
	const struct rle_run runs[] = {{{base() + 10}, {5}, 4, RW}, {{base() + 14}, {9}, 2, RLE_ATTR_READ}};
	const struct ds_shadow_range all = {base(), VPNS};
	struct gone *const ways[2] = {&by_text, by_query.query ? &by_query : &by_text};
	struct authority *a;
	struct rle_map map;
	void *blob = guarded_map(runs, 2, &map);

	if (authority_new(&a))
		err(2, "authority_new");
	authority_set(a, &map);
	for (int i = 0; i < 2; i++) {
		const char *way = i ? "" : ", by text";
		struct gone *g = ways[i];
		struct gone_found f;

		take(0, VPNS);
		put(10, 4, ram_fd, 5, true);
		put(14, 2, ro_fd, 9, false);
		tap_eq(gone_check(g, &all, 1, a, &f), 0, "what the map says may be there%s", way);
		tap_eq(gone_check(g, &all, 1, NULL, &f), -EEXIST, "without it nothing may");
		put(10, 1, ram_fd, 6, true);
		tap_ok(gone_check(g, &all, 1, a, &f) == -EEXIST && f.vpn == base() + 10 && f.pfn == 6, "another page at its place is found");
		put(10, 4, ram_fd, 5, true);
		put(20, 1, ram_fd, 5, true);
		tap_ok(gone_check(g, &all, 1, a, &f) == -EEXIST && f.vpn == base() + 20, "its page at another place is found");
		take(20, 1);
		put(14, 2, ram_fd, 9, true);
		tap_ok(gone_check(g, &all, 1, a, &f) == -EEXIST && f.vpn == base() + 14, "one that is writable and may not be is found");
		mprotect(area + 14 * PAGE, 2 * PAGE, PROT_READ);
		f = (struct gone_found){0};
		tap_ok(gone_check(g, &all, 1, a, &f) == -EEXIST && f.vpn == base() + 14 && !f.write,
		       "also when it is shown read-only for the moment");
		put(14, 2, ro_fd, 9, false);
		put(10, 4, ro_fd, 5, false);
		tap_eq(gone_check(g, &all, 1, a, &f), 0, "less than what the map says may be there");
		put(10, 6, ro_fd, 5, false);
		tap_eq(gone_check(g, &all, 1, a, &f), 0, "in one mapping, too");
		put(10, 7, ro_fd, 5, false);
		tap_ok(gone_check(g, &all, 1, a, &f) == -EEXIST && f.vpn == base() + 16 && f.npages == 1, "but not one page more");
	}
	authority_free(a);
	free(blob);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* With as many mappings as a process can have. */
static void test_many(void)
{
	uint8_t *many = mmap(NULL, (size_t)MANY * 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct ds_shadow_range one;
	double query = 0, text, start;
	unsigned int wrong_answers = 0;

	if (many == MAP_FAILED)
		err(2, "mmap");
	for (uint64_t i = 0; i < MANY / 2; i++)
		if (mmap(many + 4 * i * PAGE, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, ro_fd, (off_t)(i % RAM * PAGE)) == MAP_FAILED)
			err(2, "mmap");
	for (int i = 0; i < 200 && by_query.query; i++) {
		uint64_t at = host_random(MANY / 2);

		one = (struct ds_shadow_range){(uintptr_t)many / PAGE + 4 * at + 1, 3};
		start = seconds();
		wrong_answers += gone_check(&by_query, &one, 1, NULL, NULL) != 0;
		query += (seconds() - start) / 200;
		one.vpn--;
		wrong_answers += gone_check(&by_query, &one, 1, NULL, NULL) != -EEXIST;
	}
	one = (struct ds_shadow_range){(uintptr_t)many / PAGE + 2 * MANY - 3, 3};
	start = seconds();
	wrong_answers += gone_check(&by_text, &one, 1, NULL, NULL) != 0;
	text = seconds() - start;
	tap_eq(wrong_answers, 0, "among %u mappings the answers are right", MANY);
	printf("# a range among %u mappings: %.1f us by PROCMAP_QUERY, %.1f ms by text\n", MANY, query * 1e6, text * 1e3);
	if (by_query.query)
		tap_ok(query * 20 < text, "PROCMAP_QUERY does not look at all of them");
	else
		tap_skip("PROCMAP_QUERY does not look at all of them", "this kernel has none");
	munmap(many, (size_t)MANY * 2 * PAGE);
}

static void test_dead(void)
{
	struct ds_shadow_range all = {0, PLACE_VPN_END};
	struct gone g;
	int rc;
	pid_t pid;

	fflush(stdout);
	take(0, VPNS);
	put(0, 1, ram_fd, 0, true);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	if (gone_open(&g, pid, ram_fd))
		err(2, "gone_open");
	tap_eq(gone_check(&g, &all, 1, NULL, NULL), -EEXIST, "a process that lives has it");
	kill(pid, SIGKILL);
	waitid(P_PID, (id_t)pid, &(siginfo_t){0}, WEXITED | WNOWAIT);
	rc = gone_check(&g, &all, 1, NULL, NULL);
	tap_ok(rc == 0 || rc == -ESRCH, "one that is dead has not");
	g.query = false;
	rc = gone_check(&g, &all, 1, NULL, NULL);
	tap_ok(rc == 0 || rc == -ESRCH, "by text neither");
	waitpid(pid, NULL, 0);
	gone_close(&g);
	tap_eq(gone_open(&g, pid, ram_fd), -ESRCH, "one that is gone cannot be looked at");
	gone_close(&g);
}

int main(void)
{
	struct host h, other;

	host_ram(&h, RAM);
	host_ram(&other, RAM);
	ram_fd = h.ram_fd, ro_fd = h.ram_ro_fd, other_fd = other.ram_fd;
	area = mmap(NULL, VPNS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(page, -1, sizeof(page));
	munmap(h.ram, RAM * PAGE); /* not a part of what is looked at */
	h.ram = MAP_FAILED;
	if (gone_open(&by_query, getpid(), ro_fd) || gone_open(&by_text, getpid(), ram_fd))
		err(2, "gone_open");
	by_text.query = false;
	test_random();
	test_except();
	test_many();
	test_dead();
	gone_close(&by_query);
	gone_close(&by_text);
	return tap_done();
}
