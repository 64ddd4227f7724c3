/* callgroup.c - names of groups of system calls; see callgroup.h */
#include "runtime/host/policy/callgroup.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *name;
	uint32_t bit;
} groups[] = {
	{"file", CALLGROUP_FILE}, {"dir", CALLGROUP_DIR},   {"socket", CALLGROUP_SOCKET},
	{"poll", CALLGROUP_POLL}, {"info", CALLGROUP_INFO}, {"device", CALLGROUP_DEVICE},
};

uint32_t callgroup_find(const char *name)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		if (!strcmp(groups[i].name, name))
			return groups[i].bit;
	return 0;
}
