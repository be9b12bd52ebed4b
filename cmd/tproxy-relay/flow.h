/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * flow - one TCP connection through the relay: connect, relay bytes both ways, half-close, end.
 *
 * Knows two sockets and the loop that watches them. Its host decides whether a connection may be
 * relayed, what is logged about it and how many there may be.
 */
#ifndef TPROXY_RELAY_FLOW_H
#define TPROXY_RELAY_FLOW_H

#include "base/endpoint.h"
#include "base/slab.h"
#include "process/loop.h"
#include "process/reason.h"
#include "socket/proxyproto.h"
#include "socket/transparent.h"
#include "tproxy-relay/policy.h"
#include "tproxy-relay/pump.h"
#include "tproxy-relay/synack.h"
#include "tproxy-relay/timewait.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct translation;

/* The two sockets of a flow. The pump of the same number reads from it: up is client to
 * upstream. */
enum flow_end { FLOW_CLIENT, FLOW_UPSTREAM };
enum { FLOW_UP = FLOW_CLIENT, FLOW_DOWN = FLOW_UPSTREAM };

/*
 * State of a flow:
 *
 *	FREE -> CONNECTING -> OPEN -> CLOSED -> FREE
 *		     \________________^
 *
 * CONNECTING: the upstream connect is in progress, or (there is no upstream socket) waits until the
 * remains of the client's last connection from that port are gone; data that the client has sent
 * already may be held. OPEN: both legs are established, and each direction has its own state:
 * running -> ended (FIN read) -> shut (all delivered, FIN sent on). Both shut: CLOSED. CLOSED:
 * descriptors are closed, the memory is freed at the end of the batch.
 */
enum flow_state { FLOW_FREE, FLOW_CONNECTING, FLOW_OPEN, FLOW_CLOSED };

/* Data that only some flows need. */
struct flow_extra {
	struct policy_leg
		leg; /* the upstream leg, where its ends are not those of the accepted socket */
	struct endpoint seen; /* the source that the server sees, if NAT changed it */
	size_t id_length;     /* UNIQUE_ID of its PROXY header */
	uint8_t id[];
};

/* Kept small, because there are many and most are idle: at most 176 bytes. */
struct flow {
	struct loop_source side[2]; /* by enum flow_end */
	struct pump pump[2];
	union {
		struct loop_timer timer;     /* whichever deadline applies; re-armed lazily */
		struct loop_garbage garbage; /* once CLOSED */
	};
	struct endpoint client, origdst;
	struct flow_extra *extra; /* NULL: none */
	uint64_t opened_us;	  /* loop_now_us() at accept */
	uint64_t id;
	uint32_t active;      /* loop_tick() of the last byte */
	uint16_t listener;    /* index of the listener that accepted it */
	uint8_t state : 2;    /* enum flow_state */
	uint8_t kept : 2;     /* enum transparent_kept */
	uint8_t origin : 3;   /* enum transparent_origin */
	uint8_t unread : 1;   /* CONNECTING: the client has sent more than was read */
	uint8_t was_open : 1; /* when CLOSED: it had been OPEN */
	uint8_t nodelay : 1;  /* the upstream leg has TCP_NODELAY */
	uint8_t reason : 5;   /* enum reason, when CLOSED */
	uint8_t settled : 1;  /* it is not a short flow: see settle() */
};

/* How flows are relayed; the same for all, set before the first. Times in milliseconds. */
struct flow_settings {
	uint64_t connect_timeout, idle_timeout, half_closed_timeout;
	unsigned keepalive; /* seconds, see transparent_set_keepalive(); 0: none */
	struct transparent_connect_options connect; /* its dscp is each flow's own */
	bool new_port; /* SOURCE_CLIENT: another port when the client's cannot be used */
	struct translation *translation; /* NULL: NAT, if there is any, is not detected */
	int send_proxy;			 /* version of the PROXY header for the upstream; 0: none */
	uint64_t unique_ids;		 /* prefix of the UNIQUE_IDs of this process */
};

struct udp_host;

/* The host of a flow; the loop's context begins with one. */
struct flow_ops {
	struct loop *loop;
	struct udp_host *udp; /* NULL: no datagrams are relayed */
	const struct flow_settings *settings;
	struct policy *policy;	   /* records the upstream legs */
	struct timewait *timewait; /* NULL: a client's port that is still in TIME_WAIT is a clash */
	struct synack *synack;	   /* NULL: the DSCP of IPv4 servers' answers is not known */
	struct slab flows;
	struct pump_tools tools;
	/* The upstream has answered. */
	void (*opened)(struct flow_ops *host, struct flow *f);
	/* The flow is CLOSED or was refused, for f->reason; the descriptors are still open. */
	void (*finished)(struct flow_ops *host, struct flow *f);
	/* No descriptor is left for the upstream: free one. False if none can be freed. */
	bool (*spare)(struct flow_ops *host);
	/* The flow was refused after flow_start() had returned, for *why. */
	void (*failed)(struct flow_ops *host, struct flow *f, const struct failure *why);
	/* The flow is freed. */
	void (*released)(struct flow_ops *host);
};

/*
 * Begin to relay the accepted connection to an upstream; takes over c->fd in any case. header: the
 * PROXY header it began with, or NULL; c has its addresses. On failure the client is reset and
 * finished() is called at once with the reason. Returns the flow, or NULL if there was no memory
 * for one (the client is reset, errno ENOMEM).
 */
struct flow *flow_start(struct flow_ops *host, const struct transparent_connection *c,
			const struct proxyproto_header *header, const struct endpoint *to,
			uint64_t id, unsigned listener, struct failure *why);

/* End the flow now: an orderly end for REASON_DONE, a reset to both sides for any other reason. */
void flow_finish(struct flow_ops *host, struct flow *f, enum reason reason);

/* The ends of the upstream leg. */
const struct endpoint *flow_upstream_local(const struct flow *f);
const struct endpoint *flow_upstream(const struct flow *f);

/* The source that the server sees, if NAT on this host changed it; else NULL. */
const struct endpoint *flow_upstream_source(const struct flow *f);

/*
 * Payload relayed in that direction (FLOW_UP, FLOW_DOWN). For a flow CLOSED for any reason but
 * REASON_DONE: only what the receiver has acknowledged; ask in finished().
 */
uint64_t flow_delivered(const struct flow_ops *host, const struct flow *f, int dir);

/* SO_COOKIE of one side; 0 if it has no socket (any more). */
uint64_t flow_cookie(const struct flow *f, enum flow_end end);

/*
 * The UNIQUE_ID of the connection: the one from its PROXY header, else the one that is sent
 * upstream (random for this process, and the flow's id). Returns its length, 0 if there is none.
 */
size_t flow_unique_id(const struct flow_ops *host, const struct flow *f,
		      uint8_t id[PROXYPROTO_ID_MAX]);

/* `connecting`, `open`, `half-closed`, `closed`. */
const char *flow_state_name(const struct flow *f);

#endif
