/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram - intercepted UDP: takes a datagram with its original destination, and gives a flow its
 * own socket.
 *
 * A flow is a client and an original destination. Fact: a connected socket wins the kernel's lookup
 * for TPROXY, so once a flow has such a socket, its further datagrams do not go to the listener.
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

/* What the kernel reports for each datagram that a socket receives; bits. */
enum datagram_detail {
	DATAGRAM_DESTINATION = 1, /* local, origdst */
	DATAGRAM_INTERFACE = 2,
	DATAGRAM_HOPS = 4,
	DATAGRAM_MARK = 8,
	DATAGRAM_CLASS = 16,
	DATAGRAM_FRAGMENTED = 32,
	DATAGRAM_SEGMENTS = 64, /* UDP_GRO: several datagrams of one length may come as one */
};

/* Make it report these too. Returns 0, or -1 with errno. */
int datagram_want(int fd, int family, unsigned details);

/* Make it report these no longer: each costs a little for every datagram. */
void datagram_spare(int fd, int family, unsigned details);

/*
 * Open a UDP socket at the endpoint, non-blocking, that reports options->details for each datagram
 * (enum datagram_detail; 0: destination, interface, hops and mark). The options backlog and
 * ack_delay have no meaning here. It joins an endpoint that is in use only with reuseport and not
 * alone; later sockets of the same user may join it, as those of flows do. Returns the descriptor,
 * or -1 with *why.
 */
int datagram_listen(const struct endpoint *at, const struct transparent_listen_options *options,
		    struct failure *why);

/*
 * Set up an inherited descriptor: it must be a UDP socket of one of our families, bound and not
 * connected. Sets O_NONBLOCK, close-on-exec, and IP_TRANSPARENT unless it is set already or
 * options->redirect. *at is its local address. Returns 0, or -1 with *why naming what it is
 * instead.
 */
int datagram_adopt(int fd, const struct transparent_listen_options *options, struct endpoint *at,
		   struct failure *why);

/*
 * A socket between two ends, neither of which need belong to this host: bound to one and connected
 * to the other, with these details (enum datagram_detail). Before it was connected, it may have
 * caught datagrams that others sent to its local end: see client in struct datagram. Returns it
 * (non-blocking), or -1 with *why.
 */
int datagram_open_pair(const struct endpoint *own, const struct endpoint *other, unsigned details,
		       struct failure *why);

/*
 * Bind a socket to an address and port that datagram_disconnect() releases again, so that it can be
 * bound to others. Returns 0, or -1 with errno; ERANGE: the port is not in
 * net.ipv4.ip_local_port_range (the socket is bound to another one: close it); ENOPROTOOPT: the
 * kernel cannot do this (Linux 6.3 can). If it fails for a port, do not try that port again: the
 * kernel looked at every port there is.
 */
int datagram_bind_loosely(int fd, const struct endpoint *own);

/* Connect it to its other end. Returns 0, or -1 with errno. */
int datagram_connect(int fd, const struct endpoint *to);

/*
 * Become the only process that reads from this socket, among those that have a duplicate of it.
 * Returns 0, or -1 with errno; EAGAIN: another process reads. It lasts until the process ends or
 * closes any of its own duplicates. (A POSIX record lock on the socket's inode: fcntl(2) supports
 * them for files of every kind.)
 */
int datagram_claim(int fd);

/* Let go of the socket: it keeps what it has received, and its local end unless it was bound
 * loosely, but TPROXY, which looks for connected sockets, gives it no more. Returns 0, or -1 with
 * errno. */
int datagram_disconnect(int fd);

/*
 * Wait until each datagram that the kernel is delivering now is in its socket. A packet gets its
 * socket early and is put into it later, whatever became of the socket meanwhile: so this comes
 * between datagram_disconnect() and the last read. It takes about ten milliseconds; call it once for
 * many sockets.
 */
void datagram_settle(void);

/* Make room for this many bytes in both queues, or for as many as the system allows:
 * net.core.rmem_max and wmem_max can only be exceeded with CAP_NET_ADMIN. */
void datagram_set_buffers(int fd, int bytes);

/* Where a datagram came from, and where it was going. */
struct datagram {
	struct endpoint client;
	struct endpoint local;	 /* its destination on arrival here */
	struct endpoint origdst; /* unset if origin is ORIGIN_NONE */
	enum transparent_origin origin;
	unsigned interface; /* input interface; 0 unknown */
	uint32_t mark;	    /* of the packet, which routed it here */
	int hops;	    /* its TTL, or hop limit, on arrival */
	uint8_t class;	    /* DSCP and ECN: the TOS octet, or traffic class */
	bool fragmented;    /* it arrived in fragments */
	bool cut;	    /* its payload, or its details, did not fit: do not trust it */
	uint16_t segment;   /* not 0: several datagrams of this length, the last may be shorter */
	size_t length;
};

/* Parse what recvmsg(2) returned for a datagram of that length; leaves origin and origdst unset. */
void datagram_describe(struct msghdr *message, size_t length, struct datagram *out);

/* Append a control message with a value, a property of the outgoing message, to
 * message->msg_control. */
void datagram_add_control(struct msghdr *message, int level, int type, const void *value,
			  size_t size);

/* The same for its source address: that of `from`, whatever the socket is bound to. */
void datagram_add_source(struct msghdr *message, const struct endpoint *from);

/* Set origin and origdst of a datagram that came to a listener bound to `listener`. is_own: is
 * d->local an address of this host? (Called only if the endpoint is the listener's.) */
void datagram_judge(struct datagram *d, const struct endpoint *listener, bool is_own);

/*
 * Take one datagram from a listener bound to `listener`. A REDIRECTed one is not recognised: UDP
 * has no SO_ORIGINAL_DST, so its origin is ORIGIN_NONE (conntrack_origdst() may know more). Returns
 * 1, or -1 with errno (EAGAIN: there is none).
 */
int datagram_receive(int fd, const struct endpoint *listener, void *buf, size_t room,
		     struct datagram *out);

/*
 * Open a socket for the flow that begins with this datagram (payload of d->length bytes): bound to
 * d->local, which may be foreign, and connected to its client, so that answers come from the
 * address that the client meant. Between these two steps it may have caught datagrams of other
 * flows: stray() is called for each, and may not open the same flow.
 *
 * The first datagram was already taken from the listener. It is sent once more, over lo, from the
 * client's address and with the packet's mark, which routes it back here; so whoever gets the
 * socket reads the flow from its beginning. Returns the descriptor (non-blocking), or -1 with *why;
 * why->err EMFILE, ENFILE, ENOBUFS or ENOMEM: there may be room later.
 *
 * `sent` remembers what was sent this way and has not been seen again.
 */
typedef void datagram_stray(const struct datagram *stray, const void *payload, void *context);
int datagram_open_flow(struct recent *sent, const struct datagram *d, const void *payload,
		       datagram_stray *stray, void *context, struct failure *why);

/*
 * Is the first datagram the next to be read from the flow's socket? Normally it is before
 * datagram_open_flow() returns; on a busy machine the kernel may deliver it later, and a firewall
 * or rp_filter never. Ask until it is true, once.
 */
bool datagram_has_arrived(struct recent *sent, int fd);

/* Send a datagram of the flow that nevertheless went to the listener to the flow's socket in the
 * same way. Returns 0, or -1 with *why. */
int datagram_forward(struct recent *sent, const struct datagram *d, const void *payload,
		     struct failure *why);

/*
 * Did datagram_open_flow() or datagram_forward() send this one, and NAT or a closed socket made it
 * miss the flow? Then do not forward it or open a flow for it: that would loop for ever. It is
 * recognised by its hops, destination and contents, once for each time that it was sent.
 */
bool datagram_came_back(struct recent *sent, const struct datagram *d, const void *payload);

#endif
