/* config.c - the configuration parser: what it takes, what it refuses, where it says the fault is */
#include "collector/config.h"

#include <errno.h>
#include <string.h>

#include "tests/tap.h"

static struct config parse(const char *text, int *ret, struct config_error *e)
{
	struct config c;

	config_default(&c);
	*e = (struct config_error){0};
	*ret = config_parse(&c, text, strlen(text), e);
	return c;
}

/* @text sets DB to @want. */
static void takes(const char *text, const char *want)
{
	struct config_error e;
	int ret;
	struct config c = parse(text, &ret, &e);

	if (!tap_ok(ret == 0 && strcmp(c.db, want) == 0, "%s", text))
		printf("# ret %d, line %u, %s, DB is %s\n", ret, e.line, e.why, c.db);
}

/* @text is refused, with @word in the reason, at @line. */
static void refuses(const char *text, unsigned int line, const char *word)
{
	struct config_error e;
	int ret;

	parse(text, &ret, &e);
	if (!tap_ok(ret < 0 && e.line == line && strstr(e.why, word), "refused: %.40s", strncmp(text, "DB=/a\n", 6) ? text : text + 6))
		printf("# ret %d, line %u, %s\n", ret, e.line, e.why);
}

static void check_values(void)
{
	struct config_error e;
	int ret;
	struct config c = parse("DB=/a/b.db\nJOIN=full\nJOBS=7\nHISTORY=30\nTIMEOUT_S=2.5\nKEEP_RUNS=1\n", &ret, &e);

	tap_eq(ret, 0, "a file with every key is read");
	tap_ok(strcmp(c.db, "/a/b.db") == 0, "DB");
	tap_eq(c.join, RLE_JOIN_FULL, "JOIN");
	tap_eq(c.jobs, 7, "JOBS");
	tap_eq(c.history_days, 30, "HISTORY in days");
	tap_eq(c.timeout_ns, 2500000000, "TIMEOUT_S with a fraction");
	tap_eq(c.keep_runs, 1, "KEEP_RUNS");
	tap_eq(c.set, (1 << CONFIG_NKEY) - 1, "and all of them count as set");
	c = parse("", &ret, &e);
	tap_ok(ret == 0 && c.set == 0 && c.history_days == 0 && c.timeout_ns == 5000000000, "an empty file leaves the defaults");
}

static void check_quoting(void)
{
	takes("DB=/a", "/a");
	takes("  DB=/a  ", "/a");
	takes("export DB=/a", "/a");
	takes("DB=/a # a comment", "/a");
	takes("DB=/a#b", "/a#b");
	takes("DB='/a b'", "/a b");
	takes("DB=\"/a b\"", "/a b");
	takes("DB='/a\"b'", "/a\"b");
	takes("DB=\"/a'b\"", "/a'b");
	takes("DB='/$a`b\\'", "/$a`b\\");
	takes("DB=\"/a\\\"b\\$c\\\\d\\`e\"", "/a\"b$c\\d`e");
	takes("DB=\"/a\\b\"", "/a\\b");
	takes("DB=/a\\ b\\$c", "/a b$c");
	takes("DB=/a'b c'\"d e\"f", "/ab cd ef");
	takes("DB=/a\r\n", "/a");
	takes("# DB=/b\n\n\t\nDB=/a", "/a");
}

static void check_faults(void)
{
	char longest[PATH_MAX + 16] = "DB=";

	refuses("DB=/a\nDB =/b", 2, "KEY=VALUE");
	refuses("DB=/a\nnonsense", 2, "KEY=VALUE");
	refuses("DB=/a\n=x", 2, "KEY=VALUE");
	refuses("DB=/a\nHISTROY=3", 2, "unknown key 'HISTROY'");
	refuses("DB=/a\ndb=/b", 2, "unknown key 'db'");
	refuses("DB=/a\nDB=/b", 2, "twice");
	refuses("DB=/a\nJOBS=1 2", 2, "quotes");
	refuses("DB=/a\nJOBS='1", 2, "not closed");
	refuses("DB=/a\nJOBS=\"1", 2, "not closed");
	refuses("DB=/a\nJOBS=1\\", 2, "backslash");
	refuses("DB=$HOME/x", 1, "expanded");
	refuses("DB=\"$HOME/x\"", 1, "expanded");
	refuses("DB=`pwd`", 1, "expanded");
	refuses("DB=/a; reboot", 1, "executed");
	refuses("DB=/a&", 1, "executed");
	refuses("DB=/a>b", 1, "executed");
	refuses("DB=", 1, "path");
	refuses("JOIN=all", 1, "none, head or full");
	refuses("JOBS=0", 1, "1 to 64");
	refuses("JOBS=65", 1, "1 to 64");
	refuses("JOBS=2x", 1, "1 to 64");
	refuses("JOBS=' 2'", 1, "1 to 64");
	refuses("JOBS=99999999999999999999", 1, "1 to 64");
	refuses("HISTORY=-1", 1, "days");
	refuses("TIMEOUT_S=0", 1, "seconds");
	refuses("TIMEOUT_S=nan", 1, "seconds");
	refuses("TIMEOUT_S=1e3", 1, "seconds");
	refuses("TIMEOUT_S=1.2.3", 1, "seconds");
	refuses("KEEP_RUNS=yes", 1, "0 or 1");
	memset(longest + 3, 'x', PATH_MAX);
	refuses(longest, 1, "long");
	longest[3 + PATH_MAX - 1] = '\0';
	takes(longest, longest + 3);
}

static void check_binary(void)
{
	struct config_error e;
	struct config c;

	config_default(&c);
	tap_ok(config_parse(&c, "DB=/a\nJO\0BS=1\n", 14, &e) < 0 && e.line == 2 && strstr(e.why, "NUL"), "a NUL byte is refused, with its line");
}

static void check_merge(void)
{
	struct config line, file;
	char why[CONFIG_WHY_BYTES];

	config_default(&line);
	config_default(&file);
	config_set(&line, CONFIG_JOBS, "3", why);
	config_set(&file, CONFIG_JOBS, "5", why);
	config_set(&file, CONFIG_HISTORY, "9", why);
	config_merge(&line, &file);
	tap_eq(line.jobs, 3, "what the command line says wins");
	tap_eq(line.history_days, 9, "what it does not say comes from the file");
}

static void check_load(void)
{
	struct config_error e;
	struct config c;

	config_default(&c);
	tap_eq(config_load(&c, "/nonexistent/file", &e), -ENOENT, "a missing file is told apart");
	tap_ok(config_load(&c, "/dev/zero", &e) == -EFBIG && e.line == 0, "a file without end is refused");
	tap_ok(config_load(&c, "/", &e) == -EISDIR && strstr(e.why, "directory"), "a folder is refused");
}

int main(void)
{
	check_values();
	check_quoting();
	check_faults();
	check_binary();
	check_merge();
	check_load();
	return tap_done();
}
