/* host_forward.c - what a shadow that makes a guest's calls can do with them: in its jail, its guard armed
 *
 * That no call reaches the RAM by a descriptor is found out twice: for all that runtime/wire/fdargs.h names, and by looking which
 * arguments the kernel takes for descriptors, whatever that table says: where a number that is not open is EBADF and one
 * that is open is not.
 */
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "runtime/host/jail/filter_group.h"
#include "runtime/wire/fdargs.h"
#include "tests/forward_thread.h"
#include "tests/hostile.h"

#define BUF_AT(offset) (HOSTILE_BUFFER + (offset))
#define ALL_GROUPS (CALLGROUP_FILE | CALLGROUP_DIR | CALLGROUP_SOCKET | CALLGROUP_POLL | CALLGROUP_INFO)
#define OPEN 30u     /* a descriptor that is open: an end of a pipe */
#define CLOSED (DS_SHADOW_FDS_MAX + 1000u) /* one that cannot be */
#define BUF 8192     /* offset of a buffer in the process */

static const struct filter_want everything = {.bells = true, .groups = ALL_GROUPS};

/* --- a shadow that somebody has taken over ------------------------------------------------------------------------------- */

static const uint32_t own_fds[] = {DS_SHADOW_CTL_FD, DS_SHADOW_RAM_FD, DS_SHADOW_RAM_RO_FD, DS_SHADOW_FAULT_DEV_FD, DS_SHADOW_FAULT_FD,
				   DS_SHADOW_OWN_FDS_END - 1};
#define NOWN (sizeof(own_fds) / sizeof(own_fds[0]))

/* Other arguments: so that some calls get as far as to look at the one that is tried.  The buffer holds a relative path. */
#define CWD ((uint64_t)AT_FDCWD)
#define PATH BUF_AT(0)
static const uint64_t rests[][6] = {
	{0}, {OPEN, OPEN, OPEN, OPEN, OPEN, OPEN}, {PATH, PATH, PATH, PATH, PATH, PATH},
	{CWD, PATH, CWD, PATH, 0, 0}, {PATH, CWD, PATH, 0, 0, 0}, {CWD, PATH, 0, 0, 0, 0},
};
#define NRESTS (sizeof(rests) / sizeof(rests[0]))

/* What a call with @fd as argument @i says. */
static int64_t with_fd(long nr, int i, uint64_t fd, const uint64_t rest[6])
{
	struct hostile_request r = {.op = HOSTILE_CALLS, .ncalls = 1, .call = {{.nr = nr}}, .bytes = "x"};

	memcpy(r.call[0].args, rest, sizeof(r.call[0].args));
	r.call[0].args[i] = fd;
	return hostile_ask(&r) == DS_SHADOW_MESSAGE ? answered.result[0] : INT64_MIN;
}

static void test_table(void)
{
	unsigned int tried = 0, through = 0;

	for (size_t k = 0; k < FDARGS_MAX; k++) {
		for (int i = 0; i < 6; i++) {
			if (!(fdargs_known[k] & 1u << i))
				continue;
			for (size_t n = 0; n < NOWN; n++) {
				const long nr = (long)k;
				int64_t got;

				if (own_fds[n] == DS_SHADOW_CTL_FD && (nr == SYS_sendto || nr == SYS_recvmsg))
					continue; /* the capsule's own business; a guest's is refused in the service */
				tried++;
				got = with_fd(nr, i, own_fds[n] | (uint64_t)n << 32, rests[0]);
				if (got != -EPERM)
					printf("# call %ld, argument %d, %u: %lld\n", nr, i, own_fds[n], (long long)got), through++;
			}
		}
	}
	tap_eq(through, 0, "with every group granted no call takes a descriptor of the capsule (%u tried)", tried);
}

static bool waits(long nr)
{
	return nr == SYS_nanosleep || nr == SYS_clock_nanosleep || nr == SYS_select || nr == SYS_pselect6 || nr == SYS_poll || nr == SYS_ppoll || nr == SYS_recvmsg;
}

static void test_found(void)
{
	const struct filter_grant *g;
	unsigned int found = 0, through = 0;
	size_t n;

	g = filter_grants(&n);
	for (size_t k = 0; k < n * 6 * NRESTS; k++) {
		const long nr = g[k / NRESTS / 6].nr;
		const int i = (int)(k / NRESTS % 6);
		const uint64_t *rest = rests[k % NRESTS];

		if (waits(nr))
			continue;
		hostile_call(SYS_dup2, 0, OPEN, 0, 0, 0, 0);
		if (with_fd(nr, i, CLOSED, rest) != -EBADF || with_fd(nr, i, OPEN, rest) == -EBADF)
			continue;
		found++;
		for (uint32_t fd = DS_SHADOW_RAM_FD; fd <= DS_SHADOW_RAM_RO_FD; fd++)
			if (with_fd(nr, i, fd, rest) != -EPERM)
				printf("# call %ld takes %u as argument %d\n", nr, fd, i), through++;
	}
	tap_ok(found > 60 && !through, "nor in an argument that the kernel takes for one (%u found)", found);
}

struct attempt {
	const char *what;
	long nr;
	uint64_t args[6];
	int64_t want;
};

static void test_flags(void)
{
	static const struct attempt list[] = {
		{"O_DIRECT is not to be had", SYS_openat, {(uint64_t)AT_FDCWD, BUF_AT(0), O_DIRECT}, -EINVAL},
		{"nor by open()", SYS_open, {BUF_AT(0), O_DIRECT | O_RDWR}, -EINVAL},
		{"nor by fcntl()", SYS_fcntl, {OPEN, F_SETFL, O_DIRECT}, -EINVAL},
		{"no signals for data", SYS_fcntl, {OPEN, F_SETFL, O_ASYNC}, -EINVAL},
		{"nor to anybody", SYS_fcntl, {OPEN, F_SETOWN, 1}, -EINVAL},
		{"flags as such are set", SYS_fcntl, {OPEN, F_SETFL, O_NONBLOCK}, 0},
		{"the call whose flags cannot be seen is not there", 437, {(uint64_t)AT_FDCWD, BUF_AT(0), BUF_AT(64), 24}, -ENOSYS},
		{"no clone of a file by ioctl()", SYS_ioctl, {OPEN, FICLONE, DS_SHADOW_RAM_FD}, -ENOTTY},
		{"nor of a part", SYS_ioctl, {OPEN, FICLONERANGE, BUF_AT(0)}, -ENOTTY},
		{"a harmless one", SYS_ioctl, {OPEN, FIONREAD, BUF_AT(64)}, 0},
		{"no unix socket", SYS_socket, {AF_UNIX, SOCK_STREAM}, -EAFNOSUPPORT},
		{"no netlink", SYS_socket, {AF_NETLINK, SOCK_RAW}, -EAFNOSUPPORT},
		{"no pair of sockets", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, BUF_AT(64)}, -EPERM},
		{"nothing is sent with control data", SYS_sendmsg, {OPEN, BUF_AT(0), 0}, -EPERM},
		{"nor many at once", SYS_sendmmsg, {OPEN, BUF_AT(0), 1, 0}, -EPERM},
		{"no zero copy", SYS_sendto, {OPEN, BUF_AT(0), 1, MSG_ZEROCOPY}, -EINVAL},
		{"no socket that does it", SYS_setsockopt, {OPEN, SOL_SOCKET, SO_ZEROCOPY, BUF_AT(0), 4}, -ENOPROTOOPT},
		{"no pages lent to a pipe", SYS_vmsplice, {OPEN, BUF_AT(0), 1, 0}, -EPERM},
		{"no asynchronous calls", SYS_io_submit, {0, 0, 0}, -EPERM},
		{"no io_uring", SYS_io_uring_setup, {8, BUF_AT(0)}, -EPERM},
		{"no userfaultfd", SYS_userfaultfd, {0}, -EPERM},
		{"no mount", SYS_mount, {BUF_AT(0), BUF_AT(0), 0, 0, 0}, -EPERM},
		{"no file by its handle", SYS_open_by_handle_at, {(uint64_t)AT_FDCWD, BUF_AT(0), 0}, -EPERM},
		{"no descriptor of another process", 438, {OPEN, 0, 0}, -EPERM},
		{"no range of them is closed", 436, {0, 5000, 0}, -EPERM},
	};

	hostile_call(SYS_dup2, 0, OPEN, 0, 0, 0, 0);
	for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
		const uint64_t *w = list[i].args;
		const int64_t got = hostile_call(list[i].nr, w[0], w[1], w[2], w[3], w[4], w[5]);

		if (!tap_ok(got == list[i].want, "%s: %s", list[i].want ? strerror((int)-list[i].want) : "passes", list[i].what))
			printf("# got %lld\n", (long long)got);
	}
}

static void test_hostile(void)
{
	uint64_t before = 0, after = 0;

	hostile_start(&everything, 64 << 20);
	for (uint64_t i = 0; i < RAM_PAGES * PAGE / 8; i++)
		before = before * 31 + ((uint64_t *)shadow.h.ram)[i];
	tap_eq(hostile_call(SYS_pipe2, BUF_AT(64), O_NONBLOCK, 0, 0, 0, 0), 0, "a shadow with every group has a pipe");
	test_flags();
	test_table();
	test_found();
	for (uint64_t i = 0; i < RAM_PAGES * PAGE / 8; i++)
		after = after * 31 + ((uint64_t *)shadow.h.ram)[i];
	tap_ok(before == after, "the RAM is as it was");
	tap_ok(hostile_call(SYS_getpid, 0, 0, 0, 0, 0, 0) == 1 && !shadow.guard.refused, "and the shadow alive");
	hostile_end();
}

static void test_groups(void)
{
	static const struct {
		uint32_t group;
		long nr;
	} each[] = {{CALLGROUP_FILE, SYS_openat}, {CALLGROUP_DIR, SYS_mkdirat}, {CALLGROUP_SOCKET, SYS_socket},
		    {CALLGROUP_POLL, SYS_pipe2}, {CALLGROUP_INFO, SYS_uname}};
	unsigned int wrong = 0;

	for (int granted = 0; granted < 5; granted++) {
		const struct filter_want want = {.bells = true, .groups = each[granted].group};

		hostile_start(&want, 64 << 20);
		for (int k = 0; k < 5; k++)
			wrong += (hostile_call(each[k].nr, (uint64_t)AT_FDCWD, 0, 0, 0, 0, 0) == -EPERM) == (k == granted);
		hostile_end();
	}
	tap_eq(wrong, 0, "each group grants its calls and no other's");
}

/* --- an honest one ---------------------------------------------------------------------------------------------------- */

static char dir[] = "/tmp/host-forward-XXXXXX";
static struct guarded g;

static bool start(const struct filter_want *want, const struct rle_run *runs, size_t nruns)
{
	const struct jail_bind bind = {.guest = "/data", .host = dir, .writable = true};
	struct jail_params p = {.threads = 3, .memory_bytes = 64 << 20, .as_root = true, .binds = &bind, .nbinds = 1};

	guarded_init(&g, PLAY_PAGES);
	if (guarded_spawn(&g, "forward", want, &p))
		errx(2, "jail: %s: %s", g.jail_err.what, strerror(-g.jail_err.err));
	return guarded_boot(&g, "forward", 2, runs, nruns) == DS_SHADOW_STATUS;
}

static void test_jailed(void)
{
	struct rle_run runs[2] = {play_runs[0], {{0}, {PLAY_PAGES - 1}, 1, RW}};
	char *buf, path[64];
	struct stat st;
	struct fwd t;
	int64_t fd;

	tap_ok(start(&everything, play_runs, 1), "the forward service starts in its jail, its guard armed");
	fwd_start(&g.h, &t, 0, DS_FORWARD_SPIN_NS, DS_FORWARD_SPIN_NS);
	buf = (char *)g.h.ram + BUF;
	tap_eq(fwd_call(&t, SYS_getpid, 0), 1, "a call is made in there");
	strcpy(buf, "/data/new");
	tap_eq(fwd_call(&t, SYS_mkdir, play_at(BUF), 0700), 0, "mkdir() in a place of the host");
	strcpy(buf, "/data/new/file");
	fd = fwd_call(&t, SYS_openat, (uint64_t)AT_FDCWD, play_at(BUF), O_RDWR | O_CREAT, 0600);
	tap_eq(fwd_call(&t, SYS_dup3, (uint64_t)fd, 3, 0), 3, "a file of the guest's number 3");
	tap_eq(fwd_call(&t, SYS_close, (uint64_t)fd), 0, "and no other");
	tap_eq(fwd_call(&t, SYS_write, 3, play_at(BUF), 10), 10, "is written");
	snprintf(path, sizeof(path), "%s/new/file", dir);
	tap_ok(!stat(path, &st) && st.st_size == 10, "on the host");
	tap_eq(fwd_call(&t, SYS_close, 3), 0, "closed");
	tap_eq(fwd_call(&t, SYS_read, 3, play_at(BUF), 1), -EBADF, "and gone");
	runs[1].vpn.n = g.h.status.capsule.vpn;
	if (runs[1].vpn.n < PLAY_VPN) {
		const struct rle_run swap = runs[0];

		runs[0] = runs[1], runs[1] = swap;
	}
	tap_ok(guarded_update(&g, runs, 2) == DS_SHADOW_STATUS && g.h.status.moves == 1, "the capsule moves");
	tap_eq(fwd_call(&t, SYS_getpid, 0), 1, "and serves");
	strcpy(buf, "/etc/passwd");
	tap_ok(fwd_call(&t, SYS_openat, (uint64_t)AT_FDCWD, play_at(BUF), O_RDONLY) < 0, "what was not given is not there");
	strcpy(buf, "/proc/self/fd/4097");
	tap_eq(fwd_call(&t, SYS_openat, (uint64_t)AT_FDCWD, play_at(BUF), O_RDWR), -ENOENT, "nor a descriptor as a file");
	strcpy(buf, "/data/new/file");
	fwd_call(&t, SYS_unlink, play_at(BUF));
	strcpy(buf, "/data/new");
	tap_eq(fwd_call(&t, SYS_rmdir, play_at(BUF)), 0, "what was made is removed");
	close(t.bell);
	guarded_end(&g);
	host_free(&g.h);
}

int main(void)
{
	if (geteuid()) {
		tap_skip("a shadow that makes calls is jailed", "places of the host can be given as root only");
		return tap_done();
	}
	if (!mkdtemp(dir))
		err(2, "mkdtemp");
	test_hostile();
	test_groups();
	test_jailed();
	rmdir(dir);
	return tap_done();
}
