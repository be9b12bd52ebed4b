/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PROXY header comes from the network: any bytes are read safely; no beginning of a header is
 * refused, and what is accepted is the same when it is written and read again. */
#include "socket/proxyproto.h"
#include "fuzz.h"

static void reads_back(const struct proxyproto_header *header)
{
	struct proxyproto_header again, h = *header;
	uint8_t buf[PROXYPROTO_WRITTEN_MAX];
	struct failure why;
	size_t length, wanted;

	length = proxyproto_write(&h, buf);
	fuzz_holds(proxyproto_parse(buf, length, &again, &wanted, &why) == 1,
		   "what is written is read");
	fuzz_holds(again.length == length, "all of it");
	fuzz_holds(again.has_addresses == h.has_addresses, "with addresses or without");
	fuzz_holds(!h.has_addresses || (endpoint_equal(&again.source, &h.source) &&
					endpoint_equal(&again.destination, &h.destination)),
		   "the same addresses");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxyproto_header header, part;
	struct failure why = { 0 };
	size_t wanted;
	int found = proxyproto_parse(data, size, &header, &wanted, &why);

	if (found < 0)
		fuzz_holds(why.detail[0] != '\0', "a refusal says why");
	if (found == 0)
		fuzz_holds(wanted > size, "more is wanted than there is");
	if (found != 1)
		return 0;
	fuzz_holds(header.length <= size, "no more is taken than there is");
	for (size_t n = 0; n < header.length; n++)
		fuzz_holds(proxyproto_parse(data, n, &part, &wanted, &why) == 0,
			   "a beginning is incomplete");
	reads_back(&header);
	return 0;
}
