/* html.h - the report as one page
 *
 * Self-contained: style sheet and figures (SVG) are inside, nothing is loaded, there is no script.  Readable in light and
 * dark, on paper and on a phone.  The figures are those of --svg; the page changes their colours by rules on the
 * colour attributes that gnuplot writes (plots/page.css).
 */
#ifndef ANALYSIS_HTML_H
#define ANALYSIS_HTML_H

#include <stdbool.h>

#include "analysis/errmsg.h"
#include "analysis/summary.h"

/**
 * html_report() - Write the page
 * @f: stream; errors stay in it (ferror())
 * @s: summary
 * @samples_filtered: as for tables_build()
 * @e: on error
 *
 * Return: 0 or -errno, with the sentence in @e (figure_draw()).
 */
int html_report(FILE *f, const struct summary *s, bool samples_filtered, struct errmsg *e);

/**
 * svg_inline() - Write a figure of gnuplot into a page
 * @f: stream
 * @svg: the document
 * @prefix: put before every id, since the figures of a page share one name space
 * @label: what the figure shows, for those who hear the page
 *
 * Leaves out the XML declaration, and the titles, which would be shown as tips at the pointer.
 */
void svg_inline(FILE *f, const char *svg, const char *prefix, const char *label);

/** html_text() - Write text, its special characters escaped. */
void html_text(FILE *f, const char *text);

#endif
