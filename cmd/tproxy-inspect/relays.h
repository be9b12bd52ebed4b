/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relays - asks the tproxy-relays of this network namespace which sockets belong together, and which
 * UDP flows they have.
 */
#ifndef TPROXY_INSPECT_RELAYS_H
#define TPROXY_INSPECT_RELAYS_H

#include "base/endpoint.h"
#include "base/report.h"
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
	uint64_t key; /* differs from that of any other flow, and from any cookie */
	struct endpoint client, origdst;
	const char *state; /* `unanswered`, `answered`, `established`, `unknown` */
	uint64_t idle_us;
	uint64_t bytes_up, bytes_down, packets_up, packets_down;
};

/*
 * Ask each relay, for a second at most, those of users other than root and our own for three
 * seconds in all, and call visit for each TCP connection with both sockets, and each UDP flow.
 * Returns 0, or -1 with *why for the last relay that could not be asked (it hangs, belongs to
 * another user, or has another version): its connections are missing.
 */
typedef void relays_visitor(const struct relays_pair *pair, void *context);
int relays_each(relays_visitor *visit, void *context, struct failure *why);

#endif
