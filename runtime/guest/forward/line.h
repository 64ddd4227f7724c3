/* line.h - a line of text that is put together on the stack, without a C library; what does not fit is cut */
#ifndef GUEST_FORWARD_LINE_H
#define GUEST_FORWARD_LINE_H

#include "runtime/guest/forward/forward.h"

#define FORWARD_LINE_BYTES 512u

/** struct forward_line - Its first @n bytes; not terminated.  There is always room for one more, the newline. */
struct forward_line {
	uint32_t n;
	char text[FORWARD_LINE_BYTES];
};

/** line_char() - One character. */
void line_char(struct forward_line *l, char c);
/** line_text() - A string. */
void line_text(struct forward_line *l, const char *text);
/** line_number() - With at least @width digits; @base: 8, 10, 16. */
void line_number(struct forward_line *l, uint64_t n, unsigned int base, unsigned int width);
/** line_signed() - Decimal. */
void line_signed(struct forward_line *l, int64_t n);
/** line_quoted() - In double quotes, with what cannot be printed written out; @more: there is more of it. */
void line_quoted(struct forward_line *l, const char *text, uint64_t bytes, bool more);
/** line_column() - n / 10^@places with so many places behind the point, to the right of @width characters. */
void line_column(struct forward_line *l, uint64_t n, unsigned int width, unsigned int places);

/** forward_trace_unwritten() - Says on standard error that file @name could not be opened, and why.  @error: a -errno. */
void forward_trace_unwritten(const char *what, const char *name, int64_t error);

#endif
