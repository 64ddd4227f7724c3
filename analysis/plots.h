/* plots.h - the gnuplot sources and the style sheet that travel inside the program
 *
 * The files of plots/ as they were when the program was built; it needs none of them at run time.
 */
#ifndef ANALYSIS_PLOTS_H
#define ANALYSIS_PLOTS_H

/** Each is a text, ended by a NUL. */
extern const char plots_style[], plots_entries[], plots_ratio[], plots_size[], plots_lengths[], plots_time[], plots_churn[],
	plots_page_css[];

#endif
