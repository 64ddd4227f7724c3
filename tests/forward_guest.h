/* forward_guest.h - plays the VM process and a guest with threads whose calls are forwarded, for tests
 *
 * The VM process is this process: shadows.h and bells.h are called here, whenever somebody waits (pump()).  Its vsock is
 * socket pairs.  The guest's process is that of warden_host.h: pages of a memfd, in which the slots are.
 */
#ifndef TESTS_FORWARD_GUEST_H
#define TESTS_FORWARD_GUEST_H

#include <asm/unistd.h>

#include "runtime/host/warden/bells.h"
#include "runtime/host/shadows.h"
#include "runtime/wire/forward.h"
#include "tests/warden_host.h"

#define PLACES 4u

static struct shadows_board *board;
static struct shadows *row;
static struct bells *bells;
static uint32_t next_port = 100000;

/* A thread of the guest that forwards calls. */
struct thread {
	struct ds_forward_slot *slot; /* as we see it */
	uint64_t address;	      /* as the guest's process does */
	uint32_t port;
	int bell; /* the guest's end */
};

/* Page @i of the guest's process: its address, and where it is here. */
static inline uint64_t at_guest(uint32_t i)
{
	return (HEAP_VPN + i) * PAGE;
}
static inline uint8_t *at_host(uint32_t i)
{
	return ram + ram_page(page[i].frame) * PAGE;
}

AGENT_UNUSED static void pump(int ms)
{
	struct pollfd p = {.fd = bells_fd(bells), .events = POLLIN};

	if (poll(&p, 1, ms) > 0)
		bells_run(bells);
	shadows_reap(row);
}

AGENT_UNUSED static void vm_begin(const char *rules)
{
	struct policy_err policy_err;
	struct policy *policy;

	ram_make();
	lay_out();
	board = mmap(NULL, shadows_board_bytes(PLACES), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		err(2, "mmap");
	board->nplaces = PLACES;
	if (policy_parse(&policy, rules, strlen(rules), &policy_err))
		errx(2, "policy: line %u: %s", policy_err.line, policy_err.why);
	if (shadows_new(&row, board, "test-vm", services_dir) || bells_new(&bells, row, NULL))
		errx(2, "a VM process's parts");
	shadows_policy(row, policy);
}

/* Another policy for shadows that start from now on. */
AGENT_UNUSED static void vm_rules(const char *rules)
{
	struct policy_err policy_err;
	struct policy *policy;

	if (policy_parse(&policy, rules, strlen(rules), &policy_err))
		errx(2, "policy: line %u: %s", policy_err.line, policy_err.why);
	shadows_policy(row, policy);
}

/* A shadow of the guest's process; its agent is s->a.  Return: kind of the answer to ATTACH; -errno. */
AGENT_UNUSED static int vm_shadow(struct shadow *s, const char *program)
{
	int pair[2], e;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(2, "socketpair");
	e = shadows_start(row, pair[1], 900, ram_fd, &ram_table);
	if (e) {
		close(pair[0]);
		close(pair[1]);
		return e;
	}
	*s = (struct shadow){.a = {.fd = pair[0]}};
	return attach(s, program, "forward");
}

AGENT_UNUSED static struct warden_view vm_view(uint32_t place)
{
	struct warden_view v = {0};

	/* A warden that was preempted while it wrote is waited for; one that was killed then has no view to wait for. */
	for (int i = 0; i < 1000 && warden_stat_read(&board->place[place].stat, &v); i++)
		usleep(1000);
	return v;
}

/* The agent lets go; until nothing is left.  Return: whether that came to pass. */
AGENT_UNUSED static bool vm_end(struct shadow *s)
{
	const uint32_t before = shadows_count(row);

	close(s->a.fd);
	for (int i = 0; i < 500 && shadows_count(row) == before; i++)
		pump(10);
	return shadows_count(row) == before - 1;
}

/* --- bells ----------------------------------------------------------------------------------------------------------- */

/* A connection to DS_FORWARD_PORT.  Return: the guest's end. */
AGENT_UNUSED static int bell_connect(uint32_t *port)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err(2, "socketpair");
	*port = next_port++;
	if (bells_accept(bells, *port, pair[1]))
		errx(2, "bells_accept");
	return pair[0];
}

AGENT_UNUSED static struct ds_forward_hello bell_hello(const uint8_t *token, uint64_t slot)
{
	struct ds_forward_hello h = {.magic = DS_FORWARD_MAGIC, .version = DS_FORWARD_VERSION, .slot = slot};

	memcpy(h.token, token, sizeof(h.token));
	return h;
}

/* Whether the host ends the stream within @ms. */
AGENT_UNUSED static bool bell_ends(int fd, int ms)
{
	char byte;

	for (int i = 0; i < ms; i += 5) {
		pump(5);
		if (recv(fd, &byte, 1, MSG_DONTWAIT) == 0)
			return true;
	}
	return false;
}

/* Whether an executor takes the bell of page @i of the process, slot @k there. */
AGENT_UNUSED static bool thread_start(struct thread *t, const uint8_t *token, uint32_t i, uint32_t k, uint32_t spin_ns)
{
	struct ds_forward_hello h;

	*t = (struct thread){.address = at_guest(i) + k * sizeof(*t->slot)};
	t->slot = (struct ds_forward_slot *)(void *)(at_host(i) + k * sizeof(*t->slot));
	*t->slot = (struct ds_forward_slot){.host_asleep = 2};
	h = bell_hello(token, t->address);
	h.spin_ns = spin_ns;
	t->bell = bell_connect(&t->port);
	if (write(t->bell, &h, sizeof(h)) != sizeof(h))
		err(2, "hello");
	for (int ms = 0; ms < 15000; ms += 2) {
		char byte;

		pump(2);
		if (__atomic_load_n(&t->slot->host_asleep, __ATOMIC_SEQ_CST) != 2)
			return true;
		if (recv(t->bell, &byte, 1, MSG_DONTWAIT) == 0)
			break;
	}
	close(t->bell);
	t->bell = -1;
	return false;
}

/* The call is in the slot.  Return: whether the bell must be rung. */
AGENT_UNUSED static bool thread_fill(struct thread *t, uint64_t nr, const uint64_t arg[6])
{
	struct ds_forward_slot *s = t->slot;

	s->nr = nr;
	memcpy(s->arg, arg, sizeof(s->arg));
	__atomic_store_n(&s->guest_asleep, 0, __ATOMIC_SEQ_CST);
	return ds_forward_post(s);
}

AGENT_UNUSED static void thread_post(struct thread *t, uint64_t nr, const uint64_t arg[6])
{
	if (thread_fill(t, nr, arg) && write(t->bell, "\1", 1) != 1)
		err(2, "ring");
}

/* Whether the call is done within @ms; the result is in the slot. */
AGENT_UNUSED static bool thread_done(struct thread *t, int ms)
{
	struct ds_forward_slot *s = t->slot;

	__atomic_store_n(&s->guest_asleep, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < ms * 2; i++) {
		struct pollfd p = {.fd = t->bell, .events = POLLIN};
		char bytes[64];

		if (ds_forward_done(s)) {
			__atomic_store_n(&s->guest_asleep, 0, __ATOMIC_SEQ_CST);
			ds_forward_take(s);
			return true;
		}
		if (poll(&p, 1, 1) > 0 && recv(t->bell, bytes, sizeof(bytes), MSG_DONTWAIT) == 0)
			return false;
	}
	return false;
}

#define THREAD_LOST INT64_C(-100000) /* no result came */

/* A call, as the kernel returns it. */
AGENT_UNUSED static int64_t thread_call(struct thread *t, uint64_t nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
	thread_post(t, nr, (const uint64_t[6]){a, b, c, d, e, 0});
	return thread_done(t, 15000) ? t->slot->result : THREAD_LOST;
}

/* The guest writes DS_FORWARD_INTERRUPT, and its VM process sees it pass. */
AGENT_UNUSED static void thread_interrupt(struct thread *t)
{
	uint8_t byte = DS_FORWARD_INTERRUPT;
	struct iovec iov = {&byte, 1};

	bells_look(bells, t->port, &iov, 1, 1);
	if (send(t->bell, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1 && errno != EPIPE && errno != EAGAIN) /* full: it rings already */
		warn("interrupt");
}

#endif
