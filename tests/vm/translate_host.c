/* translate_host.c - on the host of translate.sh: from a guest's own map to its bytes in the VM's RAM file
 *
 * usage: translate_host VHOST-SOCKET QMP-SOCKET GUEST-OUTPUT RESETS HIGH
 *   RESETS  how often the VM is reset and looked at again before the guest may end
 *   HIGH    1: the VM has RAM above 4 GiB, and the guest's pages are expected there; private: the VM's memory has
 *	     share=off, which must be found out, and then the VM is ended
 *
 * Plays the back end of the VM's vsock device.  Each time the guest has told its pattern and its map (what it printed
 * is in the file GUEST-OUTPUT): the tables from vhost-user and from the monitor must agree, the map must be translated,
 * the pattern must be where it then says.  At the end the guest is let go by a write into its memory, and the VM's death
 * must be seen.  The VM with HIGH also gets a DIMM plugged in.  Prints TAP.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/vm/mtree.h"
#include "runtime/host/vm/qmp.h"
#include "runtime/host/vm/vhostuser.h"
#include "runtime/host/window/vmmaps.h"
#include "tests/tap.h"
#include "tests/vm/translate.h"

#define PATIENCE_S 200 /* for a boot under emulation on a busy machine */

static struct vhostuser v;
static struct qmp q;
static int vm = -1; /* the connection */
static unsigned int tables, starts, stops;
static char text[8u << 20]; /* what the guest printed */
static const char *const *args;

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* Takes in messages for up to @ms.  Return: 0, or what ended the connection. */
static int pump(int ms)
{
	struct pollfd p = {.fd = vm, .events = POLLIN};
	enum vhostuser_event event;
	int r;

	if (poll(&p, 1, ms) <= 0)
		return 0;
	r = vhostuser_receive(&v, vm, &event);
	tables += event == VHOSTUSER_EV_TABLE || event == VHOSTUSER_EV_TABLE_SAME;
	starts += event == VHOSTUSER_EV_STARTED;
	stops += event == VHOSTUSER_EV_STOPPED;
	if (event == VHOSTUSER_EV_NO_TABLE)
		printf("# no table: %s\n", v.err.why);
	return r == -EAGAIN ? 0 : r;
}

/* While the monitor is waited for: QEMU may wait for its device in the middle of a command. */
static int serve(void *ctx)
{
	(void)ctx;
	return pump(0);
}

static void stop_here(const char *what)
{
	tap_ok(false, "%s%s%s", what, v.err.why ? ": " : "", v.err.why ? v.err.why : "");
	exit(tap_done());
}

static int accept_vm(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd p = {.fd = s, .events = POLLIN};

	/* It gets its name when it listens: QEMU, started as soon as the name is there, would be refused before. */
	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s.new", path) >= (int)sizeof(addr.sun_path))
		return -1;
	if (bind(s, (struct sockaddr *)&addr, sizeof(addr)) || listen(s, 1) || rename(addr.sun_path, path) ||
	    poll(&p, 1, PATIENCE_S * 1000) != 1)
		return -1;
	return accept4(s, NULL, NULL, SOCK_CLOEXEC);
}

/* What the guest told, the @n-th time (from 0): a whole MAP line, and the PATTERN line before it. */
static bool told(unsigned int n, uint64_t *vpn, uint64_t *seed, char **map)
{
	cleanup_close int fd = open(args[3], O_RDONLY | O_CLOEXEC);
	ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *at = text;

	text[bytes > 0 ? bytes : 0] = 0;
	for (unsigned int i = 0;; i++) {
		at = strstr(at, "PATTERN ");
		*map = at ? strstr(at, "\nMAP ") : NULL;
		if (!*map || !strchr(*map + 1, '\n'))
			return false;
		if (i == n)
			break;
		at = *map;
	}
	*map += 5;
	return sscanf(at, "PATTERN %" SCNx64 " %*x %" SCNx64, vpn, seed) == 2;
}

/* The map the guest told; its blob comes as hexadecimal digits. */
static int open_map(const char *hex, struct rle_map *map)
{
	static uint8_t blob[TRANSLATE_MAP_BYTES];
	size_t bytes = 0;

	while (bytes < sizeof(blob) && sscanf(hex + 2 * bytes, "%2hhx", &blob[bytes]) == 1 && hex[2 * bytes] != '\n')
		bytes++;
	return rle_map_open_copy(map, blob, bytes, NULL);
}

/* Pages of the pattern that are in the RAM file where @out says. */
static unsigned int count_pages(const struct rle_map *out, uint64_t vpn, uint64_t seed)
{
	unsigned int good = 0;

	for (uint64_t i = 0; i < TRANSLATE_PAGES; i++) {
		uint64_t page[TRANSLATE_WORDS], k = 0;
		struct rle_run hit;

		if (!rle_map_lookup(out, (ds_vpn){vpn + i}, &hit) ||
		    pread(v.ram_fd, page, sizeof(page), (off_t)(hit.pfn.n << DS_PAGE_SHIFT)) != sizeof(page))
			continue;
		while (k < TRANSLATE_WORDS && page[k] == translate_word(seed, i * TRANSLATE_WORDS + k))
			k++;
		good += k == TRANSLATE_WORDS;
	}
	return good;
}

/* The VMM's own mappings: opened by the PID that the socket tells. */
static void check_shared(int want)
{
	struct ramtable_err err = {0};
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);
	char path[64];
	int fd;

	getsockopt(vm, SOL_SOCKET, SO_PEERCRED, &cred, &bytes);
	snprintf(path, sizeof(path), "/proc/%d/maps", cred.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	tap_eq(vmmaps_check(fd, v.region, v.nregions, &err), want, "QEMU's own mappings tell whether it is shared: %s",
	       want ? "it is not" : "it is");
	if (err.why)
		printf("# %s\n", err.why);
	if (fd >= 0)
		close(fd);
}

static void check_tables(bool high)
{
	struct ramtable_diff diff = {0};
	struct ramtable_err err = {0};
	struct ramtable monitor;
	bool above = false;
	int r = mtree_read(&q, &monitor, &err);

	tap_ok(r == 0, "the monitor tells a table%s%s", err.why ? ": " : "", err.why ? err.why : "");
	if (r)
		return;
	r = ramtable_compare(&v.table, &monitor, &diff);
	tap_ok(r, "and it is the one that vhost-user sent: %u ranges%s%s", v.table.nranges, diff.why ? ", but " : "",
	       diff.why ? diff.why : "");
	if (!r)
		printf("# they differ at %#" PRIx64 "\n", diff.gpa_bytes);
	for (uint32_t i = 0; i < v.table.nranges; i++)
		above = above || v.table.range[i].frame.n >= 1 << 20;
	tap_ok(above == high, "%s RAM above 4 GiB", high ? "there is" : "there is no");
}

/* One life of the guest.  @where: set to the offset of the pattern's first word in the RAM file. */
static void check_life(unsigned int n, bool high, uint64_t *where, uint64_t *seed)
{
	__attribute__((cleanup(rle_map_close))) struct rle_map map = {0}, out = {0};
	const time_t end = now() + PATIENCE_S;
	struct ramtable_err err = {0};
	cleanup_free void *blob = NULL;
	struct rle_run hit;
	uint64_t vpn;
	size_t bytes;
	char *hex;
	int r = 0;

	while (!r && !(v.running && told(n, &vpn, seed, &hex)) && now() < end)
		r = pump(100);
	if (r || !v.running || !v.has_table || !told(n, &vpn, seed, &hex))
		stop_here("the guest starts its device and tells its map");
	tap_ok(tables > n && starts == n + 1, "life %u of the guest: a table came, the device runs", n + 1);
	check_shared(0);
	check_tables(high);
	if (open_map(hex, &map))
		stop_here("the guest's map is valid");
	r = ramtable_translate(&v.table, &map, TRANSLATE_MAP_BYTES, &blob, &bytes, &err);
	tap_ok(r == 0, "the guest's map of %" PRIu64 " pages in %" PRIu64 " runs is translated%s%s", map.npages, map.nruns,
	       err.why ? ": " : "", err.why ? err.why : "");
	if (r || rle_map_open(&out, blob, bytes, NULL))
		stop_here("the result is a map");
	tap_eq(count_pages(&out, vpn, *seed), TRANSLATE_PAGES, "every page of the guest's pattern is in the RAM file where that says");
	tap_ok(count_pages(&out, vpn + 1, *seed) == 0, "and no page is where its neighbour should be");
	if (high)
		tap_ok(rle_map_lookup(&map, (ds_vpn){vpn}, &hit) && hit.pfn.n >= 1 << 20, "the pattern lies above 4 GiB in the guest");
	if (rle_map_lookup(&out, (ds_vpn){vpn}, &hit))
		*where = hit.pfn.n << DS_PAGE_SHIFT;
}

/* Plugs a DIMM in: a new table, with the same RAM file and another one. */
static void check_hotplug(void)
{
	const char *object = "{\"qom-type\": \"memory-backend-memfd\", \"id\": \"dimm\", \"size\": 134217728, \"share\": true}";
	const char *device = "{\"driver\": \"pc-dimm\", \"id\": \"plugged\", \"memdev\": \"dimm\"}";
	const struct ramtable before = v.table;
	const unsigned int n = tables;
	struct ramtable_err err = {0};
	struct ramtable monitor;
	time_t end = now() + 30;
	int r;

	r = qmp_command(&q, "object-add", json_tokener_parse(object), NULL);
	r = r ? r : qmp_command(&q, "device_add", json_tokener_parse(device), NULL);
	tap_ok(r == 0, "a DIMM is plugged in%s%s", r ? ": " : "", q.fault);
	while (!r && tables == n && now() < end)
		r = pump(100);
	tap_ok(!r && tables > n && v.has_table && v.table.nfiles == 2 && ramtable_compare(&before, &v.table, NULL),
	       "a new table came, with the same RAM file and another one");
	r = mtree_read(&q, &monitor, &err);
	tap_ok(!r && monitor.nfiles == 2 && monitor.nranges == v.table.nranges && ramtable_compare(&monitor, &v.table, NULL),
	       "the monitor agrees");
}

/* A VM with share=off: it sends a table of a file that it does not use.  The guest's pattern is not there. */
static void check_private(void)
{
	const time_t end = now() + PATIENCE_S;
	struct ramtable_err err = {0};
	struct ramtable monitor;
	uint64_t vpn, seed;
	char *hex;
	int r = 0;

	while (!r && !(v.running && told(0, &vpn, &seed, &hex)) && now() < end)
		r = pump(100);
	if (r || !v.running)
		stop_here("the guest starts its device");
	tap_ok(v.has_table, "memory with share=off: vhost-user sends a table all the same");
	check_shared(-EOPNOTSUPP);
	tap_eq(mtree_read(&q, &monitor, &err), -EOPNOTSUPP, "and the monitor tells: %s", err.why ? err.why : "nothing");
	qmp_command(&q, "quit", NULL, NULL);
	for (time_t last = now() + 30; !r && now() < last;)
		r = pump(100);
	tap_eq(r, -ECONNRESET, "the VM's death is seen");
}

int main(int argc, char **argv)
{
	uint64_t where = 0, seed = 0;
	time_t end;
	int r = 0;

	args = (const char *const *)argv;
	if (argc != 6)
		return 1;
	vhostuser_init(&v, 3);
	vm = accept_vm(argv[1]);
	if (vm < 0)
		stop_here("a VM connects");
	for (int i = 0; i < 50; i++)
		r = pump(20); /* QEMU waits for the CID, and has its monitor only after that */
	r = r ? r : qmp_connect(&q, argv[2], 20000);
	if (r)
		stop_here("the VM has a monitor");
	qmp_serve(&q, vm, serve, NULL);
	if (!strcmp(argv[5], "private")) {
		check_private();
		return tap_done();
	}
	for (unsigned int n = 0; n <= (unsigned int)atoi(argv[4]); n++) {
		check_life(n, argv[5][0] == '1', &where, &seed);
		if (n == (unsigned int)atoi(argv[4]))
			break;
		tap_eq(qmp_command(&q, "system_reset", NULL, NULL), 0, "the VM is reset");
		for (end = now() + 30; !r && stops == n && now() < end;)
			r = pump(100);
		tap_ok(!r && stops == n + 1 && !v.running, "the device says that the guest is gone");
	}
	if (argv[5][0] == '1')
		check_hotplug();
	seed = ~seed;
	tap_ok(pwrite(v.ram_fd, &seed, sizeof(seed), (off_t)where) == sizeof(seed), "the guest is let go by a write into its memory");
	for (end = now() + 60; !r && now() < end;)
		r = pump(100);
	tap_eq(r, -ECONNRESET, "the VM's death is seen");
	tap_ok(qmp_command(&q, "query-status", NULL, NULL) != 0, "the monitor is gone too, and says so");
	qmp_close(&q);
	vhostuser_close(&v);
	close(vm);
	return tap_done();
}
