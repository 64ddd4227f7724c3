/* plots.c - the gnuplot sources and the style sheet, embedded (see plots.h)
 *
 * The assembler's .incbin reads them as they are; the Makefile rebuilds this object when one changes.
 */
#include "analysis/plots.h"

#define EMBED(name, file)                                                                                                        \
	__asm__(".pushsection .rodata\n"                                                                                         \
		".global " #name "\n"                                                                                            \
		".hidden " #name "\n" #name ":\n"                                                                                \
		".incbin \"" file "\"\n"                                                                                         \
		".byte 0\n"                                                                                                      \
		".popsection\n")

EMBED(plots_style, "plots/style.gp");
EMBED(plots_entries, "plots/entries.gp");
EMBED(plots_ratio, "plots/ratio.gp");
EMBED(plots_size, "plots/size.gp");
EMBED(plots_lengths, "plots/lengths.gp");
EMBED(plots_time, "plots/time.gp");
EMBED(plots_churn, "plots/churn.gp");
EMBED(plots_page_css, "plots/page.css");
