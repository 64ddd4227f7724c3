/* tap.h - what a unit test says: one line "ok N - what" or "not ok N - what" a check, and the plan at the end
 *
 * A check names what a user would miss.  A test that cannot run here says so with tap_skip().
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int tap_count, tap_failed;

__attribute__((format(printf, 4, 5), unused)) static bool tap_ok_at(const char *file, int line, bool ok, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", ok ? "" : "not ", ++tap_count);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	if (!ok) {
		tap_failed++;
		printf("# failed at %s:%d\n", file, line);
	}
	fflush(stdout);
	return ok;
}

/* tap_ok(condition, "what holds, printf style", ...) */
#define tap_ok(cond, ...) tap_ok_at(__FILE__, __LINE__, (cond), __VA_ARGS__)

/* tap_eq(got, want, "what", ...): integers; prints both when they differ */
#define tap_eq(got, want, ...)                                                                                                   \
	do {                                                                                                                     \
		long long got_ = (long long)(got), want_ = (long long)(want);                                                    \
		if (!tap_ok_at(__FILE__, __LINE__, got_ == want_, __VA_ARGS__))                                                  \
			printf("# got %lld, want %lld\n", got_, want_);                                                          \
	} while (0)

/* tap_skip("what", "why it cannot run here"): DS_MUST_WORK turns it into a failure (tests/run does) */
__attribute__((unused)) static void tap_skip(const char *what, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_count, what, why);
	fflush(stdout);
}

/* return tap_done(); ends main() */
__attribute__((unused)) static int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed ? 1 : 0;
}

#endif
