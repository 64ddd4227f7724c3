/* dsrun_devices.c - see dsrun_devices.h */
#include "runtime/guest/run/dsrun_devices.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rle/cleanup.h"
#include "runtime/guest/agent/agent_ask.h"

#define TIMEOUT_MS 30000
#define FIELD_BYTES 300

/* A line of the answer. */
struct line {
	char verb[16], path[FIELD_BYTES], type[8], number[24], mode[16];
};

const char *dsrun_devices_add(struct dsrun_devices *d, const char *pattern)
{
	if (strncmp(pattern, "/dev/", 5) || !pattern[5] || strchr(pattern, ':'))
		return "a path below /dev, or a pattern of such paths";
	if (d->n == DSRUN_DEVICES_MAX)
		return "at most 16 of them";
	d->pattern[d->n++] = pattern;
	return NULL;
}

/* The next line of @text.  Return: whether there was one. */
static bool next_line(const char **text, struct line *l)
{
	char line[FIELD_BYTES + 100];
	size_t n = strcspn(*text, "\n");

	if (!**text)
		return false;
	*l = (struct line){.verb = ""};
	snprintf(line, sizeof(line), "%.*s", (int)(n < sizeof(line) ? n : 0), *text);
	if (sscanf(line, "%15s %299s %7s %23s %15s", l->verb, l->path, l->type, l->number, l->mode) < 2)
		l->verb[0] = 0;
	*text += n + ((*text)[n] == '\n');
	return true;
}

/* Return: 0; -1 after saying why not. */
static int ask(const char *socket, const char *service, const char *program, char text[DS_LOCAL_PAYLOAD_MAX + 1])
{
	cleanup_close int fd = agent_ask_connect(socket);
	struct ds_local_refused refused;
	int more = 0, rc;

	if (fd < 0) {
		fprintf(stderr, "dsrun: dsagent does not answer at %s: %s; is it running?\n", socket ? socket : DS_LOCAL_SOCKET, strerror(-fd));
		return -1;
	}
	rc = agent_ask_devices(fd, service, program, TIMEOUT_MS, text, &more, &refused);
	if (rc == -EACCES)
		fprintf(stderr, "dsrun: which devices the host grants cannot be found out: %s\n", refused.text);
	else if (rc)
		fprintf(stderr, "dsrun: which devices the host grants cannot be found out: %s\n",
			rc == -EPROTO ? "dsagent gave no answer, or is of another version" : strerror(-rc));
	if (more)
		fputs("dsrun: the host grants more devices than could be listed\n", stderr);
	return rc ? -1 : 0;
}

static bool has_wildcard(const char *pattern)
{
	return strpbrk(pattern, "*?[") != NULL;
}

/* The path, or the folder below /dev that it is in, becomes the host's. */
static const char *forward(struct dsrun_policy *policy, const char *path)
{
	const char *folder = strncmp(path, "/dev/", 5) ? NULL : strchr(path + 5, '/');
	char prefix[FIELD_BYTES];
	size_t n;

	snprintf(prefix, sizeof(prefix), "%.*s", folder ? (int)(folder - path) : FIELD_BYTES - 1, path);
	n = strlen(prefix);
	for (const char *at = policy->prefixes; *at; at += strcspn(at, ":"), at += *at == ':')
		if (strcspn(at, ":") == n && !memcmp(at, prefix, n))
			return NULL;
	return dsrun_policy_forward(policy, prefix);
}

static void say_instead(const char *pattern, const char *program, const char *text)
{
	struct line l;
	int n = 0;

	fprintf(stderr, "dsrun: --device %s: the host grants no such device to %s", pattern, program);
	while (next_line(&text, &l))
		if (!strcmp(l.verb, "device"))
			fprintf(stderr, "%s%s", n++ ? " " : "; it grants: ", l.path);
	fputc('\n', stderr);
}

/* Return: how many devices match, -1: too many prefixes. */
static int forward_matching(struct dsrun_policy *policy, const char *pattern, const char *text)
{
	struct line l;
	int n = 0;

	while (next_line(&text, &l)) {
		if (strcmp(l.verb, "device") || fnmatch(pattern, l.path, FNM_PATHNAME | FNM_LEADING_DIR))
			continue;
		if (forward(policy, l.path))
			return -1;
		n++;
	}
	return n;
}

int dsrun_devices_take(const struct dsrun_devices *d, struct dsrun_policy *policy, const char *socket, const char *service, const char *program)
{
	char answer[DS_LOCAL_PAYLOAD_MAX + 1] = "";
	const char *text = answer;
	struct line l;
	int matched = 0;
	const bool known = !ask(socket, service, program, answer);

	for (size_t i = 0; i < d->n; i++) {
		const bool pattern = has_wildcard(d->pattern[i]);
		const int n = forward_matching(policy, d->pattern[i], answer);
		const char *wrong = n < 0 ? "too many devices" : !n && !pattern ? forward(policy, d->pattern[i]) : NULL;

		if (wrong) {
			fprintf(stderr, "dsrun: --device %s: %s\n", d->pattern[i], wrong);
			return -1;
		}
		if (!n && pattern) {
			if (known)
				say_instead(d->pattern[i], program, answer);
			return -1;
		}
		matched += n;
	}
	while (matched && next_line(&text, &l))
		if (!strcmp(l.verb, "path") && (!strncmp(l.path, "/sys/", 5) || !strncmp(l.path, "/proc/", 6)) && forward(policy, l.path))
			return -1;
	return 0;
}

int dsrun_devices_list(const char *socket, const char *service, const char *program)
{
	char answer[DS_LOCAL_PAYLOAD_MAX + 1];
	const char *text = answer;
	struct line l;
	int n = 0;

	if (ask(socket, service, program, answer))
		return -1;
	while (next_line(&text, &l)) {
		if (!strcmp(l.verb, "program"))
			printf("to programs %s:\n", l.path);
		else if (!strcmp(l.verb, "device"))
			printf("%-32s %s %s\n", l.path, l.type, l.number);
		else if (!strcmp(l.verb, "path"))
			printf("%-32s %s\n", l.path, l.type);
		n += !strcmp(l.verb, "device");
	}
	if (!n)
		fprintf(stderr, "dsrun: the host grants %s%s no device that is there\n", *program ? "" : "programs of this user", program);
	return 0;
}
