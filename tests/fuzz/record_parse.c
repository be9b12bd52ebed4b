/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is understood of a line can be written again, and then says the same. */
#include "base/record_parse.h"
#include "fuzz.h"

/* Write and read it once more. Returns the line's length. */
static size_t renew(struct record *r, struct record_texts *texts, char *line)
{
	struct failure why = { 0 };
	size_t length = record_print_json(r, line);

	fuzz_holds(record_parse_json(line, length - 1, r, texts, &why) == 0, "what we write");
	return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char line[RECORD_LINE_MAX], again[RECORD_LINE_MAX];
	struct record_texts texts[3];
	struct record r;
	struct failure why = { 0 };
	uint64_t present;
	size_t length;

	if (size >= RECORD_LINE_MAX)
		return 0;
	if (record_parse_json((const char *)data, size, &r, &texts[0], &why) < 0) {
		fuzz_holds(why.detail[0], "a refusal says why");
		return 0;
	}
	fuzz_holds(record_get_text(&r, RECORD_TYPE) != NULL, "each record has a type");
	present = r.present;
	/* Bytes that are no UTF-8 become U+FFFD the first time. */
	if (renew(&r, &texts[1], line) > RECORD_LINE_MAX / 2)
		return 0; /* it may have been cut */
	fuzz_holds(r.present == present, "the same fields");
	length = record_print_json(&r, line);
	renew(&r, &texts[2], again);
	fuzz_holds(record_print_json(&r, again) == length && !memcmp(line, again, length),
		   "the same values");
	return 0;
}
