/* host_mapped.c - files that a guest's program maps: from its agent through warden and VM process into a VMM, which is played
 *
 * The capsule is a real one in its jail; it opens the files.  What the guest sees is what the VMM's processor loads from the window.
 */
#include "tests/forward_guest.h"

#include <sys/stat.h>

#include "runtime/host/window/windows.h"
#include "tests/tap.h"
#include "tests/vmm_played.h"

#define UID 4321
#define PATH 0u /* pages of the guest's process: strings, */
#define SLOTS 10u /* slots */
#define AT 0x5000u /* page of the process where files are mapped: of none of its mappings */
#define MAP_RW (PROT_READ | PROT_WRITE)
#define WAIT_MS 60000

static char top[64], rules[512], helper[108];
static struct windows *windows;
static struct vmm vmm;
static struct shadow shadow;
static struct thread t;

/* A file at the next of the program's numbers, as its library does it. */
static int64_t opened(const char *name, int flags)
{
	static uint64_t number = 3;
	int64_t fd;

	snprintf((char *)at_host(PATH), PAGE, "/data/%s", name);
	fd = thread_call(&t, __NR_openat, (uint64_t)AT_FDCWD, at_guest(PATH), (uint64_t)flags, 0644, 0);
	return fd < 0 ? fd : thread_call(&t, __NR_dup3, (uint64_t)fd, number++, O_CLOEXEC, 0, 0);
}

/* Waits for a message, while the VM process's part is done here.  Return: its kind; 0: the stream has ended; -1: there is none. */
static int await_message(union agent_message *m)
{
	for (int waited = 0; waited < WAIT_MS; waited += 10) {
		struct pollfd p[2] = {{.fd = shadow.a.fd, .events = POLLIN}, {.fd = windows_fd(windows), .events = POLLIN}};

		if (poll(p, 2, 10) > 0 && p[1].revents)
			windows_run(windows);
		if (p[0].revents)
			return agent_receive(&shadow.a, m, AGENT_TIMEOUT_MS);
	}
	return -1;
}

static int exchange(void *msg, size_t bytes, union agent_message *m)
{
	agent_write(&shadow.a, msg, bytes);
	return await_message(m);
}

static struct ds_window_mapped map(uint64_t vpn, uint64_t npages, uint64_t fd, uint64_t offset_pages, uint32_t prot)
{
	struct ds_agent_map msg = {.head = agent_head(&shadow.a, DS_AGENT_MAP, sizeof(msg)),
				   .want = {.vpn = vpn, .npages = npages, .offset = offset_pages * PAGE, .fd = (uint32_t)fd, .prot = (uint16_t)prot}};
	union agent_message m;

	if (exchange(&msg, sizeof(msg), &m) != DS_AGENT_MAPPED)
		return (struct ds_window_mapped){.err = 1};
	return ((const struct ds_agent_mapped *)(const void *)&m)->got;
}

static bool reached; /* by what UNMAPPED said last */

static int unmap(uint64_t vpn, uint64_t npages)
{
	struct ds_agent_unmap msg = {.head = agent_head(&shadow.a, DS_AGENT_UNMAP, sizeof(msg)), .what = {vpn, npages}};
	union agent_message m;
	const int kind = exchange(&msg, sizeof(msg), &m);

	reached = kind == DS_AGENT_UNMAPPED && ((const struct ds_agent_unmapped *)(const void *)&m)->reached;
	return kind;
}

static void make_files(void)
{
	char name[128];
	int fd;

	snprintf(top, sizeof(top), "/tmp/host_mapped.XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755))
		err(2, "%s", top);
	snprintf(helper, sizeof(helper), "%s/window", top);
	snprintf(name, sizeof(name), "%s/data", top);
	if (mkdir(name, 0755) || chown(name, UID, UID))
		err(2, "%s", name);
	snprintf(name, sizeof(name), "%s/data/file", top);
	fd = open(name, O_WRONLY | O_CREAT, 0600);
	for (uint32_t i = 0; i < 8; i++) {
		uint8_t bytes[PAGE];

		memset(bytes, (int)i + 1, sizeof(bytes));
		if (write(fd, bytes, sizeof(bytes)) != sizeof(bytes))
			err(2, "%s", name);
	}
	if (fchown(fd, UID, UID))
		err(2, "%s", name);
	close(fd);
	snprintf(rules, sizeof(rules), "allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 user=%u path=/data:%s/data:rw\n", UID, top);
}

static bool begin(void)
{
	if (vm_shadow(&shadow, "/usr/bin/guest") != DS_AGENT_STARTED)
		return false;
	return thread_start(&t, shadow.a.started.token, SLOTS, 0, 0);
}

/* The shadow ends, and whatever it had mapped is the window's own again.  Return: whether that came to pass. */
static bool end(uint64_t at_page)
{
	close(t.bell);
	if (!vm_end(&shadow))
		return false;
	for (int waited = 0; waited < WAIT_MS; waited += 5) {
		if (load(&vmm, at_page) == 0)
			return true;
		usleep(5000);
	}
	return false;
}

static void test_mapping(void)
{
	struct ds_window_mapped m, n;
	int64_t fd, reads, writes, path;
	uint64_t first;

	if (!tap_ok(begin(), "a shadow that makes calls starts"))
		exit(tap_done());
	fd = opened("file", O_RDWR);
	reads = opened("file", O_RDONLY);
	writes = opened("file", O_WRONLY);
	path = opened("file", O_PATH);
	tap_ok(fd >= 0 && reads >= 0 && writes >= 0 && path >= 0, "its program opens a file in four ways");
	m = map(AT, 4, (uint64_t)fd, 2, MAP_RW);
	tap_eq(m.err, 0, "it maps the file");
	if (m.err || m.nextents != 1)
		return;
	first = m.extent[0].page;
	tap_ok(m.extent[0].npages == 4 && m.prot == MAP_RW && load(&vmm, first) == 3 && load(&vmm, first + 3) == 6, "the guest sees its pages");
	n = map(AT + 10, 1, (uint64_t)reads, 0, PROT_READ);
	tap_ok(!n.err && n.prot == PROT_READ && load(&vmm, n.extent[0].page) == 1, "what is open for reading only is not to be written");
	tap_eq(map(AT + 20, 1, (uint64_t)reads, 0, MAP_RW).err, -EACCES, "nor can that be asked for");
	tap_eq(map(AT + 20, 1, (uint64_t)writes, 0, PROT_READ).err, -EACCES, "a file that cannot be read");
	tap_eq(map(AT + 20, 1, (uint64_t)path, 0, PROT_READ).err, -EBADF, "a descriptor that is only a path");
	tap_eq(map(AT + 20, 1, 3000, 0, PROT_READ).err, -EBADF, "one that is not open");
	tap_eq(map(AT + 20, 1, DS_SHADOW_RAM_FD, 0, MAP_RW).err, -EBADF, "the capsule's own, the VM's RAM among them");
	tap_eq(map(AT + 20, 1, UINT32_MAX, 0, MAP_RW).err, -EBADF, "no descriptor at all");
	tap_eq(map(AT + 2, 4, (uint64_t)fd, 0, MAP_RW).err, -EEXIST, "pages of the process that have a file already");
	tap_eq(map(AT + 20, 1u << 20, (uint64_t)fd, 0, MAP_RW).err, -ENOMEM, "more than there is room for");
	tap_ok(unmap(AT + 1, 1) == DS_AGENT_UNMAPPED && !reached, "a page in the middle is given back, where the shadow never was");
	tap_ok(load(&vmm, first) == 3 && load(&vmm, first + 1) == 0 && load(&vmm, first + 2) == 5, "and is no page of the file any more; the others are");
	tap_eq(unmap(AT - 5, 100), DS_AGENT_UNMAPPED, "everything");
	tap_ok(load(&vmm, first) == 0 && load(&vmm, first + 3) == 0 && load(&vmm, n.extent[0].page) == 0, "is given back");
	tap_eq(unmap(AT, 4), DS_AGENT_UNMAPPED, "what is not mapped can be given back, too");
	m = map(AT, 60, (uint64_t)fd, 0, MAP_RW);
	tap_ok(!m.err && load(&vmm, m.extent[0].page + 7) == 8, "there is room for nearly all of the window, so nothing was lost");
	tap_eq(load(&vmm, m.extent[0].page + 8), 0, "behind the file's end there is nothing, and the VMM lives");
	tap_ok(end(m.extent[0].page), "when the shadow ends the window is whole");
}

/* The host tells the agent that a page is gone, unasked. */
static void test_spoilt(void)
{
	char name[128];
	struct ds_window_mapped m;
	union agent_message got;
	const struct ds_agent_spoilt *spoilt = (const void *)&got;

	tap_ok(begin(), "another shadow");
	m = map(AT, 2, (uint64_t)opened("file", O_RDWR), 6, MAP_RW);
	snprintf(name, sizeof(name), "%s/data/file", top);
	tap_ok(!m.err && load(&vmm, m.extent[0].page + 1) == 8, "the last page of a file is mapped");
	tap_ok(!truncate(name, 7 * (off_t)PAGE) && load(&vmm, m.extent[0].page + 1) == 0, "the file is cut, and the page touched");
	tap_eq(await_message(&got), DS_AGENT_SPOILT, "the agent is told");
	tap_ok(spoilt->vpn == AT + 1 && spoilt->signal == SIGBUS && spoilt->head.seq == 0, "which of the process's pages it was, and how");
	tap_eq(unmap(AT + 100, 1), DS_AGENT_UNMAPPED, "and goes on as always");
	tap_ok(end(m.extent[0].page), "the shadow ends");
}

static void test_hostile(void)
{
	struct ds_agent_map msg[2];
	union agent_message got;
	int64_t fd;

	tap_ok(begin(), "one more");
	fd = opened("file", O_RDWR);
	for (int i = 0; i < 2; i++)
		msg[i] = (struct ds_agent_map){.head = agent_head(&shadow.a, DS_AGENT_MAP, sizeof(msg[i])),
					       .want = {.vpn = AT + 50 * (uint64_t)i, .npages = 1, .fd = (uint32_t)fd, .prot = MAP_RW}};
	tap_eq(exchange(msg, sizeof(msg), &got), DS_AGENT_ENDED, "two questions at once end it");
	tap_ok(end(2), "and the window is whole");
	tap_ok(begin(), "one more");
	msg[0].head = agent_head(&shadow.a, DS_AGENT_MAP, sizeof(msg[0]));
	msg[0].want.npages = UINT64_MAX;
	tap_eq(exchange(msg, sizeof(msg[0]), &got), DS_AGENT_ENDED, "so do pages that no process has");
	tap_ok(end(2), "and the window is whole");
}

int main(void)
{
	char name[128];
	struct windows_params p;

	if (geteuid()) {
		tap_skip("files that a guest's program maps", "it takes root");
		return tap_done();
	}
	make_files();
	vmm_make_window();
	vm_begin(rules);
	vmm = start_vmm();
	p = (struct windows_params){.vm = "test-vm", .path = helper, .uid = 0, .shm = vmm_shm, .bytes = VMM_WINDOW};
	if (load(&vmm, 1) < 0 || windows_new(&windows, &p))
		errx(2, "a window");
	windows_vmm(windows, vmm.pid, true);
	shadows_windows(row, windows);
	test_mapping();
	test_spoilt();
	test_hostile();
	windows_free(windows);
	end_vmm(&vmm);
	snprintf(name, sizeof(name), "rm -rf %s", top);
	return system(name) ? 2 : tap_done();
}
