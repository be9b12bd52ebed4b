/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_flow - one flow of datagrams through the relay: its upstream leg, answers, promotion, end.
 *
 * A flow is a client's address and port and a destination's. Its datagrams come from the listener,
 * which is its host's; its answers from its own upstream socket, which is connected: so the kernel
 * gives it nobody else's. Most flows end after an exchange or two. One of which many datagrams come
 * is promoted: it gets a connected socket on the client's side as well, to which the kernel then
 * gives its datagrams instead of to the listener.
 *
 * A one-way flow has no upstream socket: its datagrams leave by a raw socket, and the answers go to
 * the client directly. So it is by choice, and for clients on this very host, whose port is their
 * own socket's.
 *
 * Whether a flow may be carried, what is written about it and how many there may be is its host's
 * business.
 */
#ifndef TPROXY_RELAY_UDP_FLOW_H
#define TPROXY_RELAY_UDP_FLOW_H

#include "base/slab.h"
#include "process/loop.h"
#include "socket/datagram.h"
#include "socket/datagram_queue.h"
#include "socket/proxyproto.h"
#include "socket/transparent.h"
#include "tproxy-relay/flow.h"
#include "tproxy-relay/policy.h"
#include "tproxy-relay/reason.h"
#include "tproxy-relay/udp_icmp.h"
#include "tproxy-relay/udp_raw.h"
#include "tproxy-relay/udp_table.h"
#include <stdbool.h>
#include <stdint.h>

/* What only some flows have. */
struct udp_extra {
	struct policy_leg leg;	    /* the upstream leg, where its ends are not the flow's */
	struct endpoint peer, near; /* its client's side as it really is, where a proxy speaks */
	struct endpoint seen;	    /* as whom the upstream sees it, where NAT changed that */
	size_t id_length;	    /* UNIQUE_ID of the header that it came with */
	uint8_t id[PROXYPROTO_ID_MAX];
	size_t header_length; /* of the PROXY header for the upstream */
	uint8_t header[PROXYPROTO_WRITTEN_MAX];
};

/*
 * State of a flow: its class in the table (UNANSWERED -> ANSWERED -> ESTABLISHED), and beside that
 *
 *	short -> promoted -> joined		any of them -> closed
 *
 * short: the client's datagrams come from the listener. promoted: it has a socket of its own for
 * them. joined: whatever the listener had got before that has been carried, so the socket may be
 * read. closed: descriptors are closed, the memory waits for the end of the batch.
 */
struct udp_flow {
	struct udp_entry entry;	    /* first; origdst is where it was going, also if directly */
	struct loop_source side[2]; /* by enum flow_end; FLOW_CLIENT once promoted */
	union {
		struct udp_extra *extra;     /* NULL: none */
		struct loop_garbage garbage; /* once closed */
	};
	uint64_t opened_us; /* loop_now_us() at its first datagram */
	uint64_t id;
	uint64_t bytes[2], packets[2]; /* FLOW_UP, FLOW_DOWN */
	uint32_t burst_tick;
	uint16_t listener;	   /* index of where it came in */
	uint8_t class[2], hops[2]; /* what the socket that sends up, down is set to */
	uint8_t burst;		   /* datagrams since burst_tick */
	uint8_t kept : 2;	   /* enum transparent_kept */
	uint8_t origin : 3;	   /* enum transparent_origin */
	uint8_t direct : 1;	   /* it came to an address of this host, redirected by nobody */
	uint8_t one_way : 1;	   /* it has no upstream socket: answers do not pass this host */
	uint8_t promoted : 1;
	uint8_t joined : 1;
	uint8_t unfit : 1; /* for promotion: tried, or pointless */
	uint8_t closed : 1;
	uint8_t whole : 2;   /* the same bits: the socket that sends there sends no fragments */
	uint8_t single : 2;  /* bit FLOW_UP, FLOW_DOWN: UDP_SEGMENT does not work there */
	uint8_t reason : 6;  /* enum reason, when closed */
	uint8_t unasked : 1; /* NAT may change its source, and conntrack has not been asked yet */
};

/* How flows of datagrams are to be carried, beyond struct flow_settings. Times in milliseconds. */
struct udp_settings {
	uint64_t unanswered_timeout, established_timeout;
	uint64_t max; /* flows at once */
	bool one_way; /* the upstream answers clients directly */
};

struct udp_host;

/* What is told of flows, to whoever keeps the books. */
struct udp_ops {
	/* A flow has an upstream leg. */
	void (*opened)(struct udp_host *host, struct udp_flow *f);
	/* It is closed, f->reason says why; the descriptors are still open. */
	void (*finished)(struct udp_host *host, struct udp_flow *f);
	/* It is gone. */
	void (*released)(struct udp_host *host);
	/* Is there room for what will be told of another end? */
	bool (*may_end)(struct udp_host *host);
	/* There is none for what came from c->client to c->local at that listener. */
	void (*refused)(struct udp_host *host, const struct transparent_connection *c,
			unsigned listener, enum reason reason, const struct failure *why);
};

/* What a flow needs around it. */
struct udp_host {
	const struct udp_ops *ops;
	void *owner; /* for who implements them */
	struct loop *loop;
	const struct flow_settings *settings;
	const struct udp_settings *udp;
	struct policy *policy;
	struct udp_table table;
	struct slab flows;
	struct udp_raw *raw;
	struct datagram_batch *batch;
	struct datagram_queue *queue;
	const struct udp_icmp_sockets *icmp;
	struct udp_icmp_allowance icmp_allowance;
	bool draining; /* flows end in order to be carried on by another relay, or by none */
	bool alone;    /* nobody else takes datagrams from the same endpoint */
	/* Make room for a descriptor. False when nothing can be given up. */
	bool (*spare)(struct udp_host *host);
	/* Carry what that listener has got until now. */
	void (*drain_listener)(struct udp_host *host, unsigned listener);
	/* A datagram that the socket of a flow has caught before it was connected. */
	void (*stray)(struct udp_host *host, unsigned listener, struct datagram *d,
		      const void *payload);
	/* The descriptor of that listener. */
	int (*listener)(struct udp_host *host, unsigned listener);
};

/* How a flow begins, and by what it is found again. */
struct udp_beginning {
	struct datagram *d; /* judged; behind its PROXY header, if it began with one */
	const struct proxyproto_header *header; /* whose addresses are the flow's; NULL: d's are */
};

/* Between whom the flow is, and how that is known: what the policy judges. */
void udp_flow_describe(const struct udp_beginning *b, struct transparent_connection *out);

/*
 * Begin a flow, with an upstream leg to `to`; its first datagram is carried by udp_flow_up().
 * Returns it, or NULL with *reason (and *why where there is more to say).
 */
struct udp_flow *udp_flow_start(struct udp_host *host, const struct udp_beginning *b,
				const struct endpoint *to, uint64_t id, unsigned listener,
				enum reason *reason, struct failure *why);

/* The flow that such a datagram belongs to, or NULL. */
struct udp_flow *udp_flow_find(struct udp_host *host, const struct udp_beginning *b);

/* The one after f (NULL: the first), in no order, also a closed one; or NULL. */
struct udp_flow *udp_flow_next(const struct udp_host *host, const struct udp_flow *f);

/* Carry one of the client's datagrams (or several in one) to the upstream. The payload must stay
 * until udp_flow_flush(). */
void udp_flow_up(struct udp_host *host, struct udp_flow *f, const struct datagram *d,
		 const void *payload);

/* Send what was queued, and empty the batch's slots. */
void udp_flow_flush(struct udp_host *host);

/* Have no flow need the listener any more: one that is over ends, the others get sockets of their
 * own where they may have them. */
void udp_flow_detach_all(struct udp_host *host);

/* End it; while the host is draining, so that no datagram is lost or overtaken by one that another
 * relay gets. */
void udp_flow_finish(struct udp_host *host, struct udp_flow *f, enum reason reason);

/* End what has been silent for too long, for some milliseconds at most. To be called every tick of
 * the loop; true: also in the next turn, as there is more. */
bool udp_flow_expire(struct udp_host *host);

/* For datagram_queue_new(); context: struct udp_host. */
datagram_failed udp_flow_failed;

/* Where it was going; not set for a direct one. The ends of the upstream leg. */
struct endpoint udp_flow_origdst(const struct udp_flow *f);
struct endpoint udp_flow_upstream_local(const struct udp_flow *f);
struct endpoint udp_flow_upstream(const struct udp_host *host, const struct udp_flow *f);

/* As flow_upstream_source() has it. */
const struct endpoint *udp_flow_upstream_source(const struct udp_flow *f);

/* The UNIQUE_ID that goes with the flow, as flow_unique_id() has it. */
size_t udp_flow_unique_id(const struct udp_host *host, const struct udp_flow *f,
			  uint8_t id[PROXYPROTO_ID_MAX]);

/* SO_COOKIE of one side; 0 when it has no socket of its own (any more). */
uint64_t udp_flow_cookie(const struct udp_flow *f, enum flow_end end);

/* `unanswered`, `answered`, `established`, `closed`. */
const char *udp_flow_state_name(const struct udp_flow *f);

#endif
