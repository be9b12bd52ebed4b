/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_worker - what one thread of a relay does with datagrams: its UDP listeners, and its flows.
 *
 * Takes datagrams from the listeners, finds the flow of each, has the policy judge those that begin
 * one, makes room at the limit, and ends in an orderly way. Whoever it belongs to has the loop and
 * keeps the books.
 */
#ifndef TPROXY_RELAY_UDP_WORKER_H
#define TPROXY_RELAY_UDP_WORKER_H

#include "base/report.h"
#include "process/loop.h"
#include "socket/listeners.h"
#include "tproxy-relay/udp_flow.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What UDP listeners are to tell of each datagram, and the size of their buffers. */
#define UDP_LISTENER_DETAILS                                                           \
	(DATAGRAM_DESTINATION | DATAGRAM_HOPS | DATAGRAM_CLASS | DATAGRAM_FRAGMENTED | \
	 DATAGRAM_SEGMENTS)
#define UDP_LISTENER_BUFFER (4 << 20)

/* Of one thread. All but the numbers is borrowed. */
struct udp_worker_options {
	struct loop *loop; /* its context begins with a struct flow_ops */
	const struct udp_ops *ops;
	void *owner; /* for ops */
	const struct flow_settings *settings;
	struct udp_settings udp;
	struct policy *policy;
	struct listeners *listeners;	      /* open ones */
	const struct cidr_list *accept_proxy; /* peers that begin each datagram with a header */
	_Atomic uint64_t *ids;		      /* the last that was given to a connection or flow */
	const struct udp_icmp_sockets *icmp;
	struct udp_raw *raw;
	bool alone; /* no other thread takes datagrams from the same endpoints */
};

struct udp_worker;

/* It takes no datagrams before udp_worker_start(). NULL with *why. */
struct udp_worker *udp_worker_new(const struct udp_worker_options *options, struct failure *why);
void udp_worker_free(struct udp_worker *u);

/* Begin to take datagrams. Returns 0, or -1 with *why. */
int udp_worker_start(struct udp_worker *u, struct failure *why);

/* What its flows find as loop_context()'s udp. */
struct udp_host *udp_worker_host(struct udp_worker *u);

/* Take no new flows, and close the listeners; flows that are there may finish. */
void udp_worker_drain(struct udp_worker *u);

/* End them all, as long as ops->may_end() says so: what is left then is ended by another call. */
void udp_worker_reset(struct udp_worker *u);

/* Is any flow left (also one that was closed in this turn)? */
bool udp_worker_is_busy(const struct udp_worker *u);

/* To be called at the end of each turn of the loop. */
void udp_worker_end_turn(struct udp_worker *u);

#endif
