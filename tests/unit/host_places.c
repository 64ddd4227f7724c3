/* host_places.c - places of the host's file system in a jail: what a rule grants is there, and nothing else, for a shadow that
 * makes any call of files it likes, jailed and guarded
 *
 * Looked at from two sides: what the shadow's calls return, and what has become of the host's files.
 */
#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "tests/guarded.h"
#include "tests/services/calls.h"
#include "tests/tap.h"

#define TEXT_VPN UINT64_C(0x555555000)
#define UID 4321
#define ROUNDS 2000

static const struct rle_run runs[] = {{{TEXT_VPN}, {3}, 4, RW}};
static const struct filter_call files[] = {
	{__NR_openat, 0}, {__NR_open, 0}, {__NR_read, 0}, {__NR_write, 0}, {__NR_newfstatat, 0}, {__NR_mkdir, 0}, {__NR_unlink, 0},
	{__NR_rename, 0}, {__NR_link, 0}, {__NR_symlink, 0}, {__NR_readlink, 0}, {__NR_chdir, 0}, {__NR_getcwd, 0}, {__NR_getdents64, 0},
	{__NR_chmod, 0}, {__NR_chown, 0}, {__NR_mknod, 0}, {__NR_truncate, 0}, {__NR_getuid, 0}, {__NR_socket, 0}, {__NR_connect, 0},
	{__NR_fchdir, 0},
};
static const struct filter_want want = {.calls = files, .ncalls = sizeof(files) / sizeof(files[0])};
static struct guarded g;
static bool has_device; /* it takes CAP_MKNOD */
static char top[64], ro[128], rw[128], outside[128];

/* --- what the host has ----------------------------------------------------------------------------------------------- */

static char *in(const char *dir, const char *name)
{
	static char path[4][512];
	static unsigned int next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void put(const char *path, const char *text, mode_t mode, uid_t uid)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || fchmod(fd, mode) || fchown(fd, uid, uid))
		err(2, "%s", path);
	close(fd);
}

static const char *get(const char *path)
{
	static char text[256];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = 0;
	return n < 0 ? "(nothing)" : text;
}

static void make_tree(void)
{
	snprintf(top, sizeof(top), "/tmp/host_places.XXXXXX");
	if (!mkdtemp(top) || chmod(top, 0755))
		err(2, "%s", top);
	snprintf(ro, sizeof(ro), "%s/ro", top);
	snprintf(rw, sizeof(rw), "%s/rw", top);
	snprintf(outside, sizeof(outside), "%s/outside", top);
	mkdir(ro, 0755);
	mkdir(rw, 0777);
	mkdir(outside, 0777);
	mkdir(in(rw, "sub"), 0777);
	if (chown(rw, UID, UID) || chmod(outside, 0777) || chown(in(rw, "sub"), UID, UID))
		err(2, "chown");
	put(in(ro, "file"), "read me", 0666, UID);
	put(in(rw, "own"), "mine", 0600, UID);
	put(in(rw, "other"), "theirs", 0600, 1234);
	put(in(rw, "roots"), "root's", 0600, 0);
	put(in(outside, "secret"), "secret", 0666, UID);
	if (symlink(in(outside, "secret"), in(rw, "absolute")) || symlink("../outside/secret", in(rw, "relative")) ||
	    symlink("/", in(rw, "slash")) || symlink(rw, in(top, "link")))
		err(2, "links");
	has_device = !mknod(in(rw, "null"), S_IFCHR | 0666, 0x103);
}

/* --- what the shadow does ---------------------------------------------------------------------------------------------- */

static uint8_t *text_at(uint32_t i)
{
	return g.h.ram + 3 * PAGE + i * 1024;
}

static uint64_t text(uint32_t i, const char *s)
{
	snprintf((char *)text_at(i), 1024, "%s", s);
	return TEXT_VPN * PAGE + i * 1024;
}

static int64_t make(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const struct calls_request request = {.op = CALLS_SYSCALL, .nr = nr, .args = {a, b, c, d}};
	union host_message m;
	struct calls_answer answer;

	host_message(&g.h, 0, &request, sizeof(request));
	if (guarded_receive(&g, &m, HOST_TIMEOUT_MS) != DS_SHADOW_MESSAGE)
		errx(2, "the shadow does not answer call %ld", nr);
	memcpy(&answer, m.message.payload, sizeof(answer));
	return answer.result;
}

static int64_t opened(const char *path, int flags)
{
	return make(__NR_open, text(0, path), (uint64_t)flags, 0644, 0);
}

static int start(const char *hosts_ro, bool net)
{
	const struct jail_bind binds[] = {{"/data/ro", hosts_ro, false}, {"/data/rw", rw, true}, {"/etc/motd", in(ro, "file"), false}};
	struct jail_params p = {.threads = 2, .uid = UID, .gid = UID, .all_ids = true, .net_host = net, .binds = binds, .nbinds = 3};

	guarded_init(&g, 64);
	if (guarded_spawn(&g, "calls", &want, &p))
		return g.jail_err.err;
	return guarded_boot(&g, "calls", 1, runs, 1) == DS_SHADOW_STATUS ? 0 : 1;
}

static void end(void)
{
	guarded_end(&g);
	host_free(&g.h);
}

static void test_there(void)
{
	int64_t fd, n;

	tap_eq(start(ro, false), 0, "a jail with three places of the host starts");
	fd = opened("/data/ro/file", O_RDONLY);
	n = fd < 0 ? fd : make(__NR_read, (uint64_t)fd, text(1, ""), 100, 0);
	tap_ok(n == 7 && !memcmp(text_at(1), "read me", 7), "a file is there, at the path of the guest");
	fd = opened("/etc/motd", O_RDONLY);
	n = fd < 0 ? fd : make(__NR_read, (uint64_t)fd, text(1, ""), 100, 0);
	tap_ok(n == 7 && !memcmp(text_at(1), "read me", 7), "so is a place that is a file");
	fd = opened("/data/rw/new", O_WRONLY | O_CREAT | O_EXCL);
	n = fd < 0 ? fd : make(__NR_write, (uint64_t)fd, text(1, "hello"), 5, 0);
	tap_ok(n == 5 && !strcmp(get(in(rw, "new")), "hello"), "a file can be made where the place is to be written");
	{
		struct stat st;

		tap_ok(!stat(in(rw, "new"), &st) && st.st_uid == UID && st.st_gid == UID, "it belongs to the rule's user on the host");
	}
	tap_eq(make(__NR_getuid, 0, 0, 0, 0), UID, "who has its own number inside");
	n = make(__NR_newfstatat, (uint64_t)AT_FDCWD, text(0, "/data/rw/other"), text(1, ""), 0);
	{
		struct stat st;

		memcpy(&st, text_at(1), sizeof(st));
		tap_ok(n == 0 && st.st_uid == 1234, "as other users have theirs");
	}
	tap_eq(make(__NR_rename, text(0, "/data/rw/new"), text(1, "/data/rw/sub/newer"), 0, 0), 0, "files can be moved between directories");
	tap_ok(make(__NR_chdir, text(0, "/data/rw/sub"), 0, 0, 0) == 0 && make(__NR_getcwd, text(1, ""), 100, 0, 0) == 13 &&
		       !strcmp((char *)text_at(1), "/data/rw/sub"),
	       "the working directory has the guest's name");
}

static void test_read_only(void)
{
	tap_eq(opened("/data/ro/file", O_RDWR), -EROFS, "what is to be read only is not written");
	tap_eq(opened("/data/ro/new", O_WRONLY | O_CREAT), -EROFS, "nor added to");
	tap_eq(make(__NR_unlink, text(0, "/data/ro/file"), 0, 0, 0), -EROFS, "nor removed from");
	tap_eq(make(__NR_chmod, text(0, "/data/ro/file"), 0777, 0, 0), -EROFS, "nor given other modes");
	tap_eq(make(__NR_truncate, text(0, "/etc/motd"), 0, 0, 0), -EROFS, "nor cut");
	tap_eq(make(__NR_mkdir, text(0, "/data/x"), 0777, 0, 0), -EROFS, "nothing is made on the way there");
	tap_eq(make(__NR_mkdir, text(0, "/x"), 0777, 0, 0), -EROFS, "or at the root");
	tap_ok(make(__NR_chmod, text(0, "/"), 0777, 0, 0) < 0, "whose mode stays");
}

static void test_nothing_else(void)
{
	static const char *const hidden[] = {"/etc/passwd", "/proc/self/root", "/proc/1/root", "/proc", "/dev/null", "/tmp", "/root", "/data/rw/../../tmp",
					     "/data/rw/../../../../../../etc/passwd", "/data/rw/absolute", "/data/rw/relative", "/data/rw/slash/etc/passwd",
					     "/data/rw/slash/tmp", "../../../../tmp", "/../tmp", "/data/link"};
	unsigned int seen = 0;

	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		const int64_t r = opened(hidden[i], O_RDONLY);

		seen += r != -ENOENT;
		if (r != -ENOENT)
			printf("# %s: %lld\n", hidden[i], (long long)r);
	}
	tap_eq(seen, 0, "%zu other ways lead nowhere: names, .., symbolic links out, /proc", sizeof(hidden) / sizeof(hidden[0]));
	tap_eq(opened("/data/rw/slash/data/ro/file", O_RDONLY) >= 0, 1, "a link to / leads to the jail's root");
	tap_eq(opened("/data/rw/other", O_RDONLY), -EACCES, "another user's file is denied");
	tap_eq(opened("/data/rw/roots", O_RDONLY), -EACCES, "so is root's");
	tap_ok(opened("/data/rw/own", O_RDONLY) >= 0, "its own is not");
	tap_eq(make(__NR_chown, text(0, "/data/rw/own"), 0, 0, 0), -EPERM, "which it cannot give away");
	if (has_device)
		tap_eq(opened("/data/rw/null", O_RDWR), -EACCES, "device nodes are of no use");
	else
		tap_skip("device nodes are of no use", "none can be made here");
	tap_ok(make(__NR_mknod, text(0, "/data/rw/mem"), S_IFCHR | 0666, 0x101, 0) < 0, "and none can be made");
	tap_ok(make(__NR_link, text(0, "/data/ro/file"), text(1, "/data/rw/hard"), 0, 0) < 0, "a link from one place to another cannot be made");
	tap_eq(make(__NR_symlink, text(0, "../../outside/secret"), text(1, "/data/rw/mine"), 0, 0), 0, "a symbolic link of its own can");
	tap_eq(opened("/data/rw/mine", O_RDONLY), -ENOENT, "and leads nowhere");
}

/* Somebody on the host moves a directory out of the place, while the shadow is in it. */
static void test_moved(void)
{
	char cwd[512];
	int64_t r;

	mkdir(in(rw, "deep"), 0777);
	if (chown(in(rw, "deep"), UID, UID))
		err(2, "chown");
	tap_eq(make(__NR_chdir, text(0, "/data/rw/deep"), 0, 0, 0), 0, "it stands in a directory");
	if (rename(in(rw, "deep"), in(outside, "deep")))
		err(2, "rename");
	r = opened("../secret", O_RDONLY);
	tap_ok(r == -ENOENT || r == -EACCES, "that is moved out of the place: there is no way up from there (%lld)", (long long)r);
	snprintf(cwd, sizeof(cwd), "../../../..%s", in(outside, "secret"));
	r = opened(cwd, O_RDONLY);
	tap_ok(r == -ENOENT || r == -EACCES, "nor further up (%lld)", (long long)r);
	make(__NR_chdir, text(0, "/"), 0, 0, 0);
}

/* Somebody on the host changes a directory to a symbolic link and back, as fast as they can. */
static void test_race(void)
{
	unsigned int out = 0, inside = 0;
	pid_t pid;

	mkdir(in(rw, "a"), 0777);
	put(in(in(rw, "a"), "secret"), "inside", 0666, UID);
	if (symlink(outside, in(rw, "b")))
		err(2, "symlink");
	fflush(stdout);
	pid = fork();
	if (!pid)
		for (;;)
			renameat2(AT_FDCWD, in(rw, "a"), AT_FDCWD, in(rw, "b"), RENAME_EXCHANGE);
	for (int i = 0; i < ROUNDS; i++) {
		const int64_t fd = opened("/data/rw/a/secret", O_RDONLY);

		if (fd < 0)
			continue;
		make(__NR_read, (uint64_t)fd, text(1, ""), 100, 0);
		out += !memcmp(text_at(1), "secret", 6);
		inside += !memcmp(text_at(1), "inside", 6);
		make(__NR_close, (uint64_t)fd, 0, 0, 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_ok(out == 0 && inside > 0, "a directory that turns into a link out and back: of %d looks %u find the file inside, none the one outside", ROUNDS,
	       inside);
}

static void test_refused(void)
{
	const unsigned int before = (unsigned int)open("/dev/null", O_RDONLY);
	unsigned int after;

	close((int)before);
	tap_ok(start(in(top, "link"), false) == -ELOOP && g.jail_err.bind == 1, "a path of the host with a symbolic link in it is refused");
	host_free(&g.h);
	tap_ok(start(in(top, "link/sub"), false) == -ELOOP, "wherever it is");
	host_free(&g.h);
	tap_ok(start(in(top, "nowhere"), false) == -ENOENT && g.jail_err.bind == 1, "so is one that is not there");
	host_free(&g.h);
	tap_eq(mount(ro, ro, NULL, MS_BIND, NULL) || mount(NULL, ro, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0, "a mount that is read-only here");
	snprintf(rw, sizeof(rw), "%s", ro);
	tap_ok(start(ro, false) == -EROFS && g.jail_err.bind == 2, "cannot be given for writing");
	host_free(&g.h);
	snprintf(rw, sizeof(rw), "%s/rw", top);
	umount2(ro, MNT_DETACH);
	tap_eq(start("/dev/null", false), -EINVAL, "and one that is no file or directory");
	host_free(&g.h);
	after = (unsigned int)open("/dev/null", O_RDONLY);
	close((int)after);
	tap_ok(after <= before + 8, "nothing is left open"); /* guarded.h keeps its ends of the channel */
	tap_eq(waitpid(-1, NULL, WNOHANG), -1, "no process either");
}

static void test_net(void)
{
	struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(name);
	const int l = socket(AF_INET, SOCK_STREAM, 0);
	char ours[64], theirs[64], path[64];
	int64_t fd;
	ssize_t a, b;

	if (l < 0 || bind(l, (struct sockaddr *)&name, sizeof(name)) || listen(l, 4) || getsockname(l, (struct sockaddr *)&name, &bytes))
		err(2, "listen");
	for (int host = 0; host < 2; host++) {
		if (start(ro, host))
			errx(2, "start");
		text(0, "");
		memcpy(text_at(0), &name, sizeof(name));
		fd = make(__NR_socket, AF_INET, SOCK_STREAM, 0, 0);
		fd = fd < 0 ? fd : make(__NR_connect, (uint64_t)fd, TEXT_VPN * PAGE, sizeof(name), 0);
		/* EACCES: by a landlock that knows TCP */
		tap_ok(host ? fd == 0 : fd == -ENETUNREACH || fd == -EACCES, host ? "with the host's network its loopback is reached" : "without a network nothing is reached");
		a = readlink("/proc/self/ns/net", ours, sizeof(ours));
		snprintf(path, sizeof(path), "/proc/%d/ns/net", g.jail.pid);
		b = readlink(path, theirs, sizeof(theirs));
		tap_eq(a > 0 && a == b && !memcmp(ours, theirs, (size_t)a), host, host ? "it is the host's" : "it is its own");
		end();
	}
	close(l);
}

int main(void)
{
	umask(0);
	make_tree();
	test_there();
	test_read_only();
	test_nothing_else();
	test_moved();
	test_race();
	tap_ok(!strcmp(get(in(outside, "secret")), "secret") && !strcmp(get(in(ro, "file")), "read me") && !strcmp(get(in(rw, "other")), "theirs"),
	       "the host's other files are as they were");
	end();
	test_refused();
	test_net();
	{
		char cmd[128];

		snprintf(cmd, sizeof(cmd), "rm -rf %s", top);
		if (system(cmd))
			warnx("%s is left", top);
	}
	return tap_done();
}
