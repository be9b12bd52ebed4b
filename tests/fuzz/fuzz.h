/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the fuzz targets share: the input as a C string, and properties that abort when they
 * fail. */
#ifndef TPROXY_TESTS_FUZZ_H
#define TPROXY_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_TEXT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Copies the input and ends it; what follows the first NUL is not seen, as with any argument. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

/* A property of the code under test; the fuzzer keeps the input that breaks it. */
static inline void fuzz_holds(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "does not hold: %s\n", what);
	abort();
}

#endif
