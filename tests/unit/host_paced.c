/* host_paced.c - a shadow whose mirror faults, and which is stopped and let go again all the time for the processor that it uses
 *
 * On a host without cgroups, so that the warden keeps the limit.  Each page comes by a question to the guest and a mapping that
 * the guard lets pass once: a stop in the middle of that must not cost the shadow its life, nor a page its content.
 */
#include <sched.h>
#include <sys/mount.h>

#include "tests/services/calls.h"
#include "tests/tap.h"
#include "tests/warden_host.h"

#define ROUNDS 8
#define ROUNDS_MAX 400 /* until it has been stopped, which a fast machine may not need so soon */
#define PAGES 280u

static struct shadow s;

static uint64_t word(uint32_t round, uint64_t vpn)
{
	return (vpn + round) * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

static void answer_fault(const struct ds_agent_fault *f)
{
	struct guest_page list[HEAP_PAGES];
	size_t n = 0, bytes;
	void *all;

	for (uint32_t i = 0; i < HEAP_PAGES && n < 2; i++) /* few, so that there are many questions */
		if (page[i].vpn >= f->window.vpn && page[i].vpn - f->window.vpn < f->window.npages && page[i].vpn >= f->vpn)
			list[n++] = page[i];
	all = agent_pages_message(&s.a, f->head.seq, list, n, &bytes);
	agent_write(&s.a, all, bytes);
	free(all);
}

static bool load(uint64_t address, uint64_t *value)
{
	const struct calls_request request = {.op = CALLS_LOAD, .args = {address}};
	union agent_message m;
	int kind;

	agent_call(&s.a, 0, &request, sizeof(request));
	while ((kind = agent_receive(&s.a, &m, 60000)) == DS_AGENT_FAULT)
		answer_fault(&m.fault);
	if (kind != DS_AGENT_REPLY) {
		if (kind == DS_AGENT_ENDED)
			printf("# %s\n", s.a.refused.text);
		return false;
	}
	*value = (uint64_t)((struct calls_answer *)(void *)(m.bytes + sizeof(m.reply)))->result;
	return true;
}

static bool start_paced(void)
{
	const struct shadow_want want = {.policy = "allow program=/bin/x service=calls mode=demand cpu=1%\n"};
	struct ds_agent_hello hello;
	struct ds_agent_attach msg;
	size_t bytes;
	void *all;

	shadow_start(&s, &want);
	hello = agent_hello(&s.a);
	agent_ask(&s.a, &hello, sizeof(hello), false);
	msg = agent_attach(&s.a, "/bin/x", "calls", DS_AGENT_DEMAND);
	all = agent_attach_message(&msg, NULL, 0, &heap_range, 1, &bytes);
	if (agent_ask(&s.a, all, bytes, true) == DS_AGENT_STARTED)
		return true;
	printf("# %s\n", s.a.refused.text);
	return false;
}

int main(void)
{
	unsigned int wrong = 0, lost = 0;
	struct warden_view view = {0};
	uint32_t round = 0;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", "/sys/fs/cgroup", "tmpfs", 0, NULL)) {
		tap_skip("a host without cgroups", "there can be no mount namespace here");
		return tap_done();
	}
	signal(SIGPIPE, SIG_IGN);
	ram_make();
	lay_out();
	if (!tap_ok(start_paced(), "a shadow that may have a hundredth of a processor"))
		return tap_done();
	for (; (round < ROUNDS || !view.paced_ns) && round < ROUNDS_MAX && !lost; round++) {
		for (uint32_t i = 0; i < PAGES; i++)
			*(uint64_t *)(void *)(ram + ram_page(page[i].frame) * PAGE) = word(round, page[i].vpn);
		for (uint32_t i = 0; i < PAGES && !lost; i++) {
			uint64_t value = 0;

			lost = !load(page[i].vpn * PAGE, &value);
			wrong += value != word(round, page[i].vpn);
		}
		if (!lost && drop(&s, &heap_range, 1) != DS_AGENT_DONE)
			lost = 1;
		view = shadow_view(&s);
	}
	tap_ok(!lost && !wrong, "reads %u pages, each by a question, as often as the guest takes them back (%u wrong)", round * PAGES, wrong);
	tap_ok(view.paced_ns > 0 && view.faults > round * PAGES / 3, "and was stopped in between: for %.2f s, with %llu questions", (double)view.paced_ns / 1e9,
	       (unsigned long long)view.faults);
	tap_eq(view.denied_calls, 0, "no mapping of it was refused");
	tap_ok(shadow_end(&s) == 0, "the end");
	shadow_free(&s);
	return tap_done();
}
