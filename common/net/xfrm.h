/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xfrm - IPsec policies (ip-xfrm(8)) that block packets.
 */
#ifndef TPROXY_NET_XFRM_H
#define TPROXY_NET_XFRM_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>

/* A policy with the action `block`. */
struct xfrm_block {
	bool out; /* of what this host sends; else of what is delivered to it */
	struct cidr source, destination;
	uint8_t protocol;			/* 0: any */
	uint16_t source_port, destination_port; /* 0: any */
};

/* Does it block a packet from one to the other? */
bool xfrm_blocks(const struct xfrm_block *block, uint8_t protocol, const struct endpoint *source,
		 const struct endpoint *destination);

/* Called for each such policy of this network namespace. 0, also in a kernel without IPsec, or -1 with
 * *why. */
typedef void xfrm_visitor(const struct xfrm_block *block, void *context);
int xfrm_each_block(xfrm_visitor *visit, void *context, struct failure *why);

#endif
