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

/* Must what is sent leave as one packet, or may it be fragmented? EMSGSIZE says that it cannot be one. */
enum udp_fit { UDP_FIT_ANY, UDP_FIT_WHOLE, UDP_FIT_FRAGMENTS };

/* Have a socket send so; ANY: leave it as it is. */
void udp_ports_set_fit(int fd, int family, enum udp_fit fit);

/* Whose datagrams: a server's to its client, or a client's to its server, which carry the upstream mark. */
enum udp_speaker { UDP_AS_SERVER, UDP_AS_CLIENT };

#define UDP_PORTS_MAX 256

struct udp_ports;

/* None yet; mark (borrowed) is for UDP_AS_CLIENT. before_change is called before a socket that was handed
 * out is closed, or sends in another manner. NULL with *why. */
struct udp_ports *udp_ports_new(const struct mark *mark, void (*before_change)(void *context),
				void *context, struct failure *why);
void udp_ports_free(struct udp_ports *p);

/* The socket for that port, which stays the cache's, and keeps errors (udp_icmp.h). Returns the descriptor,
 * or -1 with *why. */
int udp_ports_get(struct udp_ports *p, int family, uint16_t port, enum udp_speaker speaker,
		  enum udp_fit fit, struct failure *why);

/* Close the one that was idle the longest. False: there is none. */
bool udp_ports_drop(struct udp_ports *p);

#endif
