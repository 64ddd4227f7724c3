/* host_mtree.c - tables read from QEMU's monitor: what QEMU 7.2 printed for pc and q35, and the client, against a stand-in */
#include "runtime/host/vm/mtree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "runtime/host/vm/qmp.h"
#include "tests/tap.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static char text[1 << 16];

static size_t load(const char *name)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "tests/fuzz/corpus/mtree/%s.txt", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = read(fd, text, sizeof(text));
	close(fd);
	return n < 0 ? 0 : (size_t)n;
}

static bool holds(const struct ramtable *t, uint32_t i, uint64_t first, uint64_t end, uint64_t offset)
{
	const struct ramtable_range *r = &t->range[i];

	return i < t->nranges && r->frame.n * 4096 == first && r->npages * 4096 == end - first && r->page.n * 4096 == offset && !r->file;
}

/* Before its firmware has run, a PC has ROM from 0xc0000 to 1 MiB; where RAM is split below 4 GiB is QEMU's choice for
 * each machine: pc 3 GiB, q35 2 GiB when there is more than it puts below (hw/i386/pc_piix.c, pc_q35.c). */
static void test_layouts(void)
{
	const struct {
		const char *name;
		uint64_t bytes, low;
	} vm[] = {
		{"pc-512M-memfd", 512 * MIB, 512 * MIB},
		{"q35-512M-memfd", 512 * MIB, 512 * MIB},
		{"pc-5G-memfd", 5 * GIB, 3 * GIB},
		{"q35-5G-memfd", 5 * GIB, 2 * GIB},
	};

	for (size_t i = 0; i < sizeof(vm) / sizeof(vm[0]); i++) {
		const struct mtree_memdev dev = {.id = "mem0", .bytes = vm[i].bytes, .share = true};
		const size_t bytes = load(vm[i].name);
		struct ramtable_err err = {.why = "accepted"};
		struct ramtable t;
		int r = mtree_parse(text, bytes, &dev, 1, &t, &err);
		const uint32_t want = vm[i].low < vm[i].bytes ? 3 : 2;

		tap_ok(!r && t.nranges == want && t.nfiles == 1 && !strcmp(t.file[0].name, "mem0") && holds(&t, 0, 0, 0xc0000, 0) &&
			       holds(&t, 1, MIB, vm[i].low, MIB) &&
			       (want == 2 || holds(&t, 2, 4 * GIB, 4 * GIB + vm[i].bytes - vm[i].low, vm[i].low)),
		       "%s: ranges and offsets (%s)", vm[i].name, err.why);
	}
}

static void parse_as(const char *tree, bool share, uint64_t bytes, int want, const char *what)
{
	const struct mtree_memdev dev[2] = {{.id = "mem0", .bytes = bytes, .share = share}, {.id = "", .bytes = MIB, .share = true}};
	struct ramtable_err err = {.why = "accepted"};
	struct ramtable t;

	tap_eq(mtree_parse(tree, strlen(tree), dev, 2, &t, &err), want, "%s: %s", what, err.why);
}

#define VIEW(lines) "FlatView #3\r\n AS \"memory\", root: system\r\n Root memory region: system\r\n" lines "\r\n"
#define RAM(rest) "  0000000000000000-000000000009ffff (prio 0, ram): " rest "\r\n"

static void test_lines(void)
{
	const struct mtree_memdev dev = {.id = "mem0", .bytes = MIB, .share = true}, private = {.id = "pc.ram", .bytes = 512 * MIB};
	struct ramtable_err err;
	struct ramtable t;
	const char *pam = VIEW(RAM("mem0") "  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r\n"
				"  00000000000c0000-00000000000cbfff (prio 1, rom): mem0 @00000000000c0000 kvm\r\n"
				"  00000000000cc000-00000000000fffff (prio 0, ram): mem0 @00000000000cc000 kvm\r\n");

	tap_ok(!mtree_parse(pam, strlen(pam), &dev, 1, &t, NULL) && t.nranges == 2 && holds(&t, 0, 0, 0xa0000, 0) &&
		       holds(&t, 1, 0xc0000, 0x100000, 0xc0000),
	       "what firmware made read-only is the same memory; an accelerator's name is not in the way");
	parse_as(VIEW(RAM("/objects/mem0")), true, MIB, 0, "a backend named by its path");
	parse_as(VIEW(RAM("mem0")), false, MIB, -EOPNOTSUPP, "share=off");
	parse_as(VIEW(RAM("mem00")), true, MIB, -ENOENT, "another name");
	parse_as(VIEW(RAM("mem0 @00000000000c000")), true, MIB, -EBADMSG, "a short offset");
	parse_as(VIEW(RAM("mem0 @0000000000001000 xyz")), true, MIB, -EBADMSG, "something unknown behind");
	parse_as(VIEW(RAM("mem0 @0000000000000001")), true, MIB, -EINVAL, "an odd offset");
	parse_as(VIEW(RAM("mem0")), true, 4096, -ERANGE, "a range longer than its backend");
	parse_as(VIEW(RAM("mem0") RAM("mem0")), true, MIB, -EINVAL, "the same range twice");
	parse_as(VIEW("  0000000000000000-000000000009ffff (prio 0, i/o): mem0\r\n"), true, MIB, -EBADMSG, "a backend that is no memory");
	parse_as(VIEW("  0000000000000000-ffffffffffffffff (prio 0, ram): mem0\r\n"), true, MIB, -ERANGE, "all addresses there are");
	parse_as(VIEW("  0000000000001000-0000000000000fff (prio 0, ram): mem0\r\n"), true, MIB, -EBADMSG, "an end before the beginning");
	parse_as("FlatView #0\n AS \"I/O\", root: io\n Root memory region: io\n" RAM("mem0") "\n", true, MIB, -EBADMSG, "no view of memory");
	parse_as(" AS \"memory\", root: system\n Root memory region: system\n" RAM("mem0"), true, MIB, -EBADMSG, "cut off");
	tap_eq(mtree_parse(text, load("q35-512M-none"), &private, 1, &t, &err), -EOPNOTSUPP, "QEMU without a backend: %s", err.why);
}

/* --- the client, against a process that plays QEMU ------------------------------------------------------------------ */

/* Sends @lines of the script, one after each line it receives; dies with the script. */
static pid_t play(const char *path, const char *const *script)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), c;
	char in[4096];
	ssize_t n;
	pid_t pid;

	strcpy(addr.sun_path, path);
	unlink(path);
	if (bind(s, (struct sockaddr *)&addr, sizeof(addr)) || listen(s, 1))
		exit(2);
	pid = fork();
	if (pid == 0) {
		alarm(20);
		c = accept(s, NULL, NULL);
		for (; *script; script++) {
			for (const char *p = *script; *p; p++) { /* in pieces, as a stream may come */
				if (write(c, p, 1) != 1)
					_exit(1);
			}
			do { /* a command ends with its line */
				n = read(c, in, sizeof(in));
				if (n <= 0)
					_exit(1);
			} while (in[n - 1] != '\n');
		}
		_exit(0);
	}
	close(s);
	return pid;
}

static int talk(const char *const *script, struct ramtable *t, struct ramtable_err *err, struct qmp *q)
{
	char path[64];
	pid_t pid;
	int r;

	snprintf(path, sizeof(path), "/tmp/host_mtree.%d", getpid());
	pid = play(path, script);
	r = qmp_connect(q, path, 2000);
	*err = (struct ramtable_err){.why = "qmp_connect() failed"};
	if (!r)
		r = mtree_read(q, t, err);
	qmp_close(q);
	waitpid(pid, NULL, 0);
	unlink(path);
	return r;
}

#define HELLO "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define OK_ID(n) "{\"return\": {}, \"id\": " n "}\r\n"

static void test_client(void)
{
	const char *good[] = {HELLO, "{\"event\": \"RESUME\"}\r\n" OK_ID("1"),
		"{\"return\": [{\"id\": \"mem0\", \"size\": 1048576, \"share\": true}], \"id\": 2}\r\n",
		"{\"event\": \"RESET\"}\r\n{\"return\": \"FlatView #0\\r\\n AS \\\"memory\\\", root: system\\r\\n Root memory region: system\\r\\n"
		"  0000000000000000-00000000000fffff (prio 0, ram): mem0\\r\\n\\r\\n\", \"id\": 3}\r\n", NULL};
	const char *refuses[] = {HELLO, OK_ID("1"), "{\"error\": {\"desc\": \"no such command\"}, \"id\": 2}\r\n", NULL};
	const char *number[] = {HELLO, OK_ID("1"), "{\"return\": [], \"id\": 9}\r\n", NULL}, *odd[] = {HELLO, OK_ID("1"), "{\"return\": [7], \"id\": 2}\r\n", NULL};
	const char *dies[] = {HELLO, OK_ID("1"), NULL}, *noise[] = {"SSH-2.0\r\n", NULL};
	struct ramtable_err err;
	struct ramtable t;
	struct qmp q;
	int r;

	r = talk(good, &t, &err, &q);
	tap_eq(r, 0, "a table over QMP, with events between");
	tap_ok(t.nranges == 1 && holds(&t, 0, 0, MIB, 0), "and it is the right one");
	tap_eq(talk(refuses, &t, &err, &q), -EREMOTEIO, "%s", err.why);
	tap_eq(talk(number, &t, &err, &q), -EBADMSG, "an answer to another command");
	tap_eq(talk(odd, &t, &err, &q), -EBADMSG, "%s", err.why);
	tap_eq(talk(dies, &t, &err, &q), -ECONNRESET, "a VM that dies before it answers");
	tap_eq(talk(noise, &t, &err, &q), -EBADMSG, "somebody who does not speak QMP");
	tap_eq(qmp_connect(&q, "/tmp/host_mtree.nobody", 100), -ENOENT, "nobody");
	qmp_close(&q);
}

/* A peer that answers only after somebody has read from @pipe, as QEMU does that waits for its device. */
static int drain(void *ctx)
{
	char byte;

	return read(*(int *)ctx, &byte, 1) == 1 && byte == 'd' ? 0 : -EIO;
}

static void test_serve(void)
{
	int device[2], monitor[2];
	struct qmp q = {.timeout_ms = 2000, .serve_fd = -1};
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, device) || socketpair(AF_UNIX, SOCK_STREAM, 0, monitor))
		exit(2);
	pid = fork();
	if (pid == 0) {
		char in[256];
		int left = 1;

		alarm(20);
		if (read(monitor[1], in, sizeof(in)) <= 0 || write(device[1], "d", 1) != 1)
			_exit(1);
		while (left > 0) { /* until the other side has taken it */
			usleep(1000);
			if (ioctl(device[0], FIONREAD, &left))
				_exit(1);
		}
		_exit(write(monitor[1], OK_ID("1"), strlen(OK_ID("1"))) > 0 ? 0 : 1);
	}
	q.fd = monitor[0];
	qmp_serve(&q, device[0], drain, &device[0]);
	tap_eq(qmp_command(&q, "system_reset", NULL, NULL), 0, "a VM that waits for its device first is served, and then answers");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	qmp_close(&q);
	close(monitor[1]);
	close(device[0]);
	close(device[1]);
}

int main(void)
{
	test_layouts();
	test_lines();
	test_client();
	test_serve();
	return tap_done();
}
