/* host_warden.c - a warden between an agent that this test plays and a capsule, over a process of this machine
 *
 * A child plays the guest's process: it has pages of a memfd, which plays the VM's RAM, at addresses of its own, builds a
 * list and a buffer there and stops.  What services find by its pointers is held against what the child itself has.
 */
#include "tests/services/calls.h"
#include "tests/tap.h"
#include "tests/warden_host.h"

#define HEAP_VPN (UINT64_C(0x7e1200000000) >> 12)
#define HEAP_PAGES 300u
#define NODES 4000u
#define BUFFER_BYTES 400000u

static const char anything[] = "allow program=/usr/bin/guest service=checksum uid=any executors=2 max-pages=1000\n"
			       "allow program=/usr/bin/guest service=listwalk uid=any executors=1 max-pages=1000\n"
			       "allow program=/usr/bin/guest service=calls uid=any executors=3 max-pages=1000\n";

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
static struct guest_page page[HEAP_PAGES];
static struct ds_agent_range heap_range = {HEAP_VPN, HEAP_PAGES};

/* --- the guest's process ----------------------------------------------------------------------------------------- */

/* Every page of the heap lies anywhere in the RAM file; a few neighbours stay neighbours. */
static void lay_out(void)
{
	uint16_t order[RAM_PAGES / 4];

	srand(7);
	for (uint32_t i = 0; i < RAM_PAGES / 4; i++)
		order[i] = (uint16_t)i;
	for (uint32_t i = RAM_PAGES / 4 - 1; i > 0; i--) {
		const uint32_t k = (uint32_t)rand() % (i + 1);
		const uint16_t n = order[i];

		order[i] = order[k];
		order[k] = n;
	}
	for (uint32_t i = 0; i < HEAP_PAGES; i++)
		page[i] = (struct guest_page){HEAP_VPN + i, ram_frame(order[i / 4] * 4u + i % 4), RW};
}

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

/* HELLO and ATTACH.  Return: the kind of the answer. */
static int attach(struct shadow *s, const char *program, const char *service)
{
	struct ds_agent_hello hello = agent_hello(&s->a);
	struct ds_agent_attach msg;
	size_t bytes;
	void *all;

	if (agent_ask(&s->a, &hello, sizeof(hello), false) != DS_AGENT_WELCOME)
		return -1;
	msg = agent_attach(&s->a, program, service, DS_AGENT_EAGER);
	all = agent_attach_message(&msg, page, HEAP_PAGES, &heap_range, 1, &bytes);
	return agent_ask(&s->a, all, bytes, true);
}

static void start(struct shadow *s, const char *service)
{
	shadow_start(s, &(struct shadow_want){.policy = anything});
	if (attach(s, "/usr/bin/guest", service) != DS_AGENT_STARTED) {
		printf("# %u: %s\n", s->a.refused.code, s->a.refused.text);
		shadow_logged(s, "the log is:");
	}
}

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
	view = shadow_view(&s);
	tap_ok(view.state == WARDEN_RUN && view.calls == 1 && view.replies == 1 && view.pages == HEAP_PAGES && view.vmas >= HEAP_PAGES / 4 &&
		       view.guest_pid == 4711 && view.guest_uid == 1000 && !strcmp(view.service, "listwalk") &&
		       !strcmp(view.program, "/usr/bin/guest") && view.capsule_pid == (int32_t)s.a.started.host_pid,
	       "the status says what there is");
	tap_eq(shadow_end(&s), 0, "the stream is closed: the warden ends");
	tap_ok(kill(view.capsule_pid, 0) && errno == ESRCH, "and its capsule has gone before");
	tap_ok(shadow_logged(&s, "vm test-vm: guest process 4711 (/usr/bin/guest, uid 1000): shadow"), "the log names VM, process and program");
	shadow_free(&s);

	start(&s, "checksum");
	tap_ok(checksum(&s, 1, BUFFER_BYTES, answer) == 24 && answer[0] == guest.fnv && answer[1] == BUFFER_BYTES,
	       "a service sums the guest's buffer");
	tap_eq(shadow_end(&s), 0, "the end");
	shadow_free(&s);
}

int main(void)
{
	const int fds = (prctl(PR_SET_CHILD_SUBREAPER, 1), ram_make(), lay_out(), guest_start(), open_fds(getpid()));

	test_services();
	kill(guest_pid, SIGKILL);
	waitpid(guest_pid, NULL, 0);
	tap_eq(left_processes(), 0, "no process is left");
	tap_eq(open_fds(getpid()), fds, "no descriptor is left");
	return tap_done();
}
