/* granted.c - see granted.h */
#include "runtime/host/policy/granted.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "runtime/host/jail/jaildev.h"

/* A whole line, or none. */
__attribute__((format(printf, 2, 3))) static void add(struct granted *l, const char *fmt, ...)
{
	const size_t room = sizeof(l->text) - l->n;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->n, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		l->more = true;
	else
		l->n += (size_t)n;
}

static int add_device(void *ctx, const struct jaildev_node *node)
{
	if (!S_ISLNK(node->mode))
		add(ctx, "device %s %c %u:%u %o\n", node->path, S_ISCHR(node->mode) ? 'c' : 'b', major(node->number), minor(node->number),
		    (unsigned int)(node->mode & 07777));
	return 0;
}

static void add_rule(struct granted *l, const struct policy_rule *r)
{
	const char *device[POLICY_DEVICES_MAX];

	for (uint32_t i = 0; i < r->ndevices; i++)
		device[i] = r->device[i];
	jaildev_each(device, r->ndevices, add_device, l);
	for (uint32_t i = 0; i < r->npaths; i++)
		add(l, "path %s %s\n", r->path[i].guest, r->path[i].writable ? "rw" : "ro");
}

static bool may_be(const struct policy_rule *r, const struct policy_query *q)
{
	return r->verb == POLICY_ALLOW && r->ndevices && (r->any_uid || r->uid == q->uid) && (!*r->vm || policy_glob(r->vm, q->vm)) &&
	       (!*r->service || !strcmp(r->service, q->service));
}

void granted_list(const struct policy *policy, const struct policy_query *query, struct granted *g)
{
	g->n = 0;
	g->more = false;
	if (*query->program) {
		const struct policy_rule *r = policy_find(policy, query, NULL, NULL);

		if (r)
			add_rule(g, r);
		return;
	}
	for (size_t i = 0; policy && i < policy->nrules; i++) {
		if (!may_be(&policy->rule[i], query))
			continue;
		add(g, "program %s\n", policy->rule[i].program);
		add_rule(g, &policy->rule[i]);
	}
}
