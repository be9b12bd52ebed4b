/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reason - why a relayed connection was refused, or why it ended: a closed list.
 *
 * The names are those of the `reason` field in records, of the counters and of tproxy-relay(8). An
 * established connection never ends for a reason up to REASON_LAST_REFUSAL, except for
 * REASON_MEMORY. (A UDP flow can: it is open before its upstream has sent anything.)
 */
#ifndef TPROXY_PROCESS_REASON_H
#define TPROXY_PROCESS_REASON_H

#include "base/report.h"

enum reason {
	REASON_NONE,
	/* Refused before any packet is sent upstream. */
	REASON_DIRECT,	       /* it was not redirected here, and there is no --upstream */
	REASON_PROXY_HEADER,   /* no PROXY header, or a bad one, from a peer that must send one */
	REASON_LOOP,	       /* to our own listener, or our own upstream leg came back */
	REASON_HOPS,	       /* no hop left: a loop of proxies, or of routes */
	REASON_DENIED,	       /* --deny-dst, or not in --allow-dst */
	REASON_PROXY_ADDRESS,  /* a PROXY header named this host itself, or its link */
	REASON_SOURCE,	       /* the wanted source address cannot be used (with that upstream) */
	REASON_CLASH,	       /* the client's port cannot be used as well */
	REASON_DESCRIPTORS,    /* no descriptor left */
	REASON_MEMORY,	       /* no memory left */
	REASON_NO_DESTINATION, /* UDP: the kernel did not report the original destination */
	REASON_AT_LIMIT,       /* UDP: --max-flows, and no flow may be ended for it */
	/* Refused because the connect failed. */
	REASON_UPSTREAM_REFUSED,
	REASON_UPSTREAM_UNREACHABLE,
	REASON_UPSTREAM_TIMEOUT,
	REASON_CLIENT_GONE, /* reset by the client before the upstream answered */
	REASON_LAST_REFUSAL = REASON_CLIENT_GONE,
	/* Ended. */
	REASON_DONE, /* both sides have ended, everything is delivered */
	REASON_CLIENT_RESET,
	REASON_UPSTREAM_RESET,
	REASON_CLIENT_LOST, /* the kernel gave up on reaching it */
	REASON_UPSTREAM_LOST,
	REASON_DESTROYED, /* by the administrator of this host: SOCK_DESTROY */
	REASON_IDLE,
	REASON_HALF_CLOSED,
	REASON_EVICTED, /* UDP: ended for another flow, at --max-flows or for a descriptor */
	REASON_DRAINED, /* still there when the relay ended */
	REASON_COUNT
};

const char *reason_name(enum reason reason);

/* The reason for a failure to connect: the failed call separates our own failures from the
 * network's. */
enum reason reason_of_failure(const struct failure *why);

#endif
