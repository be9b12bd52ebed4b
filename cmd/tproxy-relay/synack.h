/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * synack - the DSCP of IPv4 servers' answers. The kernel does not report it for a TCP socket that
 * has connected (socket/dscp.h), so a raw socket gets a copy of each SYN-ACK for this host, before
 * TCP does.
 *
 * Knows packets and their ends, nothing of flows. One for all threads.
 */
#ifndef TPROXY_RELAY_SYNACK_H
#define TPROXY_RELAY_SYNACK_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdint.h>

struct synack;

/* Requires CAP_NET_RAW. NULL with *why on failure. */
struct synack *synack_new(struct failure *why);
void synack_free(struct synack *s);

/* Call this before connect(): empties the queue, which may be full of answers to others. */
void synack_make_room(struct synack *s);

/*
 * The DSCP with which the server answered, as in socket/dscp.h, once the connection between the two
 * is established; 0 if it was lost because more than a thousand answers came at once.
 */
uint8_t synack_dscp(struct synack *s, const struct endpoint *local, const struct endpoint *server);

#endif
