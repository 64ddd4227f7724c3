/* warden_devices.c - which devices a program of the guest could have: lines of text, made from the policy and the host's /dev
 *
 * The question comes in place of an ATTACH, and nothing is started.  Who asks is told what the rules about its VM and user say, and
 * no more; what the guest's programs are called is the guest's word here as there.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "runtime/host/jaildev.h"
#include "runtime/host/warden_parts.h"

struct listing {
	char text[DS_AGENT_PAYLOAD_MAX];
	size_t n;
	bool more;
};

/* A whole line, or none. */
__attribute__((format(printf, 2, 3))) static void add(struct listing *l, const char *fmt, ...)
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

static void add_rule(struct listing *l, const struct policy_rule *r)
{
	const char *device[POLICY_DEVICES_MAX];

	for (uint32_t i = 0; i < r->ndevices; i++)
		device[i] = r->device[i];
	jaildev_each(device, r->ndevices, add_device, l);
	for (uint32_t i = 0; i < r->npaths; i++)
		add(l, "path %s %s\n", r->path[i].guest, r->path[i].writable ? "rw" : "ro");
}

static bool may_be(const struct warden *w, const struct policy_rule *r, const struct ds_agent_devices *msg)
{
	return r->verb == POLICY_ALLOW && r->ndevices && (r->any_uid || r->uid == msg->uid) && (!*r->vm || policy_glob(r->vm, w->p->vm)) &&
	       (!*r->service || !strcmp(r->service, msg->service));
}

void warden_devices(struct warden *w, const struct ds_agent_devices *msg)
{
	const struct policy_query query = {.vm = w->p->vm, .program = msg->program, .service = msg->service, .uid = msg->uid, .mode = DS_AGENT_DEMAND};
	struct ds_agent_call answer = {.executor = 0};
	const struct policy *policy = w->p->policy;
	struct listing l = {.n = 0};

	if (*msg->program) {
		const struct policy_rule *r = policy_find(policy, &query, NULL, NULL);

		if (r)
			add_rule(&l, r);
	} else {
		for (size_t i = 0; policy && i < policy->nrules; i++) {
			if (!may_be(w, &policy->rule[i], msg))
				continue;
			add(&l, "program %s\n", policy->rule[i].program);
			add_rule(&l, &policy->rule[i]);
		}
	}
	answer.executor = l.more;
	answer.payload_bytes = (uint32_t)l.n;
	w->hello_deadline_ns = warden_after_ms(w->times.hello_ms);
	warden_send_payload(w, DS_AGENT_GRANTED, msg->head.seq, &answer.head, sizeof(answer), l.text, l.n);
}
