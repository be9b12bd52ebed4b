/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * udp_host - what the modules of UDP share: a flow, and whoever hosts it.
 */
#ifndef TPROXY_RELAY_UDP_HOST_H
#define TPROXY_RELAY_UDP_HOST_H

#include "base/slab.h"
#include "process/loop.h"
#include "process/reason.h"
#include "socket/datagram.h"
#include "socket/datagram_queue.h"
#include "socket/proxyproto.h"
#include "socket/transparent.h"
#include "tproxy-relay/flow.h"
#include "tproxy-relay/policy.h"
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
		struct udp_flow *next_spare; /* once freed, with its socket kept for another flow */
	};
	uint64_t opened_us; /* loop_now_us() at its first datagram */
	uint64_t id;
	uint64_t bytes[2], packets[2]; /* FLOW_UP, FLOW_DOWN */
	uint32_t burst_tick;	       /* of a spare: loop_whole_turns() at its end */
	uint16_t listener;	       /* index of the listener it came in on */
	uint8_t class[2], hops[2];     /* current settings of the sockets that send up and down */
	uint8_t burst;		       /* datagrams since burst_tick */
	uint8_t kept : 2;	       /* enum transparent_kept */
	uint8_t origin : 3;	       /* enum transparent_origin */
	uint8_t direct : 1;	       /* sent to an address of this host, not redirected */
	uint8_t one_way : 1;	       /* no upstream socket: answers bypass the relay */
	uint8_t promoted : 1;
	uint8_t joined : 1;
	uint8_t unfit : 1; /* do not promote it: that was tried, or is pointless */
	uint8_t closed : 1;
	uint8_t whole : 2;     /* the same bits: the socket for that direction sends no fragments */
	uint8_t single : 2;    /* bits FLOW_UP, FLOW_DOWN: UDP_SEGMENT does not work there */
	uint8_t reason : 6;    /* enum reason, when closed */
	uint8_t reusable : 1;  /* see udp_reuse.h */
	uint8_t spare : 1;     /* the same, of its socket once it is closed */
	uint8_t destroyed : 1; /* the kernel has disconnected a socket: SOCK_DESTROY */
	uint8_t unasked : 1;   /* NAT may change its source, and conntrack was not asked yet */
	uint8_t second_hand : 1;   /* another flow had its upstream socket before (udp_reuse.h) */
	uint8_t handed_client : 1; /* the client's side, or both, no longer receive: another relay */
	uint8_t handed : 1;	   /* gets what comes next */
};

/* What upstream sockets report (enum datagram_detail). */
#define UDP_LEG_DETAILS (DATAGRAM_HOPS | DATAGRAM_CLASS | DATAGRAM_FRAGMENTED)

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

/* Spare slots, each with an unconnected socket (udp_reuse.h). */
struct udp_reuse {
	struct udp_flow *oldest[2], *newest[2]; /* by family: IPv4, IPv6 */
	unsigned count[2];			/* and those of flows closed in this turn */
	uint8_t *flows;				/* by client port; UINT8_MAX: unfit, for good */
	bool impossible;			/* the kernel is too old */
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
	struct udp_reuse reuse;
	struct udp_raw *raw;
	struct datagram_batch *batch;
	struct datagram_queue *queue;
	unsigned handling; /* batches that are being handled: their slots must stay as they are */
	const struct udp_icmp_sockets *icmp; /* two: of the side, by enum flow_end */
	struct udp_icmp_allowance icmp_allowance;
	bool draining; /* flows end in an orderly way: another relay, or none, continues them */
	bool alone;    /* no other process or thread reads from the same endpoint */
	/* Upstream legs are in another network namespace, and so is what a thread opens: no flow is
	 * promoted. */
	bool elsewhere;
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

#endif
