/* forward_rules.c - which side a forwarded program's call is made on: paths as text, rules by call, names of both */
#include "runtime/guest/forward/rules.h"

#include <asm/unistd.h>
#include <errno.h>
#include <string.h>

#include "runtime/guest/forward/paths.h"
#include "tests/tap.h"

static void joins(void)
{
	static const struct {
		const char *base, *path, *want;
	} cases[] = {
		{NULL, "/a/b", "/a/b"}, {NULL, "/", "/"}, {NULL, "//a///b/.//c", "/a/b/c"}, {NULL, "/a/../b", "/b"}, {NULL, "/../../x", "/x"},
		{"/a/b", "c", "/a/b/c"}, {"/a/b", "..", "/a"}, {"/a/b", "../..", "/"}, {"/a/b", "../../../c", "/c"}, {"/a/b", ".", "/a/b"},
		{"/a/b", "/c", "/c"}, {"/", "c/", "/c/"}, {"/a", "b/.", "/a/b/"}, {"/a", "", "/a"}, {NULL, "/a/...", "/a/..."},
		{NULL, "/.hidden/..x", "/.hidden/..x"}, {"/a", "b/../", "/a/"},
	};
	char out[64], small[8];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const int n = forward_path_join(out, sizeof(out), cases[i].base, cases[i].path);

		tap_ok(!strcmp(out, cases[i].want) && n == (int)strlen(cases[i].want), "\"%s\" from \"%s\" is %s (%s)", cases[i].path,
		       cases[i].base ? cases[i].base : "", cases[i].want, out);
	}
	tap_eq(forward_path_join(small, sizeof(small), "/abc", "defghijk"), -ENAMETOOLONG, "what does not fit is said");
	tap_ok(!strcmp(small, "/abc"), "and cut behind a whole name (%s)", small);
	tap_eq(forward_path_join(small, sizeof(small), NULL, "/abcdef"), 7, "seven characters and the end fit in eight bytes");
}

static void prefixes(void)
{
	static const char *const bad[] = {"host", "/host:data", "/", "/host/", "/a//b", "/a/./b", "/a/..", ":/a", "/a::/b"};
	struct forward_prefixes p;
	char many[4 * (FORWARD_PREFIXES_MAX + 2)] = "";

	tap_eq(forward_prefixes_take(&p, "/host/data:/srv"), 0, "two directories");
	tap_eq(p.n, 2, "are two");
	tap_ok(forward_path_inside(&p, "/host/data"), "a directory of the host is the host's");
	tap_ok(forward_path_inside(&p, "/host/data/x/y") && forward_path_inside(&p, "/srv/z"), "and so is what is below it");
	tap_ok(!forward_path_inside(&p, "/host/database") && !forward_path_inside(&p, "/host") && !forward_path_inside(&p, "/srv2"),
	       "a name that begins alike is not");
	tap_ok(forward_path_leads(&p, "/host") && forward_path_leads(&p, "/") && forward_path_leads(&p, "/host/"), "directories above lead there");
	tap_ok(!forward_path_leads(&p, "/hos") && !forward_path_leads(&p, "/host/data") && !forward_path_leads(&p, "/other"), "others do not");
	tap_ok(forward_path_climbs("a/../b") && forward_path_climbs("..") && !forward_path_climbs("a/..b/c.."), "which paths climb");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		tap_eq(forward_prefixes_take(&p, bad[i]), -EINVAL, "\"%s\" is refused", bad[i]);
	tap_eq(forward_prefixes_take(&p, ""), 0, "an empty list is none");
	for (int i = 0; i < FORWARD_PREFIXES_MAX + 1; i++)
		strcat(many, i ? ":/a" : "/a");
	tap_eq(forward_prefixes_take(&p, many), -E2BIG, "%d are too many", FORWARD_PREFIXES_MAX + 1);
}

static void sides(void)
{
	static const struct {
		const char *call;
		enum forward_side first, second;
		int want;
	} cases[] = {
		{"read", FORWARD_HERE, FORWARD_HERE, 0}, {"read", FORWARD_THERE, FORWARD_THERE, 1},
		{"rename", FORWARD_HERE, FORWARD_THERE, -EXDEV}, {"rename", FORWARD_THERE, FORWARD_HERE, -EXDEV},
		{"rename", FORWARD_THERE, FORWARD_THERE, 1}, {"linkat", FORWARD_THERE, FORWARD_HERE, -EXDEV},
		{"copy_file_range", FORWARD_HERE, FORWARD_THERE, -EXDEV}, {"splice", FORWARD_HERE, FORWARD_THERE, -EINVAL},
		{"sendfile", FORWARD_THERE, FORWARD_HERE, -EINVAL}, {"inotify_add_watch", FORWARD_THERE, FORWARD_THERE, 1}, {"name_to_handle_at", FORWARD_THERE, FORWARD_THERE, -EOPNOTSUPP},
		{"inotify_add_watch", FORWARD_HERE, FORWARD_HERE, 0}, {"chroot", FORWARD_THERE, FORWARD_THERE, -EPERM},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const int nr = forward_number(cases[i].call, strlen(cases[i].call));

		tap_eq(nr < 0 ? -1000 : forward_sides(forward_rule((uint64_t)nr), cases[i].first, cases[i].second), cases[i].want,
		       "%s with sides %d and %d", cases[i].call, cases[i].first, cases[i].second);
	}
	tap_eq(forward_rule(__NR_getpid)->kind, FORWARD_LOCAL, "getpid names nothing of the host's");
	tap_eq(forward_rule(100000)->kind, FORWARD_LOCAL, "and neither does a call that nobody knows");
}

/* From the manual pages: where path and directory are among the arguments. */
static void arguments(void)
{
	static const struct {
		const char *call;
		enum forward_kind kind;
		int a, b;
	} cases[] = {
		{"openat", FORWARD_AT, 0, 0}, {"symlinkat", FORWARD_AT, 1, 0}, {"symlink", FORWARD_PATH, 1, 0}, {"renameat2", FORWARD_ATS, 0, 2},
		{"linkat", FORWARD_ATS, 0, 2}, {"link", FORWARD_PATHS, 0, 1}, {"fanotify_mark", FORWARD_AT, 3, 0},
		{"inotify_add_watch", FORWARD_PATH, 1, 0}, {"copy_file_range", FORWARD_FDS, 0, 2}, {"splice", FORWARD_FDS, 0, 2},
		{"sendfile", FORWARD_FDS, 0, 1}, {"utimensat", FORWARD_AT, 0, 0}, {"getxattr", FORWARD_PATH, 0, 0}, {"fgetxattr", FORWARD_FD, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const struct forward_rule *r = forward_rule((uint64_t)forward_number(cases[i].call, strlen(cases[i].call)));

		tap_ok(r->kind == cases[i].kind && r->a == cases[i].a && r->b == cases[i].b, "%s: where its things are", cases[i].call);
	}
}

static void names(void)
{
	tap_ok(forward_name(__NR_read) && !strcmp(forward_name(__NR_read), "read"), "a call's name");
	tap_ok(!forward_name(511) && !forward_name(1u << 20), "a number without a call has none");
	tap_eq(forward_number("openat2", 7), __NR_openat2, "a call by name");
	tap_eq(forward_number("openat2x", 7), __NR_openat2, "of which so many characters count");
	tap_eq(forward_number("nothing", 7), -1, "no such call");
	tap_ok(!strcmp(forward_errno_name(ENOENT), "ENOENT") && !strcmp(forward_errno_name(EAGAIN), "EAGAIN"), "names of errors");
	tap_eq(forward_errno_number("EXDEV", 5), EXDEV, "an error by name");
	tap_eq(forward_errno_number("EWHAT", 5), -1, "no such error");
}

int main(void)
{
	joins();
	prefixes();
	sides();
	arguments();
	names();
	return tap_done();
}
