/* demand_tests.h - what the tests of a mirror that faults share: a region of the guest, and a look at what is mapped */
#ifndef TESTS_DEMAND_TESTS_H
#define TESTS_DEMAND_TESTS_H

#include "tests/demand_host.h"
#include "tests/tap.h"

#define RAM_PAGES 16384u
#define REGION UINT64_C(0x7f0000000)

__attribute__((unused)) static uint64_t address(uint64_t vpn)
{
	return vpn * PAGE;
}

/* Pages of a region with scattered frames, some of them without. */
__attribute__((unused)) static void populate(struct dh_region *r, unsigned int holes)
{
	for (uint64_t i = 0; i < r->npages; i++)
		r->pages[i] = (struct dh_page){(uint32_t)host_random(RAM_PAGES), holes && host_random(holes) == 0 ? 0 : RW};
}

__attribute__((unused)) static void begin(uint32_t nexecutors, uint64_t npages, unsigned int holes)
{
	host_ram(&dh.h, RAM_PAGES);
	populate(dh_region(REGION, npages), holes);
	if (dh_start("calls", nexecutors, 0) != DS_SHADOW_STATUS)
		errx(2, "no capsule: reason %u err %d", dh.h.refused.reason, dh.h.refused.err);
}

__attribute__((unused)) static int64_t call(uint32_t op, uint64_t a, uint64_t b, uint64_t c)
{
	return dh_call(0, (struct calls_request){.op = op, .args = {a, b, c}});
}

__attribute__((unused)) static int pipe_fds[2]; /* the capsule inherits them, above the numbers that it uses itself */

__attribute__((unused)) static void make_pipe(void)
{
	int fds[2];

	if (pipe(fds))
		err(2, "pipe");
	for (int i = 0; i < 2; i++) {
		pipe_fds[i] = fcntl(fds[i], F_DUPFD, 100 + i);
		close(fds[i]);
	}
}

__attribute__((unused)) static uint8_t *ram_of(uint64_t k)
{
	return dh.h.ram + dh.regions[0].pages[k].pfn * PAGE;
}

/* What /proc/PID/maps shows of the mirror: the guest's pages of now, pages that fault, holes; nothing elsewhere. */
__attribute__((unused)) static const char *look(uint64_t *mappings)
{
	static char text[256];
	uint64_t from, to, offset;
	char path[64], prot[8], name[128], line[512];
	const char *wrong = NULL;
	FILE *f;

	*mappings = 0;
	dh_ping();
	snprintf(path, sizeof(path), "/proc/%d/maps", dh.h.pid);
	f = fopen(path, "r");
	while (f && !wrong && fgets(line, sizeof(line), f)) {
		name[0] = 0;
		sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %127s", &from, &to, prot, &offset, name);
		if (!strcmp(name, "[vsyscall]") || (from / PAGE >= dh.h.status.capsule.vpn &&
						    to / PAGE <= dh.h.status.capsule.vpn + dh.h.status.capsule.npages))
			continue;
		++*mappings;
		for (uint64_t vpn = from / PAGE; vpn < to / PAGE && !wrong; vpn++) {
			const struct dh_page *p = dh_page(vpn);

			if (!p)
				wrong = "not in the guest's mappings";
			else if (strncmp(name, "/memfd:ram", 10))
				wrong = !name[0] && (!strcmp(prot, "rw-p") || (!strcmp(prot, "---p") && !p->attr)) ? NULL : "strange";
			else if (!p->attr || p->pfn != offset / PAGE + vpn - from / PAGE || strcmp(prot, model_prot(p->attr)))
				wrong = "not the guest's page";
		}
		if (wrong) {
			snprintf(text, sizeof(text), "%.60s: %.180s", wrong, line);
			wrong = text;
		}
	}
	if (f)
		fclose(f);
	return wrong;
}

__attribute__((unused)) static void mirror_is_right(const char *what)
{
	uint64_t mappings;
	const char *wrong = look(&mappings);

	if (!tap_ok(!wrong, "%s: what is mapped is the guest's, all else faults", what))
		printf("# %s\n", wrong);
	tap_ok(mappings <= demand_stat(dh.d).vmas, "it takes no more mappings than were counted (%" PRIu64 " of %" PRIu64 ")", mappings,
	       demand_stat(dh.d).vmas);
}

#endif
