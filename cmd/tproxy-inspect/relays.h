/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relays - asks the tproxy-relays of this network namespace which sockets belong together, and which
 * UDP flows they have.
 */
#ifndef TPROXY_INSPECT_RELAYS_H
#define TPROXY_INSPECT_RELAYS_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Room for the name of a network namespace, cut to size. */
#define RELAYS_NETNS_MAX 64

/* A connection or a UDP flow. */
struct relays_pair {
	int protocol;			  /* IPPROTO_TCP, IPPROTO_UDP */
	uint64_t cookie, upstream_cookie; /* SO_COOKIE of its sockets; 0: a flow without that one */
	uint64_t age_us;
	uid_t uid; /* who reports it: anybody may have taken a relay's name */
	/* Where the upstream socket is, if that is another network namespace, and its ends, which
	 * nobody sees here. "": here */
	char netns[RELAYS_NETNS_MAX];
	struct endpoint upstream_local, upstream;

	/* Of a flow. The kernel does not know it: sockets serve one after another, and most have
	 * none towards the client. */
	uint64_t key;	/* differs from that of any other flow, and from any cookie */
	uint32_t relay; /* whose it is, for relays_has_told() */
	struct endpoint client, origdst;
	const char *state; /* `unanswered`, `answered`, `established`, `unknown` */
	uint64_t idle_us;
	uint64_t bytes_up, bytes_down, packets_up, packets_down;
};

/* What is remembered of each relay from one question to the next. NULL: no memory. */
struct relays;
struct relays *relays_new(void);
void relays_free(struct relays *r);

/*
 * Ask each relay, for a second at most, root's and our own first, and call visit for each TCP
 * connection with both sockets, and each UDP flow. A relay that does not answer is left alone for
 * 30 s, other users' for longer each time. Those take three seconds in all, later no more than a
 * tenth of the time, unless they have answered before.
 *
 * Returns 0, or -1 with *why for a relay that could not be asked (it hangs, belongs to another
 * user, or has another version), rather one of ours: its connections are missing. Of each this is
 * said once, of other users' once in all.
 */
typedef void relays_visitor(const struct relays_pair *pair, void *context);
int relays_each(struct relays *r, relays_visitor *visit, void *context, struct failure *why);

/* Is the last answer of that relay complete, so that flows that were not in it have ended? Those of
 * a relay that is silent count as open, for two minutes. */
bool relays_has_told(const struct relays *r, uint32_t relay);

#endif
