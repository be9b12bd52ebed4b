/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * policy - may this connection be relayed?
 *
 * Not to a listener of ours; not if it is an upstream leg of ours that has come back (a loop); not
 * if it was not redirected here, unless that is wanted; only to destinations that --allow-dst and
 * --deny-dst permit; not to this very host if the answers would not come back to the relay; and not
 * on the word of a PROXY header to a place that only this host can reach, unless --allow-dst names
 * it. Shared by all threads: the rules are set before they start, the table of legs is locked.
 */
#ifndef TPROXY_RELAY_POLICY_H
#define TPROXY_RELAY_POLICY_H

#include "base/endpoint.h"
#include "base/match.h"
#include "process/reason.h"
#include "socket/transparent.h"
#include "tproxy-relay/local_addrs.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An upstream leg whose ends differ from those of the accepted connection; embed it. */
struct policy_leg {
	struct endpoint local, peer;
	int fd; /* of a TCP connection, its socket, open until policy_remove_leg(); else -1 */
	struct policy_leg *next;
	bool noted;
};

struct policy {
	const struct match_list *allow, *deny; /* borrowed; an empty allow list allows all */
	struct endpoint
		upstream[2]; /* --upstream: IPv4, IPv6; none set: the original destination */
	const char *netns;   /* the network namespace of the upstream legs; NULL: the listeners' */
	struct endpoint_list listeners; /* the endpoints we listen on, if that is NULL */
	const struct transparent_connect_options *connect; /* how upstream legs are made */
	struct local_addrs
		*local_addrs; /* this host's addresses; NULL: no upstream leg uses a foreign
				 * address, and no PROXY header is accepted */

	/* The addresses where the listeners are: the same, unless netns is set. NULL: unknown */
	struct local_addrs *listener_addrs;

	/* Count the hops of connections, as routers count those of packets. Not if a leg has its
	 * client's address and port: a host has no two connections with the same ends. */
	bool counts_hops;

	pthread_mutex_t lock; /* guards the table below */
	struct policy_leg **buckets;
	size_t size; /* of buckets, a power of two or 0 */
	uint64_t seed;
	_Atomic size_t legs;
};

void policy_init(struct policy *p);
void policy_free(struct policy *p);

/*
 * Where to connect to: the --upstream of the client's family, else that of the other family, else
 * the original destination.
 */
const struct endpoint *policy_upstream(const struct policy *p, const struct endpoint *client,
				       const struct endpoint *origdst);

/*
 * REASON_NONE, or why it must not be relayed: REASON_DIRECT, REASON_LOOP, REASON_DENIED, or, with
 * *why, REASON_HOPS, REASON_PROXY_ADDRESS or REASON_SOURCE.
 */
enum reason policy_judge(struct policy *p, const struct transparent_connection *c,
			 struct failure *why);

/*
 * Check that this upstream's answers reach us. They do not if it is on this very host and the
 * client's address is not: -1 with *why, else 0. A client that is not set stands for any.
 */
int policy_check_answers(struct policy *p, const struct endpoint *client,
			 const struct endpoint *upstream, struct failure *why);

/* Do we listen on this endpoint, perhaps through a wildcard address, where upstream legs are
 * made? */
bool policy_is_own_listener(const struct policy *p, const struct endpoint *e);

/* Is this connection, by its ends, an upstream leg of ours that has come back? */
bool policy_is_own_leg(struct policy *p, const struct transparent_connection *c);

/* Does a wildcard listener of ours keep this port from every client? bind(2) then fails with
 * EADDRINUSE, whatever the client's address. */
bool policy_occupies(const struct policy *p, const struct endpoint *client);

/*
 * Remember an upstream leg, whose ends are filled in, until policy_remove_leg(), which ignores a
 * leg that was not added. Needed only if the ends differ from those of the accepted socket: if they
 * are the same, the kernel finds that socket for a packet that comes back, never the listener.
 * Returns 0, or -1 for lack of memory.
 */
int policy_add_leg(struct policy *p, struct policy_leg *leg);
void policy_remove_leg(struct policy *p, struct policy_leg *leg);

#endif
