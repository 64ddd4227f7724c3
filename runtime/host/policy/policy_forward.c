/* policy_forward.c - the keys of a rule that say what a shadow may have of the host; see policy_parts.h and ds-policy(5) */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/host/policy/callgroup.h"
#include "runtime/host/policy/policy_parts.h"

/* Absolute, and as the kernel would write it: what is within what can be seen from the text then. */
static bool is_normal(const char *path)
{
	if (*path != '/' || !path[1])
		return false;
	for (const char *at = path; *at; at += strcspn(at + 1, "/") + 1) {
		const size_t n = strcspn(at + 1, "/");

		if (!n || (n == 1 && at[1] == '.') || (n == 2 && at[1] == '.' && at[2] == '.'))
			return false;
	}
	return true;
}

const char policy_dev_taken[] = "no path of the guest in /dev beside devices, which have that to themselves";

static bool is_within(const char *path, const char *directory)
{
	const size_t n = strlen(directory);

	return !strncmp(path, directory, n) && (path[n] == '/' || !path[n]);
}

const char *policy_set_path(struct policy_rule *r, const char *value)
{
	const char *first = strchr(value, ':'), *last = strrchr(value, ':');
	struct policy_path p = {0};
	size_t guest, host;

	if (!first || last == first)
		return "GUESTPATH:HOSTPATH:ro or :rw";
	guest = (size_t)(first - value), host = (size_t)(last - first - 1);
	if (memchr(first + 1, ':', host))
		return "paths without a colon in them";
	if (guest >= sizeof(p.guest) || host >= sizeof(p.host))
		return "paths of up to 255 characters";
	memcpy(p.guest, value, guest);
	memcpy(p.host, first + 1, host);
	if (strcmp(last, ":ro") && strcmp(last, ":rw"))
		return "ro or rw behind the paths";
	p.writable = !strcmp(last, ":rw");
	if (!is_normal(p.guest) || !is_normal(p.host))
		return "whole paths other than / without . or .. or empty parts";
	for (uint32_t i = 0; i < r->npaths; i++)
		if (is_within(p.guest, r->path[i].guest) || is_within(r->path[i].guest, p.guest))
			return "paths of the guest of which none is within another of the rule";
	if (r->ndevices && is_within(p.guest, "/dev"))
		return policy_dev_taken;
	if (r->npaths == POLICY_PATHS_MAX)
		return "at most 8 paths";
	r->path[r->npaths++] = p;
	return NULL;
}

const char *policy_set_net(struct policy_rule *r, const char *value)
{
	r->net_host = !strcmp(value, "host");
	r->net_own = !strcmp(value, "own");
	return r->net_host || r->net_own || !strcmp(value, "none") ? NULL : "none, own or host";
}

const char *policy_set_calls(struct policy_rule *r, const char *value)
{
	char name[32];

	r->calls = 0;
	for (const char *at = value;; at++) {
		const size_t n = strcspn(at, ",");
		uint32_t bit;

		snprintf(name, sizeof(name), "%.*s", n < sizeof(name) ? (int)n : 0, at);
		bit = callgroup_find(name);
		if (!bit || r->calls & bit)
			return "some of file,dir,socket,poll,info,device, each once";
		r->calls |= bit;
		at += n;
		if (!*at)
			return NULL;
	}
}

const char *policy_set_user(struct policy_rule *r, const char *value)
{
	static const char wants[] = "UID or UID:GID of the host, or nobody; root only by that word";
	const char *colon = strchr(value, ':');
	const size_t n = colon ? (size_t)(colon - value) : strlen(value);
	uint64_t uid = 0, gid;
	char text[16];

	if (!strcmp(value, "root")) {
		r->uid_host = r->gid_host = 0;
		return NULL;
	}
	if (!strcmp(value, "nobody")) {
		r->uid_host = r->gid_host = POLICY_USER_NOBODY;
		return NULL;
	}
	if (n >= sizeof(text))
		return wants;
	memcpy(text, value, n);
	text[n] = 0;
	if (policy_number(text, UINT32_MAX - 1, &uid))
		return wants;
	gid = uid;
	if (colon && policy_number(colon + 1, UINT32_MAX - 1, &gid))
		return wants;
	if (!uid || !gid)
		return "another user and group than root's; if root is meant, user=root";
	r->uid_host = (uint32_t)uid;
	r->gid_host = (uint32_t)gid;
	return NULL;
}

void policy_forward_defaults(struct policy_rule *r, bool calls_given)
{
	const bool net = r->net_host || r->net_own || r->families & POLICY_UNIX;

	if (calls_given || (!r->npaths && !net && !r->ndevices))
		return;
	r->calls = CALLGROUP_POLL | CALLGROUP_INFO | (r->npaths ? CALLGROUP_FILE | CALLGROUP_DIR : 0) |
		   (net ? CALLGROUP_FILE | CALLGROUP_SOCKET : 0) |
		   (r->ndevices ? CALLGROUP_FILE | CALLGROUP_DIR | CALLGROUP_DEVICE : 0);
}
