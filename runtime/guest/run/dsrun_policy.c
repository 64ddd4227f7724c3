/* dsrun_policy.c - see dsrun_policy.h */
#include "runtime/guest/run/dsrun_policy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/guest/forward/paths.h"

#define LINE_BYTES 1024

const char *dsrun_policy_forward(struct dsrun_policy *policy, const char *directory)
{
	struct forward_prefixes prefixes;
	const size_t have = strlen(policy->prefixes);
	char name[LINE_BYTES];
	size_t n = strlen(directory);

	while (n > 1 && directory[n - 1] == '/')
		n--;
	snprintf(name, sizeof(name), "%.*s", (int)n, directory);
	if (n >= 256 || strchr(name, ':') || forward_prefixes_take(&prefixes, name) || prefixes.n != 1)
		return "a directory of the host is an absolute path below /, without . and .., : and doubled slashes, of at most 255 characters";
	if ((size_t)snprintf(policy->prefixes + have, sizeof(policy->prefixes) - have, "%s%s", have ? ":" : "", name) >= sizeof(policy->prefixes) - have) {
		policy->prefixes[have] = 0;
		return "too many directories";
	}
	return forward_prefixes_take(&prefixes, policy->prefixes) ? "at most 64 directories" : NULL;
}

/* Return: 0, -1: @fault says why. */
static int one_line(struct dsrun_policy *policy, char *line, struct policy_text_fault *fault)
{
	const uint32_t before = policy->text.n;
	const size_t have = strlen(policy->rules);

	line[strcspn(line, "\n")] = 0;
	if (policy_text_read(&policy->text, line, fault))
		return -1;
	if (policy->text.n == before)
		return 0;
	if ((size_t)snprintf(policy->rules + have, sizeof(policy->rules) - have, "%s\n", line) < sizeof(policy->rules) - have)
		return 0;
	policy->rules[have] = 0;
	*fault = (struct policy_text_fault){.why = "there is too much in it: at most 8191 characters"};
	return -1;
}

static void close_file(FILE **f)
{
	if (*f)
		fclose(*f);
}

static void free_line(char **line)
{
	free(*line);
}

int dsrun_policy_load(struct dsrun_policy *policy, const char *path, char *why, size_t why_bytes)
{
	__attribute__((cleanup(close_file))) FILE *f = fopen(path, "re");
	__attribute__((cleanup(free_line))) char *line = NULL;
	struct policy_text_fault fault;
	size_t room = 0;
	ssize_t bytes;

	if (!f) {
		const int err = errno;

		snprintf(why, why_bytes, "%s: %s", path, strerror(err));
		return -err;
	}
	for (unsigned int n = 1; (bytes = getline(&line, &room, f)) >= 0; n++) {
		if (strlen(line) != (size_t)bytes)
			fault = (struct policy_text_fault){.why = "there is a byte 0 in it"};
		else if (!one_line(policy, line, &fault))
			continue;
		snprintf(why, why_bytes, "%s:%u: %s%s%.*s%s", path, n, fault.why, fault.bytes ? ": '" : "", (int)fault.bytes, fault.bytes ? fault.at : "",
			 fault.bytes ? "'" : "");
		return -EINVAL;
	}
	if (!ferror(f))
		return 0;
	snprintf(why, why_bytes, "%s: %s", path, strerror(errno));
	return -EIO;
}
