/* errmsg.h - one error with its context: what happened, to what, what to do next
 *
 * Functions below main() neither print nor exit.  They return -errno, and where the number alone would not help a
 * user, they fill in the sentence that main() prints.
 */
#ifndef ANALYSIS_ERRMSG_H
#define ANALYSIS_ERRMSG_H

#include <stdarg.h>
#include <stdio.h>

/** struct errmsg - A sentence for the user, without newline; cut at the end of the array when too long. */
struct errmsg {
	char text[1200];
};

/**
 * errmsg_set() - Fill in the sentence
 * @e: where to
 * @code: what the caller returns
 * @fmt: printf format
 *
 * Return: @code, so that `return errmsg_set(e, -EIO, "...")` reads as one step.
 */
__attribute__((format(printf, 3, 4))) static inline int errmsg_set(struct errmsg *e, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return code;
}

#endif
