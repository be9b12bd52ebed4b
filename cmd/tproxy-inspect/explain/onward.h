/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * onward - behind the proxy: may it carry the connection, how does it leave, and how do both answers come back?
 *
 * Each shows its steps and concludes where the connection is lost; each returns whether it goes on.
 */
#ifndef TPROXY_INSPECT_EXPLAIN_ONWARD_H
#define TPROXY_INSPECT_EXPLAIN_ONWARD_H

#include "tproxy-inspect/explain/view.h"

/* Where a proxy takes the connection. */
struct onward {
	bool known;		     /* a relay of ours said so */
	struct endpoint destination; /* the upstream */
	bool foreign;		     /* it shows the server an address that is not this host's */
};

/* The policy of a running tproxy-relay, asked at its control socket; flow.upstream and the like are set. */
bool onward_policy(struct view *v, struct onward *onward);

/* The route to the upstream, from which v->flow.upstream is. */
bool onward_route(struct view *v, const struct onward *onward);

/* The way back to the client. */
bool onward_reply_route(struct view *v);

#endif
