/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks for the unit tests: a failed one is printed with its place, all go on, the program's exit
 * status says whether any failed. */
#ifndef TPROXY_TESTS_CHECK_H
#define TPROXY_TESTS_CHECK_H

#include <stdio.h>
#include <string.h>

static int check_count, check_failed;

#define CHECK(condition)	     check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_TEXT(actual, expected) check_text((actual), (expected), __FILE__, __LINE__)

static inline void check_that(int ok, const char *what, const char *file, int line)
{
	check_count++;
	if (ok)
		return;
	check_failed++;
	fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
}

static inline void check_text(const char *actual, const char *expected, const char *file, int line)
{
	check_count++;
	if (!strcmp(actual, expected))
		return;
	check_failed++;
	fprintf(stderr, "%s:%d: got      '%s'\n%s:%d: expected '%s'\n", file, line, actual, file,
		line, expected);
}

static inline int check_done(void)
{
	fprintf(stderr, "%d checks, %d failed\n", check_count, check_failed);
	return check_failed || !check_count;
}

#endif
