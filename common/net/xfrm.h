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
	bool out; /* for packets that this host sends; else for those delivered to it */
	bool blocks;
	uint32_t priority; /* the lowest wins, among equal ones the oldest */
	struct cidr source, destination;
	uint8_t protocol;			/* 0: any */
	uint16_t source_port, destination_port; /* 0: any */
};

/* The policies of this network namespace, the newest first; both directions, without those for
 * forwarding. */
struct xfrm_policies {
	struct xfrm_policy *at;
	size_t count;
	bool failed;
};

/* Read them. 0, also on a kernel without IPsec, or -1 with *why. The caller frees *p in any
 * case. */
int xfrm_read(struct xfrm_policies *p, struct failure *why);
void xfrm_free(struct xfrm_policies *p);

/* The policy that applies to a packet from `source` to `destination`, or NULL. */
const struct xfrm_policy *xfrm_find(const struct xfrm_policies *p, bool out, uint8_t protocol,
				    const struct endpoint *source,
				    const struct endpoint *destination);

/* The command that removes the policy, whole into fix or not at all. */
void xfrm_remove(const struct xfrm_policy *p, char *fix, size_t size);

#endif
