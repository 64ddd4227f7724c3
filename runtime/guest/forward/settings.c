/* settings.c - what dsrun, or whoever preloads the library, wants of it
 *
 *   DS_FORWARD_LIB       path of libdsforward.so itself, kept in LD_PRELOAD of programs that are executed
 *   DS_FORWARD_RUN       path of dsrun, which puts the library into programs that do not load it (unreached.c)
 *   DS_FORWARD           directories of the host, "PATH:PATH..."; may be empty
 *   DS_FORWARD_NET       "forward": AF_INET and AF_INET6 sockets are the host's; else the guest's
 *   DS_FORWARD_DEVICE    set: devices of the host are used: eventfds are made there
 *   DS_FORWARD_POLICY    rules, a line each: policy_text.h
 *   DS_FORWARD_TRACE     a file that gets a line for each call; "-": standard error
 *   DS_FORWARD_SUMMARY   a file that gets a table at the end; "-": standard error
 *   DS_FORWARD_SPIN_NS   how long to look for an answer before sleeping
 *   DS_FORWARD_SERVICE   of the shadow, "forward"; DS_FORWARD_ARGS: its arguments
 *   DS_FORWARD_AGENT     dsagent's socket
 *   DS_FORWARD_BELL      a unix socket that takes bells, in place of dsagent and AF_VSOCK: who listens there runs in this process's
 *                        memory; "@": an abstract name; "%" in it: the number of the process
 *   DS_FORWARD_ESTATES   likewise, a unix socket that keeps estates (estate.h); set here in containers
 *   DS_FORWARD_REQUIRED  set: without a shadow the program does not run
 *   DS_FORWARD_PATCH     "0": places that trap often stay as they are
 *   DS_FORWARD_CWD       set here for programs that are executed in a directory of the host
 *   DS_FORWARD_EXEC      set here for a program that is to execute another one at once: exec.c
 *   DS_FORWARD_ESTATE    set here for programs that are executed: what they inherit of the host's descriptors, heir.c; may be empty
 *
 * All are kept over exec, whatever environment the program gives.
 */
#include <string.h>

#include "runtime/guest/forward/container.h"
#include "runtime/guest/forward/forward.h"

#define ROOM 16384u

static char kept[ROOM];
static char cwd[FORWARD_PATH_MAX + 16] = "DS_FORWARD_CWD=";
static char estate[64] = "DS_FORWARD_ESTATE=";
static char exec[FORWARD_PATH_MAX + 16] = "DS_FORWARD_EXEC=";
static char estates[128] = "DS_FORWARD_ESTATES=";
static const char *env[25];
static uint32_t nkept, nenv;

struct forward_settings forward_settings = {.spin_ns = DS_FORWARD_SPIN_NS, .service = "forward", .args = "", .patch = true,
					     .estate_text = estate + sizeof("DS_FORWARD_ESTATE=") - 1,
					     .exec_text = exec + sizeof("DS_FORWARD_EXEC=") - 1};

const char *const *forward_settings_env(void)
{
	return env;
}

void forward_settings_cwd(const char *path)
{
	const size_t n = strlen(path);

	if (n < FORWARD_PATH_MAX)
		memcpy(cwd + sizeof("DS_FORWARD_CWD=") - 1, path, n + 1);
}

void forward_settings_estates(void)
{
	const char *path = forward_settings.agent ? forward_settings.agent : DS_LOCAL_SOCKET;
	const size_t head = sizeof("DS_FORWARD_ESTATES=") - 1, n = strlen(path);

	if (forward_settings.estates || head + n + sizeof(DS_LOCAL_ESTATES) > sizeof(estates))
		return;
	memcpy(estates + head, path, n);
	memcpy(estates + head + n, DS_LOCAL_ESTATES, sizeof(DS_LOCAL_ESTATES));
	forward_settings.estates = estates + head;
	env[nenv++] = estates;
	env[nenv] = NULL;
}

static uint64_t number(const char *text)
{
	uint64_t n = 0;

	for (; *text >= '0' && *text <= '9' && n < 1000000000; text++)
		n = 10 * n + (uint64_t)(*text - '0');
	return n;
}

/* Which setting a variable is.  Return: its value, a copy that stays; NULL: another one. */
static const char *match(const char *variable, const char *name)
{
	const size_t n = strlen(name), bytes = strlen(variable) + 1;
	char *copy = kept + nkept;

	if (strncmp(variable, name, n) || variable[n] != '=' || bytes > ROOM - nkept || nenv > sizeof(env) / sizeof(*env) - 6)
		return NULL;
	memcpy(copy, variable, bytes);
	nkept += (uint32_t)bytes;
	env[nenv++] = copy;
	return copy + n + 1;
}

const char *forward_settings_read(char **envp)
{
	static const char bad_prefixes[] = "DS_FORWARD: directories of the host are absolute paths, without . and .., at most 64 of them";
	struct forward_settings *s = &forward_settings;
	const char *value, *policy = NULL, *wrong = NULL;

	for (; *envp && !wrong; envp++) {
		if (strncmp(*envp, "DS_FORWARD", 10))
			continue;
		if ((value = match(*envp, "DS_FORWARD")))
			wrong = forward_prefixes_take(&s->prefixes, value) ? bad_prefixes : NULL;
		else if ((value = match(*envp, "DS_FORWARD_POLICY")))
			policy = value;
		else if ((value = match(*envp, "DS_FORWARD_LIB")))
			s->library = value;
		else if ((value = match(*envp, "DS_FORWARD_RUN")))
			s->run = value;
		else if ((value = match(*envp, "DS_FORWARD_NET")))
			s->net = !strncmp(value, "forward", 8);
		else if ((value = match(*envp, "DS_FORWARD_TRACE")))
			s->trace = value;
		else if ((value = match(*envp, "DS_FORWARD_SUMMARY")))
			s->summary = value;
		else if ((value = match(*envp, "DS_FORWARD_SPIN_NS")))
			s->spin_ns = (uint32_t)number(value);
		else if ((value = match(*envp, "DS_FORWARD_SERVICE")))
			s->service = value;
		else if ((value = match(*envp, "DS_FORWARD_ARGS")))
			s->args = value;
		else if ((value = match(*envp, "DS_FORWARD_AGENT")))
			s->agent = value;
		else if ((value = match(*envp, "DS_FORWARD_BELL")))
			s->bell = value;
		else if (match(*envp, "DS_FORWARD_DEVICE"))
			s->device = true;
		else if ((value = match(*envp, "DS_FORWARD_ESTATES")))
			s->estates = value;
		else if (match(*envp, "DS_FORWARD_REQUIRED"))
			s->required = true;
		else if ((value = match(*envp, "DS_FORWARD_PATCH")))
			s->patch = *value != '0';
		else if (!strncmp(*envp, "DS_FORWARD_CWD=/", 16))
			s->cwd = *envp + 15;
		else if (!strncmp(*envp, "DS_FORWARD_ESTATE=", 18))
			s->estate = *envp + 18;
		else if (!strncmp(*envp, "DS_FORWARD_EXEC=/", 17))
			s->exec = *envp + 16;
	}
	if (intercept_traced()) /* each look at the clock would be a stop */
		s->spin_ns = 0;
	if (!wrong && policy) /* which adds to the directories */
		wrong = forward_policy_read(policy);
	env[nenv++] = cwd;
	env[nenv++] = estate;
	env[nenv++] = exec;
	env[nenv] = NULL;
	return wrong;
}
