/* warden_pace.c - what a rule limits: given to the jail where a mechanism of the kernel keeps the limit, else kept here
 *
 * Theory of operation
 *
 * Processor time has a cgroup where one can be made; bytes a second have nothing of that kind that would count what is in the cache,
 * or on a file system without a device, or that could be had everywhere.  They are kept by pacing: the warden looks at what the
 * kernel has counted for the shadow's process, and where that is more than its time allows, the process is stopped (SIGSTOP)
 * for as long as it takes until it is not.  A shadow can neither refuse that signal nor change the counts:
 *
 *   read, write     rchar and wchar of /proc/PID/io: bytes that calls have moved, cached or not, files, pipes and sockets alike;
 *		     splice(), which is not counted, is not there then (filter.h)
 *   receive, send   bytes of the packets of its cgroup (jailnet.h)
 *   cpu             its clock (clock_getcpuclockid(3))
 *
 * What it may have beyond its rate is saved for BURST_NS, no longer; what it had too much is a debt that is paid in full,
 * however large a single call was.  It is looked at every LOOK_NS while there is something to count, and more and more seldom,
 * down to LOOK_MAX_NS, while there is not; nobody is stopped later for that, only longer.
 *
 * A shadow that is stopped answers nobody.  So it runs while a change of its map is under way, and for a moment when a call is to
 * be interrupted; both for LIFTED_NS at the most before its debt is paid, lest somebody in league with the guest lives on changes.
 *
 * A signal withdraws an mmap() that waits for the guard's answer, and the kernel makes it again later.  What the map in force
 * allows can be asked for twice, an order of a mirror that faults cannot (authority.h): so nobody is stopped while orders are
 * outstanding, which is for a moment each time.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "rle/cleanup.h"
#include "runtime/host/warden/warden_parts.h"

#define NS UINT64_C(1000000000)
#define BURST_NS (NS / 10)
#define LOOK_NS (NS / 50)
#define LOOK_MAX_NS (NS / 2)
#define STOP_MAX_NS (NS / 5) /* until it is looked at again */
#define STOP_MIN_NS (NS / 500)
#define GRACE_NS (NS / 20) /* for an interrupt */
#define ORDERS_NS (NS / 1000)
#define LIFTED_NS (5 * NS)

/* --- before the start ------------------------------------------------------------------------------------------------ */

void warden_pace_grant(const struct warden *w, struct jail_params *p)
{
	const struct policy_rule *rule = w->rule;

	p->cpu_percent = rule->cpu_percent;
	p->file_size_bytes = rule->file_size_bytes;
	p->descriptors = rule->descriptors;
	p->net = (struct jailnet_want){
		.limited = rule->net_limited,
		.counted = rule->rate[POLICY_RECEIVE] || rule->rate[POLICY_SEND],
		.connect = rule->connect.spec,
		.nconnect = rule->connect.n,
		.bind = rule->bind.spec,
		.nbind = rule->bind.n,
	};
}

/* --- counts ---------------------------------------------------------------------------------------------------------- */

/* Return: 0, -errno: it has ended. */
static int read_io(const struct warden_pace *c, uint64_t *in, uint64_t *out)
{
	char text[512];
	const ssize_t n = pread(c->io_fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return n ? -errno : -ESRCH;
	text[n] = 0;
	return sscanf(text, "rchar: %" SCNu64 " wchar: %" SCNu64, in, out) == 2 ? 0 : -EBADMSG;
}

static int read_counts(const struct warden *w, uint64_t count[static WARDEN_PACES])
{
	const struct warden_pace *c = &w->pace;
	struct timespec cpu;
	clockid_t clock;
	int rc = 0;

	if (c->io_fd >= 0)
		rc = read_io(c, &count[POLICY_READ], &count[POLICY_WRITE]);
	if (!rc && w->jail.net.counts_fd >= 0)
		rc = jailnet_counts(&w->jail.net, &count[POLICY_RECEIVE]);
	if (!rc && c->rate[WARDEN_PACE_CPU]) {
		rc = -clock_getcpuclockid(w->pid, &clock);
		if (!rc)
			rc = clock_gettime(clock, &cpu) ? -errno : 0;
		if (!rc)
			count[WARDEN_PACE_CPU] = (uint64_t)cpu.tv_sec * NS + (uint64_t)cpu.tv_nsec;
	}
	return rc;
}

/* --- pacing ---------------------------------------------------------------------------------------------------------- */

static void send_signal(struct warden *w, bool stop, uint64_t now)
{
	struct warden_pace *c = &w->pace;

	if (stop == c->stopped || syscall(__NR_pidfd_send_signal, w->pidfd, stop ? SIGSTOP : SIGCONT, NULL, 0))
		return;
	c->stopped = stop;
	if (stop)
		c->stopped_ns = now;
	else
		w->view.paced_ns += now - c->stopped_ns;
}

/* a * b / c, which does not fit in between. */
static int64_t scale(uint64_t a, uint64_t b, uint64_t c)
{
	const unsigned __int128 n = (unsigned __int128)a * b / c;

	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

/* Counts anew.  Return: how long it takes to pay what it owes most, 0: it owes nothing; @used: whether anything was used. */
static uint64_t settle(struct warden_pace *c, const uint64_t count[static WARDEN_PACES], uint64_t now, bool *used)
{
	uint64_t longest = 0;

	for (int i = 0; i < WARDEN_PACES; i++) {
		const uint64_t rate = c->rate[i];
		int64_t least;

		if (!rate)
			continue;
		least = -scale(rate, BURST_NS, NS);
		*used |= count[i] != c->last[i];
		if (count[i] > c->last[i])
			c->debt[i] += (int64_t)(count[i] - c->last[i]);
		c->last[i] = count[i];
		c->debt[i] -= scale(rate, now - c->looked_ns, NS);
		c->debt[i] = c->debt[i] < least ? least : c->debt[i];
		if (c->debt[i] > 0 && (uint64_t)scale((uint64_t)c->debt[i], NS, rate) > longest)
			longest = (uint64_t)scale((uint64_t)c->debt[i], NS, rate);
	}
	c->looked_ns = now;
	return longest;
}

/* Whether it has to run in spite of what it owes. */
static bool is_lifted(const struct warden *w, uint64_t now)
{
	const struct warden_pace *c = &w->pace;

	return c->lifted_ns < LIFTED_NS && (w->change.kind != WARDEN_CHANGE_NONE || now < c->grace_ns);
}

void warden_pace_run(struct warden *w)
{
	struct warden_pace *c = &w->pace;
	const uint64_t now = warden_now_ns(), since = now - c->looked_ns;
	uint64_t count[WARDEN_PACES], owes;
	bool used = false;

	memcpy(count, c->last, sizeof(count));
	if (read_counts(w, count)) { /* its end is noticed elsewhere */
		c->next_ns = now + LOOK_MAX_NS;
		return;
	}
	owes = settle(c, count, now, &used);
	if (!owes) {
		send_signal(w, false, now);
		c->lifted_ns = 0;
		c->interval_ns = used ? LOOK_NS : 2 * c->interval_ns < LOOK_MAX_NS ? 2 * c->interval_ns : LOOK_MAX_NS;
		c->next_ns = now + c->interval_ns;
		return;
	}
	c->interval_ns = LOOK_NS;
	if (is_lifted(w, now)) {
		c->lifted_ns += c->stopped ? 0 : since;
		send_signal(w, false, now);
		c->next_ns = now + LOOK_NS;
		return;
	}
	if (!c->stopped && authority_orders(w->authority) && c->lifted_ns < LIFTED_NS) {
		c->lifted_ns += since;
		c->next_ns = now + ORDERS_NS;
		return;
	}
	send_signal(w, true, now);
	c->next_ns = now + (owes < STOP_MIN_NS ? STOP_MIN_NS : owes < STOP_MAX_NS ? owes : STOP_MAX_NS);
}

uint64_t warden_pace_deadline_ns(const struct warden *w)
{
	/* A change has come: whoever is stopped has to run for it, now. */
	if (w->pace.stopped && w->change.kind != WARDEN_CHANGE_NONE && w->pace.lifted_ns < LIFTED_NS)
		return 0;
	return w->pace.next_ns;
}

void warden_pace_interrupt(struct warden *w)
{
	if (!w->pace.stopped)
		return;
	w->pace.grace_ns = warden_now_ns() + GRACE_NS;
	w->pace.next_ns = 0;
}

/* --- who keeps what ---------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void say(struct warden *w, const char *fmt, ...)
{
	const size_t n = strlen(w->view.limits);
	va_list ap;

	va_start(ap, fmt);
	if (n + 2 < sizeof(w->view.limits)) {
		snprintf(w->view.limits + n, sizeof(w->view.limits) - n, "%s", n ? ", " : "");
		vsnprintf(w->view.limits + n + (n ? 2 : 0), sizeof(w->view.limits) - n - (n ? 2 : 0), fmt, ap);
	}
	va_end(ap);
}

static const char *group_name(const struct warden *w, enum jailgroup_limit i, const char *otherwise)
{
	return w->jail.group.version[i] == 2 ? "cgroup v2" : w->jail.group.version[i] == 1 ? "cgroup v1" : otherwise;
}

static void tell(struct warden *w)
{
	static const char *const names[POLICY_RATES] = {"read-rate", "write-rate", "receive-rate", "send-rate"};
	const struct policy_rule *r = w->rule;
	bool rated = false;

	say(w, "memory: %s", jail_memory_name(w->jail.memory));
	say(w, "threads: %s", group_name(w, JAILGROUP_PIDS, "RLIMIT_NPROC"));
	if (r->cpu_percent)
		say(w, "cpu: %s", group_name(w, JAILGROUP_CPU, "pacing"));
	if (r->descriptors)
		say(w, "descriptors: filter");
	if (r->file_size_bytes)
		say(w, "file-size: RLIMIT_FSIZE");
	for (int i = 0; i < POLICY_RATES; i++)
		if (r->rate[i]) {
			say(w, "%s: pacing", names[i]);
			rated = true;
		}
	if (r->net_limited)
		say(w, "connect, bind: BPF");
	if (r->cpu_percent || r->descriptors || r->file_size_bytes || r->net_limited || rated)
		warden_log(w, LOG_LEVEL_INFO, "who keeps its limits: %s", w->view.limits);
}

void warden_pace_start(struct warden *w)
{
	struct warden_pace *c = &w->pace;
	bool any = false;
	char path[64];

	tell(w);
	memcpy(c->rate, w->rule->rate, sizeof(w->rule->rate));
	c->rate[WARDEN_PACE_CPU] = w->jail.group.version[JAILGROUP_CPU] ? 0 : (uint64_t)w->rule->cpu_percent * (NS / 100);
	for (int i = 0; i < WARDEN_PACES; i++)
		any |= c->rate[i] != 0;
	if (!any)
		return;
	if (c->rate[POLICY_READ] || c->rate[POLICY_WRITE]) {
		snprintf(path, sizeof(path), "/proc/%d/io", (int)w->pid);
		c->io_fd = open(path, O_RDONLY | O_CLOEXEC);
		if (c->io_fd < 0) {
			warden_end(w, DS_AGENT_C_HOST, "what it reads and writes cannot be counted (%s): %s", path, strerrordesc_np(errno));
			return;
		}
	}
	c->looked_ns = warden_now_ns();
	c->interval_ns = LOOK_NS;
	c->next_ns = c->looked_ns;
	if (read_counts(w, c->last))
		warden_end(w, DS_AGENT_C_HOST, "what it uses cannot be counted");
}

void warden_pace_free(struct warden *w)
{
	cleanup_close_fn(&w->pace.io_fd);
	w->pace.io_fd = -1;
}
