/* when.c - the times that --since and --until take (see when.h) */
#include "analysis/when.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int parse_relative(const char *text, struct when *w)
{
	static const struct {
		const char *unit;
		double seconds;
	} units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}, {"w", 604800}};
	char *end;
	double n;

	/* strtod() would take "inf", "0x10" and "1e9" too: digits and a point only */
	if (strspn(text, "0123456789.") == 0 || text[strspn(text, "0123456789")] == '\0')
		return -EINVAL;
	n = strtod(text, &end);
	if (end != text + strspn(text, "0123456789."))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(end, units[i].unit) == 0) {
			*w = (struct when){.set = true, .relative = true, .seconds = n * units[i].seconds};
			return 0;
		}
	return -EINVAL;
}

/* Exactly @width digits at *p, moved on; -1 if there are not. */
static int take_digits(const char **p, int width)
{
	int v = 0;

	for (int i = 0; i < width; i++) {
		if (!isdigit((unsigned char)(*p)[i]))
			return -1;
		v = v * 10 + ((*p)[i] - '0');
	}
	*p += width;
	return v;
}

/* The zone at the end: seconds east of UTC. */
static int parse_zone(const char *p, long *east)
{
	int sign, hours, minutes = 0;

	*east = 0;
	if (*p == '\0' || strcmp(p, "Z") == 0)
		return 0;
	if (*p != '+' && *p != '-')
		return -EINVAL;
	sign = *p++ == '-' ? -1 : 1;
	hours = take_digits(&p, 2);
	if (*p == ':')
		p++;
	if (*p)
		minutes = take_digits(&p, 2);
	if (hours < 0 || hours > 14 || minutes < 0 || minutes > 59 || *p)
		return -EINVAL;
	*east = sign * (hours * 3600L + minutes * 60L);
	return 0;
}

/* HH:MM[:SS[.fraction]][zone] */
static int parse_clock(const char *p, struct tm *tm, struct when *w, long *east)
{
	tm->tm_hour = take_digits(&p, 2);
	if (tm->tm_hour < 0 || tm->tm_hour > 23 || *p++ != ':')
		return -EINVAL;
	tm->tm_min = take_digits(&p, 2);
	if (tm->tm_min < 0 || tm->tm_min > 59)
		return -EINVAL;
	w->span = 60;
	if (*p == ':') {
		p++;
		tm->tm_sec = take_digits(&p, 2);
		if (tm->tm_sec < 0 || tm->tm_sec > 59)
			return -EINVAL;
		w->span = 1;
		if (*p == '.') {
			double unit = 0.1;

			for (p++; isdigit((unsigned char)*p); p++, unit /= 10)
				w->seconds += (*p - '0') * unit;
			w->span = 0;
		}
	}
	return parse_zone(p, east);
}

int when_parse(const char *text, struct when *w)
{
	struct when got = {.set = true, .span = 86400};
	struct tm tm = {0}, made;
	const char *p = text;
	long east = 0;
	time_t t;

	if (parse_relative(text, w) == 0)
		return 0;
	tm.tm_year = take_digits(&p, 4) - 1900;
	if (tm.tm_year < 0 || *p++ != '-')
		return -EINVAL;
	tm.tm_mon = take_digits(&p, 2) - 1;
	if (tm.tm_mon < 0 || *p++ != '-')
		return -EINVAL;
	tm.tm_mday = take_digits(&p, 2);
	if (*p == 'T' || *p == ' ') {
		if (parse_clock(p + 1, &tm, &got, &east) < 0)
			return -EINVAL;
	} else if (*p) {
		return -EINVAL;
	}
	/* timegm() turns 31 February into March: what comes back must be what went in */
	made = tm;
	t = timegm(&made);
	if (made.tm_mday != tm.tm_mday || made.tm_mon != tm.tm_mon)
		return -EINVAL;
	got.seconds += (double)t - (double)east;
	*w = got;
	return 0;
}

double when_resolve(const struct when *w, double newest)
{
	return w->relative ? newest - w->seconds : w->seconds;
}
