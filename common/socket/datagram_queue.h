/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram_queue - many datagrams sent with one system call.
 *
 * Knows sendmmsg(2), the control messages that give a datagram its source address, class and hops,
 * and UDP_SEGMENT: datagrams of one length, one behind the other and between the same two ends,
 * leave as one. Of flows it knows nothing.
 */
#ifndef TPROXY_SOCKET_DATAGRAM_QUEUE_H
#define TPROXY_SOCKET_DATAGRAM_QUEUE_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest header. */
#define DATAGRAM_HEADER_MAX 272

/* One datagram to send; or several of one length, when segment is not 0. */
struct datagram_out {
	int fd;
	const struct endpoint *to;   /* NULL: the socket is connected */
	const struct endpoint *from; /* its address becomes the source; NULL: the socket's own */
	const void *header; /* is copied, and goes in front of the payload (of each segment) */
	size_t header_length;
	const void *payload; /* must stay until it is sent; the endpoints need not */
	size_t length;
	uint16_t segment;
	bool raw;	     /* fd is of datagram_raw.h: from and to are whole endpoints */
	uint8_t class, hops; /* 0: the socket's own */
	int family;	     /* for these, where `to` is not set */
	bool single;	     /* never with others in one */
	void *owner;	     /* for who is told of errors */
};

/*
 * It could not be sent. out->segment not 0: none of the segments was, and they will be tried one by one
 * whatever is returned. True: try it once more, the error was an earlier datagram's (a connected socket
 * reports what ICMP said of those with the next call).
 */
typedef bool datagram_failed(void *context, const struct datagram_out *out, int error);

struct datagram_queue;

/* NULL with *why. */
struct datagram_queue *datagram_queue_new(datagram_failed *failed, void *context,
					  struct failure *why);
void datagram_queue_free(struct datagram_queue *q);

/* Queue one; what is queued is sent first where it cannot go together with it. */
void datagram_queue_put(struct datagram_queue *q, const struct datagram_out *out);

/* Send what is queued. */
void datagram_queue_flush(struct datagram_queue *q);

#endif
