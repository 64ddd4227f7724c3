/* start.c - the library is loaded: settings, interception; a shadow's beginning and end
 *
 * Linked with -z initfirst, so that it runs before the constructors of other libraries, the C library included.  Without a
 * shadow the program runs as it would without the library, except for what a trace or a policy wants, unless a shadow is
 * required.
 *
 * The first program (dsrun's) gets its shadow here, so that what is wrong is said at once.  Those that it executes, and forked
 * children, get theirs when they need it (child.c).
 */
#include <errno.h>
#include <linux/mman.h>
#include <string.h>

#include "runtime/guest/forward/estate.h"

#define NO_SHADOW 125 /* exit status; dsrun(1) */

int64_t forward_dead(const char *why)
{
	if (__atomic_exchange_n(&forward_live->state, FORWARD_L_GONE, __ATOMIC_RELAXED) >= FORWARD_L_BEGINS)
		forward_say("the shadow is gone, what it had open is lost: ", why);
	return -EIO;
}

static int start_shadow(char why[256])
{
	const int64_t mask = raw1(__NR_umask, 0);
	int rc;

	raw1(__NR_umask, mask);
	rc = forward_pool_start();
	if (!rc && !forward_settings.bell)
		rc = forward_agent_start(why);
	if (rc)
		return rc;
	forward_fds_start();
	forward_memory_begin();
	forward_actions_changed();
	__atomic_store_n(&forward_live->state, FORWARD_L_BEGINS, __ATOMIC_RELEASE);
	forward_quick(__NR_umask, (uint64_t)mask, 0, 0, 0); /* and so finds out whether the host answers */
	forward_heir_claim();
	forward_cwd_start();
	if (!forward_alive())
		return -EIO;
	__atomic_store_n(&forward_live->state, FORWARD_L_ALIVE, __ATOMIC_RELEASE);
	return 0;
}

static int start_live(void)
{
	const int64_t at = raw6(__NR_mmap, 0, FORWARD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at < 0)
		return (int)at;
	raw3(__NR_madvise, at, FORWARD_PAGE, MADV_WIPEONFORK);
	forward_live = (struct forward_live *)at;
	forward_live->pid = (int32_t)raw0(__NR_getpid);
	return 0;
}

static bool is_wanted(void)
{
	return forward_settings.prefixes.n || forward_settings.net || forward_settings.calls;
}

enum forward_life forward_life_of_child(void)
{
	return is_wanted() ? FORWARD_L_CHILD : FORWARD_L_GONE;
}

static void without(const char *why)
{
	forward_say(forward_settings.required ? "no shadow, the program is not started (--required): " : "no shadow, the program runs without: ", why);
	if (forward_settings.required)
		raw1(__NR_exit_group, NO_SHADOW);
	forward_settings.prefixes.n = 0;
	forward_settings.net = false;
}

bool forward_become(void)
{
	const uint64_t all = ALL_SIGNALS & ~SIGSYS_BIT;
	static int32_t lock; /* 0, or the process one of whose threads has it; in a forked child that may be its parent's */
	const int32_t self = forward_live->pid;
	char why[256] = "the system refused";
	uint32_t turns = 0;
	uint64_t mask;
	bool alive;

	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &all, &mask, 8);
	for (;;) {
		int32_t was = __atomic_load_n(&lock, __ATOMIC_RELAXED);

		if (was != self && __atomic_compare_exchange_n(&lock, &was, self, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			break;
		forward_yield(&turns);
	}
	if (__atomic_load_n(&forward_live->state, __ATOMIC_ACQUIRE) == FORWARD_L_CHILD && start_shadow(why)) {
		__atomic_store_n(&forward_live->state, FORWARD_L_GONE, __ATOMIC_RELEASE);
		forward_say("no shadow: ", why);
		if (forward_settings.required && forward_settings.estate)
			raw1(__NR_exit_group, NO_SHADOW);
	}
	alive = __atomic_load_n(&forward_live->state, __ATOMIC_ACQUIRE) == FORWARD_L_ALIVE;
	__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK_HOW, &mask, 0, 8);
	return alive;
}

/* Whether programs are looked for on the host: a child of vfork may do so, and can be told the truth only if there is a shadow. */
static bool leads_there(char **envp)
{
	char part[FORWARD_PATH_LOOK];
	uint32_t n = 0;

	for (; *envp; envp++)
		for (const char *at = *envp + 5; !strncmp(*envp, "PATH=", 5) && (at == *envp + 5 || at[-1]); at++) {
			part[n] = 0;
			if (*at && *at != ':') {
				if (n < sizeof(part) - 1)
					part[n++] = *at;
				continue;
			}
			if (n && forward_path_inside(&forward_settings.prefixes, part))
				return true;
			n = 0;
		}
	return false;
}

__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	struct intercept_config config = {.hook = forward_hook, .unreached = forward_unreached, .unstarted = forward_unstarted, .env = forward_settings_env(),
					  .cloning = forward_cloning, .cloned = forward_cloned};
	char why[256] = "the system refused";
	const char *wrong = forward_settings_read(intercept_environment(envp));

	(void)argc;
	if (wrong || start_live()) {
		forward_say(wrong ? wrong : "no memory", "");
		raw1(__NR_exit_group, NO_SHADOW);
	}
	forward_trace_start();
	if (is_wanted()) {
		forward_memory_start();
		if (forward_settings.cwd)
			forward_cwd_inherit(forward_settings.cwd);
		if (forward_settings.estate && !leads_there(intercept_environment(envp))) {
			forward_live->state = FORWARD_L_CHILD;
			forward_heir_start();
		} else {
			if (forward_settings.estate)
				forward_heir_start();
			if (start_shadow(why))
				without(why);
		}
	}
	config.preload = forward_settings.library;
	config.patch = forward_settings.patch;
	if (intercept_start(&config)) {
		without("the kernel has no Syscall User Dispatch (Linux 5.11)");
		return;
	}
	if (forward_settings.exec)
		forward_exec_carried(forward_settings.exec, argv, intercept_environment(envp));
}
