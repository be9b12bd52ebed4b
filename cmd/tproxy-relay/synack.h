/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * synack - the DSCP with which IPv4 servers answer, which the kernel tells of no TCP socket that
 * has connected (socket/dscp.h): a raw socket is given a copy of each SYN-ACK that is for this
 * host, before TCP is.
 *
 * Knows packets and their ends, nothing of flows. One for all threads.
 */
#ifndef TPROXY_RELAY_SYNACK_H
#define TPROXY_RELAY_SYNACK_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdint.h>

struct synack;

/* Returns NULL with *why: it takes CAP_NET_RAW. */
struct synack *synack_new(struct failure *why);
void synack_free(struct synack *s);

/* To be called before connect(): empties the queue, which may be full of what others have been
 * answered. */
void synack_make_room(struct synack *s);

/*
 * Once the connection between the two is there: with what DSCP the server has answered, as in
 * socket/dscp.h; 0 if that was lost, as more than a thousand answers came at once.
 */
uint8_t synack_dscp(struct synack *s, const struct endpoint *local, const struct endpoint *server);

#endif
