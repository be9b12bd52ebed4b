/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * route - policy routing that sends marked packets to this host, and the kernel's decision for any
 * packet.
 *
 * An instance needs, per family, one rule (`fwmark MARK lookup TABLE`, before main) and one route
 * (`local default dev lo` in TABLE). If servers on this host are to answer clients' addresses, it
 * also needs the rule `from 127.0.0.0/8 iif lo lookup TABLE` (IPv6: `from ::1`). All carry our
 * routing protocol tag (ROUTE_PROTOCOL), which identifies them later. Rules and routes of others
 * are never changed.
 */
#ifndef TPROXY_NET_ROUTE_H
#define TPROXY_NET_ROUTE_H

#include "base/endpoint.h"
#include "base/quantity.h"
#include "base/report.h"
#include "net/route_entry.h"
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* The routing protocol tag of every rule and route that we add. */
#define ROUTE_PROTOCOL 116

/* A channel to the network namespace in which it was opened. */
struct route;
struct route *route_open(struct failure *why);
void route_close(struct route *route);

/* Which of them exist and are ours. */
struct route_state {
	bool rule, route;
	bool answers; /* the rule for packets from loopback addresses */
};

/*
 * Look for our rule and our route. Returns 0 and *state, or -1 with *why. A foreign route in the
 * table, or a foreign rule that leads to it, is reported in *conflict (a reason for route_refuse();
 * "" if none).
 */
int route_look(struct route *route, const struct route_plan *plan, struct route_state *state,
	       char conflict[160], struct failure *why);

/* Add what is missing; *added tells what this call added. 0, or -1 with *why (*added is valid then
 * too). */
int route_add(struct route *route, const struct route_plan *plan, const struct route_state *there,
	      struct route_state *added, struct failure *why);

/* Remove those of ours that *which names; it is no error if they are gone already. */
int route_remove(struct route *route, const struct route_plan *plan,
		 const struct route_state *which, struct failure *why);

/* The lowest table above `from` that has no route and that no rule leads to (0: none found). */
uint32_t route_free_table(struct route *route, uint32_t from);

/* Does that table deliver all packets of the family to this host, as our own does? False, too, if
 * it cannot be read. */
bool route_table_is_local(struct route *route, sa_family_t family, uint32_t table);

/* A rule or a route with our tag, whatever was done to it since. */
struct route_tagged {
	bool is_rule;
	bool plain;		  /* only what route_add() gives it */
	struct route_plan plan;	  /* of a route: only family and table */
	struct nlmsghdr *message; /* as the kernel dumped it */
};
struct route_tags {
	struct route_tagged *at;
	size_t count;
};

/* Read all of both families. 0, or -1 with *why; the caller frees *tags in any case. */
int route_tags_read(struct route *route, struct route_tags *tags, struct failure *why);
void route_tags_free(struct route_tags *tags);

/*
 * Remove it; it is no error if it is gone already. The kernel removes the first rule that has
 * everything in the request (fib_nl_delrule()), and ignores `not`: of two rules that differ only in
 * something that one of them lacks, it may remove the other one. route_tags_restore() puts it back
 * unchanged. 0, or -1 with *why.
 */
int route_tags_remove(struct route *route, const struct route_tagged *tagged, struct failure *why);
int route_tags_restore(struct route *route, const struct route_tagged *tagged, struct failure *why);

/* Any rule that sends packets to a table, whoever made it. */
struct route_rule {
	uint32_t pref, table;
	struct mark mark; /* mask 0: any mark */
	uint8_t protocol; /* ROUTE_PROTOCOL: one of ours */
	bool narrow;	  /* it has conditions besides the mark */
	bool inverted;	  /* `not` */
	struct route_selector selector;
	bool refuses; /* it leads to no table: blackhole, unreachable, prohibit */
};
typedef int route_rule_visitor(const struct route_rule *rule, void *context);

/* Called for each such rule of the family, in order. A non-zero return ends the visit and is
 * returned; -1 with *why on failure. */
int route_each_rule(struct route *route, sa_family_t family, route_rule_visitor *visit,
		    void *context, struct failure *why);

/* Has the table a route of type blackhole, unreachable or prohibit? */
bool route_table_refuses(struct route *route, sa_family_t family, uint32_t table);

/*
 * Append this host's own addresses from table `local`, including whole prefixes that it answers
 * for. Returns 0, or -1 with *why.
 */
int route_own_addresses(struct route *route, struct cidr_list *list, struct failure *why);

/* Can IPv6 (or IPv4) be routed to lo here: does the family exist and is it not disabled on lo? */
bool route_family_usable(sa_family_t family);

/* A packet as the routing decision sees it. */
struct route_question {
	struct endpoint source, destination; /* source may be unset; ports 0: unknown */
	uint32_t mark;
	uint32_t iif;	  /* index of its input interface; 0: sent by us */
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP, 0 */
	bool spoofed;	  /* sent by us, and the source is not this host's */
	bool has_uid;	  /* sent by us: by a process of that user; else by ours */
	uint32_t uid;
};

struct route_answer {
	int type; /* RTN_LOCAL, RTN_UNICAST, ... */
	uint32_t table;
	uint32_t oif;		 /* interface index */
	struct endpoint gateway; /* may be unset */
};

/*
 * The kernel's decision for that packet (RTM_GETROUTE). It runs the source checks that a real
 * packet meets: EINVAL and EXDEV come from rp_filter and the martian checks, ENETUNREACH means no
 * route. Returns 0, or -1 with *why.
 *
 * IPv4 does not answer for a source that is not this host's (ip_route_output_key_hash_rcu()), so
 * rules by such a source are asked for as if the packet came in on lo, which the kernel takes for
 * what this host sends, too; that needs forwarding, and no rp_filter. Without these, such rules are
 * not seen.
 */
int route_ask(struct route *route, const struct route_question *question,
	      struct route_answer *answer, struct failure *why);

/* The source address that this host uses towards that one; false if there is no route. */
bool route_source(const struct endpoint *destination, struct endpoint *out);

/* The number of next hops of the route that such a packet takes (RTM_F_FIB_MATCH, Linux 4.13);
 * ROUTE_HOPS_MANY: more than fit in the kernel's answer; 0: there is none, or the kernel does not
 * say. */
#define ROUTE_HOPS_MANY UINT_MAX
unsigned route_hops(struct route *route, const struct route_question *question);

#endif
