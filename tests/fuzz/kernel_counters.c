/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any text as a file of counters, in each of their forms. */
#include "tproxy-inspect/explain/kernel_counters.h"
#include "fuzz.h"

static void count(const struct kernel_counter *counter, void *context)
{
	fuzz_holds(counter->grown != 0, "one that has not grown is not told");
	++*(unsigned *)context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kernel_counters none = { 0 }, some = { 0 };
	unsigned grown = 0;
	char *text;

	if (!size)
		return 0;
	text = fuzz_text(data + 1, size - 1);
	kernel_counters_parse(&some, (enum kernel_counters_form)(*data % 3), text);
	kernel_counters_compare(&none, &some, count, &grown);
	fuzz_holds(grown == 0, "one that was not known before is not told");
	memcpy(none.known, some.known, sizeof(none.known));
	kernel_counters_compare(&none, &some, count, &grown);
	fuzz_holds(grown <= KERNEL_COUNTERS, "each is told once");
	free(text);
	return 0;
}
