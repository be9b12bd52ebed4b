/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xfrm - IPsec policies (ip-xfrm(8)), and whether one blocks a packet.
 */
#ifndef TPROXY_NET_XFRM_H
#define TPROXY_NET_XFRM_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xfrm_policy {
	bool out; /* of what this host sends; else of what is delivered to it */
	bool blocks;
	uint32_t priority; /* the lowest decides, of equal ones the oldest */
	struct cidr source, destination;
	uint8_t protocol;			/* 0: any */
	uint16_t source_port, destination_port; /* 0: any */
};

/* Those of this network namespace, the newest first; both directions, without what is forwarded. */
struct xfrm_policies {
	struct xfrm_policy *at;
	size_t count;
	bool failed;
};

/* 0, also in a kernel without IPsec, or -1 with *why. The caller frees *p in any case. */
int xfrm_read(struct xfrm_policies *p, struct failure *why);
void xfrm_free(struct xfrm_policies *p);

/* The policy that decides about a packet from one to the other, or NULL. */
const struct xfrm_policy *xfrm_find(const struct xfrm_policies *p, bool out, uint8_t protocol,
				    const struct endpoint *source,
				    const struct endpoint *destination);

/* The command that removes the policy, whole into fix or not at all. */
void xfrm_remove(const struct xfrm_policy *policy, char *fix, size_t size);

#endif
