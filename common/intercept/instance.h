/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * instance - a specification as the kernel has it: its rules, its routing, and who listens.
 *
 * What is there is always read from the kernel; there is no state file. tproxy-setup's install and
 * removal put it there and take it away.
 */
#ifndef TPROXY_INTERCEPT_INSTANCE_H
#define TPROXY_INTERCEPT_INSTANCE_H

#include "base/report.h"
#include "intercept/intercept.h"
#include "intercept/nft.h"
#include "net/listening.h"
#include "net/route.h"
#include <stdbool.h>

/* Channels to the kernel, in the network namespace they were opened in. */
struct instance {
	struct nft *rules;
	struct route *route;
};
int instance_open(struct instance *kernel, struct failure *why);
void instance_close(struct instance *kernel);

/* One family's routing as it is. */
struct instance_routing {
	bool wanted; /* the specification has this family */
	struct route_plan plan;
	struct route_state state;
	char conflict[160]; /* what foreign thing is in the way, or "" */
};

/* An instance as the kernel has it. */
struct instance_view {
	struct nft_state rules;
	struct instance_routing routing[2]; /* IPv4, IPv6 */
};

/*
 * Read instance `name` back. Its routing is looked up as `spec` wants it, or as installed when spec
 * is NULL. contents: compare the sets' elements, too. 0, or -1 with *why; the caller frees the
 * view.
 */
int instance_look(struct instance *kernel, const char *name, const struct intercept *spec,
		  bool contents, struct instance_view *view, struct failure *why);
void instance_view_free(struct instance_view *view);

/* Is the specification's routing in place? 1, 0, or -1 with *why. */
int instance_is_routed(struct instance *kernel, const struct intercept *spec, struct failure *why);

/* Is all of it there and as it was put in place? */
bool instance_intact(const struct instance_view *view);

/* Called for each protocol and address that a specification delivers to, with who listens there; a
 * return other than 0 ends it and is returned. */
typedef int instance_listener_visitor(int protocol, const struct endpoint *to,
				      const struct listening_state *state, void *context);
int instance_each_listener(const struct intercept *spec, instance_listener_visitor *visit,
			   void *context, struct failure *why);

/* Is there a transparent listener for every family and protocol that is intercepted? 1, 0, or -1
 * with *why. */
int instance_ready(const struct intercept *spec, struct failure *why);

#endif
