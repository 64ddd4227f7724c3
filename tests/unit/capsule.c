/* capsule.c - what is left in a shadow process, what its mirror shows, and what happens when things do not fit */
#include <elf.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "tests/capsule_host.h"
#include "tests/services/calls.h"
#include "tests/tap.h"

#define RAM_PAGES 8192u
#define MANY 40000u /* runs; twice as many are more than the kernel allows */

static struct host h;
static struct rle_run runs[2 * MANY];
static size_t nruns;

static bool tap_eq_kind(int kind, const char *what)
{
	bool good = tap_ok(kind == DS_SHADOW_STATUS, "%s", what);

	if (!good)
		printf("# kind %d; reason %u, err %d, index %" PRIu64 ", value %" PRIu64 "\n", kind, h.refused.reason, h.refused.err,
		       h.refused.index, h.refused.value);
	return good;
}

static void add_run(uint64_t vpn, uint64_t pfn, uint32_t npages, uint32_t attr)
{
	runs[nruns++] = (struct rle_run){{vpn}, {pfn}, npages, attr};
}

/* Rising runs in the places where processes have them, with everything that separates or joins mappings. */
static void random_map(size_t n)
{
	static const uint64_t places[] = {16, 0x400, 0x555555554, 0x7f0000000, 0x7ffff7dd0, 0x7ffffff00};
	static const uint32_t attrs[] = {RW,
					 RW,
					 RLE_ATTR_READ,
					 RLE_ATTR_READ | RLE_ATTR_EXEC | RLE_ATTR_FILE,
					 RW | RLE_ATTR_FILE,
					 RW | RLE_ATTR_FILE | RLE_ATTR_MAY_SHARE,
					 RW | RLE_ATTR_ANON | RLE_ATTR_JOINED,
					 RW | RLE_ATTR_KSM | RLE_ATTR_JOINED,
					 0,
					 RLE_ATTR_WRITE};

	nruns = 0;
	for (size_t p = 0; p < 6; p++) {
		uint64_t vpn = places[p], pfn = host_random(RAM_PAGES - 64);

		for (size_t i = 0; i < n / 6; i++) {
			uint32_t npages = 1 + (uint32_t)host_random(8), attr = attrs[host_random(10)];

			if (p == 5 && vpn + npages > 0x7ffffffff)
				break;
			if (host_random(3) || pfn + npages > RAM_PAGES)
				pfn = host_random(RAM_PAGES - npages + 1);
			add_run(vpn, pfn, npages, attr);
			vpn += npages + (host_random(2) ? 0 : host_random(4));
			pfn += npages;
		}
	}
}

/* Mappings that the kernel makes of runs when it merges all that it can. */
static uint64_t expected_vmas(void)
{
	uint64_t n = 0;

	for (size_t i = 0; i < nruns; i++)
		n += !i || runs[i].vpn.n != runs[i - 1].vpn.n + runs[i - 1].npages ||
		     runs[i].pfn.n != runs[i - 1].pfn.n + runs[i - 1].npages ||
		     strcmp(model_prot(runs[i].attr), model_prot(runs[i - 1].attr)) != 0;
	return n;
}

static void mirror_is(const char *what)
{
	uint64_t vmas;
	const char *wrong = model_compare(&h, runs, nruns, &vmas);

	if (!tap_ok(!wrong, "%s: capsule, mirror and [vsyscall] are all there is, every page where the map says", what))
		printf("# %s\n", wrong);
	tap_ok(vmas == h.status.mirror_vmas && vmas <= expected_vmas(),
	       "%s: it takes as many mappings as the capsule counted (%" PRIu64 "), all merged", what, vmas);
}

/* Return: whether an answer came. */
static bool ask(uint32_t executor, struct calls_request r, struct calls_answer *a)
{
	union host_message m;

	host_message(&h, executor, &r, sizeof(r));
	if (host_receive(&h, &m, HOST_TIMEOUT_MS) != DS_SHADOW_MESSAGE || m.message.payload_bytes != sizeof(*a))
		return false;
	memcpy(a, m.message.payload, sizeof(*a));
	return m.head.seq == h.seq && m.message.executor == executor;
}

static int64_t asked(uint32_t executor, uint32_t op, uint64_t arg0, uint64_t arg1)
{
	struct calls_answer a;

	return ask(executor, (struct calls_request){.op = op, .args = {arg0, arg1}}, &a) ? a.result : INT64_MIN;
}

static size_t slurp(const char *name, char *buf, size_t bytes)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", h.pid, name);
	fd = open(path, O_RDONLY);
	got = read(fd, buf, bytes - 1);
	close(fd);
	buf[got > 0 ? got : 0] = 0;
	return got > 0 ? (size_t)got : 0;
}

static void test_alone(void)
{
	struct calls_answer a;
	uint64_t first;
	char buf[4096];
	unsigned int bad = 0;
	int fds[2];

	random_map(300);
	if (!tap_eq_kind(host_start(&h, "calls", 5, runs, nruns), "a service starts over 300 runs"))
		exit(tap_done());
	mirror_is("at the start");
	tap_ok(slurp("cmdline", buf, sizeof(buf)) == 6 && !strcmp(buf, "calls"), "its command line is the service's name");
	tap_eq(slurp("environ", buf, sizeof(buf)), 0, "its environment is empty");
	slurp("comm", buf, sizeof(buf));
	tap_ok(!strcmp(buf, "calls\n"), "so is its comm");
	slurp("status", buf, sizeof(buf));
	tap_ok(strstr(buf, "Threads:\t6\n"), "five executors and the control thread run");
	tap_ok(h.status.updates == 1 && h.status.moves == 0 && h.status.pid == (uint32_t)h.pid, "the status tells of the first map");

	for (size_t i = 0; i < nruns; i += 7) {
		if (strncmp(model_prot(runs[i].attr), "r", 1))
			continue;
		bad += asked((uint32_t)i % 5, CALLS_LOAD, (runs[i].vpn.n + runs[i].npages - 1) * PAGE, 0) !=
		       (int64_t)host_word(runs[i].pfn.n + runs[i].npages - 1);
	}
	tap_eq(bad, 0, "the guest's pointers lead to the guest's memory");
	for (size_t i = 0; i < nruns; i++) {
		if (strncmp(model_prot(runs[i].attr), "rw", 2))
			continue;
		asked(0, CALLS_STORE, runs[i].vpn.n * PAGE + 16, 12345 + i);
		tap_ok(*(uint64_t *)(h.ram + runs[i].pfn.n * PAGE + 16) == 12345 + i, "a store is seen in the RAM");
		break;
	}
	tap_ok(ask(1, (struct calls_request){.op = CALLS_SYSCALL, .nr = SYS_getppid}, &a) && a.result == getpid(), "an executor makes a call");
	tap_eq(asked(2, CALLS_CHECK, 0, 0), 0, "relocated words are right");
	ask(1, (struct calls_request){.op = CALLS_BUFFER, .nr = SYS_pipe2, .which = 0}, &a);
	memcpy(fds, a.bytes, sizeof(fds));
	ask(1, (struct calls_request){.op = CALLS_SYSCALL, .nr = SYS_close, .args = {(uint64_t)fds[0]}}, &a);
	tap_ok(ask(1, (struct calls_request){.op = CALLS_BUFFER, .nr = SYS_write, .which = 1, .args = {(uint64_t)fds[1], 0, 5}}, &a) &&
		       a.result == -EPIPE,
	       "a write to a closed pipe is an error, not the end");

	first = h.status.capsule.vpn;
	host_end(&h);
	host_start(&h, "calls", 5, runs, nruns);
	tap_ok(first != h.status.capsule.vpn, "the next capsule is elsewhere");
}

static void test_updates(void)
{
	unsigned int refused = 0, wrong = 0;
	uint64_t vmas;

	for (int i = 0; i < 60; i++) {
		random_map(i % 7 ? 12 + host_random(400) : 6);
		refused += host_update(&h, runs, nruns, NULL, 0, NULL) != DS_SHADOW_STATUS;
		wrong += model_compare(&h, runs, nruns, &vmas) != NULL || vmas != h.status.mirror_vmas;
	}
	/* an old map and one that differs in a few places */
	for (int i = 0; i < 60; i++) {
		size_t k = host_random(nruns);

		switch (host_random(3)) {
		case 0: runs[k].attr = RW; break;
		case 1: runs[k].pfn.n = host_random(RAM_PAGES - runs[k].npages); break;
		default: memmove(runs + k, runs + k + 1, (nruns-- - k - 1) * sizeof(*runs)); break;
		}
		refused += host_update(&h, runs, nruns, NULL, 0, NULL) != DS_SHADOW_STATUS;
		wrong += model_compare(&h, runs, nruns, &vmas) != NULL || vmas != h.status.mirror_vmas;
	}
	tap_eq(refused, 0, "120 updates are accepted");
	tap_eq(wrong, 0, "after each the mirror is the new map's");
	tap_eq(h.status.moves, 0, "none of them had to move the capsule");
	nruns = 0;
	host_update(&h, runs, 0, NULL, 0, NULL);
	mirror_is("an empty map");
	add_run(0x7fffffffe, 1, 1, RW);
	host_update(&h, runs, nruns, NULL, 0, NULL);
	mirror_is("the last page of the user half");
}

/* The signal that stops executors, from somebody who may send it, changes nothing. */
static void test_stray_signals(void)
{
	struct calls_request r = {.op = CALLS_SYSCALL, .nr = SYS_read};
	union host_message m;
	struct calls_answer a;
	int fds[2], target;

	/* the capsule's own end of a pipe: made by an executor, in guest memory */
	add_run(0x7fffffff0, 2, 1, RW);
	runs[nruns] = runs[0], runs[0] = runs[1], runs[1] = runs[nruns];
	host_update(&h, runs, nruns, NULL, 0, NULL);
	ask(0, (struct calls_request){.op = CALLS_SYSCALL, .nr = SYS_pipe2, .args = {0x7fffffff0 * PAGE}}, &a);
	memcpy(fds, h.ram + 2 * PAGE, sizeof(fds));
	r.args[0] = (uint64_t)fds[0], r.args[1] = 0x7fffffff0 * PAGE + 64, r.args[2] = 100;
	host_message(&h, 1, &r, sizeof(r));
	for (int i = 0; i < 200; i++)
		for (target = h.pid; target <= h.pid + 5; target++)
			syscall(SYS_tgkill, h.pid, target, 64);
	tap_eq(host_receive(&h, &m, 50), -1, "stray stop signals do not end a blocked read()");
	memcpy(h.ram + 2 * PAGE + 128, "0123456789", 10);
	ask(2, (struct calls_request){.op = CALLS_SYSCALL, .nr = SYS_write, .args = {(uint64_t)fds[1], 0x7fffffff0 * PAGE + 128, 10}}, &a);
	/* two answers: the writer's was the first or the second */
	host_receive(&h, &m, HOST_TIMEOUT_MS);
	tap_ok(!memcmp(h.ram + 2 * PAGE + 64, "0123456789", 10), "and it gets its bytes when they come");
}

static void test_faults(void)
{
	union host_message m;
	struct calls_request r = {.op = CALLS_LOAD, .args = {0x1234567000}};
	int kind;

	host_message(&h, 0, &r, sizeof(r));
	kind = host_receive(&h, &m, HOST_TIMEOUT_MS);
	tap_ok(kind == DS_SHADOW_FAULT && m.fault.address == 0x1234567000 && m.fault.signal == SIGSEGV && m.fault.code != UINT64_MAX,
	       "a wild pointer of a service is reported with its address");
	tap_eq(host_receive(&h, &m, HOST_TIMEOUT_MS), 0, "and ends the shadow");
	tap_eq(host_end(&h), 2 << 8, "with status 2");

	nruns = 0;
	add_run(0x555555000, 1, 2, RLE_ATTR_READ | RLE_ATTR_EXEC | RLE_ATTR_FILE);
	host_start(&h, "calls", 1, runs, nruns);
	r = (struct calls_request){.op = CALLS_STORE, .args = {0x555555000 * PAGE + 8, 1}};
	host_message(&h, 0, &r, sizeof(r));
	kind = host_receive(&h, &m, HOST_TIMEOUT_MS);
	tap_ok(kind == DS_SHADOW_FAULT && m.fault.address == 0x555555000 * PAGE + 8, "the guest's text cannot be written");
	host_end(&h);
}

/* One executor that does not come back from its step. */
static void test_busy(void)
{
	struct ds_shadow_boot boot;
	struct calls_request hang = {.op = CALLS_HANG};
	struct ds_shadow_range on_capsule;
	int fd;

	nruns = 0;
	add_run(0x555555000, 1, 2, RW);
	host_exec(&h, "calls");
	boot = host_boot(&h, "calls", 3);
	boot.stop_timeout_ms = 60;
	fd = host_data(runs, nruns, NULL, 0, &boot.data);
	host_boot_send(&h, &boot, fd);
	host_message(&h, 1, &hang, sizeof(hang));
	usleep(100000);
	on_capsule = (struct ds_shadow_range){h.status.capsule.vpn + 3, 1};
	tap_ok(host_update(&h, runs, nruns, &on_capsule, 1, NULL) == DS_SHADOW_REFUSED && h.refused.reason == DS_SHADOW_R_BUSY &&
		       h.refused.index == 1 && h.refused.err == -EBUSY,
	       "an update that needs a move is refused when an executor does not stop, and says which");
	tap_eq(asked(0, CALLS_LOAD, 0x555555000 * PAGE, 0), host_word(1), "the others go on");
	tap_ok(host_update(&h, runs, nruns, NULL, 0, NULL) == DS_SHADOW_REFUSED && h.refused.reason == DS_SHADOW_R_BUSY,
	       "so is one that does not: within a step the mirror does not change");
	mirror_is("after refusals");
	host_end(&h);
}

static void test_places(void)
{
	struct ds_shadow_range reserve = {0x123450000, 4096}, forbidden[3];
	struct ds_shadow_boot boot;
	uint64_t end;
	int fd;

	nruns = 0;
	add_run(0x555555000, 1, 2, RW);
	host_exec(&h, "calls");
	boot = host_boot(&h, "calls", 2);
	boot.reserve = reserve;
	forbidden[0] = (struct ds_shadow_range){reserve.vpn, 17};
	fd = host_data(runs, nruns, forbidden, 1, &boot.data);
	host_boot_send(&h, &boot, fd);
	tap_eq(h.status.capsule.vpn, reserve.vpn + 17, "the capsule goes where a range is reserved for it, behind what is forbidden there");

	/* heap: grows in place, until something is in the way */
	tap_eq(asked(0, CALLS_ALLOC, 3u << 20, 0), 0, "the heap grows");
	host_ping(&h);
	tap_ok(h.status.capsule.npages * PAGE > 3u << 20 && h.status.capsule.vpn == reserve.vpn + 17, "upwards, in place");
	mirror_is("with a larger heap");
	add_run(h.status.capsule.vpn + h.status.capsule.npages, 9, 1, RW);
	runs[2] = runs[0], runs[0] = runs[1], runs[1] = runs[2];
	tap_eq_kind(host_update(&h, runs, nruns, NULL, 0, NULL), "a run may touch the capsule's end");
	tap_eq(h.status.moves, 0, "without moving it");
	tap_eq(asked(1, CALLS_ALLOC, 8u << 20, 0), -1, "then the heap cannot grow there");

	/* a map larger than the heap: the capsule moves to where there is room, with what it holds */
	tap_eq(asked(1, CALLS_ALLOC, 1000, 0), 0, "(small blocks fit)");
	end = h.status.capsule.vpn + h.status.capsule.npages;
	nruns = 0;
	add_run(end, 9, 1, RW); /* the heap's end stays blocked */
	for (uint64_t i = 0; i < MANY / 2 - 1; i++)
		add_run(0x555555000 + 2 * i, i % RAM_PAGES, 1, RW);
	forbidden[0] = reserve;
	tap_eq_kind(host_update(&h, runs, nruns, forbidden, 1, NULL), "a map for which the heap has no room is accepted");
	tap_eq(h.status.moves, 2, "the capsule moved to where it has, within the reserved range, and then out of it");
	tap_eq(asked(0, CALLS_CHECK, 0, 0) + asked(1, CALLS_CHECK, 0, 0), 0, "with all its memory and executors");
	mirror_is("20000 runs");

	/* nowhere to go */
	nruns = 1;
	runs[0] = (struct rle_run){{0x555555000}, {1}, 2, RW};
	forbidden[0] = (struct ds_shadow_range){16, 0x200000000};
	forbidden[1] = (struct ds_shadow_range){0x200000020, 0x7fffffffe - 0x200000020};
	tap_ok(host_update(&h, runs, nruns, forbidden, 2, NULL) == DS_SHADOW_REFUSED && h.refused.reason == DS_SHADOW_R_NO_PLACE,
	       "an update is refused when it leaves no room for the capsule");
	forbidden[0].npages = 0x400000000;
	forbidden[1] = (struct ds_shadow_range){0x400001010, 0x7fffffffe - 0x400001010};
	tap_eq_kind(host_update(&h, runs, nruns, forbidden, 2, NULL), "with one gap that is large enough it is accepted");
	tap_ok(h.status.capsule.vpn >= 0x400000010 && h.status.capsule.vpn + h.status.capsule.npages <= 0x400001010,
	       "and the capsule is in the gap");
	tap_eq(asked(0, CALLS_CHECK, 0, 0), 0, "with all its memory");
	host_end(&h);
}

/* From one large map to another where both together are more than the kernel allows. */
static void test_rebuild(void)
{
	nruns = 0;
	for (uint64_t i = 0; i < MANY; i++)
		add_run(0x700000000 + 2 * i, i % RAM_PAGES, 1, RW);
	host_start(&h, "calls", 2, runs, nruns);
	mirror_is("a large map");
	nruns = 0;
	for (uint64_t i = 0; i < MANY; i++)
		add_run(0x100000000 + 2 * i, (i + 7) % RAM_PAGES, 1, RW);
	tap_eq_kind(host_update(&h, runs, nruns, NULL, 0, NULL), "it is replaced by another one, which fits only when the first is gone");
	tap_eq(h.status.rebuilds, 1, "by rebuilding");
	mirror_is("rebuilt");
	for (uint64_t i = MANY; i < 70000; i++)
		add_run(0x100000000 + 2 * i, i % RAM_PAGES, 1, RW);
	tap_ok(host_update(&h, runs, nruns, NULL, 0, NULL) == DS_SHADOW_REFUSED && h.refused.reason == DS_SHADOW_R_MAX_MAPS &&
		       h.refused.value == 70000 && h.refused.index < host_sysctl("/proc/sys/vm/max_map_count"),
	       "a map beyond vm.max_map_count is refused, with both numbers");
	nruns = MANY;
	host_ping(&h); /* the heap has grown for it */
	mirror_is("after that refusal");
	host_end(&h);
}

/* The executable is what the start code and the linker script promise. */
static void test_file(const char *service)
{
	char path[4096];
	struct stat st;
	const Elf64_Ehdr *e;
	const Elf64_Phdr *p;
	uint64_t end = 0;
	bool good = true;
	int fd;

	snprintf(path, sizeof(path), "%s/../shadow/%s", getenv("BIN") ? getenv("BIN") : "build/bin", service);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st))
		err(2, "%s", path);
	e = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	p = (const Elf64_Phdr *)((const char *)e + e->e_phoff);
	for (int i = 0; i < e->e_phnum; i++) {
		good &= p[i].p_type != PT_INTERP && p[i].p_type != PT_TLS;
		if (p[i].p_type == PT_LOAD) {
			good &= p[i].p_vaddr % PAGE == 0 && p[i].p_vaddr == end && (p[i].p_flags & (PF_W | PF_X)) != (PF_W | PF_X);
			end = (p[i].p_vaddr + p[i].p_memsz + PAGE - 1) / PAGE * PAGE;
		}
		if (p[i].p_type == PT_DYNAMIC) {
			const Elf64_Dyn *d = (const Elf64_Dyn *)((const char *)e + p[i].p_offset);
			uint64_t rela = 0, bytes = 0, relative = 0;

			for (; d->d_tag != DT_NULL; d++) {
				good &= d->d_tag != DT_NEEDED && d->d_tag != DT_TEXTREL && d->d_tag != DT_JMPREL;
				rela = d->d_tag == DT_RELA ? d->d_un.d_ptr : rela;
				bytes = d->d_tag == DT_RELASZ ? d->d_un.d_val : bytes;
				relative = d->d_tag == DT_RELACOUNT ? d->d_un.d_val : relative;
			}
			good &= rela && bytes == relative * sizeof(Elf64_Rela);
		}
	}
	tap_ok(good && end, "%s: whole pages without gaps, none writable and executable, relative relocations only, no interpreter, no TLS",
	       service);
	munmap((void *)e, (size_t)st.st_size);
}

int main(void)
{
	host_random_state = 77;
	test_file("calls");
	test_file("checksum");
	test_file("listwalk");
	host_ram(&h, RAM_PAGES);
	test_alone();
	test_updates();
	test_stray_signals();
	test_faults();
	test_busy();
	test_places();
	test_rebuild();
	host_free(&h);
	return tap_done();
}
