/* svginline.c - a figure of gnuplot inside a page (svg_inline() of html.h) */
#include <string.h>

#include "analysis/html.h"

/* Skip <tag>...</tag> at @p; NULL when that is not what is there. */
static const char *skip_element(const char *p, const char *open, const char *close)
{
	const char *end;

	if (strncmp(p, open, strlen(open)) != 0)
		return NULL;
	end = strstr(p, close);
	return end ? end + strlen(close) : NULL;
}

void html_text(FILE *f, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '&':
			fputs("&amp;", f);
			break;
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '"':
			fputs("&quot;", f);
			break;
		default:
			/* a control character is not allowed in HTML at all */
			putc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, f);
		}
}

void svg_inline(FILE *f, const char *svg, const char *prefix, const char *label)
{
	static const char *const id[] = {"id='", "id=\"", "href='#", "url(#"};
	const char *p = strstr(svg, "<svg");

	if (!p)
		return;
	fputs("<svg role=\"img\" aria-label=\"", f);
	html_text(f, label);
	putc('"', f);
	for (p += 4; *p;) {
		const char *after = skip_element(p, "<title>", "</title>");
		size_t k;

		if (!after)
			after = skip_element(p, "<desc>", "</desc>");
		if (after) {
			p = after;
			continue;
		}
		for (k = 0; k < sizeof(id) / sizeof(id[0]); k++)
			if (strncmp(p, id[k], strlen(id[k])) == 0)
				break;
		if (k < sizeof(id) / sizeof(id[0])) {
			fprintf(f, "%s%s-", id[k], prefix);
			p += strlen(id[k]);
		} else {
			putc(*p++, f);
		}
	}
}
