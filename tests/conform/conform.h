/* conform.h - what the parts of conform share */
#ifndef TESTS_CONFORM_CONFORM_H
#define TESTS_CONFORM_CONFORM_H

#include <stdint.h>
#include <stdio.h>

extern const char *dir; /* an empty directory, of the host when calls are forwarded */

#define PATH_BYTES 5000

/** in() - The path of @name in the directory; good for the next 16 calls. */
const char *in(const char *name);

/** error() - The name of what errno says, if @result is negative, else "". */
const char *error(long result);

/** draw() - A number below @below; the same ones in each run with the same seed. */
uint64_t draw(uint64_t below);

/** names_run() - Every call that takes a path, on every kind of path; @n: so many of them, drawn by lot; 0: all (names.c). */
void names_run(uint32_t n);

/** pairs_run() - Every call that takes two, on every kind and some others; @n: as before (names.c). */
void pairs_run(uint32_t n);

/** times_run() - What each call does to times and modes (times.c). */
void times_run(void);

/** data_run() - @n operations on files, with a model of what should be in them (data.c). */
void data_run(uint32_t n);

#endif
