/* warden.c - the loop of a warden, and its end; theory in warden.h */
#include "runtime/host/warden/warden.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>

#include "rle/cleanup.h"
#include "runtime/host/reasons.h"
#include "runtime/host/warden/warden_parts.h"

#define HELLO_MS 10000u
#define CAPSULE_MS 10000u
#define STOP_MS 5000u
#define FAULT_MS 30000u
#define WRITE_MS 30000u
#define LAST_WORDS_MS 1000u /* for the guest to take ENDED */

enum { AT_STREAM, AT_CTL, AT_PID, AT_GUARD, AT_FAULT, AT_SIGNAL, AT_BELLS, AT_BELL_ENDS, AT_WINDOW, AT_END };

uint64_t warden_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

uint64_t warden_after_ms(uint64_t ms)
{
	return warden_now_ns() + ms * 1000000u;
}

void warden_log(struct warden *w, enum log_level level, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (w->log_lines++ >= WARDEN_LOG_LINES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (w->who.head.kind)
		log_line(level, "vm %s: guest process %" PRIu64 " (%.300s, uid %u): %s", w->p->vm, w->who.pid, w->who.program,
			 w->who.uid, text);
	else
		log_line(level, "vm %s: agent at guest port %u: %s", w->p->vm, w->p->guest_port, text);
	if (w->log_lines == WARDEN_LOG_LINES)
		log_line(level, "vm %s: guest process %" PRIu64 ": no more lines about this shadow", w->p->vm, w->who.pid);
}

void warden_end(struct warden *w, uint32_t code, const char *fmt, ...)
{
	char text[DS_AGENT_TEXT_BYTES];
	va_list ap;

	if (w->ended)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_escape(w->view.text, sizeof(w->view.text), text);
	w->view.code = code;
	w->ended = true;
	w->exit_status = code == 0 ? 0 : code == DS_AGENT_C_HOST ? 2 : 1;
}

/* --- the start --------------------------------------------------------------------------------------------------- */

static uint32_t or_usual(uint32_t given, uint32_t usual)
{
	return given ? given : usual;
}

/* All but 0, 1, 2 and these, which are sorted here. */
static void close_others(int keep[], size_t n)
{
	unsigned int from = 3;

	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k && keep[k] < keep[k - 1]; k--) {
			const int other = keep[k];

			keep[k] = keep[k - 1];
			keep[k - 1] = other;
		}
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)from)
			continue;
		if (keep[i] > (int)from)
			close_range(from, (unsigned int)keep[i] - 1, 0);
		from = (unsigned int)keep[i] + 1;
	}
	close_range(from, ~0u, 0);
}

static uint64_t read_number(const char *path, uint64_t otherwise)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32] = "";
	char *end;
	uint64_t n;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return otherwise;
	n = strtoull(text, &end, 10);
	return end == text ? otherwise : n;
}

/* Return: the signalfd that SIGTERM comes by; -errno. */
static int set_signals(void)
{
	static const int ignored[] = {SIGPIPE, SIGINT, SIGHUP, SIGQUIT};
	sigset_t set;
	int fd;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	if (sigprocmask(SIG_SETMASK, &set, NULL))
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Return: 0, or -errno: the warden cannot begin. */
static int prepare(struct warden *w, int *signal_fd)
{
	const struct warden_params *p = w->p;
	char path[32];
	int flags;

	if (p->parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != p->parent)
			return -ESRCH;
	}
	close_others((int[]){p->stream_fd, p->ram_fd, p->bells_fd, p->window_fd}, 4);
	*signal_fd = set_signals();
	if (*signal_fd < 0)
		return *signal_fd;
	flags = fcntl(p->stream_fd, F_GETFL);
	if (flags < 0 || fcntl(p->stream_fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	/* The same file once more, for reading: what the capsule is not to write it maps through this one. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->ram_fd);
	w->ram_ro_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (w->ram_ro_fd < 0)
		return -errno;
	flags = warden_bell_prepare(w);
	if (flags)
		return flags;
	w->max_maps = read_number("/proc/sys/vm/max_map_count", 65530);
	w->min_vpn = (read_number("/proc/sys/vm/mmap_min_addr", 65536) + DS_PAGE_BYTES - 1) >> DS_PAGE_SHIFT;
	return 0;
}

static struct warden *new_warden(const struct warden_params *p)
{
	struct warden *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->p = p;
	w->times = (struct warden_times){
		.hello_ms = or_usual(p->times.hello_ms, HELLO_MS),
		.capsule_ms = or_usual(p->times.capsule_ms, CAPSULE_MS),
		.stop_ms = or_usual(p->times.stop_ms, STOP_MS),
		.fault_ms = or_usual(p->times.fault_ms, FAULT_MS),
		.write_ms = or_usual(p->times.write_ms, WRITE_MS),
	};
	if (w->times.stop_ms > DS_SHADOW_STOP_MS_MAX)
		w->times.stop_ms = DS_SHADOW_STOP_MS_MAX;
	w->stream_fd = p->stream_fd;
	agentmsg_init(&w->in);
	w->hello_deadline_ns = warden_after_ms(w->times.hello_ms);
	w->part_deadline_ns = w->out_deadline_ns = w->change.deadline_ns = WARDEN_NEVER;
	w->pidfd = w->ctl_fd = w->ram_ro_fd = w->change.data_fd = w->guard.listener = w->gone.maps_fd =
		w->fault_dev_fd = -1;
	w->bells_fd = w->bell_ends_fd = -1;
	w->window.fd = p->window_fd > 0 ? p->window_fd : -1;
	w->window.lease_fd = -1;
	w->bell_again_ns = WARDEN_NEVER;
	w->pace = (struct warden_pace){.next_ns = WARDEN_NEVER, .io_fd = -1};
	w->queue_end = &w->queue;
	w->later_end = &w->later;
	w->view.warden_pid = getpid();
	return w;
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static uint64_t min_ns(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static int poll_timeout_ms(const struct warden *w)
{
	const uint64_t first = min_ns(w->hello_deadline_ns, w->part_deadline_ns);
	const uint64_t guest = min_ns(first, min_ns(w->out_deadline_ns, warden_demand_deadline_ns(w)));
	const uint64_t capsule = min_ns(min_ns(w->change.deadline_ns, w->bell_again_ns), warden_pace_deadline_ns(w));
	const uint64_t next = min_ns(guest, capsule), now = warden_now_ns();

	if (next == WARDEN_NEVER)
		return -1;
	return next <= now ? 0 : (int)min_ns((next - now) / 1000000 + 1, 3600000);
}

static void check_deadlines(struct warden *w)
{
	const uint64_t now = warden_now_ns();

	if (now >= w->hello_deadline_ns)
		warden_end(w, DS_AGENT_C_TIMEOUT, "the agent did not say %s in time",
			   w->state == WARDEN_HELLO ? "HELLO" : "ATTACH");
	if (now >= w->part_deadline_ns)
		warden_end(w, DS_AGENT_C_TIMEOUT, "the agent began a message and did not finish it in time");
	if (now >= w->out_deadline_ns)
		warden_end(w, DS_AGENT_C_TIMEOUT, "the agent does not read what it is sent");
	if (now >= warden_demand_deadline_ns(w))
		warden_end(w, DS_AGENT_C_TIMEOUT, "the agent did not answer a fault in time");
	if (now >= w->change.deadline_ns)
		warden_end(w, w->state == WARDEN_RUN ? DS_AGENT_C_GONE : DS_AGENT_C_SHADOW,
			   "the shadow did not answer in time");
	if (now >= w->bell_again_ns)
		warden_bell_again(w);
	if (now >= warden_pace_deadline_ns(w))
		warden_pace_run(w);
}

/* What the guest says is read as long as there is room for it in the order of things. */
static short stream_events(const struct warden *w)
{
	const bool reading = w->state != WARDEN_START && !w->held;

	return (short)(POLLRDHUP | (reading ? POLLIN : 0) | (w->out_have ? POLLOUT : 0));
}

static void handle(struct warden *w, const struct pollfd *at)
{
	/* What the capsule said before it died comes first, so that a fault is not taken for an exit. */
	if (at[AT_CTL].revents & (POLLIN | POLLHUP | POLLERR))
		warden_capsule_read(w);
	if (at[AT_CTL].revents & POLLOUT)
		w->ctl_full = false;
	if (at[AT_GUARD].revents & POLLIN)
		warden_guard_answer(w);
	if (at[AT_FAULT].revents & POLLIN && !w->ended)
		warden_demand_run(w);
	if (at[AT_PID].revents)
		warden_capsule_gone(w);
	if (at[AT_BELL_ENDS].revents && !w->ended)
		warden_bell_ends(w);
	if (at[AT_BELLS].revents && !w->ended)
		warden_bell_read(w);
	if (at[AT_WINDOW].revents && !w->ended)
		warden_window_read(w);
	if (at[AT_SIGNAL].revents)
		warden_end(w, DS_AGENT_C_GONE, "ended by the host");
	if (at[AT_STREAM].revents & POLLOUT)
		warden_stream_write(w);
	if (at[AT_STREAM].revents & (POLLHUP | POLLERR | POLLRDHUP))
		warden_end(w, 0, "the guest closed the stream");
	else if (at[AT_STREAM].revents & POLLIN)
		warden_stream_read(w);
	/* What could not be sent to the capsule before, in the order in which it has to arrive. */
	if (!w->ctl_full && !w->ended) {
		warden_demand_flush(w);
		warden_change_send(w);
		warden_reach_send(w);
		warden_call_pump(w);
	}
}

static void loop(struct warden *w, int signal_fd)
{
	while (!w->ended) {
		struct pollfd at[AT_END] = {
			[AT_STREAM] = {.fd = w->stream_fd, .events = stream_events(w)},
			[AT_CTL] = {.fd = w->ctl_fd, .events = (short)(POLLIN | (w->ctl_full ? POLLOUT : 0))},
			[AT_PID] = {.fd = w->pidfd, .events = POLLIN},
			[AT_GUARD] = {.fd = w->guard.listener, .events = POLLIN},
			[AT_FAULT] = {.fd = w->demand && w->state == WARDEN_RUN ? demand_fd(w->demand) : -1, .events = POLLIN},
			[AT_SIGNAL] = {.fd = signal_fd, .events = POLLIN},
			[AT_BELLS] = {.fd = w->bells_fd, .events = POLLIN},
			[AT_BELL_ENDS] = {.fd = w->bell_ends_fd, .events = POLLIN},
			[AT_WINDOW] = {.fd = w->window.fd, .events = POLLIN},
		};

		warden_demand_view(w);
		warden_stat_write(w->p->stat, &w->view);
		if (poll(at, AT_END, poll_timeout_ms(w)) < 0) {
			if (errno != EINTR)
				warden_end(w, DS_AGENT_C_HOST, "poll: %s", strerrordesc_np(errno));
			continue;
		}
		handle(w, at);
		check_deadlines(w);
		w->view.state = w->state;
	}
}

/* --- the end ----------------------------------------------------------------------------------------------------- */

/* The guest is told, and given a moment to take it. */
static void last_words(struct warden *w)
{
	const uint64_t until = warden_after_ms(LAST_WORDS_MS);
	const bool refused = w->who.head.kind && w->state != WARDEN_RUN;

	if (!w->view.code)
		return;
	warden_refuse(w, refused ? DS_AGENT_REFUSED : DS_AGENT_ENDED, refused ? w->who.head.seq : 0, w->view.code,
		      w->view.text);
	for (;;) {
		struct pollfd at = {.fd = w->stream_fd, .events = POLLOUT};

		warden_stream_write(w);
		if (!w->out_have || warden_now_ns() >= until || poll(&at, 1, 50) < 0 || at.revents & (POLLERR | POLLHUP))
			return;
	}
}

static void finish(struct warden *w)
{
	const enum log_level level = w->view.code ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO;

	w->log_lines = 0; /* this one is always written */
	warden_capsule_kill(w);
	if (w->state == WARDEN_RUN && w->view.bells)
		warden_log(w, level, "the shadow has ended: %s; it had %" PRIu64 " bells and told of %" PRIu64 " calls, with %" PRIu64 " interrupts",
			   w->view.text, w->view.bells, w->view.forwarded, w->view.interrupts);
	else if (w->state == WARDEN_RUN)
		warden_log(w, level, "the shadow has ended: %s", w->view.text);
	else if (w->view.code || w->who.head.kind)
		warden_log(w, level, "no shadow (%s): %s", reasons_code(w->view.code), w->view.text);
	last_words(w);
	w->view.state = WARDEN_END;
	w->view.capsule_pid = 0;
	warden_stat_write(w->p->stat, &w->view);
	close(w->stream_fd);
}

static void free_warden(struct warden *w)
{
	warden_guard_free(w);
	agentmsg_free(&w->in);
	warden_map_free(&w->now);
	warden_map_free(&w->change.coming);
	cleanup_close_fn(&w->change.data_fd);
	cleanup_close_fn(&w->ram_ro_fd);
	cleanup_close_fn(&w->fault_dev_fd);
	demand_free(w->demand);
	warden_call_free(w);
	warden_bell_free(w);
	warden_pace_free(w);
	warden_window_free(w);
	warden_estate_free(w);
	warden_stream_free(w);
	free(w->out);
	free(w);
}

int warden_main(const struct warden_params *p)
{
	struct warden *w = new_warden(p);
	int signal_fd = -1, r, status;

	if (!w) {
		log_line(LOG_LEVEL_ERR, "vm %s: no memory for another shadow", p->vm);
		return 2;
	}
	r = prepare(w, &signal_fd);
	if (r)
		warden_end(w, DS_AGENT_C_HOST, "the host cannot guard another shadow: %s", strerrordesc_np(-r));
	loop(w, signal_fd);
	finish(w);
	status = w->exit_status;
	cleanup_close_fn(&signal_fd);
	free_warden(w);
	return status;
}
