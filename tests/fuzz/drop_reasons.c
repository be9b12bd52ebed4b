/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any text as the format of a tracepoint: a reason is within a record, and names end. */
#include "tproxy-inspect/explain/drop_reasons.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct drop_reasons_format format;
	char *text = fuzz_text(data, size);

	if (drop_reasons_parse(text, &format))
		fuzz_holds(format.offset <= 252, "the reason is in the record");
	for (size_t i = 0; i < DROP_REASONS_MAX; i++)
		fuzz_holds(strnlen(format.name[i], sizeof(format.name[i])) < sizeof(format.name[i]),
			   "a name ends");
	free(text);
	return 0;
}
