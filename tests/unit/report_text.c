/* report_text - the small pure parts behind names and numbers: cgroup filter, interning, UTF-8, number formats */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "analysis/filter.h"
#include "analysis/fmt.h"
#include "analysis/html.h"
#include "analysis/intern.h"
#include "analysis/utf8.h"
#include "tests/tap.h"

static void test_cgroup(void)
{
	tap_ok(filter_cgroup("/a", "/a") && filter_cgroup("/a", "/a/b") && filter_cgroup("/a/", "/a/b"), "a path matches itself and what is below");
	tap_ok(!filter_cgroup("/a", "/ab") && !filter_cgroup("/a/b", "/a"), "not its neighbour, not what is above");
	tap_ok(filter_cgroup("/", "/x/y") && filter_cgroup("/", "/"), "the root matches all");
	tap_ok(filter_cgroup("*/ssh*", "/system.slice/ssh.service") && !filter_cgroup("/a?", "/a/b/c"), "a pattern is a pattern");
}

static void test_intern(void)
{
	struct intern t = {0};
	uint32_t id, wrong = 0;
	char key[16];

	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 10000; i++) {
			snprintf(key, sizeof(key), "k%d", i);
			wrong += intern_id(&t, key, strlen(key), &id) < 0 || id != (uint32_t)i;
		}
	tap_eq(wrong, 0, "10,000 keys are numbered in order of appearance and found again");
	tap_ok(strcmp(intern_text(&t, 4711), "k4711") == 0 && *intern_text(&t, INTERN_NONE) == '\0', "a number gives its key back, none gives nothing");
	intern_free(&t);
}

static void cleans(const char *in, const char *want, const char *what)
{
	char *out = utf8_clean(in);

	tap_ok(out && strcmp(out, want) == 0 && utf8_valid(out) && utf8_valid(in) == (strcmp(in, want) == 0), "%s", what);
	free(out);
}

static void test_utf8(void)
{
	cleans("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80", "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80", "well-formed text stays");
	cleans("half\xe2\x82", "half\xef\xbf\xbd\xef\xbf\xbd", "a character cut in half is replaced");
	cleans("\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd", "an overlong form is no character");
	cleans("\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "a surrogate is no character");
	cleans("\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "nor is what lies beyond U+10FFFF");
}

static void test_numbers(void)
{
	const double hard[] = {0.1, 1.0 / 3, 0.0844, 2.0 / 3 * 1e-7, 1767225600.25, 123456789.123456789, 5e-324, 0};
	bool exact = true;

	for (size_t i = 0; i < sizeof(hard) / sizeof(hard[0]); i++)
		exact = exact && strtod(fmt_real(hard[i]).s, NULL) == hard[i];
	tap_ok(exact, "fmt_real() reads back as the same double");
	tap_ok(strcmp(fmt_real(0.1).s, "0.1") == 0 && strcmp(fmt_real(42).s, "42") == 0, "and is short where it can be");
	tap_ok(strcmp(fmt_count(0).s, "0") == 0 && strcmp(fmt_count(999).s, "999") == 0 && strcmp(fmt_count(1000).s, "1,000") == 0 &&
		       strcmp(fmt_count(UINT64_MAX).s, "18,446,744,073,709,551,615") == 0,
	       "thousands are separated");
	tap_ok(strcmp(fmt_iso(1767225600.25).s, "2026-01-01T00:00:00Z") == 0 && strcmp(fmt_iso(-0.5).s, "1969-12-31T23:59:59Z") == 0, "moments, also before 1970");
	tap_ok(strcmp(fmt_ratio(NAN).s, "-") == 0 && strcmp(fmt_percent(1, 0).s, "-") == 0, "what is not known is a dash");
	tap_ok(strcmp(fmt_signed(-0.0004).s, "0.000") == 0 && strcmp(fmt_signed(-0.0972).s, "-0.097") == 0 && strcmp(fmt_signed(0.5).s, "+0.500") == 0, "a correlation has its sign unless it rounds to zero");
	tap_ok(strcmp(fmt_percent(1, 1000000).s, "<0.01 %") == 0 && strcmp(fmt_percent(999999, 1000000).s, ">99.99 %") == 0, "almost nothing is not 0 %%, almost all not 100 %%");
	tap_ok(strcmp(fmt_pages(16).s, "64 KiB") == 0 && strcmp(fmt_pages(393216).s, "1.50 GiB") == 0, "pages as bytes");
}

static void test_svg(void)
{
	char *page = NULL;
	size_t len;
	FILE *f = open_memstream(&page, &len);

	svg_inline(f, "<?xml version=\"1.0\"?>\n<svg \n w='1'><title>Gnuplot</title><desc>made by</desc><path id='gp1'/><g id=\"p\"/><use xlink:href='#gp1'/></svg>", "f2", "a \"label\"");
	fclose(f);
	tap_ok(page && strcmp(page, "<svg role=\"img\" aria-label=\"a &quot;label&quot;\" \n w='1'><path id='f2-gp1'/><g id=\"f2-p\"/><use xlink:href='#f2-gp1'/></svg>") == 0,
	       "a figure in a page: own ids, no declaration, no tips");
	free(page);
}

int main(void)
{
	test_cgroup();
	test_intern();
	test_utf8();
	test_numbers();
	test_svg();
	return tap_done();
}
