/* SPDX-License-Identifier: GPL-2.0-or-later */
/* --until EXPR as typed: any bytes are read safely, and what is accepted can be asked of any
 * record. */
#include "tproxy-inspect/condition.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct endpoint client = { .family = AF_INET, .port = 40000 };
	struct condition *condition;
	struct failure why = { 0 };
	struct record r;
	char *text;

	if (size > FUZZ_TEXT_MAX)
		return 0;
	text = fuzz_text(data, size);
	condition = condition_parse(text, UINT64_MAX, &why);
	fuzz_holds(condition || why.detail[0], "a refusal says why");
	record_begin(&r, "connection");
	(void)condition_holds(condition, &r);
	record_endpoint(&r, RECORD_CLIENT, &client);
	record_text(&r, RECORD_EVENT, "close");
	record_number(&r, RECORD_BYTES_UP, 1 << 20);
	record_duration(&r, 1500);
	(void)condition_holds(condition, &r);
	condition_free(condition);
	free(text);
	return 0;
}
