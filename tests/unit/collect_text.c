/* collect_text.c - names made fit for storage: what is UTF-8 stays, what is not becomes U+FFFD, nothing is cut in two */
#include <string.h>

#include "collector/text.h"
#include "tests/tap.h"

#define BAD "\xef\xbf\xbd"

static void becomes(const char *in, const char *want, const char *what)
{
	char out[64];

	text_clean(out, sizeof(out), in);
	if (!tap_ok(strcmp(out, want) == 0, "%s", what))
		printf("# got %s, want %s\n", out, want);
}

int main(void)
{
	char out[6];

	becomes("", "", "nothing");
	becomes("kworker/0:1", "kworker/0:1", "ASCII");
	becomes("a\x01\x7f", "a\x01\x7f", "control characters are UTF-8 too");
	becomes("\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\xa7", "characters of 2, 3 and 4 bytes");
	becomes("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf", "the last character, U+10FFFF");
	becomes("a\xffz", "a" BAD "z", "a byte that is never in UTF-8");
	becomes("a\x80z", "a" BAD "z", "a second byte without a first");
	becomes("\xc3", BAD, "a first byte at the end");
	becomes("\xe2\x82", BAD BAD, "a character cut short");
	becomes("\xc3z", BAD "z", "a first byte before something else");
	becomes("\xc0\xaf", BAD BAD, "a longer form of '/'");
	becomes("\xe0\x9f\xbf", BAD BAD BAD, "a longer form in 3 bytes");
	becomes("\xf0\x8f\xbf\xbf", BAD BAD BAD BAD, "a longer form in 4 bytes");
	becomes("\xed\xa0\x80", BAD BAD BAD, "a surrogate");
	becomes("\xf4\x90\x80\x80", BAD BAD BAD BAD, "beyond U+10FFFF");
	text_clean(out, sizeof(out), "abc\xe2\x82\xac");
	tap_ok(strcmp(out, "abc") == 0, "a character that does not fit is left out whole");
	text_clean(out, sizeof(out), "ab\xe2\x82\xac");
	tap_ok(strcmp(out, "ab\xe2\x82\xac") == 0, "one that just fits is kept");
	text_clean(out, 1, "abc");
	tap_ok(*out == '\0', "room for the end only");
	return tap_done();
}
