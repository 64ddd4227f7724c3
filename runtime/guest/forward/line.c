/* line.c - see line.h */
#include "runtime/guest/forward/line.h"

void line_char(struct forward_line *l, char c)
{
	if (l->n < FORWARD_LINE_BYTES - 1)
		l->text[l->n++] = c;
}

void line_text(struct forward_line *l, const char *text)
{
	while (*text)
		line_char(l, *text++);
}

void line_number(struct forward_line *l, uint64_t n, unsigned int base, unsigned int width)
{
	char digits[24];
	unsigned int i = 0;

	do
		digits[i++] = "0123456789abcdef"[n % base];
	while ((n /= base) && i < sizeof(digits));
	while (i < width && i < sizeof(digits))
		digits[i++] = '0';
	while (i)
		line_char(l, digits[--i]);
}

void line_signed(struct forward_line *l, int64_t n)
{
	if (n < 0)
		line_char(l, '-');
	line_number(l, n < 0 ? -(uint64_t)n : (uint64_t)n, 10, 1);
}

void line_quoted(struct forward_line *l, const char *text, uint64_t bytes, bool more)
{
	line_char(l, '"');
	for (uint64_t i = 0; i < bytes; i++) {
		const unsigned char c = (unsigned char)text[i];

		if (c == '\n' || c == '\t' || c == '"' || c == '\\') {
			line_char(l, '\\');
			line_char(l, c == '\n' ? 'n' : c == '\t' ? 't' : (char)c);
		} else if (c >= ' ' && c < 0x7f) {
			line_char(l, (char)c);
		} else {
			line_char(l, '\\');
			line_number(l, c, 8, 3);
		}
	}
	line_text(l, more ? "\"..." : "\"");
}

void line_column(struct forward_line *l, uint64_t n, unsigned int width, unsigned int places)
{
	unsigned int digits = 1;
	uint64_t unit = 1;

	for (unsigned int i = 0; i < places; i++)
		unit *= 10;
	for (uint64_t left = n / unit; left >= 10; left /= 10)
		digits++;
	for (unsigned int have = digits + (places ? places + 1 : 0); have < width; have++)
		line_char(l, ' ');
	line_number(l, n / unit, 10, 1);
	if (!places)
		return;
	line_char(l, '.');
	line_number(l, n % unit, 10, places);
}
