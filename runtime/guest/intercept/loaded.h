/* loaded.h - this library in a program that did not load it itself: what a tracer finds in it and sets (runtime/guest/monitor/load.h)
 *
 * A program that no dynamic linker starts, or that is to be watched by a monitor, gets the library from a tracer, as memory, after
 * exec and before its first instruction.  The tracer does what a dynamic linker would, fills in the handle and lets the program
 * begin at intercept_begin, which runs the constructors and goes on to the program's own start.
 *
 * Watched (`traced`), the traps are the monitor's: each call that begins outside the exempt range is not made, and its thread goes on at
 * intercept_entry, as signals.c would have it.  Then nothing is done about SIGSYS, and threads and children need no dispatch.
 */
#ifndef GUEST_INTERCEPT_LOADED_H
#define GUEST_INTERCEPT_LOADED_H

#include <stdint.h>

#define INTERCEPT_HANDLE "intercept_handle"
#define INTERCEPT_HANDLE_MAGIC UINT64_C(0x6c646e6168534424)

/** enum intercept_monitor - Whether there is one, that puts the library into further programs too. */
enum intercept_monitor {
	INTERCEPT_ALONE = 0,
	INTERCEPT_TRACED,   /* it makes the traps */
	INTERCEPT_FOLLOWED, /* the traps are the library's own */
};

/** struct intercept_handle - The library's one symbol that others see; addresses are where it was loaded. */
struct intercept_handle {
	uint64_t magic;
	uint64_t begin;		    /* rsi: where the program starts; rsp: as the kernel leaves it */
	uint64_t entry;		    /* where a call goes on: intercept_entry */
	uint64_t exempt, exempt_end; /* calls from here are the library's own */
	uint64_t park;		    /* where a thread can wait for ever: intercept_park */
	uint64_t init, ninit;	    /* the tracer's: the constructors */
	uint64_t traced;	    /* the tracer's: enum intercept_monitor */
	uint64_t cookie;	    /* the tracer's, to know the library by */
};

#endif
