/* agent_hostmsg.c - messages of the host; what holds of them is in agent_hostmsg.h */
#include "runtime/guest/agent/agent_hostmsg.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "rle/addr.h"

uint8_t *agent_hostmsg_room(struct agent_hostmsg *m, size_t *bytes)
{
	*bytes = sizeof(m->buf) - m->have;
	return m->buf + m->have;
}

void agent_hostmsg_got(struct agent_hostmsg *m, size_t bytes)
{
	m->have += bytes;
}

/* What a message of this kind is long at least and at most; 0: the host does not send it. */
static size_t length_of(uint16_t kind, size_t *most)
{
	size_t least = 0;

	switch (kind) {
	case DS_AGENT_WELCOME:
		least = sizeof(struct ds_agent_welcome);
		break;
	case DS_AGENT_STARTED:
		least = sizeof(struct ds_agent_started);
		break;
	case DS_AGENT_DONE:
		least = sizeof(struct ds_agent_done);
		break;
	case DS_AGENT_FAULT:
		least = sizeof(struct ds_agent_fault);
		break;
	case DS_AGENT_REPLY:
	case DS_AGENT_GRANTED:
		least = sizeof(struct ds_agent_call);
		break;
	case DS_AGENT_MAPPED:
		least = sizeof(struct ds_agent_mapped);
		break;
	case DS_AGENT_UNMAPPED:
		least = sizeof(struct ds_agent_unmapped);
		break;
	case DS_AGENT_SPOILT:
		least = sizeof(struct ds_agent_spoilt);
		break;
	case DS_AGENT_REFUSED:
	case DS_AGENT_ENDED:
		least = sizeof(struct ds_agent_refused);
		break;
	}
	*most = kind == DS_AGENT_REPLY || kind == DS_AGENT_GRANTED ? least + DS_AGENT_PAYLOAD_MAX : least;
	return least;
}

static bool range_ok(const struct ds_agent_range *r)
{
	return r->npages && r->vpn < DS_USER_VPN_END && r->npages <= DS_USER_VPN_END - r->vpn;
}

static bool mapped_ok(const struct ds_window_mapped *m)
{
	const uint64_t end = m->prot & DS_WINDOW_PHYSICAL ? DS_PFN_END : DS_WINDOW_BYTES_MAX / DS_PAGE_BYTES;

	if (m->err)
		return m->err < 0 && m->err > -4096 && !m->nextents;
	for (uint32_t i = 0; i < m->nextents && i < DS_WINDOW_EXTENTS_MAX; i++)
		if (!m->extent[i].npages || m->extent[i].page > end || m->extent[i].npages > end - m->extent[i].page)
			return false;
	return m->nextents <= DS_WINDOW_EXTENTS_MAX;
}

static const char *content_fault(const struct ds_agent_head *head)
{
	const struct ds_agent_fault *f = (const void *)head;
	const struct ds_agent_call *c = (const void *)head;
	const struct ds_agent_mapped *w = (const void *)head;

	switch (head->kind) {
	case DS_AGENT_WELCOME:
		return memchr(((const struct ds_agent_welcome *)head)->vm, 0, sizeof(((struct ds_agent_welcome *)0)->vm))
			       ? NULL
			       : "WELCOME: the VM's name does not end";
	case DS_AGENT_FAULT:
		if (!range_ok(&f->window) || f->vpn < f->window.vpn || f->vpn >= f->window.vpn + f->window.npages)
			return "FAULT: a window that does not hold the page";
		return NULL;
	case DS_AGENT_MAPPED:
		return mapped_ok(&w->got) ? NULL : "MAPPED: pages that no window has";
	case DS_AGENT_REPLY:
	case DS_AGENT_GRANTED:
		return head->bytes == sizeof(*c) + (size_t)c->payload_bytes ? NULL : "REPLY: the payload does not fit the length";
	case DS_AGENT_REFUSED:
	case DS_AGENT_ENDED:
		return memchr(((const struct ds_agent_refused *)head)->text, 0, DS_AGENT_TEXT_BYTES) ? NULL : "a reason that does not end";
	}
	return NULL;
}

int agent_hostmsg_next(struct agent_hostmsg *m, const struct ds_agent_head **msg, const char **why)
{
	struct ds_agent_head head;
	size_t least, most;

	if (m->have < sizeof(head))
		return 0;
	memcpy(&head, m->buf, sizeof(head));
	least = length_of(head.kind, &most);
	*why = head.magic != DS_AGENT_MAGIC	? "this is not dshost's protocol"
	       : head.version != DS_AGENT_VERSION ? "a version of the protocol that dsagent does not speak"
	       : !least				? "a message that the host does not send"
	       : head.bytes < least || head.bytes > most ? "a message of wrong length"
						       : NULL;
	if (*why)
		return -EBADMSG;
	if (m->have < head.bytes)
		return 0;
	memcpy(m->msg, m->buf, head.bytes);
	m->have -= head.bytes;
	memmove(m->buf, m->buf + head.bytes, m->have);
	*msg = (const struct ds_agent_head *)m->msg;
	*why = content_fault(*msg);
	return *why ? -EBADMSG : 1;
}
