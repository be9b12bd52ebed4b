/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tproxy-inspect/socket_record.h"

#include <netinet/in.h>

const char *socket_record_proto(int protocol)
{
	return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

void socket_record_mark(struct record *r, uint32_t value)
{
	struct mark mark = { value, ~0u };

	record_mark(r, RECORD_MARK, &mark);
}
