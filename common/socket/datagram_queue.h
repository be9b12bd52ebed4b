/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram_queue - sends many datagrams with one system call.
 *
 * Knows sendmmsg(2), the control messages that give a datagram its source address, class and hops,
 * and UDP_SEGMENT: consecutive datagrams of one length between the same two ends leave as one. It
 * knows nothing about flows.
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

/* One datagram to send; or several of one length if segment is not 0. */
struct datagram_out {
	int fd;
	const struct endpoint *to;   /* NULL: the socket is connected */
	const struct endpoint *from; /* its address becomes the source; NULL: the socket's own */
	const void *header;	     /* copied; goes in front of the payload (of each segment) */
	size_t header_length;
	const void *payload; /* must stay valid until it is sent; the endpoints need not */
	size_t length;
	uint16_t segment;
	bool raw;	     /* fd is of datagram_raw.h: from and to are whole endpoints */
	uint8_t class, hops; /* 0: the socket's own */
	int family;	     /* of class and hops, if `to` is unset */
	bool single;	     /* never merged with others */
	void *owner;	     /* passed on with errors */
};

/*
 * It could not be sent. If out->segment is not 0, none of the segments was sent, and they will be
 * tried one by one whatever this returns. Return true to try it once more: the error belonged to an
 * earlier datagram (a connected socket reports ICMP errors for those on the next call).
 */
typedef bool datagram_failed(void *context, const struct datagram_out *out, int error);

struct datagram_queue;

/* NULL with *why. */
struct datagram_queue *datagram_queue_new(datagram_failed *failed, void *context,
					  struct failure *why);
void datagram_queue_free(struct datagram_queue *q);

/* Queue a datagram; if it cannot be sent together with the queued ones, those are sent first. */
void datagram_queue_put(struct datagram_queue *q, const struct datagram_out *out);

/* Send what is queued. */
void datagram_queue_flush(struct datagram_queue *q);

#endif
