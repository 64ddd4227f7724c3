/* helper.h - the code that a helper runs for a batch of calls; helper.S */
#ifndef RUNTIME_GUEST_HELPER_H
#define RUNTIME_GUEST_HELPER_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t helper_code[], helper_trap[], helper_code_end[];

/** helper_code_bytes() - How much there is; it starts at its first byte. */
static inline size_t helper_code_bytes(void)
{
	return helper_code_end - helper_code;
}

/** helper_trap_offset() - Where it is when it has trapped. */
static inline size_t helper_trap_offset(void)
{
	return helper_trap - helper_code;
}

#endif
