/* conform.c - file system calls, what they return and what they leave, as text: the same with and without forwarding, or something is wrong
 *
 * usage: conform [-u UID] DIR PART [SEED [COUNT]]     PART: names, pairs, times, data
 *
 * In the manner of pjdfstest (names, pairs, times) and of fsx (data), small.  DIR is an empty directory; with -u the program becomes
 * that user first.  Nothing printed depends on addresses, process ids, time, inode numbers or where DIR is.
 */
#include "tests/conform/conform.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *dir;
static uint64_t state;

const char *in(const char *name)
{
	static char path[16][PATH_BYTES];
	static int at;

	at = (at + 1) % 16;
	snprintf(path[at], sizeof(path[at]), "%s/%s", dir, name);
	return path[at];
}

const char *error(long result)
{
	return result < 0 ? strerrorname_np(errno) : "";
}

uint64_t draw(uint64_t below)
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

int main(int argc, char **argv)
{
	uint32_t count;

	if (argc > 2 && !strcmp(argv[1], "-u")) {
		const unsigned int id = (unsigned int)atoi(argv[2]);

		if (setgroups(0, NULL) || setresgid(id, id, id) || setresuid(id, id, id)) {
			perror("conform: -u");
			return 2;
		}
		argc -= 2;
		argv += 2;
	}
	if (argc < 3) {
		fputs("usage: conform [-u UID] DIR names|pairs|times|data [SEED [COUNT]]\n", stderr);
		return 1;
	}
	dir = argv[1];
	state = argc > 3 ? (uint64_t)atoll(argv[3]) : 1;
	count = argc > 4 ? (uint32_t)atoi(argv[4]) : 0;
	umask(022);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	if (!strcmp(argv[2], "names"))
		names_run(count);
	else if (!strcmp(argv[2], "pairs"))
		pairs_run(count);
	else if (!strcmp(argv[2], "times"))
		times_run();
	else
		data_run(count ? count : 2000);
	return 0;
}
