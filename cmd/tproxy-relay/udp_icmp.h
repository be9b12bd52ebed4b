/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_icmp - ICMP errors for datagrams that cannot be delivered: received on one side and passed on
 * to the other.
 *
 * A socket reports ICMP errors through its error queue. The sender of the datagram must get them,
 * as it would without the relay: so we build new ones, about the datagram as the sender knows it.
 * That takes raw sockets, and CAP_NET_RAW to open them, but no privilege afterwards.
 */
#ifndef TPROXY_RELAY_UDP_ICMP_H
#define TPROXY_RELAY_UDP_ICMP_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kinds of error, common to both families. */
enum udp_icmp_kind {
	UDP_ICMP_NONE,
	UDP_ICMP_PORT,	     /* port unreachable */
	UDP_ICMP_HOST,	     /* host unreachable */
	UDP_ICMP_NET,	     /* no route */
	UDP_ICMP_PROHIBITED, /* administratively prohibited */
	UDP_ICMP_TOO_BIG,    /* exceeds the path MTU, and must not be fragmented */
	UDP_ICMP_EXPIRED,    /* hop limit exceeded */
};

struct udp_icmp_error {
	enum udp_icmp_kind kind;
	uint32_t mtu;		  /* TOO_BIG: path MTU, in bytes of an IP packet; 0: unknown */
	struct endpoint reporter; /* who reported it; not set: this host */
};

/* A raw socket for each available family. The owner calls udp_icmp_close(). */
struct udp_icmp_sockets {
	int fd[2]; /* IPv4, IPv6; -1: none */
};

/* Returns 0, or -1 with *why if the socket of an available family cannot be opened; none is open
 * then. */
int udp_icmp_open(struct udp_icmp_sockets *s, struct failure *why);
void udp_icmp_close(struct udp_icmp_sockets *s);

/* Have the socket queue errors, from ICMP and from this host itself, about what it sends. Returns
 * 0, or -1 with errno. */
int udp_icmp_listen(int fd, int family);

/* Take the oldest error from the socket's queue. False: there is none (any more). An error of any
 * other kind has UDP_ICMP_NONE. */
bool udp_icmp_take(int fd, struct udp_icmp_error *out);

/* The kind for an errno value of connect(2) or send(2). */
enum udp_icmp_kind udp_icmp_kind_of(int error);

/* At most this many errors are sent per second, and in a burst: the kernel's own limits. */
#define UDP_ICMP_RATE  1000
#define UDP_ICMP_BURST 50

/* One thread's rate limit. Zeroed: the full burst is available. */
struct udp_icmp_allowance {
	uint64_t us; /* clock when it was last used */
	uint32_t spent;
};

/*
 * Send `from` the error about a datagram of that length that it sent to `to`; now_us of any clock.
 * Failures are ignored.
 */
void udp_icmp_tell(const struct udp_icmp_sockets *s, struct udp_icmp_allowance *allowance,
		   uint64_t now_us, const struct udp_icmp_error *error, const struct endpoint *from,
		   const struct endpoint *to, size_t length);

#endif
