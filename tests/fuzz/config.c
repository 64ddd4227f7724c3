/* config.c - fuzz target: the text of the configuration file
 *
 * Properties: values stay in their range whatever the text; a fault names a line that exists; a text that is taken
 * is taken again, with the same outcome.
 */
#include <stdlib.h>
#include <string.h>

#include "collector/config.h"
#include "collector/poolshm.h"
#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config c, again;
	struct config_error e = {0};
	size_t lines = 1;
	int err;

	memset(&c, 0, sizeof(c));
	config_default(&c);
	again = c;
	err = config_parse(&c, (const char *)data, size, &e);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	if (err && (e.line < 1 || e.line > lines || !*e.why || !memchr(e.why, '\0', sizeof(e.why))))
		abort();
	if (!memchr(c.db, '\0', sizeof(c.db)) || !*c.db || c.join > RLE_JOIN_FULL || c.jobs < 1 || c.jobs > POOL_MAX_JOBS ||
	    c.history_days > 36500 || c.timeout_ns < 10000000 || c.timeout_ns > UINT64_C(3600000000000))
		abort();
	if (!err && (config_parse(&again, (const char *)data, size, &e) || memcmp(&c, &again, sizeof(c))))
		abort();
	return 0;
}
