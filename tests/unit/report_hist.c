/* report_hist - histograms out of the database: the parser, and the distribution function at the edges of bins */
#include <errno.h>
#include <string.h>

#include "analysis/hist.h"
#include "tests/tap.h"

static void refuses(const char *text, int want)
{
	struct hist h = {{7}};
	struct hist before = h;

	tap_ok(hist_add_json(&h, text) == want && memcmp(&h, &before, sizeof(h)) == 0, "\"%.40s\" is refused and adds nothing", text);
}

int main(void)
{
	struct hist h = {0};
	char many[4 * HIST_BINS + 8] = "[";

	tap_ok(hist_add_json(&h, "[]") == 0 && hist_total(&h) == 0 && hist_used(&h) == 0, "an empty array");
	tap_ok(hist_add_json(&h, "[3,0,2]") == 0 && hist_add_json(&h, " [ 1 , 1 ] ") == 0, "two arrays, one with blanks");
	tap_ok(h.bin[0] == 4 && h.bin[1] == 1 && h.bin[2] == 2, "are added bin by bin");
	tap_eq(hist_used(&h), 3, "three bins are used");
	/* bins: runs of 1 page, of 2-3, of 4-7 */
	tap_ok(hist_shorter(&h, 0) == 0 && hist_shorter(&h, 1) == 4 && hist_shorter(&h, 2) == 5 && hist_shorter(&h, 3) == 7, "runs shorter than 1, 2, 4, 8 pages");
	tap_eq(hist_shorter(&h, 1000), 7, "no bin beyond the last is read");
	refuses("", -EINVAL);
	refuses("3", -EINVAL);
	refuses("[3", -EINVAL);
	refuses("[3,]", -EINVAL);
	refuses("[,3]", -EINVAL);
	refuses("[-1]", -EINVAL);
	refuses("[1.5]", -EINVAL);
	refuses("[1]x", -EINVAL);
	refuses("[[1]]", -EINVAL);
	refuses("[9007199254740992]", -ERANGE);
	refuses("[99999999999999999999999]", -ERANGE);
	for (int i = 0; i < HIST_BINS; i++)
		strcat(many, i ? ",1" : "1");
	strcat(many, "]");
	h = (struct hist){0};
	tap_ok(hist_add_json(&h, many) == 0 && hist_total(&h) == HIST_BINS, "as many elements as bins");
	many[strlen(many) - 1] = '\0';
	strcat(many, ",1]");
	refuses(many, -E2BIG);
	return tap_done();
}
