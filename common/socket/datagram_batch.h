/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * datagram_batch - reads many datagrams with one system call (recvmmsg(2)) into slots.
 */
#ifndef TPROXY_SOCKET_DATAGRAM_BATCH_H
#define TPROXY_SOCKET_DATAGRAM_BATCH_H

#include "base/report.h"
#include "socket/datagram.h"

#define DATAGRAM_SLOTS 64

/* Slots, filled from the first one on. Only as much of their memory is touched as the longest
 * datagram needed. */
struct datagram_batch;

/* NULL with *why. */
struct datagram_batch *datagram_batch_new(struct failure *why);
void datagram_batch_free(struct datagram_batch *b);

/*
 * Read waiting datagrams into free slots, at most `most`. Returns how many slots were filled,
 * starting at *first; 0: nothing waits, or no slot is free; -1 with errno: the socket reported an
 * error instead.
 */
int datagram_batch_receive(struct datagram_batch *b, int fd, unsigned most, unsigned *first);

/* The contents of a slot. Valid until datagram_batch_reset(), which empties all slots. */
struct datagram *datagram_batch_at(struct datagram_batch *b, unsigned slot);
void *datagram_batch_payload(struct datagram_batch *b, unsigned slot);
unsigned datagram_batch_room(const struct datagram_batch *b);
void datagram_batch_reset(struct datagram_batch *b);

#endif
