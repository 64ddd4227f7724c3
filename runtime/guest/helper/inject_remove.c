/* inject_remove.c - taking a helper out of a program again; see inject.h */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/guest/helper/inject_impl.h"
#include "runtime/guest/monitor/lend.h"

struct removal {
	struct remote *r;
	struct inject_err *why;
	bool same; /* the program still used this memory when the helper ended */
};

static int remove_from(struct removal *m, struct tracee *t)
{
	uint8_t code[INJECT_CODE_BYTES];
	struct remote *r = m->r;
	__attribute__((cleanup(inject_close_fd))) int mem_fd = inject_open_proc(r->pid, "mem", O_RDWR);
	__attribute__((cleanup(inject_close_fd))) int maps_fd = inject_open_proc(r->pid, "maps", O_RDONLY);
	bool ours = pread(mem_fd, code, sizeof(code), r->stub) == (ssize_t)sizeof(code) && !memcmp(code, INJECT_CODE, sizeof(code));
	int64_t ret, reaped;
	uint64_t ip;
	int err;

	err = inject_first_call(t, maps_fd, mem_fd, INJECT_CALL(SYS_wait4, r->helper_inside, 0, WNOHANG | __WCLONE, 0), &ip, &reaped);
	/* Not if it executed another program meanwhile, which has its own mappings there. */
	if (!err && m->same && ours) {
		err = tracee_call(t, ip, INJECT_CALL(SYS_munmap, r->stub, INJECT_AREA), &ret);
		err = err ? err : ret;
	}
	return err ? tracee_refuse(m->why, err, t->tid, "the helper's pages could not be unmapped") : 0;
}

static int job_remove(void *ctx)
{
	struct removal *m = ctx;
	int64_t deadline_ms = tracee_now_ms() + INJECT_STOP_MS;
	__attribute__((cleanup(lend_give))) struct lend lend;
	struct tracee t;
	pid_t tid;
	int err = lend_take(m->r->pid, deadline_ms, &lend, m->why);

	if (!err)
		err = inject_choose(m->r->pid, deadline_ms, &tid, m->why);
	if (err)
		return err;
	err = tracee_seize(&t, m->r->pid, tid, PTRACE_O_TRACESYSGOOD);
	if (err)
		return tracee_refuse(m->why, err, tid, "it cannot be traced");
	tracee_interrupt(&t);
	err = tracee_wait(&t, deadline_ms);
	if (err)
		return tracee_refuse(m->why, err == -ETIMEDOUT ? -EAGAIN : err, tid, "a thread does not stop");
	err = tracee_save(&t, m->why);
	if (err) {
		tracee_detach(&t);
		return err;
	}
	err = remove_from(m, &t);
	tracee_restore(&t);
	return err;
}

static bool ended(int pidfd, int timeout_ms)
{
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};

	return poll(&pfd, 1, timeout_ms) > 0;
}

int inject_remove(struct remote *r, struct inject_err *why)
{
	struct removal m = {.r = r, .why = why};
	int err = 0;

	*why = (struct inject_err){0};
	if (r->pid <= 0) {
		remote_close(r);
		return 0;
	}
	m.same = syscall(SYS_kcmp, r->pid, r->helper, KCMP_VM, 0, 0) == 0;
	remote_kill(r);
	tracer_free(r->tracer); /* then the program can reap the helper */
	r->tracer = NULL;
	if (r->helper_pidfd >= 0)
		ended(r->helper_pidfd, 1000);
	if (!ended(r->pidfd, 0)) {
		err = tracee_run(job_remove, &m);
		if (ended(r->pidfd, 0)) /* then nothing is left */
			err = 0;
	}
	remote_close(r);
	return err;
}
