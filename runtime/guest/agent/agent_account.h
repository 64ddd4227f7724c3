/* agent_account.h - how much memory all shadows together may pin
 *
 * Kept in memory that dsagent shares with its children.  Each takes a lease before it pins; a child that died has its lease
 * struck out by the parent.  Others' leases of the same moment are seen, so the sum is never above the limit; two that meet
 * may both get less than there was.
 */
#ifndef GUEST_AGENT_ACCOUNT_H
#define GUEST_AGENT_ACCOUNT_H

#include <stdatomic.h>
#include <stdint.h>

/** struct agent_account - Pages pinned by all shadows, in memory shared by dsagent and its children. */
struct agent_account {
	uint64_t limit_pages;
	uint32_t nslots;
	struct agent_pinned {
		atomic_uint_least64_t pages; /* nobody but the slot's child adds to it */
		atomic_uint_least32_t uid;   /* who asked for the shadow; set by the parent before there is a child */
	} pinned[];			     /* of each slot */
};

/** agent_account_sum() - Pages pinned or leased in all; *@of_user: for the user of @slot. */
uint64_t agent_account_sum(const struct agent_account *a, uint32_t slot, uint64_t *of_user);

/** agent_account_user_limit() - What the user of @slot may have: everything for root, three quarters for anybody else. */
uint64_t agent_account_user_limit(const struct agent_account *a, uint32_t slot);

/** agent_account_lease() - Adds as many of @want pages to @slot's as the limits leave.  Return: how many. */
uint64_t agent_account_lease(struct agent_account *a, uint32_t slot, uint64_t want);

/** agent_account_settle() - @pages are pinned: what was leased and not used goes back. */
void agent_account_settle(struct agent_account *a, uint32_t slot, uint64_t pages);

#endif
