/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * instance - a specification as installed in the kernel: its rules, its routing, and who listens.
 *
 * Its state is always read from the kernel; there is no state file. tproxy-setup's install and
 * removal create and remove it.
 */
#ifndef TPROXY_INTERCEPT_INSTANCE_H
#define TPROXY_INTERCEPT_INSTANCE_H

#include "base/report.h"
#include "intercept/intercept.h"
#include "intercept/nft.h"
#include "net/listening.h"
#include "net/route.h"
#include <stdbool.h>

/* Channels to the kernel, in the network namespace in which they were opened. */
struct instance {
	struct nft *rules;
	struct route *route;
};
int instance_open(struct instance *kernel, struct failure *why);
void instance_close(struct instance *kernel);

/* One family's routing as installed. */
struct instance_routing {
	bool wanted; /* the specification has this family */
	struct route_plan plan;
	struct route_state state;
	char conflict[160]; /* the foreign rule or route in the way, or "" */
};

/* An instance as installed in the kernel. */
struct instance_view {
	struct nft_state rules;
	struct instance_routing routing[2]; /* IPv4, IPv6 */
};

/*
 * Read instance `name` back. Its routing is looked up as `spec` wants it, or as installed if spec
 * is NULL. contents: compare the elements of the sets too. 0, or -1 with *why; the caller frees the
 * view.
 */
int instance_look(struct instance *kernel, const char *name, const struct intercept *spec,
		  bool contents, struct instance_view *view, struct failure *why);
void instance_view_free(struct instance_view *view);

/* Is the specification's routing in place? 1, 0, or -1 with *why. */
int instance_is_routed(struct instance *kernel, const struct intercept *spec, struct failure *why);

/* Is all of it in place and unchanged? */
bool instance_intact(const struct instance_view *view);

/* Called for each protocol and address that a specification delivers to, with the listener found
 * there; a non-zero return ends the visit and is returned. */
typedef int instance_listener_visitor(int protocol, const struct endpoint *to,
				      const struct listening_state *state, void *context);
int instance_each_listener(const struct intercept *spec, instance_listener_visitor *visit,
			   void *context, struct failure *why);

/* Is there a transparent listener for every intercepted family and protocol? 1, 0, or -1 with
 * *why. */
int instance_ready(const struct intercept *spec, struct failure *why);

#endif
