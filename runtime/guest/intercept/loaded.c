/* loaded.c - the beginning of a program that a tracer has put this library into; see loaded.h */
#include "runtime/guest/intercept/internal.h"

__attribute__((visibility("protected"))) struct intercept_handle intercept_handle = {
	.magic = INTERCEPT_HANDLE_MAGIC,
	.begin = (uint64_t)intercept_begin,
	.entry = (uint64_t)intercept_entry,
	.exempt = (uint64_t)intercept_exempt_start,
	.exempt_end = (uint64_t)intercept_exempt_end,
	.park = (uint64_t)intercept_park,
};

void loaded_construct(uint64_t *stack)
{
	typedef void (*constructor)(int argc, char **argv, char **envp);
	const constructor *list = (const constructor *)intercept_handle.init;

	for (uint64_t i = 0; i < intercept_handle.ninit; i++)
		list[i]((int)stack[0], (char **)(stack + 1), (char **)(stack + 2 + stack[0]));
}
