/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "process/reason.h"

#include <errno.h>
#include <string.h>

const char *reason_name(enum reason reason)
{
	static const char *const names[REASON_COUNT] = {
		[REASON_NONE] = "",
		[REASON_DIRECT] = "direct",
		[REASON_PROXY_HEADER] = "proxy-header",
		[REASON_LOOP] = "loop",
		[REASON_HOPS] = "hop-limit",
		[REASON_DENIED] = "denied",
		[REASON_PROXY_ADDRESS] = "proxy-address",
		[REASON_SOURCE] = "source",
		[REASON_CLASH] = "clash",
		[REASON_DESCRIPTORS] = "descriptors",
		[REASON_MEMORY] = "memory",
		[REASON_NO_DESTINATION] = "no-destination",
		[REASON_AT_LIMIT] = "at-limit",
		[REASON_UPSTREAM_REFUSED] = "upstream-refused",
		[REASON_UPSTREAM_UNREACHABLE] = "upstream-unreachable",
		[REASON_UPSTREAM_TIMEOUT] = "upstream-timeout",
		[REASON_CLIENT_GONE] = "client-gone",
		[REASON_DONE] = "done",
		[REASON_CLIENT_RESET] = "client-reset",
		[REASON_UPSTREAM_RESET] = "upstream-reset",
		[REASON_CLIENT_LOST] = "client-lost",
		[REASON_UPSTREAM_LOST] = "upstream-lost",
		[REASON_DESTROYED] = "destroyed",
		[REASON_IDLE] = "idle",
		[REASON_HALF_CLOSED] = "half-closed",
		[REASON_EVICTED] = "evicted",
		[REASON_DRAINED] = "drained",
	};

	return names[reason];
}

enum reason reason_of_failure(const struct failure *why)
{
	switch (report_shortage(why->err)) {
	case SHORTAGE_DESCRIPTORS:
		return REASON_DESCRIPTORS;
	case SHORTAGE_MEMORY:
		return REASON_MEMORY;
	case SHORTAGE_NONE:
		break;
	}
	if (why->err == EADDRINUSE || why->err == EADDRNOTAVAIL)
		return REASON_CLASH;
	return strcmp(why->call, "connect") ? REASON_SOURCE : REASON_UPSTREAM_UNREACHABLE;
}
