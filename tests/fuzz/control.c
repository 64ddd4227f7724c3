/* control.c - fuzz target: a request to the daemon
 *
 * Input: the packet; what is missing of a request is taken as zeroes when the first byte's top bit is set, so that short
 * inputs reach what is behind the length.
 * Properties: a refusal has a reason; what passes names a VM that can be a file, and its table is one that can be compared.
 */
#include <string.h>

#include "runtime/host/control.h"
#include "tests/fuzz/target.h"

static void check(const void *packet, size_t bytes)
{
	struct control_request r;
	struct ramtable table;
	const char *why = NULL;

	if (control_check(packet, bytes, &r, &table, &why)) {
		MUST(why);
		return;
	}
	MUST(r.magic == CONTROL_MAGIC && r.verb >= CONTROL_VM && r.verb <= CONTROL_STOP);
	MUST(r.verb == CONTROL_STATUS || (control_name_ok(r.name) && !strchr(r.name, '/') && r.name[0] != '.'));
	MUST(r.verb != CONTROL_END || r.guest_pid);
	if (!r.nranges)
		return;
	MUST(table.finished && table.nfiles == 1 && table.nranges && !table.range[0].frame.n && table.file[0].npages == r.ram_pages);
	for (uint32_t i = 0; i < table.nranges; i++)
		MUST(table.range[i].page.n + table.range[i].npages <= r.ram_pages);
	MUST(ramtable_compare(&table, &table, NULL));
	/* A table that was put into a request comes out of it. */
	control_put_table(&r, &table);
	MUST(!control_check(&r, sizeof(r), &r, &table, &why));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_request r = {.magic = CONTROL_MAGIC, .version = CONTROL_VERSION, .verb = CONTROL_VM, .name = "vm"};
	size_t n;

	check(data, size);
	if (!size || !(*data & 0x80))
		return 0;
	n = size - 1 < sizeof(r) - offsetof(struct control_request, verb) ? size - 1 : sizeof(r) - offsetof(struct control_request, verb);
	memcpy(&r.verb, data + 1, n);
	check(&r, sizeof(r));
	return 0;
}
