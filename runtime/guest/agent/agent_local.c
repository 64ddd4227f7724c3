/* agent_local.c - checks what local programs ask for; what holds afterwards is in agent_local.h */
#include "runtime/guest/agent/agent_local.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "rle/run.h"

static const char *shadow_fault(const struct ds_local_shadow *m)
{
	if (m->mode > DS_LOCAL_DEMAND)
		return "a mode that does not exist";
	if (m->flags & ~(uint32_t)(DS_LOCAL_TIED | DS_LOCAL_RETRY | DS_LOCAL_SECCOMP | DS_LOCAL_FORCE) || m->zero)
		return "a flag that does not exist";
	if (m->reserve_pages > DS_USER_VPN_END)
		return "a reservation larger than the address space";
	if (!m->service[0] || !memchr(m->service, 0, sizeof(m->service)))
		return "the service's name is empty or too long";
	if (!memchr(m->args, 0, sizeof(m->args)))
		return "the service's arguments are too long";
	return NULL;
}

static const char *devices_fault(const struct ds_local_devices *m)
{
	if (m->pid || m->zero)
		return "a field that is not used";
	if (!m->service[0] || !memchr(m->service, 0, sizeof(m->service)) || !memchr(m->program, 0, sizeof(m->program)))
		return "a name is empty or too long";
	return NULL;
}

static const char *ranges_fault(const struct ds_local_ranges *m, size_t bytes)
{
	const struct ds_local_range *r = (const struct ds_local_range *)(m + 1);
	uint64_t at = 0;

	if (m->nranges > DS_LOCAL_RANGES_MAX || bytes != sizeof(*m) + m->nranges * sizeof(*r))
		return "the number of ranges does not fit the length";
	if (m->head.kind == DS_LOCAL_DROP && !m->nranges)
		return "nothing to drop";
	for (uint32_t i = 0; i < m->nranges; i++) {
		if (!r[i].npages || r[i].vpn < at || r[i].vpn >= DS_USER_VPN_END || r[i].npages > DS_USER_VPN_END - r[i].vpn)
			return "a range is empty, out of order or beyond the address space";
		at = r[i].vpn + r[i].npages;
	}
	return NULL;
}

static const char *window_fault(uint64_t vpn, uint64_t npages)
{
	return npages && vpn < DS_USER_VPN_END && npages <= DS_USER_VPN_END - vpn ? NULL : "pages that a process cannot have";
}

/* Of kinds with a fixed length that length; of others the least. */
static size_t length_of(uint16_t kind, bool *fixed)
{
	*fixed = true;
	switch (kind) {
	case DS_LOCAL_MAP:
		return sizeof(struct ds_local_map);
	case DS_LOCAL_SHADOW:
		return sizeof(struct ds_local_shadow);
	case DS_LOCAL_DEVICES:
		return sizeof(struct ds_local_devices);
	case DS_LOCAL_WINDOW:
		return sizeof(struct ds_local_window);
	case DS_LOCAL_UNWINDOW:
		return sizeof(struct ds_local_unwindow);
	case DS_LOCAL_STOP:
	case DS_LOCAL_LIST:
		return sizeof(struct ds_local_about);
	}
	*fixed = false;
	switch (kind) {
	case DS_LOCAL_DROP:
	case DS_LOCAL_REFRESH:
		return sizeof(struct ds_local_ranges);
	case DS_LOCAL_CALL:
		return sizeof(struct ds_local_call);
	}
	return 0;
}

static const char *fault(const void *packet, size_t bytes)
{
	const struct ds_local_head *head = packet;
	const struct ds_local_call *call = packet;
	const struct ds_local_window *window = packet;
	const struct ds_local_unwindow *unwindow = packet;
	size_t least;
	bool fixed;

	if (bytes < sizeof(*head) || head->magic != DS_LOCAL_MAGIC)
		return "this is not dsagent's protocol";
	if (head->version != DS_LOCAL_VERSION)
		return "a version of the protocol that dsagent does not speak";
	least = length_of(head->kind, &fixed);
	if (!least)
		return "a request that does not exist";
	if (head->bytes != bytes || bytes < least || (fixed && bytes != least))
		return "a request of wrong length";
	switch (head->kind) {
	case DS_LOCAL_MAP:
		return ((const struct ds_local_map *)packet)->split < RLE_NSPLIT ? NULL : "a split that does not exist";
	case DS_LOCAL_SHADOW:
		return shadow_fault(packet);
	case DS_LOCAL_DROP:
	case DS_LOCAL_REFRESH:
		return ranges_fault(packet, bytes);
	case DS_LOCAL_DEVICES:
		return devices_fault(packet);
	case DS_LOCAL_WINDOW:
		if (window->flags & ~(uint32_t)DS_LOCAL_WINDOW_FD)
			return "a flag that does not exist";
		if (window->want.what >= DS_WINDOW_WHATS)
			return "a mapping of a kind that does not exist";
		return window->want.offset % DS_PAGE_BYTES ? "an offset that is not in whole pages" : window_fault(window->want.vpn, window->want.npages);
	case DS_LOCAL_UNWINDOW:
		return window_fault(unwindow->what.vpn, unwindow->what.npages);
	case DS_LOCAL_CALL:
		return call->payload_bytes <= DS_LOCAL_PAYLOAD_MAX && bytes == sizeof(*call) + call->payload_bytes
			       ? NULL
			       : "the payload does not fit the length";
	}
	return NULL;
}

int agent_local_check(const void *packet, size_t bytes, const char **why)
{
	*why = fault(packet, bytes);
	return *why ? -EBADMSG : 0;
}
