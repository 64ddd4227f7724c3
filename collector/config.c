/* config.c - the settings, and the file that they can be written in; grammar in config.h */
#include "collector/config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/poolshm.h"
#include "rle/cleanup.h"

#define HISTORY_MAX_DAYS 36500
#define TIMEOUT_MAX_S 3600.0
#define KEY_BYTES 32

static const char *const key_name[CONFIG_NKEY] = {
	[CONFIG_DB] = "DB",	      [CONFIG_JOIN] = "JOIN",		[CONFIG_JOBS] = "JOBS",
	[CONFIG_HISTORY] = "HISTORY", [CONFIG_TIMEOUT_S] = "TIMEOUT_S", [CONFIG_KEEP_RUNS] = "KEEP_RUNS",
};

/* Two workers read the machine 1.5 to 1.7 times as fast as one; more of them would be felt by those who work on it. */
static int default_jobs(void)
{
	cpu_set_t cpus;

	return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) < 2 ? 1 : 2;
}

void config_default(struct config *c)
{
	*c = (struct config){
		.db = "/var/lib/dscollect/dscollect.db",
		.join = RLE_JOIN_NONE,
		.jobs = default_jobs(),
		.timeout_ns = UINT64_C(5000000000),
	};
}

static int whole_number(const char *value, unsigned long max, unsigned long *n)
{
	char *end;

	if (*value < '0' || *value > '9')
		return -EINVAL; /* strtoul() takes blanks and signs */
	errno = 0;
	*n = strtoul(value, &end, 10);
	return errno || *end || *n > max ? -EINVAL : 0;
}

static int seconds(const char *value, double max, uint64_t *ns)
{
	char *end;
	double s;

	if ((*value < '0' || *value > '9') && *value != '.')
		return -EINVAL; /* strtod() takes blanks, signs, inf and nan */
	if (strspn(value, "0123456789.") != strlen(value))
		return -EINVAL; /* and hexadecimal and exponents */
	s = strtod(value, &end);
	if (*end || s < 0.01 || s > max)
		return -EINVAL;
	*ns = s * 1e9;
	return 0;
}

static int set_join(struct config *c, const char *value)
{
	static const char *const word[] = {[RLE_JOIN_NONE] = "none", [RLE_JOIN_HEAD] = "head", [RLE_JOIN_FULL] = "full"};

	for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
		if (strcmp(value, word[i]) == 0) {
			c->join = i;
			return 0;
		}
	return -EINVAL;
}

int config_set(struct config *c, enum config_key key, const char *value, char why[static CONFIG_WHY_BYTES])
{
	const char *want = "";
	unsigned long n = 0;
	int err = 0;

	switch (key) {
	case CONFIG_DB:
		want = "the path of a file";
		if (!*value || strlen(value) >= sizeof(c->db))
			err = -EINVAL;
		else
			strcpy(c->db, value);
		break;
	case CONFIG_JOIN:
		want = "none, head or full";
		err = set_join(c, value);
		break;
	case CONFIG_JOBS:
		want = "a number from 1 to 64";
		err = whole_number(value, POOL_MAX_JOBS, &n);
		if (!err && n == 0)
			err = -EINVAL;
		if (!err)
			c->jobs = n;
		break;
	case CONFIG_HISTORY:
		want = "a number of days, 0 for no end";
		err = whole_number(value, HISTORY_MAX_DAYS, &n);
		if (!err)
			c->history_days = n;
		break;
	case CONFIG_TIMEOUT_S:
		want = "seconds, 0.01 to 3600";
		err = seconds(value, TIMEOUT_MAX_S, &c->timeout_ns);
		break;
	case CONFIG_KEEP_RUNS:
		want = "0 or 1";
		err = whole_number(value, 1, &n);
		if (!err)
			c->keep_runs = n;
		break;
	case CONFIG_NKEY:
		err = -EINVAL;
	}
	if (err)
		snprintf(why, CONFIG_WHY_BYTES, "%s must be %s, not '%.80s'", key_name[key], want, value);
	else
		c->set |= 1u << key;
	return err;
}

void config_merge(struct config *c, const struct config *weaker)
{
	unsigned int take = weaker->set & ~c->set;

	if (take & 1u << CONFIG_DB)
		memcpy(c->db, weaker->db, sizeof(c->db));
	if (take & 1u << CONFIG_JOIN)
		c->join = weaker->join;
	if (take & 1u << CONFIG_JOBS)
		c->jobs = weaker->jobs;
	if (take & 1u << CONFIG_HISTORY)
		c->history_days = weaker->history_days;
	if (take & 1u << CONFIG_TIMEOUT_S)
		c->timeout_ns = weaker->timeout_ns;
	if (take & 1u << CONFIG_KEEP_RUNS)
		c->keep_runs = weaker->keep_runs;
	c->set |= take;
}

/* A line being read; the text behind it ends at @end. */
struct cursor {
	const char *at, *end;
};

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct cursor *s)
{
	while (s->at < s->end && blank(*s->at))
		s->at++;
}

/* A word of A-Z, 0-9 and _ (letters of either case), up to @size - 1 long.  Return: its length, 0 if there is none. */
static size_t take_word(struct cursor *s, char *word, size_t size)
{
	size_t n = 0;

	while (s->at < s->end && n + 1 < size &&
	       (*s->at == '_' || (*s->at >= '0' && *s->at <= '9') || ((*s->at | 32) >= 'a' && (*s->at | 32) <= 'z')))
		word[n++] = *s->at++;
	word[n] = '\0';
	return n;
}

/* One value.  Return: NULL, or what is wrong with it. */
static const char *take_value(struct cursor *s, char *value, size_t size)
{
	char quote = 0;
	size_t n = 0;

	for (; s->at < s->end; s->at++) {
		char c = *s->at;
		bool plain = false;

		if (c == quote && quote) {
			quote = 0;
			continue;
		}
		if (!quote && (c == '"' || c == '\'')) {
			quote = c;
			continue;
		}
		if (!quote && blank(c))
			break;
		if (c == '\\' && quote != '\'') {
			if (s->at + 1 == s->end)
				return "a backslash at the end of the line: lines cannot be continued";
			if (!quote || strchr("\"\\$`", s->at[1])) {
				c = *++s->at;
				plain = true;
			}
		}
		if (!plain && quote != '\'' && (c == '$' || c == '`'))
			return "nothing is expanded in this file: put $ and ` in single quotes";
		if (!plain && !quote && strchr(";&|<>()", c))
			return "nothing is executed in this file: put this character in quotes";
		if (n + 1 == size)
			return "the value is too long";
		value[n++] = c;
	}
	value[n] = '\0';
	return quote ? "a quote is not closed" : NULL;
}

/* Return: NULL, or what is wrong with the line. */
static const char *parse_line(struct config *c, struct cursor *s, unsigned int *seen, char why[static CONFIG_WHY_BYTES])
{
	char word[KEY_BYTES], value[PATH_MAX];
	const char *fault;
	int key;

	skip_blanks(s);
	if (s->at == s->end || *s->at == '#')
		return NULL;
	if (take_word(s, word, sizeof(word)) && strcmp(word, "export") == 0 && s->at < s->end && blank(*s->at)) {
		skip_blanks(s);
		take_word(s, word, sizeof(word));
	}
	if (!*word || s->at == s->end || *s->at != '=')
		return "expected KEY=VALUE, with nothing between KEY and =";
	s->at++;
	for (key = 0; key < CONFIG_NKEY && strcmp(word, key_name[key]); key++)
		;
	if (key == CONFIG_NKEY) {
		snprintf(why, CONFIG_WHY_BYTES, "unknown key '%s'; known are DB, JOIN, JOBS, HISTORY, TIMEOUT_S, KEEP_RUNS", word);
		return why;
	}
	if (*seen & 1u << key) {
		snprintf(why, CONFIG_WHY_BYTES, "%s is set twice", word);
		return why;
	}
	*seen |= 1u << key;
	fault = take_value(s, value, sizeof(value));
	if (fault)
		return fault;
	skip_blanks(s);
	if (s->at < s->end && *s->at != '#')
		return "something follows the value: a value with blanks in it needs quotes";
	return config_set(c, key, value, why) ? why : NULL;
}

int config_parse(struct config *c, const char *text, size_t bytes, struct config_error *e)
{
	const char *end = text + bytes;
	unsigned int seen = 0;

	e->line = 0;
	while (text < end) {
		const char *newline = memchr(text, '\n', end - text);
		struct cursor line = {text, newline ? newline : end};
		const char *fault;

		e->line++;
		if (memchr(line.at, '\0', line.end - line.at))
			fault = "a NUL byte: this is no text file";
		else
			fault = parse_line(c, &line, &seen, e->why);
		if (fault) {
			if (fault != e->why)
				snprintf(e->why, sizeof(e->why), "%s", fault);
			return -EINVAL;
		}
		text = newline ? newline + 1 : end;
	}
	return 0;
}

int config_load(struct config *c, const char *path, struct config_error *e)
{
	cleanup_free char *text = malloc(CONFIG_FILE_BYTES + 1);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	size_t bytes = 0;
	ssize_t n = -1;

	e->line = 0;
	if (fd < 0 || !text) {
		int err = fd < 0 ? -errno : -ENOMEM;

		snprintf(e->why, sizeof(e->why), "%s", strerror(-err));
		return err;
	}
	while (bytes <= CONFIG_FILE_BYTES && (n = read(fd, text + bytes, CONFIG_FILE_BYTES + 1 - bytes)) > 0)
		bytes += n;
	if (n < 0) {
		int err = -errno;

		snprintf(e->why, sizeof(e->why), "%s", strerror(-err));
		return err;
	}
	if (bytes > CONFIG_FILE_BYTES) {
		snprintf(e->why, sizeof(e->why), "longer than %d bytes: is this the right file?", CONFIG_FILE_BYTES);
		return -EFBIG;
	}
	return config_parse(c, text, bytes, e);
}
