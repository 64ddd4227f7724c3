/* fmt.h - numbers as people read them, and as programs do
 *
 * Text and page use the short forms (thousands separated, four digits of a ratio); CSV and JSON use fmt_real(), which
 * loses nothing.  Nothing depends on the locale or the time zone: the same number is the same text everywhere.
 * Results are small structs by value, so that several fit into one printf: printf("%s", fmt_count(n).s).
 */
#ifndef ANALYSIS_FMT_H
#define ANALYSIS_FMT_H

#include <stdint.h>

struct fmt {
	char s[48];
};

/** fmt_count() - 1234567 as "1,234,567". */
struct fmt fmt_count(uint64_t n);

/** fmt_number() - A quantile of counts: fmt_count() of a whole number, "-" of NaN. */
struct fmt fmt_number(double v);

/** fmt_ratio() - Four decimals, fewer leading zeros lost: 0.0844, 3.1e-05; "-" of NaN. */
struct fmt fmt_ratio(double v);

/** fmt_seconds() - Three significant digits and more only before the point: 0.998, 60, 1,800; "-" of NaN. */
struct fmt fmt_seconds(double v);

/** fmt_signed() - A correlation with three decimals and its sign: -0.097; "-" of NaN. */
struct fmt fmt_signed(double v);

/** fmt_percent() - 100 * @part / @whole with three significant digits and " %"; "-" when @whole is zero. */
struct fmt fmt_percent(double part, double whole);

/** fmt_pages() - A number of 4 KiB pages as bytes: "64 KiB", "1.50 GiB". */
struct fmt fmt_pages(double npages);

/** fmt_bytes() - The same from bytes. */
struct fmt fmt_bytes(double nbytes);

/** fmt_time() - Unix seconds as "2026-01-31 14:05:00" (UTC); the fraction is dropped. */
struct fmt fmt_time(double time_s);

/** fmt_iso() - Unix seconds as "2026-01-31T14:05:00Z", as time_iso of the views. */
struct fmt fmt_iso(double time_s);

/** fmt_duration() - Seconds as "19 d 3 h", "12 min", "40 s". */
struct fmt fmt_duration(double seconds);

/** fmt_real() - The shortest decimal that strtod() reads back as the same double; whole numbers without a point. */
struct fmt fmt_real(double v);

#endif
