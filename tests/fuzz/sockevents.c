/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Any bytes as a datagram of NETLINK_SOCK_DIAG: nothing beyond it is read, and a socket has a
 * family. */
#include "net/sockevents.h"
#include "fuzz.h"

static void check(const struct sockdiag_socket *s, void *context)
{
	unsigned *count = context;

	fuzz_holds(s->family == AF_INET || s->family == AF_INET6, "it is IPv4 or IPv6");
	fuzz_holds(s->protocol == IPPROTO_TCP, "it is TCP");
	++*count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned count = 0;
	char *copy = malloc(size ? size : 1); /* what is read beyond it is found */

	if (!copy)
		abort();
	memcpy(copy, data, size);
	sockevents_parse(copy, size, check, &count);
	fuzz_holds(count <= size / 16, "each has a header");
	free(copy);
	return 0;
}
