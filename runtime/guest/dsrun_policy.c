/* dsrun_policy.c - see dsrun_policy.h */
#include "runtime/guest/dsrun_policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/guest/forward/paths.h"
#include "runtime/guest/forward/rules.h"

#define LINE_BYTES 1024

static const char *add(char *list, const char *separator, const char *name, const char *equal, const char *value)
{
	const size_t n = strlen(list);

	if ((size_t)snprintf(list + n, DSRUN_POLICY_BYTES - n, "%s%s%s%s", n ? separator : "", name, equal, value) >= DSRUN_POLICY_BYTES - n) {
		list[n] = 0;
		return "too much: the policy of a program has at most 4095 characters";
	}
	return NULL;
}

const char *dsrun_policy_forward(struct dsrun_policy *policy, const char *directory)
{
	struct forward_prefixes prefixes;
	char name[LINE_BYTES];
	size_t n = strlen(directory);

	while (n > 1 && directory[n - 1] == '/')
		n--;
	snprintf(name, sizeof(name), "%.*s", (int)n, directory);
	if (n >= 256 || strchr(name, ':') || forward_prefixes_take(&prefixes, name) || prefixes.n != 1)
		return "a directory of the host is an absolute path below /, without . and .., : and doubled slashes, of at most 255 characters";
	if (add(policy->prefixes, ":", name, "", ""))
		return "too many directories";
	return forward_prefixes_take(&prefixes, policy->prefixes) ? "at most 64 directories" : NULL;
}

/* A word of the line, or NULL. */
static char *word(char **at)
{
	char *w;

	do
		w = strsep(at, " \t\n");
	while (w && !*w);
	return w;
}

static const char *calls(struct dsrun_policy *policy, char **at, const char *value)
{
	const char *name, *wrong = NULL;
	int n = 0;

	for (; !wrong && (name = word(at)); n++)
		wrong = forward_number(name, strlen(name)) < 0 ? "there is no system call of that name" : add(policy->calls, ";", name, "=", value);
	return wrong ? wrong : n ? NULL : "which system calls?";
}

static const char *emulate(struct dsrun_policy *policy, char **at)
{
	const char *value = word(at);
	char text[64], *end;

	if (!value || (strtol(value, &end, 10), *end) || strlen(value) > 18)
		return "emulate wants a number first";
	snprintf(text, sizeof(text), "emulate:%s", value);
	return calls(policy, at, text);
}

static const char *one_line(struct dsrun_policy *policy, char *line)
{
	const char *verb, *value;

	line[strcspn(line, "#")] = 0;
	verb = word(&line);
	if (!verb)
		return NULL;
	if (!strcmp(verb, "local"))
		return calls(policy, &line, "local");
	if (!strcmp(verb, "emulate"))
		return emulate(policy, &line);
	value = word(&line);
	if (!strcmp(verb, "deny"))
		return !value || forward_errno_number(value, strlen(value)) <= 0 ? "deny wants the name of an errno first, such as EPERM" :
										   calls(policy, &line, value);
	if (!strcmp(verb, "forward") || !strcmp(verb, "net")) {
		if (!value || word(&line))
			return "one word is wanted";
		if (verb[0] == 'f')
			return dsrun_policy_forward(policy, value);
		policy->net = !strcmp(value, "host");
		return policy->net || !strcmp(value, "guest") ? NULL : "net: host or guest";
	}
	return "a line begins with forward, net, local, deny or emulate";
}

static void close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

int dsrun_policy_load(struct dsrun_policy *policy, const char *path, char *why, size_t why_bytes)
{
	__attribute__((cleanup(close_file))) FILE *f = fopen(path, "re");
	const char *wrong = NULL;
	char line[LINE_BYTES];
	int n = 0;

	if (!f) {
		const int err = errno;

		snprintf(why, why_bytes, "%s: %s", path, strerror(err));
		return -err;
	}
	while (!wrong && fgets(line, sizeof(line), f)) {
		n++;
		wrong = strlen(line) == sizeof(line) - 1 ? "the line is too long" : one_line(policy, line);
	}
	if (!wrong)
		return 0;
	snprintf(why, why_bytes, "%s:%d: %s", path, n, wrong);
	return -EINVAL;
}
