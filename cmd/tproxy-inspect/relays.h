/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relays - asks the tproxy-relays of this network namespace which sockets belong together.
 */
#ifndef TPROXY_INSPECT_RELAYS_H
#define TPROXY_INSPECT_RELAYS_H

#include "base/endpoint.h"
#include "base/report.h"
#include <stdint.h>
#include <sys/types.h>

/* Room for the name of a network namespace, cut to size. */
#define RELAYS_NETNS_MAX 64

/* The two sockets of a connection, by SO_COOKIE. */
struct relays_pair {
	uint64_t cookie, upstream_cookie;
	uint64_t age_us;
	uid_t uid; /* who reports it: anybody may have taken a relay's name */
	/* Where the upstream socket is, if that is another network namespace, and its ends, which
	 * nobody sees here. "": here */
	char netns[RELAYS_NETNS_MAX];
	struct endpoint upstream_local, upstream;
};

/*
 * Ask each relay, for a second at most, those of users other than root and our own for three
 * seconds in all, and call visit for each TCP connection with both sockets.
 * Returns 0, or -1 with *why for the last relay that could not be asked (it hangs, belongs to
 * another user, or has another version): its connections are missing.
 */
typedef void relays_visitor(const struct relays_pair *pair, void *context);
int relays_each(relays_visitor *visit, void *context, struct failure *why);

#endif
