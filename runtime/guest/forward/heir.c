/* heir.c - a process that has inherited descriptors of the host and has no shadow (yet); theory in estate.h
 *
 * The tables here are the process's; a child of vfork, which shares them with its parent, has one made for it (birth.c), and the
 * functions get that.  What speaks to the estate's stream does so under `lock`, with signals blocked.
 *
 * DS_FORWARD_ESTATE and DS_FORWARD_EXEC are texts of the whole memory, so who executes a program holds `passing` from before it writes them until the
 * exec is over; a child of vfork that succeeds leaves that to its parent (forward_heir_passed()).  Nobody waits for it for ever:
 * it may be the one in whose exec this process ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/time_types.h>
#include <string.h>

#include "runtime/guest/forward/estate.h"
#include "runtime/guest/forward/window.h"

#define PASSING_TRIES 2000u /* a millisecond each */
#define CLOSED_MAX 64u	    /* by one call each */

struct forward_estate forward_inherited = {.stream = -1};
struct forward_heir forward_heir;
static uint32_t lock, passing;
static bool locks; /* record locks were set: they are the shadow's, and end with it */

uint32_t forward_heir_pairs(struct ds_estate_pair *pair, const uint8_t *state, const uint16_t *key, bool exec)
{
	uint32_t n = 0;

	for (uint32_t fd = 0; fd < FORWARD_FDS_MAX && n < DS_ESTATE_PAIRS_MAX; fd++)
		if (state[fd] & FORWARD_FD_HOST && !(exec && state[fd] & FORWARD_FD_CLOEXEC))
			pair[n++] = (struct ds_estate_pair){key ? key[fd] : (uint16_t)fd, (uint16_t)fd};
	return n;
}

uint32_t forward_heir_all(struct ds_estate_pair *pair, const uint16_t *key)
{
	uint32_t n = forward_heir_pairs(pair, forward_fd_state, key, false);

	if (forward_window_any())
		pair[n < DS_ESTATE_PAIRS_MAX ? n++ : n - 1] = (struct ds_estate_pair){DS_ESTATE_WINDOW, DS_ESTATE_WINDOW};
	return n;
}

bool forward_heir_has(const struct forward_estate_answer *answer, uint32_t n, uint16_t number)
{
	for (uint32_t i = 0; i < n; i++)
		if (answer->number[i] == number)
			return true;
	return false;
}

void forward_heir_begin(const struct forward_estate *estate)
{
	lock = passing = 0;
	locks = false;
	forward_own_close(forward_inherited.stream); /* its parent's */
	forward_inherited = *estate;
	forward_own_add(forward_inherited.stream, &forward_inherited.stream);
	for (uint32_t fd = 0; fd < FORWARD_FDS_MAX; fd++)
		forward_heir.key[fd] = (uint16_t)fd;
}

/* --- a program that was executed ------------------------------------------------------------------------------------- */

/* "FD,TOKEN", the token in hexadecimal.  Return: false: it is not. */
static bool parse(const char *text, int32_t *fd, uint8_t token[DS_ESTATE_TOKEN_BYTES])
{
	uint32_t n = 0;

	for (; *text >= '0' && *text <= '9' && n < 1u << 20; text++)
		n = 10 * n + (uint32_t)(*text - '0');
	*fd = (int32_t)n;
	if (*text++ != ',')
		return false;
	for (uint32_t i = 0; i < 2 * DS_ESTATE_TOKEN_BYTES; i++, text++) {
		const uint32_t digit = *text >= '0' && *text <= '9' ? (uint32_t)(*text - '0') : *text >= 'a' && *text <= 'f' ? (uint32_t)(*text - 'a' + 10) : 16;

		if (digit > 15)
			return false;
		token[i / 2] = (uint8_t)(i % 2 ? token[i / 2] << 4 | digit : digit);
	}
	return !*text;
}

static void format(char *text, int32_t fd, const uint8_t token[DS_ESTATE_TOKEN_BYTES])
{
	uint32_t unit = 1;

	while ((uint32_t)fd / unit >= 10)
		unit *= 10;
	for (; unit; unit /= 10)
		*text++ = (char)('0' + (uint32_t)fd / unit % 10);
	*text++ = ',';
	for (uint32_t i = 0; i < DS_ESTATE_TOKEN_BYTES; i++) {
		*text++ = "0123456789abcdef"[token[i] >> 4];
		*text++ = "0123456789abcdef"[token[i] & 15];
	}
	*text = 0;
}

void forward_heir_start(void)
{
	uint8_t token[DS_ESTATE_TOKEN_BYTES];
	int32_t handed;
	int64_t n;

	if (!forward_settings.estate || !parse(forward_settings.estate, &handed, token))
		return;
	n = forward_estate_open(&forward_inherited, token, NULL, 0, &forward_heir.answer);
	raw1(__NR_close, handed);
	forward_own_add(forward_inherited.stream, &forward_inherited.stream);
	if (n < 0)
		forward_trace_note(NULL, "the descriptors of the host that it was to inherit are lost");
	for (int64_t i = 0; i < n; i++) {
		const uint16_t fd = forward_heir.answer.number[i];

		/* What is there must be the placeholder that was: a program without the library may have been in between. */
		if (fd >= FORWARD_FDS_MAX || !(raw2(__NR_fcntl, fd, F_GETFL) & O_PATH))
			continue;
		forward_heir.key[fd] = fd;
		forward_fd_set(fd, FORWARD_FD_HOST);
	}
}

/* --- claiming and dropping ------------------------------------------------------------------------------------------- */

void forward_heir_claim(void)
{
	uint64_t mask;
	int64_t got;
	uint32_t n;

	forward_lock(&lock, &mask);
	if (forward_inherited.stream >= 0) {
		n = forward_heir_all(forward_heir.pair, forward_heir.key);
		got = n ? forward_estate_claim(&forward_inherited, forward_pool_own_token(), forward_heir.pair, n, &forward_heir.answer) : 0;
		if (got < (int64_t)n)
			forward_trace_note(NULL, "not all descriptors of the host that it has inherited could be had");
		forward_window_claimed(got > 0 && forward_heir_has(&forward_heir.answer, (uint32_t)got, DS_ESTATE_WINDOW));
		forward_own_close(forward_inherited.stream);
		forward_inherited.stream = -1;
	}
	forward_unlock(&lock, &mask);
}

/* --- over sockets (carry.c) ------------------------------------------------------------------------------------------- */

int64_t forward_heir_lend(uint16_t fd)
{
	struct ds_estate_pair pair = {.from = fd, .to = fd};
	const uint8_t *source = forward_pool_own_token();
	uint64_t mask;
	int64_t rc;

	forward_lock(&lock, &mask);
	if (forward_inherited.stream >= 0) {
		source = forward_inherited.token;
		pair.from = forward_heir.key[fd];
	}
	rc = forward_estate_carry(source, &pair);
	forward_unlock(&lock, &mask);
	return rc;
}

int64_t forward_heir_borrow(const uint8_t *token, uint16_t number, uint16_t fd)
{
	const struct ds_estate_pair pair = {.from = number, .to = fd};
	struct forward_estate own;
	uint64_t mask;
	int64_t n;

	forward_lock(&lock, &mask);
	n = forward_estate_open(&own, token, NULL, 0, &forward_heir.answer);
	if (n >= 0) {
		n = forward_estate_claim(&own, forward_pool_own_token(), &pair, 1, &forward_heir.answer);
		raw1(__NR_close, own.stream);
	}
	forward_unlock(&lock, &mask);
	return n == 1 ? 0 : n < 0 ? n : -EBADF;
}

/* --- numbers ----------------------------------------------------------------------------------------------------------- */

static bool has_key(uint16_t key)
{
	for (uint32_t fd = 0; fd < FORWARD_FDS_MAX; fd++)
		if (forward_fd_host(fd) && forward_heir.key[fd] == key)
			return true;
	return false;
}

void forward_heir_closed(struct forward_birth *birth, uint64_t fd)
{
	struct ds_estate_pair pair;
	uint64_t mask;

	if (birth) {
		if (birth->inherits && (uint32_t)fd < FORWARD_FDS_MAX)
			birth->heir->state[(uint32_t)fd] = 0;
		return;
	}
	if ((uint32_t)fd >= FORWARD_FDS_MAX || !forward_fd_host(fd)) {
		forward_fd_set(fd, 0);
		return;
	}
	forward_lock(&lock, &mask);
	pair = (struct ds_estate_pair){.from = forward_heir.key[(uint32_t)fd]};
	forward_fd_set(fd, 0);
	if (forward_inherited.stream >= 0 && !has_key(pair.from))
		forward_estate_drop(&forward_inherited, &pair, 1, &forward_heir.answer);
	forward_unlock(&lock, &mask);
}

void forward_heir_copied(struct forward_birth *birth, uint64_t from, uint64_t to, bool cloexec)
{
	const uint8_t state = (uint8_t)(FORWARD_FD_HOST | (cloexec ? FORWARD_FD_CLOEXEC : 0));

	if ((uint32_t)to >= FORWARD_FDS_MAX || (birth && !birth->inherits))
		return;
	if (birth) {
		const bool host = (uint32_t)from < FORWARD_FDS_MAX && birth->heir->state[(uint32_t)from] & FORWARD_FD_HOST;

		birth->heir->state[(uint32_t)to] = host ? state : 0;
		if (host)
			birth->heir->key[(uint32_t)to] = birth->heir->key[(uint32_t)from];
		return;
	}
	if (!forward_fd_host(from)) {
		forward_heir_closed(NULL, to);
		return;
	}
	if (from != to) { /* the new owner first, so that what both have is not dropped */
		const uint16_t key = forward_heir.key[(uint32_t)from];

		forward_heir_closed(NULL, to);
		forward_heir.key[(uint32_t)to] = key;
	}
	forward_fd_set(to, state);
}

void forward_exit(enum forward_who who)
{
	uint32_t n = 0;
	uint64_t mask;

	if (who == FORWARD_ME && !forward_threads() && forward_fds_any())
		for (uint32_t fd = 0; fd < FORWARD_FDS_MAX && n < CLOSED_MAX; fd++)
			if (forward_fd_host(fd) && n++ < CLOSED_MAX)
				forward_quick(__NR_close, fd, 0, 0, 0);
	if (who == FORWARD_CHILD && forward_inherited.stream >= 0 && forward_fds_any()) {
		forward_lock(&lock, &mask);
		forward_estate_drop(&forward_inherited, NULL, 0, &forward_heir.answer);
		forward_unlock(&lock, &mask);
	}
	if (who != FORWARD_VCHILD)
		forward_trace_summary();
}

/* --- handing on over exec -------------------------------------------------------------------------------------------- */

static bool begin_passing(void)
{
	const uint32_t self = (uint32_t)raw0(__NR_gettid);
	const struct __kernel_timespec ms = {0, 1000000};

	for (uint32_t i = 0; i < PASSING_TRIES; i++) {
		uint32_t none = 0;

		if (__atomic_compare_exchange_n(&passing, &none, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return true;
		raw2(__NR_nanosleep, &ms, 0);
	}
	return false;
}

void forward_heir_passed(int32_t tid)
{
	uint32_t by = (uint32_t)tid;

	if (__atomic_load_n(&passing, __ATOMIC_RELAXED) != by)
		return;
	forward_settings.estate_text[0] = forward_settings.exec_text[0] = 0;
	__atomic_compare_exchange_n(&passing, &by, 0, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

void forward_heir_locked(uint64_t at)
{
	int16_t type;

	if (!intercept_fetch(&type, at, sizeof(type)) && type != F_UNLCK)
		__atomic_store_n(&locks, true, __ATOMIC_RELAXED);
}

bool forward_heir_pass(struct forward_birth *birth, enum forward_who who, int32_t *stream)
{
	struct forward_heir *heir = birth && birth->inherits ? birth->heir : &forward_heir;
	const uint8_t *source = who == FORWARD_ME ? forward_pool_own_token() : birth ? birth->estate.token : forward_inherited.token;
	const bool shared = who == FORWARD_VCHILD;
	struct forward_estate e = {.stream = -1};
	uint64_t mask;
	uint32_t n;

	if (!begin_passing())
		return false;
	if (!shared) /* the lock would stay with a child that has gone */
		forward_lock(&lock, &mask);
	*stream = -1;
	if (who == FORWARD_ME && __atomic_load_n(&locks, __ATOMIC_RELAXED))
		forward_trace_note("execve", "record locks (fcntl) of files of the host end here");
	if (shared ? birth && birth->inherits : who == FORWARD_ME || forward_inherited.stream >= 0) {
		n = forward_heir_pairs(heir->pair, shared ? heir->state : forward_fd_state, who == FORWARD_ME ? NULL : heir->key, true);
		if (n && forward_estate_open(&e, source, heir->pair, n, &heir->answer) < 0)
			forward_trace_note("execve", "descriptors of the host cannot be handed on to the next program");
	}
	if (e.stream >= 0) {
		raw3(__NR_fcntl, e.stream, F_SETFD, 0);
		format(forward_settings.estate_text, e.stream, e.token);
		*stream = e.stream;
	}
	if (!shared)
		forward_unlock(&lock, &mask);
	return true;
}

void forward_heir_failed(int32_t stream)
{
	if (stream >= 0)
		raw1(__NR_close, stream);
	forward_heir_passed((int32_t)raw0(__NR_gettid));
}
