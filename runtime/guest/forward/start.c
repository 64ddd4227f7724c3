/* start.c - the library is loaded: settings, shadow, interception; and the end of the shadow
 *
 * Linked with -z initfirst, so that it runs before the constructors of other libraries, the C library included.  Without a
 * shadow the program runs as it would without the library, except for what a trace or a policy wants, unless a shadow is
 * required.
 */
#include <errno.h>
#include <linux/mman.h>

#include "runtime/guest/forward/forward.h"

#define NO_SHADOW 125 /* exit status; dsrun(1) */

int64_t forward_dead(const char *why)
{
	if (__atomic_exchange_n(&forward_live->alive, 0, __ATOMIC_RELAXED))
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
	forward_live->alive = 1;
	forward_fds_start();
	forward_memory_start();
	rc = forward_window_start();
	if (rc)
		return rc;
	forward_quick(__NR_umask, (uint64_t)mask, 0, 0, 0); /* and so finds out whether the host answers */
	return forward_live->alive ? 0 : -EIO;
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

static void without(const char *why)
{
	forward_say(forward_settings.required ? "no shadow, the program is not started (--required): " : "no shadow, the program runs without: ", why);
	if (forward_settings.required)
		raw1(__NR_exit_group, NO_SHADOW);
	forward_settings.prefixes.n = 0;
	forward_settings.net = false;
}

__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
	struct intercept_config config = {.hook = forward_hook, .unreached = forward_unreached, .unstarted = forward_unstarted, .env = forward_settings_env()};
	char why[256] = "the system refused";
	const char *wrong = forward_settings_read(intercept_environment(envp));

	(void)argc;
	(void)argv;
	if (wrong || start_live()) {
		forward_say(wrong ? wrong : "no memory", "");
		raw1(__NR_exit_group, NO_SHADOW);
	}
	forward_trace_start();
	if ((forward_settings.prefixes.n || forward_settings.net || forward_settings.calls) && start_shadow(why))
		without(why);
	config.preload = forward_settings.library;
	config.patch = forward_settings.patch;
	if (intercept_start(&config)) {
		without("the kernel has no Syscall User Dispatch (Linux 5.11)");
		return;
	}
	if (forward_settings.cwd && forward_live->alive)
		forward_cwd_start(forward_settings.cwd);
}
