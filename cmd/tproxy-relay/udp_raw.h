/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_raw - the raw sockets of a worker, through which short flows send: to clients in the name of
 * their servers, and to servers in the name of their clients (datagram_raw.h).
 *
 * Knows the sockets and how each sends. Without CAP_NET_RAW there are none; then each flow has
 * connected sockets of its own from the start.
 */
#ifndef TPROXY_RELAY_UDP_RAW_H
#define TPROXY_RELAY_UDP_RAW_H

#include "base/quantity.h"
#include "base/report.h"
#include "socket/datagram_queue.h"
#include <stdbool.h>
#include <stdint.h>

/* In whose name: a server's to its client, or a client's to its server. The latter carry the
 * upstream mark. */
enum udp_speaker { UDP_AS_SERVER, UDP_AS_CLIENT };

/* Must a datagram leave as one packet, or may it be fragmented? EMSGSIZE says that it is too long
 * for one. */
enum udp_fit { UDP_FIT_ANY, UDP_FIT_WHOLE, UDP_FIT_FRAGMENTS };

/* By speaker and family (IPv4, IPv6). */
struct udp_raw {
	int fd[2][2]; /* -1: none */
	uint8_t fit[2][2];
};

/* No socket yet. */
#define UDP_RAW_NONE                             \
	{                                        \
		.fd = { { -1, -1 }, { -1, -1 } } \
	}

/* Open those of that speaker, in this thread's network namespace; a family that this machine lacks
 * gets none. mark: of what they send, or NULL. Returns 0, or -1 with *why; close all then. */
int udp_raw_open(struct udp_raw *r, enum udp_speaker speaker, const struct mark *mark,
		 struct failure *why);
void udp_raw_close(struct udp_raw *r);

bool udp_raw_has(const struct udp_raw *r, enum udp_speaker speaker, int family);

/*
 * The socket for that speaker and family, switched to `fit` (ANY: as before). What is queued for it
 * with another `fit` is sent first. Returns the descriptor, or -1.
 */
int udp_raw_socket(struct udp_raw *r, struct datagram_queue *queue, int family,
		   enum udp_speaker speaker, enum udp_fit fit);

/* Switch any socket to `fit`; ANY: leave it as it is. */
void udp_raw_set_fit(int fd, int family, enum udp_fit fit);

#endif
