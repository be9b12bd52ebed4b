/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * instance - a specification in the kernel: look, put in place, take away. All or nothing.
 *
 * Joins route and ruleset. What is there is always read from the kernel; there is no state file. The
 * order is: routes, then rules (nothing is marked before it can be routed), and undo in reverse.
 */
#ifndef TPROXY_INTERCEPT_INSTANCE_H
#define TPROXY_INTERCEPT_INSTANCE_H

#include "base/report.h"
#include "intercept/intercept.h"
#include "intercept/nft.h"
#include "net/listening.h"
#include "net/route.h"
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

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
 * Read instance `name` back. Its routing is looked up as `spec` wants it, or as installed when spec is
 * NULL. contents: compare the sets' elements, too. 0, or -1 with *why; the caller frees the view.
 */
int instance_look(struct instance *kernel, const char *name, const struct intercept *spec,
		  bool contents, struct instance_view *view, struct failure *why);
void instance_view_free(struct instance_view *view);

/* Is all of it there and as it was put in place? */
bool instance_intact(const struct instance_view *view);

/* Called for each protocol and address that a specification delivers to, with who listens there; a return
 * other than 0 ends it and is returned. */
typedef int instance_listener_visitor(int protocol, const struct endpoint *to,
				      const struct listening_state *state, void *context);
int instance_each_listener(const struct intercept *spec, instance_listener_visitor *visit,
			   void *context, struct failure *why);

/* Is there a transparent listener for every family and protocol that is intercepted? 1, 0, or -1 with
 * *why. */
int instance_ready(const struct intercept *spec, struct failure *why);

/*
 * Settle what the specification leaves to this machine: a family that cannot be used here is left out
 * (unless it is `demanded`, AF_UNSPEC for none), and --conntrack auto becomes a mode. `notice` gets
 * what the user should know, "" if nothing. With a kernel that is not open (all zero) auto is off. 0,
 * or -1 with *why.
 */
int instance_decide(struct instance *kernel, struct intercept *spec, sa_family_t demanded,
		    char notice[256], struct failure *why);

/*
 * Keep for good what `up` put on probation (confirm_ms of the specification). *lease is what it was:
 * only LEASE_PENDING is changed. 0, or -1 with *why.
 */
int instance_confirm(struct instance *kernel, const char *name, enum nft_lease *lease,
		     struct failure *why);

/* What `up` came to. */
enum instance_outcome { INSTANCE_UNCHANGED, INSTANCE_INSTALLED, INSTANCE_REPLACED };

/*
 * Put the (validated and decided) specification in place; if it is there, intact, nothing at all is
 * touched. On failure everything is as before the call. 0, or -1 with *why.
 */
int instance_up(struct instance *kernel, const struct intercept *spec,
		enum instance_outcome *outcome, struct failure *why);

/* How a removal went. */
struct instance_removal {
	bool found;	/* there was something to remove */
	bool replaced;	/* `up` put it back during the drain: it was left alone */
	long destroyed; /* connections that were ended with a reset */
	long kept;	/* sockets that could not be ended */
	struct failure kept_why;
};

/*
 * Take the instance away: end interception, wait up to drain_ms (or until *hurry, which may be NULL,
 * becomes true) for the relayed connections to be done, end those that are left with a reset, then
 * remove rules and routes. Absent is success. What somebody else removed already is not missed.
 * 0, or -1 with *why.
 */
int instance_down(struct instance *kernel, const char *name, uint64_t drain_ms,
		  const volatile sig_atomic_t *hurry, struct instance_removal *removal,
		  struct failure *why);

/* Only the first phase: take no new connection. Absent is success. */
int instance_end(struct instance *kernel, const char *name, uint64_t drain_ms, struct failure *why);

#endif
