/* vma.c - lines of /proc/PID/maps */
#include "rle/vma.h"

#include <errno.h>
#include <string.h>

#include "rle/run.h"
#include "tests/tap.h"

static int parse(const char *line, struct rle_vma *v)
{
	return rle_vma_parse(line, strlen(line), v);
}

int main(void)
{
	static const char whole[] = "7f12a3c00000-7f12a3c21000 rw-s 00000000 00:05 1027                       /dev/zero (deleted)";
	struct rle_vma v;
	int accepted = 0;

	tap_ok(!parse(whole, &v) && v.start.n == 0x7f12a3c00 && v.end.n == 0x7f12a3c21 &&
		       v.prot == (RLE_ATTR_READ | RLE_ATTR_WRITE | RLE_ATTR_MAY_SHARE) && !v.kernel_page,
	       "an ordinary line");
	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		accepted += !rle_vma_parse(whole, n, &v) && n < strlen("7f12a3c00000-7f12a3c21000 rw-s ");
	tap_eq(accepted, 0, "a line cut before its numbers and letters end is refused wherever it is cut");
	tap_ok(!parse("00400000-00401000 r-xp 00000000 fe:01 99", &v) && v.prot == (RLE_ATTR_READ | RLE_ATTR_EXEC), "a line without a name");
	tap_ok(!parse("00400000-00401000 r--p 00000000 00:00 0   [vvar]", &v) && v.kernel_page, "[vvar] is the kernel's");
	tap_ok(!parse("00400000-00401000 r--p 00000000 00:00 0   [vvar_vclock]", &v) && v.kernel_page, "[vvar_vclock] too (6.13)");
	tap_ok(!parse("00400000-00401000 r-xp 00000000 00:00 0   [vdso]", &v) && v.kernel_page, "[vdso] too");
	tap_ok(!parse("00400000-00401000 r-xp 00000000 00:01 7   /tmp/[vdso]", &v) && !v.kernel_page, "a file of that name is not");
	tap_ok(!parse("00400000-00401000 rw-p 00000000 00:00 0   [anon:[vdso]]", &v) && !v.kernel_page, "nor a named anonymous mapping");
	tap_ok(!parse("00400000-00600000 rw-p 00000000 00:0f 7   /anon_hugepage (deleted)", &v) && v.hugetlb, "memory of the huge page pool");
	tap_ok(!parse("00400000-00401000 rw-p 00000000 00:00 0 ", &v) && !v.file, "anonymous memory is of no file");
	tap_ok(!parse("00400000-00401000 rw-p 00000000 08:01 7 /a", &v) && v.file, "a file's is");
	tap_ok(!parse("00400000-00401000 rw-p 00000000 00:2f 0 /a", &v) && v.file, "also of one with the number 0");
	tap_ok(!parse("00400000-00600000 rw-p 00000000 00:0f 7   /home/anon_hugepage", &v) && !v.hugetlb, "a file is not");
	tap_eq(parse("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]", &v), -ERANGE, "the kernel half is told apart");
	tap_eq(parse("00401000-00400000 r-xp 00000000 00:00 0", &v), -EBADMSG, "end before start");
	tap_eq(parse("00400000-00400000 r-xp 00000000 00:00 0", &v), -EBADMSG, "empty");
	tap_eq(parse("00400800-00401000 r-xp 00000000 00:00 0", &v), -EBADMSG, "not on a page");
	tap_eq(parse("00400000-00401000 rwzp 00000000 00:00 0", &v), -EBADMSG, "unknown letter");
	tap_eq(parse("00400000-00401000 pppp 00000000 00:00 0", &v), -EBADMSG, "letters in the wrong place");
	tap_eq(parse("10000000000000000-10000000000001000 r-xp 0 00:00 0", &v), -EBADMSG, "numbers beyond 64 bits");
	tap_eq(parse("0040000G-00401000 r-xp 00000000 00:00 0", &v), -EBADMSG, "no number");
	tap_eq(parse("00400000-fffffffffffff000 rw-p 00000000 00:00 0", &v), -EBADMSG, "from the user half into the kernel's");
	return tap_done();
}
