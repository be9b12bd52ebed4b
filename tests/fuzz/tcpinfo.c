/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any struct tcp_info, of any length: no number that it says is more than the kernel's. */
#include "net/tcpinfo.h"
#include "fuzz.h"
#include <linux/tcp.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tcp_info info = { 0 };
	struct tcpinfo out;
	uint32_t queued;
	char *raw;

	if (size < sizeof(queued))
		return 0;
	memcpy(&queued, data, sizeof(queued));
	data += sizeof(queued);
	size -= sizeof(queued);
	raw = malloc(size ? size : 1); /* what is read beyond it is found */
	if (!raw)
		abort();
	memcpy(raw, data, size);
	memcpy(&info, data, size < sizeof(info) ? size : sizeof(info));
	tcpinfo_parse(raw, size, queued, &out);
	fuzz_holds(out.bytes_out <= info.tcpi_bytes_acked,
		   "payload is what was acknowledged, or less");
	fuzz_holds(info.tcpi_bytes_acked - out.bytes_out <= 2, "SYN and FIN are two at most");
	fuzz_holds(out.opener <= OPENER_PEER, "an opener is one of three");
	free(raw);
	return 0;
}
