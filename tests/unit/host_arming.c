/* host_arming.c - how a guard comes into force, and everything that must not pass for one */
#include <sys/syscall.h>

#include "tests/guarded.h"
#include "tests/tap.h"

static const struct rle_run runs[] = {{{0x555555000}, {3}, 4, RW}, {{0x7ffff0000}, {10}, 2, RLE_ATTR_READ}};
static const struct filter_want want, other_want = {.demand = true};
static struct guarded g;

/* Up to the first STATUS, in which the capsule tells its listener. */
static void boot(bool jailed, const struct filter *sent)
{
	struct jail_params p = {.threads = 2};
	struct ds_shadow_boot message;
	int fd;

	guarded_init(&g, 64);
	if (jailed) {
		if (guarded_spawn(&g, "calls", &want, &p))
			errx(2, "%s: %s", g.jail_err.what, strerror(-g.jail_err.err));
	} else {
		host_exec(&g.h, "calls");
		g.jail = (struct jail){.pid = g.h.pid, .pidfd = (int)syscall(434, g.h.pid, 0)};
		if (filter_first(&want, &g.first) || filter_second(&want, &g.second))
			errx(2, "filters");
	}
	if (!sent)
		sent = &g.second;
	message = host_boot(&g.h, "calls", 1);
	fd = host_data(runs, 2, NULL, 0, &message.data);
	message.data.filter_bytes = sent->n * sizeof(struct sock_filter);
	if (pwrite(fd, sent->ins, message.data.filter_bytes, (off_t)message.data.map_bytes) < 0)
		err(2, "pwrite");
	if (authority_new(&g.authority))
		err(2, "authority_new");
	guard_init(&g.guard, g.jail.pid, g.jail.pidfd, g.authority);
	host_boot_send(&g.h, &message, fd);
}

static void end(void)
{
	guarded_end(&g);
	host_free(&g.h);
}

static int take(const struct filter *first, const struct filter *second)
{
	int rc = guard_take(&g.guard, g.h.status.guard_fd, first, second, 1000, &g.guard_err);

	if (rc)
		printf("# %s\n", g.guard_err.why);
	return rc;
}

static void test_right(void)
{
	union host_message m;

	boot(true, NULL);
	tap_ok(g.h.status.guard_fd >= 0 && !g.h.status.nexecutors, "the capsule tells its listener before it has executors");
	tap_eq(guard_sealed(&g.guard, &g.guard_err), -EPERM, "a capsule that has its listener itself is found out");
	tap_eq(host_receive(&g.h, &m, 100), -1, "it does not go on before somebody answers");
	tap_eq(take(&g.first, &g.second), 0, "the guard is taken");
	tap_ok(guarded_receive(&g, &m, HOST_TIMEOUT_MS) == DS_SHADOW_STATUS && g.h.status.guard_fd == -1 && g.h.status.nexecutors == 1,
	       "then the service starts");
	tap_eq(guard_sealed(&g.guard, &g.guard_err), 0, "and the listener is ours alone");
	end();
}

static void test_wrong(void)
{
	static struct filter second, longer;
	union host_message m;

	if (filter_second(&want, &second))
		errx(2, "filter");
	longer = second;
	longer.ins[longer.n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);

	boot(true, &longer);
	tap_eq(take(&g.first, &g.second), -EPERM, "a filter that is longer than the one that was meant");
	end();
	second.ins[second.n - 1].k ^= 1; /* another errno for everything else */
	boot(true, &second);
	tap_eq(take(&g.first, &g.second), -EPERM, "one that differs in a bit");
	end();
	boot(true, NULL);
	filter_first(&other_want, &g.first);
	tap_eq(take(&g.first, &g.second), -EPERM, "another first filter");
	end();
	boot(false, NULL);
	tap_eq(take(&g.first, &g.second), -EPERM, "no first filter");
	end();
	boot(true, NULL);
	g.h.status.guard_fd = DS_SHADOW_CTL_FD;
	tap_eq(take(&g.first, &g.second), -EPERM, "a listener that is a socket");
	end();
	boot(true, NULL);
	g.h.status.guard_fd = DS_SHADOW_RAM_FD;
	tap_eq(take(&g.first, &g.second), -EPERM, "a listener that is a file");
	end();
	boot(true, NULL);
	g.h.status.guard_fd = 50;
	tap_eq(take(&g.first, &g.second), -EBADF, "a listener that is nothing");
	end();
	boot(true, NULL);
	kill(g.jail.pid, SIGKILL);
	usleep(20000);
	tap_ok(take(&g.first, &g.second) < 0, "a capsule that has died");
	end();

	/* the capsule's own look */
	boot(true, NULL);
	{
		struct pollfd p = {.events = POLLIN};

		/* answered, but not as it should be: by a guard whose authority knows nothing */
		g.guard.listener = p.fd = (int)syscall(438, g.jail.pidfd, g.h.status.guard_fd, 0);
		poll(&p, 1, HOST_TIMEOUT_MS);
		guard_answer(&g.guard);
		tap_ok(host_receive(&g.h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_REFUSED && g.h.refused.reason == DS_SHADOW_R_GUARD &&
			       g.h.refused.value == (uint64_t)-EPERM, "a capsule whose knock is answered otherwise ends");
	}
	end();
}

static void test_unguarded(void)
{
	static const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, 0x7fff0000 /* SECCOMP_RET_ALLOW */);
	static struct filter nothing = {.n = 1};
	union host_message m;

	/* a filter that reports nothing: the knock maps a page, which is not the answer */
	nothing.ins[0] = allow;
	boot(true, &nothing);
	tap_ok(host_receive(&g.h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_REFUSED && g.h.refused.reason == DS_SHADOW_R_GUARD,
	       "a capsule whose filter reports nothing ends");
	end();
	/* one that the kernel does not take */
	nothing.ins[0].code = 0xffff;
	boot(true, &nothing);
	tap_ok(g.h.refused.reason == DS_SHADOW_R_GUARD && g.h.refused.err == -EINVAL, "so does one whose filter is none");
	end();
}

static void test_extra(void)
{
	static const struct filter_call bad[] = {{__NR_mremap, 0}, {__NR_sendmsg, 0}, {__NR_mmap, 0}, {__NR_execve, 0},
						 {__NR_io_uring_setup, 0}, {436, 0} /* close_range */, {__NR_prctl, 0}};
	static struct filter_call many[FILTER_CALLS_MAX + 1];
	struct filter f;
	unsigned int taken = 0;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct filter_want w = {.calls = &bad[i], .ncalls = 1};

		taken += filter_first(&w, &f) != -EINVAL || filter_second(&w, &f) != -EINVAL;
	}
	tap_eq(taken, 0, "no service is granted what would undo the guard");
	for (size_t i = 0; i <= FILTER_CALLS_MAX; i++)
		many[i] = (struct filter_call){__NR_splice, 63};
	tap_eq(filter_second(&(struct filter_want){.calls = many, .ncalls = FILTER_CALLS_MAX + 1}, &f), -E2BIG, "nor more calls than the limit");
	tap_eq(filter_second(&(struct filter_want){.demand = true, .calls = many, .ncalls = FILTER_CALLS_MAX}, &f), -E2BIG,
	       "or than fit into a program");
	tap_eq(filter_second(&(struct filter_want){.demand = true, .calls = many, .ncalls = 20}, &f), 0, "twenty fit");
	tap_ok(f.n * sizeof(struct sock_filter) <= DS_SHADOW_FILTER_BYTES_MAX, "and a BOOT can carry them");
}

int main(void)
{
	test_right();
	test_wrong();
	test_unguarded();
	test_extra();
	return tap_done();
}
