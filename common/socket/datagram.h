/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram - intercepted UDP: take a datagram with its original destination, and give a flow a socket
 * of its own.
 *
 * A flow is a client and an original destination. Fact: a connected socket wins the kernel's lookup
 * for TPROXY, so the further datagrams of a flow that has one do not come to the listener.
 */
#ifndef TPROXY_SOCKET_DATAGRAM_H
#define TPROXY_SOCKET_DATAGRAM_H

#include "base/endpoint.h"
#include "base/recent.h"
#include "base/report.h"
#include "socket/transparent.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The longest datagram. */
#define DATAGRAM_MAX 65535

/*
 * Open a UDP socket at the endpoint, non-blocking, that tells of each datagram what struct datagram
 * holds. Of the options backlog, alone and ack_delay mean nothing here. It joins an endpoint that is
 * in use only with reuseport; later sockets of the same user may join it, as those of flows do.
 * Returns the descriptor, or -1 with *why.
 */
int datagram_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		    struct failure *why);

/* Where a datagram is from, and where it was going. */
struct datagram {
	struct endpoint client;
	struct endpoint local;	 /* its destination as it arrived here */
	struct endpoint origdst; /* not set when origin is ORIGIN_NONE */
	enum transparent_origin origin;
	unsigned interface; /* on which it came in; 0 unknown */
	uint32_t mark;	    /* the packet's, which is what routed it here */
	int hops;	    /* its TTL, or hop limit, on arrival */
	size_t length;
};

/*
 * Take one datagram from a listener that is bound to `listener`. A REDIRECTed one is not recognised:
 * UDP has no SO_ORIGINAL_DST, so its origin is ORIGIN_NONE (conntrack_origdst() may know more).
 * Returns 1, or -1 with errno (EAGAIN: there is none).
 */
int datagram_receive(int fd, const struct endpoint *listener, void *buf, size_t room,
		     struct datagram *out);

/*
 * A socket for the flow that begins with this datagram (payload of d->length bytes): bound to d->local,
 * which may be foreign, and connected to its client, so that it answers as the one that the client
 * meant. Between these two steps it may have caught datagrams of other flows: stray() is called for
 * each, and may not open the same flow.
 *
 * The first datagram was taken from the listener already. It is sent once more, by way of lo, from the
 * client's address and with the packet's mark, which routes it to here again; so whoever gets the
 * socket reads the flow from its beginning. Returns the descriptor (non-blocking), or -1 with *why;
 * errno EMFILE, ENFILE, ENOBUFS or ENOMEM in why->err: there may be room later.
 *
 * `sent` remembers what was sent round and has not been seen again.
 */
typedef void datagram_stray(const struct datagram *stray, const void *payload, void *context);
int datagram_open_flow(struct recent *sent, const struct datagram *d, const void *payload,
		       datagram_stray *stray, void *context, struct failure *why);

/*
 * Is the first datagram the next to be read from the flow's socket? It normally is before
 * datagram_open_flow() returns; on a busy machine the kernel may bring it later, and a firewall or
 * rp_filter never. To be asked until it is true, once.
 */
bool datagram_has_arrived(struct recent *sent, int fd);

/* Send a datagram of the flow, that the listener has got nevertheless, to its socket in the same way.
 * Returns 0, or -1 with *why. */
int datagram_forward(struct recent *sent, const struct datagram *d, const void *payload,
		     struct failure *why);

/*
 * Has datagram_open_flow() or datagram_forward() sent this one, and NAT or a closed socket made it miss
 * the flow? Whoever answers flows must not forward it or open a flow for it: that would go on for ever.
 * It is known by its hops, destination and contents, once for each time that it was sent.
 */
bool datagram_came_back(struct recent *sent, const struct datagram *d, const void *payload);

#endif
