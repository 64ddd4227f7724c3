/* capsule_services.c - the example services over the memory of a real process
 *
 * A child stands for the guest process: it builds a linked list and a buffer and stops.  Its page table is read with
 * rle/, its frames are the guest's frames; a memfd stands for the VM's RAM and gets a copy of each page.  The guest's
 * map, composed with a map from frames to pages of the file, is what the capsule mirrors.  What the services find is
 * held against what the child is read to contain through /proc/PID/mem.
 */
#include <sys/prctl.h>

#include "rle/enc.h"
#include "rle/mapops.h"
#include "rle/proc.h"
#include "rle/src.h"
#include "tests/capsule_host.h"
#include "tests/tap.h"

#define NODES 5000
#define BUFFER_BYTES (3u << 20)

struct node {
	uint64_t value;
	char pad[40];
	struct node *next;
};

static struct {
	struct node *first;
	uint8_t *buffer;
} guest; /* told by the child through a pipe */
static struct host h;
static struct rle_map composed;
static uint64_t *frames; /* of the child, rising: page i of the RAM file is frame frames[i] */
static size_t nframes;
static int mem_fd;

/* --- the guest process ------------------------------------------------------------------------------------------- */

static void guest_main(int out)
{
	struct node **all = malloc(NODES * sizeof(*all));

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0; i < NODES; i++) {
		all[i] = malloc(sizeof(struct node) + host_random(300));
		all[i]->value = host_random(1u << 30);
	}
	for (int i = NODES - 1; i > 0; i--) { /* in an order that has nothing to do with addresses */
		int k = (int)host_random((uint64_t)i + 1);
		struct node *n = all[i];

		all[i] = all[k];
		all[k] = n;
	}
	for (int i = 0; i < NODES; i++)
		all[i]->next = i + 1 < NODES ? all[i + 1] : NULL;
	guest.first = all[0];
	guest.buffer = malloc(BUFFER_BYTES);
	for (size_t i = 0; i < BUFFER_BYTES; i++)
		guest.buffer[i] = (uint8_t)host_random(256);
	if (write(out, &guest, sizeof(guest)) != sizeof(guest))
		_exit(1);
	raise(SIGSTOP);
	_exit(0);
}

static void guest_read(void *to, const void *address, size_t bytes)
{
	if (pread(mem_fd, to, bytes, (off_t)(uintptr_t)address) != (ssize_t)bytes)
		err(2, "memory of the guest process at %p", address);
}

/* --- from its page table to a RAM file and a map ----------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
	const uint64_t *p = a, *q = b;

	return *p < *q ? -1 : *p > *q;
}

static uint64_t frame_index(uint64_t pfn)
{
	const uint64_t *found = bsearch(&pfn, frames, nframes, sizeof(*frames), by_number);

	if (!found)
		errx(2, "frame %" PRIu64, pfn);
	return (uint64_t)(found - frames);
}

/* The process's map; NULL if frames cannot be seen. */
static void *guest_map(pid_t pid, struct rle_map *map)
{
	static struct rle_src src;
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FRAME, .pid = (uint64_t)pid};
	struct rle_proc p;
	struct rle_enc e;
	struct rle_mapw *w;
	const char *why = "";
	size_t bytes;
	void *blob;
	int rc = rle_src_open(&src, NULL, RLE_JOIN_NONE, &why);

	if (rc == -EPERM)
		return NULL;
	if (rc || rle_proc_open(&p, &src, pid))
		errx(2, "cannot read the process: %s", why);
	if (rle_mapw_begin_mem(&w, &meta, 1u << 28))
		errx(2, "rle_mapw_begin_mem");
	rle_enc_init(&e, RLE_SPLIT_ATTR, rle_mapw_run, w, &src.frames);
	if (rle_proc_scan(&p, &e, NULL) || rle_mapw_finish(w))
		errx(2, "scan: %s", rle_mapw_fault(w));
	blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	rle_proc_close(&p);
	rle_src_close(&src);
	if (rle_map_open(map, blob, bytes, NULL))
		errx(2, "rle_map_open");
	return blob;
}

/* The RAM: every frame of the process once, in the order of frame numbers. */
static void fill_ram(const struct rle_map *map)
{
	size_t n = 0;

	frames = malloc((map->npages + 1) * sizeof(*frames));
	for (uint64_t i = 0; i < map->nruns; i++)
		for (uint32_t k = 0; k < map->runs[i].npages; k++)
			frames[n++] = map->runs[i].pfn.n + k;
	qsort(frames, n, sizeof(*frames), by_number);
	for (size_t i = 0; i < n; i++)
		if (!i || frames[i] != frames[nframes - 1])
			frames[nframes++] = frames[i];
	host_ram(&h, nframes);
	for (uint64_t i = 0; i < map->nruns; i++)
		for (uint32_t k = 0; k < map->runs[i].npages; k++)
			guest_read(h.ram + frame_index(map->runs[i].pfn.n + k) * PAGE, (void *)((map->runs[i].vpn.n + k) * PAGE), PAGE);
}

static void *take(struct rle_mapw *w, struct rle_map *map)
{
	size_t bytes;
	void *blob;

	if (rle_mapw_finish(w))
		errx(2, "rle_mapw_finish: %s", rle_mapw_fault(w));
	blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	if (rle_map_open(map, blob, bytes, NULL))
		errx(2, "rle_map_open");
	return blob;
}

/* @map composed with "frame -> page of the file". */
static void *compose(const struct rle_map *map, struct rle_map *out)
{
	const struct rle_map_meta ram_meta = {.split = RLE_SPLIT_VPN_PFN, .key = RLE_SPACE_FRAME, .space = RLE_SPACE_FILE};
	const struct rle_compose_opt opt = {.max_pieces = 1u << 24};
	struct rle_map_meta meta = map->meta;
	struct rle_mapw *w;
	struct rle_map ram;
	void *ram_blob;

	rle_mapw_begin_mem(&w, &ram_meta, 1u << 28);
	for (size_t i = 0; i < nframes; i++)
		if (rle_mapw_add(w, (ds_vpn){frames[i]}, (ds_pfn){i}, 1, 0))
			errx(2, "%s", rle_mapw_fault(w));
	ram_blob = take(w, &ram);
	meta.space = RLE_SPACE_FILE;
	rle_mapw_begin_mem(&w, &meta, 1u << 28);
	if (rle_map_compose(map, &ram, &opt, rle_mapw_run, w, NULL))
		errx(2, "rle_map_compose");
	free(ram_blob);
	return take(w, out);
}

/* The RAM page that holds a guest address, as this process sees it. */
static void *ram_at(const void *address)
{
	struct rle_run hit;

	if (!rle_map_lookup(&composed, (ds_vpn){(uintptr_t)address / PAGE}, &hit))
		errx(2, "%p is not in the map", address);
	return h.ram + hit.pfn.n * PAGE + (uintptr_t)address % PAGE;
}

/* --- the services ------------------------------------------------------------------------------------------------ */

static void ask(const void *request, uint32_t bytes, void *answer, uint32_t answer_bytes)
{
	union host_message m;

	host_message(&h, 0, request, bytes);
	memset(answer, 0xee, answer_bytes);
	if (host_receive(&h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_MESSAGE && m.message.payload_bytes == answer_bytes)
		memcpy(answer, m.message.payload, answer_bytes);
}

struct walked {
	uint64_t nodes, sum, at;
	int64_t error;
};

static struct walked walk(const struct node *first)
{
	const uint64_t request[3] = {(uintptr_t)first, offsetof(struct node, next), offsetof(struct node, value)};
	struct walked answer;

	ask(request, sizeof(request), &answer, sizeof(answer));
	return answer;
}

static void test_listwalk(void)
{
	struct node node, *at, *middle = NULL;
	uint64_t sum = 0, nodes = 0;
	struct walked a;
	uint64_t vmas;
	const char *wrong;

	int kind = host_start(&h, "listwalk", 1, composed.runs, composed.nruns);

	if (!tap_ok(kind == DS_SHADOW_STATUS, "a shadow of a real process: %" PRIu64 " pages in %" PRIu64 " mappings", composed.npages,
		    h.status.mirror_vmas)) {
		printf("# reason %u, index %" PRIu64 "\n", h.refused.reason, h.refused.index);
		exit(tap_done());
	}
	wrong = model_compare(&h, composed.runs, composed.nruns, &vmas);
	if (!tap_ok(!wrong, "its whole address space is there, and nothing else"))
		printf("# %s\n", wrong);
	for (at = guest.first; at; at = node.next, nodes++) {
		guest_read(&node, at, sizeof(node));
		sum += node.value;
		if (nodes == NODES / 2)
			middle = at;
	}
	a = walk(guest.first);
	tap_ok(a.nodes == NODES && nodes == NODES && a.sum == sum && !a.at && !a.error,
	       "listwalk follows the process's list by its own pointers: %" PRIu64 " nodes", a.nodes);

	/* what the guest does to its memory is seen at once */
	((struct node *)ram_at(middle))->value += 1000;
	tap_ok(walk(guest.first).sum == sum + 1000, "a store of the guest is seen");
	guest_read(&node, middle, sizeof(node));
	((struct node *)ram_at(middle))->next = (struct node *)0x10;
	a = walk(guest.first);
	tap_ok(a.error == -EFAULT && a.nodes == NODES / 2 + 1 && a.at == 0x10, "a wild pointer is reported, the shadow lives");
	((struct node *)ram_at(middle))->next = (struct node *)UINT64_C(0xffff888000000000);
	tap_ok(walk(guest.first).error == -EFAULT, "so is one into the kernel half");
	((struct node *)ram_at(middle))->next = (struct node *)(h.status.capsule.vpn * PAGE); /* a guard page */
	tap_ok(walk(guest.first).error == -EFAULT, "and one into the capsule's guard");
	((struct node *)ram_at(middle))->next = guest.first;
	a = walk(guest.first);
	tap_ok(a.error == -ELOOP && a.nodes == 10000000, "a list without an end has one for the service");
	((struct node *)ram_at(middle))->next = node.next;
	((struct node *)ram_at(middle))->value -= 1000;
	tap_ok(walk(NULL).nodes == 0, "an empty list has no nodes");
	tap_ok(walk(guest.first).sum == sum, "the list is whole again");
	tap_eq(host_end(&h), 0, "the shadow ends");
}

static uint64_t fnv(const uint8_t *p, size_t n)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ p[i]) * 0x100000001b3u;
	return sum;
}

/* The map without the page of @address; runs are in @out. */
static size_t without_page(uintptr_t address, struct rle_run *out)
{
	size_t n = 0;

	for (uint64_t i = 0; i < composed.nruns; i++) {
		struct rle_run r = composed.runs[i];
		uint64_t vpn = address / PAGE;

		if (vpn < r.vpn.n || vpn >= r.vpn.n + r.npages) {
			out[n++] = r;
			continue;
		}
		if (vpn > r.vpn.n) {
			out[n] = r;
			out[n++].npages = (uint32_t)(vpn - r.vpn.n);
		}
		if (vpn + 1 < r.vpn.n + r.npages)
			out[n++] = rle_run_skip(r, (uint32_t)(vpn + 1 - r.vpn.n));
	}
	return n;
}

static uint64_t interim[3];
static unsigned int interims;

static void note_answer(const struct ds_shadow_message *m)
{
	memcpy(interim, m->payload, sizeof(interim));
	interims++;
}

static void test_checksum(void)
{
	uint8_t *copy = malloc(BUFFER_BYTES);
	struct rle_run *fewer = malloc((composed.nruns + 2) * sizeof(*fewer));
	uint64_t request[2] = {(uintptr_t)guest.buffer, BUFFER_BYTES}, a[3], moves = 0;
	unsigned int rounds, wrong = 0;
	size_t n;

	guest_read(copy, guest.buffer, BUFFER_BYTES);
	host_start(&h, "checksum", 2, composed.runs, composed.nruns);
	ask(request, sizeof(request), a, sizeof(a));
	tap_ok(a[0] == fnv(copy, BUFFER_BYTES) && a[1] == BUFFER_BYTES && a[2] == 1, "checksum sums 3 MiB of its heap from outside");

	n = without_page(request[0] + (1u << 20), fewer);
	tap_ok(host_update(&h, fewer, n, NULL, 0, NULL) == DS_SHADOW_STATUS, "one page goes away in the guest");
	ask(request, sizeof(request), a, sizeof(a));
	n = (request[0] + (1u << 20)) / PAGE * PAGE - request[0];
	tap_ok(a[1] == n && a[0] == fnv(copy, n) && a[2] == 2, "the sum ends before it, and tells of the update");

	host_update(&h, composed.runs, composed.nruns, NULL, 0, NULL);
	/* in the middle of its work the capsule is moved, again and again */
	for (rounds = 0; moves < 40 && rounds < 200; rounds++) {
		interims = 0;
		host_message(&h, 0, request, sizeof(request));
		while (!interims && moves < 2000) {
			const struct ds_shadow_range here = {h.status.capsule.vpn, 1};

			host_update(&h, composed.runs, composed.nruns, &here, 1, note_answer);
			moves++;
		}
		wrong += interims != 1 || interim[0] != fnv(copy, BUFFER_BYTES) || interim[1] != BUFFER_BYTES;
	}
	tap_ok(moves >= 40 && moves > rounds && h.status.moves == moves, "%" PRIu64 " moves while it sums %u times", moves, rounds);
	tap_eq(wrong, 0, "do not change the sum");
	tap_eq(host_end(&h), 0, "the shadow ends");
	free(copy);
	free(fewer);
}

int main(void)
{
	struct rle_map map;
	void *blob, *composed_blob;
	char path[64];
	int pipe_fds[2], status;
	pid_t pid;

	host_random_state = 4711;
	if (pipe(pipe_fds))
		err(2, "pipe");
	pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid)
		guest_main(pipe_fds[1]);
	if (read(pipe_fds[0], &guest, sizeof(guest)) != sizeof(guest) || waitpid(pid, &status, WUNTRACED) != pid || !WIFSTOPPED(status))
		errx(2, "the guest process did not get ready");
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	mem_fd = open(path, O_RDONLY);
	blob = guest_map(pid, &map);
	if (!blob) {
		tap_skip("services over a real process", "frame numbers are hidden: needs CAP_SYS_ADMIN");
	} else {
		fill_ram(&map);
		composed_blob = compose(&map, &composed);
		test_listwalk();
		test_checksum();
		free(composed_blob);
		free(blob);
		free(frames);
		host_free(&h);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return tap_done();
}
