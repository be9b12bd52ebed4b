/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CIDR[:PORTS] as typed: any bytes are read safely, and what is accepted can be asked. */
#include "base/match.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct endpoint e = { .family = AF_INET, .port = 80 };
	struct match_list list = { 0 };
	struct failure why;
	char *text;

	if (size > FUZZ_TEXT_MAX)
		return 0;
	text = fuzz_text(data, size);
	why.detail[0] = '\0';
	if (match_list_add(&list, text, &why) == 0) {
		fuzz_holds(list.count > 0, "an accepted word adds a match");
		(void)match_list_has(&list, &e);
	} else {
		fuzz_holds(why.detail[0] != '\0', "a refusal says why");
	}
	match_list_free(&list);
	free(text);
	return 0;
}
