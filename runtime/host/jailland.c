/* jailland.c - landlock for a jail; see jailland.h.  Numbers: linux/landlock.h of Linux 6.15, newer than the headers here */
#include "runtime/host/jailland.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_create_ruleset 444
#define NR_add_rule 445
#define NR_restrict_self 446
#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1
#define ACCESS_FS_EXECUTE 1u
#define ACCESS_FS_READ_FILE 4u
#define ABI_USED 6

struct ruleset_attr {
	uint64_t fs, net, scoped;
};
struct path_beneath {
	uint64_t allowed;
	int32_t fd;
} __attribute__((packed));

/* What each version knows: rights of the file system, of the network, scopes; and the length of the structure. */
static const struct {
	uint32_t fs_bits, net_bits, scope_bits, bytes;
} abi[ABI_USED + 1] = {
	{0, 0, 0, 0},	{13, 0, 0, 8},	{14, 0, 0, 8},	{15, 0, 0, 8},
	{15, 2, 0, 16}, {16, 2, 0, 16}, {16, 2, 2, 24},
};

int jailland_abi(void)
{
	long version = syscall(NR_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return version <= 0 ? 0 : version > ABI_USED ? ABI_USED : (int)version;
}

int jailland_prepare(int exe_fd)
{
	const int version = jailland_abi();
	const struct ruleset_attr attr = {
		.fs = (1u << abi[version].fs_bits) - 1,
		.net = (1u << abi[version].net_bits) - 1,
		.scoped = (1u << abi[version].scope_bits) - 1,
	};
	const struct path_beneath rule = {.allowed = ACCESS_FS_EXECUTE | ACCESS_FS_READ_FILE, .fd = exe_fd};
	long fd;

	if (!version)
		return -EOPNOTSUPP;
	fd = syscall(NR_create_ruleset, &attr, abi[version].bytes, 0);
	if (fd < 0)
		return -errno;
	if (syscall(NR_add_rule, fd, RULE_PATH_BENEATH, &rule, 0)) {
		const int err = errno;

		close((int)fd);
		return -err;
	}
	return (int)fd;
}

int jailland_enforce(int ruleset_fd)
{
	const int rc = syscall(NR_restrict_self, ruleset_fd, 0) ? -errno : 0;

	close(ruleset_fd);
	return rc;
}
