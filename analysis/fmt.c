/* fmt.c - numbers as people read them, and as programs do (see fmt.h) */
#include "analysis/fmt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "rle/addr.h"

struct fmt fmt_count(uint64_t n)
{
	struct fmt f;
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n), at = 0;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			f.s[at++] = ',';
		f.s[at++] = digits[i];
	}
	f.s[at] = '\0';
	return f;
}

struct fmt fmt_number(double v)
{
	struct fmt f = {"-"};

	return isnan(v) ? f : fmt_count((uint64_t)llround(v));
}

struct fmt fmt_ratio(double v)
{
	struct fmt f = {"-"};

	if (!isnan(v))
		snprintf(f.s, sizeof(f.s), v != 0 && v < 0.001 ? "%.1e" : "%.4f", v);
	return f;
}

struct fmt fmt_seconds(double v)
{
	struct fmt f;

	if (isnan(v) || v >= 999.5)
		return fmt_number(isnan(v) ? v : round(v));
	snprintf(f.s, sizeof(f.s), "%.3g", v);
	return f;
}

struct fmt fmt_signed(double v)
{
	struct fmt f = {"-"};

	if (!isnan(v)) /* what rounds to zero has no sign */
		snprintf(f.s, sizeof(f.s), fabs(v) < 0.0005 ? "0.000" : "%+.3f", v);
	return f;
}

struct fmt fmt_percent(double part, double whole)
{
	struct fmt f = {"-"};
	double v = 100 * part / whole;

	if (whole <= 0)
		return f;
	if (v == 0 || v == 100)
		snprintf(f.s, sizeof(f.s), "%.0f %%", v);
	else if (v < 0.01)
		snprintf(f.s, sizeof(f.s), "<0.01 %%");
	else if (v > 99.99)
		snprintf(f.s, sizeof(f.s), ">99.99 %%");
	else
		snprintf(f.s, sizeof(f.s), "%.*f %%", v < 1 || v > 99 ? 2 : 1, v);
	return f;
}

struct fmt fmt_bytes(double nbytes)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	struct fmt f = {"-"};
	size_t u = 0;

	if (isnan(nbytes))
		return f;
	while (nbytes >= 1024 && u + 1 < sizeof(unit) / sizeof(unit[0])) {
		nbytes /= 1024;
		u++;
	}
	snprintf(f.s, sizeof(f.s), "%.*f %s", nbytes == floor(nbytes) || nbytes >= 100 ? 0 : nbytes >= 10 ? 1 : 2, nbytes, unit[u]);
	return f;
}

struct fmt fmt_pages(double npages)
{
	return fmt_bytes(npages * DS_PAGE_BYTES);
}

static struct fmt time_text(double time_s, char between, const char *zone)
{
	struct fmt f = {"-"};
	time_t t = (time_t)floor(time_s);
	struct tm tm;

	if (!isnan(time_s) && gmtime_r(&t, &tm))
		snprintf(f.s, sizeof(f.s), "%04d-%02d-%02d%c%02d:%02d:%02d%s", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, between,
			 tm.tm_hour, tm.tm_min, tm.tm_sec, zone);
	return f;
}

struct fmt fmt_time(double time_s)
{
	return time_text(time_s, ' ', "");
}

struct fmt fmt_iso(double time_s)
{
	return time_text(time_s, 'T', "Z");
}

struct fmt fmt_duration(double seconds)
{
	struct fmt f;
	uint64_t s = seconds > 0 ? (uint64_t)llround(seconds) : 0;
	unsigned long long day = s / 86400, hour = s / 3600 % 24, min = s / 60 % 60;

	if (day)
		snprintf(f.s, sizeof(f.s), hour ? "%llu d %llu h" : "%llu d", day, hour);
	else if (hour)
		snprintf(f.s, sizeof(f.s), min ? "%llu h %llu min" : "%llu h", hour, min);
	else if (s >= 120)
		snprintf(f.s, sizeof(f.s), s % 60 ? "%llu min %llu s" : "%llu min", min, (unsigned long long)s % 60);
	else
		snprintf(f.s, sizeof(f.s), "%llu s", (unsigned long long)s);
	return f;
}

struct fmt fmt_real(double v)
{
	struct fmt f;

	if (v == floor(v) && fabs(v) < 9007199254740992.0) {
		snprintf(f.s, sizeof(f.s), "%.0f", v);
		return f;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(f.s, sizeof(f.s), "%.*g", digits, v);
		if (strtod(f.s, NULL) == v)
			break;
	}
	return f;
}
