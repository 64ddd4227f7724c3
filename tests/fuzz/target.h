/* target.h - what every fuzz target has: its function, and MUST(), a property that no input may break */
#ifndef TESTS_FUZZ_TARGET_H
#define TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

#define MUST(cond)                                                                                                              \
	do {                                                                                                                    \
		if (!(cond))                                                                                                    \
			__builtin_trap();                                                                                       \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
