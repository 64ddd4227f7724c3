/* agent_account.c - see agent_account.h */
#include "runtime/guest/agent/agent_account.h"

uint64_t agent_account_sum(const struct agent_account *a, uint32_t slot, uint64_t *of_user)
{
	const uint32_t uid = atomic_load(&a->pinned[slot].uid);
	uint64_t sum = 0;

	*of_user = 0;
	for (uint32_t i = 0; i < a->nslots; i++) {
		const uint64_t pages = atomic_load(&a->pinned[i].pages);

		sum += pages;
		if (atomic_load(&a->pinned[i].uid) == uid)
			*of_user += pages;
	}
	return sum;
}

uint64_t agent_account_user_limit(const struct agent_account *a, uint32_t slot)
{
	return atomic_load(&a->pinned[slot].uid) ? a->limit_pages - a->limit_pages / 4 : a->limit_pages;
}

uint64_t agent_account_lease(struct agent_account *a, uint32_t slot, uint64_t want)
{
	const uint64_t user_limit = agent_account_user_limit(a, slot);
	uint64_t sum, of_user, over;

	want = want < a->limit_pages ? want : a->limit_pages;
	atomic_fetch_add(&a->pinned[slot].pages, want);
	sum = agent_account_sum(a, slot, &of_user);
	over = sum > a->limit_pages ? sum - a->limit_pages : 0;
	if (of_user > user_limit && of_user - user_limit > over)
		over = of_user - user_limit;
	over = over < want ? over : want;
	atomic_fetch_sub(&a->pinned[slot].pages, over);
	return want - over;
}

void agent_account_settle(struct agent_account *a, uint32_t slot, uint64_t pages)
{
	atomic_store(&a->pinned[slot].pages, pages);
}
