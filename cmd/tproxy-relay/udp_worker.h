/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_worker - the UDP part of one thread of a relay: its UDP listeners and its flows.
 *
 * Takes datagrams from the listeners, finds the flow of each, has the policy judge those that begin
 * a flow, makes room at the limit, and ends in an orderly way. Its owner has the loop and does the
 * accounting.
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

/* The details that UDP listeners report with each datagram, and the size of their buffers. */
#define UDP_LISTENER_DETAILS                                                           \
	(DATAGRAM_DESTINATION | DATAGRAM_HOPS | DATAGRAM_CLASS | DATAGRAM_FRAGMENTED | \
	 DATAGRAM_SEGMENTS)
#define UDP_LISTENER_BUFFER (4 << 20)

/* Options for one thread. Everything but the numbers is borrowed. */
struct udp_worker_options {
	struct loop *loop; /* its context begins with a struct flow_ops */
	const struct udp_ops *ops;
	void *owner; /* for ops */
	const struct flow_settings *settings;
	struct udp_settings udp;
	struct policy *policy;
	struct listeners *listeners;	      /* open ones */
	const struct cidr_list *accept_proxy; /* peers whose datagrams begin with a PROXY header */
	_Atomic uint64_t *ids;		      /* the last id given to a connection or flow */
	const struct udp_icmp_sockets *icmp;  /* two, by enum flow_end */
	struct udp_raw *raw;
	bool elsewhere; /* see struct udp_host */
	bool alone;	/* no other thread reads from the same endpoints */
};

struct udp_worker;

/* It reads no datagrams before udp_worker_start(). NULL with *why. */
struct udp_worker *udp_worker_new(const struct udp_worker_options *options, struct failure *why);
void udp_worker_free(struct udp_worker *u);

/* Begin to read datagrams. Returns 0, or -1 with *why. */
int udp_worker_start(struct udp_worker *u, struct failure *why);

/* The host of its flows, which they find as loop_context()'s udp. */
struct udp_host *udp_worker_host(struct udp_worker *u);

/* Accept no new flows and close the listeners; existing flows may finish. at_once: no, as
 * udp_worker_reset() follows. */
void udp_worker_drain(struct udp_worker *u, bool at_once);

/* End all flows, as long as ops->may_end() returns true; call it again to end the rest. */
void udp_worker_reset(struct udp_worker *u);

/* Is any flow left (including one that was closed in this turn)? */
bool udp_worker_is_busy(const struct udp_worker *u);

/* Call this at the end of each turn of the loop. */
void udp_worker_end_turn(struct udp_worker *u);

#endif
