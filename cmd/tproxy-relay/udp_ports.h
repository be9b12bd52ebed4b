/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_ports - one socket a port, from which datagrams leave as anybody's who has that port.
 *
 * An answer to a client carries the server's address and port. A port needs a socket that is bound to it,
 * an address only a control message: so all servers of one port share one socket, and a flow that ends
 * after an answer or two needs none of its own. Fact: bound to the server's own address instead, an
 * unconnected transparent socket would take every client's datagrams.
 *
 * Knows the sockets that are open, and closes the one that was idle the longest when there are too many.
 */
#ifndef TPROXY_RELAY_UDP_PORTS_H
#define TPROXY_RELAY_UDP_PORTS_H

#include "base/quantity.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whose datagrams: a server's to its client, or a client's to its server, which carry the upstream mark. */
enum udp_speaker { UDP_AS_SERVER, UDP_AS_CLIENT };

#define UDP_PORTS_MAX 256

struct udp_ports;

/* None yet; mark (borrowed) is for UDP_AS_CLIENT. before_close is called before a socket is closed that
 * was handed out. NULL with *why. */
struct udp_ports *udp_ports_new(const struct mark *mark, void (*before_close)(void *context),
				void *context, struct failure *why);
void udp_ports_free(struct udp_ports *p);

/* The socket for that port, which stays the cache's. Returns the descriptor, or -1 with *why. */
int udp_ports_get(struct udp_ports *p, int family, uint16_t port, enum udp_speaker speaker,
		  struct failure *why);

/* Close the one that was idle the longest. False: there is none. */
bool udp_ports_drop(struct udp_ports *p);

#endif
