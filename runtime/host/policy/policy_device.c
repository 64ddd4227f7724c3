/* policy_device.c - the keys of a rule about devices of the host; see policy_parts.h and ds-policy(5) */
#include <string.h>

#include "runtime/host/jail/jaildev.h"
#include "runtime/host/policy/policy_parts.h"

_Static_assert(POLICY_DEVICES_MAX == JAILDEV_PATTERNS_MAX && POLICY_DEVICE_BYTES == 128, "what ds-policy(5) says");

const char *policy_set_device(struct policy_rule *r, const char *value)
{
	const char *wrong = jaildev_pattern_fault(value);

	if (wrong)
		return wrong;
	if (strlen(value) >= POLICY_DEVICE_BYTES)
		return "a path of up to 127 characters";
	if (r->ndevices == POLICY_DEVICES_MAX)
		return "at most 16 devices";
	for (uint32_t i = 0; i < r->npaths; i++)
		if (!strcmp(r->path[i].guest, "/dev") || !strncmp(r->path[i].guest, "/dev/", 5))
			return policy_dev_taken;
	strcpy(r->device[r->ndevices++], value);
	return NULL;
}
