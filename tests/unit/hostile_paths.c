/* hostile_paths.c - a guest that looks for a way out of the places that it was granted: links, "..", /proc, names that change
 *
 * hostile_world.h tells what must not be harmed.  What is outside has modes that would let the shadow's user read and change it.
 */
#include "tests/hostile_process.h"

/* --- paths --------------------------------------------------------------------------------------------------------------------- */

static bool is_secret(int64_t fd)
{
	memset(at_host(BUF), 0, 16);
	return fd >= 0 && call(__NR_pread64, (uint64_t)fd, at_guest(BUF), 6, 0, 0) == 6 && !memcmp(at_host(BUF), "SECRET", 6);
}

/* Whether @path, as the guest names it, leads to the file outside, or to anything of the host's own root. */
static bool leads_out(const char *path)
{
	const int64_t fd = open_at(path, O_RDONLY);
	bool out = is_secret(fd);

	if (fd >= 0)
		call(__NR_close, (uint64_t)fd, 0, 0, 0, 0);
	if (open_at(path, O_WRONLY | O_TRUNC) >= 0)
		out = true;
	return out;
}

static void link_to(const char *target, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", places.grant, name);
	unlink(path);
	if (symlink(target, path) || lchown(path, NOBODY, NOBODY))
		err(2, "%s", path);
}

/* Changes places of a directory and a link that leads out, for ever. */
static void change_names(uint32_t i)
{
	char a[128], b[128];

	(void)i;
	snprintf(a, sizeof(a), "%s/swap", places.grant);
	snprintf(b, sizeof(b), "%s/swapped", places.grant);
	syscall(__NR_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
}

static void test_links(void)
{
	char text_of[256], up[200] = "";
	unsigned int out = 0, tried = 0;

	snprintf(text_of, sizeof(text_of), "%s/secret", places.outside);
	link_to(text_of, "absolute");
	link_to("../outside/secret", "relative");
	link_to("absolute", "chain");
	link_to("/proc/self/root/etc/passwd", "root");
	link_to("/proc/1/cwd", "cwd");
	link_to("..", "parent");
	for (int i = 0; i < 40; i++)
		strcat(up, "../");
	begin(1);
	{
		char many[3][256];
		const char *paths[] = {text_of, "/data/absolute", "/data/relative", "/data/chain", "/data/root", "/data/cwd", "/data/../outside/secret",
				       "/data/parent/outside/secret", "/data/parent/parent/parent/etc/passwd", "/proc/self/root/etc/passwd", "/etc/passwd",
				       "/proc/self/mem", "/proc/self/fd/4097", "/dev/fd/4097", "/dev/mem", "/sys/kernel/notes", many[0], many[1], many[2]};

		snprintf(many[0], sizeof(many[0]), "/data/%.120s%s/secret", up, places.outside);
		snprintf(many[1], sizeof(many[1]), "/data/%.120setc/passwd", up);
		snprintf(many[2], sizeof(many[2]), "%s/own", places.grant);
		for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++, tried++)
			if (leads_out(paths[i]))
				printf("# %s\n", paths[i]), out++;
	}
	tap_eq(out, 0, "links, \"..\", /proc and /dev (%u paths) lead to nothing that was not granted", tried);
	tap_ok(open_at("/ro/read", O_RDWR) == -EROFS && call(__NR_unlinkat, (uint64_t)AT_FDCWD, text(0, "/ro/read"), 0, 0, 0) == -EROFS &&
		       call(__NR_linkat, (uint64_t)AT_FDCWD, text(0, "/ro/read"), (uint64_t)AT_FDCWD, text(1, "/data/hard"), 0) == -EXDEV &&
		       call(__NR_renameat, (uint64_t)AT_FDCWD, text(0, "/ro/read"), (uint64_t)AT_FDCWD, text(1, "/data/moved"), 0) == -EXDEV,
	       "what is to be read cannot be written, removed, or get another name");
	tap_ok(call(__NR_mknodat, (uint64_t)AT_FDCWD, text(0, "/data/node"), S_IFCHR | 0666, 0x101, 0) < 0 &&
		       call(__NR_chroot, text(0, "/data"), 0, 0, 0, 0) < 0 && call(__NR_mount, text(0, "/data"), text(1, "/ro"), 0, 4096, 0) < 0,
	       "no device node is made, no root changed, nothing mounted");
	end(1);
}

/* Directories that move while they are used. */
static void test_renames(void)
{
	char path[160], to[160];
	unsigned int out = 0;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/swap", places.grant);
	if (mkdir(path, 0777) || chown(path, NOBODY, NOBODY))
		err(2, "%s", path);
	link_to("../outside", "swapped");
	places_put(path, "secret", "its own\n");
	begin(1);
	pid = changer(change_names);
	for (int i = 0; i < 3000; i++) {
		const int64_t fd = open_at(i % 2 ? "/data/swap/secret" : "/data/swap/../swapped/secret", i & 2 ? O_RDWR : O_RDONLY);

		out += is_secret(fd);
		if (fd >= 0)
			call(__NR_close, (uint64_t)fd, 0, 0, 0, 0);
	}
	stop(pid);
	tap_eq(out, 0, "a directory changes places with a link that leads out, 3000 openings long");

	/* Somebody on the host moves the directory in which the guest is. */
	snprintf(path, sizeof(path), "%s/deep", places.grant);
	snprintf(to, sizeof(to), "%s/deep", places.outside);
	mkdir(path, 0777);
	call(__NR_chdir, text(0, "/data/deep"), 0, 0, 0, 0);
	tap_eq(call(__NR_dup3, (uint64_t)open_at(".", O_RDONLY | O_DIRECTORY), 5, 0, 0, 0), 5, "a directory is open, and where one is");
	if (rename(path, to))
		err(2, "%s", to);
	tap_ok(!is_secret(open_at("../secret", O_RDONLY)) &&
		       !is_secret(call(__NR_openat, 5, text(0, "../secret"), O_RDONLY, 0, 0)) && !is_secret(open_at("../outside/secret", O_RDONLY)),
	       "when it has been moved out of the grant, it is not left upwards");
	if (rename(to, path))
		err(2, "%s", path);
	end(1);
	world.files = places_sum(); /* the directory outside has another time of change by our own doing */
}

int main(void)
{
	const char *why = world_begin("executors=2");

	if (why) {
		tap_skip("a hostile guest finds no way out of its places", why);
		return tap_done();
	}
	test_links();
	test_renames();
	world_unharmed("after that");
	world_end();
	return tap_done();
}
