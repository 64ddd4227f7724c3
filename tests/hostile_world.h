/* hostile_world.h - what a hostile guest must not harm, and a look whether it has
 *
 * The VM process and the guest are played (forward_guest.h); wardens, jails and capsules are the real ones.  Two processes of the
 * guest have a shadow: /usr/bin/hostile, which the test is about, and /usr/bin/witness, with other pages of the VM's memory and
 * another place of the host.  Whatever the first one does, all of this has to be as it was (world_harm()):
 *
 *	  - files beside the places that were granted, although their modes would let anybody change them; the place that was granted
 *	    for reading only;
 *	  - every page of the VM's memory but those that the hostile process may write itself;
 *	  - the witness: its shadow makes calls and has the right files.
 */
#ifndef TESTS_HOSTILE_WORLD_H
#define TESTS_HOSTILE_WORLD_H

#include "tests/forward_guest.h"
#include "tests/hostile_places.h"
#include "tests/tap.h"

#define HOSTILE_PAGES HEAP_PAGES
#define RO_FIRST 20u /* pages of the hostile process that it may only read */
#define RO_PAGES 4u

static struct {
	uint64_t files, memory; /* sums of what must not change */
	int fds;		/* of this process, with nothing started */
	bool mine[RAM_PAGES];	/* pages that may change */
	struct shadow witness;
	struct thread witness_thread;
	uint64_t witness_at;
	char *witness_here;
} world;

static uint64_t world_memory(void)
{
	uint64_t sum = 0;

	for (uint64_t n = 0; n < RAM_PAGES; n++)
		for (uint64_t i = 0; !world.mine[n] && i < PAGE / 8; i++)
			sum = (sum ^ ((const uint64_t *)(void *)(ram + n * PAGE))[i]) * UINT64_C(0x100000001b3);
	return sum;
}

/* --- made -------------------------------------------------------------------------------------------------------------------- */

/* @n frames of the guest from number @from on become the process's pages. */
static void world_process(uint32_t from)
{
	static uint16_t order[RAM_PAGES];

	srand(11);
	for (uint32_t i = 0; i < RAM_PAGES; i++)
		order[i] = (uint16_t)i;
	for (uint32_t i = RAM_PAGES - 1; i > 0; i--) {
		const uint32_t k = (uint32_t)rand() % (i + 1);
		const uint16_t n = order[i];

		order[i] = order[k];
		order[k] = n;
	}
	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		page[i] = (struct guest_page){HEAP_VPN + i, ram_frame(order[from + i]), RW};
}

static bool world_witness_starts(void)
{
	bool ok;

	world_process(HOSTILE_PAGES);
	world.mine[ram_page(page[0].frame)] = world.mine[ram_page(page[1].frame)] = true; /* its slots, its buffer */
	world.witness_at = at_guest(1);
	world.witness_here = (char *)at_host(1);
	ok = vm_shadow(&world.witness, "/usr/bin/witness") == DS_AGENT_STARTED &&
	     thread_start(&world.witness_thread, world.witness.a.started.token, 0, 0, 0);
	world_process(0);
	for (uint32_t i = 0; i < HOSTILE_PAGES; i++) {
		if (i >= RO_FIRST && i < RO_FIRST + RO_PAGES)
			page[i].attr = RLE_ATTR_READ;
		else
			world.mine[ram_page(page[i].frame)] = true;
	}
	return ok;
}

/* What the policy says; @hostile_keys: of the hostile program beside. */
static const char *world_rules(const char *hostile_keys)
{
	static char rules[1024];

	snprintf(rules, sizeof(rules),
		 "allow program=/usr/bin/hostile service=forward max-pages=1000 memory=32M path=/data:%s:rw path=/ro:%s:ro "
		 "calls=file,dir,socket,poll,info %s\n"
		 "allow program=/usr/bin/witness service=forward executors=2 max-pages=1000 path=/data:%s:rw\n",
		 places.grant, places.ro, hostile_keys, places.other);
	return rules;
}

/* Return: NULL, or why the test cannot run here. */
static const char *world_begin(const char *hostile_keys)
{
	const char *why = places_make();

	if (why)
		return why;
	signal(SIGPIPE, SIG_IGN);
	vm_begin(world_rules(hostile_keys));
	for (uint64_t i = 0; i < RAM_PAGES * PAGE / 8; i++)
		((uint64_t *)(void *)ram)[i] = i * UINT64_C(0x9e3779b97f4a7c15);
	world.fds = open_fds(getpid());
	if (!world_witness_starts())
		errx(2, "the witness does not start");
	world.files = places_sum();
	world.memory = world_memory();
	return NULL;
}

/* --- looked at --------------------------------------------------------------------------------------------------------------- */

static bool world_witness_works(void)
{
	struct thread *t = &world.witness_thread;
	int64_t fd, n;

	if (thread_call(t, __NR_getpid, 0, 0, 0, 0, 0) != 1)
		return false;
	strcpy(world.witness_here, "/data/file");
	fd = thread_call(t, __NR_openat, (uint64_t)AT_FDCWD, world.witness_at, O_RDWR, 0, 0);
	n = thread_call(t, __NR_pread64, (uint64_t)fd, world.witness_at + 100, 100, 0, 0);
	return fd >= 0 && n == 15 && !memcmp(world.witness_here + 100, "of the witness\n", 15) &&
	       thread_call(t, __NR_close, (uint64_t)fd, 0, 0, 0, 0) == 0;
}

/* Return: what is not as it was; NULL: all is. */
AGENT_UNUSED static const char *world_harm(void)
{
	if (places_sum() != world.files)
		return "files that were not granted have changed";
	if (world_memory() != world.memory)
		return "memory that is not the process's to write has changed";
	if (!world_witness_works())
		return "the other shadow does not work any more";
	return NULL;
}

AGENT_UNUSED static void world_unharmed(const char *after)
{
	const char *harm = world_harm();

	if (!tap_ok(!harm, "%s: files, memory and the other shadow are as they were", after))
		printf("# %s\n", harm);
}

/* Everything ends, and nothing is left of it. */
AGENT_UNUSED static void world_end(void)
{
	close(world.witness_thread.bell);
	tap_ok(vm_end(&world.witness), "the witness ends when its agent does");
	for (int i = 0; i < 300 && open_fds(getpid()) > world.fds; i++)
		pump(10);
	tap_eq(open_fds(getpid()), world.fds, "the VM process has no descriptor that it had not before");
	tap_eq(left_processes(), 0, "no process is left");
	places_free();
}

/* --- the hostile process's shadow ------------------------------------------------------------------------------------------------ */

/* Its place on the board, or -1. */
AGENT_UNUSED static int hostile_place(void)
{
	for (uint32_t i = 0; i < PLACES; i++)
		if (board->place[i].used && !strcmp(vm_view(i).program, "/usr/bin/hostile"))
			return (int)i;
	return -1;
}

/* A stretch of memory of its capsule. */
struct stretch {
	uint64_t from, to;
	bool writable, executable;
};

/* Return: how many; what the capsule has beside the mirror, guards included. */
AGENT_UNUSED static uint32_t hostile_capsule(struct stretch *list, uint32_t max)
{
	const int place = hostile_place();
	char path[64], line[512], prot[8];
	uint32_t n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", place < 0 ? 0 : vm_view((uint32_t)place).capsule_pid);
	f = fopen(path, "r");
	while (f && n < max && fgets(line, sizeof(line), f)) {
		struct stretch s;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &s.from, &s.to, prot) != 3 || strstr(line, "memfd:ram") || strstr(line, "[vsyscall]"))
			continue;
		s.writable = prot[1] == 'w';
		s.executable = prot[2] == 'x';
		list[n++] = s;
	}
	if (f)
		fclose(f);
	return n;
}

/* A call of a thread whose shadow may be ruined by it.  Return: whether it ended within @ms; then @result is set. */
AGENT_UNUSED static bool hostile_try(struct thread *t, int ms, int64_t *result, uint64_t nr, const uint64_t arg[6])
{
	if (thread_fill(t, nr, arg))
		send(t->bell, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (!thread_done(t, ms))
		return false;
	*result = t->slot->result;
	return true;
}

/* The agent and the threads let go.  Return: whether only the witness's shadow is left within 20 s. */
AGENT_UNUSED static bool hostile_end(struct shadow *s, struct thread *t, uint32_t nthreads)
{
	for (uint32_t i = 0; i < nthreads; i++) {
		if (t[i].bell >= 0)
			close(t[i].bell);
		t[i].bell = -1;
	}
	if (s->a.fd >= 0)
		close(s->a.fd);
	s->a.fd = -1;
	for (int i = 0; i < 2000 && shadows_count(row) > 1; i++)
		pump(10);
	return shadows_count(row) == 1;
}

#endif
