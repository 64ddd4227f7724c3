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

/** params_data() - Checks the numbers of a data file.  @offset: of the struct in its message.  Return: 0, -ERANGE. */
int params_data(const struct ds_shadow_data *data, size_t offset, struct ds_shadow_refused *refused);

/** params_message() - Checks a MESSAGE whose head has passed, for @nexec executors.  Return: 0, -EBADMSG, -ERANGE. */
int params_message(const struct ds_shadow_message *message, uint32_t nexec, struct ds_shadow_refused *refused);

/** params_fds() - How many descriptors a message of @kind brings. */
static inline uint32_t params_fds(uint16_t kind)
{
	return kind == DS_SHADOW_BOOT ? 2 : kind == DS_SHADOW_UPDATE ? 1 : 0;
}

/** params_data_bytes() - Length of a data file whose numbers have passed. */
static inline uint64_t params_data_bytes(const struct ds_shadow_data *data)
{
	return data->map_bytes + data->nforbidden * sizeof(struct ds_shadow_range);
}

#endif
