/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "socket/datagram_batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Room for every detail that datagram_want() knows, of IPv6, and for those that an inherited socket
 * may also report (SO_TIMESTAMP, SO_RXQ_OVFL). */
#define CONTROL_MAX 512

struct datagram_batch {
	unsigned used;
	struct datagram at[DATAGRAM_SLOTS];
	struct mmsghdr messages[DATAGRAM_SLOTS];
	struct iovec data[DATAGRAM_SLOTS];
	union endpoint_sockaddr names[DATAGRAM_SLOTS];
	union {
		char bytes[CONTROL_MAX];
		struct cmsghdr align;
	} control[DATAGRAM_SLOTS];
	unsigned char *payload;
};

static void make_slot(struct datagram_batch *b, unsigned slot)
{
	b->data[slot] = (struct iovec){ b->payload + (size_t)slot * DATAGRAM_MAX, DATAGRAM_MAX };
	b->messages[slot].msg_hdr = (struct msghdr){
		.msg_name = &b->names[slot],
		.msg_namelen = sizeof(b->names[slot]),
		.msg_iov = &b->data[slot],
		.msg_iovlen = 1,
		.msg_control = &b->control[slot],
		.msg_controllen = sizeof(b->control[slot]),
	};
}

struct datagram_batch *datagram_batch_new(struct failure *why)
{
	struct datagram_batch *b = calloc(1, sizeof(*b));

	if (b)
		b->payload = malloc((size_t)DATAGRAM_SLOTS * DATAGRAM_MAX);
	if (!b || !b->payload) {
		free(b);
		report_fail(why, ENOMEM, "malloc", "buffers for datagrams");
		return NULL;
	}
	for (unsigned i = 0; i < DATAGRAM_SLOTS; i++)
		make_slot(b, i);
	return b;
}

void datagram_batch_free(struct datagram_batch *b)
{
	if (!b)
		return;
	free(b->payload);
	free(b);
}

/* #syscalls upstream_udp: recvmmsg */
int datagram_batch_receive(struct datagram_batch *b, int fd, unsigned most, unsigned *first)
{
	unsigned room = datagram_batch_room(b);
	int got = 0;

	*first = b->used;
	if (room)
		got = recvmmsg(fd, b->messages + b->used, most < room ? most : room, MSG_DONTWAIT,
			       NULL);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	for (int i = 0; i < got; i++, b->used++) {
		struct mmsghdr *m = &b->messages[b->used];

		datagram_describe(&m->msg_hdr, m->msg_len, &b->at[b->used]);
		/* Restores what recvmmsg(2) has changed, and nothing else. */
		m->msg_hdr.msg_namelen = sizeof(b->names[b->used]);
		m->msg_hdr.msg_controllen = sizeof(b->control[b->used]);
	}
	return got;
}

struct datagram *datagram_batch_at(struct datagram_batch *b, unsigned slot)
{
	return &b->at[slot];
}

void *datagram_batch_payload(struct datagram_batch *b, unsigned slot)
{
	return b->payload + (size_t)slot * DATAGRAM_MAX;
}

unsigned datagram_batch_room(const struct datagram_batch *b)
{
	return DATAGRAM_SLOTS - b->used;
}

void datagram_batch_reset(struct datagram_batch *b)
{
	b->used = 0;
}
