/* capsule_host.h - plays dshost for a capsule: a memfd stands for the VM's RAM, a list of runs for the guest's page table
 *
 * What a map should lead to is told by a model of its own, page by page (struct model), not by the code under test.
 */
#ifndef TESTS_CAPSULE_HOST_H
#define TESTS_CAPSULE_HOST_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rle/mapw.h"
#include "runtime/shadow/plan.h"
#include "runtime/wire/shadow.h"

#define PAGE 4096ul
#define RW (RLE_ATTR_READ | RLE_ATTR_WRITE)
#define HOST_TIMEOUT_MS 8000

struct host {
	int ctl, ram_fd, ram_ro_fd;
	pid_t pid;
	uint64_t ram_pages;
	uint8_t *ram;
	uint32_t seq;
	struct ds_shadow_status status;	  /* the last one */
	struct ds_shadow_refused refused; /* the last one */
};

union host_message {
	struct ds_shadow_head head;
	struct ds_shadow_status status;
	struct ds_shadow_refused refused;
	struct ds_shadow_fault fault;
	struct ds_shadow_message message;
	uint8_t bytes[sizeof(struct ds_shadow_message) + DS_SHADOW_PAYLOAD_MAX];
};

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static uint64_t host_random_state = 0x853c49e6748fea9bu;

__attribute__((unused)) static uint64_t host_random(uint64_t below)
{
	uint64_t z = host_random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % below;
}

__attribute__((unused)) static uint64_t host_sysctl(const char *path)
{
	unsigned long long n = 0;
	FILE *f = fopen(path, "r");

	if (!f || fscanf(f, "%llu", &n) != 1)
		err(2, "%s", path);
	fclose(f);
	return n;
}

/* --- RAM and data ------------------------------------------------------------------------------------------------ */

/* What page @i of the RAM begins with. */
static inline uint64_t host_word(uint64_t i)
{
	return i * 0x9e3779b97f4a7c15u + 1;
}

__attribute__((unused)) static void host_ram(struct host *h, uint64_t pages)
{
	char path[64];

	*h = (struct host){.ctl = -1, .ram_pages = pages};
	h->ram_fd = memfd_create("ram", MFD_CLOEXEC);
	if (h->ram_fd < 0 || ftruncate(h->ram_fd, (off_t)(pages * PAGE)))
		err(2, "memfd");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", h->ram_fd);
	h->ram_ro_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (h->ram_ro_fd < 0)
		err(2, "%s", path);
	h->ram = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, h->ram_fd, 0);
	if (h->ram == MAP_FAILED)
		err(2, "mmap");
	for (uint64_t i = 0; i < pages; i++)
		*(uint64_t *)(h->ram + i * PAGE) = host_word(i);
}

static int host_file(const void *a, size_t a_bytes, const void *b, size_t b_bytes)
{
	int fd = memfd_create("data", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, a, a_bytes, 0) != (ssize_t)a_bytes || pwrite(fd, b, b_bytes, (off_t)a_bytes) != (ssize_t)b_bytes)
		err(2, "data file");
	return fd;
}

/* A data file of runs that rise; canonical runs come of it.  @data is filled. */
__attribute__((unused)) static int host_data(const struct rle_run *runs, size_t n, const struct ds_shadow_range *forbidden,
					     size_t nforbidden, struct ds_shadow_data *data)
{
	const struct rle_map_meta meta = {.split = RLE_SPLIT_ATTR, .key = RLE_SPACE_VIRTUAL, .space = RLE_SPACE_FILE, .pid = 1};
	struct rle_mapw *w;
	size_t bytes;
	void *blob;
	int fd;

	if (rle_mapw_begin_mem(&w, &meta, DS_SHADOW_MAP_BYTES_MAX))
		errx(2, "rle_mapw_begin_mem");
	for (size_t i = 0; i < n; i++)
		if (rle_mapw_run(w, &runs[i], RLE_END_HOLE))
			errx(2, "run %zu: %s", i, rle_mapw_fault(w));
	if (rle_mapw_finish(w))
		errx(2, "rle_mapw_finish");
	blob = rle_mapw_take(w, &bytes);
	rle_mapw_free(w);
	*data = (struct ds_shadow_data){.map_bytes = bytes, .nforbidden = nforbidden};
	fd = host_file(blob, bytes, forbidden, nforbidden * sizeof(*forbidden));
	free(blob);
	return fd;
}

/* --- the channel ------------------------------------------------------------------------------------------------- */

/* Starts the capsule of @service; nothing is sent yet. */
__attribute__((unused)) static void host_exec(struct host *h, const char *service)
{
	const char *bin = getenv("BIN");
	char path[4096];
	int pair[2];

	snprintf(path, sizeof(path), "%s/../shadow/%s", bin ? bin : "build/bin", service);
	if (access(path, X_OK))
		err(2, "%s", path);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		err(2, "socketpair");
	fflush(stdout);
	h->pid = fork();
	if (h->pid < 0)
		err(2, "fork");
	if (!h->pid) {
		/* one argument that must not be seen any more afterwards */
		char *argv[] = {(char *)"started-as", (char *)"guest-bytes", NULL}, *envp[] = {(char *)"SECRET=1", NULL};

		if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){DS_SHADOW_FDS_MAX, DS_SHADOW_FDS_MAX}) ||
		    dup2(pair[1], DS_SHADOW_CTL_FD) < 0)
			_exit(126);
		execve(path, argv, envp);
		_exit(127);
	}
	close(pair[1]);
	h->ctl = pair[0];
	h->seq = 0;
}

__attribute__((unused)) static void host_send(struct host *h, const void *message, size_t bytes, const int *fds, int nfds)
{
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)message, bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){
			.cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, (size_t)nfds * sizeof(int));
	}
	if (sendmsg(h->ctl, &msg, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
		err(2, "sendmsg");
}

static struct ds_shadow_head host_head(struct host *h, uint16_t kind, size_t bytes)
{
	return (struct ds_shadow_head){.magic = DS_SHADOW_MAGIC,
				       .version = DS_SHADOW_VERSION,
				       .kind = kind,
				       .bytes = (uint32_t)bytes,
				       .seq = ++h->seq};
}

/* Return: the kind of message received; 0 at the end; -1 when none came in time. */
__attribute__((unused)) static int host_receive(struct host *h, union host_message *m, int timeout_ms)
{
	struct pollfd p = {.fd = h->ctl, .events = POLLIN};
	ssize_t got;

	if (poll(&p, 1, timeout_ms) <= 0)
		return -1;
	got = recv(h->ctl, m, sizeof(*m), 0);
	if (got <= 0)
		return 0;
	if (got < (ssize_t)sizeof(m->head) || m->head.bytes != got || m->head.magic != DS_SHADOW_MAGIC)
		errx(2, "the capsule sent %zd bytes that are no message", got);
	if (m->head.kind == DS_SHADOW_STATUS)
		h->status = m->status;
	if (m->head.kind == DS_SHADOW_REFUSED)
		h->refused = m->refused;
	return m->head.kind;
}

/* The BOOT that most tests want. */
__attribute__((unused)) static struct ds_shadow_boot host_boot(struct host *h, const char *service, uint32_t nexecutors)
{
	struct ds_shadow_boot boot = {
		.head = host_head(h, DS_SHADOW_BOOT, sizeof(boot)),
		.ram_bytes = h->ram_pages * PAGE,
		.min_vpn = (host_sysctl("/proc/sys/vm/mmap_min_addr") + PAGE - 1) / PAGE,
		.heap_bytes = 64 * 1024,
		.max_maps = (uint32_t)host_sysctl("/proc/sys/vm/max_map_count"),
		.nexecutors = nexecutors,
		.stop_timeout_ms = 2000,
	};

	snprintf(boot.service, sizeof(boot.service), "%s", service);
	return boot;
}

/* Sends BOOT with the data file @fd (closed here).  Return: kind of the answer, DS_SHADOW_STATUS if all is well. */
__attribute__((unused)) static int host_boot_send(struct host *h, const struct ds_shadow_boot *boot, int fd)
{
	const int fds[3] = {h->ram_fd, h->ram_ro_fd, fd};
	union host_message m;

	host_send(h, boot, sizeof(*boot), fds, 3);
	close(fd);
	return host_receive(h, &m, HOST_TIMEOUT_MS);
}

/* Starts a service over a map.  Return: kind of the answer. */
__attribute__((unused)) static int host_start(struct host *h, const char *service, uint32_t nexecutors,
					      const struct rle_run *runs, size_t n)
{
	struct ds_shadow_boot boot;
	int fd;

	host_exec(h, service);
	boot = host_boot(h, service, nexecutors);
	fd = host_data(runs, n, NULL, 0, &boot.data);
	return host_boot_send(h, &boot, fd);
}

/* Sends UPDATE.  Answers that are not its own (messages of executors) are handed to @fn. */
__attribute__((unused)) static int host_update(struct host *h, const struct rle_run *runs, size_t n,
					       const struct ds_shadow_range *forbidden, size_t nforbidden,
					       void (*fn)(const struct ds_shadow_message *))
{
	struct ds_shadow_update update = {.head = host_head(h, DS_SHADOW_UPDATE, sizeof(update))};
	int fd = host_data(runs, n, forbidden, nforbidden, &update.data), kind;
	union host_message m;

	host_send(h, &update, sizeof(update), &fd, 1);
	close(fd);
	while ((kind = host_receive(h, &m, HOST_TIMEOUT_MS)) == DS_SHADOW_MESSAGE && fn)
		fn(&m.message);
	if (kind > 0 && m.head.seq != update.head.seq)
		errx(2, "answer %u to request %u", m.head.seq, update.head.seq);
	return kind;
}

__attribute__((unused)) static void host_message(struct host *h, uint32_t executor, const void *payload, uint32_t bytes)
{
	union host_message m = {0};

	m.message = (struct ds_shadow_message){
		.head = host_head(h, DS_SHADOW_MESSAGE, sizeof(m.message) + bytes), .executor = executor, .payload_bytes = bytes};
	memcpy(m.bytes + sizeof(m.message), payload, bytes);
	host_send(h, &m, m.head.bytes, NULL, 0);
}

/* Fetches the status. */
__attribute__((unused)) static int host_ping(struct host *h)
{
	const struct ds_shadow_head ping = host_head(h, DS_SHADOW_PING, sizeof(ping));
	union host_message m;

	host_send(h, &ping, sizeof(ping), NULL, 0);
	return host_receive(h, &m, HOST_TIMEOUT_MS);
}

/* Closes the channel.  Return: status of waitpid(); -1 if the capsule did not end in time (it is killed then). */
__attribute__((unused)) static int host_end(struct host *h)
{
	int status = -1;

	close(h->ctl);
	for (int i = 0; i < HOST_TIMEOUT_MS; i++) {
		if (waitpid(h->pid, &status, WNOHANG) == h->pid)
			return status;
		usleep(1000);
	}
	kill(h->pid, SIGKILL);
	waitpid(h->pid, &status, 0);
	return -1;
}

__attribute__((unused)) static void host_free(struct host *h)
{
	munmap(h->ram, h->ram_pages * PAGE);
	close(h->ram_fd);
	close(h->ram_ro_fd);
}

/* --- what should be ---------------------------------------------------------------------------------------------- */

/* What the mirror does with a page; told again here, from the attributes: see runtime/shadow/plan.h for the reasons. */
static inline const char *model_prot(uint32_t attr)
{
	bool readable = attr & (RLE_ATTR_READ | RLE_ATTR_EXEC);
	bool borrowed = attr & (RLE_ATTR_ZERO | RLE_ATTR_KSM) || ((attr & RLE_ATTR_FILE) && !(attr & RLE_ATTR_MAY_SHARE));
	bool writable = (attr & RLE_ATTR_WRITE) && !borrowed;

	return writable && readable ? "rw-s" : writable ? "-w-s" : readable ? "r--s" : "---s";
}

static const struct rle_run *model_find(const struct rle_run *runs, size_t n, uint64_t vpn)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (runs[mid].vpn.n + runs[mid].npages > vpn)
			high = mid;
		else
			low = mid + 1;
	}
	return low < n && runs[low].vpn.n <= vpn ? &runs[low] : NULL;
}

/*
 * Reads /proc/PID/maps and says what is wrong with it, NULL if nothing: every page is the capsule's, or the mirror's with
 * the right offset and protection, or [vsyscall]; and all pages of the map are there.  @vmas: mappings of the mirror.
 */
__attribute__((unused)) static const char *model_compare(const struct host *h, const struct rle_run *runs, size_t n,
							 uint64_t *vmas)
{
	static char text[300];
	uint64_t from, to, offset, mirrored = 0, wanted = 0;
	char path[64], prot[8], name[128];
	const char *wrong = NULL;
	char line[512];
	FILE *f;

	*vmas = 0;
	snprintf(path, sizeof(path), "/proc/%d/maps", h->pid);
	f = fopen(path, "r");
	if (!f)
		return "no maps";
	while (!wrong && fgets(line, sizeof(line), f)) {
		name[0] = 0;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %127s", &from, &to, prot, &offset, name) < 4)
			wrong = "cannot be parsed";
		else if (!strcmp(name, "[vsyscall]"))
			continue;
		else if (from / PAGE >= h->status.capsule.vpn && to / PAGE <= h->status.capsule.vpn + h->status.capsule.npages)
			wrong = name[0] && strcmp(name, "[stack]") && strcmp(name, "[heap]") ? "a name inside the capsule" :
				prot[3] != 'p'					     ? "shared memory in the capsule" :
				prot[1] == 'w' && prot[2] == 'x'		     ? "writable code" : NULL;
		else if (strncmp(name, "/memfd:ram", 10))
			wrong = "neither capsule nor mirror";
		else {
			++*vmas;
			for (uint64_t vpn = from / PAGE; !wrong && vpn < to / PAGE; vpn++, mirrored++) {
				const struct rle_run *run = model_find(runs, n, vpn);

				if (!run)
					wrong = "a page that is not in the map";
				else if (offset / PAGE + vpn - from / PAGE != run->pfn.n + vpn - run->vpn.n)
					wrong = "a page of another offset";
				else if (strcmp(prot, model_prot(run->attr)))
					wrong = "a page of another protection";
			}
		}
		if (wrong) {
			snprintf(text, sizeof(text), "%.80s: %.200s", wrong, line);
			wrong = text;
		}
	}
	fclose(f);
	for (size_t i = 0; i < n; i++)
		wanted += runs[i].npages;
	if (!wrong && wanted != mirrored)
		wrong = "pages are missing";
	return wrong;
}

#endif
