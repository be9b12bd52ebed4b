/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dscp - differentiated services of TCP connections: what the other end sends, and what we send.
 *
 * A value is the octet of the header (TOS, traffic class) without its two ECN bits, which belong to
 * TCP on each leg.
 *
 * What the kernel reports for TCP (tried in tests/relay-dscp.bats): for an accepted connection the
 * value of the last segment of the handshake, in IPv6 that of the newest segment in order; for a
 * connection that we opened, the same in IPv6 if it was requested before connect(), and nothing in
 * IPv4: only tcp_v4_syn_recv_sock() sets rcv_tos.
 */
#ifndef TPROXY_SOCKET_DSCP_H
#define TPROXY_SOCKET_DSCP_H

#include <stdint.h>

/* The bits that are not ECN (RFC 3168). */
#define DSCP_MASK 0xfc

/* Call it before an IPv6 socket connects, so that dscp_received() works. Until that is called, it
 * costs a clone of each packet. */
void dscp_expect(int fd);

/* The value that the other end of that TCP connection sends; 0 also if the kernel does not say. */
uint8_t dscp_received(int fd);

/* Send that value with every segment from now on. A refusal is ignored. */
void dscp_set(int fd, uint8_t dscp);

#endif
