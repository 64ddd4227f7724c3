/* jailland.c - landlock for a jail; see jailland.h.  Numbers: linux/landlock.h of Linux 6.15, newer than the headers here */
#include "runtime/host/jail/jailland.h"

#include <errno.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rle/cleanup.h"

#define NR_create_ruleset 444
#define NR_add_rule 445
#define NR_restrict_self 446
#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1
#define ACCESS_FS_EXECUTE 1u
#define ACCESS_FS_READ_FILE 4u
#define ACCESS_FS_WRITE_FILE 2u
#define ACCESS_FS_READ_DIR 8u
#define ACCESS_FS_MAKE_CHAR (1u << 6)
#define ACCESS_FS_MAKE_BLOCK (1u << 11)
#define ACCESS_FS_TRUNCATE (1u << 14)
#define ACCESS_FS_IOCTL_DEV (1u << 15)
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

static int allow(int ruleset, int fd, uint64_t access)
{
	const struct path_beneath rule = {.allowed = access, .fd = fd};

	return syscall(NR_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
}

/* What a place is granted for, as far as this kernel's landlock knows it: @known. */
static uint64_t access_of(const struct jail_bind *bind, bool directory, uint64_t known)
{
	const uint64_t file = ACCESS_FS_READ_FILE | (bind->writable ? ACCESS_FS_WRITE_FILE | ACCESS_FS_TRUNCATE : 0);
	const uint64_t never = ACCESS_FS_EXECUTE | ACCESS_FS_MAKE_CHAR | ACCESS_FS_MAKE_BLOCK | ACCESS_FS_IOCTL_DEV;

	if (!directory)
		return file & known;
	return bind->writable ? known & ~never : file | ACCESS_FS_READ_DIR;
}

int jailland_prepare(const struct jailland_want *want)
{
	const int version = jailland_abi();
	const struct ruleset_attr attr = {
		.fs = (1u << abi[version].fs_bits) - 1,
		.net = want->net ? 0 : (1u << abi[version].net_bits) - 1,
		.scoped = (1u << abi[version].scope_bits) - 1,
	};
	cleanup_close int fd = -1;
	int rc;

	if (!version)
		return -EOPNOTSUPP;
	fd = (int)syscall(NR_create_ruleset, &attr, abi[version].bytes, 0);
	rc = fd < 0 ? -errno : allow(fd, want->exe_fd, ACCESS_FS_EXECUTE | ACCESS_FS_READ_FILE);
	for (size_t i = 0; i < want->nbinds && !rc; i++) {
		struct stat st;

		rc = fstat(want->bind_fd[i], &st) ? -errno : 0;
		if (!rc)
			rc = allow(fd, want->bind_fd[i], access_of(&want->bind[i], S_ISDIR(st.st_mode), attr.fs));
	}
	if (!rc && want->dev_fd >= 0)
		rc = allow(fd, want->dev_fd, (ACCESS_FS_READ_FILE | ACCESS_FS_WRITE_FILE | ACCESS_FS_READ_DIR | ACCESS_FS_IOCTL_DEV) & attr.fs);
	return rc ? rc : steal_fd(&fd);
}

int jailland_enforce(int ruleset_fd)
{
	const int rc = syscall(NR_restrict_self, ruleset_fd, 0) ? -errno : 0;

	close(ruleset_fd);
	return rc;
}
