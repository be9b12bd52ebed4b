/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram_batch - many datagrams with one system call: read into slots, and sent from a queue.
 *
 * Knows recvmmsg(2), sendmmsg(2), the control messages by which a datagram is given its source address,
 * class and hops, and UDP_SEGMENT: datagrams of one length, one behind the other and between the same
 * two ends, leave as one. Of flows it knows nothing.
 */
#ifndef TPROXY_SOCKET_DATAGRAM_BATCH_H
#define TPROXY_SOCKET_DATAGRAM_BATCH_H

#include "base/endpoint.h"
#include "base/report.h"
#include "socket/datagram.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- reading ---- */

#define DATAGRAM_SLOTS 64

/* Slots, filled from the first on. Their memory is touched only as far as datagrams have been long. */
struct datagram_batch;

/* NULL with *why. */
struct datagram_batch *datagram_batch_new(struct failure *why);
void datagram_batch_free(struct datagram_batch *b);

/*
 * Read what waits into free slots, at most `most`. Returns how many have been filled, from slot *first
 * on; 0: none waits, or no slot is free; -1 with errno: the socket reported an error instead.
 */
int datagram_batch_receive(struct datagram_batch *b, int fd, unsigned most, unsigned *first);

/* What is in a slot. Valid until datagram_batch_reset(), which empties all. */
struct datagram *datagram_batch_at(struct datagram_batch *b, unsigned slot);
void *datagram_batch_payload(struct datagram_batch *b, unsigned slot);
unsigned datagram_batch_room(const struct datagram_batch *b);
void datagram_batch_reset(struct datagram_batch *b);

/* ---- sending ---- */

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
	uint8_t class, hops; /* where `to` is set; hops 0: the socket's own */
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
