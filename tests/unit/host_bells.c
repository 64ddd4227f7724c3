/* host_bells.c - threads of a guest that bring bells: whose is which, who is refused, floods, ends; with real wardens and capsules
 *
 * getpid() is the call: it is 1 in a shadow, so a right answer comes from there.
 */
#include "tests/forward_guest.h"

#include <time.h>

#include "tests/tap.h"

static const char rules[] = "allow program=/usr/bin/guest service=forward executors=64 max-pages=1000\n"
			    "allow program=/usr/bin/two service=forward executors=2 max-pages=1000\n";
static struct shadow first, second;

static int count_fds(pid_t pid)
{
	return open_fds(pid ? pid : getpid());
}

/* An interrupt that comes late meets this call, which is then to be posted again (forward.h). */
static int64_t getpid_of(struct thread *t)
{
	int64_t result;

	do
		result = thread_call(t, __NR_getpid, 0, 0, 0, 0, 0);
	while (result == -EINTR);
	return result;
}

static uint64_t switches(pid_t pid)
{
	char path[64], line[128];
	unsigned long long n = 0, a;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "voluntary_ctxt_switches: %llu", &a) == 1)
			n += a;
	if (f)
		fclose(f);
	return n;
}

static void test_tokens(void)
{
	static const uint8_t none[DS_AGENT_TOKEN_BYTES];
	struct thread t;
	unsigned int taken = 0;

	tap_eq(vm_shadow(&first, "/usr/bin/guest"), DS_AGENT_STARTED, "a shadow starts");
	tap_eq(vm_shadow(&second, "/usr/bin/guest"), DS_AGENT_STARTED, "and another");
	tap_ok(memcmp(first.a.started.token, none, sizeof(none)) && memcmp(first.a.started.token, second.a.started.token, sizeof(none)),
	       "each has a token of its own");
	tap_ok(thread_start(&t, first.a.started.token, 0, 0, 0), "a bell with the token gets an executor");
	tap_eq(getpid_of(&t), 1, "which makes calls in the shadow");
	for (int ms = 0; ms < 60000 && !vm_view(0).bells; ms += 10) /* the board is filled in after the answer */
		pump(10);
	tap_ok(vm_view(0).bells == 1 && vm_view(1).bells == 0, "of the shadow whose token it is");
	close(t.bell);
	for (unsigned int bit = 0; bit < 128; bit++) {
		uint8_t token[DS_AGENT_TOKEN_BYTES];

		memcpy(token, first.a.started.token, sizeof(token));
		token[bit / 8] ^= (uint8_t)(1u << bit % 8);
		taken += thread_start(&t, token, 1, 0, 0);
	}
	taken += thread_start(&t, none, 1, 0, 0);
	tap_eq(taken, 0, "128 tokens that are off by a bit, and that of no shadow, get nothing");
	tap_eq(bells_refused(bells), 129, "they are counted");
	tap_ok(vm_end(&second) && !thread_start(&t, second.a.started.token, 1, 0, 0), "nor does that of a shadow which has ended");
}

static void test_hellos(void)
{
	const struct ds_forward_hello good = bell_hello(first.a.started.token, at_guest(2));
	struct ds_forward_hello bad[7];
	struct thread t = {.slot = (void *)at_host(2)};
	unsigned int ended = 0;
	uint32_t port;

	for (int i = 0; i < 7; i++)
		bad[i] = good;
	bad[0].magic++;
	bad[1].version++;
	bad[2].zero = 1;
	bad[3].slot += 64;
	bad[4].slot = UINT64_C(1) << 47;
	bad[5].slot = UINT64_MAX & ~UINT64_C(127);
	bad[6].magic = DS_AGENT_MAGIC;
	for (int i = 0; i < 7; i++) {
		int fd = bell_connect(&port);

		if (write(fd, &bad[i], sizeof(bad[i])) != sizeof(bad[i]))
			err(2, "write");
		ended += bell_ends(fd, 1000);
		close(fd);
	}
	tap_eq(ended, 7, "hellos that are not as they have to be end their stream");

	*t.slot = (struct ds_forward_slot){.host_asleep = 2, .posted = 1, .nr = __NR_getpid};
	t.bell = bell_connect(&t.port);
	for (size_t i = 0; i < sizeof(good); i++) {
		if (write(t.bell, (const char *)&good + i, 1) != 1)
			err(2, "write");
		pump(1);
	}
	tap_ok(thread_done(&t, 3000) && t.slot->result == 1, "a hello may come byte by byte, and the call be there before it");
	tap_eq(write(t.bell, "\1\1\1\1\1", 5), 5, "rings without need");
	tap_eq(getpid_of(&t), 1, "do no harm");
	close(t.bell);
}

static uint64_t ms_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void test_silent(void)
{
	int fd[200];
	unsigned int open = 0, late;
	struct thread t;
	uint32_t port;
	uint64_t from;
	const int before = count_fds(0);

	for (int i = 0; i < 200; i++)
		fd[i] = bell_connect(&port);
	tap_eq(count_fds(0) - before, 200 + (int)BELLS_WAITING_MAX, "of 200 that say nothing 64 are kept");
	tap_ok(thread_start(&t, first.a.started.token, 3, 0, 0) && getpid_of(&t) == 1, "meanwhile who says something is served");
	close(t.bell);
	from = ms_now();
	while (ms_now() - from < 4000 && count_fds(0) > before + 200)
		pump(10);
	late = (unsigned int)(ms_now() - from);
	for (int i = 0; i < 200; i++) {
		char byte;

		open += recv(fd[i], &byte, 1, MSG_DONTWAIT) != 0;
		close(fd[i]);
	}
	tap_ok(open == 0 && late > 1000 && late < 3000, "after two seconds none is left (%u ms)", late);
	tap_eq(count_fds(0), before, "no descriptor is lost");
}

static void test_many(void)
{
	static struct thread many[65];
	unsigned int up = 0, right = 0;
	bool back = false;

	for (int ms = 0; ms < 3000 && vm_view(0).bells_ended < vm_view(0).bells; ms += 10)
		pump(10);
	for (uint32_t i = 0; i < 64; i++)
		up += thread_start(&many[i], first.a.started.token, 4 + i / 8, i % 8, 0);
	tap_eq(up, 64, "64 threads get an executor each");
	for (int round = 0; round < 10; round++)
		for (uint32_t i = 0; i < 64; i++)
			right += getpid_of(&many[i]) == 1;
	tap_eq(right, 640, "all of them answer");
	tap_ok(!thread_start(&many[64], first.a.started.token, 20, 0, 0), "one more is sent away");
	tap_ok(vm_view(0).refused_bells >= 1 && vm_view(0).bells - vm_view(0).bells_ended == 64, "which is counted");
	close(many[7].bell);
	for (int i = 0; i < 100 && !back; i++) {
		pump(10);
		back = thread_start(&many[7], first.a.started.token, 21, 0, 0);
	}
	tap_ok(back && getpid_of(&many[7]) == 1, "when a bell ends its executor is free for another thread");
	for (uint32_t i = 0; i < 64; i++)
		close(many[i].bell);
	for (int ms = 0; ms < 3000 && vm_view(0).bells_ended < vm_view(0).bells; ms += 10)
		pump(10);
	tap_eq(vm_view(0).bells_ended, vm_view(0).bells, "all bells end, all executors are free");
	tap_ok(vm_view(0).forwarded >= 641, "the calls are counted (%llu)", (unsigned long long)vm_view(0).forwarded);
}

static void test_floods(void)
{
	static uint8_t bytes[1 << 16];
	struct iovec iov = {bytes, sizeof(bytes)};
	const pid_t warden = vm_view(0).warden_pid;
	uint64_t before;
	unsigned int right = 0;
	struct thread t;
	time_t began;

	tap_ok(thread_start(&t, first.a.started.token, 5, 0, 0), "a thread");
	usleep(100000);
	before = switches(warden);
	began = time(NULL);
	for (int i = 0; i < 1000; i++)
		right += getpid_of(&t) == 1;
	/* reports come about once a second */
	tap_ok(right == 1000 && switches(warden) - before < 20 + 2 * (uint64_t)(time(NULL) - began), "1000 calls with a sleep and a ring each do not wake the warden (%llu times)",
	       (unsigned long long)(switches(warden) - before));
	memset(bytes, DS_FORWARD_INTERRUPT, sizeof(bytes));
	for (int i = 0; i < 20000; i++) {
		iov.iov_len = sizeof(bytes);
		bells_look(bells, t.port, &iov, 1, 1);
		if (i % 100 == 0 && send(t.bell, bytes, sizeof(bytes), MSG_DONTWAIT) < 0 && errno != EAGAIN)
			err(2, "flood");
	}
	right = 0;
	for (int i = 0; i < 100; i++)
		right += getpid_of(&t) == 1;
	tap_eq(right, 100, "20000 interrupts and as many rings as it takes: it still serves");
	bells_look(bells, t.port + 1, &iov, 1, 1);
	for (int ms = 0; ms < 60000 && !vm_view(0).interrupts; ms += 10)
		pump(10);
	tap_ok(vm_view(0).interrupts > 0 && vm_view(0).state == WARDEN_RUN, "and they are counted");
	close(t.bell);
}

static void test_ends(void)
{
	struct thread t[8];
	const int before = count_fds(0);
	unsigned int ended = 0;
	pid_t capsule;

	/* The executor of the bell that was closed a moment ago may not be free yet: its interrupts come first. */
	for (uint32_t i = 0, tries = 0; i < 8 && tries < 1000; tries++) {
		if (thread_start(&t[i], first.a.started.token, 6, i, 1000000))
			i++;
		else
			pump(20);
	}
	for (uint32_t i = 0; i < 8; i++)
		thread_post(&t[i], __NR_getpid, (const uint64_t[6]){0});
	capsule = vm_view(0).capsule_pid;
	tap_ok(vm_end(&first) && kill(capsule, 0), "the agent goes while threads make calls: nothing is left");
	for (uint32_t i = 0; i < 8; i++) {
		ended += bell_ends(t[i].bell, 100);
		close(t[i].bell);
	}
	tap_eq(ended, 8, "their bells have ended");
	tap_eq(count_fds(0), before - 3, "no descriptor of it is left here"); /* the agent's, the stream, the warden's channel */

	tap_eq(vm_shadow(&first, "/usr/bin/guest"), DS_AGENT_STARTED, "another shadow");
	for (uint32_t i = 0; i < 8; i++)
		thread_start(&t[i], first.a.started.token, 7, i, 0);
	kill(vm_view(0).warden_pid, SIGKILL);
	ended = 0;
	for (uint32_t i = 0; i < 8; i++) {
		ended += bell_ends(t[i].bell, 2000);
		close(t[i].bell);
	}
	tap_eq(ended, 8, "its warden is killed: so do these");
	close(first.a.fd);
	for (int i = 0; i < 6000 && shadows_count(row); i++)
		pump(10);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	vm_begin(rules);
	test_tokens();
	test_hellos();
	test_silent();
	test_many();
	test_floods();
	test_ends();
	bells_free(bells);
	shadows_free(row);
	tap_eq(left_processes(), 0, "no process is left");
	return tap_done();
}
