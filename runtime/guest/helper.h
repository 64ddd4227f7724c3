/* helper.h - the code that inject_helper() copies into a program; helper.S */
#ifndef RUNTIME_GUEST_HELPER_H
#define RUNTIME_GUEST_HELPER_H

#include <stddef.h>
#include <stdint.h>

#define HELPER_BUF_PAGES 1 /* behind the page of code */

extern const uint8_t helper_code[], helper_loop[], helper_received[], helper_code_end[];

/** helper_code_bytes() - How much there is; it begins with a syscall instruction, for calls made by way of ptrace. */
static inline size_t helper_code_bytes(void)
{
	return helper_code_end - helper_code;
}

/** helper_loop_offset() - Where the helper starts, with r12 = its message buffer and its socket as descriptor 0. */
static inline size_t helper_loop_offset(void)
{
	return helper_loop - helper_code;
}

/** helper_received_offset() - Where a helper that waits for a message goes on. */
static inline size_t helper_received_offset(void)
{
	return helper_received - helper_code;
}

#endif
