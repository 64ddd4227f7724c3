/* execenv.c - the next program loads the library again
 *
 * Theory of operation
 *
 * exec ends the dispatch, and what sets it again in the next program is this library, loaded by LD_PRELOAD.  A program
 * may start another with any environment, an empty one included, so the environment is put right on its way to the
 * kernel: a new array of pointers, to the program's own strings except for LD_PRELOAD (the program's value, ours before
 * it) and the variables that intercept_config.env names.  The program's own memory is not touched.
 *
 * The array lies in memory of its own, given back when the exec fails.  A child of vfork that succeeds leaves it in its
 * parent: kept in a table under the child's id, given back when the parent goes on (execenv_forget()).
 *
 * A program that no dynamic linker loads, and one that runs with other rights than who starts it, loads no library: reach.c.
 */
#include <errno.h>
#include <linux/mman.h>
#include <string.h>

#include "runtime/guest/intercept/internal.h"

#define ENV_MAX 65536u
#define VALUE_MAX 8192u
#define PAGE UINT64_C(4096)
#define NLENT 64
#define PRELOAD "LD_PRELOAD="

static struct {
	uint64_t address, bytes;
	int32_t tid;
} lent[NLENT]; /* memory that an exec uses; address 0: no entry, 1: being filled in */

/* musl's is set before any constructor runs; glibc's is set by a constructor of its own, later than ours. */
extern char **__environ __attribute__((weak, visibility("default")));

char **intercept_environment(char **third)
{
	return &__environ && __environ ? __environ : third;
}

static uint64_t lend(uint64_t bytes)
{
	const int64_t at = raw6(__NR_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at < 0)
		return 0;
	for (unsigned int i = 0; i < NLENT; i++) {
		uint64_t none = 0;

		if (__atomic_compare_exchange_n(&lent[i].address, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
			lent[i].bytes = bytes;
			lent[i].tid = (int32_t)raw0(__NR_gettid);
			__atomic_store_n(&lent[i].address, (uint64_t)at, __ATOMIC_RELEASE);
			break;
		}
	}
	return (uint64_t)at;
}

static void give_back(uint64_t address, uint64_t bytes)
{
	for (unsigned int i = 0; i < NLENT; i++)
		if (__atomic_load_n(&lent[i].address, __ATOMIC_ACQUIRE) == address)
			__atomic_store_n(&lent[i].address, 0, __ATOMIC_RELEASE);
	raw2(__NR_munmap, address, bytes);
}

void execenv_forget(int tid)
{
	for (unsigned int i = 0; i < NLENT; i++)
		if (__atomic_load_n(&lent[i].address, __ATOMIC_ACQUIRE) > 1 && lent[i].tid == tid)
			give_back(lent[i].address, lent[i].bytes);
}

/* A string of the program, or its beginning.  Return: its length, at most @max - 1, terminated; or -EFAULT. */
static int64_t fetch_string(char *to, uint64_t from, uint64_t max)
{
	uint64_t done = 0;

	while (done < max - 1) {
		uint64_t part = PAGE - ((from + done) & (PAGE - 1)); /* the next page may not be there */
		const char *end;

		if (part > max - 1 - done)
			part = max - 1 - done;
		if (intercept_fetch(to + done, from + done, part))
			return -EFAULT;
		end = memchr(to + done, 0, part);
		if (end)
			return end - to;
		done += part;
	}
	to[done] = 0;
	return (int64_t)done;
}

static int64_t count(uint64_t envp)
{
	uint64_t n, word;

	for (n = 0; n < ENV_MAX; n++) {
		if (intercept_fetch(&word, envp + n * sizeof(word), sizeof(word)))
			return -EFAULT;
		if (!word)
			return (int64_t)n;
	}
	return -E2BIG;
}

/* Whether @text (its beginning) sets the variable that @setting sets. */
static bool same_name(const char *text, const char *setting)
{
	const char *equal = strchr(setting, '=');

	return equal && !strncmp(text, setting, (size_t)(equal - setting) + 1);
}

static bool is_ours(const char *text)
{
	if (intercept_config.preload && same_name(text, PRELOAD))
		return true;
	for (const char *const *env = intercept_config.env; env && *env; env++)
		if (same_name(text, *env))
			return true;
	return false;
}

/* @value: what the program has in LD_PRELOAD, behind the name; may be empty.  Return: bytes written. */
static uint64_t write_preload(char *to, const char *value)
{
	const char *have = strstr(value, intercept_config.preload);
	char *at = to;

	at = stpcpy(at, PRELOAD);
	if (!have) {
		at = stpcpy(at, intercept_config.preload);
		if (*value)
			*at++ = ':';
	}
	at = stpcpy(at, value);
	return (uint64_t)(at - to) + 1;
}

/* Fills @block: the array, then the one string.  Return: 0 or -errno. */
static int fill(uint64_t *block, uint64_t envp, uint64_t n, uint64_t nours)
{
	char *text = (char *)(block + n + nours + 2), *value = text + VALUE_MAX + 256;
	uint64_t out = 0;

	value[0] = 0;
	for (uint64_t i = 0; i < n; i++) {
		char head[64];
		uint64_t word;
		int64_t got;

		if (intercept_fetch(&word, envp + i * sizeof(word), sizeof(word)) || (got = fetch_string(head, word, sizeof(head))) < 0)
			return -EFAULT;
		if (same_name(head, PRELOAD) && fetch_string(value, word + sizeof(PRELOAD) - 1, VALUE_MAX) >= (int64_t)VALUE_MAX - 1)
			return -E2BIG;
		if (!is_ours(head))
			block[out++] = word;
	}
	if (intercept_config.preload) {
		write_preload(text, value);
		block[out++] = (uint64_t)text;
	}
	for (const char *const *env = intercept_config.env; env && *env; env++)
		block[out++] = (uint64_t)*env;
	block[out] = 0;
	return 0;
}

bool execenv_call(struct intercept_call *call, int64_t *result)
{
	uint64_t arg[6], bytes, block, nours = 1;
	const unsigned int at = call->nr == __NR_execve ? 2 : 3;
	enum intercept_reach reach;
	int64_t n, given = 0;
	bool ignored;

	if (call->nr != __NR_execve && call->nr != __NR_execveat)
		return false;
	reach = intercept_config.unreached && !intercept_sandboxed() ? reach_exec(call) : INTERCEPT_REACHED;
	if (reach != INTERCEPT_REACHED) {
		*result = given = intercept_config.unreached(call, reach);
		if (*result < 0)
			return true;
	}
	if (!intercept_config.preload && !intercept_config.env)
		return false;
	n = call->arg[at] ? count(call->arg[at]) : 0;
	if (n < 0) {
		*result = n;
		if (given > 0)
			intercept_config.unstarted(given);
		return true;
	}
	for (const char *const *env = intercept_config.env; env && *env; env++)
		nours++;
	bytes = ((uint64_t)n + nours + 2) * sizeof(uint64_t) + 2 * VALUE_MAX + 512;
	block = lend(bytes);
	*result = block ? fill((uint64_t *)block, call->arg[at], (uint64_t)n, nours) : -ENOMEM;
	if (!*result) {
		memcpy(arg, call->arg, sizeof(arg));
		arg[at] = block;
		ignored = signals_exec();
		*result = intercept_raw(call->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
		if (ignored)
			signals_install();
	}
	if (block)
		give_back(block, bytes);
	if (given > 0)
		intercept_config.unstarted(given);
	return true;
}
