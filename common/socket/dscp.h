/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dscp - differentiated services of TCP connections: what the other end sends, and what we send.
 *
 * A value is the octet of the header (TOS, traffic class) without its two ECN bits, which are TCP's
 * own on either leg.
 *
 * What the kernel tells of TCP (tried in tests/relay-dscp.bats): of an accepted connection what
 * came with the last segment of the handshake, in IPv6 with the newest one in order; of one that we
 * made, in IPv6 the same if it was asked for before connect(), and in IPv4 nothing:
 * tcp_v4_syn_recv_sock() alone sets rcv_tos.
 */
#ifndef TPROXY_SOCKET_DSCP_H
#define TPROXY_SOCKET_DSCP_H

#include <stdint.h>

/* What is not ECN (RFC 3168). */
#define DSCP_MASK 0xfc

/* Before an IPv6 socket connects: let dscp_received() tell. Until that is asked it costs a clone of
 * each packet. */
void dscp_expect(int fd);

/* What the other end of that TCP connection sends; 0 also where the kernel does not tell. */
uint8_t dscp_received(int fd);

/* Send it with every segment from now on. What is refused is left as it is. */
void dscp_set(int fd, uint8_t dscp);

#endif
