/* host_estate.c - descriptors go from shadow to shadow by way of an estate; with real wardens and capsules, and a played guest
 *
 * The descriptors are pipes that a shadow has opened, so that what is said at one end is heard at the other, and the end of
 * the last writer is seen.  What a shadow has open is looked at in /proc, from outside.
 */
#include "tests/estate_guest.h"

#include <sys/stat.h>

#include "runtime/host/warden/keeper.h"
#include "tests/tap.h"

#define DATA 40u /* pages of the guest's process: buffers */

static const char rules[] = "allow program=/usr/bin/guest service=forward executors=4 max-pages=1000 calls=poll\n";
static struct shadow first, second;
static struct thread t1, t2;
/* A pipe in the shadow of @t, at these two numbers. */
static bool make_pipe(struct thread *t, int reader, int writer)
{
	const int32_t *fds = (const int32_t *)(const void *)at_host(DATA);

	if (thread_call(t, __NR_pipe2, at_guest(DATA), O_NONBLOCK, 0, 0, 0))
		return false;
	return thread_call(t, __NR_dup3, (uint64_t)fds[0], (uint64_t)reader, 0, 0, 0) == reader &&
	       thread_call(t, __NR_dup3, (uint64_t)fds[1], (uint64_t)writer, 0, 0, 0) == writer &&
	       thread_call(t, __NR_close, (uint64_t)fds[0], 0, 0, 0, 0) == 0 && thread_call(t, __NR_close, (uint64_t)fds[1], 0, 0, 0, 0) == 0;
}

static int64_t say(struct thread *t, int fd, const char *text)
{
	memcpy(at_host(DATA), text, strlen(text));
	return thread_call(t, __NR_write, (uint64_t)fd, at_guest(DATA), strlen(text), 0, 0);
}

static bool hears(struct thread *t, int fd, const char *text)
{
	memset(at_host(DATA + 1), 0, 64);
	return thread_call(t, __NR_read, (uint64_t)fd, at_guest(DATA + 1), 64, 0, 0) == (int64_t)strlen(text) &&
	       !memcmp(at_host(DATA + 1), text, strlen(text));
}

/* What read() says at the reader, until it is its end or @ms have passed. */
static int64_t hears_end(struct thread *t, int fd, int ms)
{
	int64_t got = 0;

	for (int i = 0; i < ms; i++) {
		got = thread_call(t, __NR_read, (uint64_t)fd, at_guest(DATA + 1), 64, 0, 0);
		if (got == 0)
			break;
		pump_all();
	}
	return got;
}

static void test_handed_on(void)
{
	const struct ds_estate_pair lay[] = {{5, 5}, {6, 9}, {7, 7}}, all[] = {{5, 20}, {9, 21}};
	struct answer a, b;
	int fd = estate_connect(), copy;

	tap_ok(make_pipe(&t1, 5, 6), "a shadow has a pipe at 5 and 6");
	tap_eq(request(fd, DS_ESTATE_HELLO, first.a.started.token, lay, 3, &a), 2, "5, 6 and 7 are laid aside: two are there");
	tap_ok(a.number[0] == 5 && a.number[1] == 9, "at the numbers that were wanted");
	tap_eq(request(fd, DS_ESTATE_CLAIM, second.a.started.token, all, 2, &b), 2, "another shadow claims them");
	tap_ok(b.number[0] == 20 && b.number[1] == 21, "at other numbers");
	tap_ok(say(&t1, 6, "hello") == 5 && hears(&t2, 20, "hello"), "what the first writes the second reads");
	tap_ok(say(&t2, 21, "and back") == 8 && hears(&t1, 5, "and back"), "and back");
	copy = estate_connect();
	tap_eq(request(copy, DS_ESTATE_HELLO, a.head.token, NULL, 0, &b), 2, "an estate is copied by its token");
	tap_ok(memcmp(a.head.token, b.head.token, sizeof(a.head.token)), "and the copy has one of its own");
	tap_eq(request(copy, DS_ESTATE_DROP, NULL, (const struct ds_estate_pair[]){{5, 0}}, 1, &b), 0, "of which one is dropped");
	tap_eq(request(copy, DS_ESTATE_CLAIM, first.a.started.token, NULL, 0, &b), 1, "so the other can be claimed, back");
	tap_ok(b.number[0] == 9 && say(&t1, 9, "x") == 1 && hears(&t2, 20, "x"), "at the number that it has there");

	/* The end of the last writer: 6 and 9 of the first, 21 of the second, one in each estate. */
	thread_call(&t1, __NR_close, 6, 0, 0, 0, 0);
	thread_call(&t1, __NR_close, 9, 0, 0, 0, 0);
	thread_call(&t2, __NR_close, 21, 0, 0, 0, 0);
	tap_eq(hears_end(&t2, 20, 300), -EAGAIN, "estates keep a pipe open");
	close(copy);
	tap_eq(request(fd, DS_ESTATE_DROP, NULL, (const struct ds_estate_pair[]){{9, 0}}, 1, &b), 0, "until it is dropped from one");
	tap_eq(hears_end(&t2, 20, 60000), 0, "and the stream of the other has ended");
	close(fd);
	thread_call(&t1, __NR_close, 5, 0, 0, 0, 0);
	thread_call(&t2, __NR_close, 20, 0, 0, 0, 0);
}

static void test_many(void)
{
	struct ds_estate_pair pair[200];
	struct answer a;
	int fd = estate_connect();
	bool right = true;

	tap_ok(make_pipe(&t1, 5, 6), "a pipe");
	for (uint16_t i = 0; i < 200; i++) {
		pair[i] = (struct ds_estate_pair){i < 100 ? 5 : 6, (uint16_t)(300 + i)};
		thread_call(&t1, __NR_dup3, 6, 100u + i, 0, 0, 0);
	}
	for (uint16_t i = 100; i < 200; i++)
		pair[i].from = (uint16_t)(100 + i);
	tap_eq(request(fd, DS_ESTATE_HELLO, first.a.started.token, pair, 200, &a), 200, "200 descriptors are laid aside, half of them copies of one");
	tap_eq(request(fd, DS_ESTATE_CLAIM, second.a.started.token, NULL, 0, &a), 200, "and claimed, in several rounds");
	for (uint16_t i = 0; i < 100; i++)
		right &= say(&t2, 400 + i, "y") == 1 && hears(&t1, 5, "y");
	tap_ok(right, "each is what it was");
	close(fd);
	for (uint16_t i = 0; i < 200; i++) {
		thread_call(&t1, __NR_close, 100u + i, 0, 0, 0, 0);
		thread_call(&t2, __NR_close, 300u + i, 0, 0, 0, 0);
	}
}

static void test_refused(void)
{
	const struct ds_estate_pair own[] = {{DS_SHADOW_RAM_FD, 3}, {DS_SHADOW_RAM_RO_FD, 4}, {DS_SHADOW_CTL_FD, 5}, {DS_SHADOW_BELL_FD, 6},
					     {DS_SHADOW_HOLD_FD, 7}, {65535, 8}, {6, 9}},
				    high[] = {{9, DS_SHADOW_RAM_FD}};
	uint8_t wrong[DS_ESTATE_TOKEN_BYTES];
	struct ds_estate_request bad = {.magic = DS_ESTATE_MAGIC + 1};
	struct answer a;
	int fd = estate_connect(), ended = 0;
	unsigned int taken = 0;

	tap_eq(request(fd, DS_ESTATE_HELLO, first.a.started.token, own, 7, &a), 1, "of the capsule's own descriptors none is laid aside");
	tap_eq(a.number[0], 9, "of the guest's program it is");
	tap_eq(request(fd, DS_ESTATE_CLAIM, second.a.started.token, high, 1, &a), -ENOENT, "none gets the number of one of the capsule's");
	tap_ok(thread_call(&t2, __NR_getpid, 0, 0, 0, 0, 0) == 1, "and the shadow lives");
	tap_eq(request(fd, DS_ESTATE_HELLO, first.a.started.token, own, 1, &a), -1000, "a second HELLO ends the stream");
	close(fd);
	for (unsigned int bit = 0; bit < 128; bit += 9) {
		memcpy(wrong, first.a.started.token, sizeof(wrong));
		wrong[bit / 8] ^= (uint8_t)(1u << bit % 8);
		fd = estate_connect();
		taken += request(fd, DS_ESTATE_HELLO, wrong, own + 6, 1, &a) != -ENOENT;
		close(fd);
	}
	tap_eq(taken, 0, "nobody gets anything with a token that is off by a bit");
	for (int i = 0; i < 4; i++) {
		bad = (struct ds_estate_request){.magic = DS_ESTATE_MAGIC, .version = DS_ESTATE_VERSION, .what = DS_ESTATE_HELLO};
		if (i == 0)
			bad.magic++;
		else if (i == 1)
			bad.npairs = DS_ESTATE_PAIRS_MAX + 1;
		else if (i == 2)
			bad.what = DS_ESTATE_CLAIM;
		else
			bad.bytes = 1;
		fd = estate_connect();
		if (write(fd, &bad, sizeof(bad)) != sizeof(bad))
			warn("write");
		ended += answer(fd, &a) == -1000;
		close(fd);
	}
	tap_eq(ended, 4, "what is no request ends its stream");
}

static void test_silent(void)
{
	int fd[KEEPER_ESTATES_MAX + 8], late = -1;
	struct answer a;
	unsigned int ended = 0;

	for (unsigned int i = 0; i < KEEPER_ESTATES_MAX + 8; i++) {
		fd[i] = estate_connect();
		pump_all();
	}
	late = estate_connect();
	tap_eq(request(late, DS_ESTATE_HELLO, first.a.started.token, (const struct ds_estate_pair[]){{6, 6}}, 1, &a), 1,
	       "streams that say nothing do not keep one out that speaks");
	for (int i = 0; i < 5000 && ended < KEEPER_ESTATES_MAX + 8; i++) {
		ended = 0;
		pump_all();
		for (unsigned int k = 0; k < KEEPER_ESTATES_MAX + 8; k++)
			ended += recv(fd[k], &a, 1, MSG_DONTWAIT) == 0;
	}
	tap_eq(ended, KEEPER_ESTATES_MAX + 8, "and end");
	for (unsigned int i = 0; i < KEEPER_ESTATES_MAX + 8; i++)
		close(fd[i]);
	tap_eq(request(late, DS_ESTATE_DROP, NULL, NULL, 0, &a), 0, "who has spoken stays");
	close(late);
}

static void test_ends(void)
{
	const struct ds_estate_pair pair[] = {{5, 5}, {6, 6}};
	struct answer a;
	const pid_t was = keeper_pid();
	int fd = estate_connect(), before, after = 0;

	tap_ok(was > 0, "the keeper is a process of its own");
	tap_eq(request(fd, DS_ESTATE_HELLO, first.a.started.token, pair, 2, &a), 2, "two are laid aside");
	before = open_fds(was);
	tap_ok(vm_end(&first), "their shadow ends");
	tap_eq(request(fd, DS_ESTATE_CLAIM, second.a.started.token, NULL, 0, &a), 2, "they can be claimed all the same");
	tap_ok(say(&t2, 6, "late") == 4 && hears(&t2, 5, "late"), "and work");
	close(fd);
	for (int i = 0; i < 3000 && after != before - 3; i++) {
		pump_all();
		after = open_fds(was);
	}
	tap_eq(after, before - 3, "with the stream the keeper has lost the stream and both");
	fd = estate_connect();
	tap_eq(request(fd, DS_ESTATE_HELLO, second.a.started.token, pair, 2, &a), 2, "another estate");
	kill(was, SIGKILL);
	tap_eq(answer(fd, &a), -1000, "the keeper is killed: the stream ends");
	close(fd);
	tap_ok(say(&t2, 6, "on") == 2 && hears(&t2, 5, "on"), "shadows go on");
	for (int i = 0; i < 3000 && keeper_pid() == was; i++)
		pump_all();
	fd = estate_connect();
	tap_eq(request(fd, DS_ESTATE_HELLO, second.a.started.token, pair, 2, &a), 2, "and the next stream gets a new one");
	close(fd);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	vm_begin(rules);
	if (estates_new(&estates, row))
		errx(2, "estates_new");
	tap_eq(vm_shadow(&first, "/usr/bin/guest"), DS_AGENT_STARTED, "a shadow");
	tap_eq(vm_shadow(&second, "/usr/bin/guest"), DS_AGENT_STARTED, "and another");
	tap_ok(thread_start(&t1, first.a.started.token, 10, 0, 0) && thread_start(&t2, second.a.started.token, 11, 0, 0), "with a thread each");
	test_handed_on();
	test_many();
	test_refused();
	test_silent();
	test_ends();
	estates_free(estates);
	for (int i = 0; i < 3000 && keeper_pid(); i++)
		pump(1);
	bells_free(bells);
	shadows_free(row);
	tap_eq(left_processes(), 0, "no process is left");
	return tap_done();
}
