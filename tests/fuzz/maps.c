/* maps.c - fuzz target: the text of /proc/PID/maps, whole and in pieces
 *
 * Property: whatever the text, what is delivered rises, lies in the user half and is not empty.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rle/run.h"
#include "rle/vma.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char buf[RLE_VMA_BUF_BYTES];
	struct rle_vma_iter it;
	struct rle_vma vma;
	uint64_t end = 0;
	bool query = true;
	int fd = memfd_create("maps", 0);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET))
		abort();
	rle_vma_start(&it, fd, buf, &query);
	while (rle_vma_next(&it, &vma) > 0) {
		if (vma.start.n < end || vma.start.n >= vma.end.n || vma.end.n > DS_USER_VPN_END || vma.prot & ~RLE_ATTR_PROT)
			abort();
		end = vma.end.n;
	}
	close(fd);
	return 0;
}
