/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_flow - one flow of datagrams through the relay: its upstream leg, answers, promotion, end.
 *
 * A flow is the address and port of a client and of a destination. Its datagrams come from the
 * host's listener; its answers come from its own upstream socket, which is connected, so that the
 * kernel delivers no other datagrams to it. Most flows end after an exchange or two. A flow that
 * carries many datagrams is promoted: it gets a connected socket on the client's side, too, to
 * which the kernel then delivers its datagrams instead of to the listener.
 *
 * A one-way flow has no upstream socket: its datagrams leave through a raw socket, and the answers
 * go to the client directly. This is an option, and the only way for clients on this very host,
 * whose own socket holds their port.
 *
 * Its host decides whether a flow may be relayed, what is logged about it and how many there may
 * be.
 */
#ifndef TPROXY_RELAY_UDP_FLOW_H
#define TPROXY_RELAY_UDP_FLOW_H

#include "tproxy-relay/udp_host.h"
#include <stdbool.h>
#include <stdint.h>

/* The start of a flow, and the keys it is found by. */
struct udp_beginning {
	struct datagram *d; /* already judged; without its PROXY header, if it had one */
	const struct proxyproto_header *header; /* has the flow's addresses; NULL: d has them */
};

/* The ends of the flow and how they are known, for the policy. */
void udp_flow_describe(const struct udp_beginning *b, struct transparent_connection *out);

/*
 * Begin a flow, with an upstream leg to `to`; udp_flow_up() then sends its first datagram. Returns
 * it, or NULL with *reason (and *why if there is more to say).
 */
struct udp_flow *udp_flow_start(struct udp_host *host, const struct udp_beginning *b,
				const struct endpoint *to, uint64_t id, unsigned listener,
				enum reason *reason, struct failure *why);

/* The flow that this datagram belongs to, or NULL. */
struct udp_flow *udp_flow_find(struct udp_host *host, const struct udp_beginning *b);

/* The flow after f (NULL: the first), in no particular order, closed ones included; or NULL. */
struct udp_flow *udp_flow_next(const struct udp_host *host, const struct udp_flow *f);

/* Send a datagram of the client (or several in one) to the upstream. The payload must stay valid
 * until udp_flow_flush(). */
void udp_flow_up(struct udp_host *host, struct udp_flow *f, const struct datagram *d,
		 const void *payload);

/* Send what is queued, and empty the batch's slots. */
void udp_flow_flush(struct udp_host *host);

/* Make all flows independent of the listener: those that are over end, the others get sockets of
 * their own where they may have them; unless they are not to go on without it. */
void udp_flow_detach_all(struct udp_host *host, bool go_on);

/*
 * Stop the kernel's deliveries to all flows' sockets, and relay what they hold and what is on its way
 * to them; the flows stay in the table. The listeners must have been drained. What clients send from
 * now on goes to the listeners: as long as nobody reads those, it overtakes nothing. Answers wait
 * nowhere: one that comes after this goes its way at once, and may overtake one that came in the
 * moment of this, which is relayed later.
 */
void udp_flow_hand_back_all(struct udp_host *host);

/* End the flow. While the host is draining, it is handed back first; then another relay may read
 * the listener already, and what arrives in the moment of handing back may be overtaken. It may be
 * lost, too, unless udp_flow_hand_back_all() or udp_flow_expire() hands the flow back. */
void udp_flow_finish(struct udp_host *host, struct udp_flow *f, enum reason reason);

/* End flows that were silent for too long; works for some milliseconds at most, while the host is
 * draining for some tens. Call this every tick of the loop; true: there is more, call it in the next
 * turn, too. */
bool udp_flow_expire(struct udp_host *host);

/* For datagram_queue_new(); context: struct udp_host. */
datagram_failed udp_flow_failed;

/* The original destination; not set for a direct flow. The ends of the upstream leg. */
struct endpoint udp_flow_origdst(const struct udp_flow *f);
struct endpoint udp_flow_upstream_local(const struct udp_flow *f);
struct endpoint udp_flow_upstream(const struct udp_host *host, const struct udp_flow *f);

/* As flow_upstream_source(). */
const struct endpoint *udp_flow_upstream_source(const struct udp_flow *f);

/* The UNIQUE_ID of the flow, as flow_unique_id(). */
size_t udp_flow_unique_id(const struct udp_host *host, const struct udp_flow *f,
			  uint8_t id[PROXYPROTO_ID_MAX]);

/* SO_COOKIE of one side; 0 if it has no socket of its own (any more). */
uint64_t udp_flow_cookie(const struct udp_flow *f, enum flow_end end);

/* `unanswered`, `answered`, `established`, `closed`. */
const char *udp_flow_state_name(const struct udp_flow *f);

#endif
