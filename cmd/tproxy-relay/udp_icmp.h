/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_icmp - what the network says of datagrams that it cannot deliver: heard from one side, and
 * told to the other.
 *
 * A socket is told of ICMP errors by its error queue. The sender of the datagram has to hear of
 * them, as it would have without the relay: so they are made anew, about the datagram as the sender
 * knows it. That takes raw sockets, and CAP_NET_RAW to open them; from then on no privilege.
 */
#ifndef TPROXY_RELAY_UDP_ICMP_H
#define TPROXY_RELAY_UDP_ICMP_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What may be wrong, in words that both families know. */
enum udp_icmp_kind {
	UDP_ICMP_NONE,
	UDP_ICMP_PORT,	     /* nobody has that port */
	UDP_ICMP_HOST,	     /* the host cannot be reached */
	UDP_ICMP_NET,	     /* no way there */
	UDP_ICMP_PROHIBITED, /* not allowed */
	UDP_ICMP_TOO_BIG,    /* longer than the way allows, and must not be fragmented */
	UDP_ICMP_EXPIRED,    /* no hop left */
};

struct udp_icmp_error {
	enum udp_icmp_kind kind;
	uint32_t mtu;		  /* TOO_BIG: of the way, in bytes of an IP packet; 0: not known */
	struct endpoint reporter; /* whose word it is; not set: this host's */
};

/* A raw socket for each family that there is. The owner calls udp_icmp_close(). */
struct udp_icmp_sockets {
	int fd[2]; /* IPv4, IPv6; -1: none */
};

/* Returns 0, or -1 with *why when one that is there cannot be had; none is open then. */
int udp_icmp_open(struct udp_icmp_sockets *s, struct failure *why);
void udp_icmp_close(struct udp_icmp_sockets *s);

/* Have the socket keep what ICMP, and this host itself, say of what it sends. Returns 0, or -1 with
 * errno. */
int udp_icmp_listen(int fd, int family);

/* Take the oldest error that the socket keeps. False: there is none (any more). One that is of no
 * kind above has UDP_ICMP_NONE. */
bool udp_icmp_take(int fd, struct udp_icmp_error *out);

/* The kind that goes with an errno value of connect(2) or send(2). */
enum udp_icmp_kind udp_icmp_kind_of(int error);

/* At most so many a second are told, and so many at once: what the kernel does by itself. */
#define UDP_ICMP_RATE  1000
#define UDP_ICMP_BURST 50

/* One thread's allowance. Zeroed: full. */
struct udp_icmp_allowance {
	uint64_t us; /* of the clock when it was last used */
	uint32_t spent;
};

/*
 * Tell `from` of what became of a datagram of that length that it sent to `to`; now_us of any
 * clock. What cannot be told is left.
 */
void udp_icmp_tell(const struct udp_icmp_sockets *s, struct udp_icmp_allowance *allowance,
		   uint64_t now_us, const struct udp_icmp_error *error, const struct endpoint *from,
		   const struct endpoint *to, size_t length);

#endif
