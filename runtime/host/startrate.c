/* startrate.c - how many shadows a VM may start in a time; theory in startrate.h */
#include "runtime/host/startrate.h"

#define ONE UINT64_C(1000000000)

static uint64_t full(const struct startrate *r)
{
	return (uint64_t)r->per_s * STARTRATE_BURST_S * ONE;
}

void startrate_init(struct startrate *r, uint32_t per_s, uint64_t now_ns)
{
	*r = (struct startrate){.per_s = per_s, .at_ns = now_ns};
	r->left = full(r);
}

bool startrate_take(struct startrate *r, uint64_t now_ns)
{
	const uint64_t passed = now_ns - r->at_ns;

	if (!r->per_s)
		return true;
	r->at_ns = now_ns;
	/* A nanosecond brings per_s billionths; before the sum can overflow, the bucket is full. */
	r->left = passed >= STARTRATE_BURST_S * ONE || r->left + passed * r->per_s > full(r) ? full(r) : r->left + passed * r->per_s;
	if (r->left < ONE)
		return false;
	r->left -= ONE;
	return true;
}
