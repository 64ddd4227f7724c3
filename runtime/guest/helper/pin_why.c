/* pin_why.c - what became of a stretch, in words; see pin.h */
#include "runtime/guest/helper/pin.h"

const char *pin_why(enum pin_outcome outcome)
{
	static const char *const why[PIN_NOUTCOMES] = {
		[PIN_DONE] = "pinned",
		[PIN_REPLACED] = "pinned, replaced by anonymous pages",
		[PIN_OPEN] = "pinned, shared memory",
		[PIN_ALREADY] = "pinned before",
		[PIN_ABSENT] = "no page there yet",
		[PIN_HOLE] = "nothing is mapped there",
		[PIN_KERNEL] = "the kernel's own pages",
		[PIN_SHARED] = "a shared mapping of a file or device, or one that is not writable",
		[PIN_NOACCESS] = "a mapping without access",
		[PIN_WRITERS] = "pages that cannot be replaced or unprotected while other threads run",
		[PIN_LIMIT] = "RLIMIT_MEMLOCK",
		[PIN_FULL] = "too many stretches for one ring",
		[PIN_REFUSED] = "refused by the kernel",
	};

	return (unsigned int)outcome < PIN_NOUTCOMES ? why[outcome] : "?";
}
