/* replay.c - what was ever fed to a fuzz target is fed to it again in the ordinary test run
 *
 * Linked with a target it takes the target's name from its own: PATH/NAME replays tests/fuzz/corpus/NAME/.  Every
 * file is one check: the target gets all of it and, when it is small, every truncation of it.
 *
 * A target tells a fault by dying.  So each file is replayed in a child, and the parent tells of which one and at
 * which length, and goes on with the next.  The input ends at a page that cannot be read: without any sanitizer
 * too, a target that reads beyond its input dies.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tap.h"
#include "tests/fuzz/target.h"

#define SMALL_BYTES 2048    /* up to here every truncation is tried */
#define LARGE_BYTES (1 << 20) /* beyond, a file does not belong into a corpus */
#define FILE_SECONDS 30	    /* a target that takes longer hangs */


static uint8_t *input;		   /* LARGE_BYTES, then the page that cannot be read */
static volatile size_t *at_length; /* shared with the child: what it is at */

static int prepare(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	input = mmap(NULL, LARGE_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	at_length = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (input == MAP_FAILED || at_length == MAP_FAILED || mprotect(input + LARGE_BYTES, page, PROT_NONE))
		return -errno;
	return 0;
}

/* In the child: does not return when the target finds a fault. */
static void replay(const uint8_t *content, size_t bytes)
{
	for (size_t n = bytes <= SMALL_BYTES ? 0 : bytes; n <= bytes; n++) {
		uint8_t *place = input + LARGE_BYTES - n;

		*at_length = n;
		memcpy(place, content, n);
		LLVMFuzzerTestOneInput(place, n);
	}
}

static void check_file(int dir, const char *name)
{
	static uint8_t content[LARGE_BYTES];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC), status = -1;
	ssize_t bytes = fd < 0 ? -1 : read(fd, content, sizeof(content));
	pid_t child;

	if (fd >= 0)
		close(fd);
	if (bytes < 0 || bytes == sizeof(content)) {
		tap_ok(false, "%s: cannot be read, or has %d bytes or more", name, LARGE_BYTES);
		return;
	}
	child = fork();
	if (child == 0) {
		alarm(FILE_SECONDS);
		replay(content, (size_t)bytes);
		exit(0); /* not _exit(): the leak sanitizer looks at exit */
	}
	if (child > 0)
		waitpid(child, &status, 0);
	if (!tap_ok(status == 0, "%s%s", name, bytes <= SMALL_BYTES ? " and every truncation of it" : ""))
		printf("# the target ended with %s %d at the first %zu of its %zd bytes\n",
		       WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : status >> 8, *at_length,
		       bytes);
}

static int visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	struct dirent **entry = NULL;
	char path[512];
	int n, dir;

	(void)argc;
	snprintf(path, sizeof(path), "tests/fuzz/corpus/%s", name);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	n = dir < 0 ? -1 : scandir(path, &entry, visible, alphasort);
	tap_ok(n > 0, "%s holds inputs to replay", path);
	if (prepare()) {
		puts("Bail out! no memory to place inputs in");
		return 1;
	}
	for (int i = 0; i < n; i++) {
		check_file(dir, entry[i]->d_name);
		free(entry[i]);
	}
	free(entry);
	if (dir >= 0)
		close(dir);
	return tap_done();
}
