/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conntrack - what NAT did to connections: original destinations, translated sources (ctnetlink).
 *
 * Fact: one lookup by tuple finds an entry in either direction. A socket's local -> peer, the reply
 * direction of a redirected connection, therefore leads to the original direction, and so to where
 * the client wanted to go. Needs CAP_NET_ADMIN and the kernel's nf_conntrack_netlink.
 */
#ifndef TPROXY_NET_CONNTRACK_H
#define TPROXY_NET_CONNTRACK_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>

/* An open channel to the network namespace in which it was opened. */
struct conntrack;
struct conntrack *conntrack_open(struct failure *why);
void conntrack_close(struct conntrack *channel);

/*
 * Where the connection of the socket local <-> peer (IPPROTO_TCP or IPPROTO_UDP) was going before
 * any REDIRECT or DNAT: equal to local if it was not changed. Looks in zone 0, and if that knows
 * nothing, in all zones (the kernel walks through all entries). Returns 1 with *origdst; 0:
 * conntrack knows no such connection; -1 with *why (EPERM: CAP_NET_ADMIN).
 */
int conntrack_origdst(struct conntrack *channel, int protocol, const struct endpoint *local,
		      const struct endpoint *peer, struct endpoint *origdst, struct failure *why);

/*
 * The source that the peer sees of the socket local -> peer, which has opened the connection: after
 * SNAT or masquerading, equal to local if there was none. Looks in the zone of the connection's
 * first packet. Returns 1 with *seen; 0: conntrack knows no such connection in that zone; -1 with
 * *why.
 */
int conntrack_source(struct conntrack *channel, int protocol, uint16_t zone,
		     const struct endpoint *local, const struct endpoint *peer,
		     struct endpoint *seen, struct failure *why);

/* Called for each connection whose destination was changed, with the ends of its socket here (as
 * the answers have them), and where it was going. The visitor may not use the same channel; a
 * non-zero return ends the visit. */
typedef int conntrack_redirected(int protocol, const struct endpoint *local,
				 const struct endpoint *peer, const struct endpoint *origdst,
				 void *context);

/* Visit every redirected connection of any zone. 0, or -1 with *why (EPERM: CAP_NET_ADMIN). */
int conntrack_each_redirected(struct conntrack *channel, conntrack_redirected *visit, void *context,
			      struct failure *why);

/* Called for each established TCP connection in its original direction. The visitor may not use the
 * same channel; a non-zero return ends the visit. */
typedef int conntrack_visitor(const struct endpoint *source, const struct endpoint *destination,
			      void *context);

/* Visit every established TCP connection, of any zone, that this network namespace tracks and whose
 * destination was not changed. Returns 0, or -1 with *why (EPERM: CAP_NET_ADMIN). */
int conntrack_each_established(struct conntrack *channel, conntrack_visitor *visit, void *context,
			       struct failure *why);

/* Does conntrack know any connection of this network namespace? Needs no privilege. */
bool conntrack_is_used(void);

#endif
