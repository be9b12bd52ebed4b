/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * route_verdict - where the kernel routes a packet, and which routing rule decided it.
 *
 * RTM_GETROUTE reports the table, not the rule. The rule is the first one that leads to that table
 * (or that refuses, or leads to a table where a route does, if the answer is a refusal) and that the
 * packet matches, as far as its conditions are known here (see route_selector).
 */
#ifndef TPROXY_NET_ROUTE_VERDICT_H
#define TPROXY_NET_ROUTE_VERDICT_H

#include "base/report.h"
#include "net/route.h"
#include <stdbool.h>

struct route_verdict {
	bool refused; /* by a rule, a route that leads nowhere, or source validation: failure.err */
	struct failure failure;
	struct route_answer answer; /* else */
	bool has_rule;		    /* the rule is known */
	struct route_rule rule;
};

/* Ask the kernel. Never fails: a refusal is an answer. */
void route_verdict_ask(struct route *route, const struct route_question *question,
		       struct route_verdict *verdict);

/* Is it delivered to this host, though not addressed to it? (Ours need not be the table that does
 * that: what other rules for tproxy have left behind does, too.) */
bool route_verdict_delivers(const struct route_verdict *verdict);

/* Did somebody else's rule decide, one that comes no later than the given preference? */
bool route_verdict_is_foreign(const struct route_verdict *verdict, uint32_t pref);

/* `main`, `local`, `default`, or its number. Returns buf. */
#define ROUTE_VERDICT_TABLE_MAX 12
const char *route_verdict_table_name(uint32_t table, char buf[ROUTE_VERDICT_TABLE_MAX]);

/* `ip rule 100: fwmark 0x1/0xff lookup 100`. Returns buf. */
#define ROUTE_VERDICT_RULE_MAX 160
const char *route_verdict_describe_rule(const struct route_rule *rule, sa_family_t family,
					char buf[ROUTE_VERDICT_RULE_MAX]);

#endif
