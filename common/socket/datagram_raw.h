/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram_raw - datagrams that leave as anybody's, from any address and any port.
 *
 * A control message names the source address of a datagram, but nothing its port: that is the port
 * to which the socket is bound. Bound to the other's own address, an unconnected transparent socket
 * would take what others send there; and bound to whatever address, it keeps a port from every
 * program of this host that wants it on any address, and cannot be had where one has it: a name
 * server beside the relay of name service. A raw socket has no port. The UDP header is made here,
 * the rest is the kernel's: routing, fragments, path MTU, errors.
 *
 * It takes CAP_NET_RAW to open one, and nothing to use it. Rules and policies that select by UDP
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

/* Of UDP. */
#define DATAGRAM_RAW_HEADER 8

/* A socket that only sends, with that mark (NULL: none), non-blocking. Returns it, or -1 with
 * *why. */
int datagram_raw_open(int family, const struct mark *mark, struct failure *why);

/*
 * The UDP header of a datagram from `from` to `to`, with the checksum of IPv4 (the kernel puts in
 * that of IPv6). Its data is `first`, then `second`.
 */
void datagram_raw_header(const struct endpoint *from, const struct endpoint *to, const void *first,
			 size_t first_length, const void *second, size_t second_length,
			 uint8_t header[DATAGRAM_RAW_HEADER]);

#endif
