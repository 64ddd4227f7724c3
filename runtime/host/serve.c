/* serve.c - the daemon; theory in serve.h */
#include "runtime/host/serve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/jail/jailgroup.h"
#include "runtime/host/log.h"
#include "runtime/host/notify.h"
#include "runtime/host/status.h"
#include "runtime/host/vmproc.h"

#define CLIENTS_MAX 16u
#define CLIENT_MS 1000
#define FILES 65536u
#define SWEEP_MS 100 /* until the first look at cgroups that were left behind; doubled before each one more */
#define SWEEPS 8     /* 25 s in all */
#define END_MS 15000 /* a VM process may wait 10 s for a shadow that hangs */

struct client {
	int fd; /* -1: free */
	pid_t pid;
	uid_t uid;
	int64_t until_ms;
};

struct vm {
	pid_t pid; /* of the VM process; 0: free */
	int channel;
	char name[CONTROL_NAME_BYTES];
	struct shadows_board *board;
};

struct daemon {
	const struct serve_params *p;
	int lock, listener, signals;
	struct policy *policy;
	uint64_t next_cid;
	bool over;
	uint32_t sweeps; /* that are still to come */
	int64_t sweep_at_ms;
	struct client client[CLIENTS_MAX];
	struct vm vm[SERVE_VMS_MAX];
};

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- VM processes ---------------------------------------------------------------------------------------------------- */

static struct vm *find_vm(struct daemon *d, const char *name)
{
	for (uint32_t i = 0; i < SERVE_VMS_MAX; i++)
		if (d->vm[i].pid && !strcmp(d->vm[i].name, name))
			return &d->vm[i];
	return NULL;
}

static void remove_entries(const struct daemon *d, const char *name)
{
	static const char *const suffix[] = {"vsock", "doorbell"};
	char path[CONTROL_PATH_BYTES];

	for (size_t i = 0; i < sizeof(suffix) / sizeof(suffix[0]); i++)
		if (!control_path(path, d->p->run_dir, name, suffix[i]))
			unlink(path);
}

static void forget_vm(struct daemon *d, struct vm *vm)
{
	close(vm->channel);
	munmap(vm->board, shadows_board_bytes(d->p->max_shadows));
	remove_entries(d, vm->name);
	*vm = (struct vm){0};
}

/*
 * Shadows of a process that was killed are killed by the kernel, in their own time, and their cgroups can be removed only then, which nobody
 * tells.  Who starts a shadow sweeps too, but nobody may.
 */
static void sweep_later(struct daemon *d)
{
	d->sweeps = SWEEPS;
	d->sweep_at_ms = now_ms() + SWEEP_MS;
}

static void sweep(struct daemon *d)
{
	if (!d->sweeps || now_ms() < d->sweep_at_ms)
		return;
	jailgroup_sweep();
	d->sweeps--;
	d->sweep_at_ms = now_ms() + ((int64_t)SWEEP_MS << (SWEEPS - d->sweeps));
}

static void reap(struct daemon *d)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (uint32_t i = 0; i < SERVE_VMS_MAX; i++) {
			if (d->vm[i].pid != pid)
				continue;
			if (WIFSIGNALED(status))
				sweep_later(d);
			if (WIFSIGNALED(status))
				log_line(LOG_LEVEL_ERR, "vm %s: its process %d was ended by signal %d%s; its shadows have ended, the VM goes on; `dshost attach` gives it a new one",
					 d->vm[i].name, pid, WTERMSIG(status),
					 WTERMSIG(status) == SIGBUS ? " (the file of the VM's memory was made shorter, or could not be read)" : "");
			forget_vm(d, &d->vm[i]);
		}
	}
}

static void start_vm(struct daemon *d, const struct client *c, const struct control_request *r, const struct ramtable *monitor)
{
	const size_t bytes = shadows_board_bytes(d->p->max_shadows);
	const pid_t self = getpid();
	struct vm *vm = d->vm;
	int pair[2];

	while (vm < d->vm + SERVE_VMS_MAX && vm->pid)
		vm++;
	if (vm == d->vm + SERVE_VMS_MAX) {
		control_refuse(c->fd, -EBUSY, "there are %u VMs already, which is as many as one daemon serves", SERVE_VMS_MAX);
		return;
	}
	if (find_vm(d, r->name)) {
		control_refuse(c->fd, -EEXIST, "there is a VM %s already: give this one another name (--name)", r->name);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		control_refuse(c->fd, -errno, "socketpair: %s", strerror(errno));
		return;
	}
	vm->board = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vm->board != MAP_FAILED) {
		vm->board->nplaces = d->p->max_shadows;
		vm->board->vm.cid = d->next_cid;
		memcpy(vm->board->vm.name, r->name, sizeof(vm->board->vm.name));
		memcpy(vm->name, r->name, sizeof(vm->name));
		vm->pid = fork();
	}
	if (vm->board == MAP_FAILED || vm->pid < 0) {
		control_refuse(c->fd, -errno, "a process for the VM: %s", strerror(errno));
		if (vm->board != MAP_FAILED)
			munmap(vm->board, bytes);
		close(pair[0]);
		close(pair[1]);
		*vm = (struct vm){0};
		return;
	}
	if (vm->pid == 0) {
		const struct vmproc_params p = {
			.name = vm->name, .run_dir = d->p->run_dir, .services_dir = d->p->services_dir, .window_bytes = d->p->window_bytes,
			.start_rate = d->p->start_rate, .dev_mem = d->p->dev_mem, .kvm_files = d->p->kvm_files, .cid = d->next_cid,
			.daemon = self, .channel = pair[1], .client = c->fd, .vmm = r->vmm_pid ? (pid_t)r->vmm_pid : c->pid,
			.uid = r->vmm_pid ? r->vmm_uid : c->uid, .monitor = r->nranges ? monitor : NULL, .policy = d->policy,
			.board = vm->board,
		};

		_exit(vmproc_main(&p));
	}
	vm->board->vm.process = (uint32_t)vm->pid;
	vm->channel = pair[0];
	close(pair[1]);
	d->next_cid = d->next_cid == INT32_MAX ? 3 : d->next_cid + 1;
	log_line(LOG_LEVEL_NOTICE, "vm %s: process %d serves it", vm->name, vm->pid);
}

/* Hands @fd over with an order.  Return: 0, -errno (-EAGAIN: the VM process does not take orders). */
static int order(const struct vm *vm, struct vmproc_order *o, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {o, sizeof(*o)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(vm->channel, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* --- the policy ------------------------------------------------------------------------------------------------------ */

/* Return: 0, or an exit status after a line in the log. */
static int read_policy(const struct daemon *d, struct policy **policy)
{
	struct policy_err err;
	const int e = policy_load(policy, d->p->policy, &err);

	if (!e)
		return 0;
	if (err.line)
		log_line(LOG_LEVEL_ERR, "%s:%u: %s", d->p->policy, err.line, err.why);
	else
		log_line(LOG_LEVEL_ERR, "%s: %s", d->p->policy, err.why);
	return e == -EINVAL || e == -EFBIG ? 1 : 2;
}

/* The file as it is now, to every VM process.  What they get is what was parsed here: the same bytes. */
static void reload(struct daemon *d)
{
	cleanup_close int fd = memfd_create("policy", MFD_CLOEXEC);
	cleanup_free char *text = malloc(POLICY_FILE_BYTES_MAX + 1);
	cleanup_close int file = open(d->p->policy, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	const ssize_t bytes = text && file >= 0 ? read(file, text, POLICY_FILE_BYTES_MAX + 1) : -1;
	struct vmproc_order o = {.what = VMPROC_POLICY, .bytes = bytes > 0 ? (uint64_t)bytes : 0};
	struct policy *policy = NULL;
	struct policy_err err = {0};
	struct stat st;
	int e = bytes < 0 || fd < 0 || fstat(file, &st) ? -errno : 0;

	if (!e && st.st_mode & S_IWOTH) {
		log_line(LOG_LEVEL_ERR, "%s: everybody can write to it; the policy that was in force stays", d->p->policy);
		return;
	}
	if (!e)
		e = policy_parse(&policy, text, (size_t)bytes, &err);

	if (!e && write(fd, text, (size_t)bytes) != bytes) {
		free(policy);
		e = -EIO;
	}
	if (e) {
		log_line(LOG_LEVEL_ERR, "%s:%u: %s; the policy that was in force stays", d->p->policy, err.line, *err.why ? err.why : strerror(-e));
		return;
	}
	free(d->policy);
	d->policy = policy;
	for (uint32_t i = 0; i < SERVE_VMS_MAX; i++)
		if (d->vm[i].pid && order(&d->vm[i], &o, fd))
			log_line(LOG_LEVEL_ERR, "vm %s: its process does not take the new policy", d->vm[i].name);
	log_line(LOG_LEVEL_NOTICE, "%s: %zu rules are in force now", d->p->policy, policy->nrules);
}

/* --- requests ---------------------------------------------------------------------------------------------------------- */

static void tell_status(struct daemon *d, int client)
{
	const struct shadows_board *board[SERVE_VMS_MAX];
	struct control_reply reply = {.kind = CONTROL_STATUS_FILE};
	cleanup_close int fd = -1;
	uint32_t n = 0;

	for (uint32_t i = 0; i < SERVE_VMS_MAX; i++)
		if (d->vm[i].pid)
			board[n++] = d->vm[i].board;
	fd = status_make(board, n, d->policy->nrules, &reply.bytes);
	if (fd < 0)
		control_refuse(client, fd, "the status cannot be made: %s", strerror(-fd));
	else
		control_answer(client, &reply, fd);
}

static void hand_over(struct daemon *d, const struct control_request *r, int client)
{
	struct vmproc_order o = {.what = r->verb == CONTROL_END ? VMPROC_END : VMPROC_STOP, .guest_pid = r->guest_pid};
	const struct vm *vm = find_vm(d, r->name);
	const int e = vm ? order(vm, &o, client) : -ENOENT;

	if (e == -ENOENT)
		control_refuse(client, e, "there is no VM %s (dshost status shows those that there are)", r->name);
	else if (e)
		control_refuse(client, e, "vm %s: its process takes no orders: %s", r->name, strerror(-e));
}

static void take_request(struct daemon *d, struct client *c)
{
	char packet[sizeof(struct control_request) + 1];
	struct control_request r;
	struct ramtable monitor;
	const char *why = "";
	const ssize_t n = recv(c->fd, packet, sizeof(packet), MSG_DONTWAIT);
	int e;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	e = n > 0 ? control_check(packet, (size_t)n, &r, &monitor, &why) : -ECONNRESET;
	if (n > 0 && e) {
		log_line(LOG_LEVEL_WARNING, "a request of process %d (user %u) is refused: %s", c->pid, c->uid, why);
		control_refuse(c->fd, e, "%s", why);
	} else if (!e && r.verb == CONTROL_VM) {
		start_vm(d, c, &r, &monitor);
	} else if (!e && r.verb == CONTROL_STATUS) {
		tell_status(d, c->fd);
	} else if (!e) {
		hand_over(d, &r, c->fd);
	}
	close(c->fd);
	c->fd = -1;
}

static void take_client(struct daemon *d)
{
	struct client *c = d->client;
	struct ucred cred;
	socklen_t bytes = sizeof(cred);
	int fd;

	while (c < d->client + CLIENTS_MAX && c->fd >= 0)
		c++;
	if (c == d->client + CLIENTS_MAX)
		return; /* it stays in the queue of listen() until a place is free */
	fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &bytes)) {
		close(fd);
		return;
	}
	*c = (struct client){.fd = fd, .pid = cred.pid, .uid = cred.uid, .until_ms = now_ms() + CLIENT_MS};
}

/* --- the loop ------------------------------------------------------------------------------------------------------------ */

static void on_signals(struct daemon *d)
{
	struct signalfd_siginfo info;

	while (read(d->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(d);
		else if (info.ssi_signo == SIGHUP)
			reload(d);
		else
			d->over = true;
	}
}

static void work(struct daemon *d)
{
	while (!d->over) {
		struct pollfd p[2 + CLIENTS_MAX] = {{.fd = d->signals, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
		int64_t wait_ms = -1;
		bool full = true;

		for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
			const struct client *c = &d->client[i];
			const int64_t left = c->until_ms - now_ms();

			p[2 + i] = (struct pollfd){.fd = c->fd, .events = POLLIN};
			full = full && c->fd >= 0;
			if (c->fd >= 0 && (wait_ms < 0 || left < wait_ms))
				wait_ms = left > 0 ? left : 0;
		}
		if (d->sweeps && (wait_ms < 0 || d->sweep_at_ms - now_ms() < wait_ms))
			wait_ms = d->sweep_at_ms > now_ms() ? d->sweep_at_ms - now_ms() : 0;
		p[1].fd = full ? -1 : d->listener;
		if (poll(p, 2 + CLIENTS_MAX, (int)wait_ms) < 0)
			continue; /* EINTR */
		sweep(d);
		for (uint32_t i = 0; i < CLIENTS_MAX; i++) {
			struct client *c = &d->client[i];

			if (c->fd >= 0 && p[2 + i].revents)
				take_request(d, c);
			if (c->fd >= 0 && now_ms() >= c->until_ms) {
				close(c->fd);
				c->fd = -1;
			}
		}
		if (p[1].revents)
			take_client(d);
		if (p[0].revents)
			on_signals(d);
	}
}

/* Ends all VM processes and waits for them; SIGKILL to who does not go. */
static void end_all(struct daemon *d)
{
	const int64_t start = now_ms();
	bool killed = false, left = true;

	for (uint32_t i = 0; i < SERVE_VMS_MAX; i++)
		if (d->vm[i].pid)
			kill(d->vm[i].pid, SIGTERM);
	while (left) {
		const struct timespec pause = {.tv_nsec = 2000000};

		reap(d);
		left = false;
		for (uint32_t i = 0; i < SERVE_VMS_MAX; i++) {
			left = left || d->vm[i].pid;
			if (d->vm[i].pid && !killed && now_ms() - start >= END_MS)
				kill(d->vm[i].pid, SIGKILL);
		}
		killed = now_ms() - start >= END_MS;
		if (now_ms() - start >= 2 * END_MS)
			return; /* one that cannot be killed now will be, as soon as the kernel lets it go */
		if (left)
			nanosleep(&pause, NULL);
	}
}

/* --- beginning ------------------------------------------------------------------------------------------------------------- */

/* Sockets that a daemon and its VM processes left when they were killed. */
static void clear_run_dir(const struct daemon *d)
{
	DIR *dir = opendir(d->p->run_dir);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		const char *dot = strrchr(entry->d_name, '.');
		struct stat st;

		if (dot && dot > entry->d_name && (!strcmp(dot, ".vsock") || !strcmp(dot, ".doorbell")) &&
		    !fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISSOCK(st.st_mode))
			unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
}

static int fail(const char *what, int e)
{
	log_line(LOG_LEVEL_ERR, "%s: %s", what, strerror(-e));
	return 2;
}

/*
 * Who may write into the run directory can put a socket of their own in place of ours, and gets the memory of the VM that
 * connects to it; a link in place of the directory leads anywhere.
 */
static int check_run_dir(const char *path)
{
	struct stat st;

	if (lstat(path, &st))
		return fail(path, -errno);
	if (S_ISDIR(st.st_mode) && (st.st_uid == geteuid() || !st.st_uid) && !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return 0;
	log_line(LOG_LEVEL_ERR, "%s: the run directory has to be a directory (no link) of user %u or root that nobody else can write to: use another --run-dir",
		 path, geteuid());
	return 2;
}

/* Return: 0 or an exit status. */
static int take_lock(struct daemon *d)
{
	char path[CONTROL_PATH_BYTES], text[16];
	struct stat mine, there;

	control_path(path, d->p->run_dir, "lock", NULL);
	d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock < 0)
		return fail(path, -errno);
	if (flock(d->lock, LOCK_EX | LOCK_NB) && errno != EWOULDBLOCK)
		return fail(path, -errno);
	/* One that ends removes its file: a lock on a file that is not there any more keeps nobody out. */
	if (flock(d->lock, LOCK_EX | LOCK_NB) || fstat(d->lock, &mine) || stat(path, &there) || mine.st_ino != there.st_ino) {
		log_line(LOG_LEVEL_ERR, "a dshost serves %s already: end it first, or use another --run-dir", d->p->run_dir);
		return 75;
	}
	snprintf(text, sizeof(text), "%d\n", getpid());
	return ftruncate(d->lock, 0) || pwrite(d->lock, text, strlen(text), 0) < 0 ? fail(path, -errno) : 0;
}

/*
 * 128 doorbells and two ends of each stream a VM are more than the usual 1024; and a capsule's descriptors have numbers up to 8192, to
 * which it can only be let if this process may: without systemd the hard limit is the kernel's 4096, which root may raise.
 */
static void raise_files(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = FILES;
	if (files.rlim_max < FILES && !setrlimit(RLIMIT_NOFILE, &(struct rlimit){FILES, FILES}))
		return;
	if (files.rlim_max < FILES)
		files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

/* Return: 0 or an exit status. */
static int begin(struct daemon *d)
{
	char path[CONTROL_PATH_BYTES];
	sigset_t set;
	int code;

	if (control_path(path, d->p->run_dir, "0123456789012345678901234567890", "doorbell"))
		return fail("the run directory's path, with the names of sockets in it, does not fit into an address", -ENAMETOOLONG);
	code = read_policy(d, &d->policy);
	if (code)
		return code;
	if (mkdir(d->p->run_dir, 0755) && errno != EEXIST)
		return fail(d->p->run_dir, -errno);
	code = check_run_dir(d->p->run_dir);
	if (code)
		return code;
	code = take_lock(d);
	if (code)
		return code;
	clear_run_dir(d);
	jailgroup_sweep(); /* of a daemon before that was killed */
	sweep_later(d);	   /* or is being */
	raise_files();
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signals < 0)
		return fail("signalfd", -errno);
	control_path(path, d->p->run_dir, CONTROL_SOCKET, NULL);
	d->listener = control_listen(path, SOCK_SEQPACKET, geteuid());
	return d->listener < 0 ? fail(path, d->listener) : 0;
}

int serve(const struct serve_params *p)
{
	struct daemon d = {.p = p, .lock = -1, .listener = -1, .signals = -1, .next_cid = 3};
	char path[CONTROL_PATH_BYTES];
	int code;

	for (uint32_t i = 0; i < CLIENTS_MAX; i++)
		d.client[i].fd = -1;
	code = begin(&d);
	if (!code) {
		log_line(LOG_LEVEL_NOTICE, "serving %s: %zu rules of %s, services of %s", p->run_dir, d.policy->nrules, p->policy, p->services_dir);
		notify_systemd("READY=1");
		work(&d);
		notify_systemd("STOPPING=1");
		end_all(&d);
		jailgroup_sweep();
		control_path(path, p->run_dir, CONTROL_SOCKET, NULL);
		unlink(path);
		control_path(path, p->run_dir, "lock", NULL);
		unlink(path);
		log_line(LOG_LEVEL_NOTICE, "ended");
	}
	free(d.policy);
	return code;
}
