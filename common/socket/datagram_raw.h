/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram_raw - sends datagrams from any address and any port.
 *
 * A control message sets the source address of a datagram, but nothing sets its port: that is the
 * port to which the socket is bound. An unconnected transparent socket bound to the other host's
 * own address would receive what others send there. Bound to any address, it keeps a port from
 * every program of this host that wants it on any address, and cannot be bound if one has it: a
 * name server next to the relay of name service. A raw socket has no port. The UDP header is built
 * here, the kernel does the rest: routing, fragments, path MTU, errors.
 *
 * Opening one needs CAP_NET_RAW, using it needs nothing. Rules and policies that select by UDP
 * ports where a packet is routed (ip rule sport and dport, IPsec) see port 0; netfilter sees the
 * packet.
 */
#ifndef TPROXY_SOCKET_DATAGRAM_RAW_H
#define TPROXY_SOCKET_DATAGRAM_RAW_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include <stddef.h>
#include <stdint.h>

/* Length of the UDP header. */
#define DATAGRAM_RAW_HEADER 8

/* Open a send-only socket with that mark (NULL: none), non-blocking. Returns it, or -1 with
 * *why. */
int datagram_raw_open(int family, const struct mark *mark, struct failure *why);

/*
 * Build the UDP header of a datagram from `from` to `to`, with the checksum for IPv4 (for IPv6 the
 * kernel fills it in). Its data is `first`, then `second`.
 */
void datagram_raw_header(const struct endpoint *from, const struct endpoint *to, const void *first,
			 size_t first_length, const void *second, size_t second_length,
			 uint8_t header[DATAGRAM_RAW_HEADER]);

#endif
