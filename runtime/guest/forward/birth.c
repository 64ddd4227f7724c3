/* birth.c - processes that the program makes; theory in estate.h
 *
 * A record for each one that is being made, known to both sides: the child of a fork finds its copy of it, that of a vfork the record
 * itself.  The parent gives it back when fork returns, or vfork, by when the child has executed a program or ended.  Without a free
 * record, or an estate, the child does without the host's descriptors.
 *
 * A child that shares the memory without being waited for (clone with CLONE_VM alone) inherits nothing and is told from the
 * program by its number for as long as there may be one: from then on.
 *
 * A process that has a shadow has a child more, dsagent's helper (runtime/guest/helper/inject.h).  Nobody waits for it but with __WALL or __WCLONE,
 * as it sends no SIGCHLD.  Debuggers wait with __WALL for whatever there is (strace -f), and would go on for ever; as what they trace is waited for
 * without, too, __WALL is left out for a program that has made no such children itself.
 */
#include <linux/mman.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <signal.h>
#include <string.h>

#include "runtime/guest/forward/estate.h"
#include "runtime/guest/forward/window.h"

#define BIRTHS 32u

static struct forward_birth births[BIRTHS];
static uint32_t nshared; /* children that share the memory for now */
static bool sharing;	 /* there may be one that does so for as long as it likes */
static bool silent;	 /* there may be one that ends with another signal than SIGCHLD, or none */

bool forward_birth_any(void)
{
	return __atomic_load_n(&nshared, __ATOMIC_RELAXED) || sharing;
}

struct forward_birth *forward_birth_mine(void)
{
	const int32_t tid = (int32_t)raw0(__NR_gettid);

	for (uint32_t i = 0; i < BIRTHS; i++)
		if (__atomic_load_n(&births[i].used, __ATOMIC_RELAXED) && births[i].shared && births[i].child == tid)
			return &births[i];
	return NULL;
}

void forward_birth_reset(void)
{
	memset(births, 0, sizeof(births));
	nshared = 0;
	sharing = silent = false;
}

static struct forward_birth *take(bool shared)
{
	for (uint32_t i = 0; i < BIRTHS; i++) {
		uint32_t none = 0;

		if (!__atomic_compare_exchange_n(&births[i].used, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			continue;
		births[i] = (struct forward_birth){.used = 1, .shared = shared, .estate.stream = -1};
		return &births[i];
	}
	return NULL;
}

static void lay_aside(struct forward_birth *b, enum forward_who who)
{
	const uint8_t *source = who == FORWARD_ME ? forward_pool_own_token() : forward_inherited.token;
	const int64_t at = raw6(__NR_mmap, 0, sizeof(struct forward_heir), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct forward_heir *heir = (struct forward_heir *)at;
	const uint16_t *key = who == FORWARD_ME ? NULL : forward_heir.key;
	int64_t n = -1;

	if (at < 0)
		return;
	b->heir = heir;
	if (who == FORWARD_ME || forward_inherited.stream >= 0)
		n = forward_estate_open(&b->estate, source, heir->pair,
					b->shared ? forward_heir_pairs(heir->pair, forward_fd_state, key, false) : forward_heir_all(heir->pair, key),
					&heir->answer);
	if (n < 0) {
		forward_trace_note("clone", "descriptors of the host cannot be handed on to the child");
		return;
	}
	forward_own_add(b->estate.stream, &b->estate.stream);
	b->inherits = true;
	b->leased = forward_heir_has(&heir->answer, (uint32_t)n, DS_ESTATE_WINDOW);
	if (!b->shared)
		return;
	memcpy(heir->state, forward_fd_state, sizeof(heir->state));
	for (uint32_t fd = 0; fd < FORWARD_FDS_MAX; fd++)
		heir->key[fd] = (uint16_t)fd;
}

/* @flags: of clone(), or of struct clone_args. */
static bool ends_silently(const struct intercept_call *call, uint64_t flags)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	if (call->nr == __NR_clone)
		return (flags & CSIGNAL) != SIGCHLD;
	if (call->nr == __NR_clone3)
		intercept_fetch(&args, call->arg[0], CLONE_ARGS_SIZE_VER0);
	return args.exit_signal != SIGCHLD;
}

bool forward_wait_call(const struct intercept_call *call, int64_t *result)
{
	const bool any = call->nr == __NR_wait4 ? (int32_t)call->arg[0] <= 0 : call->arg[0] == P_ALL || call->arg[0] == P_PGID;
	uint64_t arg[6], *options = &arg[call->nr == __NR_wait4 ? 2 : 3];

	memcpy(arg, call->arg, sizeof(arg));
	if (!any || silent || !(*options & __WALL))
		return false;
	*options &= ~(uint64_t)__WALL;
	*result = intercept_raw(call->nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
	return true;
}

uint64_t forward_cloning(const struct intercept_call *call, uint64_t flags)
{
	const enum forward_who who = forward_who();
	const bool shared = flags & CLONE_VM;
	struct forward_birth *b;

	silent |= ends_silently(call, flags);
	if (shared && !(flags & CLONE_VFORK)) {
		sharing = true;
		return 0;
	}
	if (who == FORWARD_NOBODY || (!shared && (who == FORWARD_VCHILD || !(forward_fds_any() || forward_window_any()))))
		return 0;
	b = take(shared);
	if (!b) {
		sharing |= shared;
		return 0;
	}
	b->maps = !shared && forward_window_any();
	if (b->maps)
		forward_window_fork();
	if ((forward_fds_any() || b->maps) && who != FORWARD_VCHILD)
		lay_aside(b, who);
	if (shared)
		__atomic_fetch_add(&nshared, 1, __ATOMIC_SEQ_CST);
	return (uint64_t)b;
}

static void give_back(struct forward_birth *b)
{
	if (b->inherits)
		forward_own_close(b->estate.stream);
	if (b->heir)
		raw2(__NR_munmap, b->heir, sizeof(*b->heir));
	if (b->shared) {
		forward_heir_passed(b->child);
		forward_settings_cwd(forward_cwd_host() ? forward_cwd_text() : "");
		__atomic_fetch_sub(&nshared, 1, __ATOMIC_SEQ_CST);
	}
	__atomic_store_n(&b->used, 0, __ATOMIC_RELEASE);
}

void forward_cloned(uint64_t cookie, int64_t value)
{
	struct forward_birth *b = (struct forward_birth *)cookie;

	if (b->maps)
		forward_window_forked();
	if (value)
		give_back(b);
	else if (b->shared)
		__atomic_store_n(&b->child, (int32_t)raw0(__NR_gettid), __ATOMIC_RELEASE);
	else
		forward_newborn(b->inherits ? &b->estate : NULL, b->leased);
}
