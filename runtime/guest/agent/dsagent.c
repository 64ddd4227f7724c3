/* dsagent.c - the guest's privileged helper: main(), its command line and its socket
 *
 * What it does is in agent_server.h; what programs say to it in local.h; what it says to the host in runtime/wire/agent.h.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>

#include "rle/cleanup.h"
#include "rle/src.h"
#include "runtime/guest/agent/agent_log.h"
#include "runtime/guest/agent/agent_server.h"

enum { DONE = 0, USAGE = 1, SYSTEM = 2, NO_PFN = 3, BUSY = 75 };

#define BACKLOG 128

static const char help_text[] =
	"Usage: dsagent [options]\n"
	"Answer for the processes of this guest: their maps for dsmap, and shadows of them on the host.  Needs root.\n"
	"\n"
	"      --socket PATH    where programs of the guest connect to (" DS_LOCAL_SOCKET ")\n"
	"      --limit SIZE     memory that may be pinned in all: MiB, or a part of RAM as in 50%, the default\n"
	"      --shadows N      how many shadows at a time (256)\n"
	"      --retry SECONDS  how long to wait for the host before a shadow that asks for it is tried again (5)\n"
	"      --root-only      shadows of root's programs only\n"
	"      --users-window   programs of other users may map files of the host: all of them share one window, see dsagent(8)\n"
	"      --host PATH      a unix socket in place of the host, for tests\n"
	"      --verbose        more lines\n"
	"  -h, --help           this text\n"
	"  -V, --version        the version\n"
	"\n"
	"Exit status: 0 asked to end, 1 usage, 2 system error, 3 frame numbers cannot be seen, 75 another dsagent has the socket.\n"
	"See dsagent(8).\n";

enum { OPT_SOCKET = 256, OPT_LIMIT, OPT_SHADOWS, OPT_RETRY, OPT_ROOT_ONLY, OPT_USERS, OPT_USERS_WINDOW, OPT_HOST, OPT_VERBOSE };

static const struct option long_options[] = {
	{"socket", required_argument, NULL, OPT_SOCKET}, {"limit", required_argument, NULL, OPT_LIMIT},
	{"shadows", required_argument, NULL, OPT_SHADOWS}, {"retry", required_argument, NULL, OPT_RETRY},
	{"root-only", no_argument, NULL, OPT_ROOT_ONLY}, {"users", no_argument, NULL, OPT_USERS},
	{"users-window", no_argument, NULL, OPT_USERS_WINDOW},
	{"host", required_argument, NULL, OPT_HOST},	 {"verbose", no_argument, NULL, OPT_VERBOSE},
	{"help", no_argument, NULL, 'h'},		 {"version", no_argument, NULL, 'V'},
	{0},
};

static int usage(const char *what, const char *value)
{
	fprintf(stderr, "dsagent: %s: '%s'\nTry: dsagent --help\n", what, value);
	return USAGE;
}

/* A number of @least to @most; @end: what is behind it.  Return: whether it is one. */
static bool number(const char *text, uint64_t least, uint64_t most, char **end, uint64_t *value)
{
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, end, 10);
	return !errno && *value >= least && *value <= most;
}

static uint64_t ram_pages(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);

	return pages > 0 ? pages : 0;
}

static bool read_limit(const char *text, uint64_t *pages)
{
	uint64_t n;
	char *end;

	if (!number(text, 1, UINT64_C(1) << 40, &end, &n))
		return false;
	if (!strcmp(end, "%") && n <= 100) {
		*pages = ram_pages() * n / 100;
		return true;
	}
	*pages = n << (20 - DS_PAGE_SHIFT);
	return !*end;
}

/* Return: an exit code, or -1 to go on. */
static int read_options(struct agent_options *o, int argc, char **argv)
{
	uint64_t n;
	char *end;
	int c;

	*o = (struct agent_options){.socket = DS_LOCAL_SOCKET, .limit_pages = ram_pages() / 2, .max_shadows = 256, .retry_ms = 5000};
	while ((c = getopt_long(argc, argv, "hV", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_SOCKET:
			o->socket = optarg;
			break;
		case OPT_LIMIT:
			if (!read_limit(optarg, &o->limit_pages))
				return usage("--limit: MiB, or 1% to 100% of RAM", optarg);
			break;
		case OPT_SHADOWS:
			if (!number(optarg, 1, 4096, &end, &n) || *end)
				return usage("--shadows: 1 to 4096", optarg);
			o->max_shadows = n;
			break;
		case OPT_RETRY:
			if (!number(optarg, 1, 3600, &end, &n) || *end)
				return usage("--retry: 1 to 3600 seconds", optarg);
			o->retry_ms = n * 1000;
			break;
		case OPT_USERS_WINDOW:
			o->users_window = true;
			break;
		case OPT_ROOT_ONLY:
			o->root_only = true;
			break;
		case OPT_USERS: /* as it is without any option */
			o->root_only = false;
			break;
		case OPT_HOST:
			o->host = optarg;
			break;
		case OPT_VERBOSE:
			agent_log_verbose(1);
			break;
		case 'h':
			fputs(help_text, stdout);
			return DONE;
		case 'V':
			puts("dsagent " DS_VERSION);
			return DONE;
		default: /* getopt has said what is wrong */
			fputs("Try: dsagent --help\n", stderr);
			return USAGE;
		}
	}
	return optind < argc ? usage("an argument that is no option", argv[optind]) : -1;
}

/* Whether somebody answers at the socket that is in the way. */
static bool taken(const struct sockaddr_un *at)
{
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	return fd >= 0 && (!connect(fd, (const struct sockaddr *)at, sizeof(*at)) || errno == EAGAIN);
}

/* The listening socket, which everybody may connect to.  Return: a descriptor, or minus an exit code. */
static int listen_at(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cleanup_free char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	struct stat there;

	if (strlen(path) >= sizeof(at.sun_path)) {
		agent_log(LOG_ERR, "%s: longer than the path of a socket may be (%zu)", path, sizeof(at.sun_path) - 1);
		return -SYSTEM;
	}
	strcpy(at.sun_path, path);
	if (taken(&at)) {
		agent_log(LOG_ERR, "%s: another dsagent answers there", path);
		return -BUSY;
	}
	if (slash && slash != folder) {
		*slash = '\0';
		mkdir(folder, 0755); /* there already, or bind() tells */
	}
	if (!lstat(path, &there) && !S_ISSOCK(there.st_mode)) { /* somebody's file, which a slip of the keyboard must not cost */
		agent_log(LOG_ERR, "%s: is there already and is no socket: move it away, or say another --socket", path);
		return -SYSTEM;
	}
	unlink(path); /* of a dsagent that was killed */
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || chmod(path, 0666) || listen(fd, BACKLOG)) {
		agent_log(LOG_ERR, "%s: %s", path, strerror(errno));
		return -SYSTEM;
	}
	return steal_fd(&fd);
}

/* Tells systemd that clients may come (sd_notify(3)); without systemd there is nobody to tell. */
static void notify_ready(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	cleanup_close int fd = -1;
	size_t n = path ? strlen(path) : 0;

	if (!n || n >= sizeof(to.sun_path))
		return;
	memcpy(to.sun_path, path, n);
	if (to.sun_path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + n);
	unsetenv("NOTIFY_SOCKET");
}

/* Without frame numbers there is nothing to answer: said at the start and not to every client. */
static int see_frames(void)
{
	const char *why = "";
	struct rle_src src;
	int err = rle_src_open(&src, NULL, RLE_JOIN_NONE, &why);

	if (!err) {
		rle_src_close(&src);
		return 0;
	}
	agent_log(LOG_ERR, "%s: %s", why, strerror(-err));
	return err == -EPERM ? NO_PFN : SYSTEM;
}

int main(int argc, char **argv)
{
	struct rlimit files = {0};
	cleanup_close int fd = -1;
	struct agent_options o;
	int code = read_options(&o, argc, argv), err;

	if (code >= 0)
		return code;
	code = see_frames();
	if (code)
		return code;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max; /* poll() and no select() here */
	setrlimit(RLIMIT_NOFILE, &files);
	fd = listen_at(o.socket);
	if (fd < 0)
		return -fd;
	agent_log(LOG_INFO, "version " DS_VERSION " listens at %s, host by %s%s; at most %" PRIu64 " MiB pinned in %u shadows", o.socket,
		  o.host ? "socket " : "vsock", o.host ? o.host : "", o.limit_pages >> (20 - DS_PAGE_SHIFT), o.max_shadows);
	notify_ready();
	err = agent_server_run(&o, fd);
	if (err)
		agent_log(LOG_ERR, "%s", strerror(-err));
	unlink(o.socket);
	return err ? SYSTEM : DONE;
}
