/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The specification's canonical text comes back from the kernel, where others may have written too:
 * any bytes are read safely, and what is accepted prints as the text it was read from. */
#include "intercept/intercept.h"
#include "fuzz.h"
#include "intercept/spec_text.h"

static void reads_back(const char *text)
{
	char once[INTERCEPT_TEXT_MAX], twice[INTERCEPT_TEXT_MAX];
	struct intercept a, b;
	struct failure why;

	if (spec_text_parse(text, &a, &why) == 0) {
		spec_text(&a, once);
		fuzz_holds(spec_text_parse(once, &b, &why) == 0, "a canonical text is read");
		fuzz_holds(!strcmp(once, spec_text(&b, twice)), "canonical text is stable");
		intercept_free(&b);
	}
	intercept_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (size > FUZZ_TEXT_MAX)
		return 0;
	text = fuzz_text(data, size);
	reads_back(text);
	free(text);
	return 0;
}
