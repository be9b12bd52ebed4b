/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram - intercepted UDP: take a datagram with its original destination, and give a flow a
 * socket of its own.
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
#include <sys/socket.h>
#include <sys/types.h>

/* The longest datagram. */
#define DATAGRAM_MAX 65535

/* What the kernel is to tell of each datagram that a socket receives; bits. */
enum datagram_detail {
	DATAGRAM_DESTINATION = 1, /* local, origdst */
	DATAGRAM_INTERFACE = 2,
	DATAGRAM_HOPS = 4,
	DATAGRAM_MARK = 8,
	DATAGRAM_CLASS = 16,
	DATAGRAM_FRAGMENTED = 32,
	DATAGRAM_SEGMENTS = 64, /* let it give several datagrams of one length as one (UDP_GRO) */
};

/* Have it tell these, too. Returns 0, or -1 with errno. */
int datagram_want(int fd, int family, unsigned details);

/*
 * Open a UDP socket at the endpoint, non-blocking, that tells of each datagram what
 * options->details say (enum datagram_detail; 0: destination, interface, hops and mark). Of the
 * options backlog and ack_delay mean nothing here. It joins an endpoint that is in use only with
 * reuseport and not alone; later sockets of the same user may join it, as those of flows do.
 * Returns the descriptor, or -1 with *why.
 */
int datagram_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		    struct failure *why);

/*
 * Make an inherited descriptor fit: it must be a UDP socket of one of our families, bound and not
 * connected. Sets O_NONBLOCK, close-on-exec, and IP_TRANSPARENT unless it is set already or
 * options->redirect. *at is where it is bound. Returns 0, or -1 with *why naming what it is
 * instead.
 */
int datagram_adopt(int fd, const struct transparent_listen_options *options, struct endpoint *at,
		   struct failure *why);

/*
 * A socket between two ends, neither of which need be this host's: bound to one and connected to
 * the other, with these details (enum datagram_detail). Before it is connected it may have caught
 * what others sent to its own end: the client of struct datagram tells. Returns it (non-blocking),
 * or -1 with *why.
 */
int datagram_open_pair(const struct endpoint *own, const struct endpoint *other, unsigned details,
		       struct failure *why);

/*
 * Become the one process that reads from this socket, of those that have a duplicate of it. Returns
 * 0, or -1 with errno; EAGAIN: another one reads. It is so until the process ends or closes any of
 * its own duplicates. (A POSIX record lock on the socket's inode: fcntl(2) has them for files of
 * every kind.)
 */
int datagram_claim(int fd);

/* Let the socket go: it keeps its own end and what it has received, but is given nothing more by
 * TPROXY, which looks for connected sockets. Returns 0, or -1 with errno. */
int datagram_disconnect(int fd);

/* Have room for so many bytes in both queues, or for as many as the system allows: beyond
 * net.core.rmem_max and wmem_max only with CAP_NET_ADMIN. */
void datagram_set_buffers(int fd, int bytes);

/* Where a datagram is from, and where it was going. */
struct datagram {
	struct endpoint client;
	struct endpoint local;	 /* its destination as it arrived here */
	struct endpoint origdst; /* not set when origin is ORIGIN_NONE */
	enum transparent_origin origin;
	unsigned interface; /* on which it came in; 0 unknown */
	uint32_t mark;	    /* the packet's, which is what routed it here */
	int hops;	    /* its TTL, or hop limit, on arrival */
	uint8_t class;	    /* DSCP and ECN: the TOS octet, or traffic class */
	bool fragmented;    /* it came in fragments */
	bool cut;	    /* its payload, or what is told of it, did not fit: not to be trusted */
	uint16_t segment;   /* not 0: several datagrams of this length, the last may be shorter */
	size_t length;
};

/* Read what recvmsg(2) said of a datagram of that length; origin and origdst are left unset. */
void datagram_describe(struct msghdr *message, size_t length, struct datagram *out);

/* Add a control message to what message->msg_control holds already: of what a message leaves with,
 * a value. */
void datagram_add_control(struct msghdr *message, int level, int type, const void *value,
			  size_t size);

/* The same for its source address: that of `from`, whatever the socket is bound to. */
void datagram_add_source(struct msghdr *message, const struct endpoint *from);

/* Set origin and origdst of one that came to a listener bound to `listener`; is_own: is d->local an
 * address of this host? (Asked only where the endpoint is the listener's.) */
void datagram_judge(struct datagram *d, const struct endpoint *listener, bool is_own);

/*
 * Take one datagram from a listener that is bound to `listener`. A REDIRECTed one is not
 * recognised: UDP has no SO_ORIGINAL_DST, so its origin is ORIGIN_NONE (conntrack_origdst() may
 * know more). Returns 1, or -1 with errno (EAGAIN: there is none).
 */
int datagram_receive(int fd, const struct endpoint *listener, void *buf, size_t room,
		     struct datagram *out);

/*
 * A socket for the flow that begins with this datagram (payload of d->length bytes): bound to
 * d->local, which may be foreign, and connected to its client, so that it answers as the one that
 * the client meant. Between these two steps it may have caught datagrams of other flows: stray() is
 * called for each, and may not open the same flow.
 *
 * The first datagram was taken from the listener already. It is sent once more, by way of lo, from
 * the client's address and with the packet's mark, which routes it to here again; so whoever gets
 * the socket reads the flow from its beginning. Returns the descriptor (non-blocking), or -1 with
 * *why; errno EMFILE, ENFILE, ENOBUFS or ENOMEM in why->err: there may be room later.
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

/* Send a datagram of the flow, that the listener has got nevertheless, to its socket in the same
 * way. Returns 0, or -1 with *why. */
int datagram_forward(struct recent *sent, const struct datagram *d, const void *payload,
		     struct failure *why);

/*
 * Has datagram_open_flow() or datagram_forward() sent this one, and NAT or a closed socket made it
 * miss the flow? Whoever answers flows must not forward it or open a flow for it: that would go on
 * for ever. It is known by its hops, destination and contents, once for each time that it was sent.
 */
bool datagram_came_back(struct recent *sent, const struct datagram *d, const void *payload);

#endif
