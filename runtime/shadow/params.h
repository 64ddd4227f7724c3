/* params.h - checks of the messages that a capsule receives (runtime/wire/shadow.h); pure
 *
 * Nothing of a message is used before its check has passed.  Each check fills a refusal (reason, index, value) that
 * says which field is wrong.
 */
#ifndef SHADOW_PARAMS_H
#define SHADOW_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/wire/shadow.h"

/**
 * params_head() - Checks the head of a message of @bytes bytes
 *
 * Return: 0; -EBADMSG, -EPROTONOSUPPORT.  Then @refused says why.
 */
int params_head(const void *message, size_t bytes, struct ds_shadow_refused *refused);

/**
 * params_boot() - Checks a BOOT whose head has passed
 * @service: name of the executable's service
 *
 * Return: 0; -EBADMSG; -ERANGE; -ENOENT (another service).
 */
int params_boot(const struct ds_shadow_boot *boot, const char *service, struct ds_shadow_refused *refused);

/** params_update() - Checks an UPDATE whose head has passed.  Return: 0, -ERANGE. */
int params_update(const struct ds_shadow_update *update, struct ds_shadow_refused *refused);

/**
 * params_map() - Checks a MAP whose head has passed
 * @boot: that has passed
 *
 * Afterwards each segment has pages, lies between min_vpn and the end of the user half and within the RAM, and has no
 * other @prot than what runtime/wire/shadow.h says.
 *
 * Return: 0, -EBADMSG, -ERANGE, -EINVAL.
 */
int params_map(const struct ds_shadow_map *map, const struct ds_shadow_boot *boot, struct ds_shadow_refused *refused);

/** params_covers() - Whether a MAP covers pages again; it has a segment. */
static inline int params_covers(const struct ds_shadow_map *map)
{
	return map->seg[0].prot == DS_SHADOW_COVER;
}

/** params_message() - Checks a MESSAGE whose head has passed, for @nexec executors.  Return: 0, -EBADMSG, -ERANGE. */
int params_message(const struct ds_shadow_message *message, uint32_t nexec, struct ds_shadow_refused *refused);

/** params_window() - Checks a WINDOW whose head has passed.  Return: 0, -ERANGE. */
int params_window(const struct ds_shadow_window *window, struct ds_shadow_refused *refused);

/** params_adopt() - Checks an ADOPT whose head has passed.  Return: 0, -ERANGE. */
int params_adopt(const struct ds_shadow_adopt *adopt, struct ds_shadow_refused *refused);

/** params_executor() - Checks the number of an executor, of @nexec.  Return: 0, -ERANGE. */
int params_executor(uint32_t executor, uint32_t nexec, struct ds_shadow_refused *refused);

/** params_fds() - How many descriptors a message of @kind brings, other than ADOPT; @mode: enum ds_shadow_mode, of a BOOT. */
static inline uint32_t params_fds(uint16_t kind, uint32_t mode)
{
	if (kind == DS_SHADOW_BOOT)
		return mode == DS_SHADOW_DEMAND ? 4 : 3;
	return kind == DS_SHADOW_UPDATE || kind == DS_SHADOW_FD || kind == DS_SHADOW_WINDOW ? 1 : 0;
}

/** params_data_bytes() - Length of a data file whose numbers have passed. */
static inline uint64_t params_data_bytes(const struct ds_shadow_data *data)
{
	return data->map_bytes + data->nforbidden * sizeof(struct ds_shadow_range) + data->filter_bytes;
}

#endif
