/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * onward - after the proxy: may it relay the connection, how does it leave, and how do both answers
 * come back?
 *
 * Each function shows its steps and concludes if the connection is lost; each returns whether it
 * continues.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_ONWARD_H
#define TPROXY_INSPECT_EXPLAIN_ONWARD_H

#include "tproxy-inspect/explain/view.h"

/* Where a proxy relays the connection to. */
struct onward {
	bool known;		     /* a relay of ours said so */
	struct endpoint destination; /* the upstream */
	bool foreign;		     /* the server sees an address that is not this host's */
	struct endpoint sender;	     /* else, that it sees: its port may be unset */
	bool elsewhere;		     /* it connects in another network namespace */
};

/* The policy of a running tproxy-relay, from its control socket; sets flow.upstream and the
 * like. */
bool onward_policy(struct view *v, struct onward *onward);

/* The route to the upstream, which sets v->flow.upstream. */
bool onward_route(struct view *v, const struct onward *onward);

/* The route back to the client. */
bool onward_reply_route(struct view *v);

#endif
