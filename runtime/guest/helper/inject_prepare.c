/* inject_prepare.c - what a new helper does before it serves, and what can wait: descriptors, the desk, a ring; see inject.h and remote.h
 *
 * It is driven by ptrace, as a process of its own that nobody waits for, and stays so.  The program's threads run meanwhile, and
 * may write to the scratch memory, the only place that the kernel can write results to.  So nothing is believed that comes
 * from there: the helper's table of descriptors was emptied, so their numbers are known, and what they are is compared.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/guest/helper/helper.h"
#include "runtime/guest/helper/inject_impl.h"
#include "runtime/guest/helper/pin.h"

#define PAGE DS_PAGE_BYTES
#define DESK_BYTES (REMOTE_DESK_PAGES * DS_PAGE_BYTES)
#define CHUTE_BYTES (1 << 20) /* for windows; hold.c makes it larger when there is more to take */

enum { THERE_SOCKET, THERE_OUR_END, THERE_DESK, THERE_CHUTE }; /* numbers in the helper's table, as they are given out */

int64_t inject_of_helper(struct inject_plan *p, const struct remote_call *call)
{
	int64_t ret;
	int err = tracee_call(p->helper, p->out->stub, call, &ret);

	return err ? err : ret;
}

/* The desk: a file in memory that is written to through the mapping made here, and no other ever. */
static int make_desk(struct remote *r, int *desk_fd)
{
	struct stat st;
	void *here;

	*desk_fd = memfd_create("dark shadow", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*desk_fd < 0 || ftruncate(*desk_fd, DESK_BYTES) || fstat(*desk_fd, &st))
		return -errno;
	here = mmap(NULL, DESK_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *desk_fd, 0);
	if (here == MAP_FAILED)
		return -errno;
	r->desk_here = here;
	r->desk_dev = st.st_dev;
	r->desk_ino = st.st_ino;
	memcpy(here, helper_code, helper_code_bytes());
	return fcntl(*desk_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) ? -errno : 0;
}

static int make_chute(struct remote *r, int *chute_in)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	r->chute_fd = pair[0];
	*chute_in = pair[1];
	fcntl(pair[1], F_SETPIPE_SZ, CHUTE_BYTES);
	return 0;
}

static int send_two(int socket, int desk_fd, int chute_in)
{
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {.cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {(char[1]){0}, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	memcpy(CMSG_DATA(&control.head), (int[]){desk_fd, chute_in}, 2 * sizeof(int));
	return sendmsg(socket, &msg, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/* Two descriptors of ours into the helper's table, by a socketpair of its own. */
static int give_descriptors(struct inject_plan *p, int desk_fd, int chute_in)
{
	struct remote *r = p->out;
	const uint64_t at = r->scratch;
	struct {
		struct msghdr msg;
		struct iovec iov;
		char byte[8], control[64];
	} data = {
		.msg = {.msg_iov = (void *)(at + offsetof(__typeof__(data), iov)), .msg_iovlen = 1,
			.msg_control = (void *)(at + offsetof(__typeof__(data), control)), .msg_controllen = sizeof(data.control)},
		.iov = {.iov_base = (void *)(at + offsetof(__typeof__(data), byte)), .iov_len = 1},
	};
	cleanup_close int socket = -1;
	int64_t err = inject_of_helper(p, INJECT_CALL(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, at));

	if (err)
		return err;
	socket = syscall(SYS_pidfd_getfd, r->helper_pidfd, THERE_OUR_END, 0);
	err = socket < 0 ? -errno : send_two(socket, desk_fd, chute_in);
	if (!err && pwrite(r->mem_fd, &data, sizeof(data), at) != (ssize_t)sizeof(data))
		err = -EIO;
	if (err)
		return err;
	err = inject_of_helper(p, INJECT_CALL(SYS_recvmsg, THERE_SOCKET, at, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
	if (err != 1)
		return err < 0 ? err : -EPROTO;
	/* Whoever writes to the scratch memory at the wrong moment gets another thing done: it is noticed here. */
	if (syscall(SYS_kcmp, getpid(), r->helper, KCMP_FILE, desk_fd, THERE_DESK) || syscall(SYS_kcmp, getpid(), r->helper, KCMP_FILE, chute_in, THERE_CHUTE))
		return -EPROTO;
	err = inject_of_helper(p, INJECT_CALL(SYS_mmap, r->desk, DESK_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, THERE_DESK, 0));
	r->runs_desk = err == (int64_t)r->desk;
	if (!r->runs_desk) /* some kernels execute nothing of such files */
		err = inject_of_helper(p, INJECT_CALL(SYS_mmap, r->desk, DESK_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, THERE_DESK, 0));
	if (err != (int64_t)r->desk)
		return err < 0 ? err : -EPROTO;
	r->chute_there = THERE_CHUTE;
	return inject_of_helper(p, INJECT_CALL(SYS_close_range, 0, THERE_CHUTE - 1, 0));
}

static void make_ring(struct inject_plan *p)
{
	const struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
	struct remote *r = p->out;

	r->ring_fd = pwrite(r->mem_fd, &params, sizeof(params), r->scratch) == (ssize_t)sizeof(params) ?
			     inject_of_helper(p, INJECT_CALL(SYS_io_uring_setup, 1, r->scratch)) :
			     -EIO;
}

/* A thread of the helper's, as a ring that was made with other parameters has, would act on the program's memory by itself; and with
 * a seccomp filter in force results would not be facts. */
static int alone_and_unfiltered(struct inject_plan *p)
{
	__attribute__((cleanup(inject_close_fd))) int fd = inject_open_proc(p->out->helper, "status", O_RDONLY);
	char text[4096];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *threads, *seccomp;

	text[n < 0 ? 0 : n] = '\0';
	threads = strstr(text, "\nThreads:\t");
	seccomp = strstr(text, "\nSeccomp:\t");
	if (!threads || strncmp(threads + 10, "1\n", 2))
		return -EPROTO;
	return p->flags & INJECT_SECCOMP || !seccomp || !strncmp(seccomp + 10, "0\n", 2) ? 0 : -EACCES;
}

int inject_open_proc(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

int inject_prepare(struct inject_plan *p)
{
	struct rlimit none = {0, 0}, all = {RLIM_INFINITY, RLIM_INFINITY};
	cleanup_close int desk_fd = -1, chute_in = -1;
	struct remote *r = p->out;
	int err;

	r->helper_pidfd = syscall(SYS_pidfd_open, r->helper, 0);
	r->mem_fd = inject_open_proc(r->helper, "mem", O_RDWR);
	r->maps_fd = inject_open_proc(r->helper, "maps", O_RDONLY);
	r->pagemap_fd = inject_open_proc(r->helper, "pagemap", O_RDONLY);
	if (r->helper_pidfd < 0 || r->mem_fd < 0 || r->maps_fd < 0 || r->pagemap_fd < 0)
		return -errno;
	prlimit(r->helper, RLIMIT_CORE, &none, NULL);
	prlimit(r->helper, RLIMIT_MEMLOCK, &all, NULL);
	err = inject_of_helper(p, INJECT_CALL(SYS_mprotect, r->scratch, PAGE, PROT_READ | PROT_WRITE));
	err = err ? err : make_desk(r, &desk_fd);
	err = err ? err : make_chute(r, &chute_in);
	err = err ? err : give_descriptors(p, desk_fd, chute_in);
	if (err)
		return err;
	inject_of_helper(p, INJECT_CALL(SYS_madvise, r->stub, INJECT_AREA, MADV_DONTFORK));
	make_ring(p);
	if (p->thread.tid == p->pid) /* else the death of one thread among many would count as the program's */
		inject_of_helper(p, INJECT_CALL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL));
	return alone_and_unfiltered(p);
}

/* --- later ---------------------------------------------------------------------------------------------------------- */

/* Comforts: without any of them the helper works too. */
static void furnish(struct inject_plan *p)
{
	static const struct {
		char name[16], vma_name[16], root[8];
		int32_t priority;
	} data = {.name = "ds-helper", .vma_name = "dark shadow", .root = "/"};
	struct remote *r = p->out;
#define AT(member) (r->data + offsetof(__typeof__(data), member))

	memcpy(r->desk_here + (r->data - r->desk), &data, sizeof(data));
	inject_of_helper(p, INJECT_CALL(SYS_prctl, PR_SET_NAME, AT(name)));
	inject_of_helper(p, INJECT_CALL(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, r->stub, 2 * PAGE, AT(vma_name)));
	inject_of_helper(p, INJECT_CALL(SYS_chdir, AT(root))); /* keeps no folder busy */
	if (sched_getscheduler(r->helper) != SCHED_OTHER)
		inject_of_helper(p, INJECT_CALL(SYS_sched_setscheduler, 0, SCHED_OTHER, AT(priority)));
	inject_of_helper(p, INJECT_CALL(SYS_setsid));
#undef AT
}

/* Its table takes the kernel a millisecond under emulation. */
static void make_table(struct inject_plan *p)
{
	const struct io_uring_rsrc_register table = {.nr = PIN_SLOTS, .flags = IORING_RSRC_REGISTER_SPARSE};
	struct remote *r = p->out;
	int64_t err;

	memcpy(r->desk_here + (r->data - r->desk), &table, sizeof(table));
	err = inject_of_helper(p, INJECT_CALL(SYS_io_uring_register, r->ring_fd, IORING_REGISTER_BUFFERS2, r->data, sizeof(table)));
	r->ring_fd = err ? err : r->ring_fd;
}

static int job_rest(void *ctx)
{
	struct remote *r = ctx;
	struct inject_plan p = {.pid = r->pid, .out = r, .helper = tracer_helper(r->tracer)};

	if (r->ring_fd >= 0)
		make_table(&p);
	furnish(&p);
	return 0;
}

static int job_nothing(void *ctx)
{
	(void)ctx;
	return 0;
}

void inject_rest(struct remote *r)
{
	if (!r->whole && r->tracer && !r->gone)
		tracer_ask(r->tracer, job_rest, r);
	r->whole = true;
}

int inject_whole(struct remote *r)
{
	int err;

	inject_rest(r);
	if (!r->tracer || r->gone)
		return -ESRCH;
	err = tracer_do(r->tracer, job_nothing, NULL, REMOTE_TIMEOUT_MS, r->helper_pidfd);
	if (err)
		remote_kill(r);
	return err;
}
