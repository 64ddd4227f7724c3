/* report_when - the times of --since and --until; the expected seconds come from `date -u -d ... +%s` */
#include <errno.h>

#include "analysis/filter.h"
#include "tests/tap.h"

static void good(const char *text, double seconds, double span)
{
	struct when w;

	if (when_parse(text, &w) < 0) {
		tap_ok(false, "%s is a time", text);
		return;
	}
	tap_ok(!w.relative && w.seconds == seconds && w.span == span, "%s is %.3f and covers %.0f s", text, w.seconds, w.span);
}

static void back(const char *text, double seconds)
{
	struct when w;

	tap_ok(when_parse(text, &w) == 0 && w.relative && w.seconds == seconds, "%s is %.0f s back", text, seconds);
}

static void bad(const char *text)
{
	struct when w;

	tap_ok(when_parse(text, &w) == -EINVAL, "\"%s\" is refused", text);
}

static void test_range(void)
{
	struct filter f = {0};

	tap_ok(when_parse("2026-01-31", &f.since) == 0 && when_parse("2026-01-31", &f.until) == 0, "one day as both ends");
	filter_resolve(&f, 0);
	tap_ok(filter_snapshot(&f, "h", 1769817600) && filter_snapshot(&f, "h", 1769903999.75), "its first moment and its last belong");
	tap_ok(!filter_snapshot(&f, "h", 1769817599.75) && !filter_snapshot(&f, "h", 1769904000), "the ones before and after do not");
	f = (struct filter){0};
	tap_ok(when_parse("1h", &f.since) == 0, "an hour back");
	filter_resolve(&f, 10000);
	tap_ok(filter_snapshot(&f, "h", 6400) && !filter_snapshot(&f, "h", 6399), "counts from the newest snapshot");
}

int main(void)
{
	good("2026-01-31", 1769817600, 86400);
	good("2024-02-29", 1709164800, 86400);
	good("2026-01-31T14:05", 1769868300, 60);
	good("2026-01-31 14:05:09", 1769868309, 1);
	good("2026-01-31T14:05:09.5Z", 1769868309.5, 0);
	good("2026-01-31T14:05:09+02:00", 1769861109, 1);
	good("2026-01-31T14:05-0530", 1769888100, 60);
	back("90s", 90);
	back("30min", 1800);
	back("6h", 21600);
	back("1.5d", 129600);
	back("2w", 1209600);
	bad("");
	bad("yesterday");
	bad("2026-02-29");
	bad("2026-13-01");
	bad("2026-1-1");
	bad("2026-01-31T25:00");
	bad("2026-01-31T14");
	bad("2026-01-31T14:05:60");
	bad("2026-01-31T14:05+15:00");
	bad("2026-01-31x");
	bad("6");
	bad("6hh");
	bad("-6h");
	bad("infd");
	bad("0x10h");
	bad("1.2.3d");
	test_range();
	return tap_done();
}
