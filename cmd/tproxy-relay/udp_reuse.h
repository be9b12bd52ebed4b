/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_reuse - upstream sockets of flows that are over, used again for new flows.
 *
 * Most flows are one exchange. To open, set up, watch and close a socket costs more than the
 * exchange itself, so a socket stays in its flow's slot when the flow ends, and a new flow gets the
 * slot with the socket. Only sockets that still are as they were when they were new: with the usual
 * options, and on a client port that the kernel releases (datagram_bind_loosely()).
 *
 * What a socket receives late belongs to the flow before: the kernel reports the destination of
 * each datagram, and a flow takes only its own. An error, or a datagram, that comes to a socket
 * without a flow closes it.
 */
#ifndef TPROXY_RELAY_UDP_REUSE_H
#define TPROXY_RELAY_UDP_REUSE_H

#include "base/endpoint.h"
#include "tproxy-relay/udp_host.h"
#include <stdbool.h>

/* None yet. Returns 0, or -1 with errno ENOMEM. */
int udp_reuse_init(struct udp_reuse *r);
void udp_reuse_free(struct udp_reuse *r);

/* May a flow of this client to `to` use such a socket? */
bool udp_reuse_suits(const struct udp_host *host, const struct endpoint *client,
		     const struct endpoint *to);

/* Would the flow, if it ended now, leave its socket to another one? */
bool udp_reuse_is_as_new(const struct udp_flow *f);

/* A zeroed slot for a flow of this client to `to`: one with a socket (side[FLOW_UPSTREAM]) if the
 * flow can use it, else one without. NULL with errno ENOMEM. */
struct udp_flow *udp_reuse_slot(struct udp_host *host, const struct endpoint *client,
				const struct endpoint *to);

/* Connect the flow's client and `to` by the socket of its slot, or a new one. False: that is not
 * possible here, and the slot has no socket; connect in the usual way. */
bool udp_reuse_connect(struct udp_host *host, struct udp_flow *f, const struct endpoint *to);

/* The flow is in the table, or no longer. */
void udp_reuse_count(struct udp_host *host, const struct udp_flow *f, int change);

/* Release the upstream socket's ends, and keep it. False: it cannot be used again. */
bool udp_reuse_let_go(struct udp_host *host, struct udp_flow *f);

/* Free a closed flow's slot, or keep it with its socket. */
void udp_reuse_put(struct udp_host *host, struct udp_flow *f);

/* Has this family few spares? */
bool udp_reuse_is_short(const struct udp_host *host, int family);

/* Number of spares. Close one, or all. */
unsigned udp_reuse_spares(const struct udp_host *host);
bool udp_reuse_drop_one(struct udp_host *host);
void udp_reuse_drop(struct udp_host *host);

#endif
