/* params.c - see params.h */
#include "runtime/shadow/params.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "rle/map.h"
#include "runtime/shadow/place.h"

static int refuse(struct ds_shadow_refused *refused, int rc, enum ds_shadow_reason reason, uint64_t index, uint64_t value)
{
	refused->reason = reason;
	refused->err = 0;
	refused->index = index;
	refused->value = value;
	return rc;
}
#define REFUSE_LIMIT(refused, type, field, limit) \
	refuse(refused, -ERANGE, DS_SHADOW_R_LIMIT, offsetof(struct type, field), limit)

static size_t length_of(uint16_t kind)
{
	switch (kind) {
	case DS_SHADOW_BOOT: return sizeof(struct ds_shadow_boot);
	case DS_SHADOW_UPDATE: return sizeof(struct ds_shadow_update);
	case DS_SHADOW_MESSAGE: return sizeof(struct ds_shadow_message);
	case DS_SHADOW_MAP: return sizeof(struct ds_shadow_map);
	case DS_SHADOW_FD: return sizeof(struct ds_shadow_fd);
	case DS_SHADOW_INTERRUPT: return sizeof(struct ds_shadow_interrupt);
	case DS_SHADOW_ADOPT: return sizeof(struct ds_shadow_adopt);
	case DS_SHADOW_WINDOW: return sizeof(struct ds_shadow_window);
	case DS_SHADOW_PING:
	case DS_SHADOW_QUIT: return sizeof(struct ds_shadow_head);
	default: return 0;
	}
}

int params_head(const void *message, size_t bytes, struct ds_shadow_refused *refused)
{
	struct ds_shadow_head head;
	size_t length;
	int longer;

	if (bytes < sizeof(head))
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, bytes, 0);
	memcpy(&head, message, sizeof(head));
	if (head.magic != DS_SHADOW_MAGIC)
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_head, magic), head.magic);
	if (head.version != DS_SHADOW_VERSION)
		return refuse(refused, -EPROTONOSUPPORT, DS_SHADOW_R_VERSION, 0, head.version);
	length = length_of(head.kind);
	if (!length)
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_head, kind), head.kind);
	longer = head.kind == DS_SHADOW_MESSAGE || head.kind == DS_SHADOW_MAP;
	if (head.bytes != bytes || (longer ? bytes < length : bytes != length))
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_head, bytes), head.bytes);
	return 0;
}

static int check_data(const struct ds_shadow_data *data, size_t offset, struct ds_shadow_refused *refused)
{
	if (data->map_bytes < sizeof(struct rle_map_header) || data->map_bytes > DS_SHADOW_MAP_BYTES_MAX)
		return refuse(refused, -ERANGE, DS_SHADOW_R_LIMIT, offset, DS_SHADOW_MAP_BYTES_MAX);
	if (data->nforbidden > DS_SHADOW_FORBIDDEN_MAX)
		return refuse(refused, -ERANGE, DS_SHADOW_R_LIMIT, offset + offsetof(struct ds_shadow_data, nforbidden),
			      DS_SHADOW_FORBIDDEN_MAX);
	/* The forbidden ranges follow the map and hold 8-byte words. */
	if (data->map_bytes % 8)
		return refuse(refused, -ERANGE, DS_SHADOW_R_LIMIT, offset, 8);
	/* whole instructions (struct sock_filter) */
	if (data->filter_bytes > DS_SHADOW_FILTER_BYTES_MAX || data->filter_bytes % 8)
		return refuse(refused, -ERANGE, DS_SHADOW_R_LIMIT, offset + offsetof(struct ds_shadow_data, filter_bytes),
			      DS_SHADOW_FILTER_BYTES_MAX);
	return 0;
}

int params_update(const struct ds_shadow_update *update, struct ds_shadow_refused *refused)
{
	int rc = check_data(&update->data, offsetof(struct ds_shadow_update, data), refused);

	if (!rc && update->data.filter_bytes)
		rc = REFUSE_LIMIT(refused, ds_shadow_update, data.filter_bytes, 0);
	return rc;
}

int params_map(const struct ds_shadow_map *map, const struct ds_shadow_boot *boot, struct ds_shadow_refused *refused)
{
	const uint64_t ram_pages = boot->ram_bytes >> DS_PAGE_SHIFT;

	if (!map->nsegs || map->nsegs > DS_SHADOW_SEGS_MAX)
		return REFUSE_LIMIT(refused, ds_shadow_map, nsegs, DS_SHADOW_SEGS_MAX);
	if (map->head.bytes != sizeof(*map) + map->nsegs * sizeof(map->seg[0]))
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_map, nsegs), map->nsegs);
	for (uint32_t i = 0; i < map->nsegs; i++) {
		const struct ds_shadow_seg seg = map->seg[i];
		const bool waits = seg.prot == DS_SHADOW_WAITS && seg.npages == 1 && seg.pfn && seg.pfn <= INT32_MAX;
		const bool good = params_covers(map) ? seg.prot == DS_SHADOW_COVER : seg.prot <= 3 || seg.prot == DS_SHADOW_WAKE;

		if (!seg.npages || (!good && !waits))
			return refuse(refused, -EINVAL, DS_SHADOW_R_MAP, i, seg.vpn);
		if (seg.vpn >= PLACE_VPN_END || seg.npages > PLACE_VPN_END - seg.vpn)
			return refuse(refused, -EINVAL, DS_SHADOW_R_RUN_HIGH, i, seg.vpn);
		if (seg.vpn < boot->min_vpn)
			return refuse(refused, -EINVAL, DS_SHADOW_R_RUN_LOW, i, seg.vpn);
		if (seg.prot & 3 ? seg.pfn >= ram_pages || seg.npages > ram_pages - seg.pfn : !waits && seg.pfn != 0)
			return refuse(refused, -EINVAL, DS_SHADOW_R_RUN_RAM, i, seg.pfn);
	}
	return 0;
}

int params_boot(const struct ds_shadow_boot *boot, const char *service, struct ds_shadow_refused *refused)
{
	int rc = check_data(&boot->data, offsetof(struct ds_shadow_boot, data), refused);

	if (rc)
		return rc;
	if (!boot->ram_bytes || boot->ram_bytes % DS_PAGE_BYTES || boot->ram_bytes >> DS_PAGE_SHIFT > DS_PFN_END)
		return REFUSE_LIMIT(refused, ds_shadow_boot, ram_bytes, DS_PAGE_BYTES);
	if (boot->reserve.vpn >= PLACE_VPN_END || boot->reserve.npages > PLACE_VPN_END - boot->reserve.vpn)
		return REFUSE_LIMIT(refused, ds_shadow_boot, reserve, PLACE_VPN_END);
	if (boot->min_vpn >= PLACE_VPN_END)
		return REFUSE_LIMIT(refused, ds_shadow_boot, min_vpn, PLACE_VPN_END);
	if (boot->heap_bytes % DS_PAGE_BYTES || boot->heap_bytes > DS_SHADOW_HEAP_BYTES_MAX)
		return REFUSE_LIMIT(refused, ds_shadow_boot, heap_bytes, DS_SHADOW_HEAP_BYTES_MAX);
	if (!boot->nexecutors || boot->nexecutors > DS_SHADOW_EXECUTORS_MAX)
		return REFUSE_LIMIT(refused, ds_shadow_boot, nexecutors, DS_SHADOW_EXECUTORS_MAX);
	if (!boot->stop_timeout_ms || boot->stop_timeout_ms > DS_SHADOW_STOP_MS_MAX)
		return REFUSE_LIMIT(refused, ds_shadow_boot, stop_timeout_ms, DS_SHADOW_STOP_MS_MAX);
	if (boot->provider != DS_SHADOW_RAM_FILE && boot->provider != DS_SHADOW_RAM_DEVMEM)
		return REFUSE_LIMIT(refused, ds_shadow_boot, provider, DS_SHADOW_RAM_DEVMEM);
	if (boot->mode != DS_SHADOW_EAGER && boot->mode != DS_SHADOW_DEMAND)
		return REFUSE_LIMIT(refused, ds_shadow_boot, mode, DS_SHADOW_DEMAND);
	if (boot->zero)
		return REFUSE_LIMIT(refused, ds_shadow_boot, zero, 0);
	if (boot->service[sizeof(boot->service) - 1])
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_boot, service), 0);
	if (boot->args[sizeof(boot->args) - 1])
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_boot, args), 0);
	if (strlen(boot->service) != strlen(service) || memcmp(boot->service, service, strlen(service)))
		return refuse(refused, -ENOENT, DS_SHADOW_R_SERVICE, 0, 0);
	return 0;
}

int params_window(const struct ds_shadow_window *window, struct ds_shadow_refused *refused)
{
	const struct ds_shadow_range r = window->range;

	if (!r.npages || r.vpn >= PLACE_VPN_END || r.npages > PLACE_VPN_END - r.vpn)
		return REFUSE_LIMIT(refused, ds_shadow_window, range, PLACE_VPN_END);
	if (window->offset % DS_PAGE_BYTES)
		return REFUSE_LIMIT(refused, ds_shadow_window, offset, DS_PAGE_BYTES);
	if (window->zero)
		return REFUSE_LIMIT(refused, ds_shadow_window, zero, 0);
	if (!window->prot || window->prot > 3)
		return REFUSE_LIMIT(refused, ds_shadow_window, prot, 3);
	return 0;
}

int params_adopt(const struct ds_shadow_adopt *adopt, struct ds_shadow_refused *refused)
{
	if (!adopt->n || adopt->n > DS_SHADOW_ADOPT_MAX)
		return REFUSE_LIMIT(refused, ds_shadow_adopt, n, DS_SHADOW_ADOPT_MAX);
	for (uint32_t i = 0; i < adopt->n; i++)
		if (adopt->number[i] >= DS_SHADOW_GUEST_FDS)
			return REFUSE_LIMIT(refused, ds_shadow_adopt, number[i], DS_SHADOW_GUEST_FDS);
	return 0;
}

int params_executor(uint32_t executor, uint32_t nexec, struct ds_shadow_refused *refused)
{
	return executor < nexec ? 0 : refuse(refused, -ERANGE, DS_SHADOW_R_EXECUTOR, executor, nexec);
}

int params_message(const struct ds_shadow_message *message, uint32_t nexec, struct ds_shadow_refused *refused)
{
	if (message->payload_bytes > DS_SHADOW_PAYLOAD_MAX)
		return REFUSE_LIMIT(refused, ds_shadow_message, payload_bytes, DS_SHADOW_PAYLOAD_MAX);
	if (message->head.bytes - sizeof(*message) != message->payload_bytes)
		return refuse(refused, -EBADMSG, DS_SHADOW_R_MESSAGE, offsetof(struct ds_shadow_message, payload_bytes),
			      message->payload_bytes);
	return params_executor(message->executor, nexec, refused);
}
