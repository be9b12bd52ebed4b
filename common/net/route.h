/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * route - policy routing that hands marked packets to this host, and the kernel's word on any
 * packet.
 *
 * An instance needs, per family, one rule (`fwmark MARK lookup TABLE`, before main) and one route
 * (`local default dev lo` in TABLE); where servers on this very host are to answer to clients' addresses, also
 * the rule `from 127.0.0.0/8 iif lo lookup TABLE` (IPv6: `from ::1`). All carry our routing protocol tag (ROUTE_PROTOCOL), by
 * which they are known later. What others made is never changed.
 */
#ifndef TPROXY_NET_ROUTE_H
#define TPROXY_NET_ROUTE_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include "net/route_entry.h"
#include <stdbool.h>
#include <stdint.h>

/* The routing protocol tag of every rule and route that we add. */
#define ROUTE_PROTOCOL 116

/* A channel to the network namespace it was opened in. */
struct route;
struct route *route_open(struct failure *why);
void route_close(struct route *route);

/* What is there of it, made by us. */
struct route_state {
	bool rule, route;
	bool answers; /* the rule for what loopback addresses send */
};

/*
 * Look for our rule and our route. Returns 0 and *state, or -1 with *why. Something in the way, a
 * foreign route in the table or a foreign rule that leads to it, is reported in *conflict (a reason
 * for route_refuse(); "" if none).
 */
int route_look(struct route *route, const struct route_plan *plan, struct route_state *state,
	       char conflict[160], struct failure *why);

/* Add what is not there; *added tells what this call added. 0, or -1 with *why (and *added
 * right). */
int route_add(struct route *route, const struct route_plan *plan, const struct route_state *there,
	      struct route_state *added, struct failure *why);

/* Remove what *which says of ours; what is gone already is success. */
int route_remove(struct route *route, const struct route_plan *plan,
		 const struct route_state *which, struct failure *why);

/* The lowest table above `from` that holds no route and that no rule leads to (0: none found). */
uint32_t route_free_table(struct route *route, uint32_t from);

/* A rule or a route with our tag, whatever else became of it. */
struct route_tagged {
	bool is_rule;
	bool plain;		  /* nothing but what route_add() gives one */
	struct route_plan plan;	  /* of a route: family and table alone */
	struct nlmsghdr *message; /* as the kernel dumped it */
};
struct route_tags {
	struct route_tagged *at;
	size_t count;
};

/* All of both families. 0, or -1 with *why; the caller frees *tags in any case. */
int route_tags_read(struct route *route, struct route_tags *tags, struct failure *why);
void route_tags_free(struct route_tags *tags);

/*
 * Remove it; what is gone already is success. The kernel removes the first rule that has all that
 * the request says (fib_nl_delrule()), and does not look at `not`: where two differ in what one of
 * them lacks, the other may go. Put it back as it was. 0, or -1 with *why.
 */
int route_tags_remove(struct route *route, const struct route_tagged *tagged, struct failure *why);
int route_tags_restore(struct route *route, const struct route_tagged *tagged, struct failure *why);

/* Any rule that sends packets to a table, whoever made it. */
struct route_rule {
	uint32_t pref, table;
	struct mark mark; /* mask 0: whatever the mark */
	uint8_t protocol; /* ROUTE_PROTOCOL: one of ours */
	bool narrow;	  /* it has conditions besides the mark */
	bool inverted;	  /* `not` */
	bool by_source;	  /* `from` */
	bool refuses;	  /* it leads to no table: blackhole, unreachable, prohibit */
};
typedef int route_rule_visitor(const struct route_rule *rule, void *context);

/* Called for each such rule of the family, in their order. A return other than 0 ends it and is
 * returned; -1 with *why on failure. */
int route_each_rule(struct route *route, sa_family_t family, route_rule_visitor *visit,
		    void *context, struct failure *why);

/*
 * Append this host's own addresses, as its table `local` has them: also whole prefixes that it
 * answers for. Returns 0, or -1 with *why.
 */
int route_own_addresses(struct route *route, struct cidr_list *list, struct failure *why);

/* Can IPv6 (or IPv4) be routed to lo here: is the family there and not disabled on lo? */
bool route_family_usable(sa_family_t family);

/* A packet as the routing decision sees it. */
struct route_question {
	struct endpoint source, destination; /* source may be unset; ports 0: unknown */
	uint32_t mark;
	uint32_t iif;	  /* interface index it came in by; 0: it is ours */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, 0 */
};

struct route_answer {
	int type; /* RTN_LOCAL, RTN_UNICAST, ... */
	uint32_t table;
	uint32_t oif;		 /* interface index */
	struct endpoint gateway; /* may be unset */
};

/*
 * The kernel's decision for that packet (RTM_GETROUTE; runs the source checks that a real packet
 * meets: EINVAL and EXDEV are rp_filter's and the martian checks', ENETUNREACH no route). Returns
 * 0, or -1 with *why.
 */
int route_ask(struct route *route, const struct route_question *question,
	      struct route_answer *answer, struct failure *why);

#endif
