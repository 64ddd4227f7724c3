/* gnuplot.c - running gnuplot (see gnuplot.h) */
#include "analysis/gnuplot.h"

#include <ctype.h>
#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "rle/cleanup.h"

#define INSTALL "install it (Debian: apt-get install gnuplot-nox), or leave out --html, --svg and --png"

static int write_all(int fd, const char *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, bytes + done, len - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

static int read_all(int fd, char **out, size_t *out_len)
{
	cleanup_free char *bytes = NULL;
	struct stat st;
	size_t done = 0;

	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		return -ENOMEM;
	while (done < (size_t)st.st_size) {
		ssize_t n = read(fd, bytes + done, (size_t)st.st_size - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break;
		done += n > 0 ? (size_t)n : 0;
	}
	bytes[done] = '\0';
	*out = bytes;
	bytes = NULL;
	*out_len = done;
	return 0;
}

/* The part of the environment that gnuplot gets: where programs are, and where fontconfig keeps its cache. */
static void child_environment(char **env)
{
	static const char *const keep[] = {"PATH=", "HOME=", "XDG_CACHE_HOME=", "FONTCONFIG_FILE=", "FONTCONFIG_PATH="};
	static char locale[] = "LC_ALL=C.UTF-8", zone[] = "TZ=UTC";
	size_t n = 0;

	for (size_t k = 0; k < sizeof(keep) / sizeof(keep[0]); k++)
		for (char **v = environ; *v; v++)
			if (strncmp(*v, keep[k], strlen(keep[k])) == 0) {
				env[n++] = *v;
				break;
			}
	env[n++] = locale;
	env[n++] = zone;
	env[n] = NULL;
}

static int spawn(const int fd[3], pid_t *pid)
{
	char *argv[] = {(char[]){"gnuplot"}, (char[]){"-d"}, (char[]){"/dev/stdin"}, NULL};
	posix_spawn_file_actions_t actions;
	char *env[8];
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	child_environment(env);
	for (int i = 0; i < 3 && !rc; i++)
		rc = posix_spawn_file_actions_adddup2(&actions, fd[i], i);
	if (!rc)
		rc = posix_spawnp(pid, "gnuplot", &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

/* gnuplot's message on one line: it draws the line at fault and a caret before it says what is wrong. */
static void tidy(char *message)
{
	char *to = message;

	for (const char *p = message; *p; p++) {
		char c = isspace((unsigned char)*p) || *p == '^' ? ' ' : *p;

		if (c == ' ' && (to == message || to[-1] == ' '))
			continue;
		*to++ = c;
	}
	while (to > message && to[-1] == ' ')
		to--;
	*to = '\0';
}

int gnuplot_run(const char *script, size_t len, char **out, size_t *out_len, struct errmsg *e)
{
	cleanup_close int in = memfd_create("gnuplot script", MFD_CLOEXEC), output = memfd_create("gnuplot output", MFD_CLOEXEC),
			  errors = memfd_create("gnuplot messages", MFD_CLOEXEC);
	cleanup_free char *message = NULL;
	size_t message_len;
	int rc, status;
	pid_t pid;

	if (in < 0 || output < 0 || errors < 0)
		return errmsg_set(e, -errno, "gnuplot: cannot make a file of memory for its script: %s", strerror(errno));
	rc = write_all(in, script, len);
	if (rc < 0)
		return errmsg_set(e, rc, "gnuplot: cannot hand it the script: %s", strerror(-rc));
	rc = spawn((int[]){in, output, errors}, &pid);
	if (rc == -ENOENT)
		return errmsg_set(e, rc, "gnuplot: not found in PATH, and it draws the figures; " INSTALL);
	if (rc < 0)
		return errmsg_set(e, rc, "gnuplot: cannot be started: %s; " INSTALL, strerror(-rc));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return errmsg_set(e, -errno, "gnuplot: lost: %s", strerror(errno));
	rc = read_all(output, out, out_len);
	if (rc == 0)
		rc = read_all(errors, &message, &message_len);
	if (rc < 0)
		return errmsg_set(e, rc, "gnuplot: its output cannot be read: %s", strerror(-rc));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && *out_len > 0)
		return 0;
	free(*out);
	*out = NULL;
	tidy(message);
	if (WIFSIGNALED(status))
		return errmsg_set(e, -EIO, "gnuplot: killed by signal %d; %s", WTERMSIG(status), message);
	return errmsg_set(e, -EIO, "gnuplot: failed with status %d: %.700s; version 5.4 or newer with svg and pngcairo terminals is needed",
			  WEXITSTATUS(status), *message ? message : "no message and no output");
}
