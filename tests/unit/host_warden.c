/* host_warden.c - a warden between an agent that this test plays and a capsule, over a process of this machine
 *
 * A child plays the guest's process: it has pages of a memfd, which plays the VM's RAM, at addresses of its own, builds a
 * list and a buffer there and stops.  What services find by its pointers is held against what the child itself has.
 */
#include <stddef.h>
#include <sys/stat.h>

#include "tests/services/calls.h"
#include "tests/tap.h"
#include "tests/warden_host.h"

#define NODES 4000u
#define BUFFER_BYTES 400000u

struct node {
	struct node *next;
	uint64_t value;
	uint8_t rest[48];
};

/* What the guest's process tells of itself. */
static struct {
	struct node *first;
	uint64_t sum, fnv;
	uint8_t *buffer;
} guest;
static pid_t guest_pid;

/* --- the guest's process ----------------------------------------------------------------------------------------- */

static uint64_t fnv(const uint8_t *p, size_t n)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);

	while (n--)
		sum = (sum ^ *p++) * UINT64_C(0x100000001b3);
	return sum;
}

static void guest_main(int out)
{
	struct node *node = (struct node *)(HEAP_VPN * PAGE), *last = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		if (mmap((void *)(page[i].vpn * PAGE), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, ram_fd,
			 (off_t)(ram_page(page[i].frame) * PAGE)) == MAP_FAILED)
			_exit(1);
	for (uint32_t i = 0; i < NODES; i++) { /* in an order that has nothing to do with addresses */
		struct node *n = &node[(uint64_t)i * 2377 % NODES];

		n->value = (uint64_t)rand();
		guest.sum += n->value;
		if (last)
			last->next = n;
		else
			guest.first = n;
		n->next = NULL;
		last = n;
	}
	guest.buffer = (uint8_t *)((HEAP_VPN + 80) * PAGE);
	for (uint32_t i = 0; i < BUFFER_BYTES; i++)
		guest.buffer[i] = (uint8_t)rand();
	guest.fnv = fnv(guest.buffer, BUFFER_BYTES);
	if (write(out, &guest, sizeof(guest)) != sizeof(guest))
		_exit(1);
	for (;;)
		pause();
}

static void guest_start(void)
{
	int out[2];

	if (pipe(out))
		err(2, "pipe");
	guest_pid = fork();
	if (!guest_pid)
		guest_main(out[1]);
	close(out[1]);
	if (guest_pid < 0 || read(out[0], &guest, sizeof(guest)) != sizeof(guest))
		errx(2, "the guest's process did not get ready");
	close(out[0]);
}

/* --- conversations ----------------------------------------------------------------------------------------------- */

static int walk(struct shadow *s, uint64_t answer[4])
{
	const uint64_t request[3] = {(uintptr_t)guest.first, offsetof(struct node, next), offsetof(struct node, value)};

	agent_call(&s->a, 0, request, sizeof(request));
	return agent_answer(&s->a, answer, 32);
}

static int checksum(struct shadow *s, uint32_t executor, uint64_t bytes, uint64_t answer[3])
{
	const uint64_t request[2] = {(uintptr_t)guest.buffer, bytes};

	agent_call(&s->a, executor, request, sizeof(request));
	return agent_answer(&s->a, answer, 24);
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void test_services(void)
{
	struct warden_view view;
	struct shadow s;
	uint64_t answer[4];

	start(&s, "listwalk");
	tap_ok(!strcmp(s.a.welcome.vm, "test-vm") && !s.a.welcome.want_hash, "WELCOME names the VM, no rule wants a hash");
	tap_ok(s.a.started.mirror_pages == HEAP_PAGES && s.a.started.capsule.npages && s.a.started.host_pid > 1,
	       "STARTED tells of %d pages", HEAP_PAGES);
	tap_ok(walk(&s, answer) == 32 && answer[0] == NODES && answer[1] == guest.sum && !answer[2] && !answer[3],
	       "a service follows the guest's list by its own pointers");
	view = shadow_view_after(&s, 1);
	tap_ok(view.state == WARDEN_RUN && view.calls == 1 && view.replies == 1 && view.pages == HEAP_PAGES &&
		       view.vmas >= HEAP_PAGES / 4 && view.guest_pid == 4711 && view.guest_uid == 1000 &&
		       !strcmp(view.service, "listwalk") && !strcmp(view.program, "/usr/bin/guest") &&
		       view.capsule_pid == (int32_t)s.a.started.host_pid,
	       "the status says what there is");
	tap_eq(shadow_end(&s), 0, "the stream is closed: the warden ends");
	tap_ok(kill(view.capsule_pid, 0) && errno == ESRCH, "and its capsule has gone before");
	tap_ok(shadow_logged(&s, "vm test-vm: guest process 4711 (/usr/bin/guest, uid 1000): shadow"),
	       "the log names VM, process and program");
	shadow_free(&s);

	start(&s, "checksum");
	tap_ok(checksum(&s, 1, BUFFER_BYTES, answer) == 24 && answer[0] == guest.fnv && answer[1] == BUFFER_BYTES,
	       "a service sums the guest's buffer");
	tap_eq(shadow_end(&s), 0, "the end");
	shadow_free(&s);
}

/* How many pages of the RAM file a process has mapped, by its maps. */
static uint64_t ram_mapped(pid_t pid)
{
	uint64_t from, to, pages = 0, ino;
	char path[64], line[512];
	struct stat st;
	FILE *f;

	fstat(ram_fd, &st);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %" SCNu64, &from, &to, &ino) == 3 && ino == st.st_ino)
			pages += (to - from) / PAGE;
	if (f)
		fclose(f);
	return pages;
}

static void test_changes(void)
{
	const uint64_t buffer_page = 80, end_page = 80 + BUFFER_BYTES / PAGE + 1;
	const struct ds_agent_range two[2] = {part(buffer_page + 50, 1), part(buffer_page + 60, 3)}, none = part(5000, 10);
	struct guest_page fewer[HEAP_PAGES];
	uint64_t answer[3];
	struct shadow s;
	pid_t capsule;
	int fds;

	start(&s, "checksum");
	capsule = (pid_t)s.a.started.host_pid;
	tap_eq(ram_mapped(capsule), HEAP_PAGES, "the capsule has the process's pages, and no other of the RAM");
	fds = open_fds(s.pid);
	tap_eq(drop(&s, two, 2), DS_AGENT_DONE, "pages are about to go");
	tap_eq(ram_mapped(capsule), HEAP_PAGES - 4, "when that is answered the capsule has them no more");
	tap_ok(checksum(&s, 0, BUFFER_BYTES, answer) == 24 && answer[1] == 50 * PAGE, "a service sees the hole");
	tap_eq(drop(&s, two, 2), DS_AGENT_DONE, "dropped once more: nothing to do");
	tap_eq(drop(&s, &none, 1), DS_AGENT_DONE, "nor with pages that never were in the map");
	tap_eq(drop(&s, NULL, 0), DS_AGENT_DONE, "nor with none");
	tap_eq(update(&s, page, HEAP_PAGES), DS_AGENT_DONE, "a whole new map");
	tap_ok(checksum(&s, 0, BUFFER_BYTES, answer) == 24 && answer[0] == guest.fnv && answer[1] == BUFFER_BYTES,
	       "everything is there again");

	/* the guest's page is another frame now */
	memcpy(fewer, page, sizeof(page));
	fewer[buffer_page].frame = ram_frame(1999);
	memcpy(ram + 1999 * PAGE, ram + ram_page(page[buffer_page].frame) * PAGE, PAGE);
	ram[1999 * PAGE] ^= 1;
	tap_eq(update(&s, fewer, HEAP_PAGES), DS_AGENT_DONE, "a page moves to another frame");
	tap_ok(checksum(&s, 1, 8, answer) == 24 && answer[0] != 0 && answer[0] == fnv(ram + 1999 * PAGE, 8),
	       "which is seen at once");
	tap_eq(update(&s, page, end_page - buffer_page), DS_AGENT_DONE, "a map of fewer pages");
	tap_eq(ram_mapped(capsule), end_page - buffer_page, "takes the others away");

	/* maps that lead where they must not */
	memcpy(fewer, page, sizeof(page));
	fewer[3].frame = LOW_PAGES;
	tap_ok(update(&s, fewer, HEAP_PAGES) == DS_AGENT_REFUSED && s.a.refused.code == DS_AGENT_C_MAP &&
		       strstr(s.a.refused.text, "outside the VM"),
	       "a map that leads beyond the RAM is refused: %s", s.a.refused.text);
	tap_eq(ram_mapped(capsule), end_page - buffer_page, "and the old one stays");
	for (int i = 0; i < 50; i++) {
		update(&s, page, HEAP_PAGES - (size_t)i);
		drop(&s, two, 2);
	}
	tap_ok(checksum(&s, 0, 8, answer) == 24 && kill(capsule, 0) == 0,
	       "after a hundred changes the shadow is the same process");
	tap_eq(open_fds(s.pid), fds, "and its warden has as many descriptors as before");
	tap_eq(shadow_end(&s), 0, "the end");
	tap_ok(shadow_logged(&s, "a change of its map is refused: a run leads outside the VM's memory"),
	       "the refusal is logged");
	shadow_free(&s);
}

/* The paper's provider: a file that is all of the host's memory, of which the VM's is a part. */
static void test_devmem(void)
{
	struct ramtable table = ram_table;
	const struct shadow_want want = {.policy = anything, .devmem_fd = memfd_create("mem", MFD_CLOEXEC), .devmem_table = &table};
	const struct ds_agent_range some = part(80, 2);
	uint64_t answer[3];
	struct shadow s;

	table.file[0].physical = true;
	for (uint32_t i = 0; i < table.nranges; i++)
		table.range[i].page.n += 777;
	tap_eq(ramtable_finish(&table, NULL), 0, "the VM's memory lies in the host's");
	if (want.devmem_fd < 0 || ftruncate(want.devmem_fd, (777 + RAM_PAGES) * PAGE) ||
	    pwrite(want.devmem_fd, ram, RAM_PAGES * PAGE, 777 * PAGE) != RAM_PAGES * PAGE)
		err(2, "memfd");
	shadow_start(&s, &want);
	tap_eq(attach(&s, "/usr/bin/guest", "checksum"), DS_AGENT_STARTED, "a shadow over the host's memory");
	tap_ok(checksum(&s, 1, BUFFER_BYTES, answer) == 24 && answer[0] == guest.fnv && answer[1] == BUFFER_BYTES,
	       "finds the same there");
	tap_ok(drop(&s, &some, 1) == DS_AGENT_DONE && checksum(&s, 0, BUFFER_BYTES, answer) == 24 && !answer[1],
	       "and drops it");
	tap_eq(shadow_end(&s), 0, "the end");
	shadow_free(&s);
	close(want.devmem_fd);
}

#define MANY 60

static void test_many(void)
{
	static struct shadow s[MANY];
	unsigned int stood = 0, right = 0, ended = 0;
	uint64_t answer[3];

	for (int i = 0; i < MANY; i++) {
		shadow_start(&s[i], &(struct shadow_want){.policy = anything});
		stood += attach(&s[i], "/usr/bin/guest", "checksum") == DS_AGENT_STARTED;
	}
	for (int i = 0; i < MANY; i += 7) { /* some end in the middle of the others */
		if (i % 2)
			kill(s[i].pid, SIGKILL);
		else
			shadow_signal(&s[i], SIGKILL);
	}
	for (int i = 0; i < MANY; i++)
		right += i % 7 && checksum(&s[i], 1, 10000, answer) == 24 && answer[1] == 10000;
	for (int i = 0; i < MANY; i++) {
		const int status = shadow_end(&s[i]);

		ended += i % 7 ? status == 0 : status == 1 || status == 256 + SIGKILL;
		if (i % 7 == 0 && i % 2)
			waitpid((pid_t)s[i].a.started.host_pid, NULL, 0);
		shadow_free(&s[i]);
	}
	tap_eq(stood, MANY, "%d shadows at a time", MANY);
	tap_eq(right, MANY - (MANY + 6) / 7, "some are killed, the others go on");
	tap_eq(ended, MANY, "and end as they should");
}

int main(void)
{
	const int fds = (prctl(PR_SET_CHILD_SUBREAPER, 1), ram_make(), lay_out(), guest_start(), open_fds(getpid()));

	test_services();
	test_changes();
	test_devmem();
	test_many();
	kill(guest_pid, SIGKILL);
	waitpid(guest_pid, NULL, 0);
	tap_eq(left_processes(), 0, "no process is left");
	tap_eq(open_fds(getpid()), fds, "no descriptor is left");
	return tap_done();
}
