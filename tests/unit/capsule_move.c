/* capsule_move.c - the capsule moves thousands of times while its executors are blocked in system calls
 *
 * Every update is a new random layout with a run laid over the place where the capsule is, so that it has to move.  A
 * part of the guest's memory stays throughout: the buffers of the calls that are blocked.  Each executor has a job of
 * its own kind; at random moments it is given what it waits for, and its answer is held against what a process that
 * was never interrupted would get: each byte of a pipe exactly once and in order, a timeout when it is due.
 */
#include <limits.h>
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>

#include "tests/capsule_host.h"
#include "tests/services/calls.h"
#include "tests/tap.h"

#define MOVES 3000
#define RAM_PAGES 4096u
#define STAY_VPN UINT64_C(0x555555400) /* the pages that stay; page i of the RAM is page i here */
#define STAY_PAGES 512u
#define GUEST(offset) ((STAY_VPN * PAGE) + (offset))
#define NJOBS 9
#define PIPE_BYTES 65536u
#define WRITE_BYTES (1u << 20)

static struct host h;
static struct rle_run runs[128];
static size_t nruns;

/* --- jobs: one an executor --------------------------------------------------------------------------------------- */

enum job_kind { JOB_READ, JOB_READ_CAPSULE, JOB_WRITE, JOB_FUTEX, JOB_NANOSLEEP, JOB_POLL, JOB_EPOLL, JOB_SPIN, JOB_ALLOC };

static struct job {
	uint64_t started_ns;
	uint64_t rounds, wrong, late;
	uint64_t token; /* what the answer must show */
	uint64_t due;	/* iteration at which it is fed */
	bool fed;
} jobs[NJOBS];
static int pipes[NJOBS][2]; /* the capsule has inherited both ends */
static int epoll_fd;
static unsigned int iteration;
static uint64_t order_errors;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t *guest(int job, unsigned int word)
{
	return (uint64_t *)(h.ram + (unsigned int)job * 8 * PAGE) + word;
}

static uint64_t guest_address(int job, unsigned int word)
{
	return GUEST((unsigned int)job * 8 * PAGE + word * 8);
}

static void give(int job)
{
	struct calls_request r = {.op = CALLS_SYSCALL};
	struct job *j = &jobs[job];
	const uint64_t buffer = guest_address(job, 16);

	j->fed = false;
	j->due = iteration + 1 + host_random(6);
	j->token = host_random(UINT64_MAX);
	j->started_ns = now_ns();
	switch ((enum job_kind)job) {
	case JOB_READ:
		r.nr = SYS_read;
		memcpy(r.args, (uint64_t[6]){(uint64_t)pipes[job][0], buffer, 4096}, sizeof(r.args));
		break;
	case JOB_READ_CAPSULE:
		r.op = CALLS_BUFFER;
		r.nr = SYS_read;
		r.which = 1;
		r.pattern = 0x5a;
		memcpy(r.args, (uint64_t[6]){(uint64_t)pipes[job][0], 0, 4096}, sizeof(r.args));
		break;
	case JOB_WRITE: /* far more than the pipe holds: it blocks in the middle, again and again */
		for (unsigned int i = 0; i < WRITE_BYTES / 8; i++)
			((uint64_t *)(h.ram + 128 * PAGE))[i] = j->token + i;
		r.nr = SYS_write;
		memcpy(r.args, (uint64_t[6]){(uint64_t)pipes[job][1], GUEST(128 * PAGE), WRITE_BYTES}, sizeof(r.args));
		break;
	case JOB_FUTEX:
		*guest(job, 0) = 7;
		r.nr = SYS_futex; /* shared with this process through the RAM file */
		memcpy(r.args, (uint64_t[6]){guest_address(job, 0), FUTEX_WAIT, 7}, sizeof(r.args));
		break;
	case JOB_NANOSLEEP:
		guest(job, 16)[0] = 0;
		guest(job, 16)[1] = 3000000 + host_random(30000000);
		r.nr = SYS_nanosleep;
		memcpy(r.args, (uint64_t[6]){buffer}, sizeof(r.args));
		break;
	case JOB_POLL: /* nothing ever comes */
		*guest(job, 16) = (uint32_t)pipes[job][0] | (uint64_t)POLLIN << 32;
		r.nr = SYS_poll;
		memcpy(r.args, (uint64_t[6]){buffer, 1, 5 + host_random(25)}, sizeof(r.args));
		j->token = r.args[2] * 1000000u;
		break;
	case JOB_EPOLL:
		r.nr = SYS_epoll_wait;
		memcpy(r.args, (uint64_t[6]){(uint64_t)epoll_fd, buffer, 1, UINT32_MAX}, sizeof(r.args));
		break;
	case JOB_SPIN:
		r.op = CALLS_SPIN;
		r.args[0] = 2000;
		break;
	case JOB_ALLOC: /* the capsule's end moves while it is being placed */
		r.op = CALLS_ALLOC;
		r.args[0] = host_random(400000);
		break;
	}
	if (job == JOB_NANOSLEEP)
		j->token = guest(job, 16)[1];
	host_message(&h, (uint32_t)job, &r, sizeof(r));
}

/* What the executor waits for. */
static void feed(int job)
{
	struct job *j = &jobs[job];

	j->fed = true;
	switch ((enum job_kind)job) {
	case JOB_READ:
	case JOB_READ_CAPSULE:
	case JOB_EPOLL:
		if (write(pipes[job][1], &j->token, sizeof(j->token)) != sizeof(j->token))
			err(2, "pipe");
		break;
	case JOB_FUTEX:
		*guest(job, 0) = 8;
		syscall(SYS_futex, guest(job, 0), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
		break;
	default: break;
	}
}

/* Takes what the writer has written so far: all of it in order, nothing twice. */
static void drain(uint64_t bytes)
{
	static uint8_t buf[PIPE_BYTES];
	static uint64_t seen;

	while (bytes) {
		ssize_t got = read(pipes[JOB_WRITE][0], buf, bytes < sizeof(buf) ? bytes : sizeof(buf));

		if (got <= 0)
			return;
		for (ssize_t i = 0; i < got; i++, seen++) {
			uint64_t word = jobs[JOB_WRITE].token + seen / 8 % (WRITE_BYTES / 8);

			order_errors += buf[i] != (uint8_t)(word >> seen % 8 * 8);
		}
		bytes -= (uint64_t)got;
	}
}

static bool right(int job, const struct calls_answer *a)
{
	const struct job *j = &jobs[job];
	uint64_t took = now_ns() - j->started_ns, word;

	switch ((enum job_kind)job) {
	case JOB_READ: return j->fed && a->result == 8 && *guest(job, 16) == j->token;
	case JOB_READ_CAPSULE:
		memcpy(&word, a->bytes, 8);
		return j->fed && a->result == 8 && word == j->token && a->bytes[8] == 0x5a && a->bytes[63] == 0x5a;
	case JOB_WRITE: return a->result == WRITE_BYTES;
	case JOB_FUTEX: return j->fed && (a->result == 0 || a->result == -EAGAIN);
	case JOB_NANOSLEEP:
	case JOB_POLL: return a->result == 0 && took >= j->token;
	case JOB_EPOLL:
		if (!j->fed || a->result != 1 || read(pipes[job][0], &word, 8) != 8)
			return false;
		return word == j->token;
	case JOB_SPIN: return a->result == 0;
	case JOB_ALLOC: return a->result == 0 || a->result == -1; /* no room is no fault */
	}
	return false;
}

static void answer(const struct ds_shadow_message *m)
{
	const uint32_t job = m->executor;
	struct calls_answer a;

	if (job >= NJOBS || m->payload_bytes != sizeof(a))
		errx(2, "an answer of executor %u, %u bytes", job, m->payload_bytes);
	memcpy(&a, m->payload, sizeof(a));
	jobs[job].rounds++;
	if (!right((int)job, &a)) {
		if (!jobs[job].wrong++)
			printf("# job %u: result %" PRId64 ", fed %d\n", job, a.result, jobs[job].fed);
	}
	/* a timeout that begins anew at each interruption would never end here */
	if ((job == JOB_NANOSLEEP || job == JOB_POLL) && now_ns() - jobs[job].started_ns > jobs[job].token + 5000000000u)
		jobs[job].late++;
	if (job == JOB_WRITE)
		drain(WRITE_BYTES); /* what is left: the next round has other words */
	give((int)job);
}

/* --- layouts ----------------------------------------------------------------------------------------------------- */

static void add_run(uint64_t vpn, uint64_t pfn, uint32_t npages, uint32_t attr)
{
	runs[nruns++] = (struct rle_run){{vpn}, {pfn}, npages, attr};
}

static int by_vpn(const void *a, const void *b)
{
	const struct rle_run *p = a, *q = b;

	return p->vpn.n < q->vpn.n ? -1 : p->vpn.n > q->vpn.n;
}

/* Random runs, the pages that stay, and one on the capsule; those that would overlap are dropped. */
static void layout(void)
{
	const struct ds_shadow_range *c = &h.status.capsule;
	static struct rle_run all[128];
	size_t n = 0, kept = 0;

	nruns = 0;
	add_run(STAY_VPN, 0, STAY_PAGES, RW);
	/* somewhere on the capsule: on its first page, its last, or in between; one page or many */
	add_run(c->vpn + (host_random(3) ? host_random(c->npages) : (c->npages - 1) * host_random(2)), 600 + host_random(100),
		1 + (uint32_t)host_random(64), RW);
	for (size_t i = 0, want = host_random(40); i < want; i++) {
		uint64_t base = host_random(3) == 0 ? 0x555555000 : host_random(2) ? 0x7ffff0000 : 1 + host_random(0x7fff00000);

		add_run(base + host_random(5000), 1000 + host_random(2000), 1 + (uint32_t)host_random(50),
			host_random(4) ? RW : RLE_ATTR_READ);
	}
	memcpy(all, runs, nruns * sizeof(*runs));
	n = nruns;
	/* the first two have priority */
	nruns = 2;
	for (size_t i = 2; i < n; i++) {
		bool free = true;

		for (size_t k = 0; k < nruns; k++)
			free &= all[i].vpn.n > runs[k].vpn.n + runs[k].npages || runs[k].vpn.n > all[i].vpn.n + all[i].npages;
		if (free)
			runs[nruns++] = all[i];
	}
	qsort(runs, nruns, sizeof(*runs), by_vpn);
	for (kept = 0; kept < nruns; kept++)
		if (runs[kept].vpn.n < 16)
			errx(2, "layout");
}

static void inherit_pipes(void)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u64 = 99};

	/* what the capsule gives numbers of its own to (DS_SHADOW_CTL_FD and so on) must not be one of these */
	for (int fd = 0; fd <= DS_SHADOW_FAULT_DEV_FD;)
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < NJOBS; i++)
		if (pipe2(pipes[i], 0))
			err(2, "pipe");
	fcntl(pipes[JOB_WRITE][0], F_SETFL, O_NONBLOCK);
	epoll_fd = epoll_create1(0);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipes[JOB_EPOLL][0], &ev))
		err(2, "epoll");
}

static void take_answers(void)
{
	union host_message m;
	int kind;

	while ((kind = host_receive(&h, &m, 0)) == DS_SHADOW_MESSAGE)
		answer(&m.message);
	if (kind != -1)
		errx(2, "message of kind %d, reason %u", kind, h.refused.reason);
}

/* Fetches the status; answers that come first are taken. */
static void refresh(void)
{
	const struct ds_shadow_head ping = host_head(&h, DS_SHADOW_PING, sizeof(ping));
	union host_message m;
	int kind;

	host_send(&h, &ping, sizeof(ping), NULL, 0);
	while ((kind = host_receive(&h, &m, HOST_TIMEOUT_MS)) == DS_SHADOW_MESSAGE)
		answer(&m.message);
	if (kind != DS_SHADOW_STATUS)
		errx(2, "ping answered by %d", kind);
}

/* Compares while nobody makes the capsule's heap longer: its length is the same before and after. */
static const char *compare_maps(void)
{
	const char *wrong = "the capsule grows all the time";
	uint64_t before, vmas;

	for (int i = 0; i < 100; i++) {
		refresh();
		before = h.status.capsule.npages;
		wrong = model_compare(&h, runs, nruns, &vmas);
		refresh();
		if (h.status.capsule.npages == before)
			break;
	}
	return wrong;
}

int main(void)
{
	static const char *const names[NJOBS] = {
		[JOB_READ] = "read() into guest memory",	[JOB_READ_CAPSULE] = "read() into the capsule",
		[JOB_WRITE] = "write() cut short in the middle", [JOB_FUTEX] = "FUTEX_WAIT on a guest word",
		[JOB_NANOSLEEP] = "nanosleep()",		[JOB_POLL] = "poll() with a timeout",
		[JOB_EPOLL] = "epoll_wait()",			[JOB_SPIN] = "steps in C",
		[JOB_ALLOC] = "allocations"};
	unsigned int refused = 0, still = 0, bad_maps = 0, bad_words = 0;
	struct calls_request check = {.op = CALLS_CHECK}, alloc = {.op = CALLS_ALLOC, .args = {40000}};
	uint64_t began, took, places = 0, last = 0;
	union host_message m;
	char path[64];
	int fd;

	host_random_state = 20231u;
	inherit_pipes();
	host_ram(&h, RAM_PAGES);
	add_run(STAY_VPN, 0, STAY_PAGES, RW);
	if (!tap_ok(host_start(&h, "calls", NJOBS + 1, runs, nruns) == DS_SHADOW_STATUS, "a capsule with %d executors starts", NJOBS + 1))
		return tap_done();
	host_message(&h, NJOBS, &alloc, sizeof(alloc));
	host_receive(&h, &m, HOST_TIMEOUT_MS);
	for (int i = 0; i < NJOBS; i++)
		give(i);
	began = now_ns();
	for (iteration = 0; iteration < MOVES; iteration++) {
		uint64_t moves = h.status.moves;
		const struct rle_run *run;

		take_answers();
		drain(host_random(2 * PIPE_BYTES));
		for (int i = 0; i < NJOBS; i++)
			if (!jobs[i].fed && jobs[i].due <= iteration)
				feed(i);
		layout();
		if (host_update(&h, runs, nruns, NULL, 0, answer) != DS_SHADOW_STATUS) {
			refused++;
			printf("# move %u refused: reason %u, err %d, index %" PRIu64 "\n", iteration, h.refused.reason, h.refused.err,
			       h.refused.index);
			break;
		}
		still += h.status.moves != moves + 1;
		places += h.status.capsule.vpn != last;
		last = h.status.capsule.vpn;
		if (iteration % 50 == 0) {
			const char *wrong = compare_maps();

			if (wrong && !bad_maps++)
				printf("# after move %u: %s\n", iteration, wrong);
		}
		/* a word of the memory that changed, through a plain pointer of the service; and everything it keeps */
		if (iteration % 10 == 0) {
			struct calls_request load = {.op = CALLS_LOAD};
			struct calls_answer a;

			run = &runs[host_random(nruns)];
			if (run->vpn.n == STAY_VPN)
				continue;
			load.args[0] = run->vpn.n * PAGE;
			host_message(&h, NJOBS, iteration % 20 ? &check : &load, sizeof(load));
			while (host_receive(&h, &m, HOST_TIMEOUT_MS) == DS_SHADOW_MESSAGE && m.message.executor != NJOBS)
				answer(&m.message);
			memcpy(&a, m.message.payload, sizeof(a));
			if (m.head.kind != DS_SHADOW_MESSAGE || a.result != (iteration % 20 ? 0 : (int64_t)host_word(run->pfn.n)))
				bad_words++;
		}
	}
	took = now_ns() - began;
	tap_eq(refused, 0, "no update was refused");
	tap_eq(still, 0, "every one of %d updates that land on the capsule moves it", MOVES);
	tap_ok(places == MOVES, "each time to another place (%" PRIu64 ")", places);
	tap_eq(bad_maps, 0, "capsule and mirror are all there is in the address space, page by page, in every 50th layout");
	tap_eq(bad_words, 0, "memory read through plain pointers, kept allocations and relocated words are right");
	for (int i = 0; i < NJOBS; i++)
		tap_ok(!jobs[i].wrong && jobs[i].rounds >= 3, "%s: %" PRIu64 " times, each exactly once (%" PRIu64 " wrong)",
		       names[i], jobs[i].rounds, jobs[i].wrong);
	tap_eq(jobs[JOB_NANOSLEEP].late + jobs[JOB_POLL].late, 0, "interruptions do not lengthen timeouts");
	tap_eq(order_errors, 0, "a write that is interrupted many times puts each byte into the pipe once and in order");
	snprintf(path, sizeof(path), "/proc/%d/cmdline", h.pid);
	fd = open(path, O_RDONLY);
	tap_ok(read(fd, path, sizeof(path)) == 6 && !strcmp(path, "calls"), "/proc/PID/cmdline has moved along");
	close(fd);
	printf("# %" PRIu64 " us an update with a move of %d executors; %" PRIu64 " calls issued again\n", took / 1000 / MOVES, NJOBS + 1,
	       h.status.restarts);
	tap_ok(h.status.restarts > MOVES, "calls were blocked and issued again (%" PRIu64 ")", h.status.restarts);
	tap_eq(host_end(&h), 0, "the shadow ends when its channel is closed, whatever its executors do");
	host_free(&h);
	return tap_done();
}
