/* vmproc.c - the process that serves one VM; theory in vmproc.h */
#include "runtime/host/vmproc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/bells.h"
#include "runtime/host/vm/devmem.h"
#include "runtime/host/warden/estate.h"
#include "runtime/host/vm/ivshmem.h"
#include "runtime/host/log.h"
#include "runtime/host/startrate.h"
#include "runtime/host/vm/vhostuser.h"
#include "runtime/host/window/vmmaps.h"
#include "runtime/host/vm/vsock.h"
#include "runtime/host/window/windows.h"

#define DOORBELLS 128u
#define DOORBELL_VECTORS 0u /* nobody in a stock guest takes an interrupt of it, and QEMU crashes of them: ivshmem.h */
#define VMM_DEATH_MS 100 /* from the end of its socket until its process is gone */

struct vm {
	const struct vmproc_params *p;
	struct control_vm *board;
	struct vhostuser dev;
	struct vsock *vsock;
	struct ivshmem *bell;
	struct shadows *shadows;
	struct bells *bells;
	struct estates *estates;
	struct windows *windows;
	struct windows_params window;
	struct startrate rate;
	int listener, conn, signals, vmm_fd;
	char vsock_path[CONTROL_PATH_BYTES], bell_path[CONTROL_PATH_BYTES], window_path[CONTROL_PATH_BYTES];
	bool usable; /* the table in force was checked and may be mirrored */
	struct ramtable checked; /* that table */
	bool over;
	int stopper; /* who waits for VMPROC_STOP */
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void set_state(struct vm *vm, enum control_vm_state state, const char *text)
{
	snprintf(vm->board->text, sizeof(vm->board->text), "%s", text);
	__atomic_store_n(&vm->board->state, state, __ATOMIC_RELEASE);
}

static void end_vm(struct vm *vm, const char *why)
{
	if (vm->over)
		return;
	log_line(LOG_LEVEL_NOTICE, "vm %s: %s", vm->p->name, why);
	set_state(vm, CONTROL_VM_ENDING, why);
	vm->over = true;
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

static void unusable(struct vm *vm, const char *why, uint64_t gpa_bytes, bool has_gpa)
{
	char text[CONTROL_TEXT_BYTES];

	if (has_gpa)
		snprintf(text, sizeof(text), "%s (guest address %#" PRIx64 ")", why, gpa_bytes);
	else
		snprintf(text, sizeof(text), "%s", why);
	vm->usable = false;
	vm->board->ram_bytes = vm->board->ranges = 0;
	vm->board->checked = 0;
	set_state(vm, CONTROL_VM_UNUSABLE, text);
	log_line(LOG_LEVEL_ERR, "vm %s: no shadows, its memory cannot be mirrored: %s", vm->p->name, text);
}

/* Physical memory of the host: whether dshost was told so, and the kernel lets it be mapped.  Return: whether. */
static bool check_physical(struct vm *vm)
{
	const struct ramtable *t = &vm->dev.table;
	char why[DEVMEM_WHY_BYTES] = "its memory is physical memory of the host, from " DEVMEM_PATH ": start the daemon with --dev-mem to allow that";
	bool fine = vm->p->dev_mem;

	for (uint32_t i = 0; fine && i < t->nranges; i++)
		if (!t->range[i].file)
			fine = !devmem_check(vm->dev.ram_fd, t->range[i].page.n << DS_PAGE_SHIFT, t->range[i].npages << DS_PAGE_SHIFT, why);
	if (!fine)
		unusable(vm, why, 0, false);
	return fine;
}

/* Whether what SET_MEM_TABLE brought may be mirrored; says why not. */
static void check_table(struct vm *vm)
{
	struct ramtable_diff diff = {0};
	struct ramtable_err err = {0};
	cleanup_close int maps = -1;
	char path[64], text[160];

	snprintf(path, sizeof(path), "/proc/%u/maps", vm->board->vmm_pid);
	maps = open(path, O_RDONLY | O_CLOEXEC);
	if (maps < 0) {
		snprintf(text, sizeof(text), "the VMM's own mappings cannot be looked at: %s: %s", path, strerror(errno));
		unusable(vm, text, 0, false);
	} else if (vmmaps_check(maps, vm->dev.region, vm->dev.nregions, &err)) {
		unusable(vm, err.why, err.value, err.index != RAMTABLE_NO_INDEX);
	} else if (vm->p->monitor && !ramtable_compare(&vm->dev.table, vm->p->monitor, &diff)) {
		snprintf(text, sizeof(text), "vhost-user and the monitor tell different things of the memory: %s", diff.why);
		unusable(vm, text, diff.gpa_bytes, true);
	} else if (!vm->dev.table.file[0].physical || check_physical(vm)) {
		uint64_t ranges = 0;

		for (uint32_t i = 0; i < vm->dev.table.nranges; i++)
			ranges += vm->dev.table.range[i].file == 0;
		vm->usable = true;
		vm->checked = vm->dev.table;
		vm->board->checked = vm->p->monitor != NULL;
		vm->board->ram_bytes = ramtable_bytes(&vm->dev.table);
		vm->board->physical = vm->dev.table.file[0].physical;
		if (vm->board->ranges != ranges)
			log_line(LOG_LEVEL_INFO, "vm %s: %" PRIu64 " MiB of memory in %" PRIu64 " ranges, told by vhost-user%s%s", vm->p->name,
				 vm->board->ram_bytes >> 20, ranges, vm->p->monitor ? " and by the monitor alike" : "",
				 vm->board->physical ? ", in physical memory of the host" : "");
		vm->board->ranges = ranges;
	}
}

/* --- the device ------------------------------------------------------------------------------------------------------ */

/*
 * Whether the table that has just come shows the same pages of the same RAM file at the same guest addresses as the one that
 * shadows were started under.  What changes often is other memory: the doorbell's window moves, a DIMM is plugged in.
 */
static bool same_ram(const struct vm *vm)
{
	const struct ramtable_file *a = &vm->checked.file[0], *b = &vm->dev.table.file[0];

	return vm->usable && a->dev == b->dev && a->ino == b->ino && ramtable_compare(&vm->checked, &vm->dev.table, NULL);
}

/* Before QEMU is answered: nobody may use the guest's memory any more. */
static void before_answer(void *ctx, enum vhostuser_event event)
{
	struct vm *vm = ctx;

	if (event == VHOSTUSER_EV_STOPPED || event == VHOSTUSER_EV_NO_TABLE)
		vsock_stop(vm->vsock);
	if (event == VHOSTUSER_EV_STOPPED)
		shadows_end_all(vm->shadows, "the guest has stopped its device (a reset, a crash, or its driver is gone)");
	else if (event == VHOSTUSER_EV_NO_TABLE || (event == VHOSTUSER_EV_TABLE && !same_ram(vm)))
		shadows_end_all(vm->shadows, "the VM's memory has another layout now");
}

static void start_device(struct vm *vm)
{
	const int e = vsock_start(vm->vsock, &vm->dev);

	if (e)
		log_line(LOG_LEVEL_ERR, "vm %s: its vsock device cannot be served: %s", vm->p->name,
			 e == -ENXIO ? "its queues are not in its memory" : strerror(-e));
	else if (vm->usable)
		set_state(vm, CONTROL_VM_READY, "");
}

static void on_event(struct vm *vm, enum vhostuser_event event)
{
	switch (event) {
	case VHOSTUSER_EV_TABLE:
		check_table(vm);
		if (vm->dev.running)
			start_device(vm);
		break;
	case VHOSTUSER_EV_NO_TABLE:
		unusable(vm, vm->dev.err.why, vm->dev.err.value, false);
		break;
	case VHOSTUSER_EV_STARTED:
		log_line(LOG_LEVEL_INFO, "vm %s: the guest has started its device", vm->p->name);
		start_device(vm);
		break;
	case VHOSTUSER_EV_STOPPED:
		log_line(LOG_LEVEL_INFO, "vm %s: the guest has stopped its device", vm->p->name);
		if (vm->usable)
			set_state(vm, CONTROL_VM_BOOTING, "");
		break;
	default: /* the same table as before: a check of the VMM's mappings was made then */
		if (event == VHOSTUSER_EV_TABLE_SAME && vm->dev.running)
			start_device(vm);
	}
}

/* The device's connection has ended: because the VMM has, or because it let go of the device. */
static void on_disconnect(struct vm *vm, int e)
{
	struct pollfd p = {.fd = vm->vmm_fd, .events = POLLIN};
	char text[160];

	if (e != -ECONNRESET)
		snprintf(text, sizeof(text), "its VMM broke the vhost-user protocol: %s", vm->dev.err.why ? vm->dev.err.why : strerror(-e));
	else if (poll(&p, 1, VMM_DEATH_MS) > 0)
		snprintf(text, sizeof(text), "the VM has ended (process %u)", vm->board->vmm_pid);
	else
		snprintf(text, sizeof(text), "its VMM (process %u) has let go of the device", vm->board->vmm_pid);
	end_vm(vm, text);
}

static void on_message(struct vm *vm)
{
	enum vhostuser_event event;
	const int e = vhostuser_receive(&vm->dev, vm->conn, &event);

	if (!e)
		on_event(vm, event);
	else if (e != -EAGAIN)
		on_disconnect(vm, e);
}

static void on_connect(struct vm *vm)
{
	struct ucred cred = {0};
	socklen_t bytes = sizeof(cred);
	cleanup_close int vmm_fd = -1;

	vm->conn = accept4(vm->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (vm->conn < 0)
		return;
	close(vm->listener);
	vm->listener = -1;
	unlink(vm->vsock_path);
	getsockopt(vm->conn, SOL_SOCKET, SO_PEERCRED, &cred, &bytes);
	vmm_fd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	if (vmm_fd < 0) {
		end_vm(vm, "its VMM connected and was gone at once");
		return;
	}
	close(vm->vmm_fd);
	vm->vmm_fd = steal_fd(&vmm_fd);
	vm->board->vmm_pid = (uint32_t)cred.pid;
	set_state(vm, CONTROL_VM_BOOTING, "");
	log_line(LOG_LEVEL_INFO, "vm %s: connected by process %d of user %u", vm->p->name, cred.pid, cred.uid);
}

/* vsock_accept_fn */
static int on_stream(void *ctx, uint32_t guest_port, uint32_t host_port, int fd)
{
	struct vm *vm = ctx;
	const char *why = NULL;
	int e = -ECONNREFUSED;

	if (host_port == DS_FORWARD_PORT)
		return bells_accept(vm->bells, guest_port, fd);
	if (host_port == DS_ESTATE_PORT)
		return estates_accept(vm->estates, fd);
	if (host_port != DS_AGENT_PORT)
		why = "nobody listens on that port";
	else if (guest_port > DS_AGENT_GUEST_PORT_MAX)
		why = "it comes from a port that any user of the guest can have";
	else if (!vm->usable || !vm->dev.has_table)
		why = "the VM's memory cannot be mirrored";
	else if (!startrate_take(&vm->rate, now_ns()))
		why = "the VM starts more shadows than it may in that time (--start-rate)";
	if (!why) {
		e = shadows_start(vm->shadows, fd, guest_port, vm->dev.ram_fd, &vm->dev.table);
		if (e)
			why = e == -EBUSY ? "the VM has as many shadows as it may" : strerror(-e);
	}
	if (!why)
		return 0;
	/* A guest can have this line written as often as it likes: the first of each 100 says it. */
	if (vm->board->refused++ % 100 == 0)
		log_line(LOG_LEVEL_WARNING, "vm %s: a stream from guest port %u to port %u is refused (%" PRIu64 " so far): %s", vm->p->name, guest_port,
			 host_port, vm->board->refused, why);
	return e;
}

/* vsock_look_fn */
static void on_bytes(void *ctx, uint32_t guest_port, const struct iovec *iov, uint32_t n, uint32_t bytes)
{
	struct vm *vm = ctx;

	bells_look(vm->bells, guest_port, iov, n, bytes);
}

static void work_queues(struct vm *vm)
{
	if (!vsock_run(vm->vsock))
		return;
	log_line(LOG_LEVEL_ERR, "vm %s: its vsock device has stopped until the guest resets it: %s", vm->p->name, vsock_err(vm->vsock));
	vsock_stop(vm->vsock);
	set_state(vm, CONTROL_VM_BOOTING, vsock_err(vm->vsock) ? vsock_err(vm->vsock) : "");
}

/* --- the daemon ------------------------------------------------------------------------------------------------------ */

static int take_order(struct vm *vm, struct vmproc_order *o, int *fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {o, sizeof(*o)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	const ssize_t n = recvmsg(vm->p->channel, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;

	*fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -errno;
	return n == sizeof(*o) ? 0 : -ECONNRESET;
}

static void take_policy(struct vm *vm, int fd, uint64_t bytes)
{
	cleanup_free char *text = bytes <= POLICY_FILE_BYTES_MAX ? malloc(bytes + 1) : NULL;
	struct policy_err err = {0};
	struct policy *policy;

	if (text && pread(fd, text, bytes, 0) == (ssize_t)bytes && !policy_parse(&policy, text, bytes, &err))
		shadows_policy(vm->shadows, policy);
	else
		log_line(LOG_LEVEL_ERR, "vm %s: the new policy did not arrive, the old one stays: %s", vm->p->name, err.why);
}

static void on_order(struct vm *vm)
{
	cleanup_close int fd = -1;
	struct vmproc_order o;
	const int e = take_order(vm, &o, &fd);

	if (e == -EAGAIN)
		return;
	if (e) {
		end_vm(vm, "the daemon has ended");
		return;
	}
	switch (o.what) {
	case VMPROC_END:
		if (shadows_end(vm->shadows, o.guest_pid, fd))
			control_refuse(fd, -ESRCH, "vm %s: no shadow of guest process %" PRIu64, vm->p->name, o.guest_pid);
		else
			fd = -1;
		break;
	case VMPROC_STOP:
		vm->stopper = steal_fd(&fd);
		end_vm(vm, "stopped, as was asked for");
		break;
	case VMPROC_POLICY:
		take_policy(vm, fd, o.bytes);
		break;
	}
}

static void on_signals(struct vm *vm)
{
	struct signalfd_siginfo info;

	while (read(vm->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			shadows_reap(vm->shadows);
		else
			end_vm(vm, "the daemon ends");
	}
}

/* --- beginning and end ------------------------------------------------------------------------------------------------ */

/* Closes everything but @keep, 0, 1 and 2. */
static void close_others(int a, int b)
{
	const int low = a < b ? a : b, high = a < b ? b : a;

	close_range(3, (unsigned int)low - 1, 0); /* does nothing when low is 3: first > last is EINVAL */
	if (high - low > 1)
		close_range((unsigned int)low + 1, (unsigned int)high - 1, 0);
	close_range((unsigned int)high + 1, UINT32_MAX, 0);
}

static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT); /* of a terminal: the daemon gets it too and asks for the end, or we come first */
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigdelset(&set, SIGHUP); /* the daemon's, which sends a new policy */
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Return: 0, or -errno with @what. */
static int begin(struct vm *vm, const char **what)
{
	const struct vmproc_params *p = vm->p;
	int e;

	*what = "memory";
	e = shadows_new(&vm->shadows, p->board, p->name, p->services_dir);
	if (!e)
		shadows_policy(vm->shadows, p->policy);
	e = e ? e : vsock_new(&vm->vsock, p->cid, on_stream, vm);
	e = e ? e : bells_new(&vm->bells, vm->shadows, vm->vsock);
	e = e ? e : estates_new(&vm->estates, vm->shadows);
	if (e)
		return e;
	vsock_look(vm->vsock, DS_FORWARD_PORT, on_bytes);
	*what = "the sockets in the run directory";
	e = control_path(vm->vsock_path, p->run_dir, p->name, "vsock");
	e = e ? e : control_path(vm->bell_path, p->run_dir, p->name, "doorbell");
	if (e)
		return e;
	vm->listener = control_listen(vm->vsock_path, SOCK_STREAM, p->uid);
	if (vm->listener < 0)
		return vm->listener;
	unlink(vm->bell_path);
	e = ivshmem_new(&vm->bell, vm->bell_path, p->window_bytes, DOORBELLS, DOORBELL_VECTORS);
	if (!e && p->uid != geteuid() && chown(vm->bell_path, p->uid, (gid_t)-1))
		e = -errno;
	if (e)
		return e;
	*what = "the window";
	e = control_path(vm->window_path, p->run_dir, p->name, "window");
	vm->window = (struct windows_params){
		.vm = p->name, .path = vm->window_path, .uid = p->uid, .shm = ivshmem_shm(vm->bell), .bytes = p->window_bytes,
		.kvm_files = p->kvm_files};
	e = e ? e : windows_new(&vm->windows, &vm->window);
	if (e)
		return e;
	shadows_windows(vm->shadows, vm->windows);
	*what = "watching signals and the VMM";
	vm->signals = watch_signals();
	vm->vmm_fd = (int)syscall(SYS_pidfd_open, p->vmm, 0);
	return vm->signals < 0 || vm->vmm_fd < 0 ? -errno : 0;
}

static void answer_ready(struct vm *vm)
{
	struct control_reply ready = {.kind = CONTROL_READY, .cid = vm->p->cid};

	memcpy(ready.vsock, vm->vsock_path, sizeof(ready.vsock));
	memcpy(ready.doorbell, vm->bell_path, sizeof(ready.doorbell));
	control_answer(vm->p->client, &ready, -1);
	close(vm->p->client);
}

static void show_window(struct vm *vm)
{
	const struct windows_stat s = windows_stat(vm->windows);

	vm->board->window_bytes = s.bytes;
	vm->board->window_used_bytes = s.used_bytes;
	vm->board->window_pieces = s.pieces;
	vm->board->window_helper = s.helper;
}

static void work(struct vm *vm)
{
	bool bell_there = false;

	show_window(vm);
	while (!vm->over) {
		struct pollfd p[] = {
			{.fd = vm->p->channel, .events = POLLIN},
			{.fd = vm->signals, .events = POLLIN},
			{.fd = vm->conn >= 0 ? vm->conn : vm->listener, .events = POLLIN},
			{.fd = vsock_fd(vm->vsock), .events = POLLIN},
			{.fd = ivshmem_fd(vm->bell), .events = POLLIN},
			{.fd = vm->conn >= 0 ? -1 : vm->vmm_fd, .events = POLLIN}, /* later its connection tells */
			{.fd = bells_fd(vm->bells), .events = POLLIN},
			{.fd = estates_fd(vm->estates), .events = POLLIN},
			{.fd = windows_fd(vm->windows), .events = POLLIN},
		};

		if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0)
			continue; /* EINTR */
		if (p[1].revents)
			on_signals(vm);
		if (p[0].revents)
			on_order(vm);
		if (p[2].revents && vm->conn >= 0)
			on_message(vm);
		else if (p[2].revents)
			on_connect(vm);
		else if (p[5].revents)
			end_vm(vm, "its VMM ended before it connected");
		if (p[3].revents && !vm->over)
			work_queues(vm);
		if (p[4].revents)
			ivshmem_run(vm->bell);
		if (p[6].revents)
			bells_run(vm->bells);
		if (p[7].revents)
			estates_run(vm->estates);
		if (p[8].revents)
			windows_run(vm->windows);
		if (p[8].revents || p[1].revents) /* who ends gives back what it had */
			show_window(vm);
		vm->board->refused_bells = bells_refused(vm->bells);
		vm->board->doorbell = ivshmem_connected(vm->bell);
		if (vm->board->doorbell && !bell_there)
			bell_there = !unlink(vm->bell_path);
		windows_vmm(vm->windows, vm->conn >= 0 ? (pid_t)vm->board->vmm_pid : 0, ivshmem_connected(vm->bell));
	}
}

static void finish(struct vm *vm)
{
	struct control_reply done = {.kind = CONTROL_DONE};

	if (vm->vsock)
		vsock_stop(vm->vsock);
	bells_free(vm->bells);
	estates_free(vm->estates);
	shadows_free(vm->shadows);
	windows_free(vm->windows);
	if (vm->listener >= 0) {
		close(vm->listener);
		unlink(vm->vsock_path);
	}
	if (vm->conn >= 0)
		close(vm->conn);
	vsock_free(vm->vsock);
	ivshmem_free(vm->bell);
	vhostuser_close(&vm->dev);
	if (vm->stopper >= 0)
		control_answer(vm->stopper, &done, -1);
}

int vmproc_main(const struct vmproc_params *p)
{
	struct vm vm = {.p = p, .board = &p->board->vm, .listener = -1, .conn = -1, .signals = -1, .vmm_fd = -1, .stopper = -1};
	char whose[CONTROL_NAME_BYTES + 4];
	const char *what = "";
	int e;

	startrate_init(&vm.rate, p->start_rate, now_ns());
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != p->daemon)
		return 2; /* it ended before the line above */
	close_others(p->channel, p->client);
	snprintf(whose, sizeof(whose), "vm %s", p->name);
	log_share(&p->board->log, whose);
	prctl(PR_SET_NAME, "dshost-vm");
	signal(SIGPIPE, SIG_IGN);
	vhostuser_init(&vm.dev, p->cid);
	vm.dev.before_answer = before_answer;
	vm.dev.before_ctx = &vm;
	e = begin(&vm, &what);
	if (e) {
		log_line(LOG_LEVEL_ERR, "vm %s: %s: %s", p->name, what, strerror(-e));
		control_refuse(p->client, e, "vm %s: %s: %s", p->name, what, strerror(-e));
	} else {
		answer_ready(&vm);
		work(&vm);
	}
	finish(&vm);
	return e ? 2 : 0;
}
