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

/* Data that only some flows need. */
struct udp_extra {
	struct policy_leg leg;	    /* the upstream leg, if its ends are not the flow's */
	struct endpoint peer, near; /* the real ends on the client's side, if that is a proxy */
	struct endpoint seen;	    /* the source that the upstream sees, if NAT changed it */
	size_t id_length;	    /* UNIQUE_ID of its PROXY header */
	uint8_t id[PROXYPROTO_ID_MAX];
	size_t header_length; /* of the PROXY header for the upstream */
	uint8_t header[PROXYPROTO_WRITTEN_MAX];
};

/*
 * State of a flow: its class in the table (UNANSWERED -> ANSWERED -> ESTABLISHED), and in addition
 *
 *	short -> promoted -> joined		any of them -> closed
 *
 * short: the client's datagrams come from the listener. promoted: it has a socket of its own for
 * them. joined: everything that the listener had received before is relayed, so the socket may be
 * read. closed: descriptors are closed, the memory is freed at the end of the batch.
 */
struct udp_flow {
	struct udp_entry entry;	    /* first; origdst is the destination, even of a direct flow */
	struct loop_source side[2]; /* by enum flow_end; FLOW_CLIENT once promoted */
	union {
		struct udp_extra *extra;     /* NULL: none */
		struct loop_garbage garbage; /* once closed */
	};
	uint64_t opened_us; /* loop_now_us() at its first datagram */
	uint64_t id;
	uint64_t bytes[2], packets[2]; /* FLOW_UP, FLOW_DOWN */
	uint32_t burst_tick;
	uint16_t listener;	   /* index of the listener it came in on */
	uint8_t class[2], hops[2]; /* current settings of the sockets that send up and down */
	uint8_t burst;		   /* datagrams since burst_tick */
	uint8_t kept : 2;	   /* enum transparent_kept */
	uint8_t origin : 3;	   /* enum transparent_origin */
	uint8_t direct : 1;	   /* sent to an address of this host, not redirected */
	uint8_t one_way : 1;	   /* no upstream socket: answers bypass the relay */
	uint8_t promoted : 1;
	uint8_t joined : 1;
	uint8_t unfit : 1; /* do not promote it: that was tried, or is pointless */
	uint8_t closed : 1;
	uint8_t whole : 2;   /* the same bits: the socket for that direction sends no fragments */
	uint8_t single : 2;  /* bits FLOW_UP, FLOW_DOWN: UDP_SEGMENT does not work there */
	uint8_t reason : 6;  /* enum reason, when closed */
	uint8_t unasked : 1; /* NAT may change its source, and conntrack was not asked yet */
};

/* How UDP flows are relayed, beyond struct flow_settings. Times in milliseconds. */
struct udp_settings {
	uint64_t unanswered_timeout, established_timeout;
	uint64_t max; /* flows at once */
	bool one_way; /* the upstream answers clients directly */
};

struct udp_host;

/* Callbacks of whoever does the accounting. */
struct udp_ops {
	/* A flow has an upstream leg. */
	void (*opened)(struct udp_host *host, struct udp_flow *f);
	/* The flow is closed, for f->reason; the descriptors are still open. */
	void (*finished)(struct udp_host *host, struct udp_flow *f);
	/* The flow is freed. */
	void (*released)(struct udp_host *host);
	/* Is there room for the record of one more flow's end? */
	bool (*may_end)(struct udp_host *host);
	/* No flow was made for what c->client sent to c->local at that listener. */
	void (*refused)(struct udp_host *host, const struct transparent_connection *c,
			unsigned listener, enum reason reason, const struct failure *why);
};

/* The host of a flow. */
struct udp_host {
	const struct udp_ops *ops;
	void *owner; /* for the implementation of ops */
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
	bool draining; /* flows end in an orderly way: another relay, or none, continues them */
	bool alone;    /* no other process or thread reads from the same endpoint */
	/* Free a descriptor. False if none can be freed. */
	bool (*spare)(struct udp_host *host);
	/* Relay everything that the listener has received so far. */
	void (*drain_listener)(struct udp_host *host, unsigned listener);
	/* A datagram that a flow's socket received before it was connected. */
	void (*stray)(struct udp_host *host, unsigned listener, struct datagram *d,
		      const void *payload);
	/* The descriptor of that listener. */
	int (*listener)(struct udp_host *host, unsigned listener);
};

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
 * their own where they may have them. */
void udp_flow_detach_all(struct udp_host *host);

/* End the flow. While the host is draining, no datagram is lost, or overtaken by one that another
 * relay receives. */
void udp_flow_finish(struct udp_host *host, struct udp_flow *f, enum reason reason);

/* End flows that were silent for too long; works for some milliseconds at most. Call this every
 * tick of the loop; true: there is more, call it in the next turn, too. */
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
