/* capsule_refuse.c - whatever is wrong with what a capsule is told, it says what, and does nothing by halves
 *
 * Each case changes one thing in a BOOT, a map or a message that would be accepted.  The map blobs that a writer would
 * not write are patched, with checksums that are right again.
 */
#include <dirent.h>
#include <xxhash.h>

#include "tests/capsule_host.h"
#include "tests/services/calls.h"
#include "tests/tap.h"

#define RAM_PAGES 64u
#define BLOB_MAX 4096

static struct host h;
static const struct rle_run good[] = {{{0x555555000}, {3}, 4, RW}, {{0x7ffff0000}, {10}, 2, RLE_ATTR_READ}};

/* Everything that a BOOT is made of, for a case to spoil. */
struct offer {
	struct ds_shadow_boot boot;
	size_t boot_bytes;
	union {
		uint8_t bytes[BLOB_MAX];
		struct {
			struct rle_map_header header;
			struct rle_run runs[2];
		} map;
	} data;
	size_t data_bytes;
	int nfds;
	int ram_fd;
};

static void sign(struct offer *o)
{
	struct rle_map_header *m = &o->data.map.header;

	m->runs_xxh3 = XXH3_64bits(o->data.map.runs, m->nruns * sizeof(struct rle_run));
	m->header_xxh3 = XXH3_64bits(m, offsetof(struct rle_map_header, header_xxh3));
}

/* --- the cases: each returns nothing and spoils one thing -------------------------------------------------------- */

#define SPOIL(name, ...) \
	static void name(struct offer *o) \
	{ \
		__VA_ARGS__ \
	}
#define RUN(i) o->data.map.runs[i]
#define HEAD o->data.map.header

SPOIL(nothing, (void)o;)
SPOIL(short_message, o->boot_bytes = 8;)
SPOIL(cut_message, o->boot_bytes -= 8;)
SPOIL(bad_magic, o->boot.head.magic ^= 1;)
SPOIL(bad_version, o->boot.head.version = DS_SHADOW_VERSION + 1;)
SPOIL(bad_kind, o->boot.head.kind = 99;)
SPOIL(bad_length, o->boot.head.bytes--;)
SPOIL(other_kind, o->boot.head.kind = DS_SHADOW_PING; o->boot.head.bytes = 16; o->boot_bytes = 16;)
SPOIL(no_fds, o->nfds = 0;)
SPOIL(one_fd, o->nfds = 1;)
SPOIL(two_fds, o->nfds = 2;)
SPOIL(demand_fds, o->boot.mode = DS_SHADOW_DEMAND;)
SPOIL(many_fds, o->nfds = 5;)
SPOIL(other_service, o->boot.service[0]++;)
SPOIL(longer_service, o->boot.service[5] = 'x';)
SPOIL(endless_service, memset(o->boot.service, 'a', sizeof(o->boot.service));)
SPOIL(endless_args, memset(o->boot.args, 'a', sizeof(o->boot.args));)
SPOIL(service_refuses, strcpy(o->boot.args, "refuse");)
SPOIL(no_executors, o->boot.nexecutors = 0;)
SPOIL(many_executors, o->boot.nexecutors = DS_SHADOW_EXECUTORS_MAX + 1;)
SPOIL(huge_heap, o->boot.heap_bytes = DS_SHADOW_HEAP_BYTES_MAX + PAGE;)
SPOIL(odd_heap, o->boot.heap_bytes = 100;)
SPOIL(no_timeout, o->boot.stop_timeout_ms = 0;)
SPOIL(bad_provider, o->boot.provider = 2;)
SPOIL(bad_mode, o->boot.mode = 2;)
SPOIL(bad_zero, o->boot.zero = 1;)
SPOIL(odd_filter, o->boot.data.filter_bytes = 12;)
SPOIL(huge_filter, o->boot.data.filter_bytes = DS_SHADOW_FILTER_BYTES_MAX + 8;)
SPOIL(missing_filter, o->boot.data.filter_bytes = 8;)
SPOIL(bad_reserve, o->boot.reserve.vpn = 1, o->boot.reserve.npages = UINT64_MAX;)
SPOIL(bad_min, o->boot.min_vpn = UINT64_MAX;)
SPOIL(no_ram, o->boot.ram_bytes = 0;)
SPOIL(odd_ram, o->boot.ram_bytes = 5000;)
SPOIL(longer_ram, o->boot.ram_bytes += PAGE;)
SPOIL(tiny_map, o->boot.data.map_bytes = 71;)
SPOIL(huge_map, o->boot.data.map_bytes = DS_SHADOW_MAP_BYTES_MAX + 8;)
SPOIL(many_forbidden, o->boot.data.nforbidden = UINT64_MAX / 8;)
SPOIL(short_data, o->boot.data.nforbidden = 1;)
SPOIL(empty_data, o->data_bytes = 0;)
SPOIL(empty_forbidden, o->boot.data.nforbidden = 1; o->data_bytes += 16;)
static void forbid(struct offer *o, struct ds_shadow_range a, struct ds_shadow_range b)
{
	const struct ds_shadow_range both[2] = {a, b};

	memcpy(o->data.bytes + o->data_bytes, both, sizeof(both));
	o->data_bytes += sizeof(both);
	o->boot.data.nforbidden = 2;
}
SPOIL(forbidden_order, forbid(o, (struct ds_shadow_range){50, 5}, (struct ds_shadow_range){54, 5});)
SPOIL(forbidden_wraps, forbid(o, (struct ds_shadow_range){50, 5}, (struct ds_shadow_range){100, UINT64_MAX - 50});)
SPOIL(forbidden_all, forbid(o, (struct ds_shadow_range){1, 0x700000000}, (struct ds_shadow_range){0x700000001, 0xffffffffe});)
SPOIL(map_magic, HEAD.magic[0]++;)
SPOIL(map_damaged, RUN(1).pfn.n ^= 4;)
SPOIL(map_version, HEAD.version = 7; sign(o);)
SPOIL(map_nruns, HEAD.nruns = UINT64_MAX / 24 + 2; HEAD.header_xxh3 = XXH3_64bits(&HEAD, 64);)
SPOIL(map_of_gpa, HEAD.space = RLE_SPACE_FRAME; sign(o);)
SPOIL(map_coarse, HEAD.split = RLE_SPLIT_PROT; sign(o);)
SPOIL(run_empty, RUN(1).npages = 0; HEAD.npages = 4; sign(o);)
SPOIL(run_overlaps, RUN(1).vpn.n = RUN(0).vpn.n + 3; sign(o);)
SPOIL(run_falls, RUN(1).vpn.n = 5; sign(o);)
SPOIL(run_kernel, RUN(1).vpn.n = 0xffff888000000; sign(o);)
SPOIL(run_noncanonical, RUN(1).vpn.n = 0x800000000; sign(o);)
SPOIL(run_over_top, RUN(1).vpn.n = 0x7fffffffe; sign(o);)
SPOIL(run_low, RUN(0).vpn.n = o->boot.min_vpn - 1; sign(o);)
SPOIL(run_zero, RUN(0).vpn.n = 0; sign(o);)
SPOIL(run_outside, RUN(1).pfn.n = RAM_PAGES - 1; sign(o);)
SPOIL(run_far_outside, RUN(0).pfn.n = UINT64_C(1) << 39; sign(o);)
SPOIL(run_attr, RUN(0).attr |= 1u << 20; sign(o);)
SPOIL(few_maps, o->boot.max_maps = 3;)
SPOIL(ram_read_only, o->ram_fd = -1;)
SPOIL(ram_a_pipe, o->ram_fd = -2;)

/* ANY: not looked at */
#define ANY UINT64_MAX - 1
static const struct {
	const char *what;
	void (*spoil)(struct offer *);
	uint32_t reason;
	uint64_t index;
} cases[] = {
	{"a message shorter than its head", short_message, DS_SHADOW_R_MESSAGE, 8},
	{"a message that was cut", cut_message, DS_SHADOW_R_MESSAGE, 8},
	{"another magic", bad_magic, DS_SHADOW_R_MESSAGE, 0},
	{"another version", bad_version, DS_SHADOW_R_VERSION, 0},
	{"an unknown kind", bad_kind, DS_SHADOW_R_MESSAGE, 6},
	{"a length that is not the message's", bad_length, DS_SHADOW_R_MESSAGE, 8},
	{"another message first", other_kind, DS_SHADOW_R_ORDER, 0},
	{"no descriptors", no_fds, DS_SHADOW_R_FDS, 0},
	{"one descriptor", one_fd, DS_SHADOW_R_FDS, 1},
	{"two descriptors", two_fds, DS_SHADOW_R_FDS, 2},
	{"three descriptors for a mirror that faults", demand_fds, DS_SHADOW_R_FDS, 3},
	{"five descriptors", many_fds, DS_SHADOW_R_FDS, ANY},
	{"another service", other_service, DS_SHADOW_R_SERVICE, 0},
	{"a service of a longer name", longer_service, DS_SHADOW_R_SERVICE, 0},
	{"a name without an end", endless_service, DS_SHADOW_R_MESSAGE, 104},
	{"arguments without an end", endless_args, DS_SHADOW_R_MESSAGE, 136},
	{"arguments that the service refuses", service_refuses, DS_SHADOW_R_SERVICE, 0},
	{"no executors", no_executors, DS_SHADOW_R_LIMIT, 84},
	{"too many executors", many_executors, DS_SHADOW_R_LIMIT, 84},
	{"too large a heap", huge_heap, DS_SHADOW_R_LIMIT, 72},
	{"a heap of no whole pages", odd_heap, DS_SHADOW_R_LIMIT, 72},
	{"no timeout", no_timeout, DS_SHADOW_R_LIMIT, 88},
	{"an unknown provider", bad_provider, DS_SHADOW_R_LIMIT, 92},
	{"an unknown mode", bad_mode, DS_SHADOW_R_LIMIT, 96},
	{"a field that is to be 0", bad_zero, DS_SHADOW_R_LIMIT, 100},
	{"a filter of no whole instructions", odd_filter, DS_SHADOW_R_LIMIT, 32},
	{"a filter beyond the limit", huge_filter, DS_SHADOW_R_LIMIT, 32},
	{"a filter that is not there", missing_filter, DS_SHADOW_R_DATA, 120},
	{"a reserved range that wraps round", bad_reserve, DS_SHADOW_R_LIMIT, 48},
	{"a lowest address beyond the user half", bad_min, DS_SHADOW_R_LIMIT, 64},
	{"no RAM", no_ram, DS_SHADOW_R_LIMIT, 40},
	{"RAM of no whole pages", odd_ram, DS_SHADOW_R_LIMIT, 40},
	{"more RAM than the file has", longer_ram, DS_SHADOW_R_RAM, 0},
	{"a map shorter than its header", tiny_map, DS_SHADOW_R_LIMIT, 16},
	{"a map beyond the limit", huge_map, DS_SHADOW_R_LIMIT, 16},
	{"more forbidden ranges than the limit", many_forbidden, DS_SHADOW_R_LIMIT, 24},
	{"a data file shorter than said", short_data, DS_SHADOW_R_DATA, 120},
	{"an empty data file", empty_data, DS_SHADOW_R_DATA, 0},
	{"an empty forbidden range", empty_forbidden, DS_SHADOW_R_FORBIDDEN, 0},
	{"forbidden ranges that overlap", forbidden_order, DS_SHADOW_R_FORBIDDEN, 1},
	{"a forbidden range that wraps round", forbidden_wraps, DS_SHADOW_R_FORBIDDEN, 1},
	{"forbidden ranges beyond the user half", forbidden_all, DS_SHADOW_R_FORBIDDEN, 1},
	{"something that is no map", map_magic, DS_SHADOW_R_MAP, ANY},
	{"a damaged map", map_damaged, DS_SHADOW_R_MAP, UINT64_MAX},
	{"a map of another version", map_version, DS_SHADOW_R_MAP, ANY},
	{"a map that says to have more runs than there can be", map_nruns, DS_SHADOW_R_MAP, ANY},
	{"a map that leads to guest frames", map_of_gpa, DS_SHADOW_R_SPACE, 0},
	{"a map split by protection only", map_coarse, DS_SHADOW_R_SPACE, 0},
	{"a run of no pages", run_empty, DS_SHADOW_R_MAP, 1},
	{"a run that overlaps another", run_overlaps, DS_SHADOW_R_MAP, 1},
	{"runs that fall", run_falls, DS_SHADOW_R_MAP, 1},
	{"a run in the kernel half", run_kernel, DS_SHADOW_R_MAP, 1},
	{"a run at a non-canonical address", run_noncanonical, DS_SHADOW_R_RUN_HIGH, 1},
	{"a run that ends beyond the user half", run_over_top, DS_SHADOW_R_RUN_HIGH, 1},
	{"a run below vm.mmap_min_addr", run_low, DS_SHADOW_R_RUN_LOW, 0},
	{"a run at address 0", run_zero, DS_SHADOW_R_RUN_LOW, 0},
	{"a run that ends beyond the RAM", run_outside, DS_SHADOW_R_RUN_RAM, 1},
	{"a run far beyond the RAM", run_far_outside, DS_SHADOW_R_RUN_RAM, 0},
	{"a run with unknown attributes", run_attr, DS_SHADOW_R_MAP, 0},
	{"a limit of mappings that nothing fits in", few_maps, DS_SHADOW_R_MAX_MAPS, 0},
	{"RAM that may only be read", ram_read_only, DS_SHADOW_R_MMAP, 0},
	{"RAM that cannot be mapped at all", ram_a_pipe, DS_SHADOW_R_RAM, 0},
};

static int offer(void (*spoil)(struct offer *))
{
	static struct offer o;
	union host_message m;
	char path[64];
	int fd, fds[5], pair[2];

	host_exec(&h, "calls");
	memset(&o, 0, sizeof(o));
	o.boot = host_boot(&h, "calls", 2);
	o.boot_bytes = sizeof(o.boot);
	o.nfds = 3;
	fd = host_data(good, 2, NULL, 0, &o.boot.data);
	o.data_bytes = (size_t)pread(fd, o.data.bytes, sizeof(o.data.bytes), 0);
	close(fd);
	spoil(&o);
	fd = host_file(o.data.bytes, o.data_bytes, NULL, 0);
	fds[0] = h.ram_fd, fds[1] = h.ram_ro_fd;
	fds[2] = fds[3] = fds[4] = fd;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", h.ram_fd);
	if (o.ram_fd == -1)
		fds[0] = open(path, O_RDONLY | O_CLOEXEC);
	if (o.ram_fd == -2) {
		if (pipe2(pair, O_CLOEXEC))
			err(2, "pipe");
		fds[0] = pair[0];
		close(pair[1]);
	}
	host_send(&h, &o.boot, o.boot_bytes, fds, o.nfds);
	close(fd);
	if (o.ram_fd)
		close(fds[0]);
	return host_receive(&h, &m, HOST_TIMEOUT_MS);
}

static void test_boot(void)
{
	unsigned int alive = 0;

	tap_eq(offer(nothing), DS_SHADOW_STATUS, "what is not spoilt is accepted");
	host_end(&h);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int kind = offer(cases[i].spoil), status;
		bool right = kind == DS_SHADOW_REFUSED && h.refused.reason == cases[i].reason &&
			     (cases[i].index == ANY || h.refused.index == cases[i].index);

		status = host_end(&h);
		alive += status != 1 << 8;
		if (!tap_ok(right, "refused: %s", cases[i].what))
			printf("# kind %d, reason %u, err %d, index %" PRIu64 ", value %" PRIu64 ", status %x\n", kind, h.refused.reason,
			       h.refused.err, h.refused.index, h.refused.value, status);
	}
	tap_eq(alive, 0, "each time the shadow has ended with status 1");
	host_exec(&h, "calls");
	tap_eq(host_end(&h), 3 << 8, "a capsule whose parent goes away without a word ends");
}

/* Sends @message, which is wrong.  Return: whether it was refused with @reason. */
static bool refused(const void *message, size_t bytes, const int *fds, int nfds, uint32_t reason)
{
	union host_message m;

	host_send(&h, message, bytes, fds, nfds);
	return host_receive(&h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_REFUSED && h.refused.reason == reason;
}

/* How many descriptors the capsule has. */
static int open_fds(void)
{
	char path[64];
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", h.pid);
	d = opendir(path);
	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* A running capsule refuses and goes on as if nothing had been said. */
static void test_running(void)
{
	static uint8_t big[sizeof(struct ds_shadow_message) + DS_SHADOW_PAYLOAD_MAX + 64];
	struct ds_shadow_update u = {.head = host_head(&h, DS_SHADOW_UPDATE, sizeof(u))};
	struct ds_shadow_boot boot;
	struct ds_shadow_message msg;
	struct rle_run outside[2];
	struct calls_request call = {.op = CALLS_SPIN, .args = {50000000}};
	uint64_t vmas;
	int fd, fds;

	host_start(&h, "calls", 2, good, 2);
	fds = open_fds();
	memset(big, 0xff, sizeof(big));
	tap_ok(refused(big, sizeof(big), NULL, 0, DS_SHADOW_R_MESSAGE), "refused: a packet longer than any message");
	tap_ok(refused(big, 40, NULL, 0, DS_SHADOW_R_MESSAGE), "refused: noise");
	tap_ok(refused(big, 1, NULL, 0, DS_SHADOW_R_MESSAGE), "refused: one byte");
	boot = host_boot(&h, "calls", 1);
	tap_ok(refused(&boot, sizeof(boot), (int[]){h.ram_fd, h.ram_fd}, 2, DS_SHADOW_R_ORDER), "refused: a second BOOT");
	tap_ok(refused(&u, sizeof(u), NULL, 0, DS_SHADOW_R_FDS), "refused: an UPDATE without its data");
	tap_ok(refused(&u, sizeof(u), (int[]){h.ram_fd}, 1, DS_SHADOW_R_LIMIT), "refused: an UPDATE of nothing");
	u.data.map_bytes = 96;
	tap_ok(refused(&u, sizeof(u), (int[]){h.ram_fd}, 1, DS_SHADOW_R_MAP), "refused: the RAM itself as a map");
	u.data.map_bytes = DS_SHADOW_MAP_BYTES_MAX;
	tap_ok(refused(&u, sizeof(u), (int[]){h.ram_fd}, 1, DS_SHADOW_R_DATA), "refused: less data than said, 64 MiB");
	memcpy(outside, good, sizeof(outside));
	outside[1].pfn.n = RAM_PAGES;
	fd = host_data(outside, 2, NULL, 0, &u.data);
	tap_ok(refused(&u, sizeof(u), &fd, 1, DS_SHADOW_R_RUN_RAM) && h.refused.index == 1, "refused: an UPDATE beyond the RAM");
	close(fd);
	msg = (struct ds_shadow_message){.head = host_head(&h, DS_SHADOW_MESSAGE, sizeof(msg)), .executor = 2};
	tap_ok(refused(&msg, sizeof(msg), NULL, 0, DS_SHADOW_R_EXECUTOR), "refused: a message for an executor that is not there");
	msg.executor = 0;
	msg.payload_bytes = 1;
	tap_ok(refused(&msg, sizeof(msg), NULL, 0, DS_SHADOW_R_MESSAGE), "refused: a payload that is not there");
	msg.payload_bytes = UINT32_MAX;
	tap_ok(refused(&msg, sizeof(msg), NULL, 0, DS_SHADOW_R_LIMIT), "refused: a payload longer than any");
	/* one is being worked on, one waits in the mailbox */
	host_message(&h, 0, &call, sizeof(call));
	usleep(20000);
	host_message(&h, 0, &call, sizeof(call));
	host_message(&h, 0, &call, sizeof(call));
	{
		union host_message m;

		tap_ok(host_receive(&h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_REFUSED && h.refused.reason == DS_SHADOW_R_MAILBOX,
		       "refused: a message for an executor that has one waiting");
	}
	tap_eq(open_fds(), fds, "descriptors of refused messages are closed");
	host_ping(&h);
	tap_ok(!model_compare(&h, good, 2, &vmas) && h.status.updates == 1, "after all that the mirror is what it was");
	host_end(&h);
}

/* Messages that are nearly right, one after the other, to a capsule that runs. */
static void test_noise(void)
{
	const struct rle_run other[] = {{{0x555555000}, {9}, 2, RW}, {{0x600000000}, {1}, 5, RW}};
	unsigned int answers = 0, accepted = 0;
	uint64_t vmas;

	/* a service that does nothing dangerous, whatever it is told */
	host_start(&h, "listwalk", 3, good, 2);
	host_random_state = 1234;
	for (int i = 0; i < 4000; i++) {
		union {
			struct ds_shadow_head head;
			struct ds_shadow_update update;
			struct ds_shadow_message message;
			uint8_t bytes[64];
		} m = {0};
		const bool update = host_random(2);
		size_t bytes = update ? sizeof(m.update) : sizeof(m.message) + host_random(40);
		union host_message answer;
		uint8_t patch[24];
		int fd, fds[3], nfds = host_random(8) ? update : (int)host_random(4);

		m.head = host_head(&h, update ? DS_SHADOW_UPDATE : DS_SHADOW_MESSAGE, bytes);
		fd = host_data(host_random(2) ? good : other, 2, NULL, 0, &m.update.data);
		if (!update) {
			m.message.executor = (uint32_t)host_random(4);
			m.message.payload_bytes = (uint32_t)(bytes - sizeof(m.message));
		}
		if (host_random(3)) {
			m.bytes[host_random(bytes)] = (uint8_t)host_random(256);
			/* never QUIT */
			if (m.head.kind == DS_SHADOW_QUIT)
				m.head.kind = 0;
		} else if (host_random(2)) {
			for (size_t k = 0; k < sizeof(patch); k++)
				patch[k] = (uint8_t)host_random(256);
			if (pwrite(fd, patch, 1 + host_random(sizeof(patch)), (off_t)host_random(112)) < 0)
				err(2, "pwrite");
		}
		fds[0] = fds[1] = fds[2] = fd;
		host_send(&h, &m, host_random(20) ? bytes : host_random(bytes) + 1, fds, nfds);
		close(fd);
		while (host_receive(&h, &answer, answers < (unsigned int)i ? HOST_TIMEOUT_MS : 0) > 0) {
			answers++;
			accepted += answer.head.kind == DS_SHADOW_STATUS;
			if (answers > (unsigned int)i)
				break;
		}
	}
	tap_ok(accepted > 100 && accepted < 3000, "4000 messages that are nearly right: %u were", accepted);
	for (union host_message late; host_receive(&h, &late, 300) > 0;)
		; /* answers of requests that were damaged where it says which request it is, and of executors */
	tap_eq(host_update(&h, good, 2, NULL, 0, NULL), DS_SHADOW_STATUS, "then one that is right is understood");
	tap_ok(!model_compare(&h, good, 2, &vmas), "and the mirror is right");
	tap_eq(host_end(&h), 0, "the capsule has lived through it");
}

int main(void)
{
	host_ram(&h, RAM_PAGES);
	test_boot();
	test_running();
	test_noise();
	host_free(&h);
	return tap_done();
}
